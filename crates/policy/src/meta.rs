// SPDX-License-Identifier: Apache-2.0
//! What rules can inherit: action, severity, tags and message.
//!
//! [`MetaSpec`] is these four as written at one place: in a rule, in its category block, or in
//! `spec`. [`Inheritance::resolve`] fills in a rule from all three; each of the four comes from the
//! innermost place that says something.
//!
//! Every rule gets its own copy of the texts, so a small file could ask for a lot of memory; the
//! bytes copied for one file are limited.

use crate::fields::{Field, Fields, similar_word, text};
use crate::policy::Action;
use crate::problem::{Position, Problems, quote};
use crate::yaml::Value;

/// KubeArmor's CRDs: `minimum: 1`, `maximum: 10`.
const SEVERITIES: std::ops::RangeInclusive<u8> = 1..=10;

/// Texts of 200 bytes for 300,000 rules.
const MOST_INHERITED: usize = 64 << 20;

const ACTIONS: &[&str] = &["Allow", "Audit", "Block"];

/// Action, severity, tags and message as written in one place. Empty is the same as absent.
#[derive(Debug, Default)]
pub(crate) struct MetaSpec {
    severity: Option<u8>,
    tags: Vec<String>,
    message: String,
    action: Option<Action>,
}

impl MetaSpec {
    pub(crate) fn read(fields: &Fields<'_>, problems: &mut Problems) -> Self {
        let list_field = Field::Key(&fields.field, "tags");
        let tags = fields
            .list("tags", problems)
            .iter()
            .enumerate()
            .filter_map(|(index, node)| {
                text(node, Field::Index(&list_field, index), problems)
                    .map(|tag| tag.text.to_owned())
            });
        let tags = tags.collect();
        let message = fields.text("message", problems);
        Self {
            severity: severity(fields, problems),
            tags,
            message: message
                .map(|message| message.text.to_owned())
                .unwrap_or_default(),
            action: action(fields, problems),
        }
    }
}

fn severity(fields: &Fields<'_>, problems: &mut Problems) -> Option<u8> {
    let node = fields.get("severity")?;
    let field = Field::Key(&fields.field, "severity");
    let (found, help) = match &node.value {
        Value::Number(text) => match text.parse() {
            Ok(severity) if SEVERITIES.contains(&severity) => return Some(severity),
            Ok(_) | Err(_) => (quote(text), None),
        },
        Value::Text(text) => (
            format!("the string {}", quote(text)),
            Some("write it without quotes"),
        ),
        Value::Boolean(_, text) => (quote(text), None),
        Value::Sequence(_) => ("a list".to_owned(), None),
        Value::Mapping(_) => ("a mapping".to_owned(), None),
        Value::Null | Value::Refused => return None,
    };
    let reason = format!("must be a whole number from 1 to 10, but is {found}");
    match help {
        Some(help) => problems.error_with_help(node.at, field, reason, help),
        None => problems.error(node.at, field, reason),
    }
    None
}

/// COMPAT: the CRDs know three spellings, the daemon also lower case; here any case is accepted.
fn action(fields: &Fields<'_>, problems: &mut Problems) -> Option<Action> {
    let written = fields.text("action", problems)?;
    match written.text.to_ascii_lowercase().as_str() {
        "" => return None,
        "allow" => return Some(Action::Allow),
        "audit" => return Some(Action::Audit),
        "block" => return Some(Action::Block),
        _ => {}
    }
    let reason = format!("{} is not an action", quote(written.text));
    let help = match similar_word(written.text, ACTIONS) {
        Some(similar) => format!("did you mean `{similar}`?"),
        None => "there are `Allow`, `Audit` and `Block`".to_owned(),
    };
    problems.error_with_help(
        written.at,
        Field::Key(&fields.field, "action"),
        reason,
        help,
    );
    None
}

/// A rule's four values with nothing left to inherit.
#[derive(Debug)]
pub(crate) struct Meta {
    pub(crate) severity: Option<u8>,
    pub(crate) tags: Vec<String>,
    pub(crate) message: String,
    pub(crate) action: Action,
}

/// How many bytes of text were copied into rules, for a whole file.
#[derive(Debug, Default)]
pub(crate) struct Copied(usize);

/// The places outside a rule, innermost first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inheritance<'s> {
    pub(crate) block: &'s MetaSpec,
    pub(crate) spec: &'s MetaSpec,
}

impl Inheritance<'_> {
    /// `None`, and an error, when the file's texts have been copied too often.
    pub(crate) fn resolve(
        &self,
        rule: &MetaSpec,
        at: Position,
        copied: &mut Copied,
        problems: &mut Problems,
    ) -> Option<Meta> {
        let places = [rule, self.block, self.spec];
        let tags = places
            .iter()
            .map(|place| &place.tags)
            .find(|tags| !tags.is_empty());
        let message = places
            .iter()
            .map(|place| &place.message)
            .find(|text| !text.is_empty());
        let tag_bytes = tags
            .into_iter()
            .flatten()
            .map(|tag| tag.len() + size_of::<String>());
        let within = copied.0 <= MOST_INHERITED;
        copied.0 += tag_bytes.sum::<usize>() + message.map_or(0, String::len);
        if copied.0 > MOST_INHERITED {
            if within {
                let reason = "tags and messages are inherited by too many rules of this file";
                problems.error_with_help(at, "", reason, "shorten them or split the file");
            }
            return None;
        }
        Some(Meta {
            severity: places.iter().find_map(|place| place.severity),
            tags: tags.cloned().unwrap_or_default(),
            message: message.cloned().unwrap_or_default(),
            action: places
                .iter()
                .find_map(|place| place.action)
                .unwrap_or(Action::Block),
        })
    }
}
