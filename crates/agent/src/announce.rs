// SPDX-License-Identifier: Apache-2.0
//! Containers that are about to run their first program: hooks and NRI ask to have the rules in force
//! and wait for that; the kernel tells of all others, which wait for nobody.
//!
//! Whoever announces a container need not say when it ends: its first process is watched until then.
//!
//! Failure: whoever waits is answered with the reason; what the kernel told and cannot be looked up is
//! left to the runtime's own report.

use crate::enforcer::{Command, lock};
use crate::report::Reporter;
use crate::tasks::Brief;
use gorget_bpf::Beginning;
use gorget_containers::hook::{Answer, Message, Question, Settings, Starting, WhenDown, missed};
use gorget_containers::nri::Told;
use gorget_containers::{Config, identify, of_id, of_process};
use gorget_k8s::Index;
use gorget_model::Container;
use gorget_model::with_causes;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

/// How long a container waits for its pod to be known.
const POD_LIMIT: Duration = Duration::from_secs(1);

/// Puts announced containers in force. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Announcements {
    commands: Sender<Command>,
    reporter: Reporter,
    watch: Arc<Config>,
    /// What is known of the cluster, if one is followed.
    cluster: watch::Receiver<Option<Arc<Index>>>,
    /// Containers and their first processes that were announced and have not ended.
    live: Arc<Mutex<HashSet<(String, u32)>>>,
    ends: Arc<Mutex<Brief>>,
}

impl Announcements {
    pub(crate) fn new(
        commands: Sender<Command>,
        reporter: Reporter,
        watch: Config,
        cluster: watch::Receiver<Option<Arc<Index>>>,
    ) -> Self {
        Self {
            commands,
            reporter,
            watch: Arc::new(watch),
            cluster,
            live: Arc::default(),
            ends: Arc::default(),
        }
    }

    /// Returns when the container's rules are in force, for which its first program `waits` or not.
    async fn begin(&self, starting: Starting, waits: bool) -> Result<(), String> {
        let (id, pid) = (starting.id.clone(), starting.pid);
        // Before anything else, so that the number means this process and no later one.
        let process = process(pid).map_err(|error| format!("process {pid}: {error}"))?;
        let announced = identify(&self.watch, starting).await;
        let announced = Box::new(announced.map_err(|error| with_causes(&error))?);
        let stopping = || "the agent stops".to_owned();
        if waits {
            self.wait_for_pod(&announced.started.container).await;
        }
        let (told, done) = oneshot::channel();
        let command = Command::Announced {
            announced,
            waits,
            told,
        };
        self.commands.send(command).map_err(|_end| stopping())?;
        let done = done.await.map_err(|_end| stopping())?;
        if lock(&self.live).insert((id.clone(), pid)) {
            let own = self.clone();
            lock(&self.ends).spawn(async move { own.end(id, pid, process).await });
        }
        done
    }

    /// Returns when the container's pod is known, so that its rules are those for its labels. The kubelet
    /// knows a pod from the server that this agent is told by, at about the same time.
    async fn wait_for_pod(&self, container: &Container) {
        let mut cluster = self.cluster.clone();
        let is_known = |index: &Option<Arc<Index>>| {
            // What the server has not told for a long time does not come in a moment.
            let comes = |index: &Arc<Index>| index.is_current() && !index.is_away();
            index
                .as_ref()
                .is_none_or(|index| index.knows(container) || !comes(index))
        };
        let known = cluster.wait_for(is_known);
        if timeout(POD_LIMIT, known).await.is_err() {
            let (id, pod) = (&container.id, container.pod.as_deref().unwrap_or_default());
            self.reporter.warn(format!(
                "the pod `{pod}` of container `{id}` is not known yet: policies that select by labels \
                 are in force for it when it is"
            ));
        }
    }

