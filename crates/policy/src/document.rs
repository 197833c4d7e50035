// SPDX-License-Identifier: Apache-2.0
//! From the text of a file to its policies: [`parse`].
//!
//! Every document is judged on its own. One without errors gives a policy, one with an error gives
//! none, never half a policy: what is in force must be what somebody wrote. Fields that nobody knows
//! are errors for the same reason.

use crate::fields::{Field, Fields};
use crate::meta::{Copied, MetaSpec};
use crate::network_policy::{NetworkPolicy, read_network_policy};
use crate::policy::{Kind, Policy};
use crate::problem::{Position, Problem, Problems, quote};
use crate::rules::read_rules;
use crate::selector::read_selector;
use crate::tables;
use crate::yaml::{Documents, Node, Value};

/// Kubernetes keeps no object larger than 1.5 MiB.
const MOST_BYTES: usize = 4 << 20;

pub(crate) const API_VERSION: &str = "security.kubearmor.com/v1";

/// What a document says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DocumentKind {
    Policy(Kind),
    Network,
}

impl DocumentKind {
    pub(crate) const ALL: [Self; 4] = [
        Self::Policy(Kind::Container),
        Self::Policy(Kind::Host),
        Self::Policy(Kind::Cluster),
        Self::Network,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Policy(kind) => kind.name(),
            Self::Network => "KubeArmorNetworkPolicy",
        }
    }
}

/// What a file contains.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    /// The policies of all documents without an error, in the order of the file.
    pub policies: Vec<Policy>,
    /// The same of `KubeArmorNetworkPolicy`.
    pub network_policies: Vec<NetworkPolicy>,
    /// Everything that is wrong, in the order of the file.
    pub problems: Vec<Problem>,
}

/// What one document gives.
pub(crate) enum Document {
    Policy(Policy),
    Network(NetworkPolicy),
}

/// Reads `text`, which is what is in `file`: any number of YAML documents. `file` is only for
/// messages.
pub fn parse(file: &str, text: &str) -> Parsed {
    let mut problems = Problems::new(file);
    let mut parsed = Parsed::default();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.len() > MOST_BYTES {
        let reason = format!("the file has {} bytes, more than 4 MiB", text.len());
        problems.error(Position::START, "", reason);
        parsed.problems = problems.finish();
        return parsed;
    }
    let mut documents = Documents::new(text);
    let mut copied = Copied::default();
    loop {
        let errors = problems.errors();
        let Some(document) = documents.next(&mut problems) else {
            break;
        };
        let read = read_document(&document, &mut copied, &mut problems);
        if problems.errors() == errors {
            match read {
                Some(Document::Policy(policy)) => parsed.policies.push(policy),
                Some(Document::Network(policy)) => parsed.network_policies.push(policy),
                None => {}
            }
        }
    }
    parsed.problems = problems.finish();
    parsed
}

/// What is in a document. Means nothing when errors were reported.
pub(crate) fn read_document(
    document: &Node,
    copied: &mut Copied,
    problems: &mut Problems,
) -> Option<Document> {
    if matches!(document.value, Value::Null) {
        return None;
    }
    let errors = problems.errors();
    let kind = read_kind(document, problems)?;
    let fields = Fields::open(document, Field::Document, tables::document(kind), problems)?;
    check_version(&fields, problems);
    let name = read_name(&fields, kind, problems);
    let spec = fields.mapping("spec", problems)?;
    let read = match kind {
        DocumentKind::Policy(kind) => {
            read_policy(kind, name, &spec, copied, problems).map(Document::Policy)
        }
        DocumentKind::Network => {
            read_network_policy(name, &spec, copied, problems).map(Document::Network)
        }
    };
    let empty = match &read {
        Some(Document::Policy(policy)) => {
            policy.rules.is_empty() && policy.native_apparmor.is_empty()
        }
        Some(Document::Network(policy)) => policy.rules.is_empty(),
        None => false,
    };
    if empty && problems.errors() == errors {
        let help = "rules are entries of lists such as `file.matchPaths`";
        problems.warning(document.at, "spec", "the policy has no rules", help);
    }
    read
}

