// SPDX-License-Identifier: Apache-2.0
//! Every scenario of `conformance/` that a profile can express, performed by processes that AppArmor
//! confines, on a kernel without BPF LSM; and the agent with AppArmor as what enforces. Random policies
//! are compared on the host (`crates/profiles/tests/meaning`).
//!
//! AppArmor says only whether something is denied, so that is compared. Programs are started in their
//! part of the profile by an actor that is not confined, as a container runtime does it.
#![cfg(test)]
use gorget_engine::conformance::{Case, Scenario};
use gorget_engine::{PolicySet, compile, decide};
use gorget_model::network::{
    AF_INET, AF_INET6, IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_SCTP, SOCK_DCCP, SOCK_RAW,
    SOCK_SEQPACKET,
};
use gorget_model::{Access, Category, Mode, Object, Outcome, Socket, Subject, Workload};
use gorget_profiles::{Confined, Loader, Profile, profile};
use gorget_vmtest::files::{Files, below, clean, scenarios};
use gorget_vmtest::{
    Actor, Agent, Containerd, Done, Operation, alert_field, only_in_the_guest, uninstall,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;

/// Somebody who is not the actor's uid.
const SOMEBODY: u32 = 12345;

/// How many cases of `conformance/` are performed, and how many cannot be, by reason. A scenario that is
/// added changes one of these.
const PERFORMED: usize = 484;
const LEFT_OUT: [(&str, usize); 12] = [
    ("a profile is for a container", 44),
    ("arguments", 21),
    ("capabilities for which `sys_admin` stands in", 4),
    ("capabilities that the actor has no use for", 4),
    ("patterns", 3),
    ("presets", 7),
    ("protocols", 3),
    ("queries", 12),
    ("system calls", 21),
    ("terminals", 8),
    ("the kernel's own files", 12),
    ("the runtime is not confined", 2),
];

fn lowered(name: &str, set: &PolicySet, entry: Option<&str>) -> Profile {
    profile(&Confined {
        name,
        set,
        mode: Mode::Enforced,
        entry: entry.map(str::as_bytes),
        parts: &[],
        log: true,
    })
    .unwrap()
}

/// Why a case is not performed.
fn left_out(
    scenario: &Scenario,
    access: &Access,
    denied: bool,
    profile: &Profile,
) -> Option<&'static str> {
    let limited = |field: &str| profile.limits.iter().any(|limit| limit.field == field);
    if matches!(scenario.workload, Workload::Host(_)) {
        return Some("a profile is for a container");
    }
    if access.subject == Subject::Runtime {
        return Some("the runtime is not confined");
    }
    if matches!(&access.object, Object::Path(path) if is_the_kernels(path)) {
        return Some("the kernel's own files");
    }
    match access.category {
        Category::Dns => Some("queries"),
        Category::Syscall => Some("system calls"),
        Category::Device => Some("devices"),
        Category::Preset => Some("presets"),
        Category::Process if limited("rules with `allowedArgs`") => Some("arguments"),
        _ if limited("rules with `pts`") => Some("terminals"),
        Category::Network if is_another_protocol(scenario, access) => Some("protocols"),
        Category::Process | Category::File if denied && limited("pattern") => Some("patterns"),
        Category::Capability if has_stand_in(access) => {
            Some("capabilities for which `sys_admin` stands in")
        }
        Category::Capability if !has_use(access) => {
            Some("capabilities that the actor has no use for")
        }
        _ if matches!(access.object, Object::Nameless) => Some("programs without a name"),
        Category::Process | Category::File | Category::Network | Category::Capability => None,
    }
}

/// Whether the kernel is content with `sys_admin` in its place, so that nothing fails for want of it.
fn has_stand_in(access: &Access) -> bool {
    let newest = ["bpf", "perfmon", "checkpoint_restore"];
    matches!(access.object, Object::Capability(capability) if newest.contains(&capability.name()))
}

/// Whether the actor can do something that needs the capability.
fn has_use(access: &Access) -> bool {
    let used = ["chown", "mknod", "net_raw", "sys_admin", "sys_chroot"];
    matches!(access.object, Object::Capability(capability) if used.contains(&capability.name()))
}

/// Whether nobody can make such a file.
fn is_the_kernels(path: &[u8]) -> bool {
    [&b"/proc/"[..], b"/sys/", b"/dev/"]
        .iter()
        .any(|directory| path.starts_with(directory))
}

/// Whether a socket is treated otherwise than those that its family and type usually are.
fn is_another_protocol(scenario: &Scenario, access: &Access) -> bool {
    let Object::Socket(socket) = access.object else {
        return false;
    };
    let protocol = match (socket.family, socket.kind) {
        (AF_INET, SOCK_RAW) => IPPROTO_ICMP,
        (AF_INET6, SOCK_RAW) => IPPROTO_ICMPV6,
        (_, SOCK_SEQPACKET) => IPPROTO_SCTP,
        // It has no name.
        (_, SOCK_DCCP) => return true,
        _ => 0,
    };
    let usual = Access {
        object: Object::Socket(Socket { protocol, ..socket }),
        ..access.clone()
    };
    let rules = compile(&scenario.set).unwrap();
    let denied = |access| decide(&rules, access).outcome == Outcome::Block;
    denied(access) != denied(&usual)
}

