// SPDX-License-Identifier: Apache-2.0
//! A Kubernetes cluster as seen from its only node, which is the guest.
//!
//! `vmtest/guest/node` has started containerd and the kubelet; the control plane is on the host
//! (`xtask/src/cluster.rs`). Objects go to the API as they are written here, YAML or JSON, and come back
//! as JSON. What is done in a container is done as `kubectl exec` does it, by the runtime.

use crate::agent::{fail, started};
use crate::{TIMEOUT, only_in_the_guest};
use http::{Method, Request};
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use kube::{Client, Error};
use serde_json::{Value, json};
use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// The name of the node.
pub const NODE: &str = "gorget-vm";
/// Of somebody who may do everything.
pub const ADMIN: &str = "/job/cluster/admin.kubeconfig";
/// For the agent: it watches as who its pod would be.
pub const FOR_AGENT: &str = "/job/cluster/agent.kubeconfig";
/// What of the API is installed in every cluster that has Gorget.
const CRDS: &str = "/job/crds";
/// The rest of what is installed.
const MANIFESTS: &str = "/job/manifests";
const DOCUMENTATION: &str = "/job/kubernetes.md";

/// Where KubeArmor's ConfigMap is. Nobody has KubeArmor here.
const KUBEARMOR: &str = "kubearmor";

/// An image of busybox alone, with `/data/secret`, `/data/other` and `/data/third`.
pub const IMAGE: &str = "docker.io/library/busybox:1";

/// An image of some of Debian's programs, each a file of its own.
pub const DEBIAN: &str = "docker.io/library/gorget-demo:1";

/// Looking again costs the emulated machine what it needs to get there.
const BETWEEN_LOOKS: Duration = Duration::from_millis(200);

/// Numbers of what is run in containers, so that no two have the same name.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// A way to the API server.
#[derive(Debug)]
pub struct Cluster {
    runtime: Runtime,
    client: ClientOf,
}

struct ClientOf(Client);

impl std::fmt::Debug for ClientOf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a client")
    }
}

impl Cluster {
    /// Connects as somebody who may do everything, and installs the kinds of policies and the agent's rights.
    ///
    /// # Panics
    ///
    /// When that fails, or this is not the guest.
    pub fn connect() -> Self {
        only_in_the_guest();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap_or_else(|error| fail(&format!("making a runtime: {error}")));
        let client = runtime
            .block_on(client())
            .unwrap_or_else(|error| fail(&format!("`{ADMIN}`: {error}")));
        let cluster = Self {
            runtime,
            client: ClientOf(client),
        };
        cluster.install();
        cluster
    }

    fn install(&self) {
        let files =
            fs::read_dir(CRDS).unwrap_or_else(|error| fail(&format!("reading `{CRDS}`: {error}")));
        let mut names = Vec::new();
        for file in files.flatten() {
            let text = fs::read_to_string(file.path())
                .unwrap_or_else(|error| fail(&format!("reading {file:?}: {error}")));
            let name = text.lines().find_map(|line| line.strip_prefix("  name: "));
            let name = name
                .unwrap_or_else(|| fail(&format!("{file:?} has no name")))
                .to_owned();
            self.apply(&crd(&name), &text);
            names.push(name);
        }
        for name in names {
            self.wait_for(&crd(&name), "the kind to be served", |crd| {
                condition(crd, "Established").then_some(())
            });
        }
        // Tests start the agent themselves, with the rights of its pod.
        self.namespace(KUBEARMOR);
        let rights = manifest("gorget.yaml").into_iter();
        for mut object in rights.filter(|object| field(object, "kind") != "DaemonSet") {
            self.apply(&path_of(&object), &object.to_string());
            // As the chart does with `agent.kubearmorNamespace`.
            if matches!(field(&object, "kind"), "Role" | "RoleBinding")
                && let Some(namespace) = object.pointer_mut("/metadata/namespace")
            {
                *namespace = json!(KUBEARMOR);
                self.apply(&path_of(&object), &object.to_string());
            }
        }
    }

