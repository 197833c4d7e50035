// SPDX-License-Identifier: Apache-2.0
//! etcd, the API server, the controller manager and the scheduler, as processes of this machine.
//!
//! They listen on loopback only, on ports that were free, and die with this process, however it dies.
//! Their files are in a temporary directory, which a child in a session of its own removes when this
//! process is gone: an interrupt from the terminal does not reach it.

use super::certificates;
use super::programs::Programs;
use super::tunnel::{self, Inside};
use crate::command;
use crate::packages::{Tool, ensure};
use crate::vm::{Network, now};
use anyhow::{Context as _, Result, bail};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;
use std::time::Duration;

/// Longer than a start takes on a busy machine.
const STARTING: Duration = Duration::from_secs(180);
const BETWEEN_LOOKS: Duration = Duration::from_millis(200);

const CURL: Tool = Tool {
    probe: "curl",
    package: "curl",
};

/// Removes the directory when the pipe is closed, even by the end of a process that was killed. What
/// still writes there is being killed as well.
const REMOVE: &str = r#"cd /; read -r never; until rm -rf "$1"; do sleep 0.1; done"#;

/// A running control plane.
pub(super) struct ControlPlane {
    // In the order of ending.
    scheduler: Process,
    controller_manager: Process,
    api_server: Option<Process>,
    etcd: Process,
    programs: Programs,
    ports: Ports,
    directory: Directory,
}

struct Ports {
    etcd: u16,
    etcd_peers: u16,
    api_server: u16,
    /// Forwarded to the guest.
    inside: Inside,
}

impl ControlPlane {
    /// Starts everything and waits until the API server is ready.
    pub(super) fn start(programs: Programs) -> Result<Self> {
        ensure(&[CURL])?;
        let directory = Directory::new()?;
        let ports = Ports::free()?;
        certificates::make(directory.path(), ports.api_server)?;
        tunnel::serve(directory.path(), ports.inside)?;
        let etcd = etcd(&programs, &ports, directory.path())?;
        let mut api_server = api_server(&programs, &ports, directory.path())?;
        wait_until_ready(&mut api_server, directory.path(), ports.api_server)?;
        let controller_manager = controller_manager(&programs, directory.path())?;
        let scheduler = scheduler(&programs, directory.path())?;
        Ok(Self {
            scheduler,
            controller_manager,
            api_server: Some(api_server),
            etcd,
            programs,
            ports,
            directory,
        })
    }

    /// Kills the API server without warning.
    pub(super) fn stop_api_server(&mut self) {
        drop(self.api_server.take());
    }

    /// Starts the API server again, and waits until it is ready.
    pub(super) fn start_api_server(&mut self) -> Result<()> {
        self.stop_api_server();
        let mut api_server = api_server(&self.programs, &self.ports, self.directory.path())?;
        wait_until_ready(
            &mut api_server,
            self.directory.path(),
            self.ports.api_server,
        )?;
        self.api_server = Some(api_server);
        Ok(())
    }

    /// Of somebody who may do everything, for this machine.
    pub(super) fn kubeconfig(&self) -> PathBuf {
        self.directory.path().join("admin.kubeconfig")
    }

    /// What the node's network has to be.
    pub(super) fn network(&self) -> Network {
        Network::Forwarding(vec![
            (self.ports.inside.kubelet, tunnel::KUBELET),
            (self.ports.inside.webhook, tunnel::WEBHOOK),
        ])
    }

    /// Certificates and kubeconfigs for the guest.
    pub(super) fn for_guest(&self) -> PathBuf {
        self.directory.path().join("guest")
    }

    /// An object of the API as JSON; an error when there is none.
    pub(super) fn get(&self, path: &str) -> Result<String> {
        command::output(&mut curl(
            self.directory.path(),
            self.ports.api_server,
            path,
        ))
    }

    /// Fails when one of the programs has ended by itself.
    pub(super) fn check(&mut self) -> Result<()> {
        let processes = [
            Some(&mut self.etcd),
            self.api_server.as_mut(),
            Some(&mut self.controller_manager),
            Some(&mut self.scheduler),
        ];
        processes.into_iter().flatten().try_for_each(Process::check)
    }
}

impl Ports {
    /// Those that are free now. All are taken before one is let go, so that they differ.
    fn free() -> Result<Self> {
        let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("finding a free port");
        let listeners = [listen()?, listen()?, listen()?, listen()?, listen()?];
        let [etcd, etcd_peers, api_server, kubelet, webhook] =
            listeners.map(|l| l.local_addr().map(|a| a.port()));
        Ok(Self {
            etcd: etcd?,
            etcd_peers: etcd_peers?,
            api_server: api_server?,
            inside: Inside {
                kubelet: kubelet?,
                webhook: webhook?,
            },
        })
    }
}

fn etcd(programs: &Programs, ports: &Ports, directory: &Path) -> Result<Process> {
    let clients = format!("http://127.0.0.1:{}", ports.etcd);
    let peers = format!("http://127.0.0.1:{}", ports.etcd_peers);
    let options = [
        "--name=gorget".to_owned(),
        "--data-dir=etcd".to_owned(),
        format!("--listen-client-urls={clients}"),
        format!("--advertise-client-urls={clients}"),
        format!("--listen-peer-urls={peers}"),
        format!("--initial-advertise-peer-urls={peers}"),
        format!("--initial-cluster=gorget={peers}"),
        // Nobody needs the data after a crash.
        "--unsafe-no-fsync".to_owned(),
    ];
    Process::start(directory, "etcd", &programs.etcd, &options)
}

