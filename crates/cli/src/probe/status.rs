// SPDX-License-Identifier: Apache-2.0
//! What a running agent says of itself, as text in 80 columns.
//!
//! Whatever is not as it should be is at its place and once more at the end, under `Health`. Names of
//! containers, policies and files are others' words, and go through [`harmless`].

use crate::render::{Painter, Style, harmless, wrapped};
use gorget_telemetry::proto::v1::{AgentStatus, PolicyName, PolicyState, Postures, Workload};

const COLUMNS: usize = 80;
const MOST_SHOWN: usize = 600;
/// Where what is said of something begins.
const NAMES: usize = 22;
const NONE: &str = "none";

/// Whether everything is as it should be: all enforced, nothing failing.
pub(super) fn is_full(status: &AgentStatus) -> bool {
    let healthy = status.health.as_ref().is_some_and(|health| health.healthy);
    let whole = status
        .policies
        .iter()
        .all(|policy| policy.limits.is_empty());
    let workloads = workloads(status);
    let in_force = workloads
        .iter()
        .all(|workload| workload.not_in_force.is_empty() && workload.remark.is_empty());
    healthy && whole && in_force && status.refused.is_empty() && status.backend == "bpf"
}

/// The whole screen.
pub(super) fn screen(status: &AgentStatus, painter: Painter) -> String {
    let mut screen = Screen {
        text: String::new(),
        painter,
    };
    screen.title(status);
    screen.agent(status);
    screen.postures(status);
    screen.workloads(status);
    screen.policies(status);
    screen.runtimes(status);
    screen.cluster(status);
    screen.delivery(status);
    screen.losses(status);
    screen.health(status);
    screen.text
}

/// Text that grows line by line.
struct Screen {
    text: String,
    painter: Painter,
}

impl Screen {
    fn heading(&mut self, name: &str) {
        let name = self.painter.paint(Style::Strong, name);
        self.text.push_str(&format!("\n{name}\n"));
    }

    /// Lines from column `first` on, those after the first two columns further in.
    fn lines(&mut self, first: usize, said: &str) {
        let said = harmless(said, MOST_SHOWN);
        for (number, line) in wrapped(&said, COLUMNS - first - 2).iter().enumerate() {
            let indent = if number == 0 { first } else { first + 2 };
            self.text.push_str(&format!("{:indent$}{line}\n", ""));
        }
    }

    /// A name, and what is said of it beside.
    fn entry(&mut self, name: &str, said: &str) {
        let said = harmless(said, MOST_SHOWN);
        let lines = wrapped(&said, COLUMNS - NAMES - 2);
        let mut lines = lines.iter();
        let first = lines.next().map_or(NONE, String::as_str);
        self.text.push_str(&format!("  {name:NAMES$}{first}\n"));
        for line in lines {
            self.text.push_str(&format!("{:1$}{line}\n", "", NAMES + 2));
        }
    }

    fn title(&mut self, status: &AgentStatus) {
        let host = status.node.as_ref().map_or("", |node| &node.host);
        let (does, style) = match (status.backend.as_str(), is_full(status)) {
            ("bpf", true) => ("enforces all policies", Style::Good),
            ("bpf", false) => ("enforces policies, but not all is well", Style::Caution),
            ("apparmor", _) => (
                "enforces policies with AppArmor, for containers that run in a profile",
                Style::Caution,
            ),
            (_, _) => (
                "only reports what policies forbid: NOTHING IS DENIED",
                Style::Alarm,
            ),
        };
        let title = format!("gorgetd {} runs on {host} and {does}.", status.version);
        for line in wrapped(&harmless(&title, MOST_SHOWN), COLUMNS) {
            self.text.push_str(&self.painter.paint(style, &line));
            self.text.push('\n');
        }
    }

    fn agent(&mut self, status: &AgentStatus) {
        self.heading("Agent");
        if let Some(node) = &status.node {
            let cluster = format!("{}, in cluster {}", node.host, node.cluster);
            self.entry("node", &cluster);
            self.entry("kernel", &format!("Linux {}", node.kernel));
            let labels = node.labels.iter();
            let labels: Vec<_> = labels
                .map(|(key, value)| format!("{key}={value}"))
                .collect();
            self.entry("node labels", &labels.join(", "));
        }
        let mib = status.resident_bytes / (1 << 20);
        let runs = format!("for {}, with {mib} MiB", duration(status.uptime_seconds));
        self.entry("runs", &runs);
        let hooks = status.hooks.len();
        let backend = format!("{}, at {hooks} hooks of the kernel", status.backend);
        self.entry("backend", &backend);
        for left_out in &status.left_out {
            let (hook, instead) = (&left_out.hook, &left_out.instead);
            self.entry("", &format!("not at `{hook}`: `{instead}` decides there"));
        }
        let attempts = match status.self_protection.as_str() {
            "block" => "are denied and reported",
            _ => "are reported",
        };
        self.entry("attempts on it", attempts);
        let end = match status.on_stop.as_str() {
            "detach" => "ends with it",
            _ => "stays in force",
        };
        self.entry("when it stops", &format!("what is in force {end}"));
    }

