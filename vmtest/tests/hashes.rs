// SPDX-License-Identifier: Apache-2.0
//! Events say what programs are, not only what they are called, where the kernel's IMA hashes them.
#![cfg(test)]
#![expect(
    clippy::disallowed_methods,
    reason = "compares with what other programs say"
)]

use gorget_vmtest::{Actor, Agent, Containerd, Done, Operation, alert_field};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;

const POLICY: &str = "apiVersion: security.kubearmor.com/v1
kind: KubeArmorPolicy
metadata: {name: no-other, namespace: default}
spec:
  selector: {matchLabels: {app: hashed}}
  process: {matchPaths: [{path: /other}]}
  file: {matchPaths: [{path: /secret}]}
  action: Block
";

/// What the program of that algorithm says.
fn sum(algorithm: &str, path: &Path) -> String {
    let said = Command::new(format!("{algorithm}sum")).arg(path).output();
    let said = String::from_utf8(said.unwrap().stdout).unwrap();
    said.split(' ').next().unwrap().to_owned()
}

fn next_with(agent: &mut Agent, fields: &[(&str, &str)]) -> Value {
    loop {
        let event = agent.next_alert();
        let mut fields = fields.iter();
        if fields.all(|(name, value)| alert_field(&event, name) == *value) {
            return event;
        }
    }
}

#[test]
fn events_have_the_hashes_of_the_programs_that_they_name() {
    let _containerd = Containerd::start();
    let mut agent = Agent::start("enableIMA: true\nvisibility: process,file\n");
    let (container, mut actor) = Actor::in_container("hashed", &[("app", "hashed")]);
    assert_eq!(actor.start_subject("/actor"), Done::Passed);
    let root = container.root();
    fs::write(root.join("secret"), "").unwrap();
    // The same program, and another file.
    let mut program = fs::read(root.join("actor")).unwrap();
    program.extend(b"other");
    for name in ["other", "third"] {
        program.extend(name.as_bytes());
        fs::copy(root.join("actor"), root.join(name)).unwrap();
        fs::write(root.join(name), &program).unwrap();
    }
    agent.write_policy("p.yaml", POLICY);
    agent.wait_for("in force for `hashed`: no-other");

    // A program that is denied, and who tried to run it.
    let denied = actor.perform("/actor", Operation::ExecWith, "/other");
    assert!(matches!(denied, Done::Denied), "{denied:?}");
    let alert = next_with(
        &mut agent,
        &[("PolicyName", "no-other"), ("Resource", "/other")],
    );
    let algorithm = alert_field(&alert, "HashAlgo").to_owned();
    let hash = |name: &str| sum(&algorithm, &root.join(name));
    assert_eq!(
        alert_field(&alert, "ProcessHash"),
        hash("other"),
        "{alert:#}"
    );
    assert_eq!(
        alert_field(&alert, "ParentHash"),
        hash("actor"),
        "{alert:#}"
    );
    assert_ne!(hash("other"), hash("actor"));

    // One that runs: as soon as it is the image, and what was its image before is the parent's.
    let ran = actor.perform("/actor", Operation::ExecWith, "/third end");
    assert_eq!(ran, Done::Passed);
    let data = ("Data", "syscall=SYS_EXECVE");
    let log = next_with(&mut agent, &[("ProcessName", "/third"), data]);
    assert_eq!(alert_field(&log, "ProcessHash"), hash("third"), "{log:#}");
    assert_eq!(alert_field(&log, "ParentHash"), hash("actor"), "{log:#}");

    // Who opens a file.
    let denied = actor.perform("/actor", Operation::Read, "/secret");
    assert!(matches!(denied, Done::Denied), "{denied:?}");
    let alert = next_with(
        &mut agent,
        &[("PolicyName", "no-other"), ("Resource", "/secret")],
    );
    assert_eq!(alert_field(&alert, "ProcessName"), "/actor");
    assert_eq!(
        alert_field(&alert, "ProcessHash"),
        hash("actor"),
        "{alert:#}"
    );
}
