#!/usr/bin/env bash
# bench.sh [--smoke | --full]: how the server does against others that a user can install, on this machine, in alternating runs.
#
# Without an option: under half an hour from a clean clone, build included. --full: five rounds, longer runs, and a minute of proof for each
# density. --smoke: about a minute, for CI: are the tool and the delivery right? Figures mean nothing then.
#
# The server has one core (SERVER_CORE, 0), the load generator another (LOAD_CORE, 1). Tables go into docs/PERFORMANCE.md between its
# markers, the page with plots to target/bench/index.html, all reports to target/bench. START_WITH goes before all programs: `chrt -f 5` keeps
# other work on the machine out of the figures; not where a core is used in full (density), for there the kernel would hold such a program
# for 50 ms of each second. ROUNDS, RUN_SECONDS, ONLY (a pattern of the names of runs) change what is done.
# Another server: OTHER_URL=rtmp://HOST:PORT/APP/NAME OTHER_PID=PID.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
. scripts/bench/servers.sh

form=${1:-default}
case $form in
default) rounds=3 seconds=6 density=(--probe-seconds 4 --seconds 20 --resolution 8) ;;
--full) rounds=5 seconds=10 density=(--probe-seconds 10 --seconds 60 --resolution 4) ;;
--smoke) exec bash scripts/bench/smoke.sh ;;
*) sed -n '2,12s/^# \{0,1\}//p' "$0" >&2 && exit 2 ;;
esac
rounds=${ROUNDS:-$rounds} seconds=${RUN_SECONDS:-$seconds}
core=${SERVER_CORE:-0} load_core=${LOAD_CORE:-1} cores=0-$(($(nproc) - 1))
out=target/bench programs=target/release
trap stop_server EXIT
began=$SECONDS

need_build_tools
apt_need util-linux
say "building"
cargo build --release --locked --workspace --bins
rm -rf "$out"/round-* "$out"/index.html
mkdir -p "$out"
peers=()
for peer in nginx nms gst; do
    if "need_$peer"; then peers+=("$peer"); else say "$peer cannot be installed here and is left out"; fi
done
has() { [[ " ${peers[*]-} " = *" $1 "* ]]; }

# load NAME OPTIONS…: one run against the server that was started, whose report is NAME.json in this round's folder.
load() {
    local report="$folder/$1" pid=${server_pid:-${OTHER_PID:-}}
    (pinned "$load_core" "$programs/shardcast-loadtest" "${@:2}" "${where[@]}" ${pid:+--server-pid "$pid"} --name "$1" \
        --json "$report.json" >"$report.txt" 2>&1) || { echo "$1 failed:" >&2; tail -n 3 "$report.txt" >&2; }
    stop_server
    echo "  $1: $(sed -n 's/^\(server_cpu_per_gbit\|server_cpu_per_publisher\|density\|last_byte_p99_99\|lost\)  *\([0-9.-]*\).*/\1 \2/p' "$report.txt" | paste -sd' ')"
}

# What runs do, by their names: SERVER-WHAT-PROTOCOL, where WHAT is mergeMS, joined, publish, density, stalled or link. Each has a
# server of its own. joined is merge0 with viewers that take trains of datagrams whole (UDP_GRO), as a network card would of the server:
# else loopback cuts them, and hands them over one by one, on the server's core.
viewers=(--viewers 300 --rate 2M --seconds "$seconds")
publishers=(--viewers 0 --publishers 200 --rate 2M --seconds "$seconds")
dense=(density --rate 600k "${density[@]}" --join-rate 1000)
platform=(gb28181.enabled=true 'gb28181.listen=[127.0.0.1:0]' gb28181.password=secret gb28181.idle_ms=3600000
    gb28181.transport=udp)

