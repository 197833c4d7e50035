// SPDX-License-Identifier: Apache-2.0
//! One stream of events to many clients.
//!
//! INVARIANT: publishing never waits. A client whose queue is full loses the event and is told how many it
//! lost as soon as there is room. What is kept for clients that come later is bounded by number and bytes,
//! the oldest go first.

use gorget_model::Node;
use gorget_telemetry::{Filter, Lost, Received, Sorts};
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio_stream::Stream;

/// Events that may wait for one client: at about 1 KiB an event, some 16 MiB for one that stopped reading.
const QUEUE: usize = 16_384;
/// Clients at once: each is asked at each event whether it wants it.
const MAX_CLIENTS: usize = 64;
/// What is kept of the latest.
const KEPT_EVENTS: usize = 16_384;
const KEPT_BYTES: usize = 32 << 20;

/// Hands events to clients. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Hub {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    clients: Vec<Client>,
    kept: VecDeque<(usize, Arc<Received>)>,
    kept_bytes: usize,
    received: Counts,
    lost_before: u64,
    last: u64,
    is_closed: bool,
}

/// How many events came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Alerts.
    pub alerts: u64,
    /// Logs.
    pub logs: u64,
    /// Messages.
    pub messages: u64,
}

#[derive(Debug)]
struct Client {
    number: u64,
    name: String,
    wanted: Wanted,
    queue: Sender<Arc<Received>>,
    lost: Arc<Losses>,
}

#[derive(Debug, Default)]
struct Losses {
    untold: AtomicU64,
    total: AtomicU64,
}

/// What a client wants.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) sorts: Sorts,
    pub(crate) filter: Filter,
}

impl Wanted {
    fn is(&self, event: &Received) -> bool {
        match event {
            Received::Alert(it) => self.sorts.alerts && self.filter.matches(it.as_ref()),
            Received::Log(it) => self.sorts.logs && self.filter.matches(it.as_ref()),
            Received::Message(_) => self.sorts.messages,
        }
    }
}

/// There are as many clients as may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{MAX_CLIENTS} clients follow the relay already")]
pub struct TooManyClients;

/// One that follows, as metrics tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Follower {
    pub(crate) name: String,
    pub(crate) queued: usize,
    pub(crate) lost: u64,
}

impl Hub {
    /// From now on what is wanted is queued, and first what is kept since a time in microseconds.
    pub(crate) fn follow(
        &self,
        name: &str,
        wanted: Wanted,
        since: Option<i64>,
    ) -> Result<Subscription, TooManyClients> {
        let mut shared = self.lock();
        if shared.clients.len() >= MAX_CLIENTS {
            return Err(TooManyClients);
        }
        // Under one lock, so that no event is missing between the two and none is in both.
        let before = since.map(|since| {
            let kept = shared.kept.iter().map(|(_, event)| event);
            let kept = kept.filter(|event| second(event).saturating_mul(1_000_000) >= since);
            kept.filter(|event| wanted.is(event)).cloned().collect()
        });
        let is_last = wanted.filter.only_kept() || shared.is_closed;
        let (queue, receiver) = channel(QUEUE);
        let lost = Arc::new(Losses::default());
        shared.last += 1;
        let number = shared.last;
        if !is_last {
            shared.clients.push(Client {
                number,
                name: name.to_owned(),
                wanted,
                queue,
                lost: Arc::clone(&lost),
            });
        }
        Ok(Subscription {
            number,
            shared: Arc::downgrade(&self.shared),
            before: before.unwrap_or_default(),
            queue: receiver,
            lost,
            last: 0,
        })
    }

    /// Every event of these sorts, for an output.
    ///
    /// # Errors
    ///
    /// When there are too many clients.
    pub fn subscribe(&self, name: &str, sorts: Sorts) -> Result<Subscription, TooManyClients> {
        let filter = Filter::default();
        self.follow(name, Wanted { sorts, filter }, None)
    }

    /// Queues an event for every client that wants it.
    pub fn publish(&self, event: Received) {
        let event = Arc::new(event);
        let mut shared = self.lock();
        match *event {
            Received::Alert(_) => shared.received.alerts += 1,
            Received::Log(_) => shared.received.logs += 1,
            Received::Message(_) => shared.received.messages += 1,
        }
        shared.keep(&event);
        for client in &shared.clients {
            if !client.wanted.is(&event) {
                continue;
            }
            match client.queue.try_send(Arc::clone(&event)) {
                Ok(()) => {}
                Err(TrySendError::Full(_)) => {
                    client.lost.untold.fetch_add(1, Ordering::Relaxed);
                    client.lost.total.fetch_add(1, Ordering::Relaxed);
                }
                // It is about to take itself off the list.
                Err(TrySendError::Closed(_)) => {}
            }
        }
    }

    /// Ends all subscriptions, after what is queued.
    pub fn close(&self) {
        let mut shared = self.lock();
        shared.is_closed = true;
        shared.clients.clear();
    }

    /// How many events came.
    pub fn received(&self) -> Counts {
        self.lock().received
    }

    /// Who follows, and what those lost that do no more.
    pub(crate) fn followers(&self) -> (Vec<Follower>, u64) {
        let shared = self.lock();
        let all = shared.clients.iter().map(|client| Follower {
            name: client.name.clone(),
            queued: client.queue.max_capacity() - client.queue.capacity(),
            lost: client.lost.total.load(Ordering::Relaxed),
        });
        (all.collect(), shared.lost_before)
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        lock(&self.shared)
    }
}

