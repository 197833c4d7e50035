// SPDX-License-Identifier: Apache-2.0
//! Start, life and end of the agent.

use crate::announce::Announcements;
use crate::apparmor::{self, AppArmor};
use crate::clock;
use crate::cluster::{self, Cluster};
use crate::config::{Args, Backend, Config, LogPath, OnStop};
use crate::costs::Costs;
use crate::enforcer::{Command, Enforcer, Published, Setup, lock};
use crate::listen::HealthPort;
use crate::logs;
use crate::memory;
use crate::outputs::{self, Outputs};
use crate::reload;
use crate::report::Reporter;
use crate::sinks;
use crate::sources::{self, Sources};
use crate::status::{self, About, Unheard};
use crate::tasks::{Tasks, thread};
use crate::throttle::{Limit, Throttle};
use crate::tried;
use anyhow::{Context, bail};
use gorget_bpf::{
    Beginning, Beginnings, Kernel, Programs, Protection, Reader, Requirement, Support, is_in_force,
    probe, running_agent, self_test, uninstall,
};
use gorget_containers::{Backoff, Change, Config as Watch};
use gorget_containers::{hook, nri};
use gorget_model::with_causes;
use gorget_model::{Event, Host, Mode, Node};
use gorget_observe::Tracker;
use gorget_profiles::Loader;
use gorget_telemetry::status::Status;
use gorget_telemetry::{Feeder, Services, Tcp, run_daemon};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::cell::RefCell;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{fs, io};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};

/// Questions of clients about policies that may wait; whoever asks more waits to ask.
const QUESTIONS: usize = 16;

/// Containers that begin and were not looked at yet.
const BEGINNINGS: usize = 256;

/// The user who may announce containers.
const ROOT: u32 = 0;

/// How long an agent has that is told to stop.
const END_LIMIT: Timespec = Timespec {
    tv_sec: 30,
    tv_nsec: 0,
};

/// How long clients of the feed have to take what is queued for them when the agent stops.
const FAREWELL: Duration = Duration::from_secs(2);

/// Runs the agent until a signal ends it.
pub fn run(args: Args) -> ExitCode {
    let arenas = memory::share_one_arena();
    run_daemon(|| {
        if let Err(why) = arenas {
            tracing::warn!("{why}: more of it stays in use");
        }
        start(&args)
    })
}

fn start(args: &Args) -> anyhow::Result<()> {
    let host_name = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    if args.probe {
        return tried::run();
    }
    if args.stop {
        return end_running_agent();
    }
    if args.reload {
        return signal_agent(Signal::HUP).map(|(number, _)| {
            tracing::info!("`gorgetd` (process {number}) reads its configuration again");
        });
    }
    if args.uninstall {
        return remove_everything();
    }
    let config = Config::load(args, &host_name)?;
    let chosen = choose(&config.backends, probe(Path::new("/")))?;
    let programs = chosen.0;
    if is_in_force(programs) && !args.check {
        tracing::info!(
            "the programs are in force already: they were tested when they were attached"
        );
    } else {
        let questions = self_test().context("testing the kernel's decisions")?;
        tracing::info!("this kernel decides {questions} test questions as it should");
    }
    if args.check {
        return match programs {
            Programs::Enforcing => Ok(()),
            Programs::AuditOnly if chosen.1.is_some() => Ok(()),
            Programs::AuditOnly => bail!("this machine cannot enforce policies, only audit"),
        };
    }
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?
        .block_on(live(config, chosen, (args.clone(), host_name)))
}

/// Signals the agent that runs. Gives its number and its process.
fn signal_agent(signal: Signal) -> anyhow::Result<(u32, OwnedFd)> {
    let Some(number) = running_agent()? else {
        bail!("no `gorgetd` runs");
    };
    let pid = i32::try_from(number).ok().and_then(Pid::from_raw);
    let pid = pid.context("the agent's number is out of range")?;
    let agent = pidfd_open(pid, PidfdFlags::empty()).context("opening the agent's process")?;
    pidfd_send_signal(&agent, signal).context("signalling the agent")?;
    Ok((number, agent))
}

