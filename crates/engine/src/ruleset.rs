// SPDX-License-Identifier: Apache-2.0
//! A compiled policy set, and the reference decision.
//!
//! INVARIANT: every rule id in a table is an index into `rules`; row and source numbers that the
//! automata accept are inside the tables.

use crate::automaton::Automaton;
use crate::table::{Cell, DecisionTable, Variant};
use gorget_model::{Access, Category, Object, Subject, Verdict};
use gorget_policy::{Action, Kind, Location};
use sha2::{Digest, Sha256};
use std::fmt;

/// Everything that one policy set means.
#[derive(Clone, Debug)]
pub struct Ruleset {
    pub(crate) process: Compiled,
    pub(crate) file: Compiled,
    pub(crate) sources: Automaton,
    pub(crate) source_classes: u32,
    pub(crate) rules: Vec<RuleInfo>,
    pub(crate) content_id: ContentId,
}

#[derive(Clone, Debug)]
pub(crate) struct Compiled {
    pub(crate) objects: Automaton,
    pub(crate) decisions: DecisionTable,
}

/// What an alert says about the rule that decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleInfo {
    /// `metadata.name` of its policy.
    pub policy: String,
    /// `metadata.namespace` of its policy.
    pub namespace: Option<String>,
    /// Kind of its policy.
    pub kind: Kind,
    /// 1 to 10.
    pub severity: Option<u8>,
    /// Tags in the order written.
    pub tags: Vec<String>,
    /// Message for people; empty when none.
    pub message: String,
    /// What it asks for.
    pub action: Action,
    /// Where it is written.
    pub at: Location,
}

/// Equal for rulesets that answer every access alike and name the same rules in their alerts, and
/// for no others (SHA-256). Where in a file a rule stands is not part of it, so that an edited comment
/// changes nothing in the kernel.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentId([u8; 32]);

impl ContentId {
    /// The raw hash.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContentId({self})")
    }
}

impl Ruleset {
    /// From the path of an object to a row of the decision table; row 0 when no rule names it.
    pub fn objects(&self, category: Category) -> &Automaton {
        &self.category(category).objects
    }

    /// The answers.
    pub fn decisions(&self, category: Category) -> &DecisionTable {
        &self.category(category).decisions
    }

    /// From the path of the subject's image to its source class; class 0 when no `fromSource` names
    /// it, and for [`Subject::Runtime`].
    pub fn sources(&self) -> &Automaton {
        &self.sources
    }

    /// Number of source classes; at least 1.
    pub fn source_classes(&self) -> u32 {
        self.source_classes
    }

    /// Every rule of the set, by rule id.
    pub fn rules(&self) -> &[RuleInfo] {
        &self.rules
    }

    /// False when every access of this category passes and no rule is the reason.
    pub fn covers(&self, category: Category) -> bool {
        self.decisions(category)
            .cells()
            .any(|(_, cell)| cell != Cell::NO_RULE)
    }

    /// True when only moves of directories are covered: every other access of this category passes
    /// and no rule is the reason. That is so for files when all rules are about processes.
    pub fn covers_only_trees(&self, category: Category) -> bool {
        let ordinary = |variant: Variant| variant.bits() & Variant::TREE == 0;
        let mut cells = self.decisions(category).cells();
        self.covers(category) && cells.all(|(v, cell)| !ordinary(v) || cell == Cell::NO_RULE)
    }

    /// Names what this ruleset means.
    pub fn content_id(&self) -> ContentId {
        self.content_id
    }

    fn category(&self, category: Category) -> &Compiled {
        match category {
            Category::Process => &self.process,
            Category::File => &self.file,
        }
    }
}

/// The meaning of a policy set for one access. Every backend must give this answer.
///
/// - A file that is opened for reading and writing is looked up twice and the stricter verdict counts
///   (Block, Audit, Pass); on a tie the one for writing.
/// - For a process only ownership matters; it is neither read nor written.
/// - An object without a name has row 0, the runtime as a subject has source class 0.
/// - A rule that its modifiers silence for an access takes no part in precedence.
pub fn decide(rules: &Ruleset, access: &Access) -> Verdict {
    let source = match &access.subject {
        Subject::Runtime => 0,
        Subject::Image(path) => rules.sources.run(path),
    };
    let row = match &access.object {
        Object::Nameless => 0,
        Object::Path(path) => rules.objects(access.category).run(path),
    };
    let table = rules.decisions(access.category);
    let (first, second) = Variant::of(access.category, access.modes);
    let verdict = table.verdict(row, source, first);
    match second.map(|variant| table.verdict(row, source, variant)) {
        Some(other) if other.outcome > verdict.outcome => other,
        Some(_) | None => verdict,
    }
}

/// Hashes everything that a ruleset means; lengths go before contents, so no two rulesets have the
/// same bytes.
pub(crate) fn content_id(
    categories: [&Compiled; 2],
    sources: &Automaton,
    source_classes: u32,
    rules: &[RuleInfo],
) -> ContentId {
    let mut hash = Sha256::new();
    let mut word = |value: u32| hash.update(value.to_le_bytes());
    word(source_classes);
    sources.words().for_each(&mut word);
    for Compiled { objects, decisions } in categories {
        objects.words().for_each(&mut word);
        word(decisions.row_count());
        decisions.cells().for_each(|(_, cell)| word(cell.word()));
    }
    let mut text = |value: &str| {
        hash.update(u64::try_from(value.len()).unwrap_or(u64::MAX).to_le_bytes());
        hash.update(value);
    };
    for rule in rules {
        let RuleInfo {
            policy,
            namespace,
            kind,
            severity,
            tags,
            message,
            action,
            at: _,
        } = rule;
        text(policy);
        text(&format!(
            "{namespace:?}{kind:?}{severity:?}{action:?}{}",
            tags.len()
        ));
        tags.iter().for_each(|tag| text(tag));
        text(message);
    }
    ContentId(hash.finalize().into())
}
