// SPDX-License-Identifier: Apache-2.0
//! `gorget sysdump`: an archive with what somebody who is to help needs to see.
//!
//! Everything that goes into it goes through [`secrets`]. What cannot be had is named in `missing.txt`
//! and keeps nothing else out: an archive of a machine whose agent is down is worth the most.

mod secrets;

use crate::agents::{Agents, unreachable};
use crate::cluster::tunnels::Reached;
use crate::logs::{self, Fields, Heard, Sorts};
use crate::probe;
use crate::version;
use anyhow::{Context as _, Result};
use clap::Args;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use gorget_telemetry::Client;
use secrets::Secrets;
use serde_json::json;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use tar::{Builder, Header};

/// Files of the machine, and their names in the archive.
const FILES: [(&str, &str); 8] = [
    ("proc/version", "kernel/version"),
    ("proc/cmdline", "kernel/cmdline"),
    ("proc/self/mounts", "kernel/mounts"),
    ("sys/kernel/security/lsm", "kernel/lsm"),
    ("sys/kernel/security/lockdown", "kernel/lockdown"),
    ("etc/os-release", "os-release"),
    ("etc/gorget/hook.json", "configuration/hook.json"),
    ("var/lib/gorget/hook-missed", "state/hook-missed"),
];
const CONFIGURATION: &str = "etc/gorget/gorget.yaml";
/// Directories of policies: those that people write, and those that clients applied.
const POLICIES: [(&str, &str); 2] = [
    ("etc/gorget/policies", "policies/directory"),
    ("var/lib/gorget/policies", "policies/applied"),
];
/// A larger file is none of these, or not for reading.
const MOST_FILE: u64 = 4 << 20;
/// Events that are taken, and how long after the last one the next is waited for.
const MOST_EVENTS: usize = 5_000;
const PATIENCE: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(10);
const RECENT: &str = "1h";

#[derive(Args)]
pub(crate) struct Arguments {
    /// The archive, which must not be there yet
    #[arg(
        short,
        long,
        value_name = "FILE",
        default_value = "gorget-sysdump.tar.gz"
    )]
    file: PathBuf,
    /// Configuration of the agent, if it is elsewhere
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Have nothing tried in the kernel
    #[arg(long)]
    only_read: bool,
    /// Directory of the system that is looked at
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    #[command(flatten)]
    agents: Agents,
}

/// An archive that is being written.
struct Archive {
    tar: Builder<GzEncoder<File>>,
    secrets: Secrets,
    missing: String,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let agents = &arguments.agents;
    agents.not_in_cluster("run it on the node, or in the agent's pod")?;
    let path = &arguments.file;
    let writing = || format!("cannot write `{}`", path.display());
    // For its owner only: it tells a lot about the machine.
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    let file = file.with_context(writing)?;
    let mut archive = Archive {
        tar: Builder::new(GzEncoder::new(file, Compression::default())),
        secrets: Secrets::new()?,
        missing: String::new(),
    };
    archive.fill(arguments).with_context(writing)?;
    let missing = std::mem::take(&mut archive.missing);
    archive
        .add("missing.txt", missing.as_bytes())
        .with_context(writing)?;
    let packed = archive.tar.into_inner().and_then(GzEncoder::finish);
    packed
        .and_then(|file| file.sync_all())
        .with_context(writing)?;
    writeln!(
        io::stdout(),
        "`{}` is written. What looks like a secret was removed; look through it before you hand it on.",
        path.display()
    )?;
    for line in missing.lines() {
        writeln!(io::stderr(), "gorget: not in it: {line}")?;
    }
    Ok(ExitCode::SUCCESS)
}

impl Archive {
    fn fill(&mut self, arguments: &Arguments) -> Result<()> {
        let root = arguments.root.as_path();
        self.add("version.json", version::json().as_bytes())?;
        let (text, json) = probe::machine(root, !arguments.only_read)?;
        self.add("probe.txt", text.as_bytes())?;
        self.add("probe.json", json.as_bytes())?;
        for (file, name) in FILES {
            self.file(name, &root.join(file))?;
        }
        let configuration = root.join(CONFIGURATION);
        let configuration = arguments.config.as_ref().unwrap_or(&configuration);
        self.file("configuration/gorget.yaml", configuration)?;
        self.kernel_configuration(root)?;
        for (directory, name) in POLICIES {
            self.directory(name, &root.join(directory))?;
        }
        self.agent(&arguments.agents)
    }

