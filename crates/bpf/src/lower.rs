// SPDX-License-Identifier: Apache-2.0
//! Lowers a ruleset to the bytes that the kernel programs read.
//!
//! A table is a header, then the branches, then for each category its decision rows and its automaton:
//! 256 class offsets and one row of `u32` a state; at the end the automata of sources and arguments. States are byte offsets of their rows, so that the kernel's step is two loads
//! and an addition; `bpf/abi.h` has the layout and why. Equal rulesets give equal bytes but for the
//! ruleset's number, which is put in when the table is installed.

use crate::abi;
use gorget_engine::{
    Arguments, Automaton, Branch, Decision, DecisionTable, Ruleset, Test, Variant,
};
use gorget_model::{Category, Cause, Outcome};
use std::mem::offset_of;

/// Columns of a row before the byte classes: what the state accepts, and the NUL byte.
const EXTRA_COLUMNS: u32 = 2;

/// Decisions of one group of source classes.
const GROUP_BYTES: u32 = Variant::COUNT * 4;

/// `struct rs_row`.
const ROW_BYTES: u32 = 8;

/// A ruleset cannot be lowered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LowerError {
    /// It is larger than the largest size class.
    #[error("the rules need {bytes} bytes in the kernel, the limit is {limit}")]
    TooLarge {
        /// Bytes needed.
        bytes: u64,
        /// Bytes there are.
        limit: u32,
    },
    /// It has too many different lists of `allowedArgs`.
    #[error("the rules have {lists} different lists of `allowedArgs`, the limit is {limit}")]
    ArgumentLists {
        /// How many it has.
        lists: usize,
        /// How many there may be.
        limit: u32,
    },
    /// It lists an argument that the kernel does not read to its end.
    #[error("an argument in `allowedArgs` has {bytes} bytes, the limit is {limit}")]
    LongArgument {
        /// How many it has.
        bytes: usize,
        /// How many there may be.
        limit: u32,
    },
    /// A rule's number does not fit beside the outcome in a decision.
    #[error("rule number {0} is too large for a decision")]
    RuleNumber(u32),
}

/// The kernel's form of a ruleset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    bytes: Vec<u8>,
    size_class: SizeClass,
}

/// How much room a table gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SizeClass {
    K64,
    K512,
    M4,
    M32,
}

impl SizeClass {
    pub(crate) const ALL: [Self; 4] = [Self::K64, Self::K512, Self::M4, Self::M32];

    /// Number in `workload.active`.
    pub(crate) fn number(self) -> u32 {
        match self {
            Self::K64 => abi::class::ABI_CLASS_64K.0,
            Self::K512 => abi::class::ABI_CLASS_512K.0,
            Self::M4 => abi::class::ABI_CLASS_4M.0,
            Self::M32 => abi::class::ABI_CLASS_32M.0,
        }
    }

    /// Bytes that a table of this class may have.
    pub(crate) fn bytes(self) -> u32 {
        match self {
            Self::K64 => abi::class_bytes::ABI_BYTES_64K.0,
            Self::K512 => abi::class_bytes::ABI_BYTES_512K.0,
            Self::M4 => abi::class_bytes::ABI_BYTES_4M.0,
            Self::M32 => abi::class_bytes::ABI_BYTES_32M.0,
        }
    }

    fn for_bytes(bytes: u64) -> Result<Self, LowerError> {
        Self::ALL
            .into_iter()
            .find(|c| u64::from(c.bytes()) >= bytes)
            .ok_or_else(|| LowerError::TooLarge {
                bytes,
                limit: Self::M32.bytes(),
            })
    }
}

impl Table {
    /// Bytes in use.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Never: a table has a header at least.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn size_class(&self) -> SizeClass {
        self.size_class
    }

    /// The bytes with the ruleset's number in the header.
    pub(crate) fn numbered(mut self, number: u32) -> Vec<u8> {
        put(&mut self.bytes, offset_of!(abi::rs_header, id), number);
        self.bytes
    }
}

