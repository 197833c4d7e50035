// SPDX-License-Identifier: Apache-2.0
//! Every scenario of `conformance/`, performed for real: by processes in a container that containerd
//! started (or on the guest's host), decided by the agent's programs in the guest's kernel.
//!
//! Each scenario gets one rule more, for a path that nothing else names: its audit alert comes after
//! every case, so that "no alert" can be told from "not yet" without waiting for time to pass.
#![cfg(test)]
use gorget_engine::conformance::{
    Case, Implementation, ImplementationError, Observed, Scenario, run,
};
use gorget_model::{
    Access, Category, Host, Object, Outcome, Posture, Postures, Subject, Syscall, Workload,
};
use gorget_vmtest::files::{Files, below, clean, program, scenarios};
use gorget_vmtest::{
    Actor, Agent, Container, Containerd, Done, Operation, alert_field, has_bpf_lsm,
};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::chown;
use std::path::PathBuf;

/// Read after each case; its alert is the last that can belong to the case.
const BARRIER: &str = "/gorget-barrier";
const POLICY_FILE: &str = "scenario.yaml";
/// Somebody who is not the actor's uid.
const SOMEBODY: u32 = 12345;

/// Where a scenario's processes are.
struct Place {
    workload: Workload,
    actor: Actor,
    /// What has to be put before a path to reach it from the host.
    root: PathBuf,
    _container: Option<Container>,
}

struct InVm {
    /// Postures and host of the running agent.
    agent: Option<(Agent, Postures, Host)>,
    place: Option<Place>,
    /// Policies of the last scenario are in force.
    in_force: bool,
    scenarios: u32,
    /// Without BPF LSM the same is reported, and nothing is denied.
    enforces: bool,
}

impl Implementation for InVm {
    fn name(&self) -> &str {
        "vm"
    }

    fn prepare(&mut self, scenario: &Scenario) -> Result<(), ImplementationError> {
        self.scenarios += 1;
        self.clear(scenario);
        self.move_to(&scenario.workload);
        self.start_agent(scenario);
        let performed = |case: &&Case| !case.not_in.contains_key(self.name());
        let files = Files::of(scenario.cases.iter().filter(performed));
        let place = self.place.as_mut().ok_or("no place")?;
        files.make(&place.root)?;
        for subject in &files.subjects {
            let started = place.actor.start_subject(subject);
            if started != Done::Passed {
                return Err(format!("starting `{subject}`: {started:?}").into());
            }
        }
        let name = format!("barrier-{}", self.scenarios);
        let text = format!(
            "{}\n---\n{}",
            scenario.policies,
            barrier(&scenario.workload, &name)
        );
        let (agent, ..) = self.agent.as_mut().ok_or("no agent")?;
        agent.write_policy(POLICY_FILE, &text);
        loop {
            let line = agent.wait_for("in force for `");
            if line.contains(&name) {
                break;
            }
        }
        self.in_force = true;
        Ok(())
    }

    fn decide(&mut self, access: &Access) -> Result<Observed, ImplementationError> {
        let place = self.place.as_mut().ok_or("no place")?;
        let (agent, ..) = self.agent.as_mut().ok_or("no agent")?;
        let Subject::Image(subject) = &access.subject else {
            return Err("the runtime cannot be told what to do".into());
        };
        let subject = std::str::from_utf8(subject)?;
        let deed = Deed::of(access, place)?;
        let done = place.actor.perform(subject, deed.operation, &deed.argument);
        let barrier = place.actor.perform("/actor", Operation::Read, BARRIER);
        if barrier != Done::Passed {
            return Err(format!("the barrier: {barrier:?}").into());
        }
        let mut alert: Option<(String, String)> = None;
        loop {
            let next = agent.next_alert();
            let told = |field| alert_field(&next, field);
            if told("Resource") == BARRIER {
                break;
            }
            // Others are about what the program's own start opens, under an allow list.
            if alert.is_none()
                && deed
                    .resource
                    .is_none_or(|resource| told("Resource") == resource)
                && deed
                    .told_as
                    .is_none_or(|operation| told("Operation") == operation)
            {
                alert = Some((told("Action").to_owned(), told("PolicyName").to_owned()));
            }
        }
        let outcome = match (&done, alert.as_ref().map(|(action, _)| action.as_str())) {
            (Done::Denied | Done::Failed(_), Some("Block")) => Outcome::Block,
            // What no rule denies the kernel may: a socket for pings that is not its group's.
            (_, Some("Audit (Block)")) if !self.enforces => Outcome::Block,
            (Done::Denied, None) => return Err("denied without an alert".into()),
            (Done::Passed | Done::Failed(_), Some("Audit")) => Outcome::Audit,
            (Done::Passed, None) => Outcome::Pass,
            (Done::Failed(why), None) if deed.may_fail(why) => Outcome::Pass,
            (done, action) => {
                let operation = deed.operation;
                return Err(format!("{operation:?}: {done:?} with alert {action:?}").into());
            }
        };
        let policy = alert.map(|(_, policy)| policy);
        Ok(Observed { outcome, policy })
    }
}

