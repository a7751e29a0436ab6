//! Docker, which starts after us, restarts, makes networks and publishes ports: its containers are guarded all the time.

use std::net::TcpListener;
use std::os::fd::AsFd as _;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::*;
use crate::doctor::{LOCAL, doctor, has};

/// The port of the host that leads to the container.
const PUBLISHED: u16 = 8080;

/// Control groups, and kernel settings that it cannot change for the whole machine; an image that holds one program and what it is linked with.
const SETUP: &str = "
    mount -t cgroup2 none /sys/fs/cgroup
    mount --bind -o ro /proc/sys/kernel /proc/sys/kernel
    mkdir -p /run/image
    for file in /bin/sleep $(ldd /bin/sleep | grep -o '/[^ ]*'); do cp -L --parents $file /run/image; done
    tar -C /run/image -c . >/run/image.tar";

const DAEMON: &str = "dockerd --data-root /run/docker-data --exec-root /run/docker-exec --storage-driver vfs --host unix:///run/docker.sock";

fn start(others: &Others) {
    others.start("dockerd", DAEMON);
    others.await_sh("docker version", "dockerd");
}

/// Starts a container with a published port, and somebody who accepts connections in it.
fn serve(others: &Others) {
    let container = others.sh(&format!("docker run --detach --publish {PUBLISHED}:80 image /bin/sleep infinity"));
    // Its process as the others count them, in the network where it is.
    let number = others.sh(&format!("docker inspect --format '{{{{.State.Pid}}}}' {container}"));
    let network = format!("/proc/{}/root/proc/{}/ns/net", others.first, number.trim());
    let network = std::fs::File::open(network).expect("the container runs");
    std::thread::spawn(move || {
        move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network)).expect("root may enter");
        let ears = TcpListener::bind("0.0.0.0:80").expect("the port is free");
        ears.incoming().for_each(drop);
    });
}

#[track_caller]
fn container_is_guarded(lab: &Lab, after: &str) {
    let reaches = |host: &Host| host.connects(host.server(false), PUBLISHED);
    eventually(&format!("after '{after}' the visitor reaches the container"), || reaches(&lab.visitor));
    eventually(&format!("after '{after}' the attacker does not"), || !reaches(&lab.attacker));
    holds(lab, after);
}

/// The rules of a chain, in their order.
fn rules(lab: &Lab, chain: &str) -> Vec<String> {
    let rules = lab.server.sh(&format!("iptables -S {chain}"));
    rules.lines().filter(|rule| rule.starts_with("-A")).map(str::to_owned).collect()
}

fn containers_are_guarded(backend: &str) {
    let lab = Lab::new();
    let guard = with_ban(&lab, backend);
    let others = Others::on(&lab.server, SETUP);
    start(&others);
    others.sh("docker import /run/image.tar image");
    serve(&others);
    container_is_guarded(&lab, "docker run");
    others.sh("docker network create other");
    container_is_guarded(&lab, "docker network create");
    others.sh("kill $(pgrep -x dockerd)");
    others.await_sh("[ ! -e /run/docker.pid ]", "dockerd");
    lab.server.sh("iptables -F DOCKER-USER; iptables -D FORWARD -j DOCKER-USER; iptables -X DOCKER-USER");
    start(&others);
    serve(&others);
    container_is_guarded(&lab, "a restart");
    if backend == "iptables" {
        for chain in ["INPUT", "FORWARD", "DOCKER-USER"] {
            let first = || rules(&lab, chain).into_iter().next();
            let jump = format!("-A {chain} -j BANWARD");
            eventually(&format!("our jump is the first rule of {chain}"), || first().as_ref() == Some(&jump));
        }
    }
    let (code, findings) = doctor(&lab.server, &guard, LOCAL);
    assert_eq!(code, Some(0), "{findings:#?}");
    has(&findings, "others", "ok", "Docker leads packets to containers; bans hold for them too");
    has(&findings, "hooks", "ok", if backend == "iptables" { "FORWARD, DOCKER-USER, OUTPUT" } else { "hook forward" });
}

#[test]
fn containers_are_guarded_by_iptables_when_docker_starts_later_and_restarts() {
    containers_are_guarded("iptables");
}

#[test]
fn containers_are_guarded_by_nftables_when_docker_starts_later_and_restarts() {
    containers_are_guarded("nftables");
}