/// What the actor is told to do.
fn deed(access: &Access, root: &Path) -> (Operation, String) {
    let object = match &access.object {
        Object::Path(path) => std::str::from_utf8(path).unwrap(),
        Object::Socket(socket) => {
            let numbers = format!("{} {} {}", socket.family, socket.kind, socket.protocol);
            return (Operation::Socket, numbers);
        }
        Object::Capability(capability) => {
            return (Operation::Capability, capability.name().to_owned());
        }
        other => panic!("{other:?}"),
    };
    let outside = below(root, object);
    let owner = if access.modes.owner { 0 } else { SOMEBODY };
    chown(&outside, Some(owner), None).unwrap();
    let modes = access.modes;
    let operation = match access.category {
        Category::Process => Operation::ExecWith,
        _ if modes.tree => Operation::Rmdir,
        _ if modes.write && outside.is_dir() => Operation::Chmod,
        _ if modes.write && modes.read => Operation::ReadWrite,
        _ if modes.write => Operation::Write,
        _ => Operation::Read,
    };
    (operation, object.to_owned())
}

/// Whether it was denied, by its own error where the kernel has another for that.
fn is_denied(operation: Operation, done: &Done) -> Result<bool, String> {
    match (operation, done) {
        (_, Done::Passed) => Ok(false),
        (_, Done::Denied) => Ok(true),
        (Operation::Capability, Done::Failed(why)) if why.contains("not permitted") => Ok(true),
        (Operation::Rmdir, Done::Failed(why)) if why.contains("not empty") => Ok(false),
        (Operation::Socket, Done::Failed(why))
            if why.contains("not supported") || why.contains("not available") =>
        {
            Ok(false)
        }
        (_, Done::Failed(why)) => Err(why.clone()),
    }
}

struct Place {
    loader: Loader,
    actor: Actor,
    root: std::path::PathBuf,
}

impl Place {
    /// Loading takes seconds, so only what acts is started.
    fn start_subjects(&mut self, scenario: &Scenario, whole: &Profile, cases: &[&Case]) {
        let subjects: BTreeSet<&str> = cases.iter().map(|case| image(&case.access)).collect();
        let parts = subjects
            .iter()
            .map(|subject| whole.parts.of(subject.as_bytes()));
        if parts.into_iter().any(|part| part != "kubearmor_web") {
            self.loader.put("kubearmor_web", &whole.text).unwrap();
        }
        for (number, subject) in (1..).zip(subjects) {
            let mut part = whole.parts.of(subject.as_bytes()).to_owned();
            if part == "kubearmor_web" {
                // Each begins a container of its own, as far as AppArmor can tell.
                part = format!("kubearmor_web-{number}");
                let text = lowered(&part, &scenario.set, Some(subject)).text;
                self.loader.put(&part, &text).unwrap();
            }
            assert_eq!(self.actor.start_subject_in(&part, subject), Done::Passed);
        }
    }

    /// Performs the cases of a scenario; gives those that went wrong.
    fn perform(&mut self, scenario: &Scenario, counts: &mut Counts) -> Vec<String> {
        let whole = lowered("kubearmor_web", &scenario.set, None);
        let wanted = performed(scenario, &whole, counts);
        if wanted.is_empty() {
            return Vec::new();
        }
        assert_eq!(self.actor.end_subjects(), Done::Passed);
        clean(&self.root, true);
        Files::of(wanted.iter().copied()).make(&self.root).unwrap();
        self.start_subjects(scenario, &whole, &wanted);
        let rules = compile(&scenario.set).unwrap();
        let mut failures = Vec::new();
        for case in wanted {
            let subject = image(&case.access);
            let (operation, argument) = deed(&case.access, &self.root);
            let done = self.actor.perform(subject, operation, &argument);
            let denied = decide(&rules, &case.access).outcome == Outcome::Block;
            if is_denied(operation, &done) == Ok(denied) {
                counts.performed += 1;
            } else {
                let at = format!("{}:{}", scenario.file, case.line);
                failures.push(format!("{at}: {case}, but {done:?}\n{}", whole.text));
            }
        }
        failures
    }
}

/// The cases that are performed; the others are counted.
fn performed<'a>(scenario: &'a Scenario, whole: &Profile, counts: &mut Counts) -> Vec<&'a Case> {
    let rules = compile(&scenario.set).unwrap();
    let cases = scenario.cases.iter().filter(|case| {
        let denied = decide(&rules, &case.access).outcome == Outcome::Block;
        let why = left_out(scenario, &case.access, denied, whole);
        if let Some(why) = why {
            *counts.left_out.entry(why).or_default() += 1;
        }
        why.is_none()
    });
    cases.collect()
}

