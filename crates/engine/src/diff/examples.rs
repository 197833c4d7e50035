// SPDX-License-Identifier: Apache-2.0
//! Workloads that policies are for, made up from their selectors.
//!
//! A selector wants some labels, one of some names, one of some namespaces; a [`Wanted`] is one choice
//! among these, and two of them are merged when one workload can be both. What is not wanted is
//! filled in when the workload is made. Whether a policy is for the workload in the end is not decided
//! here but by [`Policy::selects`]: an example that misses, say because of a regular expression, is
//! dropped.

use gorget_model::{Container, Host, Workload};
use gorget_policy::{ImageReference, Kind, NameExpression, Operator, Policy, Selector, Values};
use std::collections::BTreeMap;

/// What a workload must have. The smaller, the fewer conditions.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Wanted {
    host: bool,
    namespace: Option<String>,
    name: Option<String>,
    image: Option<String>,
    labels: BTreeMap<String, String>,
}

const NAMESPACE: &str = "default";
const CONTAINER: &str = "container";
const NODE: &str = "node";
/// Label keys of a node selector that are about its name.
const HOST_NAMES: [&str; 2] = ["kubearmor.io/hostname", "kubernetes.io/hostname"];

impl Wanted {
    /// For each choice that the policy leaves, one way of making it; every alternative of every
    /// condition is in one of them. Empty when no example is found that the policy is for.
    pub(super) fn all_of(policy: &Policy) -> Vec<Self> {
        let mut found = match policy.kind {
            Kind::Host => of_host(&policy.selector),
            Kind::Container | Kind::Cluster => of_container(policy),
        };
        found.retain(|wanted| policy.selects(&wanted.workload()));
        found.sort();
        found.dedup();
        found
    }

    /// One workload that is both.
    pub(super) fn and(&self, other: &Self) -> Option<Self> {
        let mut labels = self.labels.clone();
        for (key, value) in &other.labels {
            let label = labels.entry(key.clone()).or_insert_with(|| value.clone());
            if label != value {
                return None;
            }
        }
        (self.host == other.host).then_some(Self {
            host: self.host,
            namespace: common(self.namespace.as_ref(), other.namespace.as_ref())?,
            name: common(self.name.as_ref(), other.name.as_ref())?,
            image: common(self.image.as_ref(), other.image.as_ref())?,
            labels,
        })
    }

    pub(super) fn workload(&self) -> Workload {
        let name = |otherwise: &str| self.name.clone().unwrap_or_else(|| otherwise.to_owned());
        let labels = self.labels.clone();
        if self.host {
            return Workload::Host(Host {
                name: name(NODE),
                labels,
            });
        }
        let namespace = self.namespace.as_deref().unwrap_or(NAMESPACE);
        Workload::Container(Container {
            name: name(CONTAINER),
            namespace: Some(namespace.to_owned()),
            image: self.image.clone().unwrap_or_default(),
            labels,
            ..Container::default()
        })
    }
}

/// `None` when both want something, and not the same.
fn common(one: Option<&String>, other: Option<&String>) -> Option<Option<String>> {
    match (one, other) {
        (Some(one), Some(other)) => (one == other).then(|| Some(one.clone())),
        (wanted, None) | (None, wanted) => Some(wanted.cloned()),
    }
}

fn of_container(policy: &Policy) -> Vec<Wanted> {
    let Selector {
        labels,
        container_names,
        container_expression,
        images,
        host_expressions: _,
        expressions,
    } = &policy.selector;
    let namespaces: Vec<String> = match policy.kind {
        Kind::Container => vec![
            policy
                .namespace
                .clone()
                .unwrap_or_else(|| NAMESPACE.to_owned()),
        ],
        Kind::Cluster | Kind::Host => Vec::new(),
    };
    let labels = Wanted {
        labels: labels.iter().cloned().collect(),
        ..Wanted::default()
    };
    let mut conditions = vec![
        vec![labels],
        namespaces.into_iter().map(in_namespace).collect(),
        container_names.iter().cloned().map(named).collect(),
        container_expression
            .iter()
            .flat_map(names_like)
            .map(named)
            .collect(),
        images.iter().map(of_image).collect(),
    ];
    for expression in expressions {
        conditions.push(match (expression.operator, &expression.values) {
            (Operator::In, Values::Labels(labels)) => {
                labels.iter().cloned().map(labelled).collect()
            }
            (Operator::In, Values::Namespaces(names)) => {
                names.iter().cloned().map(in_namespace).collect()
            }
            (Operator::NotIn, Values::Labels(_)) => Vec::new(),
            (Operator::NotIn, Values::Namespaces(names)) => {
                let free = [NAMESPACE, "other", "another"].into_iter();
                let mut free = free.filter(|name| !names.iter().any(|n| n == name));
                free.next()
                    .map(|name| in_namespace(name.to_owned()))
                    .into_iter()
                    .collect()
            }
        });
    }
    choices(&conditions)
}

fn of_host(selector: &Selector) -> Vec<Wanted> {
    let Selector {
        labels,
        container_names: _,
        container_expression: _,
        images: _,
        host_expressions,
        expressions: _,
    } = selector;
    let mut conditions = Vec::new();
    for (key, value) in labels {
        conditions.push(if HOST_NAMES.contains(&key.as_str()) {
            let elements = value.split(',').map(str::trim);
            elements
                .map(|element| match element {
                    "*" => Wanted::default(),
                    element => named(element.replace('*', "1")),
                })
                .collect()
        } else {
            vec![labelled((key.clone(), value.clone()))]
        });
    }
    for expression in host_expressions {
        conditions.push(names_like(expression).into_iter().map(named).collect());
    }
    let mut hosts = choices(&conditions);
    for host in &mut hosts {
        host.host = true;
    }
    hosts
}

