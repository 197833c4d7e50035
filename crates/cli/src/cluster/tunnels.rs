// SPDX-License-Identifier: Apache-2.0
//! Ways to agents, and to the relay, through the API server: what `kubectl port-forward` does.
//!
//! A listener on loopback stands for each pod; every connection to it becomes one to the pod. Where they are,
//! which port they have and which certificates is read from the pods. The listeners live as long as the
//! program, on a thread of their own. As with `kubectl`, every user of this machine can connect to them:
//! agents demand a certificate, the relay demands nothing but the right to forward a port.
//!
//! Failure: a pod that cannot be reached is said on standard error, by name, and its connection ends, which
//! whoever asked notices as an agent that is gone.

use super::api::{Api, Place};
use super::{InCluster, runtime};
use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gorget_telemetry::{Address, ClientTls};
use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// What the certificates of agents are for, whatever their address.
pub(crate) const AGENTS_NAME: &str = "gorget-agent";
const AGENTS: &str = "app.kubernetes.io/name=gorget-agent";
const RELAY: &str = "app.kubernetes.io/name=gorget-relay";
/// The name of the port of either's feed.
const FEED: &str = "feed";
/// The name of the volume that has an agent's certificates.
const TLS: &str = "tls";

/// Whom to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whom {
    /// The relay, when there is one and no node is named; else as below.
    Relay,
    /// The agents of all nodes, or of the one that is named.
    Agents,
}

/// A way to one.
#[derive(Clone, Debug)]
pub(crate) struct Reached {
    /// Its node; of the relay its pod; of an agent that is no pod nothing.
    pub(crate) name: String,
    pub(crate) address: Address,
    pub(crate) tls: Option<Arc<ClientTls>>,
}

/// A pod that has a feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FeedPod {
    namespace: String,
    pod: String,
    /// Where it runs.
    pub(crate) node: String,
    /// None when it has no port for it.
    port: Option<u16>,
    /// The Secret with its certificates.
    secret: Option<String>,
    /// Why nobody can be asked there; empty when somebody can.
    pub(crate) down: String,
}

impl FeedPod {
    fn of(pod: &Value) -> Self {
        let text = |path: &str| {
            let text = pod.pointer(path).and_then(Value::as_str);
            text.unwrap_or_default().to_owned()
        };
        let each = |path: &str| {
            let list = pod.pointer(path).and_then(Value::as_array);
            list.into_iter().flatten()
        };
        let is =
            |name: &'static str| move |it: &&Value| it.get("name").is_some_and(|it| it == name);
        let ports = each("/spec/containers").filter_map(|it| it.get("ports")?.as_array());
        let port = ports.flatten().find(is(FEED));
        let port = port.and_then(|port| port.get("containerPort")?.as_u64());
        let secret = each("/spec/volumes").find(is(TLS));
        let secret = secret.and_then(|volume| volume.pointer("/secret/secretName")?.as_str());
        let runs = |it: &Value| it.pointer("/state/running").is_some();
        let runs = each("/status/containerStatuses").any(runs);
        let (pod, phase) = (text("/metadata/name"), text("/status/phase"));
        let port = port.and_then(|port| u16::try_from(port).ok());
        let down = match (runs, port) {
            (false, _) => format!("the pod `{pod}` does not run ({phase})"),
            (true, None) => format!(
                "the pod `{pod}` has no port `{FEED}`: it was installed without one \
                 (`deploy/manifests/gorget.yaml`)"
            ),
            (true, Some(_)) => String::new(),
        };
        Self {
            namespace: text("/metadata/namespace"),
            node: text("/spec/nodeName"),
            secret: secret.map(str::to_owned),
            pod,
            port,
            down,
        }
    }
}

/// The agents of a cluster, by node; those that cannot be asked, too.
pub(crate) async fn agents(api: &Api, which: &InCluster) -> Result<Vec<FeedPod>> {
    let mut pods = pods(api, which, AGENTS).await?;
    if pods.is_empty() {
        bail!(
            "there is no agent in the namespace `{}`; `gorget install` installs Gorget, `--gorget-namespace` \
             names another",
            which.gorget_namespace
        );
    }
    if let Some(node) = &which.node {
        let known: Vec<_> = pods.iter().map(|pod| format!("`{}`", pod.node)).collect();
        pods.retain(|pod| pod.node == *node);
        if pods.is_empty() {
            bail!(
                "no agent is on a node `{node}`; there are {}",
                known.join(", ")
            );
        }
    }
    Ok(pods)
}

