// SPDX-License-Identifier: Apache-2.0
//! Patterns and names in the language of profiles.
//!
//! What AppArmor's parser does with a pattern, found by compiling and running them:
//! - `*` and `**` after a slash, before a slash or at the end, need at least one byte that is no
//!   slash; elsewhere they can be empty;
//! - a negated class also takes byte 0, so classes are always written out;
//! - a directory has a slash at its end, so a pattern that can end elsewhere ends with `{,/}`;
//! - inside quotes, `\` quotes a character and `\ooo` is a byte in octal.

use crate::glob::{ByteSet, Glob, Piece};

/// What needs no quotes around it.
const PLAIN: &[u8] = b"/._-*?{},[]+:=%~";

/// What has a meaning in a pattern.
const SPECIAL: &[u8] = b"\\\"*?[]{}^,@";

/// A pattern for files and directories.
pub(crate) fn pattern(glob: &Glob) -> String {
    let may_be_directory = glob.0.len() > 1 && glob.0.last() != Some(&Piece::Deep);
    written(&glob.0, if may_be_directory { "{,/}" } else { "" })
}

/// A pattern for files only, such as programs.
pub(crate) fn file(glob: &Glob) -> String {
    written(&glob.0, "")
}

/// A directory and nothing else.
pub(crate) fn directory(path: &[u8]) -> String {
    let slash = if path == b"/" { "" } else { "/" };
    written(&Glob::literal(path).0, slash)
}

fn written(pieces: &[Piece], suffix: &str) -> String {
    let mut text = String::new();
    let mut at = 0;
    while let Some(piece) = pieces.get(at) {
        match piece {
            Piece::Byte(_) => {
                let bytes: Vec<u8> = pieces
                    .get(at..)
                    .unwrap_or_default()
                    .iter()
                    .map_while(|piece| match piece {
                        Piece::Byte(byte) => Some(*byte),
                        Piece::Set(_) | Piece::Run | Piece::Deep => None,
                    })
                    .collect();
                literal(&bytes, &mut text);
                at += bytes.len();
                continue;
            }
            Piece::Set(set) if *set == ByteSet::component() => text.push('?'),
            Piece::Set(set) => class(*set, &mut text),
            // The suffix would let it be empty after a slash.
            Piece::Run if at + 1 == pieces.len() && !suffix.is_empty() && text.ends_with('/') => {
                text.push_str("?*");
            }
            Piece::Run => text.push('*'),
            Piece::Deep => text.push_str("**"),
        }
        at += 1;
    }
    text.push_str(suffix);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || PLAIN.contains(&byte);
    if text.bytes().all(plain) {
        text
    } else {
        format!("\"{text}\"")
    }
}

/// Characters as they are, bytes that are none in octal.
fn literal(bytes: &[u8], text: &mut String) {
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            let special = u8::try_from(character).is_ok_and(|byte| SPECIAL.contains(&byte));
            if character.is_control() {
                let mut buffer = [0; 4];
                octal(character.encode_utf8(&mut buffer).as_bytes(), text);
            } else {
                text.extend(special.then_some('\\'));
                text.push(character);
            }
        }
        octal(chunk.invalid(), text);
    }
}

fn octal(bytes: &[u8], text: &mut String) {
    for byte in bytes {
        text.push_str(&format!("\\{byte:03o}"));
    }
}

/// As ranges of what is in it.
fn class(set: ByteSet, text: &mut String) {
    text.push('[');
    let mut ranges: Vec<(u8, u8)> = Vec::new();
    for byte in set.bytes() {
        match ranges.last_mut() {
            Some((_, high)) if high.checked_add(1) == Some(byte) => *high = byte,
            Some(_) | None => ranges.push((byte, byte)),
        }
    }
    for (mut low, mut high) in ranges {
        // The parser takes no quoted character for the end of a range.
        while low < high && is_quoted(low) {
            member(low, text);
            low += 1;
        }
        let mut last = Vec::new();
        while low < high && is_quoted(high) {
            last.push(high);
            high -= 1;
        }
        member(low, text);
        if high > low.saturating_add(1) {
            text.push('-');
        }
        if high > low {
            member(high, text);
        }
        last.into_iter().rev().for_each(|byte| member(byte, text));
    }
    text.push(']');
}

fn is_quoted(byte: u8) -> bool {
    SPECIAL.contains(&byte) || byte == b'-'
}

fn member(byte: u8, text: &mut String) {
    if is_quoted(byte) {
        text.push('\\');
        text.push(char::from(byte));
    } else if byte.is_ascii_graphic() {
        text.push(char::from(byte));
    } else {
        octal(&[byte], text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pieces: &[Piece]) -> String {
        pattern(&Glob(pieces.to_vec()))
    }

    #[test]
    fn names_are_quoted_as_far_as_they_need_it() {
        let text = |path: &[u8]| pattern(&Glob::literal(path));
        assert_eq!(text(b"/etc/passwd"), "/etc/passwd{,/}");
        assert_eq!(text(b"/"), "/");
        assert_eq!(text(b"/a b"), "\"/a b{,/}\"");
        assert_eq!(text("/schlüssel".as_bytes()), "\"/schlüssel{,/}\"");
        assert_eq!(text(b"/\xff\n"), "\"/\\377\\012{,/}\"");
        assert_eq!(text(b"/{a,b}*\"\\"), "\"/\\{a\\,b\\}\\*\\\"\\\\{,/}\"");
    }

    #[test]
    fn classes_are_written_out() {
        let set: ByteSet = (b'a'..=b'd').chain([b'-', b']', 1]).collect();
        let slash = Piece::Byte(b'/');
        assert_eq!(of(&[slash, Piece::Set(set)]), "\"/[\\001\\-\\]a-d]{,/}\"");
        let set: ByteSet = (1..=b'-').chain(b'?'..=b'C').collect();
        assert_eq!(
            of(&[slash, Piece::Set(set)]),
            "\"/[\\001-+\\,\\-\\?\\@A-C]{,/}\""
        );
        assert_eq!(of(&[slash, Piece::Set(ByteSet::component())]), "/?{,/}");
    }

    #[test]
    fn a_run_at_the_end_is_not_empty_after_a_slash() {
        let slash = Piece::Byte(b'/');
        assert_eq!(of(&[slash, Piece::Run]), "/?*{,/}");
        assert_eq!(of(&[slash, Piece::Byte(b'a'), Piece::Run]), "/a*{,/}");
        assert_eq!(of(&[slash, Piece::Deep]), "/**");
    }
}
