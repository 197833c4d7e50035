// SPDX-License-Identifier: Apache-2.0
//! For container managers without a directory of hooks: called by the name of a runtime (`runc`), adds
//! the hook to the bundle of a container that is created, and becomes the runtime of that name.
//!
//! The runtime is the next program of that name in `PATH` that is not this one. Everything else passes
//! through: arguments, descriptors, environment.

use super::Settings;
use super::program::{fail, unprotected};
use crate::bundle::{self, BundleError, CONFIG, LARGEST_CONFIG};
use gorget_model::with_causes;
use serde_json::{Map, Value, json};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Commands that create a container from a bundle.
const CREATING: [&str; 3] = ["create", "run", "restore"];
/// Options before the command whose value is the next argument (runc, crun).
const GLOBAL_WITH_VALUE: [&str; 6] = [
    "--root",
    "--log",
    "--log-format",
    "--log-level",
    "--criu",
    "--rootless",
];
const STAGES: [&str; 2] = ["createRuntime", "poststop"];

/// The hook cannot be added to a bundle.
#[derive(Debug, thiserror::Error)]
pub(super) enum AddError {
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error("`{}`: `{what}` is not {expected}", .path.display())]
    Shape {
        path: PathBuf,
        what: &'static str,
        expected: &'static str,
    },
    #[error("cannot write `{}`", .path.display())]
    Write { path: PathBuf, source: io::Error },
}

pub(super) fn become_it(name: &OsStr, arguments: &[OsString], settings: &Settings) -> ExitCode {
    let own = match fs::read_link("/proc/self/exe") {
        Ok(own) => own,
        Err(error) => return fail(&format!("cannot find out which program this is: {error}")),
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let Some(runtime) = find(name, &path, &own) else {
        let (name, path) = (name.display(), path.display());
        return fail(&format!("there is no other `{name}` in PATH={path}"));
    };
    if let Some(created) = creation(arguments)
        && let Err(error) = add(&created.bundle.join(CONFIG), &own)
    {
        let reason = format!("the hook cannot be added: {}", with_causes(&error));
        let code = unprotected(settings, &created.id, &reason);
        if code != ExitCode::SUCCESS {
            return code;
        }
    }
    #[expect(
        clippy::disallowed_methods,
        reason = "it becomes the runtime, it waits for nothing"
    )]
    let error = Command::new(&runtime).arg0(name).args(arguments).exec();
    fail(&format!("cannot run `{}`: {error}", runtime.display()))
}

/// The first program of this name in `path` that is not `own`.
fn find(name: &OsStr, path: &OsStr, own: &Path) -> Option<PathBuf> {
    let identity = |path: &Path| fs::metadata(path).map(|file| (file.dev(), file.ino())).ok();
    let own = identity(own);
    std::env::split_paths(path)
        .map(|directory| directory.join(name))
        .find(|program| program.is_file() && identity(program) != own)
}

#[derive(Debug, PartialEq, Eq)]
struct Creation {
    bundle: PathBuf,
    id: String,
}

/// Which container the command creates, if any, and from where.
fn creation(arguments: &[OsString]) -> Option<Creation> {
    let mut words = arguments.iter();
    let command = loop {
        let word = words.next()?.to_str()?;
        if GLOBAL_WITH_VALUE.contains(&word) {
            words.next();
        } else if !word.starts_with('-') {
            break word;
        }
    };
    if !CREATING.contains(&command) {
        return None;
    }
    let mut bundle = PathBuf::from(".");
    let mut id = String::new();
    while let Some(word) = words.next() {
        let text = word.to_string_lossy();
        let value = text
            .strip_prefix("--bundle=")
            .or_else(|| text.strip_prefix("-b="));
        if let Some(value) = value {
            bundle = value.into();
        } else if ["--bundle", "-b", "-bundle"].contains(&text.as_ref()) {
            bundle = words.next()?.into();
        }
        // The id comes last.
        id = text.into_owned();
    }
    Some(Creation { bundle, id })
}