    /// Installs what manifests say, with more settings for the agent; the relay stays away, as nobody has an
    /// image of it here.
    ///
    /// # Panics
    ///
    /// When something is refused.
    pub fn install_all(&self, files: &[&str], settings: &str) -> Installed<'_> {
        let objects = files.iter().flat_map(|file| manifest(file));
        let relay = json!("gorget-relay");
        let is_run = |object: &Value| {
            field(object, "kind") != "Deployment"
                || object.pointer("/metadata/name") != Some(&relay)
        };
        let objects = objects.filter(is_run).map(|mut object| {
            let configuration = object.pointer_mut("/data/gorget.yaml");
            if let Some(Value::String(configuration)) = configuration {
                configuration.push_str(settings);
            }
            with_the_nodes_network(object)
        });
        let installed = Installed {
            cluster: self,
            objects: objects.collect(),
        };
        for object in installed.objects() {
            self.apply(&path_of(object), &object.to_string());
        }
        installed
    }

    /// An object, if there is one.
    ///
    /// # Panics
    ///
    /// When the API server refuses or does not answer.
    pub fn get(&self, path: &str) -> Option<Value> {
        match self.ask(Method::GET, path, "application/json", "") {
            Ok(object) => Some(object),
            Err(Error::Api(status)) if status.code == 404 => None,
            Err(error) => fail(&format!("reading {path}: {error}")),
        }
    }

    /// Makes an object be as it is written.
    ///
    /// # Panics
    ///
    /// When it is refused.
    pub fn apply(&self, path: &str, text: &str) {
        if let Err(why) = self.try_to_apply(path, text) {
            fail(&format!("applying {path}: {why}"));
        }
    }

    /// As [`Cluster::apply`]; gives why it was refused.
    ///
    /// # Errors
    ///
    /// What the API server says.
    pub fn try_to_apply(&self, path: &str, text: &str) -> Result<(), String> {
        let path_and_query = format!("{path}?fieldManager=vmtest&force=true");
        let patch = "application/apply-patch+yaml";
        match self.ask(Method::PATCH, &path_and_query, patch, text) {
            Ok(_) => Ok(()),
            Err(Error::Api(status)) => Err(status.message),
            Err(error) => Err(error.to_string()),
        }
    }

    /// As [`Cluster::apply`]; the object is deleted when the result is dropped.
    ///
    /// # Panics
    ///
    /// When it is refused.
    pub fn hold(&self, path: &str, text: &str) -> Held<'_> {
        self.apply(path, text);
        Held {
            cluster: self,
            path: path.to_owned(),
        }
    }

    /// Changes some fields of an object; null removes one.
    ///
    /// # Panics
    ///
    /// When that is refused.
    pub fn merge(&self, path: &str, change: &Value) {
        let patch = "application/merge-patch+json";
        if let Err(error) = self.ask(Method::PATCH, path, patch, &change.to_string()) {
            fail(&format!("changing {path}: {error}"));
        }
    }

    /// Deletes an object at once, without waiting until it is gone.
    ///
    /// # Panics
    ///
    /// When it cannot be deleted.
    pub fn delete(&self, path: &str) {
        let path_and_query = format!("{path}?gracePeriodSeconds=0");
        match self.ask(Method::DELETE, &path_and_query, "application/json", "") {
            Ok(_) => {}
            Err(Error::Api(status)) if status.code == 404 => {}
            Err(error) => fail(&format!("deleting {path}: {error}")),
        }
    }

    /// Waits for something about an object.
    ///
    /// # Panics
    ///
    /// When it does not come.
    pub fn wait_for<T>(&self, path: &str, what: &str, found: impl Fn(&Value) -> Option<T>) -> T {
        self.look_for(path, found)
            .unwrap_or_else(|object| fail(&format!("waited for {what}; {path} is {object:#}")))
    }

    /// Waits for something about an object; gives the object when it does not come.
    fn look_for<T>(&self, path: &str, found: impl Fn(&Value) -> Option<T>) -> Result<T, Value> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let object = self.get(path).unwrap_or_default();
            if let Some(found) = found(&object) {
                return Ok(found);
            }
            if Instant::now() > deadline {
                return Err(object);
            }
            std::thread::sleep(BETWEEN_LOOKS);
        }
    }

    /// Whether the API server answers.
    pub fn answers(&self) -> bool {
        let request = Request::get("/readyz").body(Vec::new());
        let request = request.unwrap_or_else(|error| fail(&format!("asking: {error}")));
        let ready = self.client.0.request_text(request);
        self.runtime.block_on(ready).is_ok()
    }

    /// Has the host end the API server, and waits until it is gone.
    ///
    /// # Panics
    ///
    /// When it stays.
    pub fn stop_api_server(&self) {
        request_of_host("stop-api-server");
        wait("the end of the API server", || {
            (!self.answers()).then_some(())
        });
    }

    /// Has the host start it again, and waits until it answers.
    ///
    /// # Panics
    ///
    /// When it does not.
    pub fn start_api_server(&self) {
        request_of_host("start-api-server");
        wait("the API server", || self.answers().then_some(()));
    }

    /// Makes a namespace that pods can be started in.
    ///
    /// # Panics
    ///
    /// When it does not become one.
    pub fn namespace(&self, name: &str) {
        let path = format!("/api/v1/namespaces/{name}");
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        self.apply(&path, &namespace.to_string());
        let account = format!("{path}/serviceaccounts/default");
        self.wait_for(
            &account,
            "the service account of the namespace",
            |account| account.is_object().then_some(()),
        );
    }

    /// Starts a pod on the node, and waits until all its containers run.
    ///
    /// # Panics
    ///
    /// When they do not.
    pub fn start_pod(&self, namespace: &str, name: &str, labels: &Value, spec: &Value) -> Pod<'_> {
        let pod = self.create_pod(namespace, name, labels, spec);
        pod.wait_until_running();
        pod
    }

    /// Makes a pod on the node. `spec` has its containers, or more than these.
    ///
    /// # Panics
    ///
    /// When it is refused.
    pub fn create_pod(&self, namespace: &str, name: &str, labels: &Value, spec: &Value) -> Pod<'_> {
        let object = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace, "labels": labels},
            "spec": on_the_node(spec),
        });
        let pod = self.pod(namespace, name);
        self.apply(&pod.path(), &object.to_string());
        pod
    }

    /// A pod that somebody else has made. It is deleted when this is dropped.
    pub fn pod(&self, namespace: &str, name: &str) -> Pod<'_> {
        Pod {
            cluster: self,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    fn ask(&self, method: Method, path: &str, kind: &str, body: &str) -> Result<Value, Error> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", kind)
            .body(body.as_bytes().to_vec())
            .unwrap_or_else(|error| fail(&format!("asking for {path}: {error}")));
        self.runtime.block_on(self.client.0.request(request))
    }
}

