// SPDX-License-Identifier: Apache-2.0
//! A CRI runtime that does what a test tells it to, and a machine for its containers to run on.
//!
//! One habit of real ones matters and is kept: a request for events is answered with the first event
//! only. The server has a thread and a runtime of its own, so that killing it closes its connections.

use crate::proto::runtime::v1 as wire;
use gorget_containers::{Backoff, Choice, Config, Kind};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::{UnboundedReceiverStream, UnixListenerStream};
use tokio_stream::{Stream, StreamExt as _};
use tonic::transport::Server;
use tonic::{Request, Response, Status, async_trait};
use wire::runtime_service_server::{RuntimeService, RuntimeServiceServer};

type Event = Result<wire::ContainerEventResponse, Status>;

#[derive(Default)]
struct State {
    containers: BTreeMap<String, wire::Container>,
    info: BTreeMap<String, Option<String>>,
    subscribers: Vec<mpsc::UnboundedSender<Event>>,
    /// Emitted before anybody asked for events: it is for the first that does.
    waiting: Vec<String>,
    starts_during_scan: Option<String>,
    without_events: bool,
}

struct Running {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

pub(crate) struct Fake {
    directory: TempDir,
    state: Arc<Mutex<State>>,
    server: Option<Running>,
}

impl Fake {
    pub(crate) fn running() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("cgroup")).unwrap();
        fs::write(directory.path().join("cgroup/cgroup.controllers"), "cpu\n").unwrap();
        let mut fake = Self {
            directory,
            state: Arc::default(),
            server: None,
        };
        fake.start();
        fake
    }

    pub(crate) fn without_events() -> Self {
        let fake = Self::running();
        fake.state().without_events = true;
        fake
    }

    pub(crate) fn config(&self) -> Config {
        let root = self.directory.path();
        Config {
            runtimes: vec![Choice::anywhere(Kind::Cri)],
            root: root.to_owned(),
            proc: root.join("proc"),
            cgroup_root: root.join("cgroup"),
            backoff: Backoff {
                first: Duration::from_millis(1),
                limit: Duration::from_millis(5),
            },
        }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("run/crio/crio.sock")
    }

    /// Returns when the socket exists.
    pub(crate) fn start(&mut self) {
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let (state, socket) = (Arc::clone(&self.state), self.socket());
        fs::create_dir_all(socket.parent().unwrap()).unwrap();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = UnixListener::bind(socket).unwrap();
                ready.send(()).unwrap();
                let service = RuntimeServiceServer::new(Service { state });
                let serve = Server::builder()
                    .add_service(service)
                    .serve_with_incoming(UnixListenerStream::new(listener));
                tokio::select! {
                    served = serve => served.unwrap(),
                    _ = stopped => {}
                }
            });
        });
        is_ready.recv().unwrap();
        self.server = Some(Running { stop, thread });
    }

    /// As by SIGKILL. Containers go on, as they do in life.
    pub(crate) fn kill(&mut self) {
        let Running { stop, thread } = self.server.take().expect("server runs");
        stop.send(()).unwrap();
        thread.join().unwrap();
        fs::remove_file(self.socket()).unwrap();
        self.state().subscribers.clear();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// A container of a pod that runs in a cgroup of its own.
    pub(crate) fn run(&self, id: &str, pid: u32) {
        let container = wire::Container {
            id: id.to_owned(),
            pod_sandbox_id: "pod-0".to_owned(),
            metadata: Some(wire::ContainerMetadata {
                name: "web".to_owned(),
            }),
            image: Some(wire::ImageSpec {
                image: "docker.io/library/nginx:1".to_owned(),
            }),
            image_ref: "docker.io/library/nginx@sha256:beef".to_owned(),
            state: wire::ContainerState::Running.into(),
            labels: labels(&[("tier", "of the container")]),
        };
        let info = format!("{{\"sandboxID\":\"pod-0\",\"pid\":{pid},\"runtimeSpec\":{{}}}}");
        {
            let mut state = self.state();
            state.containers.insert(id.to_owned(), container);
            state.info.insert(id.to_owned(), Some(info));
        }
        let cgroup = format!("kubepods.slice/crio-{id}.scope");
        let proc = self.directory.path().join("proc").join(pid.to_string());
        fs::create_dir_all(&proc).unwrap();
        fs::write(proc.join("cgroup"), format!("0::/{cgroup}\n")).unwrap();
        fs::create_dir_all(self.directory.path().join("cgroup").join(cgroup)).unwrap();
    }

    /// The verbose part of its status.
    pub(crate) fn info(&self, id: &str, info: Option<&str>) {
        let info = info.map(str::to_owned);
        self.state().info.insert(id.to_owned(), info);
    }

    pub(crate) fn end(&self, id: &str) {
        let mut state = self.state();
        let container = state.containers.get_mut(id).unwrap();
        container.state = wire::ContainerState::Exited.into();
    }

    pub(crate) fn remove(&self, id: &str) {
        self.state().containers.remove(id).unwrap();
    }

    /// It starts after the first list has left.
    pub(crate) fn start_during_scan(&self, id: &str, _pid: u32) {
        self.state().starts_during_scan = Some(id.to_owned());
    }

    /// An event about a container, for everybody who asked, now or later.
    pub(crate) fn emit(&self, id: &str) {
        let mut state = self.state();
        if state.subscribers.is_empty() {
            state.waiting.push(id.to_owned());
        }
        for subscriber in &state.subscribers {
            subscriber.send(event(id)).unwrap();
        }
    }
}

