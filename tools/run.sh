#!/usr/bin/env bash
# Guards this machine with the shipped configuration until Ctrl-C, and leaves nothing behind: the state lives in a
# temporary folder, the rules in a chain of their own beside that of an installed banward. Without root, or with
# --demo, shows an attack and its ban in a private network namespace instead.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tools/common.sh
. tools/common.sh

readonly CHAIN=RUN-BANWARD
readonly ATTACKER=203.0.113.7
readonly PROGRAMS=target/release
PATH=$PATH:/usr/sbin:/sbin

say() { printf '\n%s\n' "$*"; }
banctl() { "$PROGRAMS/banctl" --config "$folder/banward.toml" "$@"; }

# What the kernel holds that is ours. Nothing, once we have stopped.
leftovers() {
    { iptables-save; ip6tables-save; ipset list -name; nft list tables; } 2>/dev/null | grep -i -e "$CHAIN" || true
}

# settings: the settings in which this run differs from the shipped configuration.
settings() {
    cat <<TOML
[daemon]
state_dir = "$folder/state"
socket = "$folder/control.sock"
[firewall]
chain = "$CHAIN"
on_stop = "remove"
[blocklist]
write = "$folder/ip.blocked"
TOML
}

start() {
    "$PROGRAMS/banward" --config "$folder/banward.toml" 2>"$folder/banward.log" &
    daemon=$!
    # Until the kernel holds every ban, or it is known why not; or until the daemon is gone.
    await 30 started || { cat "$folder/banward.log" >&2; return 1; }
    kill -0 "$daemon" 2>/dev/null || { cat "$folder/banward.log" >&2; return 1; }
}

started() { banctl status --json | grep -v '"health":"starting"' || ! kill -0 "$daemon"; }

# Runs on every way out: Ctrl-C, a kill, an error, the end.
stop() {
    local code=$?
    # Whatever fails from here on, such as a terminal that is gone: the rest is still cleared away.
    set +e
    trap '' INT TERM HUP PIPE
    [ -z "${tail:-}" ] || kill "$tail" 2>/dev/null
    if [ -n "${daemon:-}" ] && kill -TERM "$daemon" 2>/dev/null; then
        say "stopping"
        wait "$daemon"
    fi
    local left
    left=$(leftovers)
    if [ -n "$left" ]; then
        printf 'run.sh: this was left in the kernel, please report it:\n%s\n' "$left" >&2
        [ "$code" -ne 0 ] || code=1
    elif [ -n "${daemon:-}" ]; then
        echo "stopped: no rule, set or table of this run is left"
    fi
    rm -rf "$folder"
    exit "$code"
}

# Shows what the daemon says from now on, until it or the user ends it.
follow() {
    tail -n +1 -f --pid="$daemon" "$folder/banward.log" &
    tail=$!
    wait "$daemon"
}

guard() {
    folder=$(mktemp -d /tmp/banward-run.XXXXXX)
    trap stop EXIT
    trap 'exit 0' INT TERM HUP PIPE
    settings | copy_config config/banward.toml "$folder"
    start
    say "Banward guards this machine:"
    banctl status
    say "In another terminal: $PWD/$PROGRAMS/banctl --config $folder/banward.toml list"
    echo "Ctrl-C stops it and removes its rules. It says:"
    follow
}

# demo: inside a network namespace of its own, so that no packet of this machine is touched.
demo() {
    folder=$(mktemp -d /tmp/banward-demo.XXXXXX)
    trap stop EXIT
    trap 'exit 0' INT TERM HUP PIPE
    # The lock of iptables-legacy belongs to root.
    export XTABLES_LOCKFILE=$folder/xtables.lock
    ip link set lo up
    : >"$folder/auth.log"
    { settings; demo_jails; } | copy_config config/banward.toml "$folder"
    start
    say "Banward watches $folder/auth.log:"
    banctl status
    say "$ATTACKER tries passwords. What sshd writes to the log:"
    attack | tee -a "$folder/auth.log"
    await 10 banned || { cat "$folder/banward.log" >&2; return 1; }
    say "banctl list"
    banctl list
    say "The kernel now drops its packets:"
    held
    say "The daemon said:"
    cat "$folder/banward.log"
}

# The kernel's log is not for users, so the jails that read it are left out.
demo_jails() {
    cat <<TOML
[jail.sshd]
source = { files = ["$folder/auth.log"] }
[jail.ping-drop]
enabled = false
[jail.syn-flood]
enabled = false
TOML
}

attack() {
    local port
    for port in 40001 40002 40003 40004 40005; do
        printf '%s %s sshd[4711]: Failed password for root from %s port %s ssh2\n' \
            "$(LC_ALL=C date '+%b %e %H:%M:%S')" "$(uname -n)" "$ATTACKER" "$port"
    done
}

banned() { banctl list --json | grep -q -F "$ATTACKER"; }

held() {
    { ipset list; nft list ruleset; } 2>/dev/null | grep -F -B 8 "$ATTACKER"
}

# Without root: the same in a user namespace, where we are root of our own network only.
private() {
    echo "You are not root, so Banward cannot guard this machine: 'sudo make run' would."
    local refusal
    if ! refusal=$(unshare -rn true 2>&1); then
        echo "It cannot be shown either: this system forbids private network namespaces to its users ($refusal)." >&2
        return 1
    fi
    echo "What it does is shown in a private network namespace, where no packet of this machine is touched."
    exec unshare -rn "$PWD/tools/run.sh" --inside
}

case "${1:-}" in
    "") if [ "$(id -u)" -eq 0 ]; then guard; else private; fi ;;
    --demo) if [ "$(id -u)" -eq 0 ]; then exec unshare -n "$PWD/tools/run.sh" --inside; else private; fi ;;
    --inside) demo ;;
    *) echo "usage: run.sh [--demo]" >&2; exit 2 ;;
esac
