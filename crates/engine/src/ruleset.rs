// SPDX-License-Identifier: Apache-2.0
//! A compiled policy set, and the reference decision.
//!
//! INVARIANT: every rule id in a table is an index into `rules`; row and source numbers that the
//! automata accept are inside the tables.

use crate::arguments::Arguments;
use crate::automaton::Automaton;
use crate::decisions::{Branch, Test};
use crate::nfa::index;
use crate::objects::object_bytes;
use crate::table::{Cell, DecisionTable, Variant};
use gorget_model::{Access, Category, Subject, Verdict};
use gorget_policy::{Action, Kind, Location};
use sha2::{Digest, Sha256};
use std::fmt;

/// Everything that one policy set means.
#[derive(Clone, Debug)]
pub struct Ruleset {
    /// In the order of [`Category::ALL`].
    pub(crate) categories: [Compiled; Category::ALL.len()],
    pub(crate) arguments: Arguments,
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
    /// From the raw hash, as it was kept somewhere.
    pub fn from_bytes(hash: [u8; 32]) -> Self {
        Self(hash)
    }

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
    /// From the bytes of an object ([`crate::object_bytes`]) to a row of the decision table; row 0
    /// when no rule names it.
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

    /// Which `allowedArgs` a program's arguments keep to.
    pub fn arguments(&self) -> &Arguments {
        &self.arguments
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
        let [
            process,
            file,
            network,
            dns,
            capability,
            syscall,
            device,
            preset,
        ] = &self.categories;
        match category {
            Category::Process => process,
            Category::File => file,
            Category::Network => network,
            Category::Dns => dns,
            Category::Capability => capability,
            Category::Syscall => syscall,
            Category::Device => device,
            Category::Preset => preset,
        }
    }
}

/// The meaning of a policy set for one access. Every backend must give this answer.
///
/// - A file that is opened for reading and writing is looked up twice and the stricter verdict counts
///   (Block, Audit, Pass); on a tie the one for writing.
/// - Everything but a file is neither read nor written; only ownership can matter.
/// - An object without a name has row 0, the runtime as a subject has source class 0.
/// - A rule that its modifiers silence for an access takes no part in precedence.
pub fn decide(rules: &Ruleset, access: &Access) -> Verdict {
    let source = match &access.subject {
        Subject::Runtime => 0,
        Subject::Image(path) => rules.sources.run(path),
    };
    let automaton = rules.objects(access.category);
    let row = object_bytes(&access.object).map_or(0, |bytes| automaton.run(&bytes));
    let table = rules.decisions(access.category);
    let holds = |test| match test {
        Test::NoTerminal => !access.modes.terminal,
        Test::Arguments(list) => rules.arguments.hold(list, &access.arguments),
    };
    let verdict = |variant| table.settle(table.decision(row, source, variant), holds);
    let (first, second) = Variant::of(access.category, access.modes);
    let first = verdict(first);
    match second.map(verdict) {
        Some(other) if other.outcome > first.outcome => other,
        Some(_) | None => first,
    }
}

/// Hashes everything that a ruleset means; lengths go before contents, so no two rulesets have the
/// same bytes.
pub(crate) fn content_id(
    categories: &[Compiled],
    arguments: &Arguments,
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
        decisions.words().for_each(&mut word);
        decisions.cells().for_each(|(_, cell)| word(cell.word()));
        word(index(decisions.branches().len()));
        for branch in decisions.branches() {
            let Branch {
                test,
                holds,
                otherwise,
            } = branch;
            word(match test {
                Test::NoTerminal => 0,
                Test::Arguments(list) => list.saturating_add(1),
            });
            word(Cell::from(*holds).word());
            word(Cell::from(*otherwise).word());
        }
    }
    arguments.automaton.words().for_each(&mut word);
    for lists in &arguments.containing {
        word(index(lists.len()));
        lists.iter().copied().for_each(&mut word);
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
