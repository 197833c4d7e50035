// SPDX-License-Identifier: Apache-2.0
//! A node of 500 pods under 1,000 policies of a real API server: what is in force, and what it took.
//!
//! The pods are objects of a node without a kubelet, and each has one container that is a process in a
//! control group of its own, announced by the hook as a runtime would. Everything else is real: the
//! agent watches the API server and puts a ruleset for each pod into the kernel. The figures are printed,
//! and are in `docs/performance.md`; nothing here depends on them.
#![cfg(test)]
#![expect(
    clippy::disallowed_methods,
    reason = "runs programs as containers, and tells how long things took"
)]

use gorget_vmtest::cluster::{Cluster, FOR_AGENT, container};
use gorget_vmtest::{Agent, JOB, TIMEOUT};
use serde_json::json;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const NODE: &str = "crowded";
const NAMESPACES: usize = 10;
const PODS: usize = 500;
/// Of each policy, two of which select each pod.
const RULES: usize = 10;
/// How many changes are measured of each kind.
const CHANGES: usize = 20;

const POLICIES: &str = "/apis/security.kubearmor.com/v1";
/// Not where the kubelet looks: it ends what it does not know.
const GROUPS: &str = "/sys/fs/cgroup/crowded";
const FILES: &str = "/var/tmp/crowded";

fn namespace(pod: usize) -> String {
    format!("crowd-{}", pod % NAMESPACES)
}

/// The file that a pod, and no other, must not read.
fn own(pod: usize) -> String {
    format!("{FILES}/{pod}")
}

/// What every pod may read until a policy changes.
const COMMON: &str = "/var/tmp/crowded/common";

/// A policy that blocks some paths for a pod, those in `more` as well.
fn policy(pod: usize, kind: &str, more: &[&str]) -> (String, String) {
    let (namespace, name) = (namespace(pod), format!("{kind}-{pod}"));
    let mut text = format!(
        "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\n\
         metadata: {{name: {name}, namespace: {namespace}}}\n\
         spec:\n  selector: {{matchLabels: {{app: app-{pod}}}}}\n  {kind}:\n    matchPaths:\n"
    );
    let made_up = (0..RULES).map(|rule| format!("/srv/{pod}/{kind}/{rule}"));
    for path in made_up.chain(more.iter().map(|path| (*path).to_owned())) {
        writeln!(text, "    - {{path: {path}}}").unwrap();
    }
    let path = format!("{POLICIES}/namespaces/{namespace}/kubearmorpolicies/{name}");
    (path, text)
}

/// A process in a control group of its own, which ends with this.
struct Simulated {
    pod: usize,
    first: Child,
}

impl Simulated {
    fn start(pod: usize) -> Self {
        let group = group(pod);
        fs::create_dir_all(&group).unwrap();
        let first = in_group(&group, "exec sleep 1000000").spawn().unwrap();
        Self { pod, first }
    }

    /// Announces it, as a runtime that runs the hook; returns when its rules are in force.
    fn announce(&self) -> Duration {
        let (pod, id) = (self.pod, id(self.pod));
        let bundle = PathBuf::from(format!("{FILES}/bundles/{id}"));
        fs::create_dir_all(&bundle).unwrap();
        let config = json!({"ociVersion": "1.0.2", "root": {"path": "/"}, "annotations": {
            "io.kubernetes.cri.container-name": "main",
            "io.kubernetes.cri.sandbox-namespace": namespace(pod),
            "io.kubernetes.cri.sandbox-name": format!("pod-{pod}"),
        }});
        fs::write(bundle.join("config.json"), config.to_string()).unwrap();
        let state = json!({"ociVersion": "1.0.2", "id": id, "status": "created",
            "pid": self.first.id(), "bundle": bundle});
        let began = Instant::now();
        let mut hook = Command::new(format!("{JOB}/gorget-hook"))
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = hook.stdin.take().unwrap();
        input.write_all(state.to_string().as_bytes()).unwrap();
        drop(input);
        let ended = hook.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success() && said.is_empty(), "{pod}: {said}");
        began.elapsed()
    }

    /// Whether a program in the container is denied the file.
    fn is_denied(&self, file: &str) -> bool {
        let cat = format!("exec cat {file}");
        let mut cat = in_group(&group(self.pod), &cat);
        let ended = cat.stderr(Stdio::piped()).output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        let denied = said.contains("Permission denied");
        assert!(denied || ended.status.success(), "{}: {said}", self.pod);
        denied
    }

    /// Returns when it is denied the file, or not.
    fn wait_until(&self, file: &str, denied: bool) {
        let deadline = Instant::now() + TIMEOUT;
        while self.is_denied(file) != denied {
            let pod = self.pod;
            assert!(Instant::now() < deadline, "{pod}: {file} is not {denied}");
        }
    }
}

impl Drop for Simulated {
    fn drop(&mut self) {
        drop(self.first.kill());
        drop(self.first.wait());
    }
}

fn id(pod: usize) -> String {
    format!("{pod:064x}")
}

fn group(pod: usize) -> PathBuf {
    Path::new(GROUPS).join(format!("pod{pod}")).join(id(pod))
}

/// A shell that goes into the control group before it does anything else.
fn in_group(group: &Path, then: &str) -> Command {
    let mut shell = Command::new("sh");
    let script = format!("echo $$ >{}/cgroup.procs && {then}", group.display());
    shell.args(["-c", &script]);
    shell.stdin(Stdio::null()).stdout(Stdio::null());
    shell
}