/// Tells the agent that runs to stop, and waits until it has.
fn end_running_agent() -> anyhow::Result<()> {
    let (number, agent) = signal_agent(Signal::TERM)?;
    let mut ended = [PollFd::new(&agent, PollFlags::IN)];
    match poll(&mut ended, Some(&END_LIMIT)).context("waiting for the agent's end")? {
        0 => bail!(
            "`gorgetd` (process {number}) has not ended within {} s",
            END_LIMIT.tv_sec
        ),
        _ => tracing::info!("`gorgetd` (process {number}) has ended"),
    }
    Ok(())
}

/// Ends all enforcement of earlier agents.
fn remove_everything() -> anyhow::Result<()> {
    let removed = uninstall()?;
    remove_profiles()?;
    for programs in &removed {
        tracing::info!("removed `{programs}`");
    }
    tracing::info!(
        "{} sets of programs are removed, nothing is enforced",
        removed.len()
    );
    Ok(())
}

fn remove_profiles() -> anyhow::Result<()> {
    match apparmor::remove_all() {
        Ok(0) => {}
        Ok(count) => tracing::info!("{count} AppArmor profiles are removed"),
        Err(reason) => bail!("removing AppArmor profiles: {reason}"),
    }
    Ok(())
}

/// Which programs are put in force, and who loads profiles when they only look on.
type Chosen = (Programs, Option<Loader>);

/// Says what this machine lacks, all at once, and which of the wanted programs it can have.
fn choose(backends: &[Backend], requirements: Vec<Requirement>) -> anyhow::Result<Chosen> {
    if !rustix::process::geteuid().is_root() {
        bail!("gorgetd must run as root: it loads programs into the kernel");
    }
    let (mut to_enforce, mut to_audit) = (0, 0);
    for requirement in requirements {
        match requirement.support {
            Support::Met(found) => tracing::debug!("{}: {found}", requirement.name),
            Support::Missing { reason, remedy } => {
                to_enforce += 1;
                to_audit += usize::from(!requirement.only_to_enforce);
                tracing::error!(
                    "{} is missing: {reason}; to get it: {remedy}",
                    requirement.name
                );
            }
        }
    }
    let possible = backends.iter().find_map(|backend| match backend {
        Backend::Bpf => (to_enforce == 0).then_some((Programs::Enforcing, None)),
        Backend::AppArmor if to_audit > 0 => None,
        Backend::AppArmor => match Loader::detect(Path::new("/")) {
            Ok(loader) => Some((Programs::AuditOnly, Some(loader))),
            Err(missing) => {
                tracing::info!("AppArmor cannot enforce either: {missing}");
                None
            }
        },
        Backend::None => (to_audit == 0).then_some((Programs::AuditOnly, None)),
    });
    let Some((programs, profiles)) = possible else {
        bail!("this machine cannot enforce policies: {to_enforce} requirements are missing");
    };
    if profiles.is_some() {
        tracing::warn!(
            "AppArmor enforces: only containers that run in a profile `kubearmor_NAME` are denied \
             anything, and not all that policies can ask for; nobody is kept from ending this agent"
        );
    } else if programs == Programs::AuditOnly {
        let why = match backends.first() {
            Some(Backend::None) => "as configured (`lsm`)",
            _ => {
                "because of what is missing; `lsm: bpf` in the configuration refuses to start then"
            }
        };
        tracing::warn!(
            "audit only: policies are reported on and NOTHING IS DENIED, {why}; nobody is kept from \
             ending this agent either"
        );
    }
    Ok((programs, profiles))
}

