// SPDX-License-Identifier: Apache-2.0
//! The questions to a CRI runtime, each with its limits.

use crate::proto::runtime::v1 as wire;
use serde::Deserialize;
use std::error::Error as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};
use wire::runtime_service_client::RuntimeServiceClient;

/// A runtime that is asked about a container waits for whoever changes it.
const DEADLINE: Duration = Duration::from_secs(30);
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// What runtimes themselves allow for a message.
const LARGEST_MESSAGE: usize = 16 * 1024 * 1024;
/// Under which the verbose part of a status is.
const INFO: &str = "info";

/// A question was not answered.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    #[error("socket path `{path}` is not UTF-8")]
    Path { path: PathBuf },
    #[error("cannot connect to `{path}`")]
    Transport {
        path: PathBuf,
        source: tonic::transport::Error,
    },
    #[error("the runtime does not answer `{call}`")]
    Status { call: &'static str, source: Status },
    #[error("no answer to `{call}` within {} s", DEADLINE.as_secs())]
    Deadline { call: &'static str },
    #[error(
        "the runtime has no events (`GetContainerEvents`): containers that start later are not noticed"
    )]
    NoEvents { source: Status },
    #[error("the status of container `{id}` lacks the pid")]
    NoPid { id: String },
    #[error("the status of container `{id}` cannot be understood")]
    Info {
        id: String,
        source: serde_json::Error,
    },
}

impl CallError {
    /// The stream of events broke off.
    pub(super) fn events(source: Status) -> Self {
        failed("GetContainerEvents")(source)
    }

    /// The thing that was asked for does not exist.
    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, Self::Status { source, .. } if source.code() == Code::NotFound)
    }

    pub(super) fn is_unimplemented(&self) -> bool {
        matches!(self, Self::NoEvents { .. })
    }

    /// The connection is of no more use. A status that carries a cause was made here by the
    /// transport, not sent by the runtime.
    pub(super) fn is_lost(&self) -> bool {
        match self {
            Self::Status { source, .. } => {
                source.source().is_some() || source.code() == Code::Unavailable
            }
            Self::Path { .. } | Self::Transport { .. } => true,
            Self::Deadline { .. }
            | Self::NoEvents { .. }
            | Self::NoPid { .. }
            | Self::Info { .. } => false,
        }
    }
}

fn failed(call: &'static str) -> impl Fn(Status) -> CallError {
    move |source| CallError::Status { call, source }
}

/// The part of the verbose status that is read.
#[derive(Deserialize)]
struct Info {
    #[serde(default)]
    pid: u32,
}

/// A connection to the runtime.
#[derive(Clone, Debug)]
pub(super) struct Api {
    client: RuntimeServiceClient<Channel>,
}

impl Api {
    pub(super) async fn connect(socket: &Path) -> Result<Self, CallError> {
        let path = || socket.to_owned();
        let text = socket
            .to_str()
            .ok_or_else(|| CallError::Path { path: path() })?;
        let connect = async {
            Endpoint::try_from(format!("unix://{text}"))?
                .connect_timeout(CONNECT_DEADLINE)
                .connect()
                .await
        };
        let channel = connect.await.map_err(|source| CallError::Transport {
            path: path(),
            source,
        })?;
        let client = RuntimeServiceClient::new(channel).max_decoding_message_size(LARGEST_MESSAGE);
        Ok(Self { client })
    }

    /// Its name and version.
    pub(super) async fn version(&self) -> Result<String, CallError> {
        let request = wire::VersionRequest {
            version: String::new(),
        };
        let mut client = self.client.clone();
        let answer = within("Version", client.version(request)).await?;
        Ok(format!(
            "{} {} (CRI)",
            answer.runtime_name, answer.runtime_version
        ))
    }

    pub(super) async fn containers(&self) -> Result<Vec<wire::Container>, CallError> {
        self.list(None).await
    }

    /// `None` when there is no such container.
    pub(super) async fn container(&self, id: &str) -> Result<Option<wire::Container>, CallError> {
        let filter = wire::ContainerFilter { id: id.to_owned() };
        let listed = self.list(Some(filter)).await?;
        // A runtime may take the beginning of an id for it.
        Ok(listed.into_iter().find(|container| container.id == id))
    }

    async fn list(
        &self,
        filter: Option<wire::ContainerFilter>,
    ) -> Result<Vec<wire::Container>, CallError> {
        let mut client = self.client.clone();
        let request = wire::ListContainersRequest { filter };
        let answer = within("ListContainers", client.list_containers(request)).await?;
        Ok(answer.containers)
    }

    /// The first process of a container.
    pub(super) async fn pid(&self, id: &str) -> Result<u32, CallError> {
        let request = wire::ContainerStatusRequest {
            container_id: id.to_owned(),
            verbose: true,
        };
        let mut client = self.client.clone();
        let answer = within("ContainerStatus", client.container_status(request)).await?;
        let no_pid = || CallError::NoPid { id: id.to_owned() };
        let info = answer.info.get(INFO).ok_or_else(no_pid)?;
        let info: Info = serde_json::from_str(info).map_err(|source| CallError::Info {
            id: id.to_owned(),
            source,
        })?;
        match info.pid {
            0 => Err(no_pid()),
            pid => Ok(pid),
        }
    }

    /// What is known of a pod; nothing when it is gone.
    pub(super) async fn pod(&self, id: &str) -> Result<wire::PodSandboxStatus, CallError> {
        let request = wire::PodSandboxStatusRequest {
            pod_sandbox_id: id.to_owned(),
        };
        let mut client = self.client.clone();
        match within("PodSandboxStatus", client.pod_sandbox_status(request)).await {
            Ok(answer) => Ok(answer.status.unwrap_or_default()),
            Err(error) if error.is_not_found() => Ok(wire::PodSandboxStatus::default()),
            Err(error) => Err(error),
        }
    }

    /// The events of all containers. Ready with the first of them.
    pub(super) async fn events(
        &self,
    ) -> Result<Streaming<wire::ContainerEventResponse>, CallError> {
        let mut client = self.client.clone();
        match client.get_container_events(wire::GetEventsRequest {}).await {
            Ok(answer) => Ok(answer.into_inner()),
            Err(source) if source.code() == Code::Unimplemented => {
                Err(CallError::NoEvents { source })
            }
            Err(source) => Err(CallError::events(source)),
        }
    }
}

async fn within<T>(
    call: &'static str,
    answer: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, CallError> {
    match tokio::time::timeout(DEADLINE, answer).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) => Err(failed(call)(status)),
        Err(_elapsed) => Err(CallError::Deadline { call }),
    }
}
