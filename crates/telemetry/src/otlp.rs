// SPDX-License-Identifier: Apache-2.0
//! Events and metrics to an OpenTelemetry collector: OTLP over gRPC.
//!
//! Events are sent in batches, each until the collector has it: while it is away they wait in the
//! subscription's queue, which is bounded and says what it lost. What the collector refuses for good is
//! counted as lost. A batch whose answer was lost is sent again, so that an event may come twice and does
//! not get lost. Metrics are sent every [`Pace::metrics`]; of those that do not get there the next ones
//! are the newer.
//!
//! The collector is asked without TLS: it is meant to be one on the same machine or network, which
//! knows how to reach others.

mod wire;

use crate::client::Received;
use crate::convert;
use crate::feeder::Subscription;
use crate::metrics::{Kind, Metrics, STARTS, STARTS_HELP};
use crate::proto;
use gorget_model::{Event, Node};
use std::sync::Arc;
use std::time::Duration;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;
use wire::{AnyValue, KeyValue, LogRecord, LogsRequest, MetricsRequest, Reply};

/// Events in one message: some half MiB, an eighth of what a gRPC server takes.
const BATCH: usize = 512;
/// How long the collector may take to answer, and to be reached.
const PATIENCE: Duration = Duration::from_secs(10);
/// `AGGREGATION_TEMPORALITY_CUMULATIVE`.
const CUMULATIVE: i32 = 2;

/// When what is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// How long a batch waits for more events.
    pub batch: Duration,
    /// How often metrics are sent.
    pub metrics: Duration,
    /// How long to wait after a failure; each time twice as long.
    pub first_pause: Duration,
    /// And at most so long.
    pub longest_pause: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            batch: Duration::from_secs(1),
            metrics: Duration::from_secs(60),
            first_pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(60),
        }
    }
}

/// An address that is none.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not an address of a collector, such as `http://127.0.0.1:4317`")]
pub struct CollectorError(String);

/// How sending fares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sent {
    /// What was sent last got there.
    Works,
    /// It did not.
    Fails {
        /// Why not.
        reason: String,
        /// Events that the collector refused for good; those that are tried again do not count.
        lost: u64,
    },
}

/// A collector.
#[derive(Clone, Debug)]
pub struct Collector {
    client: Grpc<Channel>,
    node: Arc<Node>,
    pace: Pace,
}

impl Collector {
    /// Nothing is connected before something is sent.
    ///
    /// # Errors
    ///
    /// When `address` does not begin with `http://` or is no address.
    pub fn new(address: &str, node: Arc<Node>, pace: Pace) -> Result<Self, CollectorError> {
        let wrong = || CollectorError(address.to_owned());
        if !address.starts_with("http://") {
            return Err(wrong());
        }
        let endpoint = Endpoint::from_shared(address.to_owned());
        let endpoint = endpoint.map_err(|_syntax| wrong())?;
        let endpoint = endpoint.connect_timeout(PATIENCE).timeout(PATIENCE);
        Ok(Self {
            client: Grpc::new(endpoint.connect_lazy()),
            node,
            pace,
        })
    }

    /// Sends events until the feed ends.
    pub async fn send_events(mut self, mut events: Subscription, told: impl Fn(Sent)) {
        while let Some(batch) = next_batch(&mut events, self.pace.batch).await {
            let records = batch.iter().map(|event| record(event)).collect();
            self.send_records(records, &told).await;
        }
    }

    /// Sends a batch of what came from agents, until the collector has it.
    pub async fn send_received(&mut self, batch: &[Arc<Received>], told: &impl Fn(Sent)) {
        let records = batch.iter().map(|event| record_of(event)).collect();
        self.send_records(records, told).await;
    }

    async fn send_records(&mut self, records: Vec<LogRecord>, told: &impl Fn(Sent)) {
        let count = u64::try_from(records.len()).unwrap_or(u64::MAX);
        let request = self.logs(records);
        let mut pause = self.pace.first_pause;
        loop {
            let path = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
            match self.export(request.clone(), path).await {
                Ok(Refused { rejected: 0, .. }) => told(Sent::Works),
                Ok(Refused { rejected, reason }) => told(Sent::Fails {
                    reason,
                    lost: rejected.min(count),
                }),
                Err(status) if is_passing(&status) => {
                    let reason = reason(&status);
                    told(Sent::Fails { reason, lost: 0 });
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(self.pace.longest_pause);
                    continue;
                }
                Err(status) => told(Sent::Fails {
                    reason: reason(&status),
                    lost: count,
                }),
            }
            break;
        }
    }