/// Lowers a ruleset.
///
/// # Errors
///
/// When it does not fit into the largest table.
pub fn lower(rules: &Ruleset) -> Result<Table, LowerError> {
    let sets = ArgumentSets::new(rules.arguments())?;

    let categories = CATEGORIES.iter().map(|(_, category)| {
        let table = rules.decisions(*category);
        automaton_bytes(rules.objects(*category))
            + table.maps().iter().map(Vec::len).sum::<usize>() as u64 * 4
            + table.rows().len() as u64 * size_of::<abi::rs_row>() as u64
            + u64::from(table.group_count()) * u64::from(GROUP_BYTES)
            + table.branches().len() as u64 * size_of::<abi::rs_branch>() as u64
    });
    let bytes = size_of::<abi::rs_header>() as u64
        + automaton_bytes(rules.sources())
        + automaton_bytes(rules.arguments().automaton())
        + sets.bytes()
        + categories.sum::<u64>();
    let size_class = SizeClass::for_bytes(bytes)?;

    let mut out = Vec::with_capacity(usize::try_from(bytes).unwrap_or(0));
    out.resize(size_of::<abi::rs_header>(), 0);
    let version = abi::limit::ABI_VERSION.0;
    put(&mut out, offset_of!(abi::rs_header, abi), version);

    let content = offset_of!(abi::rs_header, content);
    let id = rules.content_id();
    out.iter_mut()
        .skip(content)
        .zip(id.as_bytes())
        .for_each(|(to, from)| *to = *from);

    put_branches(&mut out, rules)?;
    let mut branches_before = 0;
    for (slot, category) in CATEGORIES {
        let table = rules.decisions(category);
        let rows = put_decisions(&mut out, table, branches_before)?;
        branches_before += count(table.branches());
        put_automaton(&mut out, slot, rules.objects(category), |row| {
            rows + row * ROW_BYTES
        });
    }
    let slot = abi::automaton::ABI_AUTOMATON_SOURCE;
    put_automaton(&mut out, slot, rules.sources(), |class| class);
    sets.put(&mut out, rules.arguments().automaton());

    let used = end(&out);
    put(&mut out, offset_of!(abi::rs_header, size), used);
    Ok(Table {
        bytes: out,
        size_class,
    })
}

/// The categories that the kernel decides.
pub(crate) const CATEGORIES: [(abi::automaton, Category); 7] = [
    (abi::automaton::ABI_AUTOMATON_PROCESS, Category::Process),
    (abi::automaton::ABI_AUTOMATON_FILE, Category::File),
    (abi::automaton::ABI_AUTOMATON_NETWORK, Category::Network),
    (abi::automaton::ABI_AUTOMATON_DNS, Category::Dns),
    (
        abi::automaton::ABI_AUTOMATON_CAPABILITY,
        Category::Capability,
    ),
    (abi::automaton::ABI_AUTOMATON_SYSCALL, Category::Syscall),
    (abi::automaton::ABI_AUTOMATON_PRESET, Category::Preset),
];

/// For each value that the argument automaton accepts, the lists as bits.
struct ArgumentSets {
    words: u32,
    sets: Vec<Vec<u32>>,
}

impl ArgumentSets {
    fn new(arguments: &Arguments) -> Result<Self, LowerError> {
        let (lists, limit) = (arguments.lists().len(), abi::limit::ABI_ARGUMENT_LISTS.0);
        if u32::try_from(lists).is_ok_and(|lists| lists > limit) {
            return Err(LowerError::ArgumentLists { lists, limit });
        }
        let limit = abi::limit::ABI_ARGUMENT_MAX.0 - 1;
        let listed = arguments.lists().iter().flatten().map(String::len);
        if let Some(bytes) = listed.max().filter(|bytes| *bytes > limit as usize) {
            return Err(LowerError::LongArgument { bytes, limit });
        }
        let words = lists.div_ceil(32);
        let sets = arguments.containing().iter().map(|lists| {
            let mut bits = vec![0; words];
            for list in lists {
                if let Some(word) = bits.get_mut(*list as usize / 32) {
                    *word |= 1 << (list % 32);
                }
            }
            bits
        });
        Ok(Self {
            words: u32::try_from(words).unwrap_or(0),
            sets: sets.collect(),
        })
    }

    fn bytes(&self) -> u64 {
        self.sets.len() as u64 * u64::from(self.words) * 4
    }

    fn put(&self, out: &mut Vec<u8>, automaton: &Automaton) {
        let at = offset_of!(abi::rs_header, list_words);
        put(out, at, self.words);
        let start = end(out);
        for word in self.sets.iter().flatten() {
            out.extend_from_slice(&word.to_ne_bytes());
        }
        let slot = abi::automaton::ABI_AUTOMATON_ARGUMENT;
        put_automaton(out, slot, automaton, |set| start + set * self.words * 4);
    }
}

fn count(branches: &[Branch]) -> u32 {
    u32::try_from(branches.len()).unwrap_or(u32::MAX)
}

/// Appends the branches of all categories, one after the other.
fn put_branches(out: &mut Vec<u8>, rules: &Ruleset) -> Result<(), LowerError> {
    let start = end(out);
    put(out, offset_of!(abi::rs_header, branches), start);
    let mut before = 0;
    for (_, category) in CATEGORIES {
        let branches = rules.decisions(category).branches();
        for branch in branches {
            let test = match branch.test {
                Test::NoTerminal => 0,
                Test::Arguments(list) => list + 1,
            };
            let (holds, otherwise) = (
                encode(branch.holds, before)?,
                encode(branch.otherwise, before)?,
            );
            for word in [test, holds, otherwise, 0] {
                out.extend_from_slice(&word.to_ne_bytes());
            }
        }
        before += count(branches);
    }
    Ok(())
}

