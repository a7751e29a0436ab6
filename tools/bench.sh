#!/usr/bin/env bash
# Measures the windows, the daemon and its filters, each figure beside what it is to be compared with; see benches/.
# Needs root: it makes network namespaces, and takes some minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "$(id -u)" -ne 0 ]; then
    echo "bench.sh: measuring needs root, for its network namespaces: run 'sudo make bench'" >&2
    exit 1
fi
exec "${CARGO:-cargo}" bench --locked --features bench --bench windows --bench guard
