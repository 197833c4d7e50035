// SPDX-License-Identifier: Apache-2.0
//! Finding the API server: from inside a pod, or by a kubeconfig.
//!
//! TLS is rustls with ring, which gRPC has already; no library of the system takes part.

use kube::Client;
use kube::config::{Config, InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use std::env;
use std::path::PathBuf;

/// Kubernetes sets it in every container of a pod.
const IN_CLUSTER: &str = "KUBERNETES_SERVICE_HOST";

/// Whether this process runs in a pod.
pub fn is_in_cluster() -> bool {
    env::var_os(IN_CLUSTER).is_some_and(|host| !host.is_empty())
}

/// How the API server is found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// As Kubernetes tells every pod: the service account of the pod.
    #[default]
    InCluster,
    /// By a file as `kubectl` has it.
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// Of the file; none: its current one.
        context: Option<String>,
    },
    /// As `kubectl` finds it: the files of `KUBECONFIG`, else `~/.kube/config`.
    User {
        /// Of the files; none: their current one.
        context: Option<String>,
    },
}

/// A way to the API server. Nothing has been asked yet.
#[derive(Clone)]
pub struct Connection {
    /// Asks.
    pub client: Client,
    /// The namespace that this process is in, or that the context names.
    pub namespace: String,
    /// The server's address, for messages.
    pub server: String,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("namespace", &self.namespace)
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

/// There is no way to the API server.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// This process is in no pod, or its service account is not mounted.
    #[error(
        "the service account of this pod cannot be used (`automountServiceAccountToken` must not be off)"
    )]
    InCluster(#[source] InClusterError),
    /// The file cannot be used.
    #[error("kubeconfig `{}`", .path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// Why.
        source: KubeconfigError,
    },
    /// No file is found, or one cannot be used.
    #[error("no kubeconfig can be used, neither of `KUBECONFIG` nor `~/.kube/config`")]
    User(#[source] KubeconfigError),
    /// The kubeconfig does not have what was asked for.
    #[error("{}", missing_context(.wanted.as_deref(), .known))]
    Context {
        /// None: its current one.
        wanted: Option<String>,
        /// Those that it has.
        known: Vec<String>,
    },
    /// Certificates or credentials cannot be used.
    #[error("preparing the connection to `{server}`")]
    Client {
        /// The server's address.
        server: String,
        /// Why.
        source: Box<kube::Error>,
    },
}

fn missing_context(wanted: Option<&str>, known: &[String]) -> String {
    let wanted = match wanted {
        Some(name) => format!("no context `{name}` is in the kubeconfig"),
        None => "the kubeconfig has no current context".to_owned(),
    };
    let known: Vec<_> = known.iter().map(|name| format!("`{name}`")).collect();
    match known.is_empty() {
        true => format!("{wanted}, and no other"),
        false => format!("{wanted}; there are {}", known.join(", ")),
    }
}

/// Finds the API server.
///
/// # Errors
///
/// When what says where it is, or who asks, cannot be used. Whether the server answers is found out by
/// who asks first.
pub async fn connect(access: &Access) -> Result<Connection, ConnectError> {
    let mut config = match access {
        Access::InCluster => Config::incluster().map_err(ConnectError::InCluster)?,
        Access::Kubeconfig { path, context } => {
            let failed = |source| ConnectError::Kubeconfig {
                path: path.clone(),
                source,
            };
            let file = Kubeconfig::read_from(path).map_err(failed)?;
            of_context(file, context.as_deref(), failed).await?
        }
        Access::User { context } => {
            let file = Kubeconfig::read().map_err(ConnectError::User)?;
            of_context(file, context.as_deref(), ConnectError::User).await?
        }
    };
    // Who asks waits longer each time, and says so.
    config.default_retry = false;
    let (namespace, server) = (
        config.default_namespace.clone(),
        config.cluster_url.to_string(),
    );
    let client = Client::try_from(config).map_err(|source| ConnectError::Client {
        server: server.clone(),
        source: Box::new(source),
    })?;
    Ok(Connection {
        client,
        namespace,
        server,
    })
}

/// What a context says; none: the current one.
async fn of_context(
    file: Kubeconfig,
    context: Option<&str>,
    failed: impl FnOnce(KubeconfigError) -> ConnectError,
) -> Result<Config, ConnectError> {
    let wanted = context.or(file.current_context.as_deref());
    let mut known = file.contexts.iter().map(|it| it.name.as_str());
    if !wanted.is_some_and(|wanted| known.any(|name| name == wanted)) {
        return Err(ConnectError::Context {
            wanted: wanted.map(str::to_owned),
            known: file.contexts.iter().map(|it| it.name.clone()).collect(),
        });
    }
    let options = KubeConfigOptions {
        context: context.map(str::to_owned),
        ..KubeConfigOptions::default()
    };
    Config::from_custom_kubeconfig(file, &options)
        .await
        .map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(future)
    }

    #[test]
    fn a_kubeconfig_that_is_not_there_is_named() {
        let access = Access::Kubeconfig {
            path: "/nowhere/config".into(),
            context: None,
        };
        let error = block_on(connect(&access)).unwrap_err();
        assert_eq!(error.to_string(), "kubeconfig `/nowhere/config`");
    }

    #[test]
    fn a_context_says_server_and_namespace() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = "apiVersion: v1\nkind: Config\ncurrent-context: a\n\
            clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}]\n\
            users: [{name: u, user: {token: t}}]\n\
            contexts:\n- {name: a, context: {cluster: c, user: u}}\n\
            - {name: b, context: {cluster: c, user: u, namespace: security}}\n";
        std::fs::write(file.path(), text).unwrap();
        let found = |context: Option<&str>| {
            let access = Access::Kubeconfig {
                path: file.path().to_owned(),
                context: context.map(str::to_owned),
            };
            block_on(connect(&access))
        };
        let connection = found(Some("b")).unwrap();
        assert_eq!(connection.namespace, "security");
        assert_eq!(connection.server, "http://127.0.0.1:1/");
        assert_eq!(found(None).unwrap().namespace, "default");
        assert_eq!(
            found(Some("c")).unwrap_err().to_string(),
            "no context `c` is in the kubeconfig; there are `a`, `b`"
        );
    }
}
