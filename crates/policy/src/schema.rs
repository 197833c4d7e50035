// SPDX-License-Identifier: Apache-2.0
//! The CRDs of the four kinds, rendered from the tables that the readers use: [`schema`].
//!
//! Names, scope, short names, the status subresource, patterns and enums are those of KubeArmor's CRDs,
//! so that either's can replace the other's in a cluster; where `tables` is wider, so is the schema.
//! Beside KubeArmor's printer columns there is one for the status. There are no defaults, as there are none in KubeArmor's: what an absent
//! field means depends on the fields around it.
//!
//! The schema says less than the reader. What it lets pass and the reader refuses is reported by the
//! agent; a document that the reader takes passes the schema, but for mixed case (`Tcp`, `aUDIT`).

use crate::document::{API_VERSION, DocumentKind};
use crate::paths::{MOST_NAME, MOST_PATH};
use crate::policy::Kind;
use crate::shape::{FieldShape, Shape, Type};
use crate::{tables, yaml};

/// KubeArmor's patterns. `/` is quoted there and in the YAML of old clusters, so it is here.
const PATH: &str = r"^\/+.*[^\/]$";
const DIRECTORY: &str = r"^\/$|^\/.*\/$";
const PATH_OR_DIRECTORY: &str = r"(^\/+.*[^\/]$)|(^\/$|^\/.*\/$)";
const FILE_NAME: &str = r"^[^\/]+$";
const BYTES: &str = "^[0-9]+(KB|MB|GB|K|M|G)?$";

/// Four `CustomResourceDefinition` documents, for `kubectl apply`.
pub fn schema() -> String {
    let documents = DocumentKind::ALL.map(|kind| {
        let mut text = String::new();
        definition(kind).render(0, &mut text);
        text
    });
    documents.join("---\n")
}

