// SPDX-License-Identifier: Apache-2.0
//! Who a container is that was announced before its runtime lists it: by a hook, by NRI, or by the
//! kernel, which saw it get its root directory.
//!
//! The directory of the bundle says whose container it is. containerd is asked, and Docker's file read,
//! exactly as for a container that they report ([`crate::watch`]), so that both reports are the same.
//! Of others, the manager's annotations say what is known.

use crate::bundle::{self, BundleError};
use crate::cgroup::{CgroupError, Kernel};
use crate::hook::Starting;
use crate::places::CONTAINERD;
use crate::{Config, Kind, Started, containerd};
use gorget_model::Container;
use serde::Deserialize as _;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Where containerd keeps the bundles of runc's containers, below its state directory.
const TASKS: &str = "io.containerd.runtime.v2.task";
/// Where containerd keeps its state, in the order of [`CONTAINERD`].
const STATES: [&str; 5] = [
    "/run/containerd",
    "/run/k3s/containerd",
    "/var/snap/microk8s/common/run/containerd",
    "/run/k0s/containerd",
    "/run/docker/containerd/daemon",
];
/// Where Podman and CRI-O keep bundles, each in a directory named after the container.
const STORAGES: [&str; 2] = [
    "/run/containers/storage/overlay-containers",
    "/var/lib/containers/storage/overlay-containers",
];
/// In [`STORAGES`], below the container's directory.
const USERDATA: &str = "userdata";
/// Files that hold the first process's number, in a bundle of containerd, CRI-O and Podman.
const PID_FILES: [&str; 3] = ["init.pid", "pidfile", "conmon.pid"];
const LARGEST_PID_FILE: u64 = 64;

/// A container that is about to run its first program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announced {
    /// As its runtime will report it.
    pub started: Started,
    /// Where its root directory is until it is the first process's root.
    pub root: Option<PathBuf>,
    /// Why it is known by its annotations only, although a manager knows more.
    pub incomplete: Option<String>,
}