/// Past the test harness, which keeps what passing tests print.
fn say(line: &str) {
    let mut console = std::io::stdout().lock();
    console.write_all(format!("\n{line}\n").as_bytes()).unwrap();
    console.flush().unwrap();
}

/// The median and the longest, in milliseconds.
fn figures(what: &str, mut took: Vec<Duration>) {
    took.sort_unstable();
    let (median, longest) = (took[took.len() / 2], took[took.len() - 1]);
    say(&format!(
        "FIGURE {what}: median {} ms, longest {} ms, of {}",
        median.as_millis(),
        longest.as_millis(),
        took.len()
    ));
}

/// A number of KiB in a file of `/proc`.
fn kib(file: &str, field: &str) -> u64 {
    let text = fs::read_to_string(file).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    number.unwrap().parse().unwrap()
}

/// Memory that is in use and cannot be given back, in KiB.
fn used() -> u64 {
    kib("/proc/meminfo", "MemTotal:") - kib("/proc/meminfo", "MemAvailable:")
}

fn pod(number: usize, app: &str) -> (String, String) {
    let (namespace, name) = (namespace(number), format!("pod-{number}"));
    let object = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": app}},
        "spec": {
            "nodeName": NODE, "hostNetwork": true, "automountServiceAccountToken": false,
            // Nobody says that this node is alive.
            "tolerations": [{"operator": "Exists"}],
            "containers": [container("main", &[])],
        },
    });
    let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
    (path, object.to_string())
}

#[test]
fn five_hundred_pods_have_the_rules_of_a_thousand_policies_and_every_change_of_these() {
    let cluster = Cluster::connect();
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}});
    cluster.apply(&format!("/api/v1/nodes/{NODE}"), &node.to_string());
    for number in 0..NAMESPACES {
        cluster.namespace(&namespace(number));
    }
    fs::create_dir_all(FILES).unwrap();
    fs::write(COMMON, "for all").unwrap();
    for number in 0..PODS {
        fs::write(own(number), "its own").unwrap();
        let (path, text) = pod(number, &format!("app-{number}"));
        cluster.apply(&path, &text);
        for (path, text) in [
            policy(number, "file", &[&own(number)]),
            policy(number, "process", &[]),
        ] {
            cluster.apply(&path, &text);
        }
    }
    let simulated: Vec<_> = (0..PODS).map(Simulated::start).collect();

    let before = used();
    let config = format!("kubernetes: {{kubeconfig: {FOR_AGENT}, node: {NODE}}}");
    let mut agent = Agent::start(&config);
    let resident = |agent: &Agent| kib(&format!("/proc/{}/status", agent.pid()), "VmRSS:");
    say(&format!("FIGURE agent alone: {} KiB", resident(&agent)));
    let took: Vec<_> = simulated.iter().map(Simulated::announce).collect();
    figures("a container announced, until its rules are in force", took);
    for (at, it) in simulated.iter().enumerate() {
        it.wait_until(&own(at), true);
        assert!(!it.is_denied(&own((at + 1) % PODS)), "{at}: of another pod");
    }
    say(&format!(
        "FIGURE with all: agent {} KiB, machine {} KiB more than before",
        resident(&agent),
        used().saturating_sub(before)
    ));

    let step = PODS / CHANGES;
    let changed = simulated.iter().step_by(step);
    let took = changed.clone().map(|it| {
        let (path, text) = policy(it.pod, "file", &[&own(it.pod), COMMON]);
        cluster.apply(&path, &text);
        let began = Instant::now();
        it.wait_until(COMMON, true);
        began.elapsed()
    });
    figures("a policy changed, until it is in force", took.collect());
    let took = changed.clone().map(|it| {
        let (path, text) = pod(it.pod, "another");
        cluster.apply(&path, &text);
        let began = Instant::now();
        it.wait_until(&own(it.pod), false);
        began.elapsed()
    });
    figures(
        "a pod's label changed, until its rules are gone",
        took.collect(),
    );

    // Every pod's ruleset is another one afterwards.
    let names: Vec<_> = (0..NAMESPACES).map(namespace).collect();
    let wide = format!(
        "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorClusterPolicy\nmetadata: {{name: crowd}}\n\
         spec:\n  selector: {{matchExpressions: [{{key: namespace, operator: In, values: [{}]}}]}}\n  \
         file: {{matchPaths: [{{path: {COMMON}}}]}}\n",
        names.join(", ")
    );
    let path = format!("{POLICIES}/kubearmorclusterpolicies/crowd");
    let held = cluster.hold(&path, &wide);
    let began = Instant::now();
    // Looking takes time as well: those of which it is known are not asked again.
    for it in simulated.iter().skip(1).step_by(step) {
        it.wait_until(COMMON, true);
    }
    say(&format!(
        "FIGURE a policy for all pods, until {CHANGES} of them have it: {} ms",
        began.elapsed().as_millis()
    ));
    for it in &simulated {
        it.wait_until(COMMON, true);
    }
    say(&format!(
        "FIGURE at the end: agent {} KiB",
        resident(&agent)
    ));
    drop(held);
    let any = simulated.iter().skip(1).step_by(step);
    for it in any {
        it.wait_until(COMMON, false);
    }
    assert!(agent.is_running());
}
