// SPDX-License-Identifier: Apache-2.0
//! A file in the directory of hooks that Podman and CRI-O read (oci-hooks(5)).

use super::{below, remove, write};
use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use std::fs;
use std::io;
use std::path::Path;

/// The one that both read unless they are configured otherwise.
const DIRECTORY: &str = "/usr/share/containers/oci/hooks.d";
const FILE: &str = "/usr/share/containers/oci/hooks.d/50-gorget.json";

pub(super) fn install(root: &Path, hook: &Path) -> Result<String> {
    let file = below(root, FILE);
    if let Some(there) = read(&file)?
        && !is_ours(&there)
    {
        bail!(
            "`{}` is there and was not written by `gorget hook install`: look at it, and remove or \
             rename it",
            file.display()
        );
    }
    let content = json!({
        "version": "1.0.0",
        "hook": { "path": hook, "args": ["gorget-hook"] },
        "when": { "always": true },
        "stages": ["createRuntime", "poststop"],
    });
    let said = match write(&file, &format!("{content:#}\n"))? {
        true => "written",
        false => "it was there already",
    };
    Ok(format!(
        "`{}`: {said}; it holds for containers that are started from now on, Podman's and CRI-O's",
        file.display()
    ))
}

pub(super) fn uninstall(root: &Path) -> Result<String> {
    let file = below(root, FILE);
    match read(&file)? {
        None => Ok(format!("nothing is installed in `{DIRECTORY}`")),
        Some(there) if is_ours(&there) => {
            remove(&file, &below(root, "/usr/share"))?;
            Ok(format!("`{}`: removed", file.display()))
        }
        Some(_) => bail!(
            "`{}` was not written by `gorget hook install`: remove it by hand if it is not needed",
            file.display()
        ),
    }
}

pub(super) fn is_installed(root: &Path) -> bool {
    let there = read(&below(root, FILE)).unwrap_or_default();
    there.is_some_and(|there| is_ours(&there))
}

fn read(file: &Path) -> Result<Option<String>> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read `{}`", file.display())),
    }
}

fn is_ours(text: &str) -> bool {
    let file: Value = serde_json::from_str(text).unwrap_or_default();
    file.pointer("/hook/args") == Some(&json!(["gorget-hook"]))
}
