#!/usr/bin/env bash
# load.sh [PROTOCOL…]: how the server does under load, io_uring against epoll, in alternating runs. PROTOCOL is what viewers use:
# http-flv, http-fmp4, http-ts, hls, hls-ts, ll-hls, rtmp, rtsp-tcp, rtsp-udp, ws-flv; or publish-rtmp, publish-rtsp-tcp, publish-rtsp-udp, publish-gb28181: publishers only.
# Without any: http-flv and rtmp. One shard on one core, the load generator on another; prints one table with ratios per protocol.
#
# Environment: VIEWERS (300), RATE (2M), RUN_SECONDS per run (10), ROUNDS (3), STALLED viewers that never read (0), PUBLISHERS (1, or 200
# where there are no viewers), PUBLISH what publishers use where there are viewers (rtmp, rtsp-tcp, rtsp-udp, gb28181), SERVER_CORE (0),
# LOAD_CORE (1). GB28181 is how devices send: udp, tcp_passive, tcp_active (udp). SET=KEY=VALUE: a setting of all servers. LOAD_OPTIONS:
# more options of shardcast-loadtest, such as --gro.
# START_WITH goes before both programs: `chrt -f 5` keeps other work on the machine out of the figures.
#
# COMPARE=segmentation compares datagrams with UDP_SEGMENT with those by sendmmsg, on RUNTIME (io_uring), instead of the runtimes.
# COMPARE=recording compares streams that are not recorded with those that are, and with those whose disk stands still (the thread that
# writes is held, its queue is full after a second or two): p99.99 of each run and the medians, on both runtimes or on RUNTIME.
# OTHER=PROGRAM compares that build of shardcast with this one, on RUNTIME. The runs' reports stay in target/load.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

case ${COMPARE:-runtimes} in
runtimes | segmentation | recording) ;;
*) echo "COMPARE is runtimes, segmentation or recording" >&2 && exit 2 ;;
esac
need_build_tools
apt_need util-linux
say "building"
cargo build --release --locked --workspace --bins
[ $# -gt 0 ] || set -- http-flv rtmp
reports=target/load
read -ra start_with <<<"${START_WITH:-}"
read -ra load_options <<<"${LOAD_OPTIONS:-}"
mkdir -p "$reports"
server_pid=
trap 'if [ -n "$server_pid" ]; then kill "$server_pid" 2>/dev/null || true; fi' EXIT

# The platform that devices register with, and a call goes on though nobody watches.
platform=(gb28181.enabled=true 'gb28181.listen=[127.0.0.1:0]' gb28181.password=secret "gb28181.transport=${GB28181:-udp}"
    gb28181.idle_ms=3600000 gb28181.receiver_reports=true server.data=target/load/data)

# start_server RUNTIME PROGRAM [KEY=VALUE…]: on free ports; sets server_pid and the addresses of what it listens to.
start_server() {
    local log="$reports/server.log" runtime=$1 program=$2 options=() setting
    for setting in "${@:3}" ${SET:+"$SET"}; do options+=(--set "$setting"); done
    ${start_with[@]+"${start_with[@]}"} taskset -c "${SERVER_CORE:-0}" "$program" --set "server.runtime=$runtime" \
        --set server.shards=1 --set 'rtmp.listen=[127.0.0.1:0]' --set 'http.listen=[127.0.0.1:0]' \
        --set 'rtsp.listen=[127.0.0.1:0]' --set 'control.listen=[127.0.0.1:0]' ${options[@]+"${options[@]}"} 2>"$log" &
    server_pid=$!
    wait_ready "$log"
    rtmp=$(address_of rtmp "$log") http=$(address_of http "$log") rtsp=$(address_of rtsp "$log")
    control=$(address_of control "$log") sip=$(address_of 'gb28181 udp' "$log")
}

stop_server() {
    kill "$server_pid"
    wait "$server_pid" || true
    server_pid=
}

# run PROTOCOL NAME ROUND RUNTIME PROGRAM [KEY=VALUE…]
run() {
    local what settings=("${@:6}")
    case $1:${PUBLISH:-} in publish-gb28181:* | *:gb28181) settings+=("${platform[@]}") && rm -rf target/load/data ;; esac
    case $1 in
    publish-*) what=(--publish "${1#publish-}" --viewers 0 --publishers "${PUBLISHERS:-200}") ;;
    *) what=(--publish "${PUBLISH:-rtmp}" --play "$1" --viewers "${VIEWERS:-300}" --publishers "${PUBLISHERS:-1}") ;;
    esac
    start_server "${@:4:2}" ${settings[@]+"${settings[@]}"}
    ${start_with[@]+"${start_with[@]}"} taskset -c "${LOAD_CORE:-1}" target/release/shardcast-loadtest "${what[@]}" \
        --rate "${RATE:-2M}" --seconds "${RUN_SECONDS:-10}" --stalled "${STALLED:-0}" --url "rtmp://$rtmp/live/load" \
        --http "http://$http" --rtsp "rtsp://$rtsp" --sip "${sip:-127.0.0.1:5060}" --sip-password secret \
        --control "$control" --server-pid "$server_pid" ${load_options[@]+"${load_options[@]}"} \
        --json "$reports/$1-$2-$3.json" >"$reports/$1-$2-$3.txt"
    stop_server
}

