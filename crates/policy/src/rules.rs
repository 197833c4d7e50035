// SPDX-License-Identifier: Apache-2.0
//! The category blocks `process` and `file`.
//!
//! A block has three lists, each with its own fields (KubeArmor's CRDs), and every entry becomes
//! one rule. An entry with an error becomes none; the error keeps the whole document from becoming
//! a policy, so a rule that is left out here is never missed.

use crate::fields::{Field, Fields, Names, Text};
use crate::glob::Glob;
use crate::meta::{Copied, Inheritance, MetaSpec};
use crate::paths::{self, PathError};
use crate::policy::{Modifiers, ObjectMatcher, Rule, Source};
use crate::problem::{Problems, quote};
use crate::yaml::Node;
use gorget_model::Category;
use std::collections::BTreeSet;

/// The blocks whose objects are paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Block {
    Process,
    File,
}

impl Block {
    fn category(self) -> Category {
        match self {
            Self::Process => Category::Process,
            Self::File => Category::File,
        }
    }
}

/// The lists of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum List {
    Paths,
    Directories,
    Patterns,
}

impl List {
    const ALL: [Self; 3] = [Self::Paths, Self::Directories, Self::Patterns];

    fn name(self) -> &'static str {
        match self {
            Self::Paths => "matchPaths",
            Self::Directories => "matchDirectories",
            Self::Patterns => "matchPatterns",
        }
    }

    /// Fields of an entry. `pts` and `allowedArgs` are KubeArmor's.
    fn names(self, block: Block) -> Names {
        macro_rules! names {
            ([$($known:literal),*], [$($unsupported:literal),*]) => {
                Names {
                    known: &[$($known,)* "ownerOnly", "severity", "tags", "message", "action"],
                    unsupported: &[$($unsupported),*],
                }
            };
        }
        match (block, self) {
            (Block::Process, Self::Paths) => {
                names!(["path", "execname", "fromSource"], ["pts", "allowedArgs"])
            }
            (Block::Process, Self::Directories) => {
                names!(["dir", "recursive", "fromSource"], ["pts"])
            }
            (Block::Process, Self::Patterns) => names!(["pattern"], []),
            (Block::File, Self::Paths) => names!(["path", "fromSource", "readOnly"], ["pts"]),
            (Block::File, Self::Directories) => {
                names!(["dir", "recursive", "fromSource", "readOnly"], ["pts"])
            }
            (Block::File, Self::Patterns) => names!(["pattern", "readOnly"], []),
        }
    }
}

const BLOCK: Names = Names {
    known: &[
        "matchPaths",
        "matchDirectories",
        "matchPatterns",
        "severity",
        "tags",
        "message",
        "action",
    ],
    unsupported: &[],
};

/// COMPAT: KubeArmor has `dir` in `fromSource` only for syscalls; semantics section 3 has it everywhere.
const SOURCE: Names = Names {
    known: &["path", "dir", "recursive"],
    unsupported: &[],
};

/// Reads a block and adds its rules to `rules`.
pub(crate) fn read_block(
    node: &Node,
    field: Field<'_>,
    kind: Block,
    spec: &MetaSpec,
    rules: &mut Vec<Rule>,
    copied: &mut Copied,
    problems: &mut Problems,
) {
    let Some(fields) = Fields::open(node, field, BLOCK, problems) else {
        return;
    };
    let block = MetaSpec::read(&fields, problems);
    let inheritance = Inheritance {
        block: &block,
        spec,
    };
    for list in List::ALL {
        let list_field = Field::Key(&fields.field, list.name());
        for (index, node) in fields.list(list.name(), problems).iter().enumerate() {
            let field = Field::Index(&list_field, index);
            let Some(entry) = Fields::open(node, field, list.names(kind), problems) else {
                continue;
            };
            let object = read_object(&entry, list, kind, problems);
            let sources = read_sources(&entry, problems);
            let modifiers = Modifiers {
                read_only: entry.flag("readOnly", problems),
                owner_only: entry.flag("ownerOnly", problems),
                no_terminal: false,
            };
            let written = MetaSpec::read(&entry, problems);
            let meta = inheritance.resolve(&written, entry.at, copied, problems);
            if let (Some(object), Some(meta)) = (object, meta) {
                rules.push(Rule {
                    category: kind.category(),
                    object,
                    sources,
                    modifiers,
                    allowed_arguments: BTreeSet::new(),
                    action: meta.action,
                    severity: meta.severity,
                    tags: meta.tags,
                    message: meta.message,
                    at: problems.location(entry.at),
                    last_line: entry.at.line,
                });
            }
        }
    }
}