    /// Waits for the end of a container's first process, and tells it.
    async fn end(&self, id: String, pid: u32, process: OwnedFd) {
        #[expect(
            deprecated,
            reason = "its contract is that the descriptor stays the same, and an `OwnedFd`'s does"
        )]
        let registered = AsyncFd::with_interest(process, Interest::READABLE);
        let ended = match registered {
            Ok(process) => process.readable().await.map(drop),
            Err(error) => Err(error),
        };
        if let Err(error) = ended {
            self.reporter.error(format!(
                "the end of container `{id}` will not be noticed: {error}"
            ));
            return;
        }
        lock(&self.live).remove(&(id.clone(), pid));
        let pid = Some(pid);
        // The enforcer ends only with the agent.
        drop(self.commands.send(Command::Ended { id, pid }));
    }

    async fn answer(&self, message: Message) -> Answer {
        match message {
            Message::Starting(starting) => match self.begin(starting, true).await {
                Ok(()) => Answer::Done,
                Err(reason) => Answer::Failed { reason },
            },
            Message::Stopped { id } => {
                drop(self.commands.send(Command::Ended { id, pid: None }));
                Answer::Done
            }
        }
    }

    /// Answers hooks, for as long as they can ask.
    pub(crate) async fn answer_hooks(
        self,
        settings: Settings,
        mut asked: mpsc::Receiver<Question>,
    ) {
        self.tell_missed(&settings);
        while let Some(Question { message, answer }) = asked.recv().await {
            // Each on its own: one waits for its runtime, another need not.
            let (own, settings) = (self.clone(), settings.clone());
            lock(&self.ends).spawn(async move {
                // The hook may have stopped waiting.
                drop(answer.send(own.answer(message).await));
                own.tell_missed(&settings);
            });
        }
    }

    /// Answers NRI, for as long as it can ask.
    pub(crate) async fn answer_nri(self, settings: Settings, mut told: mpsc::Receiver<Told>) {
        while let Some(told) = told.recv().await {
            match told {
                Told::Connected { runtime } => {
                    let what = "asks by NRI before it starts containers";
                    self.reporter.info(format!("{runtime} {what}"));
                }
                Told::Disconnected { reason } => self.reporter.warn(format!(
                    "nobody asks by NRI any more before containers are started: {reason}"
                )),
                Told::Starting { id, pid, answer } => {
                    let (own, when_down) = (self.clone(), settings.when_down);
                    lock(&self.ends).spawn(async move {
                        // The runtime may have stopped waiting.
                        drop(answer.send(own.begin_by_nri(&id, pid, when_down).await));
                    });
                }
            }
        }
    }

    async fn begin_by_nri(&self, id: &str, pid: u32, when_down: WhenDown) -> Result<(), String> {
        let done = match of_id(id, pid) {
            Ok(starting) => self.begin(starting, true).await,
            Err(error) => Err(with_causes(&error)),
        };
        let Err(reason) = done else {
            return Ok(());
        };
        let what = format!("the rules of container `{id}` are not known to be in force");
        match when_down {
            WhenDown::Open => {
                let why = format!("{what}, it starts all the same: {reason}");
                self.reporter.warn(why);
                Ok(())
            }
            WhenDown::Closed => {
                let why = format!("{what}, it does not start: {reason}");
                self.reporter.warn(&why);
                Err(why)
            }
        }
    }

    /// What hooks counted that could not ask.
    fn tell_missed(&self, settings: &Settings) {
        let file = &settings.missed;
        let missed = match missed::take(file) {
            Ok(missed) => missed,
            Err(error) => {
                let file = file.display();
                let why = format!("reading what hooks counted, `{file}`: {error}");
                return self.reporter.error(why);
            }
        };
        let missed::Missed {
            started,
            refused,
            ids,
        } = missed;
        if started + refused > 0 {
            let ids = ids.join(", ");
            self.reporter.warn(format!(
                "{started} containers were started although no agent said that their rules were in \
                 force, {refused} were not started for that reason: {ids}"
            ));
        }
    }

    /// Looks up what the kernel tells of, for as long as it does.
    pub(crate) async fn follow_kernel(self, mut begun: mpsc::Receiver<Beginning>) {
        while let Some(Beginning { cgroup, pid }) = begun.recv().await {
            let starting = match of_process(&self.watch, pid) {
                Ok(Some(starting)) => starting,
                // A service of the host, or a container that nobody keeps a bundle of.
                Ok(None) => continue,
                Err(error) => {
                    tracing::debug!(pid, cgroup, error = %with_causes(&error), "no bundle");
                    continue;
                }
            };
            if lock(&self.live).contains(&(starting.id.clone(), pid)) {
                continue;
            }
            let own = self.clone();
            lock(&self.ends).spawn(async move {
                let id = starting.id.clone();
                if let Err(reason) = own.begin(starting, false).await {
                    own.reporter.warn(format!(
                        "container `{id}` began before its rules were in force: {reason}"
                    ));
                }
            });
        }
    }
}

fn process(pid: u32) -> rustix::io::Result<OwnedFd> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pidfd_open(pid.ok_or(rustix::io::Errno::SRCH)?, PidfdFlags::NONBLOCK)
}