async fn live(
    config: Config,
    (programs, profiles): Chosen,
    (args, host_name): (Args, String),
) -> anyhow::Result<()> {
    let started_ns = clock::boot_ns();
    let mut stop = Stop::new()?;
    let reload = signal(SignalKind::hangup())?;
    let node = Arc::new(Node {
        cluster: config.cluster.clone(),
        host: config.host.clone(),
        id: fs::read_to_string("/etc/machine-id")
            .unwrap_or_default()
            .trim()
            .to_owned(),
    });
    let outputs = Outputs::default();
    let feeder = match &config.log {
        LogPath::None | LogPath::Stdout => Feeder::new(),
        LogPath::File(path) => {
            let rotation = config.outputs.rotation;
            sinks::feeder_with_file(path, rotation, Arc::clone(&node), &outputs)?
        }
    };
    let feeder = feeder.with_history(config.history);
    let reporter = Reporter::new(Arc::clone(&node), feeder.clone());
    let users = fs::read_to_string("/etc/passwd")
        .map(|text| users(&text))
        .unwrap_or_default();
    let tracker = Arc::new(Mutex::new(Tracker::new(
        Arc::clone(&node),
        clock::boot_unix_micros(),
        users,
    )));

    let listener = gorget_telemetry::bind(&config.socket).context("opening the feed's socket")?;
    let mut tasks = Tasks::default();
    if config.log == LogPath::Stdout {
        let output = outputs.add("stdout", "standard output");
        let log = sinks::to_stdout(feeder.clone(), Arc::clone(&node), output);
        tasks.spawn("log", log);
    }

    let (commands, received) = channel();
    let (loaded, reader) = oneshot::channel();
    let (known, all_known) = channel();
    let (log_readers, logs_to_read) = channel();
    let fixed = status::fixed(&config, &node, programs, profiles.is_some());
    let (published, in_force) = Published::new(fixed);
    let costs = Costs::new(published.measured());
    let limits_of = match profiles {
        Some(_) => gorget_engine::Backend::AppArmor,
        None => gorget_engine::Backend::BpfLsm,
    };
    let setup = Setup {
        host: host(&config),
        tracker: Arc::clone(&tracker),
        reporter: reporter.clone(),
        postures: config.postures,
        host_postures: config.host_postures,
        protection: match programs {
            Programs::Enforcing => config.protection,
            Programs::AuditOnly => Protection::Report,
        },
        mode: match programs {
            Programs::Enforcing => Mode::Enforced,
            Programs::AuditOnly => Mode::Audited,
        },
        apparmor: profiles.map(|loader| AppArmor::new(loader, reporter.clone(), config.postures)),
        all_known: known,
        visible: config.visible,
        log_readers,
        published,
    };
    let hashes = config.hashes;
    let enforcer = thread("enforcer", move || {
        enforce(setup, programs, hashes, &received, loaded)
    })?;
    let (reader, beginnings) = reader.await.context("the enforcer ended")??;
    let reading = Arc::new(AtomicBool::new(true));
    let (begins, begun) = mpsc::channel(BEGINNINGS);
    let starts = {
        let (reading, reporter) = (Arc::clone(&reading), reporter.clone());
        thread("starts", move || {
            read_starts(beginnings, &reading, &begins, &reporter)
        })?
    };
    let lost = Arc::new(Unheard::default());
    let logs = {
        let told = logs::Told {
            tracker: Arc::clone(&tracker),
            feeder: feeder.clone(),
            reporter: reporter.clone(),
            lost: Arc::clone(&lost),
        };
        let reading = Arc::clone(&reading);
        thread("logs", move || told.read(&logs_to_read, &reading))?
    };
    let (following, cluster) = match config.kubernetes.clone() {
        None => (None, cluster::none(config.throttle)),
        Some(settings) => {
            let (following, heard) = Cluster::start(cluster::Setup {
                settings,
                state_dir: config.state_dir.clone(),
                commands: commands.clone(),
                reporter: reporter.clone(),
                tracker: Arc::clone(&tracker),
                node: Arc::clone(&node),
                throttle: config.throttle,
            });
            (Some(following), heard)
        }
    };
    let throttle = cluster.throttle.clone();
    let events = {
        let lost = Arc::clone(&lost);
        let (reading, feeder, reporter) = (Arc::clone(&reading), feeder.clone(), reporter.clone());
        thread("events", move || {
            // What an earlier agent's programs reported can be told only when it is known of whom:
            // nothing is ever sent, the other end is dropped.
            let (Ok(()) | Err(_)) = all_known.recv();
            let heard = Heard {
                tracker: &tracker,
                feeder: &feeder,
                reporter: &reporter,
                throttle: RefCell::new(Throttling::new(throttle)),
                lost: &lost,
            };
            heard.read(reader, &reading);
        })?
    };

    let (watcher, dir_changes) = sources::watch(&config.policy_dir, &reporter);
    let sources = Sources::start(
        config.policy_dir.clone(),
        &config.state_dir,
        commands.clone(),
        reporter.clone(),
        (limits_of, cluster.policies.clone()),
    )
    .await?;
    let about = About {
        in_force: in_force.clone(),
        policies: sources.told(),
        cluster: cluster.status.clone(),
        feeder: feeder.clone(),
        outputs: outputs.clone(),
        lost,
        costs,
        started_ns,
    };
    let (asking, asked) = mpsc::channel(QUESTIONS);
    let (asking_status, status_asked) = mpsc::channel(status::QUESTIONS);
    let services = Services::new(feeder.clone())
        .with_policies(asking)
        .with_status(Status {
            asking: asking_status,
            state: in_force,
        });
    outputs::start(&config.outputs, &about, &reporter, &mut tasks).await?;
    tasks.spawn("status", about.answer(status_asked, services.clone()));
    tasks.spawn("policies", sources.follow(dir_changes, asked));
    if let Some(following) = following {
        tasks.spawn("cluster", following.follow());
    }
    let reloading = reload::follow(reload, args, host_name, commands.clone(), reporter.clone());
    tasks.spawn("reload", reloading);
    let watched = Watch {
        runtimes: config.runtimes.clone(),
        ..Watch::default()
    };
    let announcements = Announcements::new(
        commands.clone(),
        reporter.clone(),
        watched.clone(),
        cluster.known,
    );
    let hooks = hook_settings(&reporter);
    let asking_hooks =
        gorget_telemetry::bind(&hooks.socket).context("opening the hook's socket")?;
    let (hears, heard) = mpsc::channel(QUESTIONS);
    tasks.spawn("hook", hook::serve(asking_hooks, ROOT, hears));
    let hook_socket = hooks.socket.clone();
    let (tells, told) = mpsc::channel(QUESTIONS);
    tasks.spawn(
        "nri",
        nri::follow(nri::SOCKET.into(), Backoff::default(), tells),
    );
    let settings = hooks.clone();
    tasks.spawn("hooks", announcements.clone().answer_hooks(hooks, heard));
    tasks.spawn("pods", announcements.clone().answer_nri(settings, told));
    tasks.spawn("starts", announcements.follow_kernel(begun));
    let (changes, watch) = gorget_containers::watch(watched);
    tasks.spawn("runtimes", watch);
    tasks.spawn("containers", follow_containers(changes, commands.clone()));
    if let Some(listen) = &config.listen {
        let tcp = listen.open().await?;
        match listen.said() {
            Ok(said) => reporter.info(said),
            Err(warning) => reporter.warn(warning),
        }
        let all = services.clone();
        let offered = match listen.policies {
            true => all,
            false => all.without_policies(),
        };
        let feed = tcp.serve(offered, std::future::pending());
        let served = reporter.clone();
        tasks.spawn("TCP port", async move {
            if let Err(error) = feed.await {
                served.error(format!("the TCP port ended: {}", with_causes(&error)));
            }
        });
    }
    if let Some(port) = &config.health {
        serve_health(port, services.clone(), &reporter, &mut tasks).await?;
    }
    let (end_feed, feed_ends) = oneshot::channel::<()>();
    let feed = services.serve(listener, async {
        // Also when the sender is dropped.
        drop(feed_ends.await);
    });
    let served = reporter.clone();
    tasks.spawn("feed", async move {
        if let Err(error) = feed.await {
            served.error(format!("the feed ended: {}", with_causes(&error)));
        }
    });
    reporter.info(format!(
        "ready: policies from `{}`, alerts at `{}`",
        config.policy_dir.display(),
        config.socket.display()
    ));

    let ended = tokio::select! {
        name = stop.received() => { reporter.info(format!("{name} received, stopping")); Ok(()) }
        why = tasks.ended() => Err(anyhow::anyhow!("{why}")),
    };
    // Detach first, if at all, then drain what was decided before, then end the feed.
    drop(watcher);
    drop(commands.send(Command::Stop));
    let enforcer_ended = tokio::task::spawn_blocking(move || enforcer.join()).await;
    if config.on_stop == OnStop::Detach {
        uninstall().context("detaching")?;
        remove_profiles()?;
    }
    reading.store(false, Ordering::Release);
    let events_ended = tokio::task::spawn_blocking(move || {
        let starts_ended = starts.join();
        let logs_ended = logs.join();
        events.join().and(starts_ended).and(logs_ended)
    })
    .await;
    drop(end_feed);
    // The feed's clients get what was decided before the end; the other tasks do not end by
    // themselves.
    drop(tokio::time::timeout(FAREWELL, tasks.ended()).await);
    tasks.stop().await;
    for socket in [&config.socket, &hook_socket] {
        if let Err(error) = fs::remove_file(socket) {
            tracing::debug!("removing `{}`: {error}", socket.display());
        }
    }
    if !matches!(enforcer_ended, Ok(Ok(()))) || !matches!(events_ended, Ok(Ok(()))) {
        bail!("a thread of the agent failed");
    }
    ended
}

