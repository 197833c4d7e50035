// SPDX-License-Identifier: Apache-2.0
//! A storm of events: every alert is delivered, and of what is visible nothing is missing that is not
//! told as repeated or lost.
#![cfg(test)]

use gorget_vmtest::{Actor, Agent, Containerd, Done, Operation, alert_field, times};
use serde_json::Value;
use std::fs;

/// Files that are opened by turns; one of a hundred has a rule.
const FILES: usize = 100;
const OPENS: usize = 200_000;
const EXECS: usize = 20_000;
/// In as many parts, one after the other, so that the answer to none takes longer than a test waits.
const PARTS: usize = 10;
/// What the agent may have in memory at most, in KiB.
const MEMORY: u64 = 40 * 1024;

const POLICY: &str = "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\n\
    metadata: {name: watched}\nspec:\n  selector: {matchLabels: {app: storm}}\n  action: Audit\n  \
    file: {matchPaths: [{path: /data/file-0}]}\n  \
    process: {matchPaths: [{path: /data/program-0}]}\n";

/// What was delivered.
#[derive(Debug, Default)]
struct Delivered {
    alerts: usize,
    logs: usize,
    repeats: usize,
}

impl Delivered {
    fn count(&mut self, event: &Value) {
        if alert_field(event, "PolicyName") == "watched" {
            self.alerts += 1;
        } else if alert_field(event, "Type") == "ContainerLog" {
            let data = alert_field(event, "Data");
            match data.split_once("repeats=") {
                Some((_, number)) => self.repeats += number.parse::<usize>().unwrap(),
                None => self.logs += 1,
            }
        }
    }
}

/// The most that was resident, in KiB.
fn memory(agent: &Agent) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap()
}

/// The numbers of "N operations were visible: N logged, N repeated, N lost".
fn balance(line: &str) -> [usize; 4] {
    let (before, after) = line.split_once(" operations were visible: ").unwrap();
    let no_digit = |c: char| !c.is_ascii_digit();
    let attempted = before.rsplit(no_digit).next();
    let others = after.split(no_digit).filter(|word| !word.is_empty());
    let mut numbers = attempted.into_iter().chain(others);
    [(); 4].map(|()| numbers.next().unwrap().parse().unwrap())
}

#[test]
fn in_a_storm_every_alert_comes_and_every_operation_is_accounted_for() {
    let _containerd = Containerd::start();
    let path = "/tmp/storm.json";
    drop(fs::remove_file(path));
    let config = format!("visibility: process,file\nlogPath: {path}\n");
    let mut agent = Agent::start_with(&config, &[("p.yaml", POLICY)]);
    let (container, mut actor) = Actor::in_container("storm", &[("app", "storm")]);
    agent.wait_for("in force for `storm`: watched");
    agent.wait_for("what is visible of workloads is logged from now on");
    for n in 0..FILES {
        fs::write(container.root().join(format!("data/file-{n}")), "x").unwrap();
        let program = container.root().join(format!("data/program-{n}"));
        fs::copy(container.root().join("actor"), program).unwrap();
    }
    assert_eq!(actor.start_subject("/actor"), Done::Passed);
    // What loading the programs took does not count: "5" forgets the most that there was (proc(5)).
    fs::write(format!("/proc/{}/clear_refs", agent.pid()), "5").unwrap();
    let (opens, execs) = (times(OPENS), times(EXECS));
    for (operation, all, prefix) in [
        (Operation::OpenStorm, opens, "/data/file-"),
        (Operation::ExecStorm, execs, "/data/program-"),
    ] {
        let storm = format!("{} {prefix} {FILES}", all / PARTS);
        for _ in 0..PARTS {
            assert_eq!(actor.perform("/actor", operation, &storm), Done::Passed);
        }
    }
    let most = memory(&agent);
    drop(actor);
    drop(container);
    // What a stopped agent has told is all there is.
    agent.ask_to_end();
    let said = agent.wait_for(" operations were visible: ");
    let [attempted, sent, repeated, lost] = balance(&said);
    assert!(agent.stop().success());

    let mut delivered = Delivered::default();
    let (mut file_alerts, mut skipped) = (0, 0);
    for line in fs::read_to_string(path).unwrap().lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        delivered.count(&event);
        let is_alert = alert_field(&event, "PolicyName") == "watched";
        file_alerts += usize::from(is_alert && alert_field(&event, "Operation") == "File");
        let message = alert_field(&event, "Message");
        if message.contains("stage `skipped`") {
            let number = message.split(' ').next().unwrap();
            skipped += number.parse::<usize>().unwrap();
        }
        assert!(!message.contains("stage `ring_full`"), "{message}");
    }
    println!("{attempted} attempted: {delivered:?}, {lost} lost, {skipped} skipped, {most} KiB");
    assert_eq!(file_alerts, opens / FILES);
    assert_eq!(delivered.alerts, (opens + execs) / FILES);
    assert_eq!(attempted, sent + repeated + lost);
    assert_eq!((delivered.logs, delivered.repeats), (sent, repeated));
    // Opening, starting and ending, at least.
    assert!(attempted + skipped >= opens + 2 * execs, "{attempted}");
    assert!(delivered.logs < attempted / 4, "{delivered:?}");
    assert!(most < MEMORY, "{most} KiB");
}
