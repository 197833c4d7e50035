// SPDX-License-Identifier: Apache-2.0
//! Certificates as configuration files name them: one authority for both sides, a certificate and its key.
//!
//! Agents, relay and operator have the same Secret of a cluster, so that each knows the others.

use crate::address::ClientTls;
use crate::tcp::Tls;
use serde::Deserialize;
use std::fs;
use std::path::{Path, PathBuf};

/// Where certificates are.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TlsFiles {
    /// Of the authority.
    pub ca: PathBuf,
    /// The own one.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// What the other side's certificate must be for, when that is not the host that is asked.
    pub server_name: Option<String>,
}

/// A certificate cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("reading `{}`", .path.display())]
pub struct TlsFileError {
    path: PathBuf,
    source: std::io::Error,
}

impl TlsFiles {
    /// For who is connected to.
    ///
    /// # Errors
    ///
    /// When one of the files cannot be read.
    pub fn server(&self) -> Result<Tls, TlsFileError> {
        Ok(Tls {
            ca: read(&self.ca)?,
            certificate: read(&self.cert)?,
            key: read(&self.key)?,
        })
    }

    /// For who connects.
    ///
    /// # Errors
    ///
    /// When one of the files cannot be read.
    pub fn client(&self) -> Result<ClientTls, TlsFileError> {
        Ok(ClientTls {
            ca: read(&self.ca)?,
            identity: Some((read(&self.cert)?, read(&self.key)?)),
            server_name: self.server_name.clone(),
        })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsFileError> {
    fs::read(path).map_err(|source| TlsFileError {
        path: path.to_owned(),
        source,
    })
}