async fn pods(api: &Api, which: &InCluster, labels: &str) -> Result<Vec<FeedPod>> {
    let pods = api.list(("v1", "Pod"), &which.gorget_namespace, labels);
    let mut pods: Vec<_> = pods.await?.iter().map(FeedPod::of).collect();
    pods.sort_by(|one, other| one.node.cmp(&other.node));
    Ok(pods)
}

/// Whom a cluster has, of those that are wanted. Who cannot be asked is said; nobody is an error.
async fn wanted(api: &Api, which: &InCluster, whom: Whom) -> Result<Vec<FeedPod>> {
    if whom == Whom::Relay && which.node.is_none() {
        let relays = pods(api, which, RELAY).await?;
        let runs = |pod: &FeedPod| pod.down.is_empty();
        if let Some(relay) = relays.into_iter().find(runs) {
            // It listens without certificates; those that it has are for agents.
            let relay = FeedPod {
                node: relay.pod.clone(),
                secret: None,
                ..relay
            };
            return Ok(vec![relay]);
        }
    }
    let agents = agents(api, which).await?;
    let (up, down): (Vec<_>, Vec<_>) = agents.into_iter().partition(|it| it.down.is_empty());
    let down: Vec<_> = down
        .into_iter()
        .map(|pod| format!("node `{}`: {}", pod.node, pod.down))
        .collect();
    if up.is_empty() {
        bail!("no agent can be asked: {}", down.join("; "));
    }
    for why in down {
        writeln!(io::stderr(), "gorget: not asked: {why}")?;
    }
    Ok(up)
}

/// Opens ways to those that are wanted, which stay open until the program ends.
pub(crate) fn open(which: &InCluster, whom: Whom) -> Result<Vec<Reached>> {
    let (which, (tell, told)) = (which.clone(), sync_channel(1));
    thread::Builder::new()
        .name("port-forward".to_owned())
        .spawn(move || forward(&which, whom, &tell))
        .context("cannot start")?;
    told.recv().context("port forwarding has ended")?
}

/// Opens them, tells where they are, and keeps them open.
fn forward(which: &InCluster, whom: Whom, tell: &SyncSender<Result<Vec<Reached>>>) {
    let opened = runtime().and_then(|runtime| {
        let found = runtime.block_on(async {
            let api = which.kubeconfig.connect().await?;
            let pods = wanted(&api, which, whom).await?;
            ways(&api, pods).await
        })?;
        Ok((runtime, found))
    });
    match opened {
        Ok((runtime, (reached, ways))) => {
            // Nobody waits for it when it cannot be told.
            if tell.send(Ok(reached)).is_ok() {
                runtime.block_on(serve(ways));
            }
        }
        Err(error) => drop(tell.send(Err(error))),
    }
}

/// A listener and what is behind it.
pub(crate) struct Way {
    listener: TcpListener,
    pods: kube::Api<Pod>,
    pod: String,
    port: u16,
}

/// One for each pod that can be asked.
pub(crate) async fn ways(api: &Api, pods: Vec<FeedPod>) -> Result<(Vec<Reached>, Vec<Way>)> {
    let mut certificates: BTreeMap<String, Arc<ClientTls>> = BTreeMap::new();
    let (mut reached, mut ways) = (Vec::new(), Vec::new());
    for pod in pods {
        let Some(port) = pod.port.filter(|_| pod.down.is_empty()) else {
            continue;
        };
        let tls = match pod.secret {
            None => None,
            Some(name) => match certificates.get(&name) {
                Some(tls) => Some(Arc::clone(tls)),
                None => {
                    let place = Place::new("v1", "Secret", &pod.namespace, &name);
                    let tls = Arc::new(client_tls(api, &place).await?);
                    certificates.insert(name, Arc::clone(&tls));
                    Some(tls)
                }
            },
        };
        let listener = TcpListener::bind(("127.0.0.1", 0)).await;
        let listener = listener.context("cannot listen on 127.0.0.1")?;
        reached.push(Reached {
            name: pod.node,
            address: Address::Tcp(listener.local_addr()?.to_string()),
            tls,
        });
        ways.push(Way {
            listener,
            pods: kube::Api::namespaced(api.client(), &pod.namespace),
            pod: pod.pod,
            port,
        });
    }
    Ok((reached, ways))
}

