#!/usr/bin/env bash
# fuzz.sh [SECONDS]: runs every fuzz target for a short time, from the seeds in tests/corpus.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
seconds=${1:-6}

need_build_tools
command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz --version 0.13.2
# The sanitizers are switched on by unstable flags, which a stable compiler takes when told so.
export RUSTC_BOOTSTRAP=1
cargo fuzz build
binaries=fuzz/target/$(rustc -vV | sed -n 's/^host: //p')/release

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
    mkdir -p "$corpus" "fuzz/artifacts/$target"
    if [ -d "tests/corpus/$(seeds "$target")" ]; then cp "tests/corpus/$(seeds "$target")"/* "$corpus"/; fi
    echo "-- $target"
    # No input is a megabyte: what wants more memory than this has no limit. What was freed counts, so little of that is kept.
    ASAN_OPTIONS=quarantine_size_mb=64 \
    "$binaries/$target" "$corpus" -artifact_prefix="fuzz/artifacts/$target/" -max_total_time="$seconds" -timeout=10 \
        -rss_limit_mb=512 -malloc_limit_mb=64 >"fuzz/$target.log" 2>&1 || { tail -40 "fuzz/$target.log"; exit 1; }
    grep -E 'DONE|Done' "fuzz/$target.log" | tail -1
done
