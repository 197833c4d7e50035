// SPDX-License-Identifier: Apache-2.0
//! The configuration file and the command line.
//!
//! Keys that KubeArmor has, have its names. The command line wins over the file. A field that is not
//! known or a value that is not allowed is an error that names file, line and field; the agent does
//! not start on it.

use crate::cluster::{ClusterSettings, KubernetesSpec, KubernetesSpecError};
use crate::enforcer::Defaults;
use crate::listen::{HealthPort, Listen, ListenSpecError, TlsFiles};
use crate::outputs::{OutputSettings, OutputsSpec, OutputsSpecError, RotationSpec};
use crate::runtimes::{self, RuntimeSpec, UnknownRuntime};
use crate::throttle::Limit;
use clap::Parser;
use gorget_bpf::Protection;
use gorget_containers::Choice;
use gorget_model::{Posture, Postures, UnknownVisibility, Visibility};
use gorget_telemetry::{DEFAULT_SOCKET, Limits};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Where the configuration is looked for when none is named.
const DEFAULT_CONFIG: &str = "/etc/gorget/gorget.yaml";
/// Where the agent keeps what must outlive it when no place is named.
const DEFAULT_STATE: &str = "/var/lib/gorget";
/// What is tried when nothing is named.
const DEFAULT_BACKENDS: &str = "bpf,apparmor,none";
/// Where policies are looked for when no place is named.
const DEFAULT_POLICIES: &str = "/etc/gorget/policies";

/// What is kept of the latest events unless configured: some minutes of what people look into, at a
/// tenth of the memory that the agent may take.
const HISTORY_EVENTS: usize = 4_096;
const HISTORY_BYTES: usize = 4 << 20;

/// COMPAT: what KubeArmor logs of containers unless configured. Of the host it is nothing here, as
/// there in a cluster.
const DEFAULT_VISIBILITY: &str = "process,file,network,capabilities";
const DEFAULT_HOST_VISIBILITY: &str = "none";

/// The Gorget agent: enforces policies on this machine and tells what happened.
#[derive(Clone, Debug, Parser)]
#[command(name = "gorgetd", version)]
pub struct Args {
    /// Configuration file [default: /etc/gorget/gorget.yaml where it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Directory of policy files, watched for changes [default: /etc/gorget/policies]
    #[arg(long, value_name = "DIR")]
    policy_dir: Option<PathBuf>,
    /// Unix socket on which alerts are served [default: /run/gorget/gorget.sock]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Where alerts are written as JSON lines: `none`, `stdout` or a file [default: none]
    #[arg(long, value_name = "WHERE")]
    log_path: Option<String>,
    /// Container runtimes to watch: `auto`, `none`, or some of `containerd`, `docker`, `podman`,
    /// `cri-o`, with commas between, each alone or as NAME=SOCKET [default: auto]
    #[arg(long, value_name = "LIST")]
    runtime: Option<String>,
    /// containerd's socket: `auto`, `none` or a path [default: auto]
    #[arg(long, value_name = "PATH")]
    containerd_socket: Option<String>,
    /// The cluster that this machine is a node of: `auto` (the one that this runs in a pod of, if it does),
    /// `off`, or the path of a kubeconfig [default: auto]
    #[arg(long, value_name = "WHICH")]
    kubernetes: Option<String>,
    /// Check that this machine can enforce, say what is missing, and end
    #[arg(long)]
    pub(crate) check: bool,
    /// Say as JSON what this kernel can do, found out by trying, and end; for `gorget probe`
    #[arg(long, conflicts_with = "check")]
    pub(crate) probe: bool,
    /// End the agent that runs, which nothing else may signal, and wait for its end
    #[arg(long, conflicts_with_all = ["check", "probe"])]
    pub(crate) stop: bool,
    /// Have the agent that runs read what is visible (`visibility`, `hostVisibility`) from its
    /// configuration again, and end
    #[arg(long, conflicts_with_all = ["check", "probe", "stop"])]
    pub(crate) reload: bool,
    /// Detach what earlier agents left in force, say what it was, and end
    #[arg(long, conflicts_with_all = ["check", "probe", "stop", "reload"])]
    pub(crate) uninstall: bool,
}

