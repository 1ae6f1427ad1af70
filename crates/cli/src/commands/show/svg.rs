//! Drawings for pages: axes, lines, stacked bars, histograms. Inline SVG; colours are classes of the page's style.

use super::html::escape;
use std::fmt::Write as _;

/// Size of a drawing with axes, and the frame within it: left, right, top, bottom.
const SIZE: (f64, f64) = (640.0, 300.0);
const FRAME: (f64, f64, f64, f64) = (66.0, 626.0, 14.0, 258.0);

/// From values to places on a line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Scale {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
    log: bool,
}

impl Scale {
    /// A scale over the finite ones of `values`. Logarithmic only if all of them are above 0.
    pub(crate) fn over(values: impl Iterator<Item = f64>, from: f64, to: f64, log: bool) -> Scale {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter(|value| value.is_finite()) {
            (low, high) = (low.min(value), high.max(value));
        }
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        let log = log && low > 0.0;
        if low == high && log {
            (low, high) = (low / 2.0, high * 2.0);
        } else if low == high {
            let room = (low.abs() / 100.0).max(1e-9);
            (low, high) = (low - room, high + room);
        }
        Scale { low, high, from, to, log }
    }

    /// Where `value` is.
    pub(crate) fn at(&self, value: f64) -> f64 {
        let part = match self.log {
            true => (value / self.low).ln() / (self.high / self.low).ln(),
            false => (value - self.low) / (self.high - self.low),
        };
        self.from + part * (self.to - self.from)
    }

    /// Round values to mark.
    pub(crate) fn ticks(&self) -> Vec<f64> {
        if self.log && self.high / self.low >= 10.0 {
            return self.powers();
        }
        let step = round_step((self.high - self.low) / 5.0);
        let first = (self.low / step).ceil();
        (0..12)
            .map(|k| (first + f64::from(k)) * step)
            .take_while(|tick| *tick <= self.high + step * 1e-6)
            .collect()
    }

    fn powers(&self) -> Vec<f64> {
        let (first, last) = (self.low.log10().floor() as i32, self.high.log10().ceil() as i32);
        let decades = last - first;
        let marks: &[f64] = if decades <= 2 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let every = (decades / 6 + 1) as usize;
        let powers = (first..=last)
            .step_by(every)
            .flat_map(|power| marks.iter().map(move |mark| mark * 10f64.powi(power)));
        powers.filter(|tick| (self.low..=self.high).contains(tick)).collect()
    }

    /// "low high from to log" for the page's script.
    fn words(&self) -> String {
        format!("{} {} {} {} {}", self.low, self.high, self.from, self.to, u8::from(self.log))
    }
}

/// 1, 2 or 5 times a power of ten, at least `step`.
fn round_step(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    [1.0, 2.0, 5.0].into_iter().map(|mark| mark * power).find(|round| *round >= step).unwrap_or(10.0 * power)
}

/// Labels for ticks: a shared unit and as many decimals as tell them apart.
pub(crate) fn labels(ticks: &[f64]) -> Vec<String> {
    let most = ticks.iter().fold(0.0f64, |most, tick| most.max(tick.abs()));
    let least = ticks.iter().map(|tick| tick.abs()).filter(|tick| *tick > 0.0).fold(f64::INFINITY, f64::min);
    if most < 1e-3 || most / least >= 1e3 {
        return ticks.iter().map(|tick| alone(*tick)).collect();
    }
    let (unit, letter) = match most {
        m if m >= 1e9 => (1e9, "G"),
        m if m >= 1e6 => (1e6, "M"),
        m if m >= 1e4 => (1e3, "k"),
        _ => (1.0, ""),
    };
    let gap = ticks.windows(2).map(|pair| (pair[1] - pair[0]).abs() / unit).fold(f64::INFINITY, f64::min);
    let gap = if gap.is_finite() { gap } else { most / unit / 10.0 };
    let decimals = (-(gap.log10() + 1e-9).floor()).clamp(0.0, 6.0) as usize;
    ticks.iter().map(|tick| format!("{:.decimals$}{letter}", tick / unit)).collect()
}

