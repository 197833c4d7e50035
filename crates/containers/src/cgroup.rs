// SPDX-License-Identifier: Apache-2.0
//! Finds the cgroup that holds all of a container's tasks, from the pid of its first process.
//!
//! What is found here gets a container's policies, so the rule is to refuse rather than to bind too
//! much: never the root cgroup, never a cgroup that also holds the runtime, never a path that the
//! host would read differently. Binding too little is avoided as well: a first process that moved
//! itself to a nested cgroup (systemd does) still gives the container's own.
//!
//! Paths are those of the host's cgroup namespace. In another one, as in a pod, `/proc/PID/cgroup` shows
//! them relative to this process's own cgroup, which is looked for in the tree then. A process that is gone is
//! no error. procfs and cgroupfs answer from memory, so reading them does not block in a way that
//! matters to an async caller.

use crate::Cgroup;
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// `/proc/PID/cgroup` holds a line per hierarchy, at most some twenty, each at most `PATH_MAX` long.
const MAX_READ: u64 = 128 * 1024;

/// Ids of this length are random digits, and nothing but the container's is named with them.
const NOBODY_ELSES: usize = 32;

/// More cgroups than any machine has, so that looking for one ends.
const MAX_CGROUPS: usize = 100_000;

/// `ESRCH`: how procfs answers a read when the process ended after the open.
const NO_SUCH_PROCESS: i32 = 3;

/// Why a cgroup was not found, or is not used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CgroupError {
    #[error(
        "cgroup v1 is not supported yet (no v2 hierarchy at `{root}`, the process is in `{path}`)"
    )]
    VersionOne { root: PathBuf, path: String },
    #[error("cannot read `{path}`")]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot make sense of `{path}`")]
    Malformed { path: PathBuf },
    #[error("process {pid} is in the root cgroup, which holds the whole machine")]
    Root { pid: u32 },
    #[error(
        "cgroup `{path}` is outside our cgroup namespace, and our own cgroup is not found in `{root}`: \
         the host's tree must be there, and the host's process numbers (`hostPID`)"
    )]
    Outside { path: String, root: PathBuf },
    #[error("cgroup `{path}` holds the container runtime as well")]
    Shared { path: String },
}

/// Where the kernel's answers are found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kernel<'a> {
    /// procfs.
    pub(crate) proc: &'a Path,
    /// Mount point of the v2 hierarchy.
    pub(crate) root: &'a Path,
}

