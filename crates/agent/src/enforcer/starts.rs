// SPDX-License-Identifier: Apache-2.0
//! Containers come and go: reported by their runtime, or announced before it does.
//!
//! INVARIANT: a container is one workload, whoever tells of it, how often and in which order: who has
//! its id, or its cgroup and first process, is it.

use super::{Bound, Enforcer, lock, name};
use crate::clock;
use gorget_bpf::WorkloadIndex;
use gorget_containers::{Announced, Started};
use gorget_model::with_causes;
use gorget_model::{Container, Workload};
use gorget_telemetry::proto::v1::{Bucket, Starts};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How long after a container's tasks were enrolled they are enrolled once more.
const ENROLS_AGAIN_NS: u64 = 1_000_000_000;

/// Who tells of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Teller {
    /// Its runtime, in a list or by an event.
    Runtime,
    /// A hook, NRI or the kernel.
    Announcement {
        /// Where its root directory is until it is its first process's.
        root: Option<PathBuf>,
        /// Its first program waits until its rules are in force.
        waits: bool,
    },
}

/// How late rules came.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lateness {
    /// Containers with rules that began when the agent could see it.
    begun: u64,
    /// Those whose first program began before their rules were in force.
    late: u64,
    most: Duration,
    sum: Duration,
    /// How many were at most so late, in the order of [`BUCKETS`].
    buckets: [u64; BUCKETS.len()],
}

/// How late, in microseconds. In time is 0.
const BUCKETS: [u64; 11] = [
    0, 1_000, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 5_000_000,
];

impl Lateness {
    fn count(&mut self, late: Duration) {
        self.begun += 1;
        self.late += u64::from(!late.is_zero());
        self.most = self.most.max(late);
        self.sum = self.sum.saturating_add(late);
        for (at_most, count) in BUCKETS.into_iter().zip(&mut self.buckets) {
            *count += u64::from(late <= Duration::from_micros(at_most));
        }
    }

    pub(super) fn told(&self) -> Starts {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let buckets = BUCKETS.into_iter().zip(self.buckets);
        Starts {
            containers: self.begun,
            late: self.late,
            most_micros: micros(self.most),
            sum_micros: micros(self.sum),
            buckets: buckets
                .map(|(at_most_micros, count)| Bucket {
                    at_most_micros,
                    count,
                })
                .collect(),
        }
    }
}

impl Enforcer {
    /// Puts the rules of an announced container in force.
    pub(super) fn announced(&mut self, announced: Announced, waits: bool) -> Result<(), String> {
        let Announced {
            started,
            root,
            incomplete,
        } = announced;
        if let Some(reason) = incomplete {
            let id = &started.container.id;
            self.reporter.warn(format!(
                "container `{id}` is known by its annotations only: {reason}"
            ));
        }
        self.started(started, Teller::Announcement { root, waits })
    }

    /// Its first process has ended, or its runtime says that it has; then `pid` is not known.
    pub(super) fn ended(&mut self, id: &str, pid: Option<u32>) {
        let bound = self.by_id.get(id).and_then(|index| self.bound.get(index));
        if bound.is_some_and(|bound| pid.is_none_or(|pid| bound.pid == pid)) {
            self.stopped(id);
        }
    }

    pub(super) fn started(&mut self, started: Started, teller: Teller) -> Result<(), String> {
        let Started {
            container,
            pid,
            cgroup,
            already_running: _,
        } = started;
        let id = container.id.clone();
        let is_it = |bound: &Bound| bound.cgroup == Some(cgroup.id);
        // Two namespaces of a runtime may use one id: then it is another one when it is reported.
        let same = self.bound.iter().find(|(_, bound)| is_it(bound));
        if let Some((index, bound)) = same.map(|(index, bound)| (*index, bound)) {
            if bound.pid == pid {
                return self.told_again(index, container, &teller);
            }
            let id = self.id_of(index);
            self.stopped(&id);
        }
        self.stopped(&id);
        let name = container.name.clone();
        let index = self.kernel.bind(cgroup.id).map_err(|error| {
            let reason = with_causes(&error);
            let said = format!("container `{name}` is not protected: {reason}");
            self.reporter.error(said);
            reason
        })?;
        if let Some(apparmor) = &mut self.apparmor {
            apparmor.started(&container);
        }
        let (described, treatment) = self.described(&container);
        let workload = Arc::new(Workload::Container(described));
        lock(&self.tracker).workload(index.0, Arc::clone(&workload));
        self.by_id.insert(id, index);
        let announced = teller != Teller::Runtime;
        let (early_root, waits) = match teller {
            Teller::Runtime => (None, false),
            Teller::Announcement { root, waits } => (root, waits),
        };
        self.bound.insert(
            index,
            Bound {
                workload,
                told: Some(container),
                treatment,
                root: PathBuf::from(format!("/proc/{pid}/root")),
                early_root,
                announced,
                cgroup: Some(cgroup.id),
                pid,
                selected: Vec::new(),
                policies: Vec::new(),
                wanted: Vec::new(),
                failed: None,
                confined: false,
                ruleset: None,
                made_of: None,
            },
        );
        // Tasks that run in it already are members before it is said that the rules are in force.
        self.enrol();
        self.enrols_again = Some(clock::boot_ns().saturating_add(ENROLS_AGAIN_NS));
        let done = self.apply(index);
        self.show(index);
        self.tell_lateness(index, cgroup.id, waits);
        done
    }

