# Shared by the scripts: installs what is missing. Sourced, not run.

export DEBIAN_FRONTEND=noninteractive

say() { printf '\n== %s\n' "$*"; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif command -v sudo >/dev/null; then sudo "$@"
    else echo "this needs root for: $*" >&2; return 1; fi
}

# apt_need PACKAGE…: installs those that are not there yet.
apt_need() {
    local missing=() package
    for package in "$@"; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} = 0 ] && return 0
    say "installing ${missing[*]}"
    as_root apt-get update -qq
    as_root apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# rust_fits: whether there is a Rust toolchain of at least the version in Cargo.toml.
rust_fits() {
    local wanted have
    command -v cargo >/dev/null && command -v rustc >/dev/null || return 1
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    have=$(rustc --version | awk '{print $2}')
    [ "$(printf '%s\n%s\n' "$wanted" "$have" | sort -V | head -1)" = "$wanted" ]
}

# Finds a toolchain that fits, or installs one: rustup's from the distribution where it has that, else the distribution's own.
need_rust() {
    if ! command -v cargo >/dev/null && [ -x "$HOME/.cargo/bin/cargo" ]; then export PATH="$HOME/.cargo/bin:$PATH"; fi
    rust_fits && return 0
    say "installing Rust"
    as_root apt-get update -qq
    if apt-cache show rustup >/dev/null 2>&1; then
        apt_need rustup
        rustup default stable
    else
        apt_need cargo rustc
    fi
    hash -r
    if ! rust_fits; then
        echo "A newer Rust is needed than this system offers: install it from https://rustup.rs, then run this again." >&2
        return 1
    fi
}

# The C compiler and git are for dependencies that build C code.
need_build_tools() {
    apt_need gcc libc6-dev make git pkg-config
    need_rust
}

# wait_ready LOG: waits until the server that writes LOG is ready; shows the log if that takes more than ten seconds.
wait_ready() {
    for _ in $(seq 100); do
        if grep -q 'ready$' "$1"; then return 0; fi
        sleep 0.1
    done
    echo "the server did not start:" >&2
    cat "$1" >&2
    return 1
}

# address_of PROTOCOL LOG: where that server listens.
address_of() { awk -v protocol="$1" '$0 ~ "listening " protocol " " { print $NF }' "$2"; }
