// SPDX-License-Identifier: Apache-2.0
//! Each thing that is looked at, and what its presence or absence means.
//!
//! Remedies are for whoever runs the machine and has not seen Gorget before: a command, or a line and
//! the file that it goes into.

use super::facts::{Facts, Found, RuntimeKind, Trying};
use super::judge::{Check, Need, Section, Status, has_apparmor};
use gorget_telemetry::tried::{Feature, Outcome};
use std::collections::BTreeSet;

/// The first Linux that has all that the programs are made of.
const OLDEST: (u32, u32) = (5, 17);
const ARCHITECTURES: [&str; 2] = ["x86_64", "aarch64"];
/// Without these the agent's programs cannot be loaded at all.
const TO_RUN: [&str; 5] = [
    "CONFIG_BPF_SYSCALL",
    "CONFIG_BPF_JIT",
    "CONFIG_BPF_EVENTS",
    "CONFIG_CGROUP_BPF",
    "CONFIG_DEBUG_INFO_BTF",
];
/// Without these nothing can be denied.
const TO_ENFORCE: [&str; 2] = ["CONFIG_SECURITY", "CONFIG_BPF_LSM"];

const AUDIT_ONLY: &str = "nothing is denied, policies only report";
const NOT_AT_ALL: &str = "the agent cannot load its programs";
const OTHER_KERNEL: &str = "use a kernel with it, such as that of Debian 12 or Ubuntu 22.04 (HWE) \
                            and later";

/// Everything, in the order in which it is shown.
pub(crate) fn all(facts: &Facts) -> Vec<Check> {
    let mut checks = vec![
        version(facts),
        architecture(facts),
        configuration(facts),
        type_information(facts),
        lockdown(facts),
    ];
    checks.extend(features(facts));
    checks.extend([
        bpf(facts),
        attaching(facts),
        apparmor(facts),
        selinux(facts),
        seccomp(facts),
        ima(facts),
    ]);
    checks.extend([
        cgroups(facts),
        bpffs(facts),
        securityfs(facts),
        tracefs(facts),
    ]);
    checks.extend(runtimes(facts));
    checks.extend(hooks(facts));
    checks
}

fn version(facts: &Facts) -> Check {
    let check = Check::new(Section::Kernel, "Linux version", Need::Run);
    let release = &facts.kernel.release;
    let (major, minor) = OLDEST;
    let old = parsed(release).map(|version| version < OLDEST);
    match (old, &facts.tried) {
        // Distributions bring features to older versions: what was tried counts.
        (_, Trying::Done(_)) => {
            check.supported(format!("{release}; what it can do was tried, see below"))
        }
        (Some(false), Trying::Not(_)) => {
            check.supported(format!("{release}; {major}.{minor} or newer is needed"))
        }
        (Some(true), Trying::Not(_)) => check
            .missing(format!("{release}; {major}.{minor} or newer is needed"))
            .lost(NOT_AT_ALL)
            .remedy(format!("run Linux {major}.{minor} or newer")),
        (None, Trying::Not(_)) => check.unknown(format!("{release} is no version that is known")),
    }
}