/// Opens the port for health. When somebody else has KubeArmor's, which nobody asked for by name, the
/// agent does without.
async fn serve_health(
    port: &HealthPort,
    services: Services,
    reporter: &Reporter,
    tasks: &mut Tasks,
) -> anyhow::Result<()> {
    let tcp = match Tcp::bind(port.address, None).await {
        Ok(tcp) => tcp,
        Err(error) if port.is_wanted => {
            return Err(error).context("opening the port for health (`healthListen`)");
        }
        Err(error) => {
            let why = with_causes(&error);
            reporter.warn(format!("health is not told on a port of its own: {why}"));
            return Ok(());
        }
    };
    let reporter = reporter.clone();
    tasks.spawn("health port", async move {
        if let Err(error) = tcp.serve_health(services).await {
            reporter.error(format!(
                "the port for health ended: {}",
                with_causes(&error)
            ));
        }
    });
    Ok(())
}

/// The body of the thread that owns the kernel side. `hashes`: of what is executed.
fn enforce(
    setup: Setup,
    programs: Programs,
    hashes: bool,
    commands: &Receiver<Command>,
    loaded: oneshot::Sender<anyhow::Result<(Reader, Beginnings)>>,
) {
    let reporter = setup.reporter.clone();
    let kernel = Kernel::load(programs).and_then(|mut kernel| {
        if hashes {
            hash_programs(&mut kernel, programs, &reporter);
        }
        Ok((kernel.reader()?, kernel.beginnings()?, kernel))
    });
    match kernel {
        Ok((reader, beginnings, kernel)) => {
            let hooks: Vec<_> = kernel.hooks().collect();
            let how = match kernel.is_adopted() {
                true => "took over what is in force at",
                false => "attached to",
            };
            reporter.info(format!("{how} {} hooks: {}", hooks.len(), hooks.join(", ")));
            for hook in kernel.left_out() {
                reporter.info(format!(
                    "`{}` is left out: this kernel does not have the hook, and `{}` decides there",
                    hook.name, hook.instead
                ));
            }
            if !kernel.lists_programs() {
                reporter.warn(
                    "the kernel lists loaded programs only to who has CAP_SYS_ADMIN: losses of the stage \
                     `skipped` and what hooks cost are not known",
                );
            }
            let enforcer = Enforcer::new(kernel, setup);
            if loaded.send(Ok((reader, beginnings))).is_ok() {
                enforcer.run(commands);
            }
        }
        Err(error) => drop(loaded.send(Err(error.into()))),
    }
}

