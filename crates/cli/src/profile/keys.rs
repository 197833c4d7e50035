// SPDX-License-Identifier: Apache-2.0
//! Keys, from the bytes that a terminal sends.
//!
//! A terminal sends a key as a character or as a sequence that begins with ESC. The ESC key is such a
//! beginning that nothing follows: what is read at once is decoded at once, so an ESC at its end is the
//! key. What means nothing here is left out.

/// A key that means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Char(char),
    Enter,
    Escape,
    Backspace,
    Tab,
    BackTab,
    Up,
    Down,
    Left,
    Right,
    PageUp,
    PageDown,
    Home,
    End,
    /// Ctrl-C or Ctrl-D.
    Interrupt,
}

/// All keys in what was read.
pub(super) fn keys(bytes: &[u8]) -> Vec<Key> {
    let text = String::from_utf8_lossy(bytes);
    let mut keys = Vec::new();
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        let key = match character {
            '\u{1b}' => {
                let (key, after) = escaped(rest.as_str());
                rest = after.chars();
                key
            }
            '\r' | '\n' => Some(Key::Enter),
            '\t' => Some(Key::Tab),
            '\u{7f}' | '\u{8}' => Some(Key::Backspace),
            '\u{3}' | '\u{4}' => Some(Key::Interrupt),
            other if other.is_control() || other == char::REPLACEMENT_CHARACTER => None,
            other => Some(Key::Char(other)),
        };
        keys.extend(key);
    }
    keys
}

/// What begins with an ESC, and what comes after it.
fn escaped(rest: &str) -> (Option<Key>, &str) {
    let Some(sequence) = rest.strip_prefix(['[', 'O']) else {
        return (Some(Key::Escape), rest);
    };
    // Parameters, and a character that ends it.
    let end = sequence.find(|it: char| !matches!(it, '\u{20}'..='\u{3f}'));
    let Some((end, last)) = end.and_then(|end| Some((end, sequence.get(end..)?.chars().next()?)))
    else {
        return (None, "");
    };
    let parameters = sequence.get(..end).unwrap_or_default();
    let after = sequence.get(end + last.len_utf8()..).unwrap_or_default();
    let key = match (last, parameters) {
        ('A', _) => Some(Key::Up),
        ('B', _) => Some(Key::Down),
        ('C', _) => Some(Key::Right),
        ('D', _) => Some(Key::Left),
        ('H', _) | ('~', "1" | "7") => Some(Key::Home),
        ('F', _) | ('~', "4" | "8") => Some(Key::End),
        ('~', "5") => Some(Key::PageUp),
        ('~', "6") => Some(Key::PageDown),
        ('Z', _) => Some(Key::BackTab),
        (_, _) => None,
    };
    (key, after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_apart() {
        let all = [
            (&b"a"[..], &[Key::Char('a')][..]),
            ("é/".as_bytes(), &[Key::Char('é'), Key::Char('/')]),
            (b"\x1b", &[Key::Escape]),
            (b"\x1b\x1b[A", &[Key::Escape, Key::Up]),
            (b"\x1b[1;5Bx", &[Key::Down, Key::Char('x')]),
            (b"\x1bOC\x1bOD", &[Key::Right, Key::Left]),
            (
                b"\x1b[5~\x1b[6~\x1b[H\x1b[4~",
                &[Key::PageUp, Key::PageDown, Key::Home, Key::End],
            ),
            (
                b"\t\x1b[Z\r\x7f",
                &[Key::Tab, Key::BackTab, Key::Enter, Key::Backspace],
            ),
            (b"\x03\x04", &[Key::Interrupt, Key::Interrupt]),
            (b"\x1b[99;99X\x00\xff", &[]),
            (b"\x1b[", &[]),
        ];
        for (bytes, expected) in all {
            assert_eq!(keys(bytes), expected, "{bytes:?}");
        }
    }
}
