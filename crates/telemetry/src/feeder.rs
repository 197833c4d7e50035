// SPDX-License-Identifier: Apache-2.0
//! One event to many subscribers.
//!
//! INVARIANT: publishing never waits for a subscriber. One whose queue is full loses this event; the
//! number it lost is the next thing it gets, as soon as there is room.
//!
//! Before any subscriber an event goes to whatever keeps events, which publishing does wait for: what
//! was published is kept.

use gorget_model::{Event, Level, Message, Node};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Events that may wait for one subscriber. An event is about 1 KiB, so a subscriber that stopped
/// reading costs some 8 MiB; a burst of this size is written to a socket in well under a second.
const QUEUE: usize = 8192;

/// Hands events to subscribers. Cheap to clone; all clones are one feeder.
#[derive(Clone, Debug, Default)]
pub struct Feeder {
    subscribers: Arc<Mutex<Vec<Subscriber>>>,
    keeper: Option<Keeper>,
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
    queue: Sender<Arc<Event>>,
    lost: Arc<AtomicU64>,
}

/// The receiving end. Dropping it ends the subscription.
#[derive(Debug)]
pub struct Subscription {
    queue: Receiver<Arc<Event>>,
    lost: Arc<AtomicU64>,
    /// Node and time of the last event, for the message about losses.
    last: Option<(Arc<Node>, i64)>,
}

impl Feeder {
    /// A feeder without subscribers: what is published is gone.
    pub fn new() -> Self {
        Self::default()
    }

    /// A feeder that has every event kept first, by `keep`, which may have something to tell the
    /// subscribers: that it fails.
    pub fn kept_by(keep: impl Fn(&Event) -> Option<Event> + Send + Sync + 'static) -> Self {
        Self {
            subscribers: Arc::default(),
            keeper: Some(Keeper(Arc::new(keep))),
        }
    }

    /// From now on every event is queued for this subscriber.
    pub fn subscribe(&self) -> Subscription {
        self.subscribe_with(QUEUE)
    }

    pub(crate) fn subscribe_with(&self, capacity: usize) -> Subscription {
        let (sender, queue) = channel(capacity);
        let lost = Arc::new(AtomicU64::new(0));
        self.lock().push(Subscriber {
            queue: sender,
            lost: Arc::clone(&lost),
        });
        Subscription {
            queue,
            lost,
            last: None,
        }
    }

    /// Has an event kept, and queues it for every subscriber.
    pub fn publish(&self, event: Event) {
        let remark = self.keeper.as_ref().and_then(|keeper| keeper.0(&event));
        self.queue(event);
        if let Some(remark) = remark {
            self.queue(remark);
        }
    }

    fn queue(&self, event: Event) {
        let event = Arc::new(event);
        self.lock().retain(
            |subscriber| match subscriber.queue.try_send(Arc::clone(&event)) {
                Ok(()) => true,
                Err(TrySendError::Full(_)) => {
                    subscriber.lost.fetch_add(1, Ordering::Relaxed);
                    true
                }
                Err(TrySendError::Closed(_)) => false,
            },
        );
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Subscriber>> {
        // The list is whole after every statement above.
        self.subscribers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Subscription {
    /// The next event, or a message that says how many were lost before it. `None` when the feeder
    /// is gone. May be dropped while it waits.
    pub async fn next(&mut self) -> Option<Arc<Event>> {
        if let Some((node, unix_micros)) = self.last.clone() {
            let lost = self.lost.swap(0, Ordering::Relaxed);
            if lost > 0 {
                return Some(Arc::new(Event::Message(Message {
                    unix_micros,
                    node,
                    level: Level::Warn,
                    text: format!("{lost} events were dropped because this client was too slow"),
                })));
            }
        }
        let event = self.queue.recv().await?;
        self.last = Some(match event.as_ref() {
            Event::Alert(alert) => (Arc::clone(&alert.node), alert.unix_micros),
            Event::Log(log) => (Arc::clone(&log.node), log.unix_micros),
            Event::Message(message) => (Arc::clone(&message.node), message.unix_micros),
        });
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(number: u32) -> Event {
        Event::Message(Message {
            unix_micros: 0,
            node: Arc::new(Node::default()),
            level: Level::Info,
            text: number.to_string(),
        })
    }

    fn text(event: &Event) -> &str {
        match event {
            Event::Message(message) => &message.text,
            Event::Alert(_) | Event::Log(_) => panic!("not a message"),
        }
    }

    #[tokio::test]
    async fn a_slow_subscriber_loses_its_own_events_and_is_told_how_many() {
        let feeder = Feeder::new();
        let mut slow = feeder.subscribe_with(2);
        let mut quick = feeder.subscribe_with(10);
        for number in 0..6 {
            feeder.publish(message(number));
        }
        assert_eq!(text(&slow.next().await.unwrap()), "0");
        assert!(text(&slow.next().await.unwrap()).starts_with("4 events were dropped"));
        assert_eq!(text(&slow.next().await.unwrap()), "1");
        for number in 0..6 {
            assert_eq!(text(&quick.next().await.unwrap()), number.to_string());
        }
    }

    #[tokio::test]
    async fn an_event_is_kept_before_anybody_gets_it_and_subscribers_learn_what_the_keeper_says() {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let keep = {
            let kept = Arc::clone(&kept);
            move |event: &Event| {
                kept.lock().unwrap().push(text(event).to_owned());
                Some(message(99))
            }
        };
        let feeder = Feeder::kept_by(keep);
        let mut subscriber = feeder.subscribe();
        feeder.publish(message(1));
        assert_eq!(*kept.lock().unwrap(), ["1"]);
        assert_eq!(text(&subscriber.next().await.unwrap()), "1");
        assert_eq!(text(&subscriber.next().await.unwrap()), "99");
    }

    #[tokio::test]
    async fn a_subscriber_that_left_is_forgotten() {
        let feeder = Feeder::new();
        drop(feeder.subscribe());
        feeder.publish(message(1));
        assert!(feeder.lock().is_empty());
    }
}
