// SPDX-License-Identifier: Apache-2.0
//! What an OCI runtime writes down about a container: its state, and the `config.json` of its bundle.
//!
//! Only the parts that matter here are read, and never more than a limit: both are written by others.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The state holds the annotations, of which Kubernetes allows 256 KiB.
pub(crate) const LARGEST_STATE: u64 = 1 << 20;
/// The largest parts are environment, mounts and the seccomp profile: some 100 KiB.
pub(crate) const LARGEST_CONFIG: u64 = 4 << 20;
/// In the directory of a bundle.
pub(crate) const CONFIG: &str = "config.json";

/// A file or stream of a runtime cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// It cannot be read.
    #[error("cannot read {what}")]
    Read {
        /// Which file or stream.
        what: String,
        /// Why not.
        source: io::Error,
    },
    /// It is too large to be what it should be.
    #[error("{what} has more than {limit} bytes")]
    TooLarge {
        /// Which file or stream.
        what: String,
        /// The limit.
        limit: u64,
    },
    /// It is not what it should be.
    #[error("{what} is not as the OCI runtime specification says")]
    Content {
        /// Which file or stream.
        what: String,
        /// Where and why.
        source: serde_json::Error,
    },
}

/// A container's state, as hooks get it (OCI runtime specification, "State").
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct State {
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) status: String,
    #[serde(default)]
    pub(crate) pid: u32,
    pub(crate) bundle: PathBuf,
    #[serde(default)]
    pub(crate) annotations: BTreeMap<String, String>,
}

/// The part of `config.json` that is read.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Config {
    #[serde(default)]
    root: Option<Root>,
    #[serde(default)]
    pub(crate) annotations: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Deserialize)]
struct Root {
    path: PathBuf,
}

impl Config {
    /// Reads the one in the directory `bundle`.
    pub(crate) fn read(bundle: &Path) -> Result<Self, BundleError> {
        let path = bundle.join(CONFIG);
        let what = format!("`{}`", path.display());
        let bytes = match File::open(&path) {
            Ok(file) => read(file, LARGEST_CONFIG, &what)?,
            Err(source) => return Err(BundleError::Read { what, source }),
        };
        parse(&bytes, &what)
    }

    /// The container's root directory as the runtime sees it before it is the container's root.
    pub(crate) fn root(&self, bundle: &Path) -> Option<PathBuf> {
        self.root.as_ref().map(|root| bundle.join(&root.path))
    }
}

/// Reads to the end, unless that is too far.
pub(crate) fn read(from: impl Read, limit: u64, what: &str) -> Result<Vec<u8>, BundleError> {
    let mut bytes = Vec::new();
    let length = from.take(limit + 1).read_to_end(&mut bytes);
    let length = length.map_err(|source| BundleError::Read {
        what: what.to_owned(),
        source,
    })?;
    if u64::try_from(length).is_ok_and(|length| length > limit) {
        return Err(BundleError::TooLarge {
            what: what.to_owned(),
            limit,
        });
    }
    Ok(bytes)
}

pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T, BundleError> {
    serde_json::from_slice(bytes).map_err(|source| BundleError::Content {
        what: what.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use gorget_model::with_causes;
    use std::fs;

    #[test]
    fn the_root_of_a_bundle_is_relative_to_it_or_not() {
        let config = |text: &str| parse::<Config>(text.as_bytes(), "it").unwrap();
        let bundle = Path::new("/run/b");
        let relative = config(r#"{"root":{"path":"rootfs"},"process":{"args":["x"]}}"#);
        assert_eq!(relative.root(bundle), Some("/run/b/rootfs".into()));
        let absolute = config(r#"{"root":{"path":"/var/lib/r","readonly":true}}"#);
        assert_eq!(absolute.root(bundle), Some("/var/lib/r".into()));
        assert_eq!(config("{}").root(bundle), None);
    }

    #[test]
    fn what_is_too_large_or_malformed_or_missing_is_an_error_that_says_where() {
        let bundle = tempfile::tempdir().unwrap();
        let file = bundle.path().join(CONFIG);
        let said = || with_causes(&Config::read(bundle.path()).unwrap_err());
        assert!(said().contains("cannot read"), "{}", said());
        fs::write(&file, "{\"root\": 7}").unwrap();
        assert!(said().contains("line 1 column"), "{}", said());
        File::create(&file)
            .unwrap()
            .set_len(LARGEST_CONFIG + 1)
            .unwrap();
        assert!(said().contains("more than 4194304 bytes"), "{}", said());
    }
}
