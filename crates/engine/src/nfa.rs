// SPDX-License-Identifier: Apache-2.0
//! All names of one automaton as a nondeterministic one, shaped as a trie over tokens.
//!
//! Names that begin alike share their nodes: a set of literal paths is a plain trie, and any number
//! of execnames share one `**/`. That is what keeps the subset construction cheap.
//!
//! A node stands for "exactly these tokens were matched so far", so rules may share it freely.
//! `*` and `**` are a node of their own that can be entered without a byte and repeats; `{a,b}` ends
//! in a node that can be entered without a byte from the end of each alternative.
//!
//! Byte 0 is in no set: paths never contain it.

use gorget_policy::Token;
use std::collections::HashMap;

/// The node where matching begins.
const ROOT: u32 = 0;

/// A trie of token sequences.
#[derive(Debug)]
pub(crate) struct Nfa {
    nodes: Vec<Node>,
}

#[derive(Debug, Default)]
struct Node {
    bytes: Vec<(u8, u32)>,
    /// Where each other token leads; for `*`, `**` and `{}` without consuming a byte.
    tokens: Vec<(Token, u32)>,
    /// Ends of alternatives: nodes that are entered from here without a byte.
    joins: Vec<u32>,
    repeats: Repeats,
    accepts: Vec<u32>,
}

/// Which bytes lead from a node back to itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Repeats {
    #[default]
    Nothing,
    NoSlash,
    Anything,
}

impl Nfa {
    pub(crate) fn new() -> Self {
        Self {
            nodes: vec![Node::default()],
        }
    }

    /// Makes paths that `tokens` match accept `value`. Returns the nodes that this name uses.
    pub(crate) fn insert(&mut self, tokens: &[Token], value: u32) -> Vec<u32> {
        let mut used = Vec::new();
        let end = self.walk(ROOT, tokens, &mut used);
        let accepts = &mut self.node(end).accepts;
        if !accepts.contains(&value) {
            accepts.push(value);
        }
        used
    }

    fn walk(&mut self, from: u32, tokens: &[Token], used: &mut Vec<u32>) -> u32 {
        let mut at = from;
        for token in tokens {
            at = self.step(at, token, used);
            used.push(at);
        }
        at
    }

    fn step(&mut self, from: u32, token: &Token, used: &mut Vec<u32>) -> u32 {
        match token {
            Token::Byte(byte) => {
                let known = self
                    .node(from)
                    .bytes
                    .iter()
                    .find(|(b, _)| b == byte)
                    .map(|e| e.1);
                known.unwrap_or_else(|| {
                    let to = self.add(Repeats::Nothing);
                    self.node(from).bytes.push((*byte, to));
                    to
                })
            }
            Token::One | Token::Class(_) => self.shared(from, token, Repeats::Nothing),
            Token::Run => self.shared(from, token, Repeats::NoSlash),
            Token::DeepRun => self.shared(from, token, Repeats::Anything),
            Token::Alternatives(alternatives) => {
                // Nested ones are not shared: each level would be kept again as a key.
                let nested = alternatives
                    .iter()
                    .flatten()
                    .any(|t| matches!(t, Token::Alternatives(_)));
                let join = if nested {
                    self.add(Repeats::Nothing)
                } else {
                    self.shared(from, token, Repeats::Nothing)
                };
                for alternative in alternatives {
                    let end = self.walk(from, alternative, used);
                    let joins = &mut self.node(end).joins;
                    if !joins.contains(&join) {
                        joins.push(join);
                    }
                }
                join
            }
        }
    }

    fn shared(&mut self, from: u32, token: &Token, repeats: Repeats) -> u32 {
        let known = self
            .node(from)
            .tokens
            .iter()
            .find(|(t, _)| t == token)
            .map(|e| e.1);
        known.unwrap_or_else(|| {
            let to = self.add(repeats);
            self.node(from).tokens.push((token.clone(), to));
            to
        })
    }

