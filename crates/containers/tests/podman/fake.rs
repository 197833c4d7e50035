// SPDX-License-Identifier: Apache-2.0
//! A Podman service that does what a test tells it to, and a machine for its containers to run on.
//!
//! Speaks HTTP as the real one does: one answer a connection, events in chunks that begin when the
//! question was asked. It ends with its connections, as by SIGKILL.

use gorget_containers::{Backoff, Choice, Config, Kind};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

#[derive(Default)]
struct State {
    /// By id, as inspection shows them.
    containers: BTreeMap<String, Value>,
    images: BTreeMap<String, Value>,
    pods: BTreeMap<String, Value>,
    subscribers: Vec<mpsc::UnboundedSender<String>>,
    during_scan: Vec<String>,
    questions: Vec<String>,
}

struct Running {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

pub(crate) struct Fake {
    directory: TempDir,
    socket: PathBuf,
    state: Arc<Mutex<State>>,
    server: Option<Running>,
}

impl Fake {
    /// A machine with cgroup v2 where Podman's service does not run yet.
    pub(crate) fn stopped_at(socket: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("cgroup")).unwrap();
        fs::write(directory.path().join("cgroup/cgroup.controllers"), "cpu\n").unwrap();
        Self {
            socket: directory.path().join(socket),
            directory,
            state: Arc::default(),
            server: None,
        }
    }

    pub(crate) fn running() -> Self {
        Self::running_at("run/podman/podman.sock")
    }

    pub(crate) fn running_at(socket: &str) -> Self {
        let mut fake = Self::stopped_at(socket);
        fake.start();
        fake
    }

    pub(crate) fn root(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn config(&self) -> Config {
        Config {
            runtimes: vec![Choice::anywhere(Kind::Podman)],
            root: self.root().to_owned(),
            proc: self.root().join("proc"),
            cgroup_root: self.root().join("cgroup"),
            backoff: Backoff {
                first: Duration::from_millis(1),
                limit: Duration::from_millis(5),
            },
        }
    }

    /// Returns when the socket exists.
    pub(crate) fn start(&mut self) {
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let (state, socket) = (Arc::clone(&self.state), self.socket.clone());
        fs::create_dir_all(socket.parent().unwrap()).unwrap();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = UnixListener::bind(socket).unwrap();
                ready.send(()).unwrap();
                tokio::select! {
                    () = serve(state, listener) => {}
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
        fs::remove_file(&self.socket).unwrap();
        self.state().subscribers.clear();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Puts a process into a cgroup; returns the cgroup's inode.
    pub(crate) fn process(&self, pid: u32, cgroup: &str) -> u64 {
        let proc = self.root().join("proc").join(pid.to_string());
        fs::create_dir_all(&proc).unwrap();
        fs::write(proc.join("cgroup"), format!("0::{cgroup}\n")).unwrap();
        self.uid_map(pid, "0 0 4294967295\n");
        let path = self
            .root()
            .join("cgroup")
            .join(cgroup.trim_start_matches('/'));
        fs::create_dir_all(&path).unwrap();
        fs::metadata(path).unwrap().ino()
    }

    pub(crate) fn uid_map(&self, pid: u32, map: &str) {
        let proc = self.root().join("proc").join(pid.to_string());
        fs::write(proc.join("uid_map"), map).unwrap();
    }

    /// A container that runs in a cgroup of its own.
    pub(crate) fn run(&self, id: &str, pid: u32) -> u64 {
        self.container(
            id,
            json!({
                "Id": id, "Name": format!("name-of-{id}"), "ImageName": "localhost/shop:1",
                "Image": "d00d", "ImageDigest": "sha256:beef",
                "State": {"Pid": pid, "Status": "running", "Running": true},
                "Config": {"Labels": {"app": "shop"}},
            }),
        );
        self.process(pid, &format!("/machine.slice/libpod-{id}.scope"))
    }

    /// What is said about a container from now on.
    pub(crate) fn container(&self, id: &str, inspection: Value) {
        self.state().containers.insert(id.to_owned(), inspection);
    }

    /// It does not run any more, and is still there.
    pub(crate) fn end(&self, id: &str) {
        let mut state = self.state();
        let container = state.containers.get_mut(id).unwrap();
        container["State"] = json!({"Pid": 0, "Status": "exited", "Running": false});
    }

    pub(crate) fn remove(&self, id: &str) {
        self.state().containers.remove(id).unwrap();
    }

    pub(crate) fn image(&self, id: &str, inspection: Value) {
        self.state().images.insert(id.to_owned(), inspection);
    }

    pub(crate) fn pod(&self, id: &str, inspection: Value) {
        self.state().pods.insert(id.to_owned(), inspection);
    }

    /// Something to emit when the next scan lists containers, before the answer leaves.
    pub(crate) fn during_scan(&self, line: String) {
        self.state().during_scan.push(line);
    }

    pub(crate) fn emit(&self, line: &str) {
        let mut state = self.state();
        let sent = state.subscribers.iter();
        assert!(sent.len() > 0, "somebody listens");
        state
            .subscribers
            .retain(|subscriber| subscriber.send(format!("{line}\n")).is_ok());
    }

    pub(crate) fn questions(&self) -> Vec<String> {
        self.state().questions.clone()
    }
}

/// An event as Podman writes it.
pub(crate) fn event(action: &str, id: &str) -> String {
    json!({
        "status": action, "id": id, "from": "localhost/shop:1", "Type": "container",
        "Action": action, "scope": "local", "time": 1, "timeNano": 1_000_000_000_u64,
        "Actor": {"ID": id, "Attributes": {"image": "localhost/shop:1", "name": "web"}},
    })
    .to_string()
}

async fn serve(state: Arc<Mutex<State>>, listener: UnixListener) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _address)) = listener.accept().await {
        connections.spawn(answer(Arc::clone(&state), stream));
    }
}

