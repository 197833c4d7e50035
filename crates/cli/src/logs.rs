// SPDX-License-Identifier: Apache-2.0
//! `gorget logs`: follows what the agent reports, one line an event.
//!
//! ```text
//! 12:00:01 BLOCK ksp-name  web  /usr/bin/head -c1 → /run/secrets/token  file, Permission denied, pid 4242
//! ```
//!
//! Read from the left: when (UTC), what was done, which policy, where (`host` outside containers),
//! who did something to what, and what came of it. `--json` has every field.
//!
//! Ends with 0 after `--limit` lines or when nobody reads any more, and with 1 when there is no
//! agent, or no longer. Every subscription is in place before the first line is printed, also the
//! one on standard error that says what is followed.

use crate::render::{self, Color, Painter, Style, harmless};
use anyhow::{Context, anyhow, bail};
use clap::Args;
use gorget_telemetry::{Client, ConnectError, DEFAULT_SOCKET, Received, proto};
use std::error::Error;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tonic::{Status, Streaming};

/// Characters of a command line or path that are shown.
const MOST_SHOWN: usize = 200;

#[derive(Args)]
pub(crate) struct Arguments {
    /// Socket of the agent
    #[arg(long, value_name = "PATH", default_value = DEFAULT_SOCKET)]
    socket: PathBuf,
    /// One JSON object a line, with every field
    #[arg(long)]
    json: bool,
    /// Only alerts, or together with what else is named
    #[arg(long)]
    alerts: bool,
    /// Only logs, or together with what else is named
    #[arg(long)]
    logs: bool,
    /// Only what the agent says about itself, or together with what else is named
    #[arg(long)]
    messages: bool,
    /// End after N lines
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// When to use colour
    #[arg(long, value_enum, default_value_t = Color::Auto)]
    color: Color,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")?;
    runtime.block_on(follow(arguments))?;
    Ok(ExitCode::SUCCESS)
}

async fn follow(arguments: &Arguments) -> anyhow::Result<()> {
    let named = arguments.alerts || arguments.logs || arguments.messages;
    let alerts = arguments.alerts || !named;
    let messages = arguments.messages || !named;

    let path = &arguments.socket;
    let mut client = match Client::connect(path).await {
        Ok(client) => client,
        Err(error) => bail!(unreachable_agent(path, &error)),
    };
    let refused = |status: Status| anyhow!("the agent refused: {}", status.message());
    let mut feed = Feed::default();
    let mut followed = Vec::new();
    if alerts {
        feed.alerts = Some(client.alerts().await.map_err(refused)?);
        followed.push("alerts");
    }
    if arguments.logs {
        feed.logs = Some(client.logs().await.map_err(refused)?);
        followed.push("logs");
    }
    if messages {
        feed.messages = Some(client.messages().await.map_err(refused)?);
        followed.push("messages");
    }
    writeln!(
        io::stderr(),
        "gorget: following {} of `{}`",
        followed.join(" and "),
        path.display()
    )?;

    let painter = Painter::stdout(arguments.color);
    let mut printed = 0;
    while arguments.limit.is_none_or(|limit| printed < limit) {
        let event = match feed.next().await {
            Ok(Some(event)) => event,
            Ok(None) => bail!("the agent ended the feed"),
            Err(status) => bail!("the agent is gone: {}", status.message()),
        };
        let line = if arguments.json {
            json(&event)?
        } else {
            human(&event, painter)
        };
        let mut stdout = io::stdout().lock();
        let written = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
        if !render::delivered(written).context("cannot write to standard output")? {
            break;
        }
        printed += 1;
    }
    Ok(())
}

/// What is followed.
#[derive(Default)]
struct Feed {
    alerts: Option<Streaming<proto::Alert>>,
    logs: Option<Streaming<proto::Log>>,
    messages: Option<Streaming<proto::Message>>,
}

impl Feed {
    /// The next event of any; `None` when one of them has ended.
    async fn next(&mut self) -> Result<Option<Received>, Status> {
        // A stream that loses the race keeps its place: nothing is taken from it.
        tokio::select! {
            alert = next(&mut self.alerts) => Ok(alert?.map(|alert| Received::Alert(Box::new(alert)))),
            log = next(&mut self.logs) => Ok(log?.map(|log| Received::Log(Box::new(log)))),
            message = next(&mut self.messages) => Ok(message?.map(Received::Message)),
        }
    }
}

