#!/usr/bin/env bash
# fuzz.sh MINUTES [TARGET...]: attacks each parser for so long, led by coverage. What is found stops it, is shown, and
# belongs into fuzz/regressions/TARGET once it is mended.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}
minutes=${1:?usage: fuzz.sh MINUTES [TARGET...]}
shift
targets=("$@")

# Without a nightly compiler a stable one is told to take nightly's options: they are all that is missing.
toolchain=(+nightly)
if ! "$cargo" +nightly --version >/dev/null 2>&1; then
    echo "there is no nightly compiler; the stable one does it with RUSTC_BOOTSTRAP=1"
    toolchain=()
    export RUSTC_BOOTSTRAP=1
fi
if ! "$cargo" fuzz --version >/dev/null 2>&1; then
    echo "installing: cargo-fuzz (compiles for a minute, once)"
    "$cargo" install --quiet --locked cargo-fuzz
fi
if [ ${#targets[@]} -eq 0 ]; then
    mapfile -t targets < <("$cargo" fuzz list)
fi
host=$(rustc -vV | sed -n 's/^host: //p')
"$cargo" ${toolchain[@]+"${toolchain[@]}"} fuzz build --sanitizer none
for target in "${targets[@]}"; do
    echo "==> $target, for $minutes minutes"
    fuzzer="fuzz/target/$host/release/$target"
    mkdir -p "fuzz/corpus/$target" "fuzz/artifacts/$target"
    BANWARD_SEEDS="fuzz/corpus/$target" "$fuzzer" -runs=0 2>/dev/null
    "$fuzzer" "fuzz/corpus/$target" "-artifact_prefix=fuzz/artifacts/$target/" \
        "-max_total_time=$((minutes * 60))" -max_len=20480 -timeout=25 -rss_limit_mb=4096 -print_final_stats=1
done
