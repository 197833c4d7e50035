// SPDX-License-Identifier: Apache-2.0
//! The one owner of what is in force.
//!
//! A thread that takes [`Command`]s and carries them out one after the other. For each workload it
//! works out which policies select it, compiles them (once for all workloads with the same policies
//! and links) and puts the result in force by one switch.
//!
//! INVARIANT: a workload whose new rules cannot be compiled or installed keeps its old ones.

mod cluster;
mod published;
mod starts;
mod visible;

use crate::apparmor::AppArmor;
use crate::clock;
use crate::report::Reporter;
use crate::resolve;
use cluster::Treatment;
use gorget_bpf::{Applied, Kernel, LogReader, Protection, WorkloadIndex};
use gorget_containers::{Announced, Change};
use gorget_engine::{Aliases, PolicySet, Ruleset, compile, literal_paths};
use gorget_k8s::Index;
use gorget_model::with_causes;
use gorget_model::{Container, Host, Mode, PolicyRef, Postures, Workload};
use gorget_observe::Tracker;
use gorget_policy::Policy;
use gorget_telemetry::proto::v1::{PolicyName, Runtime};
use starts::{Lateness, Teller};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use visible::Visible;

pub(crate) use published::{APPARMOR, AUDIT_ONLY, BPF, Published, named};
pub(crate) use visible::Defaults;

/// How often the kernel's loss counters are read.
const LOSS_INTERVAL: Duration = Duration::from_secs(1);

/// What the enforcer is told.
#[derive(Debug)]
pub(crate) enum Command {
    /// These are all policies there are.
    Policies(Vec<Arc<Policy>>),
    /// This is known of the cluster.
    Cluster(Arc<Index>),
    /// A runtime reports something.
    Containers(Change),
    /// Put the rules of a container in force that is about to run its first program, and say whether
    /// they are.
    Announced {
        announced: Box<Announced>,
        /// Its first program waits for that.
        waits: bool,
        told: oneshot::Sender<Result<(), String>>,
    },
    /// The first process of an announced container has ended, or its runtime says that it has; then
    /// `pid` is not known.
    Ended { id: String, pid: Option<u32> },
    /// This is visible of workloads that do not say so themselves.
    Visibility(Defaults),
    /// Say when everything before is done.
    Done(oneshot::Sender<()>),
    /// End. What is in force stays.
    Stop,
}

/// What is known of a workload and in force for it.
#[derive(Debug)]
struct Bound {
    workload: Arc<Workload>,
    /// What its runtime says of it; none of the host.
    told: Option<Container>,
    treatment: Treatment,
    /// Where its root directory is seen from here.
    root: PathBuf,
    /// Where it is until its first process has it as its root.
    early_root: Option<PathBuf>,
    /// Its runtime has not reported it yet, and does not know when it ends.
    announced: bool,
    cgroup: Option<u64>,
    pid: u32,
    /// Names of the policies that select it, for telling of changes.
    selected: Vec<String>,
    /// The same with kinds and namespaces, for those who ask.
    policies: Vec<PolicyName>,
    /// Those of newer rules that are not in force.
    wanted: Vec<PolicyName>,
    /// Why newer rules are not in force.
    failed: Option<String>,
    /// AppArmor denies what its policies block.
    confined: bool,
    ruleset: Option<u32>,
    /// Where the policies are of which its rules were made; none: an earlier agent made them, if anybody.
    made_of: Option<Vec<usize>>,
}

/// A compiled ruleset is looked up by what it was compiled from: which policies (by address; they
/// live as long as the cache), which links, which postures, which search domains.
type CompiledKey = (
    Vec<usize>,
    BTreeMap<Vec<u8>, Vec<u8>>,
    Postures,
    Vec<String>,
);

