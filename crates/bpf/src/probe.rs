// SPDX-License-Identifier: Apache-2.0
//! What this machine must offer before the programs can be loaded.
//!
//! Looks at files only and changes nothing. Whether a program really loads is found out by loading
//! it; this is for saying beforehand, in words, what is missing and how to get it.

use std::fs;
use std::path::Path;

/// Whether a requirement is met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Support {
    /// It is, with what was found.
    Met(String),
    /// It is not.
    Missing {
        /// What was found instead.
        reason: String,
        /// What the operator can do.
        remedy: &'static str,
    },
}

/// One thing that enforcement needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// What.
    pub name: &'static str,
    /// Whether it is there.
    pub support: Support,
}

/// Checks every requirement below `root`, which is `/` but for tests.
pub fn probe(root: &Path) -> Vec<Requirement> {
    vec![
        Requirement {
            name: "BPF LSM",
            support: bpf_lsm(root),
        },
        Requirement {
            name: "kernel type information",
            support: present(
                root,
                "sys/kernel/btf/vmlinux",
                "use a kernel built with CONFIG_DEBUG_INFO_BTF=y, as Debian's and Ubuntu's are",
            ),
        },
        Requirement {
            name: "cgroup v2",
            support: present(
                root,
                "sys/fs/cgroup/cgroup.controllers",
                "boot with `systemd.unified_cgroup_hierarchy=1`; cgroup v1 is not supported",
            ),
        },
    ]
}

fn bpf_lsm(root: &Path) -> Support {
    let remedy = "add `bpf` to the list of the `lsm=` kernel parameter (keep the others, for \
                  example `lsm=landlock,lockdown,yama,apparmor,bpf`) and reboot";
    let path = root.join("sys/kernel/security/lsm");
    match fs::read_to_string(&path) {
        Ok(list) if list.trim().split(',').any(|name| name == "bpf") => {
            Support::Met(list.trim().to_owned())
        }
        Ok(list) => Support::Missing {
            reason: format!("active security modules are `{}`", list.trim()),
            remedy,
        },
        Err(error) => Support::Missing {
            reason: format!("cannot read `{}`: {error}", path.display()),
            remedy: "mount securityfs (`mount -t securityfs securityfs /sys/kernel/security`), or \
                     use a kernel with CONFIG_BPF_LSM=y",
        },
    }
}

fn present(root: &Path, file: &str, remedy: &'static str) -> Support {
    let path = root.join(file);
    match fs::metadata(&path) {
        Ok(_) => Support::Met(format!("/{file}")),
        Err(error) => Support::Missing {
            reason: format!("cannot find `{}`: {error}", path.display()),
            remedy,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(lsm: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for dir in ["sys/kernel/security", "sys/kernel/btf", "sys/fs/cgroup"] {
            fs::create_dir_all(root.path().join(dir)).unwrap();
        }
        fs::write(root.path().join("sys/kernel/security/lsm"), lsm).unwrap();
        root
    }

    #[test]
    fn bpf_among_the_active_modules_is_enough() {
        let root = machine("lockdown,capability,bpf\n");
        assert_eq!(
            probe(root.path())[0].support,
            Support::Met("lockdown,capability,bpf".to_owned())
        );
    }

    #[test]
    fn a_module_whose_name_contains_bpf_is_not() {
        let root = machine("capability,notbpf");
        assert!(matches!(
            &probe(root.path())[0].support,
            Support::Missing { reason, .. } if reason.contains("notbpf")
        ));
    }

    #[test]
    fn what_is_missing_is_named_with_a_remedy() {
        let root = machine("bpf");
        for requirement in &probe(root.path())[1..] {
            assert!(
                matches!(requirement.support, Support::Missing { .. }),
                "{requirement:?}"
            );
        }
    }
}
