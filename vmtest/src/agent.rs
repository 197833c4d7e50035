// SPDX-License-Identifier: Apache-2.0
//! A running `gorgetd` with a policy directory of its own.

use crate::lines::Lines;
use crate::{JOB, TIMEOUT, only_in_the_guest};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Instant;

/// Socket of the feed.
const SOCKET: &str = "/run/gorget/test.sock";

/// The agent. When it is dropped it ends, and leaves nothing that could disturb the next test.
#[derive(Debug)]
pub struct Agent {
    child: Child,
    said: Lines,
    alerts: Lines,
    policies: PathBuf,
    leaves_nothing: bool,
    /// It was configured otherwise than most: the next one begins with nothing.
    is_unusual: bool,
}

impl Agent {
    /// Starts the agent with an empty policy directory and waits until it is ready.
    ///
    /// # Panics
    ///
    /// When it does not become ready, or this is not the guest.
    pub fn start(config: &str) -> Self {
        Self::start_with(config, &[])
    }

    /// As [`Agent::start`], with policy files (name, text) that are there from the beginning.
    ///
    /// # Panics
    ///
    /// When it does not become ready, or this is not the guest.
    pub fn start_with(config: &str, policies: &[(&str, &str)]) -> Self {
        only_in_the_guest();
        let dir = PathBuf::from("/tmp/gorget-policies");
        drop(fs::remove_dir_all(&dir));
        create(&dir);
        for (file, text) in policies {
            write(&dir.join(file), text);
        }
        Self::start_in(dir, config)
    }

    /// Starts another agent after [`Agent::kill`], with the policies that are there.
    ///
    /// # Panics
    ///
    /// When it does not become ready, or this is not the guest.
    pub fn start_again(config: &str) -> Self {
        Self::start_in(PathBuf::from("/tmp/gorget-policies"), config)
    }

    /// As [`Agent::start_again`], but waits only until it says this.
    ///
    /// # Panics
    ///
    /// When it does not, or this is not the guest.
    pub fn start_until(config: &str, said: &str) -> Self {
        let mut agent = Self::launch(PathBuf::from("/tmp/gorget-policies"), config);
        agent.wait_for(said);
        agent
    }

    fn start_in(dir: PathBuf, config: &str) -> Self {
        let mut agent = Self::launch(dir, config);
        agent.wait_for("ready: policies from");
        agent
    }

