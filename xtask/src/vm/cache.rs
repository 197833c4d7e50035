// SPDX-License-Identifier: Apache-2.0
//! Where built images are kept between runs.
//!
//! An entry is a directory named after what it holds and a digest of all that
//! determines its content, so it never has to be brought up to date: another
//! recipe is another entry. An entry is built beside its final place and renamed
//! when complete; a lock file makes concurrent runs wait for the one that builds.
//! What an interrupted build left is removed by the next one.

use crate::command;
use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};
use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// How much of the digest is in a name; enough that two recipes never share one.
const DIGITS: usize = 16;

/// The entry `name` for the recipe; `build` fills the directory it is given if there is none.
pub(crate) fn entry(
    name: &str,
    announce: &str,
    recipe: &[&str],
    build: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    entry_in(
        &directory(|variable| env::var_os(variable))?,
        name,
        announce,
        recipe,
        build,
    )
}

pub(crate) fn now() -> Instant {
    #[expect(
        clippy::disallowed_methods,
        reason = "INVARIANT: the rule is for the agent; tasks measure and limit real time"
    )]
    Instant::now()
}

/// The lowercase hexadecimal SHA-256 of some bytes.
pub(crate) fn hex_digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn entry_in(
    directory: &Path,
    name: &str,
    announce: &str,
    recipe: &[&str],
    build: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let key = key(recipe);
    let place = directory.join(format!("{name}-{key}"));
    if place.is_dir() {
        return Ok(place);
    }
    fs::create_dir_all(directory)
        .with_context(|| format!("cannot create `{}`", directory.display()))?;
    let lock = File::create(directory.join(format!("{name}.lock")))?;
    lock.lock().context("cannot lock the cache")?;
    if place.is_dir() {
        return Ok(place);
    }
    let began = now();
    let mut stderr = std::io::stderr();
    writeln!(stderr, "{announce} ...")?;
    let partial = directory.join(format!("{name}-{key}.partial"));
    if partial.exists() {
        command::run(command::as_root("rm")?.arg("-rf").arg(&partial))?;
    }
    fs::create_dir(&partial)?;
    build(&partial).with_context(|| format!("{announce} failed"))?;
    fs::rename(&partial, &place)?;
    writeln!(
        stderr,
        "{announce}: done in {} s",
        began.elapsed().as_secs()
    )?;
    Ok(place)
}

fn directory(variable: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf> {
    let set = |name: &str| {
        variable(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    set("GORGET_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|cache| cache.join("gorget")))
        .or_else(|| set("HOME").map(|home| home.join(".cache/gorget")))
        .context("set `GORGET_CACHE` to a directory for built images; `HOME` is not set either")
}

fn key(recipe: &[&str]) -> String {
    let mut digest = Sha256::new();
    for part in recipe {
        // The length keeps parts apart: moving text from one to the next is a change.
        digest.update(part.len().to_le_bytes());
        digest.update(part);
    }
    let bytes = digest.finalize();
    bytes
        .iter()
        .take(DIGITS / 2)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_changes_with_each_part_and_its_bounds() {
        let one = key(&["ab", "c"]);
        assert_eq!(one, key(&["ab", "c"]));
        assert_eq!(one.len(), DIGITS);
        assert_ne!(one, key(&["a", "bc"]));
        assert_ne!(one, key(&["ab", "d"]));
    }

    #[test]
    fn the_first_variable_that_is_set_decides_the_directory() {
        let of = |set: &'static [(&str, &str)]| {
            directory(|name| {
                set.iter()
                    .find(|(known, _)| *known == name)
                    .map(|(_, v)| v.into())
            })
        };
        assert_eq!(
            of(&[("GORGET_CACHE", "/c"), ("HOME", "/h")]).unwrap(),
            Path::new("/c")
        );
        assert_eq!(
            of(&[("GORGET_CACHE", ""), ("XDG_CACHE_HOME", "/x")]).unwrap(),
            Path::new("/x/gorget")
        );
        assert_eq!(
            of(&[("HOME", "/h")]).unwrap(),
            Path::new("/h/.cache/gorget")
        );
        assert!(of(&[]).is_err());
    }

    #[test]
    fn an_entry_is_built_once() {
        let cache = tempfile::tempdir().unwrap();
        let make = |text: &'static str| {
            entry_in(cache.path(), "thing", "making", &["recipe"], move |place| {
                Ok(fs::write(place.join("file"), text)?)
            })
        };
        let first = make("one").unwrap();
        assert_eq!(make("two").unwrap(), first);
        assert_eq!(fs::read_to_string(first.join("file")).unwrap(), "one");
    }

    #[test]
    fn a_failed_build_leaves_no_entry_and_does_not_hinder_the_next() {
        let cache = tempfile::tempdir().unwrap();
        let failed = entry_in(cache.path(), "thing", "making", &["r"], |place| {
            fs::write(place.join("rest"), "")?;
            anyhow::bail!("no luck")
        });
        assert!(failed.is_err());
        let built = entry_in(cache.path(), "thing", "making", &["r"], |_| Ok(())).unwrap();
        assert_eq!(fs::read_dir(built).unwrap().count(), 0);
    }
}
