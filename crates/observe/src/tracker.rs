// SPDX-License-Identifier: Apache-2.0
//! Attribution and enrichment.

use gorget_model::network::{
    AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_UNIX, IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_SCTP,
    IPPROTO_TCP, IPPROTO_UDP, SOCK_DCCP, SOCK_DGRAM, SOCK_PACKET, SOCK_RAW, SOCK_RDM,
    SOCK_SEQPACKET, SOCK_STREAM,
};
use gorget_model::{
    Alert, AlertAction, AlertKind, Category, Cause, Event, ExecSession, KernelEvent, Node, Object,
    Operation, OtherPath, Outcome, PolicyRef, Preset, Process, Session, Socket, Syscall, TaskInfo,
    Workload,
};
use std::collections::{HashMap, VecDeque};
use std::fmt::Write as _;
use std::sync::{Arc, LazyLock};

/// Ended rulesets whose rules are still known. An event waits in the ring buffer for milliseconds;
/// this many changes of policy do not happen in that time.
const ENDED_RULESETS: usize = 1024;

/// A call was interrupted (errno(3)).
const EINTR: i32 = 4;
/// The last one that Linux has (`EHWPOISON`).
const LAST_ERROR: i32 = 133;

/// Policy name of what no rule decided.
const DEFAULT_POSTURE: &str = "DefaultPosture";
/// The policy's name in alerts about attempts against Gorget itself, which no policy describes.
const SELF_PROTECTION: &str = "SelfProtection";

/// What is known about workloads and rulesets.
#[derive(Debug)]
pub struct Tracker {
    node: Arc<Node>,
    /// Added to a boot time in nanoseconds to get microseconds since 1970.
    boot_unix_micros: i64,
    users: HashMap<u32, String>,
    /// By index. An entry stays after the workload's end until its index is used again.
    workloads: HashMap<u32, Arc<Workload>>,
    rulesets: HashMap<u32, Vec<PolicyRef>>,
    ended: VecDeque<u32>,
}

impl Tracker {
    /// `boot_unix_micros` is the moment of boot, as `CLOCK_REALTIME` has it.
    pub fn new(node: Arc<Node>, boot_unix_micros: i64, users: HashMap<u32, String>) -> Self {
        Self {
            node,
            boot_unix_micros,
            users,
            workloads: HashMap::new(),
            rulesets: HashMap::new(),
            ended: VecDeque::new(),
        }
    }

    /// This is what the machine and its cluster are called from now on.
    pub fn is_on(&mut self, node: Arc<Node>) {
        self.node = node;
    }

    /// A workload has this index from now on.
    pub fn workload(&mut self, index: u32, workload: Arc<Workload>) {
        self.workloads.insert(index, workload);
    }

    /// A ruleset with this number is in force; its rules by id.
    pub fn ruleset(&mut self, number: u32, rules: Vec<PolicyRef>) {
        self.ended.retain(|ended| *ended != number);
        self.rulesets.insert(number, rules);
    }

    /// When the machine was started, in microseconds since 1970.
    pub fn booted_at(&mut self, unix_micros: i64) {
        self.boot_unix_micros = unix_micros;
    }

    /// No workload has this ruleset any more.
    pub fn ruleset_ended(&mut self, number: u32) {
        self.ended.push_back(number);
        if self.ended.len() > ENDED_RULESETS
            && let Some(oldest) = self.ended.pop_front()
        {
            self.rulesets.remove(&oldest);
        }
    }