    fn launch(dir: PathBuf, config: &str) -> Self {
        let file = Path::new("/tmp/gorget-test.yaml");
        // The test must be able to end it, and is about alerts unless it says otherwise.
        let mut text = config.to_owned();
        for (key, value) in [
            ("selfProtection", "audit"),
            ("logPath", "stdout"),
            ("visibility", "none"),
        ] {
            if !config.contains(key) {
                text.push_str(&format!("\n{key}: {value}\n"));
            }
        }
        write(file, &text);
        let mut command = Command::new(format!("{JOB}/gorgetd"));
        command
            .args(["--config", "/tmp/gorget-test.yaml", "--socket", SOCKET])
            .arg("--policy-dir")
            .arg(&dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = started(&mut command);
        Self {
            alerts: Lines::of(child.stdout.take().into_iter().next_pipe(), None),
            said: Lines::of(child.stderr.take().into_iter().next_pipe(), Some("gorgetd")),
            child,
            policies: dir,
            leaves_nothing: true,
            is_unusual: config.contains("selfProtection") || config.contains("onStop"),
        }
    }

    /// Waits until the agent says something that contains `text`, and gives that line.
    ///
    /// # Panics
    ///
    /// When it does not.
    pub fn wait_for(&mut self, text: &str) -> String {
        self.said.wait(&format!("`{text}` from gorgetd"), |line| {
            line.contains(text).then(|| line.to_owned())
        })
    }

    /// Waits until something holds.
    ///
    /// # Panics
    ///
    /// When it does not come to that.
    pub fn wait_until(&mut self, what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + TIMEOUT;
        while !holds() {
            if Instant::now() > deadline || !self.is_running() {
                fail(&format!("waited for: {what}"));
            }
            std::thread::yield_now();
        }
    }

    /// Writes a policy file the way an editor does: beside it, then moved over it.
    ///
    /// # Panics
    ///
    /// When it cannot be written.
    pub fn write_policy(&self, file: &str, text: &str) {
        let beside = self.policies.join(format!(".{file}.new"));
        write(&beside, text);
        if let Err(error) = fs::rename(&beside, self.policies.join(file)) {
            fail(&format!("moving `{file}`: {error}"));
        }
    }

    /// Removes a policy file.
    ///
    /// # Panics
    ///
    /// When it cannot be removed.
    pub fn remove_policy(&self, file: &str) {
        if let Err(error) = fs::remove_file(self.policies.join(file)) {
            fail(&format!("removing `{file}`: {error}"));
        }
    }

    /// The next alert, whatever it is.
    ///
    /// # Panics
    ///
    /// When none comes.
    pub fn next_alert(&mut self) -> Value {
        self.alerts.wait("an alert", |line| {
            let value: Value = serde_json::from_str(line).ok()?;
            // Messages have no operation.
            value.get("Operation").is_some().then_some(value)
        })
    }

    /// The next alert, log or message.
    ///
    /// # Panics
    ///
    /// When none comes.
    pub fn next_event(&mut self) -> Value {
        self.alerts
            .wait("an event", |line| serde_json::from_str(line).ok())
    }

    /// The next alert about this resource; alerts about others are passed over.
    ///
    /// # Panics
    ///
    /// When none comes.
    pub fn alert_about(&mut self, resource: &str) -> Value {
        loop {
            let alert = self.next_alert();
            if alert_field(&alert, "Resource") == resource {
                return alert;
            }
        }
    }

    /// Path of the feed's socket.
    pub fn socket(&self) -> &'static str {
        SOCKET
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Has `gorgetd --stop` end it, and waits for the end.
    ///
    /// # Panics
    ///
    /// When that fails.
    pub fn told_to_stop(mut self) -> ExitStatus {
        self.leaves_nothing = false;
        gorgetd("--stop");
        match self.child.wait() {
            Ok(status) => status,
            Err(error) => fail(&format!("waiting for gorgetd: {error}")),
        }
    }

    /// True while the process lives.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Kills it as nothing can be refused, and leaves in force what is in force.
    ///
    /// # Panics
    ///
    /// When it cannot be waited for.
    pub fn kill(mut self) {
        self.leaves_nothing = false;
        self.signal(Signal::KILL);
        if let Err(error) = self.child.wait() {
            fail(&format!("waiting for gorgetd: {error}"));
        }
    }

    /// Sends SIGTERM; what it says and tells until its end can still be waited for.
    ///
    /// # Panics
    ///
    /// When it cannot be told.
    pub fn ask_to_end(&mut self) {
        self.signal(Signal::TERM);
    }

    /// Sends SIGTERM, waits for the end, and leaves in force what it left in force.
    ///
    /// # Panics
    ///
    /// When it cannot be waited for.
    pub fn stop(mut self) -> ExitStatus {
        self.leaves_nothing = false;
        self.signal(Signal::TERM);
        match self.child.wait() {
            Ok(status) => status,
            Err(error) => fail(&format!("waiting for gorgetd: {error}")),
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
            && let Err(error) = kill_process(pid, signal)
        {
            fail(&format!("signalling gorgetd: {error}"));
        }
    }
}

impl Agent {
    /// Whether it leaves rules in force that are not for containers of the test that ends.
    fn has_host_policies(&self) -> bool {
        let files = fs::read_dir(&self.policies).into_iter().flatten().flatten();
        files
            .filter_map(|file| fs::read_to_string(file.path()).ok())
            .any(|text| text.contains("HostPolicy"))
    }
}

/// The programs stay for the next one to take over: loading them is what takes long. Rules for
/// containers bind nobody once their containers have ended.
impl Drop for Agent {
    fn drop(&mut self) {
        let unclear = self.is_unusual || self.has_host_policies() || std::thread::panicking();
        if self.leaves_nothing && !unclear && self.is_running() {
            // It delivers what was decided, so that the next one does not.
            self.signal(Signal::TERM);
            drop(self.child.wait());
            return;
        }
        if self.child.kill().is_err() {
            gorgetd("--stop");
        }
        drop(self.child.wait());
        if self.leaves_nothing {
            uninstall();
        }
    }
}

/// Ends everything that agents left in force.
///
/// # Panics
///
/// When that fails.
pub fn uninstall() {
    gorgetd("--uninstall");
}

/// Has the agent that runs read its configuration again.
///
/// # Panics
///
/// When it cannot be told.
pub fn reload() {
    gorgetd("--reload");
}

/// Runs another `gorgetd`, to its end.
fn gorgetd(option: &str) {
    let mut command = Command::new(format!("{JOB}/gorgetd"));
    let ended = started(command.arg(option).stderr(Stdio::null())).wait();
    if !ended.is_ok_and(|status| status.success()) {
        let why = format!("`gorgetd {option}` fails");
        // Another panic would end the process, and nobody would see the first one.
        if std::thread::panicking() {
            drop(writeln!(std::io::stderr(), "{why}"));
        } else {
            fail(&why);
        }
    }
}

/// A field of an alert as text; empty where it is missing.
pub fn alert_field<'a>(alert: &'a Value, field: &str) -> &'a str {
    alert.get(field).and_then(Value::as_str).unwrap_or_default()
}

pub(crate) fn started(command: &mut Command) -> Child {
    match command.spawn() {
        Ok(child) => child,
        Err(error) => fail(&format!("starting {command:?}: {error}")),
    }
}

pub(crate) fn create(dir: &Path) {
    if let Err(error) = fs::create_dir_all(dir) {
        fail(&format!("creating `{}`: {error}", dir.display()));
    }
}

pub(crate) fn write(path: &Path, text: &str) {
    if let Err(error) = fs::write(path, text) {
        fail(&format!("writing `{}`: {error}", path.display()));
    }
}

#[expect(clippy::panic, reason = "a test tool fails by panicking")]
pub(crate) fn fail(why: &str) -> ! {
    panic!("{why}")
}

/// The pipe that was asked for is there.
pub(crate) trait NextPipe<T> {
    fn next_pipe(self) -> T;
}

impl<T, I: Iterator<Item = T>> NextPipe<T> for I {
    fn next_pipe(mut self) -> T {
        self.next()
            .unwrap_or_else(|| fail("a pipe that was asked for is missing"))
    }
}
