// SPDX-License-Identifier: Apache-2.0
//! Which agents a command asks, and how they are reached.
//!
//! Here, or elsewhere by their addresses, or in a cluster ([`tunnels`]).

use crate::cluster::InCluster;
use crate::cluster::tunnels::{self, Reached, Whom};
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use gorget_telemetry::{Address, ClientTls, ConnectError, DEFAULT_SOCKET};
use std::error::Error;
use std::fs;
use std::io::{self, ErrorKind, Write as _};
use std::path::PathBuf;
use std::sync::Arc;

#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Agents {
    /// Agent to ask: a socket's path, or HOST:PORT; several times for several at once
    #[arg(long = "agent", value_name = "ADDRESS", conflicts_with = "socket")]
    addresses: Vec<Address>,
    /// Socket of the agent [default: /run/gorget/gorget.sock]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    #[command(flatten)]
    tls: TlsFiles,
    #[command(flatten)]
    in_cluster: InCluster,
}

/// Certificates for agents that are asked over TCP.
#[derive(Args, Clone, Debug, Default)]
struct TlsFiles {
    /// The authority of the agents' certificates, for HOST:PORT with TLS
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// Certificate to show
    #[arg(long, value_name = "FILE", requires = "tls_ca", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its key
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

impl Agents {
    /// The cluster that is meant instead of this machine, if one is.
    ///
    /// # Errors
    ///
    /// When this machine is meant, too.
    pub(crate) fn in_cluster(&self) -> Result<Option<&InCluster>> {
        if !self.in_cluster.is_meant() {
            return Ok(None);
        }
        let TlsFiles { tls_ca, .. } = &self.tls;
        ensure!(
            self.addresses.is_empty() && self.socket.is_none() && tls_ca.is_none(),
            "a cluster's agents are found by `--cluster`, `--kubeconfig`, `--context` and `--node` alone, \
             without `--agent`, `--socket` and `--tls-ca`"
        );
        Ok(Some(&self.in_cluster))
    }

    /// For commands that are about the agent of a machine.
    ///
    /// # Errors
    ///
    /// When a cluster is meant: then what to do instead.
    pub(crate) fn not_in_cluster(&self, instead: &str) -> Result<()> {
        match self.in_cluster()? {
            Some(_) => bail!("this command is about the agent of a machine: {instead}"),
            None => Ok(()),
        }
    }

    /// Those that are named, those of the cluster, or the one of this machine; what leads to them stays until the
    /// program ends.
    pub(crate) fn reach(&self, whom: Whom) -> Result<Vec<Reached>> {
        if let Some(which) = self.in_cluster()? {
            let reached = tunnels::open(which, whom)?;
            for Reached { name, address, .. } in &reached {
                writeln!(
                    io::stderr(),
                    "gorget: `{name}` is asked by way of `{address}`"
                )?;
            }
            return Ok(reached);
        }
        let addresses = match (&self.socket, self.addresses.as_slice()) {
            (Some(socket), _) => vec![Address::Socket(socket.clone())],
            (None, []) => vec![Address::Socket(DEFAULT_SOCKET.into())],
            (None, addresses) => addresses.to_vec(),
        };
        let tls = self.tls()?.map(Arc::new);
        let reached = addresses.into_iter().map(|address| Reached {
            name: String::new(),
            address,
            tls: tls.clone(),
        });
        Ok(reached.collect())
    }

    /// The one that is named, or the one of this machine.
    pub(crate) fn reach_one(&self) -> Result<Reached> {
        let mut reached = self.reach(Whom::Agents)?;
        match (reached.pop(), reached.is_empty()) {
            (Some(one), true) => Ok(one),
            (_, _) if self.in_cluster.is_meant() => {
                bail!("this command asks one agent: name a node, `--node`")
            }
            (_, _) => bail!("this command asks one agent: name one `--agent`"),
        }
    }

    /// The certificates, read.
    fn tls(&self) -> Result<Option<ClientTls>> {
        let read = |path: &PathBuf| {
            fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))
        };
        let TlsFiles {
            tls_ca,
            tls_cert,
            tls_key,
        } = &self.tls;
        let Some(ca) = tls_ca else { return Ok(None) };
        let identity = match (tls_cert, tls_key) {
            (Some(certificate), Some(key)) => Some((read(certificate)?, read(key)?)),
            (_, _) => None,
        };
        let ca = read(ca)?;
        Ok(Some(ClientTls {
            ca,
            identity,
            server_name: None,
        }))
    }
}

/// Why nobody answered, and what to do.
pub(crate) fn unreachable(address: &Address, error: &ConnectError) -> String {
    let mut kind = None;
    let mut cause = error.source();
    let mut last = error.to_string();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            kind = Some(error.kind());
        }
        last = error.to_string();
        cause = error.source();
    }
    let advice = match (address, kind) {
        (Address::Socket(_), Some(ErrorKind::PermissionDenied)) => "run this as root",
        (Address::Socket(_), Some(ErrorKind::NotFound)) => {
            "is `gorgetd` running? `--socket` names another place to look for it"
        }
        (Address::Socket(_), _) => "is `gorgetd` running?",
        (Address::Tcp(_), _) => {
            "is `gorgetd` running, and does it `listen` there? With `tls`, `--tls-ca`, `--tls-cert` \
             and `--tls-key` are needed"
        }
    };
    format!("cannot reach the agent at `{address}`: {last}; {advice}")
}
