// SPDX-License-Identifier: Apache-2.0
//! Where runtimes listen, and which of them are on this machine.
//!
//! A runtime is on the machine when the directory of its socket is there, whether or not it listens
//! now: that directory outlives a runtime that is stopped, as its containers do, so a list of all
//! containers that were made without it would not be complete. Podman has no process that containers
//! depend on, and the directory is there whether or not anybody uses it: its socket counts.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// How a runtime is talked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// containerd's own interface: containerd, Docker, nerdctl, Kubernetes with containerd.
    Containerd,
    /// Podman's interface, of root and of other users.
    Podman,
    /// Kubernetes' runtime interface: CRI-O.
    Cri,
}

/// By who installed it: itself, k3s and RKE2, `MicroK8s`, k0s, and Docker when it runs a containerd
/// of its own.
pub(crate) const CONTAINERD: [&str; 5] = [
    "run/containerd/containerd.sock",
    "run/k3s/containerd/containerd.sock",
    "var/snap/microk8s/common/run/containerd.sock",
    "run/k0s/containerd.sock",
    "run/docker/containerd/containerd.sock",
];
const PODMAN: [&str; 1] = ["run/podman/podman.sock"];
const CRI: [&str; 1] = ["run/crio/crio.sock"];
/// Directories of users who are logged in or linger, named by uid.
const USERS: &str = "run/user";
/// Below the directory of a user.
const PODMAN_OF_USER: &str = "podman/podman.sock";

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Containerd, Self::Podman, Self::Cri];

    /// As people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Containerd => "containerd",
            Self::Podman => "podman",
            Self::Cri => "cri-o",
        }
    }

    fn well_known(self) -> &'static [&'static str] {
        match self {
            Self::Containerd => &CONTAINERD,
            Self::Podman => &PODMAN,
            Self::Cri => &CRI,
        }
    }
}

/// A runtime that is to be watched.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Choice {
    /// How it is talked to.
    pub kind: Kind,
    /// Where; without it, everywhere it usually listens.
    pub socket: Option<PathBuf>,
}

impl Choice {
    /// Wherever it usually listens.
    pub fn anywhere(kind: Kind) -> Self {
        Self { kind, socket: None }
    }

    /// On this socket only.
    pub fn at(kind: Kind, socket: impl Into<PathBuf>) -> Self {
        let socket = Some(socket.into());
        Self { kind, socket }
    }
}

/// One runtime and its socket.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) kind: Kind,
    pub(crate) socket: PathBuf,
    /// Whose it is, when that is not root: such a user may say anything.
    pub(crate) user: Option<u32>,
}

/// What is on the machine, and what to look at to learn of more.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) places: BTreeSet<Place>,
    /// Directories where a place, or a socket, would appear.
    pub(crate) directories: BTreeSet<PathBuf>,
}

/// Looks for the runtimes. Sockets that are named count whether or not they exist.
pub(crate) fn find(choices: &[Choice], root: &Path) -> Found {
    let mut found = Found::default();
    for choice in choices {
        match &choice.socket {
            Some(socket) => found.named(choice.kind, socket.clone()),
            None => found.well_known(choice.kind, root),
        }
    }
    found
}

impl Found {
    fn named(&mut self, kind: Kind, socket: PathBuf) {
        self.look_at_the_directory_of(&socket);
        let user = user_of(&socket);
        self.places.insert(Place { kind, socket, user });
    }

    fn well_known(&mut self, kind: Kind, root: &Path) {
        for socket in kind.well_known() {
            self.candidate(kind, root.join(socket), None);
        }
        if kind == Kind::Podman {
            let users = root.join(USERS);
            for user in uids(&users) {
                let socket = users.join(user.to_string()).join(PODMAN_OF_USER);
                self.candidate(kind, socket, Some(user).filter(|uid| *uid != 0));
            }
            self.look_at_the_directory_of(&users.join("uid"));
        }
    }

