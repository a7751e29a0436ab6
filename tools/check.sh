#!/usr/bin/env bash
# check.sh BANCTL: 'banctl check' of every shipped configuration, with the filters of this project.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tools/common.sh
. tools/common.sh
banctl=${1:?usage: check.sh BANCTL}

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for config in config/*.toml; do
    copy_config "$config" "$folder/${config##*/}" </dev/null
    "$banctl" check "$folder/${config##*/}/banward.toml"
done
