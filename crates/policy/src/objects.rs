// SPDX-License-Identifier: Apache-2.0
//! Objects that are paths, of whatever category, and the paths of `fromSource`.
//!
//! Each function reads the fields of one entry. What is wrong is reported and leaves nothing; what
//! can be read but is probably not meant is a warning.

use crate::fields::{Field, Fields, Text, not_one_of};
use crate::glob::Glob;
use crate::paths::{self, PathError};
use crate::policy::{ObjectMatcher, Source};
use crate::problem::{Problems, quote};
use crate::yaml::{Node, Value};
use gorget_model::Syscall;

/// `process.matchPaths`: a path or a name.
pub(crate) fn programs(entry: &Fields<'_>, problems: &mut Problems) -> Vec<ObjectMatcher> {
    let object = match (entry.get("path"), entry.get("execname")) {
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
        (None, Some(_)) => entry.text("execname", problems).and_then(|name| {
            let read = checked(entry, "execname", name, paths::name(name.text), problems);
            read.map(ObjectMatcher::ExecName)
        }),
    };
    object.into_iter().collect()
}

/// `file.matchPaths`.
pub(crate) fn paths(entry: &Fields<'_>, problems: &mut Problems) -> Vec<ObjectMatcher> {
    let path = read_path(entry, problems).map(ObjectMatcher::Path);
    path.into_iter().collect()
}

/// `matchDirectories`.
pub(crate) fn directories(entry: &Fields<'_>, problems: &mut Problems) -> Vec<ObjectMatcher> {
    let recursive = entry.flag("recursive", problems) == Some(true);
    let dir = entry.text("dir", problems);
    let dir = dir.and_then(|dir| checked(entry, "dir", dir, paths::directory(dir.text), problems));
    dir.map(|dir| ObjectMatcher::Directory { dir, recursive })
        .into_iter()
        .collect()
}

/// `matchPatterns`.
pub(crate) fn patterns(entry: &Fields<'_>, problems: &mut Problems) -> Vec<ObjectMatcher> {
    let pattern = read_pattern(entry, problems).map(ObjectMatcher::Pattern);
    pattern.into_iter().collect()
}

/// `syscalls.matchSyscalls`.
pub(crate) fn syscalls(entry: &Fields<'_>, problems: &mut Problems) -> Vec<ObjectMatcher> {
    let calls = read_calls(entry, problems).into_iter();
    calls.map(ObjectMatcher::Syscall).collect()
}

/// `syscalls.matchPaths`: what ends with a slash is a directory.
pub(crate) fn syscall_paths(entry: &Fields<'_>, problems: &mut Problems) -> Vec<ObjectMatcher> {
    let calls = read_calls(entry, problems).into_iter();
    let recursive = entry.flag("recursive", problems) == Some(true);
    let Some(written) = entry.text("path", problems) else {
        if entry.get("path").is_none() {
            // COMPAT: KubeArmor's schema does not require it, and says nothing about what it means.
            let help = "entries without a path go into `matchSyscalls`";
            problems.error_with_help(
                entry.at,
                Field::Key(&entry.field, "path"),
                "is missing",
                help,
            );
        }
        return Vec::new();
    };
    if written.text.ends_with('/') {
        let dir = checked(
            entry,
            "path",
            written,
            paths::directory(written.text),
            problems,
        );
        let Some(dir) = dir else { return Vec::new() };
        return calls
            .map(|call| ObjectMatcher::SyscallDirectory {
                call,
                dir: dir.clone(),
                recursive,
            })
            .collect();
    }
    let path = checked(entry, "path", written, paths::path(written.text), problems);
    let Some(path) = path else { return Vec::new() };
    if recursive {
        let reason = format!("{} is a path, so `recursive` does nothing", quote(&path));
        let help = format!("for a directory write {}", quote(&format!("{path}/")));
        problems.warning(written.at, Field::Key(&entry.field, "path"), reason, help);
    }
    calls
        .map(|call| ObjectMatcher::SyscallPath(call, path.clone()))
        .collect()
}

fn read_calls(entry: &Fields<'_>, problems: &mut Problems) -> Vec<Syscall> {
    let field = Field::Key(&entry.field, "syscall");
    let is_empty = |node: &Node| matches!(&node.value, Value::Sequence(items) if items.is_empty());
    if entry.get("syscall").is_none_or(is_empty) {
        let help = "list calls in `syscall`";
        problems.warning(entry.at, entry.field, "names no system call", help);
    }
    let mut calls = Vec::new();
    for call in entry.texts("syscall", problems) {
        match Syscall::from_name(call.text) {
            Some(call) => calls.push(call),
            None => {
                let known: Vec<_> = Syscall::all().map(Syscall::name).collect();
                not_one_of(call, field, &known, problems);
            }
        }
    }
    calls
}

/// `fromSource`.
pub(crate) fn sources(entry: &Fields<'_>, problems: &mut Problems) -> Vec<Source> {
    let mut sources = Vec::new();
    entry.each("fromSource", problems, |source, problems| {
        sources.extend(read_source(source, problems));
    });
    sources
}

fn read_source(source: &Fields<'_>, problems: &mut Problems) -> Option<Source> {
    let recursive = source.flag("recursive", problems);
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
            if let Some(node) = source.get("recursive") {
                let field = Field::Key(&source.field, "recursive");
                problems.error(node.at, field, "only goes with `dir`");
            }
            read_path(source, problems).map(Source::Path)
        }
        (None, Some(_)) => {
            let dir = source.text("dir", problems)?;
            // COMPAT: any text passes KubeArmor's schema here, and prefixes are compared.
            let mut slashed = dir.text.to_owned();
            if slashed.starts_with('/') && !slashed.ends_with('/') {
                slashed.push('/');
            }
            Some(Source::Directory {
                dir: checked(source, "dir", dir, paths::directory(&slashed), problems)?,
                recursive: recursive == Some(true),
            })
        }
    }
}

fn read_path(entry: &Fields<'_>, problems: &mut Problems) -> Option<String> {
    let path = entry.text("path", problems)?;
    checked(entry, "path", path, paths::path(path.text), problems)
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
    let written = entry.text("pattern", problems)?;
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
