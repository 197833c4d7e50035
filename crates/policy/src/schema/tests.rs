// SPDX-License-Identifier: Apache-2.0
//! The schema is YAML, says what the tables say, and lets everything pass that the reader takes.
//!
//! It is read with this crate's own reader and applied by a check that knows the keywords which the
//! schema uses, and no others. That tables and readers agree is tested field by field: a value of
//! the wrong type must be reported, so every field of the tables is read by somebody.

use super::schema;
use crate::document::{API_VERSION, DocumentKind};
use crate::policy::Kind;
use crate::problem::Problems;
use crate::shape::{FieldShape, Shape, Type};
use crate::yaml::{Documents, Node, Value};
use crate::{Problem, parse, tables};
use expect_test::expect_file;
use regex::bytes::Regex;
use std::path::{Path, PathBuf};

const MANIFEST: &str = env!("CARGO_MANIFEST_DIR");

/// Of the files in `deploy/crds`.
const HEADER: &str = "# SPDX-License-Identifier: Apache-2.0\n\
                      # Made from the tables of `gorget-policy`; `UPDATE_EXPECT=1 cargo test -p gorget-policy` makes it anew.\n";

fn documents(text: &str) -> Vec<Node> {
    let mut problems = Problems::new("p.yaml");
    let mut documents = Documents::new(text);
    let nodes = std::iter::from_fn(|| documents.next(&mut problems)).collect();
    assert_eq!(problems.errors(), 0);
    nodes
}

fn get<'n>(node: &'n Node, name: &str) -> Option<&'n Node> {
    match &node.value {
        Value::Mapping(entries) => entries.get(name).map(|entry| &entry.node),
        Value::Null
        | Value::Boolean(..)
        | Value::Number(_)
        | Value::Text(_)
        | Value::Sequence(_)
        | Value::Refused => None,
    }
}

fn at<'n>(node: &'n Node, path: &[&str]) -> &'n Node {
    path.iter().fold(node, |node, name| {
        if let Value::Sequence(items) = &node.value {
            return &items[name.parse::<usize>().unwrap()];
        }
        get(node, name).unwrap_or_else(|| panic!("no `{name}` of {path:?}"))
    })
}

fn text(node: &Node) -> &str {
    let (Value::Text(text) | Value::Number(text) | Value::Boolean(_, text)) = &node.value else {
        panic!("no text: {:?}", node.value)
    };
    text
}

/// By kind.
fn definitions() -> Vec<(String, Node)> {
    let definitions = documents(&schema()).into_iter();
    definitions
        .map(|node| (text(at(&node, &["spec", "names", "kind"])).to_owned(), node))
        .collect()
}

fn root(definition: &Node) -> &Node {
    at(
        definition,
        &["spec", "versions", "0", "schema", "openAPIV3Schema"],
    )
}

#[test]
fn the_schema_is_what_is_checked_in() {
    let definitions = definitions();
    let all = schema();
    let texts: Vec<_> = all.split("---\n").collect();
    assert_eq!(texts.len(), definitions.len());
    for ((_, definition), text_of) in definitions.iter().zip(texts) {
        let name = text(at(definition, &["spec", "names", "plural"]));
        let file = format!("{MANIFEST}/../../deploy/crds/{name}.yaml");
        expect_file![file].assert_eq(&format!("{HEADER}{text_of}"));
    }
}

#[test]
fn names_are_those_of_kubearmor() {
    let names = |definition: &Node| {
        let spec = |path: &[&str]| text(at(at(definition, &["spec"]), path)).to_owned();
        [
            text(at(definition, &["metadata", "name"])).to_owned(),
            spec(&["names", "kind"]),
            spec(&["names", "shortNames", "0"]),
            spec(&["scope"]),
        ]
    };
    let seen: Vec<_> = definitions().iter().map(|(_, node)| names(node)).collect();
    let of = |plural: &str, kind: &str, short: &str, scope: &str| {
        let name = format!("{plural}.security.kubearmor.com");
        [name, kind.to_owned(), short.to_owned(), scope.to_owned()]
    };
    assert_eq!(
        seen,
        [
            of("kubearmorpolicies", "KubeArmorPolicy", "ksp", "Namespaced"),
            of(
                "kubearmorhostpolicies",
                "KubeArmorHostPolicy",
                "hsp",
                "Cluster"
            ),
            of(
                "kubearmorclusterpolicies",
                "KubeArmorClusterPolicy",
                "csp",
                "Cluster"
            ),
            of(
                "kubearmornetworkpolicies",
                "KubeArmorNetworkPolicy",
                "nsp",
                "Cluster"
            ),
        ]
    );
}

