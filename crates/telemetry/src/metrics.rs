// SPDX-License-Identifier: Apache-2.0
//! Metrics in the text form of Prometheus, and HTTP to fetch them.
//!
//! Names are a contract. Everything that is counted says so in its name (`_total`) and only grows while
//! the agent runs; what the kernel counts grows for as long as its programs are attached.

use crate::counts::Counted;
use crate::proto::v1::{self, AgentStatus};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::{Display, Write as _};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// How long one connection may take, and how many there may be: those who fetch metrics are few.
const PATIENCE: Duration = Duration::from_secs(10);
const CONNECTIONS: usize = 16;
/// Between two connections when one cannot be accepted.
const PAUSE: Duration = Duration::from_secs(1);

/// What sort of number a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It only grows.
    Counter,
    /// The same, of seconds; its values are nanoseconds.
    Seconds,
    Gauge,
}

/// A metric with all its values.
#[derive(Clone, Debug)]
pub(crate) struct Metric {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) help: &'static str,
    pub(crate) values: Vec<(Vec<(&'static str, String)>, u64)>,
}

/// Everything that is measured.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    pub(crate) all: Vec<Metric>,
    /// How late rules were.
    pub(crate) starts: Option<v1::Starts>,
}

pub(crate) const STARTS: &str = "gorget_start_to_enforced_seconds";
pub(crate) const STARTS_HELP: &str =
    "How long containers with rules ran before their rules were in force.";

impl Metrics {
    /// As they are now.
    pub fn new(status: &AgentStatus, counted: &Counted, lost_by_clients: u64) -> Self {
        let mut metrics = Self {
            all: Vec::new(),
            starts: status.starts.clone(),
        };
        metrics.agent(status);
        metrics.events(counted);
        metrics.policies(status);
        metrics.losses(status, lost_by_clients);
        metrics
    }

    /// With what the programs cost, where that is measured, and how full tables are.
    #[must_use]
    pub fn with_costs(mut self, costs: &v1::Costs) -> Self {
        // Two builds' programs can be attached at a time, and a metric must not be there twice.
        let mut programs: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        for program in &costs.programs {
            let (runs, nanos) = programs.entry(&program.name).or_default();
            *runs = runs.saturating_add(program.runs);
            *nanos = nanos.saturating_add(program.nanos);
        }
        let help =
            "How long programs ran while the kernel measured that, by hook; only while it does.";
        self.metric("gorget_hook_seconds_total", Kind::Seconds, help);
        for (hook, (_, nanos)) in &programs {
            self.value(&[("hook", hook)], *nanos);
        }
        let help =
            "How often programs ran while the kernel measured that, by hook; only while it does.";
        self.metric("gorget_hook_runs_total", Kind::Counter, help);
        for (hook, (runs, _)) in &programs {
            self.value(&[("hook", hook)], *runs);
        }
        self.metric(
            "gorget_map_entries",
            Kind::Gauge,
            "Entries in tables of the kernel.",
        );
        for map in &costs.maps {
            self.value(&[("map", &map.name)], map.entries);
        }
        let help = "Entries that there is room for in tables of the kernel.";
        self.metric("gorget_map_capacity", Kind::Gauge, help);
        for map in &costs.maps {
            self.value(&[("map", &map.name)], map.capacity);
        }
        self
    }

    /// In the form of Prometheus.
    pub fn text(&self) -> String {
        let mut text = Text::default();
        for metric in &self.all {
            let kind = match metric.kind {
                Kind::Counter | Kind::Seconds => "counter",
                Kind::Gauge => "gauge",
            };
            text.head(metric.name, kind, metric.help);
            for (labels, value) in &metric.values {
                match metric.kind {
                    Kind::Seconds => text.value(metric.name, labels, of_nanos(*value)),
                    Kind::Counter | Kind::Gauge => text.value(metric.name, labels, value),
                }
            }
        }
        text.starts(self.starts.as_ref());
        text.0
    }

    /// Begins a metric.
    fn metric(&mut self, name: &'static str, kind: Kind, help: &'static str) {
        self.all.push(Metric {
            name,
            kind,
            help,
            values: Vec::new(),
        });
    }