/// What becomes of what is in force when the agent is told to stop. When it is killed or fails,
/// everything stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OnStop {
    /// It stays, and the next agent takes it over.
    #[default]
    Keep,
    /// It ends with the agent.
    Detach,
}

/// What becomes of attempts to end or change the agent, its programs, or its tables, by anything but
/// itself. `gorgetd` tells them by where it is on the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SelfProtection {
    /// They are denied and reported.
    #[default]
    Block,
    /// They are reported.
    Audit,
}

impl From<SelfProtection> for Protection {
    fn from(wanted: SelfProtection) -> Self {
        match wanted {
            SelfProtection::Block => Self::Deny,
            SelfProtection::Audit => Self::Report,
        }
    }
}

/// How policies are put in force. The configuration lists, as `lsm` does in KubeArmor's, what to try, in
/// that order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    /// Programs at the hooks of security modules: everything is enforced.
    Bpf,
    /// AppArmor profiles for the containers that run in them, beside programs that look on.
    AppArmor,
    /// Programs that look on: everything is reported, and nothing is denied.
    None,
}

impl Backend {
    const ALL: [(&str, Self); 3] = [
        ("bpf", Self::Bpf),
        ("apparmor", Self::AppArmor),
        ("none", Self::None),
    ];

    fn list(text: &str) -> Result<Vec<Self>, UnknownBackend> {
        let one = |word: &str| {
            let known = Self::ALL.into_iter().find(|(name, _)| *name == word.trim());
            known
                .map(|(_, backend)| backend)
                .ok_or_else(|| UnknownBackend {
                    word: word.trim().to_owned(),
                    known: Self::ALL.map(|(name, _)| format!("`{name}`")).join(", "),
                })
        };
        text.split(',').map(one).collect()
    }
}

/// The configuration file as written.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ConfigSpec {
    cluster: Option<String>,
    host: Option<String>,
    #[serde(default)]
    node_labels: BTreeMap<String, String>,
    policy_dir: Option<PathBuf>,
    state_dir: Option<PathBuf>,
    socket: Option<PathBuf>,
    log_path: Option<String>,
    log_rotation: Option<RotationSpec>,
    metrics_listen: Option<String>,
    #[serde(default)]
    metrics_public: bool,
    syslog: Option<String>,
    #[serde(default)]
    journald: bool,
    otlp: Option<String>,
    #[serde(default)]
    alert_throttling: bool,
    max_alert_per_sec: Option<u32>,
    throttle_sec: Option<u32>,
    runtime: Option<RuntimeSpec>,
    containerd_socket: Option<String>,
    lsm: Option<String>,
    kubernetes: Option<KubernetesSpec>,
    #[serde(rename = "untrackedNs")]
    untracked_namespaces: Option<String>,
    visibility: Option<String>,
    host_visibility: Option<String>,
    #[serde(default, rename = "enableIMA")]
    enable_ima: bool,
    listen: Option<String>,
    health_listen: Option<String>,
    history_events: Option<usize>,
    history_bytes: Option<usize>,
    tls: Option<TlsFiles>,
    #[serde(default)]
    plain_policy_service: bool,
    #[serde(default)]
    on_stop: OnStop,
    #[serde(default)]
    self_protection: SelfProtection,
    #[serde(default)]
    default_file_posture: Posture,
    #[serde(default)]
    default_network_posture: Posture,
    #[serde(default)]
    default_capabilities_posture: Posture,
    #[serde(default)]
    host_default_file_posture: Posture,
    #[serde(default)]
    host_default_network_posture: Posture,
    #[serde(default)]
    host_default_capabilities_posture: Posture,
    #[serde(default)]
    host_default_device_posture: Posture,
}

