// SPDX-License-Identifier: Apache-2.0
//! Pods of a real containerd: with NRI, a container whose first program is the forbidden operation; and
//! known by Kubernetes' runtime interface alone, which is what CRI-O speaks and containerd, too.
//!
//! What a kubelet does is done here by the few calls of the container runtime interface that it takes.
#![cfg(test)]
#![expect(
    clippy::disallowed_methods,
    reason = "drives the runtimes' command line tools"
)]

use gorget_vmtest::{
    Agent, Containerd, TIMEOUT, alert_field, only_in_the_guest, packed, small_root, times,
};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};

/// In the long run.
const ATTACKS: usize = 50;
const SECRET: &str = "the secret";
const IMAGE: &str = "docker.io/library/shop:1";
const BLOCK: &str = "
apiVersion: security.kubearmor.com/v1
kind: KubeArmorPolicy
metadata: {name: no-secrets, namespace: prod}
spec:
  selector: {matchLabels: {app: victim}}
  file: {matchPaths: [{path: /shortcut/secret}]}
";
const BLOCK_BY_NAME: &str = "
apiVersion: security.kubearmor.com/v1
kind: KubeArmorPolicy
metadata: {name: by-name, namespace: prod}
spec:
  selector: {matchLabels: {kubearmor.io/container.name: web}}
  file: {matchPaths: [{path: /data/other}]}
";
const CONFIG: &str = r#"
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "docker.io/library/shop:1"
[plugins."io.containerd.nri.v1.nri"]
  disable = false
"#;