    /// Sends metrics for ever. `metrics` gives them, and what time it is, in microseconds since 1970.
    pub async fn send_metrics(mut self, metrics: impl Fn() -> (Metrics, i64), told: impl Fn(Sent)) {
        let (_, started) = metrics();
        let path = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
        loop {
            tokio::time::sleep(self.pace.metrics).await;
            let (metrics, now) = metrics();
            let request = self.metrics(&metrics, nanos(started), nanos(now));
            match self.export(request, path).await {
                Ok(Refused { rejected: 0, .. }) => told(Sent::Works),
                Ok(Refused { reason, .. }) => told(Sent::Fails { reason, lost: 0 }),
                Err(status) => told(Sent::Fails {
                    reason: reason(&status),
                    lost: 0,
                }),
            }
        }
    }

    async fn export<T: prost::Message + Default + 'static>(
        &mut self,
        request: T,
        path: &'static str,
    ) -> Result<Refused, Status> {
        let ready = self.client.ready().await;
        ready.map_err(|error| Status::unavailable(error.to_string()))?;
        let path = PathAndQuery::from_static(path);
        let codec = ProstCodec::<T, Reply>::default();
        let reply = self
            .client
            .unary(Request::new(request), path, codec)
            .await?;
        let partial = reply.into_inner().partial_success.unwrap_or_default();
        Ok(Refused {
            rejected: u64::try_from(partial.rejected).unwrap_or(0),
            reason: partial.error_message,
        })
    }

    fn resource(&self) -> wire::Resource {
        wire::Resource {
            attributes: attributes(&[
                ("service.name", "gorget"),
                ("service.version", env!("CARGO_PKG_VERSION")),
                ("host.name", &self.node.host),
                ("host.id", &self.node.id),
                ("k8s.cluster.name", &self.node.cluster),
            ]),
        }
    }

    fn logs(&self, log_records: Vec<LogRecord>) -> LogsRequest {
        let logs = wire::ScopeLogs {
            scope: Some(scope()),
            log_records,
        };
        LogsRequest {
            resource_logs: vec![wire::ResourceLogs {
                resource: Some(self.resource()),
                scope_logs: vec![logs],
            }],
        }
    }

    fn metrics(&self, metrics: &Metrics, started: u64, now: u64) -> MetricsRequest {
        let all = metrics.all.iter().map(|metric| {
            let points = metric.values.iter().map(|(labels, value)| wire::Number {
                start_time_unix_nano: started,
                time_unix_nano: now,
                as_double: (metric.kind == Kind::Seconds).then(|| seconds_of(*value)),
                as_int: (metric.kind != Kind::Seconds)
                    .then(|| i64::try_from(*value).unwrap_or(i64::MAX)),
                attributes: labels.iter().map(|(key, value)| pair(key, value)).collect(),
            });
            let data_points = points.collect();
            let (gauge, sum) = match metric.kind {
                Kind::Gauge => (Some(wire::Gauge { data_points }), None),
                Kind::Counter | Kind::Seconds => (
                    None,
                    Some(wire::Sum {
                        data_points,
                        aggregation_temporality: CUMULATIVE,
                        is_monotonic: true,
                    }),
                ),
            };
            wire::Metric {
                name: metric.name.to_owned(),
                description: metric.help.to_owned(),
                unit: String::new(),
                gauge,
                sum,
                histogram: None,
            }
        });
        let starts = metrics.starts.iter().map(|it| histogram(it, started, now));
        let metrics = wire::ScopeMetrics {
            scope: Some(scope()),
            metrics: all.chain(starts).collect(),
        };
        MetricsRequest {
            resource_metrics: vec![wire::ResourceMetrics {
                resource: Some(self.resource()),
                scope_metrics: vec![metrics],
            }],
        }
    }
}

fn seconds_of(nanos: u64) -> f64 {
    Duration::from_nanos(nanos).as_secs_f64()
}

/// What a collector took and did not keep.
struct Refused {
    rejected: u64,
    reason: String,
}

/// Whether the same may get there later. The list is OTLP's, and `Unknown`, as which a connection that
/// broke is told.
fn is_passing(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Cancelled
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unavailable
            | Code::DataLoss
            | Code::ResourceExhausted
            | Code::Unknown
    )
}

fn reason(status: &Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}

/// The next event, and those that come with it. `None` when the feed ended.
async fn next_batch(events: &mut Subscription, wait: Duration) -> Option<Vec<Arc<Event>>> {
    let mut batch = vec![events.next().await?.into_event()];
    let full = async {
        while batch.len() < BATCH {
            let Some(delivery) = events.next().await else {
                return;
            };
            batch.push(delivery.into_event());
        }
    };
    // Whether it is full or not.
    let (Ok(()) | Err(_)) = tokio::time::timeout(wait, full).await;
    Some(batch)
}

