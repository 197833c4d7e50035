// SPDX-License-Identifier: Apache-2.0
//! Where events go besides clients of the feed, and whether they get there.

use crate::enforcer::lock;
use gorget_telemetry::proto::v1;
use std::sync::{Arc, Mutex};

/// All outputs. Cheap to clone; all clones are one list.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outputs {
    all: Arc<Mutex<Vec<v1::Output>>>,
}

/// One of them, which says how it fares.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    outputs: Outputs,
    number: usize,
}

impl Outputs {
    pub(crate) fn add(&self, kind: &str, target: &str) -> Output {
        let mut all = lock(&self.all);
        all.push(v1::Output {
            kind: kind.to_owned(),
            target: target.to_owned(),
            ..v1::Output::default()
        });
        Output {
            outputs: self.clone(),
            number: all.len() - 1,
        }
    }

    /// How all fare.
    pub(crate) fn told(&self) -> Vec<v1::Output> {
        lock(&self.all).clone()
    }
}

impl Output {
    /// It works.
    pub(crate) fn works(&self) {
        self.change(|output| output.error.clear());
    }

    /// It does not work, and so many events more did not get there.
    pub(crate) fn fails(&self, reason: &str, lost: u64) {
        self.change(|output| {
            reason.clone_into(&mut output.error);
            output.lost += lost;
        });
    }

    fn change(&self, how: impl FnOnce(&mut v1::Output)) {
        lock(&self.outputs.all).get_mut(self.number).map(how);
    }
}
