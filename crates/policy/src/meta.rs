// SPDX-License-Identifier: Apache-2.0
//! What rules can inherit: action, severity, tags and message.
//!
//! [`MetaSpec`] is these four as written at one place: in a rule, in its category block, or in
//! `spec`. [`Inheritance::resolve`] fills in a rule from all three; each of the four comes from the
//! innermost place that says something.
//!
//! Every rule gets its own copy of the texts, and one entry can be many rules, so a small file could
//! ask for a lot of memory; the bytes copied for one file are limited.

use crate::fields::{Field, Fields, similar_word};
use crate::policy::Action;
use crate::problem::{Position, Problems, quote};
use crate::shape::Words;

/// Texts of 200 bytes for 300,000 rules.
const MOST_COPIED: usize = 64 << 20;

/// COMPAT: the CRDs know the first three spellings, the daemon also the others; in files any case
/// is accepted.
pub(crate) const ACTIONS: Words<Action> = &[
    ("Allow", Action::Allow),
    ("Audit", Action::Audit),
    ("Block", Action::Block),
    ("allow", Action::Allow),
    ("audit", Action::Audit),
    ("block", Action::Block),
];

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
        let tags = fields.texts("tags", problems);
        let message = fields.text("message", problems);
        let severity = fields.number("severity", problems);
        Self {
            severity: severity.and_then(|severity| u8::try_from(severity).ok()),
            tags: tags.iter().map(|tag| tag.text.to_owned()).collect(),
            message: message
                .map(|message| message.text.to_owned())
                .unwrap_or_default(),
            action: action(fields, problems),
        }
    }
}

fn action(fields: &Fields<'_>, problems: &mut Problems) -> Option<Action> {
    let written = fields.text("action", problems)?;
    if written.text.is_empty() {
        return None;
    }
    let mut known = ACTIONS.iter();
    if let Some((_, action)) = known.find(|(word, _)| word.eq_ignore_ascii_case(written.text)) {
        return Some(*action);
    }
    let reason = format!("{} is not an action", quote(written.text));
    let help = match similar_word(written.text, &crate::shape::words(ACTIONS)) {
        Some(similar) => format!("did you mean `{similar}`?"),
        None => "there are `Allow`, `Audit` and `Block`".to_owned(),
    };
    let field = Field::Key(&fields.field, "action");
    problems.error_with_help(written.at, field, reason, help);
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

/// How many bytes were copied into rules, for a whole file.
#[derive(Debug, Default)]
pub(crate) struct Copied(usize);

impl Copied {
    /// False, and an error, when that is too much.
    pub(crate) fn charge(&mut self, bytes: usize, at: Position, problems: &mut Problems) -> bool {
        let within = self.0 <= MOST_COPIED;
        self.0 = self.0.saturating_add(bytes);
        if within && self.0 > MOST_COPIED {
            let reason = "tags, messages and sources are copied into too many rules of this file";
            problems.error_with_help(at, "", reason, "shorten them or split the file");
        }
        self.0 <= MOST_COPIED
    }
}

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
        let bytes = tag_bytes.sum::<usize>() + message.map_or(0, String::len);
        if !copied.charge(bytes, at, problems) {
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