    /// Turns a report of the kernel into an alert.
    pub fn enrich(&self, event: KernelEvent) -> Event {
        let KernelEvent {
            boot_ns,
            workload,
            ruleset,
            operation,
            verdict,
            audited,
            killed,
            result,
            object,
            other_path,
            task,
        } = event;
        let workload = self.workload_at(workload);
        let kind = match *workload {
            Workload::Host(_) => AlertKind::HostPolicy,
            Workload::Container(_) => AlertKind::Policy,
        };
        let (action, result) = match (verdict.outcome, audited) {
            // Its arguments could not be read while it could still be refused.
            (Outcome::Block, false) if killed => (AlertAction::Block, "Killed before it ran"),
            (Outcome::Block, false) => (AlertAction::Block, "Permission denied"),
            (Outcome::Block, true) => (AlertAction::AuditedBlock, "Passed"),
            (Outcome::Audit | Outcome::Pass, _) => (AlertAction::Audit, ended(result)),
        };
        let data = data(operation, &object, other_path.as_ref());
        let object = resource(&object);
        let (process, source) = self.process(operation, &object, task, &workload);
        Event::Alert(Alert {
            unix_micros: self.unix_micros(boot_ns),
            node: Arc::clone(&self.node),
            workload,
            process,
            policy: self.policy(operation, ruleset, verdict.cause),
            kind,
            category: operation.category(),
            source,
            data,
            resource: object,
            action,
            result,
            enforcer: enforcer(operation),
        })
    }

    pub(crate) fn node(&self) -> Arc<Node> {
        Arc::clone(&self.node)
    }

    pub(crate) fn workload_at(&self, index: u32) -> Arc<Workload> {
        let known = self.workloads.get(&index);
        known.map_or_else(|| unknown_workload(index), Arc::clone)
    }

    /// A time since boot in nanoseconds, as people have it.
    pub(crate) fn unix_micros(&self, boot_ns: u64) -> i64 {
        let micros = i64::try_from(boot_ns / 1000).unwrap_or(i64::MAX);
        self.boot_unix_micros.saturating_add(micros)
    }

    /// Containers have users of their own.
    pub(crate) fn user_in(&self, uid: u32, workload: &Workload) -> String {
        match workload {
            Workload::Host(_) => self.users.get(&uid).cloned().unwrap_or_default(),
            Workload::Container(_) => String::new(),
        }
    }

    fn policy(&self, operation: Operation, ruleset: u32, cause: Cause) -> PolicyRef {
        let named = |name: &str| PolicyRef {
            name: name.to_owned(),
            ..PolicyRef::default()
        };
        if let Operation::Tamper(_) = operation {
            return named(SELF_PROTECTION);
        }
        match cause {
            Cause::Rule(rule) => usize::try_from(rule.0)
                .ok()
                .and_then(|rule| self.rulesets.get(&ruleset)?.get(rule))
                .cloned()
                .unwrap_or_else(|| named("unknown")),
            Cause::DefaultPosture | Cause::NoRule => named(DEFAULT_POSTURE),
        }
    }

    /// The actor and the alert's `Source`. For a process event KubeArmor calls the image that is
    /// started the process, and the one that starts it the parent and the source.
    fn process(
        &self,
        operation: Operation,
        object: &str,
        task: TaskInfo,
        workload: &Workload,
    ) -> (Process, String) {
        let TaskInfo {
            host_pid,
            host_ppid,
            pid,
            ppid,
            uid,
            session,
            exe,
            parent_exe,
            cwd,
            tty,
            args,
            hashes,
        } = task;
        let exe = text(&exe);
        let (own, parent, source) = match operation.category() {
            Category::Process => (object.to_owned(), exe.clone(), exe),
            Category::File
            | Category::Network
            | Category::Dns
            | Category::Capability
            | Category::Syscall
            | Category::Device
            | Category::Preset => {
                let source = command_line(&args).unwrap_or_else(|| exe.clone());
                (exe, text(&parent_exe), source)
            }
        };
        let user = self.user_in(uid, workload);
        let process = Process {
            host_pid,
            host_ppid,
            pid,
            ppid,
            uid,
            user,
            exe: own,
            parent_exe: parent,
            cwd: text(&cwd),
            tty: text(&tty),
            session: session.map(exec_session),
            hashes,
        };
        (process, source)
    }
}

fn unknown_workload(index: u32) -> Arc<Workload> {
    Arc::new(Workload::Container(gorget_model::Container {
        name: format!("unknown workload {index}"),
        ..gorget_model::Container::default()
    }))
}

