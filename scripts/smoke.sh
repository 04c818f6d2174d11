#!/usr/bin/env bash
# smoke.sh: does the load generator still work, and does the server lose nothing? Two seconds with a few viewers for each way to publish
# and to play, on the runtime that the server chooses and on epoll. The reports stay in target/smoke; figures are the business of load.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

need_build_tools
apt_need python3
cargo build --workspace --bins --locked
reports=target/smoke
mkdir -p "$reports"
server_pid=
trap 'if [ -n "$server_pid" ]; then kill "$server_pid" 2>/dev/null || true; fi' EXIT

# check REPORT: fails unless frames were delivered, none was lost, late or doubled, and every viewer stayed.
check() {
    python3 - "$1" <<'PYTHON'
import json, sys
report = json.load(open(sys.argv[1]))
delivered, *faults = (int(report["figures"][key]) for key in ("delivered", "lost", "out_of_order", "duplicated", "closed"))
print("{}: {} frames delivered, {} lost, {} out of order, {} doubled, {} viewers closed".format(sys.argv[1], delivered, *faults))
sys.exit(0 if delivered > 0 and not any(faults) else 1)
PYTHON
}

for runtime in auto epoll; do
    log="$reports/server-$runtime.log"
    target/debug/shardcast --set "server.runtime=$runtime" --set server.shards=2 --set 'rtmp.listen=[127.0.0.1:0]' \
        --set 'http.listen=[127.0.0.1:0]' --set 'rtsp.listen=[127.0.0.1:0]' --set 'control.listen=[127.0.0.1:0]' \
        --set gb28181.enabled=true --set 'gb28181.listen=[127.0.0.1:0]' --set gb28181.password=secret \
        --set "server.data=$reports/data-$runtime" 2>"$log" &
    server_pid=$!
    wait_ready "$log"
    for ways in rtmp:http-flv rtmp:ws-flv rtmp:http-fmp4 rtmp:http-ts rtmp:hls rtmp:hls-ts rtmp:ll-hls rtmp:rtmp rtsp-tcp:rtsp-udp rtsp-udp:rtsp-tcp gb28181:rtsp-tcp; do
        publish=${ways%:*} play=${ways#*:}
        report="$reports/$runtime-$publish-$play"
        target/debug/shardcast-loadtest --publish "$publish" --play "$play" --viewers 8 --publishers 2 --rate 500k --seconds 2 \
            --url "rtmp://$(address_of rtmp "$log")/live/$publish-$play" --http "http://$(address_of http "$log")" \
            --rtsp "rtsp://$(address_of rtsp "$log")" --sip "$(address_of 'gb28181 udp' "$log")" --sip-password secret \
            --control "$(address_of control "$log")" --json "$report.json" >"$report.txt"
        check "$report.json"
    done
    kill "$server_pid"
    # The server ends in order, or this fails.
    wait "$server_pid"
    server_pid=
done