/// Where the API server is for who has the node's network: QEMU's address of the host, and the port of the
/// kubeconfigs.
pub fn api_server() -> (String, String) {
    let text =
        fs::read_to_string(ADMIN).unwrap_or_else(|error| fail(&format!("`{ADMIN}`: {error}")));
    let config: Value = serde_json::from_str(&text).unwrap_or_default();
    let server = config.pointer("/clusters/0/cluster/server");
    let server = server.and_then(Value::as_str).unwrap_or_default();
    match server.trim_start_matches("https://").split_once(':') {
        Some((host, port)) => (host.to_owned(), port.to_owned()),
        None => fail(&format!("`{ADMIN}` has no server: {text}")),
    }
}

/// Objects of the manifests, deleted when this is dropped.
#[derive(Debug)]
pub struct Installed<'a> {
    cluster: &'a Cluster,
    objects: Vec<Value>,
}

impl Installed<'_> {
    /// As they were written.
    pub fn objects(&self) -> &[Value] {
        &self.objects
    }

    /// Waits until all pods of a workload resource are ready.
    ///
    /// # Panics
    ///
    /// When they are not.
    pub fn wait_until_ready(&self, kind: &str, name: &str) {
        let is_it = |object: &&Value| {
            field(object, "kind") == kind && object.pointer("/metadata/name") == Some(&json!(name))
        };
        let object = self.objects.iter().find(is_it);
        let object = object.unwrap_or_else(|| fail(&format!("there is no {kind} `{name}`")));
        let ready = self.cluster.look_for(&path_of(object), |object| {
            let ready = |key| object.pointer(key).and_then(Value::as_u64);
            (ready("/status/numberReady") == Some(1) || ready("/status/readyReplicas") == Some(1))
                .then_some(())
        });
        if let Err(object) = ready {
            let status = object.get("status").cloned().unwrap_or_default();
            let pods = self.cluster.get("/api/v1/namespaces/gorget/pods");
            let pods = pods.unwrap_or_default();
            let log = "tail -n 20 /var/log/pods/gorget_*/*/*.log";
            let said = Command::new("sh").args(["-c", log]).output();
            let said = said.map(|said| said.stdout).unwrap_or_default();
            fail(&format!(
                "{name} is not ready: {status:#}; pods: {pods:#}; they say:\n{}",
                String::from_utf8_lossy(&said)
            ));
        }
    }
}