fn scope() -> wire::Scope {
    wire::Scope {
        name: "gorget".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

fn nanos(unix_micros: i64) -> u64 {
    u64::try_from(unix_micros)
        .unwrap_or(0)
        .saturating_mul(1_000)
}

fn text(value: &str) -> AnyValue {
    AnyValue {
        string_value: value.to_owned(),
    }
}

fn pair(key: &str, value: &str) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(text(value)),
    }
}

/// Those that have a value.
fn attributes(all: &[(&str, &str)]) -> Vec<KeyValue> {
    let some = all.iter().filter(|(_, value)| !value.is_empty());
    some.map(|(key, value)| pair(key, value)).collect()
}

fn record(event: &Event) -> LogRecord {
    let record = record_of(&convert::received(event));
    // The wire form has the second only.
    let time = nanos(event.unix_micros());
    LogRecord {
        time_unix_nano: time,
        observed_time_unix_nano: time,
        ..record
    }
}

/// What came over the wire from an agent, at the second that it says.
fn record_of(event: &Received) -> LogRecord {
    let (second, name, severity, attributes) = match event {
        Received::Alert(alert) if alert.operation == THRESHOLD => {
            let policy = attributes(&[("gorget.policy", &alert.policy_name)]);
            (alert.timestamp, "gorget.threshold", WARN, policy)
        }
        Received::Alert(alert) => {
            let severity = if alert.action == "Block" { WARN } else { INFO };
            (alert.timestamp, "gorget.alert", severity, of_alert(alert))
        }
        Received::Log(log) => (log.timestamp, "gorget.log", INFO, of_log(log)),
        Received::Message(message) => {
            let severity = match message.level.as_str() {
                "DEBUG" => (5, "DEBUG"),
                "WARN" => WARN,
                "ERROR" => (17, "ERROR"),
                _ => INFO,
            };
            (message.timestamp, "gorget.message", severity, Vec::new())
        }
    };
    let (severity_number, severity_text) = severity;
    let time = nanos(second.saturating_mul(1_000_000));
    LogRecord {
        time_unix_nano: time,
        severity_number,
        severity_text: severity_text.to_owned(),
        body: Some(text(&event.json())),
        attributes,
        observed_time_unix_nano: time,
        event_name: name.to_owned(),
    }
}

const INFO: (i32, &str) = (9, "INFO");
const WARN: (i32, &str) = (13, "WARN");
/// The operation of the alert that says that others are not told.
const THRESHOLD: &str = "AlertThreshold";

fn of_alert(alert: &proto::Alert) -> Vec<KeyValue> {
    attributes(&[
        ("gorget.policy", &alert.policy_name),
        ("gorget.action", &alert.action),
        ("gorget.operation", &alert.operation),
        ("gorget.result", &alert.result),
        ("gorget.source", &alert.source),
        ("gorget.resource", &alert.resource),
        ("k8s.namespace.name", &alert.namespace_name),
        ("k8s.pod.name", &alert.pod_name),
        ("container.name", &alert.container_name),
        ("container.id", &alert.container_id),
        ("container.image.name", &alert.container_image),
        ("process.pid", &alert.host_pid.to_string()),
        ("process.executable.path", &alert.process_name),
    ])
}

fn of_log(log: &proto::Log) -> Vec<KeyValue> {
    attributes(&[
        ("gorget.operation", &log.operation),
        ("gorget.result", &log.result),
        ("gorget.source", &log.source),
        ("gorget.resource", &log.resource),
        ("k8s.namespace.name", &log.namespace_name),
        ("k8s.pod.name", &log.pod_name),
        ("container.name", &log.container_name),
        ("container.id", &log.container_id),
        ("container.image.name", &log.container_image),
        ("process.pid", &log.host_pid.to_string()),
        ("process.executable.path", &log.process_name),
    ])
}

fn histogram(starts: &proto::v1::Starts, started: u64, now: u64) -> wire::Metric {
    let seconds = |micros| Duration::from_micros(micros).as_secs_f64();
    // Here each bucket has its own only, and the last those above all bounds.
    let mut before = 0;
    let own = starts.buckets.iter().map(|bucket| bucket.count);
    let counts = own.chain([starts.containers]).map(|count| {
        let own = count.saturating_sub(before);
        before = count;
        own
    });
    let bounds = starts.buckets.iter();
    let buckets = wire::Buckets {
        start_time_unix_nano: started,
        time_unix_nano: now,
        count: starts.containers,
        sum: Some(seconds(starts.sum_micros)),
        bucket_counts: counts.collect(),
        explicit_bounds: bounds
            .map(|bucket| seconds(bucket.at_most_micros))
            .collect(),
    };
    wire::Metric {
        name: STARTS.to_owned(),
        description: STARTS_HELP.to_owned(),
        unit: "s".to_owned(),
        gauge: None,
        sum: None,
        histogram: Some(wire::Histogram {
            data_points: vec![buckets],
            aggregation_temporality: CUMULATIVE,
        }),
    }
}
