#!/usr/bin/env bash
# All checks and tests of the project. Needs root for those that ask the kernel; without root, sudo runs the tests.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}
stage() { echo "==> $*"; }

runner=()
if [ "$(id -u)" -ne 0 ]; then
    sudo=(sudo)
    [ -t 0 ] || sudo+=(-n)
    if ! command -v sudo >/dev/null || ! "${sudo[@]}" true; then
        echo "test.sh: tests that ask the kernel need root: run this as root, or where sudo works" >&2
        exit 1
    fi
    # Built as this user, run as root.
    runner=(--config 'target."cfg(all())".runner = ["sudo", "-E"]')
fi

stage "format"
"$cargo" fmt --check
stage "shell scripts"
shellcheck -x tools/*.sh .ci/run
stage "clippy"
"$cargo" clippy --quiet --locked --all-targets -- -D warnings
stage "shipped configuration and filters"
"$cargo" build --quiet --locked
tools/check.sh target/debug/banctl
if [ -n "${CORPUS:-}" ]; then
    stage "corpus: $CORPUS"
    tools/corpus.sh "$CORPUS"
else
    stage "corpus: left out (make test CORPUS=DIR scores the filters on labelled log lines)"
fi
stage "tests"
"$cargo" "${runner[@]}" test --locked --no-fail-fast
stage "all is well"
