// SPDX-License-Identifier: Apache-2.0
//! The policy directory: what is in force from which file.
//!
//! A file counts as a whole: when anything in it is wrong, what it said last stays in force and every
//! problem is reported, once for each version of the file. A file that is removed says nothing any
//! more. A directory that cannot be read changes nothing.
//!
//! What a file said last is also kept beside ([`PolicyDir::keeping`]), so that it stays in force when the
//! agent is started again while the file is broken.

use crate::durable;
use gorget_engine::{Backend, limits, network_limits};
use gorget_policy::{Policy, Problem, ProblemSeverity, parse};
use gorget_telemetry::proto::v1::Refused;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

/// Larger files are refused: no policy that people write comes near.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// The state of a policy directory.
#[derive(Debug)]
pub(crate) struct PolicyDir {
    dir: PathBuf,
    /// Where good versions are kept.
    copies: Option<PathBuf>,
    files: BTreeMap<PathBuf, File>,
    unreadable: Option<String>,
}

#[derive(Debug, Default)]
struct File {
    /// The version that was looked at last, good or not.
    seen: String,
    /// What is in force.
    policies: Vec<Arc<Policy>>,
    /// The version that says it, and the how manyth it is that was put in force.
    text: String,
    generation: u64,
    /// A version of it was taken.
    good: bool,
    /// What keeps the version that was looked at last from being taken.
    refused: Vec<String>,
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
            copies: None,
            files: BTreeMap::new(),
            unreadable: None,
        }
    }

    /// Keeps the last good version of every file in a directory of the agent's, which is made.
    pub(crate) fn keeping(dir: PathBuf, copies: PathBuf) -> io::Result<Self> {
        durable::make(&copies)?;
        Ok(Self {
            copies: Some(copies),
            ..Self::new(dir)
        })
    }

    /// Everything that is in force, with the file that it comes from.
    pub(crate) fn by_file(&self) -> impl Iterator<Item = (&Path, &Arc<Policy>)> {
        let files = self.files.iter();
        files.flat_map(|(path, file)| file.policies.iter().map(|policy| (path.as_path(), policy)))
    }

    /// The version of a file that is in force, and the how manyth it is.
    pub(crate) fn given(&self, path: &Path) -> Option<(&str, u64)> {
        let file = self.files.get(path)?;
        Some((&file.text, file.generation))
    }

    /// Files that say something else than what is in force.
    pub(crate) fn refused(&self) -> Vec<Refused> {
        let files = self.files.iter();
        let refused = files.filter(|(_, file)| !file.refused.is_empty());
        let mut refused: Vec<_> = refused
            .map(|(path, file)| Refused {
                file: path.display().to_string(),
                problems: file.refused.clone(),
                last_good_in_force: file.good,
                ..Refused::default()
            })
            .collect();
        refused.extend(self.unreadable.iter().map(|problem| Refused {
            file: self.dir.display().to_string(),
            problems: vec![problem.clone()],
            last_good_in_force: true,
            ..Refused::default()
        }));
        refused
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
                    self.restore_all(&mut scan);
                }
                return scan;
            }
        };
        self.unreadable = None;
        if self.files.is_empty() {
            self.forget_removed(&paths);
        }
        let copies = self.copies.as_deref();
        self.files.retain(|path, file| {
            let stays = paths.contains(path);
            if !stays && let Some(copy) = copy_of(copies, path) {
                forget(&copy);
            }
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

    /// Has in force what was, when the agent ran before: there is no telling what the files say.
    fn restore_all(&mut self, scan: &mut Scan) {
        let copies = self.copies.as_deref();
        let kept = copies.and_then(|copies| policy_files(copies).ok());
        for copy in kept.unwrap_or_default() {
            let path = self.dir.join(copy.file_name().unwrap_or_default());
            let name = path.display().to_string();
            if let Entry::Vacant(file) = self.files.entry(path) {
                file.insert(File::default()).restore(&name, &copy, scan);
            }
        }
    }

    /// Removes the copies of files that were removed while no agent ran.
    fn forget_removed(&self, paths: &[PathBuf]) {
        let copies = self.copies.as_deref();
        let there: Vec<_> = paths
            .iter()
            .filter_map(|path| copy_of(copies, path))
            .collect();
        let kept = copies.and_then(|copies| policy_files(copies).ok());
        for copy in kept.unwrap_or_default() {
            if !there.contains(&copy) {
                forget(&copy);
            }
        }
    }

    fn look_at(&mut self, path: PathBuf, scan: &mut Scan) {
        let name = path.display().to_string();
        let copy = copy_of(self.copies.as_deref(), &path);
        let is_new = !self.files.contains_key(&path);
        let file = self.files.entry(path.clone()).or_default();
        if is_new && let Some(copy) = &copy {
            file.restore(&name, copy, scan);
        }
        let text = match read(&path) {
            Ok(text) => text,
            Err(error) => {
                // The error stands for the version, so that it is reported once.
                let seen = format!("\0{error}");
                if file.seen != seen {
                    let problem = format!("cannot read `{name}`: {error}");
                    scan.problems.push(format!("{problem}{}", kept(file)));
                    file.refused = vec![problem];
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
        file.refused = errors.iter().map(ToString::to_string).collect();
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
            file.taken(file.seen.clone());
            if let Some(copy) = copy
                && let Err(error) = durable::write(&copy, file.seen.as_bytes())
            {
                let copy = copy.display();
                scan.problems.push(format!(
                    "cannot keep `{name}` as `{copy}`: {error}; a restart needs it"
                ));
            }
        } else {
            scan.problems.extend(file.refused.iter().cloned());
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

impl File {
    /// Has in force what was, when the agent ran before, until the file is found to be good.
    fn restore(&mut self, name: &str, copy: &Path, scan: &mut Scan) {
        let Ok(text) = read(copy) else { return };
        let parsed = parse(name, &text);
        let is_error = |problem: &Problem| problem.severity == ProblemSeverity::Error;
        if !parsed.problems.iter().any(is_error) {
            self.policies = parsed.policies.into_iter().map(Arc::new).collect();
            self.good = true;
            self.taken(text);
            scan.changed |= !self.policies.is_empty();
        }
    }

    /// A version is in force; after a restart it may be the one that was.
    fn taken(&mut self, text: String) {
        if self.generation == 0 || text != self.text {
            self.generation += 1;
            self.text = text;
        }
    }
}

/// A copy that stays is looked at only while there is a file of its name that is broken.
fn forget(copy: &Path) {
    if let Err(error) = durable::remove(copy) {
        tracing::debug!("removing `{}`: {error}", copy.display());
    }
}

/// Where the last good version of a file is kept.
fn copy_of(copies: Option<&Path>, file: &Path) -> Option<PathBuf> {
    Some(copies?.join(file.file_name()?))
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
        let path = dir.temp.path().join("a.yaml");
        assert_eq!(dir.state.given(&path), Some((good.as_str(), 1)));
        let mended = POLICY.replace("NAME", "mended");
        dir.write("a.yaml", &mended);
        assert!(dir.state.scan().changed);
        assert_eq!(dir.in_force(), ["mended"]);
        assert_eq!(dir.state.given(&path), Some((mended.as_str(), 2)));
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
        let native = "  apparmor: deny network raw,\n";
        let limited = POLICY.replace("NAME", "one") + native;
        dir.write("broken.yaml", &format!("{limited}---\nkind: nothing\n"));
        assert!(dir.state.scan().warnings.is_empty());
        dir.write("good.yaml", &limited);
        let warnings = dir.state.scan().warnings;
        assert!(
            matches!(warnings.as_slice(), [one] if one.contains("does not enforce lines under `apparmor`")),
            "{warnings:?}"
        );
        assert!(dir.state.scan().warnings.is_empty());
    }

    #[test]
    fn what_cannot_be_read_at_the_start_says_what_it_said_before_until_it_is_removed() {
        let temp = tempfile::tempdir().unwrap();
        let (dir, copies) = (temp.path().join("dir"), temp.path().join("state/last-good"));
        fs::create_dir(&dir).unwrap();
        let start = || PolicyDir::keeping(dir.clone(), copies.clone()).unwrap();
        let names = |state: &PolicyDir| -> Vec<String> {
            state.by_file().map(|(_, p)| p.name.clone()).collect()
        };
        fs::write(dir.join("a.yaml"), POLICY.replace("NAME", "one")).unwrap();
        assert!(start().scan().changed);

        fs::write(dir.join("a.yaml"), "kind: [").unwrap();
        let mut again = start();
        let scan = again.scan();
        assert!(scan.changed);
        assert!(
            scan.problems
                .iter()
                .any(|p| p.contains("last good version stays")),
            "{:?}",
            scan.problems
        );
        assert_eq!(names(&again), ["one"]);

        // So does one in a directory that cannot be read.
        fs::rename(&dir, temp.path().join("away")).unwrap();
        let mut again = start();
        assert!(again.scan().changed);
        assert_eq!(names(&again), ["one"]);
        fs::rename(temp.path().join("away"), &dir).unwrap();

        // One that was removed while no agent ran is forgotten.
        fs::rename(dir.join("a.yaml"), dir.join("b.yaml")).unwrap();
        start().scan();
        fs::rename(dir.join("b.yaml"), dir.join("a.yaml")).unwrap();
        let mut again = start();
        again.scan();
        assert!(names(&again).is_empty());

        // A good version counts, whatever was kept; a removed file says nothing, later either.
        fs::write(dir.join("a.yaml"), POLICY.replace("NAME", "two")).unwrap();
        let mut again = start();
        again.scan();
        assert_eq!(names(&again), ["two"]);
        fs::remove_file(dir.join("a.yaml")).unwrap();
        assert!(again.scan().changed);
        fs::write(dir.join("a.yaml"), "kind: [").unwrap();
        let mut again = start();
        again.scan();
        assert!(names(&again).is_empty());
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
