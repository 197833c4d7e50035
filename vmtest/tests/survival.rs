// SPDX-License-Identifier: Apache-2.0
//! What is in force outlives the agent: killed, stopped, started again, and removed on demand.
#![cfg(test)]

use gorget_vmtest::{Actor, Agent, Container, Containerd, Done, Operation, alert_field, uninstall};
use std::fs;

const SECRET: &str = "/data/secret";
const PINS: &str = "/sys/fs/bpf/gorget";

fn policy(name: &str, rules: &str) -> String {
    format!(
        "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata: {{name: {name}}}\n\
         spec:\n  selector: {{matchLabels: {{app: victim}}}}\n  {rules}\n"
    )
}

struct Victim {
    // Ended in this order.
    actor: Actor,
    _container: Container,
}

impl Victim {
    fn start() -> Self {
        let (container, mut actor) = Actor::in_container("victim", &[("app", "victim")]);
        let secret = container.root().join("data/secret");
        fs::create_dir_all(secret.parent().unwrap()).unwrap();
        fs::write(secret, "s").unwrap();
        assert_eq!(actor.start_subject("/actor"), Done::Passed);
        Self {
            actor,
            _container: container,
        }
    }

    fn does(&mut self, operation: Operation, path: &str) -> Done {
        self.actor.perform("/actor", operation, path)
    }
}

fn start_with_a_rule() -> (Agent, Victim) {
    let rule = policy("guard", "file: {matchPaths: [{path: /data/secret}]}");
    let mut agent = Agent::start_with("", &[("p.yaml", &rule)]);
    let victim = Victim::start();
    agent.wait_for("in force for `victim`: guard");
    (agent, victim)
}

#[test]
fn what_a_killed_agent_had_in_force_stays_and_the_next_one_tells_what_was_denied() {
    let _containerd = Containerd::start();
    let (agent, mut victim) = start_with_a_rule();
    agent.kill();
    assert_eq!(victim.does(Operation::Read, SECRET), Done::Denied);

    let mut agent = Agent::start_again("");
    let alert = agent.alert_about(SECRET);
    assert_eq!(alert_field(&alert, "PolicyName"), "guard");
    assert_eq!(alert_field(&alert, "ContainerName"), "victim");
    assert_eq!(victim.does(Operation::Write, SECRET), Done::Denied);
    let alert = agent.alert_about(SECRET);
    assert_eq!(alert_field(&alert, "PolicyName"), "guard");
}

#[test]
fn policies_that_changed_while_no_agent_ran_are_put_in_force_by_the_next() {
    let _containerd = Containerd::start();
    let (agent, mut victim) = start_with_a_rule();
    assert_eq!(victim.does(Operation::Create, "/data/new"), Done::Passed);
    let rule = policy("other", "file: {matchPaths: [{path: /data/new}]}");
    agent.write_policy("p.yaml", &rule);
    agent.kill();

    let mut agent = Agent::start_again("");
    agent.wait_for("took over what is in force");
    agent.wait_for("in force for `victim`: other");
    assert_eq!(victim.does(Operation::Read, SECRET), Done::Passed);
    assert_eq!(victim.does(Operation::Read, "/data/new"), Done::Denied);
}

#[test]
fn a_container_that_ended_while_no_agent_ran_leaves_nothing_behind() {
    let _containerd = Containerd::start();
    let (agent, victim) = start_with_a_rule();
    agent.kill();
    drop(victim);
    let mut agent = Agent::start_again("");
    agent.wait_for("1 workloads that ended while no agent ran are released");
    let mut victim = Victim::start();
    agent.wait_for("in force for `victim`: guard");
    assert_eq!(victim.does(Operation::Read, SECRET), Done::Denied);
}

#[test]
fn a_stopped_agent_leaves_its_rules_in_force_until_they_are_removed() {
    let _containerd = Containerd::start();
    let (agent, mut victim) = start_with_a_rule();
    assert!(agent.stop().success());
    assert_eq!(victim.does(Operation::Read, SECRET), Done::Denied);
    assert!(fs::exists(PINS).unwrap());
    uninstall();
    assert_eq!(victim.does(Operation::Read, SECRET), Done::Passed);
    assert!(!fs::exists(PINS).unwrap());
}
