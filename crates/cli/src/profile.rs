// SPDX-License-Identifier: Apache-2.0
//! `gorget profile`: a terminal UI of what workloads do.
//!
//! [`model`] is what it knows and what keys do to that, [`view`] what it looks like; both are pure. Here
//! agents, keys and signals come together: one loop, and a screen whenever something changed, at most ten
//! a second for what agents report.

mod export;
mod keys;
mod model;
mod terminal;
mod view;

use crate::agents::Agents;
use crate::logs::{self, Fields, Heard};
use crate::render::{Color, Painter};
use crate::summary::BOTH;
use anyhow::{Context as _, bail};
use clap::Args;
use model::{Effect, Model};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use terminal::Terminal;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::Receiver;
use tokio::time::{MissedTickBehavior, interval};

/// Between two screens for what agents report.
const PACE: Duration = Duration::from_millis(100);

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    agents: Agents,
    #[command(flatten)]
    fields: Fields,
    /// Also what happened since then, as far as the agent keeps it: 30s, 5m, 2h, 1d, or a UNIX time
    #[arg(long, value_name = "TIME", default_value = "1h")]
    since: String,
    /// Directory that exported rows are written to
    #[arg(long, value_name = "DIR", default_value = ".")]
    export_to: PathBuf,
    /// When to use colour
    #[arg(long, value_enum, default_value_t = Color::Auto)]
    color: Color,
}

/// What ends the program or changes the size of its screen.
struct Signals {
    terminate: Signal,
    hang_up: Signal,
    interrupt: Signal,
    resize: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            resize: signal(SignalKind::window_change())?,
        })
    }

    /// Whether to end.
    async fn next(&mut self) -> bool {
        tokio::select! {
            _ = self.terminate.recv() => true,
            _ = self.hang_up.recv() => true,
            _ = self.interrupt.recv() => true,
            _ = self.resize.recv() => false,
        }
    }
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let since = Some(arguments.since.as_str());
    let following = logs::following(&arguments.agents, &arguments.fields, BOTH, since)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")?;
    let ended = runtime.block_on(async {
        let signals = Signals::new().context("cannot wait for signals")?;
        let terminal = Terminal::take(Painter::stdout(arguments.color).is_colored())?;
        let typed = terminal::typed()?;
        let (mut agents, heard) = logs::start(following);
        let ended = show(&terminal, &arguments.export_to, signals, typed, heard).await;
        agents.shutdown().await;
        // Only now may something be printed.
        drop(terminal);
        ended
    });
    ended?;
    Ok(ExitCode::SUCCESS)
}

async fn show(
    terminal: &Terminal,
    export_to: &Path,
    mut signals: Signals,
    mut typed: Receiver<Vec<u8>>,
    mut heard: Receiver<Heard>,
) -> anyhow::Result<()> {
    let mut model = Model::default();
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failures = Vec::new();
    // Something was heard that is not on the screen.
    let mut is_old = false;
    draw(terminal, &model)?;
    loop {
        tokio::select! {
            // Keys first: whatever agents report, it can be left.
            biased;
            ends = signals.next() => match ends {
                true => return Ok(()),
                false => draw(terminal, &model)?,
            },
            bytes = typed.recv() => {
                // Without a terminal there is nobody to show anything.
                let Some(bytes) = bytes else { return Ok(()) };
                for key in keys::keys(&bytes) {
                    let (_, lines) = terminal.size();
                    match model.press(key, view::room(lines)) {
                        Effect::Nothing => {}
                        Effect::Quit => return Ok(()),
                        Effect::Export(format) => model.say(exported(&model, format, export_to)),
                    }
                }
                draw(terminal, &model)?;
            }
            _ = pace.tick(), if is_old => {
                is_old = false;
                draw(terminal, &model)?;
            }
            event = heard.recv() => {
                is_old = true;
                match event {
                    Some(Heard::Event(event)) => model.add(event),
                    Some(Heard::Connected(said) | Heard::Said(said)) => model.say(said),
                    Some(Heard::Failed(why)) => {
                        model.say(why.clone());
                        failures.push(why);
                    }
                    None => bail!(failures.join("\n")),
                }
            }
        }
    }
}

fn exported(model: &Model, format: model::Format, directory: &Path) -> String {
    match export::export(model, format, directory) {
        Ok(path) => format!("written to `{}`", path.display()),
        Err(error) => format!("cannot write to `{}`: {error}", directory.display()),
    }
}

fn draw(terminal: &Terminal, model: &Model) -> anyhow::Result<()> {
    let (columns, lines) = terminal.size();
    let screen = view::screen(model, columns, lines);
    terminal
        .draw(&screen)
        .context("cannot write to the terminal")
}