    fn postures(&mut self, status: &AgentStatus) {
        self.heading("Defaults");
        for (name, postures, visibility) in [
            (
                "containers",
                &status.container_postures,
                &status.container_visibility,
            ),
            ("host", &status.host_postures, &status.host_visibility),
        ] {
            if let Some(postures) = postures {
                let said = format!("not on an allow list: {}", posture(postures));
                self.entry(name, &said);
            }
            let logged = match visibility.as_slice() {
                [] => NONE.to_owned(),
                kinds => kinds.join(", "),
            };
            self.entry("", &format!("logged (visibility): {logged}"));
        }
    }

    fn workloads(&mut self, status: &AgentStatus) {
        let workloads = workloads(status);
        self.heading(&format!("Workloads ({})", workloads.len()));
        for workload in workloads {
            let mut said = place(workload);
            if !workload.image.is_empty() {
                said.push_str(&format!(", {}", workload.image));
            }
            said.push_str(&format!(": {}", workload.backend));
            if !workload.remark.is_empty() {
                said.push_str(&format!(" ({})", workload.remark));
            }
            self.lines(2, &said);
            if !workload.not_in_force.is_empty() {
                self.lines(6, &format!("NOT IN FORCE: {}", workload.not_in_force));
            }
            if workload.policies.is_empty() {
                self.lines(6, "no policy");
            }
            for policy in &workload.policies {
                self.lines(6, &named(policy));
            }
        }
    }

    fn policies(&mut self, status: &AgentStatus) {
        self.heading(&format!("Policies ({})", status.policies.len()));
        for state in &status.policies {
            let PolicyState {
                policy,
                file,
                workloads,
                limits,
                reasons,
                ..
            } = state;
            let name = policy.as_ref().map_or_else(String::new, named);
            let reach = match workloads {
                0 => "selects no workload".to_owned(),
                1 => "in force for 1 workload".to_owned(),
                count => format!("in force for {count} workloads"),
            };
            self.lines(2, &format!("{name}: {reach}, from {file}"));
            for limit in limits {
                let (count, what, reason) = (limit.count, &limit.what, &limit.reason);
                let line = match limit.line {
                    0 => String::new(),
                    line => format!(", first in line {line}"),
                };
                let said = format!("not enforced: {what} ({count}{line}): {reason}");
                self.lines(6, &said);
            }
            // What of it is never enforced was said.
            let reasons = reasons
                .iter()
                .filter(|it| !it.starts_with("not enforced: "));
            for reason in reasons {
                self.lines(6, reason);
            }
        }
        for refused in &status.refused {
            let instead = match refused.last_good_in_force {
                true => "an earlier version of it is in force",
                false => "nothing of it is in force",
            };
            self.lines(2, &format!("REFUSED: {}: {instead}", refused.file));
            for problem in &refused.problems {
                self.lines(6, problem);
            }
        }
    }

    fn cluster(&mut self, status: &AgentStatus) {
        let Some(cluster) = &status.cluster else {
            return;
        };
        self.heading("Cluster");
        let (pods, policies) = (cluster.pods, cluster.policies);
        let said = match (cluster.troubles.as_slice(), cluster.current) {
            ([], true) => "answers".to_owned(),
            ([], false) => "has not said everything yet, what was known counts".to_owned(),
            _ => "NOT EVERYTHING IS SAID, what was known counts".to_owned(),
        };
        self.entry("API server", &format!("{}: {said}", cluster.server));
        self.entry("node", &cluster.node);
        let known = format!("{pods} pods of this node, {policies} policies");
        self.entry("known", &known);
        for trouble in &cluster.troubles {
            self.lines(6, trouble);
        }
        for kind in &cluster.not_installed {
            self.lines(6, &format!("the cluster has no {kind}"));
        }
        if cluster.interruptions > 0 {
            let count = cluster.interruptions;
            self.lines(
                6,
                &format!("it went away {count} times since the agent started"),
            );
        }
    }

    fn runtimes(&mut self, status: &AgentStatus) {
        self.heading("Container runtimes");
        if status.runtimes.is_empty() {
            self.lines(2, NONE);
        }
        for runtime in &status.runtimes {
            let said = match (runtime.connected, runtime.version.as_str()) {
                (true, "") => "connected".to_owned(),
                (true, version) => format!("connected, {version}"),
                (false, _) => format!("NOT CONNECTED: {}", runtime.error),
            };
            self.entry(&harmless(&runtime.name, NAMES - 2), &said);
        }
        if let Some(starts) = &status.starts
            && starts.containers > 0
        {
            let (late, all) = (starts.late, starts.containers);
            let said = match late {
                0 => format!("rules were in force before the first program, {all} times of {all}"),
                _ => format!(
                    "rules came after the first program began {late} times of {all}, at most {} \
                     later",
                    millis(starts.most_micros)
                ),
            };
            self.entry("starts", &said);
        }
    }

