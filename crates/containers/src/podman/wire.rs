// SPDX-License-Identifier: Apache-2.0
//! The parts of Podman's answers that are read. What is missing has a default where Podman leaves
//! empty things out; everything else is an answer that cannot be used.

use super::http::HttpError;
use serde::Deserialize;
use std::collections::BTreeMap;

/// After these a container may run that did not, or the other way round.
const ACTIONS: [&str; 7] = [
    "start",
    "restart",
    "restore",
    "unpause",
    "died",
    "checkpoint",
    "remove",
];

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Version {
    pub(super) version: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Listed {
    pub(super) id: String,
    #[serde(default)]
    pub(super) pid: u32,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Inspection {
    pub(super) id: String,
    #[serde(default)]
    pub(super) name: String,
    /// Id of the image.
    #[serde(default)]
    pub(super) image: String,
    #[serde(default)]
    pub(super) image_name: String,
    #[serde(default)]
    pub(super) image_digest: String,
    /// Id of the pod.
    #[serde(default)]
    pub(super) pod: String,
    pub(super) state: State,
    #[serde(default)]
    pub(super) config: Config,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct State {
    /// 0 when it does not run.
    #[serde(default)]
    pub(super) pid: u32,
    #[serde(default)]
    status: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Config {
    pub(super) labels: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ImageInspection {
    #[serde(default)]
    pub(super) digest: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct PodInspection {
    #[serde(default)]
    pub(super) name: String,
}

impl Inspection {
    /// Its first process is there and waits for its start.
    pub(super) fn is_created_only(&self) -> bool {
        ["created", "initialized"].contains(&self.state.status.as_str())
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Event {
    action: String,
    actor: Actor,
}

#[derive(Debug, Deserialize)]
struct Actor {
    #[serde(rename = "ID")]
    id: String,
}

impl Event {
    pub(super) fn parse(line: &[u8]) -> Result<Self, HttpError> {
        serde_json::from_slice(line).map_err(|source| HttpError::Json {
            question: "events".to_owned(),
            source,
        })
    }

    /// An id goes into a question: it must be one.
    pub(super) fn container_to_look_at(&self) -> Option<&str> {
        let id = self.actor.id.as_str();
        let is_id = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        (is_id && ACTIONS.contains(&self.action.as_str())).then_some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(action: &str, id: &str) -> Event {
        let line = format!(
            r#"{{"status":"{action}","id":"{id}","from":"","Type":"container","Action":"{action}",
               "Actor":{{"ID":"{id}","Attributes":{{"name":"web"}}}},"scope":"local","time":1}}"#
        );
        Event::parse(line.as_bytes()).unwrap()
    }

    #[test]
    fn only_what_can_change_whether_a_container_runs_is_looked_at() {
        assert_eq!(event("start", "4f2a").container_to_look_at(), Some("4f2a"));
        for action in ["exec", "exec_died", "attach", "health_status", "create", ""] {
            assert_eq!(
                event(action, "4f2a").container_to_look_at(),
                None,
                "{action}"
            );
        }
    }

    #[test]
    fn an_id_that_is_none_is_never_asked_for() {
        for id in ["", "../images", "4f2a/json", "4f2a?x=", "web"] {
            assert_eq!(event("start", id).container_to_look_at(), None, "{id}");
        }
    }

    #[test]
    fn what_is_no_event_is_an_error() {
        for line in [
            "",
            "{}",
            "[]",
            r#"{"cause":"events are disabled","response":500}"#,
        ] {
            assert!(Event::parse(line.as_bytes()).is_err(), "{line}");
        }
    }
}
