// SPDX-License-Identifier: Apache-2.0
//! Reading the ring buffer of alerts.
//!
//! A reader belongs to one thread. A record that cannot be decoded is handed on as an error, so
//! that it is counted; it never stops the reader.

use crate::decode::{DecodeError, decode};
use gorget_model::KernelEvent;
use libbpf_rs::{MapHandle, RingBufferBuilder};
use std::time::Duration;

/// How long a wait for events lasts before the reader looks whether it shall stop.
const STOP_CHECK: Duration = Duration::from_millis(200);

/// The receiving end of the alerts.
#[derive(Debug)]
pub struct Reader {
    alerts: MapHandle,
}

impl Reader {
    pub(crate) fn new(alerts: MapHandle) -> Self {
        Self { alerts }
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
        mut sink: impl FnMut(Result<KernelEvent, DecodeError>),
    ) -> Result<(), libbpf_rs::Error> {
        let mut builder = RingBufferBuilder::new();
        builder.add(&self.alerts, |record| {
            sink(decode(record));
            0
        })?;
        let ring = builder.build()?;
        while go_on() {
            match ring.poll(STOP_CHECK) {
                Ok(()) => {}
                Err(error) if error.kind() == libbpf_rs::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        ring.consume()
    }
}
