#!/usr/bin/env bash
# Builds both programs, optimised, as the user whose Rust it is: under sudo that is not root.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}

as_user=()
if [ "$(id -u)" -eq 0 ] && [ -n "${SUDO_USER:-}" ] && [ "$SUDO_USER" != root ]; then
    home=$(getent passwd "$SUDO_USER" | cut -d: -f6)
    as_user=(sudo -H -u "$SUDO_USER" env "PATH=$home/.cargo/bin:$PATH")
elif ! command -v "$cargo" >/dev/null; then
    echo "build.sh: there is no '$cargo': install Rust, from https://rustup.rs or as a package of this system" >&2
    exit 1
fi
echo "building (the first time takes a few minutes)"
"${as_user[@]}" "$cargo" build --release --locked
