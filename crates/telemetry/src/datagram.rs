// SPDX-License-Identifier: Apache-2.0
//! Events as datagrams: syslog (RFC 5424, to the local socket or by UDP) and journald's own protocol.
//!
//! The text is the line of JSON that a file would get. A datagram that cannot be sent is one event that
//! did not get there, and the sender knows why.

use crate::convert;
use crate::json;
use gorget_model::{AlertAction, Event, Level};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use tokio::net::{UdpSocket, UnixDatagram};

/// Facility 13 of RFC 5424: log audit.
const FACILITY: u8 = 13;
const NAME: &str = "gorgetd";

/// Where syslog listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A local socket, such as `/dev/log`.
    Local(PathBuf),
    /// An address.
    Udp(SocketAddr),
}

/// In which form events are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Syslog,
    Journal,
}

/// Sends events. It connects when it has something to send, and again after each failure.
#[derive(Debug)]
pub struct DatagramSink {
    place: Place,
    form: Form,
    socket: Option<Socket>,
}

#[derive(Debug)]
enum Socket {
    Local(UnixDatagram),
    Udp(UdpSocket),
}

impl DatagramSink {
    /// To syslog.
    pub fn syslog(place: Place) -> Self {
        Self {
            place,
            form: Form::Syslog,
            socket: None,
        }
    }

    /// To journald's socket.
    pub fn journal(socket: PathBuf) -> Self {
        Self {
            place: Place::Local(socket),
            form: Form::Journal,
            socket: None,
        }
    }

    /// Sends an event, and waits while the socket is full.
    ///
    /// # Errors
    ///
    /// When it did not get there.
    pub async fn send(&mut self, event: &Event) -> io::Result<()> {
        let datagram = match self.form {
            Form::Syslog => syslog(event).into_bytes(),
            Form::Journal => journal(event),
        };
        let sent = match self.try_send(&datagram).await {
            // Who listens may have been started again: a socket of before leads nowhere.
            Err(_) if self.socket.take().is_some() => self.try_send(&datagram).await,
            other => other,
        };
        if sent.is_err() {
            self.socket = None;
        }
        sent
    }

    async fn try_send(&mut self, datagram: &[u8]) -> io::Result<()> {
        let socket = match &mut self.socket {
            Some(socket) => socket,
            empty => empty.insert(connect(&self.place).await?),
        };
        let sent = match socket {
            Socket::Local(socket) => socket.send(datagram).await?,
            Socket::Udp(socket) => socket.send(datagram).await?,
        };
        match sent == datagram.len() {
            true => Ok(()),
            false => Err(io::ErrorKind::WriteZero.into()),
        }
    }
}

async fn connect(place: &Place) -> io::Result<Socket> {
    match place {
        Place::Local(path) => {
            let socket = UnixDatagram::unbound()?;
            socket.connect(Path::new(path))?;
            Ok(Socket::Local(socket))
        }
        Place::Udp(address) => {
            let any: SocketAddr = match address.is_ipv4() {
                true => ([0, 0, 0, 0], 0).into(),
                false => ([0_u16; 8], 0).into(),
            };
            let socket = UdpSocket::bind(any).await?;
            socket.connect(address).await?;
            Ok(Socket::Udp(socket))
        }
    }
}

/// As syslog counts: 3 is an error, 7 is for developers.
fn severity(event: &Event) -> u8 {
    match event {
        Event::Alert(alert) => match alert.action {
            AlertAction::Block => 4,
            AlertAction::Audit | AlertAction::AuditedBlock => 5,
        },
        Event::Threshold(_) => 4,
        Event::Log(_) => 6,
        Event::Message(message) => match message.level {
            Level::Error => 3,
            Level::Warn => 4,
            Level::Info => 6,
            Level::Debug => 7,
        },
    }
}

fn kind(event: &Event) -> &'static str {
    match event {
        Event::Alert(_) => "Alert",
        Event::Log(_) => "Log",
        Event::Message(_) => "Message",
        Event::Threshold(_) => "AlertThreshold",
    }
}

/// `<110>1 TIME HOST gorgetd PID Alert - {...}`.
fn syslog(event: &Event) -> String {
    let priority = u16::from(FACILITY) * 8 + u16::from(severity(event));
    let (time, host) = (
        convert::utc(event.unix_micros()),
        printable(&event.node().host),
    );
    let (pid, kind, line) = (std::process::id(), kind(event), json::line(event));
    format!("<{priority}>1 {time} {host} {NAME} {pid} {kind} - {line}")
}

/// A host's name as RFC 5424 has it: up to 255 printable characters, `-` for none.
fn printable(host: &str) -> String {
    let plain: String = host
        .chars()
        .filter(char::is_ascii_graphic)
        .take(255)
        .collect();
    match plain.is_empty() {
        true => "-".to_owned(),
        false => plain,
    }
}

/// Fields in lines. A value that has a line feed is announced by its length.
fn journal(event: &Event) -> Vec<u8> {
    let mut datagram = Vec::new();
    let mut field = |name: &str, value: &str| {
        if value.is_empty() {
            return;
        }
        datagram.extend(name.as_bytes());
        if value.contains('\n') {
            let length = u64::try_from(value.len()).unwrap_or(u64::MAX);
            datagram.push(b'\n');
            datagram.extend(length.to_le_bytes());
        } else {
            datagram.push(b'=');
        }
        datagram.extend(value.as_bytes());
        datagram.push(b'\n');
    };
    field("MESSAGE", &json::line(event));
    field("PRIORITY", &severity(event).to_string());
    field("SYSLOG_IDENTIFIER", NAME);
    field("SYSLOG_FACILITY", &FACILITY.to_string());
    field("GORGET_KIND", kind(event));
    match event {
        Event::Alert(alert) => {
            field("GORGET_POLICY", &alert.policy.name);
            field("GORGET_ACTION", convert::action(alert.action));
            field("GORGET_OPERATION", convert::operation(alert.category));
            field("GORGET_RESULT", alert.result);
            field("GORGET_SOURCE", &alert.source);
            field("GORGET_RESOURCE", &alert.resource);
            field("GORGET_NAMESPACE", convert::namespace(&alert.workload));
            field("GORGET_CONTAINER", convert::container(&alert.workload));
        }
        Event::Log(log) => {
            field("GORGET_OPERATION", convert::operation(log.category));
            field("GORGET_RESULT", log.result);
            field("GORGET_SOURCE", &log.source);
            field("GORGET_RESOURCE", &log.resource);
            field("GORGET_NAMESPACE", convert::namespace(&log.workload));
            field("GORGET_CONTAINER", convert::container(&log.workload));
        }
        Event::Threshold(threshold) => field("GORGET_POLICY", &threshold.policy),
        Event::Message(_) => {}
    }
    datagram
}