impl Drop for Installed<'_> {
    fn drop(&mut self) {
        // What failed before is what counts.
        if std::thread::panicking() {
            return;
        }
        for object in self.objects.iter().rev() {
            if matches!(
                field(object, "kind"),
                "DaemonSet" | "Deployment" | "ValidatingWebhookConfiguration"
            ) {
                self.cluster.delete(&path_of(object));
            }
        }
        let pods = "/api/v1/namespaces/gorget/pods";
        self.cluster
            .wait_for(pods, "the end of Gorget's pods", |pods| {
                let items = pods.get("items")?.as_array()?;
                items.is_empty().then_some(())
            });
    }
}

/// A workload resource of the manifests, for pods on a node without a network of their own.
fn with_the_nodes_network(mut object: Value) -> Value {
    let (host, port) = api_server();
    let found = [
        json!({"name": "KUBERNETES_SERVICE_HOST", "value": host}),
        json!({"name": "KUBERNETES_SERVICE_PORT", "value": port}),
    ];
    if let Some(spec) = object.pointer_mut("/spec/template/spec") {
        if let Some(spec) = spec.as_object_mut() {
            spec.insert("hostNetwork".to_owned(), json!(true));
        }
        let environment = spec.pointer_mut("/containers/0/env");
        if let Some(environment) = environment.and_then(Value::as_array_mut) {
            environment.extend(found);
        }
    }
    // Two would want the same ports.
    if let Some(replicas) = object.pointer_mut("/spec/replicas") {
        *replicas = json!(1);
    }
    object
}

/// What every pod here has: this node, and its network.
pub fn on_the_node(spec: &Value) -> Value {
    let mut whole = json!({
        "nodeName": NODE,
        "hostNetwork": true,
        "automountServiceAccountToken": false,
        "terminationGracePeriodSeconds": 0,
    });
    if let (Some(whole), Some(spec)) = (whole.as_object_mut(), spec.as_object()) {
        whole.extend(spec.clone());
    }
    whole
}

/// A container of busybox that runs a command, or sleeps when that is empty.
pub fn container(name: &str, command: &[&str]) -> Value {
    match command {
        [] => json!({"name": name, "image": IMAGE}),
        command => json!({"name": name, "image": IMAGE, "command": command}),
    }
}

/// An object that is deleted when this is dropped.
#[derive(Debug)]
pub struct Held<'a> {
    cluster: &'a Cluster,
    path: String,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // What failed before is what counts.
        if !std::thread::panicking() {
            self.cluster.delete(&self.path);
        }
    }
}

/// A pod of the cluster, deleted when dropped.
#[derive(Debug)]
pub struct Pod<'a> {
    cluster: &'a Cluster,
    namespace: String,
    name: String,
}

