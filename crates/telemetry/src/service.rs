// SPDX-License-Identifier: Apache-2.0
//! KubeArmor's `LogService` and what changes policies, on a Unix socket that only root can open.

use crate::convert;
use crate::feeder::{Feeder, Subscription};
use crate::policies::{Asked, Forward};
use crate::proto::log_service_server::{LogService, LogServiceServer};
use crate::proto::policy::policy_service_server::PolicyServiceServer;
use crate::proto::v1::policies_server::PoliciesServer;
use crate::proto::{self, NonceMessage, ReplyMessage, RequestMessage};
use gorget_model::Event;
use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::{fs, io};
use tokio::net::UnixListener;
use tokio::sync::mpsc::Sender;
use tokio::sync::watch;
use tokio_stream::Stream;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::transport::server::Router;
use tonic::{Request, Response, Status};

/// The socket cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Its directory or the socket itself cannot be made.
    #[error("cannot {doing} `{}`", .path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Another agent answers on it.
    #[error("`{}` is in use: another agent is running", .0.display())]
    InUse(PathBuf),
}

/// The service ended.
#[derive(Debug, thiserror::Error)]
#[error("serving the feed")]
pub struct ServeError(#[from] tonic::transport::Error);

/// Opens the socket, mode 0600. One that is left over from an agent that is gone is replaced.
///
/// # Errors
///
/// When another agent uses it, or it cannot be made.
pub fn bind(path: &Path) -> Result<UnixListener, BindError> {
    let failed = |doing| {
        move |source| BindError::Io {
            doing,
            path: path.to_owned(),
            source,
        }
    };
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(failed("create the directory of"))?;
    }
    if path.exists() {
        if UnixStream::connect(path).is_ok() {
            return Err(BindError::InUse(path.to_owned()));
        }
        fs::remove_file(path).map_err(failed("replace"))?;
    }
    let listener = UnixListener::bind(path).map_err(failed("listen on"))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
        .map_err(failed("restrict access to"))?;
    Ok(listener)
}

/// Serves until `shutdown` is ready. Streams end after what is queued for them then; a client that
/// does not read it holds up the end.
///
/// # Errors
///
/// When the listener fails.
pub async fn serve(
    feeder: Feeder,
    policies: Sender<Asked>,
    listener: UnixListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    let (router, shutdown) = with_services(Server::builder(), feeder, Some(policies), shutdown);
    router
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), shutdown)
        .await?;
    Ok(())
}

/// A server of the feed, and of what changes policies if their owner is given; and when it ends.
pub(crate) fn with_services(
    mut server: Server,
    feeder: Feeder,
    policies: Option<Sender<Asked>>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> (Router, impl Future<Output = ()> + Send + 'static) {
    let (serving, stopping) = watch::channel(());
    // Streams have no end of their own, and the server waits for them.
    let shutdown = async move {
        shutdown.await;
        drop(serving);
    };
    let forward = |policies: &Sender<Asked>| Forward::new(policies.clone());
    let router = server
        .add_service(LogServiceServer::new(Service { feeder, stopping }))
        .add_optional_service(policies.as_ref().map(forward).map(PolicyServiceServer::new))
        .add_optional_service(policies.as_ref().map(forward).map(PoliciesServer::new));
    (router, shutdown)
}

struct Service {
    feeder: Feeder,
    /// Closed when the server is to end.
    stopping: watch::Receiver<()>,
}

type Sent<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The events of a subscription that `wanted` turns into a message.
fn stream<T: Send + 'static>(
    events: Subscription,
    mut stopping: watch::Receiver<()>,
    wanted: impl Fn(&Event) -> Option<T> + Send + Sync + 'static,
) -> Sent<T> {
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let forward = async move {
        let mut events = events;
        loop {
            let event = tokio::select! {
                biased;
                event = events.next() => event,
                _closed = stopping.changed() => None,
            };
            let Some(event) = event else { break };
            if let Some(message) = wanted(&event)
                && sender.send(Ok(message)).await.is_err()
            {
                break;
            }
        }
    };
    Box::pin(Forwarded {
        forward: Some(Box::pin(forward)),
        receiver,
    })
}

/// Drives the forwarding while the stream is polled, so that no task of its own is needed.
struct Forwarded<T> {
    forward: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    receiver: tokio::sync::mpsc::Receiver<Result<T, Status>>,
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

/// COMPAT: KubeArmor ends the stream at once, without an error, for a filter it does not know. A
/// client that asks for the wrong thing should learn it.
fn check_filter(request: Request<RequestMessage>, allowed: &[&str]) -> Result<(), Status> {
    let filter = request.into_inner().filter;
    if filter.is_empty() || allowed.contains(&filter.as_str()) {
        return Ok(());
    }
    let allowed = allowed.join("`, `");
    Err(Status::invalid_argument(format!(
        "unknown filter `{filter}`, allowed are `{allowed}`"
    )))
}

#[tonic::async_trait]
impl LogService for Service {
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
        _request: Request<RequestMessage>,
    ) -> Result<Response<Self::WatchMessagesStream>, Status> {
        Ok(Response::new(stream(
            self.feeder.subscribe(),
            self.stopping.clone(),
            |event| match event {
                Event::Message(message) => Some(convert::message(message)),
                Event::Alert(_) | Event::Log(_) => None,
            },
        )))
    }

    async fn watch_alerts(
        &self,
        request: Request<RequestMessage>,
    ) -> Result<Response<Self::WatchAlertsStream>, Status> {
        check_filter(request, &["all", "policy"])?;
        Ok(Response::new(stream(
            self.feeder.subscribe(),
            self.stopping.clone(),
            |event| match event {
                Event::Alert(alert) => Some(convert::alert(alert)),
                Event::Log(_) | Event::Message(_) => None,
            },
        )))
    }

    async fn watch_logs(
        &self,
        request: Request<RequestMessage>,
    ) -> Result<Response<Self::WatchLogsStream>, Status> {
        check_filter(request, &["all", "system"])?;
        Ok(Response::new(stream(
            self.feeder.subscribe(),
            self.stopping.clone(),
            |event| match event {
                Event::Log(log) => Some(convert::log(log)),
                Event::Alert(_) | Event::Message(_) => None,
            },
        )))
    }
}
