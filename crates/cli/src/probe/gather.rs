// SPDX-License-Identifier: Apache-2.0
//! Looks at the machine. Changes nothing, and takes no failure for an answer: what cannot be read is
//! said to be so.
//!
//! What only trying finds out is asked of `gorgetd --probe`, which has the means for it; this program
//! is to need none.

use super::facts::{AppArmor, Config, Facts, Found, Hooks, Kernel, Mounts, RuntimeKind, Trying};
use super::runtimes;
use crate::hook;
use flate2::read::GzDecoder;
use gorget_telemetry::tried::Tried;
use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Options of the kernel that decide something here.
pub(crate) const OPTIONS: [&str; 12] = [
    "CONFIG_BPF_SYSCALL",
    "CONFIG_BPF_JIT",
    "CONFIG_BPF_EVENTS",
    "CONFIG_CGROUP_BPF",
    "CONFIG_DEBUG_INFO_BTF",
    "CONFIG_SECURITY",
    "CONFIG_SECURITYFS",
    "CONFIG_BPF_LSM",
    "CONFIG_SECURITY_APPARMOR",
    "CONFIG_SECURITY_SELINUX",
    "CONFIG_SECCOMP_FILTER",
    "CONFIG_SECURITY_LOCKDOWN_LSM",
];

/// A kernel configuration is some 300 KiB.
const MOST_CONFIG: u64 = 16 << 20;
/// Where `apparmor_parser` may be, as the agent looks for it.
const PARSERS: [&str; 4] = [
    "sbin/apparmor_parser",
    "usr/sbin/apparmor_parser",
    "usr/bin/apparmor_parser",
    "bin/apparmor_parser",
];
/// Runtimes that have no directory of hooks.
const WRAPPED: [RuntimeKind; 2] = [RuntimeKind::Docker, RuntimeKind::Containerd];
const NRI: &str = "var/run/nri/nri.sock";
const AGENT: &str = "gorgetd";

/// Looks at the machine whose root directory is `root`, and has tried what needs it if that is wanted.
pub(crate) fn gather(root: &Path, trying: bool) -> Facts {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy().into_owned();
    let uid = rustix::process::geteuid().as_raw();
    let mounts = read(&root.join("proc/self/mounts"));
    Facts {
        host: uname.nodename().to_string_lossy().into_owned(),
        uid,
        kernel: Kernel {
            config: config(root, &release),
            lsm_parameter: read(&root.join("proc/cmdline"))
                .value()
                .and_then(|line| parameter(line, "lsm")),
            machine: uname.machine().to_string_lossy().into_owned(),
            release,
        },
        modules: read(&root.join("sys/kernel/security/lsm")).map(|text| words(&text, ',')),
        lockdown: lockdown(root),
        btf: exists(&root.join("sys/kernel/btf/vmlinux")),
        tried: match trying {
            true => try_features(uid),
            false => Trying::Not("it was not wanted (`--only-read`)".to_owned()),
        },
        mounts: mounts
            .value()
            .map_or_else(Mounts::default, |text| mounted(text)),
        unified: exists(&root.join("sys/fs/cgroup/cgroup.controllers")),
        seccomp: read(&root.join("proc/sys/kernel/seccomp/actions_avail"))
            .map(|text| words(&text, ' ')),
        apparmor: AppArmor {
            enabled: read(&root.join("sys/module/apparmor/parameters/enabled"))
                .map(|text| text.trim() == "Y"),
            parser: PARSERS
                .iter()
                .find(|path| root.join(path).is_file())
                .map(|path| format!("/{path}")),
        },
        ima: exists(&root.join("sys/kernel/security/ima")),
        selinux: read(&root.join("sys/fs/selinux/enforce")).map(|text| text.trim() == "1"),
        runtimes: runtimes::find(root),
        hooks: hooks(root),
    }
}

/// A file's text, or why there is none.
pub(crate) fn read(path: &Path) -> Found<String> {
    found(path, fs::read_to_string(path))
}

fn exists(path: &Path) -> Found<()> {
    found(path, fs::metadata(path).map(drop))
}

