// SPDX-License-Identifier: Apache-2.0
//! The fields of an event that say what was attempted, under both of KubeArmor's spellings.
//!
//! Fields that are not needed are not looked at, whatever they hold.

use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Line {
    #[serde(rename = "Type", alias = "type")]
    pub(super) kind: String,
    #[serde(rename = "Operation", alias = "operation")]
    pub(super) operation: String,
    #[serde(rename = "Source", alias = "source")]
    pub(super) source: String,
    #[serde(rename = "Resource", alias = "resource")]
    pub(super) resource: String,
    #[serde(rename = "Data", alias = "data")]
    pub(super) data: String,
    #[serde(rename = "Action", alias = "action")]
    pub(super) action: String,
    #[serde(rename = "Result", alias = "result")]
    pub(super) result: String,
    #[serde(rename = "Enforcer", alias = "enforcer")]
    pub(super) enforcer: String,
    #[serde(rename = "PolicyName", alias = "policyName")]
    pub(super) policy_name: String,
    #[serde(rename = "ProcessName", alias = "processName")]
    pub(super) process_name: String,
    #[serde(rename = "ParentProcessName", alias = "parentProcessName")]
    pub(super) parent_process_name: String,
    #[serde(rename = "Cwd", alias = "cwd")]
    pub(super) cwd: String,
    #[serde(rename = "TTY", alias = "tty")]
    pub(super) tty: String,
    #[serde(rename = "UID", alias = "uid")]
    uid: Option<i64>,
    #[serde(rename = "OID", alias = "oid")]
    oid: Option<i64>,
    #[serde(rename = "HostName", alias = "hostName")]
    pub(super) host_name: String,
    #[serde(rename = "NamespaceName", alias = "namespaceName")]
    pub(super) namespace_name: String,
    #[serde(rename = "PodName", alias = "podName")]
    pub(super) pod_name: String,
    #[serde(rename = "ContainerID", alias = "containerID")]
    pub(super) container_id: String,
    #[serde(rename = "ContainerName", alias = "containerName")]
    pub(super) container_name: String,
    #[serde(rename = "ContainerImage", alias = "containerImage")]
    pub(super) container_image: String,
    #[serde(rename = "Labels", alias = "labels")]
    pub(super) labels: String,
}

impl Line {
    /// Whether the actor owns the object, if the event tells. A uid of 0 is left out of events.
    pub(super) fn owner(&self) -> Option<bool> {
        self.oid.map(|oid| oid == self.uid.unwrap_or(0))
    }

    /// The value of `KEY=VALUE` in `Data`, else in `Resource`. Older events have commas for spaces.
    pub(super) fn value(&self, key: &str) -> Option<&str> {
        let texts = [&self.data, &self.resource].into_iter();
        let mut words = texts.flat_map(|text| words(text));
        words.find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    }

    /// Every word of `Data` and `Resource`.
    pub(super) fn all_words(&self) -> impl Iterator<Item = &str> {
        words(&self.data).chain(words(&self.resource))
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c.is_whitespace() || c == ',')
}
