// SPDX-License-Identifier: Apache-2.0
//! How messages travel on NRI's connection: two connections of ttrpc in one.
//!
//! A piece is the number of a connection and a length, both 32 bits, big endian, and as many bytes. The
//! pieces of a connection are one stream of messages. A message is a length, a stream's number, a kind
//! and flags, and as many bytes. The runtime calls the plugin on one connection, the plugin the runtime
//! on the other.

use super::wire::{Call, Reply};
use prost::Message as _;
use std::io;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

/// The runtime calls the plugin.
const TO_PLUGIN: u32 = 1;
/// The plugin calls the runtime.
const TO_RUNTIME: u32 = 2;
const CALL: u8 = 1;
const REPLY: u8 = 2;
const HEADER: usize = 10;
/// ttrpc's limit for a message.
const LARGEST: usize = 4 << 20;
/// A piece: the runtime's reader takes one at once, in a buffer of that size.
const PIECE: usize = 4096;
/// The only call that is made: clients' streams have odd numbers.
const OWN_STREAM: u32 = 1;

#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    #[error("the connection is lost")]
    Lost(#[from] io::Error),
    #[error("a {what} of {length} bytes, the limit is {LARGEST}")]
    TooLarge { what: &'static str, length: usize },
    #[error("a message cannot be decoded")]
    Message(#[from] prost::DecodeError),
    #[error("a message of kind {kind} on connection {connection}")]
    Kind { kind: u8, connection: u32 },
}

/// What arrives.
#[derive(Debug, PartialEq)]
pub(super) enum Frame {
    /// A call of the runtime and its stream.
    Call(u32, Call),
    /// The answer to the plugin's own.
    Reply(Reply),
}

/// The connection to a runtime.
#[derive(Debug)]
pub(super) struct Frames {
    stream: BufReader<UnixStream>,
    /// What has arrived on each connection and is no whole message yet. A read that is given up in the
    /// middle loses nothing: it is kept here, too.
    raw: Vec<u8>,
    calls: Vec<u8>,
    replies: Vec<u8>,
}

impl Frames {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self {
            stream: BufReader::new(stream),
            raw: Vec::new(),
            calls: Vec::new(),
            replies: Vec::new(),
        }
    }

    /// The next message. May be given up and called again.
    pub(super) async fn next(&mut self) -> Result<Frame, FrameError> {
        loop {
            if let Some((stream, kind, payload)) = message(&mut self.calls)? {
                return match kind {
                    CALL => Ok(Frame::Call(stream, Call::decode(payload.as_slice())?)),
                    kind => Err(FrameError::Kind {
                        kind,
                        connection: TO_PLUGIN,
                    }),
                };
            }
            if let Some((_, kind, payload)) = message(&mut self.replies)? {
                return match kind {
                    REPLY => Ok(Frame::Reply(Reply::decode(payload.as_slice())?)),
                    kind => Err(FrameError::Kind {
                        kind,
                        connection: TO_RUNTIME,
                    }),
                };
            }
            if let Some((connection, bytes)) = piece(&mut self.raw)? {
                match connection {
                    TO_PLUGIN => self.calls.extend(bytes),
                    TO_RUNTIME => self.replies.extend(bytes),
                    // As the other end does with what nobody listens to.
                    _ => {}
                }
                continue;
            }
            if self.stream.read_buf(&mut self.raw).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
    }

    pub(super) async fn send_call(&mut self, call: Call) -> Result<(), FrameError> {
        self.send(TO_RUNTIME, OWN_STREAM, CALL, &call.encode_to_vec())
            .await
    }

    pub(super) async fn send_reply(&mut self, stream: u32, reply: Reply) -> Result<(), FrameError> {
        self.send(TO_PLUGIN, stream, REPLY, &reply.encode_to_vec())
            .await
    }

    async fn send(
        &mut self,
        connection: u32,
        stream: u32,
        kind: u8,
        payload: &[u8],
    ) -> Result<(), FrameError> {
        let too_large = || FrameError::TooLarge {
            what: "message of ours",
            length: payload.len(),
        };
        if payload.len() > LARGEST {
            return Err(too_large());
        }
        let length = u32::try_from(payload.len()).map_err(|_large| too_large())?;
        let mut bytes = Vec::with_capacity(HEADER + payload.len());
        bytes.extend(length.to_be_bytes());
        bytes.extend(stream.to_be_bytes());
        bytes.extend([kind, 0]);
        bytes.extend(payload);
        let mut pieces = Vec::new();
        for piece in bytes.chunks(PIECE) {
            let length = u32::try_from(piece.len()).map_err(|_large| too_large())?;
            pieces.extend(connection.to_be_bytes());
            pieces.extend(length.to_be_bytes());
            pieces.extend(piece);
        }
        Ok(self.stream.write_all(&pieces).await?)
    }
}

/// Takes a whole piece off the front.
fn piece(bytes: &mut Vec<u8>) -> Result<Option<(u32, Vec<u8>)>, FrameError> {
    let (Some(connection), Some(length)) = (number(bytes, 0), number(bytes, 4)) else {
        return Ok(None);
    };
    let length = bounded("piece", length)?;
    Ok(take(bytes, 8, length).map(|bytes| (connection, bytes)))
}

/// Takes a whole message off the front: its stream, kind and payload.
fn message(bytes: &mut Vec<u8>) -> Result<Option<(u32, u8, Vec<u8>)>, FrameError> {
    let (Some(length), Some(stream)) = (number(bytes, 0), number(bytes, 4)) else {
        return Ok(None);
    };
    let length = bounded("message", length)?;
    let Some(kind) = bytes.get(8).copied() else {
        return Ok(None);
    };
    Ok(take(bytes, HEADER, length).map(|payload| (stream, kind, payload)))
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn bounded(what: &'static str, length: u32) -> Result<usize, FrameError> {
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > LARGEST + HEADER {
        return Err(FrameError::TooLarge { what, length });
    }
    Ok(length)
}

/// Takes a header and what belongs to it, which it gives, when all of that is there.
fn take(bytes: &mut Vec<u8>, header: usize, length: usize) -> Option<Vec<u8>> {
    if bytes.len() < header + length {
        return None;
    }
    Some(bytes.drain(..header + length).skip(header).collect())
}
