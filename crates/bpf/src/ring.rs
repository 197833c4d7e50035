// SPDX-License-Identifier: Apache-2.0
//! Reading the ring buffers: that of alerts, and that of logs.
//!
//! A reader belongs to one thread. A record that cannot be decoded is handed on as an error, so
//! that it is counted; it never stops the reader.

use crate::decode::{DecodeError, decode};
use crate::decode_log::{self, LogRecord};
use crate::hashes::HashTable;
use gorget_model::KernelEvent;
use libbpf_rs::{MapHandle, RingBuffer, RingBufferBuilder};
use std::time::Duration;

/// How long a wait for events lasts before the reader looks whether it shall stop.
const STOP_CHECK: Duration = Duration::from_millis(200);

/// A workload that is in no table.
const UNKNOWN: u32 = u32::MAX;

fn foreign(event: KernelEvent) -> KernelEvent {
    KernelEvent {
        workload: UNKNOWN,
        ruleset: 0,
        ..event
    }
}

/// The receiving end of the alerts.
#[derive(Debug)]
pub struct Reader {
    alerts: MapHandle,
    /// Of programs that an earlier agent of another build left attached.
    others: Vec<MapHandle>,
    /// What processes run, where that is known.
    hashes: Option<HashTable>,
}

impl Reader {
    pub(crate) fn new(
        alerts: MapHandle,
        others: Vec<MapHandle>,
        hashes: Option<HashTable>,
    ) -> Self {
        Self {
            alerts,
            others,
            hashes,
        }
    }

    /// Hands every record to `sink` until `go_on` says no; what is in the buffer then is still
    /// handed on. A record leaves the buffer when `sink` has returned: who is killed in between gets
    /// it again.
    ///
    /// What other builds' programs reported comes with a workload that is in no table and without a rule:
    /// their numbers mean something else.
    ///
    /// # Errors
    ///
    /// When the buffer cannot be mapped or waited for.
    pub fn run(
        self,
        go_on: impl Fn() -> bool,
        sink: impl Fn(Result<KernelEvent, DecodeError>),
    ) -> Result<(), libbpf_rs::Error> {
        let complete = |event| match &self.hashes {
            Some(hashes) => hashes.complete(event),
            None => event,
        };
        let mut builder = RingBufferBuilder::new();
        builder.add(&self.alerts, |record| {
            sink(decode(record).map(complete));
            0
        })?;
        for others in &self.others {
            builder.add(others, |record| {
                sink(decode(record).map(foreign).map(complete));
                0
            })?;
        }
        poll(&builder.build()?, go_on)
    }
}

/// The receiving end of the logs. It has nothing to do with that of the alerts: neither waits for the
/// other.
#[derive(Debug)]
pub struct LogReader {
    logs: MapHandle,
    hashes: Option<HashTable>,
}

impl LogReader {
    pub(crate) fn new(logs: MapHandle, hashes: Option<HashTable>) -> Self {
        Self { logs, hashes }
    }

    /// Hands every record to `sink` until `go_on` says no; what is in the buffer then is still
    /// handed on.
    ///
    /// # Errors
    ///
    /// When the buffer cannot be mapped or waited for.
    pub fn run(
        self,
        go_on: impl Fn() -> bool,
        sink: impl Fn(Result<LogRecord, DecodeError>),
    ) -> Result<(), libbpf_rs::Error> {
        let complete = |mut record| {
            if let (LogRecord::Log(log), Some(hashes)) = (&mut record, &self.hashes) {
                hashes.complete_log(log);
            }
            record
        };
        let mut builder = RingBufferBuilder::new();
        builder.add(&self.logs, |record| {
            sink(decode_log::decode(record).map(complete));
            0
        })?;
        poll(&builder.build()?, go_on)
    }
}

fn poll(ring: &RingBuffer<'_>, go_on: impl Fn() -> bool) -> Result<(), libbpf_rs::Error> {
    while go_on() {
        match ring.poll(STOP_CHECK) {
            Ok(()) => {}
            Err(error) if error.kind() == libbpf_rs::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    ring.consume()
}
