// SPDX-License-Identifier: Apache-2.0
//! What installing is, step by step, with a line for each object.

use super::certificates::{self, PARTS, SECRET};
use super::manifests::{AGENT, kind};
use super::rollout;
use crate::cluster::NAMESPACE;
use crate::cluster::api::{Api, Applied, AskError, By, Place};
use anyhow::{Result, anyhow, bail};
use serde_json::Value;
use std::io::Write;
use std::time::{Duration, SystemTime};
use tokio::time::{sleep, timeout};

/// Who applies.
const MANAGER: &str = "gorget";
/// How long the server may take to serve a new kind.
const UNTIL_SERVED: Duration = Duration::from_secs(60);
const PACE: Duration = Duration::from_millis(250);

#[derive(Clone, Copy, Debug)]
pub(super) struct How {
    /// Over what others have set.
    pub(super) force: bool,
    /// How long until everything is ready.
    pub(super) limit: Duration,
    /// For certificates.
    pub(super) now: SystemTime,
}

/// Applies objects, which are in order, and waits until what they run is ready.
pub(super) async fn install(
    api: &Api,
    objects: &[Value],
    how: &How,
    out: &mut impl Write,
) -> Result<()> {
    not_by_helm(api, "helm upgrade").await?;
    look_for_kubearmor(api, out).await?;
    let by = By {
        manager: MANAGER,
        force: how.force,
    };
    let (mut kinds, mut workloads) = (Vec::new(), Vec::new());
    let mut has_certificates = false;
    for object in objects {
        let place = Place::of(object)?;
        let is_kind = kind(object) == "CustomResourceDefinition";
        if !has_certificates && !is_kind && kind(object) != "Namespace" {
            wait_until_served(api, &kinds).await?;
            certificates(api, how, by, out).await?;
            has_certificates = true;
        }
        match api.apply(&place, object, by).await {
            Ok(applied) => say(&place, applied, out)?,
            Err(error) if is_kind && error.is_conflict() => {
                // KubeArmor's do as well, and its programs may need them as they are.
                let why = error.why();
                writeln!(
                    out,
                    "{place} left as it is (`--force` takes it over): {why}"
                )?;
            }
            Err(error) => return Err(refused(&error)),
        }
        if is_kind {
            kinds.push(place);
        } else if matches!(kind(object), "DaemonSet" | "Deployment") {
            workloads.push(place);
        }
    }
    rollout::wait(api, &workloads, how.limit, out).await?;
    writeln!(
        out,
        "Gorget is installed; `gorget probe --cluster` shows what it does on each node"
    )?;
    Ok(())
}

fn say(place: &Place, applied: Applied, out: &mut impl Write) -> Result<()> {
    let became = match applied {
        Applied::Created => "created",
        Applied::Configured => "configured",
        Applied::Unchanged => "unchanged",
    };
    Ok(writeln!(out, "{place} {became}")?)
}

/// Why something was not applied, and what to do.
fn refused(error: &AskError) -> anyhow::Error {
    match error.is_conflict() {
        true => anyhow!(
            "{error}\nsomebody else has set what is to be set; `--force` takes it over, `--patch` has it be \
             what they want"
        ),
        false => anyhow!("{error}"),
    }
}

/// Of Helm's releases Helm would know nothing.
pub(super) async fn not_by_helm(api: &Api, instead: &str) -> Result<()> {
    let place = Place::new("apps/v1", "DaemonSet", NAMESPACE, AGENT);
    let agent = api.get(&place).await?.unwrap_or_default();
    let release = agent.pointer("/metadata/annotations/meta.helm.sh~1release-name");
    match release.and_then(Value::as_str) {
        Some(release) => bail!(
            "{place} was installed by Helm, as the release `{release}`; use `{instead}` (docs/kubernetes.md)"
        ),
        None => Ok(()),
    }
}

/// Says so when KubeArmor is there.
async fn look_for_kubearmor(api: &Api, out: &mut impl Write) -> Result<()> {
    let kind = ("apps/v1", "DaemonSet");
    match api.list(kind, "", "kubearmor-app=kubearmor").await {
        Ok(there) => {
            for agent in &there {
                let place = Place::new(
                    "apps/v1",
                    "DaemonSet",
                    text(agent, "/metadata/namespace"),
                    text(agent, "/metadata/name"),
                );
                writeln!(
                    out,
                    "KubeArmor is there, {place}: both enforce at once, and the stricter answer holds; \
                     docs/kubernetes.md says how to change over"
                )?;
            }
        }
        Err(error) => writeln!(out, "whether KubeArmor is there is not known: {error}")?,
    }
    Ok(())
}

fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    let text = object.pointer(path).and_then(Value::as_str);
    text.unwrap_or_default()
}

/// Those that are there stay: agents that run have them.
async fn certificates(api: &Api, how: &How, by: By, out: &mut impl Write) -> Result<()> {
    let place = Place::new("v1", "Secret", NAMESPACE, SECRET);
    if let Some(secret) = api.get(&place).await? {
        let has = |part: &&str| secret.pointer(&format!("/data/{part}")).is_some();
        let lacks: Vec<_> = PARTS.iter().filter(|part| !has(part)).collect();
        if !lacks.is_empty() {
            bail!(
                "{place} lacks {lacks:?}; put them there (docs/kubernetes.md), or delete it to have new \
                 certificates made"
            );
        }
        writeln!(out, "{place} kept")?;
        return Ok(());
    }
    let secret = certificates::secret(how.now)?;
    let applied = api.apply(&place, &secret, by).await;
    say(&place, applied.map_err(|error| refused(&error))?, out)
}

/// Objects of kinds that are not served yet would be refused.
async fn wait_until_served(api: &Api, kinds: &[Place]) -> Result<()> {
    for place in kinds {
        let served = async {
            loop {
                let crd = api.get(place).await?.unwrap_or_default();
                let conditions = crd.pointer("/status/conditions").and_then(Value::as_array);
                let mut conditions = conditions.into_iter().flatten();
                if conditions
                    .any(|it| text(it, "/type") == "Established" && text(it, "/status") == "True")
                {
                    return Ok::<_, AskError>(());
                }
                sleep(PACE).await;
            }
        };
        let late = |_late| {
            anyhow!(
                "{place} is not served after {} s; `kubectl describe crd {}` shows why",
                UNTIL_SERVED.as_secs(),
                place.name
            )
        };
        timeout(UNTIL_SERVED, served).await.map_err(late)??;
    }
    Ok(())
}
