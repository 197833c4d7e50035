// SPDX-License-Identifier: Apache-2.0
//! Putting profiles into the kernel, with the system's `apparmor_parser`.
//!
//! The parser is the one program that the agent runs (`docs/adr/0003-run-apparmor-parser.md`). It is run
//! by its full path, with nothing in its environment, and reads the profile from its standard input.
//!
//! A profile of ours has a file with [`MARKER`] in its first line, so that the machine loads it when it
//! starts, before containers and the agent do. Files without that line, and loaded profiles without a
//! file, are somebody else's and are never touched.
//!
//! INVARIANT: the file says what is loaded. What the parser refuses changes neither.

use crate::lower::MARKER;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Where the parser may be.
const PARSERS: [&str; 4] = [
    "sbin/apparmor_parser",
    "usr/sbin/apparmor_parser",
    "usr/bin/apparmor_parser",
    "bin/apparmor_parser",
];

/// Lines of a refusal that are told: the parser says what and where in one or two.
const TOLD_LINES: usize = 4;

/// Names of profiles that can be files, and need no quotes.
const MOST_NAME: usize = 200;

/// Why there is no AppArmor to use.
#[derive(Debug, thiserror::Error)]
pub enum Missing {
    /// It is not among the security modules.
    #[error("`apparmor` is not among the kernel's security modules ({0})")]
    Module(String),
    /// It is there and switched off.
    #[error("AppArmor is switched off")]
    Off,
    /// No program to compile profiles.
    #[error("there is no `apparmor_parser`: install the package `apparmor`")]
    Parser,
}

/// A profile is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Its name cannot be that of a profile.
    #[error("`{0}` cannot be the name of a profile")]
    Name(String),
    /// It was made by somebody else.
    #[error("profile `{0}` is not one of Gorget's and is left as it is")]
    Foreign(String),
    /// The parser refused it.
    #[error("`apparmor_parser` refuses profile `{name}`: {said}")]
    Refused {
        /// Name of the profile.
        name: String,
        /// What the parser said.
        said: String,
    },
    /// Something could not be read, written or run.
    #[error("cannot {what} `{}`", .path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

/// The profiles of ours in the kernel.
#[derive(Debug)]
pub struct Loader {
    parser: PathBuf,
    /// Where profiles are kept.
    directory: PathBuf,
    /// What the kernel has loaded, by name.
    loaded: PathBuf,
    /// By name, the text that is loaded.
    ours: BTreeMap<String, String>,
}

impl Loader {
    /// On this machine, whose root directory is `root`. What an earlier agent loaded is known.
    ///
    /// # Errors
    ///
    /// When this machine has no AppArmor to use.
    pub fn detect(root: &Path) -> Result<Self, Missing> {
        let security = root.join("sys/kernel/security");
        let modules = fs::read_to_string(security.join("lsm")).unwrap_or_default();
        if !modules.trim().split(',').any(|module| module == "apparmor") {
            return Err(Missing::Module(modules.trim().to_owned()));
        }
        let enabled = root.join("sys/module/apparmor/parameters/enabled");
        let enabled = fs::read_to_string(enabled).unwrap_or_default();
        if enabled.trim() != "Y" {
            return Err(Missing::Off);
        }
        let parser = PARSERS.iter().map(|path| root.join(path));
        let parser = parser.into_iter().find(|path| path.is_file());
        Ok(Self::new(
            parser.ok_or(Missing::Parser)?,
            root.join("etc/apparmor.d"),
            security.join("apparmor/profiles"),
        ))
    }