/// A label that needs no neighbours: three digits, a power of ten where zeros would be many.
fn alone(tick: f64) -> String {
    if tick == 0.0 {
        return "0".into();
    }
    let power = tick.abs().log10().floor();
    let digits = (tick / 10f64.powf(power) * 100.0).round() / 100.0;
    if (-4.0..4.0).contains(&power) {
        format!("{}", digits * 10f64.powf(power))
    } else {
        format!("{digits}e{power}")
    }
}

/// A line to draw; where y is no number, it is broken.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// Colour and dashes, by number.
    pub(crate) style: usize,
    pub(crate) points: Vec<(f64, f64)>,
}

/// Lines over axes. `kind` is a class for the page's script to choose by; `chart` the number of its data there.
pub(crate) fn lines(lines: &[Line], x_name: &str, log: bool, kind: &str, chart: usize) -> String {
    let (left, right, top, bottom) = FRAME;
    let points = || lines.iter().flat_map(|line| &line.points).filter(|point| point.1.is_finite());
    let x = Scale::over(points().map(|point| point.0).chain([0.0]), left, right, false);
    let y = Scale::over(points().map(|point| point.1), bottom - 6.0, top + 6.0, log);
    let mut svg = format!(
        "<svg class=\"plot {kind}\" viewBox=\"0 0 {} {}\" role=\"img\" data-chart=\"{chart}\" data-x=\"{}\" data-y=\"{}\">",
        SIZE.0,
        SIZE.1,
        x.words(),
        y.words()
    );
    axes(&mut svg, &x, &y, x_name);
    for line in lines {
        svg.push_str(&path(line, &x, &y));
    }
    if log && !y.log {
        let _ = write!(
            svg,
            "<text class=\"hint\" x=\"{right}\" y=\"{}\">not all above 0: no log axis</text>",
            top + 2.0
        );
    }
    svg.push_str("<line class=\"cross\" y1=\"14\" y2=\"258\"></line><g class=\"marks\"></g></svg>");
    svg
}

fn axes(svg: &mut String, x: &Scale, y: &Scale, x_name: &str) {
    let (left, right, top, bottom) = FRAME;
    let ticks = y.ticks();
    for (tick, label) in ticks.iter().zip(labels(&ticks)) {
        let at = y.at(*tick);
        // Writing to a String cannot fail, here and below.
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{left}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"></line>"
        );
        let _ =
            write!(svg, "<text class=\"tick end\" x=\"{}\" y=\"{:.1}\">{label}</text>", left - 8.0, at + 4.0);
    }
    let ticks = x.ticks();
    for (tick, label) in ticks.iter().zip(labels(&ticks)) {
        let at = x.at(*tick);
        let _ = write!(
            svg,
            "<line class=\"axis\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{bottom}\" y2=\"{}\"></line>",
            bottom + 4.0
        );
        let _ = write!(svg, "<text class=\"tick mid\" x=\"{at:.1}\" y=\"{}\">{label}</text>", bottom + 18.0);
    }
    let _ = write!(
        svg,
        "<line class=\"axis\" x1=\"{left}\" x2=\"{right}\" y1=\"{bottom}\" y2=\"{bottom}\"></line>"
    );
    let middle = (left + right) / 2.0;
    let _ = write!(
        svg,
        "<text class=\"name mid\" x=\"{middle}\" y=\"{}\">{}</text>",
        SIZE.1 - 6.0,
        escape(x_name)
    );
    let _ = top; // the frame has no upper edge
}

