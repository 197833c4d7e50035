// SPDX-License-Identifier: Apache-2.0
//! Which workloads a policy is for: reading selectors, and [`Policy::selects`].
//!
//! Labels are compared as whole strings. Some keys mean something else: the container's name and image, the
//! host's name, and expressions over the host's name. All conditions must hold.
//!
//! COMPAT: once KubeArmor has seen an `In`, it ignores every later `NotIn`; here all count.

use crate::fields::{Field, Fields, Text, wrong_type};
use crate::image_reference::ImageReference;
use crate::name_expression::NameExpression;
use crate::policy::{Expression, Kind, Operator, Policy, Selector, Values};
use crate::problem::{Problems, quote};
use crate::shape::Words;
use crate::yaml::{Node, Value};
use gorget_model::{Container, Host, Workload};

const CONTAINER_NAME: &str = "kubearmor.io/container.name";
const CONTAINER_IMAGE: &str = "kubearmor.io/container.image";
const HOST_NAMES: [&str; 2] = ["kubearmor.io/hostname", "kubernetes.io/hostname"];
const HOST_NAME_EXPRESSIONS: [&str; 2] = ["kubearmor.io/hostnamereg", "kubernetes.io/hostnamereg"];

/// COMPAT: where Kubernetes puts a policy, or a pod, that names no namespace.
const DEFAULT_NAMESPACE: &str = "default";

pub(crate) const OPERATORS: Words<Operator> = &[("In", Operator::In), ("NotIn", Operator::NotIn)];

/// What an expression compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExpressionKey {
    Label,
    Namespace,
}

pub(crate) const POD_KEYS: Words<ExpressionKey> = &[("label", ExpressionKey::Label)];
pub(crate) const CLUSTER_KEYS: Words<ExpressionKey> = &[
    ("namespace", ExpressionKey::Namespace),
    ("label", ExpressionKey::Label),
];

impl Policy {
    /// Whether the policy is for `workload`.
    pub fn selects(&self, workload: &Workload) -> bool {
        match (self.kind, workload) {
            (Kind::Container, Workload::Container(container)) => {
                // COMPAT: KubeArmor puts containers without an orchestrator, and every policy for
                // them, into `container_namespace`, whatever the policy says (its 1.3).
                let in_namespace = match &container.namespace {
                    Some(namespace) => namespace == self.effective_namespace(),
                    None => true,
                };
                in_namespace && self.selector.selects_container(container)
            }
            (Kind::Cluster, Workload::Container(container)) => {
                self.selector.selects_container(container)
            }
            (Kind::Host, Workload::Host(host)) => self.selector.selects_host(host),
            (Kind::Container | Kind::Cluster, Workload::Host(_))
            | (Kind::Host, Workload::Container(_)) => false,
        }
    }

    /// `namespace/name`, or the name of a policy that is in no namespace.
    pub fn qualified_name(&self) -> String {
        match self.kind {
            Kind::Container => format!("{}/{}", self.effective_namespace(), self.name),
            Kind::Host | Kind::Cluster => self.name.clone(),
        }
    }

    fn effective_namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE)
    }
}

impl Selector {
    /// COMPAT: a selector without conditions is for every pod.
    fn selects_container(&self, container: &Container) -> bool {
        let names = &self.container_names;
        let name = match &self.container_expression {
            Some(expression) => expression.finds(&container.name),
            None => names.is_empty() || names.contains(&container.name),
        };
        let images = &self.images;
        let image = images.is_empty() || images.iter().any(|image| image.covers(&container.image));
        name && image
            && self
                .labels
                .iter()
                .all(|(key, value)| container.labels.get(key) == Some(value))
            && self
                .expressions
                .iter()
                .all(|expression| expression.holds(container))
    }

    fn selects_host(&self, host: &Host) -> bool {
        let labels = self.labels.iter().all(|(key, value)| {
            if HOST_NAMES.contains(&key.as_str()) {
                elements(value).any(|element| is_wildcard_of(element, &host.name))
            } else {
                host.labels.get(key) == Some(value)
            }
        });
        labels
            && self
                .host_expressions
                .iter()
                .all(|expression| expression.finds(&host.name))
    }
}

impl Expression {
    fn holds(&self, container: &Container) -> bool {
        let found = match &self.values {
            Values::Labels(labels) => {
                let mut labels = labels.iter();
                labels.any(|(key, value)| container.labels.get(key) == Some(value))
            }
            // A plain container is in no namespace.
            Values::Namespaces(names) => match &container.namespace {
                Some(namespace) => names.contains(namespace),
                None => false,
            },
        };
        match self.operator {
            Operator::In => found,
            Operator::NotIn => !found,
        }
    }
}