    /// The same container: what is new is who it is, and perhaps where its links lead.
    fn told_again(
        &mut self,
        index: WorkloadIndex,
        container: Container,
        teller: &Teller,
    ) -> Result<(), String> {
        let before = self.id_of(index);
        if before != container.id {
            self.by_id.remove(&before);
            self.by_id.insert(container.id.clone(), index);
        }
        let Some(bound) = self.bound.get_mut(&index) else {
            return Ok(());
        };
        // Its runtime knows more than who announced it.
        let is_believed = *teller == Teller::Runtime || bound.announced;
        bound.announced &= *teller != Teller::Runtime;
        if is_believed && bound.told.as_ref() != Some(&container) {
            bound.told = Some(container.clone());
            let (was_known, same) = (bound.treatment.is_known, Arc::clone(&bound.workload));
            let (described, treatment) = self.described(&container);
            // What it was told from its pod stays.
            let is_same_pod = matches!(&*same, Workload::Container(before)
                if before.pod == described.pod && before.namespace == described.namespace);
            if treatment.is_known || !(was_known && is_same_pod) {
                self.is_now(index, Workload::Container(described), treatment);
                self.show(index);
            }
        }
        self.apply(index)
    }

    /// A child that was being made while the others were enrolled had a parent that was no member yet, and
    /// could not be visited yet: it is enrolled now.
    pub(super) fn enrol_again(&mut self) {
        if self.enrols_again.is_some_and(|at| clock::boot_ns() >= at) {
            self.enrols_again = None;
            self.enrol();
        }
    }

    fn id_of(&self, index: WorkloadIndex) -> String {
        let mut all = self.by_id.iter();
        let found = all.find(|(_, other)| **other == index);
        found.map(|(id, _)| id.clone()).unwrap_or_default()
    }

    /// Says whether the container's first program began before its rules were in force, and since when.
    fn tell_lateness(&mut self, index: WorkloadIndex, cgroup: u64, waits: bool) {
        let execve_ns = match self.kernel.take_start(cgroup) {
            Ok(Some(start)) => start.execve_ns,
            // Its first process has not even its root directory.
            Ok(None) if waits => None,
            // It began before anybody looked.
            Ok(None) => return,
            Err(error) => return self.reporter.error(with_causes(&error)),
        };
        let Some(bound) = self.bound.get(&index).filter(|b| b.ruleset.is_some()) else {
            return;
        };
        let name = name(&bound.workload).to_owned();
        let Some(execve_ns) = execve_ns else {
            self.lateness.count(Duration::ZERO);
            return self.reporter.info(format!(
                "the rules of `{name}` were in force before its first program"
            ));
        };
        let late = Duration::from_nanos(clock::boot_ns().saturating_sub(execve_ns));
        // Also what the clock is too coarse for.
        self.lateness.count(late.max(Duration::from_nanos(1)));
        let Lateness {
            begun,
            late: count,
            most,
            ..
        } = self.lateness;
        let (late, most) = (late.as_secs_f64() * 1e3, most.as_secs_f64() * 1e3);
        self.reporter.warn(format!(
            "`{name}` ran for {late:.1} ms before its rules were in force ({count} of {begun} \
             containers began without, for {most:.1} ms at most)"
        ));
    }

    pub(super) fn stopped(&mut self, id: &str) {
        let Some(index) = self.by_id.remove(id) else {
            return;
        };
        let Some(bound) = self.bound.remove(&index) else {
            return;
        };
        if let Err(error) = self.kernel.unbind(index) {
            let name = name(&bound.workload);
            self.reporter
                .error(format!("ending `{name}`: {}", with_causes(&error)));
        }
        if let (Some(apparmor), Workload::Container(container)) =
            (&mut self.apparmor, &*bound.workload)
        {
            apparmor.stopped(container);
        }
        self.count_user(bound.ruleset, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lateness_is_counted_in_all_buckets_that_it_fits_in() {
        let mut lateness = Lateness::default();
        for micros in [0, 1_000, 7_000, 9_000_000] {
            lateness.count(Duration::from_micros(micros));
        }
        let told = lateness.told();
        assert_eq!((told.containers, told.late), (4, 3));
        assert_eq!((told.most_micros, told.sum_micros), (9_000_000, 9_008_000));
        let counts: Vec<_> = told.buckets.iter().map(|bucket| bucket.count).collect();
        assert_eq!(counts, [1, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3]);
    }
}
