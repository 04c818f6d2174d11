#!/usr/bin/env bash
# From a fresh clone to a running server: installs what is needed, builds, starts the demo. Further arguments go to shardcast.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

need_build_tools
say "building (the first time takes a few minutes)"
cargo build --release --locked --bin shardcast
if [ $# = 0 ]; then set -- demo; fi
say "starting shardcast $*"
exec target/release/shardcast "$@"