    fn new(parser: PathBuf, directory: PathBuf, loaded: PathBuf) -> Self {
        let mut ours = BTreeMap::new();
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            if is_name(&name) && text.starts_with(MARKER) {
                ours.insert(name, text);
            }
        }
        let mut loader = Self {
            parser,
            directory,
            loaded,
            ours,
        };
        // A file of ours that is not loaded is to be loaded when it is asked for.
        let loaded = loader.in_kernel();
        for (name, text) in &mut loader.ours {
            if !loaded.contains(name) {
                text.clear();
            }
        }
        loader
    }

    /// Names of the profiles of ours.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.ours.keys().map(String::as_str)
    }

    /// The text of a profile of ours that is loaded.
    pub fn text(&self, name: &str) -> Option<&str> {
        let text = self.ours.get(name)?;
        (!text.is_empty()).then_some(text)
    }

    /// Puts a profile in place of what was loaded under its name. Says whether that changed anything.
    ///
    /// # Errors
    ///
    /// When it is not loaded; what was loaded before stays.
    pub fn put(&mut self, name: &str, text: &str) -> Result<bool, LoadError> {
        if self.text(name) == Some(text) {
            return Ok(false);
        }
        let file = self.file(name)?;
        self.must_be_ours(name, &file)?;
        self.parse(name, "--replace", text)?;
        let partial = self.directory.join(format!(".{name}.partial"));
        let io = |what, path: &Path| {
            let path = path.to_owned();
            move |source| LoadError::Io { what, path, source }
        };
        fs::create_dir_all(&self.directory).map_err(io("make", &self.directory))?;
        fs::write(&partial, text).map_err(io("write", &partial))?;
        fs::rename(&partial, &file).map_err(io("write", &file))?;
        self.ours.insert(name.to_owned(), text.to_owned());
        Ok(true)
    }

    /// Unloads a profile of ours. Whoever runs in it is confined no more.
    ///
    /// # Errors
    ///
    /// When it is still loaded, or its file is still there.
    pub fn remove(&mut self, name: &str) -> Result<(), LoadError> {
        let Some(text) = self.ours.get(name) else {
            return Ok(());
        };
        if self.in_kernel().iter().any(|loaded| loaded == name) {
            // Only names count; what is inside is removed with it.
            let text = match text.as_str() {
                "" => format!("profile {name} {{\n}}\n"),
                text => text.to_owned(),
            };
            self.parse(name, "--remove", &text)?;
        }
        let file = self.file(name)?;
        match fs::remove_file(&file) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(LoadError::Io {
                    what: "remove",
                    path: file,
                    source,
                });
            }
            Ok(()) | Err(_) => {}
        }
        self.ours.remove(name);
        Ok(())
    }

    fn file(&self, name: &str) -> Result<PathBuf, LoadError> {
        if !is_name(name) {
            return Err(LoadError::Name(name.to_owned()));
        }
        Ok(self.directory.join(name))
    }

    fn must_be_ours(&self, name: &str, file: &Path) -> Result<(), LoadError> {
        let foreign = || LoadError::Foreign(name.to_owned());
        match fs::read_to_string(file) {
            Ok(text) if text.starts_with(MARKER) => Ok(()),
            Ok(_) => Err(foreign()),
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(foreign()),
            Err(_) if self.ours.contains_key(name) => Ok(()),
            Err(_) if self.in_kernel().iter().any(|loaded| loaded == name) => Err(foreign()),
            Err(_) => Ok(()),
        }
    }

    /// Names of the outer profiles that are loaded, whoever made them.
    fn in_kernel(&self) -> Vec<String> {
        let list = fs::read_to_string(&self.loaded).unwrap_or_default();
        let names = list.lines().filter_map(|line| line.rsplit_once(" ("));
        names.map(|(name, _mode)| name.to_owned()).collect()
    }

    fn parse(&self, name: &str, what: &str, text: &str) -> Result<(), LoadError> {
        let output = self.run(what, text).map_err(|source| LoadError::Io {
            what: "run",
            path: self.parser.clone(),
            source,
        })?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let mut lines: Vec<&str> = said.lines().filter(|line| !line.is_empty()).collect();
        lines.truncate(TOLD_LINES);
        let said = match lines.as_slice() {
            [] => output.status.to_string(),
            lines => lines.join("; "),
        };
        let name = name.to_owned();
        Err(LoadError::Refused { name, said })
    }

    fn run(&self, what: &str, text: &str) -> io::Result<Output> {
        #[expect(
            clippy::disallowed_methods,
            reason = "the kernel has no other compiler for profiles: docs/adr/0003-run-apparmor-parser.md"
        )]
        let mut child = Command::new(&self.parser)
            .args([what, "--skip-cache", "--quiet"])
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        // It may end before it has read everything, and then says why.
        let written = match child.stdin.take() {
            Some(mut stdin) => stdin.write_all(text.as_bytes()),
            None => Ok(()),
        };
        let output = child.wait_with_output()?;
        match written {
            Err(error) if output.status.success() => Err(error),
            Ok(()) | Err(_) => Ok(output),
        }
    }
}

