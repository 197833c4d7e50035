// SPDX-License-Identifier: Apache-2.0
//! One agent that is followed, over its restarts and broken connections.
//!
//! For the command line, which follows a few, and the relay, which follows all of a cluster.
//!
//! When a stream ends, the connection is made again, after a growing delay, and the agent is asked for
//! what happened since the last event of each sort; what was heard already is not told twice. What an
//! agent told while it was not connected and does not keep is lost, and the line that says that it is
//! followed again says so.

use crate::address::{Address, ClientTls};
use crate::client::{Client, ConnectError, Received};
use crate::proto;
use prost::Message as _;
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc::Sender;
use tonic::{Code, Status, Streaming};

const FIRST_DELAY: Duration = Duration::from_millis(500);
const LONGEST_DELAY: Duration = Duration::from_secs(10);

/// Which sorts of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sorts {
    /// Alerts.
    pub alerts: bool,
    /// Logs.
    pub logs: bool,
    /// What agents say of themselves.
    pub messages: bool,
}

impl Sorts {
    fn names(self) -> String {
        let all = [
            (self.alerts, "alerts"),
            (self.logs, "logs"),
            (self.messages, "messages"),
        ];
        let names: Vec<_> = all
            .iter()
            .filter(|(is, _)| *is)
            .map(|(_, name)| *name)
            .collect();
        names.join(" and ")
    }
}

/// What is heard of an agent.
#[derive(Debug)]
pub enum Heard {
    /// Something happened there.
    Event(Received),
    /// It is followed from now on.
    Connected(String),
    /// Something about following it.
    Said(String),
    /// It cannot be followed, and why.
    Failed(String),
}

/// What is followed.
#[derive(Clone, Debug)]
pub struct Following {
    /// Where the agent is.
    pub address: Address,
    /// How it is known to be one.
    pub tls: Option<Arc<ClientTls>>,
    /// What of it.
    pub sorts: Sorts,
    /// A [`crate::Filter`] without `since`.
    pub filter: String,
    /// From when on, until something was heard.
    pub since: Option<String>,
    /// Whether it is tried again when it cannot be reached the first time.
    pub is_expected: bool,
    /// Why nobody answered, and what to do.
    pub explain: fn(&Address, &ConnectError) -> String,
}

/// The streams of a connection.
#[derive(Default)]
struct Feed {
    alerts: Option<Streaming<proto::Alert>>,
    logs: Option<Streaming<proto::Log>>,
    messages: Option<Streaming<proto::Message>>,
}

/// How far one sort of events was heard.
#[derive(Debug, Default)]
struct Mark {
    second: i64,
    /// Of events of that second.
    seen: HashSet<u64>,
}

/// How far an agent was heard. Cheap to clone; all clones are one. Who keeps it and follows the agent
/// anew gets nothing twice.
#[derive(Clone, Debug, Default)]
pub struct Marks(Arc<Mutex<Sorted>>);

#[derive(Debug, Default)]
struct Sorted {
    alerts: Mark,
    logs: Mark,
    messages: Mark,
}

impl Following {
    /// Follows until nobody listens any more, or the agent cannot be followed.
    ///
    /// May be dropped at any time: an event is marked as heard when it was handed on.
    pub async fn run(self, marks: Marks, out: Sender<Heard>) {
        let mut delay = FIRST_DELAY;
        let mut is_first = true;
        loop {
            let why = match self.subscribe(&marks).await {
                Ok(feed) => {
                    let said = self.followed(is_first);
                    if out.send(Heard::Connected(said)).await.is_err() {
                        return;
                    }
                    (is_first, delay) = (false, FIRST_DELAY);
                    match forward(feed, &marks, &out).await {
                        Some(why) => why,
                        None => return,
                    }
                }
                Err(Refused::Forever(why)) => {
                    drop(out.send(Heard::Failed(why)).await);
                    return;
                }
                Err(Refused::ForNow(why)) if is_first && !self.is_expected => {
                    drop(out.send(Heard::Failed(why)).await);
                    return;
                }
                Err(Refused::ForNow(why)) => why,
            };
            let seconds = delay.as_secs_f32();
            let said = format!("{why}; trying again in {seconds} s");
            if out.send(Heard::Said(said)).await.is_err() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                () = out.closed() => return,
            }
            delay = (delay * 2).min(LONGEST_DELAY);
        }
    }

    fn followed(&self, is_first: bool) -> String {
        let (names, address) = (self.sorts.names(), &self.address);
        match is_first {
            true => format!("following {names} of `{address}`"),
            false => format!(
                "following {names} of `{address}` again; what it told meanwhile and does not keep is \
                 lost"
            ),
        }
    }

    async fn subscribe(&self, marks: &Marks) -> Result<Feed, Refused> {
        let connected = Client::connect_to(&self.address, self.tls.as_deref()).await;
        let mut client =
            connected.map_err(|error| Refused::ForNow((self.explain)(&self.address, &error)))?;
        let mut feed = Feed::default();
        if self.sorts.alerts {
            let filter = self.filter_from(marks.lock().alerts.second);
            feed.alerts = Some(client.alerts_of(&filter).await.map_err(refused)?);
        }
        if self.sorts.logs {
            let filter = self.filter_from(marks.lock().logs.second);
            feed.logs = Some(client.logs_of(&filter).await.map_err(refused)?);
        }
        if self.sorts.messages {
            let filter = self.filter_from(marks.lock().messages.second);
            feed.messages = Some(client.messages_of(&filter).await.map_err(refused)?);
        }
        Ok(feed)
    }

    /// The filter, and from when on.
    fn filter_from(&self, second: i64) -> String {
        let since = match (second, &self.since) {
            (0, None) => return self.filter.clone(),
            (0, Some(since)) => since.clone(),
            (second, _) => second.to_string(),
        };
        format!("{},since={since}", self.filter)
    }
}

