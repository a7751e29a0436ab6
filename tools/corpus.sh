#!/usr/bin/env bash
# corpus.sh DIR: scores the filters on the labelled log lines of DIR, which brings its own scorer. Fails when an address
# is reported that is not the offender's, or when less than $FLOOR per cent of the offenders are found.
set -euo pipefail
cd "$(dirname "$0")/.."
corpus=${1:?usage: corpus.sh DIR}
results=$(mktemp)
trap 'rm -f "$results"' EXIT
"${CARGO:-cargo}" build --quiet --locked
"$corpus/run_banward.py" target/debug/banctl "$results" --filters filters
"$corpus/score.py" "$results" --totals --fail-under "${FLOOR:-0}"
