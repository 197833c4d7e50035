// SPDX-License-Identifier: Apache-2.0
//! A containerd that does what a test tells it to, and a machine for its containers to run on.
//!
//! Serves the real wire protocol on a socket in a temporary directory. Two habits of the real one
//! matter and are kept: a subscription is answered with its first event only, and `Tasks.List` fills
//! `id` but not `container_id`. The server has a thread and a runtime of its own, so that killing it
//! closes its connections in the middle of whatever it was doing.

use crate::proto::containerd::events::{TaskCreate, TaskDelete, TaskExit, TaskStart};
use crate::proto::containerd::services as wire;
use crate::proto::containerd::types::{Descriptor, Envelope};
use crate::proto::containerd::v1::types::{Process, Status as TaskStatus};
use gorget_containers::{Backoff, Choice, Config, Kind};
use prost::Message;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::Server;
use tonic::{Request, Response, Status, async_trait};

#[derive(Default)]
struct Namespace {
    containers: BTreeMap<String, wire::containers::v1::Container>,
    tasks: BTreeMap<String, Process>,
    images: BTreeMap<String, String>,
    list_fails: bool,
}

struct Subscriber {
    filters: Vec<String>,
    events: mpsc::UnboundedSender<Envelope>,
}

#[derive(Default)]
struct State {
    namespaces: BTreeMap<String, Namespace>,
    subscribers: Vec<Subscriber>,
    during_scan: Vec<Envelope>,
}

impl State {
    fn emit(&mut self, envelope: &Envelope) {
        let wanted = format!("topic==\"{}\"", envelope.topic);
        self.subscribers.retain(|subscriber| {
            !subscriber.filters.contains(&wanted)
                || subscriber.events.send(envelope.clone()).is_ok()
        });
    }
}

struct Running {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

/// The fake and its machine.
pub(crate) struct Fake {
    directory: TempDir,
    state: Arc<Mutex<State>>,
    server: Option<Running>,
}

impl Fake {
    /// A machine with cgroup v2 where containerd does not run yet.
    pub(crate) fn stopped() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("cgroup")).unwrap();
        fs::write(directory.path().join("cgroup/cgroup.controllers"), "cpu\n").unwrap();
        Self {
            directory,
            state: Arc::default(),
            server: None,
        }
    }

    pub(crate) fn running() -> Self {
        let mut fake = Self::stopped();
        fake.start();
        fake
    }

    pub(crate) fn config(&self) -> Config {
        Config {
            runtimes: vec![Choice::at(Kind::Containerd, self.socket())],
            root: self.directory.path().to_owned(),
            proc: self.directory.path().join("proc"),
            cgroup_root: self.directory.path().join("cgroup"),
            backoff: Backoff {
                first: Duration::from_millis(1),
                limit: Duration::from_millis(5),
            },
        }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("containerd.sock")
    }

    /// Returns when the socket exists.
    pub(crate) fn start(&mut self) {
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let state = Arc::clone(&self.state);
        let socket = self.socket();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = UnixListener::bind(socket).unwrap();
                ready.send(()).unwrap();
                tokio::select! {
                    served = serve(state, listener) => served.unwrap(),
                    _ = stopped => {}
                }
            });
        });
        is_ready.recv().unwrap();
        self.server = Some(Running { stop, thread });
    }

    /// As by SIGKILL. Containers and their tasks go on, as they do in life.
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

    /// Puts a process into a cgroup; returns the cgroup's inode.
    pub(crate) fn process(&self, pid: u32, cgroup: &str) -> u64 {
        let proc = self.directory.path().join("proc").join(pid.to_string());
        fs::create_dir_all(&proc).unwrap();
        fs::write(proc.join("cgroup"), format!("0::{cgroup}\n")).unwrap();
        let path = self
            .directory
            .path()
            .join("cgroup")
            .join(cgroup.trim_start_matches('/'));
        fs::create_dir_all(&path).unwrap();
        fs::metadata(path).unwrap().ino()
    }

    pub(crate) fn end_process(&self, pid: u32) {
        fs::remove_dir_all(self.directory.path().join("proc").join(pid.to_string())).unwrap();
    }

    /// Where Docker would keep what it knows of a container.
    pub(crate) fn docker_directory(&self, id: &str) -> PathBuf {
        self.directory.path().join("docker/containers").join(id)
    }

    fn spec(&self, id: &str) -> String {
        let hosts = self.docker_directory(id).join("hosts");
        let hosts = hosts.display();
        format!(r#"{{"mounts":[{{"destination":"/etc/hosts","source":"{hosts}"}}]}}"#)
    }

    /// Stores a container, as `ctr container create` does.
    pub(crate) fn container(
        &self,
        namespace: &str,
        id: &str,
        image: &str,
        labels: &[(&str, &str)],
    ) {
        let container = wire::containers::v1::Container {
            id: id.to_owned(),
            image: image.to_owned(),
            labels: labels
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
            spec: Some(prost_types::Any {
                type_url: String::new(),
                value: self.spec(id).into_bytes(),
            }),
        };
        self.state()
            .namespaces
            .entry(namespace.to_owned())
            .or_default()
            .containers
            .insert(id.to_owned(), container);
    }

    pub(crate) fn image(&self, namespace: &str, name: &str, digest: &str) {
        self.state()
            .namespaces
            .entry(namespace.to_owned())
            .or_default()
            .images
            .insert(name.to_owned(), digest.to_owned());
    }

    /// Sets what `Tasks` says about a container.
    pub(crate) fn task(&self, namespace: &str, id: &str, pid: u32, status: TaskStatus) {
        let process = Process {
            container_id: String::new(),
            id: id.to_owned(),
            pid,
            status: status.into(),
        };
        self.state()
            .namespaces
            .entry(namespace.to_owned())
            .or_default()
            .tasks
            .insert(id.to_owned(), process);
    }

    pub(crate) fn remove_task(&self, namespace: &str, id: &str) {
        self.state()
            .namespaces
            .get_mut(namespace)
            .unwrap()
            .tasks
            .remove(id)
            .unwrap();
    }

    /// A container with a running task in a cgroup of its own.
    pub(crate) fn run(&self, namespace: &str, id: &str, pid: u32) -> u64 {
        self.container(namespace, id, "", &[]);
        self.task(namespace, id, pid, TaskStatus::Running);
        self.process(pid, &format!("/{namespace}/{id}"))
    }

    pub(crate) fn fail_task_list(&self, namespace: &str, fails: bool) {
        self.state()
            .namespaces
            .get_mut(namespace)
            .unwrap()
            .list_fails = fails;
    }

    /// Something to emit when the next scan lists tasks, before the answer leaves.
    pub(crate) fn during_scan(&self, envelope: Envelope) {
        self.state().during_scan.push(envelope);
    }

    pub(crate) fn emit(&self, envelope: Envelope) {
        self.state().emit(&envelope);
    }
}