    /// Another value of the metric that was begun last.
    fn value(&mut self, labels: &[(&'static str, &str)], value: u64) {
        let labels = labels
            .iter()
            .map(|(key, value)| (*key, (*value).to_owned()));
        let labels = labels.collect();
        if let Some(metric) = self.all.last_mut() {
            metric.values.push((labels, value));
        }
    }

    fn agent(&mut self, status: &AgentStatus) {
        let node = status.node.clone().unwrap_or_default();
        self.metric("gorget_info", Kind::Gauge, "The agent, 1.");
        let labels = [
            ("version", status.version.as_str()),
            ("backend", &status.backend),
            ("kernel", &node.kernel),
            ("host", &node.host),
        ];
        self.value(&labels, 1);
        self.metric(
            "gorget_uptime_seconds",
            Kind::Gauge,
            "How long the agent runs.",
        );
        self.value(&[], status.uptime_seconds);
        self.metric(
            "gorget_resident_bytes",
            Kind::Gauge,
            "Memory of the agent that is in use.",
        );
        self.value(&[], status.resident_bytes);
        let healthy = status.health.as_ref().is_some_and(|health| health.healthy);
        let help = "1 when everything is in force that should be.";
        self.metric("gorget_healthy", Kind::Gauge, help);
        self.value(&[], healthy.into());
        self.metric(
            "gorget_runtime_connected",
            Kind::Gauge,
            "1 when the runtime answers.",
        );
        for runtime in &status.runtimes {
            let labels = [("runtime", runtime.name.as_str())];
            self.value(&labels, runtime.connected.into());
        }
    }

    fn events(&mut self, counted: &Counted) {
        let Counted {
            alerts,
            logs,
            messages,
            // There are too many of them, and they come and go.
            workloads: _,
        } = counted;
        self.metric("gorget_alerts_total", Kind::Counter, "Alerts.");
        for alert in alerts {
            let labels = [
                ("policy", alert.policy.as_str()),
                ("action", alert.action),
                ("operation", alert.operation),
                ("result", alert.result),
            ];
            self.value(&labels, alert.count);
        }
        self.metric("gorget_logs_total", Kind::Counter, "Logs.");
        for (operation, count) in logs {
            self.value(&[("operation", operation)], *count);
        }
        let help = "What the agent said of itself.";
        self.metric("gorget_messages_total", Kind::Counter, help);
        self.value(&[], *messages);
    }

    fn policies(&mut self, status: &AgentStatus) {
        let help = "Policies by state: `in_force` for some workload, `unused` by all, `degraded`: of \
                    either, not all of it is enforced. Files that are `refused`.";
        self.metric("gorget_policies", Kind::Gauge, help);
        let count = |is: &dyn Fn(&v1::PolicyState) -> bool| {
            wide(status.policies.iter().filter(|it| is(it)).count())
        };
        for (state, count) in [
            ("in_force", count(&|it| it.workloads > 0)),
            ("unused", count(&|it| it.workloads == 0)),
            ("degraded", count(&|it| !it.limits.is_empty())),
            ("refused", wide(status.refused.len())),
        ] {
            self.value(&[("state", state)], count);
        }
        let help = "For how many workloads a policy is in force.";
        self.metric("gorget_policy_workloads", Kind::Gauge, help);
        // Two files can have one policy, and a metric must not be there twice.
        let by_name: BTreeMap<_, _> = status
            .policies
            .iter()
            .filter_map(|state| Some((state.policy.as_ref()?, state.workloads)))
            .map(|(it, workloads)| ((&it.kind, &it.namespace, &it.name), workloads))
            .collect();
        for ((kind, namespace, name), workloads) in by_name {
            let labels = [
                ("kind", kind.as_str()),
                ("policy_namespace", namespace),
                ("policy", name),
            ];
            self.value(&labels, workloads.into());
        }
        self.metric(
            "gorget_workloads",
            Kind::Gauge,
            "Containers by what denies in them.",
        );
        for backend in ["bpf", "apparmor", "audit-only"] {
            let of = status.workloads.iter().filter(|it| it.backend == backend);
            let labels = [("backend", backend)];
            self.value(&labels, wide(of.count()));
        }
        let help = "Workloads whose newer rules are not in force.";
        self.metric("gorget_workloads_not_in_force", Kind::Gauge, help);
        let workloads = status.host.iter().chain(&status.workloads);
        let failed = workloads.filter(|it| !it.not_in_force.is_empty()).count();
        self.value(&[], wide(failed));
    }

    fn losses(&mut self, status: &AgentStatus, lost_by_clients: u64) {
        let help = "What was lost or could not be decided, by where.";
        self.metric("gorget_losses_total", Kind::Counter, help);
        for loss in &status.losses {
            self.value(&[("stage", &loss.stage)], loss.count);
        }
        let clients = [("stage", "client_queue")];
        self.value(&clients, lost_by_clients);
        let help = "Events that wait for those who follow the feed, by what they follow.";
        self.metric("gorget_client_queued_events", Kind::Gauge, help);
        for (name, clients) in by_name(&status.clients) {
            let queued = clients.iter().map(|client| client.queued).sum();
            self.value(&[("client", name)], queued);
        }
        self.metric("gorget_clients", Kind::Gauge, "Those who follow the feed.");
        for (name, clients) in by_name(&status.clients) {
            self.value(&[("client", name)], wide(clients.len()));
        }
        self.metric(
            "gorget_output_failing",
            Kind::Gauge,
            "1 when events do not get there.",
        );
        for output in &status.outputs {
            let labels = [("kind", output.kind.as_str()), ("target", &output.target)];
            let fails = !output.error.is_empty();
            self.value(&labels, fails.into());
        }
        let help = "Events that did not get to an output.";
        self.metric("gorget_output_lost_total", Kind::Counter, help);
        for output in &status.outputs {
            let labels = [("kind", output.kind.as_str()), ("target", &output.target)];
            self.value(&labels, output.lost);
        }
    }
}

/// Lines of metrics.
#[derive(Default)]
struct Text(String);

impl Text {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    fn value(&mut self, name: &str, labels: &[(&str, String)], value: impl Display) {
        let labels: Vec<_> = labels
            .iter()
            .map(|(key, value)| format!("{key}=\"{}\"", escaped(value)))
            .collect();
        match labels.is_empty() {
            true => self.line(format_args!("{name} {value}")),
            false => self.line(format_args!("{name}{{{}}} {value}", labels.join(","))),
        }
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let (Ok(()) | Err(_)) = writeln!(self.0, "{line}");
    }

    fn starts(&mut self, starts: Option<&v1::Starts>) {
        let Some(starts) = starts else { return };
        let name = STARTS;
        self.head(name, "histogram", STARTS_HELP);
        for bucket in &starts.buckets {
            let (le, count) = (seconds(bucket.at_most_micros), bucket.count);
            self.line(format_args!("{name}_bucket{{le=\"{le}\"}} {count}"));
        }
        let (sum, count) = (seconds(starts.sum_micros), starts.containers);
        self.line(format_args!("{name}_bucket{{le=\"+Inf\"}} {count}"));
        self.line(format_args!("{name}_sum {sum}"));
        self.line(format_args!("{name}_count {count}"));
    }
}

/// Each name once, with those that have it: a metric must not be there twice.
fn by_name(clients: &[v1::FeedClient]) -> Vec<(&str, Vec<&v1::FeedClient>)> {
    let mut names: Vec<_> = clients.iter().map(|client| client.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let of = |name| clients.iter().filter(|it| it.name == name).collect();
    names.into_iter().map(|name| (name, of(name))).collect()
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn seconds(micros: u64) -> String {
    let (whole, rest) = (micros / 1_000_000, micros % 1_000_000);
    let digits = format!("{whole}.{rest:06}");
    let short = digits.trim_end_matches('0').trim_end_matches('.');
    short.to_owned()
}

fn of_nanos(nanos: u64) -> String {
    format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000)
}

fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

/// Serves the text at `/metrics`. A connection that cannot be accepted, because it was given up or there
/// are no descriptors left, is told to `failed`, and the next one waits a second.
pub async fn serve_metrics(
    listener: TcpListener,
    text: impl Fn() -> String + Send + Sync + 'static,
    failed: impl Fn(std::io::Error),
) {
    let text: Arc<dyn Fn() -> String + Send + Sync> = Arc::new(text);
    let mut connections = JoinSet::new();
    loop {
        while connections.len() >= CONNECTIONS {
            drop(connections.join_next().await);
        }
        while connections.try_join_next().is_some() {}
        let stream = match listener.accept().await {
            Ok((stream, _from)) => stream,
            Err(error) => {
                failed(error);
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let text = Arc::clone(&text);
        connections.spawn(async move {
            let answer = service_fn(move |request| {
                let text = Arc::clone(&text);
                async move { Ok::<_, Infallible>(answer(&request, &*text)) }
            });
            let mut http = http1::Builder::new();
            let served = http
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), answer);
            // Who is too slow or speaks something else is let go.
            drop(tokio::time::timeout(PATIENCE, served).await);
        });
    }
}

fn answer(request: &Request<Incoming>, text: &dyn Fn() -> String) -> Response<Full<Bytes>> {
    let is_right = request.uri().path() == "/metrics";
    let (status, body) = match (is_right, request.method()) {
        (true, &Method::GET) => (StatusCode::OK, text()),
        (true, _) => (StatusCode::METHOD_NOT_ALLOWED, String::new()),
        (false, _) => (
            StatusCode::NOT_FOUND,
            "metrics are at /metrics\n".to_owned(),
        ),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let form = "text/plain; version=0.0.4; charset=utf-8";
    headers.insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(form));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, hyper::header::HeaderValue::from_static("GET"));
    }
    response
}
