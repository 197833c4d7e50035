// SPDX-License-Identifier: Apache-2.0
//! What is in force outlives the agent: killed, stopped, started again, and removed on demand.
#![cfg(test)]

use gorget_vmtest::{Actor, Agent, Container, Containerd, Done, Operation, alert_field, uninstall};
use libbpf_rs::{MapCore as _, MapFlags, MapHandle};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicBool, Ordering};

const SECRET: &str = "/data/secret";
const PINS: &str = "/sys/fs/bpf/gorget";

fn policy(name: &str, rules: &str) -> String {
    format!(
        "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata: {{name: {name}}}\n\
         spec:\n  selector: {{matchLabels: {{app: victim}}}}\n  {rules}\n"
    )
}

struct Victim {
    // Ended in this order.
    actor: Actor,
    container: Container,
}

impl Victim {
    fn start() -> Self {
        let (container, mut actor) = Actor::in_container("victim", &[("app", "victim")]);
        let secret = container.root().join("data/secret");
        fs::create_dir_all(secret.parent().unwrap()).unwrap();
        fs::write(secret, "s").unwrap();
        assert_eq!(actor.start_subject("/actor"), Done::Passed);
        Self { actor, container }
    }

    fn does(&mut self, operation: Operation, path: &str) -> Done {
        self.actor.perform("/actor", operation, path)
    }
}

fn start_with_a_rule() -> (Agent, Victim) {
    let rule = policy("guard", "file: {matchPaths: [{path: /data/secret}]}");
    let mut agent = Agent::start_with("", &[("p.yaml", &rule)]);
    let victim = Victim::start();
    agent.wait_for("in force for `victim`: guard");
    (agent, victim)
}

#[test]
fn what_a_killed_agent_had_in_force_stays_and_the_next_one_tells_what_was_denied() {
    let _containerd = Containerd::start();
    let (agent, mut victim) = start_with_a_rule();
    agent.kill();
    assert_eq!(victim.does(Operation::Read, SECRET), Done::Denied);

    let mut agent = Agent::start_again("");
    let alert = agent.alert_about(SECRET);
    assert_eq!(alert_field(&alert, "PolicyName"), "guard");
    assert_eq!(alert_field(&alert, "ContainerName"), "victim");
    assert_eq!(victim.does(Operation::Write, SECRET), Done::Denied);
    let alert = agent.alert_about(SECRET);
    assert_eq!(alert_field(&alert, "PolicyName"), "guard");
}

#[test]
fn policies_that_changed_while_no_agent_ran_are_put_in_force_by_the_next() {
    let _containerd = Containerd::start();
    let (agent, mut victim) = start_with_a_rule();
    assert_eq!(victim.does(Operation::Create, "/data/new"), Done::Passed);
    let rule = policy("other", "file: {matchPaths: [{path: /data/new}]}");
    agent.write_policy("p.yaml", &rule);
    agent.kill();

    let mut agent = Agent::start_until("", "took over what is in force");
    agent.wait_for("in force for `victim`: other");
    assert_eq!(victim.does(Operation::Read, SECRET), Done::Passed);
    assert_eq!(victim.does(Operation::Read, "/data/new"), Done::Denied);
}

#[test]
fn a_container_that_ended_while_no_agent_ran_leaves_nothing_behind() {
    let _containerd = Containerd::start();
    let (agent, victim) = start_with_a_rule();
    agent.kill();
    drop(victim);
    let mut agent = Agent::start_again("");
    agent.wait_for("1 workloads that ended while no agent ran are released");
    let mut victim = Victim::start();
    agent.wait_for("in force for `victim`: guard");
    assert_eq!(victim.does(Operation::Read, SECRET), Done::Denied);
}

#[test]
fn a_stopped_agent_leaves_its_rules_in_force_until_they_are_removed() {
    let _containerd = Containerd::start();
    let (agent, mut victim) = start_with_a_rule();
    assert!(agent.stop().success());
    assert_eq!(victim.does(Operation::Read, SECRET), Done::Denied);
    assert!(fs::exists(PINS).unwrap());
    uninstall();
    assert_eq!(victim.does(Operation::Read, SECRET), Done::Passed);
    assert!(!fs::exists(PINS).unwrap());
}

