#!/usr/bin/env bash
# fuzz.sh [SECONDS]: runs every fuzz target for a short time, from the seeds in tests/corpus.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
seconds=${1:-15}

need_build_tools
command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz --version 0.13.2
# The sanitizers are switched on by unstable flags, which a stable compiler takes when told so.
export RUSTC_BOOTSTRAP=1
cargo fuzz build
# seeds TARGET: the folder under tests/corpus that a target starts from.
seeds() {
    case "$1" in
        rtmp_session) echo rtmp ;;
        http_session) echo http/session ;;
        websocket) echo http/websocket ;;
        *) echo "$1" ;;
    esac
}

for target in $(cargo fuzz list); do
    corpus="fuzz/corpus/$target"
    mkdir -p "$corpus"
    if [ -d "tests/corpus/$(seeds "$target")" ]; then cp "tests/corpus/$(seeds "$target")"/* "$corpus"/; fi
    echo "-- $target"
    cargo fuzz run "$target" "$corpus" -- -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=0 \
        >"fuzz/$target.log" 2>&1 || { tail -40 "fuzz/$target.log"; exit 1; }
    grep -E 'DONE|Done' "fuzz/$target.log" | tail -1
done
