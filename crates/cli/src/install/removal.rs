// SPDX-License-Identifier: Apache-2.0
//! Taking Gorget out of a cluster.
//!
//! What is in force stays in force without an agent, so agents are first told to end it when they end, which
//! takes that they are started anew. Only then are they deleted, in the reverse of the order in which
//! everything came. What is gone already is said, and no error.

use super::certificates::SECRET;
use super::manifests::{AGENT, CHECKSUM, CONFIG, configured, kind, sum};
use super::{rollout, steps};
use crate::cluster::NAMESPACE;
use crate::cluster::api::{Api, By, Place};
use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};
use std::io::Write;
use std::time::Duration;

/// Who tells agents to end enforcement. Not who installs: what it does not say any more would be taken away.
const MANAGER: By = By {
    manager: "gorget-uninstall",
    force: true,
};

#[derive(Clone, Copy, Debug)]
pub(super) struct How {
    /// The kinds, too.
    pub(super) crds: bool,
    /// Also when agents do not end enforcement.
    pub(super) force: bool,
    /// For each step.
    pub(super) limit: Duration,
}

/// Takes away objects, which are in the order in which they came.
pub(super) async fn uninstall(
    api: &Api,
    objects: &[Value],
    how: &How,
    out: &mut impl Write,
) -> Result<()> {
    steps::not_by_helm(api, "helm uninstall").await?;
    let ended = end_enforcement(api, how, out).await;
    if let Err(error) = ended {
        if !how.force {
            return Err(error.context(
                "nothing is deleted: on nodes whose agent does not end enforcement, it would stay until the \
                 next boot (`--force` accepts that)",
            ));
        }
        writeln!(
            out,
            "on some nodes what is in force stays until the next boot: {error:#}"
        )?;
    }
    let (mut namespace, mut kinds) = (None, 0);
    for object in objects.iter().rev() {
        let place = Place::of(object)?;
        match kind(object) {
            "Namespace" => namespace = Some(place),
            "CustomResourceDefinition" if !how.crds => kinds += 1,
            _ => delete(api, &place, how, out).await?,
        }
    }
    let certificates = Place::new("v1", "Secret", NAMESPACE, SECRET);
    delete(api, &certificates, how, out).await?;
    if let Some(place) = namespace {
        match api.get(&place).await? {
            Some(there) if !is_ours(&there) => {
                writeln!(out, "{place} kept: it was not made by Gorget")?;
            }
            Some(_) | None => delete(api, &place, how, out).await?,
        }
    }
    match kinds {
        0 => writeln!(out, "Gorget is gone, and all policies with their kinds")?,
        kinds => writeln!(
            out,
            "Gorget is gone; {kinds} kinds of policies stay, with all policies (`--crds` deletes both)"
        )?,
    }
    Ok(())
}

fn is_ours(object: &Value) -> bool {
    let label = object.pointer("/metadata/labels/app.kubernetes.io~1part-of");
    label == Some(&json!("gorget"))
}

/// Has agents end enforcement when they end.
async fn end_enforcement(api: &Api, how: &How, out: &mut impl Write) -> Result<()> {
    let place = Place::new("apps/v1", "DaemonSet", NAMESPACE, AGENT);
    if api.get(&place).await?.is_none() {
        writeln!(
            out,
            "{place} is gone already; where it was deleted without `onStop: detach`, what was in force stays \
             until the next boot"
        )?;
        return Ok(());
    }
    let map = Place::new("v1", "ConfigMap", NAMESPACE, AGENT);
    let config = api.get(&map).await?.unwrap_or_default();
    let text = config.pointer("/data").and_then(|data| data.get(CONFIG));
    let text = text.and_then(Value::as_str);
    let text = text.with_context(|| format!("{map} has no `{CONFIG}`"))?;
    let settings = Map::from_iter([("onStop".to_owned(), json!("detach"))]);
    let text = configured(text, &settings)?;
    let sum = sum(&text);
    let config = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": AGENT, "namespace": NAMESPACE},
        "data": {CONFIG: text},
    });
    api.apply(&map, &config, MANAGER).await?;
    // All at once: what is in force stays while they start.
    let agent = json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": {"name": AGENT, "namespace": NAMESPACE},
        "spec": {
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "100%"}},
            "template": {"metadata": {"annotations": {CHECKSUM: sum}}},
        },
    });
    api.apply(&place, &agent, MANAGER).await?;
    writeln!(out, "{place} is told to end enforcement when it ends")?;
    rollout::wait(api, &[place], how.limit, out).await
}

async fn delete(api: &Api, place: &Place, how: &How, out: &mut impl Write) -> Result<()> {
    if !api.delete(place).await? {
        writeln!(out, "{place} is gone already")?;
        return Ok(());
    }
    // What runs ends before what it needs, and who comes after finds nothing half gone.
    let waits = matches!(
        place.kind.as_str(),
        "DaemonSet" | "Deployment" | "Namespace" | "CustomResourceDefinition"
    );
    if waits {
        rollout::wait_until_gone(api, place, how.limit).await?;
    }
    let what = match place.kind.as_str() {
        "Namespace" => ", with everything that was left in it",
        "CustomResourceDefinition" => ", with all objects of the kind",
        _ => "",
    };
    writeln!(out, "{place} deleted{what}")?;
    Ok(())
}