/// What the actor is told to do, and how the alert about it is recognised.
struct Deed<'a> {
    operation: Operation,
    argument: String,
    resource: Option<&'a str>,
    told_as: Option<&'static str>,
}

impl<'a> Deed<'a> {
    fn of(access: &'a Access, place: &Place) -> Result<Self, ImplementationError> {
        let nothing = || format!("cannot perform a {} operation", access.category);
        Ok(match &access.object {
            Object::Path(object) => Self::with_path(access, std::str::from_utf8(object)?, place)?,
            Object::Socket(socket) => Self {
                operation: Operation::Socket,
                argument: format!("{} {} {}", socket.family, socket.kind, socket.protocol),
                resource: None,
                told_as: Some("Network"),
            },
            Object::Domain(name) => Self {
                operation: Operation::Lookup,
                argument: String::from_utf8(name.clone())?,
                resource: None,
                told_as: Some("Network"),
            },
            Object::Capability(capability) => Self {
                operation: Operation::Capability,
                argument: capability.name().to_owned(),
                resource: None,
                told_as: Some("Capabilities"),
            },
            Object::Syscall { call, path } => Self::call(*call, path.as_deref())?,
            Object::Nameless | Object::Device(_) | Object::Preset(_) => {
                return Err(nothing().into());
            }
        })
    }

    /// Without arguments, or on an empty directory or file of this path.
    fn call(call: Syscall, path: Option<&'a [u8]>) -> Result<Self, ImplementationError> {
        let path = path.map(std::str::from_utf8).transpose()?;
        let mut argument = call.name().to_owned();
        if call.name().ends_with("at") {
            argument.push_str(" at");
        }
        argument.extend(path.into_iter().flat_map(|path| [" ", path]));
        // The new name is nobody's.
        if call.name().starts_with("rename") && path.is_some() {
            let at = argument.contains(" at ").then_some(" at");
            argument.extend(at);
            argument.push_str(" /moved");
        }
        Ok(Self {
            operation: Operation::Call,
            argument,
            resource: path,
            told_as: Some("Syscall"),
        })
    }

    fn with_path(
        access: &Access,
        object: &'a str,
        place: &Place,
    ) -> Result<Self, ImplementationError> {
        let on_host = below(&place.root, object);
        if place._container.is_some() {
            let owner = if access.modes.owner { 0 } else { SOMEBODY };
            chown(&on_host, Some(owner), None)?;
        }
        let modes = access.modes;
        let mut argument = object.to_owned();
        let operation = match access.category {
            Category::Process if !access.arguments.is_empty() => {
                for word in &access.arguments {
                    argument.push(' ');
                    argument.push_str(std::str::from_utf8(word)?);
                }
                Operation::ExecWith
            }
            // The plain way to execute gives the program an argument.
            Category::Process => Operation::ExecWith,
            // Removing a directory that is not empty is decided before it fails.
            _ if modes.tree => Operation::Rmdir,
            _ if modes.write && on_host.is_dir() => Operation::Chmod,
            _ if modes.write && modes.read => Operation::ReadWrite,
            _ if modes.write => Operation::Write,
            _ => Operation::Read,
        };
        Ok(Self {
            operation,
            argument,
            resource: Some(object),
            told_as: None,
        })
    }

    /// Whether a failure comes from what was tried and not from a policy.
    fn may_fail(&self, why: &str) -> bool {
        match self.operation {
            // Not every call can be made without arguments.
            Operation::Call => true,
            Operation::Rmdir => why.contains("not empty"),
            // Not every kernel has every protocol.
            Operation::Socket => why.contains("not supported") || why.contains("not available"),
            _ => false,
        }
    }
}

impl InVm {
    /// Takes the last scenario's policies and processes away.
    fn clear(&mut self, next: &Scenario) {
        if let Some(place) = &mut self.place {
            assert_eq!(place.actor.end_subjects(), Done::Passed);
        }
        self.take_policies_away(next);
        if let Some(place) = &self.place {
            clean(&place.root, place._container.is_some());
        }
    }

    fn take_policies_away(&mut self, next: &Scenario) {
        let Some((mut agent, posture, host)) = self.agent.take() else {
            return;
        };
        if self.in_force {
            agent.remove_policy(POLICY_FILE);
            agent.wait_for("no policy is in force for `");
            self.in_force = false;
        }
        if posture == next.set.postures && host == host_of(&next.workload) {
            self.agent = Some((agent, posture, host));
        } else {
            // The next one goes on with its programs: loading them takes half a minute here.
            assert!(agent.stop().success());
        }
    }

