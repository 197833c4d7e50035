// SPDX-License-Identifier: Apache-2.0
//! Events to KubeArmor's messages.
//!
//! Every field of the domain types is named, so that a new one cannot be forgotten here. Values are
//! those of KubeArmor 1.7.

use crate::client::Received;
use crate::feeder::Lost;
use crate::proto;
use gorget_model::{
    Alert, AlertAction, AlertKind, Category, Container, Event, ExecSession, FileHash, Hashes,
    Level, Log, Message, Node, PolicyRef, Process, Threshold, Workload,
};
use std::collections::BTreeMap;

const VERSION: &str = concat!("gorget ", env!("CARGO_PKG_VERSION"));
const MICROS: i64 = 1_000_000;

/// As a client gets it.
pub(crate) fn received(event: &Event) -> Received {
    match event {
        Event::Alert(it) => Received::Alert(Box::new(alert(it))),
        Event::Threshold(it) => Received::Alert(Box::new(threshold(it))),
        Event::Log(it) => Received::Log(Box::new(log(it))),
        Event::Message(it) => Received::Message(message(it)),
    }
}

pub(crate) fn alert(alert: &Alert) -> proto::Alert {
    let Alert {
        unix_micros,
        node,
        workload,
        process,
        policy,
        kind,
        category,
        source,
        resource,
        data,
        action,
        result,
        enforcer,
    } = alert;
    let PolicyRef {
        name,
        severity,
        tags,
        message,
    } = policy;
    let Process {
        host_pid,
        host_ppid,
        pid,
        ppid,
        uid,
        user,
        exe,
        parent_exe,
        cwd,
        tty,
        session,
        hashes,
    } = process;
    let hashes = ImageHashes::of(hashes);
    let place = Place::of(workload);
    proto::Alert {
        timestamp: unix_micros / MICROS,
        updated_time: utc(*unix_micros),
        cluster_name: node.cluster.clone(),
        host_name: node.host.clone(),
        namespace_name: place.namespace,
        pod_name: place.pod,
        container_id: place.id,
        container_name: place.name,
        host_pid: number(*host_pid),
        ppid: number(*ppid),
        pid: number(*pid),
        uid: number(*uid),
        policy_name: name.clone(),
        severity: severity.map(|s| s.to_string()).unwrap_or_default(),
        tags: tags.join(","),
        message: message.clone(),
        r#type: match kind {
            AlertKind::Policy => "MatchedPolicy",
            AlertKind::HostPolicy => "MatchedHostPolicy",
        }
        .to_owned(),
        source: source.clone(),
        operation: operation(*category).to_owned(),
        resource: resource.clone(),
        data: data.clone(),
        action: self::action(*action).to_owned(),
        result: (*result).to_owned(),
        container_image: place.image,
        parent_process_name: parent_exe.clone(),
        process_name: exe.clone(),
        host_ppid: number(*host_ppid),
        enforcer: (*enforcer).to_owned(),
        labels: place.labels,
        a_tags: tags.clone(),
        cwd: cwd.clone(),
        tty: tty.clone(),
        kube_armor_version: VERSION.to_owned(),
        node_id: node.id.clone(),
        event_data: pairs(data),
        user_name: user.clone(),
        owner: place.owner,
        exec_event: session.as_ref().map(exec_event),
        // Throttling has messages of its own.
        max_alerts_per_sec: 0,
        dropping_alerts_interval: 0,
        process_hash: hashes.process,
        parent_hash: hashes.parent,
        // Of files that are opened nobody makes one.
        resource_hash: String::new(),
        hash_algo: hashes.algorithm,
    }
}

