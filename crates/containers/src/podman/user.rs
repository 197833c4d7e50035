// SPDX-License-Identifier: Apache-2.0
//! What another user's Podman may say.
//!
//! It answers as that user likes. If it could name any process, it could take a process of the host, or
//! of somebody else's container, out of the policies that are meant for it. So it may speak only for
//! processes in a user namespace that its user owns: one into which the user's own id is mapped. Only
//! the owner of that id, or root, can make such a namespace.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The whole range of ids, as the host's own namespace has it.
const ALL_IDS: u32 = u32::MAX;

/// The user's Podman named a process that is none of the user's business.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotTheirs {
    #[error(
        "process {pid} is in no user namespace of user {uid}, whose Podman says that it is its own"
    )]
    Foreign { pid: u32, uid: u32 },
    #[error("cannot read `{}`", .path.display())]
    Read { path: PathBuf, source: io::Error },
}

/// Whether Podman of the user `uid` may say that `pid` is a container of its own.
pub(super) fn may_speak_for(proc: &Path, uid: u32, pid: u32) -> Result<(), NotTheirs> {
    let path = proc.join(pid.to_string()).join("uid_map");
    let text = fs::read_to_string(&path).map_err(|source| NotTheirs::Read { path, source })?;
    match is_of(&text, uid) {
        true => Ok(()),
        false => Err(NotTheirs::Foreign { pid, uid }),
    }
}

/// Lines are: first id inside, first id outside, how many.
fn is_of(map: &str, uid: u32) -> bool {
    let ranges: Option<Vec<[u32; 3]>> = map
        .lines()
        .map(|line| {
            let numbers: Vec<u32> = line
                .split_whitespace()
                .map(str::parse)
                .collect::<Result<_, _>>()
                .ok()?;
            numbers.try_into().ok()
        })
        .collect();
    let ranges = ranges.unwrap_or_default();
    let is_the_hosts = ranges.iter().any(|[_, _, count]| *count == ALL_IDS);
    let has_the_user = |[_, outside, count]: &[u32; 3]| {
        uid.checked_sub(*outside)
            .is_some_and(|offset| offset < *count)
    };
    !is_the_hosts && ranges.iter().any(has_the_user)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_namespace_with_the_users_own_id_is_the_users() {
        let rootless = "         0       1000          1\n         1     100000      65536\n";
        assert!(is_of(rootless, 1000));
        // `--userns=keep-id`
        assert!(is_of(
            "0 100000 1000\n1000 1000 1\n1001 101000 64536\n",
            1000
        ));
        assert!(!is_of(rootless, 1001));
        assert!(!is_of("0 0 4294967295\n", 1000));
        assert!(!is_of("0 100000 65536\n", 1000));
        for nonsense in ["", "0 1000\n", "a b c\n", "0 1000 1 1\n", "0 1000 -1\n"] {
            assert!(!is_of(nonsense, 1000), "{nonsense}");
        }
    }

    #[test]
    fn a_process_that_is_gone_is_nobodys() {
        let proc = tempfile::tempdir().unwrap();
        assert!(may_speak_for(proc.path(), 1000, 7).is_err());
        fs::create_dir(proc.path().join("7")).unwrap();
        fs::write(proc.path().join("7/uid_map"), "0 0 4294967295\n").unwrap();
        let error = may_speak_for(proc.path(), 1000, 7).unwrap_err().to_string();
        assert!(error.contains("process 7") && error.contains("user 1000"));
    }
}
