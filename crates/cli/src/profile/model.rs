// SPDX-License-Identifier: Apache-2.0
//! What the terminal UI knows, and what keys do to it. Pure: what is to be done outside comes back as an
//! [`Effect`].

use super::keys::Key;
use crate::activity::{Activity, Kind, Tally};
use gorget_telemetry::Received;
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// Characters of a filter.
const LONGEST_FILTER: usize = 100;

/// What rows are told apart by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum By {
    #[default]
    All,
    Workload,
    Source,
    Resource,
}

impl By {
    const ALL: [Self; 4] = [Self::All, Self::Source, Self::Resource, Self::Workload];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::All => "source and resource",
            Self::Workload => "workload",
            Self::Source => "source",
            Self::Resource => "resource",
        }
    }
}

/// What rows are in the order of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Order {
    #[default]
    Count,
    Failed,
    Alerts,
    Denied,
    Workload,
    Source,
    Resource,
}

impl Order {
    const ALL: [Self; 7] = [
        Self::Count,
        Self::Failed,
        Self::Alerts,
        Self::Denied,
        Self::Workload,
        Self::Source,
        Self::Resource,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Failed => "failed",
            Self::Alerts => "alerts",
            Self::Denied => "denied",
            Self::Workload => "workload",
            Self::Source => "source",
            Self::Resource => "resource",
        }
    }

    /// The greatest number or the first name comes first.
    fn compare(self, a: &Row, b: &Row) -> Ordering {
        let names = |row: &Row| {
            (
                row.workload.clone(),
                row.source.clone(),
                row.resource.clone(),
            )
        };
        let first = match self {
            Self::Count => b.tally.count.cmp(&a.tally.count),
            Self::Failed => b.tally.failed.cmp(&a.tally.failed),
            Self::Alerts => b.tally.alerts.cmp(&a.tally.alerts),
            Self::Denied => b.tally.denied.cmp(&a.tally.denied),
            Self::Workload => a.workload.cmp(&b.workload),
            Self::Source => a.source.cmp(&b.source),
            Self::Resource => a.resource.cmp(&b.resource),
        };
        let count = b.tally.count.cmp(&a.tally.count);
        first.then(count).then_with(|| names(a).cmp(&names(b)))
    }
}

/// A line of the table. What it is not told apart by is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) workload: String,
    pub(super) source: String,
    pub(super) resource: String,
    pub(super) tally: Tally,
}

/// How a table is written to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    Csv,
}

/// What is to be done outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Nothing,
    /// Write the rows to a file, and say where with [`Model::say`].
    Export(Format),
    Quit,
}

/// Everything that the screen shows.
#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    activity: Activity,
    tab: usize,
    pub(super) by: By,
    pub(super) order: Order,
    pub(super) is_reversed: bool,
    pub(super) filter: String,
    /// The filter is being written.
    pub(super) is_asking: bool,
    /// What happens is kept back.
    paused: Option<Vec<Received>>,
    pub(super) has_help: bool,
    pub(super) chosen: usize,
    /// What was said last.
    pub(super) said: String,
}

/// Events that are kept back while the screen stands still; then it goes on by itself.
const MOST_PAUSED: usize = 10_000;

impl Model {
    /// Something happened.
    pub(super) fn add(&mut self, event: Received) {
        match &mut self.paused {
            Some(events) if events.len() < MOST_PAUSED => events.push(event),
            Some(_) => {
                self.go_on();
                self.activity.add(&event);
                "too much happened to stand still any longer".clone_into(&mut self.said);
            }
            None => self.activity.add(&event),
        }
    }

    pub(super) fn say(&mut self, said: String) {
        self.said = said;
    }

    pub(super) fn activity(&self) -> &Activity {
        &self.activity
    }

    pub(super) fn tab(&self) -> Kind {
        Kind::ALL.get(self.tab).copied().unwrap_or(Kind::Process)
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused.is_some()
    }