/// Nothing else depends on it: what cannot be done is said.
fn hash_programs(kernel: &mut Kernel, programs: Programs, reporter: &Reporter) {
    let hashed = match programs {
        Programs::Enforcing => kernel.hash_programs().map_err(|error| with_causes(&error)),
        Programs::AuditOnly => {
            Err("it needs programs at the hooks of security modules (`lsm: bpf`)".to_owned())
        }
    };
    match hashed {
        Ok(()) => reporter.info("events have hashes of programs that are started from now on"),
        Err(why) => reporter.error(format!("`enableIMA` has no effect: {why}")),
    }
}

/// From when on alerts are only counted, which may change.
struct Throttling {
    limit: watch::Receiver<Option<Limit>>,
    now: Option<Throttle>,
}

impl Throttling {
    fn new(limit: watch::Receiver<Option<Limit>>) -> Self {
        let mut throttling = Self { limit, now: None };
        throttling.renew();
        throttling
    }

    fn is_other(&self) -> bool {
        let now = self.now.as_ref().map(Throttle::limit);
        *self.limit.borrow() != now
    }

    fn renew(&mut self) {
        let limit = *self.limit.borrow_and_update();
        self.now = limit.map(Throttle::new);
    }
}

/// What becomes of what the programs report.
struct Heard<'a> {
    tracker: &'a Mutex<Tracker>,
    feeder: &'a Feeder,
    reporter: &'a Reporter,
    throttle: RefCell<Throttling>,
    lost: &'a Unheard,
}

