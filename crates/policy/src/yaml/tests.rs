// SPDX-License-Identifier: Apache-2.0
//! What plain words are, where nodes begin, and what is refused.
//!
//! YAML itself is the parser's business and tested there; here it is what this crate adds: types of
//! plain words, positions, limits, and going on after a broken document.

use super::{Documents, Node, Position, Problems, Value};

fn read(text: &str) -> (Vec<Node>, Vec<String>) {
    let mut problems = Problems::new("p.yaml");
    let mut documents = Documents::new(text);
    let nodes = std::iter::from_fn(|| documents.next(&mut problems)).collect();
    let problems = problems.finish().iter().map(ToString::to_string).collect();
    (nodes, problems)
}

fn one(text: &str) -> Value {
    let (mut nodes, problems) = read(text);
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!(nodes.len(), 1);
    nodes.remove(0).value
}

#[test]
fn plain_words_are_what_kubernetes_takes_them_for() {
    for text in ["---", "~", "null", "Null", "NULL"] {
        assert!(matches!(one(text), Value::Null), "{text}");
    }
    for text in ["true", "True", "yes", "on", "ON"] {
        assert!(
            matches!(one(text), Value::Boolean(true, word) if word == text),
            "{text}"
        );
    }
    for text in ["false", "FALSE", "no", "No", "off"] {
        assert!(
            matches!(one(text), Value::Boolean(false, word) if word == text),
            "{text}"
        );
    }
    for text in [
        "0", "-1", "+1", "0x1F", "0o17", "0b11", "1_000", "1.5", ".5", "1e3", "-.inf", ".nan",
    ] {
        assert!(
            matches!(one(text), Value::Number(word) if word == text),
            "{text}"
        );
    }
    for text in [
        "a",
        "1.2.3",
        "0x",
        "inf",
        "nan",
        "infinity",
        "1a",
        ".",
        "2021-01-01",
        "y",
        "n",
    ] {
        assert!(
            matches!(one(text), Value::Text(word) if word == text),
            "{text}"
        );
    }
}

#[test]
fn quoted_and_tagged_words_are_text() {
    for text in ["'true'", "\"true\"", "|\n  true", "!!str true", "! true"] {
        let value = one(text);
        assert!(
            matches!(&value, Value::Text(word) if word.trim() == "true"),
            "{text}: {value:?}"
        );
    }
}

#[test]
fn nodes_know_where_they_begin() {
    let (nodes, _) = read("# first\na:\n  - ä: 'b'\n    c: [d]\n");
    let Some(Node {
        value: Value::Mapping(root),
        ..
    }) = nodes.first()
    else {
        panic!("no mapping")
    };
    let a = &root["a"];
    assert_eq!(a.key_at, Position { line: 2, column: 1 });
    assert_eq!(a.node.at, Position { line: 3, column: 3 });
    let Value::Sequence(items) = &a.node.value else {
        panic!("no sequence")
    };
    assert_eq!(items[0].at, Position { line: 3, column: 5 });
    let Value::Mapping(entry) = &items[0].value else {
        panic!("no mapping")
    };
    assert_eq!(entry["ä"].node.at, Position { line: 3, column: 8 });
    assert_eq!(entry["c"].key_at, Position { line: 4, column: 5 });
    assert_eq!(entry["c"].node.at, Position { line: 4, column: 8 });
}

#[test]
fn nodes_know_where_they_end() {
    let (nodes, _) = read(
        "- a: [1,\n     2\n   ]\n  # not of it\n\n- b: \"x\n    y\"\n- |\n  one\n  two\n- c:\n\n# end\n",
    );
    let Some(Node {
        value: Value::Sequence(items),
        last_line,
        ..
    }) = nodes.first()
    else {
        panic!("no sequence")
    };
    let lines: Vec<_> = items
        .iter()
        .map(|item| (item.at.line, item.last_line))
        .collect();
    assert_eq!(lines, [(1, 3), (6, 7), (9, 10), (11, 11)]);
    assert_eq!(*last_line, 11);
}

#[test]
fn a_repeated_key_is_reported_and_the_last_one_counts() {
    let (nodes, problems) = read("a:\n  - b: 1\n    b: 2\n");
    assert_eq!(
        problems,
        ["p.yaml:3:5: warning: a[0].b: `b` is given twice (the last one counts)"]
    );
    assert!(format!("{nodes:?}").contains("Number(\"2\")"));
    assert!(!format!("{nodes:?}").contains("Number(\"1\")"));
}

#[test]
fn what_is_not_used_in_policies_is_refused() {
    let (_, problems) = read("a: &x 1\nb: *x\nc: *y\n<<: *x\n");
    assert_eq!(
        problems,
        [
            "p.yaml:2:4: error: b: aliases are not supported (write the value out)",
            "p.yaml:3:4: error: c: aliases are not supported (write the value out)",
            "p.yaml:4:5: error: <<: aliases are not supported (write the value out)",
        ]
    );
    let (_, problems) = read("a: !secret 1\nb: !!binary aGk=\n");
    assert_eq!(
        problems,
        [
            "p.yaml:1:12: error: a: the tag `!secret` is not supported",
            "p.yaml:2:13: error: b: the tag `!!binary` is not supported",
        ]
    );
    let (_, problems) = read("metadata:\n  name: {{ .Values.name }}\n");
    assert_eq!(
        problems,
        [
            "p.yaml:2:10: error: metadata.name: a key must be a word (quote it if it is meant as text)"
        ]
    );
}

#[test]
fn reading_goes_on_after_a_broken_document() {
    let (nodes, problems) = read("a: 1\n---\nb: [1, 2\n---\nc: 3\n---\nd: \"\n");
    assert_eq!(nodes.len(), 4);
    assert!(matches!(&nodes[0].value, Value::Mapping(entries) if entries.contains_key("a")));
    assert!(matches!(nodes[1].value, Value::Refused));
    assert!(matches!(&nodes[2].value, Value::Mapping(entries) if entries.contains_key("c")));
    assert!(matches!(nodes[3].value, Value::Refused));
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(
        problems[0].starts_with("p.yaml:3:4: error: not valid YAML: "),
        "{problems:?}"
    );
    assert!(
        problems[1].starts_with("p.yaml:7:4: error: not valid YAML: "),
        "{problems:?}"
    );
}

#[test]
fn deep_documents_are_refused() {
    let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert_eq!(read(&nested(64)).1, Vec::<String>::new());
    assert_eq!(
        read(&nested(65)).1,
        ["p.yaml:1:65: error: the document is nested more than 64 levels deep"]
    );
    let blocks: String = (0..100)
        .map(|depth| format!("{}a:\n", " ".repeat(depth)))
        .collect();
    assert_eq!(
        read(&blocks).1,
        ["p.yaml:65:65: error: the document is nested more than 64 levels deep"]
    );
}

#[test]
fn large_documents_are_refused_and_the_next_one_is_read() {
    let (nodes, problems) = read(&format!("[{}]\n---\na: 1\n", "1,".repeat(250_000)));
    assert!(matches!(nodes[0].value, Value::Refused));
    assert!(matches!(nodes[1].value, Value::Mapping(_)));
    assert_eq!(
        problems,
        ["p.yaml:1:500000: error: the document has more than 250000 values"]
    );
}

#[test]
fn a_file_of_broken_documents_comes_to_an_end() {
    let (nodes, problems) = read(&"---\n]\n".repeat(1_000));
    assert_eq!(nodes.len(), 100);
    assert_eq!(problems.len(), 101);
    assert_eq!(
        problems[100],
        "p.yaml:200:1: error: too many broken documents; the rest of the file was not read"
    );
}
