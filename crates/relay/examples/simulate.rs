// SPDX-License-Identifier: Apache-2.0
//! A thousand agents in one process, a relay in another, and what the relay needs for it.
//!
//! `simulate [AGENTS] [ALERTS_A_SECOND_OF_EACH] [SECONDS]`. The agents are real feeds on Unix sockets, so
//! that what a network adds is missing; TLS too. The relay has one client that wants everything.

use gorget_model::{
    Alert, AlertAction, AlertKind, Category, Container, Event, Node, PolicyRef, Process, Workload,
};
use gorget_relay::{Fleet, FleetSettings, Hub, Static};
use gorget_telemetry::{Address, Feeder, Limits, Services, Sorts, bind};
use std::io::{BufRead as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::task::JoinSet;
use tokio_stream::StreamExt as _;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: u32| {
        wanted
            .get(at)
            .map_or(Ok(default), |text| text.parse::<u32>())
    };
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit {
        current: limit.maximum,
        ..limit
    };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, raised)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    match wanted.first().map(String::as_str) {
        Some("agents") => {
            let (count, rate, seconds) = (number(2, 0)?, number(3, 0)?, number(4, 0)?);
            let dir = wanted.get(1).ok_or("no directory")?;
            runtime.block_on(agents(Path::new(dir), count, rate, seconds))
        }
        _ => runtime.block_on(relay(number(0, 1_000)?, number(1, 10)?, number(2, 10)?)),
    }
}

fn socket(dir: &Path, number: u32) -> PathBuf {
    dir.join(number.to_string())
}

async fn agents(dir: &Path, count: u32, rate: u32, seconds: u32) -> Result<(), Failure> {
    let mut servers = JoinSet::new();
    let mut feeders = Vec::new();
    for number in 0..count {
        let feeder = Feeder::new().with_history(Limits {
            events: 16,
            bytes: 64 << 10,
        });
        let listener = bind(&socket(dir, number))?;
        let services = Services::new(feeder.clone());
        servers.spawn(services.serve(listener, std::future::pending()));
        feeders.push(feeder);
    }
    writeln!(std::io::stdout(), "ready")?;
    // The word to begin comes on standard input, and its end is the end.
    let (go, mut words) = tokio::sync::mpsc::unbounded_channel();
    let reader = std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            if line.is_err() || go.send(()).is_err() {
                return;
            }
        }
    });
    if words.recv().await.is_none() {
        return Ok(());
    }
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate.max(1));
    for tick in 0..rate * seconds {
        ticks.tick().await;
        for (number, feeder) in feeders.iter().enumerate() {
            feeder.publish(alert(number, tick));
            // The servers have a turn now and then.
            if number % 50 == 0 {
                tokio::task::yield_now().await;
            }
        }
    }
    while words.recv().await.is_some() {}
    drop(reader.join());
    Ok(())
}

fn alert(node: usize, number: u32) -> Event {
    #[expect(
        clippy::disallowed_methods,
        reason = "agents that are simulated have a clock"
    )]
    let now = SystemTime::now();
    let now = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let workload = Container {
        id: "4f0c6e3d2b1a".repeat(5),
        name: "server".to_owned(),
        image: "registry.example/shop/frontend:1.4.2".to_owned(),
        namespace: Some("shop".to_owned()),
        pod: Some(format!("frontend-6d5f7c9b8-{node}")),
        ..Container::default()
    };
    Event::Alert(Alert {
        unix_micros: i64::try_from(now.as_micros()).unwrap_or_default(),
        node: Arc::new(Node {
            host: format!("node-{node}"),
            ..Node::default()
        }),
        workload: Arc::new(Workload::Container(workload)),
        process: Process {
            host_pid: number,
            exe: "/usr/bin/bash".to_owned(),
            parent_exe: "/usr/bin/containerd-shim-runc-v2".to_owned(),
            ..Process::default()
        },
        policy: PolicyRef {
            name: "harden-pkg-mngr-exec".to_owned(),
            severity: Some(5),
            tags: vec!["NIST".to_owned(), "MITRE".to_owned()],
            message: "a package manager was started".to_owned(),
        },
        kind: AlertKind::Policy,
        category: Category::Process,
        source: "/usr/bin/bash -c apt-get install nmap".to_owned(),
        resource: format!("/usr/bin/apt-get install nmap{number}"),
        data: "syscall=SYS_EXECVE".to_owned(),
        action: AlertAction::Block,
        result: "Permission denied",
        enforcer: "BPFLSM",
    })
}

async fn relay(count: u32, rate: u32, seconds: u32) -> Result<(), Failure> {
    let dir = tempfile::tempdir()?;
    #[expect(clippy::disallowed_methods, reason = "the agents are another process")]
    let mut agents = std::process::Command::new(std::env::current_exe()?)
        .arg("agents")
        .arg(dir.path())
        .args([count, rate, seconds].map(|it| it.to_string()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut ready = String::new();
    let out = agents.stdout.take().ok_or("no output")?;
    std::io::BufReader::new(out).read_line(&mut ready)?;

    let idle = Use::now()?;
    let hub = Hub::default();
    let fleet = Fleet::default();
    let sorts = Sorts {
        alerts: true,
        logs: false,
        messages: true,
    };
    let mut client = hub.subscribe("client", sorts)?;
    let settings = FleetSettings {
        tls: None,
        sorts,
        since: "5m".to_owned(),
    };
    let addresses = (0..count).map(|number| Address::Socket(socket(dir.path(), number)));
    let mut tasks = JoinSet::new();
    let (running, to, resolve) = (fleet.clone(), hub.clone(), Static::new(addresses));
    tasks.spawn(async move { running.run(resolve, settings, to).await });
    let all = usize::try_from(count)?;
    while fleet.standing().connected < all {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let connected = Use::now()?;
    agents
        .stdin
        .as_mut()
        .ok_or("no input")?
        .write_all(b"go\n")?;
    let expected = u64::from(count) * u64::from(rate) * u64::from(seconds);
    for _ in 0..expected {
        client.next().await.ok_or("the hub ended")?;
    }
    let told = Use::now()?;
    drop(agents.stdin.take());
    agents.wait()?;
    let cpu = told.cpu - connected.cpu;
    let each = cpu * 1e6 / f64::from(count * rate * seconds);
    let mut out = std::io::stdout();
    writeln!(
        out,
        "{count} agents, {rate} alerts a second each, {seconds} s, all came"
    )?;
    writeln!(out, "connecting: {:.2} s of CPU", connected.cpu - idle.cpu)?;
    writeln!(
        out,
        "memory: {} MiB before, {} MiB connected, {} MiB at the end",
        idle.mib, connected.mib, told.mib
    )?;
    writeln!(out, "{cpu:.2} s of CPU for all alerts, {each:.1} µs each")?;
    Ok(())
}

struct Use {
    /// Seconds.
    cpu: f64,
    mib: u64,
}

impl Use {
    fn now() -> Result<Self, Failure> {
        let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        let cpu = Duration::new(used.tv_sec.try_into()?, used.tv_nsec.try_into()?);
        let status = std::fs::read_to_string("/proc/self/status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next());
        Ok(Self {
            cpu: cpu.as_secs_f64(),
            mib: kib.ok_or("no VmRSS")?.parse::<u64>()? / 1_024,
        })
    }
}