/// Why there are no streams.
enum Refused {
    ForNow(String),
    /// Asking again would not help.
    Forever(String),
}

fn refused(status: Status) -> Refused {
    let why = format!("the agent refused: {}", status.message());
    match status.code() {
        Code::InvalidArgument | Code::Unimplemented | Code::PermissionDenied => {
            Refused::Forever(why)
        }
        _ => Refused::ForNow(why),
    }
}

/// Hands on what is heard, until a stream ends: then why. Nothing when nobody listens.
async fn forward(mut feed: Feed, marks: &Marks, out: &Sender<Heard>) -> Option<String> {
    loop {
        let event = tokio::select! {
            event = feed.next() => event,
            () = out.closed() => return None,
        };
        match event {
            Ok(Some(event)) => {
                let said = Said::of(&event);
                if marks.is_new(said) {
                    if out.send(Heard::Event(event)).await.is_err() {
                        return None;
                    }
                    marks.heard(said);
                }
            }
            Ok(None) => return Some("the agent ended the feed".to_owned()),
            Err(status) => return Some(format!("the agent is gone: {}", status.message())),
        }
    }
}

impl Feed {
    /// The next event of any; `None` when one of them has ended.
    async fn next(&mut self) -> Result<Option<Received>, Status> {
        // A stream that loses the race keeps its place: nothing is taken from it.
        tokio::select! {
            alert = next(&mut self.alerts) => Ok(alert?.map(|alert| Received::Alert(Box::new(alert)))),
            log = next(&mut self.logs) => Ok(log?.map(|log| Received::Log(Box::new(log)))),
            message = next(&mut self.messages) => Ok(message?.map(Received::Message)),
        }
    }
}

/// The next of a stream; never, when it is not followed.
async fn next<T>(stream: &mut Option<Streaming<T>>) -> Result<Option<T>, Status> {
    match stream {
        Some(stream) => stream.message().await,
        None => std::future::pending().await,
    }
}

/// What an event says, as far as it tells it from others.
#[derive(Clone, Copy, Debug)]
struct Said {
    of: fn(&mut Sorted) -> &mut Mark,
    second: i64,
    hash: u64,
}

impl Said {
    /// Only what it says is compared: two that say the same in one microsecond are one.
    fn of(event: &Received) -> Self {
        let (of, second, bytes): (fn(&mut Sorted) -> &mut Mark, _, _) = match event {
            Received::Alert(it) => (|all| &mut all.alerts, it.timestamp, it.encode_to_vec()),
            Received::Log(it) => (|all| &mut all.logs, it.timestamp, it.encode_to_vec()),
            Received::Message(it) => (|all| &mut all.messages, it.timestamp, it.encode_to_vec()),
        };
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        let hash = hasher.finish();
        Self { of, second, hash }
    }
}

impl Marks {
    fn lock(&self) -> MutexGuard<'_, Sorted> {
        // Whole after every statement that has it locked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_new(&self, said: Said) -> bool {
        let mut all = self.lock();
        let mark = (said.of)(&mut all);
        // One of before was told late, and not for the first time only if it was asked for again: it
        // was not.
        said.second != mark.second || !mark.seen.contains(&said.hash)
    }

    fn heard(&self, said: Said) {
        let mut all = self.lock();
        let mark = (said.of)(&mut all);
        match said.second.cmp(&mark.second) {
            std::cmp::Ordering::Greater => {
                mark.second = said.second;
                mark.seen = HashSet::from([said.hash]);
            }
            std::cmp::Ordering::Equal => {
                mark.seen.insert(said.hash);
            }
            std::cmp::Ordering::Less => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(second: i64, text: &str) -> Received {
        Received::Message(proto::Message {
            timestamp: second,
            message: text.to_owned(),
            ..proto::Message::default()
        })
    }

    #[test]
    fn what_was_heard_already_is_not_told_twice() {
        let marks = Marks::default();
        let said = |second, text| Said::of(&message(second, text));
        for (second, text) in [(7, "a"), (7, "b"), (8, "a")] {
            assert!(marks.is_new(said(second, text)));
            marks.heard(said(second, text));
        }
        assert!(!marks.is_new(said(8, "a")));
        assert!(marks.is_new(said(8, "b")));
    }

    #[test]
    fn what_is_asked_for_again_begins_at_the_last_event() {
        let following = Following {
            address: "/run/x.sock".parse().unwrap(),
            tls: None,
            sorts: Sorts::default(),
            filter: "all,pod=web".to_owned(),
            since: Some("5m".to_owned()),
            is_expected: false,
            explain: |_, _| String::new(),
        };
        assert_eq!(following.filter_from(0), "all,pod=web,since=5m");
        assert_eq!(following.filter_from(17), "all,pod=web,since=17");
        let following = Following {
            since: None,
            ..following
        };
        assert_eq!(following.filter_from(0), "all,pod=web");
    }
}
