// SPDX-License-Identifier: Apache-2.0
//! `gorget install` and `gorget uninstall`: Gorget in a cluster, and out of it.
//!
//! [`manifests`] is what is installed, [`steps`] how, [`rollout`] when it is there, [`removal`] the way back.
//! What is applied is applied by the server: what others set on the same objects stays, and where both set the
//! same field, nothing is changed until somebody says who is right (`--force`).
//!
//! Exit status: 0 when everything is there, or gone; 1 otherwise, with what is lacking.

mod certificates;
mod manifests;
mod removal;
mod rollout;
mod steps;
#[cfg(test)]
mod tests;

use crate::cluster::{Kubeconfig, runtime};
use crate::render;
use crate::summary::span;
use anyhow::{Context as _, Result};
use clap::Args;
use manifests::Wishes;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

/// Before the YAML that is printed.
const HEADING: &str =
    "# What `gorget install` applies. The Secret has a key in it that was made for this output.\n";

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    kubeconfig: Kubeconfig,
    /// Without what checks policies when they are applied and says what became of them
    #[arg(long)]
    without_operator: bool,
    /// Without the one feed of all agents
    #[arg(long)]
    without_relay: bool,
    /// Registry and path of the images, instead of `ghcr.io/gorget`
    #[arg(long, value_name = "PREFIX")]
    image_registry: Option<String>,
    /// Tag of the images, instead of this version's
    #[arg(long, value_name = "TAG")]
    tag: Option<String>,
    /// Settings for the agents: keys of gorget.yaml, put over those of the manifests
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Parts of objects, as YAML with `kind` and `metadata.name`, put over those of the manifests
    ///
    /// Of lists of things with names (containers, volumes, variables) each is put over the one of its name;
    /// every other list is replaced; null takes away.
    #[arg(long, value_name = "FILE")]
    patch: Option<PathBuf>,
    /// Print everything as YAML, and ask nobody
    #[arg(long)]
    print: bool,
    /// Take over what somebody else has set
    #[arg(long)]
    force: bool,
    /// How long everything may take to be ready: 90s, 5m
    #[arg(long, value_name = "TIME", value_parser = span, default_value = "5m")]
    timeout: Duration,
}

#[derive(Args)]
pub(crate) struct Removing {
    #[command(flatten)]
    kubeconfig: Kubeconfig,
    /// Also the kinds of policies, and with them all policies of the cluster
    #[arg(long)]
    crds: bool,
    /// Go on when agents do not say that they will end enforcement; on their nodes it stays until the next boot
    #[arg(long)]
    force: bool,
    /// How long each step may take: 90s, 5m
    #[arg(long, value_name = "TIME", value_parser = span, default_value = "5m")]
    timeout: Duration,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let patches = arguments.patch.as_deref().map(manifests::read_patches);
    let config = arguments.config.as_deref().map(manifests::read_config);
    let wishes = Wishes {
        without_operator: arguments.without_operator,
        without_relay: arguments.without_relay,
        registry: arguments.image_registry.clone(),
        tag: arguments.tag.clone(),
        config: config.transpose()?,
        patches: patches.transpose()?.unwrap_or_default(),
    };
    let objects = manifests::objects(&wishes)?;
    #[expect(clippy::disallowed_methods, reason = "the one look at the clock")]
    let now = SystemTime::now();
    if arguments.print {
        let secret = certificates::secret(now)?;
        let text = manifests::yaml(&manifests::with(objects, secret))?;
        render::print(&format!("{HEADING}{text}")).context("cannot write the result")?;
        return Ok(ExitCode::SUCCESS);
    }
    let how = steps::How {
        force: arguments.force,
        limit: arguments.timeout,
        now,
    };
    runtime()?.block_on(async {
        let api = arguments.kubeconfig.connect().await?;
        steps::install(&api, &objects, &how, &mut io::stdout()).await
    })?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn uninstall(arguments: &Removing) -> Result<ExitCode> {
    let objects = manifests::objects(&Wishes::default())?;
    let how = removal::How {
        crds: arguments.crds,
        force: arguments.force,
        limit: arguments.timeout,
    };
    runtime()?.block_on(async {
        let api = arguments.kubeconfig.connect().await?;
        removal::uninstall(&api, &objects, &how, &mut io::stdout()).await
    })?;
    Ok(ExitCode::SUCCESS)
}
