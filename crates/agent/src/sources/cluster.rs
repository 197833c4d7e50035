// SPDX-License-Identifier: Apache-2.0
//! Policies of the cluster: what is in force of which object of the API.
//!
//! An object counts by itself. When its new version is wrong, what it said last stays in force and every
//! problem is reported, with the field's path, once for each version. An object that was deleted, or
//! made anew under the same name, says nothing any more.

use crate::policies::Scan;
use gorget_engine::{Backend, limits, network_limits};
use gorget_k8s::{PolicyKey, PolicyObject, PolicyResource};
use gorget_policy::{Policy, Problem, ProblemSeverity, parse};
use gorget_telemetry::proto::v1::{PolicyName, Refused};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The state of the cluster's policies.
#[derive(Debug, Default)]
pub(super) struct ClusterPolicies {
    known: BTreeMap<PolicyKey, Known>,
}

#[derive(Debug)]
struct Known {
    /// The version that was looked at last, good or not.
    seen: Arc<PolicyObject>,
    /// The version that is in force.
    good: Option<Arc<PolicyObject>>,
    /// What it says; a network policy says nothing to the agent.
    policy: Option<Arc<Policy>>,
    /// What keeps the version that was looked at last from being taken.
    refused: Vec<String>,
}

impl ClusterPolicies {
    /// Everything that is in force, with the object that it comes from.
    pub(super) fn all(&self) -> impl Iterator<Item = (&PolicyObject, &Arc<Policy>)> {
        let known = self.known.values();
        known.filter_map(|known| Some((known.good.as_deref()?, known.policy.as_ref()?)))
    }

    /// Objects that say something else than what is in force.
    pub(super) fn refused(&self) -> impl Iterator<Item = Refused> {
        let known = self.known.values().filter(|it| !it.refused.is_empty());
        known.map(|known| {
            let PolicyKey { resource, key } = &known.seen.name;
            Refused {
                file: known.seen.name.to_string(),
                problems: known.refused.clone(),
                last_good_in_force: known.good.is_some(),
                policy: Some(PolicyName {
                    kind: resource.kind().to_owned(),
                    namespace: key.namespace.clone(),
                    name: key.name.clone(),
                }),
                generation: known.seen.generation,
                uid: known.seen.uid.clone(),
            }
        })
    }

    /// These are all there are.
    pub(super) fn set(&mut self, all: &BTreeMap<PolicyKey, Arc<PolicyObject>>) -> Scan {
        let mut scan = Scan::default();
        self.known.retain(|name, known| {
            let stays = all.get(name).is_some_and(|it| it.uid == known.seen.uid);
            if !stays && known.good.is_some() {
                scan.notes.push(format!("`{name}` was deleted"));
                scan.changed |= known.policy.is_some();
            }
            stays
        });
        for (name, object) in all {
            let known = self.known.get(name);
            if known.is_none_or(|known| known.seen != *object) {
                self.look_at(object, &mut scan);
            }
        }
        scan
    }

    fn look_at(&mut self, object: &Arc<PolicyObject>, scan: &mut Scan) {
        let name = object.name.to_string();
        let parsed = parse(&name, &object.text);
        let is_error = |problem: &&Problem| problem.severity == ProblemSeverity::Error;
        let errors: Vec<String> = parsed.problems.iter().filter(is_error).map(said).collect();
        let known = self.known.entry(object.name.clone());
        let known = known.or_insert_with(|| Known {
            seen: Arc::clone(object),
            good: None,
            policy: None,
            refused: Vec::new(),
        });
        known.seen = Arc::clone(object);
        let warnings = parsed.problems.iter().filter(|problem| !is_error(problem));
        let warnings = warnings.map(|warning| format!("`{name}`: {}", said(warning)));
        scan.warnings.extend(warnings);
        let is_whole = !parsed.policies.is_empty()
            || (object.name.resource == PolicyResource::Network
                && !parsed.network_policies.is_empty());
        known.refused = errors;
        if known.refused.is_empty() && !is_whole {
            known.refused.push("it says nothing".to_owned());
        }
        if !known.refused.is_empty() {
            let problems = known.refused.iter();
            scan.problems
                .extend(problems.map(|problem| format!("`{name}`: {problem}")));
            let stays = match known.good {
                Some(_) => "; its last good version stays in force",
                None => "",
            };
            scan.problems
                .push(format!("`{name}` is not put in force{stays}"));
            return;
        }
        let network = parsed.network_policies.iter();
        let undone = network.flat_map(|policy| network_limits(Backend::BpfLsm, policy));
        scan.warnings
            .extend(undone.map(|limit| format!("`{name}`: {limit}")));
        let policy = parsed.policies.into_iter().next();
        if let Some(policy) = &policy {
            let undone = limits(Backend::BpfLsm, policy);
            let undone = undone.iter().map(|limit| format!("`{name}`: {limit}"));
            scan.warnings.extend(undone);
        }
        scan.notes.push(format!("`{name}` is in force"));
        // A version that says the same is not another policy.
        let is_same = known.policy.as_deref() == policy.as_ref();
        if !is_same {
            scan.changed = true;
            known.policy = policy.map(Arc::new);
        }
        known.good = Some(Arc::clone(object));
    }
}

