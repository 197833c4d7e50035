// SPDX-License-Identifier: Apache-2.0
//! Which workloads a policy is for: reading `selector` and `nodeSelector`, and [`Policy::selects`].
//!
//! Labels are compared as whole strings. Three keys mean something else: the container's name, and
//! two keys for the host's name. A key that KubeArmor treats as special and this version does not
//! know is refused, because as an ordinary label it would match nothing and nobody would notice.

use crate::fields::{Field, Fields, Names, wrong_type};
use crate::policy::{Kind, Policy, Selector};
use crate::problem::{Position, Problems, quote};
use crate::yaml::{Node, Value};
use gorget_model::{Container, Host, Workload};

const CONTAINER_NAME: &str = "kubearmor.io/container.name";
const HOST_NAMES: [&str; 2] = ["kubearmor.io/hostname", "kubernetes.io/hostname"];
const HOST_NAME_EXPRESSIONS: [&str; 2] = ["kubearmor.io/hostnamereg", "kubernetes.io/hostnamereg"];

/// COMPAT: where Kubernetes puts a policy, or a pod, that names no namespace.
const DEFAULT_NAMESPACE: &str = "default";

const POD_SELECTOR: Names = Names {
    known: &["matchLabels"],
    unsupported: &["matchExpressions"],
};
const NODE_SELECTOR: Names = Names {
    known: &["matchLabels"],
    unsupported: &[],
};

impl Policy {
    /// Whether the policy is for `workload`.
    pub fn selects(&self, workload: &Workload) -> bool {
        match (self.kind, workload) {
            (Kind::Container | Kind::Cluster, Workload::Container(container)) => {
                self.selects_container(container)
            }
            (Kind::Host, Workload::Host(host)) => self.selects_host(host),
            (Kind::Container | Kind::Cluster, Workload::Host(_))
            | (Kind::Host, Workload::Container(_)) => false,
        }
    }

    /// `namespace/name`, or the name of a host policy: hosts are in no namespace.
    pub fn qualified_name(&self) -> String {
        match self.kind {
            Kind::Container => format!("{}/{}", self.effective_namespace(), self.name),
            Kind::Host | Kind::Cluster => self.name.clone(),
        }
    }

    fn effective_namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE)
    }

    fn selects_container(&self, container: &Container) -> bool {
        // COMPAT: KubeArmor puts containers without an orchestrator, and every policy for them,
        // into `container_namespace`, whatever the policy says (its 1.3, un-orchestrated).
        let in_namespace = match &container.namespace {
            Some(namespace) => namespace == self.effective_namespace(),
            None => true,
        };
        let names = &self.selector.container_names;
        in_namespace
            && (names.is_empty() || names.contains(&container.name))
            // COMPAT: a policy without labels is for every pod of its namespace.
            && self.selector.labels.iter().all(|(key, value)| container.labels.get(key) == Some(value))
    }

    fn selects_host(&self, host: &Host) -> bool {
        self.selector.labels.iter().all(|(key, value)| {
            if HOST_NAMES.contains(&key.as_str()) {
                // COMPAT: `*`, a list with commas, or one name.
                elements(value).any(|name| name == "*" || name == host.name)
            } else {
                host.labels.get(key) == Some(value)
            }
        })
    }
}

fn elements(list: &str) -> impl Iterator<Item = &str> {
    list.split(',')
        .map(str::trim)
        .filter(|element| !element.is_empty())
}

/// Reads `spec.selector` or `spec.nodeSelector`, whichever `kind` has.
pub(crate) fn read_selector(
    kind: Kind,
    spec: &Fields<'_>,
    problems: &mut Problems,
) -> Option<Selector> {
    match kind {
        Kind::Container | Kind::Cluster => {
            let Some(node) = spec.get("selector") else {
                return Some(Selector::default());
            };
            let field = Field::Key(&spec.field, "selector");
            let selector = Fields::open(node, field, POD_SELECTOR, problems)?;
            match selector.get("matchLabels") {
                Some(labels) => read_labels(kind, labels, &selector, problems),
                None => Some(Selector::default()),
            }
        }
        Kind::Host => {
            let node = spec.need("nodeSelector", problems)?;
            let field = Field::Key(&spec.field, "nodeSelector");
            let selector = Fields::open(node, field, NODE_SELECTOR, problems)?;
            let labels = selector.need("matchLabels", problems)?;
            let read = read_labels(kind, labels, &selector, problems)?;
            if matches!(&labels.value, Value::Mapping(entries) if entries.is_empty()) {
                // COMPAT: an empty list of identities matches nothing there, so nobody relies on it.
                let field = Field::Key(&selector.field, "matchLabels");
                let help = "`kubearmor.io/hostname: \"*\"` is every host";
                problems.error_with_help(labels.at, field, "names no label", help);
            }
            Some(read)
        }
    }
}

fn read_labels(
    kind: Kind,
    node: &Node,
    selector: &Fields<'_>,
    problems: &mut Problems,
) -> Option<Selector> {
    let field = Field::Key(&selector.field, "matchLabels");
    let labels = Fields::open_any(node, field, problems)?;
    let mut read = Selector::default();
    for (key, entry) in labels.entries() {
        let field = Field::Key(&labels.field, key);
        let at = entry.node.at;
        let value = match &entry.node.value {
            Value::Text(text) => text,
            // Absent would mean that the policy is for more workloads than written.
            Value::Null => {
                let help = "write `\"\"` for an empty value";
                problems.error_with_help(entry.key_at, field, "has no value", help);
                continue;
            }
            Value::Boolean(..)
            | Value::Number(_)
            | Value::Sequence(_)
            | Value::Mapping(_)
            | Value::Refused => {
                wrong_type(&entry.node, field, "a string", problems);
                continue;
            }
        };
        match kind {
            Kind::Container | Kind::Cluster if key == CONTAINER_NAME => {
                read.container_names = read_container_names(value, at, field, problems);
            }
            Kind::Host if HOST_NAME_EXPRESSIONS.contains(&key) => {
                let reason = format!("`{key}` is not supported by this version");
                problems.error(entry.key_at, field, reason);
            }
            Kind::Host if HOST_NAMES.contains(&key) && elements(value).next().is_none() => {
                problems.error_with_help(at, field, "names no host", "`\"*\"` is every host");
            }
            Kind::Container | Kind::Cluster | Kind::Host => {
                read.labels.push((key.to_owned(), value.clone()))
            }
        }
    }
    Some(read)
}

/// COMPAT: with Kubernetes the value is `"[a,b]"`, and `""` or `"[]"` means every container; a name
/// without brackets loses its first and last character there and is taken as that name here. Without
/// an orchestrator it is a regular expression; of these only `.*` is taken.
fn read_container_names(
    value: &str,
    at: Position,
    field: Field<'_>,
    problems: &mut Problems,
) -> Vec<String> {
    let value = value.trim();
    let list = value
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(value);
    if matches!(list, "*" | ".*") {
        return Vec::new();
    }
    let mut names = Vec::new();
    for name in elements(list) {
        if name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
        {
            names.push(name.to_owned());
        } else {
            let reason = format!("{} is not a container name", quote(name));
            problems.error_with_help(at, field, reason, "write `\"name\"` or `\"[name1,name2]\"`");
        }
    }
    names
}

#[cfg(test)]
mod tests;