    fn add(&mut self, repeats: Repeats) -> u32 {
        let id = index(self.nodes.len());
        self.nodes.push(Node {
            repeats,
            ..Node::default()
        });
        id
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "INVARIANT: node numbers come from `add`"
    )]
    fn node(&mut self, id: u32) -> &mut Node {
        &mut self.nodes[id as usize]
    }

    /// Replaces bytes by classes and tokens by plain edges. Fails when a chain of elements that
    /// can each be empty makes more than `limit` pairs of nodes.
    pub(crate) fn freeze(self, limit: usize) -> Result<Frozen, Overflow> {
        let classes = self.classes();
        let mut by_class = vec![Vec::new(); classes.count()];
        for byte in 1..=u8::MAX {
            if let Some(bytes) = by_class.get_mut(usize::from(classes.of(byte))) {
                bytes.push(byte);
            }
        }
        let nodes = self
            .nodes
            .iter()
            .map(|node| freeze_node(node, &classes, &by_class))
            .collect();
        let entered = self.all_entered(limit)?;
        let start = entered.first().cloned().unwrap_or_default();
        Ok(Frozen {
            classes,
            start,
            nodes,
            entered,
        })
    }

    /// The coarsest classes that keep apart what any node keeps apart.
    fn classes(&self) -> Classes {
        let mut classes = Classes { of: [0; 256] };
        let mut literal = [false; 256];
        let mut slash_matters = false;
        let mut sets: Vec<&Token> = Vec::new();
        for node in &self.nodes {
            for (byte, _) in &node.bytes {
                if let Some(is_literal) = literal.get_mut(usize::from(*byte)) {
                    *is_literal = true;
                }
            }
            for (token, _) in &node.tokens {
                match token {
                    Token::One | Token::Run => slash_matters = true,
                    Token::Class(_) => sets.push(token),
                    Token::Byte(_) | Token::DeepRun | Token::Alternatives(_) => {}
                }
            }
        }
        classes.refine(|byte| {
            let is_literal = literal.get(usize::from(byte)).copied().unwrap_or_default();
            let alone = is_literal || (slash_matters && byte == b'/');
            if alone { u16::from(byte) } else { 0 }
        });
        sets.sort_unstable();
        sets.dedup();
        for set in sets {
            classes.refine(|byte| u16::from(contains(set, byte)));
        }
        classes
    }

    /// For each node: the node itself and everything that is entered from it without a byte,
    /// without nodes that do nothing else.
    fn all_entered(&self, limit: usize) -> Result<Vec<Vec<u32>>, Overflow> {
        let mut seen_from = vec![u32::MAX; self.nodes.len()];
        let mut all = Vec::with_capacity(self.nodes.len());
        let mut pairs = 0_usize;
        for id in 0..index(self.nodes.len()) {
            let mut entered = vec![id];
            let mut next = 0;
            while let Some(at) = entered.get(next).copied() {
                next += 1;
                let Some(node) = self.nodes.get(at as usize) else {
                    continue;
                };
                let free = node.tokens.iter().filter_map(|(token, to)| match token {
                    Token::Run | Token::DeepRun => Some(*to),
                    Token::Byte(_) | Token::One | Token::Class(_) | Token::Alternatives(_) => None,
                });
                for to in free.chain(node.joins.iter().copied()) {
                    if let Some(seen) = seen_from.get_mut(to as usize).filter(|seen| **seen != id) {
                        *seen = id;
                        entered.push(to);
                    }
                }
            }
            pairs = pairs.saturating_add(entered.len());
            entered.retain(|at| self.nodes.get(*at as usize).is_some_and(Node::matters));
            entered.sort_unstable();
            entered.dedup();
            all.push(entered);
            if pairs > limit {
                return Err(Overflow::new(limit, "pairs of elements", all.iter()));
            }
        }
        Ok(all)
    }
}

impl Node {
    fn matters(&self) -> bool {
        let consumes = |(token, _): &(Token, u32)| match token {
            Token::One | Token::Class(_) => true,
            Token::Byte(_) | Token::Run | Token::DeepRun | Token::Alternatives(_) => false,
        };
        !self.bytes.is_empty()
            || !self.accepts.is_empty()
            || self.repeats != Repeats::Nothing
            || self.tokens.iter().any(consumes)
    }
}

