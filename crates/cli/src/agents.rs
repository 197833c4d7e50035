// SPDX-License-Identifier: Apache-2.0
//! Which agents a command asks, and how they are reached.

use anyhow::{Context as _, Result, bail};
use clap::Args;
use gorget_telemetry::{Address, ClientTls, ConnectError, DEFAULT_SOCKET};
use std::error::Error;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::PathBuf;

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
    /// Those that are named, or the one of this machine.
    pub(crate) fn addresses(&self) -> Vec<Address> {
        match (&self.socket, self.addresses.as_slice()) {
            (Some(socket), _) => vec![Address::Socket(socket.clone())],
            (None, []) => vec![Address::Socket(DEFAULT_SOCKET.into())],
            (None, addresses) => addresses.to_vec(),
        }
    }

    /// The one that is named, or the one of this machine.
    pub(crate) fn address(&self) -> Result<Address> {
        let mut addresses = self.addresses();
        match (addresses.pop(), addresses.is_empty()) {
            (Some(address), true) => Ok(address),
            (_, _) => bail!("this command asks one agent: name one `--agent`"),
        }
    }

    /// The certificates, read.
    pub(crate) fn tls(&self) -> Result<Option<ClientTls>> {
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
