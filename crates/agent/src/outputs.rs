// SPDX-License-Identifier: Apache-2.0
//! Where events go besides clients of the feed, and whether they get there.
//!
//! Each output is a subscriber of the feed with a queue of its own, so that none waits for another; the
//! file alone keeps events before they leave the kernel (`sinks`). An output that fails is said once, and
//! again when it works.

use crate::clock;
use crate::enforcer::lock;
use crate::report::Reporter;
use crate::status::About;
use crate::tasks::Tasks;
use anyhow::Context as _;
use gorget_model::with_causes;
use gorget_telemetry::proto::v1;
use gorget_telemetry::{
    Collector, DatagramSink, Pace, Place, Rotation, Sent, Subscription, serve_metrics,
};
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;

/// journald's socket.
const JOURNAL: &str = "/run/systemd/journal/socket";
/// Files put aside that are kept when nothing else is said.
const KEEP: usize = 10;

/// `logRotation` in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RotationSpec {
    max_megabytes: Option<u64>,
    max_age_hours: Option<u32>,
    keep: Option<usize>,
    compress: Option<bool>,
}

/// What the configuration says of outputs.
#[derive(Debug)]
pub(crate) struct OutputsSpec {
    /// `logPath` is a file.
    pub(crate) has_file: bool,
    pub(crate) log_rotation: Option<RotationSpec>,
    pub(crate) metrics_listen: Option<String>,
    pub(crate) metrics_public: bool,
    pub(crate) syslog: Option<String>,
    pub(crate) journald: bool,
    pub(crate) otlp: Option<String>,
}

/// Where events go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OutputSettings {
    pub(crate) rotation: Option<Rotation>,
    metrics: Option<SocketAddr>,
    syslog: Option<Place>,
    journald: bool,
    otlp: Option<String>,
}

/// The settings mean nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutputsSpecError {
    #[error("`logRotation` is of no use unless `logPath` is a file")]
    NoFile,
    #[error("`logRotation` says neither `maxMegabytes` nor `maxAgeHours`, or 0")]
    Never,
    #[error("`metricsListen`: `{0}` is not an address and a port, such as `127.0.0.1:9464`")]
    Metrics(String),
    #[error(
        "`metricsListen`: `{0}` can be reached from other machines, which `metricsPublic: true` allows"
    )]
    Open(SocketAddr),
    #[error(
        "`syslog`: `{0}` is neither a path, such as `/dev/log`, nor an address, such as `udp:192.0.2.1:514`"
    )]
    Syslog(String),
    #[error("`otlp`: `{0}` is not `http://HOST:PORT`, such as `http://127.0.0.1:4317`")]
    Collector(String),
}

impl OutputSettings {
    pub(crate) fn from_spec(spec: OutputsSpec) -> Result<Self, OutputsSpecError> {
        let OutputsSpec {
            has_file,
            log_rotation,
            metrics_listen,
            metrics_public,
            syslog,
            journald,
            otlp,
        } = spec;
        if log_rotation.is_some() && !has_file {
            return Err(OutputsSpecError::NoFile);
        }
        let metrics = metrics_listen.map(|text| {
            let address: Result<SocketAddr, _> = text.parse();
            let address = address.map_err(|_syntax| OutputsSpecError::Metrics(text))?;
            match address.ip().is_loopback() || metrics_public {
                true => Ok(address),
                false => Err(OutputsSpecError::Open(address)),
            }
        });
        Ok(Self {
            rotation: log_rotation.map(rotation).transpose()?,
            metrics: metrics.transpose()?,
            syslog: syslog.map(|text| place(&text)).transpose()?,
            journald,
            otlp: otlp.map(checked).transpose()?,
        })
    }
}

