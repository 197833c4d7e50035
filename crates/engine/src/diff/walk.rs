// SPDX-License-Identifier: Apache-2.0
//! Everything that several automata together can say about an object, with the smallest object of
//! each.
//!
//! A breadth-first walk over the product of the automata and the grammar of objects. Bytes that
//! none of them tells apart are one step; the most readable byte stands for all of them. What the walk
//! meets first is the shortest, and of equally short the most readable.
//!
//! Failure: the product can be as large as its factors multiplied. A bound on its states ends the
//! walk with [`TooManyStates`].

use crate::automaton::Automaton;
use crate::diff::grammar::Grammar;
use crate::nfa::index;
use std::collections::HashSet;

/// An object, and what each automaton accepts it with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found<const N: usize> {
    pub(crate) values: [u32; N],
    pub(crate) bytes: Vec<u8>,
}

/// The product is larger than allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooManyStates;

/// Every combination of values that an object of `grammar` can have, the smallest object first.
pub(crate) fn walk<const N: usize>(
    automata: [&Automaton; N],
    grammar: Grammar,
    limit: usize,
) -> Result<Vec<Found<N>>, TooManyStates> {
    let steps: Vec<Vec<(u8, u8)>> = (0..grammar.states())
        .map(|state| distinct(&automata, grammar.steps(state)))
        .collect();
    let mut walk = Walk {
        automata,
        grammar,
        known: HashSet::new(),
        nodes: Vec::new(),
        said: HashSet::new(),
        found: Vec::new(),
    };
    walk.arrive(automata.map(Automaton::start), 0, None);
    let (mut length, mut end) = (0, walk.nodes.len());
    let mut number = 0;
    while let Some(node) = walk.nodes.get(number).copied() {
        if number == end {
            (length, end) = (length + 1, walk.nodes.len());
        }
        if length == grammar.longest() {
            break;
        }
        if !walk.is_finished(&node) {
            for (byte, state) in steps.get(usize::from(node.state)).into_iter().flatten() {
                let at = std::array::from_fn(|which| {
                    let from = node.at.get(which).copied().unwrap_or_default();
                    let automaton = automata.get(which);
                    automaton.map_or(0, |a| a.next(from, a.class_of(*byte)))
                });
                walk.arrive(at, *state, Some((index(number), *byte)));
            }
            if walk.nodes.len() > limit {
                return Err(TooManyStates);
            }
        }
        number += 1;
    }
    Ok(walk.found)
}

/// The first of all steps that the automata and the grammar take alike.
fn distinct<const N: usize>(automata: &[&Automaton; N], mut steps: Vec<(u8, u8)>) -> Vec<(u8, u8)> {
    let mut seen = HashSet::new();
    steps.retain(|(byte, to)| seen.insert((automata.map(|a| a.class_of(*byte)), *to)));
    steps
}

#[derive(Clone, Copy)]
struct Node<const N: usize> {
    at: [u32; N],
    state: u8,
    /// Where it was reached from, and by which byte.
    from: Option<(u32, u8)>,
}

struct Walk<'a, const N: usize> {
    automata: [&'a Automaton; N],
    grammar: Grammar,
    known: HashSet<([u32; N], u8)>,
    nodes: Vec<Node<N>>,
    said: HashSet<[u32; N]>,
    found: Vec<Found<N>>,
}

impl<const N: usize> Walk<'_, N> {
    fn arrive(&mut self, at: [u32; N], state: u8, from: Option<(u32, u8)>) {
        if !self.known.insert((at, state)) {
            return;
        }
        let node = Node { at, state, from };
        self.nodes.push(node);
        if self.grammar.accepts(state) {
            let values = self.values(&node);
            if self.said.insert(values) {
                let bytes = self.bytes(&node);
                self.found.push(Found { values, bytes });
            }
        }
    }

    fn values(&self, node: &Node<N>) -> [u32; N] {
        std::array::from_fn(|which| {
            let state = node.at.get(which).copied().unwrap_or_default();
            let automaton = self.automata.get(which);
            automaton.map_or(0, |automaton| automaton.accept(state))
        })
    }

    /// Whether everything from here on has been said before.
    fn is_finished(&self, node: &Node<N>) -> bool {
        let mut places = node.at.iter().zip(&self.automata);
        places.all(|(state, automaton)| *state < automaton.sinks())
            && self.said.contains(&self.values(node))
    }

    fn bytes(&self, last: &Node<N>) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut from = last.from;
        while let Some((number, byte)) = from {
            bytes.push(byte);
            from = self.nodes.get(number as usize).and_then(|node| node.from);
        }
        bytes.reverse();
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::minimise::minimise;
    use crate::nfa::Nfa;
    use crate::subsets::{BUDGET, determinise};
    use gorget_policy::Token;

    /// Accepts what the text, in which `*` is any run, matches.
    fn automaton(text: &str) -> Automaton {
        let tokens: Vec<Token> = text
            .bytes()
            .map(|byte| match byte {
                b'*' => Token::DeepRun,
                byte => Token::Byte(byte),
            })
            .collect();
        let mut nfa = Nfa::new();
        nfa.insert(&tokens, 1);
        let raw = determinise(&nfa.freeze(1 << 20).unwrap(), BUDGET).unwrap();
        let labels: Vec<u32> = raw.accepts.iter().map(|set| u32::from(*set != 0)).collect();
        minimise(&raw.classes, &raw.next, &labels)
    }

    fn smallest<const N: usize>(automata: [&Automaton; N], values: [u32; N]) -> Option<String> {
        let found = walk(automata, Grammar::Path, 1_000).unwrap();
        let found = found.into_iter().find(|found| found.values == values);
        found.map(|found| String::from_utf8(found.bytes).unwrap())
    }

    #[test]
    fn the_shortest_and_most_readable_object_is_found_for_every_combination() {
        let (etc, conf) = (automaton("/etc/*"), automaton("*.conf"));
        let of = |values| smallest([&etc, &conf], values);
        assert_eq!(of([1, 1]).unwrap(), "/etc/.conf");
        assert_eq!(of([1, 0]).unwrap(), "/etc/a");
        assert_eq!(of([0, 1]).unwrap(), "/.conf");
        assert_eq!(of([0, 0]).unwrap(), "/");
    }

    #[test]
    fn what_no_path_can_be_is_not_found() {
        for text in ["a*", "/a*/", "*//*", "/./*", "/a/.."] {
            assert_eq!(smallest([&automaton(text)], [1]), None, "{text}");
        }
    }

    #[test]
    fn an_object_is_not_longer_than_the_kernel_takes() {
        let long = automaton(&format!("/{}*", "a".repeat(4_094)));
        let longer = automaton(&format!("/{}*", "a".repeat(4_095)));
        let found = |automaton| walk([automaton], Grammar::Path, 1 << 20).unwrap().len();
        assert_eq!((found(&long), found(&longer)), (2, 1));
    }

    #[test]
    fn a_product_that_is_too_large_is_refused() {
        let two = [&automaton("/a*b*c*d"), &automaton("/d*c*b*a")];
        assert_eq!(walk(two, Grammar::Path, 20), Err(TooManyStates));
        assert!(walk(two, Grammar::Path, 200).is_ok());
    }
}
