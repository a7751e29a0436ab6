#!/usr/bin/env bash
# Installs what is missing to run Banward ("run"), to test it ("test") or to measure it ("bench"), and says what and why.
# Installs nothing when nothing is missing; says what to do where it cannot.
set -euo pipefail

# program, Debian package, what for
readonly RUN="
cc         build-essential linking Rust programs
iptables   iptables        the rules that drop packets
ipset      ipset           the sets of banned addresses
nft        nftables        the other backend
ip         iproute2        addresses, routes, network namespaces
unshare    util-linux      private network namespaces
"
readonly TEST="
ping       iputils-ping    ping floods
pgrep      procps          processes and kernel settings
hping3     hping3          SYN floods
conntrack  conntrack       what the kernel knows of connections
sshd       openssh-server  real SSH sessions and their log lines
ssh        openssh-client  the other end of them
python3    python3-minimal the attackers and servers of some tests
groff      groff-base      whether the manual pages render
shellcheck shellcheck      the project's shell scripts
"

readonly BENCH="
rg         ripgrep         the search that reading a log is compared with
"

list=$RUN
case "${1:-}" in
    run) ;;
    test) list+=$TEST ;;
    bench) list+=$TEST$BENCH ;;
    *) echo "usage: packages.sh run|test|bench" >&2; exit 2 ;;
esac

PATH=$PATH:/usr/sbin:/sbin
missing=()
while read -r program package reason; do
    [ -n "$program" ] || continue
    command -v "$program" >/dev/null && continue
    echo "missing: $program, for $reason (package $package)"
    missing+=("$package")
done <<<"$list"
[ ${#missing[@]} -gt 0 ] || exit 0

give_up() {
    echo "packages.sh: $1" >&2
    echo "Please install, in the way of this system: ${missing[*]}" >&2
    exit 1
}

command -v apt-get >/dev/null || give_up "this system has no apt-get."
as_root=()
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || give_up "installing needs root, and there is no sudo."
    as_root=(sudo)
    [ -t 0 ] || as_root+=(-n)
    "${as_root[@]}" true || give_up "installing needs root, and sudo refused."
fi

echo "installing: ${missing[*]}"
# No service that comes with a package is to start on this machine because of a test: not now, by policy-rc.d, and
# not at the next boot.
"${as_root[@]}" bash -s -- "${missing[@]}" <<'ROOT' || give_up "apt-get failed."
set -euo pipefail
policy=/usr/sbin/policy-rc.d
log=$(mktemp)
ours=
cleanup() { [ -z "$ours" ] || rm -f "$policy"; rm -f "$log"; }
trap cleanup EXIT
if [ ! -e "$policy" ]; then
    ours=yes
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
{ apt-get update -q && apt-get install -q -y --no-install-recommends "$@"; } </dev/null >"$log" 2>&1 || {
    tail -n 30 "$log" >&2
    exit 1
}
for package in "$@"; do
    if [ "$package" = openssh-server ] && command -v systemctl >/dev/null; then
        systemctl disable --quiet ssh.service ssh.socket || true
        echo "openssh-server: installed for the tests, and its service left switched off"
    fi
done
ROOT