/// What agents and their clients show each other, from the Secret that both have.
async fn client_tls(api: &Api, place: &Place) -> Result<ClientTls> {
    let secret = api.get(place).await?;
    let secret = secret.with_context(|| format!("there is no {place}, which agents have"))?;
    let part = |name: &str| {
        let data = secret.pointer("/data").and_then(|data| data.get(name));
        let data = data.and_then(Value::as_str);
        let data = data.with_context(|| format!("{place} has no `{name}`"))?;
        STANDARD
            .decode(data)
            .with_context(|| format!("`{name}` of {place}"))
    };
    Ok(ClientTls {
        ca: part("ca.crt")?,
        identity: Some((part("tls.crt")?, part("tls.key")?)),
        server_name: Some(AGENTS_NAME.to_owned()),
    })
}

/// Serves all of them, without end.
pub(crate) async fn serve(ways: Vec<Way>) {
    let mut all = JoinSet::new();
    for way in ways {
        all.spawn(way.serve());
    }
    while all.join_next().await.is_some() {}
}

impl Way {
    async fn serve(self) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        let (pods, pod) = (self.pods.clone(), self.pod.clone());
                        connections.spawn(connect(pods, pod, self.port, stream));
                    }
                    Err(error) => {
                        complain(&self.pod, &error.into());
                        return;
                    }
                },
                Some(_) = connections.join_next() => {}
            }
        }
    }
}

/// One connection, from its begin to its end.
async fn connect(pods: kube::Api<Pod>, pod: String, port: u16, mut here: TcpStream) {
    let ended = async {
        let mut forwarder = pods.portforward(&pod, &[port]).await?;
        let (there, refused) = (forwarder.take_stream(port), forwarder.take_error(port));
        let (Some(mut there), Some(refused)) = (there, refused) else {
            bail!("there is no stream for port {port}");
        };
        let mut copied = pin!(copy_bidirectional(&mut here, &mut there));
        let said = tokio::select! {
            biased;
            // What is said comes before the end that it is about.
            said = refused => said,
            // That either side ends it in the middle is no matter of the tunnel's.
            _ = &mut copied => return Ok(()),
        };
        if let Some(said) = said {
            bail!("{}", said.trim());
        }
        drop(copied.await);
        Ok(())
    };
    if let Err(error) = ended.await {
        complain(&pod, &error);
    }
}

/// On standard error: whoever is at the other end of the connection cannot be told.
fn complain(pod: &str, error: &anyhow::Error) {
    drop(writeln!(
        io::stderr(),
        "gorget: cannot forward a port to the pod `{pod}`: {error:#}"
    ));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(node: &str, port: &str, state: &str) -> Value {
        json!({
            "metadata": {"name": format!("gorget-agent-{node}"), "namespace": "gorget"},
            "spec": {
                "nodeName": node,
                "containers": [{"ports": [
                    {"name": "health", "containerPort": 32766},
                    {"name": port, "containerPort": 32767},
                ]}],
                "volumes": [{"name": "tls", "secret": {"secretName": "gorget-feed-tls"}}],
            },
            "status": {"phase": "Running", "containerStatuses": [{"state": {(state): {}}}]},
        })
    }

    #[test]
    fn a_pod_says_its_port_and_certificates_or_why_it_cannot_be_asked() {
        let found = FeedPod::of(&pod("n", "feed", "running"));
        let wanted = FeedPod {
            namespace: "gorget".to_owned(),
            pod: "gorget-agent-n".to_owned(),
            node: "n".to_owned(),
            port: Some(32767),
            secret: Some("gorget-feed-tls".to_owned()),
            down: String::new(),
        };
        assert_eq!(found, wanted);
        let waits = FeedPod::of(&pod("n", "feed", "waiting")).down;
        assert!(waits.contains("does not run"), "{waits}");
        let alone = FeedPod::of(&pod("n", "metrics", "running")).down;
        assert!(alone.contains("no port `feed`"), "{alone}");
    }
}