/// The object as people read it. An image without a name says so.
fn resource(object: &Object) -> String {
    match object {
        Object::Nameless => "anon:".to_owned(),
        Object::Path(path) | Object::Domain(path) => text(path),
        Object::Socket(socket) => socket_name(*socket),
        Object::Capability(capability) => capability.to_string(),
        Object::Syscall { call, path } => path
            .as_ref()
            .map_or_else(|| call.to_string(), |path| text(path)),
        Object::Device(device) => format!("{device:?}"),
        Object::Preset(preset) => preset.to_string(),
    }
}

/// COMPAT: KubeArmor 7.3, `protocol=TCP type=SOCK_STREAM`; the address family is put in front.
fn socket_name(socket: Socket) -> String {
    let Socket {
        family,
        kind,
        protocol,
    } = socket;
    let protocol = match (family, kind, protocol) {
        (AF_INET | AF_INET6, SOCK_STREAM, 0 | IPPROTO_TCP) => "protocol=TCP ".to_owned(),
        (AF_INET | AF_INET6, SOCK_DGRAM, 0 | IPPROTO_UDP) => "protocol=UDP ".to_owned(),
        (AF_INET, _, IPPROTO_ICMP) => "protocol=ICMP ".to_owned(),
        (AF_INET6, _, IPPROTO_ICMPV6) => "protocol=ICMPv6 ".to_owned(),
        (AF_INET | AF_INET6, _, IPPROTO_SCTP) => "protocol=SCTP ".to_owned(),
        (_, _, 0) => String::new(),
        (_, _, number) => format!("protocol={number} "),
    };
    let family = match family {
        AF_UNIX => "AF_UNIX".to_owned(),
        AF_INET => "AF_INET".to_owned(),
        AF_INET6 => "AF_INET6".to_owned(),
        AF_NETLINK => "AF_NETLINK".to_owned(),
        AF_PACKET => "AF_PACKET".to_owned(),
        number => number.to_string(),
    };
    let kind = match kind {
        SOCK_STREAM => "SOCK_STREAM".to_owned(),
        SOCK_DGRAM => "SOCK_DGRAM".to_owned(),
        SOCK_RAW => "SOCK_RAW".to_owned(),
        SOCK_RDM => "SOCK_RDM".to_owned(),
        SOCK_SEQPACKET => "SOCK_SEQPACKET".to_owned(),
        SOCK_DCCP => "SOCK_DCCP".to_owned(),
        SOCK_PACKET => "SOCK_PACKET".to_owned(),
        number => number.to_string(),
    };
    format!("domain={family} {protocol}type={kind}")
}

/// How it ended, in the words of strerror(3); 0 and more is success.
pub(crate) fn ended(result: i32) -> &'static str {
    let error = match result {
        0.. => return "Passed",
        // Of the kernel's own: ERESTARTSYS and its like, which programs never see.
        -516..=-512 => EINTR,
        _ => result.saturating_neg(),
    };
    let text = usize::try_from(error).ok();
    let text = text.and_then(|error| ERRORS.get(error));
    text.map_or("Unknown error", String::as_str)
}

/// By number, each made once.
static ERRORS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let text = |error| {
        let mut text = std::io::Error::from_raw_os_error(error).to_string();
        text.truncate(text.rfind(" (os error").unwrap_or(text.len()));
        text
    };
    (0..=LAST_ERROR).map(text).collect()
});

/// COMPAT: KubeArmor repeats the resource of everything that is no path.
fn data(operation: Operation, object: &Object, other: Option<&OtherPath>) -> String {
    let hook = operation.lsm_name();
    match operation.category() {
        Category::Network | Category::Capability => format!("lsm={hook} {}", resource(object)),
        Category::Dns => format!("lsm={hook} domain={}", resource(object)),
        Category::Syscall => {
            if let Object::Syscall { call, path } = object {
                called(*call) + &both_paths(*call, path.as_deref(), other)
            } else {
                String::new()
            }
        }
        Category::Process | Category::File | Category::Device | Category::Preset => {
            format!("lsm={hook}")
        }
    }
}

pub(crate) fn called(call: Syscall) -> String {
    format!("syscall=SYS_{}", call.name().to_ascii_uppercase())
}