/// The state of the enforcer.
#[derive(Debug)]
pub(crate) struct Enforcer {
    kernel: Kernel,
    tracker: Arc<Mutex<Tracker>>,
    reporter: Reporter,
    postures: Postures,
    host_postures: Postures,
    /// As it is configured.
    configured_host: Host,
    /// What is known of the cluster, if one is followed.
    cluster: Option<Arc<Index>>,
    policies: Vec<Arc<Policy>>,
    bound: BTreeMap<WorkloadIndex, Bound>,
    by_id: HashMap<String, WorkloadIndex>,
    compiled: HashMap<CompiledKey, Arc<Ruleset>>,
    /// How many workloads have a ruleset, by its number.
    users: HashMap<u32, usize>,
    protection: Protection,
    mode: Mode,
    lateness: Lateness,
    /// When tasks are to be enrolled once more, in nanoseconds since boot.
    enrols_again: Option<u64>,
    /// What denies when the programs only look on.
    apparmor: Option<AppArmor>,
    /// Dropped when all workloads are known, or it is clear that nobody knows.
    all_known: Option<Sender<()>>,
    runtimes: BTreeMap<String, Runtime>,
    /// Why system calls are not observed as rules ask for; empty: they are.
    calls_trouble: String,
    visible: Visible,
    published: Published,
}

/// What the enforcer needs to know beforehand.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) host: Host,
    pub(crate) tracker: Arc<Mutex<Tracker>>,
    pub(crate) reporter: Reporter,
    pub(crate) postures: Postures,
    pub(crate) host_postures: Postures,
    pub(crate) protection: Protection,
    /// Of all workloads.
    pub(crate) mode: Mode,
    /// What denies when the programs only look on.
    pub(crate) apparmor: Option<AppArmor>,
    /// Dropped when all workloads are known, or it is clear that nobody knows.
    pub(crate) all_known: Sender<()>,
    /// What is visible, and where the channel of logs goes when it is open.
    pub(crate) visible: Defaults,
    pub(crate) log_readers: Sender<LogReader>,
    /// Where to say what is in force.
    pub(crate) published: Published,
}

impl Enforcer {
    pub(crate) fn new(kernel: Kernel, setup: Setup) -> Self {
        let Setup {
            host,
            tracker,
            reporter,
            postures,
            host_postures,
            protection,
            mode,
            apparmor,
            all_known,
            visible,
            log_readers,
            published,
        } = setup;
        let workload = Arc::new(Workload::Host(host.clone()));
        lock(&tracker).workload(WorkloadIndex::HOST.0, Arc::clone(&workload));
        let mut enforcer = Self {
            kernel,
            tracker,
            reporter,
            postures,
            host_postures,
            configured_host: host,
            cluster: None,
            policies: Vec::new(),
            bound: BTreeMap::from([(
                WorkloadIndex::HOST,
                Bound {
                    workload,
                    told: None,
                    treatment: Treatment::default(),
                    root: PathBuf::from("/"),
                    early_root: None,
                    announced: false,
                    cgroup: None,
                    pid: 1,
                    selected: Vec::new(),
                    policies: Vec::new(),
                    wanted: Vec::new(),
                    failed: None,
                    confined: false,
                    ruleset: None,
                    made_of: None,
                },
            )]),
            by_id: HashMap::new(),
            compiled: HashMap::new(),
            users: HashMap::new(),
            protection,
            mode,
            lateness: Lateness::default(),
            enrols_again: None,
            apparmor,
            all_known: Some(all_known),
            runtimes: BTreeMap::new(),
            calls_trouble: String::new(),
            visible: Visible::new(visible, log_readers),
            published,
        };
        match enforcer.kernel.boot_unix_micros(clock::boot_unix_micros()) {
            Ok(boot) => lock(&enforcer.tracker).booted_at(boot),
            Err(error) => enforcer.reporter.error(with_causes(&error)),
        }
        // Learns the host's root directory, too.
        if let Err(error) = enforcer.kernel.protect(protection) {
            enforcer.reporter.error(with_causes(&error));
        }
        enforcer.prepare_to_show();
        enforcer
    }