pub(crate) fn event(namespace: &str, topic: &str, type_url: &str, value: Vec<u8>) -> Envelope {
    Envelope {
        namespace: namespace.to_owned(),
        topic: topic.to_owned(),
        event: Some(prost_types::Any {
            type_url: type_url.to_owned(),
            value,
        }),
    }
}

pub(crate) fn create(namespace: &str, id: &str, pid: u32) -> Envelope {
    let payload = TaskCreate {
        container_id: id.to_owned(),
        pid,
    };
    event(
        namespace,
        "/tasks/create",
        "containerd.events.TaskCreate",
        payload.encode_to_vec(),
    )
}

pub(crate) fn start(namespace: &str, id: &str, pid: u32) -> Envelope {
    let payload = TaskStart {
        container_id: id.to_owned(),
        pid,
    };
    event(
        namespace,
        "/tasks/start",
        "containerd.events.TaskStart",
        payload.encode_to_vec(),
    )
}

/// `process` is the container's id for its first process, else the id of an exec.
pub(crate) fn exit(namespace: &str, id: &str, process: &str, pid: u32) -> Envelope {
    let payload = TaskExit {
        container_id: id.to_owned(),
        id: process.to_owned(),
        pid,
    };
    event(
        namespace,
        "/tasks/exit",
        "containerd.events.TaskExit",
        payload.encode_to_vec(),
    )
}

pub(crate) fn delete(namespace: &str, id: &str, process: &str, pid: u32) -> Envelope {
    let payload = TaskDelete {
        container_id: id.to_owned(),
        id: process.to_owned(),
        pid,
    };
    event(
        namespace,
        "/tasks/delete",
        "containerd.events.TaskDelete",
        payload.encode_to_vec(),
    )
}

#[derive(Clone)]
struct Service {
    state: Arc<Mutex<State>>,
}

async fn serve(
    state: Arc<Mutex<State>>,
    listener: UnixListener,
) -> Result<(), tonic::transport::Error> {
    let service = Service { state };
    Server::builder()
        .add_service(wire::version::v1::version_server::VersionServer::new(
            service.clone(),
        ))
        .add_service(wire::events::v1::events_server::EventsServer::new(
            service.clone(),
        ))
        .add_service(
            wire::namespaces::v1::namespaces_server::NamespacesServer::new(service.clone()),
        )
        .add_service(
            wire::containers::v1::containers_server::ContainersServer::new(service.clone()),
        )
        .add_service(wire::tasks::v1::tasks_server::TasksServer::new(
            service.clone(),
        ))
        .add_service(wire::images::v1::images_server::ImagesServer::new(service))
        .serve_with_incoming(UnixListenerStream::new(listener))
        .await
}

impl Service {
    fn with_namespace<M, T>(
        &self,
        request: Request<M>,
        answer: impl FnOnce(&mut Namespace, M) -> Result<T, Status>,
    ) -> Result<Response<T>, Status> {
        let name = namespace_of(&request)?;
        let mut state = self.state.lock().unwrap();
        let namespace = state
            .namespaces
            .get_mut(&name)
            .ok_or_else(|| Status::not_found("namespace"))?;
        answer(namespace, request.into_inner()).map(Response::new)
    }
}

