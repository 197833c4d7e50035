// SPDX-License-Identifier: Apache-2.0
//! The decision table: for every row (which rules name the object), source class and variant of
//! the access, the answer.
//!
//! Most rows treat most subjects alike, so a row has the cells of each *group* of source classes that
//! it tells apart, and names a map from source classes to its groups; rows share maps.
//!
//! INVARIANT: row 0 is "no rule names the object", source class 0 is "no `fromSource` names the
//! subject"; no two rows are equal, and rows are sorted by content except for row 0. Groups are
//! numbered by their first source class, and no two groups of a row are equal.

use crate::decisions::{Branch, Decision, Test};
use crate::nfa::index;
use gorget_model::{Category, Cause, Modes, Outcome, RuleId, Verdict};
use std::collections::HashMap;
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

/// A row while a table is made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Row {
    /// By source class.
    group_of: Vec<u32>,
    /// By group, then by variant.
    pub(crate) cells: Vec<Cell>,
}

impl Row {
    /// Joins groups that say the same.
    pub(crate) fn new(group_of: &[u32], groups: &[[Cell; Variant::COUNT as usize]]) -> Self {
        let mut joined: Vec<&[Cell; Variant::COUNT as usize]> = Vec::new();
        let numbers: Vec<u32> = groups
            .iter()
            .map(|cells| {
                let known = joined.iter().position(|other| *other == cells);
                index(known.unwrap_or_else(|| {
                    joined.push(cells);
                    joined.len() - 1
                }))
            })
            .collect();
        let number = |group: &u32| numbers.get(*group as usize).copied().unwrap_or_default();
        Self {
            group_of: group_of.iter().map(number).collect(),
            cells: joined.into_iter().flatten().copied().collect(),
        }
    }
}

/// The answers of one category.
#[derive(Clone, PartialEq, Eq)]
pub struct DecisionTable {
    sources: u32,
    /// Each has a group for every source class.
    maps: Vec<Vec<u32>>,
    /// For each row, which map, and its first group.
    rows: Vec<(u32, u32)>,
    /// By group, then by variant.
    cells: Vec<Cell>,
    branches: Vec<Branch>,
}

/// Only the size: tables have thousands of entries.
impl fmt::Debug for DecisionTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DecisionTable")
            .field("rows", &self.row_count())
            .field("groups", &self.group_count())
            .field("sources", &self.sources)
            .finish_non_exhaustive()
    }
}

impl DecisionTable {
    pub(crate) fn new(
        sources: u32,
        rows: impl Iterator<Item = Row>,
        branches: Vec<Branch>,
    ) -> Self {
        let mut table = Self {
            sources,
            maps: Vec::new(),
            rows: Vec::new(),
            cells: Vec::new(),
            branches,
        };
        let mut numbers: HashMap<Vec<u32>, u32> = HashMap::new();
        for Row { group_of, cells } in rows {
            let new = index(numbers.len());
            let map = *numbers.entry(group_of.clone()).or_insert(new);
            if map == new {
                table.maps.push(group_of);
            }
            table.rows.push((map, table.group_count()));
            table.cells.extend(cells);
        }
        table
    }

    /// Number of rows; at least 1.
    pub fn row_count(&self) -> u32 {
        index(self.rows.len())
    }

    /// Maps from source classes to groups, which rows share.
    pub fn maps(&self) -> &[Vec<u32>] {
        &self.maps
    }

    /// For each row, the number of its map and its first group.
    pub fn rows(&self) -> &[(u32, u32)] {
        &self.rows
    }

    /// Number of groups of all rows together; each has a decision for every variant.
    pub fn group_count(&self) -> u32 {
        index(self.cells.len()) / Variant::COUNT
    }

    /// What a group says. Outside the table nothing is known and everything passes.
    pub fn of_group(&self, group: u32, variant: Variant) -> Decision {
        let at = u64::from(group) * u64::from(Variant::COUNT) + u64::from(variant.0);
        let cell = usize::try_from(at).ok().and_then(|at| self.cells.get(at));
        cell.copied().unwrap_or(Cell::NO_RULE).decision()
    }

    /// What a cell says. Outside the table nothing is known and everything passes.
    pub fn decision(&self, row: u32, source: u32, variant: Variant) -> Decision {
        let group = self.rows.get(row as usize).and_then(|(map, first)| {
            let map = self.maps.get(*map as usize)?;
            Some(first + map.get(source as usize)?)
        });
        let nothing = Cell::NO_RULE.decision();
        group.map_or(nothing, |group| self.of_group(group, variant))
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

    /// Everything that distinguishes it but cells and branches, for hashing.
    pub(crate) fn words(&self) -> impl Iterator<Item = u32> {
        let maps = self.maps.iter().flatten().copied();
        let rows = self.rows.iter().flat_map(|(map, first)| [*map, *first]);
        [
            self.sources,
            self.row_count(),
            self.group_count(),
            index(self.maps.len()),
        ]
        .into_iter()
        .chain(maps)
        .chain(rows)
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
