// SPDX-License-Identifier: Apache-2.0
//! Docker and containerd: a `runc` that adds the hook, first in the `PATH` of their services.
//!
//! containerd's shim, which both use, looks `runc` up in its `PATH`. So a file for systemd beside those
//! of the services is enough for all of containerd's clients and all containers, those that exist
//! already too, and no file of Docker or containerd needs to be edited. Where that would not work,
//! nothing is written, and what to do by hand is said.

use super::{Wrapped, below, remove, write};
use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// Where the `runc` is that adds the hook.
const DIRECTORY: &str = "/usr/libexec/gorget";
const NAME: &str = "runc";
const UNITS: &str = "/etc/systemd/system";
/// systemd.exec(5), for services of the system, and where Debian has what is older.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Where units come from, besides [`UNITS`].
const SHIPPED: [&str; 2] = ["/usr/lib/systemd/system", "/lib/systemd/system"];
/// Read by Debian's units, and stronger than what units say.
const DEFAULTS: &str = "/etc/default";

/// What starts containers.
#[derive(Clone, Copy)]
pub(super) struct Manager {
    name: &'static str,
    /// Its services: which of them starts the shim depends on the configuration.
    services: &'static [&'static str],
    restart: &'static str,
}

pub(super) const DOCKER: Manager = Manager {
    name: "docker",
    services: &["docker", "containerd"],
    restart: "systemctl daemon-reload && systemctl restart containerd docker; unless Docker has \
              `live-restore`, that restarts its containers",
};

pub(super) const CONTAINERD: Manager = Manager {
    name: "containerd",
    services: &["containerd"],
    restart: "systemctl daemon-reload && systemctl restart containerd; containers run on",
};

const MANAGERS: [Manager; 2] = [DOCKER, CONTAINERD];

impl Manager {
    fn text(self) -> String {
        let name = self.name;
        format!(
            "# Written by `gorget hook install {name}`, removed by `gorget hook uninstall {name}`.\n\
             [Service]\nEnvironment=PATH={DIRECTORY}:{PATH}\n"
        )
    }

    fn files(self, root: &Path) -> Vec<PathBuf> {
        let name = self.name;
        let file = |service| format!("{UNITS}/{service}.service.d/gorget-hook-{name}.conf");
        self.services
            .iter()
            .map(|service| below(root, &file(service)))
            .collect()
    }
}

pub(super) fn install(root: &Path, hook: &Path, manager: Manager) -> Result<String> {
    let by_hand = format!(
        "by hand: link `{DIRECTORY}/{NAME}` to `{}`, and have `{DIRECTORY}` first in the PATH of what \
         starts {}",
        hook.display(),
        manager.services.join(" and ")
    );
    if let Some(obstacle) = obstacle(root, manager)? {
        bail!("nothing was changed: {obstacle}; {by_hand}");
    }
    let link = below(root, DIRECTORY).join(NAME);
    let mut changed = place(&link, hook)?;
    for file in manager.files(root) {
        changed |= write(&file, &manager.text())?;
    }
    Ok(match changed {
        true => format!("installed; to have it take effect: {}", manager.restart),
        false => "it was installed already".to_owned(),
    })
}

pub(super) fn uninstall(root: &Path, manager: Manager) -> Result<String> {
    let files = manager.files(root);
    let there: Vec<_> = files.iter().filter(|file| file.exists()).collect();
    for file in &there {
        let text = fs::read_to_string(file)
            .with_context(|| format!("cannot read `{}`", file.display()))?;
        if text != manager.text() {
            bail!(
                "nothing was changed: `{}` was changed since it was installed; look at it, and remove \
                 it by hand",
                file.display()
            );
        }
    }
    if there.is_empty() {
        return Ok("nothing is installed".to_owned());
    }
    for file in there {
        remove(file, &below(root, UNITS))?;
    }
    let others = MANAGERS.iter().flat_map(|other| other.files(root));
    let link = below(root, DIRECTORY).join(NAME);
    // A service that was not restarted yet looks here first, and finds the next one then.
    if !others.into_iter().any(|file| file.exists()) && fs::read_link(&link).is_ok() {
        remove(&link, &below(root, "/usr"))?;
    }
    Ok(format!(
        "removed; to have it take effect: {}",
        manager.restart
    ))
}