impl Pod<'_> {
    /// Its object's path in the API.
    pub fn path(&self) -> String {
        format!("/api/v1/namespaces/{}/pods/{}", self.namespace, self.name)
    }

    /// Waits until all its containers run.
    ///
    /// # Panics
    ///
    /// When they do not.
    pub fn wait_until_running(&self) {
        self.cluster
            .wait_for(&self.path(), "the pod to run", |pod| {
                let statuses = pod.pointer("/status/containerStatuses")?.as_array()?;
                let running = |status: &Value| status.pointer("/state/running").is_some();
                (!statuses.is_empty() && statuses.iter().all(running)).then_some(())
            });
    }

    /// Waits until a container has ended, and gives its exit code and what it said.
    ///
    /// # Panics
    ///
    /// When it does not end.
    pub fn ended(&self, container: &str) -> (i64, String) {
        let (uid, code) = self
            .cluster
            .wait_for(&self.path(), "the container to end", |pod| {
                let status = status_of(pod, container)?;
                let code = ["/state", "/lastState"]
                    .iter()
                    .find_map(|state| status.pointer(&format!("{state}/terminated/exitCode")))?;
                let uid = pod.pointer("/metadata/uid")?;
                Some((uid.as_str()?.to_owned(), code.as_i64()?))
            });
        let (namespace, name) = (&self.namespace, &self.name);
        let log = format!("/var/log/pods/{namespace}_{name}_{uid}/{container}/0.log");
        let said = fs::read_to_string(&log)
            .unwrap_or_else(|error| fail(&format!("reading `{log}`: {error}")));
        (code, said)
    }

    /// One of its containers that runs.
    ///
    /// # Panics
    ///
    /// When it does not.
    pub fn container(&self, name: &str) -> InPod {
        self.another_container(name, None)
    }

    /// Kills the first process of a container, and waits until the kubelet has started another for it,
    /// which it does without the API server as well.
    ///
    /// # Panics
    ///
    /// When it does not.
    pub fn restart(&self, name: &str) -> InPod {
        let old = self.container(name);
        let kill = ["tasks", "kill", "--signal", "SIGKILL", &old.id];
        ctr(&kill);
        self.another_container(name, Some(&old.id))
    }

    /// As the runtime knows it.
    fn another_container(&self, name: &str, not: Option<&str>) -> InPod {
        let filter = [
            ("pod.namespace", self.namespace.as_str()),
            ("pod.name", &self.name),
            ("container.name", name),
        ]
        .map(|(key, value)| format!("labels.\"io.kubernetes.{key}\"=={value}"))
        .join(",");
        let id = wait(&format!("`{name}` of {self:?} to run"), || {
            let ids = ctr(&["containers", "list", "--quiet", &filter]);
            let tasks = ctr(&["tasks", "list"]);
            let runs = |id: &&str| {
                let mut tasks = tasks.lines().filter(|line| line.starts_with(id));
                tasks.any(|line| line.ends_with("RUNNING"))
            };
            let mut others = ids.lines().filter(|id| Some(*id) != not);
            others.find(runs).map(str::to_owned)
        });
        InPod { id }
    }
}

impl Drop for Pod<'_> {
    fn drop(&mut self) {
        // What failed before is what counts.
        if !std::thread::panicking() {
            self.cluster.delete(&self.path());
        }
    }
}

/// A container of a pod, in which programs are run as `kubectl exec` runs them.
#[derive(Debug)]
pub struct InPod {
    id: String,
}

/// What came of reading a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// What is in it.
    Text(String),
    /// `Permission denied`.
    Denied,
}

impl InPod {
    /// Runs a program, and gives what it said.
    ///
    /// # Panics
    ///
    /// When the runtime cannot be asked.
    pub fn run(&self, command: &[&str]) -> String {
        let name = format!("vmtest-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        ctr(&[&["tasks", "exec", "--exec-id", &name, &self.id], command].concat())
    }

    /// Reads one of the files in `/data`.
    ///
    /// # Panics
    ///
    /// When something else comes of it than its content or a denial.
    pub fn read(&self, file: &str) -> Answer {
        let said = self.run(&["/bin/cat", file]);
        if said.contains("Permission denied") {
            return Answer::Denied;
        }
        if !said.starts_with("the ") {
            fail(&format!("reading `{file}` in {self:?}: {said}"));
        }
        Answer::Text(said.trim().to_owned())
    }

    /// Reads a file until that is denied.
    ///
    /// # Panics
    ///
    /// When it is always allowed.
    pub fn wait_until_denied(&self, file: &str) {
        wait(&format!("denial of `{file}` in {self:?}"), || {
            (self.read(file) == Answer::Denied).then_some(())
        });
    }

    /// Runs a program until it says this.
    ///
    /// # Panics
    ///
    /// When it always says something else.
    pub fn wait_until_said(&self, command: &[&str], text: &str) {
        wait(&format!("`{text}` of {command:?} in {self:?}"), || {
            self.run(command).contains(text).then_some(())
        });
    }

    /// Reads a file until that is allowed.
    ///
    /// # Panics
    ///
    /// When it is always denied.
    pub fn wait_until_allowed(&self, file: &str) {
        wait(&format!("`{file}` in {self:?}"), || {
            (self.read(file) != Answer::Denied).then_some(())
        });
    }
}

/// Runs containerd's client, and gives what it said, whatever its exit code, which is that of the
/// program it runs.
fn ctr(arguments: &[&str]) -> String {
    let mut command = Command::new("ctr");
    command
        .args(["--namespace", "k8s.io"])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    match started(&mut command).wait_with_output() {
        Ok(ended) => String::from_utf8_lossy(&[ended.stdout, ended.stderr].concat()).into_owned(),
        Err(error) => fail(&format!("waiting for {command:?}: {error}")),
    }
}

fn status_of<'a>(pod: &'a Value, container: &str) -> Option<&'a Value> {
    ["containerStatuses", "initContainerStatuses"]
        .iter()
        .filter_map(|kind| pod.pointer(&format!("/status/{kind}"))?.as_array())
        .flatten()
        .find(|status| status.get("name").is_some_and(|name| name == container))
}