/// The configuration in force.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) cluster: String,
    /// Node name; the machine's host name when not configured.
    pub(crate) host: String,
    pub(crate) node_labels: BTreeMap<String, String>,
    pub(crate) policy_dir: PathBuf,
    /// What the agent keeps for itself: applied policies, and what files said last.
    pub(crate) state_dir: PathBuf,
    pub(crate) socket: PathBuf,
    pub(crate) log: LogPath,
    /// Where else events go.
    pub(crate) outputs: OutputSettings,
    /// From when on alerts are only counted; `None`: never.
    pub(crate) throttle: Option<Limit>,
    pub(crate) runtimes: Vec<Choice>,
    /// What to try, in this order.
    pub(crate) backends: Vec<Backend>,
    /// The TCP port, if there is one.
    pub(crate) listen: Option<Listen>,
    /// Where health is told besides.
    pub(crate) health: Option<HealthPort>,
    /// How much is kept for clients that ask for what was before.
    pub(crate) history: Limits,
    pub(crate) on_stop: OnStop,
    pub(crate) protection: Protection,
    /// Of containers; they have no devices of their own.
    pub(crate) postures: Postures,
    /// Of the host.
    pub(crate) host_postures: Postures,
    /// What is logged.
    pub(crate) visible: Defaults,
    /// Events have hashes of programs.
    pub(crate) hashes: bool,
    /// The cluster that is followed, if any.
    pub(crate) kubernetes: Option<ClusterSettings>,
}