fn freeze_node(node: &Node, classes: &Classes, by_class: &[Vec<u8>]) -> FrozenNode {
    let mut edges: Vec<(u8, u32)> = node
        .bytes
        .iter()
        .map(|(byte, to)| (classes.of(*byte), *to))
        .collect();
    for (token, to) in &node.tokens {
        for (class, bytes) in (0..=u8::MAX).zip(by_class) {
            if bytes.first().is_some_and(|byte| contains(token, *byte)) {
                edges.push((class, *to));
            }
        }
    }
    FrozenNode {
        edges,
        repeats: node.repeats,
        accepts: node.accepts.clone(),
    }
}

/// Whether a token that stands for one byte matches this one.
fn contains(token: &Token, byte: u8) -> bool {
    match token {
        Token::One => byte != b'/',
        Token::Class(ranges) => ranges
            .iter()
            .any(|(low, high)| (*low..=*high).contains(&byte)),
        Token::Byte(_) | Token::Run | Token::DeepRun | Token::Alternatives(_) => false,
    }
}

/// Which bytes no node tells apart. Classes are numbered by their first byte, from byte 1 on;
/// byte 0 goes with byte 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Classes {
    of: [u8; 256],
}

impl Classes {
    pub(crate) fn of(&self, byte: u8) -> u8 {
        self.of.get(usize::from(byte)).copied().unwrap_or_default()
    }

    pub(crate) fn count(&self) -> usize {
        self.of.iter().max().map_or(0, |last| usize::from(*last)) + 1
    }

    /// Splits each class by `key` and numbers them anew.
    pub(crate) fn refine(&mut self, key: impl Fn(u8) -> u16) {
        let mut seen = HashMap::new();
        for byte in 1..=u8::MAX {
            let next = u8::try_from(seen.len()).unwrap_or(u8::MAX);
            let class = *seen.entry((self.of(byte), key(byte))).or_insert(next);
            if let Some(slot) = self.of.get_mut(usize::from(byte)) {
                *slot = class;
            }
        }
        self.of[0] = self.of[1];
    }

    /// Renumbers: bytes whose classes `merged` maps to the same number become one class.
    pub(crate) fn merge(&self, merged: &[u8]) -> Self {
        let of = self
            .of
            .map(|class| merged.get(usize::from(class)).copied().unwrap_or_default());
        Self { of }
    }
}

/// What the subset construction works on.
#[derive(Debug)]
pub(crate) struct Frozen {
    pub(crate) classes: Classes,
    pub(crate) start: Vec<u32>,
    nodes: Vec<FrozenNode>,
    entered: Vec<Vec<u32>>,
}

#[derive(Debug)]
pub(crate) struct FrozenNode {
    /// By class; a class may occur more than once.
    pub(crate) edges: Vec<(u8, u32)>,
    pub(crate) repeats: Repeats,
    pub(crate) accepts: Vec<u32>,
}

#[expect(
    clippy::indexing_slicing,
    reason = "INVARIANT: node numbers come from `Nfa::add`"
)]
impl Frozen {
    pub(crate) fn node(&self, id: u32) -> &FrozenNode {
        &self.nodes[id as usize]
    }

    /// Where one is on arriving at a node.
    pub(crate) fn entered(&self, id: u32) -> &[u32] {
        &self.entered[id as usize]
    }
}

/// A limit was reached.
#[derive(Debug)]
pub(crate) struct Overflow {
    pub(crate) limit: usize,
    pub(crate) of: &'static str,
    /// How often each node occurred in what was built so far.
    pub(crate) occurrences: HashMap<u32, u64>,
}

impl Overflow {
    pub(crate) fn new<S: AsRef<[u32]>>(
        limit: usize,
        of: &'static str,
        built: impl Iterator<Item = S>,
    ) -> Self {
        let mut occurrences = HashMap::new();
        for set in built {
            for node in set.as_ref() {
                *occurrences.entry(*node).or_insert(0) += 1;
            }
        }
        Self {
            limit,
            of,
            occurrences,
        }
    }
}

/// A table index as it is stored.
#[expect(
    clippy::cast_possible_truncation,
    reason = "INVARIANT: everything counted here is bounded by budgets far below 2^32"
)]
pub(crate) fn index(n: usize) -> u32 {
    n as u32
}
