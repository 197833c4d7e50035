// SPDX-License-Identifier: Apache-2.0
//! What the agent says of itself when it is asked: put together from what the enforcer publishes, what
//! is known of policies, and who follows the feed.
//!
//! Nothing is worked out here that decides anything, and nobody who enforces waits for who asks.

use crate::clock;
use crate::config::{Config, OnStop, SelfProtection};
use crate::costs::Costs;
use crate::enforcer::{APPARMOR, AUDIT_ONLY, BPF};
use crate::outputs::Outputs;
use crate::sources::Told;
use gorget_bpf::{Programs, Protection};
use gorget_model::{LossStage, Node, Posture, Postures};
use gorget_telemetry::proto::policy::{
    ContainerData, HostSecurityPolicies, Policy as Document, ProbeResponse,
};
use gorget_telemetry::proto::v1;
use gorget_telemetry::status::Asked;
use gorget_telemetry::{Feeder, Metrics, Services};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{mpsc, watch};

/// Questions that may wait; whoever asks more waits to ask.
pub(crate) const QUESTIONS: usize = 16;

/// Files of policies that are larger are not read again for who asks.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// Everything that there is to ask.
#[derive(Clone, Debug)]
pub(crate) struct About {
    pub(crate) in_force: watch::Receiver<Arc<v1::AgentStatus>>,
    pub(crate) policies: watch::Receiver<Arc<Told>>,
    /// Absent when no cluster is followed.
    pub(crate) cluster: watch::Receiver<Option<v1::Cluster>>,
    pub(crate) feeder: Feeder,
    pub(crate) outputs: Outputs,
    pub(crate) lost: Arc<Unheard>,
    pub(crate) costs: Costs,
    /// When the agent started, in nanoseconds since boot.
    pub(crate) started_ns: u64,
}

/// Reports of the kernel that were not told one by one.
#[derive(Debug, Default)]
pub(crate) struct Unheard {
    /// They could not be read.
    pub(crate) undecodable: AtomicU64,
    /// They were only counted (`throttle`).
    pub(crate) throttled: AtomicU64,
}

impl Unheard {
    fn losses(&self) -> [v1::Loss; 2] {
        let undecodable = LossStage::Undecodable.name();
        [
            (undecodable, &self.undecodable),
            ("throttled", &self.throttled),
        ]
        .map(|(stage, count)| v1::Loss {
            stage: stage.to_owned(),
            count: count.load(Ordering::Relaxed),
        })
    }
}

/// What does not change while the agent runs.
pub(crate) fn fixed(
    config: &Config,
    node: &Node,
    programs: Programs,
    has_profiles: bool,
) -> v1::AgentStatus {
    let backend = match programs {
        Programs::Enforcing => BPF,
        Programs::AuditOnly if has_profiles => APPARMOR,
        Programs::AuditOnly => AUDIT_ONLY,
    };
    let protection = match (programs, config.protection) {
        (Programs::Enforcing, Protection::Deny) => SelfProtection::Block,
        (Programs::Enforcing | Programs::AuditOnly, _) => SelfProtection::Audit,
    };
    v1::AgentStatus {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        node: Some(v1::Node {
            cluster: node.cluster.clone(),
            host: node.host.clone(),
            id: node.id.clone(),
            kernel: rustix::system::uname()
                .release()
                .to_string_lossy()
                .into_owned(),
            labels: config.node_labels.clone(),
        }),
        started_unix_micros: clock::unix_micros(),
        backend: backend.to_owned(),
        container_postures: Some(postures(&config.postures, false)),
        host_postures: Some(postures(&config.host_postures, true)),
        self_protection: match protection {
            SelfProtection::Block => "block",
            SelfProtection::Audit => "audit",
        }
        .to_owned(),
        on_stop: match config.on_stop {
            OnStop::Keep => "keep",
            OnStop::Detach => "detach",
        }
        .to_owned(),
        ..v1::AgentStatus::default()
    }
}

fn postures(postures: &Postures, has_devices: bool) -> v1::Postures {
    let word = |posture| {
        match posture {
            Posture::Allow => "allow",
            Posture::Audit => "audit",
            Posture::Block => "block",
        }
        .to_owned()
    };
    let Postures {
        file,
        network,
        capabilities,
        device,
    } = *postures;
    v1::Postures {
        file: word(file),
        network: word(network),
        capabilities: word(capabilities),
        device: match has_devices {
            true => word(device),
            false => String::new(),
        },
    }
}