fn path(line: &Line, x: &Scale, y: &Scale) -> String {
    let (mut data, mut pen_up) = (String::new(), true);
    for (at, value) in &line.points {
        if !value.is_finite() {
            pen_up = true;
            continue;
        }
        let _ = write!(data, "{}{:.1} {:.1}", if pen_up { "M" } else { "L" }, x.at(*at), y.at(*value));
        pen_up = false;
    }
    let style = line.style;
    let mut svg = format!("<path class=\"line s{} d{}\" d=\"{data}\"></path>", style % 6, style % 4);
    let seen: Vec<_> = line.points.iter().filter(|point| point.1.is_finite()).collect();
    if let [only] = seen[..] {
        let (x, y) = (x.at(only.0), y.at(only.1));
        svg = format!("<circle class=\"dot f{}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\"></circle>", style % 6);
    }
    svg
}

/// Stacked bars, one a row; each part with its class and its name.
pub(crate) fn stacked(rows: &[(String, Vec<f64>)], parts: &[&str], unit: &str) -> String {
    let (thick, gap) = if rows.len() <= 40 { (18.0, 8.0) } else { (7.0, 2.0) };
    let longest_name = rows.iter().map(|row| row.0.chars().count()).max().unwrap_or(0) as f64;
    let left = (longest_name * 7.5 + 14.0).min(220.0);
    let height = rows.len() as f64 * (thick + gap) + 40.0;
    let totals = rows.iter().map(|row| row.1.iter().sum::<f64>());
    let x = Scale::over(totals.chain([0.0]), left, SIZE.0 - 14.0, false);
    let mut svg = format!("<svg class=\"bars\" viewBox=\"0 0 {} {height}\" role=\"img\">", SIZE.0);
    let bottom = height - 34.0;
    let ticks = x.ticks();
    for (tick, label) in ticks.iter().zip(labels(&ticks)) {
        let at = x.at(*tick);
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"0\" y2=\"{bottom}\"></line>"
        );
        let _ = write!(svg, "<text class=\"tick mid\" x=\"{at:.1}\" y=\"{}\">{label}</text>", bottom + 14.0);
    }
    let every = if rows.len() <= 40 { 1 } else { 4 };
    for (number, (name, values)) in rows.iter().enumerate() {
        let top = number as f64 * (thick + gap) + gap / 2.0;
        if number % every == 0 {
            let middle = top + thick / 2.0 + 4.0;
            let _ = write!(
                svg,
                "<text class=\"tick end\" x=\"{}\" y=\"{middle:.1}\">{}</text>",
                left - 8.0,
                escape(name)
            );
        }
        let mut before = 0.0;
        for ((value, part), class) in values.iter().zip(parts).zip(0..) {
            let (from, to) = (x.at(before), x.at(before + value));
            before += value;
            if value.is_nan() || *value <= 0.0 {
                continue;
            }
            let _ = write!(
                svg,
                "<rect class=\"b{class}\" x=\"{from:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{thick}\">\
                 <title>{}: {part} {value:.3} {unit}</title></rect>",
                (to - from).max(0.5),
                escape(name)
            );
        }
    }
    let middle = (left + SIZE.0) / 2.0;
    let _ = write!(
        svg,
        "<text class=\"name mid\" x=\"{middle:.1}\" y=\"{}\">{}</text></svg>",
        height - 4.0,
        escape(unit)
    );
    svg
}