    /// The table, as it is to be shown or written.
    pub(super) fn rows(&self) -> Vec<Row> {
        let filter = self.filter.to_lowercase();
        let mut rows: BTreeMap<(&str, &str, &str), Tally> = BTreeMap::new();
        for (name, workload) in &self.activity.workloads {
            let of_tab = workload.deeds.iter();
            for (deed, tally) in of_tab.filter(|(deed, _)| deed.kind == self.tab()) {
                let texts = [name, &deed.source, &deed.resource];
                if !texts
                    .iter()
                    .any(|text| text.to_lowercase().contains(&filter))
                {
                    continue;
                }
                let key = match self.by {
                    By::All => (name.as_str(), deed.source.as_str(), deed.resource.as_str()),
                    By::Workload => (name.as_str(), "", ""),
                    By::Source => ("", deed.source.as_str(), ""),
                    By::Resource => ("", "", deed.resource.as_str()),
                };
                rows.entry(key).or_default().add(*tally);
            }
        }
        let rows = rows.into_iter();
        let mut rows: Vec<_> = rows
            .map(|((workload, source, resource), tally)| Row {
                workload: workload.to_owned(),
                source: source.to_owned(),
                resource: resource.to_owned(),
                tally,
            })
            .collect();
        rows.sort_by(|a, b| self.order.compare(a, b));
        if self.is_reversed {
            rows.reverse();
        }
        rows
    }

    /// What a key does, on a screen that has room for so many rows.
    pub(super) fn press(&mut self, key: Key, room: usize) -> Effect {
        self.said.clear();
        if key == Key::Interrupt {
            return Effect::Quit;
        }
        if self.is_asking {
            self.write(key);
            return Effect::Nothing;
        }
        if std::mem::take(&mut self.has_help) {
            // Any key leaves it.
            return Effect::Nothing;
        }
        match key {
            Key::Char('q') => return Effect::Quit,
            Key::Char('e') => return Effect::Export(Format::Json),
            Key::Char('c') => return Effect::Export(Format::Csv),
            Key::Char('/') => self.is_asking = true,
            Key::Char('?' | 'h') => self.has_help = true,
            Key::Char('s') => self.order = next(&Order::ALL, self.order),
            Key::Char('g') => self.by = next(&By::ALL, self.by),
            Key::Char('r') => self.is_reversed = !self.is_reversed,
            Key::Char('p' | ' ') => self.pause(),
            Key::Char(digit @ '1'..='5') => self.turn_to(digit),
            Key::Escape => self.filter.clear(),
            Key::Tab | Key::Right => self.tab = (self.tab + 1) % Kind::ALL.len(),
            Key::BackTab | Key::Left => {
                self.tab = (self.tab + Kind::ALL.len() - 1) % Kind::ALL.len();
            }
            Key::Up | Key::Char('k') => self.choose(|at| at.saturating_sub(1)),
            Key::Down | Key::Char('j') => self.choose(|at| at.saturating_add(1)),
            Key::PageUp => self.choose(|at| at.saturating_sub(room)),
            Key::PageDown => self.choose(|at| at.saturating_add(room)),
            Key::Home => self.chosen = 0,
            Key::End => self.choose(|_| usize::MAX),
            Key::Char(_) | Key::Enter | Key::Backspace | Key::Interrupt => {}
        }
        let moves = matches!(
            key,
            Key::Up | Key::Down | Key::PageUp | Key::PageDown | Key::End | Key::Char('j' | 'k')
        );
        if !moves && !matches!(key, Key::Char('p' | ' ')) {
            self.chosen = 0;
        }
        Effect::Nothing
    }

    fn turn_to(&mut self, digit: char) {
        let number = digit.to_digit(10).and_then(|it| usize::try_from(it).ok());
        self.tab = number.unwrap_or(1).saturating_sub(1);
    }

    fn choose(&mut self, to: impl FnOnce(usize) -> usize) {
        let last = self.rows().len().saturating_sub(1);
        self.chosen = to(self.chosen.min(last)).min(last);
    }

    fn write(&mut self, key: Key) {
        self.chosen = 0;
        match key {
            Key::Char(character) if self.filter.chars().count() < LONGEST_FILTER => {
                self.filter.push(character);
            }
            Key::Backspace => drop(self.filter.pop()),
            Key::Enter => self.is_asking = false,
            Key::Escape => {
                self.is_asking = false;
                self.filter.clear();
            }
            Key::Char(_)
            | Key::Tab
            | Key::BackTab
            | Key::Up
            | Key::Down
            | Key::Left
            | Key::Right
            | Key::PageUp
            | Key::PageDown
            | Key::Home
            | Key::End
            | Key::Interrupt => {}
        }
    }

    fn pause(&mut self) {
        match self.paused {
            Some(_) => self.go_on(),
            None => self.paused = Some(Vec::new()),
        }
    }

    fn go_on(&mut self) {
        for event in self.paused.take().unwrap_or_default() {
            self.activity.add(&event);
        }
    }
}

