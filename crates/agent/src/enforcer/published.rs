// SPDX-License-Identifier: Apache-2.0
//! What is in force, for everybody who asks: one value, replaced as a whole when something changed.

use super::{Bound, Enforcer};
use gorget_bpf::{Measured, WorkloadIndex};
use gorget_model::{Mode, Visibility, Workload};
use gorget_policy::Policy;
use gorget_telemetry::proto::v1;
use std::sync::Arc;
use tokio::sync::watch;

/// What backends are called.
pub(crate) const BPF: &str = "bpf";
pub(crate) const APPARMOR: &str = "apparmor";
pub(crate) const AUDIT_ONLY: &str = "audit-only";

/// Where the enforcer says what is in force.
#[derive(Debug)]
pub(crate) struct Published {
    /// What does not change while the agent runs.
    about: v1::AgentStatus,
    told: watch::Sender<Arc<v1::AgentStatus>>,
    /// What can be measured of that.
    measured: watch::Sender<Arc<Measured>>,
    /// Something may have changed since it was told.
    pub(super) changed: bool,
}

impl Published {
    /// Until the enforcer knows more, `about` is what is told.
    pub(crate) fn new(about: v1::AgentStatus) -> (Self, watch::Receiver<Arc<v1::AgentStatus>>) {
        let (told, seen) = watch::channel(Arc::new(about.clone()));
        let published = Self {
            about,
            told,
            measured: watch::Sender::default(),
            changed: true,
        };
        (published, seen)
    }

    /// What can be measured, now and later.
    pub(crate) fn measured(&self) -> watch::Receiver<Arc<Measured>> {
        self.measured.subscribe()
    }
}

/// The name of a policy, with everything that tells it from others.
pub(crate) fn named(policy: &Policy) -> v1::PolicyName {
    v1::PolicyName {
        kind: policy.kind.name().to_owned(),
        namespace: policy.namespace.clone().unwrap_or_default(),
        name: policy.name.clone(),
    }
}

fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Enforced => "enforced",
        Mode::Audited => "audited",
        Mode::Disabled => "disabled",
    }
}

fn names(visible: Visibility) -> Vec<String> {
    visible.names().map(str::to_owned).collect()
}

impl Enforcer {
    /// Says what is in force, if that may have changed.
    pub(super) fn publish(&mut self) {
        if !std::mem::take(&mut self.published.changed) {
            return;
        }
        let host = self.bound.get(&WorkloadIndex::HOST);
        let containers = self
            .bound
            .iter()
            .filter(|(index, _)| **index != WorkloadIndex::HOST);
        let mut workloads: Vec<_> = containers.map(|(_, bound)| self.told(bound)).collect();
        workloads.sort_by(|a, b| {
            let key = |it: &v1::Workload| (it.namespace.clone(), it.name.clone(), it.id.clone());
            key(a).cmp(&key(b))
        });
        let left_out = self.kernel.left_out().iter().map(|hook| v1::LeftOut {
            hook: hook.name.to_owned(),
            instead: hook.instead.to_owned(),
        });
        let losses = self.kernel.all_losses().map(|loss| v1::Loss {
            stage: loss.stage.name().to_owned(),
            count: loss.count,
        });
        let status = v1::AgentStatus {
            hooks: self.kernel.hooks().map(str::to_owned).collect(),
            left_out: left_out.collect(),
            host: host.map(|bound| self.told(bound)),
            workloads,
            losses: losses.collect(),
            runtimes: self.runtimes.values().cloned().collect(),
            starts: Some(self.lateness.told()),
            calls_trouble: self.calls_trouble.clone(),
            container_visibility: names(self.visible.defaults.containers),
            host_visibility: names(self.visible.defaults.host),
            ..self.published.about.clone()
        };
        self.published.told.send_replace(Arc::new(status));
        let measured = Arc::new(self.kernel.measured());
        self.published.measured.send_replace(measured);
    }

    fn told(&self, bound: &Bound) -> v1::Workload {
        let (backend, remark) = self.backend(bound);
        let told = v1::Workload {
            backend: backend.to_owned(),
            remark,
            policies: bound.policies.clone(),
            not_in_force: bound.failed.clone().unwrap_or_default(),
            pid: bound.pid,
            mode: mode_name(bound.treatment.mode(self.mode)).to_owned(),
            wanted: bound.wanted.clone(),
            ..v1::Workload::default()
        };
        match &*bound.workload {
            Workload::Host(host) => v1::Workload {
                name: host.name.clone(),
                labels: host.labels.clone(),
                ..told
            },
            Workload::Container(container) => v1::Workload {
                id: container.id.clone(),
                name: container.name.clone(),
                namespace: container.namespace.clone().unwrap_or_default(),
                pod: container.pod.clone().unwrap_or_default(),
                image: container.image.clone(),
                labels: container.labels.clone(),
                owner: container
                    .owner
                    .as_ref()
                    .map(|owner| format!("{}/{}", owner.kind, owner.name))
                    .unwrap_or_default(),
                ..told
            },
        }
    }

    /// What denies in a workload, and why it is not what denies elsewhere on this machine.
    fn backend(&self, bound: &Bound) -> (&'static str, String) {
        if bound.treatment.mode != Mode::Enforced {
            let why = match bound.treatment.mode {
                Mode::Disabled => "its policies are disabled, or its namespace is not tracked",
                Mode::Audited | Mode::Enforced => "its policies are to be audited only",
            };
            return (AUDIT_ONLY, why.to_owned());
        }
        if !bound.treatment.is_known && self.mode == Mode::Enforced {
            let why = "the labels of its pod are not known yet";
            return (BPF, why.to_owned());
        }
        match (self.mode, &self.apparmor, &*bound.workload) {
            (Mode::Enforced, _, _) => (BPF, String::new()),
            (Mode::Audited | Mode::Disabled, None, _) => (AUDIT_ONLY, String::new()),
            (_, Some(_), Workload::Host(_)) => {
                let why = "AppArmor does not confine the host";
                (AUDIT_ONLY, why.to_owned())
            }
            (_, Some(_), Workload::Container(_)) if bound.confined => (APPARMOR, String::new()),
            (_, Some(_), Workload::Container(_)) if bound.policies.is_empty() => {
                (AUDIT_ONLY, String::new())
            }
            (_, Some(_), Workload::Container(container)) => {
                let why = format!(
                    "it does not run in a loaded profile `kubearmor_{}`",
                    container.name
                );
                (AUDIT_ONLY, why)
            }
        }
    }

    /// A runtime is there, in some version, or not, for a reason.
    pub(super) fn runtime(&mut self, name: String, there: Result<String, String>) {
        let known = self.runtimes.entry(name.clone()).or_default();
        known.name = name;
        known.connected = there.is_ok();
        known.error.clear();
        match there {
            Ok(version) => known.version = version,
            Err(reason) => known.error = reason,
        }
    }
}
