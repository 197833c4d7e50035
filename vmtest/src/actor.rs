// SPDX-License-Identifier: Apache-2.0
//! Driving the actor: a program that performs operations when told to.
//!
//! A running actor is the subject: it was started from a certain path, and its operations are judged
//! with that image as the subject. The first one of a workload starts others from other paths before
//! any policy is in force.

use crate::agent::{NextPipe, create, fail, started};
use crate::lines::Lines;
use crate::{Container, JOB};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::process::{Child, ChildStdin, Command, Stdio};

/// What an actor can be told to do with a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Open for reading.
    Read,
    /// Open for writing.
    Write,
    /// Open for both.
    ReadWrite,
    /// Execute, and wait for the end.
    Exec,
    /// Read from a descriptor that was opened earlier with [`Operation::Keep`].
    ReadKept,
    /// Open for reading and keep it open.
    Keep,
    /// Create an empty file, which must not exist.
    Create,
    /// Create a directory.
    Mkdir,
    /// Remove a file.
    Unlink,
    /// Remove a directory.
    Rmdir,
    /// Make a symbolic link there.
    Symlink,
    /// Make a hard link to it, beside it.
    Link,
    /// Rename a file, and back.
    Rename,
    /// Change its permissions.
    Chmod,
    /// Change its owner.
    Chown,
    /// Cut it to nothing.
    Truncate,
    /// Connect to a local socket.
    ConnectLocal,
    /// Send a datagram to a local socket.
    SendLocal,
    /// Leave for another root directory: `chroot`.
    Chroot,
    /// Make a socket: family, type and protocol as numbers.
    Socket,
    /// Make a socket and keep it.
    KeepSocket,
    /// Bind the kept socket to a free port.
    BindKept,
    /// Listen on the kept socket.
    ListenKept,
    /// Connect the kept socket to a listener.
    ConnectKept,
    /// Accept a connection on the kept socket.
    AcceptKept,
    /// Send a datagram on the kept socket.
    SendKept,
    /// Ask for a name by `sendto`.
    Lookup,
    /// Ask for a name on a connected socket.
    LookupConnected,
    /// Ask for a name over TCP.
    LookupTcp,
    /// Do something that needs a capability.
    Capability,
    /// Execute a program with arguments, all separated by spaces.
    ExecWith,
    /// Open files, one after the other without pause: how often, the beginning of their names, and how
    /// many there are.
    OpenStorm,
    /// Execute programs like that.
    ExecStorm,
    /// Execute a copy of a program in memory.
    ExecMemfd,
    /// The argument says how: `at once`, `later`, from a `memfd`, or from the program's own file.
    MapExecutable,
    /// Make a system call: name and arguments (`raw_calls.rs`).
    Call,
    /// As a 32-bit program does.
    Call32,
    /// As a 32-bit program does that has many calls in one.
    Socketcall,
}

impl Operation {
    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::ReadWrite => "readwrite",
            Self::Exec => "exec",
            Self::ReadKept => "read-kept",
            Self::Keep => "keep",
            Self::Create => "create",
            Self::Mkdir => "mkdir",
            Self::Unlink => "unlink",
            Self::Rmdir => "rmdir",
            Self::Symlink => "symlink",
            Self::Link => "link",
            Self::Rename => "rename",
            Self::Chmod => "chmod",
            Self::Chown => "chown",
            Self::Truncate => "truncate",
            Self::ConnectLocal => "connect-local",
            Self::SendLocal => "send-local",
            Self::Chroot => "chroot",
            Self::Socket => "socket",
            Self::KeepSocket => "keep-socket",
            Self::BindKept => "bind-kept",
            Self::ListenKept => "listen-kept",
            Self::ConnectKept => "connect-kept",
            Self::AcceptKept => "accept-kept",
            Self::SendKept => "send-kept",
            Self::Lookup => "lookup",
            Self::LookupConnected => "lookup-connected",
            Self::LookupTcp => "lookup-tcp",
            Self::Capability => "capability",
            Self::ExecWith => "exec-with",
            Self::OpenStorm => "open-storm",
            Self::ExecStorm => "exec-storm",
            Self::ExecMemfd => "exec-memfd",
            Self::MapExecutable => "map-executable",
            Self::Call => "call",
            Self::Call32 => "call32",
            Self::Socketcall => "socketcall",
        }
    }
}

/// How an operation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// It was carried out.
    Passed,
    /// `EACCES`.
    Denied,
    /// Another error, as text: the operation was not denied by a policy.
    Failed(String),
}

/// The first actor of a workload, which starts the others.
#[derive(Debug)]
pub struct Actor {
    to: To,
    from: Lines,
}

#[derive(Debug)]
enum To {
    /// A client of the container runtime passes it on.
    Client(ChildStdin),
    /// A named pipe in the container.
    Pipe(File),
    /// It is our own child, which lives as long as this.
    Host(
        ChildStdin,
        #[expect(dead_code, reason = "kept alive")] Child,
    ),
}

