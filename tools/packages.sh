#!/usr/bin/env bash
# Installs what is missing to run Banward ("run"), to test it ("test"), to count its instructions ("count"), to measure it
# ("bench") or to measure others beside it ("rivals"), and says what and why.
# Installs nothing when nothing is missing; says what to do where it cannot.
set -euo pipefail

# program, Debian package (the first of several that there is), what for
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
strace     strace          system calls that fail while a daemon runs
faketime   faketime        clocks that jump
python3    python3-minimal the attackers and servers of some tests
ufw        ufw             what it does to rules of others
firewalld  firewalld       the same
dbus-daemon dbus           what firewalld is talked to over
dockerd    docker.io       containers, and what Docker does to rules of others
docker     docker-cli|docker.io  what Docker is told by
groff      groff-base      whether the manual pages render
shellcheck shellcheck      the project's shell scripts
"

readonly BENCH="
rg         ripgrep         the search that reading a log is compared with
"

readonly COUNT="
valgrind   valgrind        the instructions that each stage takes
"

readonly RIVALS="
fail2ban-regex fail2ban    the same log through fail2ban
sshguard   sshguard        the same log through sshguard
"

list=$RUN
case "${1:-}" in
    run) ;;
    test) list+=$TEST ;;
    count) list=$COUNT ;;
    bench) list+=$TEST$BENCH ;;
    rivals) list+=$TEST$BENCH$RIVALS ;;
    *) echo "usage: packages.sh run|test|count|bench|rivals" >&2; exit 2 ;;
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
install() {
    local packages=() names choices package
    apt-get update -q
    for names in "$@"; do
        IFS='|' read -ra choices <<<"$names"
        for package in "${choices[@]}"; do
            apt-cache show "$package" >/dev/null && break
        done
        packages+=("$package")
    done
    apt-get install -q -y --no-install-recommends "${packages[@]}"
}
install "$@" </dev/null >"$log" 2>&1 || {
    tail -n 30 "$log" >&2
    exit 1
}
off() {
    ! command -v systemctl >/dev/null || systemctl disable --quiet "$@" 2>/dev/null || true
    echo "$package: installed for the tests, and its service left switched off"
}
for package in "$@"; do
    case $package in
        openssh-server) off ssh.service ssh.socket ;;
        ufw) off ufw.service ;;
        firewalld) off firewalld.service ;;
        docker.io) off docker.service docker.socket containerd.service ;;
    esac
done
ROOT
