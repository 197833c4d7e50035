// SPDX-License-Identifier: Apache-2.0
//! The programs of a cluster: built from Go modules, kept in the cache.
//!
//! `xtask/cluster/go.mod` names the versions, `go.sum` what they must contain. A program is built when
//! the cache has none of these versions; that takes minutes, once. etcd and the API server are taken
//! from `KUBEBUILDER_ASSETS`, where other projects' tests keep them, when that is set.

use crate::go;
use anyhow::{Context as _, Result, bail};
use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

const MODULE: &str = "xtask/cluster";
const VERSIONS: &str = include_str!("../../cluster/go.mod");
const SUMS: &str = include_str!("../../cluster/go.sum");

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Programs {
    pub(super) etcd: PathBuf,
    pub(super) api_server: PathBuf,
    pub(super) controller_manager: PathBuf,
    pub(super) scheduler: PathBuf,
    pub(super) kubelet: PathBuf,
}

struct Program {
    name: &'static str,
    package: &'static str,
    /// Found in `KUBEBUILDER_ASSETS`.
    is_asset: bool,
    /// On two processors with nothing else to do, when those before it have been built.
    duration: &'static str,
}

const ETCD: Program = Program {
    name: "etcd",
    package: "go.etcd.io/etcd/server/v3",
    is_asset: true,
    duration: "about 2 min",
};
const API_SERVER: Program = Program {
    name: "kube-apiserver",
    package: "k8s.io/kubernetes/cmd/kube-apiserver",
    is_asset: true,
    duration: "about 7 min",
};
const CONTROLLER_MANAGER: Program = Program {
    name: "kube-controller-manager",
    package: "k8s.io/kubernetes/cmd/kube-controller-manager",
    is_asset: false,
    duration: "about 1 min",
};
const SCHEDULER: Program = Program {
    name: "kube-scheduler",
    package: "k8s.io/kubernetes/cmd/kube-scheduler",
    is_asset: false,
    duration: "about 10 s",
};
const KUBELET: Program = Program {
    name: "kubelet",
    package: "k8s.io/kubernetes/cmd/kubelet",
    is_asset: false,
    duration: "about 2 min",
};

/// All programs, built if need be.
pub(super) fn find_all() -> Result<Programs> {
    let assets = env::var_os("KUBEBUILDER_ASSETS").filter(|directory| !directory.is_empty());
    let find = |program| find_one(program, assets.as_deref());
    Ok(Programs {
        etcd: find(&ETCD)?,
        api_server: find(&API_SERVER)?,
        kubelet: find(&KUBELET)?,
        controller_manager: find(&CONTROLLER_MANAGER)?,
        scheduler: find(&SCHEDULER)?,
    })
}

fn find_one(program: &Program, assets: Option<&OsStr>) -> Result<PathBuf> {
    if let Some(directory) = assets.filter(|_| program.is_asset) {
        let file = Path::new(directory).join(program.name);
        if !file.is_file() {
            bail!(
                "`KUBEBUILDER_ASSETS` is set, and there is no `{}`",
                file.display()
            );
        }
        return Ok(file);
    }
    go::program(&go::Program {
        name: program.name,
        package: program.package,
        module: MODULE,
        versions: VERSIONS,
        sums: SUMS,
        link_flags: &link_flags()?,
        duration: program.duration,
    })
}

/// No symbols, and the release: without it the components take themselves for a development version.
fn link_flags() -> Result<String> {
    let version = release(VERSIONS)?;
    let package = "k8s.io/component-base/version";
    let mut numbers = version.trim_start_matches('v').split('.');
    let (major, minor) = (numbers.next(), numbers.next());
    Ok(format!(
        "-s -w -X {package}.gitVersion={version} -X {package}.gitMajor={} -X {package}.gitMinor={}",
        major.unwrap_or_default(),
        minor.unwrap_or_default()
    ))
}

/// The release of Kubernetes that `go.mod` requires.
fn release(versions: &str) -> Result<&str> {
    versions
        .lines()
        .find_map(|line| {
            line.trim_start_matches("require")
                .trim()
                .strip_prefix("k8s.io/kubernetes ")
        })
        .and_then(|rest| rest.split_whitespace().next())
        .context("`xtask/cluster/go.mod` requires no `k8s.io/kubernetes`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_is_the_one_that_is_required() {
        assert_eq!(
            release("module m\n\nrequire k8s.io/kubernetes v1.2.3\n").unwrap(),
            "v1.2.3"
        );
        let block =
            "require (\n\tk8s.io/kubernetes v1.4.5 // indirect\n)\nreplace (\n\tk8s.io/api => x\n)";
        assert_eq!(release(block).unwrap(), "v1.4.5");
        assert!(release(VERSIONS).unwrap().starts_with("v1."));
        assert!(release("module m\n").is_err());
    }

    #[test]
    fn programs_that_are_missing_from_the_assets_are_named() {
        let empty = tempfile::tempdir().unwrap();
        let error = find_one(&ETCD, Some(empty.path().as_os_str())).unwrap_err();
        assert!(error.to_string().ends_with("/etcd`"), "{error}");
    }
}