/// `6.1` of `6.1.0-50-cloud-amd64`.
fn parsed(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn architecture(facts: &Facts) -> Check {
    let check = Check::new(Section::Kernel, "Processor", Need::Run);
    let machine = facts.kernel.machine.as_str();
    if ARCHITECTURES.contains(&machine) {
        check.supported(machine)
    } else {
        check
            .missing(machine)
            .lost(NOT_AT_ALL)
            .remedy(format!("use one of {}", ARCHITECTURES.join(", ")))
    }
}

fn configuration(facts: &Facts) -> Check {
    let check = Check::new(Section::Kernel, "Configuration", Need::Run);
    let config = match &facts.kernel.config {
        Found::Is(config) => config,
        Found::Absent => {
            return Check {
                need: Need::Other,
                ..check.unknown("there is no file that says how this kernel was built")
            };
        }
        Found::Refused(why) => {
            return Check {
                need: Need::Other,
                ..check.unknown(why)
            };
        }
    };
    let unset = |names: &[&str]| -> Vec<String> {
        let set = |name: &str| config.options.get(name).is_some_and(|value| value != "n");
        let unset = names.iter().filter(|name| !set(name));
        unset.map(|name| (*name).to_owned()).collect()
    };
    let (to_run, to_enforce) = (unset(&TO_RUN), unset(&TO_ENFORCE));
    let file = &config.file;
    if !to_run.is_empty() {
        check
            .missing(format!("without {} ({file})", to_run.join(", ")))
            .lost(NOT_AT_ALL)
            .remedy(OTHER_KERNEL)
    } else if !to_enforce.is_empty() {
        let check = Check {
            need: Need::Enforce,
            ..check
        };
        check
            .missing(format!("without {} ({file})", to_enforce.join(", ")))
            .lost(AUDIT_ONLY)
            .remedy(OTHER_KERNEL)
    } else {
        let count = TO_RUN.len() + TO_ENFORCE.len();
        check.supported(format!("all {count} options that matter are set ({file})"))
    }
}

fn type_information(facts: &Facts) -> Check {
    let check = Check::new(Section::Kernel, "Type information", Need::Run);
    let path = "/sys/kernel/btf/vmlinux";
    match &facts.btf {
        Found::Is(()) => check.supported(path),
        Found::Absent => check
            .missing(format!("there is no {path}"))
            .lost(NOT_AT_ALL)
            .remedy(
                "use a kernel built with CONFIG_DEBUG_INFO_BTF=y, as Debian's and Ubuntu's are",
            ),
        Found::Refused(why) => check.unknown(why),
    }
}

fn lockdown(facts: &Facts) -> Check {
    let check = Check::new(Section::Kernel, "Lockdown", Need::Run);
    match &facts.lockdown {
        Found::Is(level) if level == "confidentiality" => check
            .missing("confidentiality: programs may not read the kernel's memory")
            .lost("the agent's programs are refused: they read there which file is meant")
            .remedy(
                "start the kernel with `lockdown=integrity`, or without `lockdown=` (in \
                 /etc/default/grub, GRUB_CMDLINE_LINUX; then `update-grub` and reboot)",
            ),
        Found::Is(level) => check.supported(format!("{level}, which does not matter here")),
        Found::Absent => check.supported("none: the module for it is not active"),
        Found::Refused(why) => check.unknown(why),
    }
}

fn features(facts: &Facts) -> Vec<Check> {
    match &facts.tried {
        Trying::Done(tried) => {
            let features = tried.features.iter();
            let release = &facts.kernel.release;
            features.map(|tried| feature(tried, release)).collect()
        }
        Trying::Not(why) => {
            let name = "ring buffer, bpf_loop, task storage and others";
            let check = Check::new(Section::Features, name, Need::Run);
            vec![check.unknown(format!("not tried: {why}"))]
        }
    }
}

fn feature(feature: &Feature, release: &str) -> Check {
    let Feature {
        name,
        since,
        used_for,
        only_to_enforce,
        outcome,
    } = feature;
    let need = match only_to_enforce {
        true => Need::Enforce,
        false => Need::Run,
    };
    let check = Check::new(Section::Features, name.clone(), need);
    let lost = match only_to_enforce {
        true => AUDIT_ONLY,
        false => NOT_AT_ALL,
    };
    match outcome {
        Outcome::Works => check.supported(format!("for {used_for}")),
        // It has the version, and not the feature: another version would not help.
        Outcome::Lacking if parsed(since).is_some_and(|first| parsed(release) >= Some(first)) => {
            check
                .missing(format!("for {used_for}: this kernel does not take it"))
                .lost(lost)
                .remedy(format!(
                    "Linux {since} and newer can have it: use a kernel that was built with it, and \
                     look for what keeps root from loading programs"
                ))
        }
        Outcome::Lacking => check
            .missing(format!("for {used_for}: this kernel does not have it"))
            .lost(lost)
            .remedy(format!("run Linux {since} or newer")),
        Outcome::Refused(why) => check
            .missing(format!("for {used_for}: the kernel refuses it: {why}"))
            .lost(lost)
            .remedy(
                "look for what keeps root from loading programs: a container, a service manager's \
                 restrictions, a security module",
            ),
        Outcome::NotTried(why) => check.unknown(format!("for {used_for}: not tried: {why}")),
        Outcome::Unknown => check.unknown(format!("for {used_for}: nothing was said about it")),
    }
}

fn bpf(facts: &Facts) -> Check {
    let check = Check::new(Section::Modules, "BPF", Need::Enforce);
    let lost = match has_apparmor(facts) {
        true => {
            "AppArmor enforces instead, for containers that are started in a profile of Gorget's"
        }
        false => AUDIT_ONLY,
    };
    match &facts.modules {
        Found::Is(modules) if modules.iter().any(|module| module == "bpf") => {
            check.supported(format!("active, among {}", modules.join(", ")))
        }
        Found::Is(modules) => check
            .missing(format!("not active; active are {}", modules.join(", ")))
            .lost(lost)
            .remedy(to_activate(facts, modules)),
        Found::Absent => check
            .missing("not known: there is no /sys/kernel/security/lsm")
            .lost(AUDIT_ONLY)
            .remedy("mount securityfs: `mount -t securityfs securityfs /sys/kernel/security`"),
        Found::Refused(why) => check.unknown(why),
    }
}

/// The parameter that makes `bpf` active beside those that are.
fn to_activate(facts: &Facts, modules: &[String]) -> String {
    let config = facts.kernel.config.value();
    let built = config.and_then(|config| config.options.get("CONFIG_BPF_LSM"));
    if built.is_some_and(|value| value == "n") {
        return OTHER_KERNEL.to_owned();
    }
    // Always active, and not for this list.
    let others = modules.iter().filter(|module| *module != "capability");
    let mut list: Vec<_> = others.map(String::as_str).collect();
    list.push("bpf");
    let list = list.join(",");
    let doing = match facts.kernel.lsm_parameter {
        Some(_) => "change `lsm=` on the kernel's command line to",
        None => "add to the kernel's command line",
    };
    format!(
        "{doing} `lsm={list}` (in /etc/default/grub, GRUB_CMDLINE_LINUX; then `update-grub` and \
         reboot)"
    )
}

fn attaching(facts: &Facts) -> Check {
    let check = Check::new(Section::Modules, "A program at a hook", Need::Enforce);
    match &facts.tried {
        Trying::Not(why) => check.unknown(format!("not tried: {why}")),
        Trying::Done(tried) => match &tried.attach {
            Outcome::Works => check.supported("one that lets everything pass was attached"),
            // Then something above is missing already.
            Outcome::NotTried(why) => Check {
                need: Need::Other,
                ..check.unknown(format!("not tried: {why}"))
            },
            outcome @ (Outcome::Lacking | Outcome::Refused(_)) => {
                let why = match outcome {
                    Outcome::Refused(why) => why.as_str(),
                    Outcome::Lacking | Outcome::Works | Outcome::NotTried(_) | Outcome::Unknown => {
                        "the kernel does not have it"
                    }
                };
                check
                    .missing(format!("refused: {why}"))
                    .lost(AUDIT_ONLY)
                    .remedy("on aarch64, run Linux 6.4 or newer; else look into the kernel's log")
            }
            Outcome::Unknown => check.unknown("nothing was said about it"),
        },
    }
}

fn apparmor(facts: &Facts) -> Check {
    let check = Check::new(Section::Modules, "AppArmor", Need::Other);
    let bpf = bpf(facts).status == Status::Supported;
    let active = facts.modules.value();
    let active = active.is_some_and(|modules| modules.iter().any(|module| module == "apparmor"));
    let parser = facts.apparmor.parser.as_deref();
    match (active, &facts.apparmor.enabled, parser) {
        (true, Found::Is(true), Some(parser)) if bpf => {
            check.supported(format!("active ({parser}); not needed beside BPF"))
        }
        (true, Found::Is(true), Some(parser)) => {
            check.supported(format!("active, and {parser} is there: it can enforce"))
        }
        (_, _, _) if bpf => check.unneeded("not used where BPF is active"),
        (true, Found::Is(true), None) => check
            .degraded("active, but there is no apparmor_parser")
            .lost("AppArmor cannot be used where BPF is missing")
            .remedy("install the package `apparmor`"),
        (true, _, _) => check.degraded("switched off"),
        (false, _, _) => check.unneeded("not active"),
    }
}

fn selinux(facts: &Facts) -> Check {
    let check = Check::new(Section::Modules, "SELinux", Need::Other);
    match &facts.selinux {
        Found::Is(true) => check.supported("enforcing; stays in force, Gorget does not use it"),
        Found::Is(false) => check.supported("permissive; Gorget does not use it"),
        Found::Absent => check.unneeded("not active; Gorget does not use it"),
        Found::Refused(why) => check.unknown(why),
    }
}

fn seccomp(facts: &Facts) -> Check {
    let check = Check::new(Section::Modules, "seccomp", Need::Other);
    match &facts.seccomp {
        Found::Is(_) => check.supported("there; containers' profiles stay in force beside Gorget"),
        Found::Absent => check.unneeded("not there; Gorget does not use it"),
        Found::Refused(why) => check.unknown(why),
    }
}

fn ima(facts: &Facts) -> Check {
    let check = Check::new(Section::Modules, "IMA", Need::Other);
    match &facts.ima {
        Found::Is(()) => check.supported("there; hashes programs where `enableIMA` is set"),
        Found::Absent => check.unneeded("not there; `enableIMA` has no effect"),
        Found::Refused(why) => check.unknown(why),
    }
}

fn cgroups(facts: &Facts) -> Check {
    let check = Check::new(Section::FileSystems, "Control groups", Need::Run);
    let mounts = &facts.mounts;
    let remedy = "start the kernel with `systemd.unified_cgroup_hierarchy=1` (in \
                  /etc/default/grub, GRUB_CMDLINE_LINUX; then `update-grub` and reboot)";
    match &facts.unified {
        Found::Is(()) => check.supported("version 2 at /sys/fs/cgroup"),
        Found::Refused(why) => check.unknown(why),
        Found::Absent => {
            let found = match &mounts.cgroup2 {
                Some(place) if mounts.cgroup1 => {
                    format!("version 1, and version 2 only aside, at {place}")
                }
                Some(place) => format!("version 2 at {place}, and not at /sys/fs/cgroup"),
                None if mounts.cgroup1 => "version 1 only".to_owned(),
                None => "none are mounted".to_owned(),
            };
            check
                .missing(found)
                .lost("the agent cannot tell which container a process belongs to")
                .remedy(remedy)
        }
    }
}

fn bpffs(facts: &Facts) -> Check {
    let check = Check::new(Section::FileSystems, "bpffs", Need::Other);
    match &facts.mounts.bpffs {
        Some(place) => check.supported(format!("mounted at {place}")),
        None => check.supported("not mounted; the agent mounts it at /sys/fs/bpf"),
    }
}

fn securityfs(facts: &Facts) -> Check {
    let check = Check::new(Section::FileSystems, "securityfs", Need::Other);
    match (&facts.mounts.securityfs, &facts.modules) {
        (Some(place), _) => check.supported(format!("mounted at {place}")),
        (None, Found::Is(_)) => check.supported("there"),
        (None, Found::Absent | Found::Refused(_)) => check
            .degraded("not mounted")
            .lost("it cannot be told which security modules are active")
            .remedy("`mount -t securityfs securityfs /sys/kernel/security`"),
    }
}

fn tracefs(facts: &Facts) -> Check {
    let check = Check::new(Section::FileSystems, "tracefs", Need::Other);
    match &facts.mounts.tracefs {
        Some(place) => check.supported(format!("mounted at {place}; not used by Gorget")),
        None => check.unneeded("not mounted; not used by Gorget"),
    }
}

fn runtimes(facts: &Facts) -> Vec<Check> {
    if facts.runtimes.is_empty() {
        let check = Check::new(Section::Containers, "Container runtimes", Need::Other);
        return vec![check.unneeded(
            "none is here; policies for the host work, and a runtime that comes later is noticed",
        )];
    }
    let checks = facts.runtimes.iter().map(|runtime| {
        let check = Check::new(Section::Containers, runtime.kind.name(), Need::Other);
        let socket = &runtime.socket;
        match &runtime.version {
            Found::Is(version) => check.supported(format!("{version} at {socket}")),
            Found::Absent => check.unknown(format!("at {socket}")),
            Found::Refused(why) => check.unknown(format!(
                "at {socket}, which does not say its version: {why}"
            )),
        }
    });
    checks.collect()
}

/// Runtimes that are here, each once.
fn kinds(facts: &Facts) -> BTreeSet<RuntimeKind> {
    facts.runtimes.iter().map(|runtime| runtime.kind).collect()
}

/// Whether a container's first program can be made to wait, of each runtime.
fn hooks(facts: &Facts) -> Vec<Check> {
    let checks = kinds(facts).into_iter().map(|kind| {
        let name = format!("{}'s hook", kind.name());
        let check = Check::new(Section::Containers, name, Need::Other);
        let command = format!("`sudo gorget hook install {}`", kind.argument());
        let installed = match kind {
            RuntimeKind::Podman | RuntimeKind::Crio => facts.hooks.directory,
            RuntimeKind::Docker | RuntimeKind::Containerd => facts.hooks.wrapped.contains(&kind),
        };
        let nri = match kind {
            RuntimeKind::Containerd | RuntimeKind::Crio => facts.hooks.nri.as_deref(),
            RuntimeKind::Docker | RuntimeKind::Podman => None,
        };
        match (installed, nri, facts.hooks.obstacles.get(&kind)) {
            (true, _, _) => check.supported("installed: new containers wait for their rules"),
            (false, Some(socket), _) => check.supported(format!(
                "pods wait for their rules, by NRI at {socket}; others do after {command}"
            )),
            (false, None, None) => check.supported(format!(
                "possible: {command} makes new containers wait for their rules"
            )),
            (false, None, Some(obstacle)) => check
                .degraded(format!("not by itself: {obstacle}"))
                .lost("a container's first program may run before its rules are in force")
                .remedy(format!("{command} says what to do by hand")),
        }
    });
    checks.collect()
}

/// Commands for runtimes that do not wait yet.
pub(crate) fn hooks_to_install(facts: &Facts) -> Vec<String> {
    let waits = |kind: &RuntimeKind| match kind {
        RuntimeKind::Podman | RuntimeKind::Crio => facts.hooks.directory,
        RuntimeKind::Docker | RuntimeKind::Containerd => facts.hooks.wrapped.contains(kind),
    };
    let open = kinds(facts).into_iter().filter(|kind| !waits(kind));
    let lines = open.map(|kind| {
        format!(
            "have {} wait until a new container's rules are in force: `sudo gorget hook install {}`",
            kind.name(),
            kind.argument()
        )
    });
    lines.collect()
}
