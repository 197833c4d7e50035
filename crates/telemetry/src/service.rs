// SPDX-License-Identifier: Apache-2.0
//! All services of the agent, on a Unix socket that only root can open, or over TCP (`tcp`).

use crate::feeder::Feeder;
use crate::log_service::LogFeed;
use crate::policies::{Asked, Forward};
use crate::proto::log_service_server::LogServiceServer;
use crate::proto::policy::policy_service_server::PolicyServiceServer;
use crate::proto::policy::probe_service_server::ProbeServiceServer;
use crate::proto::state::state_agent_server::StateAgentServer;
use crate::proto::v1::agent_server::AgentServer;
use crate::proto::v1::policies_server::PoliciesServer;
use crate::status::{Answering, Status};
use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};
use tokio::net::UnixListener;
use tokio::sync::mpsc::Sender;
use tokio::sync::watch;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::server::NamedService;
use tonic::transport::Server;
use tonic::transport::server::Router;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

/// What reflection tells: everything in `proto`.
const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// How often a connection that is silent is asked whether anybody is there, and how long the answer
/// may take: a client that was killed without a word is let go after both.
const KEEPALIVE: Duration = Duration::from_secs(20);
const KEEPALIVE_ANSWER: Duration = Duration::from_secs(10);

/// Name under which the health service tells whether everything is in force that should be.
pub const ENFORCEMENT: &str = "enforcement";

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
pub enum ServeError {
    /// The listener failed.
    #[error("serving the feed")]
    Transport(#[from] tonic::transport::Error),
    /// The descriptions that were built in do not fit together.
    #[error("describing the services")]
    Reflection(#[from] tonic_reflection::server::Error),
}

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

/// What a server offers. Cheap to clone; several servers can offer the same.
#[derive(Clone, Debug)]
pub struct Services {
    feeder: Feeder,
    policies: Option<Sender<Asked>>,
    status: Option<Status>,
    health: HealthReporter,
}

impl Services {
    /// The feed, health and reflection.
    pub fn new(feeder: Feeder) -> Self {
        Self {
            feeder,
            policies: None,
            status: None,
            health: HealthReporter::new(),
        }
    }

    /// And what changes policies.
    #[must_use]
    pub fn with_policies(self, owner: Sender<Asked>) -> Self {
        Self {
            policies: Some(owner),
            ..self
        }
    }

    /// The same without what changes policies.
    #[must_use]
    pub fn without_policies(self) -> Self {
        Self {
            policies: None,
            ..self
        }
    }

    /// And what the agent says of itself.
    #[must_use]
    pub fn with_status(self, status: Status) -> Self {
        Self {
            status: Some(status),
            ..self
        }
    }

    /// What the health service says of [`ENFORCEMENT`]. Of everything else it says that it serves, for
    /// as long as it does.
    pub async fn set_enforcement(&self, is_healthy: bool) {
        let status = match is_healthy {
            true => tonic_health::ServingStatus::Serving,
            false => tonic_health::ServingStatus::NotServing,
        };
        self.health.set_service_status(ENFORCEMENT, status).await;
    }

    /// The health service alone.
    pub(crate) fn health(&self) -> HealthServer<HealthService> {
        HealthServer::new(HealthService::from_health_reporter(self.health.clone()))
    }

    /// Serves on a Unix socket until `shutdown` is ready. Streams end after what is queued for them
    /// then; a client that does not read it holds up the end.
    ///
    /// # Errors
    ///
    /// When the listener fails.
    pub async fn serve(
        self,
        listener: UnixListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), ServeError> {
        let (router, shutdown) = self.on(Server::builder(), shutdown).await?;
        router
            .serve_with_incoming_shutdown(UnixListenerStream::new(listener), shutdown)
            .await?;
        Ok(())
    }

    /// A server of them, and when it ends.
    pub(crate) async fn on(
        self,
        server: Server,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(Router, impl Future<Output = ()> + Send + 'static), ServeError> {
        let Self {
            feeder,
            policies,
            status,
            health,
        } = self;
        let (serving, stopping) = watch::channel(());
        // Streams have no end of their own, and the server waits for them.
        let shutdown = async move {
            shutdown.await;
            drop(serving);
        };
        let mut offered = Offered {
            names: Vec::new(),
            health: &health,
        };
        let feed = LogServiceServer::new(LogFeed::new(feeder, stopping.clone()));
        let feed = offered.note(feed).await;
        let forward = policies.map(Forward::new);
        let own = offered
            .maybe(forward.clone().map(PoliciesServer::new))
            .await;
        let changes = offered.maybe(forward.map(PolicyServiceServer::new)).await;
        let answering = status.map(|status| Answering::new(status, stopping));
        let agent = offered.maybe(answering.clone().map(AgentServer::new)).await;
        let probe = offered
            .maybe(answering.clone().map(ProbeServiceServer::new))
            .await;
        let state = offered.maybe(answering.map(StateAgentServer::new)).await;
        let names = offered.names;
        let health = HealthServer::new(HealthService::from_health_reporter(health));
        let router = server
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE_ANSWER))
            .add_service(feed)
            .add_service(health)
            .add_service(reflection(&names).build_v1()?)
            .add_service(reflection(&names).build_v1alpha()?)
            .add_optional_service(own)
            .add_optional_service(changes)
            .add_optional_service(agent)
            .add_optional_service(probe)
            .add_optional_service(state);
        Ok((router, shutdown))
    }
}

/// What a server offers, for reflection and health.
struct Offered<'a> {
    names: Vec<&'static str>,
    health: &'a HealthReporter,
}

impl Offered<'_> {
    async fn note<S: NamedService>(&mut self, service: S) -> S {
        self.names.push(S::NAME);
        self.health.set_serving::<S>().await;
        service
    }

    async fn maybe<S: NamedService>(&mut self, service: Option<S>) -> Option<S> {
        match service {
            Some(service) => Some(self.note(service).await),
            None => None,
        }
    }
}

fn reflection(names: &[&'static str]) -> tonic_reflection::server::Builder<'static> {
    let builder = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .with_service_name("grpc.health.v1.Health");
    names
        .iter()
        .fold(builder, |builder, name| builder.with_service_name(*name))
}

/// Serves the feed and what changes policies; what else there is: [`Services`].
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
    let services = Services::new(feeder).with_policies(policies);
    services.serve(listener, shutdown).await
}
