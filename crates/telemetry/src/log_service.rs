// SPDX-License-Identifier: Apache-2.0
//! KubeArmor's `LogService`. Each stream has a queue of its own in the feeder; what it was too slow for
//! is told in the stream itself, as an event of the type `SystemEvent`, operation `Dropped`.

use crate::convert;
use crate::feeder::{Delivery, Feeder, Lost, Subscription};
use crate::filter::{Filter, Sort, Wanted};
use crate::proto::log_service_server::LogService;
use crate::proto::{self, NonceMessage, ReplyMessage, RequestMessage};
use gorget_model::Event;
use std::pin::Pin;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, watch};
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

/// Serves a feeder.
pub(crate) struct LogFeed {
    feeder: Feeder,
    /// Closed when the server is to end.
    stopping: watch::Receiver<()>,
}

pub(crate) type Sent<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl LogFeed {
    pub(crate) fn new(feeder: Feeder, stopping: watch::Receiver<()>) -> Self {
        Self { feeder, stopping }
    }

    /// A stream of what is wanted.
    fn follow<T: Send + 'static>(
        &self,
        name: &str,
        wanted: Wanted,
        event: impl Fn(&Event) -> Option<T> + Send + Sync + 'static,
        lost: impl Fn(&Lost) -> T + Send + Sync + 'static,
    ) -> Result<Response<Sent<T>>, Status> {
        let since = wanted.filter.since(asked_at());
        let events = self.feeder.follow(name, wanted, since);
        let events = events.map_err(|error| Status::resource_exhausted(error.to_string()))?;
        let stopping = self.stopping.clone();
        Ok(Response::new(stream(move |out| {
            forward(events, stopping, out, event, lost)
        })))
    }
}

/// When a client asks, which its `since` counts from, in microseconds since 1970.
pub fn asked_at() -> i64 {
    #[expect(
        clippy::disallowed_methods,
        reason = "only what a client says of time is compared with it"
    )]
    let now = SystemTime::now();
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

async fn forward<T>(
    mut events: Subscription,
    mut stopping: watch::Receiver<()>,
    out: mpsc::Sender<Result<T, Status>>,
    event: impl Fn(&Event) -> Option<T>,
    lost: impl Fn(&Lost) -> T,
) {
    loop {
        let delivery = tokio::select! {
            biased;
            delivery = events.next() => delivery,
            _closed = stopping.changed() => None,
        };
        let message = match delivery {
            Some(Delivery::Event(it)) => event(&it),
            Some(Delivery::Lost(it)) => Some(lost(&it)),
            None => return,
        };
        if let Some(message) = message
            && out.send(Ok(message)).await.is_err()
        {
            return;
        }
    }
}

/// What a future sends, as a stream.
pub(crate) fn stream<T: Send + 'static, F: Future<Output = ()> + Send + 'static>(
    forward: impl FnOnce(mpsc::Sender<Result<T, Status>>) -> F,
) -> Sent<T> {
    let (sender, receiver) = mpsc::channel(1);
    Box::pin(Forwarded {
        forward: Some(Box::pin(forward(sender))),
        receiver,
    })
}

/// Drives the forwarding while the stream is polled, so that no task of its own is needed.
struct Forwarded<T> {
    forward: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    receiver: mpsc::Receiver<Result<T, Status>>,
}

impl<T> Stream for Forwarded<T> {
    type Item = Result<T, Status>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        if let Some(forward) = &mut self.forward
            && forward.as_mut().poll(context).is_ready()
        {
            self.forward = None;
        }
        self.receiver.poll_recv(context)
    }
}

/// What a client of the `LogService` asks for. `other` is the sort that its stream has nothing of.
///
/// COMPAT: KubeArmor ends the stream at once, without an error, for a filter it does not know. A
/// client that asks for the wrong thing should learn it.
///
/// # Errors
///
/// `InvalidArgument`, with the reason, when the filter cannot be read or is the other sort.
pub fn asked_filter(
    request: Request<RequestMessage>,
    other: Option<Sort>,
) -> Result<Filter, Status> {
    let filter = Filter::parse(&request.into_inner().filter);
    let filter = filter.map_err(|error| Status::invalid_argument(error.to_string()))?;
    if Some(filter.sort()) == other {
        let allowed = match filter.sort() {
            Sort::System => Sort::Policy,
            Sort::All | Sort::Policy => Sort::System,
        };
        return Err(Status::invalid_argument(format!(
            "unknown filter `{}`, allowed are `all`, `{allowed}`",
            filter.sort()
        )));
    }
    Ok(filter)
}

#[tonic::async_trait]
impl LogService for LogFeed {
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
        let wanted = Wanted {
            messages: true,
            ..Wanted::nothing(asked_filter(request, None)?)
        };
        let event = |event: &Event| match event {
            Event::Message(message) => Some(convert::message(message)),
            Event::Alert(_) | Event::Log(_) | Event::Threshold(_) => None,
        };
        let lost = |lost: &Lost| convert::message(&lost.message());
        self.follow("messages", wanted, event, lost)
    }

    async fn watch_alerts(
        &self,
        request: Request<RequestMessage>,
    ) -> Result<Response<Self::WatchAlertsStream>, Status> {
        let wanted = Wanted {
            alerts: true,
            ..Wanted::nothing(asked_filter(request, Some(Sort::System))?)
        };
        let event = |event: &Event| match event {
            Event::Alert(alert) => Some(convert::alert(alert)),
            Event::Threshold(threshold) => Some(convert::threshold(threshold)),
            Event::Log(_) | Event::Message(_) => None,
        };
        self.follow("alerts", wanted, event, convert::lost_alerts)
    }

    async fn watch_logs(
        &self,
        request: Request<RequestMessage>,
    ) -> Result<Response<Self::WatchLogsStream>, Status> {
        let wanted = Wanted {
            logs: true,
            ..Wanted::nothing(asked_filter(request, Some(Sort::Policy))?)
        };
        let event = |event: &Event| match event {
            Event::Log(log) => Some(convert::log(log)),
            Event::Alert(_) | Event::Message(_) | Event::Threshold(_) => None,
        };
        self.follow("logs", wanted, event, convert::lost_logs)
    }
}
