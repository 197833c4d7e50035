// SPDX-License-Identifier: Apache-2.0
//! What of workloads is visible. It has nothing to do with what is in force.

use super::{ApplyError, Kernel, WorkloadIndex};
use crate::attach::LoadError;
use crate::hashes::HashPrograms;
use crate::logs::LogCounts;
use crate::ring::LogReader;
use gorget_model::Visibility;

impl Kernel {
    /// From now on this of what a workload does is told, whatever its rules are. See
    /// [`Kernel::trouble_with_logs`].
    pub fn show(&mut self, index: WorkloadIndex, visible: Visibility) {
        self.logs.show(index, visible, &self.place);
    }

    /// Makes ready for [`Kernel::show`], which otherwise takes a second the first time.
    pub fn prepare_to_show(&mut self) {
        self.logs.prepare(&self.place);
    }

    /// Whether anything is told of what workloads do.
    pub fn is_showing(&self) -> bool {
        self.logs.hooks().next().is_some()
    }

    /// Why nothing is told of what is to be visible. `None`: it is told. Tried again by the next
    /// [`Kernel::show`].
    pub fn trouble_with_logs(&self) -> Option<&LoadError> {
        self.logs.trouble()
    }

    /// The channel of logs, once it is open, and once only.
    pub fn take_log_reader(&mut self) -> Option<LogReader> {
        let hashes = self.hashes.as_ref();
        // Without hashes rather than not at all.
        let hashes = hashes.and_then(|hashes| hashes.table().ok());
        self.logs.take_reader(hashes)
    }

    /// From now on the kernel makes hashes of what is executed, and events have them; to be called
    /// before the channels are opened. It ends with this value.
    ///
    /// # Errors
    ///
    /// When the kernel has no IMA, or refuses; then events have no hashes.
    pub fn hash_programs(&mut self) -> Result<(), LoadError> {
        self.hashes = Some(HashPrograms::attach()?);
        Ok(())
    }

    /// Has the numbers of repeats of what is logged sent, when they were counted for long enough. Wants
    /// to be called about once a second.
    ///
    /// # Errors
    ///
    /// When the kernel refuses; then they are sent the next time.
    pub fn tell_repeats(&self) -> Result<(), LoadError> {
        self.logs.tell_repeats()
    }

    /// What became of operations that were visible, since this agent began to tell of them.
    ///
    /// # Errors
    ///
    /// When the counters cannot be read.
    pub fn log_counts(&self) -> Result<LogCounts, ApplyError> {
        self.logs.counts().map_err(|source| ApplyError::Map {
            doing: "reading how many operations were logged",
            source,
        })
    }

    /// Nothing is visible any more; what was is in the channel of logs or counted as lost.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn end_logs(&mut self) -> Result<(), LoadError> {
        self.logs.end()
    }
}
