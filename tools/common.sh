# What the scripts beside this one share; to be sourced. Needs: the project's folder as working directory.
# shellcheck shell=bash

# copy_config FILE DIR: the configuration FILE as DIR/banward.toml, with the filters of this project, and with
# standard input as settings over it.
copy_config() {
    mkdir -p "$2/conf.d"
    cp "$1" "$2/banward.toml"
    printf '[daemon]\nfilters = ["%s/filters"]\n' "$PWD" >"$2/conf.d/10-filters.toml"
    cat >"$2/conf.d/20-settings.toml"
}

# await SECONDS COMMAND…: whether the command succeeds within that time; it is tried ten times a second.
await() {
    local tries=$(($1 * 10))
    shift
    while ! "$@" >/dev/null 2>&1; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || return 1
        sleep 0.1
    done
}
