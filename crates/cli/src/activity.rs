// SPDX-License-Identifier: Apache-2.0
//! What workloads do, counted from what agents report: for `gorget summary` and `gorget profile`.
//!
//! Pure. An event is an operation of a workload, of some kind, by a source (the program) on a resource; a
//! log may stand for several (`Repeats` or `Count` in its `EventData`). An alert is an operation, too: what
//! was an alert need not be a log as well.
//!
//! INVARIANT: what is kept is bounded. Rows above [`MOST_ROWS`] are counted together with those of the same
//! workload and kind, workloads above [`MOST_WORKLOADS`] with each other, under names that say so. What an
//! agent says was lost is counted apart and never left out.

use gorget_telemetry::{Received, proto};
use serde::Serialize;
use std::collections::BTreeMap;

/// Rows that are told apart; some 6 MB with paths of 100 characters.
pub(crate) const MOST_ROWS: usize = 20_000;
const MOST_WORKLOADS: usize = 1_000;
/// Characters of a source or resource that are kept.
const MOST_KEPT: usize = 1_000;
/// What is not told apart.
pub(crate) const OTHERS: &str = "(others)";

/// What sort of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Process,
    File,
    Network,
    Syscall,
    /// Capabilities, devices and whatever else there will be.
    Other,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] = [
        Self::Process,
        Self::File,
        Self::Network,
        Self::Syscall,
        Self::Other,
    ];

    fn of(operation: &str) -> Self {
        match operation {
            "Process" => Self::Process,
            "File" => Self::File,
            "Network" => Self::Network,
            "Syscall" => Self::Syscall,
            _ => Self::Other,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::File => "file",
            Self::Network => "network",
            Self::Syscall => "syscall",
            Self::Other => "other",
        }
    }
}

/// How often something was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Tally {
    pub(crate) count: u64,
    /// Of them, those that did not succeed, whatever kept them from it.
    pub(crate) failed: u64,
    /// Of them, those that a policy had something to say about.
    pub(crate) alerts: u64,
    /// Of them, those that a policy denied.
    pub(crate) denied: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, more: Self) {
        let Self {
            count,
            failed,
            alerts,
            denied,
        } = more;
        self.count = self.count.saturating_add(count);
        self.failed = self.failed.saturating_add(failed);
        self.alerts = self.alerts.saturating_add(alerts);
        self.denied = self.denied.saturating_add(denied);
    }
}

/// What was done, by whom.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Deed {
    pub(crate) kind: Kind,
    pub(crate) source: String,
    pub(crate) resource: String,
}

/// Alerts of one policy with the same action.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Told {
    pub(crate) policy: String,
    pub(crate) action: String,
}

/// What one workload did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Workload {
    pub(crate) deeds: BTreeMap<Deed, Tally>,
    pub(crate) policies: BTreeMap<Told, Tally>,
}

impl Workload {
    /// All of a kind together.
    pub(crate) fn of_kind(&self, kind: Kind) -> Tally {
        let these = self.deeds.iter().filter(|(deed, _)| deed.kind == kind);
        together(these.map(|(_, tally)| *tally))
    }

    pub(crate) fn all(&self) -> Tally {
        together(self.deeds.values().copied())
    }
}

fn together(tallies: impl Iterator<Item = Tally>) -> Tally {
    let mut all = Tally::default();
    tallies.for_each(|tally| all.add(tally));
    all
}

/// What all workloads did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Activity {
    pub(crate) workloads: BTreeMap<String, Workload>,
    rows: usize,
    /// Operations that were counted, but not apart from others.
    pub(crate) merged: u64,
    /// Events that an agent says did not get here.
    pub(crate) lost: u64,
    /// Alerts that an agent only counted, because there were too many.
    pub(crate) throttled: u64,
}

impl Activity {
    /// Counts an event.
    pub(crate) fn add(&mut self, event: &Received) {
        match event {
            Received::Alert(alert) => self.alert(alert),
            Received::Log(log) => self.log(log),
            Received::Message(_) => {}
        }
    }

    fn alert(&mut self, alert: &proto::Alert) {
        let dropped = number(&alert.event_data, "Dropped").unwrap_or(0);
        match alert.operation.as_str() {
            "Dropped" => return self.lost = self.lost.saturating_add(dropped),
            "AlertThreshold" => return self.throttled = self.throttled.saturating_add(dropped),
            _ => {}
        }
        let denied = alert.action == "Block" && alert.result != "Passed";
        let tally = Tally {
            count: 1,
            failed: u64::from(alert.result != "Passed"),
            alerts: 1,
            denied: u64::from(denied),
        };
        let place = Place {
            host: &alert.host_name,
            namespace: &alert.namespace_name,
            pod: &alert.pod_name,
            container: &alert.container_name,
            id: &alert.container_id,
        };
        let deed = deed(
            &alert.operation,
            [&alert.process_name, &alert.source],
            &alert.resource,
            &alert.data,
        );
        let told = Told {
            policy: kept(&alert.policy_name),
            action: kept(&alert.action),
        };
        let (name, has_room) = (self.name(place.name()), self.rows < MOST_ROWS);
        let workload = self.workloads.entry(name.clone()).or_default();
        let told = match has_room || workload.policies.contains_key(&told) {
            true => told,
            false => Told {
                policy: OTHERS.to_owned(),
                ..told
            },
        };
        let before = workload.policies.len();
        workload.policies.entry(told).or_default().add(tally);
        self.rows += workload.policies.len() - before;
        self.count(&name, deed, tally);
    }

