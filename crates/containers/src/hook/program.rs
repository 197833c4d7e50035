// SPDX-License-Identifier: Apache-2.0
//! The program `gorget-hook`: from the runtime's standard input to an exit code.

use super::{
    Answer, CONFIG, LARGEST_ANSWER, Message, Settings, Starting, WhenDown, missed, runtime,
};
use crate::bundle::{self, BundleError, Config, LARGEST_STATE, State};
use gorget_model::with_causes;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use std::ffi::OsString;
use std::io::{self, Read, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const NAME: &str = "gorget-hook";
const USAGE: &str = "\
gorget-hook: has the Gorget agent protect a container before its first program runs.
Container runtimes run it (`gorget hook install`), with the container's state on standard input.
";

/// The agent was not told, or has not done it.
#[derive(Debug, thiserror::Error)]
enum TellError {
    #[error("cannot reach the agent at `{}`", .path.display())]
    Connect { path: PathBuf, source: io::Error },
    #[error("no answer from the agent at `{}` within {seconds} s", .path.display())]
    Silent {
        path: PathBuf,
        seconds: u64,
        source: io::Error,
    },
    #[error("the agent's answer")]
    Answer(#[source] BundleError),
    #[error("the agent says: {0}")]
    No(String),
}

/// A container cannot be announced.
#[derive(Debug, thiserror::Error)]
enum AnnounceError {
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error(transparent)]
    Tell(#[from] TellError),
    #[error("the state of `{id}` names no process")]
    Pid { id: String },
}

/// Runs as hook, or as the runtime whose name it is called by.
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<_> = arguments.collect();
    let (called, rest) = match arguments.split_first() {
        Some((called, rest)) => (Path::new(called), rest),
        None => (Path::new(NAME), Default::default()),
    };
    let settings = match Settings::load(Path::new(CONFIG)) {
        Ok(settings) => settings,
        Err(error) => return fail(&with_causes(&error)),
    };
    let name = called.file_name().unwrap_or_default();
    if name != NAME {
        return runtime::become_it(name, rest, &settings);
    }
    match rest.first().and_then(|word| word.to_str()) {
        Some("--version") => say(&format!("{NAME} {}\n", env!("CARGO_PKG_VERSION"))),
        Some("--help") => say(USAGE),
        _ => hook(&settings, io::stdin()),
    }
}

fn hook(settings: &Settings, from: impl Read) -> ExitCode {
    let what = "the container's state on standard input";
    let state = bundle::read(from, LARGEST_STATE, what);
    let state: State = match state.and_then(|bytes| bundle::parse(&bytes, what)) {
        Ok(state) => state,
        Err(error) => return fail(&with_causes(&error)),
    };
    // Runtimes call the hooks of both stages with the state of that moment.
    if state.status == "stopped" {
        // The agent sees the end of the first process by itself: nothing depends on this.
        if let Err(error) = tell(settings, &Message::Stopped { id: state.id }) {
            complain(&with_causes(&error));
        }
        return ExitCode::SUCCESS;
    }
    let id = state.id.clone();
    match announce(settings, state) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => unprotected(settings, &id, &with_causes(&error)),
    }
}

fn announce(settings: &Settings, state: State) -> Result<(), AnnounceError> {
    let config = Config::read(&state.bundle)?;
    if state.pid == 0 {
        return Err(AnnounceError::Pid { id: state.id });
    }
    let mut annotations = config.annotations.clone();
    annotations.extend(state.annotations);
    let starting = Starting {
        root: config.root(&state.bundle),
        id: state.id,
        pid: state.pid,
        bundle: state.bundle,
        annotations,
    };
    Ok(tell(settings, &Message::Starting(starting))?)
}

/// Tells the agent, and waits for its answer.
fn tell(settings: &Settings, message: &Message) -> Result<(), TellError> {
    let path = &settings.socket;
    let connected = |source: io::Error| TellError::Connect {
        path: path.clone(),
        source,
    };
    let mut stream = open(settings).map_err(connected)?;
    let silent = |source: io::Error| TellError::Silent {
        path: path.clone(),
        seconds: settings.timeout.as_secs(),
        source,
    };
    let bytes = serde_json::to_vec(message).map_err(|source| silent(source.into()))?;
    // Whoever refuses a message need not have read all of it: what it says counts.
    let sent = stream
        .write_all(&bytes)
        .and_then(|()| stream.shutdown(Shutdown::Write));
    let heard = bundle::read(&stream, LARGEST_ANSWER, "the agent's answer");
    let answer = match heard {
        Ok(answer) if !answer.is_empty() => answer,
        Ok(_) => {
            let end = || io::Error::from(io::ErrorKind::UnexpectedEof);
            return Err(silent(sent.err().unwrap_or_else(end)));
        }
        Err(BundleError::Read { source, .. }) => return Err(silent(source)),
        Err(other) => return Err(TellError::Answer(other)),
    };
    match bundle::parse(&answer, "the agent's answer").map_err(TellError::Answer)? {
        Answer::Done => Ok(()),
        Answer::Failed { reason } | Answer::Refused { reason } => Err(TellError::No(reason)),
    }
}

/// A connection on which nothing takes longer than the configured time, connecting included.
fn open(settings: &Settings) -> io::Result<UnixStream> {
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    for which in [Timeout::Send, Timeout::Recv] {
        set_socket_timeout(&socket, which, Some(settings.timeout))?;
    }
    connect(&socket, &SocketAddrUnix::new(&settings.socket)?)?;
    Ok(socket.into())
}

/// The container's rules are not known to be in force: counts it, and says what becomes of it.
pub(super) fn unprotected(settings: &Settings, id: &str, reason: &str) -> ExitCode {
    let (became, code) = match settings.when_down {
        WhenDown::Open => ("starts all the same", ExitCode::SUCCESS),
        WhenDown::Closed => ("does not start", ExitCode::FAILURE),
    };
    complain(&format!(
        "the rules of container `{id}` are not known to be in force, it {became}: {reason}"
    ));
    if let Err(error) = missed::count(&settings.missed, id, settings.when_down) {
        let file = settings.missed.display();
        complain(&format!("and it cannot be counted in `{file}`: {error}"));
    }
    code
}

fn say(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_nobody_reads) => ExitCode::FAILURE,
    }
}

pub(super) fn fail(reason: &str) -> ExitCode {
    complain(reason);
    ExitCode::FAILURE
}

fn complain(reason: &str) {
    // Nobody is left to be told when this fails.
    drop(writeln!(io::stderr(), "{NAME}: {reason}"));
}
