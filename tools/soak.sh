#!/usr/bin/env bash
# Lets two daemons endure everything at once for so many minutes, and counts what was lost; see tests/soak/.
# Needs root: it makes network namespaces.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "$(id -u)" -ne 0 ]; then
    echo "soak.sh: this needs root, for its network namespaces: run 'sudo make soak'" >&2
    exit 1
fi
exec "${CARGO:-cargo}" test --quiet --locked --test soak -- "${1:-10}"