    fn log(&mut self, log: &proto::Log) {
        if log.operation == "Dropped" {
            let dropped = number(&log.event_data, "Dropped").unwrap_or(0);
            self.lost = self.lost.saturating_add(dropped);
            return;
        }
        let count = ["Repeats", "Count"].into_iter();
        let count = count.filter_map(|key| number(&log.event_data, key)).next();
        let count = count.unwrap_or(1);
        let failed = if log.result == "Passed" { 0 } else { count };
        let tally = Tally {
            count,
            failed,
            ..Tally::default()
        };
        let place = Place {
            host: &log.host_name,
            namespace: &log.namespace_name,
            pod: &log.pod_name,
            container: &log.container_name,
            id: &log.container_id,
        };
        let deed = deed(
            &log.operation,
            [&log.process_name, &log.source],
            &log.resource,
            &log.data,
        );
        let name = self.name(place.name());
        self.count(&name, deed, tally);
    }

    /// The name that a workload is counted under.
    fn name(&self, name: String) -> String {
        let has_room = self.workloads.len() < MOST_WORKLOADS;
        match has_room || self.workloads.contains_key(&name) {
            true => name,
            false => OTHERS.to_owned(),
        }
    }

    fn count(&mut self, name: &str, mut deed: Deed, tally: Tally) {
        let workload = self.workloads.entry(name.to_owned()).or_default();
        if self.rows >= MOST_ROWS && !workload.deeds.contains_key(&deed) {
            deed.source = OTHERS.to_owned();
            deed.resource = OTHERS.to_owned();
            self.merged = self.merged.saturating_add(tally.count);
        }
        let before = workload.deeds.len();
        workload.deeds.entry(deed).or_default().add(tally);
        self.rows += workload.deeds.len() - before;
    }
}

/// Where something happened.
struct Place<'a> {
    host: &'a str,
    namespace: &'a str,
    pod: &'a str,
    container: &'a str,
    id: &'a str,
}

impl Place<'_> {
    /// COMPAT: what is in no container has none of these, and a container without an orchestrator has
    /// KubeArmor's namespace for it.
    fn name(&self) -> String {
        if self.id.is_empty() && self.container.is_empty() {
            return kept(&format!("host {}", self.host));
        }
        let namespace = match self.namespace {
            "container_namespace" => "",
            namespace => namespace,
        };
        let container = match self.container {
            "" => self.id,
            name => name,
        };
        let parts = [namespace, self.pod, container].into_iter();
        let parts: Vec<_> = parts.filter(|part| !part.is_empty()).collect();
        kept(&parts.join("/"))
    }
}

/// The program, or who it is said to be where that is not known; and what it was done to.
fn deed(operation: &str, sources: [&String; 2], resource: &str, data: &str) -> Deed {
    let source = sources.into_iter().find(|source| !source.is_empty());
    let kind = Kind::of(operation);
    let call = data
        .split(' ')
        .find_map(|word| word.strip_prefix("syscall="));
    let is_exit = data.split(' ').any(|word| word == "event=EXIT");
    let resource = match (kind, call, resource) {
        (Kind::Process, _, program) if is_exit => format!("exit of {program}"),
        (Kind::Syscall, Some(call), "") => call.to_owned(),
        (Kind::Syscall, Some(call), resource) => format!("{call} {resource}"),
        (_, _, "") => data.to_owned(),
        (_, _, resource) => resource.to_owned(),
    };
    Deed {
        kind,
        source: source.map_or_else(String::new, |source| kept(source)),
        resource: kept(&resource),
    }
}

fn kept(text: &str) -> String {
    match text.char_indices().nth(MOST_KEPT) {
        Some((end, _)) => text.get(..end).unwrap_or_default().to_owned() + "…",
        None => text.to_owned(),
    }
}

