// SPDX-License-Identifier: Apache-2.0
//! `gorget logs`: follows what agents report.
//!
//! [`Following`] keeps up with one agent, [`lines`] has the form for people; here is what is asked for, and
//! that is printed. What is asked for is a filter that the agent applies, so that nothing is sent only
//! to be thrown away.
//!
//! Ends with 0 after `--limit` events or when nobody reads any more, and with 1 when no agent can be
//! followed. Every subscription to an agent is in place before the line on standard error says that it
//! is followed.

mod lines;

use crate::agents::{Agents, unreachable};
use crate::cluster::tunnels::Whom;
use crate::render::{self, Color, Painter};
use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use gorget_telemetry::{Field, Filter, Marks, Received};
pub(crate) use gorget_telemetry::{Following, Heard, Sorts};
use lines::Form;
use std::io::{self, Write as _};
use std::process::ExitCode;
use tokio::sync::mpsc::{self, Receiver};
use tokio::task::JoinSet;

/// Events that wait to be printed; an agent has a longer queue, and counts what does not fit there.
const QUEUE: usize = 64;

#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) agents: Agents,
    /// What to follow [default: alerts and messages; alerts when a field is asked for]
    #[arg(long = "type", value_name = "TYPE", value_enum, value_delimiter = ',')]
    pub(crate) sorts: Vec<SortName>,
    #[command(flatten)]
    pub(crate) fields: Fields,
    /// Also what happened since then, as far as the agent keeps it: 30s, 5m, 2h, 1d, or a UNIX time
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// End after N events
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u64>,
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Output,
    /// The same as `-o json`
    #[arg(long, conflicts_with = "output")]
    pub(crate) json: bool,
    /// When to use colour
    #[arg(long, value_enum, default_value_t = Color::Auto)]
    pub(crate) color: Color,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SortName {
    /// What policies denied or audited
    Alerts,
    /// What happened otherwise
    Logs,
    /// What the agent says of itself
    Messages,
    /// Everything
    All,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// One line an event
    #[default]
    Text,
    /// One line with more in it
    Wide,
    /// One JSON object a line, with every field
    Json,
    /// One YAML document an event, with every field
    Yaml,
}

/// What is asked of events. Each may be given several times: one of the values must fit, of each field
/// that is named.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Filters (a value, or ~REGEX; several of one are alternatives)")]
pub(crate) struct Fields {
    /// Namespace of the container
    #[arg(short, long, value_name = "VALUE")]
    pub(crate) namespace: Vec<String>,
    /// Pod
    #[arg(long, value_name = "VALUE")]
    pub(crate) pod: Vec<String>,
    /// Name of the container
    #[arg(long, value_name = "VALUE")]
    pub(crate) container: Vec<String>,
    /// process, file, network, capabilities, syscall and so on
    #[arg(long, value_name = "VALUE")]
    pub(crate) operation: Vec<String>,
    /// Name of the policy
    #[arg(long, value_name = "VALUE")]
    pub(crate) policy: Vec<String>,
    /// block, audit and so on
    #[arg(long, value_name = "VALUE")]
    pub(crate) action: Vec<String>,
    /// `Passed`, or why not
    #[arg(long, value_name = "VALUE")]
    pub(crate) result: Vec<String>,
    /// Who did it: the command line
    #[arg(long, value_name = "VALUE")]
    pub(crate) source: Vec<String>,
    /// What it was done to
    #[arg(long, value_name = "VALUE")]
    pub(crate) resource: Vec<String>,
}

impl Fields {
    fn all(&self) -> [(Field, &[String]); 9] {
        [
            (Field::Namespace, &self.namespace),
            (Field::Pod, &self.pod),
            (Field::Container, &self.container),
            (Field::Operation, &self.operation),
            (Field::Policy, &self.policy),
            (Field::Action, &self.action),
            (Field::Result, &self.result),
            (Field::Source, &self.source),
            (Field::Resource, &self.resource),
        ]
    }

    /// As the agent wants it.
    pub(crate) fn filter(&self) -> String {
        let mut filter = "all".to_owned();
        for (field, values) in self.all() {
            for value in values {
                let (value, is_expression) = match value.strip_prefix('~') {
                    Some(expression) => (expression, true),
                    None => (value.as_str(), false),
                };
                filter.push(',');
                filter.push_str(&Filter::term(field, value, is_expression));
            }
        }
        filter
    }

    fn are_asked_for(&self) -> bool {
        self.all().iter().any(|(_, values)| !values.is_empty())
    }
}

impl Arguments {
    fn sorts(&self) -> Sorts {
        let named = |name| self.sorts.contains(&name) || self.sorts.contains(&SortName::All);
        match self.sorts.as_slice() {
            [] => Sorts {
                alerts: true,
                logs: false,
                messages: !self.fields.are_asked_for(),
            },
            _ => Sorts {
                alerts: named(SortName::Alerts),
                logs: named(SortName::Logs),
                messages: named(SortName::Messages),
            },
        }
    }
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let following = following(
        &arguments.agents,
        &arguments.fields,
        arguments.sorts(),
        arguments.since.as_deref(),
    )?;
    // The relay tells of all nodes.
    let cluster = arguments.agents.in_cluster()?;
    let is_of_many = cluster.is_some_and(|cluster| cluster.node.is_none());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")?;
    runtime.block_on(async {
        let form = Form {
            wide: arguments.output == Output::Wide,
            host: following.len() > 1 || is_of_many,
        };
        let (mut agents, heard) = start(following);
        let printed = print(arguments, form, heard).await;
        agents.shutdown().await;
        printed
    })?;
    Ok(ExitCode::SUCCESS)
}