fn rotation(spec: RotationSpec) -> Result<Rotation, OutputsSpecError> {
    let RotationSpec {
        max_megabytes,
        max_age_hours,
        keep,
        compress,
    } = spec;
    let some = max_megabytes.is_some() || max_age_hours.is_some();
    if !some || max_megabytes == Some(0) || max_age_hours == Some(0) {
        return Err(OutputsSpecError::Never);
    }
    Ok(Rotation {
        max_bytes: max_megabytes.map(|megabytes| megabytes.saturating_mul(1 << 20)),
        max_age: max_age_hours.map(|hours| i64::from(hours) * 3_600),
        keep: keep.unwrap_or(KEEP),
        compress: compress.unwrap_or(true),
    })
}

/// Whether it is an address is known without asking there.
fn checked(address: String) -> Result<String, OutputsSpecError> {
    let uri = address.strip_prefix("http://").unwrap_or_default();
    match uri.parse::<SocketAddr>().is_ok() || is_host_and_port(uri) {
        true => Ok(address),
        false => Err(OutputsSpecError::Collector(address)),
    }
}

fn is_host_and_port(text: &str) -> bool {
    let plain = |host: &str| {
        let letters = |byte: u8| byte.is_ascii_alphanumeric() || b"-.".contains(&byte);
        !host.is_empty() && host.bytes().all(letters)
    };
    let parts = text.rsplit_once(':');
    parts.is_some_and(|(host, port)| plain(host) && port.parse::<u16>().is_ok())
}

fn place(text: &str) -> Result<Place, OutputsSpecError> {
    let wrong = || OutputsSpecError::Syslog(text.to_owned());
    match text.strip_prefix("udp:") {
        Some(address) => address.parse().map(Place::Udp).map_err(|_syntax| wrong()),
        None if text.starts_with('/') => Ok(Place::Local(text.into())),
        None => Err(wrong()),
    }
}

/// Starts what is configured.
pub(crate) async fn start(
    settings: &OutputSettings,
    about: &About,
    reporter: &Reporter,
    tasks: &mut Tasks,
) -> anyhow::Result<()> {
    let OutputSettings {
        rotation: _,
        metrics,
        syslog,
        journald,
        otlp,
    } = settings;
    let mut add = |name: &'static str, target: &str, sink: DatagramSink| {
        let output = about.outputs.add(name, target);
        let events = about.feeder.subscribe(name);
        tasks.spawn(name, send(events, sink, output, reporter.clone()));
    };
    if let Some(place) = syslog {
        let target = match place {
            Place::Local(path) => path.display().to_string(),
            Place::Udp(address) => format!("udp:{address}"),
        };
        add("syslog", &target, DatagramSink::syslog(place.clone()));
    }
    if *journald {
        add(
            "journald",
            JOURNAL,
            DatagramSink::journal(PathBuf::from(JOURNAL)),
        );
    }
    if let Some(address) = otlp {
        // Said before that it is an address.
        let collector = Collector::new(address, about.node(), Pace::default())?;
        let told = |output: Output| {
            let reporter = reporter.clone();
            let fails = AtomicBool::new(false);
            move |sent| tell(&output, &reporter, &fails, sent)
        };
        let events = about.feeder.subscribe("otlp");
        let logs = told(about.outputs.add("otlp logs", address));
        tasks.spawn("otlp logs", collector.clone().send_events(events, logs));
        let of_metrics = told(about.outputs.add("otlp metrics", address));
        let about = about.clone();
        let now = move || (about.metrics(), clock::unix_micros());
        tasks.spawn("otlp metrics", collector.send_metrics(now, of_metrics));
    }
    if let Some(address) = metrics {
        let listener = TcpListener::bind(address).await;
        let listener =
            listener.with_context(|| format!("opening `{address}` (`metricsListen`)"))?;
        reporter.info(format!("metrics are at `http://{address}/metrics`"));
        let (about, reporter) = (about.clone(), reporter.clone());
        tasks.spawn("metrics", async move {
            let text = move || about.metrics().text();
            let failed = |error| reporter.warn(format!("a connection for metrics failed: {error}"));
            serve_metrics(listener, text, failed).await;
        });
    }
    Ok(())
}