/// The object was never a text of lines: its fields are where it is wrong.
fn said(problem: &Problem) -> String {
    let Problem {
        at: _,
        severity: _,
        field,
        reason,
        help,
    } = problem;
    let field = match field.as_str() {
        "" => String::new(),
        field => format!("{field}: "),
    };
    let help = help.as_ref().map(|help| format!(" ({help})"));
    format!("{field}{reason}{}", help.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use gorget_k8s::Key;
    use serde_json::json;

    fn object(name: &str, uid: &str, generation: i64, path: &str) -> Arc<PolicyObject> {
        let resource = PolicyResource::Container;
        let text = json!({
            "apiVersion": PolicyResource::API_VERSION,
            "kind": resource.kind(),
            "metadata": { "name": name, "namespace": "shop" },
            "spec": {
                "selector": { "matchLabels": { "app": "web" } },
                "process": { "matchPaths": [{ "path": path }] },
            },
        });
        Arc::new(PolicyObject {
            name: PolicyKey {
                resource,
                key: Key::new("shop", name),
            },
            uid: uid.to_owned(),
            generation,
            text: text.to_string(),
        })
    }

    fn all(objects: &[Arc<PolicyObject>]) -> BTreeMap<PolicyKey, Arc<PolicyObject>> {
        let objects = objects.iter();
        objects
            .map(|object| (object.name.clone(), Arc::clone(object)))
            .collect()
    }

    #[test]
    fn objects_are_taken_changed_and_deleted() {
        let mut policies = ClusterPolicies::default();
        let one = object("one", "u", 1, "/bin/sh");
        assert!(policies.set(&all(&[Arc::clone(&one)])).changed);
        assert_eq!(policies.all().count(), 1);
        assert!(!policies.set(&all(&[Arc::clone(&one)])).changed);
        // Another version that says the same keeps what is in force.
        let before = policies.all().next().map(|(_, policy)| Arc::clone(policy));
        assert!(
            !policies
                .set(&all(&[object("one", "u", 2, "/bin/sh")]))
                .changed
        );
        let (object_, after) = policies.all().next().unwrap();
        assert!(Arc::ptr_eq(after, &before.unwrap()));
        assert_eq!(object_.generation, 2);
        assert!(
            policies
                .set(&all(&[object("one", "u", 3, "/bin/x")]))
                .changed
        );
        assert!(policies.set(&BTreeMap::new()).changed);
        assert_eq!(policies.all().count(), 0);
    }

    #[test]
    fn a_wrong_version_leaves_the_last_good_one_and_names_the_field() {
        let mut policies = ClusterPolicies::default();
        policies.set(&all(&[object("one", "u", 1, "/bin/sh")]));
        let scan = policies.set(&all(&[object("one", "u", 2, "not-absolute")]));
        assert!(!scan.changed);
        assert!(
            scan.problems[0]
                .starts_with("`KubeArmorPolicy shop/one`: spec.process.matchPaths[0].path: "),
            "{:?}",
            scan.problems
        );
        let refused: Vec<_> = policies.refused().collect();
        assert_eq!(refused[0].generation, 2);
        assert!(refused[0].last_good_in_force);
        assert_eq!(policies.all().next().unwrap().0.generation, 1);
        assert!(
            policies
                .set(&all(&[object("one", "u", 2, "not-absolute")]))
                .problems
                .is_empty()
        );
        // One that was made anew has no last good version.
        let scan = policies.set(&all(&[object("one", "v", 1, "not-absolute")]));
        assert!(scan.changed);
        assert_eq!(policies.all().count(), 0);
        assert!(!policies.refused().next().unwrap().last_good_in_force);
    }
}