    fn move_to(&mut self, workload: &Workload) {
        if self.place.as_ref().is_some_and(|p| p.workload == *workload) {
            return;
        }
        // The old one ends first: the new one may have its name.
        self.place = None;
        let (actor, root, container) = match workload {
            Workload::Host(_) => (Actor::on_host(), PathBuf::from("/"), None),
            Workload::Container(wanted) => {
                let mut labels: Vec<(&str, &str)> = wanted
                    .labels
                    .iter()
                    .map(|(key, value)| (key.as_str(), value.as_str()))
                    .collect();
                if let Some(namespace) = &wanted.namespace {
                    labels.push(("kubearmor.io/namespace", namespace));
                }
                let (container, actor) = Actor::in_container(&wanted.name, &labels);
                (actor, container.root(), Some(container))
            }
        };
        fs::write(below(&root, BARRIER), "").unwrap();
        if container.is_none() {
            program(&root, "/actor").unwrap();
        }
        self.place = Some(Place {
            workload: workload.clone(),
            actor,
            root,
            _container: container,
        });
    }

    fn start_agent(&mut self, scenario: &Scenario) {
        if self.agent.is_some() {
            return;
        }
        let postures = scenario.set.postures;
        let host = host_of(&scenario.workload);
        let labels: Vec<_> = host
            .labels
            .iter()
            .map(|(key, value)| format!("{key:?}: {value:?}"))
            .collect();
        let mut agent = Agent::start(&format!(
            "host: {:?}\nnodeLabels: {{{}}}\n{}",
            host.name,
            labels.join(", "),
            configured(postures),
        ));
        if self.place.as_ref().is_some_and(|p| p._container.is_some()) {
            agent.wait_for("1 containers are known");
        }
        self.agent = Some((agent, postures, host));
    }
}

/// The same postures for containers and for the host.
fn configured(postures: Postures) -> String {
    let name = |posture| match posture {
        Posture::Allow => "allow",
        Posture::Audit => "audit",
        Posture::Block => "block",
    };
    let mut text = format!("hostDefaultDevicePosture: {}\n", name(postures.device));
    for (key, posture) in [
        ("File", postures.file),
        ("Network", postures.network),
        ("Capabilities", postures.capabilities),
    ] {
        for prefix in ["default", "hostDefault"] {
            text.push_str(&format!("{prefix}{key}Posture: {}\n", name(posture)));
        }
    }
    text
}

/// What the agent is told about the host. For scenarios about containers it does not matter.
fn host_of(workload: &Workload) -> Host {
    match workload {
        Workload::Host(host) => host.clone(),
        Workload::Container(_) => Host {
            name: "vm".to_owned(),
            labels: BTreeMap::new(),
        },
    }
}

/// A policy of its own that audits the barrier.
fn barrier(workload: &Workload, name: &str) -> String {
    let rule = format!("file: {{matchPaths: [{{path: {BARRIER}, action: Audit}}]}}");
    match workload {
        Workload::Host(_) => format!(
            "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorHostPolicy\n\
             metadata: {{name: {name}}}\nspec:\n  \
             nodeSelector: {{matchLabels: {{kubearmor.io/hostname: \"*\"}}}}\n  {rule}\n"
        ),
        Workload::Container(container) => {
            let namespace = container.namespace.as_deref().unwrap_or("default");
            let labelled = &container.name;
            format!(
                "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\n\
                 metadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  \
                 selector: {{matchLabels: {{kubearmor.io/container.name: \"[{labelled}]\"}}}}\n  \
                 {rule}\n"
            )
        }
    }
}

#[test]
fn every_scenario_is_carried_out_as_it_says() {
    let mut scenarios = scenarios();
    // Few containers and few restarts of the agent.
    scenarios.sort_by_key(|scenario| {
        (
            format!("{:?}", scenario.workload),
            scenario.set.postures,
            scenario.file.clone(),
        )
    });
    let _containerd = Containerd::start();
    let mut vm = InVm {
        agent: None,
        place: None,
        in_force: false,
        scenarios: 0,
        enforces: has_bpf_lsm(),
    };
    let (mut passed, mut failures, mut left_out) = (0, Vec::new(), Vec::new());
    for scenario in &scenarios {
        let report = run(scenario, &mut vm);
        println!("{}: {} cases", scenario.file, report.passed);
        for failure in &report.failures {
            println!("FAILED {failure}");
        }
        passed += report.passed;
        failures.extend(report.failures);
        left_out.extend(report.not_expressible);
    }
    println!(
        "{passed} cases of {} scenarios; not in the VM: {left_out:#?}",
        scenarios.len()
    );
    assert!(failures.is_empty(), "{failures:#?}");
    assert!(scenarios.len() >= 40 && passed >= 200, "{passed} cases");
}
