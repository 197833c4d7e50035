// SPDX-License-Identifier: Apache-2.0
//! How things look on a terminal: colour, excerpts of files, text that others wrote.
//!
//! Command lines and paths in events are chosen by the very processes that are watched. They reach a
//! terminal only through [`harmless`]: no escape sequence, no line break, nothing that reorders text.
//!
//! A reader that closed the pipe has seen enough: [`delivered`] makes that no error.

use clap::ValueEnum;
use std::io::{self, ErrorKind, IsTerminal, Write};
use unicode_width::UnicodeWidthStr;

/// A tab in an excerpt.
const TAB: &str = "    ";

/// Characters of a line that an excerpt shows, and how many of them are before the marked one when
/// the line is longer.
const EXCERPT: usize = 120;
const BEFORE: usize = 60;

/// When to use colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    #[default]
    /// On a terminal, unless `NO_COLOR` is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// What something looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    Alarm,
    Caution,
    Good,
    Strong,
    Place,
    Faint,
}

/// Applies styles, or not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Painter {
    colored: bool,
}

impl Painter {
    /// For standard output.
    pub(crate) fn stdout(color: Color) -> Self {
        let colored = match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => {
                let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
                !refused && io::stdout().is_terminal()
            }
        };
        Self { colored }
    }

    pub(crate) fn is_colored(self) -> bool {
        self.colored
    }

    pub(crate) fn paint(self, style: Style, text: &str) -> String {
        if !self.colored || text.is_empty() {
            return text.to_owned();
        }
        let code = match style {
            Style::Alarm => "1;31",
            Style::Caution => "1;33",
            Style::Good => "32",
            Style::Strong => "1",
            Style::Place => "36",
            Style::Faint => "2",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}

/// Text that others wrote, on one line, cut after `most` characters.
pub(crate) fn harmless(text: &str, most: usize) -> String {
    let mut shown = String::with_capacity(text.len().min(most));
    for (index, character) in text.chars().enumerate() {
        match character {
            _ if index == most => {
                shown.push('…');
                break;
            }
            '\'' | '"' | '\\' => shown.push(character),
            other => shown.extend(other.escape_debug()),
        }
    }
    shown
}

/// Text in lines of at most `columns`, broken between words. A word that is longer has a line of its
/// own.
pub(crate) fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        match lines.last_mut() {
            Some(line) if line.width() + 1 + word.width() <= columns => {
                line.push(' ');
                line.push_str(word);
            }
            Some(_) | None => lines.push(word.to_owned()),
        }
    }
    lines
}

/// A line of a file, and below it a caret under one of its characters. Both have no line feed.
///
/// `column` counts characters from 1; one after the last character is fine, as for something that
/// is missing there.
pub(crate) fn excerpt(line: &str, column: usize) -> (String, String) {
    let marked = column.saturating_sub(1);
    let length = line.chars().count();
    let first = if length > EXCERPT && marked > BEFORE {
        (marked - BEFORE).min(length - EXCERPT)
    } else {
        0
    };
    let mut shown = String::new();
    let mut caret = String::new();
    if first > 0 {
        shown.push('…');
        caret.push(' ');
    }
    for (index, character) in line.chars().enumerate().skip(first).take(EXCERPT) {
        let cell = match character {
            '\t' => TAB.to_owned(),
            other => harmless(other.encode_utf8(&mut [0; 4]), 1),
        };
        if index < marked {
            caret.extend(std::iter::repeat_n(' ', cell.width()));
        }
        shown.push_str(&cell);
    }
    if length > first + EXCERPT {
        shown.push('…');
    }
    caret.push('^');
    (shown, caret)
}

/// Prints to standard output.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    delivered(written).map(|_reader_is_there| ())
}

/// Whether there is still a reader.
pub(crate) fn delivered(written: io::Result<()>) -> io::Result<bool> {
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marked(line: &str, column: usize) -> String {
        let (line, caret) = excerpt(line, column);
        format!("{line}\n{caret}")
    }

    #[test]
    fn the_caret_is_below_its_character() {
        assert_eq!(marked("action: Bock", 9), "action: Bock\n        ^");
        assert_eq!(marked("\ta: b", 5), "    a: b\n       ^");
        assert_eq!(marked("é: ü", 4), "é: ü\n   ^");
        assert_eq!(marked("名: x", 4), "名: x\n    ^");
        assert_eq!(marked("a:", 3), "a:\n  ^");
        assert_eq!(marked("", 1), "\n^");
        assert_eq!(marked("\u{7}x", 2), "\\u{7}x\n     ^");
    }

    #[test]
    fn a_long_line_is_cut_around_its_caret() {
        let line = format!("{}!{}", "a".repeat(500), "b".repeat(500));
        let (shown, caret) = excerpt(&line, 501);
        assert_eq!(shown.chars().count(), EXCERPT + 2);
        let place = caret.chars().count() - 1;
        assert_eq!(shown.chars().nth(place), Some('!'));

        let (shown, caret) = excerpt(&line, 1);
        assert!(shown.starts_with('a') && shown.ends_with('…'));
        assert_eq!(caret, "^");

        let (shown, caret) = excerpt(&line, 1001);
        assert!(shown.starts_with('…') && shown.ends_with('b'));
        assert_eq!(shown.chars().nth(caret.chars().count() - 2), Some('b'));
    }

    #[test]
    fn text_of_others_cannot_speak_to_the_terminal() {
        assert_eq!(
            harmless("a\u{1b}[2J\n\u{202e}'\\", 80),
            "a\\u{1b}[2J\\n\\u{202e}'\\"
        );
        assert_eq!(harmless("abcdef", 3), "abc…");
        assert_eq!(harmless("abc", 3), "abc");
    }

    #[test]
    fn text_is_broken_between_words() {
        assert_eq!(wrapped("a bc  def ghij", 5), ["a bc", "def", "ghij"]);
        assert_eq!(wrapped("a abcdefg b", 5), ["a", "abcdefg", "b"]);
        assert_eq!(wrapped("", 5), [""; 0]);
    }

    #[test]
    fn only_a_closed_pipe_is_no_error() {
        assert!(delivered(Ok(())).unwrap());
        assert!(!delivered(Err(ErrorKind::BrokenPipe.into())).unwrap());
        assert!(delivered(Err(ErrorKind::StorageFull.into())).is_err());
    }

    #[test]
    fn colour_can_be_demanded_and_refused() {
        assert_eq!(
            Painter::stdout(Color::Always).paint(Style::Alarm, "x"),
            "\u{1b}[1;31mx\u{1b}[0m"
        );
        assert_eq!(Painter::stdout(Color::Never).paint(Style::Alarm, "x"), "x");
    }
}
