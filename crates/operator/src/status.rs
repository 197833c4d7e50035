// SPDX-License-Identifier: Apache-2.0
//! What became of a policy on all nodes, in a few conditions: [`aggregate`].
//!
//! A function of the policy, of what is wrong with it, and of what agents said last. Each agent says for
//! each policy which version is in force, and what is missing; here that is counted. Agents are heard by
//! `observe`, statuses are written by `write`.
//!
//! - `Accepted`: whether the policy can be put in force anywhere.
//! - `Enforced`: on how many nodes this version of it is in force, as it is written. It counts for a node that
//!   has no workload for it now, too: the next one gets it.
//! - `Degraded`: what is missing, and where.
//!
//! INVARIANT: conditions say nothing that changes with every pod, so that they are written when
//! something became of the policy, and not when workloads came or went.

pub(crate) mod observe;
mod render;
pub(crate) mod write;

use crate::admission::Judged;
use gorget_engine::Backend;
use gorget_k8s::{Key, PolicyKey, PolicyObject, PolicyResource};
use gorget_telemetry::proto::v1;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Reasons and nodes that are listed in one condition, and how long it is at most.
const MOST_REASONS: usize = 5;
const MOST_NODES: usize = 3;
const MOST_MESSAGE: usize = 1_024;

/// What agents said last, by node; none: nothing that is still to be believed.
pub(crate) type Nodes = BTreeMap<String, Option<Arc<Digest>>>;

/// What an agent says of the cluster's policies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Digest {
    /// Of the agent.
    version: String,
    backend: String,
    in_force: BTreeMap<PolicyKey, InForce>,
    refused: BTreeMap<PolicyKey, Refusal>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct InForce {
    version: Version,
    /// What is missing; empty: nothing.
    reasons: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Refusal {
    version: Version,
    problems: Vec<String>,
    is_earlier_in_force: bool,
}

/// Which of all policies that were ever called so, and of it the how manyth version.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Version {
    uid: String,
    generation: i64,
}

/// What a policy's status is to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// For who looks at one column.
    pub(crate) word: &'static str,
    pub(crate) generation: i64,
    pub(crate) conditions: [Condition; 3],
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Condition {
    pub(crate) kind: &'static str,
    pub(crate) status: Truth,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Truth {
    True,
    False,
    Unknown,
}

impl Digest {
    pub(crate) fn of(status: v1::AgentStatus) -> Self {
        let of_cluster = status.policies.into_iter().filter_map(|state| {
            let key = key(state.policy?)?;
            let version = Version {
                uid: state.uid,
                generation: state.generation,
            };
            let mut reasons = state.reasons;
            if reasons.is_empty() && state.state != "enforced" {
                reasons.push(format!("it is `{}`", state.state));
            }
            let is_of_cluster = state.origin == "cluster";
            is_of_cluster.then_some((key, InForce { version, reasons }))
        });
        let refused = status.refused.into_iter().filter_map(|refused| {
            let version = Version {
                uid: refused.uid,
                generation: refused.generation,
            };
            let refusal = Refusal {
                version,
                problems: refused.problems,
                is_earlier_in_force: refused.last_good_in_force,
            };
            Some((key(refused.policy?)?, refusal))
        });
        Self {
            version: status.version,
            backend: status.backend,
            in_force: of_cluster.collect(),
            refused: refused.collect(),
        }
    }

    /// Of the agent, such as `0.1.0`.
    pub(crate) fn agent_version(&self) -> &str {
        &self.version
    }

    /// `bpf`, `apparmor` or `audit-only`.
    pub(crate) fn backend(&self) -> &str {
        &self.backend
    }
}

fn key(name: v1::PolicyName) -> Option<PolicyKey> {
    let v1::PolicyName {
        kind,
        namespace,
        name,
    } = name;
    Some(PolicyKey {
        resource: PolicyResource::of_kind(&kind)?,
        key: Key { namespace, name },
    })
}

/// What enforces policies on nodes whose agents answer.
pub(crate) fn backends(nodes: &Nodes) -> BTreeSet<Backend> {
    let digests = nodes.values().flatten();
    let backends = digests.filter_map(|digest| match digest.backend.as_str() {
        "bpf" => Some(Backend::BpfLsm),
        "apparmor" => Some(Backend::AppArmor),
        // It enforces nothing, which is no property of a policy.
        _ => None,
    });
    backends.collect()
}

/// Whether all nodes are known to have AppArmor's profiles.
pub(crate) fn all_have_profiles(nodes: &Nodes) -> bool {
    let mut digests = nodes.values();
    let has =
        |digest: &Option<Arc<Digest>>| digest.as_ref().is_some_and(|it| it.backend == "apparmor");
    !nodes.is_empty() && digests.all(has)
}

/// How the nodes stand to one version of a policy.
#[derive(Default)]
struct Count<'a> {
    nodes: usize,
    enforced: usize,
    /// They do not answer.
    unknown: usize,
    /// They have not put it in force, and have not refused it either.
    pending: usize,
    /// An earlier version is in force there.
    earlier: usize,
    /// What is missing, and where.
    missing: BTreeMap<&'a str, Vec<&'a str>>,
    degraded: usize,
}

impl<'a> Count<'a> {
    fn of(policy: &PolicyObject, nodes: &'a Nodes) -> Self {
        let mut count = Self::default();
        for (node, digest) in nodes {
            count.nodes += 1;
            match digest {
                Some(digest) => count.add(policy, node, digest),
                None => count.unknown += 1,
            }
        }
        count
    }

