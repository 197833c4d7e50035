// SPDX-License-Identifier: Apache-2.0
//! What of each workload is logged: as configured, or as the workload's own label says.

use super::{Enforcer, name};
use crate::clock;
use gorget_bpf::{LogReader, WorkloadIndex};
use gorget_model::with_causes;
use gorget_model::{Mode, Visibility, Workload};
use std::sync::mpsc::Sender;

/// COMPAT: KubeArmor's annotation of pods.
const LABEL: &str = "kubearmor-visibility";
/// Repeats are told no more often.
const REPEATS_NS: u64 = 1_000_000_000;

/// What is visible where nothing else is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Defaults {
    pub(crate) containers: Visibility,
    pub(crate) host: Visibility,
}

/// How the enforcer has things told that are visible.
#[derive(Debug)]
pub(super) struct Visible {
    pub(super) defaults: Defaults,
    /// Where the channel of logs goes when it is open.
    readers: Sender<LogReader>,
    is_told: bool,
    trouble: String,
    repeats_ns: u64,
}

impl Visible {
    pub(super) fn new(defaults: Defaults, readers: Sender<LogReader>) -> Self {
        Self {
            defaults,
            readers,
            is_told: false,
            trouble: String::new(),
            repeats_ns: 0,
        }
    }
}

impl Enforcer {
    /// Has what is to be visible of a workload told from now on.
    pub(super) fn show(&mut self, index: WorkloadIndex) {
        let Some(bound) = self.bound.get(&index) else {
            return;
        };
        let defaults = self.visible.defaults;
        let treatment = &bound.treatment;
        let otherwise = match &*bound.workload {
            Workload::Host(_) => defaults.host,
            Workload::Container(_) => defaults.containers,
        };
        let otherwise = treatment.visibility.unwrap_or(otherwise);
        let visible = match &*bound.workload {
            Workload::Container(container) if treatment.mode != Mode::Disabled => {
                match container.labels.get(LABEL) {
                    None => otherwise,
                    Some(label) => Visibility::parse(label).unwrap_or_else(|error| {
                        let name = name(&bound.workload);
                        self.reporter.warn(format!(
                            "the label `{LABEL}` of `{name}` is ignored, `{otherwise}` is visible: \
                             {error}"
                        ));
                        otherwise
                    }),
                }
            }
            Workload::Container(_) | Workload::Host(_) => otherwise,
        };
        self.kernel.show(index, visible);
        if let Some(reader) = self.kernel.take_log_reader()
            && self.visible.readers.send(reader).is_err()
        {
            self.reporter.error("nobody reads logs any more");
        }
        self.look_for_trouble_with_logs();
        let is_told = self.kernel.is_showing();
        if is_told != std::mem::replace(&mut self.visible.is_told, is_told) {
            self.reporter.info(match is_told {
                true => "what is visible of workloads is logged from now on",
                false => "nothing is visible any more",
            });
        }
    }

    /// Has the programs ready that the first container's operations are logged by: while they are
    /// loaded, no rules are put in force.
    pub(super) fn prepare_to_show(&mut self) {
        if self.visible.defaults.containers != Visibility::NONE {
            self.kernel.prepare_to_show();
        }
        self.show(WorkloadIndex::HOST);
    }

    /// Other defaults are wanted, without a restart.
    pub(super) fn set_visibility(&mut self, defaults: Defaults) {
        self.visible.defaults = defaults;
        let all: Vec<_> = self.bound.keys().copied().collect();
        for index in all {
            self.show(index);
        }
        let Defaults { containers, host } = defaults;
        self.reporter.info(format!(
            "visible: `{containers}` of containers, `{host}` of the host"
        ));
    }

    /// Said when it begins and when it ends.
    fn look_for_trouble_with_logs(&mut self) {
        let trouble = self.kernel.trouble_with_logs();
        let trouble = trouble.map_or_else(String::new, |error| with_causes(error));
        if trouble == self.visible.trouble {
            return;
        }
        if trouble.is_empty() {
            self.reporter.info("what is to be visible is told, again");
        } else {
            self.reporter
                .error(format!("what workloads do is not logged: {trouble}"));
        }
        self.visible.trouble = trouble;
    }

    /// Has the numbers of repeats told, about once a second.
    pub(super) fn tell_repeats(&mut self) {
        let now = clock::boot_ns();
        if now.saturating_sub(self.visible.repeats_ns) < REPEATS_NS {
            return;
        }
        self.visible.repeats_ns = now;
        if let Err(error) = self.kernel.tell_repeats() {
            self.reporter.error(with_causes(&error));
        }
    }

    /// Nothing is visible any more. Says what became of what was: nothing of it is lost in silence.
    pub(super) fn end_logs(&mut self) {
        if let Err(error) = self.kernel.end_logs() {
            self.reporter.error(with_causes(&error));
        }
        match self.kernel.log_counts() {
            Ok(counts) if counts.attempted > 0 => self.reporter.info(format!(
                "{} operations were visible: {} logged, {} repeated, {} lost",
                counts.attempted, counts.sent, counts.counted, counts.lost
            )),
            Ok(_) => {}
            Err(error) => self.reporter.error(with_causes(&error)),
        }
    }
}
