// SPDX-License-Identifier: Apache-2.0
//! Two vendors on one device: the policies in `examples/edge` keep one from reaching into the other and
//! into the host, however it was started. Every attempt is first made without them and succeeds.
#![cfg(test)]

use gorget_vmtest::{Actor, Agent, Container, Containerd, Done};
use std::fs;
use std::os::unix::fs::symlink;

const TENANTS: &str = include_str!("../../examples/edge/tenants.yaml");
const SECRET: &str = "the secret of vendor b";

/// A container with every capability, the host's devices and processes, and the runtime's directory.
fn attacker() -> (Container, Actor) {
    let root = Container::root_of("vendor-a");
    drop(fs::remove_dir_all(&root));
    for dir in ["bin", "mnt", "data"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    for applet in [
        "sh", "cat", "mount", "umount", "nsenter", "mknod", "rm", "head",
    ] {
        symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    fs::write(root.join("data/own"), "my own").unwrap();
    let runtime = "type=bind,src=/run/containerd,dst=/run/containerd,options=rbind:rw";
    // As people give a container Docker's socket; containerd's will do for what it is.
    let socket =
        "type=bind,src=/run/containerd/containerd.sock,dst=/var/run/docker.sock,options=rbind:rw";
    let options = [
        "--with-ns",
        "pid:/proc/1/ns/pid",
        "--mount",
        runtime,
        "--mount",
        socket,
    ];
    Actor::in_privileged_container("vendor-a", &[("vendor", "a")], &options)
}

/// What an attempt says when it succeeds, and how it is made.
fn attempts(victim: u32) -> Vec<(&'static str, String)> {
    let bundle = "/run/containerd/io.containerd.runtime.v2.task/default/vendor-b/config.json";
    vec![
        (
            "mounted",
            "mount -t tmpfs none /mnt && echo mounted; umount /mnt".to_owned(),
        ),
        (SECRET, format!("cat /proc/{victim}/root/data/secret")),
        (
            SECRET,
            format!("nsenter -t {victim} -m /bin/cat /data/secret"),
        ),
        ("/actor", format!("cat /proc/{victim}/maps")),
        ("HOME=", format!("cat /proc/{victim}/environ")),
        (
            "made",
            "mknod /data/disk b 254 0 && echo made; rm -f /data/disk".to_owned(),
        ),
        ("ociVersion", format!("head -c 100 {bundle}")),
        (
            "passed",
            "/actor try connect-local /run/containerd/containerd.sock".to_owned(),
        ),
        (
            "passed",
            "/actor try connect-local /var/run/docker.sock".to_owned(),
        ),
        // PTRACE_SEIZE: does not stop it, and ends with who traces.
        (
            "passed",
            format!("/actor try call 'ptrace 16902 {victim} 0 0'"),
        ),
    ]
}

#[test]
fn a_privileged_container_stays_inside_by_the_example_policies() {
    let _containerd = Containerd::start();
    let mut agent = Agent::start("defaultFilePosture: block");
    let (victim, _served) = Actor::in_container("vendor-b", &[("vendor", "b")]);
    let inside = victim.root();
    fs::write(inside.join("data/secret"), SECRET).unwrap();
    // For `nsenter`, which runs a program of the victim's.
    fs::create_dir_all(inside.join("bin")).unwrap();
    fs::copy("/bin/busybox", inside.join("bin/busybox")).unwrap();
    symlink("busybox", inside.join("bin/cat")).unwrap();
    let (_attacker, mut actor) = attacker();
    assert_eq!(actor.start_subject("/actor"), Done::Passed);

    for (success, attempt) in attempts(victim.pid()) {
        let said = actor.shell(&attempt);
        assert!(
            said.contains(success),
            "without policies `{attempt}`: {said}"
        );
    }
    agent.write_policy("tenants.yaml", TENANTS);
    agent.wait_for("in force for `vendor-a`: stay-inside");
    for (success, attempt) in attempts(victim.pid()) {
        let said = actor.shell(&attempt);
        assert!(!said.contains(success), "`{attempt}`: {said}");
    }
    // Its own work goes on.
    assert!(actor.shell("cat /data/own").contains("my own"));
}