fn automaton_bytes(a: &Automaton) -> u64 {
    512 + u64::from(a.state_count()) * u64::from(a.class_count() + EXTRA_COLUMNS) * 4
}

/// Where the next byte goes. Sizes were checked against the size class before anything was put.
fn end(out: &[u8]) -> u32 {
    u32::try_from(out.len()).unwrap_or(u32::MAX)
}

/// Writes a word in native order; nothing where it does not fit.
pub(crate) fn put(out: &mut [u8], at: usize, word: u32) {
    if let Some(place) = out.get_mut(at..at + 4) {
        place.copy_from_slice(&word.to_ne_bytes());
    }
}

/// Appends a decision table and says where its rows start.
fn put_decisions(
    out: &mut Vec<u8>,
    table: &DecisionTable,
    branches_before: u32,
) -> Result<u32, LowerError> {
    let groups = end(out);
    for group in 0..table.group_count() {
        for bits in (0u8..).take(usize::try_from(Variant::COUNT).unwrap_or(0)) {
            let variant = Variant::from_bits(bits);
            let word = encode(table.of_group(group, variant), branches_before)?;
            out.extend_from_slice(&word.to_ne_bytes());
        }
    }
    let mut maps = Vec::with_capacity(table.maps().len());
    for map in table.maps() {
        maps.push(end(out));
        for group in map {
            out.extend_from_slice(&(group * GROUP_BYTES).to_ne_bytes());
        }
    }
    let rows = end(out);
    for (map, first) in table.rows() {
        let map = maps.get(*map as usize).copied().unwrap_or_default();
        for word in [map, groups + first * GROUP_BYTES] {
            out.extend_from_slice(&word.to_ne_bytes());
        }
    }
    Ok(rows)
}

/// A category's branches come after those of the categories before it.
fn encode(decision: Decision, branches_before: u32) -> Result<u32, LowerError> {
    let (outcome, cause, number) = match decision {
        Decision::Branch(branch) => (
            0,
            abi::cause::ABI_CAUSE_BRANCH.0,
            branches_before.saturating_add(branch),
        ),
        Decision::Verdict(verdict) => {
            let outcome = match verdict.outcome {
                Outcome::Pass => abi::outcome::ABI_OUTCOME_PASS.0,
                Outcome::Audit => abi::outcome::ABI_OUTCOME_AUDIT.0,
                Outcome::Block => abi::outcome::ABI_OUTCOME_BLOCK.0,
            };
            let (cause, rule) = match verdict.cause {
                Cause::NoRule => (abi::cause::ABI_CAUSE_NO_RULE.0, 0),
                Cause::Rule(id) => (abi::cause::ABI_CAUSE_RULE.0, id.0),
                Cause::DefaultPosture => (abi::cause::ABI_CAUSE_POSTURE.0, 0),
            };
            (outcome, cause, rule)
        }
    };
    let shift = abi::verdict::ABI_RULE_SHIFT.0;
    if number > u32::MAX >> shift {
        return Err(LowerError::RuleNumber(number));
    }
    Ok(outcome | cause << abi::verdict::ABI_CAUSE_SHIFT.0 | number << shift)
}

fn put_automaton(
    out: &mut Vec<u8>,
    slot: abi::automaton,
    a: &Automaton,
    accepted: impl Fn(u32) -> u32,
) {
    let classes = end(out);
    let columns = a.class_count() + EXTRA_COLUMNS;
    for byte in 0..=u8::MAX {
        let column = if byte == 0 {
            1
        } else {
            a.class_of(byte) + EXTRA_COLUMNS
        };
        // At most 258 columns: the offset fits.
        let offset = u16::try_from(column * 4).unwrap_or(u16::MAX);
        out.extend_from_slice(&offset.to_ne_bytes());
    }
    let rows = end(out);
    let row = |state: u32| rows + state * columns * 4;
    for state in 0..a.state_count() {
        out.extend_from_slice(&accepted(a.accept(state)).to_ne_bytes());
        out.extend_from_slice(&row(state).to_ne_bytes());
        for class in 0..a.class_count() {
            out.extend_from_slice(&row(a.next(state, class)).to_ne_bytes());
        }
    }
    let header = offset_of!(abi::rs_header, automata)
        + size_of::<abi::rs_automaton>() * usize::try_from(slot.0).unwrap_or(0);
    put(
        out,
        header + offset_of!(abi::rs_automaton, start),
        row(a.start()),
    );
    put(
        out,
        header + offset_of!(abi::rs_automaton, classes),
        classes,
    );
    put(
        out,
        header + offset_of!(abi::rs_automaton, sink_end),
        row(a.sinks()),
    );
    put(
        out,
        header + offset_of!(abi::rs_automaton, nothing),
        accepted(0),
    );
}
