// SPDX-License-Identifier: Apache-2.0
//! NRI: containerd (1.7 and later) and CRI-O ask before they start a container of a pod, and wait.
//!
//! The agent is a plugin that registers itself at the runtime's socket and wants to hear of one thing:
//! that a container is about to be started. `wire` is what the messages look like, `frames` how they
//! travel. A lost connection is tried again with growing delays; a runtime without NRI has no socket,
//! and nothing is said about that.
//!
//! Failure: a call that cannot be understood is answered with an error, which NRI's own rules are
//! about; bytes that cannot be understood end the connection.

mod frames;
mod wire;

use crate::Backoff;
use frames::{FrameError, Frames};
use gorget_model::with_causes;
use prost::Message as _;
use std::io;
use std::path::{Path, PathBuf};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use wire::{Call, Reply, Status};

/// Where runtimes listen for plugins.
pub const SOCKET: &str = "/var/run/nri/nri.sock";

const PLUGIN: &str = "nri.pkg.api.v1alpha1.Plugin";
const RUNTIME: &str = "nri.pkg.api.v1alpha1.Runtime";
const NAME: &str = "gorget";
/// Plugins are asked in the order of these: last, when others have changed what they want to change.
const INDEX: &str = "99";
/// `Event.START_CONTAINER` of NRI.
const START_CONTAINER: i32 = 6;
/// Status codes of gRPC.
const UNKNOWN: i32 = 2;
const UNIMPLEMENTED: i32 = 12;

/// What NRI has to say.
#[derive(Debug)]
pub enum Told {
    /// The runtime has accepted the plugin.
    Connected {
        /// Name and version.
        runtime: String,
    },
    /// It is asked no more. Told once until the next `Connected`.
    Disconnected {
        /// Why, with its causes.
        reason: String,
    },
    /// A container waits to be started.
    Starting {
        /// As the runtime calls it.
        id: String,
        /// Its first process; 0 when the runtime does not say.
        pid: u32,
        /// Takes whether it may start, and if not, why. Dropped unused, it may not.
        answer: oneshot::Sender<Result<(), String>>,
    },
}

#[derive(Debug, thiserror::Error)]
enum NriError {
    #[error("cannot connect to `{}`", .path.display())]
    Connect { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Frames(#[from] FrameError),
    #[error("the runtime does not accept the plugin: {reason}")]
    Refused { reason: String },
    #[error("the runtime shuts down")]
    Shutdown,
    #[error("nobody listens")]
    Unheard,
}

/// Stays connected, until nobody listens.
pub async fn follow(socket: PathBuf, backoff: Backoff, out: mpsc::Sender<Told>) {
    tokio::select! {
        () = out.closed() => {}
        () = stay_connected(&socket, backoff, &out) => {}
    }
}

async fn stay_connected(socket: &Path, backoff: Backoff, out: &mpsc::Sender<Told>) {
    let mut delays = backoff.delays();
    loop {
        let mut accepted = false;
        let Err(error) = session(socket, out, &mut accepted).await;
        if matches!(error, NriError::Unheard) {
            return;
        }
        let reason = with_causes(&error);
        tracing::debug!(socket = %socket.display(), reason, "no connection to NRI");
        if accepted {
            delays = backoff.delays();
            if out.send(Told::Disconnected { reason }).await.is_err() {
                return;
            }
        }
        if let Some(delay) = delays.next() {
            tokio::time::sleep(delay).await;
        }
    }
}

/// One connection, from registering to its end.
async fn session(
    socket: &Path,
    out: &mpsc::Sender<Told>,
    accepted: &mut bool,
) -> Result<std::convert::Infallible, NriError> {
    let stream = UnixStream::connect(socket).await;
    let stream = stream.map_err(|source| NriError::Connect {
        path: socket.to_owned(),
        source,
    })?;
    let mut frames = Frames::new(stream);
    let register = wire::RegisterPluginRequest {
        plugin_name: NAME.to_owned(),
        plugin_idx: INDEX.to_owned(),
    };
    frames
        .send_call(Call {
            service: RUNTIME.to_owned(),
            method: "RegisterPlugin".to_owned(),
            payload: register.encode_to_vec(),
            timeout_nano: 0,
        })
        .await?;
    // Answers come in whatever order they are ready: one container must not wait for another.
    let (answers, mut ready) = mpsc::unbounded_channel();
    let mut asking = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            Some((stream, reply)) = ready.recv() => frames.send_reply(stream, reply).await?,
            frame = frames.next() => match frame? {
                frames::Frame::Reply(reply) => {
                    if let Some(Status { code, message }) = reply.status.filter(|s| s.code != 0) {
                        return Err(NriError::Refused { reason: format!("{message} ({code})") });
                    }
                }
                frames::Frame::Call(stream, call) => {
                    while asking.try_join_next().is_some() {}
                    let last = call.method == "Shutdown";
                    match answer(call, out, accepted).await? {
                        Answer::Now(reply) => frames.send_reply(stream, reply).await?,
                        Answer::Later(waiting) => {
                            let answers = answers.clone();
                            asking.spawn(async move {
                                // The connection may be gone by then.
                                drop(answers.send((stream, started(waiting.await))));
                            });
                        }
                    }
                    if last {
                        return Err(NriError::Shutdown);
                    }
                }
            },
        }
    }
}

