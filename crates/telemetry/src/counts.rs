// SPDX-License-Identifier: Apache-2.0
//! How many events there were of which sort, for metrics.
//!
//! INVARIANT: names of policies come from policies, and yet there is a limit to how many are counted
//! apart: what comes above it is counted together, under a name that no policy can have.

use crate::convert;
use gorget_model::{Event, Workload};
use std::collections::BTreeMap;

/// Policies that are counted apart.
const MAX_POLICIES: usize = 1_000;

/// Where all others are counted.
pub const OTHER_POLICIES: &str = "(others)";

/// Workloads that are counted apart, those that are gone included.
const MAX_WORKLOADS: usize = 1_000;

/// Alerts of one policy with the same action, operation and result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertCount {
    /// Name of the policy.
    pub policy: String,
    /// As in the alert.
    pub action: &'static str,
    /// As in the alert.
    pub operation: &'static str,
    /// As in the alert.
    pub result: &'static str,
    /// How many.
    pub count: u64,
}

/// Everything that was published.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Alerts, by policy.
    pub alerts: Vec<AlertCount>,
    /// Logs, by operation.
    pub logs: Vec<(&'static str, u64)>,
    /// Messages of the agent.
    pub messages: u64,
    /// Alerts and logs, by workload.
    pub workloads: Vec<WorkloadCount>,
}

/// What was told of one workload, or of all of the same names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkloadCount {
    /// Empty for the host, and for a container without one.
    pub namespace: String,
    /// Empty where there is none.
    pub pod: String,
    /// Of the container or the host.
    pub name: String,
    /// How many alerts.
    pub alerts: u64,
    /// How many logs.
    pub logs: u64,
}

type Sorts = BTreeMap<(&'static str, &'static str, &'static str), u64>;

#[derive(Debug, Default)]
pub(crate) struct Counts {
    alerts: BTreeMap<String, Sorts>,
    logs: BTreeMap<&'static str, u64>,
    messages: u64,
    workloads: BTreeMap<Named, (u64, u64)>,
}

/// Namespace, pod and name of a workload.
type Named = (String, String, String);

fn named(workload: &Workload) -> Named {
    match workload {
        Workload::Host(host) => (String::new(), String::new(), host.name.clone()),
        Workload::Container(container) => (
            container.namespace.clone().unwrap_or_default(),
            container.pod.clone().unwrap_or_default(),
            container.name.clone(),
        ),
    }
}

impl Counts {
    pub(crate) fn count(&mut self, event: &Event) {
        match event {
            Event::Alert(alert) => self.of(&alert.workload).0 += 1,
            Event::Log(log) => self.of(&log.workload).1 += 1,
            Event::Message(_) | Event::Threshold(_) => {}
        }
        match event {
            Event::Alert(alert) => {
                let sort = (
                    convert::action(alert.action),
                    convert::operation(alert.category),
                    alert.result,
                );
                let name = alert.policy.name.as_str();
                if let Some(sorts) = self.alerts.get_mut(name) {
                    *sorts.entry(sort).or_default() += 1;
                    return;
                }
                let name = match self.alerts.len() < MAX_POLICIES {
                    true => name,
                    false => OTHER_POLICIES,
                };
                let sorts = self.alerts.entry(name.to_owned()).or_default();
                *sorts.entry(sort).or_default() += 1;
            }
            Event::Log(log) => {
                let operation = convert::operation(log.category);
                *self.logs.entry(operation).or_default() += 1;
            }
            Event::Message(_) => self.messages += 1,
            // What it stands for is counted where it was not told.
            Event::Threshold(_) => {}
        }
    }

    /// Alerts and logs of a workload.
    fn of(&mut self, workload: &Workload) -> &mut (u64, u64) {
        let mut name = named(workload);
        if self.workloads.len() >= MAX_WORKLOADS && !self.workloads.contains_key(&name) {
            name = (String::new(), String::new(), OTHER_POLICIES.to_owned());
        }
        self.workloads.entry(name).or_default()
    }

    pub(crate) fn counted(&self) -> Counted {
        let alerts = self.alerts.iter().flat_map(|(policy, sorts)| {
            sorts
                .iter()
                .map(|(&(action, operation, result), &count)| AlertCount {
                    policy: policy.clone(),
                    action,
                    operation,
                    result,
                    count,
                })
        });
        Counted {
            alerts: alerts.collect(),
            logs: self
                .logs
                .iter()
                .map(|(name, count)| (*name, *count))
                .collect(),
            messages: self.messages,
            workloads: self
                .workloads
                .iter()
                .map(|((namespace, pod, name), &(alerts, logs))| WorkloadCount {
                    namespace: namespace.clone(),
                    pod: pod.clone(),
                    name: name.clone(),
                    alerts,
                    logs,
                })
                .collect(),
        }
    }
}
