// SPDX-License-Identifier: Apache-2.0
//! What the kernel programs cost and how full tables are, for `gorget top` and metrics.
//!
//! The kernel measures time only while somebody asks: each question keeps it measuring for as long as it
//! says, at most [`LONGEST`], and then it ends by itself. What is not measured is not told, or told to be
//! so; never as nothing.

use crate::clock;
use gorget_bpf::{Measured, Statistics, are_always_on};
use gorget_telemetry::Feeder;
use gorget_telemetry::proto::v1;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// Nobody has the kernel measure for longer without asking again.
const LONGEST: Duration = Duration::from_secs(60);

/// Where to read, and whether the kernel measures for somebody.
#[derive(Clone, Debug)]
pub(crate) struct Costs {
    measured: watch::Receiver<Arc<Measured>>,
    measuring: Arc<Mutex<Option<Measuring>>>,
}

#[derive(Debug)]
struct Measuring {
    _statistics: Statistics,
    /// Nanoseconds since boot.
    until: u64,
}

impl Costs {
    pub(crate) fn new(measured: watch::Receiver<Arc<Measured>>) -> Self {
        Self {
            measured,
            measuring: Arc::default(),
        }
    }

    /// Answers, and has the kernel measure for so long that the next answer can be compared with this
    /// one.
    pub(crate) fn answer(&self, request: &v1::GetCostsRequest, feeder: &Feeder) -> v1::Costs {
        let span = Duration::from_secs(request.measure_seconds.into()).min(LONGEST);
        let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        let until = clock::boot_ns().saturating_add(nanos);
        let mut not_measured = self.measure(until).err();
        let costs = self.now();
        let (all, told) = (self.measured.borrow().programs(), costs.programs.len());
        if not_measured.is_none() && told < all {
            not_measured = Some(format!("the kernel tells of {told} of {all} programs only"));
        }
        let counted = feeder.counted().workloads.into_iter();
        v1::Costs {
            not_measured: not_measured.unwrap_or_default(),
            workloads: counted
                .map(|it| v1::WorkloadEvents {
                    namespace: it.namespace,
                    pod: it.pod,
                    name: it.name,
                    alerts: it.alerts,
                    logs: it.logs,
                })
                .collect(),
            ..costs
        }
    }

    /// What is measured now, programs only while they are.
    pub(crate) fn now(&self) -> v1::Costs {
        let measured = Arc::clone(&self.measured.borrow());
        let is_measured = self.lock().is_some() || are_always_on();
        let programs = if is_measured {
            measured.costs()
        } else {
            Vec::new()
        };
        let processors = std::thread::available_parallelism().map_or(1, |it| it.get());
        v1::Costs {
            at_nanos: clock::boot_ns(),
            processors: u32::try_from(processors).unwrap_or(u32::MAX),
            programs: programs
                .into_iter()
                .map(|it| v1::ProgramCost {
                    id: it.id,
                    name: it.name,
                    runs: it.runs,
                    nanos: it.nanos,
                })
                .collect(),
            maps: measured
                .fills()
                .iter()
                .map(|fill| v1::MapFill {
                    name: fill.name.to_owned(),
                    entries: fill.entries,
                    capacity: fill.capacity,
                })
                .collect(),
            ..v1::Costs::default()
        }
    }

    /// Has the kernel measure until then, if nobody has it measure for longer.
    fn measure(&self, until: u64) -> Result<(), String> {
        let mut measuring = self.lock();
        if let Some(measuring) = measuring.as_mut() {
            measuring.until = measuring.until.max(until);
            return Ok(());
        }
        match Statistics::on() {
            Ok(statistics) => {
                *measuring = Some(Measuring {
                    _statistics: statistics,
                    until,
                });
                Ok(())
            }
            Err(_) if are_always_on() => Ok(()),
            Err(error) => Err(format!("the kernel does not measure programs: {error}")),
        }
    }

    /// Waits until nobody wants the kernel to measure any more, and has it stop.
    pub(crate) async fn over(&self) {
        loop {
            let until = self.lock().as_ref().map(|measuring| measuring.until);
            let Some(until) = until else {
                return std::future::pending().await;
            };
            let rest = until.saturating_sub(clock::boot_ns());
            if rest == 0 {
                *self.lock() = None;
                return;
            }
            tokio::time::sleep(Duration::from_nanos(rest)).await;
        }
    }

    /// What is locked is whole after every statement.
    fn lock(&self) -> MutexGuard<'_, Option<Measuring>> {
        self.measuring
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_measured_is_not_told_as_nothing() {
        let (_sender, measured) = watch::channel(Arc::new(Measured::default()));
        let costs = Costs::new(measured);
        let now = costs.now();
        assert!(now.programs.is_empty());
        assert!(now.at_nanos > 0 && now.processors > 0);
        assert!(costs.lock().is_none());
    }
}
