// SPDX-License-Identifier: Apache-2.0
//! Questions to Podman: GET requests over its Unix socket, each on a connection of its own.
//!
//! Podman's service ends by itself when nobody is connected and is started again by the next
//! connection, so connections are not kept; the one for events keeps the service there.
//!
//! Every question has a deadline and a largest answer, every event a largest size.

use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::HOST;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::io;
use std::path::PathBuf;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// The oldest version of the interface that Podman 4 and 5 speak.
const PREFIX: &str = "/v4.0.0/libpod";
/// Podman answers when the container is not being changed; a start with slow hooks takes seconds.
const DEADLINE: Duration = Duration::from_secs(30);
const LARGEST_ANSWER: usize = 16 << 20;
/// The largest thing in an event are the container's labels.
const LARGEST_EVENT: usize = 1 << 20;

/// How Podman ends the reason when a container is not there, whatever the status.
const REMOVED: &str = "no such container";

/// A question was not answered.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
    #[error("cannot connect to `{}`", .path.display())]
    Connect { path: PathBuf, source: io::Error },
    #[error("asking for `{question}`")]
    Http {
        question: String,
        source: hyper::Error,
    },
    #[error("`{question}` makes no request")]
    Question {
        question: String,
        source: hyper::http::Error,
    },
    #[error("no answer to `{question}` within {} s", DEADLINE.as_secs())]
    Deadline { question: String },
    #[error("`{question}` is answered with {status}: {why}")]
    Refused {
        question: String,
        status: StatusCode,
        why: String,
    },
    #[error("the answer to `{question}` is larger than {limit} bytes")]
    TooLarge { question: String, limit: usize },
    #[error("the answer to `{question}` cannot be understood")]
    Json {
        question: String,
        source: serde_json::Error,
    },
    #[error("the answer is about another container, `{id}`")]
    Other { id: String },
}

impl HttpError {
    /// The thing that was asked for does not exist. Podman calls it an error of its own when a
    /// container is removed while it answers.
    pub(super) fn is_not_found(&self) -> bool {
        match self {
            Self::Refused { status, why, .. } => {
                *status == StatusCode::NOT_FOUND || why.ends_with(REMOVED)
            }
            Self::Connect { .. }
            | Self::Http { .. }
            | Self::Question { .. }
            | Self::Deadline { .. }
            | Self::TooLarge { .. }
            | Self::Json { .. }
            | Self::Other { .. } => false,
        }
    }

    /// Other questions would not be answered either.
    pub(super) fn is_lost(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Http { .. } => true,
            Self::Question { .. }
            | Self::Deadline { .. }
            | Self::Refused { .. }
            | Self::TooLarge { .. }
            | Self::Json { .. }
            | Self::Other { .. } => false,
        }
    }
}

/// How Podman says that something went wrong.
#[derive(Deserialize)]
struct Refusal {
    message: String,
}

/// Podman's interface.
#[derive(Debug)]
pub(super) struct Api {
    socket: PathBuf,
}

impl Api {
    pub(super) fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// The answer to a question, which is a path and a query below Podman's own prefix.
    pub(super) async fn ask<T: DeserializeOwned>(&self, question: &str) -> Result<T, HttpError> {
        let whole = async {
            let mut lines = self.get(question).await?;
            lines.rest(LARGEST_ANSWER).await
        };
        let bytes = within(question, whole).await?;
        serde_json::from_slice(&bytes).map_err(|source| HttpError::Json {
            question: question.to_owned(),
            source,
        })
    }

    /// An answer that goes on as long as the connection does, line by line.
    pub(super) async fn follow(&self, question: &str) -> Result<Lines, HttpError> {
        within(question, self.get(question)).await
    }

    async fn get(&self, question: &str) -> Result<Lines, HttpError> {
        let failed = |source| HttpError::Http {
            question: question.to_owned(),
            source,
        };
        let stream = UnixStream::connect(&self.socket).await;
        let stream = stream.map_err(|source| HttpError::Connect {
            path: self.socket.clone(),
            source,
        })?;
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(failed)?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            if let Err(error) = connection.await {
                tracing::trace!("a connection to Podman ended: {error}");
            }
        });
        let request = Request::get(format!("{PREFIX}/{question}"))
            .header(HOST, "podman")
            .body(Empty::new())
            .map_err(|source| HttpError::Question {
                question: question.to_owned(),
                source,
            })?;
        let (parts, body) = sender
            .send_request(request)
            .await
            .map_err(failed)?
            .into_parts();
        let mut lines = Lines {
            question: question.to_owned(),
            body,
            received: Vec::new(),
            _sender: sender,
            _driver: driver,
        };
        if parts.status.is_success() {
            return Ok(lines);
        }
        let said = lines.rest(LARGEST_EVENT).await.unwrap_or_default();
        let said = serde_json::from_slice::<Refusal>(&said);
        Err(HttpError::Refused {
            question: lines.question,
            status: parts.status,
            why: said.map_or_else(|_| "no reason is given".to_owned(), |said| said.message),
        })
    }
}

async fn within<T>(
    question: &str,
    answer: impl Future<Output = Result<T, HttpError>>,
) -> Result<T, HttpError> {
    let answered = timeout(DEADLINE, answer).await;
    answered.map_err(|_elapsed| HttpError::Deadline {
        question: question.to_owned(),
    })?
}

/// The body of an answer.
#[derive(Debug)]
pub(super) struct Lines {
    question: String,
    body: Incoming,
    /// Not given yet.
    received: Vec<u8>,
    _sender: SendRequest<Empty<Bytes>>,
    /// Moves the bytes; ends with this.
    _driver: JoinSet<()>,
}

impl Lines {
    /// The next line; `None` at the end. A line without its end is none. May be dropped while it waits.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>, HttpError> {
        loop {
            if let Some(end) = self.received.iter().position(|byte| *byte == b'\n') {
                let rest = self.received.split_off(end.saturating_add(1));
                return Ok(Some(std::mem::replace(&mut self.received, rest)));
            }
            if !self.more(LARGEST_EVENT).await? {
                return Ok(None);
            }
        }
    }

    /// Everything to the end.
    async fn rest(&mut self, limit: usize) -> Result<Vec<u8>, HttpError> {
        while self.more(limit).await? {}
        Ok(std::mem::take(&mut self.received))
    }

    async fn more(&mut self, limit: usize) -> Result<bool, HttpError> {
        let Some(frame) = self.body.frame().await else {
            return Ok(false);
        };
        let frame = frame.map_err(|source| HttpError::Http {
            question: self.question.clone(),
            source,
        })?;
        if let Ok(data) = frame.into_data() {
            self.received.extend_from_slice(&data);
        }
        match self.received.len() <= limit {
            true => Ok(true),
            false => Err(HttpError::TooLarge {
                question: self.question.clone(),
                limit,
            }),
        }
    }
}
