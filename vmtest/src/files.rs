// SPDX-License-Identifier: Apache-2.0
//! The files and programs that a scenario of `conformance/` needs in its workload.

use crate::JOB;
use crate::agent::fail;
use gorget_engine::conformance::{Case, Scenario};
use gorget_model::{Category, Object, Subject};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Every scenario, by the name of its file. The policies that some name are in the job, too.
///
/// # Panics
///
/// When one cannot be read.
pub fn scenarios() -> Vec<Scenario> {
    let directory = Path::new(JOB).join("conformance");
    let mut scenarios: Vec<Scenario> = done(fs::read_dir(&directory))
        .map(|entry| {
            let path = done(entry).path();
            let text = done(fs::read_to_string(&path));
            let mut read =
                |policies: &str| fs::read_to_string(directory.join(policies)).map_err(Into::into);
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            Scenario::parse_with(&name, &text, &mut read)
                .unwrap_or_else(|error| fail(&format!("reading a scenario: {error}")))
        })
        .collect();
    scenarios.sort_by_key(|scenario| scenario.file.clone());
    scenarios
}

/// What has to exist for the cases of a scenario.
#[derive(Debug)]
pub struct Files {
    /// Programs that act.
    pub subjects: BTreeSet<String>,
    programs: BTreeSet<String>,
    dirs: BTreeSet<String>,
    files: BTreeSet<String>,
}

impl Files {
    /// What these cases name: those of a scenario that are performed.
    pub fn of<'a>(cases: impl IntoIterator<Item = &'a Case>) -> Self {
        let mut all = Self {
            subjects: BTreeSet::from(["/actor".to_owned()]),
            programs: BTreeSet::new(),
            dirs: BTreeSet::new(),
            files: BTreeSet::new(),
        };
        let mut objects = Vec::new();
        for case in cases {
            if let Subject::Image(subject) = &case.access.subject {
                all.subjects
                    .insert(String::from_utf8_lossy(subject).into_owned());
            }
            let path = match &case.access.object {
                Object::Path(path) => Some(path),
                Object::Syscall { call: _, path } => path.as_ref(),
                _ => None,
            };
            if let Some(path) = path {
                objects.push((String::from_utf8_lossy(path).into_owned(), &case.access));
            }
        }
        let names: Vec<String> = objects
            .iter()
            .map(|(name, _)| name.clone())
            .chain(all.subjects.iter().cloned())
            .collect();
        for (name, access) in &objects {
            let above = format!("{}/", name.trim_end_matches('/'));
            if access.modes.tree || names.iter().any(|other| other.starts_with(&above)) {
                all.dirs.insert(name.clone());
            } else if access.category == Category::Process {
                all.programs.insert(name.clone());
            } else {
                all.files.insert(name.clone());
            }
        }
        all
    }

    /// Makes all of it.
    ///
    /// # Errors
    ///
    /// When that is not possible.
    pub fn make(&self, root: &Path) -> std::io::Result<()> {
        for dir in &self.dirs {
            let dir = below(root, dir);
            fs::create_dir_all(&dir)?;
            // So that it cannot be removed.
            fs::write(dir.join(".keep"), "")?;
        }
        for name in self.subjects.iter().chain(&self.programs) {
            program(root, name)?;
        }
        for name in self
            .files
            .iter()
            .filter(|name| !self.programs.contains(*name))
        {
            let path = below(root, name);
            if !path.exists() {
                parent(&path)?;
                fs::write(path, "content\n")?;
            }
        }
        Ok(())
    }
}

/// Removes what the last scenario made.
///
/// # Panics
///
/// When it cannot.
pub fn clean(root: &Path, is_container: bool) {
    if !is_container {
        drop(fs::remove_dir_all("/opt/gorget-test"));
        return;
    }
    const MOUNTED: [&str; 3] = ["proc", "sys", "dev"];
    const KEPT: [&str; 2] = ["actor", "gorget-barrier"];
    for entry in done(fs::read_dir(root)) {
        let entry = done(entry);
        let name = entry.file_name().to_string_lossy().into_owned();
        if MOUNTED.contains(&name.as_str()) || KEPT.contains(&name.as_str()) {
            continue;
        }
        if done(entry.file_type()).is_dir() {
            // Something may be mounted on it: what is in it goes, at least.
            for inner in done(fs::read_dir(entry.path())) {
                let inner = done(inner);
                let dir = done(inner.file_type()).is_dir();
                let remove = if dir {
                    fs::remove_dir_all
                } else {
                    fs::remove_file
                };
                done(remove(inner.path()));
            }
            drop(fs::remove_dir(entry.path()));
        } else {
            done(fs::remove_file(entry.path()));
        }
    }
}

/// Puts a copy of the actor there, unless there is a program already.
///
/// # Errors
///
/// When that is not possible.
pub fn program(root: &Path, name: &str) -> std::io::Result<()> {
    let path = below(root, name);
    if path.exists() && fs::metadata(&path)?.permissions().mode() & 0o111 != 0 {
        return Ok(());
    }
    parent(&path)?;
    fs::copy(format!("{JOB}/actor"), &path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

fn parent(path: &Path) -> std::io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)
}

/// A path in a workload, from outside.
pub fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

fn done<T>(result: std::io::Result<T>) -> T {
    result.unwrap_or_else(|error| fail(&format!("files of scenarios: {error}")))
}