/// The next of a stream; never, when it is not followed.
async fn next<T>(stream: &mut Option<Streaming<T>>) -> Result<Option<T>, Status> {
    match stream {
        Some(stream) => stream.message().await,
        None => std::future::pending().await,
    }
}

/// Why nobody answered, and what to do.
pub(crate) fn unreachable_agent(path: &Path, error: &ConnectError) -> String {
    let mut kind = None;
    let mut cause = error.source();
    let mut last = error.to_string();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            kind = Some(error.kind());
        }
        last = error.to_string();
        cause = error.source();
    }
    let advice = match kind {
        Some(ErrorKind::PermissionDenied) => "run this as root",
        Some(ErrorKind::NotFound) => {
            "is `gorgetd` running? `--socket` names another place to look for it"
        }
        _ => "is `gorgetd` running?",
    };
    format!(
        "cannot reach the agent at `{}`: {last}; {advice}",
        path.display()
    )
}

fn json(event: &Received) -> serde_json::Result<String> {
    match event {
        Received::Alert(alert) => serde_json::to_string(alert),
        Received::Log(log) => serde_json::to_string(log),
        Received::Message(message) => serde_json::to_string(message),
    }
}

fn human(event: &Received, painter: Painter) -> String {
    match event {
        Received::Alert(alert) => alert_line(alert, painter),
        Received::Log(log) => log_line(log, painter),
        Received::Message(message) => message_line(message, painter),
    }
}

fn alert_line(alert: &proto::Alert, painter: Painter) -> String {
    let (verb, style) = match alert.action.as_str() {
        "Block" => ("BLOCK", Style::Alarm),
        _ => ("AUDIT", Style::Caution),
    };
    let mut outcome = vec![alert.operation.to_lowercase(), alert.result.clone()];
    if alert.action == "Audit (Block)" {
        outcome.push("would have been blocked".to_owned());
    }
    outcome.push(format!("pid {}", alert.host_pid));
    if !alert.message.is_empty() {
        outcome.push(format!("\"{}\"", alert.message));
    }
    let place = place(
        &alert.namespace_name,
        &alert.pod_name,
        &alert.container_id,
        &alert.container_name,
    );
    let policy = harmless(&alert.policy_name, MOST_SHOWN);
    [
        beginning(&alert.updated_time, verb, style, painter),
        format!(" {}", painter.paint(Style::Strong, &policy)),
        format!("  {}", painter.paint(Style::Place, &place)),
        format!(
            "  {} → {}",
            actor(&alert.operation, &alert.process_name, &alert.source),
            painter.paint(Style::Strong, &harmless(&alert.resource, MOST_SHOWN))
        ),
        format!("  {}", harmless(&outcome.join(", "), MOST_SHOWN)),
    ]
    .concat()
}

fn log_line(log: &proto::Log, painter: Painter) -> String {
    let place = place(
        &log.namespace_name,
        &log.pod_name,
        &log.container_id,
        &log.container_name,
    );
    let outcome = format!(
        "{}, {}, pid {}",
        log.operation.to_lowercase(),
        log.result,
        log.host_pid
    );
    [
        beginning(&log.updated_time, "LOG", Style::Faint, painter),
        format!(" {}", painter.paint(Style::Place, &place)),
        format!(
            "  {} → {}",
            actor(&log.operation, &log.process_name, &log.source),
            painter.paint(Style::Strong, &harmless(&log.resource, MOST_SHOWN))
        ),
        format!("  {}", harmless(&outcome, MOST_SHOWN)),
    ]
    .concat()
}

fn message_line(message: &proto::Message, painter: Painter) -> String {
    let style = match message.level.as_str() {
        "ERROR" => Style::Alarm,
        "WARN" => Style::Caution,
        "INFO" => Style::Good,
        _ => Style::Faint,
    };
    let beginning = beginning(&message.updated_time, &message.level, style, painter);
    // Longer than a path: the agent knows what it says.
    format!(
        "{beginning} {}",
        harmless(&message.message, 10 * MOST_SHOWN)
    )
}

