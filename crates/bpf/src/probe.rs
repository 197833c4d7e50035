// SPDX-License-Identifier: Apache-2.0
//! What this machine must offer before the programs can be loaded.
//!
//! Looks at files, and tries what the kernel can do on the smallest example there is; changes
//! nothing. Whether a program really loads is found out by loading it; this is for saying beforehand,
//! in words, what is missing and how to get it.

use crate::abi;
use libbpf_rs::{MapHandle, MapType, ProgramType};
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
        remedy: String,
    },
}

/// One thing that enforcement needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// What.
    pub name: &'static str,
    /// Whether it is there.
    pub support: Support,
    /// What auditing can do without.
    pub only_to_enforce: bool,
}

/// Something that the kernel's BPF can do, or not.
#[derive(Debug)]
pub struct Feature {
    /// What.
    pub name: &'static str,
    /// The first Linux that has it.
    pub since: &'static str,
    /// What Gorget needs it for.
    pub used_for: &'static str,
    /// What auditing can do without.
    pub only_to_enforce: bool,
    /// Whether this kernel has it, or why that could not be found out.
    pub works: libbpf_rs::Result<bool>,
}

impl Feature {
    fn new(
        name: &'static str,
        since: &'static str,
        used_for: &'static str,
        works: libbpf_rs::Result<bool>,
    ) -> Self {
        Self {
            name,
            since,
            used_for,
            only_to_enforce: name == LSM_PROGRAMS,
            works,
        }
    }
}

const LSM_PROGRAMS: &str = "programs at the hooks of security modules";

/// Tries all that the programs are made of.
pub fn features() -> Vec<Feature> {
    // Helpers cannot be tried in programs for hooks, but those for probes have the same.
    let helper = |id| ProgramType::Kprobe.is_helper_supported(id);
    vec![
        Feature::new(
            LSM_PROGRAMS,
            "5.7",
            "every decision",
            ProgramType::Lsm.is_supported(),
        ),
        Feature::new(
            "programs at kernel functions",
            "5.5",
            "alerts about names that are looked up",
            ProgramType::Tracing.is_supported(),
        ),
        Feature::new(
            "programs for the packets of a control group",
            "4.10",
            "rules for names that are looked up",
            ProgramType::CgroupSkb.is_supported(),
        ),
        Feature::new(
            "programs that are system calls",
            "5.14",
            "the self-test before anything is enforced",
            ProgramType::Syscall.is_supported(),
        ),
        Feature::new(
            "ring buffers",
            "5.8",
            "alerts",
            MapType::RingBuf.is_supported(),
        ),
        Feature::new(
            "socket storage",
            "5.2",
            "who sends a packet",
            MapType::SkStorage.is_supported(),
        ),
        Feature::new(
            "task storage",
            "5.11",
            "who a task is, memory to build paths in",
            MapType::TaskStorage.is_supported(),
        ),
        Feature::new(
            "`bpf_get_current_task_btf`",
            "5.11",
            "who a task is",
            helper(libbpf_rs::libbpf_sys::BPF_FUNC_get_current_task_btf),
        ),
        Feature::new(
            "maps with values of 32 MiB",
            "5.15",
            "10,000 rules in a workload",
            large_values(),
        ),
        Feature::new(
            "`bpf_loop`",
            "5.17",
            "paths of any depth and length",
            helper(libbpf_rs::libbpf_sys::BPF_FUNC_loop),
        ),
    ]
}

fn large_values() -> libbpf_rs::Result<bool> {
    let bytes = abi::class_bytes::ABI_BYTES_32M.0 + abi::limit::ABI_TABLE_SLACK.0;
    let options = libbpf_rs::libbpf_sys::bpf_map_create_opts {
        sz: size_of::<libbpf_rs::libbpf_sys::bpf_map_create_opts>()
            as libbpf_rs::libbpf_sys::size_t,
        ..Default::default()
    };
    match MapHandle::create(MapType::Array, Some("large"), 4, bytes, 1, &options) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == libbpf_rs::ErrorKind::TooBig => Ok(false),
        Err(error) => Err(error),
    }
}

