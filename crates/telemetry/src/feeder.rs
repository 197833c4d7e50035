// SPDX-License-Identifier: Apache-2.0
//! One event to many subscribers.
//!
//! INVARIANT: publishing never waits for a subscriber. One whose queue is full loses this event; the
//! number it lost is the next thing it gets, as soon as there is room. So what a subscriber got and
//! what it was told that it lost is everything that it asked for.
//!
//! Before any subscriber an event goes to whatever keeps events, which publishing does wait for: what
//! was published is kept. The latest events are kept in memory, too, for subscribers that ask for what
//! was before: those they get first, and each event once.

use crate::convert;
use crate::counts::{Counted, Counts};
use crate::filter::Wanted;
use crate::history::{History, Limits};
use crate::proto;
use gorget_model::{Event, Level, Message, Node};
use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Events that may wait for one subscriber. An event is about 1 KiB, so a subscriber that stopped
/// reading costs some 8 MiB; a burst of this size is written to a socket in well under a second.
pub(crate) const QUEUE: usize = 8192;

/// Subscribers at once. They hold the same events, so that memory is no reason; but each is asked at
/// each event whether it wants it.
const MAX_SUBSCRIBERS: usize = 64;

/// Hands events to subscribers. Cheap to clone; all clones are one feeder.
#[derive(Clone, Debug)]
pub struct Feeder {
    shared: Arc<Mutex<Shared>>,
    keeper: Option<Keeper>,
}

#[derive(Debug)]
struct Shared {
    subscribers: Vec<Subscriber>,
    history: History,
    counts: Counts,
    /// What subscribers lost that are gone.
    lost_before: u64,
    /// Number of the last subscriber.
    last: u64,
}

/// Keeps an event, and gives what the subscribers should know about that.
type Keep = dyn Fn(&Event) -> Option<Event> + Send + Sync;

#[derive(Clone)]
struct Keeper(Arc<Keep>);

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keeper")
    }
}

#[derive(Debug)]
struct Subscriber {
    number: u64,
    name: String,
    wanted: Wanted,
    queue: Sender<Arc<Event>>,
    lost: Arc<Losses>,
}

#[derive(Debug, Default)]
struct Losses {
    untold: AtomicU64,
    total: AtomicU64,
}

/// The receiving end. Dropping it ends the subscription.
#[derive(Debug)]
pub struct Subscription {
    number: u64,
    shared: Weak<Mutex<Shared>>,
    /// What was before, and is told first.
    before: VecDeque<Arc<Event>>,
    queue: Receiver<Arc<Event>>,
    lost: Arc<Losses>,
    /// Node and time of the last event, for telling of losses.
    last: Option<(Arc<Node>, i64)>,
}

/// What a subscriber gets.
#[derive(Clone, Debug, PartialEq)]
pub enum Delivery {
    /// Something happened.
    Event(Arc<Event>),
    /// Something happened that this subscriber was too slow for.
    Lost(Lost),
}

impl Delivery {
    /// As an event: that some were lost is a message of the agent.
    pub fn into_event(self) -> Arc<Event> {
        match self {
            Self::Event(event) => event,
            Self::Lost(lost) => Arc::new(Event::Message(lost.message())),
        }
    }
}

/// How many events a subscriber does not get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Since it was told last.
    pub count: u64,
    /// Where they come from.
    pub node: Arc<Node>,
    /// When, about.
    pub unix_micros: i64,
}

impl Lost {
    pub(crate) fn text(&self) -> String {
        let count = self.count;
        format!("{count} events were dropped because this client was too slow")
    }

    /// As a client gets it among alerts.
    pub fn to_alert(&self) -> proto::Alert {
        convert::lost_alerts(self)
    }

    /// As a client gets it among logs.
    pub fn to_log(&self) -> proto::Log {
        convert::lost_logs(self)
    }

    /// As a client gets it among messages.
    pub fn to_message(&self) -> proto::Message {
        convert::message(&self.message())
    }

