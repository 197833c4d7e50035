// SPDX-License-Identifier: Apache-2.0
//! Where an agent answers, as people write it: the path of a socket, or a host and a port.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Error, Identity};

/// As on the other side (`service`).
const KEEPALIVE: Duration = Duration::from_secs(20);
const KEEPALIVE_ANSWER: Duration = Duration::from_secs(10);

/// Where an agent answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A socket of this machine.
    Socket(PathBuf),
    /// A host and a port.
    Tcp(String),
}

/// A text that is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is neither the path of a socket, such as `/run/gorget/gorget.sock`, nor a host and a port, \
     such as `node-1:32767`"
)]
pub struct AddressError(String);

/// Who the client is and whom it believes. Everything is PEM.
#[derive(Clone)]
pub struct ClientTls {
    /// The authority of the agent's certificate.
    pub ca: Vec<u8>,
    /// The client's own certificate and its key.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
    /// What the agent's certificate must be for; the host that is asked when nothing is said.
    pub server_name: Option<String>,
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientTls")
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let path = text.strip_prefix("unix:").unwrap_or(text);
        if path.starts_with('/') {
            return Ok(Self::Socket(path.into()));
        }
        // COMPAT: KubeArmor's clients take `:32767` for this machine.
        let (host, port) = match text.rsplit_once(':') {
            Some(("", port)) => ("localhost", port),
            Some((host, port)) => (host, port),
            None => ("", ""),
        };
        let is_host = |c: char| c.is_ascii_alphanumeric() || "-.:[]_".contains(c);
        if host.is_empty() || !host.chars().all(is_host) || port.parse::<u16>().is_err() {
            return Err(AddressError(text.to_owned()));
        }
        Ok(Self::Tcp(format!("{host}:{port}")))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => path.display().fmt(f),
            Self::Tcp(address) => f.write_str(address),
        }
    }
}

impl Address {
    pub(crate) fn endpoint(&self, tls: Option<&ClientTls>) -> Result<Endpoint, Error> {
        let address = match (self, tls) {
            (Self::Socket(path), _) => {
                return Endpoint::from_shared(format!("unix:{}", path.display()));
            }
            (Self::Tcp(address), _) => address,
        };
        let Some(ClientTls {
            ca,
            identity,
            server_name,
        }) = tls
        else {
            return Ok(watched(Endpoint::from_shared(format!("http://{address}"))?));
        };
        let mut config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca));
        if let Some((certificate, key)) = identity {
            config = config.identity(Identity::from_pem(certificate, key));
        }
        if let Some(name) = server_name {
            config = config.domain_name(name);
        }
        watched(Endpoint::from_shared(format!("https://{address}"))?).tls_config(config)
    }
}

/// A machine that is gone without a word is noticed.
fn watched(endpoint: Endpoint) -> Endpoint {
    endpoint
        .connect_timeout(KEEPALIVE_ANSWER)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_ANSWER)
        .keep_alive_while_idle(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_paths_and_everything_else_has_a_port() {
        let read = |text: &str| text.parse::<Address>().map(|address| address.to_string());
        for path in ["/run/a.sock", "unix:/run/a.sock"] {
            assert_eq!(read(path).unwrap(), "/run/a.sock");
            assert!(matches!(path.parse(), Ok(Address::Socket(_))));
        }
        assert_eq!(read("node-1:32767").unwrap(), "node-1:32767");
        assert_eq!(read(":32767").unwrap(), "localhost:32767");
        assert_eq!(read("[::1]:32767").unwrap(), "[::1]:32767");
        for bad in [
            "",
            "node",
            "node:",
            "node:99999",
            "a/b:1",
            "run/a.sock",
            "a b:1",
        ] {
            let error = read(bad).unwrap_err();
            assert!(error.to_string().contains(&format!("`{bad}`")), "{error}");
        }
    }
}
