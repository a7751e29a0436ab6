#!/usr/bin/env bash
# Licences, sources, duplicates and known holes of what the project takes from others, by deny.toml.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}

if ! "$cargo" deny --version >/dev/null 2>&1; then
    echo "installing: cargo-deny (compiles for some minutes, once)"
    "$cargo" install --quiet --locked cargo-deny
fi
"$cargo" deny --log-level error check licenses bans sources
# The list of known holes comes from the network. Without it, what could be checked has been.
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if "$cargo" deny --log-level error fetch db >"$log" 2>&1; then
    "$cargo" deny --log-level error check --disable-fetch advisories
else
    echo "deny.sh: known holes were NOT looked for, because their list cannot be had: $(head -n 1 "$log")" >&2
fi
