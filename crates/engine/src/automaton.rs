// SPDX-License-Identifier: Apache-2.0
//! The automaton that backends run: one table step a byte.
//!
//! INVARIANT: minimal and canonical (see `minimise`): two automata that give every input the same
//! value are equal. States `0..sinks()` are absorbing.

use crate::nfa::Classes;
use std::fmt;

/// A deterministic automaton over the bytes of a path. Total: every state has a successor for every
/// class, and every state accepts a value.
///
/// Paths never contain byte 0, so its class says nothing; a backend that ends paths with it adds a
/// class of its own.
#[derive(Clone, PartialEq, Eq)]
pub struct Automaton {
    classes: Classes,
    class_count: u32,
    next: Vec<u32>,
    accepts: Vec<u32>,
    start: u32,
    sinks: u32,
}

/// Only the size: tables have thousands of entries.
impl fmt::Debug for Automaton {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Automaton")
            .field("states", &self.state_count())
            .field("classes", &self.class_count)
            .field("sinks", &self.sinks)
            .finish_non_exhaustive()
    }
}

impl Automaton {
    pub(crate) fn new(
        classes: Classes,
        next: Vec<u32>,
        accepts: Vec<u32>,
        start: u32,
        sinks: u32,
    ) -> Self {
        let class_count = u32::try_from(classes.count()).unwrap_or(u32::MAX);
        Self {
            classes,
            class_count,
            next,
            accepts,
            start,
            sinks,
        }
    }

    /// The class of a byte: bytes of one class are never told apart.
    pub fn class_of(&self, byte: u8) -> u32 {
        u32::from(self.classes.of(byte))
    }

    /// Number of classes.
    pub fn class_count(&self) -> u32 {
        self.class_count
    }

    /// Number of states.
    pub fn state_count(&self) -> u32 {
        u32::try_from(self.accepts.len()).unwrap_or(u32::MAX)
    }

    /// The state after `state` on a byte of `class`. Outside the table there is only state 0.
    pub fn next(&self, state: u32, class: u32) -> u32 {
        let at = u64::from(state) * u64::from(self.class_count) + u64::from(class);
        usize::try_from(at)
            .ok()
            .and_then(|at| self.next.get(at))
            .copied()
            .unwrap_or_default()
    }

    /// The value of a path that ends in `state`.
    pub fn accept(&self, state: u32) -> u32 {
        self.accepts
            .get(state as usize)
            .copied()
            .unwrap_or_default()
    }

    /// Where every path begins.
    pub fn start(&self) -> u32 {
        self.start
    }

    /// States below this are absorbing: every byte leads back to themselves.
    pub fn sinks(&self) -> u32 {
        self.sinks
    }

    /// The value of a path.
    pub fn run(&self, bytes: &[u8]) -> u32 {
        let mut state = self.start;
        for byte in bytes {
            if state < self.sinks {
                break;
            }
            state = self.next(state, self.class_of(*byte));
        }
        self.accept(state)
    }

    /// Everything that distinguishes this automaton, for hashing.
    pub(crate) fn words(&self) -> impl Iterator<Item = u32> {
        let classes = (0..=u8::MAX).map(|byte| self.class_of(byte));
        [self.start, self.sinks, self.class_count, self.state_count()]
            .into_iter()
            .chain(classes)
            .chain(self.next.iter().copied())
            .chain(self.accepts.iter().copied())
    }
}