/// The messages of `runtime.v1`, with the fields that are used.
mod cri {
    use std::collections::BTreeMap;

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct SandboxMetadata {
        #[prost(string, tag = "1")]
        pub(super) name: String,
        #[prost(string, tag = "2")]
        pub(super) uid: String,
        #[prost(string, tag = "3")]
        pub(super) namespace: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct NamespaceOption {
        /// 2: the machine's.
        #[prost(int32, tag = "1")]
        pub(super) network: i32,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct SecurityContext {
        #[prost(message, optional, tag = "1")]
        pub(super) namespace_options: Option<NamespaceOption>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct LinuxSandbox {
        #[prost(message, optional, tag = "2")]
        pub(super) security_context: Option<SecurityContext>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct SandboxConfig {
        #[prost(message, optional, tag = "1")]
        pub(super) metadata: Option<SandboxMetadata>,
        #[prost(string, tag = "3")]
        pub(super) log_directory: String,
        #[prost(btree_map = "string, string", tag = "6")]
        pub(super) labels: BTreeMap<String, String>,
        #[prost(message, optional, tag = "8")]
        pub(super) linux: Option<LinuxSandbox>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct RunSandbox {
        #[prost(message, optional, tag = "1")]
        pub(super) config: Option<SandboxConfig>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Named {
        #[prost(string, tag = "1")]
        pub(super) name: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct ContainerConfig {
        #[prost(message, optional, tag = "1")]
        pub(super) metadata: Option<Named>,
        #[prost(message, optional, tag = "2")]
        pub(super) image: Option<Named>,
        #[prost(string, repeated, tag = "3")]
        pub(super) command: Vec<String>,
        #[prost(btree_map = "string, string", tag = "9")]
        pub(super) labels: BTreeMap<String, String>,
        #[prost(string, tag = "11")]
        pub(super) log_path: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct CreateContainer {
        #[prost(string, tag = "1")]
        pub(super) pod_sandbox_id: String,
        #[prost(message, optional, tag = "2")]
        pub(super) config: Option<ContainerConfig>,
        #[prost(message, optional, tag = "3")]
        pub(super) sandbox_config: Option<SandboxConfig>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct ContainerStatus {
        /// 2: it has ended.
        #[prost(int32, tag = "3")]
        pub(super) state: i32,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct StatusReply {
        #[prost(message, optional, tag = "1")]
        pub(super) status: Option<ContainerStatus>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Exec {
        #[prost(string, tag = "1")]
        pub(super) container_id: String,
        #[prost(string, repeated, tag = "2")]
        pub(super) command: Vec<String>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct ExecReply {
        #[prost(bytes = "vec", tag = "1")]
        pub(super) stdout: Vec<u8>,
        #[prost(bytes = "vec", tag = "2")]
        pub(super) stderr: Vec<u8>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Nothing {}
}

use cri::Named;

/// The calls of a kubelet.
struct Kubelet {
    channel: Channel,
}

impl Kubelet {
    async fn connect() -> Self {
        let endpoint = Endpoint::from_static("unix:///run/containerd/containerd.sock");
        let channel = endpoint.connect().await.unwrap();
        let kubelet = Self { channel };
        let deadline = Instant::now() + TIMEOUT;
        // The plugin comes up after the socket.
        while let Err(error) = kubelet
            .ask::<_, cri::Nothing>("Version", cri::Nothing {})
            .await
        {
            assert!(Instant::now() < deadline, "no pods here: {error}");
            tokio::task::yield_now().await;
        }
        kubelet
    }

    async fn ask<Q, A>(&self, method: &str, question: Q) -> Result<A, tonic::Status>
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        let mut grpc = tonic::client::Grpc::new(self.channel.clone());
        grpc.ready().await.unwrap();
        let path: PathAndQuery = format!("/runtime.v1.RuntimeService/{method}")
            .parse()
            .unwrap();
        let codec = tonic_prost::ProstCodec::<Q, A>::default();
        let answer = grpc
            .unary(tonic::Request::new(question), path, codec)
            .await?;
        Ok(answer.into_inner())
    }

    async fn start(
        &self,
        pod: &str,
        sandbox: &cri::SandboxConfig,
        name: &str,
        command: &[&str],
    ) -> Named {
        let config = cri::ContainerConfig {
            metadata: Some(named(name)),
            image: Some(named(IMAGE)),
            command: command.iter().map(|&word| word.to_owned()).collect(),
            labels: labels(name),
            log_path: format!("{name}.log"),
        };
        let create = cri::CreateContainer {
            pod_sandbox_id: pod.to_owned(),
            config: Some(config),
            sandbox_config: Some(sandbox.clone()),
        };
        let created: Named = self.ask("CreateContainer", create).await.unwrap();
        let _: cri::Nothing = self.ask("StartContainer", created.clone()).await.unwrap();
        created
    }

    /// What a program in a container that runs says.
    async fn exec(&self, container: &Named, command: &[&str]) -> String {
        let exec = cri::Exec {
            container_id: container.name.clone(),
            command: command.iter().map(|&word| word.to_owned()).collect(),
        };
        let reply: cri::ExecReply = self.ask("ExecSync", exec).await.unwrap();
        String::from_utf8([reply.stdout, reply.stderr].concat()).unwrap()
    }

    /// Runs a container in a pod to its end, and gives what it wrote.
    async fn run(&self, pod: &str, sandbox: &cri::SandboxConfig, name: &str) -> String {
        let command = ["/bin/cat", "/data/secret"];
        let created = self.start(pod, sandbox, name, &command).await;
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let reply: cri::StatusReply =
                self.ask("ContainerStatus", created.clone()).await.unwrap();
            if reply.status.unwrap().state == 2 {
                break;
            }
            assert!(Instant::now() < deadline, "{name} does not end");
        }
        let _: cri::Nothing = self.ask("RemoveContainer", created).await.unwrap();
        let log = Path::new(&sandbox.log_directory).join(format!("{name}.log"));
        fs::read_to_string(log).unwrap()
    }
}

fn named(name: &str) -> Named {
    Named {
        name: name.to_owned(),
    }
}

/// As a kubelet gives them.
fn labels(container: &str) -> std::collections::BTreeMap<String, String> {
    [
        ("app", "victim"),
        ("io.kubernetes.container.name", container),
        ("io.kubernetes.pod.name", "shop"),
        ("io.kubernetes.pod.namespace", "prod"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

fn sandbox() -> cri::SandboxConfig {
    fs::create_dir_all("/tmp/pod-logs").unwrap();
    let host_network = cri::NamespaceOption { network: 2 };
    let security_context = cri::SecurityContext {
        namespace_options: Some(host_network),
    };
    cri::SandboxConfig {
        metadata: Some(cri::SandboxMetadata {
            name: "shop".to_owned(),
            uid: "1".to_owned(),
            namespace: "prod".to_owned(),
        }),
        log_directory: "/tmp/pod-logs".to_owned(),
        labels: [("app".to_owned(), "victim".to_owned())].into(),
        linux: Some(cri::LinuxSandbox {
            security_context: Some(security_context),
        }),
    }
}

fn done(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    said.trim().to_owned()
}

/// Has containerd know an image of busybox, a secret and a link, that sleeps when nobody says what to
/// run.
fn import() {
    let place = PathBuf::from("/tmp/pod-image");
    drop(fs::remove_dir_all(&place));
    fs::create_dir_all(place.join("blobs/sha256")).unwrap();
    let root = place.join("layer");
    small_root(&root);
    let layer = packed(&root);
    fs::remove_dir_all(&root).unwrap();
    let layer = blob(&place, &layer);
    let file = place.join("next");
    let write = |content: serde_json::Value| {
        fs::write(&file, content.to_string()).unwrap();
        blob(&place, &file)
    };
    let (digest, size) = &layer;
    let config = write(serde_json::json!({
        "architecture": "amd64", "os": "linux",
        "config": { "Cmd": ["/bin/sleep", "100000"] },
        "rootfs": { "type": "layers", "diff_ids": [digest] },
    }));
    let oci = "application/vnd.oci.image";
    let manifest = write(serde_json::json!({
        "schemaVersion": 2,
        "mediaType": format!("{oci}.manifest.v1+json"),
        "config": { "mediaType": format!("{oci}.config.v1+json"), "digest": config.0, "size": config.1 },
        "layers": [{ "mediaType": format!("{oci}.layer.v1.tar"), "digest": digest, "size": size }],
    }));
    let index = serde_json::json!({
        "schemaVersion": 2,
        "manifests": [{
            "mediaType": format!("{oci}.manifest.v1+json"), "digest": manifest.0, "size": manifest.1,
            "annotations": { "io.containerd.image.name": IMAGE, "org.opencontainers.image.ref.name": "1" },
        }],
    });
    fs::write(place.join("index.json"), index.to_string()).unwrap();
    fs::write(
        place.join("oci-layout"),
        r#"{"imageLayoutVersion":"1.0.0"}"#,
    )
    .unwrap();
    let archive = packed(&place);
    let import = ["--namespace", "k8s.io", "images", "import"];
    done("ctr", &[&import[..], &[archive.to_str().unwrap()]].concat());
}

/// Moves a file to where its digest says, and gives digest and size.
fn blob(place: &Path, file: &Path) -> (String, u64) {
    let sum = done("sha256sum", &[file.to_str().unwrap()]);
    let sum = sum.split_whitespace().next().unwrap();
    let size = fs::metadata(file).unwrap().len();
    fs::rename(file, place.join("blobs/sha256").join(sum)).unwrap();
    (format!("sha256:{sum}"), size)
}

/// Has a containerd with or without NRI run a pod for what is done with it.
fn with_a_pod(without_nri: bool, does: impl AsyncFnOnce(&Kubelet, &str, &cri::SandboxConfig)) {
    only_in_the_guest();
    let file = "/tmp/containerd-pods.toml";
    let configuration = CONFIG.replace("disable = false", &format!("disable = {without_nri}"));
    fs::write(file, configuration).unwrap();
    let mut containerd = Command::new("containerd");
    containerd.args(["--config", file]);
    let _containerd = Containerd::start_as(containerd);
    import();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let kubelet = Kubelet::connect().await;
        let sandbox = sandbox();
        let run = cri::RunSandbox {
            config: Some(sandbox.clone()),
        };
        let pod: Named = kubelet.ask("RunPodSandbox", run).await.unwrap();
        does(&kubelet, &pod.name, &sandbox).await;
        let _: cri::Nothing = kubelet.ask("StopPodSandbox", pod.clone()).await.unwrap();
        let _: cri::Nothing = kubelet.ask("RemovePodSandbox", pod).await.unwrap();
    });
}

#[test]
fn containerd_waits_for_the_agent_by_nri() {
    with_a_pod(false, async |kubelet, pod, sandbox| {
        let said = kubelet.run(pod, sandbox, "unwatched").await;
        assert!(said.contains(SECRET), "{said}");
        let mut agent = Agent::start_with("", &[("p.yaml", BLOCK)]);
        agent.wait_for("asks by NRI before it starts containers");
        for n in 0..times(ATTACKS) {
            let name = format!("attack-{n}");
            let said = kubelet.run(pod, sandbox, &name).await;
            assert!(!said.contains(SECRET), "{name}: {said}");
            agent.wait_for(&format!(
                "the rules of `{name}` were in force before its first program"
            ));
            let alert = agent.alert_about("/data/secret");
            assert_eq!(alert_field(&alert, "ContainerName"), name);
            assert_eq!(alert_field(&alert, "PodName"), "shop");
        }
    });
}

#[test]
fn a_container_is_selected_by_what_the_runtime_interface_says_of_it() {
    with_a_pod(true, async |kubelet, pod, sandbox| {
        let policies = [("label.yaml", BLOCK), ("name.yaml", BLOCK_BY_NAME)];
        let mut agent = Agent::start_with(
            "runtime: [cri-o=/run/containerd/containerd.sock]",
            &policies,
        );
        agent.wait_for("connected to containerd");
        let sleep = ["/bin/sleep", "100000"];
        let container = kubelet.start(pod, sandbox, "web", &sleep).await;
        agent.wait_for("in force for `web`: no-secrets, by-name");
        let cat = async |file| kubelet.exec(&container, &["/bin/cat", file]).await;
        for (file, policy) in [("/data/secret", "no-secrets"), ("/data/other", "by-name")] {
            let said = cat(file).await;
            assert!(said.contains("Permission denied"), "{said}");
            let alert = agent.alert_about(file);
            for (field, expected) in [
                ("PolicyName", policy),
                ("ContainerName", "web"),
                ("PodName", "shop"),
                ("NamespaceName", "prod"),
            ] {
                assert_eq!(alert_field(&alert, field), expected, "{alert:#}");
            }
            let image = alert_field(&alert, "ContainerImage");
            assert!(image.contains("shop:1"), "{alert:#}");
            assert!(alert_field(&alert, "Labels").contains("app=victim"));
        }
        agent.remove_policy("name.yaml");
        agent.wait_for("in force for `web`: no-secrets");
        assert_eq!(cat("/data/other").await, "the other");
        assert!(cat("/data/secret").await.contains("Permission denied"));
        agent.remove_policy("label.yaml");
        agent.wait_for("no policy is in force for `web`");
        assert_eq!(cat("/data/secret").await, SECRET);
    });
}