impl Kernel<'_> {
    /// The cgroup of container `id`, whose first process is `pid`; `None` when the process is gone.
    pub(crate) fn cgroup_of(self, pid: u32, id: &str) -> Result<Option<Cgroup>, CgroupError> {
        let file = self.proc.join(pid.to_string()).join("cgroup");
        let Some(text) = read(&file)? else {
            return Ok(None);
        };
        // Every v2 root has this file, and no directory of v1 has.
        if !self.root.join("cgroup.controllers").exists() {
            return Err(CgroupError::VersionOne {
                root: self.root.to_owned(),
                path: version_one_path(&text),
            });
        }
        let malformed = || CgroupError::Malformed { path: file.clone() };
        let deepest = unified_path(&text).ok_or_else(malformed)?;
        let deepest = std::str::from_utf8(deepest).map_err(|_utf8| malformed())?;
        let deepest = self.of_the_host(deepest)?;
        let path = own_path(deepest.as_bytes(), id);
        let path = std::str::from_utf8(path).map_err(|_utf8| malformed())?;
        if path == "/" {
            return Err(CgroupError::Root { pid });
        }
        if self.holds_the_parent(pid, path)? {
            return Err(CgroupError::Shared {
                path: path.to_owned(),
            });
        }
        let directory = self.root.join(path.trim_start_matches('/'));
        match fs::metadata(&directory) {
            Ok(metadata) => Ok(Some(Cgroup {
                path: path.to_owned(),
                id: metadata.ino(),
            })),
            Err(error) if is_gone(&error) && !self.proc.join(pid.to_string()).exists() => Ok(None),
            Err(source) => Err(CgroupError::Read {
                path: directory,
                source,
            }),
        }
    }

    /// Whether the parent of `pid`, the runtime's shim, is in `path` or below. Then the container has
    /// no cgroup of its own.
    fn holds_the_parent(self, pid: u32, path: &str) -> Result<bool, CgroupError> {
        let Some(status) = read(&self.proc.join(pid.to_string()).join("status"))? else {
            return Ok(false);
        };
        let Some(parent) = parent_of(&status) else {
            return Ok(false);
        };
        let Some(text) = read(&self.proc.join(parent.to_string()).join("cgroup"))? else {
            return Ok(false);
        };
        let Some(of_parent) = unified_path(&text).and_then(|path| std::str::from_utf8(path).ok())
        else {
            return Ok(false);
        };
        let of_parent = self.of_the_host(of_parent)?;
        let rest = of_parent.strip_prefix(path);
        Ok(rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
    }

    /// The path in the host's cgroup namespace of one that `/proc` shows to us.
    fn of_the_host(self, path: &str) -> Result<String, CgroupError> {
        let is_outside = path.split('/').any(|component| component == "..");
        if !is_outside && !self.is_where_paths_begin()? {
            return Ok(path.to_owned());
        }
        let outside = || CgroupError::Outside {
            path: path.to_owned(),
            root: self.root.to_owned(),
        };
        let mut components = match self.own_place()? {
            Some(place) => place,
            None if is_outside => return Err(outside()),
            None => return Ok(path.to_owned()),
        };
        for component in path.split('/').filter(|component| !component.is_empty()) {
            match component {
                ".." => {
                    components.pop().ok_or_else(outside)?;
                }
                name => components.push(name.to_owned()),
            }
        }
        Ok(format!("/{}", components.join("/")))
    }

    /// Whether paths are shown to us from our own cgroup on: in a pod, or in the root of the machine.
    fn is_where_paths_begin(self) -> Result<bool, CgroupError> {
        let own = read(&self.proc.join("self/cgroup"))?;
        Ok(own.is_some_and(|text| unified_path(&text) == Some(b"/")))
    }

    /// Where this process is in the host's tree, by its number among the processes of each cgroup.
    fn own_place(self) -> Result<Option<Vec<String>>, CgroupError> {
        let link = self.proc.join("self");
        let own =
            fs::read_link(&link).map_err(|source| CgroupError::Read { path: link, source })?;
        let Some(own) = own.to_str() else {
            return Ok(None);
        };
        let mut open = vec![Vec::new()];
        let mut seen = 0;
        while let Some(place) = open.pop() {
            seen += 1;
            if seen > MAX_CGROUPS {
                return Ok(None);
            }
            let directory = place
                .iter()
                .fold(self.root.to_owned(), |path, name| path.join(name));
            // One that has just gone, or whose processes are counted by threads, is not ours.
            let processes = fs::read(directory.join("cgroup.procs")).unwrap_or_default();
            if processes
                .split(|&byte| byte == b'\n')
                .any(|pid| pid == own.as_bytes())
            {
                return Ok(Some(place));
            }
            let Ok(entries) = fs::read_dir(&directory) else {
                continue;
            };
            for entry in entries.flatten() {
                let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
                if let (true, Ok(name)) = (is_directory, entry.file_name().into_string()) {
                    let mut below = place.clone();
                    below.push(name);
                    open.push(below);
                }
            }
        }
        Ok(None)
    }
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(NO_SUCH_PROCESS)
}

/// The file's bytes; `None` when its process is gone.
fn read(path: &Path) -> Result<Option<Vec<u8>>, CgroupError> {
    let mut bytes = Vec::new();
    match fs::File::open(path).and_then(|file| file.take(MAX_READ).read_to_end(&mut bytes)) {
        Ok(_length) => Ok(Some(bytes)),
        Err(error) if is_gone(&error) => Ok(None),
        Err(source) => Err(CgroupError::Read {
            path: path.to_owned(),
            source,
        }),
    }
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n')
}

/// The path of the v2 line.
fn unified_path(text: &[u8]) -> Option<&[u8]> {
    lines(text)
        .find_map(|line| line.strip_prefix(b"0::"))
        .filter(|path| path.starts_with(b"/"))
}

/// The path in the hierarchy that systemd keeps on v1, else in the memory controller's; for people.
fn version_one_path(text: &[u8]) -> String {
    let of_hierarchy = |wanted: &str| {
        lines(text).find_map(|line| {
            let line = std::str::from_utf8(line).ok()?;
            let mut fields = line.splitn(3, ':').skip(1);
            let mut controllers = fields.next()?.split(',');
            let path = fields.next()?;
            controllers.any(|c| c == wanted).then(|| path.to_owned())
        })
    };
    of_hierarchy("name=systemd")
        .or_else(|| of_hierarchy("memory"))
        .unwrap_or_default()
}

/// The topmost ancestor that is named after the container, as every runtime does by default (`ID`,
/// `docker-ID.scope`, `cri-containerd-ID.scope`, `libpod-ID`), else the whole path. Topmost, because below it the
/// container itself may choose names.
fn own_path<'a>(deepest: &'a [u8], id: &str) -> &'a [u8] {
    let mut end = 0;
    for component in deepest.split(|byte| *byte == b'/') {
        end += component.len();
        if is_named_after(component, id.as_bytes()) {
            return deepest.get(..end).unwrap_or(deepest);
        }
        end += 1;
    }
    deepest
}

