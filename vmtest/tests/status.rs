// SPDX-License-Identifier: Apache-2.0
//! What the agent says of itself.
#![cfg(test)]

mod status_of;

use gorget_telemetry::Client;
use gorget_telemetry::proto::v1::Costs;
use gorget_vmtest::{Actor, Agent, Containerd};
use status_of::status;
use std::fs;
use std::path::Path;

/// Blocks the secret in the container `app=victim`.
const BLOCK_SECRET: &str = "
apiVersion: security.kubearmor.com/v1
kind: KubeArmorPolicy
metadata: {name: no-secrets, namespace: default}
spec:
  severity: 7
  tags: [one, two]
  message: hands off
  selector: {matchLabels: {app: victim}}
  file: {matchPaths: [{path: /data/secret}]}
";

#[test]
fn who_asks_learns_what_is_in_force_where_and_what_is_not_as_it_should_be() {
    let _containerd = Containerd::start();
    let mut agent = Agent::start_with("", &[("p.yaml", BLOCK_SECRET)]);
    let _victim = Actor::in_container("victim", &[("app", "victim")]);
    agent.wait_for("in force for `victim`: no-secrets");
    let socket = agent.socket();
    let told = status(socket);
    assert_eq!(told.backend, "bpf");
    assert!(
        told.hooks.iter().any(|hook| hook == "file_open"),
        "{:?}",
        told.hooks
    );
    let containerd = told.runtimes.iter().find(|it| it.name == "containerd");
    assert!(containerd.unwrap().connected);
    let victim = told
        .workloads
        .iter()
        .find(|it| it.name == "victim")
        .unwrap();
    assert_eq!(victim.backend, "bpf");
    assert_eq!(victim.labels.get("app").map(String::as_str), Some("victim"));
    let names: Vec<_> = victim.policies.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["no-secrets"]);
    let policy = told.policies.first().unwrap();
    assert_eq!((policy.workloads, policy.limits.len()), (1, 0));
    assert!(told.refused.is_empty());
    assert!(told.losses.iter().any(|loss| loss.stage == "ring_full"));
    assert!(told.clients.iter().any(|client| client.name == "stdout"));
    // The limit that holds for the agent.
    assert!(told.resident_bytes < 40 << 20, "{}", told.resident_bytes);

    agent.write_policy("p.yaml", "kind: [");
    agent.wait_for("p.yaml` is not put in force");
    agent.wait_until("the refusal is told", || !status(socket).refused.is_empty());
}

/// What the programs cost, which the kernel then measures for so many seconds.
fn costs(socket: &str, seconds: u32) -> Costs {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut client = Client::connect(Path::new(socket)).await.unwrap();
        client.costs(seconds).await.unwrap()
    })
}

#[test]
fn what_hooks_cost_is_measured_while_somebody_asks_and_no_longer() {
    let mut agent = Agent::start("");
    let socket = agent.socket();
    let descriptors = format!("/proc/{}/fd", agent.pid());
    let is_measured = || {
        let all = fs::read_dir(&descriptors).unwrap();
        let mut targets = all.filter_map(|it| fs::read_link(it.unwrap().path()).ok());
        targets.any(|it| it.to_string_lossy().contains("bpf-stats"))
    };
    assert!(!is_measured());
    let before = costs(socket, 10);
    assert!(is_measured());
    assert_eq!(before.not_measured, "");
    for _ in 0..10 {
        fs::read("/proc/version").unwrap();
    }
    let after = costs(socket, 1);
    // Every task's opening of a file runs it.
    let opens = |costs: &Costs| {
        let opens = costs.programs.iter().find(|it| it.name == "file_open");
        opens.map(|it| (it.runs, it.nanos)).unwrap()
    };
    assert!(
        opens(&after).0 >= opens(&before).0 + 10,
        "{before:?} {after:?}"
    );
    assert!(opens(&after).1 > opens(&before).1 && after.at_nanos > before.at_nanos);
    let workloads = after.maps.iter().find(|it| it.name == "workloads").unwrap();
    // The host.
    assert_eq!((workloads.entries, workloads.capacity), (1, 16_384));
    agent.wait_until("nobody measures any more", || !is_measured());
}