    fn candidate(&mut self, kind: Kind, socket: PathBuf, user: Option<u32>) {
        self.look_at_the_directory_of(&socket);
        let is_there = match kind {
            Kind::Containerd | Kind::Cri => socket.parent().is_some_and(Path::is_dir),
            Kind::Podman => socket.exists(),
        };
        // Two names of one directory are one runtime.
        let real = socket.parent().and_then(|dir| fs::canonicalize(dir).ok());
        if is_there {
            let socket = match (real, socket.file_name()) {
                (Some(dir), Some(name)) => dir.join(name),
                (None, _) | (_, None) => socket,
            };
            self.places.insert(Place { kind, socket, user });
        }
    }

    /// Of that which exists: what appears, appears there first.
    fn look_at_the_directory_of(&mut self, path: &Path) {
        let existing = path.ancestors().skip(1).find(|dir| dir.is_dir());
        self.directories.extend(existing.map(Path::to_owned));
    }
}

/// A named socket below the directory of a user is that user's.
fn user_of(socket: &Path) -> Option<u32> {
    let below = socket.strip_prefix(Path::new("/").join(USERS)).ok()?;
    let uid = below.components().next()?.as_os_str().to_str()?;
    uid.parse().ok().filter(|uid| *uid != 0)
}

fn uids(users: &Path) -> Vec<u32> {
    let entries = fs::read_dir(users).into_iter().flatten();
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn auto(root: &Path) -> Found {
        find(&Kind::ALL.map(Choice::anywhere), root)
    }

    fn touch(path: &Path) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }

    fn sockets(found: &Found, root: &Path) -> Vec<(Kind, String, Option<u32>)> {
        let below = |place: &Place| {
            let path = place.socket.strip_prefix(root.canonicalize().unwrap());
            (place.kind, path.unwrap().display().to_string(), place.user)
        };
        found.places.iter().map(below).collect()
    }

    #[test]
    fn nothing_is_there_and_the_directories_where_something_would_come_are_looked_at() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("run")).unwrap();
        let found = auto(root.path());
        assert!(found.places.is_empty());
        let expected = [root.path().to_owned(), root.path().join("run")];
        assert_eq!(found.directories, expected.into());
    }

    #[test]
    fn a_containerd_that_is_stopped_counts_and_so_do_the_ones_that_others_brought() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("run/containerd")).unwrap();
        touch(&root.path().join("run/k3s/containerd/containerd.sock"));
        let found = auto(root.path());
        let both = [
            "run/containerd/containerd.sock",
            "run/k3s/containerd/containerd.sock",
        ];
        assert_eq!(
            sockets(&found, root.path()),
            both.map(|path| (Kind::Containerd, path.to_owned(), None))
        );
        assert!(
            found
                .directories
                .contains(&root.path().join("run/containerd"))
        );
    }

    #[test]
    fn podmans_of_users_are_found_and_belong_to_them() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("run/podman")).unwrap();
        touch(&root.path().join("run/user/1000/podman/podman.sock"));
        fs::create_dir_all(root.path().join("run/user/1001")).unwrap();
        let found = auto(root.path());
        let expected = "run/user/1000/podman/podman.sock".to_owned();
        assert_eq!(
            sockets(&found, root.path()),
            [(Kind::Podman, expected, Some(1000))]
        );
        for looked_at in ["run/user", "run/user/1001", "run/podman"] {
            let path = root.path().join(looked_at);
            assert!(found.directories.contains(&path), "{looked_at}");
        }
    }

    #[test]
    fn two_names_of_one_socket_are_one_runtime() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("run/k3s/containerd")).unwrap();
        symlink("k3s/containerd", root.path().join("run/containerd")).unwrap();
        assert_eq!(auto(root.path()).places.len(), 1);
    }

    #[test]
    fn a_named_socket_counts_without_being_there() {
        let choices = [Choice::at(Kind::Podman, "/run/user/7/podman/x.sock")];
        let found = find(&choices, Path::new("/"));
        let place = found.places.first().unwrap();
        assert_eq!(place.user, Some(7));
        assert_eq!(place.socket, Path::new("/run/user/7/podman/x.sock"));
    }
}