/// Checks every requirement. Files are looked for below `root`, which is `/` but for tests.
pub fn probe(root: &Path) -> Vec<Requirement> {
    let mut requirements = files(root);
    let release = fs::read_to_string(root.join("proc/sys/kernel/osrelease")).unwrap_or_default();
    requirements.extend(
        features()
            .into_iter()
            .map(|feature| requirement(feature, release.trim())),
    );
    requirements
}

fn requirement(feature: Feature, release: &str) -> Requirement {
    let only_to_enforce = feature.only_to_enforce;
    let support = match feature.works {
        Ok(true) => Support::Met(format!("Linux {release}")),
        Ok(false) => Support::Missing {
            reason: format!(
                "Linux {release} does not have it, needed for {}",
                feature.used_for
            ),
            remedy: format!("run Linux {} or newer", feature.since),
        },
        Err(error) => Support::Missing {
            reason: format!("it cannot be tried: {error}"),
            remedy: "run as root, where programs may be loaded into the kernel".to_owned(),
        },
    };
    Requirement {
        name: feature.name,
        support,
        only_to_enforce,
    }
}

fn files(root: &Path) -> Vec<Requirement> {
    vec![
        Requirement {
            name: "BPF LSM",
            support: bpf_lsm(root),
            only_to_enforce: true,
        },
        Requirement {
            name: "kernel type information",
            support: present(
                root,
                "sys/kernel/btf/vmlinux",
                "use a kernel built with CONFIG_DEBUG_INFO_BTF=y, as Debian's and Ubuntu's are",
            ),
            only_to_enforce: false,
        },
        Requirement {
            name: "cgroup v2",
            support: present(
                root,
                "sys/fs/cgroup/cgroup.controllers",
                "boot with `systemd.unified_cgroup_hierarchy=1`; cgroup v1 is not supported",
            ),
            only_to_enforce: false,
        },
    ]
}

fn bpf_lsm(root: &Path) -> Support {
    let remedy = "add `bpf` to the list of the `lsm=` kernel parameter (keep the others, for \
                  example `lsm=landlock,lockdown,yama,apparmor,bpf`) and reboot";
    let remedy = remedy.to_owned();
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
                     use a kernel with CONFIG_BPF_LSM=y"
                .to_owned(),
        },
    }
}

fn present(root: &Path, file: &str, remedy: &str) -> Support {
    let path = root.join(file);
    match fs::metadata(&path) {
        Ok(_) => Support::Met(format!("/{file}")),
        Err(error) => Support::Missing {
            reason: format!("cannot find `{}`: {error}", path.display()),
            remedy: remedy.to_owned(),
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
            files(root.path())[0].support,
            Support::Met("lockdown,capability,bpf".to_owned())
        );
    }

    #[test]
    fn a_module_whose_name_contains_bpf_is_not() {
        let root = machine("capability,notbpf");
        assert!(matches!(
            &files(root.path())[0].support,
            Support::Missing { reason, .. } if reason.contains("notbpf")
        ));
    }

    #[test]
    fn what_is_missing_is_named_with_a_remedy() {
        let root = machine("bpf");
        for requirement in &files(root.path())[1..] {
            assert!(
                matches!(requirement.support, Support::Missing { .. }),
                "{requirement:?}"
            );
        }
    }

    #[test]
    fn what_a_kernel_lacks_is_named_with_the_first_that_has_it() {
        let lacking = Feature::new("`bpf_loop`", "5.17", "paths of any depth", Ok(false));
        let said = requirement(lacking, "5.10.0-32-cloud-amd64");
        assert_eq!(
            said.support,
            Support::Missing {
                reason:
                    "Linux 5.10.0-32-cloud-amd64 does not have it, needed for paths of any depth"
                        .to_owned(),
                remedy: "run Linux 5.17 or newer".to_owned(),
            }
        );
    }

    #[test]
    fn what_cannot_be_tried_is_not_taken_for_granted() {
        let error = libbpf_rs::Error::from_raw_os_error(1);
        let said = requirement(Feature::new("x", "5.17", "y", Err(error)), "6.1");
        assert!(matches!(said.support, Support::Missing { .. }), "{said:?}");
    }
}
