// SPDX-License-Identifier: Apache-2.0
//! The thread that reads what workloads do, where that is visible. Alerts have another, which never
//! waits for this one but for the feed that both tell.

use crate::enforcer::lock;
use crate::report::Reporter;
use crate::status::Unheard;
use gorget_bpf::{LogReader, LogRecord};
use gorget_model::with_causes;
use gorget_observe::{Repeating, Tracker};
use gorget_telemetry::Feeder;
use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};

/// What becomes of what the programs tell.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) tracker: Arc<Mutex<Tracker>>,
    pub(crate) feeder: Feeder,
    pub(crate) reporter: Reporter,
    pub(crate) lost: Arc<Unheard>,
}

impl Told {
    /// Waits until something is visible, and reads it until told to stop. Ends when the enforcer has,
    /// if nothing ever was.
    pub(crate) fn read(&self, readers: &Receiver<LogReader>, reading: &AtomicBool) {
        let repeating = RefCell::new(Repeating::default());
        while let Ok(reader) = readers.recv() {
            let done = reader.run(
                || reading.load(Ordering::Acquire),
                |record| match record {
                    Ok(record) => self.tell(&mut repeating.borrow_mut(), record),
                    Err(error) => self.lost(1, &with_causes(&error)),
                },
            );
            if let Err(error) = done {
                let why = with_causes(&error);
                let said = format!("logs cannot be read any more: {why}");
                self.reporter.error(said);
            }
        }
    }

    fn tell(&self, repeating: &mut Repeating, record: LogRecord) {
        let event = match record {
            LogRecord::Log(log) => Some(repeating.first(&lock(&self.tracker), *log)),
            LogRecord::Repeats(repeats) => {
                let event = repeating.again(&lock(&self.tracker), repeats);
                if event.is_none() {
                    self.lost(repeats.count, "what was repeated is not known");
                }
                event
            }
        };
        if let Some(event) = event {
            self.feeder.publish(event);
        }
    }

    fn lost(&self, count: u64, why: &str) {
        self.lost.undecodable.fetch_add(count, Ordering::Relaxed);
        self.reporter
            .error(format!("{count} logs were lost: {why}"));
    }
}
