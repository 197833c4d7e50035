// SPDX-License-Identifier: Apache-2.0
//! What patterns mean, and where they are wrong.
//!
//! Matching itself is tested where it is done, in `gorget-engine`; here it is tokens and errors,
//! each error with the column that a user would look at.

use super::*;
use proptest::prelude::*;

fn tokens(text: &str) -> Vec<Token> {
    Glob::parse(text).unwrap().tokens
}

fn bytes(text: &str) -> Vec<Token> {
    text.bytes().map(Token::Byte).collect()
}

fn error(text: &str) -> String {
    Glob::parse(text).unwrap_err().to_string()
}

#[test]
fn ordinary_characters_stand_for_themselves() {
    assert_eq!(tokens("/a-b,c!^$(x)|+ä"), bytes("/a-b,c!^$(x)|+ä"));
    assert_eq!(Glob::parse("/a*").unwrap().text, "/a*");
}

#[test]
fn stars_are_runs_and_two_or_more_cross_slashes() {
    assert_eq!(tokens("*"), [Token::Run]);
    assert_eq!(tokens("**"), [Token::DeepRun]);
    assert_eq!(tokens("*****"), [Token::DeepRun]);
    assert_eq!(tokens("*a?"), [Token::Run, Token::Byte(b'a'), Token::One]);
}

