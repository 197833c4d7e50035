// SPDX-License-Identifier: Apache-2.0
//! Alerts that come too many at once are told by their number, if that is configured.
//!
//! Counted are alerts of one policy about one sort of operation in one workload, so that noise of one
//! hides no other. When more than so many come within a second of the first, it is said that they are
//! only counted from now on; when the interval that began with the first is over, how many there were.
//!
//! INVARIANT: every alert is handed on, or is in the number of exactly one later event. What is counted
//! when the agent stops is told then.

use gorget_model::{Alert, Category, Event, Threshold, Workload};
use std::collections::HashMap;
use std::sync::Arc;

const SECOND: i64 = 1_000_000;
/// Sorts of alerts that are counted at once. Above it they are handed on: nothing is lost for want of
/// memory.
const MAX_SORTS: usize = 4_096;

/// How many, and for how long they are only counted then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    pub(crate) max_per_second: u32,
    pub(crate) seconds: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Sort {
    /// Of the container; empty for the host.
    workload: String,
    policy: String,
    category: Category,
}

/// Since the first alert of a sort.
#[derive(Debug)]
struct Window {
    began: i64,
    seen: u32,
    dropped: u64,
    /// What will be told, but for how many.
    threshold: Threshold,
}

/// Decides about alerts, one after the other.
#[derive(Debug)]
pub(crate) struct Throttle {
    limit: Limit,
    windows: HashMap<Sort, Window>,
}

impl Limit {
    /// COMPAT: KubeArmor's.
    pub(crate) const DEFAULT: Self = Self {
        max_per_second: 10,
        seconds: 30,
    };
}

impl Throttle {
    pub(crate) fn new(limit: Limit) -> Self {
        Self {
            limit,
            windows: HashMap::new(),
        }
    }

    pub(crate) fn limit(&self) -> Limit {
        self.limit
    }

    /// What is told of an event. `now` is microseconds since 1970.
    pub(crate) fn pass(&mut self, event: Event, now: i64) -> Option<Event> {
        let Event::Alert(alert) = event else {
            return Some(event);
        };
        let sort = Sort {
            workload: match &*alert.workload {
                Workload::Host(_) => String::new(),
                Workload::Container(container) => container.id.clone(),
            },
            policy: alert.policy.name.clone(),
            category: alert.category,
        };
        let full = self.windows.len() >= MAX_SORTS;
        let limit = self.limit;
        let Some(window) = self.windows.get_mut(&sort) else {
            if !full {
                self.windows.insert(sort, Window::new(&alert, limit, now));
            }
            return Some(Event::Alert(alert));
        };
        if window.is_throttled(limit) {
            window.dropped += 1;
            return None;
        }
        if now - window.began > SECOND {
            *window = Window::new(&alert, limit, now);
            return Some(Event::Alert(alert));
        }
        window.seen += 1;
        if !window.is_throttled(limit) {
            return Some(Event::Alert(alert));
        }
        // This one is the first that is only counted.
        window.dropped = 1;
        let mut begins = window.threshold.clone();
        begins.unix_micros = alert.unix_micros;
        Some(Event::Threshold(begins))
    }

    /// What is over: how many were only counted.
    pub(crate) fn over(&mut self, now: i64) -> Vec<Event> {
        let limit = self.limit;
        let throttled_for = i64::from(limit.seconds).saturating_mul(SECOND);
        let over = self.windows.extract_if(|_, window| {
            let lasts = match window.is_throttled(limit) {
                true => throttled_for,
                false => SECOND,
            };
            now - window.began > lasts
        });
        over.filter_map(|(_, window)| window.told(now)).collect()
    }

    /// The agent stops.
    pub(crate) fn end(&mut self, now: i64) -> Vec<Event> {
        let all = self.windows.drain();
        all.filter_map(|(_, window)| window.told(now)).collect()
    }
}

