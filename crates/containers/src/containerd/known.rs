// SPDX-License-Identifier: Apache-2.0
//! What has been reported as started and not yet as stopped.
//!
//! Outlives connections, so that a container that ran before and after a restart of containerd is
//! reported once. Owns the ids that the reader sees: containerd's own, unless two namespaces use the
//! same one; then the later is `namespace/id`, because the reader could not tell them apart.

use super::Key;
use std::collections::{HashMap, HashSet};

#[derive(Debug)]
struct Reported {
    pid: u32,
    id: String,
}

/// The containers the reader believes to run.
#[derive(Debug, Default)]
pub(super) struct Known {
    containers: HashMap<Key, Reported>,
}

impl Known {
    /// Pid of the first process, when the container is known.
    pub(super) fn pid(&self, key: &Key) -> Option<u32> {
        self.containers.get(key).map(|reported| reported.pid)
    }

    /// The id under which the container is, or would be, reported.
    pub(super) fn reported_id(&self, key: &Key) -> String {
        if let Some(reported) = self.containers.get(key) {
            return reported.id.clone();
        }
        if self.containers.values().any(|other| other.id == key.id) {
            return format!("{}/{}", key.namespace, key.id);
        }
        key.id.clone()
    }

    /// Remembers a report of `id`, which [`Self::reported_id`] gave.
    pub(super) fn insert(&mut self, key: Key, pid: u32, id: String) {
        self.containers.insert(key, Reported { pid, id });
    }

    /// Forgets the container and gives the id under which it was reported.
    pub(super) fn remove(&mut self, key: &Key) -> Option<String> {
        self.containers.remove(key).map(|reported| reported.id)
    }

    /// Everything known of one namespace.
    pub(super) fn of_namespace(&self, namespace: &str) -> Vec<Key> {
        self.containers
            .keys()
            .filter(|key| key.namespace == namespace)
            .cloned()
            .collect()
    }

    /// Forgets what is not in `running` and gives the ids that are left, sorted.
    pub(super) fn keep(&mut self, running: &HashSet<Key>) -> Vec<String> {
        self.containers.retain(|key, _| running.contains(key));
        let mut ids: Vec<_> = self.containers.values().map(|r| r.id.clone()).collect();
        ids.sort_unstable();
        ids
    }
}