fn read_object(
    entry: &Fields<'_>,
    list: List,
    block: Block,
    problems: &mut Problems,
) -> Option<ObjectMatcher> {
    match (list, block) {
        (List::Paths, Block::Process) => match (entry.get("path"), entry.get("execname")) {
            (Some(_), Some(_)) => {
                let reason = "has both `path` and `execname`";
                problems.error_with_help(entry.at, entry.field, reason, "make it two entries");
                None
            }
            (None, None) => {
                problems.error(entry.at, entry.field, "has neither `path` nor `execname`");
                None
            }
            (Some(_), None) => read_path(entry, problems).map(ObjectMatcher::Path),
            (None, Some(_)) => {
                let name = entry.text("execname", problems)?;
                checked(entry, "execname", name, paths::name(name.text), problems)
                    .map(ObjectMatcher::ExecName)
            }
        },
        (List::Paths, Block::File) => read_path(entry, problems).map(ObjectMatcher::Path),
        (List::Directories, Block::Process | Block::File) => {
            let (dir, recursive) = read_directory(entry, problems);
            Some(ObjectMatcher::Directory {
                dir: dir?,
                recursive,
            })
        }
        (List::Patterns, Block::Process | Block::File) => {
            read_pattern(entry, problems).map(ObjectMatcher::Pattern)
        }
    }
}

fn read_sources(entry: &Fields<'_>, problems: &mut Problems) -> Vec<Source> {
    let mut sources = Vec::new();
    let list_field = Field::Key(&entry.field, "fromSource");
    for (index, node) in entry.list("fromSource", problems).iter().enumerate() {
        let field = Field::Index(&list_field, index);
        let Some(source) = Fields::open(node, field, SOURCE, problems) else {
            continue;
        };
        sources.extend(read_source(&source, problems));
    }
    sources
}

fn read_source(source: &Fields<'_>, problems: &mut Problems) -> Option<Source> {
    match (source.get("path"), source.get("dir")) {
        (Some(_), Some(_)) => {
            let reason = "has both `path` and `dir`";
            problems.error_with_help(source.at, source.field, reason, "make it two entries");
            None
        }
        (None, None) => {
            problems.error(source.at, source.field, "has neither `path` nor `dir`");
            None
        }
        (Some(_), None) => {
            let path = read_path(source, problems).map(Source::Path);
            if let Some(recursive) = source.get("recursive") {
                let field = Field::Key(&source.field, "recursive");
                problems.error(recursive.at, field, "only goes with `dir`");
            }
            path
        }
        (None, Some(_)) => {
            let (dir, recursive) = read_directory(source, problems);
            Some(Source::Directory {
                dir: dir?,
                recursive,
            })
        }
    }
}

fn read_path(entry: &Fields<'_>, problems: &mut Problems) -> Option<String> {
    let path = entry.need_text("path", problems)?;
    checked(entry, "path", path, paths::path(path.text), problems)
}

fn read_directory(entry: &Fields<'_>, problems: &mut Problems) -> (Option<String>, bool) {
    let dir = entry.need_text("dir", problems);
    let dir = dir.and_then(|dir| checked(entry, "dir", dir, paths::directory(dir.text), problems));
    (dir, entry.flag("recursive", problems))
}

/// Reports what is wrong with a path, directory or name, and what is doubtful about it.
fn checked(
    entry: &Fields<'_>,
    name: &str,
    written: Text<'_>,
    result: Result<String, PathError>,
    problems: &mut Problems,
) -> Option<String> {
    let field = Field::Key(&entry.field, name);
    let shown = quote(written.text);
    match result {
        Ok(text) => {
            if text.contains('*') {
                let reason = format!("in {shown} the `*` stands for itself");
                problems.warning(
                    written.at,
                    field,
                    reason,
                    "wildcards go into `matchPatterns`",
                );
            }
            Some(text)
        }
        Err(error) => {
            let reason = format!("{shown} {error}");
            match error.help(written.text) {
                Some(help) => problems.error_with_help(written.at, field, reason, help),
                None => problems.error(written.at, field, reason),
            }
            None
        }
    }
}

fn read_pattern(entry: &Fields<'_>, problems: &mut Problems) -> Option<Glob> {
    let written = entry.need_text("pattern", problems)?;
    let field = Field::Key(&entry.field, "pattern");
    let shown = quote(written.text);
    let glob = match Glob::parse(written.text) {
        Ok(glob) => glob,
        Err(error) => {
            let reason = format!("{shown} {error}");
            match error.help() {
                Some(help) => problems.error_with_help(written.at, field, reason, help),
                None => problems.error(written.at, field, reason),
            }
            return None;
        }
    };
    if let Some(why) = glob.never_matches() {
        let reason = format!("{shown} {why}");
        problems.warning(written.at, field, reason, "it can never match");
    }
    if written.text.contains(' ') {
        let reason = format!("{shown} contains a space");
        let help = "patterns are matched against paths, not against command lines";
        problems.warning(written.at, field, reason, help);
    }
    if written.text.contains("[!") {
        let reason = format!("in {shown} the `!` is a member of the class");
        problems.warning(written.at, field, reason, "a class is negated by `^`");
    }
    Some(glob)
}
