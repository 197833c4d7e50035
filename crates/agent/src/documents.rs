// SPDX-License-Identifier: Apache-2.0
//! The documents of a text of policies, each as it was given, with its comments.
//!
//! A text is cut at the markers that YAML has between documents. Whether that was right is found by
//! reading each piece: where the pieces do not say what the whole says, there is no cut, and whoever
//! asks makes do with what was read.

use serde_json::Value;

/// A document, and what it says.
pub(crate) type Document<'a> = (&'a str, Value);

/// Every document of a text that says something.
///
/// Gives `None` when the text cannot be read or cut.
pub(crate) fn documents(text: &str) -> Option<Vec<Document<'_>>> {
    let whole = read(text)?;
    let mut documents = Vec::new();
    for piece in pieces(text) {
        let mut said = read(piece)?.into_iter();
        documents.extend(said.next().map(|value| (piece, value)));
        if said.next().is_some() {
            return None;
        }
    }
    let said = documents.iter().map(|(_, value)| value);
    said.eq(&whole).then_some(documents)
}

fn read(text: &str) -> Option<Vec<Value>> {
    let mut values: Vec<Value> = serde_saphyr::from_multiple(text).ok()?;
    values.retain(|value| !value.is_null());
    Some(values)
}

/// What is between lines that are markers. Inside a document no line begins like one.
fn pieces(text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut first = 0;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let (begin, end) = (at, at + line.len());
        at = end;
        let rest = match (line.strip_prefix("---"), line.strip_prefix("...")) {
            (Some(rest), _) | (None, Some(rest)) if is_blank_first(rest) => rest,
            _ => continue,
        };
        pieces.extend(text.get(first..begin));
        // What a document has on its marker's line belongs to it.
        let is_alone = rest.trim().is_empty() || rest.trim_start().starts_with('#');
        first = if is_alone { end } else { begin };
    }
    pieces.extend(text.get(first..));
    pieces.retain(|piece| !piece.trim().is_empty());
    pieces
}

fn is_blank_first(rest: &str) -> bool {
    rest.chars().next().is_none_or(char::is_whitespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str) -> Vec<&str> {
        let documents = documents(text).unwrap();
        documents.into_iter().map(|(piece, _)| piece).collect()
    }

    #[test]
    fn a_text_is_cut_into_its_documents_with_their_comments() {
        assert_eq!(cut("# of a\na: 1\n"), ["# of a\na: 1\n"]);
        assert_eq!(
            cut("a: 1 # one\n---\n# of b\nb: |\n  x\n   ---\n--- # c\n\n...\n---\nc: [1,\n 2]"),
            ["a: 1 # one\n", "# of b\nb: |\n  x\n   ---\n", "c: [1,\n 2]"]
        );
        assert_eq!(
            cut("--- {a: 1}\n--- {b: 2}\n"),
            ["--- {a: 1}\n", "--- {b: 2}\n"]
        );
        assert_eq!(cut("a: ---b\n"), ["a: ---b\n"]);
        assert_eq!(cut("{\"a\": 1}"), ["{\"a\": 1}"]);
        assert_eq!(cut("# nothing\n---\n"), [""; 0]);
    }

    #[test]
    fn what_cannot_be_read_is_not_cut() {
        assert_eq!(documents("a: ["), None);
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics_and_no_document_is_lost(text in "(a: 1\n|---\n|--- b\n|\\.\\.\\.\n|# c\n|%YAML 1.2\n| ---\n|é: \\|\n){0,12}") {
            if let Some(documents) = documents(&text) {
                let said: Vec<_> = documents.into_iter().map(|(_, value)| value).collect();
                proptest::prop_assert_eq!(said, read(&text).unwrap());
            }
        }
    }
}