fn image(access: &Access) -> &str {
    match &access.subject {
        Subject::Image(image) => std::str::from_utf8(image).unwrap(),
        Subject::Runtime => panic!("the runtime is not confined"),
    }
}

#[derive(Default)]
struct Counts {
    performed: usize,
    left_out: BTreeMap<&'static str, usize>,
}

#[test]
fn every_case_is_performed_or_left_out_for_a_reason_that_is_known() {
    let mut counts = Counts::default();
    for scenario in &scenarios() {
        let whole = lowered("kubearmor_web", &scenario.set, None);
        let performed = performed(scenario, &whole, &mut counts).len();
        counts.performed += performed;
    }
    assert_eq!(counts.performed, PERFORMED);
    assert_eq!(counts.left_out.into_iter().collect::<Vec<_>>(), LEFT_OUT);
}

#[test]
fn every_scenario_that_a_profile_can_express_is_carried_out_as_it_says() {
    only_in_the_guest();
    let loader = Loader::detect(Path::new("/")).unwrap();
    let _containerd = Containerd::start();
    let options = ["--allow-new-privs"];
    let (container, actor) = Actor::in_privileged_container("web", &[], &options);
    let mut place = Place {
        loader,
        actor,
        root: container.root(),
    };
    let (mut counts, mut failures) = (Counts::default(), Vec::new());
    for scenario in &scenarios() {
        let failed = place.perform(scenario, &mut counts);
        println!("{}: {} failed", scenario.file, failed.len());
        failed
            .iter()
            .for_each(|failure| println!("FAILED {failure}"));
        failures.extend(failed);
    }
    println!(
        "{} cases; left out: {:#?}",
        counts.performed, counts.left_out
    );
    assert!(failures.is_empty(), "{} failed", failures.len());
    assert_eq!(counts.performed, PERFORMED);
    assert_eq!(counts.left_out.into_iter().collect::<Vec<_>>(), LEFT_OUT);
}

/// A policy for a container by its name.
fn blocking(path: &str) -> String {
    format!(
        "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\n\
         metadata: {{name: by-name}}\nspec:\n  \
         selector: {{matchLabels: {{kubearmor.io/container.name: store}}}}\n  \
         file: {{matchPaths: [{{path: {path}}}]}}\n"
    )
}

#[test]
fn a_container_is_confined_from_its_start_while_policies_change_and_no_longer() {
    let _containerd = Containerd::start();
    let foreign = "/etc/apparmor.d/kubearmor_theirs";
    fs::write(foreign, "profile kubearmor_theirs {\n}\n").unwrap();
    let policies = [("p.yaml", blocking("/data/secret"))];
    let policies = [(policies[0].0, policies[0].1.as_str())];
    let mut agent = Agent::start_with("host: vm\nlsm: apparmor\n", &policies);
    let profile = "kubearmor_store";
    let loaded = || {
        let list = fs::read_to_string("/sys/kernel/security/apparmor/profiles").unwrap();
        list.lines().any(|line| line.starts_with(profile))
    };
    agent.wait_until("the profile is there before the container", loaded);
    let options = ["--apparmor-profile", profile];
    let (container, mut actor) = Actor::in_container_with("store", &[], &options);
    agent.wait_for("in force for `store`: by-name (AppArmor denies)");
    for file in ["secret", "other"] {
        fs::write(container.root().join("data").join(file), "").unwrap();
    }
    assert_eq!(actor.start_subject("/actor"), Done::Passed);
    let mut read = |path: &str| actor.perform("/actor", Operation::Read, path);
    assert_eq!(read("/data/secret"), Done::Denied);
    assert_eq!(read("/data/other"), Done::Passed);
    let alert = agent.next_alert();
    for (field, value) in [
        ("PolicyName", "by-name"),
        ("Resource", "/data/secret"),
        ("Action", "Block"),
        ("Result", "Permission denied"),
        ("ContainerName", "store"),
    ] {
        assert_eq!(alert_field(&alert, field), value, "{field} of {alert}");
    }
    agent.write_policy("p.yaml", &blocking("/data/other"));
    agent.wait_for("profile `kubearmor_store` says: ");
    agent.wait_for("in force for `store`");
    assert_eq!(read("/data/secret"), Done::Passed);
    assert_eq!(read("/data/other"), Done::Denied);
    agent.remove_policy("p.yaml");
    agent.wait_for("profile `kubearmor_store` says: nothing is denied");
    assert_eq!(read("/data/other"), Done::Passed);
    drop(container);
    agent.wait_for("profile `kubearmor_store` is removed");
    assert!(!loaded());
    assert!(Path::new(foreign).exists());
    drop(agent);
    uninstall();
}
