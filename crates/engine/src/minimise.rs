// SPDX-License-Identifier: Apache-2.0
//! Minimisation and canonical numbering.
//!
//! States that no input tells apart become one. A path set has one smallest automaton, and it is
//! written down in one way only: absorbing states first, by the value that they accept, then
//! breadth-first from the start; classes by their first byte. Equal languages give equal bytes,
//! however the names were written.
//!
//! Three steps, each exact:
//! 1. A state from which only one value can be reached becomes the absorbing state of that value.
//! 2. The rest is refined with Valmari's algorithm ("Fast brief practical DFA minimization", 2012),
//!    which costs time in proportion to the transitions that are there: those to the most frequent
//!    absorbing state are left out. That is sound because after step 1 no other state is equivalent
//!    to it.
//! 3. Classes that no remaining state tells apart are merged.

use crate::automaton::Automaton;
use crate::nfa::{Classes, index};
use std::collections::{HashMap, VecDeque};

/// `next` is row-major by state, `labels` holds the accept value of each state, state 0 starts.
pub(crate) fn minimise(classes: &Classes, next: &[u32], labels: &[u32]) -> Automaton {
    let table = Table {
        class_count: classes.count(),
        next,
        labels,
    };
    let merged = table.merge_absorbing();
    number(classes, &table, &table.refine(&merged))
}

struct Table<'a> {
    class_count: usize,
    next: &'a [u32],
    labels: &'a [u32],
}

/// For each state the number of its block.
struct Partition {
    of: Vec<u32>,
    count: usize,
}

#[expect(
    clippy::indexing_slicing,
    reason = "INVARIANT: states, classes and blocks are below the lengths of the tables made for them"
)]
impl Table<'_> {
    fn row(&self, state: usize) -> &[u32] {
        &self.next[state * self.class_count..(state + 1) * self.class_count]
    }

    /// For each state from which only one value can be reached, the first such state of that value;
    /// every other state for itself.
    fn merge_absorbing(&self) -> Vec<u32> {
        let count = self.labels.len();
        let mut pairs: Vec<(u32, u32)> = Vec::new();
        for state in 0..count {
            let runs = self.row(state).chunk_by(|a, b| a == b);
            pairs.extend(runs.filter_map(|run| Some((*run.first()?, index(state)))));
        }
        pairs.sort_unstable();
        pairs.dedup();
        let sources = |to: u32| {
            let first = pairs.partition_point(|pair| pair.0 < to);
            pairs[first..]
                .iter()
                .take_while(move |pair| pair.0 == to)
                .map(|pair| pair.1)
        };

        let mut mixed = vec![false; count];
        let mut queue = VecDeque::new();
        for (to, from) in &pairs {
            let differ = self.labels[*to as usize] != self.labels[*from as usize];
            if differ && !mixed[*from as usize] {
                mixed[*from as usize] = true;
                queue.push_back(*from);
            }
        }
        while let Some(state) = queue.pop_front() {
            for from in sources(state) {
                if !mixed[from as usize] {
                    mixed[from as usize] = true;
                    queue.push_back(from);
                }
            }
        }

        let mut first_of = HashMap::new();
        (0..count)
            .map(|state| {
                let itself = index(state);
                if mixed[state] {
                    itself
                } else {
                    *first_of.entry(self.labels[state]).or_insert(itself)
                }
            })
            .collect()
    }

    /// Blocks of equivalent states.
    fn refine(&self, merged: &[u32]) -> Partition {
        let count = self.labels.len();
        let lives: Vec<u32> = (0..index(count))
            .filter(|s| merged[*s as usize] == *s)
            .collect();

        let mut absorbing = vec![false; count];
        let mut times_entered = vec![0_usize; count];
        for state in &lives {
            let row = self.row(*state as usize);
            absorbing[*state as usize] = row.iter().all(|to| merged[*to as usize] == *state);
            for to in row {
                times_entered[merged[*to as usize] as usize] += 1;
            }
        }
        let sinks = lives
            .iter()
            .copied()
            .filter(|state| absorbing[*state as usize]);
        let omitted = sinks.max_by_key(|state| times_entered[*state as usize]);

        let mut edges = Vec::new();
        for state in &lives {
            for (class, to) in self.row(*state as usize).iter().enumerate() {
                let to = merged[*to as usize];
                if Some(to) != omitted {
                    edges.push(Edge {
                        from: *state,
                        class: index(class),
                        to,
                    });
                }
            }
        }
        let start_key = |state: u32| {
            let sink = if absorbing[state as usize] {
                state
            } else {
                u32::MAX
            };
            (self.labels[state as usize], sink)
        };
        let blocks = valmari(count, &lives, start_key, &edges);
        let of = merged
            .iter()
            .map(|state| blocks.set_of[*state as usize])
            .collect();
        Partition {
            of,
            count: blocks.ranges.len(),
        }
    }
}