    fn delivery(&mut self, status: &AgentStatus) {
        self.heading("Delivery of events");
        if status.clients.is_empty() && status.outputs.is_empty() {
            self.lines(2, "nobody follows, and no output is configured");
        }
        for client in &status.clients {
            let said = format!(
                "{} of {} places in its queue taken, {} lost",
                client.queued, client.capacity, client.lost
            );
            self.entry(&harmless(&client.name, NAMES - 2), &said);
        }
        for output in &status.outputs {
            let mut said = format!("to {}, {} lost", output.target, output.lost);
            if !output.error.is_empty() {
                said.push_str(&format!(", FAILS: {}", output.error));
            }
            self.entry(&harmless(&output.kind, NAMES - 2), &said);
        }
    }

    fn losses(&mut self, status: &AgentStatus) {
        self.heading("Lost since the programs are in the kernel");
        let lost = status.losses.iter().filter(|loss| loss.count > 0);
        let lost: Vec<_> = lost
            .map(|loss| format!("{} at stage {}", loss.count, loss.stage))
            .collect();
        if lost.is_empty() {
            let stages = status.losses.len();
            self.lines(2, &format!("nothing, at none of {stages} stages"));
        }
        for line in lost {
            self.lines(2, &line);
        }
    }

    fn health(&mut self, status: &AgentStatus) {
        self.heading("Health");
        let problems = status.health.as_ref().map(|health| &health.problems);
        match (&status.health, problems) {
            (None, _) => self.lines(2, "the agent does not say"),
            (Some(health), _) if health.healthy => self.lines(2, "well"),
            (Some(_), problems) => {
                for problem in problems.into_iter().flatten() {
                    self.lines(2, problem);
                }
            }
        }
    }
}

/// The host first, then containers.
fn workloads(status: &AgentStatus) -> Vec<&Workload> {
    status.host.iter().chain(&status.workloads).collect()
}

fn place(workload: &Workload) -> String {
    if workload.id.is_empty() {
        return "the host".to_owned();
    }
    let parts = [&workload.namespace, &workload.pod, &workload.name];
    let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    let parts: Vec<_> = parts.into_iter().map(String::as_str).collect();
    parts.join("/")
}

/// `shop/no-netcat`, and for whom when it is not for containers of a namespace.
fn named(policy: &PolicyName) -> String {
    let PolicyName {
        kind,
        namespace,
        name,
    } = policy;
    let name = match namespace.as_str() {
        "" => name.clone(),
        namespace => format!("{namespace}/{name}"),
    };
    match kind.as_str() {
        "KubeArmorPolicy" => name,
        "KubeArmorHostPolicy" => format!("{name} (host policy)"),
        "KubeArmorClusterPolicy" => format!("{name} (cluster policy)"),
        "KubeArmorNetworkPolicy" => format!("{name} (network policy)"),
        other => format!("{name} ({other})"),
    }
}

fn posture(postures: &Postures) -> String {
    let Postures {
        file,
        network,
        capabilities,
        device,
    } = postures;
    let all = [
        ("files", file),
        ("network", network),
        ("capabilities", capabilities),
        ("devices", device),
    ];
    let said = all.iter().filter(|(_, posture)| !posture.is_empty());
    let said: Vec<_> = said
        .map(|(name, posture)| format!("{name} {posture}"))
        .collect();
    said.join(", ")
}

/// The two largest units.
pub(super) fn duration(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min {} s", seconds % 60),
        (0, hours, minutes) => format!("{hours} h {} min", minutes % 60),
        (days, hours, _) => format!("{days} d {} h", hours % 24),
    }
}

/// Microseconds as milliseconds with one digit.
fn millis(micros: u64) -> String {
    format!("{}.{} ms", micros / 1_000, micros % 1_000 / 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_their_two_largest_units() {
        assert_eq!(duration(59), "59 s");
        assert_eq!(duration(61), "1 min 1 s");
        assert_eq!(duration(7_260), "2 h 1 min");
        assert_eq!(duration(90_000), "1 d 1 h");
        assert_eq!(millis(3_249), "3.2 ms");
    }

    #[test]
    fn an_agent_that_says_nothing_is_not_full_and_can_be_shown() {
        let status = AgentStatus::default();
        assert!(!is_full(&status));
        let text = screen(&status, Painter::stdout(crate::render::Color::Never));
        assert!(text.contains("NOTHING IS DENIED"), "{text}");
    }
}