/// The one after it, round and round.
fn next<T: Copy + PartialEq>(all: &[T], one: T) -> T {
    let mut round = all.iter().cycle();
    let _found = round.find(|it| **it == one);
    round.next().copied().unwrap_or(one)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::activity::tests::{alert, log};

    pub(in crate::profile) fn model() -> Model {
        let mut model = Model::default();
        for (count, resource) in [(120, "/etc/motd"), (7, "/usr/share/ünïcode/名前.txt")] {
            for _ in 0..count {
                model.add(log("web", "File", "/usr/bin/cat", resource));
            }
        }
        model.add(log("web", "Process", "/bin/sh", "/usr/bin/cat /etc/motd"));
        model.add(log(
            "db",
            "Network",
            "/usr/bin/nc",
            "remoteip=10.0.0.1 port=80 protocol=TCP",
        ));
        model.add(alert(
            "db",
            "no-secrets",
            "/usr/bin/cat",
            "/run/secrets/token",
        ));
        model.add(log("db", "File", "/tmp/\u{1b}[2J", "/var/lib/\n/x"));
        model.press(Key::Char('2'), 10);
        model
    }

    fn press(model: &mut Model, keys: &str) {
        for key in keys.chars() {
            model.press(Key::Char(key), 10);
        }
    }

    fn resources(model: &Model) -> Vec<String> {
        let resources = model.rows().into_iter().map(|row| row.resource);
        resources.collect()
    }

    #[test]
    fn tabs_are_turned_to_and_rows_sorted_grouped_and_filtered() {
        let mut model = model();
        assert_eq!(model.tab(), Kind::File);
        assert_eq!(
            resources(&model),
            [
                "/etc/motd",
                "/usr/share/ünïcode/名前.txt",
                "/var/lib/\n/x",
                "/run/secrets/token"
            ]
        );
        press(&mut model, "s");
        assert_eq!(resources(&model)[0], "/run/secrets/token");
        press(&mut model, "/NODE");
        assert_eq!(resources(&model), [""; 0]);
        model.press(Key::Escape, 10);
        press(&mut model, "/motd");
        model.press(Key::Enter, 10);
        assert_eq!(resources(&model), ["/etc/motd"]);
        model.press(Key::Escape, 10);
        press(&mut model, "g");
        assert_eq!(model.by, By::Source);
        assert_eq!(model.rows().len(), 2);
        assert_eq!(
            model.rows().iter().map(|it| it.tally.count).sum::<u64>(),
            129
        );
        model.press(Key::Tab, 10);
        assert_eq!(model.tab(), Kind::Network);
        model.press(Key::Left, 10);
        model.press(Key::BackTab, 10);
        assert_eq!(model.tab(), Kind::Process);
        model.press(Key::Left, 10);
        assert_eq!(model.tab(), Kind::Other);
    }

    #[test]
    fn the_choice_stays_among_the_rows() {
        let mut model = model();
        for (key, chosen) in [
            (Key::Up, 0),
            (Key::Down, 1),
            (Key::PageDown, 3),
            (Key::Down, 3),
            (Key::PageUp, 0),
            (Key::End, 3),
            (Key::Home, 0),
        ] {
            model.press(key, 10);
            assert_eq!(model.chosen, chosen, "{key:?}");
        }
    }

    #[test]
    fn what_happens_while_it_stands_still_is_counted_later() {
        let mut model = model();
        press(&mut model, "p");
        model.add(log("web", "File", "/bin/cat", "/new"));
        assert!(!resources(&model).contains(&"/new".to_owned()));
        press(&mut model, "p");
        assert!(resources(&model).contains(&"/new".to_owned()));
        press(&mut model, "p");
        for _ in 0..=MOST_PAUSED {
            model.add(log("web", "File", "/bin/cat", "/many"));
        }
        assert!(!model.is_paused());
        assert_eq!(model.rows()[0].resource, "/many");
    }

    #[test]
    fn what_is_to_be_done_outside_comes_back() {
        let mut model = model();
        assert_eq!(model.press(Key::Char('e'), 1), Effect::Export(Format::Json));
        assert_eq!(model.press(Key::Char('c'), 1), Effect::Export(Format::Csv));
        press(&mut model, "?");
        assert_eq!(model.press(Key::Char('q'), 1), Effect::Nothing);
        assert_eq!(model.press(Key::Char('q'), 1), Effect::Quit);
        press(&mut model, "/q");
        assert_eq!(model.filter, "q");
        assert_eq!(model.press(Key::Interrupt, 1), Effect::Quit);
    }
}