fn event(id: &str) -> Event {
    Ok(wire::ContainerEventResponse {
        container_id: id.to_owned(),
    })
}

fn labels(labels: &[(&str, &str)]) -> BTreeMap<String, String> {
    labels
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

struct Service {
    state: Arc<Mutex<State>>,
}

#[async_trait]
impl RuntimeService for Service {
    type GetContainerEventsStream = Pin<Box<dyn Stream<Item = Event> + Send>>;

    async fn version(
        &self,
        _request: Request<wire::VersionRequest>,
    ) -> Result<Response<wire::VersionResponse>, Status> {
        Ok(Response::new(wire::VersionResponse {
            runtime_name: "cri-o".to_owned(),
            runtime_version: "1.30.0".to_owned(),
        }))
    }

    async fn list_containers(
        &self,
        request: Request<wire::ListContainersRequest>,
    ) -> Result<Response<wire::ListContainersResponse>, Status> {
        let wanted = request.into_inner().filter.map(|filter| filter.id);
        let mut state = self.state.lock().unwrap();
        let containers = state
            .containers
            .values()
            // As CRI-O does: the beginning of an id is enough, and none is every container.
            .filter(|c| wanted.as_ref().is_none_or(|id| c.id.starts_with(id)))
            .cloned()
            .collect();
        if let Some(id) = state.starts_during_scan.take() {
            let container = state.containers.get_mut(&id).unwrap();
            container.state = wire::ContainerState::Running.into();
        }
        Ok(Response::new(wire::ListContainersResponse { containers }))
    }

    async fn container_status(
        &self,
        request: Request<wire::ContainerStatusRequest>,
    ) -> Result<Response<wire::ContainerStatusResponse>, Status> {
        let request = request.into_inner();
        let state = self.state.lock().unwrap();
        if !request.verbose || !state.containers.contains_key(&request.container_id) {
            return Err(Status::not_found("no such container"));
        }
        let info = state.info[&request.container_id].clone();
        let info = info.map(|info| ("info".to_owned(), info));
        Ok(Response::new(wire::ContainerStatusResponse {
            info: info.into_iter().collect(),
        }))
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<wire::PodSandboxStatusRequest>,
    ) -> Result<Response<wire::PodSandboxStatusResponse>, Status> {
        assert_eq!(request.into_inner().pod_sandbox_id, "pod-0");
        let status = wire::PodSandboxStatus {
            metadata: Some(wire::PodSandboxMetadata {
                name: "web-0".to_owned(),
                namespace: "prod".to_owned(),
            }),
            labels: labels(&[("app", "shop"), ("tier", "of the pod")]),
        };
        Ok(Response::new(wire::PodSandboxStatusResponse {
            status: Some(status),
        }))
    }

    async fn get_container_events(
        &self,
        _request: Request<wire::GetEventsRequest>,
    ) -> Result<Response<Self::GetContainerEventsStream>, Status> {
        let mut events = {
            let mut state = self.state.lock().unwrap();
            if state.without_events {
                return Err(Status::unimplemented("not implemented"));
            }
            let (sender, events) = mpsc::unbounded_channel();
            for id in std::mem::take(&mut state.waiting) {
                sender.send(event(&id)).unwrap();
            }
            state.subscribers.push(sender);
            events
        };
        let first = events.recv().await.into_iter();
        let all = tokio_stream::iter(first).chain(UnboundedReceiverStream::new(events));
        Ok(Response::new(Box::pin(all)))
    }
}
