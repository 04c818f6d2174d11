#!/usr/bin/env bash
# Everything that must hold: format, lints, unit and property tests, house rules, real clients on both runtimes, the load
# generator, fuzzing, docs. Installs the clients that it needs. SHARDCAST_FUZZ_SECONDS: time per fuzz target (default 6).
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

need_build_tools
apt_need ffmpeg rtmpdump curl openssl strace python3 python3-pip clang g++ \
    gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad \
    gstreamer1.0-plugins-ugly gstreamer1.0-libav gstreamer1.0-rtsp mpv vlc-bin vlc-plugin-base iproute2 nodejs \
    obs-studio xvfb libgl1-mesa-dri sip-tester mediainfo
# Ubuntu has Chromium as a snap only: there the browser's tests are left out.
if apt-cache show chromium >/dev/null 2>&1; then
    apt_need chromium
else
    say "no chromium among this system's packages: the browser's tests are left out"
    export SHARDCAST_E2E_WITHOUT=chromium
fi

# A newer ffmpeg for Enhanced RTMP, and the browser's players, each from its registry, into target/clients.
clients=target/clients
mkdir -p "$clients"
if [ ! -e "$clients/python/imageio_ffmpeg" ]; then
    say "installing a newer ffmpeg"
    python3 -m pip install -q --no-deps --target "$clients/python" imageio-ffmpeg==0.8.1
fi
SHARDCAST_FFMPEG_NEW=$(PYTHONPATH="$clients/python" python3 -c 'import imageio_ffmpeg as i; print(i.get_ffmpeg_exe())')
export SHARDCAST_FFMPEG_NEW
if [ ! -e "$clients/node_modules/mpegts.js" ] || [ ! -e "$clients/node_modules/hls.js" ] || [ ! -e "$clients/node_modules/playwright-core" ]; then
    command -v npm >/dev/null || apt_need npm
    say "installing mpegts.js, hls.js and playwright-core"
    npm install --silent --no-audit --no-fund --prefix "$clients" mpegts.js@1.8.2 hls.js@1.7.4 playwright-core@1.64.1
fi

# A player made of live555, VLC's RTSP, which the distribution's VLC is built without. The sources are in a Python package.
if [ ! -e "$clients/live555/client" ]; then
    say "building the live555 client"
    rm -rf "$clients/live555" && mkdir -p "$clients/live555/objects"
    python3 -m pip download -q --no-deps --no-binary liblivemedia --dest "$clients/live555" liblivemedia==1.0.5
    tar -xzf "$clients"/live555/liblivemedia-*.tar.gz -C "$clients/live555" --strip-components 1
    (
        cd "$clients/live555"
        flags="-w -DSOCKLEN_T=socklen_t -DBSD=1 -DNO_OPENSSL=1"
        for part in UsageEnvironment BasicUsageEnvironment groupsock liveMedia; do flags+=" -I$part/include"; done
        export flags
        find UsageEnvironment BasicUsageEnvironment groupsock liveMedia -name '*.cpp' -o -name '*.c' |
            xargs -P "$(nproc)" -I{} sh -c 'case {} in *.c) c=gcc;; *) c="g++ -std=c++20";; esac; $c $flags -c {} -o objects/$(basename {}).o'
        g++ -std=c++20 $flags ../../../tests/e2e/clients/live555.cpp objects/*.o -o client
    )
fi

say "format"
cargo fmt --all --check
say "lints"
cargo clippy --workspace --all-targets --locked -- -D warnings
# The fuzz targets have a lock file of their own, which must keep up.
cargo metadata --manifest-path fuzz/Cargo.toml --locked --format-version 1 >/dev/null
say "documentation"
RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc --no-deps --locked --workspace --document-private-items -q
say "tests"
cargo test --workspace --locked --lib --bins --test tidy --test cli --test instructions
say "instructions"
bash scripts/instructions.sh
# Here every client is installed, so a test that would skip is a failure.
SHARDCAST_E2E_STRICT=1 cargo test --locked --test e2e -- --test-threads=3
say "load generator"
bash scripts/smoke.sh
bash scripts/bench.sh --smoke

say "fuzz"
bash scripts/fuzz.sh "${SHARDCAST_FUZZ_SECONDS:-6}"
say "all is well"