/// The two paths of a call that has two, by the names that its manual page has for them.
fn both_paths(call: Syscall, path: Option<&[u8]>, other: Option<&OtherPath>) -> String {
    let (Some([first, second]), Some(path), Some(other)) = (call.paths(), path, other) else {
        return String::new();
    };
    let (one, two) = match other.is_first {
        true => (other.path.as_slice(), path),
        false => (path, other.path.as_slice()),
    };
    format!(" {first}={} {second}={}", word(one), word(two))
}

/// A path without white space, which would end it: as `/proc/mounts` has it.
fn word(path: &[u8]) -> String {
    let mut word = String::new();
    for letter in text(path).chars() {
        if letter.is_whitespace() || letter == '\\' {
            let mut bytes = [0; 4];
            for byte in letter.encode_utf8(&mut bytes).bytes() {
                // Writing to a string does not fail.
                let _written = write!(word, "\\{byte:03o}");
            }
        } else {
            word.push(letter);
        }
    }
    word
}

/// COMPAT: KubeArmor names the preset in the place of the enforcer.
fn enforcer(operation: Operation) -> &'static str {
    if operation == Operation::Syscall {
        return "eBPF Monitor";
    }
    let preset = if let Operation::Preset(preset) = operation {
        preset
    } else if operation == Operation::Trace {
        Preset::ProtectProc
    } else {
        return "BPFLSM";
    };
    match preset {
        Preset::AnonymousMapExec => "PRESET-AnonMapExecutionPreset",
        Preset::FilelessExec => "PRESET-FilelessExecutionPreset",
        Preset::ProtectEnv => "PRESET-ProtectEnvPreset",
        Preset::ProtectProc => "PRESET-ProtectProcPreset",
        Preset::Exec => "PRESET-ExecPreset",
    }
}