impl About {
    /// Everything, now.
    pub(crate) fn now(&self) -> v1::AgentStatus {
        let in_force = Arc::clone(&self.in_force.borrow());
        let told = Arc::clone(&self.policies.borrow());
        let users = users(&in_force);
        let policies = told.policies.iter().map(|state| {
            let name = state.policy.clone().unwrap_or_default();
            let reasons = reasons(&in_force, state, &name);
            let word = match reasons.is_empty() {
                true => "enforced",
                false => "degraded",
            };
            v1::PolicyState {
                workloads: users.get(&key(&name)).copied().unwrap_or(0),
                state: word.to_owned(),
                reasons,
                ..state.clone()
            }
        });
        let followers = self.feeder.followers().into_iter();
        let clients = followers.map(|follower| v1::FeedClient {
            name: follower.name,
            queued: wide(follower.queued),
            capacity: wide(follower.capacity),
            lost: follower.lost,
        });
        let since = clock::boot_ns().saturating_sub(self.started_ns);
        let losses = in_force.losses.iter().cloned();
        v1::AgentStatus {
            losses: losses.chain(self.lost.losses()).collect(),
            uptime_seconds: since / 1_000_000_000,
            policies: policies.collect(),
            refused: told.refused.clone(),
            health: Some(self.health()),
            clients: clients.collect(),
            outputs: self.outputs.told(),
            resident_bytes: resident_bytes().unwrap_or(0),
            cluster: self.cluster.borrow().clone(),
            ..v1::AgentStatus::clone(&in_force)
        }
    }

    /// Everything that is measured, now.
    pub(crate) fn metrics(&self) -> Metrics {
        let (counted, lost) = (self.feeder.counted(), self.feeder.lost());
        Metrics::new(&self.now(), &counted, lost).with_costs(&self.costs.now())
    }

    /// The machine, for those who say where events come from.
    pub(crate) fn node(&self) -> Arc<Node> {
        let node = self.in_force.borrow().node.clone().unwrap_or_default();
        Arc::new(Node {
            cluster: node.cluster,
            host: node.host,
            id: node.id,
        })
    }

    /// What is not as it should be.
    fn health(&self) -> v1::Health {
        let in_force = Arc::clone(&self.in_force.borrow());
        let told = Arc::clone(&self.policies.borrow());
        let mut problems = Vec::new();
        let workloads = in_force.host.iter().chain(&in_force.workloads);
        for workload in workloads.filter(|it| !it.not_in_force.is_empty()) {
            let (name, why) = (&workload.name, &workload.not_in_force);
            problems.push(format!("new rules for `{name}` are not in force: {why}"));
        }
        if !in_force.calls_trouble.is_empty() {
            let why = &in_force.calls_trouble;
            problems.push(format!("rules about system calls tell nothing: {why}"));
        }
        for refused in &told.refused {
            let first = refused.problems.first().map_or("", String::as_str);
            let file = &refused.file;
            problems.push(format!(
                "`{file}` is not in force as it is written: {first}"
            ));
        }
        let cluster = self.cluster.borrow().clone().unwrap_or_default();
        for trouble in &cluster.troubles {
            problems.push(format!("the cluster: {trouble}"));
        }
        for runtime in in_force.runtimes.iter().filter(|it| !it.connected) {
            let (name, why) = (&runtime.name, &runtime.error);
            problems.push(format!("{name} cannot be reached: {why}"));
        }
        for output in self.outputs.told().iter().filter(|it| !it.error.is_empty()) {
            let (kind, target, why) = (&output.kind, &output.target, &output.error);
            problems.push(format!("output {kind} to `{target}`: {why}"));
        }
        v1::Health {
            healthy: problems.is_empty(),
            problems,
        }
    }

    /// COMPAT: what `karmor probe` shows.
    fn probe(&self) -> ProbeResponse {
        let in_force = Arc::clone(&self.in_force.borrow());
        let told = Arc::clone(&self.policies.borrow());
        let mut files = Documents::default();
        let of_cluster = |name: &v1::PolicyName| {
            let mut texts = told.texts.iter();
            let found = texts.find(|(of, _)| of == name);
            found.map(|(_, text)| Document {
                policy: text.clone().into_bytes(),
            })
        };
        let mut documents = |policies: &[v1::PolicyName]| -> Vec<Document> {
            let all = policies.iter();
            all.filter_map(|name| {
                let of_file = files.find(&told.policies, name);
                of_file.or_else(|| of_cluster(name))
            })
            .collect()
        };
        let names = |policies: &[v1::PolicyName]| -> Vec<String> {
            policies.iter().map(|policy| policy.name.clone()).collect()
        };
        let containers = in_force.workloads.iter();
        let container_map = containers.map(|workload| {
            let data = ContainerData {
                policy_list: names(&workload.policies),
                policy_enabled: 1,
                policy_data_list: documents(&workload.policies),
            };
            (workload.name.clone(), data)
        });
        let container_map = container_map.collect();
        let hosts = in_force.host.iter().filter(|it| !it.policies.is_empty());
        let host_map = hosts.map(|host| {
            let data = HostSecurityPolicies {
                policy_list: names(&host.policies),
                policy_data_list: documents(&host.policies),
            };
            (host.name.clone(), data)
        });
        ProbeResponse {
            container_list: in_force
                .workloads
                .iter()
                .map(|it| it.name.clone())
                .collect(),
            container_map,
            host_map: host_map.collect(),
        }
    }

