// SPDX-License-Identifier: Apache-2.0
//! The relay as a process: who is started with what, and when it ends.

use crate::batch;
use crate::config::{Args, ConfigSpec, ElasticSpec, load, read};
use crate::elastic::{Elastic, ElasticSettings};
use crate::fleet::{Fleet, FleetSettings};
use crate::hub::Hub;
use crate::metrics::{self, Output};
use crate::resolve::{Kubernetes, Static};
use crate::service::serve;
use anyhow::{Context as _, Result};
use gorget_k8s::Listeners;
use gorget_telemetry::{Collector, Pace, Sorts, run_daemon, serve_metrics};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

/// How long outputs may take at the end for what is queued: less than a pod is given to end.
const LAST_BATCHES: Duration = Duration::from_secs(10);

/// Runs until it is told to stop.
pub fn run(args: &Args) -> ExitCode {
    run_daemon(|| start(args))
}

fn start(args: &Args) -> Result<()> {
    let config = load(&args.config)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting")?;
    runtime.block_on(relay(config))
}

async fn relay(config: ConfigSpec) -> Result<()> {
    let (mut tasks, mut storing) = (JoinSet::new(), JoinSet::new());
    let hub = Hub::default();
    let outputs = outputs(&config, &hub, &mut storing)?;
    let fleet = fleet(&config, &hub, &mut tasks).await?;
    if let Some(address) = config.metrics_listen {
        let listener = TcpListener::bind(address).await;
        let listener = listener.with_context(|| format!("listening on `{address}`"))?;
        let (fleet, hub) = (fleet.clone(), hub.clone());
        let text = move || {
            let outputs: Vec<_> = outputs.iter().map(|(n, o)| (*n, o.as_ref())).collect();
            metrics::text(&fleet, &hub, &outputs)
        };
        let failed = |error| tracing::warn!("a connection for metrics failed: {error}");
        tasks.spawn(serve_metrics(listener, text, failed));
    }
    let listener = TcpListener::bind(config.listen).await;
    let listener = listener.with_context(|| format!("listening on `{}`", config.listen))?;
    let tls = config
        .tls
        .as_ref()
        .map(|files| files.server())
        .transpose()?;
    let mut term = signal(SignalKind::terminate()).context("watching for SIGTERM")?;
    let mut int = signal(SignalKind::interrupt()).context("watching for SIGINT")?;
    let told = async move {
        tokio::select! {
            _signal = term.recv() => {}
            _signal = int.recv() => {}
        }
    };
    tracing::info!("the feeds of all agents are at `{}`", config.listen);
    serve(hub, listener, tls, told).await.context("serving")?;
    tasks.shutdown().await;
    // The hub is closed: outputs end when they have stored what is queued.
    let stored = async { while storing.join_next().await.is_some() {} };
    if tokio::time::timeout(LAST_BATCHES, stored).await.is_err() {
        let seconds = LAST_BATCHES.as_secs();
        tracing::error!(
            "outputs did not take in {seconds} s what was queued for them: it is lost to them, and agents \
             keep their latest events"
        );
    }
    Ok(())
}

async fn fleet(config: &ConfigSpec, hub: &Hub, tasks: &mut JoinSet<()>) -> Result<Fleet> {
    let tls = config.agents.tls.as_ref().map(|files| files.client());
    let settings = FleetSettings {
        tls: tls.transpose()?.map(Arc::new),
        sorts: Sorts {
            alerts: true,
            logs: config.logs,
            messages: true,
        },
        since: config.since.clone(),
    };
    let fleet = Fleet::default();
    let (running, hub) = (fleet.clone(), hub.clone());
    match &config.agents.service {
        Some(service) => {
            let access = gorget_k8s::Access::InCluster;
            let found = gorget_k8s::connect(&access).await?;
            let (client, port) = (found.client, config.agents.port);
            let resolve = Listeners::new(client, &found.namespace, service.clone(), port);
            let resolve = Kubernetes::new(resolve);
            tasks.spawn(async move { running.run(resolve, settings, hub).await });
        }
        None => {
            let resolve = Static::new(config.agents.parsed()?);
            tasks.spawn(async move { running.run(resolve, settings, hub).await });
        }
    }
    Ok(fleet)
}

type Outputs = Vec<(&'static str, Arc<Output>)>;

fn outputs(config: &ConfigSpec, hub: &Hub, tasks: &mut JoinSet<()>) -> Result<Outputs> {
    let sorts = Sorts {
        alerts: true,
        logs: config.logs,
        messages: false,
    };
    let mut outputs = Outputs::new();
    if let Some(address) = &config.otlp {
        // The node is each event's own.
        let mut collector = Collector::new(address, Arc::default(), Pace::default())?;
        let output = Arc::new(Output::default());
        outputs.push(("otlp", Arc::clone(&output)));
        let sorts = Sorts {
            messages: true,
            ..sorts
        };
        let mut events = hub.subscribe("otlp", sorts)?;
        tasks.spawn(async move {
            let told = |sent| output.tell("otlp", sent);
            while let Some(batch) = batch::next(&mut events, Pace::default().batch).await {
                collector.send_received(&batch, &told).await;
            }
        });
    }
    if let Some(spec) = &config.elasticsearch {
        let elastic = elastic(spec).context("`elasticsearch`")?;
        let output = Arc::new(Output::default());
        outputs.push(("elasticsearch", Arc::clone(&output)));
        let events = hub.subscribe("elasticsearch", sorts)?;
        let told = move |sent| output.tell("elasticsearch", sent);
        tasks.spawn(elastic.run(events, told));
    }
    Ok(outputs)
}

fn elastic(spec: &ElasticSpec) -> Result<Elastic> {
    let authorization = spec.authorization_file.as_deref().map(read).transpose()?;
    let authorization = authorization.map(|text| String::from_utf8_lossy(&text).trim().to_owned());
    Ok(Elastic::new(ElasticSettings {
        url: spec.url.clone(),
        alerts_index: spec.alerts_index.clone(),
        logs_index: spec.logs_index.clone(),
        authorization,
        ca: spec.ca_file.as_deref().map(read).transpose()?,
        batch: Duration::from_secs(1),
        first_pause: Duration::from_secs(1),
        longest_pause: Duration::from_secs(60),
    })?)
}
