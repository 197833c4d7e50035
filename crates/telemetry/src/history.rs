// SPDX-License-Identifier: Apache-2.0
//! The latest events, for clients that come later.
//!
//! INVARIANT: what is kept is bounded by number and by memory; the oldest go first, and logs never push
//! alerts out of more than half of the room.

use gorget_model::{
    Alert, Container, Event, Host, Log, Message, PolicyRef, Process, Threshold, Workload,
};
use std::collections::VecDeque;
use std::sync::Arc;

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Events; none are kept when this is 0.
    pub events: usize,
    /// What they may take together, as far as it can be told.
    pub bytes: usize,
}

impl Limits {
    /// Nothing is kept.
    pub const OFF: Self = Self {
        events: 0,
        bytes: 0,
    };
}

#[derive(Debug)]
struct Kept {
    /// Counts what was told.
    number: u64,
    bytes: usize,
    event: Arc<Event>,
}

/// Events of one sort, the oldest first.
#[derive(Debug, Default)]
struct Queue {
    kept: VecDeque<Kept>,
    bytes: usize,
}

impl Queue {
    fn push(&mut self, kept: Kept) {
        self.bytes += kept.bytes;
        self.kept.push_back(kept);
    }

    fn cut(&mut self, limits: Limits) {
        while self.kept.len() > limits.events || self.bytes > limits.bytes {
            let Some(oldest) = self.kept.pop_front() else {
                break;
            };
            self.bytes -= oldest.bytes;
        }
    }
}

#[derive(Debug)]
pub(crate) struct History {
    limits: Limits,
    told: u64,
    /// They come by the thousand, and get half of the room at most.
    logs: Queue,
    /// Alerts and messages: these get what logs leave.
    others: Queue,
}

impl History {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            told: 0,
            logs: Queue::default(),
            others: Queue::default(),
        }
    }

    pub(crate) fn keep(&mut self, event: &Arc<Event>) {
        let bytes = weight(event);
        let Limits {
            events,
            bytes: room,
        } = self.limits;
        if events == 0 || bytes > room {
            return;
        }
        self.told += 1;
        let kept = Kept {
            number: self.told,
            bytes,
            event: Arc::clone(event),
        };
        match **event {
            Event::Log(_) => self.logs.push(kept),
            Event::Alert(_) | Event::Message(_) | Event::Threshold(_) => self.others.push(kept),
        }
        self.logs.cut(Limits {
            events: events / 2,
            bytes: room / 2,
        });
        self.others.cut(Limits {
            events: events - self.logs.kept.len(),
            bytes: room - self.logs.bytes,
        });
    }

    /// What happened at a time or later and is kept, in the order in which it was told.
    pub(crate) fn since(&self, unix_micros: i64) -> impl Iterator<Item = &Arc<Event>> {
        let mut kept: Vec<_> = self.logs.kept.iter().chain(&self.others.kept).collect();
        kept.sort_unstable_by_key(|kept| kept.number);
        let events = kept.into_iter().map(|kept| &kept.event);
        events.filter(move |event| event.unix_micros() >= unix_micros)
    }
}

/// What an event takes. Its workload and node are shared with others and counted with none, but for
/// the workload's name, which stands for what the allocator needs besides.
fn weight(event: &Event) -> usize {
    let texts = match event {
        Event::Alert(Alert {
            process,
            policy,
            workload,
            source,
            resource,
            data,
            ..
        }) => {
            let PolicyRef {
                name,
                severity: _,
                tags,
                message,
            } = policy;
            let tags: usize = tags.iter().map(|tag| size_of::<String>() + tag.len()).sum();
            of_process(process)
                + of_workload(workload)
                + name.len()
                + tags
                + message.len()
                + source.len()
                + resource.len()
                + data.len()
        }
        Event::Log(Log {
            process,
            workload,
            source,
            resource,
            data,
            ..
        }) => {
            of_process(process) + of_workload(workload) + source.len() + resource.len() + data.len()
        }
        Event::Message(Message { text, .. }) => text.len(),
        Event::Threshold(Threshold {
            policy, workload, ..
        }) => of_workload(workload) + policy.len(),
    };
    size_of::<Event>() + size_of::<(usize, Arc<Event>)>() + texts
}

fn of_process(process: &Process) -> usize {
    let Process {
        user,
        exe,
        parent_exe,
        cwd,
        tty,
        session,
        hashes,
        ..
    } = process;
    let hashes = [&hashes.process, &hashes.parent].into_iter().flatten();
    let hashes: usize = hashes.map(|hash| hash.digest.len()).sum();
    let session = session.as_ref().map_or(0, |s| s.id.len() + s.program.len());
    user.len() + exe.len() + parent_exe.len() + cwd.len() + tty.len() + session + hashes
}

fn of_workload(workload: &Workload) -> usize {
    match workload {
        Workload::Host(Host { name, .. }) | Workload::Container(Container { name, .. }) => {
            name.len()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gorget_model::{Category, Level};

    fn message(unix_micros: i64, length: usize) -> Arc<Event> {
        Arc::new(Event::Message(Message {
            unix_micros,
            node: Arc::default(),
            level: Level::Info,
            text: "x".repeat(length),
        }))
    }

    fn log(unix_micros: i64) -> Arc<Event> {
        Arc::new(Event::Log(Log {
            unix_micros,
            node: Arc::default(),
            workload: Arc::new(Workload::Host(Host::default())),
            process: Process::default(),
            category: Category::File,
            source: String::new(),
            resource: String::new(),
            data: String::new(),
            result: "Passed",
        }))
    }

    fn times(history: &History, since: i64) -> Vec<i64> {
        history
            .since(since)
            .map(|event| event.unix_micros())
            .collect()
    }

    #[test]
    fn the_oldest_go_first_by_number_and_by_size() {
        let mut history = History::new(Limits {
            events: 3,
            bytes: 10_000,
        });
        (0..5).for_each(|number| history.keep(&message(number, 1)));
        assert_eq!(times(&history, 0), [2, 3, 4]);
        assert_eq!(times(&history, 4), [4]);
        history.keep(&message(5, 9_000));
        assert_eq!(times(&history, 0), [4, 5]);
        history.keep(&message(6, 20_000));
        assert_eq!(times(&history, 0), [4, 5]);
    }

    #[test]
    fn logs_leave_room_for_alerts() {
        let mut history = History::new(Limits {
            events: 4,
            bytes: 100_000,
        });
        (0..4).for_each(|number| history.keep(&message(number, 1)));
        (4..9).for_each(|number| history.keep(&log(number)));
        assert_eq!(times(&history, 0), [2, 3, 7, 8]);
        history.keep(&message(9, 1));
        assert_eq!(times(&history, 0), [3, 7, 8, 9]);
    }

    #[test]
    fn nothing_is_kept_when_it_is_off() {
        let mut history = History::new(Limits::OFF);
        history.keep(&message(1, 1));
        assert_eq!(times(&history, 0), [0_i64; 0]);
    }
}