fn read_policy(
    kind: Kind,
    name: Option<PolicyName>,
    spec: &Fields<'_>,
    copied: &mut Copied,
    problems: &mut Problems,
) -> Option<Policy> {
    let meta = MetaSpec::read(spec, problems);
    let selector = read_selector(kind, spec, problems);
    let rules = read_rules(spec, &meta, copied, problems);
    let native_apparmor = spec.text("apparmor", problems);
    let native_apparmor = native_apparmor.filter(|lines| !lines.text.trim().is_empty());
    let PolicyName { namespace, name } = name?;
    Some(Policy {
        kind,
        namespace,
        name,
        selector: selector?,
        rules,
        native_apparmor: native_apparmor
            .map(|lines| lines.text.to_owned())
            .unwrap_or_default(),
    })
}

/// `None` when it is not certain what the rest of the document should look like.
fn read_kind(document: &Node, problems: &mut Problems) -> Option<DocumentKind> {
    // All kinds agree on where the kind is.
    let shape = tables::document(DocumentKind::Network);
    let fields = Fields::open_any(document, Field::Document, shape, problems)?;
    if fields.get("kind").is_none() {
        problems.error(fields.at, "kind", "is missing");
    }
    let written = fields.text("kind", problems)?;
    let mut kinds = DocumentKind::ALL.into_iter();
    let kind = kinds.find(|kind| kind.name() == written.text);
    if kind.is_none() {
        let reason = format!("{} is not a kind of policy", quote(written.text));
        let names = DocumentKind::ALL.map(|kind| format!("`{}`", kind.name()));
        let help = format!("there are {}", names.join(", "));
        problems.error_with_help(written.at, "kind", reason, help);
    }
    kind
}

fn check_version(fields: &Fields<'_>, problems: &mut Problems) {
    if let Some(version) = fields.text("apiVersion", problems)
        && version.text != API_VERSION
    {
        let reason = format!("{} is not supported by this version", quote(version.text));
        let help = format!("there is `{API_VERSION}`");
        problems.error_with_help(version.at, "apiVersion", reason, help);
    }
}

/// What a policy is called.
pub(crate) struct PolicyName {
    pub(crate) namespace: Option<String>,
    pub(crate) name: String,
}

/// Everything else in `metadata` is for other programs.
fn read_name(
    document: &Fields<'_>,
    kind: DocumentKind,
    problems: &mut Problems,
) -> Option<PolicyName> {
    let metadata = document.mapping("metadata", problems)?;
    let name = metadata.text("name", problems);
    if let Some(name) = name {
        check_name(
            name.text,
            name.at,
            Field::Key(&metadata.field, "name"),
            problems,
        );
    }
    let namespace = match kind {
        DocumentKind::Policy(Kind::Container) => metadata.text("namespace", problems),
        // COMPAT: all others are cluster-scoped; a namespace in one is ignored.
        DocumentKind::Policy(Kind::Host | Kind::Cluster) | DocumentKind::Network => None,
    };
    let namespace = namespace.filter(|namespace| !namespace.text.is_empty());
    if let Some(namespace) = namespace {
        let field = Field::Key(&metadata.field, "namespace");
        check_name(namespace.text, namespace.at, field, problems);
    }
    Some(PolicyName {
        namespace: namespace.map(|namespace| namespace.text.to_owned()),
        name: name?.text.to_owned(),
    })
}

/// Names end up in `namespace/name`, in file names and in log lines.
fn check_name(name: &str, at: Position, field: Field<'_>, problems: &mut Problems) {
    if name.is_empty() {
        problems.error(at, field, "is empty");
    } else if name.contains(|c: char| c == '/' || c.is_control() || c.is_whitespace()) {
        let reason = format!(
            "{} contains a slash, a space or a control character",
            quote(name)
        );
        problems.error(at, field, reason);
    }
}

#[cfg(test)]
mod tests;
