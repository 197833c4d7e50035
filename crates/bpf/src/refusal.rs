// SPDX-License-Identifier: Apache-2.0
//! Why the kernel refused a program or a map, in words.
//!
//! libbpf returns an error number and prints the rest: which program it was, and what the verifier
//! said, which may be thousands of lines. [`explained`] listens to that while something is loaded and
//! keeps the line that matters. Nothing is printed: what was said is in [`Refusal::log`].

use libbpf_rs::{PrintLevel, set_print};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What libbpf has said since [`explained`] began.
static SAID: Mutex<String> = Mutex::new(String::new());

/// Held while listening: libbpf has one listener for the process.
static LISTENING: Mutex<()> = Mutex::new(());

/// The kernel refused a program or a map.
#[derive(Debug, thiserror::Error)]
#[error("{what} is refused: {why}")]
pub struct Refusal {
    /// Which.
    what: String,
    why: String,
    /// All that libbpf and the verifier said.
    log: String,
    #[source]
    source: libbpf_rs::Error,
}

impl Refusal {
    /// All that libbpf and the verifier said.
    pub fn log(&self) -> &str {
        &self.log
    }
}

/// Does something that libbpf may say why it fails.
pub(crate) fn explained<T>(work: impl FnOnce() -> libbpf_rs::Result<T>) -> Result<T, Refusal> {
    let _listening = lock(&LISTENING);
    lock(&SAID).clear();
    let before = set_print(Some((PrintLevel::Warn, hear)));
    let done = work();
    set_print(before);
    done.map_err(|source| {
        let log = std::mem::take(&mut *lock(&SAID));
        let (what, why) = reason(&log).unwrap_or_else(|| ("it".to_owned(), source.to_string()));
        Refusal {
            what,
            why,
            log,
            source,
        }
    })
}

fn hear(_level: PrintLevel, text: String) {
    lock(&SAID).push_str(&text);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What was refused and why: of the first message about a program or a map, or what the verifier
/// said last about that program.
fn reason(log: &str) -> Option<(String, String)> {
    let (kind, name, message) = log.lines().find_map(about)?;
    let verifier = log
        .lines()
        .skip_while(|line| !line.contains("-- BEGIN PROG LOAD LOG --"))
        .skip(1)
        .take_while(|line| !line.contains("-- END PROG LOAD LOG --"))
        .filter(|line| !line.starts_with("processed ") && !line.trim().is_empty())
        .last();
    let why = verifier.unwrap_or(message).trim();
    Some((format!("{kind} `{name}`"), why.to_owned()))
}

/// Of `libbpf: prog 'NAME': MESSAGE`: what it is about, its name, and the message.
fn about(line: &str) -> Option<(&'static str, &str, &str)> {
    let line = line.strip_prefix("libbpf: ")?;
    let (kind, rest) = if let Some(rest) = line.strip_prefix("prog '") {
        ("program", rest)
    } else {
        ("map", line.strip_prefix("map '")?)
    };
    let (name, message) = rest.split_once("': ")?;
    Some((kind, name, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verifiers_last_word_is_the_reason() {
        let log = "libbpf: prog 'file_open': BPF program load failed: Permission denied\n\
                   libbpf: prog 'file_open': -- BEGIN PROG LOAD LOG --\n\
                   0: R1=ctx()\n\
                   5: (85) call bpf_loop#181\n\
                   R2 type=scalar expected=func\n\
                   processed 6 insns (limit 1000000)\n\
                   -- END PROG LOAD LOG --\n\
                   libbpf: prog 'file_open': failed to load: -EACCES\n\
                   libbpf: failed to load object 'enforce_bpf'\n";
        assert_eq!(
            reason(log),
            Some((
                "program `file_open`".to_owned(),
                "R2 type=scalar expected=func".to_owned()
            ))
        );
    }

    #[test]
    fn a_map_that_cannot_be_made_is_named() {
        let log = "libbpf: map 'rules_4m': failed to create inner map: -E2BIG\n\
                   libbpf: failed to load object 'enforce_bpf'\n";
        assert_eq!(
            reason(log),
            Some((
                "map `rules_4m`".to_owned(),
                "failed to create inner map: -E2BIG".to_owned()
            ))
        );
    }

    #[test]
    fn without_a_word_of_libbpf_the_error_number_has_to_do() {
        let refusal = explained::<()>(|| Err(libbpf_rs::Error::from_raw_os_error(1))).unwrap_err();
        assert!(
            refusal
                .to_string()
                .starts_with("it is refused: Operation not permitted"),
            "{refusal}"
        );
        assert_eq!(refusal.log(), "");
    }
}