fn named(name: String) -> Wanted {
    Wanted {
        name: Some(name),
        ..Wanted::default()
    }
}

fn of_image(image: &ImageReference) -> Wanted {
    Wanted {
        image: Some(image.to_string()),
        ..Wanted::default()
    }
}

fn in_namespace(namespace: String) -> Wanted {
    Wanted {
        namespace: Some(namespace),
        ..Wanted::default()
    }
}

fn labelled(label: (String, String)) -> Wanted {
    Wanted {
        labels: BTreeMap::from([label]),
        ..Wanted::default()
    }
}

/// One alternative of each condition; not all combinations, but each alternative once, with the first
/// of the other conditions that it goes together with.
fn choices(conditions: &[Vec<Wanted>]) -> Vec<Wanted> {
    let conditions: Vec<&Vec<Wanted>> = conditions.iter().filter(|c| !c.is_empty()).collect();
    let mut chosen = Vec::new();
    for (number, condition) in conditions.iter().enumerate() {
        for alternative in *condition {
            let others = conditions.iter().enumerate().filter(|(n, _)| *n != number);
            let all = others
                .map(|(_, other)| other)
                .try_fold(alternative.clone(), |so_far, other| {
                    other.iter().find_map(|wanted| so_far.and(wanted))
                });
            chosen.extend(all);
        }
    }
    if conditions.is_empty() {
        chosen.push(Wanted::default());
    }
    chosen
}

/// Names that a regular expression may find: what is left of it without what has a meaning.
fn names_like(expression: &NameExpression) -> Vec<String> {
    let plain = expression.as_str().replace(['^', '$'], "");
    let mut short = plain.clone();
    for (meaning, text) in [
        (".*", ""),
        (".+", "1"),
        ("[0-9]+", "1"),
        ("[0-9]*", ""),
        ("[0-9]", "1"),
        ("[a-z]+", "a"),
        ("[a-z]*", ""),
        ("\\d+", "1"),
        ("\\", ""),
    ] {
        short = short.replace(meaning, text);
    }
    let mut names: Vec<String> = [short, plain, NODE.to_owned(), CONTAINER.to_owned()].into();
    names.retain(|name| expression.finds(name));
    names.truncate(1);
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use gorget_policy::parse;

    fn policy(text: &str) -> Policy {
        let parsed = parse("p.yaml", text);
        assert_eq!(parsed.policies.len(), 1, "{:?}", parsed.problems);
        parsed.policies[0].clone()
    }

    fn container(selector: &str) -> Policy {
        policy(&format!(
            "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\n\
             metadata: {{ name: p, namespace: shop }}\n\
             spec:\n  selector: {selector}\n  action: Audit\n  \
             file: {{ matchPaths: [ {{ path: /k }} ] }}\n"
        ))
    }

    fn host(labels: &str) -> Policy {
        policy(&format!(
            "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorHostPolicy\n\
             metadata: {{ name: p }}\n\
             spec:\n  nodeSelector: {{ matchLabels: {labels} }}\n  action: Audit\n  \
             file: {{ matchPaths: [ {{ path: /k }} ] }}\n"
        ))
    }

    #[test]
    fn the_example_has_what_the_selector_names_and_nothing_else() {
        let wanted = Wanted::all_of(&container("{ matchLabels: { app: web, tier: db } }"));
        let Workload::Container(container) = wanted[0].workload() else {
            panic!("{wanted:?}");
        };
        assert_eq!(wanted.len(), 1);
        assert_eq!(container.namespace.as_deref(), Some("shop"));
        assert_eq!(container.labels.len(), 2);
    }

    #[test]
    fn every_alternative_has_an_example() {
        let names = container("{ matchLabels: { kubearmor.io/container.name: '[a, b]' } }");
        assert_eq!(Wanted::all_of(&names).len(), 2);
        let labels = container(
            "{ matchExpressions: [ { key: label, operator: In, values: [ app=a, app=b ] } ] }",
        );
        assert_eq!(Wanted::all_of(&labels).len(), 2);
        let images =
            "{ matchLabels: { kubearmor.io/container.image: '[a, r.test/b:1@sha256:c]' } }";
        assert_eq!(Wanted::all_of(&container(images)).len(), 2);
    }

    #[test]
    fn hosts_are_found_by_name_list_wildcard_and_expression() {
        for labels in [
            "{ kubearmor.io/hostname: '*' }",
            "{ kubearmor.io/hostname: 'a,b-*' }",
            "{ kubernetes.io/hostname: n, disk: ssd }",
            "{ kubearmor.io/hostnamereg: '^web-[0-9]+.*$' }",
        ] {
            assert!(!Wanted::all_of(&host(labels)).is_empty(), "{labels}");
        }
    }

    #[test]
    fn two_are_merged_unless_they_contradict_each_other() {
        let of = |selector| Wanted::all_of(&container(selector)).remove(0);
        let (web, db) = (
            of("{ matchLabels: { app: web } }"),
            of("{ matchLabels: { tier: db } }"),
        );
        let both = web.and(&db).unwrap();
        assert_eq!(both, of("{ matchLabels: { app: web, tier: db } }"));
        assert_eq!(web.and(&of("{ matchLabels: { app: shop } }")), None);
        let node = Wanted::all_of(&host("{ kubearmor.io/hostname: '*' }")).remove(0);
        assert_eq!(web.and(&node), None);
    }
}