fn api_server(programs: &Programs, ports: &Ports, directory: &Path) -> Result<Process> {
    let options = [
        format!("--etcd-servers=http://127.0.0.1:{}", ports.etcd),
        "--bind-address=127.0.0.1".to_owned(),
        // Loopback is refused here; nothing listens to it but what goes through 10.0.2.2.
        format!("--advertise-address={}", certificates::HOST_OF_GUEST),
        format!("--secure-port={}", ports.api_server),
        "--tls-cert-file=api-server.crt".to_owned(),
        "--tls-private-key-file=api-server.key".to_owned(),
        "--client-ca-file=ca.crt".to_owned(),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        "--service-account-key-file=service-accounts.key".to_owned(),
        "--service-account-signing-key-file=service-accounts.key".to_owned(),
        "--allow-privileged".to_owned(),
        format!("--egress-selector-config-file={}", tunnel::SELECTION),
        "--kubelet-client-certificate=admin.crt".to_owned(),
        // Nobody here can resolve the node's name.
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
        "--kubelet-client-key=admin.key".to_owned(),
    ];
    Process::start(directory, "kube-apiserver", &programs.api_server, &options)
}

fn controller_manager(programs: &Programs, directory: &Path) -> Result<Process> {
    let options = [
        "--kubeconfig=controller-manager.kubeconfig",
        "--use-service-account-credentials",
        "--service-account-private-key-file=service-accounts.key",
        "--root-ca-file=ca.crt",
        // Only its health is served there, and nobody asks for it.
        "--secure-port=0",
        "--leader-elect=false",
        // A guest under emulation answers late.
        "--node-monitor-grace-period=10m",
    ];
    let name = "kube-controller-manager";
    Process::start(directory, name, &programs.controller_manager, &options)
}

fn scheduler(programs: &Programs, directory: &Path) -> Result<Process> {
    let options = [
        "--kubeconfig=scheduler.kubeconfig",
        "--secure-port=0",
        "--leader-elect=false",
    ];
    Process::start(directory, "kube-scheduler", &programs.scheduler, &options)
}

fn wait_until_ready(api_server: &mut Process, directory: &Path, port: u16) -> Result<()> {
    let deadline = now() + STARTING;
    loop {
        api_server.check()?;
        let said = command::output(&mut curl(directory, port, "/readyz"));
        match said {
            Ok(_) => return Ok(()),
            Err(error) if now() > deadline => {
                let last = api_server.last_words();
                return Err(error.context(format!("the API server does not become ready:\n{last}")));
            }
            Err(_) => thread::sleep(BETWEEN_LOOKS),
        }
    }
}

fn curl(directory: &Path, port: u16, path: &str) -> Command {
    let mut curl = command::new("curl");
    curl.args(["--silent", "--show-error", "--fail", "--noproxy", "*"])
        .args(["--max-time", "20", "--cacert", "ca.crt"])
        .args(["--cert", "admin.crt", "--key", "admin.key"])
        .arg(format!("https://127.0.0.1:{port}{path}"))
        .current_dir(directory);
    curl
}

/// A program that runs until it is dropped, and writes what it says to a file.
struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Process {
    fn start(
        directory: &Path,
        name: &'static str,
        program: &Path,
        options: &[impl AsRef<OsStr>],
    ) -> Result<Self> {
        let log = directory.join(format!("{name}.log"));
        let output = File::options().create(true).append(true).open(&log)?;
        let child = command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(program)
            .args(options)
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot run `{}`", program.display()))?;
        Ok(Self { name, child, log })
    }

    fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended ({status}):\n{}", self.name, self.last_words()),
        }
    }

    fn last_words(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        command::tail(&String::from_utf8_lossy(&text))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A temporary directory that does not outlive this process.
struct Directory {
    path: PathBuf,
    remover: Child,
    /// Closing it is the sign to remove the directory.
    sign: Option<ChildStdin>,
}

impl Directory {
    fn new() -> Result<Self> {
        let temporary = tempfile::Builder::new()
            .prefix("gorget-cluster-")
            .tempdir()
            .context("cannot make a temporary directory")?;
        let mut remover = command::new("setsid")
            .args(["sh", "-c", REMOVE, "sh"])
            .arg(temporary.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot run `setsid`")?;
        let sign = remover.stdin.take();
        Ok(Self {
            path: temporary.keep(),
            remover,
            sign,
        })
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Some(mut sign) = self.sign.take() {
            drop(sign.write_all(b"\n"));
        }
        drop(self.remover.wait());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_is_removed_with_its_owner() {
        let directory = Directory::new().unwrap();
        let path = directory.path().to_owned();
        fs::write(path.join("file"), "").unwrap();
        drop(directory);
        assert!(!path.exists());
    }

    #[test]
    fn a_program_that_ends_is_reported_with_what_it_said_last() {
        let place = tempfile::tempdir().unwrap();
        let options = ["-c", "echo out of luck; exit 3"];
        let mut process =
            Process::start(place.path(), "thing", Path::new("/bin/sh"), &options).unwrap();
        let error = loop {
            if let Err(error) = process.check() {
                break error.to_string();
            }
        };
        assert!(error.starts_with("thing ended (exit status: 3)"), "{error}");
        assert!(error.ends_with("out of luck"), "{error}");
    }

    #[test]
    fn ports_differ() {
        let ports = Ports::free().unwrap();
        assert_ne!(ports.etcd, ports.etcd_peers);
        assert_ne!(ports.etcd_peers, ports.api_server);
    }
}
