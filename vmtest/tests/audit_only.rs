// SPDX-License-Identifier: Apache-2.0
//! Kernels without BPF LSM: everything is told, nothing is denied, and what another security module
//! denies is told as denied.
//!
//! What the rules say there is held against the reference by `conformance.rs`, which runs in the same
//! guest. Where BPF LSM is active, the configuration asks for the same mode.
#![cfg(test)]
#![expect(clippy::disallowed_methods, reason = "loads an AppArmor profile")]

use gorget_vmtest::{Actor, Agent, Containerd, Done, Operation, alert_field, uninstall};
use serde_json::Value;
use std::fs;
use std::process::Command;

const AUDIT_ONLY: &str = "host: gorget\nlsm: none\n";

/// What AppArmor is told about the actor's copy in `/opt/confined`.
const PROFILE: &str = "
profile gorget-test /opt/confined/actor {
  file,
  capability,
  network,
  deny /opt/confined/denied rw,
  deny /opt/confined/denied-and-audited rw,
  deny /opt/confined/program x,
  deny capability sys_chroot,
}
";

fn container_policy(category: &str) -> String {
    format!(
        "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\n\
         metadata: {{name: watched, namespace: default}}\nspec:\n  severity: 3\n  \
         selector: {{matchLabels: {{app: victim}}}}\n  {category}\n"
    )
}

fn host_policy(categories: &str) -> String {
    format!(
        "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorHostPolicy\n\
         metadata: {{name: host}}\nspec:\n  \
         nodeSelector: {{matchLabels: {{kubernetes.io/hostname: gorget}}}}\n{categories}"
    )
}

fn has(alert: &Value, fields: &[(&str, &str)]) {
    for (field, value) in fields {
        assert_eq!(alert_field(alert, field), *value, "{field} of {alert}");
    }
}

#[test]
fn what_would_be_denied_passes_and_is_told_with_its_rule() {
    let _containerd = Containerd::start();
    let (container, mut actor) = Actor::in_container("victim", &[("app", "victim")]);
    fs::write(container.root().join("data/secret"), "secret").unwrap();
    fs::copy("/job/actor", container.root().join("data/tool")).unwrap();
    assert_eq!(actor.start_subject("/actor"), Done::Passed);
    let rules = "file: {matchPaths: [{path: /data/secret}]}\n  \
                 process: {matchPaths: [{path: /data/tool}]}\n  \
                 network: {matchProtocols: [{protocol: udp}]}\n  \
                 capabilities: {matchCapabilities: [{capability: sys_chroot}]}";
    let mut agent = Agent::start_with(AUDIT_ONLY, &[("p.yaml", &container_policy(rules))]);
    agent.wait_for("in force for `victim`: watched (audit only: nothing is denied)");
    for (operation, argument, told_as) in [
        (Operation::Read, "/data/secret", "File"),
        (Operation::ExecWith, "/data/tool", "Process"),
        (Operation::Socket, "2 2 17", "Network"),
        (Operation::Capability, "sys_chroot", "Capabilities"),
        (Operation::Unlink, "/data/secret", "File"),
    ] {
        assert_eq!(actor.perform("/actor", operation, argument), Done::Passed);
        has(
            &agent.next_alert(),
            &[
                ("PolicyName", "watched"),
                ("Operation", told_as),
                ("Action", "Audit (Block)"),
                ("Result", "Passed"),
                ("ContainerName", "victim"),
                ("Severity", "3"),
            ],
        );
    }
    assert!(
        !container.root().join("data/secret").exists(),
        "it was removed for real"
    );
}

#[test]
fn it_is_said_that_nothing_is_denied() {
    fs::create_dir_all("/tmp/gorget-policies").unwrap();
    uninstall();
    let mut agent = Agent::start_until(AUDIT_ONLY, "NOTHING IS DENIED");
    agent.wait_for("attached to");
    agent.wait_for("ready: policies from");
    agent.kill();
    // What the first one attached goes on, and is taken over.
    let mut next = Agent::start_until(AUDIT_ONLY, "NOTHING IS DENIED");
    next.wait_for("took over what is in force");
}

fn apparmor(arguments: &[&str]) {
    let profile = "/tmp/gorget-test.profile";
    fs::write(profile, PROFILE).unwrap();
    let mut parser = Command::new("apparmor_parser");
    let loaded = parser.args(arguments).arg(profile).output().unwrap();
    assert!(loaded.status.success(), "{loaded:?}");
}

#[test]
fn what_another_module_denies_is_told_as_denied_if_a_rule_denies_it_too() {
    fs::create_dir_all("/opt/confined").unwrap();
    for file in ["denied", "denied-and-audited", "allowed"] {
        fs::write(format!("/opt/confined/{file}"), "").unwrap();
    }
    fs::copy("/job/actor", "/opt/confined/program").unwrap();
    apparmor(&["--replace"]);
    let mut actor = Actor::on_host();
    fs::copy("/job/actor", "/opt/confined/actor").unwrap();
    assert_eq!(actor.start_subject("/opt/confined/actor"), Done::Passed);
    let rules = "  file:\n    matchPaths:\n      - path: /opt/confined/denied\n      \
                 - path: /opt/confined/allowed\n      \
                 - {path: /opt/confined/denied-and-audited, action: Audit}\n  \
                 process: {matchPaths: [{path: /opt/confined/program}]}\n  \
                 capabilities: {matchCapabilities: [{capability: sys_chroot, action: Block}]}\n";
    let mut agent = Agent::start_with(AUDIT_ONLY, &[("p.yaml", &host_policy(rules))]);
    let subject = "/opt/confined/actor";
    let mut tries = |operation, argument| actor.perform(subject, operation, argument);

    // A denial that no rule asks for is no alert: the next one is about what comes after it.
    let audited = tries(Operation::Read, "/opt/confined/denied-and-audited");
    assert_eq!(audited, Done::Denied);
    for (operation, argument, resource) in [
        (
            Operation::Read,
            "/opt/confined/denied",
            "/opt/confined/denied",
        ),
        (
            Operation::ExecWith,
            "/opt/confined/program",
            "/opt/confined/program",
        ),
    ] {
        assert_eq!(tries(operation, argument), Done::Denied);
        has(
            &agent.next_alert(),
            &[
                ("PolicyName", "host"),
                ("Resource", resource),
                ("Action", "Block"),
                ("Result", "Permission denied"),
            ],
        );
    }
    assert_ne!(tries(Operation::Capability, "sys_chroot"), Done::Passed);
    has(
        &agent.next_alert(),
        &[("Operation", "Capabilities"), ("Action", "Block")],
    );
    // What only the rule denies passes.
    let allowed = tries(Operation::Read, "/opt/confined/allowed");
    assert_eq!(allowed, Done::Passed);
    has(
        &agent.next_alert(),
        &[
            ("Resource", "/opt/confined/allowed"),
            ("Action", "Audit (Block)"),
            ("Result", "Passed"),
        ],
    );
    assert_eq!(actor.end_subjects(), Done::Passed);
    apparmor(&["--remove"]);
}