#[derive(Clone, Copy)]
struct Edge {
    from: u32,
    class: u32,
    to: u32,
}

/// The coarsest partition of `lives` that refines `key` and in which equivalent states have edges
/// with the same classes into the same blocks.
#[expect(
    clippy::indexing_slicing,
    reason = "INVARIANT: set numbers count up to `ranges.len()`"
)]
fn valmari<K: Ord>(
    count: usize,
    lives: &[u32],
    key: impl Fn(u32) -> K,
    edges: &[Edge],
) -> Splitter {
    let mut blocks = Splitter::by_key(count, lives.to_vec(), key);
    let all: Vec<u32> = (0..index(edges.len())).collect();
    let mut cords = Splitter::by_key(edges.len(), all, |edge| edges[edge as usize].class);

    let mut into: Vec<u32> = (0..index(edges.len())).collect();
    into.sort_unstable_by_key(|edge| edges[*edge as usize].to);
    let mut first_into = vec![0_usize; count + 1];
    for edge in edges {
        first_into[edge.to as usize + 1] += 1;
    }
    for state in 0..count {
        first_into[state + 1] += first_into[state];
    }

    // Block 0 needs no turn of its own: the other blocks together split the cords as it would,
    // because an omitted edge counts as absent everywhere.
    let (mut block, mut cord) = (1, 0);
    while cord < cords.ranges.len() {
        for at in cords.ranges[cord].clone() {
            blocks.mark(edges[cords.elements[at] as usize].from);
        }
        blocks.split();
        cord += 1;
        while block < blocks.ranges.len() {
            for at in blocks.ranges[block].clone() {
                let state = blocks.elements[at] as usize;
                for edge in &into[first_into[state]..first_into[state + 1]] {
                    cords.mark(*edge);
                }
            }
            cords.split();
            block += 1;
        }
    }
    blocks
}

/// A partition that can be split by marking elements.
struct Splitter {
    /// Grouped by set.
    elements: Vec<u32>,
    place: Vec<u32>,
    set_of: Vec<u32>,
    ranges: Vec<std::ops::Range<usize>>,
    /// How many elements at the beginning of each set are marked.
    marked: Vec<usize>,
    touched: Vec<u32>,
}

#[expect(
    clippy::indexing_slicing,
    reason = "INVARIANT: elements are below `place.len()`, sets below `ranges.len()`, places below `elements.len()`"
)]
impl Splitter {
    fn by_key<K: Ord>(limit: usize, mut elements: Vec<u32>, key: impl Fn(u32) -> K) -> Self {
        elements.sort_by_cached_key(|element| key(*element));
        let mut new = Self {
            place: vec![0; limit],
            set_of: vec![0; limit],
            ranges: Vec::new(),
            marked: Vec::new(),
            touched: Vec::new(),
            elements,
        };
        let mut first = 0;
        for at in 0..new.elements.len() {
            let element = new.elements[at] as usize;
            new.place[element] = index(at);
            if at > first && key(new.elements[at - 1]) != key(new.elements[at]) {
                new.ranges.push(first..at);
                first = at;
            }
            new.set_of[element] = index(new.ranges.len());
        }
        if first < new.elements.len() {
            new.ranges.push(first..new.elements.len());
        }
        new.marked = vec![0; new.ranges.len()];
        new
    }

