// SPDX-License-Identifier: Apache-2.0
//! The screen: what a [`Model`] looks like in so many columns and lines. Pure.
//!
//! INVARIANT: there are exactly as many lines as were asked for, none is wider, and nothing in them speaks
//! to the terminal: sources and resources are chosen by those that are watched.

use super::model::{Model, Row};
use crate::activity::Kind;
use crate::render::harmless;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// Smaller screens say what is needed.
pub(super) const COLUMNS: usize = 60;
pub(super) const LINES: usize = 8;
/// Lines above and below the table.
const AROUND: usize = 4;
/// Columns of a number.
const NUMBER: usize = 7;

/// What a part of a line looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    Plain,
    Strong,
    Faint,
    /// Where the user is.
    Chosen,
    Caution,
    Alarm,
}

/// A line, in parts.
pub(super) type Line = Vec<(Look, String)>;

/// How many rows of the table there is room for.
pub(super) fn room(lines: usize) -> usize {
    lines.saturating_sub(AROUND).max(1)
}

/// The whole screen.
pub(super) fn screen(model: &Model, columns: usize, lines: usize) -> Vec<Line> {
    let mut screen = if columns < COLUMNS || lines < LINES {
        too_small(columns, lines)
    } else if model.has_help {
        help()
    } else {
        table(model, columns, lines)
    };
    screen.resize(lines, Line::new());
    screen.into_iter().map(|line| cut(line, columns)).collect()
}

fn plain(text: impl Into<String>) -> Line {
    vec![(Look::Plain, text.into())]
}

fn too_small(columns: usize, lines: usize) -> Vec<Line> {
    [
        "The terminal is too small.".to_owned(),
        format!("needed: {COLUMNS} x {LINES}"),
        format!("now: {columns} x {lines}"),
        "q: quit".to_owned(),
    ]
    .map(plain)
    .into()
}

const HELP: [&str; 17] = [
    "What workloads do, as far as agents report it.",
    "",
    "  Tab, Left, Right, 1 to 5   kind of operation",
    "  Up, Down, Page, Home, End  row",
    "  /                          show only what has this in it; Esc shows all",
    "  g                          group: source and resource, source, resource,",
    "                             workload",
    "  s, r                       sort by the next column, reverse",
    "  p                          stand still, go on",
    "  e, c                       write the rows to a file: JSON, CSV",
    "  q                          quit",
    "",
    "  COUNT   operations, repeats included",
    "  FAILED  those that did not succeed, whatever kept them from it",
    "  ALERTS  those that a policy had something to say about",
    "  DENIED  those that a policy denied",
    "  any key: back",
];

fn help() -> Vec<Line> {
    HELP.map(plain).into()
}

fn table(model: &Model, columns: usize, lines: usize) -> Vec<Line> {
    let rows = model.rows();
    let room = room(lines);
    let chosen = model.chosen.min(rows.len().saturating_sub(1));
    // The chosen row is on the screen, and no line is empty in vain.
    let first = (chosen + 1).saturating_sub(room);
    let mut screen = vec![tabs(model), state(model, rows.len()), heading(columns)];
    let shown = rows.iter().enumerate().skip(first).take(room);
    screen.extend(shown.map(|(at, it)| row(it, at == chosen, columns)));
    if rows.is_empty() {
        let why = match model.filter.is_empty() {
            true => "nothing of this kind was reported yet",
            false => "nothing has this in it; Esc shows all",
        };
        screen.push(vec![(Look::Faint, why.to_owned())]);
    }
    screen.resize(lines - 1, Line::new());
    screen.push(foot(model));
    screen
}

fn tabs(model: &Model) -> Line {
    let mut line = vec![(Look::Strong, "gorget profile ".to_owned())];
    for kind in Kind::ALL {
        let look = match kind == model.tab() {
            true => Look::Chosen,
            false => Look::Plain,
        };
        line.push((look, format!(" {} ", kind.name())));
    }
    line
}

fn state(model: &Model, rows: usize) -> Line {
    let order = match model.is_reversed {
        true => ", reversed",
        false => "",
    };
    let word = if rows == 1 { "row" } else { "rows" };
    let mut line = plain(format!(
        "{rows} {word} by {}, sorted by {}{order}",
        model.by.name(),
        model.order.name()
    ));
    if !model.filter.is_empty() {
        line.push((
            Look::Caution,
            format!("  with `{}`", harmless(&model.filter, 100)),
        ));
    }
    if model.is_paused() {
        line.push((Look::Caution, "  standing still".to_owned()));
    }
    let activity = model.activity();
    for (number, what) in [
        (activity.lost, "lost"),
        (activity.throttled, "only counted"),
        (activity.merged, "not told apart"),
    ] {
        if number > 0 {
            line.push((Look::Alarm, format!("  {number} {what}")));
        }
    }
    line
}

/// Columns of workload, source and resource, with a blank between.
fn widths(columns: usize) -> [usize; 3] {
    let rest = columns.saturating_sub(4 * (NUMBER + 1) + 2);
    let workload = rest / 5;
    let source = (rest - workload) * 2 / 5;
    [workload, source, rest - workload - source]
}

fn heading(columns: usize) -> Line {
    let numbers = ["COUNT", "FAILED", "ALERTS", "DENIED"].map(|it| format!("{it:>NUMBER$}"));
    let names = ["WORKLOAD", "SOURCE", "RESOURCE"].map(str::to_owned);
    let mut text = numbers.join(" ");
    for (name, width) in names.iter().zip(widths(columns)) {
        text.push(' ');
        text.push_str(&fit(name, width));
    }
    vec![(Look::Strong, text)]
}

