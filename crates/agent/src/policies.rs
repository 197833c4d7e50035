// SPDX-License-Identifier: Apache-2.0
//! The policy directory: what is in force from which file.
//!
//! A file counts as a whole: when anything in it is wrong, what it said last stays in force and every
//! problem is reported, once for each version of the file. A file that is removed says nothing any
//! more. A directory that cannot be read changes nothing.

use gorget_engine::{Backend, limits, network_limits};
use gorget_policy::{Policy, Problem, ProblemSeverity, parse};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

/// Larger files are refused: no policy that people write comes near.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// The state of a policy directory.
#[derive(Debug)]
pub(crate) struct PolicyDir {
    dir: PathBuf,
    files: BTreeMap<PathBuf, File>,
    unreadable: Option<String>,
}

#[derive(Debug, Default)]
struct File {
    /// The version that was looked at last, good or not.
    seen: String,
    /// What is in force.
    policies: Vec<Arc<Policy>>,
    /// A version of it was taken.
    good: bool,
}

/// What a look at the directory found.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// What is in force is not what it was.
    pub(crate) changed: bool,
    /// New problems, one line each.
    pub(crate) problems: Vec<String>,
    /// New remarks that do not keep a file out of force.
    pub(crate) warnings: Vec<String>,
    /// What happened to which file.
    pub(crate) notes: Vec<String>,
}

impl PolicyDir {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            files: BTreeMap::new(),
            unreadable: None,
        }
    }

    /// Everything that is in force, with the file that it comes from.
    pub(crate) fn by_file(&self) -> impl Iterator<Item = (&Path, &Arc<Policy>)> {
        let files = self.files.iter();
        files.flat_map(|(path, file)| file.policies.iter().map(|policy| (path.as_path(), policy)))
    }

    /// Looks at the directory again.
    pub(crate) fn scan(&mut self) -> Scan {
        let mut scan = Scan::default();
        let paths = match policy_files(&self.dir) {
            Ok(paths) => paths,
            Err(error) => {
                let problem = format!(
                    "cannot read policy directory `{}`: {error}; what was in force stays",
                    self.dir.display()
                );
                if self.unreadable.as_ref() != Some(&problem) {
                    scan.problems.push(problem.clone());
                    self.unreadable = Some(problem);
                }
                return scan;
            }
        };
        self.unreadable = None;
        self.files.retain(|path, file| {
            let stays = paths.contains(path);
            if !stays && file.good {
                scan.notes.push(format!("`{}` was removed", path.display()));
                scan.changed |= !file.policies.is_empty();
            }
            stays
        });
        for path in paths {
            self.look_at(path, &mut scan);
        }
        scan
    }

    fn look_at(&mut self, path: PathBuf, scan: &mut Scan) {
        let name = path.display().to_string();
        let file = self.files.entry(path.clone()).or_default();
        let text = match read(&path) {
            Ok(text) => text,
            Err(error) => {
                // The error stands for the version, so that it is reported once.
                let seen = format!("\0{error}");
                if file.seen != seen {
                    scan.problems
                        .push(format!("cannot read `{name}`: {error}{}", kept(file)));
                    file.seen = seen;
                }
                return;
            }
        };
        if text == file.seen && (file.good || !text.is_empty()) {
            return;
        }
        let parsed = parse(&name, &text);
        file.seen = text;
        let errors: Vec<&Problem> = parsed
            .problems
            .iter()
            .filter(|problem| problem.severity == ProblemSeverity::Error)
            .collect();
        if errors.is_empty() {
            let (policies, network) = (parsed.policies.iter(), parsed.network_policies.iter());
            let undone = policies.flat_map(|policy| limits(Backend::BpfLsm, policy));
            let undone = undone.chain(network.flat_map(|p| network_limits(Backend::BpfLsm, p)));
            scan.warnings
                .extend(undone.map(|limit| format!("`{name}`: {limit}")));
            let policies: Vec<_> = parsed.policies.into_iter().map(Arc::new).collect();
            scan.notes
                .push(format!("`{name}` is in force: {}", names(&policies)));
            scan.changed |= policies != file.policies;
            file.policies = policies;
            file.good = true;
        } else {
            let errors = errors.iter().map(ToString::to_string);
            scan.problems.extend(errors);
            scan.problems
                .push(format!("`{name}` is not put in force{}", kept(file)));
        }
        let warnings = parsed
            .problems
            .iter()
            .filter(|problem| problem.severity == ProblemSeverity::Warning);
        scan.warnings.extend(warnings.map(ToString::to_string));
    }
}

fn kept(file: &File) -> &'static str {
    if file.good {
        "; its last good version stays in force"
    } else {
        ""
    }
}

fn names(policies: &[Arc<Policy>]) -> String {
    if policies.is_empty() {
        return "no policies".to_owned();
    }
    let names: Vec<_> = policies.iter().map(|policy| policy.name.as_str()).collect();
    names.join(", ")
}