    fn add(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        let content = self.secrets.removed(content);
        let mut header = Header::new_gnu();
        header.set_size(u64::try_from(content.len()).unwrap_or(u64::MAX));
        header.set_mode(0o600);
        header.set_cksum();
        let name = format!("gorget-sysdump/{name}");
        self.tar.append_data(&mut header, name, content.as_slice())
    }

    fn lacks(&mut self, what: &str, why: &str) {
        self.missing.push_str(&format!("{what}: {why}\n"));
    }

    fn file(&mut self, name: &str, path: &Path) -> io::Result<()> {
        let mut content = Vec::new();
        let read = File::open(path).and_then(|file| file.take(MOST_FILE).read_to_end(&mut content));
        match read {
            Ok(_) => self.add(name, &content),
            Err(error) => {
                self.lacks(&path.display().to_string(), &error.to_string());
                Ok(())
            }
        }
    }

    fn kernel_configuration(&mut self, root: &Path) -> io::Result<()> {
        let mut content = Vec::new();
        let unpack = File::open(root.join("proc/config.gz")).and_then(|file| {
            GzDecoder::new(file)
                .take(MOST_FILE)
                .read_to_end(&mut content)
        });
        if unpack.is_ok() {
            return self.add("kernel/config", &content);
        }
        let release = rustix::system::uname()
            .release()
            .to_string_lossy()
            .into_owned();
        self.file(
            "kernel/config",
            &root.join(format!("boot/config-{release}")),
        )
    }

    fn directory(&mut self, name: &str, path: &Path) -> io::Result<()> {
        let entries = match fs::read_dir(path) {
            Ok(entries) => entries,
            Err(error) => {
                self.lacks(&path.display().to_string(), &error.to_string());
                return Ok(());
            }
        };
        let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        files.retain(|file| file.is_file());
        files.sort();
        for file in files {
            let last = file.file_name().unwrap_or_default().to_string_lossy();
            self.file(&format!("{name}/{last}"), &file)?;
        }
        Ok(())
    }

    /// What the agent says, and what happened lately.
    fn agent(&mut self, agents: &Agents) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let Reached { address, tls, .. } = agents.reach_one()?;
        let asked: Result<_, String> = runtime.block_on(async {
            let connected = Client::connect_to(&address, tls.as_deref()).await;
            let mut client = connected.map_err(|error| unreachable(&address, &error))?;
            Ok((client.status().await, client.policies().await))
        });
        let (status, policies) = match asked {
            Ok(answers) => answers,
            Err(why) => {
                self.lacks("what the agent says", &why);
                return Ok(());
            }
        };
        match status {
            Ok(status) => self.add("agent/status.json", &serde_json::to_vec_pretty(&status)?)?,
            Err(status) => self.lacks("agent/status.json", status.message()),
        }
        match policies {
            Ok(policies) => self.add(
                "agent/policies.json",
                &serde_json::to_vec_pretty(&policies)?,
            )?,
            Err(status) => self.lacks("agent/policies.json", status.message()),
        }
        let events = runtime.block_on(recent(agents))?;
        self.add("agent/events.jsonl", events.as_bytes())?;
        Ok(())
    }
}

/// Alerts and messages that the agent keeps, a line each.
async fn recent(agents: &Agents) -> Result<String> {
    let sorts = Sorts {
        alerts: true,
        logs: false,
        messages: true,
    };
    let following = logs::following(agents, &Fields::default(), sorts, Some(RECENT))?;
    let (mut agents, mut heard) = logs::start(following);
    let mut lines = String::new();
    let mut count = 0;
    let take = async {
        while count < MOST_EVENTS {
            match tokio::time::timeout(PATIENCE, heard.recv()).await {
                Ok(Some(Heard::Event(event))) => {
                    lines.push_str(&logs::json(&event)?);
                    lines.push('\n');
                    count += 1;
                }
                Ok(Some(Heard::Connected(_) | Heard::Said(_))) => {}
                Ok(Some(Heard::Failed(why))) => {
                    lines.push_str(&json!({ "failed": why }).to_string());
                    lines.push('\n');
                    break;
                }
                Ok(None) | Err(_) => break,
            }
        }
        Ok::<_, serde_json::Error>(())
    };
    // An agent that tells without end has told enough.
    if let Ok(taken) = tokio::time::timeout(LONGEST, take).await {
        taken?;
    }
    agents.shutdown().await;
    Ok(lines)
}