#[test]
fn programs_of_another_version_decide_until_the_new_ones_do_and_what_they_reported_is_told() {
    let _containerd = Containerd::start();
    let (agent, mut victim) = start_with_a_rule();
    agent.kill();
    let programs = fs::read_dir(PINS).unwrap().next().unwrap().unwrap().path();
    // What another build would have left.
    fs::rename(&programs, format!("{PINS}/another")).unwrap();
    assert_eq!(victim.does(Operation::Read, SECRET), Done::Denied);

    let go_on = AtomicBool::new(true);
    let (tried, mut agent) = std::thread::scope(|scope| {
        let attacker = scope.spawn(|| {
            let mut tried = 0;
            while go_on.load(Ordering::Acquire) {
                assert_eq!(victim.does(Operation::Read, SECRET), Done::Denied);
                tried += 1;
            }
            tried
        });
        let agent = Agent::start_until("", "`/sys/fs/bpf/gorget/another`, are removed");
        go_on.store(false, Ordering::Release);
        (attacker.join().unwrap(), agent)
    });
    assert!(tried > 10, "{tried}");
    assert!(fs::exists(programs).unwrap() && !fs::exists(format!("{PINS}/another")).unwrap());
    assert_eq!(victim.does(Operation::Read, SECRET), Done::Denied);
    // Numbers of workloads and rules mean something else in another version.
    let mut told = BTreeSet::new();
    while told.len() < 2 {
        let alert = agent.alert_about(SECRET);
        told.insert(
            ["PolicyName", "ContainerName"].map(|field| alert_field(&alert, field).to_owned()),
        );
    }
    let told: Vec<_> = told
        .iter()
        .map(|[policy, container]| (policy.as_str(), container.as_str()))
        .collect();
    assert!(
        matches!(told[..], [("guard", "victim"), ("unknown", from)] if from.contains("unknown"))
    );
}

/// How often the agent is killed; `GORGET_KILLS` says otherwise.
const KILLS: usize = 200;
/// What it said last when it is killed.
const MOMENTS: [&str; 6] = [
    "are in force already",
    "took over what is in force",
    "connected to",
    "in force for `victim`",
    "containers are known",
    "ready: policies from",
];
const ALERTS: &str = "/tmp/gorget-alerts.json";
const ATTACKED: &str = "file: {matchDirectories: [{dir: /data/, recursive: true}]}\n  \
     process: {matchPaths: [{path: /bin/blocked}]}\n  network: {matchProtocols: [{protocol: tcp}]}";
/// TCP over IPv4.
const SOCKET: &str = "2 1 6";

/// What an attacker did until told to stop: how often each operation was tried.
fn attack(victim: &mut Victim, go_on: &AtomicBool) -> BTreeMap<&'static str, usize> {
    let mut tried = BTreeMap::new();
    while go_on.load(Ordering::Acquire) {
        for (what, operation, object) in [
            ("FILE_OPEN", Operation::Read, SECRET),
            ("SECURITY_BPRM_CHECK", Operation::Exec, "/bin/blocked"),
            ("SOCKET_CREATE", Operation::Socket, SOCKET),
            ("FILE_UNLINK", Operation::Unlink, SECRET),
        ] {
            assert_eq!(victim.does(operation, object), Done::Denied, "{what}");
            *tried.entry(what).or_default() += 1;
        }
    }
    tried
}

/// How many different alerts were written about each operation. Who is killed after it wrote an alert
/// and before it said so has it written again: the same one, to the microsecond.
fn told() -> BTreeMap<&'static str, usize> {
    let text = fs::read_to_string(ALERTS).unwrap();
    let different: BTreeSet<&str> = text.lines().collect();
    let mut told = BTreeMap::new();
    for line in different {
        let alert: Value = serde_json::from_str(line).unwrap();
        let data = alert.get("Data").and_then(Value::as_str).unwrap_or("");
        for what in [
            "FILE_OPEN",
            "SECURITY_BPRM_CHECK",
            "SOCKET_CREATE",
            "FILE_UNLINK",
        ] {
            if data.contains(what) {
                assert_eq!(alert_field(&alert, "PolicyName"), "guard", "{line}");
                assert_eq!(alert_field(&alert, "ContainerName"), "victim", "{line}");
                *told.entry(what).or_default() += 1;
            }
        }
    }
    told
}

