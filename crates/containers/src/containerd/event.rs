// SPDX-License-Identifier: Apache-2.0
//! Decodes the events that begin and end containers.
//!
//! The topic says what an event is; the type of its payload must agree. Events of additional
//! processes (`exec`) are nothing here, and neither is our own marker. What cannot be decoded is an
//! error with its cause and costs that one event.

use super::Key;
use crate::proto::containerd::events::{TaskCreate, TaskDelete, TaskExit, TaskStart};
use crate::proto::containerd::types::Envelope;
use prost::Message;

pub(super) const CREATE: &str = "/tasks/create";
pub(super) const START: &str = "/tasks/start";
pub(super) const EXIT: &str = "/tasks/exit";
pub(super) const DELETE: &str = "/tasks/delete";
/// What we publish ourselves to learn that a subscription is in place.
pub(super) const MARKER: &str = "/gorget/subscribed";

/// What happened to the first process of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Happening {
    /// It exists, in its cgroup, and has not yet executed the container's program.
    Created { pid: u32 },
    /// It was told to go on.
    Started { pid: u32 },
    /// It ended, or its task was removed; 0 when containerd lost track of the pid.
    Ended { pid: u32 },
}

/// Why an event is of no use.
#[derive(Debug, thiserror::Error)]
pub(super) enum EventError {
    #[error("event `{topic}` has no payload")]
    Empty { topic: String },
    #[error("event `{topic}` has a payload of type `{found}`")]
    Type { topic: String, found: String },
    #[error("cannot decode event `{topic}`")]
    Payload {
        topic: String,
        source: prost::DecodeError,
    },
    #[error("event `{topic}` names no container")]
    Nameless { topic: String },
    #[error("event `{topic}` of container `{id}` has no process id")]
    Pidless { topic: String, id: String },
}

/// What the event says about a container; `None` when it is about something else.
pub(super) fn decode(envelope: Envelope) -> Result<Option<(Key, Happening)>, EventError> {
    let (id, happening) = match envelope.topic.as_str() {
        CREATE => {
            let TaskCreate { container_id, pid } =
                payload(&envelope, "containerd.events.TaskCreate")?;
            (container_id, Happening::Created { pid })
        }
        START => {
            let TaskStart { container_id, pid } =
                payload(&envelope, "containerd.events.TaskStart")?;
            (container_id, Happening::Started { pid })
        }
        EXIT => {
            let TaskExit {
                container_id,
                id,
                pid,
            } = payload(&envelope, "containerd.events.TaskExit")?;
            if id != container_id {
                return Ok(None);
            }
            (container_id, Happening::Ended { pid })
        }
        DELETE => {
            let TaskDelete {
                container_id,
                pid,
                id,
            } = payload(&envelope, "containerd.events.TaskDelete")?;
            // Most versions leave the id of the first process empty.
            if !id.is_empty() && id != container_id {
                return Ok(None);
            }
            (container_id, Happening::Ended { pid })
        }
        _ => return Ok(None),
    };
    let Envelope {
        namespace,
        topic,
        event: _,
    } = envelope;
    if id.is_empty() {
        return Err(EventError::Nameless { topic });
    }
    match happening {
        Happening::Created { pid: 0 } | Happening::Started { pid: 0 } => {
            Err(EventError::Pidless { topic, id })
        }
        Happening::Created { .. } | Happening::Started { .. } | Happening::Ended { .. } => {
            Ok(Some((Key { namespace, id }, happening)))
        }
    }
}

/// The payload, which must say that it is of type `name`.
fn payload<M: Message + Default>(envelope: &Envelope, name: &str) -> Result<M, EventError> {
    let topic = || envelope.topic.clone();
    let Some(event) = &envelope.event else {
        return Err(EventError::Empty { topic: topic() });
    };
    // containerd gives the bare name; other senders put a host and `/` before it.
    if event.type_url.rsplit('/').next() != Some(name) {
        return Err(EventError::Type {
            topic: topic(),
            found: event.type_url.clone(),
        });
    }
    M::decode(event.value.as_slice()).map_err(|source| EventError::Payload {
        topic: topic(),
        source,
    })
}
