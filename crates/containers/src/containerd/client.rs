// SPDX-License-Identifier: Apache-2.0
//! The questions we ask containerd, each with its limits.
//!
//! Every call has a deadline and a largest answer. An answer that lacks what was asked for is an error
//! like a refusal. Callers need to tell three failures apart: the thing does not exist, the connection
//! is lost, anything else.
//!
//! No HTTP/2 keep-alive: containerd's server closes connections that ping more often than every five
//! minutes, and a unix socket tells of the peer's death by itself.

use super::Key;
use super::event::{CREATE, DELETE, EXIT, MARKER, START};
use crate::proto::containerd::services as wire;
use crate::proto::containerd::types::Envelope;
use crate::proto::containerd::v1::types::Process;
use std::error::Error as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};
use wire::containers::v1::containers_client::ContainersClient;
use wire::containers::v1::{Container, GetContainerRequest};
use wire::events::v1::events_client::EventsClient;
use wire::events::v1::{PublishRequest, SubscribeRequest};
use wire::images::v1::GetImageRequest;
use wire::images::v1::images_client::ImagesClient;
use wire::namespaces::v1::ListNamespacesRequest;
use wire::namespaces::v1::namespaces_client::NamespacesClient;
use wire::tasks::v1::tasks_client::TasksClient;
use wire::tasks::v1::{GetRequest, ListTasksRequest};
use wire::version::v1::version_client::VersionClient;

/// containerd asks every shim in turn when it lists tasks and waits up to 2 s for one that hangs, so
/// the deadline allows for several of those.
const DEADLINE: Duration = Duration::from_secs(30);
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// What containerd itself allows for a message.
const LARGEST_MESSAGE: usize = 16 * 1024 * 1024;
/// Before the first marker; it doubles. Registering a subscription takes microseconds once the
/// request has arrived.
const MARKER_DELAY: Duration = Duration::from_millis(10);
/// The header that says in which of containerd's namespaces a call is meant.
const NAMESPACE_HEADER: &str = "containerd-namespace";
/// Where our marker is published: containerd asks for a namespace, and this one holds nothing.
const MARKER_NAMESPACE: &str = "gorget";
/// A type that every subscriber can decode.
const MARKER_TYPE: &str = "google.protobuf.Empty";

/// No connection was made.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("socket path `{path}` is not UTF-8")]
    Path { path: PathBuf },
    #[error("cannot connect to `{path}`")]
    Transport {
        path: PathBuf,
        source: tonic::transport::Error,
    },
}

/// A question was not answered.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    #[error("containerd does not answer `{call}`")]
    Status { call: &'static str, source: Status },
    #[error("containerd's answer to `{call}` lacks the `{missing}`")]
    Incomplete {
        call: &'static str,
        missing: &'static str,
    },
    #[error("`{name}` cannot be the name of a containerd namespace")]
    Namespace { name: String },
}

impl CallError {
    /// The thing that was asked for does not exist.
    pub(super) fn is_not_found(&self) -> bool {
        match self {
            Self::Status { source, .. } => source.code() == Code::NotFound,
            Self::Incomplete { .. } | Self::Namespace { .. } => false,
        }
    }

    /// The connection is of no more use. A status that carries a cause was made here by the
    /// transport, not sent by containerd. A deadline that passed is not a loss: one namespace whose
    /// shims hang must not keep the others from being seen.
    pub(super) fn is_lost(&self) -> bool {
        match self {
            Self::Status { source, .. } => {
                source.source().is_some() || source.code() == Code::Unavailable
            }
            Self::Incomplete { .. } | Self::Namespace { .. } => false,
        }
    }
}

fn failed(call: &'static str) -> impl Fn(Status) -> CallError {
    move |status| CallError::Status {
        call,
        source: status,
    }
}

/// A connection to containerd.
#[derive(Clone, Debug)]
pub(super) struct Client {
    channel: Channel,
}

impl Client {
    pub(super) async fn connect(socket: &Path) -> Result<Self, ConnectError> {
        let Some(path) = socket.to_str() else {
            return Err(ConnectError::Path {
                path: socket.to_owned(),
            });
        };
        let connect = async {
            Endpoint::from_shared(format!("unix:{path}"))?
                .connect_timeout(CONNECT_DEADLINE)
                .timeout(DEADLINE)
                .connect()
                .await
        };
        match connect.await {
            Ok(channel) => Ok(Self { channel }),
            Err(source) => Err(ConnectError::Transport {
                path: socket.to_owned(),
                source,
            }),
        }
    }

    pub(super) async fn version(&self) -> Result<String, CallError> {
        VersionClient::new(self.channel.clone())
            .max_decoding_message_size(LARGEST_MESSAGE)
            .version(())
            .await
            .map(|answer| answer.into_inner().version)
            .map_err(failed("Version"))
    }

