// SPDX-License-Identifier: Apache-2.0
//! What is sent to a collector, received with the messages of OpenTelemetry's own definitions.
#![cfg(test)]

mod events;

use events::{container, container_alert, host_alert, log, message};
use gorget_model::{Alert, Event, Node, PolicyRef};
use gorget_telemetry::proto::v1::{self, AgentStatus};
use gorget_telemetry::{Collector, Feeder, Metrics, Pace, Sent};
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{
    LogsService, LogsServiceServer,
};
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::{metric, number_data_point};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

const PACE: Pace = Pace {
    batch: Duration::from_millis(20),
    metrics: Duration::from_millis(20),
    first_pause: Duration::from_millis(5),
    longest_pause: Duration::from_millis(20),
};

/// Takes everything, after it answered what it is told to answer first.
#[derive(Clone)]
struct Receiver {
    logs: mpsc::UnboundedSender<ExportLogsServiceRequest>,
    metrics: mpsc::UnboundedSender<ExportMetricsServiceRequest>,
    answers: Arc<Mutex<VecDeque<Result<i64, Status>>>>,
}

#[tonic::async_trait]
impl LogsService for Receiver {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        let answer = self.answers.lock().unwrap().pop_front();
        let rejected_log_records = answer.unwrap_or(Ok(0))?;
        self.logs.send(request.into_inner()).unwrap();
        Ok(Response::new(ExportLogsServiceResponse {
            partial_success: Some(ExportLogsPartialSuccess {
                rejected_log_records,
                error_message: "too old".to_owned(),
            }),
        }))
    }
}

#[tonic::async_trait]
impl MetricsService for Receiver {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        // Whoever waits for one gets one.
        drop(self.metrics.send(request.into_inner()));
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

struct Received {
    logs: mpsc::UnboundedReceiver<ExportLogsServiceRequest>,
    metrics: mpsc::UnboundedReceiver<ExportMetricsServiceRequest>,
}

fn receiver(answers: Vec<Result<i64, Status>>) -> (Receiver, Received) {
    let (logs, got_logs) = mpsc::unbounded_channel();
    let (metrics, got_metrics) = mpsc::unbounded_channel();
    let receiver = Receiver {
        logs,
        metrics,
        answers: Arc::new(Mutex::new(answers.into())),
    };
    let received = Received {
        logs: got_logs,
        metrics: got_metrics,
    };
    (receiver, received)
}

async fn serve(receiver: Receiver, listener: TcpListener) {
    Server::builder()
        .add_service(LogsServiceServer::new(receiver.clone()))
        .add_service(MetricsServiceServer::new(receiver))
        .serve_with_incoming(TcpListenerStream::new(listener))
        .await
        .unwrap();
}

fn collector(address: SocketAddr) -> Collector {
    let node = Arc::new(Node {
        cluster: "default".to_owned(),
        host: "node-1".to_owned(),
        id: "machine-id".to_owned(),
    });
    Collector::new(&format!("http://{address}"), node, PACE).unwrap()
}

fn of<'a>(attributes: &'a [KeyValue], key: &str) -> &'a str {
    let found = attributes.iter().find(|it| it.key == key);
    match found.and_then(|it| it.value.as_ref()?.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text,
        _ => "",
    }
}

fn records(request: ExportLogsServiceRequest) -> Vec<LogRecord> {
    let logs = request.resource_logs.into_iter();
    logs.flat_map(|logs| logs.scope_logs)
        .flat_map(|logs| logs.log_records)
        .collect()
}

fn numbered(number: usize) -> Event {
    Event::Alert(Alert {
        policy: PolicyRef {
            name: number.to_string(),
            ..PolicyRef::default()
        },
        ..container_alert()
    })
}

#[tokio::test]
async fn events_arrive_as_log_records_with_the_lines_that_a_file_would_have() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let collector = collector(listener.local_addr().unwrap());
    let (receiver, mut received) = receiver(Vec::new());
    let feeder = Feeder::new();
    let events = [
        Event::Alert(container_alert()),
        Event::Alert(host_alert()),
        Event::Log(log(container())),
        Event::Message(message("hello")),
    ];
    let sending = collector.send_events(feeder.subscribe("otlp"), |_sent| {});
    let test = async {
        events
            .iter()
            .for_each(|event| feeder.publish(event.clone()));
        let request = received.logs.recv().await.unwrap();
        let resource = request.resource_logs[0].resource.clone().unwrap();
        assert_eq!(of(&resource.attributes, "service.name"), "gorget");
        assert_eq!(of(&resource.attributes, "host.name"), "node-1");
        let mut all = records(request);
        while all.len() < events.len() {
            all.extend(records(received.logs.recv().await.unwrap()));
        }
        let bodies = all.iter().map(|it| it.body.clone().unwrap().value.unwrap());
        let lines = events.iter().map(gorget_telemetry::line);
        let lines = lines.map(any_value::Value::StringValue);
        assert!(bodies.eq(lines));
        let seen: Vec<_> = all
            .iter()
            .map(|it| {
                (
                    it.event_name.as_str(),
                    it.severity_text.as_str(),
                    it.severity_number,
                )
            })
            .collect();
        assert_eq!(
            seen,
            [
                ("gorget.alert", "WARN", 13),
                ("gorget.alert", "INFO", 9),
                ("gorget.log", "INFO", 9),
                ("gorget.message", "INFO", 9),
            ]
        );
        let alert = &all[0];
        assert_eq!(alert.time_unix_nano, 1_767_323_045_000_006_000);
        for (key, value) in [
            ("gorget.policy", "ksp-token"),
            ("gorget.action", "Block"),
            ("gorget.operation", "File"),
            ("gorget.resource", "/run/secrets/token"),
            ("container.name", "web"),
            ("container.id", "c0ffee"),
            ("process.pid", "4242"),
        ] {
            assert_eq!(of(&alert.attributes, key), value, "{key}");
        }
    };
    tokio::select! {
        () = test => {}
        () = sending => panic!("sending ended"),
        () = serve(receiver, listener) => {}
    }
}