/// What is shared is whole after every statement that has it locked.
fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn keep(&mut self, event: &Arc<Received>) {
        let bytes = weight(event);
        self.kept.push_back((bytes, Arc::clone(event)));
        self.kept_bytes += bytes;
        while self.kept.len() > KEPT_EVENTS || self.kept_bytes > KEPT_BYTES {
            let Some((bytes, _)) = self.kept.pop_front() else {
                break;
            };
            self.kept_bytes -= bytes;
        }
    }
}

/// What an event takes, about: its texts are as long as its wire form.
fn weight(event: &Received) -> usize {
    use gorget_telemetry::encoded_len;
    size_of::<Received>() + 1_024 + encoded_len(event)
}

fn second(event: &Received) -> i64 {
    match event {
        Received::Alert(it) => it.timestamp,
        Received::Log(it) => it.timestamp,
        Received::Message(it) => it.timestamp,
    }
}

/// The receiving end: a stream of events. Dropping it ends the subscription.
#[derive(Debug)]
pub struct Subscription {
    number: u64,
    shared: Weak<Mutex<Shared>>,
    before: VecDeque<Arc<Received>>,
    queue: Receiver<Arc<Received>>,
    lost: Arc<Losses>,
    /// Of the last event, for telling of losses.
    last: i64,
}

/// What a client gets.
#[derive(Clone, Debug)]
pub enum Delivery {
    /// Something happened.
    Event(Arc<Received>),
    /// And this client was too slow for so much.
    Lost(Lost),
}

impl Stream for Subscription {
    type Item = Delivery;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Delivery>> {
        if let Some(event) = self.before.pop_front() {
            self.last = second(&event);
            return Poll::Ready(Some(Delivery::Event(event)));
        }
        if let Some(lost) = self.newly_lost() {
            return Poll::Ready(Some(lost));
        }
        match self.queue.poll_recv(context) {
            Poll::Ready(Some(event)) => {
                self.last = second(&event);
                Poll::Ready(Some(Delivery::Event(event)))
            }
            // What was lost while it waited for nothing.
            Poll::Ready(None) => Poll::Ready(self.newly_lost()),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Subscription {
    fn newly_lost(&self) -> Option<Delivery> {
        let count = self.lost.untold.swap(0, Ordering::Relaxed);
        (count > 0).then(|| {
            Delivery::Lost(Lost {
                count,
                node: Arc::new(Node::default()),
                unix_micros: self.last.saturating_mul(1_000_000),
            })
        })
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let Some(shared) = self.shared.upgrade() else {
            return;
        };
        let mut shared = lock(&shared);
        shared.clients.retain(|it| it.number != self.number);
        shared.lost_before += self.lost.total.load(Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gorget_telemetry::proto;
    use tokio_stream::StreamExt as _;

    fn alert(second: i64, namespace: &str) -> Received {
        Received::Alert(Box::new(proto::Alert {
            timestamp: second,
            namespace_name: namespace.to_owned(),
            ..proto::Alert::default()
        }))
    }

    fn wanted(filter: &str) -> Wanted {
        Wanted {
            sorts: Sorts {
                alerts: true,
                ..Sorts::default()
            },
            filter: Filter::parse(filter).unwrap(),
        }
    }

    fn second_of(delivery: Option<Delivery>) -> i64 {
        match delivery {
            Some(Delivery::Event(event)) => second(&event),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_client_gets_what_it_asked_for_and_what_was_before() {
        let hub = Hub::default();
        for number in 1..=3 {
            hub.publish(alert(number, "shop"));
            hub.publish(alert(number, "other"));
        }
        let follow = |filter, since| hub.follow("test", wanted(filter), since).unwrap();
        let mut some = follow("namespace=shop", Some(2_000_000));
        let mut kept = follow("all,kept,namespace=shop", Some(0));
        hub.publish(alert(4, "shop"));
        for expected in [2, 3, 4] {
            assert_eq!(second_of(some.next().await), expected);
        }
        for expected in [1, 2, 3] {
            assert_eq!(second_of(kept.next().await), expected);
        }
        assert!(kept.next().await.is_none());
        hub.close();
        assert!(some.next().await.is_none());
    }

    #[tokio::test]
    async fn a_slow_client_is_told_how_many_it_lost() {
        let hub = Hub::default();
        let mut slow = hub.follow("slow", wanted("all"), None).unwrap();
        for number in 0..QUEUE + 7 {
            hub.publish(alert(i64::try_from(number).unwrap(), "a"));
        }
        assert_eq!(hub.followers().0[0].lost, 7);
        match slow.next().await {
            Some(Delivery::Lost(lost)) => assert_eq!(lost.count, 7),
            other => panic!("{other:?}"),
        }
        assert_eq!(second_of(slow.next().await), 0);
        drop(slow);
        assert_eq!(hub.followers(), (Vec::new(), 7));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let hub = Hub::default();
        for number in 0..KEPT_EVENTS + 10 {
            hub.publish(alert(i64::try_from(number).unwrap(), "a"));
        }
        let shared = hub.lock();
        assert!(shared.kept.len() <= KEPT_EVENTS && shared.kept_bytes <= KEPT_BYTES);
        assert!(shared.kept.len() > KEPT_EVENTS / 2);
    }

    #[test]
    fn there_is_a_limit_to_clients() {
        let hub = Hub::default();
        let follow = || hub.follow("test", wanted("all"), None);
        let all: Vec<_> = (0..MAX_CLIENTS).map(|_| follow().unwrap()).collect();
        assert_eq!(follow().unwrap_err(), TooManyClients);
        drop(all);
        follow().unwrap();
    }
}