#[test]
fn two_hundred_killed_agents_let_nothing_through_and_lose_no_alert() {
    let _containerd = Containerd::start();
    drop(fs::remove_file(ALERTS));
    let config = format!("logPath: {ALERTS}\n");
    let mut agent = Agent::start_with(&config, &[("p.yaml", &policy("guard", ATTACKED))]);
    let mut victim = Victim::start();
    fs::create_dir_all(victim.container.root().join("bin")).unwrap();
    let blocked = victim.container.root().join("bin/blocked");
    fs::copy("/bin/true", &blocked).unwrap();
    fs::set_permissions(&blocked, Permissions::from_mode(0o755)).unwrap();
    agent.wait_for("in force for `victim`: guard");
    let kills = std::env::var("GORGET_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    let go_on = AtomicBool::new(true);
    let (tried, mut agent) = std::thread::scope(|scope| {
        let attacker = scope.spawn(|| attack(&mut victim, &go_on));
        for said in MOMENTS.into_iter().cycle().take(kills) {
            agent.kill();
            agent = Agent::start_until(&config, said);
        }
        agent.kill();
        let agent = Agent::start_again(&config);
        go_on.store(false, Ordering::Release);
        (attacker.join().unwrap(), agent)
    });
    // Alerts come in their order: when one of these is written, everything before them is. There may be
    // no room for the first ones.
    let mut markers = 0;
    agent.wait_until("a marker is written", || {
        markers += 1;
        let marker = format!("/data/marker-{markers}.");
        victim.does(Operation::Create, &marker) == Done::Denied && !markers_told().is_empty()
    });
    let markers_told = markers_told();
    let markers_lost = markers_told.last().unwrap() - markers_told.len();
    let (told, lost) = (told(), lost() - markers_lost);
    println!("tried {tried:?}, told {told:?}, lost and counted {lost}");
    for (what, times) in &told {
        assert!(times <= tried.get(what).unwrap(), "{what}");
    }
    let sum = |counts: &BTreeMap<_, usize>| counts.values().sum::<usize>();
    // Killing an agent that protects itself is told, too: for some of that there was no room either.
    let kills_untold = kills + 1 - kills_told();
    let accounted = sum(&tried)..=sum(&tried) + kills_untold;
    let found = sum(&told) + lost;
    assert!(accounted.contains(&found), "{found} of {accounted:?}");
    assert!(lost <= losses_told(), "{lost} were lost");
}

/// How many alerts about signals to agents were written.
fn kills_told() -> usize {
    let text = fs::read_to_string(ALERTS).unwrap();
    let different: BTreeSet<&str> = text.lines().collect();
    let kills = different
        .iter()
        .filter(|line| line.contains("lsm=TASK_KILL"));
    kills.count()
}

/// The numbers of the markers that were written about.
fn markers_told() -> BTreeSet<usize> {
    let text = fs::read_to_string(ALERTS).unwrap();
    let numbers = text.split("/data/marker-").skip(1);
    let numbers = numbers.map(|rest| rest.split_once('.').unwrap().0.parse().unwrap());
    numbers.collect()
}

/// What the kernel counted that there was no room for.
fn lost() -> usize {
    let programs = fs::read_dir(PINS).unwrap().next().unwrap().unwrap().path();
    let losses = MapHandle::from_pinned_path(programs.join("maps/losses")).unwrap();
    let ring_full = losses
        .lookup_percpu(&[0; 4], MapFlags::ANY)
        .unwrap()
        .unwrap();
    let each_cpu = ring_full.iter().map(|bytes| *bytes.first_chunk().unwrap());
    usize::try_from(each_cpu.map(u64::from_ne_bytes).sum::<u64>()).unwrap()
}

/// What agents said was lost. Who is killed after it said so has it said again.
fn losses_told() -> usize {
    let text = fs::read_to_string(ALERTS).unwrap();
    let said = text.lines().filter_map(|line| {
        let message = line.split_once(" new losses, stage `ring_full`")?.0;
        message.rsplit_once('"')?.1.parse::<usize>().ok()
    });
    said.sum()
}