fn elements(list: &str) -> impl Iterator<Item = &str> {
    list.split(',')
        .map(str::trim)
        .filter(|element| !element.is_empty())
}

/// Whether `name` is `wildcard` with any run in place of each `*`.
fn is_wildcard_of(wildcard: &str, name: &str) -> bool {
    let Some((first, rest)) = wildcard.split_once('*') else {
        return wildcard == name;
    };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    let inner = name
        .strip_prefix(first)
        .and_then(|rest| rest.strip_suffix(last));
    let Some(mut inner) = inner else { return false };
    for part in middle.split('*') {
        let Some((_, after)) = inner.split_once(part) else {
            return false;
        };
        inner = after;
    }
    true
}

/// Reads `spec.selector` or `spec.nodeSelector`, whichever `kind` has.
pub(crate) fn read_selector(
    kind: Kind,
    spec: &Fields<'_>,
    problems: &mut Problems,
) -> Option<Selector> {
    match kind {
        Kind::Container => read_pod_selector(spec, POD_KEYS, problems),
        Kind::Cluster => read_pod_selector(spec, CLUSTER_KEYS, problems),
        Kind::Host => read_node_selector(spec, problems),
    }
}

/// `spec.selector`; one that is absent selects everything.
pub(crate) fn read_pod_selector(
    spec: &Fields<'_>,
    keys: Words<ExpressionKey>,
    problems: &mut Problems,
) -> Option<Selector> {
    if spec.get("selector").is_none() {
        return Some(Selector::default());
    }
    let fields = spec.mapping("selector", problems)?;
    let mut selector = Selector::default();
    each_label(&fields, problems, |label, problems| match label.key {
        CONTAINER_NAME => read_container_names(label, &mut selector, problems),
        CONTAINER_IMAGE => read_images(label, &mut selector, problems),
        _ => selector.labels.push(label.to_owned()),
    });
    fields.each("matchExpressions", problems, |expression, problems| {
        selector
            .expressions
            .extend(read_expression(expression, keys, problems));
    });
    Some(selector)
}

/// `spec.nodeSelector`.
pub(crate) fn read_node_selector(spec: &Fields<'_>, problems: &mut Problems) -> Option<Selector> {
    let fields = spec.mapping("nodeSelector", problems)?;
    let node = fields.get("matchLabels")?;
    if matches!(&node.value, Value::Mapping(entries) if entries.is_empty()) {
        // COMPAT: an empty list of identities matches nothing there, so nobody relies on it.
        let field = Field::Key(&fields.field, "matchLabels");
        let help = "`kubearmor.io/hostname: \"*\"` is every host";
        problems.error_with_help(node.at, field, "names no label", help);
    }
    let mut selector = Selector::default();
    each_label(&fields, problems, |label, problems| {
        if HOST_NAME_EXPRESSIONS.contains(&label.key) {
            selector
                .host_expressions
                .extend(read_host_expression(label, problems));
            return;
        }
        if HOST_NAMES.contains(&label.key) && elements(label.value.text).next().is_none() {
            let help = "`\"*\"` is every host";
            problems.error_with_help(label.value.at, label.field, "names no host", help);
        }
        selector.labels.push(label.to_owned());
    });
    Some(selector)
}

#[derive(Clone, Copy)]
struct Label<'n> {
    key: &'n str,
    value: Text<'n>,
    field: Field<'n>,
}

impl Label<'_> {
    fn to_owned(self) -> (String, String) {
        (self.key.to_owned(), self.value.text.to_owned())
    }
}