fn found<T>(path: &Path, outcome: io::Result<T>) -> Found<T> {
    match outcome {
        Ok(value) => Found::Is(value),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Found::Absent
        }
        Err(error) => Found::Refused(format!("cannot read `{}`: {error}", path.display())),
    }
}

fn words(text: &str, separator: char) -> Vec<String> {
    let words = text.trim().split(separator).filter(|word| !word.is_empty());
    words.map(str::to_owned).collect()
}

/// The value of a parameter on the kernel's command line: the last counts.
fn parameter(line: &str, name: &str) -> Option<String> {
    let mut values = line.split_whitespace().rev().filter_map(|word| {
        let (key, value) = word.split_once('=')?;
        (key == name).then(|| value.to_owned())
    });
    values.next()
}

/// `none [integrity] confidentiality`: the one in brackets. Without the module nothing is locked.
fn lockdown(root: &Path) -> Found<String> {
    let text = read(&root.join("sys/kernel/security/lockdown"));
    text.map(|text| {
        let chosen = text.split_whitespace().find_map(|word| {
            let word = word.strip_prefix('[')?;
            word.strip_suffix(']')
        });
        chosen.unwrap_or("unknown").to_owned()
    })
}

fn config(root: &Path, release: &str) -> Found<Config> {
    let packed = root.join("proc/config.gz");
    let plain = [
        format!("boot/config-{release}"),
        format!("lib/modules/{release}/config"),
        format!("usr/lib/modules/{release}/config"),
    ];
    let mut refused = None;
    let unpack = |path: &Path| {
        let mut text = String::new();
        let file = GzDecoder::new(File::open(path)?);
        file.take(MOST_CONFIG).read_to_string(&mut text)?;
        Ok(text)
    };
    let first = (packed.clone(), found(&packed, unpack(&packed)));
    let others = plain.iter().map(|path| root.join(path));
    let others = others.map(|path| {
        let text = read(&path);
        (path, text)
    });
    for (path, text) in [first].into_iter().chain(others) {
        match text {
            Found::Is(text) => {
                return Found::Is(Config {
                    file: path.display().to_string(),
                    options: options(&text),
                });
            }
            Found::Absent => {}
            Found::Refused(why) => refused = Some(why),
        }
    }
    refused.map_or(Found::Absent, Found::Refused)
}

/// The options that matter; those that are not mentioned are not set.
fn options(text: &str) -> BTreeMap<String, String> {
    let mut options: BTreeMap<_, _> = OPTIONS
        .into_iter()
        .map(|name| (name.to_owned(), "n".to_owned()))
        .collect();
    for line in text.lines() {
        if let Some((name, value)) = line.split_once('=')
            && let Some(known) = options.get_mut(name)
        {
            value.clone_into(known);
        }
    }
    options
}

/// Of `proc_mounts(5)`. The last of a kind counts where there are several, but for control groups,
/// where a hybrid has the second version aside.
fn mounted(text: &str) -> Mounts {
    let mut mounts = Mounts::default();
    for line in text.lines() {
        let mut fields = line.split(' ').skip(1);
        let (Some(place), Some(kind)) = (fields.next(), fields.next()) else {
            continue;
        };
        let place = Some(place.to_owned());
        match kind {
            "cgroup" => mounts.cgroup1 = true,
            "cgroup2" => mounts.cgroup2 = place,
            "bpf" => mounts.bpffs = place,
            "tracefs" => mounts.tracefs = place,
            "securityfs" => mounts.securityfs = place,
            _ => {}
        }
    }
    mounts
}

fn hooks(root: &Path) -> Hooks {
    let mut hooks = Hooks {
        program: beside(hook::PROGRAM).map(|path| path.display().to_string()),
        directory: hook::is_in_directory(root),
        nri: exists(&root.join(NRI)).value().map(|()| format!("/{NRI}")),
        ..Hooks::default()
    };
    for (name, wrapped) in hook::wrapped(root) {
        let kind = WRAPPED.into_iter().find(|kind| kind.argument() == name);
        let Some(kind) = kind else { continue };
        match wrapped {
            hook::Wrapped::Yes => hooks.wrapped.push(kind),
            hook::Wrapped::Possible => {}
            hook::Wrapped::Not(why) => {
                hooks.obstacles.insert(kind, why);
            }
        }
    }
    hooks
}