/// Upright bars over labelled bins.
pub(crate) fn histogram(bins: &[(String, u64)], x_name: &str) -> String {
    let (left, right, _, bottom) = FRAME;
    let top = 22.0;
    let most = bins.iter().map(|bin| bin.1).max().unwrap_or(1).max(1) as f64;
    let y = Scale::over([0.0, most].into_iter(), bottom, top, false);
    let mut svg = format!("<svg class=\"bars\" viewBox=\"0 0 {} {}\" role=\"img\">", SIZE.0, SIZE.1);
    let ticks = y.ticks();
    for (tick, label) in ticks.iter().zip(labels(&ticks)) {
        let at = y.at(*tick);
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{left}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"></line>"
        );
        let _ =
            write!(svg, "<text class=\"tick end\" x=\"{}\" y=\"{:.1}\">{label}</text>", left - 8.0, at + 4.0);
    }
    let slot = ((right - left) / bins.len().max(1) as f64).min(80.0);
    let every =
        (bins.iter().map(|bin| bin.0.len()).max().unwrap_or(1) as f64 * 8.0 / slot).ceil().max(1.0) as usize;
    for (number, (name, count)) in bins.iter().enumerate() {
        let (from, height) = (left + number as f64 * slot, bottom - y.at(*count as f64));
        let height = if *count > 0 { height.max(1.0) } else { 0.0 };
        let _ = write!(
            svg,
            "<rect class=\"b0\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{height:.1}\"><title>{name}: {count}</title></rect>",
            from + slot * 0.08,
            bottom - height,
            slot * 0.84
        );
        if number % every == 0 {
            let _ = write!(
                svg,
                "<text class=\"tick mid\" x=\"{:.1}\" y=\"{}\">{name}</text>",
                from + slot / 2.0,
                bottom + 18.0
            );
        }
    }
    let _ = write!(
        svg,
        "<line class=\"axis\" x1=\"{left}\" x2=\"{right}\" y1=\"{bottom}\" y2=\"{bottom}\"></line>"
    );
    let middle = (left + right) / 2.0;
    let _ = write!(
        svg,
        "<text class=\"name mid\" x=\"{middle}\" y=\"{}\">{}</text></svg>",
        SIZE.1 - 6.0,
        escape(x_name)
    );
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_within_the_scale() {
        for (low, high) in
            [(0.0, 1.0), (-8.25e5, -8.01e5), (0.9301, 0.9317), (3.0, 3.0), (1e-7, 4e-7), (0.0, 1e12)]
        {
            let scale = Scale::over([low, high].into_iter(), 0.0, 100.0, false);
            let ticks = scale.ticks();
            assert!((2..=11).contains(&ticks.len()), "{low} {high}: {ticks:?}");
            assert!(
                ticks.iter().all(|tick| (-0.01..=100.01).contains(&scale.at(*tick))),
                "{low} {high}: {ticks:?}"
            );
            let mut labels = labels(&ticks);
            labels.dedup();
            assert_eq!(labels.len(), ticks.len(), "{low} {high}: {labels:?} for {ticks:?}");
        }
    }

    #[test]
    fn a_log_scale_marks_powers_and_refuses_what_is_not_above_0() {
        let scale = Scale::over([1e-4, 1.0].into_iter(), 0.0, 1.0, true);
        assert_eq!(labels(&scale.ticks()), ["0.0001", "0.001", "0.01", "0.1", "1"]);
        assert!((scale.at(1e-2) - 0.5).abs() < 1e-12);
        assert!(!Scale::over([0.0, 1.0].into_iter(), 0.0, 1.0, true).log);
        assert!(Scale::over([f64::NAN].into_iter(), 0.0, 1.0, true).at(0.5).is_finite());
    }

    #[test]
    fn labels_share_a_unit() {
        assert_eq!(labels(&[0.0, 0.02, 0.04]), ["0.00", "0.02", "0.04"]);
        assert_eq!(labels(&[-820_000.0, -810_000.0]), ["-820k", "-810k"]);
        assert_eq!(labels(&[0.0, 50.0, 100.0]), ["0", "50", "100"]);
    }

    #[test]
    fn a_line_is_broken_where_there_is_no_number() {
        let points = vec![(0.0, 1.0), (1.0, f64::NAN), (2.0, 3.0), (3.0, 4.0)];
        let svg = lines(&[Line { style: 0, points }], "epochs", false, "", 0);
        assert!(!svg.contains("NaN"), "{svg}");
        let data = svg.split("<path").nth(1).unwrap();
        assert_eq!(data.matches('M').count(), 2, "{data}");
    }
}
