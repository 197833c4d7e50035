// SPDX-License-Identifier: Apache-2.0
//! Line charts as SVG: a few lines on a grid from zero, each with its name at its end.
//!
//! Colours follow the reader's choice of a light or dark page. Coordinates are whole tenths of a
//! pixel, so that the same figures give the same file.

#[derive(Debug)]
pub(crate) struct Chart {
    pub(crate) title: String,
    pub(crate) x_title: String,
    /// One name for each place on the horizontal axis.
    pub(crate) x: Vec<String>,
    /// A name, and a value for each place.
    pub(crate) series: Vec<(String, Vec<u64>)>,
}

const STYLE: &str = "<style>\
text{font:13px sans-serif;fill:#24292f}.title{font-size:15px;font-weight:bold}\
.grid{stroke:#d0d7de;stroke-width:1}.line{fill:none;stroke-width:2.5}\
.c0{stroke:#0969da}.c1{stroke:#bc4c00}.c2{stroke:#1a7f37}.c3{stroke:#8250df}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.grid{stroke:#3d444d}\
.c0{stroke:#58a6ff}.c1{stroke:#f0883e}.c2{stroke:#3fb950}.c3{stroke:#bc8cff}}\
</style>";

const WIDTH: u64 = 820;
const HEIGHT: u64 = 380;
/// The area of the lines, in tenths of a pixel.
const LEFT: u64 = 700;
const RIGHT: u64 = 6000;
const TOP: u64 = 500;
const BOTTOM: u64 = 3200;
/// The least distance between two names.
const NAME_HEIGHT: u64 = 170;

/// The chart as the text of an SVG file.
pub(crate) fn svg(chart: &Chart) -> String {
    let values = chart.series.iter().flat_map(|(_, values)| values);
    let most = values.copied().max().unwrap_or_default();
    let step = grid_step(most);
    let top = most.div_ceil(step).max(1) * step;
    let mut lines = vec![
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             role=\"img\" aria-label=\"{}\">",
            chart.title
        ),
        STYLE.to_owned(),
        text(LEFT, 250, "start", &chart.title).replace("<text", "<text class=\"title\""),
        text((LEFT + RIGHT) / 2, 3650, "middle", &chart.x_title),
    ];
    for value in (0..=top / step).map(|n| n * step) {
        let at = y(value, top);
        let line = format!(
            "<line class=\"grid\" x1=\"{}\" x2=\"{}\" y1=\"{2}\" y2=\"{2}\"/>",
            tenths(LEFT),
            tenths(RIGHT),
            tenths(at)
        );
        lines.push(line);
        lines.push(text(LEFT - 80, at + 45, "end", &grouped(value)));
    }
    for (place, name) in (0..).zip(&chart.x) {
        lines.push(text(x(place, chart), BOTTOM + 220, "middle", name));
    }
    lines.extend(series(chart, top));
    lines.push("</svg>\n".to_owned());
    lines.join("\n")
}

fn series(chart: &Chart, top: u64) -> Vec<String> {
    let mut ends = Vec::new();
    let mut lines = Vec::new();
    for (colour, (name, values)) in chart.series.iter().enumerate() {
        let mut points = String::new();
        for (place, value) in (0..).zip(values) {
            let (x, y) = (tenths(x(place, chart)), tenths(y(*value, top)));
            points.push_str(&format!("{x},{y} "));
        }
        lines.push(format!(
            "<polyline class=\"line c{colour}\" points=\"{}\"/>",
            points.trim_end()
        ));
        ends.push((y(values.last().copied().unwrap_or_default(), top), name));
    }
    ends.sort();
    let mut free = 0;
    for (end, name) in ends {
        let at = end.max(free);
        free = at + NAME_HEIGHT;
        lines.push(text(RIGHT + 80, at + 45, "start", name));
    }
    lines
}

fn x(place: u64, chart: &Chart) -> u64 {
    let gaps = u64::try_from(chart.x.len()).unwrap_or(u64::MAX).max(2) - 1;
    LEFT + 200 + (RIGHT - LEFT - 400) * place / gaps
}

fn y(value: u64, top: u64) -> u64 {
    BOTTOM - (BOTTOM - TOP) * value / top
}

/// 1, 2 or 5 times a power of ten, so that there are four to ten lines.
fn grid_step(most: u64) -> u64 {
    let mut power = 1;
    loop {
        for factor in [1, 2, 5] {
            if most / (power * factor) < 8 {
                return power * factor;
            }
        }
        power *= 10;
    }
}

fn text(x: u64, y: u64, anchor: &str, words: &str) -> String {
    let (x, y) = (tenths(x), tenths(y));
    format!("<text x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\">{words}</text>")
}

fn tenths(value: u64) -> String {
    format!("{}.{}", value / 10, value % 10)
}

/// A number with a comma before each three digits.
pub(crate) fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(values: Vec<u64>) -> Chart {
        Chart {
            title: "Cost".to_owned(),
            x_title: "rules".to_owned(),
            x: vec!["1".to_owned(), "10".to_owned()],
            series: vec![("one".to_owned(), values), ("two".to_owned(), vec![0, 0])],
        }
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let texts = [0, 999, 1000, 1_234_567].map(grouped);
        assert_eq!(texts, ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn the_grid_has_four_to_ten_lines() {
        for most in [4, 9, 10, 99, 5_540, 17_000, 123_456] {
            let lines = most / grid_step(most);
            assert!((3..8).contains(&lines), "{most}: {lines}");
        }
    }

    #[test]
    fn the_lines_span_the_area() {
        let svg = svg(&chart(vec![0, 800]));
        assert!(svg.contains("points=\"90.0,320.0 580.0,50.0\""), "{svg}");
        assert!(svg.contains(">800</text>"), "{svg}");
    }

    #[test]
    fn names_at_the_same_height_do_not_overlap() {
        let svg = svg(&chart(vec![800, 0]));
        let at = |name: &str| {
            let line = svg
                .lines()
                .find(|line| line.ends_with(&format!(">{name}</text>")));
            line.unwrap().split('"').nth(3).unwrap().to_owned()
        };
        assert_eq!(
            (at("one"), at("two")),
            ("324.5".to_owned(), "341.5".to_owned())
        );
    }

    #[test]
    fn a_chart_of_zeros_is_drawn() {
        assert!(svg(&chart(vec![0, 0])).ends_with("</svg>\n"));
    }
}