/// Adds the hook `own` to both stages of a configuration, where it is not there yet.
fn add(file: &Path, own: &Path) -> Result<(), AddError> {
    let what = format!("`{}`", file.display());
    let opened = File::open(file).map_err(|source| BundleError::Read {
        what: what.clone(),
        source,
    })?;
    let mode = opened.metadata().map_or(0o600, |metadata| metadata.mode());
    let bytes = bundle::read(opened, LARGEST_CONFIG, &what)?;
    let mut config: Value = bundle::parse(&bytes, &what)?;
    let shape = |what, expected| AddError::Shape {
        path: file.to_owned(),
        what,
        expected,
    };
    let top = config
        .as_object_mut()
        .ok_or_else(|| shape("the top", "an object"))?;
    let hooks = entry(top, "hooks", json!({}));
    let hooks = hooks
        .as_object_mut()
        .ok_or_else(|| shape("hooks", "an object"))?;
    for stage in STAGES {
        let list = entry(hooks, stage, json!([]));
        let list = list.as_array_mut().ok_or_else(|| shape(stage, "a list"))?;
        let own = own.to_string_lossy();
        if list
            .iter()
            .all(|hook| hook.get("path") != Some(&json!(own)))
        {
            list.push(json!({ "path": own, "args": ["gorget-hook", stage] }));
        }
    }
    let text = config.to_string();
    replace(file, mode, text.as_bytes()).map_err(|source| AddError::Write {
        path: file.to_owned(),
        source,
    })
}

/// The value of a key; one that is missing or null becomes `empty`.
fn entry<'a>(map: &'a mut Map<String, Value>, key: &str, empty: Value) -> &'a mut Value {
    let value = map.entry(key).or_insert(Value::Null);
    if value.is_null() {
        *value = empty;
    }
    value
}

/// Nobody sees half of it.
fn replace(file: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    let beside = file.with_extension("json.gorget");
    let mut written = File::create(&beside)?;
    written.set_permissions(Permissions::from_mode(mode & 0o7777))?;
    written.write_all(content)?;
    fs::rename(&beside, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn the_bundle_is_found_as_managers_give_it() {
        let containerd = "--root /run/containerd/runc/default --log /b/log.json --log-format json \
                          create --bundle /b --pid-file /b/init.pid web";
        let conmon = "--systemd-cgroup --log-level=warn create --bundle=/c --pid-file /p web";
        for (line, bundle) in [
            (containerd, Some("/b")),
            (conmon, Some("/c")),
            ("run -b /d web", Some("/d")),
            ("create web", Some(".")),
            ("--root create start web", None),
            ("start web", None),
            ("--version", None),
            ("", None),
        ] {
            let found = creation(&words(line));
            assert_eq!(
                found.as_ref().map(|c| c.bundle.as_path()),
                bundle.map(Path::new),
                "{line}"
            );
            assert!(found.is_none_or(|c| c.id == "web"), "{line}");
        }
    }

    #[test]
    fn the_hook_is_added_once_and_everything_else_stays() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(CONFIG);
        let before = r#"{"ociVersion":"1.0.2","linux":{"resources":{"memory":{"limit":-1},
            "cpu":{"quota":18446744073709551615}}},"hooks":{"createRuntime":null,
            "prestart":[{"path":"/other"}],"poststop":[{"path":"/other"}]}}"#;
        fs::write(&file, before).unwrap();
        let own = Path::new("/usr/bin/gorget-hook");
        add(&file, own).unwrap();
        add(&file, own).unwrap();
        let after: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        let expected: Value = serde_json::from_str(
            &before
                .replace(
                    r#""createRuntime":null"#,
                    r#""createRuntime":[{"path":"/usr/bin/gorget-hook","args":["gorget-hook","createRuntime"]}]"#,
                )
                .replace(
                    r#""poststop":[{"path":"/other"}"#,
                    r#""poststop":[{"path":"/other"},{"path":"/usr/bin/gorget-hook","args":["gorget-hook","poststop"]}"#,
                ),
        )
        .unwrap();
        assert_eq!(after, expected);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_configuration_that_cannot_be_understood_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(CONFIG);
        for bad in ["", "[]", r#"{"hooks":[]}"#, r#"{"hooks":{"poststop":{}}}"#] {
            fs::write(&file, bad).unwrap();
            let error = add(&file, Path::new("/h")).unwrap_err();
            assert!(with_causes(&error).contains("config.json"), "{error}");
            assert_eq!(fs::read_to_string(&file).unwrap(), bad);
        }
    }

    #[test]
    fn the_runtime_is_the_next_of_its_name_that_is_another_program() {
        let dir = tempfile::tempdir().unwrap();
        let [ours, theirs] = ["ours", "theirs"].map(|name| dir.path().join(name));
        for dir in [&ours, &theirs] {
            fs::create_dir(dir).unwrap();
        }
        let own = dir.path().join("gorget-hook");
        fs::write(&own, "hook").unwrap();
        std::os::unix::fs::symlink(&own, ours.join("runc")).unwrap();
        let path = std::env::join_paths([&ours, &theirs]).unwrap();
        assert_eq!(find(OsStr::new("runc"), &path, &own), None);
        fs::write(theirs.join("runc"), "runtime").unwrap();
        let found = find(OsStr::new("runc"), &path, &own);
        assert_eq!(found, Some(theirs.join("runc")));
    }
}
