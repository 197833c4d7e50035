// SPDX-License-Identifier: Apache-2.0
//! The subjects that rulesets tell apart, with one of each.
//!
//! A subject is the path of an image, so a source class that only other strings have does not count.
//! The runtime has class 0, as has every image that no `fromSource` names; it stands for that class
//! when there is no such image.

use crate::automaton::Automaton;
use crate::compile::Part;
use crate::diff::DiffError;
use crate::diff::grammar::Grammar;
use crate::diff::walk::{TooManyStates, walk};
use crate::ruleset::Ruleset;
use gorget_model::Subject;

/// One subject for each combination of source classes in `N` rulesets.
#[derive(Debug)]
pub(crate) struct Subjects<const N: usize>(Vec<(Subject, [u32; N])>);

impl<const N: usize> Subjects<N> {
    pub(crate) fn of(rulesets: [&Ruleset; N], limit: usize) -> Result<Self, DiffError> {
        Self::told_apart_by(rulesets.map(Ruleset::sources), limit)
    }

    pub(crate) fn told_apart_by(sources: [&Automaton; N], limit: usize) -> Result<Self, DiffError> {
        let found = walk(sources, Grammar::Image, limit);
        let found = found.map_err(|TooManyStates| DiffError::TooComplex {
            part: Part::Sources,
            limit,
        })?;
        let mut subjects: Vec<_> = found
            .into_iter()
            .map(|found| (Subject::Image(found.bytes), found.values))
            .collect();
        if !subjects.iter().any(|(_, classes)| *classes == [0; N]) {
            subjects.push((Subject::Runtime, [0; N]));
        }
        Ok(Self(subjects))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn get(&self, number: usize) -> Option<&Subject> {
        self.0.get(number).map(|(subject, _)| subject)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &(Subject, [u32; N])> {
        self.0.iter()
    }

    /// The source classes of each subject.
    pub(crate) fn classes(&self) -> impl Iterator<Item = [u32; N]> {
        self.0.iter().map(|(_, classes)| *classes)
    }
}
