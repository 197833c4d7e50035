// SPDX-License-Identifier: Apache-2.0
//! The TCP port, which is closed unless configured.
//!
//! Whoever changes policies must be known: over TCP that takes certificates. Without them only this
//! machine may connect, and only to read; that it may change policies as well, as KubeArmor's
//! `karmor vm policy` does, has to be asked for by name, because then every user of the machine can.

use gorget_telemetry::{ListenError, Tcp, Tls};
use serde::Deserialize;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// `tls` in the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct TlsFiles {
    /// The authority of clients' certificates.
    ca: PathBuf,
    cert: PathBuf,
    key: PathBuf,
}

/// What is served over TCP, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listen {
    address: SocketAddr,
    tls: Option<TlsFiles>,
    /// Policies can be changed over it.
    pub(crate) policies: bool,
}

/// The port for those who only want to know whether the agent lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HealthPort {
    pub(crate) address: SocketAddr,
    /// It was asked for, and not only KubeArmor's.
    pub(crate) is_wanted: bool,
}

/// COMPAT: KubeArmor's port for health.
const HEALTH_PORT: u16 = 32_766;

impl HealthPort {
    /// Where there is a TCP port, there is this one, unless configured otherwise. Nothing but health is
    /// told on it, so it takes no certificates.
    pub(crate) fn from_spec(
        spec: Option<&str>,
        listen: Option<&Listen>,
    ) -> Result<Option<Self>, ListenSpecError> {
        match spec {
            Some("none") => Ok(None),
            Some(text) => {
                let address = text.parse();
                let address =
                    address.map_err(|_syntax| ListenSpecError::Health(text.to_owned()))?;
                Ok(Some(Self {
                    address,
                    is_wanted: true,
                }))
            }
            None => Ok(listen.map(|listen| Self {
                address: SocketAddr::new(listen.address.ip(), HEALTH_PORT),
                is_wanted: false,
            })),
        }
    }
}

/// The settings contradict each other.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenSpecError {
    #[error("`listen`: `{0}` is not an address and a port, such as `127.0.0.1:32767`")]
    Address(String),
    #[error(
        "`listen`: `{0}` can be reached from other machines, which needs `tls` with `ca`, `cert` and `key`"
    )]
    Open(SocketAddr),
    #[error(
        "`healthListen`: `{0}` is neither `none` nor an address and a port, such as `127.0.0.1:32766`"
    )]
    Health(String),
    #[error("`{0}` is of no use without `listen`")]
    Nothing(&'static str),
    #[error(
        "`plainPolicyService` is for a port without `tls`: with it policies can be changed anyway"
    )]
    NotPlain,
}

/// The port cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("`tls.{field}`: cannot read `{}`", .path.display())]
    Read {
        field: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("`tls.{field}`: there is no {wanted} in PEM form in `{}`", .path.display())]
    Content {
        field: &'static str,
        wanted: &'static str,
        path: PathBuf,
    },
    #[error("opening the TCP port (`listen`)")]
    Listen(#[from] ListenError),
}

impl Listen {
    pub(crate) fn from_spec(
        listen: Option<String>,
        tls: Option<TlsFiles>,
        plain_policy_service: bool,
    ) -> Result<Option<Self>, ListenSpecError> {
        let Some(listen) = listen else {
            return match (tls, plain_policy_service) {
                (Some(_), _) => Err(ListenSpecError::Nothing("tls")),
                (None, true) => Err(ListenSpecError::Nothing("plainPolicyService")),
                (None, false) => Ok(None),
            };
        };
        let address: Result<SocketAddr, _> = listen.parse();
        let address = address.map_err(|_syntax| ListenSpecError::Address(listen))?;
        match &tls {
            Some(_) if plain_policy_service => return Err(ListenSpecError::NotPlain),
            None if !address.ip().is_loopback() => return Err(ListenSpecError::Open(address)),
            Some(_) | None => {}
        }
        Ok(Some(Self {
            address,
            policies: tls.is_some() || plain_policy_service,
            tls,
        }))
    }

    /// What an operator should know about it; a warning when there is one.
    pub(crate) fn said(&self) -> Result<String, String> {
        let address = self.address;
        match (&self.tls, self.policies) {
            (Some(_), _) => Ok(format!(
                "the feed and policies are at `{address}` for clients with a certificate"
            )),
            (None, false) => Ok(format!("the feed is at `{address}` for this machine")),
            (None, true) => Err(format!(
                "every user of this machine can change policies at `{address}` (`plainPolicyService`)"
            )),
        }
    }

    /// Opens the port.
    pub(crate) async fn open(&self) -> Result<Tcp, OpenError> {
        let tls = self.tls.as_ref().map(TlsFiles::read).transpose()?;
        Ok(Tcp::bind(self.address, tls).await?)
    }
}