pub(crate) fn log(log: &Log) -> proto::Log {
    let Log {
        unix_micros,
        node,
        workload,
        process,
        category,
        source,
        resource,
        data,
        result,
    } = log;
    let Process {
        host_pid,
        host_ppid,
        pid,
        ppid,
        uid,
        user,
        exe,
        parent_exe,
        cwd,
        tty,
        session,
        hashes,
    } = process;
    let hashes = ImageHashes::of(hashes);
    let place = Place::of(workload);
    proto::Log {
        timestamp: unix_micros / MICROS,
        updated_time: utc(*unix_micros),
        cluster_name: node.cluster.clone(),
        host_name: node.host.clone(),
        namespace_name: place.namespace,
        pod_name: place.pod,
        container_id: place.id,
        container_name: place.name,
        host_pid: number(*host_pid),
        ppid: number(*ppid),
        pid: number(*pid),
        uid: number(*uid),
        r#type: match **workload {
            Workload::Host(_) => "HostLog",
            Workload::Container(_) => "ContainerLog",
        }
        .to_owned(),
        source: source.clone(),
        operation: operation(*category).to_owned(),
        resource: resource.clone(),
        data: data.clone(),
        result: (*result).to_owned(),
        container_image: place.image,
        parent_process_name: parent_exe.clone(),
        process_name: exe.clone(),
        host_ppid: number(*host_ppid),
        labels: place.labels,
        cwd: cwd.clone(),
        tty: tty.clone(),
        node_id: node.id.clone(),
        event_data: pairs(data),
        user_name: user.clone(),
        owner: place.owner,
        exec_event: session.as_ref().map(exec_event),
        process_hash: hashes.process,
        parent_hash: hashes.parent,
        // Of files that are opened nobody makes one.
        resource_hash: String::new(),
        hash_algo: hashes.algorithm,
    }
}

/// Hashes as they are written; empty where they are not known.
struct ImageHashes {
    process: String,
    parent: String,
    algorithm: String,
}

impl ImageHashes {
    fn of(hashes: &Hashes) -> Self {
        let Hashes { process, parent } = hashes;
        let (process, parent) = (process.as_deref(), parent.as_deref());
        let algorithm = process.or(parent);
        let algorithm = algorithm.map_or("", |hash| hash.algorithm);
        // There is one field for the algorithm of all; a file may have had its hash by another one.
        let text = |hash: &FileHash| match hash.algorithm == algorithm {
            true => hash.to_string(),
            false => format!("{}:{hash}", hash.algorithm),
        };
        Self {
            process: process.map(text).unwrap_or_default(),
            parent: parent.map(text).unwrap_or_default(),
            algorithm: algorithm.to_owned(),
        }
    }
}

fn exec_event(session: &ExecSession) -> proto::ExecEvent {
    let ExecSession { id, program } = session;
    proto::ExecEvent {
        exec_id: id.clone(),
        executable_name: program.clone(),
    }
}

pub(crate) fn message(message: &Message) -> proto::Message {
    let Message {
        unix_micros,
        node,
        level,
        text,
    } = message;
    let Node {
        cluster,
        host,
        id: _,
    } = node.as_ref();
    proto::Message {
        timestamp: unix_micros / MICROS,
        updated_time: utc(*unix_micros),
        cluster_name: cluster.clone(),
        host_name: host.clone(),
        host_ip: String::new(),
        r#type: "Message".to_owned(),
        level: match level {
            Level::Debug => "DEBUG",
            Level::Info => "INFO",
            Level::Warn => "WARN",
            Level::Error => "ERROR",
        }
        .to_owned(),
        message: text.clone(),
    }
}

/// The fields that say where something happened; all empty for the host.
#[derive(Default)]
struct Place {
    namespace: String,
    pod: String,
    id: String,
    name: String,
    image: String,
    labels: String,
    owner: Option<proto::Podowner>,
}

