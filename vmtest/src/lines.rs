// SPDX-License-Identifier: Apache-2.0
//! The lines that a running program prints, collected by a thread, to be waited for.

use crate::TIMEOUT;
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Instant;

/// Lines in the order they came; each is looked at once by [`Lines::wait`].
#[derive(Debug)]
pub(crate) struct Lines {
    received: Receiver<String>,
    /// What came last, for the message of a wait that failed.
    recent: VecDeque<String>,
}

impl Lines {
    /// Collects lines until the end of `from`. With `echo` they are shown, too.
    pub(crate) fn of(from: impl Read + Send + 'static, echo: Option<&'static str>) -> Self {
        let (sender, received) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                if let Some(prefix) = echo {
                    println!("{prefix}: {line}");
                }
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self {
            received,
            recent: VecDeque::new(),
        }
    }

    /// The next line for which `wanted` gives something; lines before it are passed over.
    ///
    /// # Panics
    ///
    /// When it does not come.
    pub(crate) fn wait<T>(&mut self, what: &str, wanted: impl Fn(&str) -> Option<T>) -> T {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.received.recv_timeout(left) {
                Ok(line) => {
                    let found = wanted(&line);
                    self.recent.push_back(line);
                    if self.recent.len() > 30 {
                        self.recent.pop_front();
                    }
                    if let Some(found) = found {
                        return found;
                    }
                }
                Err(why) => self.give_up(what, why),
            }
        }
    }

    #[expect(clippy::panic, reason = "a test tool fails by panicking")]
    fn give_up(&self, what: &str, why: RecvTimeoutError) -> ! {
        let recent: Vec<_> = self.recent.iter().map(String::as_str).collect();
        panic!(
            "waited for {what}, {why}; the last lines were:\n{}",
            recent.join("\n")
        );
    }
}
