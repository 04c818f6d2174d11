#!/usr/bin/env bash
# load.sh [PROTOCOL…]: how the server does under load, io_uring against epoll, in alternating runs. PROTOCOL: http-flv, rtmp, ws-flv;
# without any: http-flv and rtmp. One shard on one core, the load generator on another; prints one table with ratios per protocol.
#
# Environment: VIEWERS (300), RATE (2M), RUN_SECONDS per run (10), ROUNDS (3), STALLED viewers that never read (0), PUBLISHERS (1),
# SERVER_CORE (0), LOAD_CORE (1). START_WITH goes before both programs: `chrt -f 5` keeps other work on the machine out of the figures.
# OTHER=PROGRAM compares that build of shardcast, on io_uring, with this one instead. The runs' reports stay in target/load.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

need_build_tools
apt_need util-linux
say "building"
cargo build --release --locked --workspace --bins
[ $# -gt 0 ] || set -- http-flv rtmp
reports=target/load
read -ra start_with <<<"${START_WITH:-}"
mkdir -p "$reports"
server_pid=
trap 'if [ -n "$server_pid" ]; then kill "$server_pid" 2>/dev/null || true; fi' EXIT

# start_server RUNTIME PROGRAM: on free ports; sets server_pid, rtmp and http.
start_server() {
    local log="$reports/server.log"
    ${start_with[@]+"${start_with[@]}"} taskset -c "${SERVER_CORE:-0}" "$2" --set "server.runtime=$1" --set server.shards=1 \
        --set 'rtmp.listen=[127.0.0.1:0]' --set 'http.listen=[127.0.0.1:0]' --set 'control.listen=[127.0.0.1:0]' 2>"$log" &
    server_pid=$!
    for _ in $(seq 100); do
        if grep -q 'ready$' "$log"; then
            rtmp=$(awk '/listening rtmp/ { print $NF }' "$log")
            http=$(awk '/listening http/ { print $NF }' "$log")
            return 0
        fi
        sleep 0.1
    done
    echo "the server did not start:" >&2
    cat "$log" >&2
    return 1
}

stop_server() {
    kill "$server_pid"
    wait "$server_pid" || true
    server_pid=
}

# run PROTOCOL NAME ROUND RUNTIME PROGRAM
run() {
    start_server "$4" "$5"
    ${start_with[@]+"${start_with[@]}"} taskset -c "${LOAD_CORE:-1}" target/release/shardcast-loadtest --play "$1" \
        --viewers "${VIEWERS:-300}" --rate "${RATE:-2M}" --publishers "${PUBLISHERS:-1}" --seconds "${RUN_SECONDS:-10}" \
        --stalled "${STALLED:-0}" --url "rtmp://$rtmp/live/load" --http "http://$http" --server-pid "$server_pid" \
        --json "$reports/$1-$2-$3.json" >"$reports/$1-$2-$3.txt"
    stop_server
}

this=target/release/shardcast
rounds=$(seq "${ROUNDS:-3}")
say "measuring; load average $(cut -d' ' -f1-3 /proc/loadavg)"
for protocol in "$@"; do
    left=() right=()
    for round in $rounds; do
        if [ -n "${OTHER:-}" ]; then
            run "$protocol" other "$round" io_uring "$OTHER"
            run "$protocol" this "$round" io_uring "$this"
            names=(this other)
        else
            run "$protocol" epoll "$round" epoll "$this"
            run "$protocol" io_uring "$round" io_uring "$this"
            names=(io_uring epoll)
        fi
        left+=("$reports/$protocol-${names[0]}-$round.json")
        right+=("$reports/$protocol-${names[1]}-$round.json")
    done
    target/release/shardcast-loadtest compare --names "${names[@]}" --left "${left[@]}" --right "${right[@]}"
    echo
done
