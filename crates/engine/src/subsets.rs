// SPDX-License-Identifier: Apache-2.0
//! The subset construction: from the trie of names to a deterministic automaton.
//!
//! A state is the sorted set of trie nodes that can have been reached. For literal names that is one
//! node, so the result is again a trie. Most classes of most states lead to where the repeating
//! nodes alone lead; that set is worked out once for a state (twice: `/` is not repeated by `*`) and
//! only classes that a node names are worked out one by one.
//!
//! Patterns can multiply each other: each further `/**/alpha*/**/beta*` makes the table 2.3 times
//! as large. [`Budget`] bounds the work; running out is an error that says which names took most.

use crate::nfa::{Classes, Frozen, Overflow, Repeats, index};
use std::collections::HashMap;
use std::rc::Rc;

/// What one automaton may cost while it is built.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    pub(crate) states: usize,
    /// States times classes.
    pub(crate) transitions: usize,
    /// Trie nodes in all states together.
    pub(crate) members: usize,
}

/// Ten thousand realistic rules, two thirds of them about files, take 113,000 states with 38 classes:
/// 4.3 million transitions. The limits leave room for twice that. Hostile patterns just below them
/// were seen to take 0.5 s and 100 MB, and a table of that size (32 MiB) fits a map value on kernels
/// from 6.1 on.
pub(crate) const BUDGET: Budget = Budget {
    states: 250_000,
    transitions: 8 << 20,
    members: 8 << 20,
};

/// A deterministic automaton before minimisation.
#[derive(Debug)]
pub(crate) struct Raw {
    pub(crate) classes: Classes,
    /// Row-major by state; state 0 is the start.
    pub(crate) next: Vec<u32>,
    /// For each state, which of `accept_sets` it accepts.
    pub(crate) accepts: Vec<u32>,
    /// Set 0 is empty.
    pub(crate) accept_sets: Vec<Vec<u32>>,
}

/// Guarantees: state 0 is the start and every state is reachable.
pub(crate) fn determinise(nfa: &Frozen, budget: Budget) -> Result<Raw, Overflow> {
    let class_count = nfa.classes.count();
    let slash = usize::from(nfa.classes.of(b'/'));
    let mut states = States::default();
    let mut accept_sets = AcceptSets::new();
    let mut next = Vec::new();
    let mut accepts = Vec::new();
    let mut edges: Vec<(u8, u32)> = Vec::new();
    let (mut set, mut beside_slash, mut at_slash) = (Vec::new(), Vec::new(), Vec::new());

    states.intern(&nfa.start);
    let mut state = 0;
    while let Some(members) = states.sets.get(state).map(Rc::clone) {
        states.check(budget, class_count)?;
        accepts.push(accept_sets.of(nfa, &members));
        edges.clear();
        beside_slash.clear();
        at_slash.clear();
        for member in members.iter() {
            let node = nfa.node(*member);
            edges.extend_from_slice(&node.edges);
            match node.repeats {
                Repeats::Nothing => {}
                Repeats::NoSlash => beside_slash.extend_from_slice(nfa.entered(*member)),
                Repeats::Anything => {
                    beside_slash.extend_from_slice(nfa.entered(*member));
                    at_slash.extend_from_slice(nfa.entered(*member));
                }
            }
        }
        edges.sort_unstable();
        normalise(&mut beside_slash);
        normalise(&mut at_slash);
        let ordinary = states.intern(&beside_slash);
        let row = next.len();
        next.resize(row + class_count, ordinary);
        if at_slash != beside_slash {
            put(&mut next, row + slash, states.intern(&at_slash));
        }
        for named in edges.chunk_by(|a, b| a.0 == b.0) {
            let Some((class, _)) = named.first() else {
                continue;
            };
            let class = usize::from(*class);
            set.clear();
            set.extend_from_slice(if class == slash {
                &at_slash
            } else {
                &beside_slash
            });
            for (_, to) in named {
                set.extend_from_slice(nfa.entered(*to));
            }
            normalise(&mut set);
            put(&mut next, row + class, states.intern(&set));
        }
        state += 1;
    }
    Ok(Raw {
        classes: nfa.classes.clone(),
        next,
        accepts,
        accept_sets: accept_sets.sets,
    })
}

#[derive(Default)]
struct States {
    numbers: HashMap<Rc<[u32]>, u32>,
    sets: Vec<Rc<[u32]>>,
    members: usize,
}

impl States {
    fn intern(&mut self, set: &[u32]) -> u32 {
        if let Some(known) = self.numbers.get(set) {
            return *known;
        }
        let number = index(self.sets.len());
        let set: Rc<[u32]> = Rc::from(set);
        self.members += set.len();
        self.numbers.insert(Rc::clone(&set), number);
        self.sets.push(set);
        number
    }

    fn check(&self, budget: Budget, class_count: usize) -> Result<(), Overflow> {
        let transitions = self.sets.len().saturating_mul(class_count);
        let (limit, of) = if self.sets.len() > budget.states {
            (budget.states, "states")
        } else if transitions > budget.transitions {
            (budget.transitions, "transitions")
        } else if self.members > budget.members {
            (budget.members, "state members")
        } else {
            return Ok(());
        };
        Err(Overflow::new(limit, of, self.sets.iter()))
    }
}

struct AcceptSets {
    numbers: HashMap<Vec<u32>, u32>,
    sets: Vec<Vec<u32>>,
}

impl AcceptSets {
    fn new() -> Self {
        Self {
            numbers: HashMap::from([(Vec::new(), 0)]),
            sets: vec![Vec::new()],
        }
    }

    fn of(&mut self, nfa: &Frozen, members: &[u32]) -> u32 {
        let mut set = Vec::new();
        for member in members {
            set.extend_from_slice(&nfa.node(*member).accepts);
        }
        if set.is_empty() {
            return 0;
        }
        normalise(&mut set);
        if let Some(known) = self.numbers.get(&set) {
            return *known;
        }
        let number = index(self.sets.len());
        self.numbers.insert(set.clone(), number);
        self.sets.push(set);
        number
    }
}

impl Raw {
    /// The values that `path` accepts.
    pub(crate) fn accepted(&self, path: &[u8]) -> &[u32] {
        let class_count = self.classes.count();
        let mut state = 0;
        for byte in path {
            let class = usize::from(self.classes.of(*byte));
            state = self
                .next
                .get(state * class_count + class)
                .map_or(0, |to| *to as usize);
        }
        let set = self.accepts.get(state).map_or(0, |set| *set as usize);
        self.accept_sets.get(set).map_or(&[], Vec::as_slice)
    }
}

fn normalise(set: &mut Vec<u32>) {
    set.sort_unstable();
    set.dedup();
}

#[expect(
    clippy::indexing_slicing,
    reason = "INVARIANT: the row was appended just before"
)]
fn put(next: &mut [u32], at: usize, to: u32) {
    next[at] = to;
}