/// Letters, digits and what names of containers have besides.
fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    let begins = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    begins && name.len() <= MOST_NAME && name.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const REFUSES: &str = "echo 'line 1: syntax error' >&2; exit 1";

    /// A machine whose parser does what a script says.
    fn machine(script: &str) -> (tempfile::TempDir, Loader) {
        let root = tempfile::tempdir().unwrap();
        let make = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        make("sys/kernel/security/lsm", "lockdown,yama,apparmor\n");
        make("sys/module/apparmor/parameters/enabled", "Y\n");
        make(
            "sys/kernel/security/apparmor/profiles",
            "docker-default (enforce)\nkubearmor_theirs (enforce)\n",
        );
        make("etc/apparmor.d/docker", "profile docker-default {\n}\n");
        let said = root.path().join("said");
        let script = format!(
            "#!/bin/sh\n{{ echo \"$@\"; cat; }} >>{}\n{script}\n",
            said.display()
        );
        make("sbin/apparmor_parser", &script);
        let parser = root.path().join("sbin/apparmor_parser");
        fs::set_permissions(parser, fs::Permissions::from_mode(0o755)).unwrap();
        let loader = Loader::detect(root.path()).unwrap();
        (root, loader)
    }

    fn text(what: &str) -> String {
        format!("{MARKER}\nprofile kubearmor_web {{ {what} }}\n")
    }

    #[test]
    fn a_profile_is_loaded_once_and_kept_in_a_file() {
        let (root, mut loader) = machine("");
        assert!(loader.put("kubearmor_web", &text("a")).unwrap());
        assert!(!loader.put("kubearmor_web", &text("a")).unwrap());
        assert!(loader.put("kubearmor_web", &text("b")).unwrap());
        let file = root.path().join("etc/apparmor.d/kubearmor_web");
        assert_eq!(fs::read_to_string(&file).unwrap(), text("b"));
        let said = fs::read_to_string(root.path().join("said")).unwrap();
        assert_eq!(
            said.matches("--replace --skip-cache --quiet").count(),
            2,
            "{said}"
        );
        loader.remove("kubearmor_web").unwrap();
        assert!(!file.exists());
    }

    #[test]
    fn what_the_parser_refuses_changes_nothing() {
        let (root, mut loader) = machine(REFUSES);
        let error = loader.put("kubearmor_web", &text("a")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`apparmor_parser` refuses profile `kubearmor_web`: line 1: syntax error"
        );
        assert!(!root.path().join("etc/apparmor.d/kubearmor_web").exists());
        assert_eq!(loader.text("kubearmor_web"), None);
    }

    #[test]
    fn what_is_not_ours_is_left_alone() {
        let (root, mut loader) = machine("");
        for foreign in ["docker", "kubearmor_theirs"] {
            let error = loader.put(foreign, &text("a")).unwrap_err();
            assert!(matches!(error, LoadError::Foreign(_)), "{error}");
            loader.remove(foreign).unwrap();
        }
        let theirs = fs::read_to_string(root.path().join("etc/apparmor.d/docker")).unwrap();
        assert_eq!(theirs, "profile docker-default {\n}\n");
        assert!(!root.path().join("said").exists());
    }

    #[test]
    fn names_are_names_of_files_without_meaning() {
        let (_root, mut loader) = machine("");
        for bad in ["", "../x", ".x", "a b", "a//b", "-x"] {
            let error = loader.put(bad, &text("a")).unwrap_err();
            assert!(matches!(error, LoadError::Name(_)), "{error}");
        }
    }

    #[test]
    fn a_profile_of_ours_that_is_not_loaded_is_loaded_again() {
        let (root, mut loader) = machine("");
        assert!(loader.put("kubearmor_web", &text("a")).unwrap());
        let mut next = Loader::detect(root.path()).unwrap();
        assert_eq!(next.names().collect::<Vec<_>>(), ["kubearmor_web"]);
        assert!(next.put("kubearmor_web", &text("a")).unwrap());
    }

    #[test]
    fn what_a_machine_lacks_is_said() {
        let (root, _loader) = machine("");
        let parser = root.path().join("sbin/apparmor_parser");
        fs::remove_file(parser).unwrap();
        assert!(matches!(Loader::detect(root.path()), Err(Missing::Parser)));
        let enabled = root.path().join("sys/module/apparmor/parameters/enabled");
        fs::write(enabled, "N\n").unwrap();
        assert!(matches!(Loader::detect(root.path()), Err(Missing::Off)));
        fs::write(root.path().join("sys/kernel/security/lsm"), "bpf\n").unwrap();
        assert!(matches!(
            Loader::detect(root.path()),
            Err(Missing::Module(_))
        ));
    }
}