    /// The same as what the agent says of itself.
    pub fn message(&self) -> Message {
        Message {
            unix_micros: self.unix_micros,
            node: Arc::clone(&self.node),
            level: Level::Warn,
            text: self.text(),
        }
    }
}

/// Someone who follows the feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Follower {
    /// What it follows, or what it is.
    pub name: String,
    /// Events that wait for it.
    pub queued: usize,
    /// How many may.
    pub capacity: usize,
    /// Events that it did not get.
    pub lost: u64,
}

/// There are as many subscribers as may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{MAX_SUBSCRIBERS} clients follow the feed already")]
pub struct TooManySubscribers;

impl Default for Feeder {
    fn default() -> Self {
        Self::new()
    }
}

impl Feeder {
    /// A feeder without subscribers: what is published is gone.
    pub fn new() -> Self {
        Self {
            shared: Arc::new(Mutex::new(Shared {
                subscribers: Vec::new(),
                history: History::new(Limits::OFF),
                counts: Counts::default(),
                lost_before: 0,
                last: 0,
            })),
            keeper: None,
        }
    }

    /// A feeder that has every event kept first, by `keep`, which may have something to tell the
    /// subscribers: that it fails.
    pub fn kept_by(keep: impl Fn(&Event) -> Option<Event> + Send + Sync + 'static) -> Self {
        Self {
            keeper: Some(Keeper(Arc::new(keep))),
            ..Self::new()
        }
    }

    /// The same, which keeps the latest events for those who ask for what was before.
    #[must_use]
    pub fn with_history(self, limits: Limits) -> Self {
        self.lock().history = History::new(limits);
        self
    }

    /// From now on every event is queued for this subscriber, of the agent's own, which has a name.
    pub fn subscribe(&self, name: &str) -> Subscription {
        self.lock()
            .add(&self.shared, name, Wanted::everything(), QUEUE)
    }

    /// From now on every event that is wanted is queued for this subscriber, and first what happened
    /// since a time, as far as it is kept.
    ///
    /// # Errors
    ///
    /// When there are too many.
    pub fn follow(
        &self,
        name: &str,
        wanted: Wanted,
        since: Option<i64>,
    ) -> Result<Subscription, TooManySubscribers> {
        let mut shared = self.lock();
        if shared.subscribers.len() >= MAX_SUBSCRIBERS {
            return Err(TooManySubscribers);
        }
        // Under one lock, so that no event is missing between the two and none is in both.
        let before = since.map(|since| {
            let kept = shared.history.since(since);
            kept.filter(|event| wanted.is(event)).cloned().collect()
        });
        let only_kept = wanted.filter.only_kept();
        let mut subscription = shared.add(&self.shared, name, wanted, QUEUE);
        subscription.before = before.unwrap_or_default();
        if only_kept {
            // Nothing comes in any more, and what is not wanted is not lost.
            subscription.queue.close();
        }
        Ok(subscription)
    }

    /// Has an event kept, and queues it for every subscriber that wants it.
    pub fn publish(&self, event: Event) {
        let remark = self.keeper.as_ref().and_then(|keeper| keeper.0(&event));
        self.queue(event);
        if let Some(remark) = remark {
            self.queue(remark);
        }
    }

    fn queue(&self, event: Event) {
        let event = Arc::new(event);
        let mut shared = self.lock();
        shared.counts.count(&event);
        shared.history.keep(&event);
        for subscriber in &shared.subscribers {
            if !subscriber.wanted.is(&event) {
                continue;
            }
            match subscriber.queue.try_send(Arc::clone(&event)) {
                Ok(()) => {}
                Err(TrySendError::Full(_)) => {
                    subscriber.lost.untold.fetch_add(1, Ordering::Relaxed);
                    subscriber.lost.total.fetch_add(1, Ordering::Relaxed);
                }
                // It is about to be dropped, which takes it off the list.
                Err(TrySendError::Closed(_)) => {}
            }
        }
    }