    fn mark(&mut self, element: u32) {
        let set = self.set_of[element as usize];
        let (at, range) = (
            self.place[element as usize] as usize,
            &self.ranges[set as usize],
        );
        let boundary = range.start + self.marked[set as usize];
        if at < boundary {
            return;
        }
        let other = self.elements[boundary];
        self.elements.swap(at, boundary);
        self.place[other as usize] = index(at);
        self.place[element as usize] = index(boundary);
        if self.marked[set as usize] == 0 {
            self.touched.push(set);
        }
        self.marked[set as usize] += 1;
    }

    /// Makes a new set of the smaller part of every set that is partly marked.
    fn split(&mut self) {
        while let Some(set) = self.touched.pop() {
            let range = self.ranges[set as usize].clone();
            let boundary = range.start + self.marked[set as usize];
            self.marked[set as usize] = 0;
            if boundary == range.end {
                continue;
            }
            let (marked, rest) = (range.start..boundary, boundary..range.end);
            let (kept, split_off) = if marked.len() <= rest.len() {
                (rest, marked)
            } else {
                (marked, rest)
            };
            let new = index(self.ranges.len());
            for element in &self.elements[split_off.clone()] {
                self.set_of[*element as usize] = new;
            }
            self.ranges[set as usize] = kept;
            self.ranges.push(split_off);
            self.marked.push(0);
        }
    }
}

/// Writes the quotient down in its one order.
#[expect(
    clippy::indexing_slicing,
    reason = "INVARIANT: states, classes and blocks are below the lengths of the tables made for them"
)]
fn number(classes: &Classes, table: &Table<'_>, blocks: &Partition) -> Automaton {
    let mut member = vec![usize::MAX; blocks.count];
    for (state, block) in blocks.of.iter().enumerate().rev() {
        member[*block as usize] = state;
    }
    let row = |block: u32| {
        table
            .row(member[block as usize])
            .iter()
            .map(|to| blocks.of[*to as usize])
    };
    let label = |block: u32| table.labels[member[block as usize]];

    let mut columns: HashMap<Vec<u32>, u8> = HashMap::new();
    let mut merged = Vec::new();
    let mut kept = Vec::new();
    for class in 0..table.class_count {
        let column: Vec<u32> = member
            .iter()
            .map(|state| blocks.of[table.row(*state)[class] as usize])
            .collect();
        let new = u8::try_from(columns.len()).unwrap_or(u8::MAX);
        let number = *columns.entry(column).or_insert(new);
        if number == new {
            kept.push(class);
        }
        merged.push(number);
    }

    let all = 0..index(blocks.count);
    let mut order: Vec<u32> = all.filter(|b| row(*b).all(|to| to == *b)).collect();
    order.sort_unstable_by_key(|block| label(*block));
    let sinks = index(order.len());
    let mut numbers = vec![u32::MAX; blocks.count];
    for (number, block) in (0..).zip(&order) {
        numbers[*block as usize] = number;
    }
    let mut queue = VecDeque::from([blocks.of[0]]);
    while let Some(block) = queue.pop_front() {
        if numbers[block as usize] == u32::MAX {
            numbers[block as usize] = index(order.len());
            order.push(block);
            let targets: Vec<u32> = row(block).collect();
            queue.extend(kept.iter().map(|class| targets[*class]));
        }
    }

    let mut next = Vec::with_capacity(order.len() * kept.len());
    for block in &order {
        let targets: Vec<u32> = row(*block).collect();
        next.extend(kept.iter().map(|class| numbers[targets[*class] as usize]));
    }
    let accepts = order.iter().map(|block| label(*block)).collect();
    Automaton::new(
        classes.merge(&merged),
        next,
        accepts,
        numbers[blocks.of[0] as usize],
        sinks,
    )
}
