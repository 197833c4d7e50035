// SPDX-License-Identifier: Apache-2.0
//! What was measured: a number for each situation and operation.
//!
//! Figures come as lines of the guest's output and are kept as a table of comma-separated values, in
//! the order in which they were measured. A figure that comes twice or cannot be read is an error: a
//! table with a hole would look like a result.

use anyhow::{Context as _, Result, bail};

const HEAD: &str = "situation,operation,value";
/// What the guest puts in front of a figure.
const PREFIX: &str = "figure ";

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Figures(Vec<Figure>);

#[derive(Debug, PartialEq, Eq)]
struct Figure {
    situation: String,
    operation: String,
    value: u64,
}

impl Figures {
    /// The figures among the lines that the guest printed.
    pub(crate) fn in_output(output: &str) -> Result<Self> {
        Self::of(output.lines().filter_map(|line| line.strip_prefix(PREFIX)))
    }

    /// The figures of an earlier run.
    pub(crate) fn in_table(text: &str) -> Result<Self> {
        let mut lines = text.lines();
        if lines.next() != Some(HEAD) {
            bail!("the table of figures does not begin with `{HEAD}`");
        }
        Self::of(lines)
    }

    fn of<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Self> {
        let mut figures = Self::default();
        for line in lines {
            let parts: Vec<&str> = line.split(',').collect();
            let [situation, operation, value] = parts.as_slice() else {
                bail!("`{line}` is no figure");
            };
            if figures.find(situation, operation).is_some() {
                bail!("`{operation}` in `{situation}` was measured twice");
            }
            figures.0.push(Figure {
                situation: (*situation).to_owned(),
                operation: (*operation).to_owned(),
                value: value
                    .parse()
                    .with_context(|| format!("`{line}` is no figure"))?,
            });
        }
        Ok(figures)
    }

    pub(crate) fn table(&self) -> String {
        let mut text = format!("{HEAD}\n");
        for figure in &self.0 {
            let Figure {
                situation,
                operation,
                value,
            } = figure;
            text.push_str(&format!("{situation},{operation},{value}\n"));
        }
        text
    }

    fn find(&self, situation: &str, operation: &str) -> Option<u64> {
        self.0
            .iter()
            .find(|figure| figure.situation == situation && figure.operation == operation)
            .map(|figure| figure.value)
    }

    pub(crate) fn get(&self, situation: &str, operation: &str) -> Result<u64> {
        self.find(situation, operation)
            .with_context(|| format!("`{operation}` in `{situation}` was not measured"))
    }

    /// How far this run is from another one, in a sentence.
    pub(crate) fn comparison(&self, other: &Self) -> String {
        let mut widest = (0, None);
        let mut both = 0;
        for figure in &self.0 {
            let Some(before) = other.find(&figure.situation, &figure.operation) else {
                continue;
            };
            both += 1;
            let distance = difference(before, figure.value);
            if distance > widest.0 {
                widest = (distance, Some((figure, before)));
            }
        }
        let all = format!("{both} figures were measured before, too");
        match widest {
            (distance, Some((figure, before))) => format!(
                "{all}; the widest difference is {}: {} in {} was {before} and is {}",
                percent(distance),
                figure.operation,
                figure.situation,
                figure.value
            ),
            (_, None) => format!("{all}; none differs"),
        }
    }
}

/// How far apart two figures are, in thousandths of a percent of the first.
fn difference(before: u64, after: u64) -> u64 {
    let distance = before.abs_diff(after) * 100_000;
    match distance {
        0 => 0,
        _ => distance.checked_div(before).unwrap_or(u64::MAX),
    }
}

fn percent(thousandths: u64) -> String {
    format!("{}.{:02} %", thousandths / 1000, thousandths % 1000 / 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "noise\nfigure none,open,1000\ngorgetd: ready\nfigure loaded,open,1020\n";

    #[test]
    fn figures_are_read_from_output_and_from_the_table_written_of_them() {
        let figures = Figures::in_output(OUTPUT).unwrap();
        assert_eq!(figures.get("loaded", "open").unwrap(), 1020);
        assert_eq!(Figures::in_table(&figures.table()).unwrap(), figures);
    }

    #[test]
    fn what_is_missing_double_or_no_number_is_an_error() {
        let error = |text: &str| Figures::in_output(text).unwrap_err().to_string();
        assert_eq!(error("figure a,b"), "`a,b` is no figure");
        assert_eq!(error("figure a,b,c"), "`a,b,c` is no figure");
        let double = error("figure a,b,1\nfigure a,b,1");
        assert_eq!(double, "`b` in `a` was measured twice");
        let figures = Figures::in_output(OUTPUT).unwrap();
        let missing = figures.get("none", "exec").unwrap_err().to_string();
        assert_eq!(missing, "`exec` in `none` was not measured");
    }

    #[test]
    fn the_comparison_names_the_widest_difference() {
        let before = Figures::in_output(OUTPUT).unwrap();
        let same = before.comparison(&before);
        assert_eq!(same, "2 figures were measured before, too; none differs");
        let nothing = Figures::in_output("figure storm,lost,0").unwrap();
        let same = nothing.comparison(&nothing);
        assert_eq!(same, "1 figures were measured before, too; none differs");
        let after = Figures::in_output("figure none,open,1001\nfigure loaded,open,1000").unwrap();
        assert_eq!(
            after.comparison(&before),
            "2 figures were measured before, too; the widest difference is 1.96 %: open in loaded \
             was 1020 and is 1000"
        );
    }
}