/// Whether a condition of an object's status is true.
fn condition(object: &Value, kind: &str) -> bool {
    let conditions = object.pointer("/status/conditions");
    let conditions = conditions.and_then(Value::as_array);
    conditions.into_iter().flatten().any(|condition| {
        let is = |key: &str, value: &str| condition.get(key).is_some_and(|found| found == value);
        is("type", kind) && is("status", "True")
    })
}

/// The objects of one of the files that are shipped.
///
/// # Panics
///
/// When it cannot be read.
pub fn manifest(file: &str) -> Vec<Value> {
    let file = format!("{MANIFESTS}/{file}");
    let text = fs::read_to_string(&file)
        .unwrap_or_else(|error| fail(&format!("reading `{file}`: {error}")));
    serde_saphyr::from_multiple(&text).unwrap_or_else(|error| fail(&format!("`{file}`: {error}")))
}

/// The objects that the documentation tells to apply, block by block.
///
/// # Panics
///
/// When one cannot be read.
pub fn documented() -> Vec<Vec<Value>> {
    let text = fs::read_to_string(DOCUMENTATION)
        .unwrap_or_else(|error| fail(&format!("reading `{DOCUMENTATION}`: {error}")));
    let blocks = text.split("```yaml\n").skip(1);
    let blocks = blocks.filter_map(|block| block.split("```").next());
    blocks
        .map(|block| {
            serde_saphyr::from_multiple(block)
                .unwrap_or_else(|error| fail(&format!("`{DOCUMENTATION}`: {error}")))
        })
        .collect()
}

/// Where an object is in the API.
pub fn path_of(object: &Value) -> String {
    let version = match field(object, "apiVersion") {
        "v1" => "/api/v1".to_owned(),
        group => format!("/apis/{group}"),
    };
    let namespace = match object.pointer("/metadata/namespace") {
        Some(Value::String(namespace)) => format!("namespaces/{namespace}/"),
        _ => String::new(),
    };
    let kinds = field(object, "kind").to_lowercase() + "s";
    let kinds = kinds.replace("policys", "policies");
    let name = object.pointer("/metadata/name").and_then(Value::as_str);
    let name = name.unwrap_or_else(|| fail(&format!("no name: {object:#}")));
    format!("{version}/{namespace}{kinds}/{name}")
}

fn field<'a>(object: &'a Value, key: &str) -> &'a str {
    let value = object.get(key).and_then(Value::as_str);
    value.unwrap_or_else(|| fail(&format!("no `{key}`: {object:#}")))
}

fn crd(name: &str) -> String {
    format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}")
}

/// Looks again and again until something is there.
fn wait<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        if let Some(found) = found() {
            return found;
        }
        if Instant::now() > deadline {
            fail(&format!("waited for: {what}"));
        }
        std::thread::sleep(BETWEEN_LOOKS);
    }
}

/// A line of its own on the console, whatever the test harness has begun there and keeps of what tests
/// print. `xtask` reads it.
fn request_of_host(what: &str) {
    let mut console = std::io::stdout().lock();
    let written = console
        .write_all(format!("\nGORGET-CLUSTER {what}\n").as_bytes())
        .and_then(|()| console.flush());
    if let Err(error) = written {
        fail(&format!("asking the host: {error}"));
    }
}

async fn client() -> Result<Client, Box<dyn std::error::Error>> {
    let file = Kubeconfig::read_from(ADMIN)?;
    let mut config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
    config.read_timeout = Some(TIMEOUT);
    Ok(Client::try_from(config)?)
}
