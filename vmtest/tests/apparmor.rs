// SPDX-License-Identifier: Apache-2.0
//! Every scenario of `conformance/` that a profile can express, performed by processes that AppArmor
//! confines, on a kernel without BPF LSM; and random policies, decided by the kernel's own reading of
//! the profile.
//!
//! AppArmor says only whether something is denied, so that is compared. Programs are started in their
//! part of the profile by an actor that is not confined, as a container runtime does it.
#![cfg(test)]
use gorget_engine::conformance::Scenario;
use gorget_engine::{PolicySet, compile, decide};
use gorget_model::{Access, Category, Mode, Object, Outcome, Subject, Workload};
use gorget_profiles::{Confined, Loader, Profile, profile};
use gorget_vmtest::files::{Files, below, clean};
use gorget_vmtest::{Actor, Containerd, Done, JOB, Operation, only_in_the_guest};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;

/// Somebody who is not the actor's uid.
const SOMEBODY: u32 = 12345;

/// How many cases of `conformance/` are performed, and how many cannot be, by reason. A scenario that is
/// added changes one of these.
const PERFORMED: usize = 0;
const LEFT_OUT: [(&str, usize); 0] = [];

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

fn scenarios() -> Vec<Scenario> {
    let mut scenarios: Vec<Scenario> = fs::read_dir(format!("{JOB}/conformance"))
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let text = fs::read_to_string(&path).unwrap();
            Scenario::parse(&path.file_name().unwrap().to_string_lossy(), &text).unwrap()
        })
        .collect();
    scenarios.sort_by_key(|scenario| scenario.file.clone());
    scenarios
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
    match access.category {
        Category::Dns => Some("queries"),
        Category::Syscall => Some("system calls"),
        Category::Device => Some("devices"),
        Category::Preset => Some("presets"),
        Category::Process if limited("rules with `allowedArgs`") => Some("arguments"),
        _ if limited("rules with `pts`") => Some("terminals"),
        Category::Network if limited("protocol") => Some("protocols"),
        Category::Process | Category::File if denied && limited("pattern") => Some("patterns"),
        _ if matches!(access.object, Object::Nameless) => Some("programs without a name"),
        Category::Process | Category::File | Category::Network | Category::Capability => None,
    }
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
        (Operation::Capability, Done::Failed(why)) => Ok(why.contains("not permitted")),
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
    /// Performs the cases of a scenario; gives those that went wrong.
    fn perform(&mut self, scenario: &Scenario, counts: &mut Counts) -> Vec<String> {
        assert_eq!(self.actor.end_subjects(), Done::Passed);
        clean(&self.root, true);
        let files = Files::of(scenario);
        files.make(&self.root).unwrap();
        let rules = compile(&scenario.set).unwrap();
        let whole = lowered("kubearmor_web", &scenario.set, None);
        let wanted: Vec<_> = scenario
            .cases
            .iter()
            .filter(|case| {
                let denied = decide(&rules, &case.access).outcome == Outcome::Block;
                let why = left_out(scenario, &case.access, denied, &whole);
                if let Some(why) = why {
                    *counts.left_out.entry(why).or_default() += 1;
                }
                why.is_none()
            })
            .collect();
        if wanted.is_empty() {
            return Vec::new();
        }
        self.loader.put("kubearmor_web", &whole.text).unwrap();
        for (number, subject) in (1..).zip(&files.subjects) {
            let mut part = whole.parts.of(subject.as_bytes()).to_owned();
            if part == "kubearmor_web" {
                // Each begins a container of its own, as far as AppArmor can tell.
                part = format!("kubearmor_web-{number}");
                let text = lowered(&part, &scenario.set, Some(subject)).text;
                self.loader.put(&part, &text).unwrap();
            }
            assert_eq!(self.actor.start_subject_in(&part, subject), Done::Passed);
        }
        let mut failures = Vec::new();
        for case in wanted {
            let Subject::Image(subject) = &case.access.subject else {
                continue;
            };
            let subject = std::str::from_utf8(subject).unwrap();
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

#[derive(Default)]
struct Counts {
    performed: usize,
    left_out: BTreeMap<&'static str, usize>,
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
