// SPDX-License-Identifier: Apache-2.0
//! The way back: what a line of JSON that was delivered once says was attempted.
//!
//! [`read`] takes one event of Gorget or KubeArmor, with the field names of the protobuf messages
//! (`Operation`) or of KubeArmor's log file (`operation`), and gives back who did what. Events say less
//! than a decision needs; where something is missing, the likely value is taken, and every other
//! value that would be possible is an entry of [`Recorded::or`]:
//!
//! | missing | taken | possible |
//! |---|---|---|
//! | whose the object is, when the event has no `oid` | the actor's own | somebody else's |
//! | how a file was opened (`lsm=FILE_OPEN` without `flags`) | read | written as well |
//! | what was done to an open file (`lsm=FILE_PERMISSION`) | written | read |
//! | whether what was renamed is a directory | no | yes |
//! | the family of a socket | IPv4 | IPv6 |
//! | the type of a socket that connects or binds | a stream | a datagram |
//! | the arguments of a program, when there is only its path | none | some, in no list |
//!
//! Further: the actor is `ProcessName`, for a program that is started `ParentProcessName`; neither
//! means that nobody is known, and no `fromSource` names it. Arguments are the words of `Resource`.
//! Labels of nodes are not in events, only their names.
//!
//! No input panics. What cannot be understood is an [`Unreadable`] reason, of which there is a fixed
//! number, so that they can be counted.

mod line;
mod operation;

use gorget_model::{Access, Container, Host, Modes, Outcome, Workload};
use line::Line;
use serde::de::IgnoredAny;
use std::collections::BTreeMap;

/// What an event says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Where it happened.
    pub workload: Workload,
    /// What was attempted, as far as the event tells.
    pub access: Access,
    /// What was attempted if an assumption is wrong: one entry for each.
    pub or: Vec<Access>,
    /// What policies made of it; `None` when it failed for another reason.
    pub happened: Option<Outcome>,
    /// The policy that the event names, or `DefaultPosture`; empty when none.
    pub policy: String,
}

/// Why nothing can be learned from a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Unreadable {
    /// It is not JSON.
    #[error("is not JSON")]
    Json,
    /// It is JSON, but no object, or a field has another type than in an event.
    #[error("is not an event")]
    Event,
    /// It has no operation.
    #[error("has no `Operation`")]
    NoOperation,
    /// Messages and the news that alerts were dropped.
    #[error("tells about the agent, not about an operation")]
    AboutAgent,
    /// `NetworkFirewall`.
    #[error("is about a packet, which no rule here names")]
    Packet,
    /// An operation that is in no list.
    #[error("has an unknown `Operation`")]
    UnknownOperation,
    /// There is no object, or only a part of it.
    #[error("does not say what was acted upon")]
    NoObject,
    /// A path that is not absolute and has no working directory.
    #[error("has a path that is neither absolute nor in a known directory")]
    RelativePath,
    /// `syscall=` or `lsm=` is unknown, so it cannot be told what was done.
    #[error("does not say what was done to the file")]
    UnknownAction,
    /// A capability, system call, class, family, type or protocol that is in no list.
    #[error("names something that does not exist")]
    UnknownName,
}

impl Unreadable {
    /// Every reason.
    pub const ALL: [Self; 10] = [
        Self::Json,
        Self::Event,
        Self::NoOperation,
        Self::AboutAgent,
        Self::Packet,
        Self::UnknownOperation,
        Self::NoObject,
        Self::RelativePath,
        Self::UnknownAction,
        Self::UnknownName,
    ];
}

/// Reads one line.
///
/// # Errors
///
/// When the line does not tell of an operation that rules could speak about.
pub fn read(line: &[u8]) -> Result<Recorded, Unreadable> {
    // An array would be taken for the fields in their order.
    if !line.trim_ascii_start().starts_with(b"{") {
        let json = serde_json::from_slice::<IgnoredAny>(line).is_ok();
        return Err(if json {
            Unreadable::Event
        } else {
            Unreadable::Json
        });
    }
    let line: Line = serde_json::from_slice(line).map_err(|error| {
        if error.is_data() {
            Unreadable::Event
        } else {
            Unreadable::Json
        }
    })?;
    let attempt = operation::attempt(&line)?;
    let access = attempt.access;
    let mut or = attempt.or;
    // Whose the object is only matters for what has an owner.
    if line.owner().is_none() && attempt.owned {
        or.push(Access {
            modes: Modes {
                owner: false,
                ..access.modes
            },
            ..access.clone()
        });
    }
    Ok(Recorded {
        workload: workload(&line),
        access,
        or,
        happened: happened(&line),
        policy: line.policy_name.clone(),
    })
}

fn workload(line: &Line) -> Workload {
    let Line {
        container_id,
        container_name,
        container_image,
        namespace_name,
        pod_name,
        host_name,
        labels,
        ..
    } = line;
    let some = |text: &String| (!text.is_empty()).then(|| text.clone());
    let places = [container_id, container_name, namespace_name, pod_name];
    if places.iter().all(|place| place.is_empty()) {
        let keys = ["kubearmor.io/hostname", "kubernetes.io/hostname"];
        return Workload::Host(Host {
            name: host_name.clone(),
            labels: keys
                .map(|key| (key.to_owned(), host_name.clone()))
                .into_iter()
                .collect(),
        });
    }
    let labels: BTreeMap<String, String> = labels
        .split(',')
        .filter_map(|label| label.trim().split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    Workload::Container(Container {
        id: container_id.clone(),
        name: container_name.clone(),
        image: container_image.clone(),
        // COMPAT: KubeArmor's namespace of containers without an orchestrator.
        namespace: some(namespace_name).filter(|namespace| namespace != "container_namespace"),
        pod: some(pod_name),
        labels,
        // Policies do not select by it.
        owner: None,
    })
}

/// Only alerts tell what policies did. An audited workload's denials passed with an alert.
fn happened(line: &Line) -> Option<Outcome> {
    let passed = matches!(line.result.as_str(), "" | "Passed");
    match line.action.as_str() {
        "Block" if !passed || line.result.is_empty() => Some(Outcome::Block),
        "" | "Allow" if !passed => None,
        "" | "Allow" => Some(Outcome::Pass),
        _ => Some(Outcome::Audit),
    }
}