fn namespace_of<M>(request: &Request<M>) -> Result<String, Status> {
    request
        .metadata()
        .get("containerd-namespace")
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned)
        .ok_or_else(|| Status::failed_precondition("namespace is required"))
}

#[async_trait]
impl wire::version::v1::version_server::Version for Service {
    async fn version(
        &self,
        _request: Request<()>,
    ) -> Result<Response<wire::version::v1::VersionResponse>, Status> {
        Ok(Response::new(wire::version::v1::VersionResponse {
            version: "v1.7.24".to_owned(),
        }))
    }
}

#[async_trait]
impl wire::events::v1::events_server::Events for Service {
    type SubscribeStream = Pin<Box<dyn Stream<Item = Result<Envelope, Status>> + Send>>;

    async fn publish(
        &self,
        request: Request<wire::events::v1::PublishRequest>,
    ) -> Result<Response<()>, Status> {
        let namespace = namespace_of(&request)?;
        let wire::events::v1::PublishRequest { topic, event } = request.into_inner();
        self.state.lock().unwrap().emit(&Envelope {
            namespace,
            topic,
            event,
        });
        Ok(Response::new(()))
    }

    async fn subscribe(
        &self,
        request: Request<wire::events::v1::SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let (events, mut queue) = mpsc::unbounded_channel();
        self.state.lock().unwrap().subscribers.push(Subscriber {
            filters: request.into_inner().filters,
            events,
        });
        let first = queue.recv().await;
        let rest = tokio_stream::wrappers::UnboundedReceiverStream::new(queue);
        Ok(Response::new(Box::pin(
            tokio_stream::iter(first).chain(rest).map(Ok),
        )))
    }
}

#[async_trait]
impl wire::namespaces::v1::namespaces_server::Namespaces for Service {
    async fn list(
        &self,
        _request: Request<wire::namespaces::v1::ListNamespacesRequest>,
    ) -> Result<Response<wire::namespaces::v1::ListNamespacesResponse>, Status> {
        let state = self.state.lock().unwrap();
        Ok(Response::new(
            wire::namespaces::v1::ListNamespacesResponse {
                namespaces: state
                    .namespaces
                    .keys()
                    .map(|name| wire::namespaces::v1::Namespace { name: name.clone() })
                    .collect(),
            },
        ))
    }
}

#[async_trait]
impl wire::containers::v1::containers_server::Containers for Service {
    async fn get(
        &self,
        request: Request<wire::containers::v1::GetContainerRequest>,
    ) -> Result<Response<wire::containers::v1::GetContainerResponse>, Status> {
        self.with_namespace(request, |namespace, message| {
            match namespace.containers.get(&message.id) {
                Some(container) => Ok(wire::containers::v1::GetContainerResponse {
                    container: Some(container.clone()),
                }),
                None => Err(Status::not_found("container")),
            }
        })
    }
}

#[async_trait]
impl wire::tasks::v1::tasks_server::Tasks for Service {
    async fn get(
        &self,
        request: Request<wire::tasks::v1::GetRequest>,
    ) -> Result<Response<wire::tasks::v1::GetResponse>, Status> {
        self.with_namespace(request, |namespace, message| {
            match namespace.tasks.get(&message.container_id) {
                Some(process) => Ok(wire::tasks::v1::GetResponse {
                    process: Some(process.clone()),
                }),
                None => Err(Status::not_found("task")),
            }
        })
    }

    async fn list(
        &self,
        request: Request<wire::tasks::v1::ListTasksRequest>,
    ) -> Result<Response<wire::tasks::v1::ListTasksResponse>, Status> {
        {
            let mut state = self.state.lock().unwrap();
            for envelope in std::mem::take(&mut state.during_scan) {
                state.emit(&envelope);
            }
        }
        self.with_namespace(request, |namespace, _message| {
            if namespace.list_fails {
                return Err(Status::internal("the shims are in disorder"));
            }
            Ok(wire::tasks::v1::ListTasksResponse {
                tasks: namespace.tasks.values().cloned().collect(),
            })
        })
    }
}

#[async_trait]
impl wire::images::v1::images_server::Images for Service {
    async fn get(
        &self,
        request: Request<wire::images::v1::GetImageRequest>,
    ) -> Result<Response<wire::images::v1::GetImageResponse>, Status> {
        self.with_namespace(request, |namespace, message| {
            match namespace.images.get(&message.name) {
                Some(digest) => Ok(wire::images::v1::GetImageResponse {
                    image: Some(wire::images::v1::Image {
                        name: message.name,
                        target: Some(Descriptor {
                            digest: digest.clone(),
                        }),
                    }),
                }),
                None => Err(Status::not_found("image")),
            }
        })
    }
}