fn is_null(node: &Node) -> bool {
    matches!(node.value, Value::Null)
}

/// Why `value` does not pass `schema`.
fn check(schema: &Node, value: &Node, path: &str) -> Result<(), String> {
    let Value::Mapping(keywords) = &schema.value else {
        panic!("{path}: a schema is a mapping")
    };
    for (keyword, entry) in keywords {
        let wanted = &entry.node;
        let wrong = || {
            Err(format!(
                "{path}: {keyword} {:?}: {:?}",
                wanted.value, value.value
            ))
        };
        match (keyword.as_str(), &value.value) {
            ("description" | "nullable" | "x-kubernetes-validations" | "required", _) => {}
            ("type", found) => {
                let is = matches!(
                    (text(wanted), found),
                    ("object", Value::Mapping(_))
                        | ("array", Value::Sequence(_))
                        | ("string", Value::Text(_))
                        | ("integer", Value::Number(_))
                        | ("boolean", Value::Boolean(..))
                );
                if !is {
                    return wrong();
                }
            }
            ("properties", Value::Mapping(entries)) => {
                // Kubernetes drops what is `null` before it looks.
                let entries = entries.iter();
                for (name, entry) in entries.filter(|(_, entry)| !is_null(&entry.node)) {
                    let path = format!("{path}.{name}");
                    let Some(schema) = get(wanted, name) else {
                        return Err(format!("{path}: unknown"));
                    };
                    check(schema, &entry.node, &path)?;
                }
                if let Some(required) = get(schema, "required") {
                    let Value::Sequence(names) = &required.value else {
                        panic!("{path}: required names are a list")
                    };
                    if let Some(name) = names
                        .iter()
                        .find(|name| get(value, text(name)).is_none_or(is_null))
                    {
                        return Err(format!("{path}: no {}", text(name)));
                    }
                }
            }
            ("additionalProperties", Value::Mapping(entries)) => {
                for (name, entry) in entries {
                    check(wanted, &entry.node, &format!("{path}.{name}"))?;
                }
            }
            ("items", Value::Sequence(items)) => {
                for (index, item) in items.iter().enumerate() {
                    check(wanted, item, &format!("{path}[{index}]"))?;
                }
            }
            ("maxItems", Value::Sequence(items)) => {
                if items.len() > text(wanted).parse().unwrap() {
                    return wrong();
                }
            }
            ("enum", Value::Text(found)) => {
                let Value::Sequence(words) = &wanted.value else {
                    panic!("{path}: words are a list")
                };
                if !words.iter().any(|word| text(word) == found) {
                    return wrong();
                }
            }
            ("pattern", Value::Text(found)) => {
                if !Regex::new(text(wanted)).unwrap().is_match(found.as_bytes()) {
                    return wrong();
                }
            }
            ("maxLength", Value::Text(found)) => {
                if found.chars().count() > text(wanted).parse().unwrap() {
                    return wrong();
                }
            }
            ("minimum", Value::Number(found)) => {
                if found.parse::<u32>().unwrap() < text(wanted).parse().unwrap() {
                    return wrong();
                }
            }
            ("maximum", Value::Number(found)) => {
                if found.parse::<u32>().unwrap() > text(wanted).parse().unwrap() {
                    return wrong();
                }
            }
            (unknown, found) => panic!("{path}: {unknown} of {found:?}"),
        }
    }
    Ok(())
}

