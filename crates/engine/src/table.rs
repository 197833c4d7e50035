// SPDX-License-Identifier: Apache-2.0
//! The decision table: for every row (which rules name the object), source class and variant of
//! the access, the answer.
//!
//! INVARIANT: row 0 is "no rule names the object", source class 0 is "no `fromSource` names the
//! subject"; no two rows are equal, and rows are sorted by content except for row 0.

use crate::decisions::{Branch, Decision, Test};
use gorget_model::{Category, Cause, Modes, Outcome, RuleId, Verdict};
use std::fmt;

/// Which kind of access a cell of a [`DecisionTable`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Variant(u8);

impl Variant {
    /// Bit: content, metadata or the directory tree is changed.
    pub const WRITE: u8 = 1;
    /// Bit: the object's owner acts.
    pub const OWNER: u8 = 2;
    /// Bit: a directory is moved or removed with everything below it. Implies a write, whether or
    /// not [`Variant::WRITE`] is set beside it.
    pub const TREE: u8 = 4;
    /// How many there are.
    pub const COUNT: u32 = 8;

    /// Only the three bits count.
    pub fn from_bits(bits: u8) -> Self {
        Self(bits & (Self::WRITE | Self::OWNER | Self::TREE))
    }

    /// The bits, as an index below [`Variant::COUNT`].
    pub fn bits(self) -> u8 {
        self.0
    }

    /// What to look up for everything but files, and for a file access that changes nothing.
    pub fn read(modes: Modes) -> Self {
        Self(if modes.owner { Self::OWNER } else { 0 })
    }

    /// What to look up for a file access that changes something.
    pub fn write(modes: Modes) -> Self {
        let tree = if modes.tree { Self::TREE } else { 0 };
        Self(Self::read(modes).0 | Self::WRITE | tree)
    }

    /// Everything to look up for an access: two variants for a file that is read and written, and
    /// then the stricter verdict counts, on a tie the first.
    pub fn of(category: Category, modes: Modes) -> (Self, Option<Self>) {
        let changes = modes.write || modes.tree;
        if category == Category::File && changes {
            (Self::write(modes), modes.read.then(|| Self::read(modes)))
        } else {
            (Self::read(modes), None)
        }
    }
}

/// The answers of one category.
#[derive(Clone, PartialEq, Eq)]
pub struct DecisionTable {
    sources: u32,
    /// Row-major, then by source class, then by variant.
    cells: Vec<Cell>,
    branches: Vec<Branch>,
}

/// Only the size: tables have thousands of entries.
impl fmt::Debug for DecisionTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DecisionTable")
            .field("rows", &self.row_count())
            .field("sources", &self.sources)
            .finish_non_exhaustive()
    }
}

impl DecisionTable {
    pub(crate) fn new(sources: u32, cells: Vec<Cell>, branches: Vec<Branch>) -> Self {
        Self {
            sources,
            cells,
            branches,
        }
    }

    /// Number of rows; at least 1.
    pub fn row_count(&self) -> u32 {
        let width = (self.sources as usize)
            .saturating_mul(Variant::COUNT as usize)
            .max(1);
        u32::try_from(self.cells.len() / width).unwrap_or(u32::MAX)
    }

    /// What a cell says. Outside the table nothing is known and everything passes.
    pub fn decision(&self, row: u32, source: u32, variant: Variant) -> Decision {
        let line = u64::from(row) * u64::from(self.sources) + u64::from(source);
        let at = line * u64::from(Variant::COUNT) + u64::from(variant.0);
        let cell = usize::try_from(at).ok().and_then(|at| self.cells.get(at));
        cell.copied()
            .filter(|_| source < self.sources)
            .unwrap_or(Cell::NO_RULE)
            .decision()
    }

    /// The branches that cells name. Those that a branch leads to have smaller numbers.
    pub fn branches(&self) -> &[Branch] {
        &self.branches
    }

    /// Follows a decision to its verdict.
    pub fn settle(&self, mut decision: Decision, holds: impl Fn(Test) -> bool) -> Verdict {
        loop {
            let branch = match decision {
                Decision::Verdict(verdict) => return verdict,
                Decision::Branch(number) => self.branches.get(number as usize),
            };
            decision = match branch {
                Some(branch) if holds(branch.test) => branch.holds,
                Some(branch) => branch.otherwise,
                None => Cell::NO_RULE.decision(),
            };
        }
    }

    pub(crate) fn cells(&self) -> impl Iterator<Item = (Variant, Cell)> {
        let variants = (0..=u8::MAX)
            .take(Variant::COUNT as usize)
            .map(Variant)
            .cycle();
        variants.zip(self.cells.iter().copied())
    }
}

/// A decision in four bytes: outcome, cause and rule, or the number of a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Cell(u32);

const OUTCOME_SHIFT: u32 = 30;
const CAUSE_SHIFT: u32 = 28;
/// In place of a cause.
const BRANCH: u32 = 3;
/// More rules than fit in memory: a rule takes some hundred bytes.
const RULE_MASK: u32 = (1 << CAUSE_SHIFT) - 1;

impl Cell {
    pub(crate) const NO_RULE: Self = Self(0);

    pub(crate) fn new(verdict: Verdict) -> Self {
        let outcome = match verdict.outcome {
            Outcome::Pass => 0,
            Outcome::Audit => 1,
            Outcome::Block => 2,
        };
        let (cause, rule) = match verdict.cause {
            Cause::NoRule => (0, 0),
            Cause::DefaultPosture => (1, 0),
            Cause::Rule(RuleId(rule)) => (2, rule & RULE_MASK),
        };
        Self(outcome << OUTCOME_SHIFT | cause << CAUSE_SHIFT | rule)
    }

    pub(crate) fn branch(number: u32) -> Self {
        Self(BRANCH << CAUSE_SHIFT | number & RULE_MASK)
    }

    pub(crate) fn decision(self) -> Decision {
        if self.0 >> CAUSE_SHIFT & 3 == BRANCH {
            Decision::Branch(self.0 & RULE_MASK)
        } else {
            Decision::Verdict(self.verdict())
        }
    }

    pub(crate) fn verdict(self) -> Verdict {
        let outcome = match self.0 >> OUTCOME_SHIFT {
            0 => Outcome::Pass,
            1 => Outcome::Audit,
            _ => Outcome::Block,
        };
        let cause = match self.0 >> CAUSE_SHIFT & 3 {
            0 => Cause::NoRule,
            1 => Cause::DefaultPosture,
            _ => Cause::Rule(RuleId(self.0 & RULE_MASK)),
        };
        Verdict { outcome, cause }
    }

    /// Everything that distinguishes it.
    pub(crate) fn word(self) -> u32 {
        self.0
    }
}

impl From<Decision> for Cell {
    fn from(decision: Decision) -> Self {
        match decision {
            Decision::Verdict(verdict) => Self::new(verdict),
            Decision::Branch(number) => Self::branch(number),
        }
    }
}