fn row(row: &Row, is_chosen: bool, columns: usize) -> Line {
    let tally = row.tally;
    let numbers = [tally.count, tally.failed, tally.alerts, tally.denied];
    let numbers = numbers.map(|it| format!("{it:>NUMBER$}"));
    let mut names = String::new();
    let texts = [&row.workload, &row.source, &row.resource];
    for (text, width) in texts.into_iter().zip(widths(columns)) {
        names.push(' ');
        names.push_str(&fit(&harmless(text, columns), width));
    }
    let look = match (is_chosen, tally.denied, tally.alerts) {
        (true, _, _) => Look::Chosen,
        (false, 0, 0) => Look::Plain,
        (false, 0, _) => Look::Caution,
        (false, _, _) => Look::Alarm,
    };
    vec![(look, numbers.join(" ") + &names)]
}

fn foot(model: &Model) -> Line {
    if model.is_asking {
        let filter = harmless(&model.filter, 100);
        return vec![
            (
                Look::Strong,
                format!("show only what has this in it: {filter}"),
            ),
            (Look::Chosen, " ".to_owned()),
        ];
    }
    if !model.said.is_empty() {
        return vec![(Look::Caution, harmless(&model.said, 300))];
    }
    let keys = "Tab kind  / filter  g group  s sort  r reverse  p pause  e c export  ? help  q";
    vec![(Look::Faint, keys.to_owned())]
}

/// In exactly so many columns: cut, with a mark, or filled.
fn fit(text: &str, width: usize) -> String {
    let mut fitting = if text.width() <= width {
        text.to_owned()
    } else {
        let mut cut = first_columns(text, width.saturating_sub(1)).to_owned();
        cut.extend((width > 0).then_some('…'));
        cut
    };
    let missing = width.saturating_sub(fitting.width());
    fitting.extend(std::iter::repeat_n(' ', missing));
    fitting
}

/// As much of the beginning as fits.
fn first_columns(text: &str, width: usize) -> &str {
    let mut columns = 0;
    for (at, character) in text.char_indices() {
        columns += character.width().unwrap_or(0);
        if columns > width {
            return text.get(..at).unwrap_or_default();
        }
    }
    text
}

fn cut(line: Line, columns: usize) -> Line {
    let mut rest = columns;
    let mut cut = Line::new();
    for (look, text) in line {
        let text = first_columns(&text, rest).to_owned();
        rest -= text.width().min(rest);
        cut.push((look, text));
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::keys::Key;
    use crate::profile::model::tests::model;
    use expect_test::expect_file;

    fn text(model: &Model, columns: usize, lines: usize) -> String {
        let screen = screen(model, columns, lines).into_iter();
        let lines = screen.map(|line| {
            let line: String = line.iter().map(|(_, text)| text.as_str()).collect();
            line.trim_end().to_owned() + "\n"
        });
        lines.collect()
    }

    #[test]
    fn it_looks_right_in_80x24_and_200x50() {
        expect_file!["testdata/80x24.txt"].assert_eq(&text(&model(), 80, 24));
        expect_file!["testdata/200x50.txt"].assert_eq(&text(&model(), 200, 50));
    }

    #[test]
    fn help_fits_the_usual_screen() {
        let mut model = model();
        model.press(Key::Char('?'), 1);
        expect_file!["testdata/help.txt"].assert_eq(&text(&model, 80, 24));
    }

    #[test]
    fn a_small_terminal_is_told_what_is_needed() {
        expect_file!["testdata/small.txt"].assert_eq(&text(&model(), 40, 6));
    }

    #[test]
    fn what_is_asked_and_what_there_is_to_say_is_shown() {
        let mut model = model();
        for key in "/motd".chars() {
            model.press(Key::Char(key), 1);
        }
        let asking = text(&model, 80, 24);
        assert!(asking.ends_with("this in it: motd\n"), "{asking}");
        assert!(asking.contains("1 row by source and resource"), "{asking}");
        model.press(Key::Enter, 1);
        model.say("written to `x`\u{1b}".to_owned());
        assert!(text(&model, 80, 24).ends_with("written to `x`\\u{1b}\n"));
    }

    #[test]
    fn the_chosen_row_is_on_the_screen() {
        let mut model = model();
        model.press(Key::End, 4);
        let all = screen(&model, 80, LINES);
        let is_chosen = |line: &&Line| line.iter().any(|(look, _)| *look == Look::Chosen);
        // The tab is one, too.
        assert_eq!(all.iter().filter(is_chosen).count(), 2);
    }

    proptest::proptest! {
        #[test]
        fn no_size_and_no_key_breaks_the_screen(
            columns in 0usize..250,
            lines in 0usize..80,
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..60),
        ) {
            let mut model = model();
            for key in crate::profile::keys::keys(&bytes) {
                model.press(key, room(lines));
            }
            let screen = screen(&model, columns, lines);
            proptest::prop_assert_eq!(screen.len(), lines);
            for line in screen {
                let text: String = line.into_iter().map(|(_, text)| text).collect();
                proptest::prop_assert!(text.width() <= columns);
                proptest::prop_assert!(!text.chars().any(char::is_control));
            }
        }
    }
}
