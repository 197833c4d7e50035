// SPDX-License-Identifier: Apache-2.0
//! From the blocks of a `spec` to its rules.
//!
//! A block has lists; an entry of a list names one or more objects, and every object becomes one
//! rule with what it inherits filled in. What an entry may contain is in `tables`; which objects it
//! names is read by `objects` and `names`. An entry with an error becomes no rule; the error keeps
//! the whole document from becoming a policy, so a rule that is left out here is never missed.

use crate::fields::{Field, Fields};
use crate::meta::{Copied, Inheritance, MetaSpec};
use crate::policy::{Action, Modifiers, ObjectMatcher, Rule, Source};
use crate::problem::{Problems, quote};
use crate::{names, objects};
use gorget_model::Category;
use std::collections::{BTreeSet, HashMap};

/// A block of `spec`.
struct Block {
    name: &'static str,
    lists: &'static [List],
}

/// A list of entries.
struct List {
    name: &'static str,
    category: Category,
    /// The objects that an entry names.
    objects: fn(&Fields<'_>, &mut Problems) -> Vec<ObjectMatcher>,
}

const fn list(
    name: &'static str,
    category: Category,
    objects: fn(&Fields<'_>, &mut Problems) -> Vec<ObjectMatcher>,
) -> List {
    List {
        name,
        category,
        objects,
    }
}

const BLOCKS: &[Block] = &[
    Block {
        name: "process",
        lists: &[
            list("matchPaths", Category::Process, objects::programs),
            list("matchDirectories", Category::Process, objects::directories),
            list("matchPatterns", Category::Process, objects::patterns),
        ],
    },
    Block {
        name: "file",
        lists: &[
            list("matchPaths", Category::File, objects::paths),
            list("matchDirectories", Category::File, objects::directories),
            list("matchPatterns", Category::File, objects::patterns),
        ],
    },
    Block {
        name: "network",
        lists: &[
            list("matchProtocols", Category::Network, names::protocols),
            list("matchDNSQueries", Category::Dns, names::domains),
        ],
    },
    Block {
        name: "capabilities",
        lists: &[list(
            "matchCapabilities",
            Category::Capability,
            names::capabilities,
        )],
    },
    Block {
        name: "syscalls",
        lists: &[
            list("matchSyscalls", Category::Syscall, objects::syscalls),
            list("matchPaths", Category::Syscall, objects::syscall_paths),
        ],
    },
    Block {
        name: "device",
        lists: &[list("matchDevice", Category::Device, names::devices)],
    },
];

const PRESETS: List = list("presets", Category::Preset, names::presets);

/// The rules of a `spec`, in the order of the file.
pub(crate) fn read_rules(
    spec: &Fields<'_>,
    meta: &MetaSpec,
    copied: &mut Copied,
    problems: &mut Problems,
) -> Vec<Rule> {
    let mut rules = Rules {
        spec: meta,
        copied,
        named: HashMap::new(),
        list: Vec::new(),
    };
    for block in BLOCKS {
        let Some(fields) = spec.mapping(block.name, problems) else {
            continue;
        };
        let meta = MetaSpec::read(&fields, problems);
        for list in block.lists {
            fields.each(list.name, problems, |entry, problems| {
                rules.read(list, entry, &meta, problems);
            });
        }
    }
    spec.each(PRESETS.name, problems, |entry, problems| {
        rules.read(&PRESETS, entry, &MetaSpec::default(), problems);
    });
    // Blocks and lists are read in a fixed order, whatever the order in the file.
    let mut list = rules.list;
    list.sort_by_key(|rule| (rule.at.line, rule.at.column));
    list
}

/// Everything about a rule that decides whether it applies.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Condition {
    category: Category,
    object: ObjectMatcher,
    sources: Vec<Source>,
    modifiers: Modifiers,
    allowed_arguments: BTreeSet<String>,
}

struct Rules<'s> {
    spec: &'s MetaSpec,
    copied: &'s mut Copied,
    /// The first rule with each condition: its field and action.
    named: HashMap<Condition, (String, Action)>,
    list: Vec<Rule>,
}