impl TlsFiles {
    fn read(&self) -> Result<Tls, OpenError> {
        let Self { ca, cert, key } = self;
        Ok(Tls {
            ca: pem("ca", ca, "CERTIFICATE")?,
            certificate: pem("cert", cert, "CERTIFICATE")?,
            key: pem("key", key, "PRIVATE KEY")?,
        })
    }
}

/// The file, if it has what is wanted somewhere.
fn pem(field: &'static str, path: &Path, wanted: &'static str) -> Result<Vec<u8>, OpenError> {
    let text = fs::read(path).map_err(|source| OpenError::Read {
        field,
        path: path.to_owned(),
        source,
    })?;
    let end = format!("{wanted}-----");
    let found = String::from_utf8_lossy(&text)
        .lines()
        .any(|line| line.starts_with("-----BEGIN ") && line.trim_end().ends_with(&end));
    match found {
        true => Ok(text),
        false => Err(OpenError::Content {
            field,
            wanted,
            path: path.to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(dir: &Path) -> TlsFiles {
        TlsFiles {
            ca: dir.join("ca.crt"),
            cert: dir.join("server.crt"),
            key: dir.join("server.key"),
        }
    }

    fn listen(address: &str, tls: bool, plain: bool) -> Result<Option<Listen>, String> {
        let tls = tls.then(|| files(Path::new("/none")));
        Listen::from_spec(Some(address.to_owned()), tls, plain).map_err(|error| error.to_string())
    }

    #[test]
    fn the_port_is_closed_unless_configured() {
        assert_eq!(Listen::from_spec(None, None, false).unwrap(), None);
        let tls = files(Path::new("/none"));
        assert!(Listen::from_spec(None, Some(tls), false).is_err());
        assert!(Listen::from_spec(None, None, true).is_err());
    }

    #[test]
    fn without_certificates_this_machine_may_read_and_changing_takes_a_word() {
        let feed = listen("127.0.0.1:32767", false, false).unwrap().unwrap();
        assert!(!feed.policies && feed.said().is_ok());
        let plain = listen("[::1]:32767", false, true).unwrap().unwrap();
        assert!(plain.policies && plain.said().is_err());
    }

    #[test]
    fn a_port_that_others_can_reach_needs_certificates() {
        for address in ["0.0.0.0:32767", "[::]:32767", "192.0.2.1:32767"] {
            for plain in [false, true] {
                let error = listen(address, false, plain).unwrap_err();
                assert!(error.contains("needs `tls`"), "{error}");
            }
            assert!(listen(address, true, false).unwrap().unwrap().policies);
        }
        assert!(listen("0.0.0.0:32767", true, true).is_err());
    }

    #[test]
    fn health_has_kubearmors_port_beside_the_feeds_unless_configured() {
        let port = |spec, listen: Option<&Listen>| HealthPort::from_spec(spec, listen);
        let feed = listen("127.0.0.1:5000", false, false).unwrap().unwrap();
        let beside = port(None, Some(&feed)).unwrap().unwrap();
        assert_eq!(beside.address.to_string(), "127.0.0.1:32766");
        assert_eq!(port(None, None).unwrap(), None);
        assert_eq!(port(Some("none"), Some(&feed)).unwrap(), None);
        let alone = port(Some("[::1]:1"), None).unwrap().unwrap();
        assert!(alone.is_wanted && alone.address.port() == 1);
        let error = port(Some("32766"), None).unwrap_err().to_string();
        assert!(error.contains("`healthListen`: `32766`"), "{error}");
    }

    #[test]
    fn what_is_no_address_is_named() {
        for bad in ["", "32767", ":32767", "localhost:32767", "127.0.0.1"] {
            let error = listen(bad, false, false).unwrap_err();
            assert!(error.contains(&format!("`{bad}`")), "{error}");
        }
    }

    #[tokio::test]
    async fn a_file_that_is_missing_or_something_else_is_named_with_its_field() {
        let dir = tempfile::tempdir().unwrap();
        let tls = files(dir.path());
        let address = Some("127.0.0.1:0".to_owned());
        let listen = Listen::from_spec(address, Some(tls), false)
            .unwrap()
            .unwrap();
        let open = async || listen.open().await.unwrap_err().to_string();
        let error = open().await;
        assert!(
            error.contains("`tls.ca`") && error.contains("ca.crt"),
            "{error}"
        );
        let certificate = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";
        fs::write(dir.path().join("ca.crt"), certificate).unwrap();
        fs::write(dir.path().join("server.crt"), certificate).unwrap();
        fs::write(dir.path().join("server.key"), certificate).unwrap();
        let error = open().await;
        assert!(error.contains("no PRIVATE KEY"), "{error}");
        let key = "-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n";
        fs::write(dir.path().join("server.key"), key).unwrap();
        let error = open().await;
        assert!(error.contains("`listen`"), "{error}");
    }
}
