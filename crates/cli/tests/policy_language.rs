// SPDX-License-Identifier: Apache-2.0
//! `docs/policy-language.md` is true, and so is `docs/recommended.md`: their policies load without a warning, what it says of them holds,
//! and no field of the language is without an example in the former.
//!
//! A block with the mark `yaml` is a policy file, the block `yaml test` after it a test file without
//! its `policies`. `yaml only-loaded` has policies about which nothing can be tested here.
#![cfg(test)]
#![expect(clippy::disallowed_methods, reason = "runs the binary")]

use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// Mark and text of the fenced blocks.
fn blocks(page: &str) -> Vec<(String, String)> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let page = fs::read_to_string(docs.join(page)).unwrap();
    let mut blocks: Vec<(String, String)> = Vec::new();
    let mut inside = false;
    for line in page.lines() {
        match line.strip_prefix("```") {
            Some("") if inside => inside = false,
            Some(mark) => {
                inside = true;
                blocks.push((mark.to_owned(), String::new()));
            }
            None if inside => {
                let (_, text) = blocks.last_mut().unwrap();
                text.push_str(line);
                text.push('\n');
            }
            None => {}
        }
    }
    assert!(!inside, "the last block has no end");
    blocks
}

fn gorget(directory: &Path, arguments: &[String]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gorget"))
        .arg("policy")
        .args(arguments)
        .current_dir(directory)
        .output()
        .unwrap()
}

#[test]
fn every_example_loads_and_does_what_the_page_says() {
    let directory = tempfile::tempdir().unwrap();
    let (mut policies, mut tests) = (vec!["check".to_owned()], vec!["test".to_owned()]);
    let mut waiting = None;
    let pages = ["policy-language.md", "recommended.md"];
    let blocks = pages.into_iter().flat_map(blocks);
    for (number, (mark, text)) in blocks.enumerate() {
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        match mark.as_str() {
            "yaml" | "yaml only-loaded" => {
                assert_eq!(waiting, None, "a policy without expectations");
                let name = format!("{number}.yaml");
                write(&name, &text);
                waiting = (mark == "yaml").then(|| name.clone());
                policies.push(name);
            }
            "yaml test" => {
                let policy = waiting.take().expect("expectations without a policy");
                let name = format!("{number}.test.yaml");
                write(&name, &format!("policies: [{policy}]\n{text}"));
                tests.push(name);
            }
            other => assert_eq!(other, "", "an unknown mark"),
        }
    }
    assert_eq!(waiting, None, "a policy without expectations");
    assert!(tests.len() > 15, "{tests:?}");

    let checked = gorget(directory.path(), &policies);
    let stdout = String::from_utf8(checked.stdout).unwrap();
    assert!(stdout.contains(", 0 errors, 0 warnings\n"), "{stdout}");
    let tested = gorget(directory.path(), &tests);
    let stdout = String::from_utf8(tested.stdout).unwrap();
    let stderr = String::from_utf8(tested.stderr).unwrap();
    assert_eq!(tested.status.code(), Some(0), "{stdout}{stderr}");
    assert!(stdout.ends_with(" 0 failed\n"), "{stdout}");
}

#[test]
fn every_field_has_an_example() {
    let schema = gorget(Path::new("."), &["schema", "-o", "json"].map(String::from));
    let schema: Value = serde_json::from_slice(&schema.stdout).unwrap();
    let mut fields = BTreeSet::new();
    for item in schema["items"].as_array().unwrap() {
        for version in item["spec"]["versions"].as_array().unwrap() {
            let properties = &version["schema"]["openAPIV3Schema"]["properties"];
            collect(&properties["spec"], &mut fields);
        }
    }
    assert!(fields.len() > 40, "{fields:?}");
    let examples: String = blocks("policy-language.md")
        .into_iter()
        .filter(|(mark, _)| mark == "yaml" || mark == "yaml only-loaded")
        .map(|(_, text)| text)
        .collect();
    let used: BTreeSet<&str> = examples
        .lines()
        .filter_map(|line| line.trim_start_matches([' ', '-']).split_once(':'))
        .map(|(key, _)| key)
        .collect();
    fields.retain(|field| !used.contains(field.as_str()));
    assert_eq!(fields, BTreeSet::new(), "fields without an example");
}

/// Names of properties at any depth.
fn collect(schema: &Value, fields: &mut BTreeSet<String>) {
    if let Some(properties) = schema["properties"].as_object() {
        for (name, of) in properties {
            fields.insert(name.clone());
            collect(of, fields);
        }
    }
    if schema["items"].is_object() {
        collect(&schema["items"], fields);
    }
}