impl Place {
    fn of(workload: &Workload) -> Self {
        match workload {
            Workload::Host(_) => Self::default(),
            Workload::Container(Container {
                id,
                name,
                image,
                namespace,
                pod,
                labels,
                owner,
            }) => {
                let labels: Vec<_> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
                Self {
                    // COMPAT: KubeArmor's namespace of containers without an orchestrator.
                    namespace: namespace
                        .clone()
                        .unwrap_or_else(|| "container_namespace".to_owned()),
                    pod: pod.clone().unwrap_or_default(),
                    id: id.clone(),
                    name: name.clone(),
                    image: image.clone(),
                    labels: labels.join(","),
                    owner: owner.as_ref().map(|owner| proto::Podowner {
                        r#ref: owner.kind.clone(),
                        name: owner.name.clone(),
                        namespace: owner.namespace.clone(),
                    }),
                }
            }
        }
    }
}

pub(crate) fn operation(category: Category) -> &'static str {
    match category {
        // What presets prevent is told as what the process did to run something.
        Category::Process | Category::Preset => "Process",
        Category::File => "File",
        Category::Network | Category::Dns => "Network",
        Category::Capability => "Capabilities",
        Category::Syscall => "Syscall",
        Category::Device => "Device",
    }
}

/// The word for what was done.
pub(crate) fn action(action: AlertAction) -> &'static str {
    match action {
        AlertAction::Audit => "Audit",
        AlertAction::Block => "Block",
        AlertAction::AuditedBlock => "Audit (Block)",
    }
}

/// The namespace of a workload; empty for the host.
pub(crate) fn namespace(workload: &Workload) -> &str {
    match workload {
        Workload::Host(_) => "",
        // COMPAT: KubeArmor's namespace of containers without an orchestrator.
        Workload::Container(it) => it.namespace.as_deref().unwrap_or("container_namespace"),
    }
}

/// The pod of a workload; empty where there is none.
pub(crate) fn pod(workload: &Workload) -> &str {
    match workload {
        Workload::Host(_) => "",
        Workload::Container(it) => it.pod.as_deref().unwrap_or_default(),
    }
}

/// The name of a container; empty for the host.
pub(crate) fn container(workload: &Workload) -> &str {
    match workload {
        Workload::Host(_) => "",
        Workload::Container(it) => &it.name,
    }
}

/// COMPAT: KubeArmor's operation for it.
pub(crate) const THRESHOLD: &str = "AlertThreshold";

/// COMPAT: as KubeArmor tells it when it begins, and once more with how many there were.
pub(crate) fn threshold(threshold: &Threshold) -> proto::Alert {
    let Threshold {
        unix_micros,
        node,
        workload,
        policy,
        category,
        enforcer,
        max_per_second,
        seconds,
        dropped,
    } = threshold;
    let place = Place::of(workload);
    let data = match dropped {
        0 => format!("operation={}", operation(*category)),
        _ => format!("operation={} dropped={dropped}", operation(*category)),
    };
    let message = match dropped {
        0 => format!(
            "more than {max_per_second} alerts a second: for {seconds} s they are only counted"
        ),
        _ => format!("{dropped} alerts were only counted"),
    };
    proto::Alert {
        timestamp: unix_micros / MICROS,
        updated_time: utc(*unix_micros),
        cluster_name: node.cluster.clone(),
        host_name: node.host.clone(),
        namespace_name: place.namespace,
        pod_name: place.pod,
        container_id: place.id,
        container_name: place.name,
        container_image: place.image,
        labels: place.labels,
        policy_name: policy.clone(),
        message,
        r#type: "SystemEvent".to_owned(),
        operation: THRESHOLD.to_owned(),
        event_data: pairs(&data),
        data,
        result: "Passed".to_owned(),
        enforcer: (*enforcer).to_owned(),
        kube_armor_version: VERSION.to_owned(),
        node_id: node.id.clone(),
        max_alerts_per_sec: number(*max_per_second),
        dropping_alerts_interval: number(*seconds),
        ..proto::Alert::default()
    }
}