fn number(pairs: &BTreeMap<String, String>, key: &str) -> Option<u64> {
    pairs.get(key)?.parse().ok()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A log of a container.
    pub(crate) fn log(container: &str, operation: &str, source: &str, resource: &str) -> Received {
        Received::Log(Box::new(proto::Log {
            host_name: "node-1".to_owned(),
            namespace_name: "shop".to_owned(),
            container_id: format!("id-{container}"),
            container_name: container.to_owned(),
            operation: operation.to_owned(),
            process_name: source.to_owned(),
            resource: resource.to_owned(),
            result: "Passed".to_owned(),
            ..proto::Log::default()
        }))
    }

    /// A denial in a container.
    pub(crate) fn alert(container: &str, policy: &str, source: &str, resource: &str) -> Received {
        Received::Alert(Box::new(proto::Alert {
            namespace_name: "shop".to_owned(),
            container_id: format!("id-{container}"),
            container_name: container.to_owned(),
            policy_name: policy.to_owned(),
            operation: "File".to_owned(),
            process_name: source.to_owned(),
            resource: resource.to_owned(),
            action: "Block".to_owned(),
            result: "Permission denied".to_owned(),
            ..proto::Alert::default()
        }))
    }

    fn with_data(event: Received, operation: &str, key: &str, value: &str) -> Received {
        let pair = (key.to_owned(), value.to_owned());
        match event {
            Received::Log(log) => Received::Log(Box::new(proto::Log {
                operation: operation.to_owned(),
                event_data: BTreeMap::from([pair]),
                ..*log
            })),
            Received::Alert(alert) => Received::Alert(Box::new(proto::Alert {
                operation: operation.to_owned(),
                event_data: BTreeMap::from([pair]),
                ..*alert
            })),
            Received::Message(message) => Received::Message(message),
        }
    }

    #[test]
    fn operations_are_counted_by_workload_kind_source_and_resource() {
        let mut activity = Activity::default();
        activity.add(&log("web", "File", "/bin/cat", "/etc/motd"));
        let again = log("web", "File", "/bin/cat", "/etc/motd");
        activity.add(&with_data(again, "File", "Repeats", "40"));
        activity.add(&log("db", "Network", "/bin/nc", "10.0.0.1:80"));
        activity.add(&alert("web", "no-secrets", "/bin/cat", "/run/token"));
        let names: Vec<_> = activity.workloads.keys().map(String::as_str).collect();
        assert_eq!(names, ["shop/db", "shop/web"]);
        let web = &activity.workloads["shop/web"];
        let counts: Vec<_> = web.deeds.values().map(|tally| tally.count).collect();
        assert_eq!(counts, [41, 1]);
        assert_eq!(
            web.of_kind(Kind::File),
            Tally {
                count: 42,
                failed: 1,
                alerts: 1,
                denied: 1
            }
        );
        assert_eq!(web.of_kind(Kind::Network), Tally::default());
        assert_eq!(web.policies.len(), 1);
    }

    #[test]
    fn what_was_lost_or_only_counted_is_no_operation() {
        let mut activity = Activity::default();
        let one = || log("web", "File", "/bin/cat", "/etc/motd");
        let two = || alert("web", "p", "/bin/cat", "/etc/motd");
        activity.add(&with_data(one(), "Dropped", "Dropped", "5"));
        activity.add(&with_data(two(), "Dropped", "Dropped", "6"));
        activity.add(&with_data(two(), "AlertThreshold", "Dropped", "7"));
        assert_eq!((activity.lost, activity.throttled), (11, 7));
        assert!(activity.workloads.is_empty());
    }

    #[test]
    fn what_there_is_no_room_for_is_counted_together() {
        let mut activity = Activity::default();
        for number in 0..MOST_ROWS + 5 {
            activity.add(&log("web", "File", "/bin/cat", &number.to_string()));
        }
        let web = &activity.workloads["shop/web"];
        assert_eq!(web.deeds.len(), MOST_ROWS + 1);
        assert_eq!(activity.merged, 5);
        assert_eq!(web.all().count, u64::try_from(MOST_ROWS + 5).unwrap());
    }

    #[test]
    fn a_system_call_is_named_and_a_host_is_not_a_container() {
        let mut activity = Activity::default();
        activity.add(&Received::Alert(Box::new(proto::Alert {
            host_name: "node-1".to_owned(),
            operation: "Syscall".to_owned(),
            source: "/bin/rmdir x".to_owned(),
            resource: "/home/x".to_owned(),
            data: "syscall=SYS_RMDIR".to_owned(),
            result: "Passed".to_owned(),
            action: "Audit".to_owned(),
            ..proto::Alert::default()
        })));
        let host = &activity.workloads["host node-1"];
        let deed = host.deeds.keys().next().unwrap();
        assert_eq!(deed.resource, "SYS_RMDIR /home/x");
        assert_eq!(deed.source, "/bin/rmdir x");
        assert_eq!(host.all().denied, 0);
    }

    #[test]
    fn a_program_that_ends_is_not_one_that_is_started() {
        let mut activity = Activity::default();
        for data in ["syscall=SYS_EXECVE", "event=EXIT code=0"] {
            activity.add(&Received::Log(Box::new(proto::Log {
                operation: "Process".to_owned(),
                process_name: "/bin/sh".to_owned(),
                resource: "/bin/sh".to_owned(),
                data: data.to_owned(),
                ..proto::Log::default()
            })));
        }
        let deeds = activity.workloads.values().flat_map(|it| it.deeds.keys());
        let resources: Vec<_> = deeds.map(|deed| deed.resource.as_str()).collect();
        assert_eq!(resources, ["/bin/sh", "exit of /bin/sh"]);
    }
}