/// It is not known which container was announced.
#[derive(Debug, thiserror::Error)]
pub enum IdentifyError {
    /// Its cgroup cannot be found or must not be used.
    #[error(transparent)]
    Cgroup(#[from] NoCgroup),
    /// Its bundle cannot be read.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// Its first process is gone.
    #[error("container `{id}` has ended already")]
    Gone {
        /// Its id.
        id: String,
    },
    /// There is no bundle of that name.
    #[error("no runtime keeps a container `{id}` where bundles are looked for")]
    Unknown {
        /// Its id.
        id: String,
    },
}

/// A container's cgroup cannot be found or must not be used.
#[derive(Debug, thiserror::Error)]
#[error("the cgroup of the container")]
pub struct NoCgroup(#[source] CgroupError);

/// Finds out who a container is.
///
/// # Errors
///
/// When it has no cgroup of its own, or has ended.
pub async fn identify(config: &Config, starting: Starting) -> Result<Announced, IdentifyError> {
    let Starting {
        id,
        pid,
        bundle,
        root,
        annotations,
    } = starting;
    let kernel = Kernel {
        proc: &config.proc,
        root: &config.cgroup_root,
    };
    let cgroup = kernel.cgroup_of(pid, &id).map_err(NoCgroup)?;
    let Some(cgroup) = cgroup else {
        return Err(IdentifyError::Gone { id });
    };
    let (container, incomplete) = match containerd_of(&bundle, named_containerd(config)) {
        None => (annotated(id, annotations), None),
        Some((socket, namespace)) => match containerd::identify(&socket, &namespace, &id).await {
            Ok(container) => (container, None),
            Err(reason) => (annotated(id, annotations), Some(reason)),
        },
    };
    let started = Started {
        container,
        pid,
        cgroup,
        already_running: false,
    };
    Ok(Announced {
        started,
        root,
        incomplete,
    })
}

/// The container whose first process, which has not executed its program yet, is `pid`; `None` when
/// the process is in no container that is known here.
///
/// # Errors
///
/// When its bundle cannot be read.
pub fn of_process(config: &Config, pid: u32) -> Result<Option<Starting>, BundleError> {
    let file = config.proc.join(pid.to_string()).join("cgroup");
    let Ok(text) = fs::read_to_string(file) else {
        return Ok(None);
    };
    let path = text.lines().find_map(|line| line.strip_prefix("0::"));
    let found = path.and_then(|path| {
        ids(path).find_map(|id| bundle_of(Path::new("/"), id).map(|bundle| (id, bundle)))
    });
    found
        .map(|(id, bundle)| described(id, pid, bundle))
        .transpose()
}

/// The container `id`, whose first process has not executed its program yet.
///
/// # Errors
///
/// When it has no bundle in a known place, or that cannot be read.
pub fn of_id(id: &str, pid: u32) -> Result<Starting, IdentifyError> {
    let unknown = || IdentifyError::Unknown { id: id.to_owned() };
    let bundle = bundle_of(Path::new("/"), id).ok_or_else(unknown)?;
    let pid = match pid {
        0 => pid_of(&bundle).ok_or_else(|| IdentifyError::Gone { id: id.to_owned() })?,
        pid => pid,
    };
    Ok(described(id, pid, bundle)?)
}

fn described(id: &str, pid: u32, bundle: PathBuf) -> Result<Starting, BundleError> {
    let config = bundle::Config::read(&bundle)?;
    Ok(Starting {
        id: id.to_owned(),
        pid,
        root: config.root(&bundle),
        annotations: config.annotations,
        bundle,
    })
}

fn pid_of(bundle: &Path) -> Option<u32> {
    PID_FILES.into_iter().find_map(|name| {
        let file = fs::File::open(bundle.join(name)).ok()?;
        let bytes = bundle::read(file, LARGEST_PID_FILE, name).ok()?;
        std::str::from_utf8(&bytes).ok()?.trim().parse().ok()
    })
}

/// What the container in a cgroup may be called, outermost first: each name on the path, without
/// `.scope`, and what is after each `-` in it.
fn ids(cgroup: &str) -> impl Iterator<Item = &str> {
    cgroup.split('/').flat_map(|name| {
        let name = name.strip_suffix(".scope").unwrap_or(name);
        let parts = name
            .match_indices('-')
            .filter_map(|(at, _)| name.get(at + 1..));
        std::iter::once(name)
            .chain(parts)
            .filter(|id| !id.is_empty() && !id.starts_with('.'))
    })
}

/// The directory of the bundle of a container, looked for below `top`.
fn bundle_of(top: &Path, id: &str) -> Option<PathBuf> {
    let below = |directory: &str| top.join(directory.trim_start_matches('/'));
    let namespaces = STATES.into_iter().flat_map(|state| {
        let entries = fs::read_dir(below(state).join(TASKS)).ok();
        entries
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
    });
    let containerd = namespaces.map(|namespace| namespace.join(id));
    let others = STORAGES
        .into_iter()
        .map(|storage| below(storage).join(id).join(USERDATA));
    containerd
        .chain(others)
        .find(|bundle| bundle.join(bundle::CONFIG).is_file())
}

/// The socket of the containerd that has made a bundle, and its namespace.
fn containerd_of(bundle: &Path, named: Option<&Path>) -> Option<(PathBuf, String)> {
    let mut upwards = bundle.ancestors().skip(1);
    let namespace = upwards.next()?.file_name()?.to_str()?.to_owned();
    let tasks = upwards.next()?;
    if tasks.file_name()? != TASKS {
        return None;
    }
    let state = upwards.next()?;
    // Docker links `/var/run` to `/run`.
    let is_it = |known: &str| {
        state == Path::new(known) || state == Path::new("/var").join(known.trim_start_matches('/'))
    };
    let known = STATES.into_iter().position(is_it);
    let socket = known.and_then(|at| CONTAINERD.get(at));
    let socket = socket.map(|socket| Path::new("/").join(socket));
    Some((socket.or_else(|| named.map(Path::to_owned))?, namespace))
}

/// The containerd that the configuration names.
fn named_containerd(config: &Config) -> Option<&Path> {
    let is_it = |kind| kind == Kind::Containerd;
    let mut named = config.runtimes.iter().filter(|choice| is_it(choice.kind));
    named.find_map(|choice| choice.socket.as_deref())
}

/// A container of which the annotations are all that is known: those of the CRI, of CRI-O, of
/// nerdctl.
fn annotated(id: String, annotations: BTreeMap<String, String>) -> Container {
    let first = |keys: &[&str]| {
        let mut values = keys.iter().filter_map(|key| annotations.get(*key));
        values.find(|value| !value.is_empty()).cloned()
    };
    let name = first(&[
        "io.kubernetes.container.name",
        "io.kubernetes.cri.container-name",
        "nerdctl/name",
        "io.kubernetes.cri-o.Name",
    ]);
    let image = first(&[
        "io.kubernetes.cri-o.ImageName",
        "io.kubernetes.cri.image-name",
    ]);
    let namespace = first(&[
        "io.kubernetes.pod.namespace",
        "io.kubernetes.cri.sandbox-namespace",
        "kubearmor.io/namespace",
    ]);
    let pod = first(&["io.kubernetes.pod.name", "io.kubernetes.cri.sandbox-name"]);
    // CRI-O keeps the labels as one annotation.
    let labels = annotations
        .get("io.kubernetes.cri-o.Labels")
        .map(String::as_str);
    let labels = labels.and_then(|text| {
        let mut json = serde_json::Deserializer::from_str(text);
        BTreeMap::<String, String>::deserialize(&mut json).ok()
    });
    let mut all = annotations;
    all.extend(labels.unwrap_or_default());
    Container {
        name: name.unwrap_or_else(|| id.clone()),
        id,
        image: image.unwrap_or_default(),
        namespace,
        pod,
        labels: all,
        owner: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ids_that_a_cgroup_may_name_come_outermost_first() {
        let of = |path| ids(path).collect::<Vec<_>>();
        assert_eq!(
            of("/system.slice/docker-4f2a.scope/init.scope"),
            ["system.slice", "docker-4f2a", "4f2a", "init"]
        );
        assert_eq!(
            of("/kubepods-x.slice/cri-containerd-4f2a.scope").last(),
            Some(&"4f2a")
        );
        assert_eq!(of("/default/my-web"), ["default", "my-web", "web"]);
        assert_eq!(of("/../.."), [""; 0]);
    }

    #[test]
    fn a_bundle_is_found_in_every_namespace_and_storage() {
        let top = tempfile::tempdir().unwrap();
        let make = |bundle: &str| {
            let bundle = top.path().join(bundle);
            fs::create_dir_all(&bundle).unwrap();
            fs::write(bundle.join("config.json"), "{}").unwrap();
            bundle
        };
        let docker = make("run/containerd/io.containerd.runtime.v2.task/moby/4f2a");
        let podman = make("var/lib/containers/storage/overlay-containers/77/userdata");
        assert_eq!(bundle_of(top.path(), "4f2a"), Some(docker));
        assert_eq!(bundle_of(top.path(), "77"), Some(podman));
        assert_eq!(bundle_of(top.path(), "moby"), None);
    }

    #[test]
    fn a_bundle_says_which_containerd_has_made_it() {
        let named = Some(Path::new("/other.sock"));
        let of = |bundle: &str| {
            containerd_of(Path::new(bundle), named)
                .map(|(socket, namespace)| format!("{} {namespace}", socket.display()))
        };
        let tasks = "io.containerd.runtime.v2.task";
        for (bundle, found) in [
            (
                "/run/containerd/TASKS/moby/x",
                "/run/containerd/containerd.sock moby",
            ),
            (
                "/run/k3s/containerd/TASKS/k8s.io/x",
                "/run/k3s/containerd/containerd.sock k8s.io",
            ),
            (
                "/var/run/docker/containerd/daemon/TASKS/moby/x",
                "/run/docker/containerd/containerd.sock moby",
            ),
            ("/elsewhere/TASKS/default/x", "/other.sock default"),
        ] {
            assert_eq!(of(&bundle.replace("TASKS", tasks)).as_deref(), Some(found));
        }
        assert_eq!(
            of("/run/containers/storage/overlay-containers/x/userdata"),
            None
        );
        assert_eq!(of("/"), None);
    }

    #[test]
    fn annotations_of_cri_o_give_name_pod_and_labels() {
        let annotations = [
            ("io.kubernetes.container.name", "web"),
            ("io.kubernetes.cri-o.ImageName", "shop:1"),
            ("io.kubernetes.pod.name", "pod-1"),
            ("io.kubernetes.pod.namespace", "prod"),
            ("io.kubernetes.cri-o.Labels", r#"{"app":"web"}"#),
        ];
        let annotations = annotations.map(|(k, v)| (k.to_owned(), v.to_owned()));
        let container = annotated("77".to_owned(), annotations.into());
        assert_eq!(container.name, "web");
        assert_eq!(container.namespace.as_deref(), Some("prod"));
        assert_eq!(container.pod.as_deref(), Some("pod-1"));
        assert_eq!(container.labels["app"], "web");
        assert_eq!(annotated("77".to_owned(), BTreeMap::new()).name, "77");
    }
}
