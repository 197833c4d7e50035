// SPDX-License-Identifier: Apache-2.0
//! Names, labels and images of Docker's containers, which Docker does not tell its containerd.
//!
//! Docker keeps them in `config.v2.json`, which it writes before it has containerd create a task, in a
//! directory named after the container beside the files that it mounts over `/etc/hostname` and so on:
//! so the container's own specification says where, wherever Docker keeps its data. Reading the file
//! needs no second connection, and is in time for the container's first instruction.
//!
//! Failure: what cannot be read is an error; the container is still one, named by its id.

use prost_types::Any;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// containerd's namespace for Docker's containers (dockerd's `--containerd-namespace`).
pub(super) const NAMESPACE: &str = "moby";
/// Where Docker keeps its data unless told otherwise.
const CONTAINERS: &str = "/var/lib/docker/containers";
const CONFIG: &str = "config.v2.json";
/// Larger files are not looked at. The largest fields are the environment and labels.
const MAX_BYTES: u64 = 4 << 20;
/// What Docker mounts from the directory of a container, or of the one whose network it shares.
const MOUNTED: [&str; 3] = ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf"];

/// Docker's description of a container cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("Docker's description of the container, `{}`; it is known by its id only", .path.display())]
pub(super) struct DockerError {
    path: PathBuf,
    #[source]
    source: Unusable,
}

#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error(transparent)]
    Read(#[from] io::Error),
    #[error("it has {0} bytes, the limit is {MAX_BYTES}")]
    TooLarge(u64),
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

/// What Docker knows of a container.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Description {
    /// As `docker ps` shows it.
    pub(super) name: String,
    /// As it was given to `docker run`.
    pub(super) image: String,
    pub(super) labels: BTreeMap<String, String>,
}

/// The part of `config.v2.json` that is read.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct File {
    /// With a slash in front.
    name: String,
    config: Config,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    #[serde(default)]
    image: String,
    labels: Option<BTreeMap<String, String>>,
}

/// The part of an OCI runtime specification that is read.
#[derive(Deserialize)]
struct Spec {
    #[serde(default)]
    mounts: Vec<Mount>,
}

#[derive(Deserialize)]
struct Mount {
    destination: PathBuf,
    #[serde(default)]
    source: PathBuf,
}

/// Reads what Docker knows of the container `id`, whose specification is `spec`.
pub(super) fn describe(id: &str, spec: Option<&Any>) -> Result<Description, DockerError> {
    let path = containers(spec).join(id).join(CONFIG);
    read(&path).map_err(|source| DockerError { path, source })
}

/// The directory of all containers.
fn containers(spec: Option<&Any>) -> PathBuf {
    let spec = spec.and_then(|spec| serde_json::from_slice::<Spec>(&spec.value).ok());
    let mounts = spec.map_or_else(Vec::new, |spec| spec.mounts);
    let mounted = mounts.iter().find_map(|mount| {
        let is_it = MOUNTED
            .iter()
            .any(|path| mount.destination == Path::new(path));
        is_it.then(|| mount.source.parent()?.parent()).flatten()
    });
    mounted.map_or_else(|| CONTAINERS.into(), PathBuf::from)
}

fn read(path: &Path) -> Result<Description, Unusable> {
    let bytes = fs::metadata(path)?.len();
    if bytes > MAX_BYTES {
        return Err(Unusable::TooLarge(bytes));
    }
    let File { name, config } = serde_json::from_slice(&fs::read(path)?)?;
    Ok(Description {
        name: name.trim_start_matches('/').to_owned(),
        image: config.image,
        labels: config.labels.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(mounts: &str) -> Any {
        Any {
            type_url: "types.containerd.io/opencontainers/runtime-spec/1/Spec".to_owned(),
            value: format!("{{\"ociVersion\":\"1.0.2\",\"mounts\":[{mounts}]}}").into_bytes(),
        }
    }

    #[test]
    fn the_directory_is_where_the_mounted_files_are_even_another_containers() {
        let other = r#"{"destination":"/proc","source":"proc"},
            {"destination":"/etc/hosts","source":"/data/docker/containers/ffff/hosts"}"#;
        assert_eq!(
            containers(Some(&spec(other))),
            Path::new("/data/docker/containers")
        );
        for unknown in [None, Some(spec("")), Some(spec("nonsense"))] {
            assert_eq!(containers(unknown.as_ref()), Path::new(CONTAINERS));
        }
    }

    #[test]
    fn a_description_is_read_and_a_bad_one_is_an_error_with_its_path() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(CONFIG);
        let whole =
            r#"{"ID":"4f2a","Name":"/web","Config":{"Image":"nginx:1","Labels":{"app":"x"}}}"#;
        fs::write(&path, whole).unwrap();
        let description = read(&path).unwrap();
        assert_eq!(
            (description.name.as_str(), description.image.as_str()),
            ("web", "nginx:1")
        );
        assert_eq!(description.labels["app"], "x");
        fs::write(&path, r#"{"Name":"/web","Config":{"Labels":null}}"#).unwrap();
        assert_eq!(read(&path).unwrap().labels.len(), 0);

        for bad in [
            "",
            "{",
            "[]",
            r#"{"Name":1}"#,
            r#"{"Name":"/web","Config":{"Im"#,
        ] {
            fs::write(&path, bad).unwrap();
            assert!(matches!(read(&path), Err(Unusable::Json(_))), "{bad}");
        }
        fs::File::create(&path)
            .unwrap()
            .set_len(MAX_BYTES + 1)
            .unwrap();
        assert!(matches!(read(&path), Err(Unusable::TooLarge(_))));
        let error = describe("gone", Some(&spec(""))).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("/var/lib/docker/containers/gone/config.v2.json")
        );
    }
}