/// When, and what was done.
fn beginning(updated_time: &str, verb: &str, style: Style, painter: Painter) -> String {
    // `2006-01-02T15:04:05.000000Z`; something else is shown as it is.
    let time = updated_time
        .split_once('T')
        .and_then(|(_, time)| time.split_once('.'))
        .map_or(updated_time, |(time, _)| time);
    format!(
        "{} {}",
        painter.paint(Style::Faint, &harmless(time, MOST_SHOWN)),
        painter.paint(style, &format!("{:5}", harmless(verb, MOST_SHOWN)))
    )
}

/// `host`, a container, or a container of a pod.
fn place(namespace: &str, pod: &str, id: &str, name: &str) -> String {
    let place = match (id, pod) {
        ("", _) => "host".to_owned(),
        (_, "") => name.to_owned(),
        (_, pod) => format!("{namespace}/{pod}/{name}"),
    };
    harmless(&place, MOST_SHOWN)
}

/// The command line of who acted, with the executable in front when the command line does not say
/// it: the first word is chosen by whoever started the process.
fn actor(operation: &str, process: &str, source: &str) -> String {
    let first = source.split(' ').next();
    let actor = if source.is_empty() {
        process.to_owned()
    } else if operation == "Process" || first == Some(process) || process.is_empty() {
        // For the start of a program, `process` is the one that is started.
        source.to_owned()
    } else {
        format!("{process} ({source})")
    };
    harmless(&actor, MOST_SHOWN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(alert: &proto::Alert) -> String {
        alert_line(alert, Painter::stdout(Color::Never))
    }

    fn alert() -> proto::Alert {
        proto::Alert {
            updated_time: "2026-01-02T12:00:01.000002Z".to_owned(),
            container_id: "c0ffee".to_owned(),
            container_name: "web".to_owned(),
            namespace_name: "container_namespace".to_owned(),
            host_pid: 4242,
            policy_name: "ksp-name".to_owned(),
            process_name: "/usr/bin/head".to_owned(),
            source: "/usr/bin/head -c1 /run/secrets/token".to_owned(),
            operation: "File".to_owned(),
            resource: "/run/secrets/token".to_owned(),
            action: "Block".to_owned(),
            result: "Permission denied".to_owned(),
            ..proto::Alert::default()
        }
    }

    #[test]
    fn a_block_reads_from_when_to_what_came_of_it() {
        assert_eq!(
            shown(&alert()),
            "12:00:01 BLOCK ksp-name  web  /usr/bin/head -c1 /run/secrets/token → \
             /run/secrets/token  file, Permission denied, pid 4242"
        );
    }

    #[test]
    fn what_enforcement_would_have_blocked_is_said() {
        let alert = proto::Alert {
            action: "Audit (Block)".to_owned(),
            result: "Passed".to_owned(),
            message: "no tokens".to_owned(),
            ..alert()
        };
        let line = shown(&alert);
        assert!(line.starts_with("12:00:01 AUDIT ksp-name"), "{line}");
        assert!(
            line.ends_with("file, Passed, would have been blocked, pid 4242, \"no tokens\""),
            "{line}"
        );
    }

    #[test]
    fn a_command_line_that_lies_about_its_program_is_shown_behind_it() {
        assert_eq!(actor("File", "/bin/a", "nginx -g x"), "/bin/a (nginx -g x)");
        assert_eq!(actor("File", "/bin/a", "/bin/ab"), "/bin/a (/bin/ab)");
        assert_eq!(actor("File", "/bin/a", "/bin/a b"), "/bin/a b");
        assert_eq!(actor("File", "/bin/a", ""), "/bin/a");
        assert_eq!(actor("Process", "/bin/ls", "/bin/sh"), "/bin/sh");
    }

    #[test]
    fn places_are_as_short_as_they_can_be() {
        assert_eq!(place("", "", "", ""), "host");
        assert_eq!(place("container_namespace", "", "c0", "web"), "web");
        assert_eq!(place("shop", "web-1", "c0", "web"), "shop/web-1/web");
    }

    #[test]
    fn events_cannot_speak_to_the_terminal() {
        let alert = proto::Alert {
            source: "\u{1b}]0;x\u{7}".to_owned(),
            resource: "/a\nb".to_owned(),
            message: "\u{202e}".to_owned(),
            ..alert()
        };
        let line = shown(&alert);
        assert!(
            !line.contains(|c: char| c.is_control() || c == '\u{202e}'),
            "{line:?}"
        );
    }
}
