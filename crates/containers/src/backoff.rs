// SPDX-License-Identifier: Apache-2.0
//! How long to wait before the next attempt to connect: doubling, up to a limit.
//!
//! Without jitter: one agent talks to one runtime on its own machine, so there is no crowd to spread.

use std::time::Duration;

/// The delays between attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Before the second attempt.
    pub first: Duration,
    /// Never more than this.
    pub limit: Duration,
}

impl Default for Backoff {
    /// A restart of containerd takes about a second, so 100 ms loses little; containers cannot start
    /// while it is away but can within moments of its return, so 5 s is as long as we look away.
    fn default() -> Self {
        Self {
            first: Duration::from_millis(100),
            limit: Duration::from_secs(5),
        }
    }
}

impl Backoff {
    /// The delays in their order, without end.
    pub(crate) fn delays(self) -> impl Iterator<Item = Duration> {
        std::iter::successors(Some(self.first.min(self.limit)), move |delay| {
            Some(delay.saturating_mul(2).min(self.limit))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_limit() {
        let delays: Vec<_> = Backoff::default()
            .delays()
            .take(8)
            .map(|d| d.as_millis())
            .collect();
        assert_eq!(delays, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    }

    #[test]
    fn the_first_delay_respects_the_limit() {
        let backoff = Backoff {
            first: Duration::from_secs(9),
            limit: Duration::from_secs(1),
        };
        assert_eq!(backoff.delays().next(), Some(Duration::from_secs(1)));
    }
}
