// SPDX-License-Identifier: Apache-2.0
//! `gorget policy schema`: the policy kinds as custom resource definitions.
//!
//! YAML for `kubectl apply -f -`; in JSON the same as one `List`, which `kubectl` takes as well. Made from
//! the tables that files are checked with, so a cluster accepts what `gorget policy check` accepts.

use super::Form;
use anyhow::Context;
use clap::Args;
use serde_json::{Value, json};
use std::process::ExitCode;

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    form: Form,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let yaml = gorget_policy::schema();
    let definitions = definitions(&yaml).context("the definitions cannot be told as JSON")?;
    let list = || json!({ "apiVersion": "v1", "kind": "List", "items": definitions });
    arguments.form.print(|_plain| yaml.clone(), list)?;
    Ok(ExitCode::SUCCESS)
}

/// The documents.
fn definitions(yaml: &str) -> Result<Vec<Value>, serde_saphyr::Error> {
    serde_saphyr::from_multiple(yaml)
}