    /// Carries out commands until told to stop, or until nobody can tell any more.
    pub(crate) fn run(mut self, commands: &Receiver<Command>) {
        loop {
            let command = match commands.try_recv() {
                Ok(command) => Ok(command),
                // Only now, so that many changes at once are told once.
                Err(_nothing) => {
                    self.publish();
                    commands.recv_timeout(LOSS_INTERVAL)
                }
            };
            self.published.changed |= command.is_ok();
            match command {
                Ok(Command::Policies(policies)) => self.set_policies(policies),
                Ok(Command::Cluster(index)) => self.set_cluster(index),
                Ok(Command::Containers(change)) => self.containers(change),
                Ok(Command::Announced {
                    announced,
                    waits,
                    told,
                }) => {
                    let done = self.announced(*announced, waits);
                    // A hook waits only so long.
                    drop(told.send(done));
                }
                Ok(Command::Ended { id, pid }) => self.ended(&id, pid),
                Ok(Command::Visibility(defaults)) => self.set_visibility(defaults),
                Ok(Command::Done(told)) => {
                    self.publish();
                    // Whoever asked may have stopped waiting.
                    let (Ok(()) | Err(())) = told.send(());
                }
                Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.enrol_again();
            self.tell_repeats();
            self.report_losses();
        }
        self.end_logs();
        self.report_losses();
        if let Err(error) = self.kernel.take_leave(self.protection) {
            self.reporter.error(with_causes(&error));
        }
    }

    fn set_policies(&mut self, policies: Vec<Arc<Policy>>) {
        let before = std::mem::replace(&mut self.policies, policies);
        // Of both there are all now, so that no two of them are in one place.
        let new: HashSet<_> = addresses(&self.policies).collect();
        let stay: HashSet<_> = addresses(&before).filter(|it| new.contains(it)).collect();
        let all_stay = |of: &[usize]| of.iter().all(|policy| stay.contains(policy));
        self.compiled.retain(|key, _| all_stay(&key.0));
        if let Some(apparmor) = &mut self.apparmor {
            apparmor.policies(&self.policies);
        }
        // A change of one policy is none for those whom it is not for: with a thousand policies and
        // hundreds of pods that is what keeps it quick.
        let bound = self.bound.iter();
        let concerned = bound.filter(|(_, bound)| {
            let selected = self.selected(bound);
            let Some(made_of) = &bound.made_of else {
                return true;
            };
            bound.failed.is_some()
                || !all_stay(made_of)
                || !addresses(&selected).eq(made_of.iter().copied())
        });
        let concerned: Vec<_> = concerned.map(|(index, _)| *index).collect();
        drop(before);
        for index in concerned {
            // It is reported.
            drop(self.apply(index));
        }
    }

    /// The policies that are for a workload.
    fn selected(&self, bound: &Bound) -> Vec<Arc<Policy>> {
        let policies = self.policies.iter();
        let selected = policies
            .filter(|policy| bound.treatment.takes(policy) && policy.selects(&bound.workload));
        selected.cloned().collect()
    }

    fn containers(&mut self, change: Change) {
        match change {
            Change::Started(started) => {
                // It is reported.
                drop(self.started(started, Teller::Runtime));
            }
            Change::Stopped { id } => self.stopped(&id),
            Change::Synced { running } => {
                let gone: Vec<_> = self
                    .by_id
                    .iter()
                    .filter(|(id, _)| running.binary_search(id).is_err())
                    .filter(|(_, index)| self.bound.get(index).is_some_and(|b| !b.announced))
                    .map(|(id, _)| id.clone())
                    .collect();
                for id in gone {
                    self.stopped(&id);
                }
                let count = self.by_id.len();
                self.reporter.info(format!("{count} containers are known"));
                self.all_known();
            }
            Change::Connected { name, runtime } => {
                self.reporter.info(format!("connected to {runtime}"));
                self.runtime(name, Ok(runtime));
            }
            Change::Disconnected { name, reason } => {
                self.all_known = None;
                self.runtime(name, Err(reason.clone()));
                self.reporter.warn(format!(
                    "a container runtime cannot be reached: {reason}; what is in force stays"
                ));
            }
            Change::Problem(problem) => self.reporter.warn(format!(
                "container runtime, {}: {}",
                problem.kind.name(),
                problem.reason
            )),
        }
    }

    /// What an earlier agent left for workloads that are gone is removed.
    fn all_known(&mut self) {
        self.all_known = None;
        if let Some(apparmor) = &mut self.apparmor {
            apparmor.all_known();
        }
        match self.kernel.all_known() {
            Ok((workloads, programs)) => {
                if workloads > 0 {
                    let what = "workloads that ended while no agent ran are released";
                    self.reporter.info(format!("{workloads} {what}"));
                }
                for programs in programs {
                    self.reporter.info(format!(
                        "the programs of another version, `{programs}`, are removed"
                    ));
                }
            }
            Err(error) => self.reporter.error(with_causes(&error)),
        }
    }

    /// Works out what is to be in force for a workload, and puts it in force.
    fn apply(&mut self, index: WorkloadIndex) -> Result<(), String> {
        let Some(bound) = self.bound.get(&index) else {
            return Ok(());
        };
        let workload = Arc::clone(&bound.workload);
        let treatment = bound.treatment;
        let selected = self.selected(bound);
        let rules = if selected.is_empty() {
            None
        } else {
            match self.compile(index, selected.clone()) {
                Ok(rules) => Some(rules),
                Err(reason) => return self.not_in_force(index, &selected, reason),
            }
        };
        let applied = self
            .kernel
            .apply(index, rules.as_deref(), treatment.mode(self.mode));
        self.look_for_trouble_with_calls();
        match applied {
            Ok(applied) => {
                if let (Some(apparmor), Workload::Container(container)) =
                    (&mut self.apparmor, &*workload)
                    && let Some(bound) = self.bound.get_mut(&index)
                {
                    let postures = treatment.postures(self.postures);
                    // A profile denies whatever it is told; an audited workload is denied nothing.
                    let denying = match treatment.mode {
                        Mode::Enforced => selected.as_slice(),
                        Mode::Audited | Mode::Disabled => &[],
                    };
                    bound.confined = apparmor.apply(container, bound.pid, denying, postures);
                }
                self.applied(index, applied, rules.as_deref(), &selected);
            }
            Err(error) => return self.not_in_force(index, &selected, with_causes(&error)),
        }
        Ok(())
    }

    /// Rules about system calls need programs of their own: that they are missing is said when it begins
    /// and when it ends.
    fn look_for_trouble_with_calls(&mut self) {
        let trouble = self.kernel.trouble_with_calls();
        let trouble = trouble.map_or_else(String::new, |error| with_causes(error));
        if trouble == self.calls_trouble {
            return;
        }
        if trouble.is_empty() {
            let said = "system calls are observed as rules ask for, again";
            self.reporter.info(said.to_owned());
        } else {
            self.reporter
                .error(format!("rules about system calls tell nothing: {trouble}"));
        }
        self.calls_trouble = trouble;
    }

    fn not_in_force(
        &mut self,
        index: WorkloadIndex,
        selected: &[Arc<Policy>],
        reason: String,
    ) -> Result<(), String> {
        let Some(bound) = self.bound.get_mut(&index) else {
            return Err(reason);
        };
        bound.failed = Some(reason.clone());
        bound.wanted = selected.iter().map(|policy| named(policy)).collect();
        let name = name(&bound.workload);
        self.reporter.error(format!(
            "new rules for `{name}` are not in force, what was in force stays: {reason}"
        ));
        Err(reason)
    }

    fn applied(
        &mut self,
        index: WorkloadIndex,
        applied: Applied,
        rules: Option<&Ruleset>,
        selected: &[Arc<Policy>],
    ) {
        let number = match applied {
            Applied::Ruleset(number) => Some(number.0),
            Applied::Nothing => None,
        };
        if let (Some(number), Some(rules)) = (number, rules) {
            lock(&self.tracker).ruleset(number, rules.rules().iter().map(policy_ref).collect());
        }
        let Some(bound) = self.bound.get_mut(&index) else {
            return;
        };
        let before = std::mem::replace(&mut bound.ruleset, number);
        bound.failed = None;
        bound.wanted.clear();
        bound.made_of = Some(addresses(selected).collect());
        bound.policies = selected.iter().map(|policy| named(policy)).collect();
        let names: Vec<_> = selected.iter().map(|policy| policy.name.clone()).collect();
        let changed = before != number || bound.selected != names;
        bound.selected = names;
        let bound_mode = bound.treatment.mode(self.mode);
        let list = bound.selected.join(", ");
        let name = name(&bound.workload).to_owned();
        self.count_user(before, number);
        if changed && list.is_empty() {
            self.reporter
                .info(format!("no policy is in force for `{name}`"));
        } else if changed {
            let is_host = index == WorkloadIndex::HOST;
            let remark = match bound_mode {
                Mode::Enforced => "",
                Mode::Audited if self.apparmor.is_some() && !is_host => " (AppArmor denies)",
                Mode::Audited | Mode::Disabled => " (audit only: nothing is denied)",
            };
            self.reporter
                .info(format!("in force for `{name}`: {list}{remark}"));
        }
    }

    fn compile(
        &mut self,
        index: WorkloadIndex,
        policies: Vec<Arc<Policy>>,
    ) -> Result<Arc<Ruleset>, String> {
        let Some(bound) = self.bound.get(&index) else {
            return Err("it ended".to_owned());
        };
        let root = resolve::current_root(&bound.root, bound.early_root.as_deref());
        let aliases = resolve::aliases(root, &literal_paths(&policies)).unwrap_or_else(|error| {
            let (name, root) = (name(&bound.workload), root.display());
            self.reporter.warn(format!(
                "links in `{name}` are not followed, rules cover paths as written only: cannot \
                     open `{root}`: {error}"
            ));
            Aliases::default()
        });
        let postures = match *bound.workload {
            Workload::Host(_) => self.host_postures,
            Workload::Container(_) => self.postures,
        };
        let postures = bound.treatment.postures(postures);
        let key = (
            addresses(&policies).collect(),
            aliases.0,
            postures,
            search_domains(&bound.workload),
        );
        if let Some(there) = self.compiled.get(&key) {
            return Ok(Arc::clone(there));
        }
        let set = PolicySet {
            aliases: Aliases(key.1.clone()),
            search_domains: key.3.clone(),
            ..PolicySet::new(policies, postures)
        };
        let rules = compile(&set).map_err(|error| with_causes(&error))?;
        let rules = Arc::new(rules);
        self.compiled.insert(key, Arc::clone(&rules));
        Ok(rules)
    }

    /// A workload changed from one ruleset to another; the tracker forgets those nobody has.
    fn count_user(&mut self, before: Option<u32>, after: Option<u32>) {
        if let Some(number) = after {
            *self.users.entry(number).or_default() += 1;
        }
        if let Some(number) = before
            && let Some(users) = self.users.get_mut(&number)
        {
            *users -= 1;
            if *users == 0 {
                self.users.remove(&number);
                lock(&self.tracker).ruleset_ended(number);
            }
        }
    }

    fn enrol(&self) {
        if let Err(error) = self.kernel.enrol() {
            self.reporter.error(format!(
                "tasks that run already are not covered: {}",
                with_causes(&error)
            ));
        }
    }

    fn report_losses(&mut self) {
        let told = self.kernel.losses().and_then(|losses| {
            self.published.changed |= !losses.is_empty();
            for loss in &losses {
                let (stage, count) = (loss.stage.name(), loss.count);
                self.reporter
                    .warn(format!("{count} new losses, stage `{stage}`"));
            }
            self.kernel.losses_told(&losses)
        });
        if let Err(error) = told {
            self.reporter.error(with_causes(&error));
        }
    }
}

/// Where policies are.
fn addresses(policies: &[Arc<Policy>]) -> impl Iterator<Item = usize> {
    policies.iter().map(|policy| Arc::as_ptr(policy).addr())
}

fn policy_ref(rule: &gorget_engine::RuleInfo) -> PolicyRef {
    PolicyRef {
        name: rule.policy.clone(),
        severity: rule.severity,
        tags: rule.tags.clone(),
        message: rule.message.clone(),
    }
}

fn name(workload: &Workload) -> &str {
    match workload {
        Workload::Host(host) => &host.name,
        Workload::Container(container) => &container.name,
    }
}

/// What is locked here is whole after every call, so a panic elsewhere does not spoil it.
pub(crate) fn lock<T>(state: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a cluster's resolver completes a container's names with. Containers without a namespace
/// are in no cluster.
fn search_domains(workload: &Workload) -> Vec<String> {
    let namespace = match workload {
        Workload::Container(container) => container.namespace.as_ref(),
        Workload::Host(_) => None,
    };
    namespace.map_or_else(Vec::new, |namespace| {
        vec![
            format!("{namespace}.svc.cluster.local"),
            "svc.cluster.local".to_owned(),
            "cluster.local".to_owned(),
        ]
    })
}
