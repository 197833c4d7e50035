// SPDX-License-Identifier: Apache-2.0
//! The agent's end of the hook's socket: bounded messages, from root only, an answer for each.

use super::{Answer, LARGEST_MESSAGE, Message};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;

/// Messages that are looked after at once. A node does not start as many containers in the same
/// moment; others wait in the socket's queue.
const AT_ONCE: usize = 64;
/// How long a peer has to send its message.
const SENDING: Duration = Duration::from_secs(5);

/// A message that wants an answer.
#[derive(Debug)]
pub struct Question {
    /// What was told.
    pub message: Message,
    /// Takes the answer. Dropped unused, it is that the agent stops.
    pub answer: oneshot::Sender<Answer>,
}

/// Hands on what hooks tell, until the receiver is gone. Only the user `allowed` is listened to.
pub async fn serve(listener: UnixListener, allowed: u32, questions: mpsc::Sender<Question>) {
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let mut running = JoinSet::new();
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        let accepted = tokio::select! {
            () = questions.closed() => return,
            accepted = listener.accept() => accepted,
        };
        while running.try_join_next().is_some() {}
        match accepted {
            Ok((stream, _)) => {
                let questions = questions.clone();
                running.spawn(async move {
                    converse(stream, allowed, &questions).await;
                    drop(place);
                });
            }
            Err(error) => {
                // Out of descriptors, most likely.
                tracing::warn!(%error, "cannot accept a hook's connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(mut stream: UnixStream, allowed: u32, questions: &mpsc::Sender<Question>) {
    let answer = match hear(&mut stream, allowed).await {
        Ok(message) => ask(message, questions).await,
        Err(reason) => {
            tracing::warn!(reason, "a message at the hook's socket was refused");
            Answer::Refused { reason }
        }
    };
    let Ok(bytes) = serde_json::to_vec(&answer) else {
        return;
    };
    // A hook that no longer waits has said so in its own count.
    if let Err(error) = stream.write_all(&bytes).await {
        tracing::debug!(%error, "a hook did not wait for its answer");
    }
    // What was refused may not have been read to its end, and an end with bytes unread is an error for
    // the sender, who might see that in place of the answer.
    let rest = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(LARGEST_MESSAGE), &mut tokio::io::sink()).await
    };
    if !matches!(tokio::time::timeout(SENDING, rest).await, Ok(Ok(_length))) {
        tracing::debug!("a hook did not end its message");
    }
}

async fn hear(stream: &mut UnixStream, allowed: u32) -> Result<Message, String> {
    let peer = stream
        .peer_cred()
        .map_err(|error| format!("the kernel does not say who sends: {error}"))?;
    if peer.uid() != allowed {
        return Err(format!(
            "the sender is user {}, only user {allowed} may announce containers",
            peer.uid()
        ));
    }
    let mut bytes = Vec::new();
    let mut limited = stream.take(LARGEST_MESSAGE + 1);
    match tokio::time::timeout(SENDING, limited.read_to_end(&mut bytes)).await {
        Ok(Ok(_length)) => {}
        Ok(Err(error)) => return Err(format!("the message cannot be read: {error}")),
        Err(_elapsed) => {
            let seconds = SENDING.as_secs();
            return Err(format!("the message did not end within {seconds} s"));
        }
    }
    if u64::try_from(bytes.len()).is_ok_and(|length| length > LARGEST_MESSAGE) {
        return Err(format!("the message has more than {LARGEST_MESSAGE} bytes"));
    }
    serde_json::from_slice(&bytes).map_err(|error| format!("the message is malformed: {error}"))
}

async fn ask(message: Message, questions: &mpsc::Sender<Question>) -> Answer {
    let stopping = || Answer::Failed {
        reason: "the agent stops".to_owned(),
    };
    let (answer, answered) = oneshot::channel();
    if questions.send(Question { message, answer }).await.is_err() {
        return stopping();
    }
    answered.await.unwrap_or_else(|_dropped| stopping())
}