/// COMPAT: KubeArmor's ids are numbers without a meaning, too.
pub(crate) fn exec_session(session: Session) -> ExecSession {
    ExecSession {
        id: session.since_boot_ns.to_string(),
        program: text(&session.program),
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Arguments, NUL separated, as one line; `None` when there are none.
pub(crate) fn command_line(args: &[u8]) -> Option<String> {
    let args = args
        .iter()
        .rposition(|byte| *byte != 0)
        .and_then(|last| args.get(..=last))?;
    Some(text(args).replace('\0', " "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use gorget_model::{Container, Host, RuleId, Verdict};

    fn tracker() -> Tracker {
        let users = HashMap::from([(1000, "ann".to_owned())]);
        let mut tracker = Tracker::new(Arc::new(Node::default()), 1_000_000, users);
        tracker.workload(0, Arc::new(Workload::Host(Host::default())));
        tracker.workload(
            7,
            Arc::new(Workload::Container(Container {
                name: "web".to_owned(),
                ..Container::default()
            })),
        );
        tracker.ruleset(
            3,
            vec![
                PolicyRef::default(),
                PolicyRef {
                    name: "no-tokens".to_owned(),
                    severity: Some(4),
                    ..PolicyRef::default()
                },
            ],
        );
        tracker
    }

    fn event(workload: u32, operation: Operation) -> KernelEvent {
        KernelEvent {
            boot_ns: 5_000,
            workload,
            ruleset: 3,
            operation,
            verdict: Verdict {
                outcome: Outcome::Block,
                cause: Cause::Rule(RuleId(1)),
            },
            audited: false,
            killed: false,
            result: 0,
            object: Object::Path(b"/secret".to_vec()),
            other_path: None,
            task: TaskInfo {
                uid: 1000,
                exe: b"/usr/bin/head".to_vec(),
                parent_exe: b"/usr/bin/sh".to_vec(),
                args: b"head\0-n1\0/secret\0".to_vec(),
                ..TaskInfo::default()
            },
        }
    }

    fn alert(event: Event) -> Alert {
        match event {
            Event::Alert(alert) => alert,
            Event::Log(_) | Event::Message(_) | Event::Threshold(_) => panic!("not an alert"),
        }
    }

    #[test]
    fn a_file_event_names_the_rule_the_actor_and_its_command_line() {
        let alert = alert(tracker().enrich(event(7, Operation::Open)));
        assert_eq!(alert.policy.name, "no-tokens");
        assert_eq!(alert.policy.severity, Some(4));
        assert_eq!(alert.source, "head -n1 /secret");
        assert_eq!(alert.process.exe, "/usr/bin/head");
        assert_eq!(alert.process.parent_exe, "/usr/bin/sh");
        assert_eq!(alert.process.user, "");
        assert_eq!(alert.unix_micros, 1_000_005);
        assert_eq!(alert.kind, AlertKind::Policy);
        assert_eq!(alert.data, "lsm=FILE_OPEN");
        assert_eq!(
            (alert.action, alert.result),
            (AlertAction::Block, "Permission denied")
        );
    }

    #[test]
    fn a_process_event_has_the_started_image_as_process_and_the_starter_as_source() {
        let alert = alert(tracker().enrich(event(0, Operation::Exec)));
        assert_eq!(alert.process.exe, "/secret");
        assert_eq!(alert.process.parent_exe, "/usr/bin/head");
        assert_eq!(alert.source, "/usr/bin/head");
        assert_eq!(alert.process.user, "ann");
        assert_eq!(alert.kind, AlertKind::HostPolicy);
    }

    #[test]
    fn a_system_call_is_named_and_says_how_it_ended() {
        let mut call = event(7, Operation::Syscall);
        call.verdict.outcome = Outcome::Audit;
        call.object = Object::Syscall {
            call: Syscall::from_name("rmdir").unwrap(),
            path: Some(b"/home/x".to_vec()),
        };
        let passed = alert(tracker().enrich(call.clone()));
        assert_eq!(passed.data, "syscall=SYS_RMDIR");
        assert_eq!(passed.resource, "/home/x");
        assert_eq!(
            (passed.action, passed.result, passed.enforcer),
            (AlertAction::Audit, "Passed", "eBPF Monitor")
        );
        call.result = -39;
        let failed = alert(tracker().enrich(call));
        assert_eq!(failed.result, "Directory not empty");
    }

    #[test]
    fn both_paths_of_a_call_are_told_in_their_order_whichever_a_rule_is_about() {
        let mut call = event(7, Operation::Syscall);
        call.object = Object::Syscall {
            call: Syscall::from_name("renameat2").unwrap(),
            path: Some(b"/home/x".to_vec()),
        };
        let mut told = |path: &[u8], is_first| {
            let path = path.to_vec();
            call.other_path = Some(OtherPath { path, is_first });
            let alert = alert(tracker().enrich(call.clone()));
            assert_eq!(alert.resource, "/home/x");
            alert.data
        };
        assert_eq!(
            told(b"/tmp/y", false),
            "syscall=SYS_RENAMEAT2 oldpath=/home/x newpath=/tmp/y"
        );
        // What is in the path adds no word.
        assert_eq!(
            told(b"/tmp/\\ newpath=/z", true),
            "syscall=SYS_RENAMEAT2 oldpath=/tmp/\\134\\040newpath=/z newpath=/home/x"
        );
    }

    #[test]
    fn a_block_in_an_audited_workload_passed() {
        let mut blocked = event(7, Operation::Open);
        blocked.audited = true;
        let alert = alert(tracker().enrich(blocked));
        assert_eq!(
            (alert.action, alert.result),
            (AlertAction::AuditedBlock, "Passed")
        );
    }

    #[test]
    fn the_default_posture_is_named() {
        let mut posture = event(7, Operation::Open);
        posture.verdict.cause = Cause::DefaultPosture;
        assert_eq!(
            alert(tracker().enrich(posture)).policy.name,
            "DefaultPosture"
        );
    }

    #[test]
    fn rules_of_an_ended_ruleset_are_known_until_many_more_ended() {
        let mut tracker = tracker();
        tracker.ruleset_ended(3);
        assert_eq!(
            alert(tracker.enrich(event(7, Operation::Open))).policy.name,
            "no-tokens"
        );
        for number in 100..100 + u32::try_from(ENDED_RULESETS).unwrap() {
            tracker.ruleset(number, Vec::new());
            tracker.ruleset_ended(number);
        }
        assert_eq!(
            alert(tracker.enrich(event(7, Operation::Open))).policy.name,
            "unknown"
        );
    }
}