    /// Who follows, in the order in which they came.
    pub fn followers(&self) -> Vec<Follower> {
        let shared = self.lock();
        let all = shared.subscribers.iter().map(|subscriber| Follower {
            name: subscriber.name.clone(),
            queued: subscriber.queue.max_capacity() - subscriber.queue.capacity(),
            capacity: subscriber.queue.max_capacity(),
            lost: subscriber.lost.total.load(Ordering::Relaxed),
        });
        all.collect()
    }

    /// Events that subscribers did not get, those that are gone included.
    pub fn lost(&self) -> u64 {
        let shared = self.lock();
        let losses = shared.subscribers.iter().map(|it| &it.lost.total);
        let now: u64 = losses.map(|total| total.load(Ordering::Relaxed)).sum();
        shared.lost_before + now
    }

    /// How many events were published, by sort.
    pub fn counted(&self) -> Counted {
        self.lock().counts.counted()
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
    fn add(
        &mut self,
        own: &Arc<Mutex<Self>>,
        name: &str,
        wanted: Wanted,
        capacity: usize,
    ) -> Subscription {
        let (sender, queue) = channel(capacity);
        let lost = Arc::new(Losses::default());
        self.last += 1;
        self.subscribers.push(Subscriber {
            number: self.last,
            name: name.to_owned(),
            wanted,
            queue: sender,
            lost: Arc::clone(&lost),
        });
        Subscription {
            number: self.last,
            shared: Arc::downgrade(own),
            before: VecDeque::new(),
            queue,
            lost,
            last: None,
        }
    }
}

impl Subscription {
    /// The next event, or how many were lost before it. `None` when the feeder is gone. May be dropped
    /// while it waits.
    pub async fn next(&mut self) -> Option<Delivery> {
        if let Some(event) = self.before.pop_front() {
            return Some(self.deliver(event));
        }
        if let Some(lost) = self.newly_lost() {
            return Some(lost);
        }
        match self.queue.recv().await {
            Some(event) => Some(self.deliver(event)),
            // What was lost while it waited for nothing.
            None => self.newly_lost(),
        }
    }

    fn newly_lost(&mut self) -> Option<Delivery> {
        let (node, unix_micros) = self.last.clone()?;
        let count = self.lost.untold.swap(0, Ordering::Relaxed);
        (count > 0).then_some(Delivery::Lost(Lost {
            count,
            node,
            unix_micros,
        }))
    }

