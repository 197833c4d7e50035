// SPDX-License-Identifier: Apache-2.0
//! Which container runtimes are watched, as the configuration says it.

use gorget_containers::{Choice, Kind};
use serde::Deserialize;

/// What people call the kinds. Docker's containers are known through its containerd.
const NAMES: [(&str, Kind); 5] = [
    ("containerd", Kind::Containerd),
    ("docker", Kind::Containerd),
    ("podman", Kind::Podman),
    ("cri-o", Kind::Cri),
    ("crio", Kind::Cri),
];

/// `runtime` in the configuration: one word, several with commas between, or a list.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(crate) enum RuntimeSpec {
    Words(String),
    List(Vec<String>),
}

/// A runtime that is not known.
#[derive(Debug, thiserror::Error)]
#[error(
    "`runtime`: `{0}` is not known; allowed are `auto`, `none`, or a list of {kinds}, each alone or \
     as `NAME=SOCKET`",
    kinds = NAMES.map(|(name, _)| format!("`{name}`")).join(", ")
)]
pub(crate) struct UnknownRuntime(String);

/// The runtimes to watch. `containerd` is the older setting for containerd's socket alone: `auto`,
/// `none` or a path, which counts instead of what `runtimes` says of containerd.
pub(crate) fn choices(
    runtimes: Option<&RuntimeSpec>,
    containerd: Option<&str>,
) -> Result<Vec<Choice>, UnknownRuntime> {
    let mut choices = match runtimes {
        None => anything(),
        Some(RuntimeSpec::Words(text)) => listed(text.split(','))?,
        Some(RuntimeSpec::List(list)) => listed(list.iter().map(String::as_str))?,
    };
    let containerd = containerd.unwrap_or("auto");
    if containerd != "auto" && !containerd.is_empty() {
        choices.retain(|choice| choice.kind != Kind::Containerd);
        if containerd != "none" {
            choices.push(Choice::at(Kind::Containerd, path(containerd)));
        }
    }
    Ok(choices)
}

fn listed<'a>(words: impl Iterator<Item = &'a str>) -> Result<Vec<Choice>, UnknownRuntime> {
    let words: Vec<_> = words.map(str::trim).collect();
    match words.as_slice() {
        [] | ["" | "auto"] => Ok(anything()),
        ["none"] => Ok(Vec::new()),
        several => several.iter().map(|word| one(word)).collect(),
    }
}

fn one(word: &str) -> Result<Choice, UnknownRuntime> {
    let (name, socket) = match word.split_once('=') {
        Some((name, socket)) => (name, Some(path(socket).into())),
        None => (word, None),
    };
    let known = NAMES.iter().find(|(known, _)| *known == name);
    let is_socket = socket.as_deref().is_none_or(std::path::Path::is_absolute);
    match known {
        Some((_, kind)) if is_socket => Ok(Choice {
            kind: *kind,
            socket,
        }),
        Some(_) | None => Err(UnknownRuntime(word.to_owned())),
    }
}

fn path(socket: &str) -> &str {
    socket.strip_prefix("unix://").unwrap_or(socket)
}

fn anything() -> Vec<Choice> {
    Kind::ALL.map(Choice::anywhere).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Result<Vec<Choice>, UnknownRuntime> {
        choices(Some(&RuntimeSpec::Words(text.to_owned())), None)
    }

    #[test]
    fn every_runtime_is_watched_unless_said_otherwise() {
        assert_eq!(choices(None, None).unwrap(), anything());
        assert_eq!(words("auto").unwrap(), anything());
        assert_eq!(words("none").unwrap(), []);
    }

    #[test]
    fn runtimes_are_named_with_and_without_a_socket() {
        let expected = [
            Choice::anywhere(Kind::Containerd),
            Choice::at(Kind::Podman, "/run/podman/podman.sock"),
        ];
        let text = "docker, podman=unix:///run/podman/podman.sock";
        assert_eq!(words(text).unwrap(), expected);
        let list = text.split(", ").map(str::to_owned).collect();
        assert_eq!(
            choices(Some(&RuntimeSpec::List(list)), None).unwrap(),
            expected
        );
    }

    #[test]
    fn the_socket_of_containerd_replaces_what_is_said_of_containerd() {
        let podman = Choice::anywhere(Kind::Podman);
        let replaced = |socket| {
            let mut choices = choices(None, Some(socket)).unwrap();
            choices.retain(|choice| choice.kind == Kind::Containerd || *choice == podman);
            choices
        };
        assert_eq!(replaced("none"), std::slice::from_ref(&podman));
        let here = Choice::at(Kind::Containerd, "/x.sock");
        assert_eq!(replaced("unix:///x.sock"), [podman.clone(), here]);
        assert_eq!(choices(None, Some("auto")).unwrap(), anything());
    }

    #[test]
    fn a_runtime_that_is_not_known_is_named_with_what_is_allowed() {
        for bad in ["rkt", "podman=relative", "podman,auto", "containerd,"] {
            let error = words(bad).unwrap_err().to_string();
            assert!(error.contains("`podman`"), "{error}");
        }
        assert!(words("rkt").unwrap_err().to_string().contains("`rkt`"));
    }
}
