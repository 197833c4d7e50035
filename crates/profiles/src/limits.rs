// SPDX-License-Identifier: Apache-2.0
//! What policies ask for and a profile does not do.

use gorget_engine::{Backend, PolicySet, RuleInfo, limits};
use std::fmt;

/// Something that a profile does not do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Limit {
    /// `namespace/name` of the policy.
    pub policy: String,
    /// Where the rule is written, when it is about one.
    pub at: Option<String>,
    /// Which part of it.
    pub field: String,
    /// Why not.
    pub reason: String,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            policy,
            at,
            field,
            reason,
        } = self;
        if let Some(at) = at {
            write!(f, "{at}: ")?;
        }
        write!(f, "policy `{policy}`, {field}: {reason}")
    }
}

pub(crate) fn about(policy: &str, field: &str, reason: &str) -> Limit {
    Limit {
        policy: policy.to_owned(),
        at: None,
        field: field.to_owned(),
        reason: reason.to_owned(),
    }
}

pub(crate) fn of_rule(info: &RuleInfo, field: &str, reason: &str) -> Limit {
    let policy = match &info.namespace {
        Some(namespace) => format!("{namespace}/{}", info.policy),
        None => info.policy.clone(),
    };
    Limit {
        at: Some(info.at.to_string()),
        ..about(&policy, field, reason)
    }
}

/// What can be said of the policies alone. `native` says what is wrong with lines in AppArmor's own
/// language.
pub(crate) fn of_policies(
    set: &PolicySet,
    native: &mut dyn FnMut(&str) -> Option<&'static str>,
) -> Vec<Limit> {
    let mut all = Vec::new();
    for policy in &set.policies {
        all.extend(
            limits(Backend::AppArmor, policy)
                .into_iter()
                .map(|limit| Limit {
                    at: limit.at.map(|at| at.to_string()),
                    ..about(&limit.policy, &limit.what.to_string(), limit.reason)
                }),
        );
        if let Some(why) = native(&policy.native_apparmor) {
            all.push(about(&policy.qualified_name(), "apparmor", why));
        }
    }
    all
}
