#!/usr/bin/env bash
# bench/smoke.sh: about a minute, for CI. Does every mode of the load generator work, and is what it says of the delivery right? A few viewers
# on the debug build; figures mean nothing. Called by bench.sh --smoke.
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/lib.sh
. scripts/bench/servers.sh

need_build_tools
apt_need python3 util-linux
cargo build --workspace --bins --locked
out=target/bench-smoke programs=target/debug start_with=() cores=0-$(($(nproc) - 1))
rm -rf "$out" && mkdir -p "$out"
trap stop_server EXIT

# load NAME OPTIONS…
load() {
    "$programs/shardcast-loadtest" "${@:2}" "${where[@]}" --server-pid "$server_pid" --rate 500k --gop-ms 500 --name "$1" \
        --json "$out/$1.json" --html "$out/$1.html" >"$out/$1.txt" 2>&1 || { cat "$out/$1.txt" >&2; return 1; }
}

# judge NAME CONDITION: Python, where `f` has the figures and `r` the report.
judge() {
    python3 - "$out/$1.json" "$2" <<'PYTHON'
import json, sys
r = json.load(open(sys.argv[1]))
f = r["figures"]
if not eval(sys.argv[2]):
    sys.exit("{}: not so: {}\n{}".format(sys.argv[1], sys.argv[2], json.dumps(f, indent=1)))
print("{}: {}".format(sys.argv[1], sys.argv[2]))
PYTHON
}

complete='f["delivered"] == f["expected"] > 0 and f["lost"] == f["out_of_order"] == f["duplicated"] == f["closed"] == 0'
few=(--viewers 8 --publishers 2 --seconds 2)

if need_nginx; then
    start_nginx "$cores"
    load nginx-rtmp --viewers 8 --seconds 2 --play rtmp
    judge nginx-rtmp "$complete"
    stop_server
else
    say "nginx-rtmp cannot be installed here and is left out"
fi

for runtime in io_uring epoll; do
    start_shardcast "$cores" "$runtime" 2 gb28181.enabled=true 'gb28181.listen=[127.0.0.1:0]' gb28181.password=secret
    load "$runtime-steady" "${few[@]}" --play rtmp --syscalls
    judge "$runtime-steady" "$complete"
    judge "$runtime-steady" 'len(r["curves"]["last_byte"]) > 20 and r["curves"]["timeline"] and r["curves"]["samples"]'
    load "$runtime-churn" "${few[@]}" --play http-flv --churn 8 --stay 1
    judge "$runtime-churn" "$complete and f['visits'] > 8 and f['visits_in_vain'] == f['visits_lost'] == f['visits_closed'] == 0"
    load "$runtime-slow" "${few[@]}" --play http-flv --stalled 2 --slow 2 --slow-rate 100k
    judge "$runtime-slow" "$complete and f['slow_rate'] < 0.3"
    for play in rtmp rtsp-udp; do
        load "$runtime-link-$play" "${few[@]}" --play "$play" --link
        judge "$runtime-link-$play" "$complete and f['last_byte_p50'] >= 5"
    done
    load "$runtime-loss" "${few[@]}" --play rtsp-udp --link rate=100M,ping=2ms,loss=5%,seed=2
    judge "$runtime-loss" 'f["packets_lost"] > 0 and 0 < f["lost"] < f["expected"]'
    # Nothing is asked of the time here, only that the search finds what it was allowed to.
    load "$runtime-density" density --play http-flv --from 4 --most 8 --probe-seconds 1 --seconds 2 --share 0
    judge "$runtime-density" 'f["density"] == 8 and len(r["probes"]) == 3'
    load "$runtime-publish" --viewers 0 --publishers 4 --seconds 1 --publish rtsp-udp
    judge "$runtime-publish" 'f["published"] > 0 and f["published_lost"] == 0'
    stop_server
done

"$programs/shardcast-loadtest" page --out "$out/index.html" "$out"/*.json
grep -q '<svg' "$out/index.html"
mkdir -p "$out/round-1" && cp "$out"/*.json "$out/round-1"
"$programs/shardcast-loadtest" ratios "$out" --row 'frames|delivered|epoll-steady|io_uring-steady|>=0.5'
say "the bench tools work"
