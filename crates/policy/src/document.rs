// SPDX-License-Identifier: Apache-2.0
//! From the text of a file to its policies: [`parse`].
//!
//! Every document is judged on its own. One without errors gives a policy, one with an error gives
//! none, never half a policy: what is in force must be what somebody wrote. Fields that KubeArmor
//! has and this version cannot enforce are errors for the same reason.

use crate::fields::{Field, Fields, Names};
use crate::meta::{Copied, MetaSpec};
use crate::policy::{Kind, Policy, Rule};
use crate::problem::{Position, Problem, Problems, quote};
use crate::rules::{Block, read_block};
use crate::selector::read_selector;
use crate::yaml::{Documents, Node, Value};

/// Kubernetes keeps no object larger than 1.5 MiB.
const MOST_BYTES: usize = 4 << 20;

const API_VERSION: &str = "security.kubearmor.com/v1";

const DOCUMENT: Names = Names {
    known: &["apiVersion", "kind", "metadata", "spec", "status"],
    unsupported: &[],
};

const POLICY_SPEC: Names = Names {
    known: &[
        "selector", "process", "file", "severity", "tags", "message", "action",
    ],
    unsupported: &["network", "capabilities", "syscalls", "presets", "apparmor"],
};

const HOST_POLICY_SPEC: Names = Names {
    known: &[
        "nodeSelector",
        "process",
        "file",
        "severity",
        "tags",
        "message",
        "action",
    ],
    unsupported: &["network", "capabilities", "syscalls", "device", "apparmor"],
};

/// What a file contains.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    /// The policies of all documents without an error, in the order of the file.
    pub policies: Vec<Policy>,
    /// Everything that is wrong, in the order of the file.
    pub problems: Vec<Problem>,
}

/// Reads `text`, which is what is in `file`: any number of YAML documents. `file` is only for
/// messages.
pub fn parse(file: &str, text: &str) -> Parsed {
    let mut problems = Problems::new(file);
    let mut policies = Vec::new();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.len() > MOST_BYTES {
        let reason = format!("the file has {} bytes, more than 4 MiB", text.len());
        problems.error(Position::START, "", reason);
        return Parsed {
            policies,
            problems: problems.finish(),
        };
    }
    let mut documents = Documents::new(text);
    let mut copied = Copied::default();
    loop {
        let errors = problems.errors();
        let Some(document) = documents.next(&mut problems) else {
            break;
        };
        let policy = read_policy(&document, &mut copied, &mut problems);
        if problems.errors() == errors {
            policies.extend(policy);
        }
    }
    Parsed {
        policies,
        problems: problems.finish(),
    }
}

/// The policy in a document. Means nothing when errors were reported.
fn read_policy(document: &Node, copied: &mut Copied, problems: &mut Problems) -> Option<Policy> {
    if matches!(document.value, Value::Null) {
        return None;
    }
    let errors = problems.errors();
    let fields = Fields::open_any(document, Field::Document, problems)?;
    let kind = read_kind(&fields, problems)?;
    let fields = Fields::open(document, Field::Document, DOCUMENT, problems)?;
    let names = fields
        .need("metadata", problems)
        .and_then(|node| read_names(node, Field::Key(&fields.field, "metadata"), kind, problems));
    let spec = fields.need("spec", problems).and_then(|node| {
        read_spec(
            node,
            Field::Key(&fields.field, "spec"),
            kind,
            copied,
            problems,
        )
    });
    let (namespace, name) = names?;
    let (selector, rules) = spec?;
    if rules.is_empty() && problems.errors() == errors {
        let help = "rules are entries of `matchPaths`, `matchDirectories` and `matchPatterns`";
        problems.warning(document.at, "spec", "the policy has no rules", help);
    }
    Some(Policy {
        kind,
        namespace,
        name,
        selector,
        rules,
        native_apparmor: String::new(),
    })
}

/// `None` when it is not certain what the rest of the document should look like.
fn read_kind(fields: &Fields<'_>, problems: &mut Problems) -> Option<Kind> {
    let written = fields.need_text("kind", problems)?;
    let kind = match written.text {
        "KubeArmorPolicy" => Kind::Container,
        "KubeArmorHostPolicy" => Kind::Host,
        other => {
            let reason = format!("kind {} is not supported by this version", quote(other));
            let help = "there are `KubeArmorPolicy` and `KubeArmorHostPolicy`";
            problems.error_with_help(written.at, "kind", reason, help);
            return None;
        }
    };
    if let Some(version) = fields.need_text("apiVersion", problems)
        && version.text != API_VERSION
    {
        let reason = format!("{} is not supported by this version", quote(version.text));
        let help = format!("there is `{API_VERSION}`");
        problems.error_with_help(version.at, "apiVersion", reason, help);
    }
    Some(kind)
}

/// Namespace and name. Everything else in `metadata` is for other programs.
fn read_names(
    node: &Node,
    field: Field<'_>,
    kind: Kind,
    problems: &mut Problems,
) -> Option<(Option<String>, String)> {
    let metadata = Fields::open_any(node, field, problems)?;
    let name = metadata.need_text("name", problems);
    if let Some(name) = name {
        check_name(name.text, name.at, Field::Key(&field, "name"), problems);
    }
    let namespace = match kind {
        Kind::Container => metadata.text("namespace", problems),
        // COMPAT: host policies are cluster-scoped; a namespace in one is ignored.
        Kind::Host | Kind::Cluster => None,
    };
    let namespace = namespace.filter(|namespace| !namespace.text.is_empty());
    if let Some(namespace) = namespace {
        check_name(
            namespace.text,
            namespace.at,
            Field::Key(&field, "namespace"),
            problems,
        );
    }
    Some((
        namespace.map(|namespace| namespace.text.to_owned()),
        name?.text.to_owned(),
    ))
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

fn read_spec(
    node: &Node,
    field: Field<'_>,
    kind: Kind,
    copied: &mut Copied,
    problems: &mut Problems,
) -> Option<(crate::Selector, Vec<Rule>)> {
    let names = match kind {
        Kind::Container | Kind::Cluster => POLICY_SPEC,
        Kind::Host => HOST_POLICY_SPEC,
    };
    let spec = Fields::open(node, field, names, problems)?;
    let meta = MetaSpec::read(&spec, problems);
    let selector = read_selector(kind, &spec, problems);
    let mut rules = Vec::new();
    for (name, block) in [("process", Block::Process), ("file", Block::File)] {
        if let Some(node) = spec.get(name) {
            let field = Field::Key(&spec.field, name);
            read_block(node, field, block, &meta, &mut rules, copied, problems);
        }
    }
    // The blocks and their lists are read in a fixed order, whatever the order in the file.
    rules.sort_by_key(|rule| (rule.at.line, rule.at.column));
    Some((selector?, rules))
}

#[cfg(test)]
mod tests;