#[test]
fn a_backslash_quotes_the_next_character() {
    assert_eq!(tokens(r"\*\?\[\]\{\}\\\ä\,"), bytes(r"*?[]{}\ä,"));
    assert_eq!(error(r"/a\"), r"ends with a `\` that quotes nothing");
}

#[test]
fn classes_have_members_and_ranges() {
    assert_eq!(tokens("[abc]"), [Token::Class(vec![(b'a', b'c')])]);
    assert_eq!(
        tokens("[a-cx]"),
        [Token::Class(vec![(b'a', b'c'), (b'x', b'x')])]
    );
    assert_eq!(tokens("[xa-c]"), tokens("[a-cx]"));
    assert_eq!(
        tokens("[-a]"),
        [Token::Class(vec![(b'-', b'-'), (b'a', b'a')])]
    );
    assert_eq!(tokens("[a-]"), tokens("[-a]"));
    assert_eq!(
        tokens(r"[\]\-\\]"),
        [Token::Class(vec![(b'-', b'-'), (b'\\', b']')])]
    );
    assert_eq!(tokens(r"[a-\c]"), [Token::Class(vec![(b'a', b'c')])]);
    assert_eq!(
        tokens("[!a]"),
        [Token::Class(vec![(b'!', b'!'), (b'a', b'a')])]
    );
    assert_eq!(
        tokens("[/a]"),
        [Token::Class(vec![(b'/', b'/'), (b'a', b'a')])]
    );
    assert_eq!(
        tokens("[{,*]"),
        [Token::Class(vec![(b'*', b'*'), (b',', b','), (b'{', b'{')])]
    );
}

#[test]
fn a_negated_class_has_every_byte_but_its_members_and_the_slash() {
    let expected = [Token::Class(vec![(1, b'.'), (b'0', b'`'), (b'c', 255)])];
    assert_eq!(tokens("[^a-b]"), expected);
    assert_eq!(tokens("[^\u{1}-~]"), [Token::Class(vec![(127, 255)])]);
    assert_eq!(
        tokens("[^^]"),
        [Token::Class(vec![(1, b'.'), (b'0', b']'), (b'_', 255)])]
    );
}

#[test]
fn broken_classes_are_named_with_their_column() {
    assert_eq!(error("/ä[ab"), "has a `[` at column 3 that is never closed");
    assert_eq!(
        error(r"/a[b\"),
        "has a `[` at column 3 that is never closed"
    );
    assert_eq!(error("/a[a-"), "has a `[` at column 3 that is never closed");
    assert_eq!(error("/a]"), "has a `]` at column 3 that was never opened");
    assert_eq!(error("/a[]"), "has an empty class at column 3");
    assert_eq!(error("/a[^]"), "has an empty class at column 3");
    assert_eq!(
        error("/a[xz-y]"),
        "has a range at column 5 whose end comes before its beginning"
    );
    assert_eq!(
        error("/a[xä]"),
        "has a character at column 5 that cannot be in a class, since classes are about bytes"
    );
}

#[test]
fn alternatives_nest_and_may_be_empty() {
    assert_eq!(
        tokens("{a,b}"),
        [Token::Alternatives(vec![bytes("a"), bytes("b")])]
    );
    assert_eq!(
        tokens("{,*}"),
        [Token::Alternatives(vec![vec![], vec![Token::Run]])]
    );
    let inner = Token::Alternatives(vec![bytes("b"), bytes("c")]);
    assert_eq!(
        tokens("{a{b,c},d}"),
        [Token::Alternatives(vec![
            vec![Token::Byte(b'a'), inner],
            bytes("d")
        ])]
    );
}

#[test]
fn broken_braces_are_named_with_their_column() {
    assert_eq!(error("/{a,b"), "has a `{` at column 2 that is never closed");
    assert_eq!(
        error("/{a,{b,c}"),
        "has a `{` at column 2 that is never closed"
    );
    assert_eq!(error("/a}"), "has a `}` at column 3 that was never opened");
    assert_eq!(
        error("/{a}"),
        "has a `{` at column 2 with only one alternative"
    );
    assert_eq!(
        error("/{}"),
        "has a `{` at column 2 with only one alternative"
    );
}

#[test]
fn braces_nest_fifty_deep() {
    let nested = |depth| format!("{}a{}", "{b,".repeat(depth), "}".repeat(depth));
    assert!(Glob::parse(&nested(50)).is_ok());
    assert_eq!(
        error(&nested(51)),
        "has braces nested more than 50 deep at column 151"
    );
}

#[test]
fn an_empty_or_endless_pattern_is_refused() {
    assert_eq!(error(""), "is empty");
    assert!(Glob::parse(&"x".repeat(4_096)).is_ok());
    assert_eq!(error(&"x".repeat(4_097)), "is longer than 4096 bytes");
    assert_eq!(error("/ä\0"), "contains a NUL byte at column 3");
}

#[test]
fn a_pattern_that_cannot_begin_with_a_slash_never_matches() {
    let never = Some("does not begin with `/`, as every path does");
    for text in [
        "a", "?a", "*.log", "*", "[a-c]/x", "[^a]x", "{a,b}/x", "{,a}b", "*{a,*}", r"\^/a",
    ] {
        assert_eq!(Glob::parse(text).unwrap().never_matches(), never, "{text}");
    }
    for text in [
        "/",
        "/a",
        "*/a",
        "**",
        "**.log",
        "[/]a",
        "{a,/b}",
        "{,a}/b",
        "{*,b}{c,/d}",
        "*{a,*}/",
    ] {
        let why = Glob::parse(text).unwrap().never_matches();
        assert_ne!(why, never, "{text}");
    }
}

#[test]
fn slashes_that_no_path_has_never_match() {
    let never = |text| Glob::parse(text).unwrap().never_matches();
    assert_eq!(never("/etc/*/"), Some("ends with `/`, which no path does"));
    assert_eq!(
        never("/etc//*"),
        Some("has two `/` in a row, which no path has")
    );
    assert_eq!(never("/"), None);
    assert_eq!(never("/etc/**"), None);
}

proptest! {
    #[test]
    fn any_text_is_a_pattern_or_an_error(text in r"[/a\*\?\[\]\{\},\\^\-ä]{0,40}") {
        match Glob::parse(&text) {
            Ok(glob) => {
                let _why = glob.never_matches();
                prop_assert_eq!(glob.text, text);
            }
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }

    #[test]
    fn quoting_every_character_makes_a_literal(text in "[^\\x00]{1,40}") {
        let quoted: String = text.chars().flat_map(|c| ['\\', c]).collect();
        prop_assert_eq!(tokens(&quoted), bytes(&text));
    }

    #[test]
    fn classes_are_sorted_and_apart(text in r"\[\^?[a-f0-9!-]{1,12}\]") {
        if let Ok(glob) = Glob::parse(&text) {
            let Some(Token::Class(ranges)) = glob.tokens.first() else { panic!("no class") };
            for (low, high) in ranges {
                prop_assert!(low <= high && *low > 0);
            }
            for pair in ranges.windows(2) {
                prop_assert!(u16::from(pair[0].1) + 1 < u16::from(pair[1].0));
            }
        }
    }

    #[test]
    fn what_is_written_from_tokens_is_read_back(tokens in tokens_without_runs_in_a_row()) {
        let text = written(&tokens);
        prop_assert_eq!(Glob::parse(&text).map(|glob| glob.tokens), Ok(tokens), "{}", text);
    }
}

/// Tokens that a pattern can have, nested a little.
fn tokens_without_runs_in_a_row() -> impl Strategy<Value = Vec<Token>> {
    let class = prop::collection::vec((1..=0x7f_u8, 0..40_u8), 1..4).prop_map(|ranges| {
        let ranges = ranges.into_iter();
        let ranges = ranges.map(|(low, more)| (low, low.saturating_add(more).min(0x7f)));
        Token::Class(merged(ranges.collect()))
    });
    let leaf = prop_oneof![
        4 => (1..=0x7f_u8).prop_map(Token::Byte),
        1 => Just(Token::One),
        1 => Just(Token::Run),
        1 => Just(Token::DeepRun),
        1 => class,
    ];
    let token = leaf.prop_recursive(3, 40, 4, |token| {
        let alternative = prop::collection::vec(token, 0..4).prop_map(without_runs_in_a_row);
        prop::collection::vec(alternative, 2..4).prop_map(Token::Alternatives)
    });
    prop::collection::vec(token, 1..12).prop_map(without_runs_in_a_row)
}

/// `*` after `*` is another token.
fn without_runs_in_a_row(mut tokens: Vec<Token>) -> Vec<Token> {
    tokens.dedup_by(|right, left| {
        let is_run = |token: &Token| matches!(token, Token::Run | Token::DeepRun);
        is_run(left) && is_run(right)
    });
    tokens
}

/// A pattern with these tokens, everything quoted.
fn written(tokens: &[Token]) -> String {
    let quoted = |byte: u8| format!("\\{}", char::from(byte));
    let token = |token: &Token| match token {
        Token::Byte(byte) => quoted(*byte),
        Token::One => "?".to_owned(),
        Token::Run => "*".to_owned(),
        Token::DeepRun => "**".to_owned(),
        Token::Class(ranges) => {
            let ranges = ranges.iter();
            let ranges = ranges.map(|(low, high)| format!("{}-{}", quoted(*low), quoted(*high)));
            format!("[{}]", ranges.collect::<String>())
        }
        Token::Alternatives(alternatives) => {
            let alternatives: Vec<_> = alternatives.iter().map(|a| written(a)).collect();
            format!("{{{}}}", alternatives.join(","))
        }
    };
    tokens.iter().map(token).collect()
}
