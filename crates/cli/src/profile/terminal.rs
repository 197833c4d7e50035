// SPDX-License-Identifier: Apache-2.0
//! The terminal: taken when the UI begins, and given back as it was however it ends.
//!
//! While it is taken, it has a second screen, no cursor, and hands over keys one by one. [`Terminal`]
//! gives it back when it is dropped: after an error, a signal, or a panic.

use super::view::{Line, Look};
use anyhow::{Context as _, bail};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::thread;
use tokio::sync::mpsc::{self, Receiver};

/// A second screen, no cursor, no line breaks of its own.
const TAKE: &str = "\u{1b}[?1049h\u{1b}[?25l\u{1b}[?7l";
const GIVE_BACK: &str = "\u{1b}[?7h\u{1b}[?25h\u{1b}[?1049l";
/// Keys that wait to be looked at.
const KEYS: usize = 64;
/// Of a terminal that does not tell how large it is.
const USUAL: (usize, usize) = (80, 24);

#[derive(Debug)]
pub(super) struct Terminal {
    before: Termios,
    colored: bool,
}

impl Terminal {
    /// Takes the terminal.
    pub(super) fn take(colored: bool) -> anyhow::Result<Self> {
        if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
            bail!("this needs a terminal; `gorget summary` prints the same as text or JSON");
        }
        let before = tcgetattr(io::stdin()).context("cannot ask the terminal")?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Flush, &raw).context("cannot take the terminal")?;
        // From here on it is given back.
        let terminal = Self { before, colored };
        write(TAKE).context("cannot write to the terminal")?;
        Ok(terminal)
    }

    /// Columns and lines.
    pub(super) fn size(&self) -> (usize, usize) {
        match tcgetwinsize(io::stdout()) {
            Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
                (size.ws_col.into(), size.ws_row.into())
            }
            Ok(_) | Err(_) => USUAL,
        }
    }

    /// Replaces the screen.
    pub(super) fn draw(&self, screen: &[Line]) -> io::Result<()> {
        let mut text = String::new();
        for (number, line) in (1..).zip(screen) {
            text.push_str(&format!("\u{1b}[{number};1H"));
            for (look, part) in line {
                text.push_str(&self.painted(*look, part));
            }
            text.push_str("\u{1b}[K");
        }
        // What a larger screen left below.
        write(&(text + "\u{1b}[J"))
    }

    fn painted(&self, look: Look, text: &str) -> String {
        let code = match (look, self.colored) {
            (Look::Plain, _) => return text.to_owned(),
            (Look::Chosen, _) => "7",
            (Look::Strong, _) | (Look::Alarm | Look::Caution, false) => "1",
            (Look::Faint, false) => return text.to_owned(),
            (Look::Faint, true) => "2",
            (Look::Caution, true) => "33",
            (Look::Alarm, true) => "1;31",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Nobody is left to be told when this fails: the terminal is gone.
        drop(write(GIVE_BACK));
        let (Ok(()) | Err(_)) = tcsetattr(io::stdin(), OptionalActions::Flush, &self.before);
    }
}

fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// What is typed, as it comes; ends when the terminal is gone. The thread ends with the program: nothing
/// wakes it from waiting for a key.
pub(super) fn typed() -> anyhow::Result<Receiver<Vec<u8>>> {
    let (out, typed) = mpsc::channel(KEYS);
    thread::Builder::new()
        .name("keys".to_owned())
        .spawn(move || {
            let mut bytes = [0; 256];
            loop {
                match io::stdin().read(&mut bytes) {
                    Ok(0) => break,
                    Ok(length) => {
                        let read = bytes.get(..length).unwrap_or_default().to_vec();
                        if out.blocking_send(read).is_err() {
                            break;
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(_) => break,
                }
            }
        })
        .context("cannot start")?;
    Ok(typed)
}