/// A YAML value that is to be written.
enum Yaml {
    Text(String),
    Number(usize),
    Flag(bool),
    List(Vec<Self>),
    Mapping(Vec<(&'static str, Self)>),
}

fn text(text: &str) -> Yaml {
    Yaml::Text(text.to_owned())
}

/// What Kubernetes wants to know about a kind beside its fields.
struct Names {
    plural: &'static str,
    short: &'static str,
    scope: &'static str,
    /// What is shown as the selector.
    selector: &'static str,
}

fn names(kind: DocumentKind) -> Names {
    match kind {
        DocumentKind::Policy(Kind::Container) => Names {
            plural: "kubearmorpolicies",
            short: "ksp",
            scope: "Namespaced",
            selector: ".spec.selector.matchLabels",
        },
        DocumentKind::Policy(Kind::Host) => Names {
            plural: "kubearmorhostpolicies",
            short: "hsp",
            scope: "Cluster",
            selector: ".spec.nodeSelector.matchLabels",
        },
        DocumentKind::Policy(Kind::Cluster) => Names {
            plural: "kubearmorclusterpolicies",
            short: "csp",
            scope: "Cluster",
            selector: ".spec.selector.matchExpressions",
        },
        DocumentKind::Network => Names {
            plural: "kubearmornetworkpolicies",
            short: "nsp",
            scope: "Cluster",
            selector: ".spec.nodeSelector.matchLabels",
        },
    }
}

fn definition(kind: DocumentKind) -> Yaml {
    let names = names(kind);
    let (group, version) = API_VERSION.split_once('/').unwrap_or((API_VERSION, ""));
    let column = |name, kind, path, more: Vec<_>| {
        let mut column = vec![("jsonPath", text(path)), ("name", text(name))];
        column.extend(more);
        column.push(("type", text(kind)));
        Yaml::Mapping(column)
    };
    let wide = || vec![("priority", Yaml::Number(10))];
    let columns = vec![
        column("Age", "date", ".metadata.creationTimestamp", Vec::new()),
        column("Status", "string", ".status.status", Vec::new()),
        column("Action", "string", ".spec.action", wide()),
        column("Selector", "string", names.selector, wide()),
    ];
    let version = Yaml::Mapping(vec![
        ("name", text(version)),
        ("served", Yaml::Flag(true)),
        ("storage", Yaml::Flag(true)),
        ("additionalPrinterColumns", Yaml::List(columns)),
        (
            "subresources",
            Yaml::Mapping(vec![("status", Yaml::Mapping(Vec::new()))]),
        ),
        (
            "schema",
            Yaml::Mapping(vec![("openAPIV3Schema", document(kind))]),
        ),
    ]);
    let singular = kind.name().to_ascii_lowercase();
    let spec = Yaml::Mapping(vec![
        ("group", text(group)),
        (
            "names",
            Yaml::Mapping(vec![
                ("kind", text(kind.name())),
                ("listKind", Yaml::Text(format!("{}List", kind.name()))),
                ("plural", text(names.plural)),
                ("shortNames", Yaml::List(vec![text(names.short)])),
                ("singular", Yaml::Text(singular)),
            ]),
        ),
        ("scope", text(names.scope)),
        ("versions", Yaml::List(vec![version])),
    ]);
    let name = Yaml::Text(format!("{}.{group}", names.plural));
    Yaml::Mapping(vec![
        ("apiVersion", text("apiextensions.k8s.io/v1")),
        ("kind", text("CustomResourceDefinition")),
        ("metadata", Yaml::Mapping(vec![("name", name)])),
        ("spec", spec),
    ])
}

/// The schema of a whole document.
fn document(kind: DocumentKind) -> Yaml {
    let shape = tables::document(kind);
    let fields = shape.fields().map(|field| {
        let mut schema = match field.name {
            // Kubernetes checks it and lets nobody else do so.
            "metadata" => vec![("type", text("object"))],
            _ => field_schema(field),
        };
        if field.name == "spec" && kind == DocumentKind::Network {
            schema.push(("x-kubernetes-validations", network_validations()));
        }
        (field.name, Yaml::Mapping(schema))
    });
    Yaml::Mapping(vec![
        ("type", text("object")),
        ("properties", Yaml::Mapping(fields.collect())),
        ("required", required(shape)),
    ])
}

/// What of a network policy depends on more than one field. A rule for each list: a rule for both
/// would exceed the cost that Kubernetes allows one expression.
fn network_validations() -> Yaml {
    let validation = |rule: String, message| {
        Yaml::Mapping(vec![("rule", Yaml::Text(rule)), ("message", text(message))])
    };
    let quotas = |list| {
        let rule = format!(
            "!has(self.selector) || !has(self.{list}) || \
             self.{list}.all(rule, has(rule.limit) && has(rule.duration))"
        );
        validation(rule, "a rule for pods must have `limit` and `duration`")
    };
    Yaml::List(vec![
        validation(
            "!(has(self.nodeSelector) && has(self.selector))".to_owned(),
            "`nodeSelector` and `selector` cannot stand together",
        ),
        quotas("ingress"),
        quotas("egress"),
    ])
}

fn mapping(shape: &'static Shape) -> Vec<(&'static str, Yaml)> {
    let fields = shape.fields();
    let fields = fields.map(|field| (field.name, Yaml::Mapping(field_schema(field))));
    let mut schema = vec![
        ("type", text("object")),
        ("properties", Yaml::Mapping(fields.collect())),
    ];
    if shape.fields().any(|field| field.required) {
        schema.push(("required", required(shape)));
    }
    schema
}

fn required(shape: &Shape) -> Yaml {
    let fields = shape.fields().filter(|field| field.required);
    Yaml::List(fields.map(|field| text(field.name)).collect())
}

fn field_schema(field: &FieldShape) -> Vec<(&'static str, Yaml)> {
    let mut schema = vec![("description", text(field.description))];
    if field.nullable {
        schema.push(("nullable", Yaml::Flag(true)));
    }
    schema.extend(value_schema(&field.of));
    schema
}

fn value_schema(of: &Type) -> Vec<(&'static str, Yaml)> {
    let string = || ("type", text("string"));
    let one_of = |words: Vec<&'static str>| {
        let words = words.into_iter().map(text).collect();
        vec![string(), ("enum", Yaml::List(words))]
    };
    let like = |pattern: &str| vec![string(), ("pattern", text(pattern))];
    let longest = |mut schema: Vec<_>, most| {
        schema.push(("maxLength", Yaml::Number(most)));
        schema
    };
    let list = |items| vec![("type", text("array")), ("items", Yaml::Mapping(items))];
    match of {
        Type::Text => vec![string()],
        Type::Path => longest(like(PATH), MOST_PATH),
        Type::Directory => longest(like(DIRECTORY), MOST_PATH),
        Type::PathOrDirectory => longest(like(PATH_OR_DIRECTORY), MOST_PATH),
        Type::FileName => longest(like(FILE_NAME), MOST_NAME),
        Type::Names(names) => {
            let name = names().join("|");
            like(&format!("^ *({name})( *, *({name}))* *$"))
        }
        Type::Word(words) => one_of(words()),
        Type::Bytes => like(BYTES),
        Type::Integer { least, most } => vec![
            ("type", text("integer")),
            ("minimum", number(*least)),
            ("maximum", number(*most)),
        ],
        Type::Flag => vec![("type", text("boolean"))],
        Type::Texts { most } => {
            let mut schema = list(vec![string()]);
            schema.extend(most.map(|most| ("maxItems", Yaml::Number(most))));
            schema
        }
        Type::WordList(words) => list(one_of(words())),
        Type::Mapping(shape) => mapping(shape),
        Type::Mappings(shape) => list(mapping(shape)),
        Type::Labels => vec![
            ("type", text("object")),
            ("additionalProperties", Yaml::Mapping(vec![string()])),
        ],
    }
}

fn number(number: u32) -> Yaml {
    Yaml::Number(usize::try_from(number).unwrap_or(usize::MAX))
}

impl Yaml {
    /// As lines that are so far to the right. The first line is where the writer stands.
    fn render(&self, indent: usize, out: &mut String) {
        match self {
            Self::Mapping(fields) if !fields.is_empty() => {
                for (index, (name, value)) in fields.iter().enumerate() {
                    if index > 0 {
                        out.extend(std::iter::repeat_n(' ', indent));
                    }
                    out.push_str(name);
                    out.push(':');
                    match value {
                        Self::Mapping(fields) if !fields.is_empty() => {
                            out.push('\n');
                            out.extend(std::iter::repeat_n(' ', indent + 2));
                            value.render(indent + 2, out);
                        }
                        Self::List(items) if items.iter().any(Self::is_mapping) => {
                            out.push('\n');
                            for item in items {
                                out.extend(std::iter::repeat_n(' ', indent));
                                out.push_str("- ");
                                item.render(indent + 2, out);
                            }
                        }
                        Self::Text(_)
                        | Self::Number(_)
                        | Self::Flag(_)
                        | Self::List(_)
                        | Self::Mapping(_) => {
                            out.push(' ');
                            out.push_str(&value.in_line());
                            out.push('\n');
                        }
                    }
                }
            }
            Self::Text(_) | Self::Number(_) | Self::Flag(_) | Self::List(_) | Self::Mapping(_) => {
                out.push_str(&self.in_line());
                out.push('\n');
            }
        }
    }

    fn is_mapping(&self) -> bool {
        matches!(self, Self::Mapping(_))
    }

    /// What has no mapping in it, in one line.
    fn in_line(&self) -> String {
        match self {
            Self::Text(text) => quoted(text),
            Self::Number(number) => number.to_string(),
            Self::Flag(flag) => flag.to_string(),
            Self::List(items) => {
                let items: Vec<_> = items.iter().map(Self::in_line).collect();
                format!("[{}]", items.join(", "))
            }
            Self::Mapping(_) => "{}".to_owned(),
        }
    }
}

/// A word as it is, everything else in quotes. No text of a schema has a line break.
fn quoted(text: &str) -> String {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '/' | '-' | '_');
    let is_word = !text.starts_with('-') && text.chars().all(is_part) && yaml::is_text(text);
    if is_word {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "''"))
    }
}

#[cfg(test)]
mod tests;