# run_recording PROTOCOL ROUND RUNTIME: the three states, one after the other.
run_recording() {
    local recorded=('record.rules=[{streams: ["*"]}]' record.folder=target/load/recordings record.free_bytes_min=0
        record.queue_bytes_max=4194304)
    run "$1" "off-$3" "$2" "$3" "$this" 'record.rules=[]'
    run "$1" "on-$3" "$2" "$3" "$this" "${recorded[@]}"
    local load_options=(${load_options[@]+"${load_options[@]}"} --hold-thread disk-writer)
    run "$1" "frozen-$3" "$2" "$3" "$this" "${recorded[@]}"
    rm -rf target/load/recordings
}

# print_recording PROTOCOL RUNTIME…
print_recording() {
    local runtime state figures
    printf '%-10s %-8s %8s  each run\n' runtime recording p99.99
    for runtime in "${@:2}"; do
        for state in off on frozen; do
            figures=$(sed -n 's/.*"last_byte_p99_99": *\([0-9][0-9.]*\).*/\1/p' $(printf "$reports/$1-$state-$runtime-%s.json " $rounds))
            printf '%-10s %-8s %8.2f  %s\n' "$runtime" "$state" \
                "$(sort -g <<<"$figures" | awk '{v[NR]=$1} END {print (v[int((NR+1)/2)] + v[int((NR+2)/2)]) / 2}')" "$(echo $figures)"
        done
    done
}

this=target/release/shardcast
runtime=${RUNTIME:-io_uring}
rounds=$(seq "${ROUNDS:-3}")
say "measuring; load average $(cut -d' ' -f1-3 /proc/loadavg)"
for protocol in "$@"; do
    if [ "${COMPARE:-runtimes}" = recording ]; then
        runtimes=(${RUNTIME:-io_uring epoll})
        for round in $rounds; do
            for runtime in "${runtimes[@]}"; do run_recording "$protocol" "$round" "$runtime"; done
        done
        print_recording "$protocol" "${runtimes[@]}"
        continue
    fi
    left=() right=()
    for round in $rounds; do
        if [ -n "${OTHER:-}" ]; then
            names=(this other)
            run "$protocol" other "$round" "$runtime" "$OTHER"
            run "$protocol" this "$round" "$runtime" "$this"
        elif [ "${COMPARE:-runtimes}" = segmentation ]; then
            names=(segment sendmmsg)
            run "$protocol" sendmmsg "$round" "$runtime" "$this" rtsp.udp_segmentation=off
            run "$protocol" segment "$round" "$runtime" "$this" rtsp.udp_segmentation=auto
        else
            names=(io_uring epoll)
            run "$protocol" epoll "$round" epoll "$this"
            run "$protocol" io_uring "$round" io_uring "$this"
        fi
        left+=("$reports/$protocol-${names[0]}-$round.json")
        right+=("$reports/$protocol-${names[1]}-$round.json")
    done
    target/release/shardcast-loadtest compare --names "${names[@]}" --left "${left[@]}" --right "${right[@]}"
    echo
done
