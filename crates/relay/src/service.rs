// SPDX-License-Identifier: Apache-2.0
//! KubeArmor's `LogService` for all agents at once, with the agents' filters, and `grpc.health.v1`.

use crate::hub::{Delivery, Hub, Wanted};
use gorget_telemetry::proto::log_service_server::{LogService, LogServiceServer};
use gorget_telemetry::proto::{self, NonceMessage, ReplyMessage, RequestMessage};
use gorget_telemetry::{Lost, Received, Sort, Sorts, Tls, asked_at, asked_filter};
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::transport::Server;
use tonic::{Request, Response, Status};

/// As agents do.
const KEEPALIVE: Duration = Duration::from_secs(20);
const KEEPALIVE_ANSWER: Duration = Duration::from_secs(10);

type Sent<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

struct Feed(Hub);

/// Serves until `shutdown` is ready.
///
/// # Errors
///
/// When certificates cannot be used, or the listener fails.
pub async fn serve(
    hub: Hub,
    listener: TcpListener,
    tls: Option<Tls>,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), tonic::transport::Error> {
    let mut server = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_ANSWER));
    if let Some(tls) = tls {
        server = server.tls_config(tls.of_server())?;
    }
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<LogServiceServer<Feed>>().await;
    server
        .add_service(LogServiceServer::new(Feed(hub.clone())))
        .add_service(health)
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), async move {
            shutdown.await;
            // Streams have no end of their own, and the server waits for them.
            hub.close();
        })
        .await
}

impl Feed {
    fn follow<T: 'static>(
        &self,
        name: &str,
        request: Request<RequestMessage>,
        (sorts, other): (Sorts, Option<Sort>),
        event: impl Fn(&Received) -> Option<T> + Send + 'static,
        lost: impl Fn(&Lost) -> T + Send + 'static,
    ) -> Result<Response<Sent<T>>, Status> {
        let filter = asked_filter(request, other)?;
        let since = filter.since(asked_at());
        let followed = self.0.follow(name, Wanted { sorts, filter }, since);
        let events = followed.map_err(|error| Status::resource_exhausted(error.to_string()))?;
        let messages = events.filter_map(move |delivery| match delivery {
            Delivery::Event(it) => event(&it).map(Ok),
            Delivery::Lost(it) => Some(Ok(lost(&it))),
        });
        Ok(Response::new(Box::pin(messages)))
    }
}

const NONE: Sorts = Sorts {
    alerts: false,
    logs: false,
    messages: false,
};

#[tonic::async_trait]
impl LogService for Feed {
    type WatchMessagesStream = Sent<proto::Message>;
    type WatchAlertsStream = Sent<proto::Alert>;
    type WatchLogsStream = Sent<proto::Log>;

    async fn health_check(
        &self,
        request: Request<NonceMessage>,
    ) -> Result<Response<ReplyMessage>, Status> {
        let retval = request.into_inner().nonce;
        Ok(Response::new(ReplyMessage { retval }))
    }

    async fn watch_messages(
        &self,
        request: Request<RequestMessage>,
    ) -> Result<Response<Self::WatchMessagesStream>, Status> {
        let sorts = Sorts {
            messages: true,
            ..NONE
        };
        let event = |event: &Received| match event {
            Received::Message(message) => Some(message.clone()),
            Received::Alert(_) | Received::Log(_) => None,
        };
        self.follow("messages", request, (sorts, None), event, Lost::to_message)
    }

    async fn watch_alerts(
        &self,
        request: Request<RequestMessage>,
    ) -> Result<Response<Self::WatchAlertsStream>, Status> {
        let sorts = Sorts {
            alerts: true,
            ..NONE
        };
        let event = |event: &Received| match event {
            Received::Alert(alert) => Some(alert.as_ref().clone()),
            Received::Log(_) | Received::Message(_) => None,
        };
        let other = Some(Sort::System);
        self.follow("alerts", request, (sorts, other), event, Lost::to_alert)
    }

    async fn watch_logs(
        &self,
        request: Request<RequestMessage>,
    ) -> Result<Response<Self::WatchLogsStream>, Status> {
        let sorts = Sorts { logs: true, ..NONE };
        let event = |event: &Received| match event {
            Received::Log(log) => Some(log.as_ref().clone()),
            Received::Alert(_) | Received::Message(_) => None,
        };
        self.follow(
            "logs",
            request,
            (sorts, Some(Sort::Policy)),
            event,
            Lost::to_log,
        )
    }
}