impl Window {
    fn new(alert: &Alert, limit: Limit, now: i64) -> Self {
        Self {
            began: now,
            seen: 1,
            dropped: 0,
            threshold: Threshold {
                unix_micros: alert.unix_micros,
                node: Arc::clone(&alert.node),
                workload: Arc::clone(&alert.workload),
                policy: alert.policy.name.clone(),
                category: alert.category,
                enforcer: alert.enforcer,
                max_per_second: limit.max_per_second,
                seconds: limit.seconds,
                dropped: 0,
            },
        }
    }

    fn is_throttled(&self, limit: Limit) -> bool {
        self.seen > limit.max_per_second
    }

    fn told(self, now: i64) -> Option<Event> {
        (self.dropped > 0).then_some(Event::Threshold(Threshold {
            unix_micros: now,
            dropped: self.dropped,
            ..self.threshold
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gorget_model::{AlertAction, AlertKind, Host, PolicyRef, Process};

    const LIMIT: Limit = Limit {
        max_per_second: 2,
        seconds: 30,
    };

    fn alert(policy: &str) -> Event {
        Event::Alert(Alert {
            unix_micros: 0,
            node: Arc::default(),
            workload: Arc::new(Workload::Host(Host::default())),
            process: Process::default(),
            policy: PolicyRef {
                name: policy.to_owned(),
                ..PolicyRef::default()
            },
            kind: AlertKind::HostPolicy,
            category: Category::File,
            source: String::new(),
            resource: String::new(),
            data: String::new(),
            action: AlertAction::Audit,
            result: "Passed",
            enforcer: "BPFLSM",
        })
    }

    /// `alert`, or `threshold` with how many were dropped.
    fn told(event: Option<Event>) -> String {
        match event {
            Some(Event::Alert(_)) => "alert".to_owned(),
            Some(Event::Threshold(threshold)) => format!("threshold {}", threshold.dropped),
            Some(Event::Log(_) | Event::Message(_)) => "something else".to_owned(),
            None => "nothing".to_owned(),
        }
    }

    #[test]
    fn what_comes_too_often_is_announced_counted_and_told_and_nothing_else_suffers() {
        let mut throttle = Throttle::new(LIMIT);
        let mut pass = |policy, now| told(throttle.pass(alert(policy), now));
        assert_eq!(pass("noisy", 0), "alert");
        assert_eq!(pass("noisy", 500_000), "alert");
        assert_eq!(pass("noisy", SECOND), "threshold 0");
        assert_eq!(pass("noisy", 29 * SECOND), "nothing");
        assert_eq!(pass("quiet", 29 * SECOND), "alert");
        assert!(throttle.over(30 * SECOND).is_empty());
        let mut over = throttle.over(30 * SECOND + 1);
        assert_eq!(told(over.pop()), "threshold 2");
        assert!(over.is_empty());
        assert_eq!(told(throttle.pass(alert("noisy"), 31 * SECOND)), "alert");
    }

    #[test]
    fn what_comes_seldom_enough_passes_for_ever_and_is_forgotten() {
        let mut throttle = Throttle::new(LIMIT);
        for number in 0..100 {
            let now = number * SECOND * 2 / 3;
            assert_eq!(told(throttle.pass(alert("seldom"), now)), "alert");
        }
        assert!(throttle.over(1_000 * SECOND).is_empty());
        assert!(throttle.windows.is_empty());
    }

    #[test]
    fn every_alert_is_told_or_counted_once() {
        let mut throttle = Throttle::new(LIMIT);
        let (mut alerts, mut dropped) = (0, 0);
        let mut take = |event: Event| match event {
            Event::Alert(_) => alerts += 1,
            Event::Threshold(threshold) => dropped += threshold.dropped,
            Event::Log(_) | Event::Message(_) => panic!("something else"),
        };
        for number in 0..10_000_i64 {
            // In bursts of different sizes, of two policies.
            let now = number * 7_919 % 300_000 + number / 500 * 4 * SECOND;
            throttle.over(now).into_iter().for_each(&mut take);
            let policy = if number % 3 == 0 { "a" } else { "b" };
            throttle
                .pass(alert(policy), now)
                .into_iter()
                .for_each(&mut take);
        }
        throttle.end(i64::MAX).into_iter().for_each(&mut take);
        assert!(dropped > 0);
        assert_eq!(alerts + dropped, 10_000);
    }
}