    fn add(&mut self, policy: &PolicyObject, node: &'a str, digest: &'a Digest) {
        let is_this = |version: &Version| {
            version.uid == policy.uid && version.generation == policy.generation
        };
        if let Some(refusal) = digest.refused.get(&policy.name)
            && is_this(&refusal.version)
        {
            self.degraded += 1;
            self.earlier += usize::from(refusal.is_earlier_in_force);
            for problem in &refusal.problems {
                self.missing.entry(problem).or_default().push(node);
            }
            return;
        }
        match digest.in_force.get(&policy.name) {
            Some(it) if !is_this(&it.version) => {
                self.pending += 1;
                self.earlier += usize::from(it.version.uid == policy.uid);
            }
            None => self.pending += 1,
            Some(it) if it.reasons.is_empty() => self.enforced += 1,
            Some(it) => {
                self.degraded += 1;
                for reason in &it.reasons {
                    self.missing.entry(reason).or_default().push(node);
                }
            }
        }
    }
}

/// What the policy's status is to say. `judged`: what is wrong with it wherever it is.
pub(crate) fn aggregate(policy: &PolicyObject, judged: &Judged, nodes: &Nodes) -> Wanted {
    let count = Count::of(policy, nodes);
    let is_accepted = judged.errors.is_empty();
    let accepted = match is_accepted {
        true => condition("Accepted", Truth::True, "Valid", String::new()),
        false => condition("Accepted", Truth::False, "Invalid", cut(judged.message())),
    };
    let enforced = match (is_accepted, judged.idle) {
        (true, None) => enforced(&count),
        (true, Some(why)) => condition("Enforced", Truth::False, "NotEnforced", why.to_owned()),
        (false, _) => condition("Enforced", Truth::False, "NotAccepted", earlier(&count)),
    };
    let message = match (is_accepted, judged.idle, count.degraded) {
        (false, _, _) | (true, None, 0) => None,
        (true, Some(why), _) => Some(why.to_owned()),
        (true, None, _) => Some(missing(&count)),
    };
    let degraded = match message {
        Some(message) => condition("Degraded", Truth::True, "NotAsWritten", message),
        None => condition("Degraded", Truth::False, "AsWritten", String::new()),
    };
    let word = match (is_accepted, degraded.status, enforced.status) {
        (false, _, _) => "Refused",
        (true, Truth::True, _) => "Degraded",
        (true, _, Truth::True) => "Enforced",
        (true, _, Truth::False) => "Pending",
        (true, _, Truth::Unknown) => "Unknown",
    };
    Wanted {
        word,
        generation: policy.generation,
        conditions: [accepted, enforced, degraded],
    }
}

fn condition(
    kind: &'static str,
    status: Truth,
    reason: &'static str,
    message: String,
) -> Condition {
    Condition {
        kind,
        status,
        reason,
        message,
    }
}

fn enforced(count: &Count<'_>) -> Condition {
    let Count {
        nodes,
        enforced,
        unknown,
        pending,
        earlier: _,
        missing: _,
        degraded,
    } = count;
    let kind = "Enforced";
    if *nodes == 0 {
        let message = "there are no agents".to_owned();
        return condition(kind, Truth::Unknown, "NoAgents", message);
    }
    let mut parts = vec![format!("{enforced} of {nodes} nodes")];
    if *degraded > 0 {
        parts.push(format!("{degraded} not as it is written"));
    }
    if *pending > 0 {
        parts.push(format!("{pending} not yet"));
    }
    if *unknown > 0 {
        parts.push(format!(
            "{unknown} not known, because the agent does not answer"
        ));
    }
    let (status, reason) = match (degraded, pending, unknown) {
        (0, 0, 0) => (Truth::True, "Enforced"),
        (0, 0, _) => (Truth::Unknown, "NoAnswer"),
        (0, _, _) => (Truth::False, "Pending"),
        (_, _, _) => (Truth::False, "Degraded"),
    };
    condition(kind, status, reason, parts.join("; "))
}

fn earlier(count: &Count<'_>) -> String {
    match count.earlier {
        0 => "no version is known to be in force".to_owned(),
        nodes => format!(
            "an earlier version is in force on {nodes} of {} nodes",
            count.nodes
        ),
    }
}

/// What is missing where most nodes miss it first.
fn missing(count: &Count<'_>) -> String {
    let mut reasons: Vec<_> = count.missing.iter().collect();
    reasons.sort_by_key(|(reason, nodes)| (std::cmp::Reverse(nodes.len()), **reason));
    let listed = reasons.iter().take(MOST_REASONS).map(|(reason, nodes)| {
        let shown: Vec<_> = nodes.iter().take(MOST_NODES).copied().collect();
        let more = match nodes.len().saturating_sub(MOST_NODES) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!("{reason} (on {}{more})", shown.join(", "))
    });
    let mut listed: Vec<_> = listed.collect();
    let more = reasons.len().saturating_sub(MOST_REASONS);
    if more > 0 {
        listed.push(format!("{more} more reasons"));
    }
    cut(listed.join("; "))
}

fn cut(message: String) -> String {
    if message.chars().count() <= MOST_MESSAGE {
        return message;
    }
    let mut shown: String = message.chars().take(MOST_MESSAGE - 1).collect();
    shown.push('…');
    shown
}

#[cfg(test)]
mod tests;