impl Actor {
    /// Starts an actor as the first process of a container.
    ///
    /// # Panics
    ///
    /// When it does not answer.
    pub fn in_container(name: &str, labels: &[(&str, &str)]) -> (Container, Self) {
        let (container, to, from) = Container::run(name, labels, &["/actor", "serve"]);
        (
            container,
            Self::greeted(To::Client(to), Lines::of(from, None)),
        )
    }

    /// As [`Actor::in_container`], with more options of `ctr run`.
    ///
    /// # Panics
    ///
    /// When it does not answer.
    pub fn in_container_with(
        name: &str,
        labels: &[(&str, &str)],
        options: &[&str],
    ) -> (Container, Self) {
        let options = [&["--rm"], options].concat();
        let argv = ["/actor", "serve"];
        let (container, to, from) = Container::run_with(name, labels, &options, &argv);
        (
            container,
            Self::greeted(To::Client(to), Lines::of(from, None)),
        )
    }

    /// As [`Actor::in_container`], with every capability and all of the host's devices, and with
    /// more options of `ctr run`.
    ///
    /// # Panics
    ///
    /// When it does not answer.
    pub fn in_privileged_container(
        name: &str,
        labels: &[(&str, &str)],
        options: &[&str],
    ) -> (Container, Self) {
        let options = [&["--rm", "--privileged"], options].concat();
        let argv = ["/actor", "serve"];
        let (container, to, from) = Container::run_with(name, labels, &options, &argv);
        (
            container,
            Self::greeted(To::Client(to), Lines::of(from, None)),
        )
    }

    /// As [`Actor::in_container`], but reached through named pipes in the container, so that it can
    /// be told what to do while containerd is away.
    ///
    /// # Panics
    ///
    /// When it does not answer.
    pub fn in_detached_container(name: &str, labels: &[(&str, &str)]) -> (Container, Self) {
        let root = Container::root_of(name);
        let [to, from] = ["to", "from"].map(|pipe| {
            create(&root);
            let path = root.join(pipe);
            drop(fs::remove_file(&path));
            let made = mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0);
            // For both, or opening would wait for the other end.
            let opened = OpenOptions::new().read(true).write(true).open(&path);
            match (made, opened) {
                (Ok(()), Ok(file)) => file,
                other => fail(&format!("making `{}`: {other:?}", path.display())),
            }
        });
        let argv = ["/actor", "serve", "/to", "/from"];
        let container = Container::run_detached(name, labels, &argv);
        (
            container,
            Self::greeted(To::Pipe(to), Lines::of(from, None)),
        )
    }

    /// Starts an actor on the host.
    ///
    /// # Panics
    ///
    /// When it does not answer.
    pub fn on_host() -> Self {
        let mut command = Command::new(format!("{JOB}/actor"));
        command
            .arg("serve")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = started(&mut command);
        let to = child.stdin.take().into_iter().next_pipe();
        let from = child.stdout.take().into_iter().next_pipe();
        Self::greeted(To::Host(to, child), Lines::of(from, None))
    }

    fn greeted(to: To, mut from: Lines) -> Self {
        from.wait("the actor's greeting", |line| {
            (line == "ready").then_some(())
        });
        Self { to, from }
    }

    /// Makes sure that an actor runs whose image is `path`. The file must be there.
    pub fn start_subject(&mut self, path: &str) -> Done {
        self.ask(&format!("start {path}"))
    }

    /// As [`Actor::start_subject`], in an AppArmor profile.
    pub fn start_subject_in(&mut self, profile: &str, path: &str) -> Done {
        self.ask(&format!("start-in {profile} {path}"))
    }

    /// Ends the actors that were started, and forgets what is kept open.
    pub fn end_subjects(&mut self) -> Done {
        self.ask("end")
    }

    /// Has the actor whose image is `subject` perform an operation.
    pub fn perform(&mut self, subject: &str, operation: Operation, path: &str) -> Done {
        self.ask(&format!("do {subject} {} {path}", operation.name()))
    }

    /// Has the first actor run a line of shell, and gives what it said, errors included.
    pub fn shell(&mut self, script: &str) -> String {
        self.tell(&format!("shell {script}"));
        self.from.wait(&format!("the end of `{script}`"), |line| {
            line.strip_prefix("said ").map(unescaped)
        })
    }

    fn ask(&mut self, question: &str) -> Done {
        self.tell(question);
        self.from
            .wait(&format!("the answer to `{question}`"), |line| {
                match line.split_once(' ').unwrap_or((line, "")) {
                    ("passed", _) => Some(Done::Passed),
                    ("denied", _) => Some(Done::Denied),
                    ("failed", why) => Some(Done::Failed(why.to_owned())),
                    _ => None,
                }
            })
    }

    fn tell(&mut self, question: &str) {
        let to: &mut dyn Write = match &mut self.to {
            To::Client(to) | To::Host(to, _) => to,
            To::Pipe(to) => to,
        };
        if let Err(error) = writeln!(to, "{question}").and_then(|()| to.flush()) {
            fail(&format!("telling the actor `{question}`: {error}"));
        }
    }
}

/// A line break is `\\n` on the wire, a backslash two of them.
fn unescaped(line: &str) -> String {
    let mut text = String::new();
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' if characters.next() == Some('n') => text.push('\n'),
            other => text.push(other),
        }
    }
    text
}