/// How many policies of the text the reader takes. All of them must pass the schema.
fn loaded_and_passed(name: &str, text_of_file: &str, definitions: &[(String, Node)]) -> usize {
    let mut problems = Problems::new(name);
    let mut documents = Documents::new(text_of_file);
    let mut loaded = 0;
    loop {
        let errors = problems.errors();
        let Some(node) = documents.next(&mut problems) else {
            return loaded;
        };
        let mut copied = crate::meta::Copied::default();
        let read = crate::document::read_document(&node, &mut copied, &mut problems);
        if read.is_none() || problems.errors() > errors {
            continue;
        }
        loaded += 1;
        let kind = text(at(&node, &["kind"]));
        let (_, definition) = definitions.iter().find(|(known, _)| known == kind).unwrap();
        if let Err(reason) = check(root(definition), &node, "") {
            panic!("{name}: {reason}");
        }
    }
}

fn files(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            self::files(&path, files);
        } else if path
            .extension()
            .is_some_and(|extension| extension == "yaml")
        {
            files.push(path);
        }
    }
}

#[test]
fn what_the_reader_takes_passes_the_schema() {
    let definitions = definitions();
    let mut found = Vec::new();
    files(&Path::new(MANIFEST).join("testdata"), &mut found);
    let corpus = Path::new(MANIFEST).join("../../../shared/corpus/policy-templates");
    if corpus.is_dir() {
        files(&corpus, &mut found);
    }
    let mut loaded = 0;
    for file in found {
        let text = std::fs::read_to_string(&file).unwrap();
        loaded += loaded_and_passed(file.to_str().unwrap(), &text, &definitions);
    }
    assert!(loaded >= 20, "only {loaded} policies");
}

#[test]
fn the_schema_refuses_what_kubearmors_refuses() {
    let definitions = definitions();
    let check_spec = |kind: &str, spec: &str| {
        let text =
            format!("apiVersion: {API_VERSION}\nkind: {kind}\nmetadata: {{}}\nspec: {spec}\n");
        let (_, definition) = definitions.iter().find(|(known, _)| known == kind).unwrap();
        check(root(definition), &documents(&text)[0], "")
    };
    for spec in [
        "{severity: 0}",
        "{severity: 11}",
        "{action: Deny}",
        "{selector: {app: a}}",
        "{file: {matchPaths: [{}]}}",
        "{file: {matchPaths: [{path: a}]}}",
        "{file: {matchPaths: [{path: /a/}]}}",
        "{file: {matchDirectories: [{dir: /a}]}}",
        "{process: {matchPaths: [{execname: a/b}]}}",
        "{network: {matchProtocols: [{protocol: ipx}]}}",
        "{network: {matchProtocols: [{protocol: 'tcp,'}]}}",
        "{capabilities: {matchCapabilities: [{capability: everything}]}}",
        "{syscalls: {matchSyscalls: [{syscall: [jump]}]}}",
        "{syscalls: {action: Block}}",
        "{selector: {matchExpressions: [{key: namespace, operator: In, values: [a]}]}}",
    ] {
        assert!(check_spec("KubeArmorPolicy", spec).is_err(), "{spec}");
    }
    assert_eq!(
        check_spec(
            "KubeArmorPolicy",
            "{file: {matchPaths: [{path: /a, pts: null}]}}"
        ),
        Ok(())
    );
    assert!(check_spec("KubeArmorHostPolicy", "{}").is_err());
    assert!(check_spec("KubeArmorNetworkPolicy", "{egress: [{limit: 1TB}]}").is_err());
}

/// One field of a document, as the way to it.
struct Place {
    kind: DocumentKind,
    /// From the root: names, each with whether it is a list.
    way: Vec<(&'static str, bool)>,
    field: &'static FieldShape,
}

impl Place {
    /// As problems name it.
    fn path(&self) -> String {
        let parents = self.way.iter().map(|(name, list)| match list {
            true => format!("{name}[0]."),
            false => format!("{name}."),
        });
        parents.collect::<String>() + self.field.name
    }