/// Where JSON lines go.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum LogPath {
    None,
    Stdout,
    File(PathBuf),
}

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read configuration file `{}`", .path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The file is not a configuration.
    #[error("configuration file `{}`: {reason}", .path.display())]
    Content { path: PathBuf, reason: String },
    /// A value that nothing can be made of.
    #[error(transparent)]
    Runtime(#[from] UnknownRuntime),
    /// A name of no backend.
    #[error(transparent)]
    Backend(#[from] UnknownBackend),
    /// A name of nothing that can be visible.
    #[error("{key}: {reason}")]
    Visibility {
        key: &'static str,
        reason: UnknownVisibility,
    },
    /// The settings of the TCP port contradict each other.
    #[error(transparent)]
    Listen(#[from] ListenSpecError),
    /// Which cluster is meant is not said.
    #[error(transparent)]
    Kubernetes(#[from] KubernetesSpecError),
    /// The settings of an output mean nothing.
    #[error(transparent)]
    Outputs(#[from] OutputsSpecError),
}

/// What `lsm` lists is not known.
#[derive(Debug, thiserror::Error)]
#[error("lsm: `{word}` is not one of {known}")]
pub(crate) struct UnknownBackend {
    word: String,
    known: String,
}

impl Config {
    /// Reads the file that the command line names, or the default one where it exists.
    pub(crate) fn load(args: &Args, host_name: &str) -> Result<Self, ConfigError> {
        let spec = match &args.config {
            Some(path) => read(path)?,
            None if Path::new(DEFAULT_CONFIG).exists() => read(Path::new(DEFAULT_CONFIG))?,
            None => ConfigSpec::default(),
        };
        Self::from_spec(spec, args, host_name)
    }

    fn from_spec(spec: ConfigSpec, args: &Args, host_name: &str) -> Result<Self, ConfigError> {
        let ConfigSpec {
            cluster,
            host,
            node_labels,
            policy_dir,
            state_dir,
            socket,
            log_path,
            log_rotation,
            metrics_listen,
            metrics_public,
            syslog,
            journald,
            otlp,
            alert_throttling,
            max_alert_per_sec,
            throttle_sec,
            runtime,
            containerd_socket,
            lsm,
            kubernetes,
            untracked_namespaces,
            visibility,
            host_visibility,
            enable_ima,
            listen,
            health_listen,
            history_events,
            history_bytes,
            tls,
            plain_policy_service,
            on_stop,
            self_protection,
            default_file_posture,
            default_network_posture,
            default_capabilities_posture,
            host_default_file_posture,
            host_default_network_posture,
            host_default_capabilities_posture,
            host_default_device_posture,
        } = spec;
        let log = match args.log_path.clone().or(log_path).as_deref() {
            None | Some("none" | "") => LogPath::None,
            Some("stdout") => LogPath::Stdout,
            Some(path) => LogPath::File(path.into()),
        };
        let runtime = args.runtime.clone().map(RuntimeSpec::Words).or(runtime);
        let containerd = args.containerd_socket.clone().or(containerd_socket);
        let runtimes = runtimes::choices(runtime.as_ref(), containerd.as_deref())?;
        let listen = Listen::from_spec(listen, tls, plain_policy_service)?;
        let kubernetes = args
            .kubernetes
            .clone()
            .map(KubernetesSpec::Word)
            .or(kubernetes);
        let kubernetes =
            ClusterSettings::from_spec(kubernetes, untracked_namespaces.as_deref(), host_name)?;
        let node = kubernetes.as_ref().map(|cluster| cluster.node.clone());
        let backends = Backend::list(lsm.as_deref().unwrap_or(DEFAULT_BACKENDS))?;
        Ok(Self {
            cluster: cluster.unwrap_or_else(|| "default".to_owned()),
            host: host.or(node).unwrap_or_else(|| host_name.to_owned()),
            node_labels,
            policy_dir: args
                .policy_dir
                .clone()
                .or(policy_dir)
                .unwrap_or_else(|| DEFAULT_POLICIES.into()),
            state_dir: state_dir.unwrap_or_else(|| DEFAULT_STATE.into()),
            socket: args
                .socket
                .clone()
                .or(socket)
                .unwrap_or_else(|| DEFAULT_SOCKET.into()),
            outputs: OutputSettings::from_spec(OutputsSpec {
                has_file: matches!(log, LogPath::File(_)),
                log_rotation,
                metrics_listen,
                metrics_public,
                syslog,
                journald,
                otlp,
            })?,
            log,
            throttle: alert_throttling.then(|| Limit {
                max_per_second: max_alert_per_sec
                    .unwrap_or(Limit::DEFAULT.max_per_second)
                    .max(1),
                seconds: throttle_sec.unwrap_or(Limit::DEFAULT.seconds).max(1),
            }),
            runtimes,
            backends,
            health: HealthPort::from_spec(health_listen.as_deref(), listen.as_ref())?,
            listen,
            history: Limits {
                events: history_events.unwrap_or(HISTORY_EVENTS),
                bytes: history_bytes.unwrap_or(HISTORY_BYTES),
            },
            on_stop,
            protection: self_protection.into(),
            postures: Postures {
                file: default_file_posture,
                network: default_network_posture,
                capabilities: default_capabilities_posture,
                device: Posture::Allow,
            },
            host_postures: Postures {
                file: host_default_file_posture,
                network: host_default_network_posture,
                capabilities: host_default_capabilities_posture,
                device: host_default_device_posture,
            },
            visible: Defaults {
                containers: visible("visibility", visibility.as_deref(), DEFAULT_VISIBILITY)?,
                host: visible(
                    "hostVisibility",
                    host_visibility.as_deref(),
                    DEFAULT_HOST_VISIBILITY,
                )?,
            },
            hashes: enable_ima,
            kubernetes,
        })
    }
}

/// What a key says is visible. COMPAT: `default` is as if it was not there.
fn visible(
    key: &'static str,
    written: Option<&str>,
    default: &str,
) -> Result<Visibility, ConfigError> {
    let text = written.filter(|text| *text != "default").unwrap_or(default);
    Visibility::parse(text).map_err(|reason| ConfigError::Visibility { key, reason })
}

fn read(path: &Path) -> Result<ConfigSpec, ConfigError> {
    let text = fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    if text.trim().is_empty() {
        return Ok(ConfigSpec::default());
    }
    serde_saphyr::from_str(&text).map_err(|error| ConfigError::Content {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use gorget_containers::Kind;

    fn load(text: &str, args: &[&str]) -> Result<Config, ConfigError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        let path = file.path().to_str().unwrap();
        let args = ["gorgetd", "--config", path]
            .into_iter()
            .chain(args.iter().copied());
        Config::load(&Args::parse_from(args), "machine")
    }

    #[test]
    fn an_empty_file_gives_the_defaults() {
        let config = load("", &[]).unwrap();
        assert_eq!(config.host, "machine");
        assert_eq!(config.cluster, "default");
        assert_eq!(config.policy_dir, Path::new("/etc/gorget/policies"));
        assert_eq!(config.postures.file, Posture::Audit);
        assert_eq!(config.log, LogPath::None);
        assert!(!config.hashes);
        assert!(load("enableIMA: true", &[]).unwrap().hashes);
        assert_eq!(config.runtimes, runtimes::choices(None, None).unwrap());
    }

    #[test]
    fn the_command_line_wins_over_the_file() {
        let text = "policyDir: /from/file\nlogPath: stdout\ndefaultFilePosture: block\n";
        let config = load(text, &["--policy-dir", "/from/line"]).unwrap();
        assert_eq!(config.policy_dir, Path::new("/from/line"));
        assert_eq!(config.log, LogPath::Stdout);
        assert_eq!(config.postures.file, Posture::Block);
        assert_eq!(config.host_postures.file, Posture::Audit);
    }

    #[test]
    fn runtimes_are_a_word_or_a_list_and_the_command_line_wins() {
        let only = |kind| vec![Choice::anywhere(kind)];
        let podman = only(Kind::Podman);
        assert_eq!(load("runtime: podman\n", &[]).unwrap().runtimes, podman);
        assert_eq!(load("runtime: [podman]\n", &[]).unwrap().runtimes, podman);
        let config = load("runtime: podman\n", &["--runtime", "docker"]).unwrap();
        assert_eq!(config.runtimes, only(Kind::Containerd));
        let error = load("runtime: [rkt]\n", &[]).unwrap_err().to_string();
        assert!(error.contains("`rkt` is not known"), "{error}");
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let error = load("cluster: c\npolicyDirectory: /x\n", &[])
            .unwrap_err()
            .to_string();
        assert!(error.contains("policyDirectory"), "{error}");
        assert!(error.contains("line 2"), "{error}");
    }

    #[test]
    fn backends_are_tried_in_the_order_that_is_written() {
        let backends = |text| load(text, &[]).unwrap().backends;
        assert_eq!(
            backends(""),
            [Backend::Bpf, Backend::AppArmor, Backend::None]
        );
        assert_eq!(backends("lsm: apparmor"), [Backend::AppArmor]);
        assert_eq!(backends("lsm: bpf"), [Backend::Bpf]);
        assert_eq!(backends("lsm: none, bpf"), [Backend::None, Backend::Bpf]);
        let error = load("lsm: bpf,smack\n", &[]).unwrap_err().to_string();
        assert!(
            error.contains("`smack` is not one of `bpf`, `apparmor`, `none`"),
            "{error}"
        );
    }

    #[test]
    fn what_is_visible_is_kubearmors_unless_it_is_said() {
        let said = |text| load(text, &[]).unwrap().visible;
        let visible = said("");
        assert_eq!(visible.containers.to_string(), DEFAULT_VISIBILITY);
        assert_eq!(visible.host, Visibility::NONE);
        let visible = said("visibility: none\nhostVisibility: process,dns\n");
        assert_eq!(visible.containers, Visibility::NONE);
        assert_eq!(visible.host.to_string(), "process,dns");
        assert_eq!(said("hostVisibility: default\n"), said(""));
        let error = load("hostVisibility: process,files\n", &[]).unwrap_err();
        let error = error.to_string();
        assert!(
            error.starts_with("hostVisibility: `files` is not one of `process`"),
            "{error}"
        );
    }

    #[test]
    fn a_posture_that_does_not_exist_is_refused_with_what_is_allowed() {
        let error = load("defaultFilePosture: deny\n", &[])
            .unwrap_err()
            .to_string();
        assert!(error.contains("deny") && error.contains("block"), "{error}");
    }
}
