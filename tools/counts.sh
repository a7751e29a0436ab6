#!/usr/bin/env bash
# counts.sh write|check: how many instructions each stage of benches/counts.rs takes per line, hit, ban or message,
# counted by callgrind. "write" keeps them in benches/counts.toml, "check" compares with what is kept there.
set -euo pipefail
cd "$(dirname "$0")/.."
readonly KEPT=benches/counts.toml
# Per cent by which a count may differ. Hash tables are seeded at random, so counts differ by up to one.
readonly TOLERANCE=5

mode=${1:-}
[ "$mode" = write ] || [ "$mode" = check ] || { echo "usage: counts.sh write|check" >&2; exit 2; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${CARGO:-cargo}" bench --quiet --locked --features bench --bench counts --no-run --message-format json >"$folder/built"
program=$(sed -n 's/.*"executable":"\([^"]*\/counts-[^"]*\)".*/\1/p' "$folder/built")
[ -n "$program" ] || { echo "counts.sh: cargo does not say where benches/counts.rs is built" >&2; exit 1; }
valgrind --quiet --tool=callgrind --toggle-collect='counts::stage_*' --callgrind-out-file="$folder/out" "$program" \
    >"$folder/said"
items=$(sed -n 's/^items //p' "$folder/said")
callgrind_annotate --inclusive=yes --threshold=100 --show=Ir "$folder/out" |
    sed -nE 's/^ *([0-9,]+).*[: ](counts::)?stage_([a-z0-9_]+).*/\3 \1/p' | tr -d ',' |
    awk -v items="$items" '$2 > most[$1] { most[$1] = $2 }
        END { for (stage in most) printf "%s = %d\n", stage, most[stage] / items }' | sort >"$folder/found"
[ -s "$folder/found" ] || { echo "counts.sh: callgrind has counted nothing" >&2; exit 1; }

if [ "$mode" = write ]; then
    {
        echo "# Instructions per line, hit, ban or message in each stage; written by 'make counts', compared by 'make check'."
        echo "# A change that is meant to cost more, or costs less, writes them anew."
        cat "$folder/found"
    } >"$KEPT"
    cat "$folder/found"
    exit 0
fi
awk -F ' = ' -v tolerance="$TOLERANCE" '
    /^#/ { next }
    NR == FNR { kept[$1] = $2; next }
    !($1 in kept) { printf "%s: %d instructions, and none are kept: run make counts\n", $1, $2; bad = 1; next }
    {
        percent = ($2 - kept[$1]) * 100 / kept[$1]
        verdict = percent > tolerance ? "SLOWER" : percent < -tolerance ? "faster: run make counts" : "ok"
        printf "%-28s %8d instructions, %8d kept, %+6.1f %%  %s\n", $1, $2, kept[$1], percent, verdict
        if (percent > tolerance) bad = 1
        delete kept[$1]
    }
    END {
        for (stage in kept) { printf "%s: kept, but no longer counted: run make counts\n", stage; bad = 1 }
        exit bad
    }' "$KEPT" "$folder/found" || {
    echo "counts.sh: a stage takes more instructions than are kept in $KEPT. If that is meant, run 'make counts'." >&2
    exit 1
}