/// Calls `read` with every entry of `matchLabels`.
fn each_label(
    selector: &Fields<'_>,
    problems: &mut Problems,
    mut read: impl FnMut(Label<'_>, &mut Problems),
) {
    let labels_field = Field::Key(&selector.field, "matchLabels");
    let Some(node) = selector.get("matchLabels") else {
        return;
    };
    let Node {
        value: Value::Mapping(entries),
        ..
    } = node
    else {
        wrong_type(node, labels_field, "a mapping", problems);
        return;
    };
    for (key, entry) in entries {
        let field = Field::Key(&labels_field, key);
        match &entry.node.value {
            Value::Text(text) => {
                let at = entry.node.at;
                let value = Text { text, at };
                read(Label { key, value, field }, problems);
            }
            // Absent would mean that the policy is for more workloads than written.
            Value::Null => {
                let help = "write `\"\"` for an empty value";
                problems.error_with_help(entry.key_at, field, "has no value", help);
            }
            Value::Boolean(..)
            | Value::Number(_)
            | Value::Sequence(_)
            | Value::Mapping(_)
            | Value::Refused => wrong_type(&entry.node, field, "a string", problems),
        }
    }
}

/// COMPAT: with Kubernetes the value is `"[a,b]"`, and `""` or `"[]"` means every container; a name
/// without brackets loses its first and last character there and is taken as that name here. Without
/// an orchestrator it is a regular expression, a list is none; here what looks like a list or a name
/// is one in either case, and everything else is an expression.
fn read_container_names(label: Label<'_>, selector: &mut Selector, problems: &mut Problems) {
    let value = label.value.text.trim();
    let inner = value
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let list = inner.filter(|inner| !inner.contains(['[', ']']));
    let names: Vec<_> = elements(list.unwrap_or(value)).collect();
    if matches!(names.as_slice(), ["*" | ".*"]) {
        return;
    }
    let wrong = names.iter().find(|name| !is_name(name));
    match (wrong, list) {
        (None, _) => selector.container_names = names.into_iter().map(str::to_owned).collect(),
        (Some(name), Some(_)) => {
            let reason = format!("{} is not a container name", quote(name));
            let help = "write `\"name\"`, `\"[name1,name2]\"` or a regular expression";
            problems.error_with_help(label.value.at, label.field, reason, help);
        }
        (Some(_), None) => {
            selector.container_expression = read_name_expression(value, label, problems);
        }
    }
}

/// One image or a list in brackets. An empty value would be a policy for every image that does not
/// say so.
fn read_images(label: Label<'_>, selector: &mut Selector, problems: &mut Problems) {
    let value = label.value.text.trim();
    let list = value
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let mut written = elements(list.unwrap_or(value)).peekable();
    if written.peek().is_none() {
        problems.error(label.value.at, label.field, "names no image");
    }
    for element in written {
        match ImageReference::new(element) {
            Some(image) => selector.images.push(image),
            None => {
                let reason = format!("{} is not an image", quote(element));
                let help =
                    "write `\"name\"`, `\"name:tag\"`, `\"name@digest\"` or a list `\"[a,b]\"`";
                problems.error_with_help(label.value.at, label.field, reason, help);
            }
        }
    }
}

fn is_name(text: &str) -> bool {
    text.chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
}

/// COMPAT: a glob whose `*` is any run, and otherwise a regular expression, not anchored.
fn read_host_expression(label: Label<'_>, problems: &mut Problems) -> Option<NameExpression> {
    if label.value.text.is_empty() {
        problems.error(label.value.at, label.field, "names no host");
        return None;
    }
    read_name_expression(&label.value.text.replace('*', ".*"), label, problems)
}

fn read_name_expression(
    text: &str,
    label: Label<'_>,
    problems: &mut Problems,
) -> Option<NameExpression> {
    match NameExpression::new(text) {
        Ok(expression) => Some(expression),
        Err(reason) => {
            let reason = format!("{} {reason}", quote(text));
            problems.error(label.value.at, label.field, reason);
            None
        }
    }
}

/// An entry of `matchExpressions`.
fn read_expression(
    fields: &Fields<'_>,
    keys: Words<ExpressionKey>,
    problems: &mut Problems,
) -> Option<Expression> {
    let key = fields.choice("key", keys, problems);
    let operator = fields.choice("operator", OPERATORS, problems);
    let written = fields.texts("values", problems);
    let field = Field::Key(&fields.field, "values");
    if let Some(node) = fields.get("values")
        && matches!(&node.value, Value::Sequence(items) if items.is_empty())
    {
        problems.error(node.at, field, "names no value");
    }
    let values = match key? {
        ExpressionKey::Namespace => {
            Values::Namespaces(written.iter().map(|value| value.text.to_owned()).collect())
        }
        ExpressionKey::Label => {
            let mut labels = Vec::new();
            for value in written {
                match value.text.split_once('=') {
                    Some((key, value)) => labels.push((key.to_owned(), value.to_owned())),
                    None => {
                        let reason = format!("{} is not a label with its value", quote(value.text));
                        problems.error_with_help(value.at, field, reason, "write `key=value`");
                    }
                }
            }
            Values::Labels(labels)
        }
    };
    Some(Expression {
        operator: operator?,
        values,
    })
}

#[cfg(test)]
mod tests;
