// SPDX-License-Identifier: Apache-2.0
//! What Prometheus is told. No label has a value that somebody outside chooses.

use crate::fleet::Fleet;
use crate::hub::Hub;
use gorget_telemetry::Sent;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How an output fares.
#[derive(Debug, Default)]
pub(crate) struct Output {
    fails: AtomicBool,
    lost: AtomicU64,
}

impl Output {
    /// Says it when it changes.
    pub(crate) fn tell(&self, name: &str, sent: Sent) {
        match sent {
            Sent::Works => {
                if self.fails.swap(false, Ordering::Relaxed) {
                    tracing::info!("{name} works again");
                }
            }
            Sent::Fails { reason, lost } => {
                self.lost.fetch_add(lost, Ordering::Relaxed);
                if !self.fails.swap(true, Ordering::Relaxed) {
                    tracing::error!("{name} does not work: {reason}");
                }
            }
        }
    }
}

/// All metrics, as text.
pub(crate) fn text(fleet: &Fleet, hub: &Hub, outputs: &[(&'static str, &Output)]) -> String {
    let standing = fleet.standing();
    let counts = hub.received();
    let (followers, lost_before) = hub.followers();
    let mut queued: BTreeMap<&str, usize> = BTreeMap::new();
    for follower in &followers {
        *queued.entry(&follower.name).or_default() += follower.queued;
    }
    let lost = lost_before + followers.iter().map(|it| it.lost).sum::<u64>();
    let mut all = Text::default();
    all.one(
        "gorget_relay_agents",
        "gauge",
        "Agents that there are.",
        standing.agents,
    );
    let help = "Agents that are followed now.";
    all.one(
        "gorget_relay_agents_connected",
        "gauge",
        help,
        standing.connected,
    );
    let help = "Connections to agents that were made.";
    all.one(
        "gorget_relay_connections_total",
        "counter",
        help,
        standing.connections,
    );
    let help = "1 when it is not known which agents there are.";
    let unresolved = u8::from(standing.unresolved.is_some());
    all.one("gorget_relay_discovery_failing", "gauge", help, unresolved);
    all.head(
        "gorget_relay_events_total",
        "counter",
        "Events that agents told.",
    );
    for (sort, count) in [
        ("alert", counts.alerts),
        ("log", counts.logs),
        ("message", counts.messages),
    ] {
        all.value("gorget_relay_events_total", &[("sort", sort)], count);
    }
    let help = "Events that clients were too slow for.";
    all.one("gorget_relay_client_lost_total", "counter", help, lost);
    all.one(
        "gorget_relay_clients",
        "gauge",
        "Those who follow.",
        followers.len(),
    );
    all.head(
        "gorget_relay_client_queued_events",
        "gauge",
        "Events that wait.",
    );
    for (name, queued) in queued {
        all.value(
            "gorget_relay_client_queued_events",
            &[("client", name)],
            queued,
        );
    }
    all.head(
        "gorget_relay_output_failing",
        "gauge",
        "1 when events do not get there.",
    );
    for (name, output) in outputs {
        let fails = u8::from(output.fails.load(Ordering::Relaxed));
        all.value("gorget_relay_output_failing", &[("output", name)], fails);
    }
    let help = "Events that an output refused for good.";
    all.head("gorget_relay_output_lost_total", "counter", help);
    for (name, output) in outputs {
        let lost = output.lost.load(Ordering::Relaxed);
        all.value("gorget_relay_output_lost_total", &[("output", name)], lost);
    }
    all.0
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl std::fmt::Display) {
        self.head(name, kind, help);
        self.value(name, &[], value);
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string does not fail.
        let (Ok(()) | Err(_)) = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn value(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let labels: Vec<_> = labels.iter().map(|(k, v)| format!("{k}=\"{v}\"")).collect();
        let labels = match labels.is_empty() {
            true => String::new(),
            false => format!("{{{}}}", labels.join(",")),
        };
        let (Ok(()) | Err(_)) = writeln!(self.0, "{name}{labels} {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gorget_telemetry::{Received, Sorts};

    #[test]
    fn losses_and_failing_outputs_are_told() {
        let hub = Hub::default();
        let _client = hub
            .subscribe(
                "otlp",
                Sorts {
                    alerts: true,
                    ..Sorts::default()
                },
            )
            .unwrap();
        hub.publish(Received::Alert(Box::default()));
        let output = Output::default();
        output.tell(
            "otlp",
            Sent::Fails {
                reason: "x".to_owned(),
                lost: 3,
            },
        );
        let text = text(&Fleet::default(), &hub, &[("otlp", &output)]);
        for line in [
            "gorget_relay_agents 0",
            "gorget_relay_events_total{sort=\"alert\"} 1",
            "gorget_relay_client_queued_events{client=\"otlp\"} 1",
            "gorget_relay_output_failing{output=\"otlp\"} 1",
            "gorget_relay_output_lost_total{output=\"otlp\"} 3",
        ] {
            assert!(text.lines().any(|it| it == line), "{line}: {text}");
        }
    }
}