    /// Answers, and keeps the health service true, for as long as the agent runs.
    pub(crate) async fn answer(mut self, mut asked: mpsc::Receiver<Asked>, services: Services) {
        loop {
            services.set_enforcement(self.health().healthy).await;
            let costs = self.costs.clone();
            let (in_force, policies) = (&mut self.in_force, &mut self.policies);
            let cluster = &mut self.cluster;
            tokio::select! {
                Some(asked) = asked.recv() => self.answer_one(asked),
                () = costs.over() => {}
                Ok(()) = in_force.changed() => {}
                Ok(()) = policies.changed() => {}
                Ok(()) = cluster.changed() => {}
                else => break,
            }
        }
        // Everybody else ended, and so will this.
        std::future::pending::<()>().await;
    }

    /// Whoever asked may have stopped waiting.
    fn answer_one(&self, asked: Asked) {
        match asked {
            Asked::Status(answer) => drop(answer.send(self.now())),
            Asked::Costs(request, answer) => {
                drop(answer.send(self.costs.answer(&request, &self.feeder)));
            }
            Asked::Probe(answer) => drop(answer.send(self.probe())),
        }
    }
}

/// Why a policy does not do all that it says, one line each.
fn reasons(
    in_force: &v1::AgentStatus,
    state: &v1::PolicyState,
    name: &v1::PolicyName,
) -> Vec<String> {
    let mut reasons = Vec::new();
    if in_force.backend == AUDIT_ONLY {
        reasons.push("this node only audits: nothing is denied".to_owned());
    }
    for limit in &state.limits {
        let v1::Limit {
            what,
            count,
            reason,
            line: _,
        } = limit;
        reasons.push(format!("not enforced: {what} ({count}): {reason}"));
    }
    let workloads = in_force.host.iter().chain(&in_force.workloads);
    for workload in workloads.filter(|it| it.wanted.contains(name)) {
        let (of, why) = (&workload.name, &workload.not_in_force);
        reasons.push(format!("not in force for `{of}`: {why}"));
    }
    reasons
}

/// For how many workloads each policy is in force.
fn users(in_force: &v1::AgentStatus) -> BTreeMap<(String, String, String), u32> {
    let mut users = BTreeMap::new();
    let workloads = in_force.host.iter().chain(&in_force.workloads);
    for policy in workloads.flat_map(|workload| &workload.policies) {
        *users.entry(key(policy)).or_default() += 1;
    }
    users
}

