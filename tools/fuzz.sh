#!/usr/bin/env bash
# fuzz.sh MINUTES [TARGET...]: attacks each parser for so long, led by coverage. What is found stops it, is shown, and
# belongs into fuzz/regressions/TARGET once it is mended.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}
minutes=${1:?usage: fuzz.sh MINUTES [TARGET...]}
shift
targets=("$@")

if ! "$cargo" +nightly --version >/dev/null 2>&1; then
    echo "fuzz.sh: fuzzing needs a nightly compiler; please run: rustup toolchain install nightly" >&2
    exit 1
fi
if ! "$cargo" fuzz --version >/dev/null 2>&1; then
    echo "installing: cargo-fuzz (compiles for a minute, once)"
    "$cargo" install --quiet --locked cargo-fuzz
fi
if [ ${#targets[@]} -eq 0 ]; then
    mapfile -t targets < <("$cargo" fuzz list)
fi
host=$(rustc -vV | sed -n 's/^host: //p')
"$cargo" +nightly fuzz build --sanitizer none
"$cargo" +nightly run --quiet --release --manifest-path fuzz/Cargo.toml --example seeds -- fuzz/corpus
for target in "${targets[@]}"; do
    echo "==> $target, for $minutes minutes"
    mkdir -p "fuzz/corpus/$target" "fuzz/artifacts/$target"
    "fuzz/target/$host/release/$target" "fuzz/corpus/$target" "-artifact_prefix=fuzz/artifacts/$target/" \
        "-max_total_time=$((minutes * 60))" -max_len=20480 -timeout=25 -rss_limit_mb=4096 -print_final_stats=1
done
