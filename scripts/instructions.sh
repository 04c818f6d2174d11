#!/usr/bin/env bash
# instructions.sh [--accept | FILTER]: what the cases in benches/cases cost in instructions, allocations and bytes copied, against the
# baseline in benches/instructions.txt. Fails when one has grown by more than 5 %, is new, or is gone. --accept writes the baseline anew.
# FILTER: only cases whose names contain it.
#
# Instructions depend on the compiler. Where rustup is there, the version that the baseline names is used; else, with another compiler, only
# allocations are judged, and the output says so.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

need_build_tools
apt_need valgrind
wanted=$(sed -n 's/^machine rustc \([0-9.]*\),.*/\1/p' benches/instructions.txt 2>/dev/null || true)
if [ "${1:-}" != --accept ] && [ -n "$wanted" ] && [ "$(rustc --version | awk '{print $2}')" != "$wanted" ] && command -v rustup >/dev/null; then
    if rustup toolchain install "$wanted" --profile minimal --no-self-update >/dev/null 2>&1; then
        export RUSTUP_TOOLCHAIN=$wanted
    else
        echo "Rust $wanted, for which the baseline is, cannot be installed" >&2
    fi
fi
cargo bench --locked --quiet --profile instructions --bench instructions -- "$@"