/// The policy files of a directory, sorted: `*.yaml`, `*.yml` and `*.json` that are not hidden.
fn policy_files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let hidden = path
            .file_name()
            .is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        let known = path
            .extension()
            .is_some_and(|e| e == "yaml" || e == "yml" || e == "json");
        // Through links, as a mounted ConfigMap has them.
        if known && !hidden && path.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn read(path: &Path) -> io::Result<String> {
    let bytes = fs::metadata(path)?.len();
    if bytes > MAX_FILE_BYTES {
        return Err(io::Error::other(format!(
            "it has {bytes} bytes, the limit is {MAX_FILE_BYTES}"
        )));
    }
    fs::read_to_string(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\n\
        metadata: {name: NAME}\nspec:\n  selector: {matchLabels: {a: b}}\n  \
        process:\n    matchPaths: [{path: /bin/x}]\n";

    struct Dir {
        temp: tempfile::TempDir,
        state: PolicyDir,
    }

    impl Dir {
        fn new() -> Self {
            let temp = tempfile::tempdir().unwrap();
            let state = PolicyDir::new(temp.path().to_owned());
            Self { temp, state }
        }

        fn write(&self, file: &str, text: &str) {
            fs::write(self.temp.path().join(file), text).unwrap();
        }

        fn in_force(&self) -> Vec<String> {
            let policies = self.state.by_file();
            policies.map(|(_, policy)| policy.name.clone()).collect()
        }
    }

    #[test]
    fn files_are_taken_changed_and_removed() {
        let mut dir = Dir::new();
        dir.write("a.yaml", &POLICY.replace("NAME", "one"));
        dir.write("b.yml", &POLICY.replace("NAME", "two"));
        dir.write("notes.txt", "not a policy");
        assert!(dir.state.scan().changed);
        assert_eq!(dir.in_force(), ["one", "two"]);
        assert!(!dir.state.scan().changed);

        dir.write("a.yaml", &POLICY.replace("NAME", "three"));
        assert!(dir.state.scan().changed);
        assert_eq!(dir.in_force(), ["three", "two"]);

        fs::remove_file(dir.temp.path().join("b.yml")).unwrap();
        assert!(dir.state.scan().changed);
        assert_eq!(dir.in_force(), ["three"]);
    }

    #[test]
    fn a_broken_version_leaves_the_last_good_one_and_is_reported_once() {
        let mut dir = Dir::new();
        let good = POLICY.replace("NAME", "one");
        dir.write("a.yaml", &good);
        dir.state.scan();
        for cut in [good.len() / 2, good.len() - 3] {
            let half: String = good.chars().take(cut).collect();
            dir.write("a.yaml", &half);
            let scan = dir.state.scan();
            assert!(!scan.changed);
            assert!(!scan.problems.is_empty());
            assert!(
                scan.problems
                    .iter()
                    .any(|p| p.contains("last good version stays")),
                "{:?}",
                scan.problems
            );
            assert_eq!(dir.in_force(), ["one"]);
            assert!(dir.state.scan().problems.is_empty());
        }
        dir.write("a.yaml", &POLICY.replace("NAME", "mended"));
        assert!(dir.state.scan().changed);
        assert_eq!(dir.in_force(), ["mended"]);
    }

    #[test]
    fn one_broken_document_keeps_its_whole_file_out() {
        let mut dir = Dir::new();
        let good = POLICY.replace("NAME", "one");
        dir.write(
            "a.yaml",
            &format!("{good}---\n{}", good.replace("matchPaths", "matchPath")),
        );
        let scan = dir.state.scan();
        assert!(!scan.changed);
        assert!(scan.problems[0].contains("a.yaml:"), "{:?}", scan.problems);
        assert!(dir.in_force().is_empty());
    }

    #[test]
    fn what_is_not_enforced_is_said_once_of_what_is_in_force() {
        let mut dir = Dir::new();
        let calls = "  syscalls: { matchSyscalls: [{ syscall: [unlink] }] }\n";
        let limited = POLICY.replace("NAME", "one") + calls;
        dir.write("broken.yaml", &format!("{limited}---\nkind: nothing\n"));
        assert!(dir.state.scan().warnings.is_empty());
        dir.write("good.yaml", &limited);
        let warnings = dir.state.scan().warnings;
        assert!(
            matches!(warnings.as_slice(), [one] if one.contains("does not enforce rules about system calls")),
            "{warnings:?}"
        );
        assert!(dir.state.scan().warnings.is_empty());
    }

    #[test]
    fn a_directory_that_goes_away_changes_nothing() {
        let mut dir = Dir::new();
        dir.write("a.yaml", &POLICY.replace("NAME", "one"));
        dir.state.scan();
        fs::remove_dir_all(dir.temp.path()).unwrap();
        let scan = dir.state.scan();
        assert!(!scan.changed);
        assert_eq!(scan.problems.len(), 1);
        assert_eq!(dir.in_force(), ["one"]);
        assert!(dir.state.scan().problems.is_empty());
    }
}
