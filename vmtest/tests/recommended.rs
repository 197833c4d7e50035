// SPDX-License-Identifier: Apache-2.0
//! The policies of `policies/recommended/`, where a scenario of `conformance/` cannot show them at work:
//! presets, containers that are privileged or have a network, and all of them at once.
#![cfg(test)]
use gorget_vmtest::{Actor, Agent, Container, Containerd, Done, JOB, Operation, alert_field};
use serde_json::Value;
use std::fs;

const LABELS: [(&str, &str); 1] = [("app", "victim")];

/// The shipped text.
fn shipped(name: &str) -> String {
    fs::read_to_string(format!("{JOB}/policies/recommended/{name}.yaml")).unwrap()
}

fn put_in_force(agent: &mut Agent, names: &[&str]) {
    let texts: Vec<_> = names.iter().map(|name| shipped(name)).collect();
    agent.write_policy("p.yaml", &texts.join("---\n"));
    agent.wait_for("in force for `victim`: ");
}

/// The next alert that names the policy and the action.
fn alert_of(agent: &mut Agent, policy: &str, action: &str) -> Value {
    loop {
        let alert = agent.next_alert();
        let told = |field| alert_field(&alert, field);
        if (told("PolicyName"), told("Action")) == (policy, action) {
            return alert;
        }
    }
}

fn started((container, mut actor): (Container, Actor)) -> (Container, Actor) {
    assert_eq!(actor.start_subject("/actor"), Done::Passed);
    (container, actor)
}

fn does(actor: &mut Actor, operation: Operation, with: &str) -> Done {
    actor.perform("/actor", operation, with)
}

#[test]
fn memory_is_not_run_and_the_environment_of_others_is_not_read() {
    let _containerd = Containerd::start();
    let mut agent = Agent::start("");
    let (_container, mut actor) = started(Actor::in_container("victim", &LABELS));
    put_in_force(&mut agent, &["fileless-execution", "environment-of-others"]);
    for (operation, with) in [
        (Operation::Exec, "/actor"),
        (Operation::Read, "/proc/self/environ"),
        (Operation::Read, "/proc/1/status"),
    ] {
        assert_eq!(does(&mut actor, operation, with), Done::Passed, "{with}");
    }
    assert_eq!(
        does(&mut actor, Operation::ExecMemfd, "/actor"),
        Done::Denied
    );
    let first = agent.next_alert();
    assert_eq!(alert_field(&first, "PolicyName"), "fileless-execution");
    assert_eq!(
        does(&mut actor, Operation::Read, "/proc/1/environ"),
        Done::Denied
    );
    let second = agent.next_alert();
    assert_eq!(alert_field(&second, "PolicyName"), "environment-of-others");
}

#[test]
fn a_privileged_container_does_not_tell_the_kernel_what_to_run() {
    let _containerd = Containerd::start();
    let mut agent = Agent::start("");
    let (_container, mut actor) = started(Actor::in_privileged_container("victim", &LABELS, &[]));
    let ways_out = [
        (Operation::Write, "/proc/sys/kernel/core_pattern"),
        (Operation::Write, "/proc/sysrq-trigger"),
        (Operation::Read, "/proc/kcore"),
    ];
    for (operation, with) in ways_out {
        assert_eq!(does(&mut actor, operation, with), Done::Passed, "{with}");
    }
    put_in_force(&mut agent, &["kernel-interfaces", "dangerous-capabilities"]);
    for (operation, with) in [
        (Operation::Read, "/proc/sys/kernel/core_pattern"),
        (Operation::Write, "/proc/sys/kernel/hostname"),
        (Operation::Write, "/dev/null"),
        (Operation::Capability, "chown"),
        (Operation::Capability, "sys_admin"),
    ] {
        assert_eq!(does(&mut actor, operation, with), Done::Passed, "{with}");
    }
    alert_of(&mut agent, "dangerous-capabilities", "Audit");
    for (operation, with) in ways_out {
        assert_eq!(does(&mut actor, operation, with), Done::Denied, "{with}");
        let alert = alert_of(&mut agent, "kernel-interfaces", "Block");
        assert_eq!(alert_field(&alert, "Resource"), with);
    }
    let loaded = does(&mut actor, Operation::Call, "finit_module 0 0 0");
    assert!(matches!(loaded, Done::Failed(_)), "{loaded:?}");
    let alert = alert_of(&mut agent, "dangerous-capabilities", "Block");
    assert_eq!(alert_field(&alert, "Operation"), "Capabilities");
}