impl Rules<'_> {
    /// Reads an entry.
    fn read(&mut self, list: &List, entry: &Fields<'_>, block: &MetaSpec, problems: &mut Problems) {
        let objects = (list.objects)(entry, problems);
        let sources = objects::sources(entry, problems);
        let modifiers = read_modifiers(entry, problems);
        let allowed_arguments = read_arguments(entry, problems);
        let written = MetaSpec::read(entry, problems);
        let inheritance = Inheritance {
            block,
            spec: self.spec,
        };
        let bytes = size_of::<Rule>() + heap_bytes(&sources) + text_bytes(&allowed_arguments);
        for (index, object) in objects.into_iter().enumerate() {
            // The first rule costs no more than its entry in the file did.
            if index > 0 && !self.copied.charge(bytes, entry.at, problems) {
                return;
            }
            let resolved = inheritance.resolve(&written, entry.at, self.copied, problems);
            let Some(meta) = resolved else { return };
            let rule = Rule {
                category: list.category,
                object,
                sources: sources.clone(),
                modifiers,
                allowed_arguments: allowed_arguments.clone(),
                action: match list.category {
                    Category::Syscall => Action::Audit,
                    Category::Process
                    | Category::File
                    | Category::Network
                    | Category::Dns
                    | Category::Capability
                    | Category::Device
                    | Category::Preset => meta.action,
                },
                severity: meta.severity,
                tags: meta.tags,
                message: meta.message,
                at: problems.location(entry.at),
                last_line: entry.last_line,
            };
            self.doubt(&rule, entry, problems);
            self.list.push(rule);
        }
    }

    /// Reports what is probably not meant.
    fn doubt(&mut self, rule: &Rule, entry: &Fields<'_>, problems: &mut Problems) {
        if let (Category::Preset, Action::Allow) = (rule.category, rule.action) {
            let help = "write `action: Block` or `action: Audit`";
            let reason = "`Allow` does nothing for a preset";
            problems.warning(entry.at, entry.field, reason, help);
        }
        let condition = Condition {
            category: rule.category,
            object: rule.object.clone(),
            sources: rule.sources.clone(),
            modifiers: rule.modifiers,
            allowed_arguments: rule.allowed_arguments.clone(),
        };
        let Some((first, action)) = self.named.get(&condition) else {
            let field = entry.field.to_string();
            self.named.insert(condition, (field, rule.action));
            return;
        };
        if *action == rule.action {
            let reason = match *first == entry.field.to_string() {
                true => "says something twice".to_owned(),
                false => format!("says the same as {first}"),
            };
            problems.warning(entry.at, entry.field, reason, "one of them is enough");
        } else {
            let reason = format!("contradicts {first}, which says {action:?}");
            let winner = rule.action.max(*action);
            problems.warning(entry.at, entry.field, reason, format!("{winner:?} wins"));
        }
    }
}

fn read_modifiers(entry: &Fields<'_>, problems: &mut Problems) -> Modifiers {
    let pts = entry.flag("pts", problems);
    if let (Some(true), Some(node)) = (pts, entry.get("pts")) {
        let help = "only `false` means something: tasks without a terminal satisfy the rule";
        let field = Field::Key(&entry.field, "pts");
        problems.warning(node.at, field, "`true` does nothing", help);
    }
    Modifiers {
        read_only: entry.flag("readOnly", problems) == Some(true),
        owner_only: entry.flag("ownerOnly", problems) == Some(true),
        no_terminal: pts == Some(false),
    }
}

fn read_arguments(entry: &Fields<'_>, problems: &mut Problems) -> BTreeSet<String> {
    let mut arguments = BTreeSet::new();
    for argument in entry.texts("allowedArgs", problems) {
        if argument.text.contains('\0') {
            let reason = format!("{} contains a NUL byte", quote(argument.text));
            let field = Field::Key(&entry.field, "allowedArgs");
            problems.error(argument.at, field, reason);
        }
        arguments.insert(argument.text.to_owned());
    }
    arguments
}

fn heap_bytes(sources: &[Source]) -> usize {
    let texts = sources.iter().map(|source| match source {
        Source::Path(text) | Source::Directory { dir: text, .. } => text.len(),
    });
    size_of_val(sources) + texts.sum::<usize>()
}

fn text_bytes(texts: &BTreeSet<String>) -> usize {
    texts
        .iter()
        .map(|text| text.len() + size_of::<String>())
        .sum()
}

#[cfg(test)]
mod tests;
