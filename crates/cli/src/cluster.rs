// SPDX-License-Identifier: Apache-2.0
//! A cluster as somebody with a kubeconfig sees it.
//!
//! [`api`] asks the API server about single objects, [`tunnels`] reach agents and relay through it,
//! [`policies`] are what it keeps. Nothing of this needs `kubectl`.
//!
//! Failure: every error names the server, what was asked, and what the server said.

pub(crate) mod api;
#[cfg(test)]
pub(crate) mod fake;
pub(crate) mod policies;
pub(crate) mod tunnels;

use anyhow::{Context as _, Result, anyhow};
use api::Api;
use clap::Args;
use gorget_k8s::Access;
use std::error::Error as _;
use std::path::PathBuf;
use tokio::runtime::Runtime;

/// Where everything of Gorget's is.
pub(crate) const NAMESPACE: &str = "gorget";

/// Which cluster.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Kubeconfig {
    /// Kubeconfig that says where the cluster is [default: the files of `KUBECONFIG`, else ~/.kube/config]
    #[arg(long, value_name = "FILE", help_heading = "Cluster")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig [default: its current one]
    #[arg(long, value_name = "NAME", help_heading = "Cluster")]
    pub(crate) context: Option<String>,
}

/// A cluster instead of this machine, and which part of it.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct InCluster {
    /// Ask the cluster of the current context, through its API server
    #[arg(long, help_heading = "Cluster")]
    pub(crate) cluster: bool,
    #[command(flatten)]
    pub(crate) kubeconfig: Kubeconfig,
    /// Only the agent of this node
    #[arg(long, value_name = "NAME", help_heading = "Cluster")]
    pub(crate) node: Option<String>,
    /// Namespace that Gorget is in
    #[arg(
        long,
        value_name = "NAME",
        default_value = NAMESPACE,
        hide_default_value = true,
        help_heading = "Cluster"
    )]
    pub(crate) gorget_namespace: String,
}

impl InCluster {
    /// Whether one is asked for; each of these says so.
    pub(crate) fn is_meant(&self) -> bool {
        let Kubeconfig {
            kubeconfig,
            context,
        } = &self.kubeconfig;
        self.cluster || self.node.is_some() || kubeconfig.is_some() || context.is_some()
    }
}

impl Kubeconfig {
    /// A way to the API server, which has not been asked yet.
    pub(crate) async fn connect(&self) -> Result<Api> {
        let context = self.context.clone();
        let access = match &self.kubeconfig {
            Some(path) => Access::Kubeconfig {
                path: path.clone(),
                context,
            },
            None => Access::User { context },
        };
        let connected = gorget_k8s::connect(&access).await;
        // What is below the first cause is in its words already.
        let connection = connected.map_err(|error| match error.source() {
            Some(cause) => anyhow!("{error}: {cause}"),
            None => anyhow!("{error}"),
        })?;
        Ok(Api::new(connection.client, &connection.server))
    }
}

/// What runs everything that waits for a server.
pub(crate) fn runtime() -> Result<Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")
}