async fn answer(state: Arc<Mutex<State>>, mut stream: UnixStream) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => request.push(byte),
            Err(_closed) => return,
        }
    }
    let request = String::from_utf8(request).unwrap();
    let target = request.split(' ').nth(1).unwrap();
    let question = target.strip_prefix("/v4.0.0/libpod/").unwrap().to_owned();
    state.lock().unwrap().questions.push(question.clone());
    if question.starts_with("events?") {
        events(&state, stream).await;
        return;
    }
    let (status, body) = {
        let mut state = state.lock().unwrap();
        if question.starts_with("containers/json") {
            let lines = std::mem::take(&mut state.during_scan);
            for line in lines {
                for subscriber in &state.subscribers {
                    subscriber.send(format!("{line}\n")).unwrap();
                }
            }
        }
        body(&state, &question)
    };
    let length = body.len();
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}");
    // The client may be gone.
    drop(stream.write_all(answer.as_bytes()).await);
}

fn body(state: &State, question: &str) -> (&'static str, String) {
    let path = question.split('?').next().unwrap();
    let parts: Vec<_> = path.split('/').collect();
    let found = match parts.as_slice() {
        ["version"] => Some(json!({"Version": "4.3.1", "ApiVersion": "1.41"})),
        ["containers", "json"] => Some(list(state)),
        ["containers", id, "json"] => state.containers.get(*id).cloned(),
        ["images", id, "json"] => state.images.get(*id).cloned(),
        ["pods", id, "json"] => state.pods.get(*id).cloned(),
        _ => None,
    };
    match found {
        // A stored text is an answer as it is.
        Some(Value::String(text)) => ("200 OK", text),
        // Removed while Podman answers.
        Some(Value::Null) => (
            "500 Internal Server Error",
            json!({"cause": "x", "message": "container x does not exist in database: no such container",
                "response": 500})
            .to_string(),
        ),
        Some(Value::Number(_)) => (
            "500 Internal Server Error",
            json!({"cause": "x", "message": "in disorder", "response": 500}).to_string(),
        ),
        Some(value) => ("200 OK", value.to_string()),
        None => (
            "404 Not Found",
            json!({"cause": "no such container", "message": "no such thing", "response": 404})
                .to_string(),
        ),
    }
}

fn list(state: &State) -> Value {
    let listed = state.containers.iter().map(|(id, inspection)| {
        let pid = inspection
            .get("State")
            .map_or_else(|| json!(1), |state| state["Pid"].clone());
        json!({"Id": id, "Pid": pid, "Names": ["x"], "State": "running"})
    });
    Value::Array(listed.collect())
}

async fn events(state: &Mutex<State>, mut stream: UnixStream) {
    let (sender, mut lines) = mpsc::unbounded_channel();
    state.lock().unwrap().subscribers.push(sender);
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    if stream.write_all(head.as_bytes()).await.is_err() {
        return;
    }
    while let Some(line) = lines.recv().await {
        // Cut anywhere, as the network may.
        let (one, two) = line.split_at(line.len() / 2);
        for part in [one, two] {
            let chunk = format!("{:x}\r\n{part}\r\n", part.len());
            if stream.write_all(chunk.as_bytes()).await.is_err() {
                return;
            }
        }
    }
}
