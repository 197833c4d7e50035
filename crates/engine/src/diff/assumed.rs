// SPDX-License-Identifier: Apache-2.0
//! What has been assumed about a task while the branches of a decision are followed, and an actual
//! task of which it is true.
//!
//! Argument lists are compared by what they contain, so that assumptions about one ruleset answer
//! the tests of another. That some lists hold and others do not can be impossible: the arguments
//! that keep to `-a, -b` keep to `-a, -b, -c` too.

use crate::arguments::Arguments;
use crate::decisions::Test;
use std::collections::BTreeSet;

/// A test, whichever ruleset asks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Question<'a> {
    NoTerminal,
    Arguments(&'a BTreeSet<String>),
}

impl<'a> Question<'a> {
    /// `None` for a list that `arguments` does not have.
    pub(crate) fn of(test: Test, arguments: &'a Arguments) -> Option<Self> {
        Some(match test {
            Test::NoTerminal => Self::NoTerminal,
            Test::Arguments(list) => Self::Arguments(arguments.lists.get(list as usize)?),
        })
    }
}

/// Answers to some questions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Assumed<'a>(pub(crate) Vec<(Question<'a>, bool)>);

impl<'a> Assumed<'a> {
    pub(crate) fn get(&self, question: Question<'_>) -> Option<bool> {
        let mut answers = self.0.iter();
        answers
            .find(|(q, _)| *q == question)
            .map(|(_, holds)| *holds)
    }

    pub(crate) fn terminal(&self) -> bool {
        self.get(Question::NoTerminal) == Some(false)
    }

    /// The fewest arguments that could be needed; `None` when there are none of which everything
    /// assumed is true.
    pub(crate) fn arguments(&self) -> Option<Vec<Vec<u8>>> {
        let refused = self.lists(false);
        let mut common: Option<BTreeSet<&str>> = None;
        for list in self.lists(true) {
            let list = list.iter().map(String::as_str);
            common = Some(match common {
                None => list.collect(),
                Some(common) => list.filter(|argument| common.contains(argument)).collect(),
            });
        }
        let unheard_of = unheard_of(&refused);
        let common = common.unwrap_or_else(|| BTreeSet::from([unheard_of.as_str()]));
        let mut given: Vec<&str> = Vec::new();
        for list in refused {
            if given.iter().all(|argument| list.contains(*argument)) {
                given.push(common.iter().find(|argument| !list.contains(**argument))?);
            }
        }
        Some(
            given
                .iter()
                .map(|argument| argument.as_bytes().to_vec())
                .collect(),
        )
    }

    fn lists(&self, which: bool) -> Vec<&'a BTreeSet<String>> {
        let answers = self.0.iter().filter(|(_, holds)| *holds == which);
        answers
            .filter_map(|(question, _)| match question {
                Question::NoTerminal => None,
                Question::Arguments(list) => Some(*list),
            })
            .collect()
    }
}

/// An argument that none of the lists contains.
fn unheard_of(lists: &[&BTreeSet<String>]) -> String {
    let mut argument = "other".to_owned();
    while lists.iter().any(|list| list.contains(&argument)) {
        argument.push('-');
    }
    argument
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(hold: &[&[&str]], fail: &[&[&str]]) -> Option<Vec<String>> {
        let list = |list: &&[&str]| list.iter().copied().map(Into::into).collect();
        let lists: Vec<(BTreeSet<String>, bool)> = hold
            .iter()
            .map(|l| (list(l), true))
            .chain(fail.iter().map(|l| (list(l), false)))
            .collect();
        let assumed = lists
            .iter()
            .map(|(list, holds)| (Question::Arguments(list), *holds));
        let arguments = Assumed(assumed.collect()).arguments()?;
        let text = |argument: Vec<u8>| String::from_utf8(argument).unwrap();
        Some(arguments.into_iter().map(text).collect())
    }

    #[test]
    fn no_argument_keeps_to_every_list() {
        assert_eq!(arguments(&[&["-a"], &["-b"]], &[]).unwrap(), [""; 0]);
    }

    #[test]
    fn one_argument_is_given_for_as_many_lists_as_possible() {
        assert_eq!(arguments(&[], &[&["other"], &["-a"]]).unwrap(), ["other-"]);
        assert_eq!(
            arguments(&[&["-a", "-b"]], &[&["-a"], &["x"]]).unwrap(),
            ["-b"]
        );
        assert_eq!(
            arguments(&[&["-a", "-b"]], &[&["-a"], &["-b"]]).unwrap(),
            ["-b", "-a"]
        );
    }

    #[test]
    fn a_list_cannot_fail_when_all_that_hold_are_within_it() {
        assert_eq!(arguments(&[&["-a"]], &[&["-a", "-b"]]), None);
        assert_eq!(arguments(&[&["-a", "-b"], &["-b", "-c"]], &[&["-b"]]), None);
    }
}