# run NAME: starts what the name says, and loads it.
run() {
    if [ -n "${ONLY:-}" ] && [[ ! $1 =~ $ONLY ]]; then return 0; fi
    local server what play settings=() extra=() start from=6000
    read -ra start_with <<<"${START_WITH:-}"
    IFS=- read -r server what play <<<"$1"
    play=${play//_/-}
    case $what in
    merge*) settings=("viewer.merge_ms=${what#merge}") ;;
    joined) settings=(viewer.merge_ms=0) ;;
    density) start_with=() ;;
    esac
    case $server in
    uring) start=(start_shardcast "$core" io_uring 1) ;;
    epoll) start=(start_shardcast "$core" epoll 1) ;;
    shards*) start=(start_shardcast "$cores" auto "${server#shards}") ;;
    other) where=(--url "$OTHER_URL") ;;
    *) has "$server" || return 0; start=("start_$server" "$core") ;;
    esac
    # The generator opens a descriptor per viewer; over UDP five, and the server's default has ports for 2500.
    if [ "$what" = density ]; then extra=(--most $(($(ulimit -Hn) - 500))); fi
    if [ "$what-$play" = density-rtsp-udp ]; then
        settings+=('rtsp.udp_ports=10000-31999')
        extra=(--most $(($(ulimit -Hn) / 5 - 100))) from=2000
    fi
    if [ "$server" = nginx ]; then from=800; fi
    if [ "$play" = gb28181 ]; then settings+=("${platform[@]}"); fi
    if [ "$server" != other ] && ! "${start[@]}" ${settings[@]+"${settings[@]}"}; then
        echo "  $1: the server did not start" >&2
        stop_server
        return 0
    fi
    case $what in
    publish) load "$1" "${publishers[@]}" --publish "$play" ;;
    density) load "$1" "${dense[@]}" --play "$play" --from "$from" ${extra[@]+"${extra[@]}"} ;;
    stalled) load "$1" "${viewers[@]}" --play "$play" --stalled 30 ;;
    joined) load "$1" "${viewers[@]}" --play "$play" --gro ;;
    link) load "$1" --viewers 10 --rate 2M --seconds "$seconds" --play "$play" --link ;;
    *) load "$1" "${viewers[@]}" --play "$play" ;;
    esac
}

say "measuring; load average $(cut -d' ' -f1-3 /proc/loadavg)"
for round in $(seq "$rounds"); do
    folder="$out/round-$round" && mkdir -p "$folder"
    echo "round $round of $rounds"
    all=(nginx-merge0-rtmp ${OTHER_URL:+other-merge0-rtmp})
    for play in rtmp http_flv rtsp_tcp rtsp_udp; do all+=("uring-merge0-$play" "epoll-merge0-$play"); done
    all+=(uring-joined-rtsp_udp epoll-joined-rtsp_udp)
    # What changes little from round to round is measured in the first rounds only, unless there is time.
    if [ "$round" -le 2 ] || [ "$form" = --full ]; then
        for play in rtmp http_flv rtsp_tcp; do all+=("uring-merge10-$play" "uring-merge40-$play"); done
        all+=(nginx-publish-rtmp)
        for publish in rtmp rtsp_tcp gb28181; do all+=("uring-publish-$publish" "epoll-publish-$publish"); done
    fi
    if [ "$round" = 1 ] || [ "$form" = --full ]; then
        all+=(nms-merge0-http_flv gst-merge0-rtsp_tcp gst-merge0-rtsp_udp)
        all+=(uring-stalled-rtmp uring-link-rtmp uring-link-rtsp_udp)
        all+=(shards1-merge0-rtmp shards2-merge0-rtmp shards4-merge0-rtmp shards8-merge0-rtmp)
        all+=(nginx-density-rtmp uring-density-rtmp uring-density-http_flv uring-density-rtsp_udp)
    fi
    for name in "${all[@]}"; do run "$name"; done
done

say "writing the report"
shopt -s nullglob
plotted=("$out"/round-1/*-{merge0,density}-*.json)
if [ ${#plotted[@]} -gt 0 ]; then "$programs/shardcast-loadtest" page --out "$out/index.html" "${plotted[@]}"; fi
bash scripts/bench/report.sh "$out" "$form" $((SECONDS - began)) "$seconds"
echo "docs/PERFORMANCE.md and $out/index.html, after $(((SECONDS - began) / 60)) minutes"