#[test]
fn names_of_pools_and_of_the_clouds_credentials_are_not_looked_up() {
    let _containerd = Containerd::start();
    let mut agent = Agent::start("");
    let (_container, mut actor) =
        started(Actor::in_container_with("victim", &LABELS, &["--net-host"]));
    put_in_force(&mut agent, &["cloud-metadata", "crypto-miners"]);
    for name in ["storage.googleapis.com", "notnanopool.org"] {
        let asked = does(&mut actor, Operation::Lookup, name);
        assert_eq!(asked, Done::Passed, "{name}");
    }
    for (name, policy) in [
        ("metadata.google.internal", "cloud-metadata"),
        ("xmr-eu1.nanopool.org", "crypto-miners"),
    ] {
        let asked = does(&mut actor, Operation::Lookup, name);
        // The packet is not sent, which is another error than that of a file.
        let is_denied =
            matches!(&asked, Done::Failed(why) if why.contains("Operation not permitted"));
        assert!(is_denied, "{name}: {asked:?}");
        let alert = agent.next_alert();
        assert_eq!(alert_field(&alert, "PolicyName"), policy);
        assert_eq!(alert_field(&alert, "Action"), "Block");
    }
}

#[test]
fn an_ordinary_program_notices_nothing_of_all_of_them() {
    let _containerd = Containerd::start();
    let mut agent = Agent::start("defaultFilePosture: block\ndefaultNetworkPosture: block\n");
    let (container, mut actor) = started(Actor::in_container("victim", &LABELS));
    let root = container.root();
    for directory in ["etc", "tmp", "usr/bin"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    for file in ["etc/passwd", "tmp/upload", "data/state"] {
        fs::write(root.join(file), "content\n").unwrap();
    }
    for program in ["usr/bin/tool", "tmp/dropped"] {
        fs::copy(format!("{JOB}/actor"), root.join(program)).unwrap();
    }
    let files = fs::read_dir(format!("{JOB}/policies/recommended")).unwrap();
    let names: Vec<String> = files
        .map(|file| file.unwrap().path())
        .map(|file| file.file_stem().unwrap().to_str().unwrap().to_owned())
        .filter(|name| !name.starts_with("host-"))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert!(names.len() > 15, "{names:?}");
    put_in_force(&mut agent, &names);
    for (operation, with) in [
        (Operation::Read, "/etc/passwd"),
        (Operation::Read, "/proc/self/status"),
        (Operation::ReadWrite, "/tmp/upload"),
        (Operation::Create, "/tmp/new"),
        (Operation::Rename, "/data/state"),
        (Operation::Unlink, "/tmp/new"),
        (Operation::Exec, "/usr/bin/tool"),
        (Operation::Socket, "2 1 0"),
        (Operation::Socket, "2 2 0"),
        (Operation::Capability, "chown"),
    ] {
        assert_eq!(does(&mut actor, operation, with), Done::Passed, "{with}");
    }
    assert_eq!(
        does(&mut actor, Operation::Exec, "/tmp/dropped"),
        Done::Denied
    );
    // Nothing before it was worth an alert.
    let alert = agent.next_alert();
    assert_eq!(alert_field(&alert, "PolicyName"), "dropped-programs");
    assert_eq!(alert_field(&alert, "Resource"), "/tmp/dropped");
}
