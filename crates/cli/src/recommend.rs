// SPDX-License-Identifier: Apache-2.0
//! `gorget recommend`: the policies of `policies/recommended/`, which are in the program.
//!
//! Without names it lists them; with names it prints their text, comments included, with the selector
//! filled in. What is filled in is read again before it is given out, so that a name or a label that makes
//! no policy is an error here and not on the machine that it was meant for.
//!
//! Nothing is asked of an agent or a cluster: what fits an image or a workload is for people to say.

mod selector;
mod set;

use crate::policy::Form;
use crate::render::{self, Painter, Style};
use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use gorget_policy::Kind;
use selector::Wanted;
use serde::Serialize;
use set::{Recommended, all};
use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Args)]
pub(crate) struct Arguments {
    /// Print these policies; without names they are listed
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Only policies with one of these tags
    #[arg(
        short,
        long,
        value_name = "TAG",
        value_delimiter = ',',
        conflicts_with = "names"
    )]
    tag: Vec<String>,
    /// For containers of this namespace
    #[arg(short, long)]
    namespace: Option<String>,
    /// For containers with all of these labels; of policies for machines, for nodes that have them
    #[arg(short, long, value_name = "KEY=VALUE", value_delimiter = ',')]
    labels: Vec<String>,
    /// Write a file for each to this directory, which is made; without names all, but those for
    /// machines when a namespace or labels are given
    #[arg(long, value_name = "DIR")]
    write_to: Option<PathBuf>,
    #[command(flatten)]
    form: Form,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let Arguments {
        names,
        tag,
        namespace,
        labels,
        write_to,
        form,
    } = arguments;
    let wanted = Wanted::new(namespace.as_deref(), labels)?;
    let all = all()?;
    let mut chosen = if names.is_empty() {
        tagged(&all, tag)?
    } else {
        named(&all, names)?
    };
    if names.is_empty() {
        if write_to.is_none() {
            ensure!(
                wanted.is_everything(),
                "nothing is printed that a namespace or labels could be filled in: name policies \
                 (`gorget recommend` lists them), or have all written with `--write-to DIR`"
            );
            list(form, &chosen)?;
            return Ok(ExitCode::SUCCESS);
        }
        if !wanted.is_everything() {
            leave_machines_out(&mut chosen)?;
        }
    }
    let mut texts = Vec::new();
    for policy in &chosen {
        texts.push((policy.name, wanted.filled_in(policy)?));
    }
    match write_to {
        Some(directory) => write(directory, &texts)?,
        None => {
            let documents: Vec<_> = texts.iter().map(|(_, text)| text.as_str()).collect();
            let json = || documents_as_json(&texts);
            form.print(|_plain| documents.join("---\n"), json)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Those that are named, once each, in the order that they are named.
fn named<'a>(all: &'a [Recommended], names: &[String]) -> Result<Vec<&'a Recommended>> {
    let mut chosen: Vec<&Recommended> = Vec::new();
    for name in names {
        let found = all.iter().find(|policy| policy.name == name);
        let policy = found.with_context(|| {
            format!("there is no recommended policy `{name}`; `gorget recommend` lists all")
        })?;
        if !chosen.iter().any(|other| other.name == policy.name) {
            chosen.push(policy);
        }
    }
    Ok(chosen)
}

fn tagged<'a>(all: &'a [Recommended], tags: &[String]) -> Result<Vec<&'a Recommended>> {
    let known: BTreeSet<&str> = all
        .iter()
        .flat_map(|p| p.tags().iter().map(String::as_str))
        .collect();
    for tag in tags {
        if !known.contains(tag.as_str()) {
            let known: Vec<_> = known.iter().map(|tag| format!("`{tag}`")).collect();
            bail!(
                "no recommended policy has the tag `{tag}`; there are {}",
                known.join(", ")
            );
        }
    }
    let has = |policy: &&Recommended| {
        tags.is_empty() || policy.tags().iter().any(|tag| tags.contains(tag))
    };
    Ok(all.iter().filter(has).collect())
}

/// A namespace and labels are of containers when nobody named a policy for machines.
fn leave_machines_out(chosen: &mut Vec<&Recommended>) -> Result<()> {
    let machines: Vec<_> = chosen
        .iter()
        .filter(|policy| policy.kind() == Kind::Host)
        .map(|policy| format!("`{}`", policy.name))
        .collect();
    chosen.retain(|policy| policy.kind() != Kind::Host);
    if !machines.is_empty() {
        writeln!(
            io::stderr(),
            "gorget: left out, because they are for machines: {}; name them to have them",
            machines.join(", ")
        )?;
    }
    Ok(())
}

/// A line of the list.
#[derive(Serialize)]
struct Line<'a> {
    name: &'a str,
    kind: &'static str,
    severity: u8,
    /// The strictest.
    action: &'static str,
    tags: &'a [String],
    summary: &'a str,
}

impl<'a> Line<'a> {
    fn of(policy: &'a Recommended) -> Self {
        Self {
            name: policy.name,
            kind: policy.kind().name(),
            severity: policy.severity(),
            action: policy.action(),
            tags: policy.tags(),
            summary: policy.summary(),
        }
    }
}

fn list(form: &Form, chosen: &[&Recommended]) -> Result<()> {
    let lines: Vec<_> = chosen.iter().map(|policy| Line::of(policy)).collect();
    form.print(|painter| table(painter, &lines), || &lines)
}

fn table(painter: Painter, lines: &[Line<'_>]) -> String {
    let name = lines.iter().map(|line| line.name.len()).max();
    let name = name.unwrap_or(0);
    let mut text = String::new();
    for line in lines {
        let padded = format!("{:name$}", line.name);
        let shown = painter.paint(Style::Strong, &padded);
        let (severity, action, summary) = (line.severity, line.action, line.summary);
        text.push_str(&format!("{shown}  {severity:>2}  {action:5}  {summary}\n"));
    }
    text
}

#[derive(Serialize)]
struct Document<'a> {
    name: &'a str,
    text: &'a str,
}

fn documents_as_json<'a>(texts: &'a [(&str, String)]) -> Vec<Document<'a>> {
    let document = |(name, text): &'a (&str, String)| Document { name, text };
    texts.iter().map(document).collect()
}

/// A file that is there and has another text is somebody's work, and stays.
fn write(directory: &Path, texts: &[(&str, String)]) -> Result<()> {
    fs::create_dir_all(directory)
        .with_context(|| format!("cannot make the directory `{}`", directory.display()))?;
    let mut said = String::new();
    for (name, text) in texts {
        let path = directory.join(format!("{name}.yaml"));
        let shown = path.display();
        let opened = OpenOptions::new().write(true).create_new(true).open(&path);
        match opened {
            Ok(mut file) => {
                let written = file.write_all(text.as_bytes());
                written.with_context(|| format!("cannot write `{shown}`"))?;
                said.push_str(&format!("`{shown}` is written\n"));
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let there =
                    fs::read_to_string(&path).with_context(|| format!("cannot read `{shown}`"))?;
                ensure!(
                    there == *text,
                    "`{shown}` is there already with another text; move it away, or name another \
                     directory"
                );
                said.push_str(&format!("`{shown}` is there already\n"));
            }
            Err(error) => {
                return Err(error).with_context(|| format!("cannot write `{shown}`"));
            }
        }
    }
    render::print(&said).context("cannot write the result")
}