/// What a client of alerts gets where some were lost.
pub(crate) fn lost_alerts(lost: &Lost) -> proto::Alert {
    let Lost {
        count,
        node,
        unix_micros,
    } = lost;
    proto::Alert {
        timestamp: unix_micros / MICROS,
        updated_time: utc(*unix_micros),
        cluster_name: node.cluster.clone(),
        host_name: node.host.clone(),
        node_id: node.id.clone(),
        message: lost.text(),
        r#type: "SystemEvent".to_owned(),
        operation: "Dropped".to_owned(),
        data: format!("dropped={count}"),
        event_data: pairs(&format!("dropped={count}")),
        kube_armor_version: VERSION.to_owned(),
        ..proto::Alert::default()
    }
}

/// What a client of logs gets where some were lost.
pub(crate) fn lost_logs(lost: &Lost) -> proto::Log {
    let Lost {
        count,
        node,
        unix_micros,
    } = lost;
    proto::Log {
        timestamp: unix_micros / MICROS,
        updated_time: utc(*unix_micros),
        cluster_name: node.cluster.clone(),
        host_name: node.host.clone(),
        node_id: node.id.clone(),
        r#type: "SystemEvent".to_owned(),
        operation: "Dropped".to_owned(),
        data: format!("dropped={count}"),
        event_data: pairs(&format!("dropped={count}")),
        ..proto::Log::default()
    }
}

/// Process and user ids are below 2^31 but for the uids of some user namespaces.
fn number(id: u32) -> i32 {
    i32::try_from(id).unwrap_or(-1)
}

/// `key=value` words to a map whose keys begin with a capital letter.
fn pairs(data: &str) -> BTreeMap<String, String> {
    data.split_whitespace()
        .filter_map(|word| {
            let (key, value) = word.split_once('=')?;
            let mut letters = key.chars();
            let first = letters.next()?.to_ascii_uppercase();
            Some((format!("{first}{}", letters.as_str()), value.to_owned()))
        })
        .collect()
}

/// A time as text: `2006-01-02T15:04:05.000000Z`.
pub fn utc(unix_micros: i64) -> String {
    let seconds = unix_micros.div_euclid(MICROS);
    let micros = unix_micros.rem_euclid(MICROS);
    let (year, month, day) = date(seconds.div_euclid(86_400));
    let second = seconds.rem_euclid(86_400);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar: years are
/// counted from March, in eras of 400 years.
fn date(day: i64) -> (i64, i64, i64) {
    let day = day + 719_468;
    let era = day.div_euclid(146_097);
    let day = day.rem_euclid(146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_in_utc_with_microseconds() {
        assert_eq!(utc(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(utc(951_782_400_000_001), "2000-02-29T00:00:00.000001Z");
        assert_eq!(utc(1_709_251_199_999_999), "2024-02-29T23:59:59.999999Z");
        assert_eq!(utc(4_102_444_799_000_000), "2099-12-31T23:59:59.000000Z");
        assert_eq!(utc(-1), "1969-12-31T23:59:59.999999Z");
    }

    #[test]
    fn hashes_are_written_in_hexadecimal_and_one_by_another_algorithm_names_it() {
        let hash = |algorithm, digest: &[u8]| {
            Some(Box::new(FileHash {
                algorithm,
                digest: digest.to_vec(),
            }))
        };
        let written = |process, parent| {
            let it = ImageHashes::of(&Hashes { process, parent });
            [it.process, it.parent, it.algorithm]
        };
        let sha = || hash("sha256", &[0, 0xab]);
        assert_eq!(written(sha(), sha()), ["00ab", "00ab", "sha256"]);
        assert_eq!(written(None, sha()), ["", "00ab", "sha256"]);
        assert_eq!(
            written(sha(), hash("sha1", &[1])),
            ["00ab", "sha1:01", "sha256"]
        );
        assert_eq!(written(None, None), ["", "", ""]);
    }

    #[test]
    fn data_becomes_a_map_with_capital_keys() {
        let map = pairs("lsm=FILE_OPEN flags=O_RDONLY novalue");
        assert_eq!(map.len(), 2);
        assert_eq!(map.get("Lsm").map(String::as_str), Some("FILE_OPEN"));
        assert_eq!(map.get("Flags").map(String::as_str), Some("O_RDONLY"));
    }
}