fn is_named_after(component: &[u8], id: &[u8]) -> bool {
    let name = component.strip_suffix(b".scope").unwrap_or(component);
    let is_certain = name != component || id.len() >= NOBODY_ELSES;
    name.strip_suffix(id)
        .is_some_and(|before| before.is_empty() || (is_certain && before.ends_with(b"-")))
}

fn parent_of(status: &[u8]) -> Option<u32> {
    lines(status)
        .find_map(|line| line.strip_prefix(b"PPid:"))
        .and_then(|value| std::str::from_utf8(value).ok())
        .and_then(|value| value.trim().parse().ok())
        .filter(|pid| *pid != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    const ID: &str = "4f2a";

    struct Machine {
        directory: TempDir,
    }

    impl Machine {
        fn version_two() -> Self {
            let machine = Self {
                directory: tempfile::tempdir().expect("temp dir"),
            };
            machine.write("cgroup/cgroup.controllers", "cpu memory\n");
            machine
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.directory.path().join(path);
            fs::create_dir_all(path.parent().expect("parent")).expect("create");
            fs::write(path, text).expect("write");
        }

        fn cgroup(&self, path: &str) -> u64 {
            let path = self.directory.path().join("cgroup").join(path);
            fs::create_dir_all(&path).expect("create");
            fs::metadata(path).expect("stat").ino()
        }

        fn cgroup_of(&self, pid: u32) -> Result<Option<Cgroup>, CgroupError> {
            Kernel {
                proc: &self.directory.path().join("proc"),
                root: &self.directory.path().join("cgroup"),
            }
            .cgroup_of(pid, ID)
        }
    }

    fn found(path: &str, id: u64) -> Option<Cgroup> {
        Some(Cgroup {
            path: path.to_owned(),
            id,
        })
    }

    #[test]
    fn the_cgroup_of_a_process_has_its_path_and_inode() {
        let machine = Machine::version_two();
        machine.write("proc/7/cgroup", "0::/custom/place\n");
        let inode = machine.cgroup("custom/place");
        assert_eq!(machine.cgroup_of(7).unwrap(), found("/custom/place", inode));
    }

    #[test]
    fn a_process_in_a_nested_cgroup_gives_the_containers_own() {
        let machine = Machine::version_two();
        let inode = machine.cgroup("system.slice/docker-4f2a.scope");
        machine.cgroup("system.slice/docker-4f2a.scope/init.scope/4f2a");
        machine.write(
            "proc/7/cgroup",
            "0::/system.slice/docker-4f2a.scope/init.scope/4f2a\n",
        );
        assert_eq!(
            machine.cgroup_of(7).unwrap(),
            found("/system.slice/docker-4f2a.scope", inode)
        );
    }

    #[test]
    fn a_short_id_is_not_found_inside_other_names() {
        assert_eq!(
            own_path(b"/system.slice/x-a/leaf", "a"),
            b"/system.slice/x-a/leaf"
        );
        assert_eq!(
            own_path(b"/kubepods-a.slice/leaf", "a"),
            b"/kubepods-a.slice/leaf"
        );
        assert_eq!(own_path(b"/default/a/leaf", "a"), b"/default/a");
    }

    #[test]
    fn a_long_id_is_found_behind_what_its_runtime_puts_in_front() {
        let id = "4f2a".repeat(16);
        for of_container in [
            format!("/libpod_parent/libpod-{id}"),
            format!("/user.slice/user@1000.service/user.slice/libpod-{id}.scope"),
            format!("/user/libpod-payload-{id}"),
        ] {
            let nested = format!("{of_container}/container/init.scope");
            assert_eq!(
                own_path(nested.as_bytes(), &id),
                of_container.as_bytes(),
                "{of_container}"
            );
        }
    }

    #[test]
    fn a_process_that_is_gone_is_not_an_error() {
        let machine = Machine::version_two();
        assert_eq!(machine.cgroup_of(7).unwrap(), None);
    }

    #[test]
    fn a_missing_directory_of_a_living_process_is_reported() {
        let machine = Machine::version_two();
        machine.write("proc/7/cgroup", "0::/default/4f2a\n");
        let error = machine.cgroup_of(7).unwrap_err();
        assert!(matches!(error, CgroupError::Read { .. }), "{error}");
    }

    #[test]
    fn the_root_cgroup_is_refused() {
        let machine = Machine::version_two();
        machine.write("proc/7/cgroup", "0::/\n");
        let error = machine.cgroup_of(7).unwrap_err();
        assert!(matches!(error, CgroupError::Root { pid: 7 }), "{error}");
    }

    #[test]
    fn in_a_cgroup_namespace_of_our_own_paths_begin_at_our_place_in_the_hosts_tree() {
        let machine = Machine::version_two();
        fs::create_dir_all(machine.directory.path().join("proc")).unwrap();
        std::os::unix::fs::symlink("9", machine.directory.path().join("proc/self")).unwrap();
        machine.write("cgroup/kubepods/agent/one/cgroup.procs", "1009\n9\n");
        machine.write("cgroup/kubepods/agent/cgroup.procs", "");
        let inode = machine.cgroup("kubepods/web/4f2a");
        machine.write("proc/7/cgroup", "0::/../../web/4f2a\n");
        machine.write("proc/7/status", "PPid:\t5\n");
        machine.write(
            "proc/5/cgroup",
            "0::/../../../system.slice/containerd.service\n",
        );
        assert_eq!(
            machine.cgroup_of(7).unwrap(),
            found("/kubepods/web/4f2a", inode)
        );
        // We ourselves are where paths begin.
        let inode = machine.cgroup("kubepods/agent/one");
        machine.write("proc/9/cgroup", "0::/\n");
        assert_eq!(
            machine.cgroup_of(9).unwrap(),
            found("/kubepods/agent/one", inode)
        );
        // The shim is in there, too.
        machine.write("proc/5/cgroup", "0::/../../web/4f2a/shim\n");
        let error = machine.cgroup_of(7).unwrap_err();
        assert!(matches!(error, CgroupError::Shared { .. }), "{error}");
        // More steps up than there are.
        machine.write("proc/7/cgroup", "0::/../../../../web/4f2a\n");
        let error = machine.cgroup_of(7).unwrap_err();
        assert!(matches!(error, CgroupError::Outside { .. }), "{error}");
    }

    #[test]
    fn a_path_outside_our_cgroup_namespace_is_refused_when_our_place_is_not_found() {
        let machine = Machine::version_two();
        fs::create_dir_all(machine.directory.path().join("proc")).unwrap();
        std::os::unix::fs::symlink("9", machine.directory.path().join("proc/self")).unwrap();
        machine.write("proc/7/cgroup", "0::/../../default/4f2a\n");
        let error = machine.cgroup_of(7).unwrap_err();
        assert!(matches!(error, CgroupError::Outside { .. }), "{error}");
    }

    #[test]
    fn a_cgroup_that_holds_the_runtime_is_refused() {
        let machine = Machine::version_two();
        machine.cgroup("system.slice/containerd.service");
        machine.write("proc/7/cgroup", "0::/system.slice/containerd.service\n");
        machine.write("proc/7/status", "Name:\tsh\nPPid:\t5\n");
        for of_shim in ["", "/shim"] {
            machine.write(
                "proc/5/cgroup",
                &format!("0::/system.slice/containerd.service{of_shim}\n"),
            );
            let error = machine.cgroup_of(7).unwrap_err();
            assert!(matches!(error, CgroupError::Shared { .. }), "{error}");
        }
    }

    #[test]
    fn a_shim_in_a_sibling_with_a_longer_name_is_no_obstacle() {
        let machine = Machine::version_two();
        let inode = machine.cgroup("default/4f2a");
        machine.write("proc/7/cgroup", "0::/default/4f2a\n");
        machine.write("proc/7/status", "PPid:\t5\n");
        machine.write("proc/5/cgroup", "0::/default/4f2abc\n");
        assert_eq!(machine.cgroup_of(7).unwrap(), found("/default/4f2a", inode));
    }

    #[test]
    fn version_one_is_reported_with_the_path_systemd_uses() {
        let machine = Machine {
            directory: tempfile::tempdir().expect("temp dir"),
        };
        machine.write(
            "proc/7/cgroup",
            "12:memory:/docker/4f2a\n1:name=systemd:/docker/4f2a/s\n0::/x\n",
        );
        let error = machine.cgroup_of(7).unwrap_err().to_string();
        assert!(
            error.starts_with("cgroup v1 is not supported yet"),
            "{error}"
        );
        assert!(error.contains("`/docker/4f2a/s`"), "{error}");
    }

    #[test]
    fn a_file_without_a_version_two_line_is_malformed() {
        let machine = Machine::version_two();
        for text in ["", "nonsense\n", "0::relative\n"] {
            machine.write("proc/7/cgroup", text);
            let error = machine.cgroup_of(7).unwrap_err();
            assert!(matches!(error, CgroupError::Malformed { .. }), "{error}");
        }
    }
}