/// Says how sending to a collector fares, when that changes.
fn tell(output: &Output, reporter: &Reporter, fails: &AtomicBool, sent: Sent) {
    let to = &output.name;
    match sent {
        Sent::Works => {
            output.works();
            if fails.swap(false, Ordering::Relaxed) {
                reporter.info(format!("{to} works again"));
            }
        }
        Sent::Fails { reason, lost } => {
            output.fails(&reason, lost);
            if !fails.swap(true, Ordering::Relaxed) {
                reporter.error(format!("{to} does not work: {reason}"));
            }
        }
    }
}

/// Sends everything until the feed ends.
async fn send(
    mut events: Subscription,
    mut sink: DatagramSink,
    output: Output,
    reporter: Reporter,
) {
    let mut fails = 0;
    while let Some(delivery) = events.next().await {
        match sink.send(&delivery.into_event()).await {
            Ok(()) if fails == 0 => {}
            Ok(()) => {
                output.works();
                let missing = std::mem::take(&mut fails);
                let to = &output.name;
                reporter.warn(format!("events get to {to} again, {missing} are missing"));
            }
            Err(error) => {
                output.fails(&with_causes(&error), 1);
                fails += 1;
                if fails == 1 {
                    let to = &output.name;
                    reporter.error(format!("events do not get to {to}: {error}"));
                }
            }
        }
    }
}

/// All outputs. Cheap to clone; all clones are one list.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outputs {
    all: Arc<Mutex<Vec<v1::Output>>>,
}

/// One of them, which says how it fares.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    outputs: Outputs,
    number: usize,
    /// What people call it.
    name: String,
}

impl Outputs {
    pub(crate) fn add(&self, kind: &str, target: &str) -> Output {
        let mut all = lock(&self.all);
        all.push(v1::Output {
            kind: kind.to_owned(),
            target: target.to_owned(),
            ..v1::Output::default()
        });
        Output {
            outputs: self.clone(),
            number: all.len() - 1,
            name: format!("{kind} (`{target}`)"),
        }
    }

    /// How all fare.
    pub(crate) fn told(&self) -> Vec<v1::Output> {
        lock(&self.all).clone()
    }
}

impl Output {
    /// It works.
    pub(crate) fn works(&self) {
        self.change(|output| output.error.clear());
    }

    /// It does not work, and so many events more did not get there.
    pub(crate) fn fails(&self, reason: &str, lost: u64) {
        self.change(|output| {
            reason.clone_into(&mut output.error);
            output.lost += lost;
        });
    }