    fn deliver(&mut self, event: Arc<Event>) -> Delivery {
        self.last = Some((Arc::clone(event.node()), event.unix_micros()));
        Delivery::Event(event)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let Some(shared) = self.shared.upgrade() else {
            return;
        };
        let mut shared = lock(&shared);
        shared.subscribers.retain(|it| it.number != self.number);
        shared.lost_before += self.lost.total.load(Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::Filter;

    fn message(number: u32) -> Event {
        Event::Message(Message {
            unix_micros: i64::from(number),
            node: Arc::new(Node::default()),
            level: Level::Info,
            text: number.to_string(),
        })
    }

    fn text(delivery: Option<Delivery>) -> String {
        match delivery {
            Some(Delivery::Lost(lost)) => lost.text(),
            Some(Delivery::Event(event)) => match event.as_ref() {
                Event::Message(message) => message.text.clone(),
                Event::Alert(_) | Event::Log(_) | Event::Threshold(_) => panic!("not a message"),
            },
            None => panic!("the feeder is gone"),
        }
    }

    fn subscribe_with(feeder: &Feeder, capacity: usize) -> Subscription {
        let shared = &feeder.shared;
        feeder
            .lock()
            .add(shared, "test", Wanted::everything(), capacity)
    }

    #[tokio::test]
    async fn a_slow_subscriber_loses_its_own_events_and_is_told_how_many() {
        let feeder = Feeder::new();
        let mut slow = subscribe_with(&feeder, 2);
        let mut quick = subscribe_with(&feeder, 10);
        for number in 0..6 {
            feeder.publish(message(number));
        }
        let lost = |at: usize| feeder.followers()[at].lost;
        assert_eq!((lost(0), lost(1)), (4, 0));
        assert_eq!(text(slow.next().await), "0");
        assert!(text(slow.next().await).starts_with("4 events were dropped"));
        assert_eq!(text(slow.next().await), "1");
        for number in 0..6 {
            assert_eq!(text(quick.next().await), number.to_string());
        }
        drop(slow);
        assert_eq!((feeder.followers().len(), feeder.lost()), (1, 4));
    }

    #[tokio::test]
    async fn losses_at_the_very_end_are_told_before_the_end() {
        let feeder = Feeder::new();
        let mut slow = subscribe_with(&feeder, 1);
        feeder.publish(message(0));
        assert_eq!(text(slow.next().await), "0");
        feeder.publish(message(1));
        feeder.publish(message(2));
        drop(feeder);
        assert!(text(slow.next().await).starts_with("1 events were dropped"));
        assert_eq!(text(slow.next().await), "1");
        assert_eq!(slow.next().await, None);
    }

    #[tokio::test]
    async fn an_event_is_kept_before_anybody_gets_it_and_subscribers_learn_what_the_keeper_says() {
        let kept = Arc::new(Mutex::new(0));
        let keep = {
            let kept = Arc::clone(&kept);
            move |_event: &Event| {
                *kept.lock().unwrap() += 1;
                Some(message(99))
            }
        };
        let feeder = Feeder::kept_by(keep);
        let mut subscriber = feeder.subscribe("test");
        feeder.publish(message(1));
        assert_eq!(*kept.lock().unwrap(), 1);
        assert_eq!(text(subscriber.next().await), "1");
        assert_eq!(text(subscriber.next().await), "99");
    }

    #[tokio::test]
    async fn what_was_before_comes_first_and_everything_once() {
        let feeder = Feeder::new().with_history(Limits {
            events: 3,
            bytes: 1 << 20,
        });
        (0..5).for_each(|number| feeder.publish(message(number)));
        let follow = |since| feeder.follow("test", Wanted::everything(), since).unwrap();
        let (mut all, mut some, mut new) = (follow(Some(0)), follow(Some(4)), follow(None));
        feeder.publish(message(5));
        for (subscription, expected) in [
            (&mut all, ["2", "3", "4", "5"].as_slice()),
            (&mut some, &["4", "5"]),
            (&mut new, &["5"]),
        ] {
            for text_of in expected {
                assert_eq!(text(subscription.next().await), *text_of);
            }
        }
    }

    #[tokio::test]
    async fn who_wants_only_what_is_kept_gets_that_and_an_end() {
        let feeder = Feeder::new().with_history(Limits {
            events: 3,
            bytes: 1 << 20,
        });
        (0..5).for_each(|number| feeder.publish(message(number)));
        let filter = Filter::parse("all,kept").unwrap();
        let wanted = Wanted {
            messages: true,
            ..Wanted::nothing(filter)
        };
        let since = wanted.filter.since(0);
        let mut subscription = feeder.follow("test", wanted, since).unwrap();
        feeder.publish(message(5));
        for expected in ["2", "3", "4"] {
            assert_eq!(text(subscription.next().await), expected);
        }
        assert_eq!(subscription.next().await, None);
        assert_eq!(feeder.lost(), 0);
    }

    #[test]
    fn a_subscriber_that_left_is_forgotten_at_once() {
        let feeder = Feeder::new();
        drop(feeder.subscribe("test"));
        assert_eq!(feeder.followers(), []);
    }

    #[test]
    fn there_is_a_limit_to_clients() {
        let feeder = Feeder::new();
        let follow = || feeder.follow("test", Wanted::nothing(Filter::default()), None);
        let all: Vec<_> = (0..MAX_SUBSCRIBERS).map(|_| follow().unwrap()).collect();
        assert_eq!(follow().unwrap_err(), TooManySubscribers);
        drop(all);
        follow().unwrap();
    }
}
