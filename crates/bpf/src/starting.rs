// SPDX-License-Identifier: Apache-2.0
//! Containers that begin without anybody having said so: `bpf/starting.h`.
//!
//! [`Beginnings`] tells of tasks that took another root directory, which runtimes do for a container
//! some time before its first program. [`Start`] is what was seen in a cgroup afterwards.

use crate::abi::{self, ev_starting};
use libbpf_rs::{MapCore as _, MapFlags, MapHandle, RingBufferBuilder};
use std::mem::offset_of;
use std::time::Duration;

/// How long a wait lasts before the reader looks whether it shall stop.
const STOP_CHECK: Duration = Duration::from_millis(200);

/// A task of the host took another root directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beginning {
    /// The cgroup it is in.
    pub cgroup: u64,
    /// Its process, in the initial pid namespace.
    pub pid: u32,
}

/// What a cgroup saw since a task of the host took another root directory there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// When that was, in nanoseconds since the machine was started.
    pub new_root_ns: u64,
    /// The first `execve` after that for which no rules were in force.
    pub execve_ns: Option<u64>,
}

/// The receiving end.
#[derive(Debug)]
pub struct Beginnings {
    ring: MapHandle,
}

impl Beginnings {
    pub(crate) fn new(ring: MapHandle) -> Self {
        Self { ring }
    }

    /// Hands on what begins until `go_on` says no. A record that is none is passed over: the container
    /// is found as all are, only later.
    ///
    /// # Errors
    ///
    /// When the buffer cannot be mapped or waited for.
    pub fn run(
        self,
        go_on: impl Fn() -> bool,
        sink: impl Fn(Beginning),
    ) -> Result<(), libbpf_rs::Error> {
        let mut builder = RingBufferBuilder::new();
        builder.add(&self.ring, |record| {
            if let Some(beginning) = decode(record) {
                sink(beginning);
            }
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
        Ok(())
    }
}

fn decode(record: &[u8]) -> Option<Beginning> {
    let cgroup = record.get(offset_of!(ev_starting, cgroup)..)?;
    let pid = record.get(offset_of!(ev_starting, pid)..)?;
    Some(Beginning {
        cgroup: u64::from_ne_bytes(*cgroup.first_chunk()?),
        pid: u32::from_ne_bytes(*pid.first_chunk()?),
    })
}

/// What `starts` has about a cgroup, which it then has no more.
pub(crate) fn take(starts: &MapHandle, cgroup: u64) -> libbpf_rs::Result<Option<Start>> {
    let key = cgroup.to_ne_bytes();
    let found = starts.lookup(&key, MapFlags::ANY)?;
    if found.is_some() {
        match starts.delete(&key) {
            // Others began meanwhile, and it was forgotten.
            Err(error) if error.kind() == libbpf_rs::ErrorKind::NotFound => {}
            deleted => deleted?,
        }
    }
    let word = |bytes: &[u8], at: usize| Some(u64::from_ne_bytes(*bytes.get(at..)?.first_chunk()?));
    Ok(found.and_then(|bytes| {
        let execve_ns = word(&bytes, offset_of!(abi::start, execve_ns))?;
        Some(Start {
            new_root_ns: word(&bytes, offset_of!(abi::start, new_root_ns))?,
            execve_ns: (execve_ns != 0).then_some(execve_ns),
        })
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_has_cgroup_and_process_and_a_short_one_is_none() {
        let mut record = 77u64.to_ne_bytes().to_vec();
        record.extend(5u32.to_ne_bytes());
        let whole = Beginning { cgroup: 77, pid: 5 };
        assert_eq!(decode(&record), Some(whole));
        record.pop();
        assert_eq!(decode(&record), None);
        assert_eq!(decode(&[]), None);
    }
}