    /// What is said about the field when this is in it.
    fn problems(&self, value: &str) -> Vec<Problem> {
        let mut text = format!("{}: {value}", self.field.name);
        for (name, list) in self.way.iter().rev() {
            text = match list {
                true => format!("{name}: [{{{text}}}]"),
                false => format!("{name}: {{{text}}}"),
            };
        }
        let head = [
            ("apiVersion", API_VERSION),
            ("kind", self.kind.name()),
            ("metadata", "{name: p}"),
        ];
        let top = self.way.first().map_or(self.field.name, |(name, _)| name);
        let head = head.iter().filter(|(name, _)| *name != top);
        let head: String = head
            .map(|(name, value)| format!("{name}: {value}\n"))
            .collect();
        let parsed = parse("p.yaml", &format!("{head}{text}\n"));
        let path = self.path();
        let of_field = |problem: &Problem| {
            let rest = problem.field.strip_prefix(&path);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('['))
        };
        parsed.problems.into_iter().filter(of_field).collect()
    }

    fn is_read(&self) -> bool {
        let namespaced = self.kind == DocumentKind::Policy(Kind::Container);
        match self.path().as_str() {
            "metadata.namespace" => namespaced,
            // What became of it is for people; the reader looks at what was meant.
            path => path != "status" && !path.starts_with("status."),
        }
    }
}

fn places(
    kind: DocumentKind,
    shape: &'static Shape,
    way: &[(&'static str, bool)],
    places_found: &mut Vec<Place>,
) {
    for field in shape.fields() {
        let way = way.to_vec();
        if let Some(inner) = field.mapping() {
            let mut way = way.clone();
            way.push((field.name, matches!(field.of, Type::Mappings(_))));
            places(kind, inner, &way, places_found);
        }
        places_found.push(Place { kind, way, field });
    }
}

fn all_places() -> Vec<Place> {
    let mut found = Vec::new();
    for kind in DocumentKind::ALL {
        places(kind, tables::document(kind), &[], &mut found);
    }
    found.retain(Place::is_read);
    found
}

#[test]
fn every_field_of_the_tables_is_read() {
    let places = all_places();
    assert!(places.len() > 300, "{}", places.len());
    for place in places {
        let is_mapping = matches!(place.field.of, Type::Mapping(_) | Type::Labels);
        let wrong = if is_mapping { "7" } else { "{x: y}" };
        let said = place.problems(wrong);
        assert!(
            said.iter()
                .any(|problem| problem.reason.starts_with("must be ")),
            "{:?} {}: {said:?}",
            place.kind,
            place.path()
        );
    }
}

/// Values that a field of this type takes and values that it does not, where the table says all
/// there is to say.
fn samples(of: &Type) -> (Vec<String>, Vec<String>) {
    let no = || vec!["x".to_owned()];
    match of {
        Type::Word(words) => (words().iter().map(ToString::to_string).collect(), no()),
        Type::WordList(words) => {
            let words = words();
            let some = words.iter().step_by(1 + words.len() / 20);
            let some = some.map(|word| format!("[{word}]")).collect();
            (some, vec!["[x]".to_owned()])
        }
        Type::Integer { least, most } => (
            vec![least.to_string(), most.to_string()],
            vec![(i64::from(*least) - 1).to_string(), (most + 1).to_string()],
        ),
        Type::Flag => (vec!["true".to_owned(), "false".to_owned()], no()),
        Type::Text
        | Type::Path
        | Type::Directory
        | Type::PathOrDirectory
        | Type::FileName
        | Type::Names(_)
        | Type::Bytes
        | Type::Texts { .. }
        | Type::Mapping(_)
        | Type::Mappings(_)
        | Type::Labels => (Vec::new(), Vec::new()),
    }
}

#[test]
fn every_word_and_every_number_of_the_tables_is_taken() {
    for place in all_places() {
        let (good, bad) = samples(&place.field.of);
        for value in good {
            let said = place.problems(&value);
            let wrong = said.iter().filter(|problem| {
                let doubt = problem.severity == crate::ProblemSeverity::Warning;
                // What depends on another field that is not there.
                !doubt && problem.reason != "only goes with `dir`"
            });
            assert_eq!(wrong.count(), 0, "{} {value}: {said:?}", place.path());
        }
        for value in bad {
            assert!(
                !place.problems(&value).is_empty(),
                "{} {value}",
                place.path()
            );
        }
    }
}