impl Heard<'_> {
    /// The body of the thread that reads the ring buffer.
    fn read(&self, reader: Reader, reading: &AtomicBool) {
        let done = reader.run(
            || {
                self.follow_limit();
                self.tell_counted(Throttle::over);
                reading.load(Ordering::Acquire)
            },
            |record| match record {
                Ok(event) => self.tell(lock(self.tracker).enrich(event)),
                Err(error) => {
                    self.lost.undecodable.fetch_add(1, Ordering::Relaxed);
                    let why = with_causes(&error);
                    self.reporter.error(format!("an event was lost: {why}"));
                }
            },
        );
        self.tell_counted(Throttle::end);
        if let Err(error) = done {
            let why = with_causes(&error);
            self.reporter
                .error(format!("alerts cannot be read any more: {why}"));
        }
    }

    fn tell(&self, event: Event) {
        let told = match &mut self.throttle.borrow_mut().now {
            None => Some(event),
            Some(throttle) => throttle.pass(event, clock::unix_micros()),
        };
        // Of an alert that is only counted nothing is told, or that it begins.
        if matches!(told, None | Some(Event::Threshold(_))) {
            self.lost.throttled.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(event) = told {
            self.feeder.publish(event);
        }
    }

    /// The cluster's settings may say another limit.
    fn follow_limit(&self) {
        let is_other = self.throttle.borrow().is_other();
        if is_other {
            self.tell_counted(Throttle::end);
            self.throttle.borrow_mut().renew();
        }
    }

    fn tell_counted(&self, which: impl Fn(&mut Throttle, i64) -> Vec<Event>) {
        if let Some(throttle) = &mut self.throttle.borrow_mut().now {
            let told = which(throttle, clock::unix_micros());
            told.into_iter()
                .for_each(|event| self.feeder.publish(event));
        }
    }
}

/// The body of the thread that hears of containers that begin.
fn read_starts(
    beginnings: Beginnings,
    reading: &AtomicBool,
    begins: &mpsc::Sender<Beginning>,
    reporter: &Reporter,
) {
    let done = beginnings.run(
        || reading.load(Ordering::Acquire),
        |beginning| {
            // More than that at once are found a little later, when their runtime reports them.
            if begins.try_send(beginning).is_err() {
                tracing::debug!("too many containers begin at once");
            }
        },
    );
    if let Err(error) = done {
        reporter.error(format!(
            "containers that begin are noticed late: {}",
            with_causes(&error)
        ));
    }
}

/// How hooks behave, which says where they ask and what they count.
fn hook_settings(reporter: &Reporter) -> hook::Settings {
    hook::Settings::load(Path::new(hook::CONFIG)).unwrap_or_else(|error| {
        reporter.error(format!(
            "{}; until that is corrected no hook lets a container start",
            with_causes(&error)
        ));
        hook::Settings::default()
    })
}

fn host(config: &Config) -> Host {
    let mut labels = config.node_labels.clone();
    for key in ["kubearmor.io/hostname", "kubernetes.io/hostname"] {
        labels
            .entry(key.to_owned())
            .or_insert_with(|| config.host.clone());
    }
    Host {
        name: config.host.clone(),
        labels,
    }
}

/// Uid to name, from the text of `/etc/passwd`. A static binary has no other way to ask.
fn users(passwd: &str) -> HashMap<u32, String> {
    passwd
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            let uid = fields.nth(1)?.parse().ok()?;
            Some((uid, name.to_owned()))
        })
        .collect()
}

async fn follow_containers(mut changes: mpsc::Receiver<Change>, commands: Sender<Command>) {
    while let Some(change) = changes.recv().await {
        if commands.send(Command::Containers(change)).is_err() {
            return;
        }
    }
}

/// The signals that end the agent.
struct Stop {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Stop {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn received(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_read_from_passwd_and_broken_lines_are_skipped() {
        let users = users("root:x:0:0::/:/bin/sh\nbroken\nx:y:notanumber:\nann:x:1000:\n");
        assert_eq!(users.len(), 2);
        assert_eq!(users.get(&1000).map(String::as_str), Some("ann"));
    }

    #[test]
    fn the_host_has_its_name_as_both_labels_unless_configured() {
        let args = <Args as clap::Parser>::parse_from(["gorgetd"]);
        let config = Config::load(&args, "machine").unwrap();
        let host = host(&config);
        assert_eq!(
            host.labels.get("kubernetes.io/hostname"),
            Some(&"machine".to_owned())
        );
        assert_eq!(
            host.labels.get("kubearmor.io/hostname"),
            Some(&"machine".to_owned())
        );
    }
}