    fn change(&self, how: impl FnOnce(&mut v1::Output)) {
        lock(&self.outputs.all).get_mut(self.number).map(how);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gorget_model::{Event, Level, Message};
    use gorget_telemetry::{Delivery, Feeder};
    use tokio::net::UnixDatagram;

    fn spec() -> OutputsSpec {
        OutputsSpec {
            has_file: true,
            log_rotation: None,
            metrics_listen: None,
            metrics_public: false,
            syslog: None,
            journald: false,
            otlp: None,
        }
    }

    fn wrong(spec: OutputsSpec) -> String {
        OutputSettings::from_spec(spec).unwrap_err().to_string()
    }

    #[test]
    fn nothing_is_sent_anywhere_unless_configured() {
        let settings = OutputSettings::from_spec(spec()).unwrap();
        assert_eq!(settings, OutputSettings::default());
    }

    #[test]
    fn metrics_are_for_this_machine_unless_said_otherwise() {
        let listen = |address: &str, metrics_public| OutputsSpec {
            metrics_listen: Some(address.to_owned()),
            metrics_public,
            ..spec()
        };
        OutputSettings::from_spec(listen("[::1]:9464", false)).unwrap();
        assert!(wrong(listen("0.0.0.0:9464", false)).contains("`metricsPublic: true`"));
        OutputSettings::from_spec(listen("0.0.0.0:9464", true)).unwrap();
        assert!(wrong(listen("9464", false)).contains("`9464` is not an address"));
    }

    #[test]
    fn syslog_is_a_path_or_an_address() {
        let at = |text: &str| {
            let syslog = Some(text.to_owned());
            OutputSettings::from_spec(OutputsSpec { syslog, ..spec() })
        };
        assert_eq!(
            at("/dev/log").unwrap().syslog,
            Some(Place::Local("/dev/log".into()))
        );
        assert!(matches!(
            at("udp:127.0.0.1:514").unwrap().syslog,
            Some(Place::Udp(_))
        ));
        for bad in ["", "udp:localhost:514", "tcp:127.0.0.1:514", "log"] {
            let error = at(bad).unwrap_err().to_string();
            assert!(error.contains(&format!("`{bad}`")), "{error}");
        }
    }

    #[tokio::test]
    async fn a_collector_is_a_host_and_a_port_without_tls() {
        let at = |text: &str| {
            let otlp = Some(text.to_owned());
            OutputSettings::from_spec(OutputsSpec { otlp, ..spec() })
        };
        for good in [
            "http://127.0.0.1:4317",
            "http://[::1]:4317",
            "http://otel-collector:4317",
        ] {
            assert_eq!(at(good).unwrap().otlp.as_deref(), Some(good));
            Collector::new(good, Arc::default(), Pace::default()).unwrap();
        }
        for bad in [
            "",
            "https://x:4317",
            "http://x",
            "http://:1",
            "http://a b:1",
            "x:4317",
        ] {
            let error = at(bad).unwrap_err().to_string();
            assert!(error.contains(&format!("`{bad}`")), "{error}");
        }
    }

    #[test]
    fn a_rotation_says_when_and_is_of_a_file() {
        let rotation = RotationSpec {
            max_megabytes: Some(100),
            max_age_hours: None,
            keep: None,
            compress: None,
        };
        let of = |rotation, has_file| OutputsSpec {
            log_rotation: Some(rotation),
            has_file,
            ..spec()
        };
        let settings = OutputSettings::from_spec(of(rotation, true)).unwrap();
        let expected = Rotation {
            max_bytes: Some(100 << 20),
            max_age: None,
            keep: KEEP,
            compress: true,
        };
        assert_eq!(settings.rotation, Some(expected));
        assert!(wrong(of(rotation, false)).contains("unless `logPath` is a file"));
        let never = RotationSpec {
            max_megabytes: None,
            ..rotation
        };
        assert!(wrong(of(never, true)).contains("`maxMegabytes`"));
    }

    #[tokio::test]
    async fn what_did_not_get_there_is_counted_and_said_when_it_does_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let feeder = Feeder::new();
        let outputs = Outputs::default();
        let reporter = Reporter::new(Arc::default(), feeder.clone());
        let sink = DatagramSink::syslog(Place::Local(path.clone()));
        let event = || {
            Event::Message(Message {
                unix_micros: 0,
                node: Arc::default(),
                level: Level::Info,
                text: "something".to_owned(),
            })
        };
        let mut said = feeder.subscribe("test");
        let output = outputs.add("syslog", "log");
        let sending = send(feeder.subscribe("syslog"), sink, output, reporter);
        let test = async {
            let mut next = async || match said.next().await {
                Some(Delivery::Event(event)) => match &*event {
                    Event::Message(message) => message.text.clone(),
                    Event::Alert(_) | Event::Log(_) | Event::Threshold(_) => {
                        panic!("not a message")
                    }
                },
                other => panic!("not an event: {other:?}"),
            };
            feeder.publish(event());
            assert_eq!(next().await, "something");
            assert!(
                next()
                    .await
                    .starts_with("events do not get to syslog (`log`)")
            );
            while outputs.told()[0].lost < 2 {
                tokio::task::yield_now().await;
            }
            assert!(!outputs.told()[0].error.is_empty());
            let _syslog = UnixDatagram::bind(&path).unwrap();
            feeder.publish(event());
            assert_eq!(next().await, "something");
            assert_eq!(
                next().await,
                "events get to syslog (`log`) again, 2 are missing"
            );
            assert_eq!(outputs.told()[0].error, "");
        };
        tokio::select! {
            () = test => {}
            () = sending => panic!("it ended"),
        }
    }
}