enum Answer {
    Now(Reply),
    Later(oneshot::Receiver<Result<(), String>>),
}

async fn answer(
    call: Call,
    out: &mpsc::Sender<Told>,
    accepted: &mut bool,
) -> Result<Answer, NriError> {
    let Call {
        service,
        method,
        payload,
        timeout_nano: _,
    } = call;
    if service != PLUGIN {
        return Ok(Answer::Now(failed(
            UNIMPLEMENTED,
            format!("no service `{service}`"),
        )));
    }
    let malformed = |error: prost::DecodeError| {
        Answer::Now(failed(
            UNKNOWN,
            format!("`{method}` cannot be decoded: {error}"),
        ))
    };
    let container = match method.as_str() {
        "Configure" => {
            let asked = match wire::ConfigureRequest::decode(payload.as_slice()) {
                Ok(asked) => asked,
                Err(error) => return Ok(malformed(error)),
            };
            *accepted = true;
            let runtime = format!("{} {}", asked.runtime_name, asked.runtime_version);
            tell(out, Told::Connected { runtime }).await?;
            let events = 1 << (START_CONTAINER - 1);
            return Ok(Answer::Now(done(&wire::ConfigureResponse { events })));
        }
        // What runs already is found by the runtime's own list.
        "Synchronize" => {
            let more = wire::SynchronizeRequest::decode(payload.as_slice());
            let more = more.is_ok_and(|asked| asked.more);
            return Ok(Answer::Now(done(&wire::SynchronizeResponse { more })));
        }
        "StateChange" => match wire::StateChangeEvent::decode(payload.as_slice()) {
            Ok(event) if event.event == START_CONTAINER => event.container,
            Ok(_) => None,
            Err(error) => return Ok(malformed(error)),
        },
        // Newer versions have a call of its own for it.
        "StartContainer" => match wire::StartContainerRequest::decode(payload.as_slice()) {
            Ok(asked) => asked.container,
            Err(error) => return Ok(malformed(error)),
        },
        "Shutdown" => None,
        _ => {
            let reason = format!("no method `{method}`");
            return Ok(Answer::Now(failed(UNIMPLEMENTED, reason)));
        }
    };
    let Some(wire::Container { id, pid }) = container else {
        return Ok(Answer::Now(done(&wire::Empty {})));
    };
    let (answer, waiting) = oneshot::channel();
    tell(out, Told::Starting { id, pid, answer }).await?;
    Ok(Answer::Later(waiting))
}

async fn tell(out: &mpsc::Sender<Told>, told: Told) -> Result<(), NriError> {
    out.send(told).await.map_err(|_closed| NriError::Unheard)
}

fn started(answered: Result<Result<(), String>, oneshot::error::RecvError>) -> Reply {
    match answered {
        Ok(Ok(())) => done(&wire::Empty {}),
        Ok(Err(reason)) => failed(UNKNOWN, reason),
        Err(_dropped) => failed(UNKNOWN, "the agent stops".to_owned()),
    }
}

fn done(payload: &impl prost::Message) -> Reply {
    Reply {
        status: None,
        payload: payload.encode_to_vec(),
    }
}

fn failed(code: i32, message: String) -> Reply {
    Reply {
        status: Some(Status { code, message }),
        payload: Vec::new(),
    }
}

#[cfg(test)]
mod tests;
