#!/usr/bin/env bash
# Measures the programs and their stages, each figure beside what it is to be compared with; see benches/.
# BENCH names one part, BENCH_OUT a file that keeps the table. Needs root: it makes network namespaces, and takes some
# minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "$(id -u)" -ne 0 ]; then
    echo "bench.sh: measuring needs root, for its network namespaces: run 'sudo make bench'" >&2
    exit 1
fi
if [ "${BENCH:-}" = rivals ] && ! command -v fail2ban-rs >/dev/null; then
    echo "fail2ban-rs is in no Debian package; where it is on the PATH, it is measured as well" >&2
fi
if [ -n "${BENCH_OUT:-}" ]; then
    [ "${BENCH_OUT#/}" != "$BENCH_OUT" ] || BENCH_OUT=$PWD/$BENCH_OUT
    export BENCH_OUT
    printf '| what | figure | beside |\n| --- | ---: | --- |\n' >"$BENCH_OUT"
fi
bench() { "${CARGO:-cargo}" bench --quiet --locked --features bench "$@"; }
case "${BENCH:-}" in
    '') bench --bench windows --bench guard ;;
    stages | windows) bench --bench "$BENCH" ;;
    *) bench --bench guard ;;
esac