/// As the agent wants it, without since when.
///
/// # Errors
///
/// When it would not understand it.
pub(crate) fn checked(fields: &Fields, since: Option<&str>) -> anyhow::Result<String> {
    let filter = fields.filter();
    let whole = match since {
        Some(since) => format!("{filter},since={since}"),
        None => filter.clone(),
    };
    Filter::parse(&whole).context("what is asked for cannot be followed")?;
    Ok(filter)
}

/// One for each agent that is named. What is asked for is checked before anybody is.
pub(crate) fn following(
    agents: &Agents,
    fields: &Fields,
    sorts: Sorts,
    since: Option<&str>,
) -> anyhow::Result<Vec<Following>> {
    let filter = checked(fields, since)?;
    // The relay of a cluster has alerts and messages; logs only where it is told to.
    let whom = match sorts.logs {
        true => Whom::Agents,
        false => Whom::Relay,
    };
    let following = agents.reach(whom)?.into_iter().map(|reached| Following {
        address: reached.address,
        tls: reached.tls,
        sorts,
        filter: filter.clone(),
        since: since.map(str::to_owned),
        is_expected: false,
        explain: unreachable,
    });
    Ok(following.collect())
}

/// Has every agent followed; what is heard of them comes out in one queue, which ends with the last.
pub(crate) fn start(following: Vec<Following>) -> (JoinSet<()>, Receiver<Heard>) {
    let (out, heard) = mpsc::channel(QUEUE);
    let mut agents = JoinSet::new();
    for one in following {
        agents.spawn(one.run(Marks::default(), out.clone()));
    }
    (agents, heard)
}

async fn print(
    arguments: &Arguments,
    form: Form,
    mut heard: Receiver<Heard>,
) -> anyhow::Result<()> {
    let painter = Painter::stdout(arguments.color);
    let mut printed = 0;
    let mut failures = Vec::new();
    while arguments.limit.is_none_or(|limit| printed < limit) {
        let event = match heard.recv().await {
            Some(Heard::Event(event)) => event,
            Some(Heard::Connected(said) | Heard::Said(said)) => {
                writeln!(io::stderr(), "gorget: {said}")?;
                continue;
            }
            Some(Heard::Failed(why)) => {
                failures.push(why);
                continue;
            }
            None => bail!(failures.join("\n")),
        };
        for why in failures.drain(..) {
            writeln!(io::stderr(), "gorget: {why}")?;
        }
        let text = shown(&event, arguments, form, painter)?;
        let mut stdout = io::stdout().lock();
        let written = stdout
            .write_all(text.as_bytes())
            .and_then(|()| stdout.flush());
        if !render::delivered(written).context("cannot write to standard output")? {
            break;
        }
        printed += u64::from(!is_about_losses(&event));
    }
    Ok(())
}

fn shown(
    event: &Received,
    arguments: &Arguments,
    form: Form,
    painter: Painter,
) -> anyhow::Result<String> {
    Ok(match arguments.output {
        _ if arguments.json => json(event)? + "\n",
        Output::Json => json(event)? + "\n",
        Output::Yaml => format!("---\n{}", yaml(event)?),
        Output::Text | Output::Wide => lines::human(event, form, painter) + "\n",
    })
}

/// It says that others were lost, and is none that was asked for.
fn is_about_losses(event: &Received) -> bool {
    match event {
        Received::Alert(alert) => alert.policy_name.is_empty() && alert.operation == "Dropped",
        Received::Log(log) => log.operation == "Dropped",
        Received::Message(_) => false,
    }
}

pub(crate) fn json(event: &Received) -> serde_json::Result<String> {
    match event {
        Received::Alert(alert) => serde_json::to_string(alert),
        Received::Log(log) => serde_json::to_string(log),
        Received::Message(message) => serde_json::to_string(message),
    }
}

fn yaml(event: &Received) -> anyhow::Result<String> {
    let text = match event {
        Received::Alert(alert) => serde_saphyr::to_string(alert.as_ref()),
        Received::Log(log) => serde_saphyr::to_string(log.as_ref()),
        Received::Message(message) => serde_saphyr::to_string(message),
    };
    text.context("cannot write YAML")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_become_a_filter_that_the_agent_understands() {
        let fields = Fields {
            namespace: vec!["shop".to_owned(), "~^dev-".to_owned()],
            operation: vec!["file".to_owned()],
            resource: vec!["/etc/a,b".to_owned()],
            ..Fields::default()
        };
        let filter = fields.filter();
        assert_eq!(
            filter,
            "all,namespace=shop,namespace=~^dev-,operation=file,resource=/etc/a\\,b"
        );
        Filter::parse(&filter).unwrap();
    }

    #[test]
    fn messages_have_no_fields_and_are_left_out_when_one_is_asked_for() {
        let mut arguments = Arguments::default();
        assert!(arguments.sorts().alerts && arguments.sorts().messages);
        assert!(!arguments.sorts().logs);
        arguments.fields.pod.push("web".to_owned());
        assert!(!arguments.sorts().messages);
        arguments.sorts = vec![SortName::All];
        let sorts = arguments.sorts();
        assert!(sorts.alerts && sorts.logs && sorts.messages);
    }
}