#[tokio::test]
async fn nothing_is_lost_while_the_collector_is_away_or_busy_and_what_it_refuses_is_counted() {
    // A port that nobody listens on yet.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let feeder = Feeder::new();
    let (tell, mut told) = mpsc::unbounded_channel();
    let sending = collector(address).send_events(feeder.subscribe("otlp"), move |sent| {
        drop(tell.send(sent));
    });
    let (receiver, mut received) = receiver(vec![
        Err(Status::unavailable("busy")),
        Err(Status::resource_exhausted("busy")),
        Ok(0),
        Err(Status::invalid_argument("no")),
        Ok(1),
    ]);
    let test = async {
        feeder.publish(numbered(0));
        feeder.publish(numbered(1));
        let fails = |sent: Option<Sent>| match sent {
            Some(Sent::Fails { reason, lost }) => (reason, lost),
            other => panic!("it does not fail: {other:?}"),
        };
        // Twice: it is tried again.
        for _ in 0..2 {
            let (reason, lost) = fails(told.recv().await);
            assert!(!reason.is_empty());
            assert_eq!(lost, 0);
        }
        let listener = TcpListener::bind(address).await.unwrap();
        let rest = async {
            let mut all = records(received.logs.recv().await.unwrap());
            let (mut works, mut last) = (0, String::new());
            while works == 0 {
                match told.recv().await.unwrap() {
                    Sent::Works => works += 1,
                    Sent::Fails { reason, lost } => {
                        assert_eq!(lost, 0);
                        last = reason;
                    }
                }
            }
            assert_eq!(last, "ResourceExhausted: busy");
            assert_eq!(all.len(), 2);
            assert_eq!(of(&all.remove(0).attributes, "gorget.policy"), "0");

            feeder.publish(numbered(2));
            let (reason, lost) = fails(told.recv().await);
            assert_eq!((reason.as_str(), lost), ("InvalidArgument: no", 1));
            feeder.publish(numbered(3));
            let (reason, lost) = fails(told.recv().await);
            assert_eq!((reason.as_str(), lost), ("too old", 1));
            feeder.publish(numbered(4));
            assert_eq!(told.recv().await, Some(Sent::Works));
        };
        tokio::select! {
            () = rest => {}
            () = serve(receiver, listener) => {}
        }
    };
    tokio::select! {
        () = test => {}
        () = sending => panic!("sending ended"),
    }
}

#[tokio::test]
async fn metrics_arrive_as_sums_gauges_and_a_histogram() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let collector = collector(listener.local_addr().unwrap());
    let (receiver, mut received) = receiver(Vec::new());
    let feeder = Feeder::new();
    feeder.publish(Event::Alert(container_alert()));
    let status = AgentStatus {
        starts: Some(v1::Starts {
            containers: 4,
            sum_micros: 1_500_000,
            buckets: [(0, 1), (1_000_000, 3)]
                .map(|(at_most_micros, count)| v1::Bucket {
                    at_most_micros,
                    count,
                })
                .into(),
            ..v1::Starts::default()
        }),
        ..AgentStatus::default()
    };
    let counted = feeder.counted();
    let metrics = move || (Metrics::new(&status, &counted, 5), 1_000_000);
    let sending = collector.send_metrics(metrics, |sent| assert_eq!(sent, Sent::Works));
    let test = async {
        let mut request = received.metrics.recv().await.unwrap();
        let metrics = request
            .resource_metrics
            .remove(0)
            .scope_metrics
            .remove(0)
            .metrics;
        let data = |name: &str| {
            let found = metrics.iter().find(|it| it.name == name).unwrap();
            found.data.clone().unwrap()
        };
        let metric::Data::Sum(alerts) = data("gorget_alerts_total") else {
            panic!("not a sum");
        };
        assert!(alerts.is_monotonic);
        assert_eq!(alerts.aggregation_temporality, 2);
        let point = &alerts.data_points[0];
        assert_eq!(point.value, Some(number_data_point::Value::AsInt(1)));
        assert_eq!(of(&point.attributes, "policy"), "ksp-token");
        assert_eq!(point.time_unix_nano, 1_000_000_000);
        let metric::Data::Gauge(healthy) = data("gorget_healthy") else {
            panic!("not a gauge");
        };
        let zero = Some(number_data_point::Value::AsInt(0));
        assert_eq!(healthy.data_points[0].value, zero);
        let metric::Data::Histogram(starts) = data("gorget_start_to_enforced_seconds") else {
            panic!("not a histogram");
        };
        let point = &starts.data_points[0];
        assert_eq!(point.bucket_counts, [1, 2, 1]);
        assert_eq!(point.explicit_bounds, [0.0, 1.0]);
        assert_eq!((point.count, point.sum), (4, Some(1.5)));
    };
    tokio::select! {
        () = test => {}
        () = sending => {}
        () = serve(receiver, listener) => {}
    }
}

#[test]
fn what_is_no_address_is_refused() {
    for bad in ["", "127.0.0.1:4317", "https://collector:4317", "http://"] {
        let refused = Collector::new(bad, Arc::default(), PACE).unwrap_err();
        assert!(
            refused.to_string().contains(&format!("`{bad}`")),
            "{refused}"
        );
    }
}