/// Whether it is installed, or could be.
pub(super) fn wrapped(root: &Path, manager: Manager) -> Wrapped {
    let files = manager.files(root);
    let link = below(root, DIRECTORY).join(NAME);
    if files.iter().all(|file| file.exists()) && fs::read_link(link).is_ok() {
        return Wrapped::Yes;
    }
    match obstacle(root, manager) {
        Ok(None) => Wrapped::Possible,
        Ok(Some(why)) => Wrapped::Not(why),
        Err(error) => Wrapped::Not(format!("{error:#}")),
    }
}

/// Links to the hook, and says whether that changed anything.
fn place(link: &Path, hook: &Path) -> Result<bool> {
    let doing = || format!("cannot link `{}` to the hook", link.display());
    match fs::read_link(link) {
        Ok(there) if there == hook => return Ok(false),
        Ok(_) => fs::remove_file(link).with_context(doing)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(_) => bail!(
            "nothing was changed: `{}` is there and no link",
            link.display()
        ),
    }
    if let Some(dir) = link.parent() {
        fs::create_dir_all(dir).with_context(doing)?;
    }
    symlink(hook, link).with_context(doing)?;
    Ok(true)
}

/// Why a `PATH` from a file for systemd would not do.
fn obstacle(root: &Path, manager: Manager) -> Result<Option<String>> {
    if !below(root, "/run/systemd/system").is_dir() {
        return Ok(Some("systemd does not run here".to_owned()));
    }
    let ours = manager.files(root);
    for service in manager.services {
        let mut files = vec![below(root, DEFAULTS).join(service)];
        for dir in [UNITS].into_iter().chain(SHIPPED) {
            let unit = below(root, dir).join(format!("{service}.service"));
            let beside = below(root, dir).join(format!("{service}.service.d"));
            let entries = fs::read_dir(beside).ok().into_iter().flatten().flatten();
            files.push(unit);
            files.extend(entries.map(|entry| entry.path()));
        }
        files.retain(|file| !is_ours(file) && !ours.contains(file));
        for file in files {
            if sets_path(&fs::read_to_string(&file).unwrap_or_default()) {
                return Ok(Some(format!("`{}` sets PATH itself", file.display())));
            }
        }
    }
    let configuration = below(root, "/etc/containerd/config.toml");
    let text = fs::read_to_string(&configuration).unwrap_or_default();
    if let Some(line) = text.lines().find(|line| names_a_directory(line)) {
        return Ok(Some(format!(
            "`{}` has `{}`, which is not looked up in PATH",
            configuration.display(),
            line.trim()
        )));
    }
    if manager.name != DOCKER.name {
        return Ok(None);
    }
    let configuration = below(root, "/etc/docker/daemon.json");
    let text = match fs::read_to_string(&configuration) {
        Ok(text) if !text.trim().is_empty() => text,
        _ => return Ok(None),
    };
    let daemon: Value = serde_json::from_str(&text)
        .with_context(|| format!("nothing was changed: `{}`", configuration.display()))?;
    let default = daemon.get("default-runtime").and_then(Value::as_str);
    Ok(default.filter(|default| *default != NAME).map(|default| {
        let file = configuration.display();
        format!("`{file}` has the default runtime `{default}`, and this is for `{NAME}`")
    }))
}

fn is_ours(file: &Path) -> bool {
    let name = file.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.starts_with("gorget-hook-"))
}

/// Whether a unit or a file of variables sets `PATH`.
fn sets_path(text: &str) -> bool {
    text.lines().map(str::trim).any(|line| {
        let value = line.strip_prefix("Environment=").unwrap_or(line);
        let value = value.strip_prefix("export ").unwrap_or(value);
        let words = value
            .split_whitespace()
            .map(|word| word.trim_start_matches(['"', '\'']));
        !line.starts_with('#') && words.into_iter().any(|word| word.starts_with("PATH="))
    })
}

/// `BinaryName = "/somewhere/runc"`, in containerd's configuration.
fn names_a_directory(line: &str) -> bool {
    let line = line.trim();
    line.strip_prefix("BinaryName")
        .is_some_and(|rest| rest.contains('/'))
}
