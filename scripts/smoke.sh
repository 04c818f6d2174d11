#!/usr/bin/env bash
# smoke.sh: does the load generator still work, and does the server lose nothing? A few seconds with a few viewers over HTTP-FLV and over
# RTMP, on the runtime that the server chooses and on epoll. The reports stay in target/smoke; figures are the business of load.sh.
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

# check REPORT: fails unless frames were delivered, none was lost, and every viewer stayed.
check() {
    python3 - "$1" <<'PYTHON'
import json, sys
report = json.load(open(sys.argv[1]))
delivered, lost, closed = (int(report["figures"][key]) for key in ("delivered", "lost", "closed"))
print(f"{sys.argv[1]}: {delivered} frames delivered, {lost} lost, {closed} viewers closed")
sys.exit(0 if delivered > 0 and lost == 0 and closed == 0 else 1)
PYTHON
}

for runtime in auto epoll; do
    log="$reports/server-$runtime.log"
    target/debug/shardcast --set "server.runtime=$runtime" --set server.shards=2 --set 'rtmp.listen=[127.0.0.1:0]' \
        --set 'http.listen=[127.0.0.1:0]' --set 'rtsp.listen=[127.0.0.1:0]' --set 'control.listen=[127.0.0.1:0]' 2>"$log" &
    server_pid=$!
    wait_ready "$log"
    for protocol in http-flv rtmp; do
        report="$reports/$runtime-$protocol"
        target/debug/shardcast-loadtest --play "$protocol" --viewers 8 --publishers 2 --rate 500k --seconds 2 \
            --url "rtmp://$(address_of rtmp "$log")/live/smoke-$protocol" --http "http://$(address_of http "$log")" \
            --json "$report.json" >"$report.txt"
        check "$report.json"
    done
    kill "$server_pid"
    # The server ends in order, or this fails.
    wait "$server_pid"
    server_pid=
done
