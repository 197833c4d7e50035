// SPDX-License-Identifier: Apache-2.0
//! Who one container is, asked over a connection of its own: for a container that somebody announced
//! and that must not wait until the events before it were looked at.

use super::client::{CallError, Client, ConnectError};
use super::{Key, docker, record};
use crate::identity::names_an_image;
use gorget_model::Container;
use std::path::Path;

/// containerd does not say who a container is.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    #[error("containerd is not there")]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Docker(#[from] docker::DockerError),
}

/// As [`super::session`] does for what containerd reports.
pub(super) async fn identify(
    socket: &Path,
    namespace: &str,
    id: &str,
) -> Result<Container, AskError> {
    let key = Key {
        namespace: namespace.to_owned(),
        id: id.to_owned(),
    };
    let client = Client::connect(socket).await?;
    let stored = client.container(&key).await?;
    // For people: an image that is kept elsewhere has none.
    let digest = if names_an_image(&stored.image) {
        client.image_digest(namespace, &stored.image).await.ok()
    } else {
        None
    };
    let docker = match namespace {
        docker::NAMESPACE => Some(docker::describe(id, stored.spec.as_ref())?),
        _ => None,
    };
    let id = id.to_owned();
    Ok(record::identity(id, stored, digest.as_deref(), docker))
}
