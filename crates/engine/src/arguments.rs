// SPDX-License-Identifier: Apache-2.0
//! `allowedArgs`: which lists of arguments a program's arguments keep to.
//!
//! Every different list of a ruleset has a number. One automaton over the bytes of an argument
//! tells which lists contain it; a list holds for a program when it contains every argument after
//! `argv[0]`, so also when there are none.

use crate::automaton::Automaton;
use std::collections::BTreeSet;

/// Tells which argument lists hold.
#[derive(Clone, Debug)]
pub struct Arguments {
    pub(crate) automaton: Automaton,
    /// By what the automaton accepts: the lists that contain the argument. Sorted; the first is
    /// empty.
    pub(crate) containing: Vec<Vec<u32>>,
    /// By number.
    pub(crate) lists: Vec<BTreeSet<String>>,
}

impl Arguments {
    /// From an argument to an index into [`Arguments::containing`].
    pub fn automaton(&self) -> &Automaton {
        &self.automaton
    }

    /// For each value that the automaton accepts, the numbers of the lists that contain such an
    /// argument, ascending. The first is empty.
    pub fn containing(&self) -> &[Vec<u32>] {
        &self.containing
    }

    /// The lists themselves, by number.
    pub fn lists(&self) -> &[BTreeSet<String>] {
        &self.lists
    }

    /// Whether list `number` contains every one of `arguments`.
    pub fn hold(&self, number: u32, arguments: &[Vec<u8>]) -> bool {
        arguments.iter().all(|argument| {
            let lists = self.containing.get(self.automaton.run(argument) as usize);
            lists.is_some_and(|lists| lists.binary_search(&number).is_ok())
        })
    }
}
