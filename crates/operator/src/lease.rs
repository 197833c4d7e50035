// SPDX-License-Identifier: Apache-2.0
//! Which of the replicas writes: the one that a Lease names. [`Election`] decides, without I/O and with a
//! given clock; `hold` asks and writes.
//!
//! Clocks of different machines are not compared. Whether a holder still renews is judged by how long its
//! record was seen not to change, by this replica's own clock; and a holder stops before anybody
//! else may take over ([`Election::holds`]), counted from before it asked, however late the answer came.
//!
//! INVARIANT: as long as clocks of two machines run equally fast within a third, no two hold at once.

pub(crate) mod hold;

use std::time::Duration;
use tokio::time::Instant;

/// How long a record counts that is not renewed.
pub(crate) const TERM: Duration = Duration::from_secs(15);
/// How long after it asked for the last renewal a holder may go on.
const HELD: Duration = Duration::from_secs(10);
/// How often a holder renews, and how often others look.
pub(crate) const PERIOD: Duration = Duration::from_secs(3);
/// What somebody else wrote may be anything.
const LONGEST_TERM: Duration = Duration::from_secs(3_600);

/// What the Lease says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Record {
    /// Empty: it was given back.
    pub(crate) holder: String,
    /// As it says itself.
    pub(crate) term: Option<Duration>,
    /// Text that is another one after each renewal.
    pub(crate) renewed: String,
    /// How often the holder was another one.
    pub(crate) transitions: i64,
}

/// What is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// There is no Lease.
    Create,
    /// It is ours, and goes on.
    Renew,
    /// It is nobody's any more.
    Take,
    /// Somebody else holds it.
    Wait,
}

/// One replica's view.
#[derive(Clone, Debug)]
pub(crate) struct Election {
    identity: String,
    /// What was seen last, and since when it is so.
    seen: Option<(Record, Instant)>,
    held_until: Option<Instant>,
}

impl Election {
    pub(crate) fn new(identity: String) -> Self {
        Self {
            identity,
            seen: None,
            held_until: None,
        }
    }

    /// What is to be done about what the Lease says now.
    pub(crate) fn look(&mut self, record: Option<&Record>, now: Instant) -> Step {
        let Some(record) = record else {
            self.seen = None;
            return Step::Create;
        };
        let since = match &self.seen {
            Some((seen, since)) if seen == record => *since,
            Some(_) | None => {
                self.seen = Some((record.clone(), now));
                now
            }
        };
        if record.holder == self.identity {
            return Step::Renew;
        }
        self.held_until = None;
        let term = record.term.unwrap_or(TERM).min(LONGEST_TERM);
        let is_over = now.saturating_duration_since(since) >= term;
        match record.holder.is_empty() || is_over {
            true => Step::Take,
            false => Step::Wait,
        }
    }

    /// What was asked for at that time was written.
    pub(crate) fn written(&mut self, asked: Instant) {
        self.held_until = Some(asked + HELD);
    }

    /// Somebody else was first, or it was given back.
    pub(crate) fn lost(&mut self) {
        self.held_until = None;
    }

    /// Until when this replica is the one that writes.
    pub(crate) fn held_until(&self) -> Option<Instant> {
        self.held_until
    }

    pub(crate) fn identity(&self) -> &str {
        &self.identity
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(holder: &str, renewed: u32) -> Record {
        Record {
            holder: holder.to_owned(),
            term: Some(TERM),
            renewed: renewed.to_string(),
            transitions: 0,
        }
    }

    fn holds(election: &Election, now: Instant) -> bool {
        election.held_until().is_some_and(|until| now < until)
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_lease_that_is_not_there_or_was_given_back_is_taken_at_once() {
        let now = Instant::now();
        let mut one = Election::new("one".to_owned());
        assert_eq!(one.look(None, now), Step::Create);
        assert_eq!(one.look(Some(&record("", 1)), now), Step::Take);
        assert!(!holds(&one, now));
        one.written(now);
        assert!(holds(&one, now));
    }

    #[test]
    fn a_holder_that_renews_is_left_alone_whatever_its_clock_says() {
        let now = Instant::now();
        let mut two = Election::new("two".to_owned());
        for round in 0..100 {
            let at = now + SECOND * 14 * round;
            assert_eq!(two.look(Some(&record("one", round)), at), Step::Wait);
        }
    }

    #[test]
    fn a_holder_that_is_gone_is_followed_after_its_term_and_not_before() {
        let now = Instant::now();
        let mut two = Election::new("two".to_owned());
        let gone = record("one", 1);
        for (seconds, step) in [(0, Step::Wait), (14, Step::Wait), (15, Step::Take)] {
            assert_eq!(two.look(Some(&gone), now + SECOND * seconds), step);
        }
    }

    #[test]
    fn a_holder_stops_before_anybody_else_may_begin() {
        let start = Instant::now();
        let mut one = Election::new("one".to_owned());
        let mut two = Election::new("two".to_owned());
        // The answer came late; what counts is when it was asked.
        one.look(Some(&record("", 0)), start);
        one.written(start);
        // The other one saw the record as soon as it was there.
        let held = record("one", 1);
        let mut taken = (0..60).map(|second| start + SECOND * second);
        let taken = taken.find(|at| two.look(Some(&held), *at) == Step::Take);
        let taken = taken.unwrap();
        assert!(!holds(&one, taken) && !holds(&one, taken - SECOND * 4));
        assert!(holds(&one, start + SECOND * 9));
    }

    #[test]
    fn who_sees_another_holder_stops_at_once() {
        let now = Instant::now();
        let mut one = Election::new("one".to_owned());
        one.written(now);
        assert_eq!(one.look(Some(&record("two", 1)), now + SECOND), Step::Wait);
        assert!(!holds(&one, now + SECOND));
    }

    #[test]
    fn what_is_ours_from_before_is_renewed() {
        let now = Instant::now();
        let mut one = Election::new("one".to_owned());
        assert_eq!(one.look(Some(&record("one", 1)), now), Step::Renew);
        assert!(!holds(&one, now));
    }

    #[test]
    fn a_term_that_somebody_else_wrote_has_an_end() {
        let now = Instant::now();
        let mut one = Election::new("one".to_owned());
        let mut odd = record("two", 1);
        odd.term = Some(Duration::MAX);
        assert_eq!(one.look(Some(&odd), now), Step::Wait);
        assert_eq!(one.look(Some(&odd), now + SECOND * 3_600), Step::Take);
    }
}