/// A program of ours: beside this one, or in `PATH`.
pub(crate) fn beside(name: &str) -> Option<PathBuf> {
    let own = env::current_exe().ok().map(|own| own.with_file_name(name));
    let path = env::var_os("PATH").unwrap_or_default();
    let in_path = env::split_paths(&path).map(|dir| dir.join(name));
    own.into_iter()
        .chain(in_path.filter(|path| path.is_absolute()))
        .find(|path| path.is_file())
}

fn try_features(uid: u32) -> Trying {
    if uid != 0 {
        return Trying::Not("only root may load programs into the kernel".to_owned());
    }
    let Some(agent) = beside(AGENT) else {
        return Trying::Not(format!(
            "`{AGENT}`, which tries it, is neither beside this program nor in PATH"
        ));
    };
    #[expect(
        clippy::disallowed_methods,
        reason = "the agent does not shell out; this is the one who asks the agent's program"
    )]
    let output = Command::new(&agent)
        .arg("--probe")
        .stdin(Stdio::null())
        .output();
    let name = agent.display();
    match output {
        Err(error) => Trying::Not(format!("`{name}` cannot be run: {error}")),
        Ok(output) => match serde_json::from_slice::<Tried>(&output.stdout) {
            Ok(tried) => Trying::Done(tried),
            Err(_) => {
                let said = String::from_utf8_lossy(&output.stderr);
                let last = said.lines().last().unwrap_or("nothing").trim().to_owned();
                Trying::Not(format!("`{name} --probe` does not answer, it says: {last}"))
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_parameter_of_a_name_counts() {
        let line = "root=/dev/vda lsm=yama,bpf quiet lsm=landlock nolsm=x";
        assert_eq!(parameter(line, "lsm").as_deref(), Some("landlock"));
        assert_eq!(parameter("quiet", "lsm"), None);
    }

    #[test]
    fn options_that_are_not_mentioned_are_not_set() {
        let options = options("CONFIG_BPF_LSM=y\n# CONFIG_SECURITY is not set\nCONFIG_OTHER=y\n");
        assert_eq!(options["CONFIG_BPF_LSM"], "y");
        assert_eq!(options["CONFIG_SECURITY"], "n");
        assert_eq!(options["CONFIG_BPF_JIT"], "n");
        assert_eq!(options.len(), OPTIONS.len());
    }

    #[test]
    fn file_systems_are_found_where_they_are_mounted() {
        let text = "cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\nnone /x\n\
                    cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\nbpf /sys/fs/bpf bpf rw 0 0\n";
        assert_eq!(
            mounted(text),
            Mounts {
                cgroup1: true,
                cgroup2: Some("/sys/fs/cgroup/unified".to_owned()),
                bpffs: Some("/sys/fs/bpf".to_owned()),
                ..Mounts::default()
            }
        );
    }

    #[test]
    fn a_machine_is_read_from_its_files() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("sys/kernel/security/lsm", "capability,bpf\n");
        write(
            "sys/kernel/security/lockdown",
            "none [integrity] confidentiality\n",
        );
        write("sys/fs/selinux/enforce", "1");
        write("usr/sbin/apparmor_parser", "");
        let facts = gather(root.path(), false);
        assert_eq!(
            facts.modules,
            Found::Is(vec!["capability".to_owned(), "bpf".to_owned()])
        );
        assert_eq!(facts.lockdown, Found::Is("integrity".to_owned()));
        assert_eq!(facts.selinux, Found::Is(true));
        assert_eq!(facts.btf, Found::Absent);
        assert_eq!(
            facts.apparmor.parser.as_deref(),
            Some("/usr/sbin/apparmor_parser")
        );
        assert_eq!(facts.runtimes, []);
    }

    #[test]
    fn a_configuration_beside_the_kernel_is_read_when_the_kernel_has_none() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(config(root.path(), "6.1"), Found::Absent);
        fs::create_dir(root.path().join("boot")).unwrap();
        fs::write(root.path().join("boot/config-6.1"), "CONFIG_BPF_LSM=y\n").unwrap();
        let config = config(root.path(), "6.1");
        assert_eq!(config.value().unwrap().options["CONFIG_BPF_LSM"], "y");
    }
}
