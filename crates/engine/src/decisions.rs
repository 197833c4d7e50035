// SPDX-License-Identifier: Apache-2.0
//! Decisions that need more than the object, the subject and the access: whether the task has a
//! terminal (`pts`), and its arguments (`allowedArgs`).
//!
//! Almost every cell of a decision table is a verdict. Where a rule that could win has one of these
//! modifiers, the cell is a [`Branch`] instead: a [`Test`] and where to go on in either case. A
//! backend follows branches until it has a verdict; each test is asked at most once on the way.
//!
//! INVARIANT: branches lead only to branches with smaller numbers, so following them ends.

use crate::table::Cell;
use gorget_model::Verdict;
use std::collections::HashMap;

/// One decision tests at most this many different things: more lists of arguments for one program
/// than anybody writes.
pub(crate) const MOST_TESTS: usize = 64;

/// Work that one category's branches may take.
const MOST_STEPS: usize = 1 << 18;

/// What a branch depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Test {
    /// The task has no controlling terminal.
    NoTerminal,
    /// Every argument is in this list ([`crate::Arguments`]).
    Arguments(u32),
}

/// What a cell of a [`crate::DecisionTable`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Decision {
    /// This is the answer.
    Verdict(Verdict),
    /// Number of the branch that leads to it.
    Branch(u32),
}

/// A step on the way to a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Branch {
    /// What is asked.
    pub test: Test,
    /// Where to go on when it holds.
    pub holds: Decision,
    /// Where to go on when it does not.
    pub otherwise: Decision,
}

/// The tests that are answered so far on one way through the branches.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known(Vec<(Test, bool)>);

impl Known {
    pub(crate) fn get(&self, test: Test) -> Option<bool> {
        let mut answers = self.0.iter();
        answers.find(|(t, _)| *t == test).map(|(_, holds)| *holds)
    }

    pub(crate) fn answers(&self) -> &[(Test, bool)] {
        &self.0
    }

    pub(crate) fn and(&self, test: Test, holds: bool) -> Self {
        let mut answers = self.0.clone();
        answers.push((test, holds));
        Self(answers)
    }
}

/// Too many tests for one decision, or too much work for one table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooManyTests;

/// The branches of one table while it is made.
#[derive(Debug, Default)]
pub(crate) struct Decisions {
    branches: Vec<[Cell; 2]>,
    tests: Vec<Test>,
    numbers: HashMap<(Test, [Cell; 2]), u32>,
    steps: usize,
}

impl Decisions {
    /// The cell for what `ask` answers. It is asked again with one more test answered as long as
    /// it names one that it needs.
    pub(crate) fn solve(
        &mut self,
        ask: &dyn Fn(&Self, &Known) -> Result<Verdict, Test>,
    ) -> Result<Cell, TooManyTests> {
        self.solve_from(&mut Known::default(), ask)
    }

    fn solve_from(
        &mut self,
        known: &mut Known,
        ask: &dyn Fn(&Self, &Known) -> Result<Verdict, Test>,
    ) -> Result<Cell, TooManyTests> {
        let test = match ask(self, known) {
            Ok(verdict) => return Ok(Cell::new(verdict)),
            Err(test) => test,
        };
        self.steps += 1;
        if known.0.len() >= MOST_TESTS || self.steps > MOST_STEPS {
            return Err(TooManyTests);
        }
        let mut after = |holds| {
            known.0.push((test, holds));
            let cell = self.solve_from(known, ask);
            known.0.pop();
            cell
        };
        let (holds, otherwise) = (after(true)?, after(false)?);
        if holds == otherwise {
            return Ok(holds);
        }
        let to = [holds, otherwise];
        let new = u32::try_from(self.branches.len()).unwrap_or(u32::MAX);
        let number = *self.numbers.entry((test, to)).or_insert(new);
        if number == new {
            self.branches.push(to);
            self.tests.push(test);
        }
        Ok(Cell::branch(number))
    }

    /// What `cell` says, as far as `known` goes.
    pub(crate) fn follow(&self, mut cell: Cell, known: &Known) -> Result<Verdict, Test> {
        loop {
            let at = match cell.decision() {
                Decision::Verdict(verdict) => return Ok(verdict),
                Decision::Branch(number) => number as usize,
            };
            let (Some(test), Some([holds, otherwise])) =
                (self.tests.get(at), self.branches.get(at))
            else {
                return Ok(Cell::NO_RULE.verdict());
            };
            cell = if known.get(*test).ok_or(*test)? {
                *holds
            } else {
                *otherwise
            };
        }
    }

    /// The branches that `rows` use, in an order that depends on nothing but what they say; `rows`
    /// are changed to name them by that order.
    pub(crate) fn finish<'a>(self, rows: impl Iterator<Item = &'a mut Cell>) -> Vec<Branch> {
        let mut cells: Vec<&mut Cell> = rows
            .filter(|cell| matches!(cell.decision(), Decision::Branch(_)))
            .collect();
        let mut used = vec![false; self.branches.len()];
        let mut waiting: Vec<Cell> = cells.iter().map(|cell| **cell).collect();
        while let Some(cell) = waiting.pop() {
            if let Decision::Branch(number) = cell.decision()
                && let Some(seen) = used.get_mut(number as usize)
                && !std::mem::replace(seen, true)
            {
                waiting.extend(self.branches.get(number as usize).into_iter().flatten());
            }
        }

        // Lower branches first: what a branch leads to has its final number before the branch is
        // compared with others.
        let mut heights = vec![0_usize; self.branches.len()];
        for at in 0..self.branches.len() {
            let below =
                self.branches
                    .get(at)
                    .into_iter()
                    .flatten()
                    .map(|cell| match cell.decision() {
                        Decision::Verdict(_) => 0,
                        Decision::Branch(to) => {
                            heights.get(to as usize).map_or(0, |height| height + 1)
                        }
                    });
            let height = below.max().unwrap_or(0);
            if let Some(place) = heights.get_mut(at) {
                *place = height;
            }
        }
        let mut finished: Vec<Branch> = Vec::new();
        let mut numbers: HashMap<u32, u32> = HashMap::new();
        let renamed = |cell: Cell, numbers: &HashMap<u32, u32>| match cell.decision() {
            Decision::Branch(number) => {
                Cell::branch(numbers.get(&number).copied().unwrap_or(u32::MAX))
            }
            Decision::Verdict(_) => cell,
        };
        for height in 0..=heights.iter().copied().max().unwrap_or(0) {
            let mut level: Vec<(Branch, u32)> = (0..)
                .zip(self.tests.iter().zip(&self.branches))
                .zip(heights.iter().zip(&used))
                .filter(|(_, (h, used))| **h == height && **used)
                .map(|((number, (test, [holds, otherwise])), _)| {
                    let branch = Branch {
                        test: *test,
                        holds: renamed(*holds, &numbers).decision(),
                        otherwise: renamed(*otherwise, &numbers).decision(),
                    };
                    (branch, number)
                })
                .collect();
            level.sort_unstable();
            for (branch, number) in level {
                let place = u32::try_from(finished.len()).unwrap_or(u32::MAX);
                numbers.insert(number, place);
                finished.push(branch);
            }
        }
        for cell in &mut cells {
            **cell = renamed(**cell, &numbers);
        }
        finished
    }
}
