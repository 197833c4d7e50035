// SPDX-License-Identifier: Apache-2.0
//! A node with many pods in a cluster with many policies. Times are printed, not asserted:
//! `cargo test --release -p gorget-k8s --test scale -- --nocapture`.
#![cfg(test)]

use gorget_k8s::{Index, Key, Object, Pod, Seen, Watched};
use gorget_model::{Container, Owner, Workload};
use gorget_policy::{Policy, parse};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

const PODS: usize = 500;
const POLICIES: usize = 1_000;
/// Applications, each with its pods and its policies.
const APPS: usize = 100;

#[expect(
    clippy::disallowed_methods,
    reason = "what it takes is printed and decides nothing"
)]
fn timed<T>(what: &str, does: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let done = does();
    let took: Duration = begun.elapsed();
    println!("{what}: {:.2} ms", took.as_secs_f64() * 1e3);
    done
}

fn label(number: usize) -> (String, String) {
    ("app".to_owned(), format!("app-{}", number % APPS))
}

fn pod(number: usize, version: &str) -> Seen {
    let key = Key::new("shop", &format!("pod-{number}"));
    let labels = [label(number), ("version".to_owned(), version.to_owned())];
    Seen::Changed {
        what: Watched::Pods,
        object: Object::Pod(Pod {
            uid: format!("uid-{number}"),
            labels: labels.into(),
            owner: Owner {
                kind: "Deployment".to_owned(),
                name: "web".to_owned(),
                namespace: "shop".to_owned(),
            }
            .into(),
            key,
            ..Pod::default()
        }),
    }
}

fn container(number: usize) -> Container {
    Container {
        id: format!("id-{number}"),
        name: "main".to_owned(),
        namespace: Some("shop".to_owned()),
        pod: Some(format!("pod-{number}")),
        labels: BTreeMap::from([("io.kubernetes.pod.uid".to_owned(), format!("uid-{number}"))]),
        ..Container::default()
    }
}

fn policies() -> Vec<Policy> {
    let all = (0..POLICIES).map(|number| {
        let (key, value) = label(number);
        let text = format!(
            "{{\"apiVersion\": \"security.kubearmor.com/v1\", \"kind\": \"KubeArmorPolicy\", \
             \"metadata\": {{\"name\": \"p-{number}\", \"namespace\": \"shop\"}}, \
             \"spec\": {{\"selector\": {{\"matchLabels\": {{\"{key}\": \"{value}\"}}}}, \
             \"process\": {{\"matchPaths\": [{{\"path\": \"/bin/p{number}\"}}]}}}}}}"
        );
        let parsed = parse("p", &text);
        assert_eq!(parsed.problems, []);
        parsed.policies
    });
    all.flatten().collect()
}

fn selected(index: &Index, policies: &[Policy]) -> usize {
    let containers = (0..PODS).map(container);
    let described = containers.map(|told| index.describe(&told).container);
    let counts = described.map(|container| {
        let workload = Workload::Container(container);
        let all = policies.iter();
        all.filter(|policy| policy.selects(&workload)).count()
    });
    counts.sum()
}

/// `VmRSS:  12345 kB`.
fn resident() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mut lines = status.lines();
    let line = lines.find(|line| line.starts_with("VmRSS:"));
    line.unwrap_or_default().to_owned()
}

#[test]
fn a_thousand_policies_and_five_hundred_pods_are_put_together() {
    println!("before: {}", resident());
    let policies = timed("reading 1,000 policies", policies);
    let mut index = Index::new(BTreeSet::new());
    timed("500 pods into the index", || {
        for number in 0..PODS {
            assert!(index.see(pod(number, "1")).workloads);
        }
    });
    println!("with everything: {}", resident());
    let count = timed("which policies are for all 500 containers", || {
        selected(&index, &policies)
    });
    assert_eq!(count, PODS * POLICIES / APPS);
    let other = timed(
        "one pod's labels change, and everybody is looked at",
        || {
            assert!(index.see(pod(7, "2")).workloads);
            let index = index.clone();
            (0..PODS)
                .filter(|number| {
                    let described = index.describe(&container(*number));
                    described
                        .container
                        .labels
                        .get("version")
                        .map(String::as_str)
                        == Some("2")
                })
                .count()
        },
    );
    assert_eq!(other, 1);
    let kept = timed("writing it for the disk", || {
        serde_json::to_vec(&index.keep()).unwrap()
    });
    println!("on disk: {} bytes", kept.len());
}