fn key(name: &v1::PolicyName) -> (String, String, String) {
    let v1::PolicyName {
        kind,
        namespace,
        name,
    } = name.clone();
    (kind, namespace, name)
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// Policies as they are written, each file read once.
#[derive(Default)]
struct Documents {
    files: BTreeMap<String, Vec<Value>>,
}

impl Documents {
    /// A policy as JSON. None when its file cannot be read any more, or says something else by now.
    fn find(&mut self, known: &[v1::PolicyState], name: &v1::PolicyName) -> Option<Document> {
        let state = known.iter().find(|it| it.policy.as_ref() == Some(name))?;
        let documents = self
            .files
            .entry(state.file.clone())
            .or_insert_with(|| read(&state.file).unwrap_or_default());
        let text = |document: &Value, path: &str| {
            let value = document.pointer(path).and_then(Value::as_str);
            value.unwrap_or_default().to_owned()
        };
        let found = documents.iter().find(|document| {
            let namespace = text(document, "/metadata/namespace");
            text(document, "/kind") == name.kind
                && text(document, "/metadata/name") == name.name
                && (name.namespace.is_empty() || namespace == name.namespace)
        });
        found.map(|document| Document {
            policy: document.to_string().into_bytes(),
        })
    }
}

fn read(file: &str) -> Option<Vec<Value>> {
    let bytes = fs::metadata(file).ok()?.len();
    let text = (bytes <= MAX_FILE_BYTES).then(|| fs::read_to_string(file));
    serde_saphyr::from_multiple(&text?.ok()?).ok()
}

/// `VmRSS:  12345 kB`.
fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(kind: &str, name: &str) -> v1::PolicyName {
        v1::PolicyName {
            kind: kind.to_owned(),
            namespace: String::new(),
            name: name.to_owned(),
        }
    }

    fn about(in_force: v1::AgentStatus, told: Told) -> About {
        About {
            in_force: watch::channel(Arc::new(in_force)).1,
            policies: watch::channel(Arc::new(told)).1,
            cluster: watch::channel(None).1,
            feeder: Feeder::new(),
            outputs: Outputs::default(),
            lost: Arc::default(),
            costs: Costs::new(watch::channel(Arc::default()).1),
            started_ns: 0,
        }
    }

    fn workload(id: &str, policies: &[v1::PolicyName]) -> v1::Workload {
        v1::Workload {
            id: id.to_owned(),
            name: format!("name-{id}"),
            policies: policies.to_vec(),
            ..v1::Workload::default()
        }
    }

    #[test]
    fn policies_are_counted_where_they_are_in_force_and_clients_are_listed() {
        let (one, two) = (
            name("KubeArmorPolicy", "one"),
            name("KubeArmorPolicy", "two"),
        );
        let in_force = v1::AgentStatus {
            workloads: vec![
                workload("a", std::slice::from_ref(&one)),
                workload("b", &[one.clone(), two.clone()]),
            ],
            ..v1::AgentStatus::default()
        };
        let state = |policy| v1::PolicyState {
            policy: Some(policy),
            ..v1::PolicyState::default()
        };
        let told = Told {
            policies: [one, two, name("KubeArmorPolicy", "three")]
                .map(state)
                .into(),
            refused: Vec::new(),
        };
        let about = about(in_force, told);
        let _follower = about.feeder.subscribe("stdout");
        let now = about.now();
        let counts: Vec<_> = now.policies.iter().map(|policy| policy.workloads).collect();
        assert_eq!(counts, [2, 1, 0]);
        assert_eq!(now.clients.first().unwrap().name, "stdout");
        assert!(now.health.unwrap().healthy);
        assert!(now.resident_bytes > 0);
    }

    #[test]
    fn everything_that_is_not_as_it_should_be_is_a_problem_of_its_own() {
        let mut failing = workload("a", &[]);
        failing.not_in_force = "too many states".to_owned();
        let in_force = v1::AgentStatus {
            workloads: vec![failing],
            runtimes: vec![v1::Runtime {
                name: "podman".to_owned(),
                error: "refused".to_owned(),
                ..v1::Runtime::default()
            }],
            ..v1::AgentStatus::default()
        };
        let told = Told {
            refused: vec![v1::Refused {
                file: "/p/a.yaml".to_owned(),
                problems: vec!["/p/a.yaml:3: wrong".to_owned()],
                last_good_in_force: true,
            }],
            ..Told::default()
        };
        let health = about(in_force, told).now().health.unwrap();
        assert!(!health.healthy);
        assert_eq!(
            health.problems,
            [
                "new rules for `name-a` are not in force: too many states",
                "`/p/a.yaml` is not in force as it is written: /p/a.yaml:3: wrong",
                "podman cannot be reached: refused",
            ]
        );
    }

    #[test]
    fn karmors_probe_gets_names_and_documents() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.yaml").display().to_string();
        let text = "kind: KubeArmorPolicy\nmetadata: { name: one }\n---\n\
                    kind: KubeArmorHostPolicy\nmetadata: { name: host }\n";
        fs::write(&file, text).unwrap();
        let (one, host) = (
            name("KubeArmorPolicy", "one"),
            name("KubeArmorHostPolicy", "host"),
        );
        let in_force = v1::AgentStatus {
            host: Some(v1::Workload {
                name: "node-1".to_owned(),
                ..workload("", std::slice::from_ref(&host))
            }),
            workloads: vec![
                workload("a", std::slice::from_ref(&one)),
                workload("b", &[]),
            ],
            ..v1::AgentStatus::default()
        };
        let state = |policy| v1::PolicyState {
            policy: Some(policy),
            file: file.clone(),
            ..v1::PolicyState::default()
        };
        let told = Told {
            policies: [one, host].map(state).into(),
            refused: Vec::new(),
        };
        let probe = about(in_force, told).probe();
        assert_eq!(probe.container_list, ["name-a", "name-b"]);
        let container = probe.container_map.get("name-a").unwrap();
        assert_eq!(
            (container.policy_list.as_slice(), container.policy_enabled),
            (["one".to_owned()].as_slice(), 1)
        );
        let document: Value =
            serde_json::from_slice(&container.policy_data_list[0].policy).unwrap();
        assert_eq!(document["metadata"]["name"], "one");
        assert_eq!(probe.host_map.get("node-1").unwrap().policy_list, ["host"]);
    }
}