    /// The events of all namespaces, from now on: nothing that happens after this returns is missed.
    ///
    /// containerd answers a subscription with its first event only. So we publish a marker until
    /// something arrives; then the subscription is known to be in place, and a scan that begins after
    /// it cannot miss a container that is created meanwhile.
    pub(super) async fn subscribe(&self) -> Result<Streaming<Envelope>, CallError> {
        let filters = [CREATE, START, EXIT, DELETE, MARKER]
            .map(|topic| format!("topic=={topic:?}"))
            .to_vec();
        let mut client =
            EventsClient::new(self.channel.clone()).max_decoding_message_size(LARGEST_MESSAGE);
        let subscription = client.subscribe(SubscribeRequest { filters });
        tokio::pin!(subscription);
        let mut delay = MARKER_DELAY;
        loop {
            tokio::select! {
                answer = &mut subscription => {
                    return answer
                        .map(tonic::Response::into_inner)
                        .map_err(failed("Subscribe"));
                }
                () = tokio::time::sleep(delay) => {}
            }
            self.publish_marker().await?;
            delay = delay.saturating_mul(2);
        }
    }

    async fn publish_marker(&self) -> Result<(), CallError> {
        let message = PublishRequest {
            topic: MARKER.to_owned(),
            event: Some(prost_types::Any {
                type_url: MARKER_TYPE.to_owned(),
                value: Vec::new(),
            }),
        };
        EventsClient::new(self.channel.clone())
            .max_decoding_message_size(LARGEST_MESSAGE)
            .publish(within(MARKER_NAMESPACE, message)?)
            .await
            .map(|_empty| ())
            .map_err(failed("Publish"))
    }

    pub(super) async fn namespaces(&self) -> Result<Vec<String>, CallError> {
        NamespacesClient::new(self.channel.clone())
            .max_decoding_message_size(LARGEST_MESSAGE)
            .list(ListNamespacesRequest {})
            .await
            .map(|answer| answer.into_inner().namespaces)
            .map(|namespaces| namespaces.into_iter().map(|n| n.name).collect())
            .map_err(failed("Namespaces.List"))
    }

    pub(super) async fn tasks(&self, namespace: &str) -> Result<Vec<Process>, CallError> {
        TasksClient::new(self.channel.clone())
            .max_decoding_message_size(LARGEST_MESSAGE)
            .list(within(namespace, ListTasksRequest {})?)
            .await
            .map(|answer| answer.into_inner().tasks)
            .map_err(failed("Tasks.List"))
    }

    pub(super) async fn task(&self, key: &Key) -> Result<Process, CallError> {
        let message = GetRequest {
            container_id: key.id.clone(),
        };
        TasksClient::new(self.channel.clone())
            .max_decoding_message_size(LARGEST_MESSAGE)
            .get(within(&key.namespace, message)?)
            .await
            .map_err(failed("Tasks.Get"))?
            .into_inner()
            .process
            .ok_or(CallError::Incomplete {
                call: "Tasks.Get",
                missing: "process",
            })
    }

    pub(super) async fn container(&self, key: &Key) -> Result<Container, CallError> {
        let message = GetContainerRequest { id: key.id.clone() };
        ContainersClient::new(self.channel.clone())
            .max_decoding_message_size(LARGEST_MESSAGE)
            .get(within(&key.namespace, message)?)
            .await
            .map_err(failed("Containers.Get"))?
            .into_inner()
            .container
            .ok_or(CallError::Incomplete {
                call: "Containers.Get",
                missing: "container",
            })
    }

    pub(super) async fn image_digest(
        &self,
        namespace: &str,
        image: &str,
    ) -> Result<String, CallError> {
        let message = GetImageRequest {
            name: image.to_owned(),
        };
        ImagesClient::new(self.channel.clone())
            .max_decoding_message_size(LARGEST_MESSAGE)
            .get(within(namespace, message)?)
            .await
            .map_err(failed("Images.Get"))?
            .into_inner()
            .image
            .and_then(|image| image.target)
            .map(|target| target.digest)
            .ok_or(CallError::Incomplete {
                call: "Images.Get",
                missing: "digest",
            })
    }
}

/// The message with the header that names its namespace.
fn within<M>(namespace: &str, message: M) -> Result<Request<M>, CallError> {
    let value: MetadataValue<Ascii> =
        namespace.parse().map_err(|_invalid| CallError::Namespace {
            name: namespace.to_owned(),
        })?;
    let mut request = Request::new(message);
    request.metadata_mut().insert(NAMESPACE_HEADER, value);
    Ok(request)
}
