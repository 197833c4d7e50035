// SPDX-License-Identifier: Apache-2.0
//! The operator as a process: who is started with what, and when it ends.
//!
//! Every replica answers reviews, keeps the certificate and hears the agents; the one that the Lease names
//! writes statuses.

use crate::admission::{Known, Profiles};
use crate::api::Objects;
use crate::certificates::keep::{Keeper, Shown};
use crate::config::{Args, ConfigSpec, load};
use crate::counts::{self, Counts};
use crate::crds::{Definitions, Kinds};
use crate::kubearmor_config::Translator;
use crate::lease::hold::Candidate;
use crate::node_labels::Labeller;
use crate::serve::{Answering, acceptor, serve};
use crate::status::observe::Observer;
use crate::status::write::{Named, Writer};
use crate::status::{Nodes, all_have_profiles, backends};
use anyhow::{Context as _, Result};
use gorget_k8s::{Access, Connection, Listeners, connect, watch_policies};
use gorget_telemetry::{run_daemon, serve_metrics};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How often it is asked for what is not known yet.
const ASK_AGAIN: Duration = Duration::from_secs(30);
/// Reviews that are judged at a time; more wait.
const JUDGES: usize = 8;

/// Runs until it is told to stop.
pub fn run(args: &Args) -> ExitCode {
    run_daemon(|| start(args))
}

fn start(args: &Args) -> Result<()> {
    let config = load(&args.config)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(JUDGES)
        .build()
        .context("starting")?;
    let ended = runtime.block_on(operate(config));
    // A search that still runs would be waited for.
    runtime.shutdown_background();
    ended
}

async fn operate(config: ConfigSpec) -> Result<()> {
    let access = match &config.kubeconfig {
        Some(path) => Access::Kubeconfig {
            path: path.clone(),
            context: None,
        },
        None => Access::InCluster,
    };
    let found = connect(&access).await?;
    let mut tasks = JoinSet::new();
    let nodes = hear(&config, &found, &mut tasks)?;
    let counts = Arc::new(Counts::default());
    let (knowing, known) = watch::channel(Arc::default());
    let shown = Arc::new(Shown::default());
    webhooks(&config, &found, (known, &counts, &shown), &mut tasks).await?;
    let leases = Objects::new(
        &found.client,
        "coordination.k8s.io/v1",
        &found.namespace,
        "leases",
    );
    let (candidate, leading) = Candidate::new(leases, &found.namespace, &config.lease, identity());
    if let Some(address) = config.metrics_listen {
        let listener = listen(address).await?;
        let (nodes, leading) = (nodes.clone(), leading.clone());
        let counts = Arc::clone(&counts);
        let text = move || counts::text(&counts, &shown, &leading, &nodes.borrow());
        let failed = |error| tracing::warn!("a connection for metrics failed: {error}");
        tasks.spawn(serve_metrics(listener, text, failed));
    }
    let (seen, follow) = watch_policies(found.client.clone());
    tasks.spawn(follow);
    let definitions = Definitions::read()?;
    let kinds = Kinds::new(
        &found.client,
        definitions,
        config.install_crds,
        leading.clone(),
    );
    tasks.spawn(kinds.run());
    tasks.spawn(Translator::new(&found.client, &found.namespace, leading.clone()).run());
    if config.node_labels {
        let (heard, leading) = (nodes.clone(), leading.clone());
        let labeller = Labeller::new(&found.client, heard, leading, Arc::clone(&counts));
        tasks.spawn(labeller.run());
    }
    let writer = Writer::new(found.client.clone(), leading, Arc::clone(&counts));
    let knower = Knower {
        client: config.app_armor_profiles.then(|| found.client.clone()),
        nodes: nodes.clone(),
        named: writer.named(),
    };
    tasks.spawn(knower.run(knowing));
    tasks.spawn(writer.run(seen, nodes, micros));
    let mut term = signal(SignalKind::terminate()).context("watching for SIGTERM")?;
    let mut int = signal(SignalKind::interrupt()).context("watching for SIGINT")?;
    let told = async move {
        tokio::select! {
            _signal = term.recv() => {}
            _signal = int.recv() => {}
        }
    };
    let mut is_told = false;
    let stop = async {
        tokio::select! {
            () = told => is_told = true,
            // None of them ends by itself.
            _ended = tasks.join_next() => {}
        }
    };
    candidate.run(micros, stop).await;
    tasks.shutdown().await;
    anyhow::ensure!(
        is_told,
        "a part of the operator ended, and the rest with it"
    );
    Ok(())
}

/// Hears all agents.
fn hear(
    config: &ConfigSpec,
    found: &Connection,
    tasks: &mut JoinSet<()>,
) -> Result<watch::Receiver<Arc<Nodes>>> {
    let tls = config.agents.tls.as_ref().map(|files| files.client());
    let tls = tls.transpose().context("`agents.tls`")?;
    let listeners = Listeners::new(
        found.client.clone(),
        &found.namespace,
        config.agents.service.clone(),
        config.agents.port,
    );
    let (observer, nodes) = Observer::new(listeners, tls);
    tasks.spawn(observer.run());
    Ok(nodes)
}

