// SPDX-License-Identifier: Apache-2.0
//! How many events there were of which sort, for metrics.
//!
//! INVARIANT: names of policies come from policies, and yet there is a limit to how many are counted
//! apart: what comes above it is counted together, under a name that no policy can have.

use crate::convert;
use gorget_model::Event;
use std::collections::BTreeMap;

/// Policies that are counted apart.
const MAX_POLICIES: usize = 1_000;

/// Where all others are counted.
pub const OTHER_POLICIES: &str = "(others)";

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
}

type Sorts = BTreeMap<(&'static str, &'static str, &'static str), u64>;

#[derive(Debug, Default)]
pub(crate) struct Counts {
    alerts: BTreeMap<String, Sorts>,
    logs: BTreeMap<&'static str, u64>,
    messages: u64,
}

impl Counts {
    pub(crate) fn count(&mut self, event: &Event) {
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
        }
    }
}
