// SPDX-License-Identifier: Apache-2.0
//! Events as one line each, for people.
//!
//! ```text
//! 12:00:01 BLOCK ksp-name  web  /usr/bin/head -c1 → /run/secrets/token  file, Permission denied, pid 4242
//! ```
//!
//! Read from the left: when (UTC), what was done, which policy, where (`host` outside containers),
//! who did something to what, and what came of it.

use crate::render::{Painter, Style, harmless};
use gorget_telemetry::{Received, proto};

/// Characters of a command line or path that are shown.
const MOST_SHOWN: usize = 200;

/// How much of an event is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Form {
    /// Also what is not needed to understand it.
    pub(super) wide: bool,
    /// Also which machine it was.
    pub(super) host: bool,
}

/// One line.
pub(super) fn human(event: &Received, form: Form, painter: Painter) -> String {
    match event {
        Received::Alert(alert) => alert_line(alert, form, painter),
        Received::Log(log) => log_line(log, form, painter),
        Received::Message(message) => message_line(message, form, painter),
    }
}

fn alert_line(alert: &proto::Alert, form: Form, painter: Painter) -> String {
    // What a client was too slow for is no alert about anybody.
    if alert.policy_name.is_empty() && alert.operation == "Dropped" {
        let said = harmless(&alert.message, MOST_SHOWN);
        return told(alert, "LOST", form, painter) + " " + &said;
    }
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
    if form.wide {
        outcome.extend(more(&[
            ("severity", &alert.severity),
            ("tags", &alert.tags),
            ("data", &alert.data),
            ("user", &user(alert.uid, &alert.user_name)),
            ("parent", &alert.parent_process_name),
            ("in", &alert.cwd),
            ("terminal", &alert.tty),
            ("session", &session(alert.exec_event.as_ref())),
            ("image", &alert.container_image),
            ("enforcer", &alert.enforcer),
        ]));
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
        machine(&alert.host_name, form, painter),
        format!(" {}", painter.paint(Style::Strong, &policy)),
        format!("  {}", painter.paint(Style::Place, &place)),
        format!(
            "  {} → {}",
            actor(&alert.operation, &alert.process_name, &alert.source),
            painter.paint(Style::Strong, &harmless(&alert.resource, MOST_SHOWN))
        ),
        format!("  {}", harmless(&outcome.join(", "), 5 * MOST_SHOWN)),
    ]
    .concat()
}

fn told(alert: &proto::Alert, verb: &str, form: Form, painter: Painter) -> String {
    let beginning = beginning(&alert.updated_time, verb, Style::Alarm, painter);
    beginning + &machine(&alert.host_name, form, painter)
}

fn log_line(log: &proto::Log, form: Form, painter: Painter) -> String {
    let place = place(
        &log.namespace_name,
        &log.pod_name,
        &log.container_id,
        &log.container_name,
    );
    let mut outcome = vec![
        log.operation.to_lowercase(),
        log.result.clone(),
        format!("pid {}", log.host_pid),
    ];
    if form.wide {
        outcome.extend(more(&[
            ("data", &log.data),
            ("user", &user(log.uid, &log.user_name)),
            ("parent", &log.parent_process_name),
            ("in", &log.cwd),
            ("terminal", &log.tty),
            ("session", &session(log.exec_event.as_ref())),
            ("image", &log.container_image),
        ]));
    }
    [
        beginning(&log.updated_time, "LOG", Style::Faint, painter),
        machine(&log.host_name, form, painter),
        format!(" {}", painter.paint(Style::Place, &place)),
        format!(
            "  {} → {}",
            actor(&log.operation, &log.process_name, &log.source),
            painter.paint(Style::Strong, &harmless(&log.resource, MOST_SHOWN))
        ),
        format!("  {}", harmless(&outcome.join(", "), 5 * MOST_SHOWN)),
    ]
    .concat()
}

fn message_line(message: &proto::Message, form: Form, painter: Painter) -> String {
    let style = match message.level.as_str() {
        "ERROR" => Style::Alarm,
        "WARN" => Style::Caution,
        "INFO" => Style::Good,
        _ => Style::Faint,
    };
    let beginning = beginning(&message.updated_time, &message.level, style, painter);
    let machine = machine(&message.host_name, form, painter);
    // Longer than a path: the agent knows what it says.
    format!(
        "{beginning}{machine} {}",
        harmless(&message.message, 10 * MOST_SHOWN)
    )
}

/// What is there of what is only shown when more is wanted.
fn more(fields: &[(&str, &str)]) -> Vec<String> {
    let there = fields.iter().filter(|(_, value)| !value.is_empty());
    there
        .map(|(name, value)| format!("{name} {value}"))
        .collect()
}

fn user(uid: i32, name: &str) -> String {
    match name {
        "" => uid.to_string(),
        name => format!("{name} ({uid})"),
    }
}

fn machine(host: &str, form: Form, painter: Painter) -> String {
    if !form.host || host.is_empty() {
        return String::new();
    }
    format!(
        " {}",
        painter.paint(Style::Faint, &harmless(host, MOST_SHOWN))
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

/// Who came into a running container, and with what; empty for a container's own doing.
fn session(event: Option<&proto::ExecEvent>) -> String {
    event.map_or_else(String::new, |event| {
        format!("{} of {}", event.exec_id, event.executable_name)
    })
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
    use crate::render::Color;

    const SHORT: Form = Form {
        wide: false,
        host: false,
    };

    fn shown(alert: &proto::Alert) -> String {
        alert_line(alert, SHORT, Painter::stdout(Color::Never))
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
    fn more_of_an_event_and_its_machine_are_shown_when_that_is_wanted() {
        let alert = proto::Alert {
            host_name: "web-1".to_owned(),
            severity: "5".to_owned(),
            uid: 33,
            user_name: "www-data".to_owned(),
            cwd: "/srv".to_owned(),
            exec_event: Some(proto::ExecEvent {
                exec_id: "77".to_owned(),
                executable_name: "sh".to_owned(),
            }),
            ..alert()
        };
        let form = Form {
            wide: true,
            host: true,
        };
        let line = alert_line(&alert, form, Painter::stdout(Color::Never));
        assert!(line.starts_with("12:00:01 BLOCK web-1 ksp-name"), "{line}");
        assert!(
            line.ends_with("pid 4242, severity 5, user www-data (33), in /srv, session 77 of sh"),
            "{line}"
        );
    }

    #[test]
    fn what_was_lost_is_no_alert_about_anybody() {
        let lost = proto::Alert {
            updated_time: "2026-01-02T12:00:01.000002Z".to_owned(),
            operation: "Dropped".to_owned(),
            message: "4 events were dropped".to_owned(),
            ..proto::Alert::default()
        };
        assert_eq!(shown(&lost), "12:00:01 LOST  4 events were dropped");
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