/// Answers the API server, with a certificate that it believes.
async fn webhooks(
    config: &ConfigSpec,
    found: &Connection,
    (known, counts, shown): (watch::Receiver<Arc<Known>>, &Arc<Counts>, &Arc<Shown>),
    tasks: &mut JoinSet<()>,
) -> Result<()> {
    let namespace = &found.namespace;
    let hooks = |plural| {
        let version = "admissionregistration.k8s.io/v1";
        Objects::new(&found.client, version, "", plural)
    };
    let (validating, mutating) = (
        hooks("validatingwebhookconfigurations"),
        hooks("mutatingwebhookconfigurations"),
    );
    let all = |hooks: &Objects, names: &[String]| -> Vec<_> {
        let names = names.iter();
        names.map(|name| (hooks.clone(), name.clone())).collect()
    };
    let mut configurations = all(&validating, &config.validating);
    configurations.extend(all(&mutating, &config.mutating));
    let keeper = Keeper {
        secrets: Objects::new(&found.client, "v1", namespace, "secrets"),
        namespace: namespace.clone(),
        secret: config.secret.clone(),
        server: format!("{}.{namespace}.svc", config.service),
        configurations,
        shown: Arc::clone(shown),
    };
    tasks.spawn(keeper.run(|| u64::try_from(micros() / 1_000_000).unwrap_or_default()));
    let listener = listen(config.listen).await?;
    let tls = acceptor(Arc::clone(shown)).context("preparing TLS")?;
    let answering = Answering::new(known, Arc::clone(counts));
    tasks.spawn(serve(listener, tls, answering));
    tracing::info!("reviews are answered at `{}`", config.listen);
    Ok(())
}

/// Puts together what reviews have to know.
struct Knower {
    /// Who is asked what pods of this cluster have; none: they get no profiles.
    client: Option<kube::Client>,
    nodes: watch::Receiver<Arc<Nodes>>,
    named: watch::Receiver<Arc<Named>>,
}

impl Knower {
    async fn run(mut self, knowing: watch::Sender<Arc<Known>>) {
        let (mut has_field, mut is_said) = (None, false);
        loop {
            if let (None, Some(client)) = (has_field, &self.client) {
                has_field = has_profile_field(client).await;
                if has_field.is_none() && !std::mem::replace(&mut is_said, true) {
                    tracing::warn!(
                        "`/version` of the API server does not say which Kubernetes it is; pods get \
                         no profiles until it does"
                    );
                }
            }
            let nodes = Arc::clone(&self.nodes.borrow_and_update());
            let named = Arc::clone(&self.named.borrow_and_update());
            let has_field = has_field.filter(|_| all_have_profiles(&nodes));
            knowing.send_replace(Arc::new(Known {
                backends: backends(&nodes),
                profiles: has_field.map(|has_field| Profiles {
                    named: (*named).clone(),
                    has_field,
                }),
            }));
            let goes_on = tokio::select! {
                changed = self.nodes.changed() => changed.is_ok(),
                changed = self.named.changed() => changed.is_ok(),
                // What is not known yet is asked for again.
                () = tokio::time::sleep(ASK_AGAIN) => true,
            };
            if !goes_on {
                return;
            }
        }
    }
}

/// Whether pods have a field for their profile, which came with Kubernetes 1.30; none when it cannot be told.
async fn has_profile_field(client: &kube::Client) -> Option<bool> {
    let request = hyper::Request::get("/version").body(Vec::new()).ok()?;
    let version = client.request::<serde_json::Value>(request).await.ok()?;
    let number = |key: &str| -> Option<u32> {
        let text = version.get(key)?.as_str()?;
        // Some providers have a sign behind it.
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        digits.parse().ok()
    };
    Some((number("major")?, number("minor")?) >= (1, 30))
}

async fn listen(address: std::net::SocketAddr) -> Result<TcpListener> {
    let listener = TcpListener::bind(address).await;
    listener.with_context(|| format!("listening on `{address}`"))
}

/// What tells replicas apart: in a pod its name.
fn identity() -> String {
    let named = ["POD_NAME", "HOSTNAME"].into_iter();
    let named = named.filter_map(|key| std::env::var(key).ok());
    let mut named = named.filter(|name| !name.is_empty());
    let name = named.next().unwrap_or_else(|| "gorget-operator".to_owned());
    // A container that was started again in its pod does not hold what the one before held.
    format!("{name}_{}", micros())
}

/// Microseconds since 1970.
fn micros() -> i64 {
    #[expect(
        clippy::disallowed_methods,
        reason = "certificates and statuses are about the time that everybody has"
    )]
    let now = SystemTime::now();
    let since = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
