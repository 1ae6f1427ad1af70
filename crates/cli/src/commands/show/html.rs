//! A page that needs nothing but itself: style, drawings, data and script in one file.

use super::svg::{self, Line};
use serde_json::{Value, json};
use std::fmt::Write as _;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Most points that a line is drawn with.
const POINTS: usize = 500;

/// Text as HTML, in elements and in quoted attributes.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\0' => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A curve: a value for each (seconds, epochs).
#[derive(Clone, Debug)]
pub(crate) struct Curve {
    pub(crate) name: String,
    /// Seconds, epochs, value; the value may be no number.
    pub(crate) points: Vec<(f64, f64, f64)>,
}

impl Curve {
    /// At most about [`POINTS`] of the points, evenly picked, the last among them.
    fn thinned(&self) -> Vec<(f64, f64, f64)> {
        let every = self.points.len().div_ceil(POINTS).max(1);
        let last = self.points.len().saturating_sub(1);
        let kept = self.points.iter().enumerate().filter(|(at, _)| at % every == 0 || *at == last);
        kept.map(|(_, point)| *point).collect()
    }
}

/// A page in the making.
pub(crate) struct Page {
    title: String,
    time_word: &'static str,
    /// What the two numbers beside a value are: "3 s, epoch 5".
    places: (&'static str, &'static str),
    body: String,
    charts: Vec<Value>,
}

impl Page {
    /// An empty page; `time_word` names the time axis.
    pub(crate) fn new(title: &str, time_word: &'static str) -> Page {
        let body = format!("<h1>{}</h1>", escape(title));
        Page { title: title.into(), time_word, places: ("s", "epoch"), body, charts: Vec::new() }
    }

    /// An empty page on something that has other times than runs: `time_word` names the axis, `places` are the unit of
    /// a curve's first number and the name of its second.
    pub(crate) fn of_times(
        title: &str,
        time_word: &'static str,
        places: (&'static str, &'static str),
    ) -> Page {
        Page { places, ..Page::new(title, time_word) }
    }

    /// A paragraph.
    pub(crate) fn text(&mut self, class: &str, text: &str) {
        let _ = write!(self.body, "<p class=\"{class}\">{}</p>", escape(text)); // writing to a String cannot fail
    }

    /// The heading of a part.
    pub(crate) fn heading(&mut self, text: &str) {
        let _ = write!(self.body, "<h2>{}</h2>", escape(text));
    }

    /// The switches of all line charts.
    pub(crate) fn switches(&mut self) {
        let _ = write!(
            self.body,
            "<p class=\"switches\"><button type=\"button\" data-set=\"x\" data-to=\"seconds\">{}</button>\
             <button type=\"button\" data-set=\"x\" data-to=\"epochs\">epochs</button><span class=\"gap\"></span>\
             <button type=\"button\" data-set=\"y\" data-to=\"linear\">linear</button>\
             <button type=\"button\" data-set=\"y\" data-to=\"log\">log</button></p>",
            self.time_word
        );
    }

    /// Begins, or with `open` false ends, a grid of figures.
    pub(crate) fn grid(&mut self, open: bool) {
        self.body.push_str(if open { "<div class=\"grid-of-figures\">" } else { "</div>" });
    }

    /// Curves over seconds and over epochs, on a linear and a log axis: four drawings, one of them shown.
    pub(crate) fn chart(&mut self, title: &str, curves: &[Curve]) {
        let chart = self.charts.len();
        let thinned: Vec<Vec<(f64, f64, f64)>> = curves.iter().map(Curve::thinned).collect();
        let mut drawings = String::new();
        for (by_epochs, x) in [(false, "seconds"), (true, "epochs")] {
            let line = |(style, points): (usize, &Vec<(f64, f64, f64)>)| Line {
                style,
                points: points.iter().map(|p| (if by_epochs { p.1 } else { p.0 }, p.2)).collect(),
            };
            let lines: Vec<Line> = thinned.iter().enumerate().map(line).collect();
            let x_name = if by_epochs { "epochs" } else { self.time_word };
            for (log, y) in [(false, "linear"), (true, "log")] {
                drawings += &svg::lines(&lines, x_name, log, &format!("x-{x} y-{y}"), chart);
            }
        }
        let names: Vec<(&str, String)> = curves
            .iter()
            .enumerate()
            .map(|(at, c)| (c.name.as_str(), format!("line s{} d{}", at % 6, at % 4)))
            .collect();
        let _ = write!(
            self.body,
            "<figure><figcaption>{}</figcaption>{}<div class=\"drawing\">{drawings}<div class=\"tip\" hidden></div></div></figure>",
            escape(title),
            line_legend(&names)
        );
        self.charts.push(data(curves, &thinned));
    }

    /// A drawing with a title and a legend: names of the parts in the order of their classes.
    pub(crate) fn figure(&mut self, title: &str, parts: &[&str], drawing: &str) {
        let mut legend = String::new();
        for (class, part) in parts.iter().enumerate() {
            let _ = write!(
                legend,
                "<span><svg class=\"key\" viewBox=\"0 0 12 12\"><rect class=\"b{class}\" width=\"12\" height=\"12\"></rect></svg>{}</span>",
                escape(part)
            );
        }
        let _ = write!(
            self.body,
            "<figure><figcaption>{}</figcaption><div class=\"legend\">{legend}</div>{drawing}</figure>",
            escape(title)
        );
    }

    /// A table; the first column are names. Without `head`, no heading row.
    pub(crate) fn table(&mut self, head: &[&str], rows: &[Vec<String>]) {
        self.body.push_str("<div class=\"wide\"><table>");
        if !head.is_empty() {
            self.body.push_str("<thead><tr>");
            for name in head {
                let _ = write!(self.body, "<th scope=\"col\">{}</th>", escape(name));
            }
            self.body.push_str("</tr></thead>");
        }
        self.body.push_str("<tbody>");
        for row in rows {
            self.body.push_str("<tr>");
            for (at, cell) in row.iter().enumerate() {
                let (tag, scope) = if at == 0 { ("th", " scope=\"row\"") } else { ("td", "") };
                let _ = write!(self.body, "<{tag}{scope}>{}</{tag}>", escape(cell));
            }
            self.body.push_str("</tr>");
        }
        self.body.push_str("</tbody></table></div>");
    }

    /// Begins, or without a title ends, a part that is folded away.
    pub(crate) fn fold(&mut self, title: Option<&str>) {
        match title {
            Some(title) => {
                let _ = write!(self.body, "<details><summary>{}</summary>", escape(title));
            }
            None => self.body.push_str("</details>"),
        }
    }

    /// The whole page.
    pub(crate) fn finish(self) -> String {
        // A script element ends at the next "</script", whatever stands around it.
        let data = Value::Array(self.charts).to_string().replace('<', "\\u003c");
        format!(
            "<!doctype html>\n<html lang=\"en\" data-x=\"seconds\" data-y=\"linear\" data-unit=\"{}\" data-count=\"{}\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
             <meta name=\"color-scheme\" content=\"light dark\">\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\
             <title>{}</title>\n<style>\n{STYLE}</style></head>\n<body><main>{}</main>\n\
             <script type=\"application/json\" id=\"charts\">{data}</script>\n<script>\n{SCRIPT}</script>\n</body></html>\n",
            escape(self.places.0),
            escape(self.places.1),
            escape(&self.title),
            self.body
        )
    }
}

fn line_legend(names: &[(&str, String)]) -> String {
    let mut legend = String::from("<div class=\"legend\">");
    for (name, class) in names {
        let _ = write!(
            legend,
            "<span><svg class=\"key long\" viewBox=\"0 0 28 12\"><path class=\"{class}\" d=\"M0 6L28 6\"></path></svg>{}</span>",
            escape(name)
        );
    }
    legend + "</div>"
}

/// What the script needs of a chart; what is no number is null.
fn data(curves: &[Curve], thinned: &[Vec<(f64, f64, f64)>]) -> Value {
    let curve = |(curve, points): (&Curve, &Vec<(f64, f64, f64)>)| {
        let column = |pick: fn(&(f64, f64, f64)) -> f64| points.iter().map(pick).collect::<Vec<f64>>();
        json!({
            "name": curve.name,
            "seconds": column(|point| point.0),
            "epochs": column(|point| point.1),
            "values": column(|point| point.2),
        })
    };
    curves.iter().zip(thinned).map(curve).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_given_becomes_markup() {
        let evil = "</script><script>alert(1)</script>\"'&";
        let mut page = Page::new(evil, "seconds");
        page.text("note", evil);
        page.heading(evil);
        page.chart(evil, &[Curve { name: evil.into(), points: vec![(0.0, 0.0, 1.0), (1.0, 1.0, f64::NAN)] }]);
        page.figure(evil, &["compute"], &svg::stacked(&[(evil.into(), vec![1.0])], &["compute"], "seconds"));
        page.table(&[evil], &[vec![evil.into()]]);
        page.fold(Some(evil));
        page.fold(None);
        let page = page.finish();
        assert!(!page.contains("<script>alert"), "{page}");
        assert_eq!(page.matches("</script").count(), 2, "{page}");
        assert!(page.contains("\"values\":[1.0,null]"), "{page}");
    }

    #[test]
    fn long_curves_are_thinned_and_keep_their_ends() {
        let points = (0..12_345).map(|at| (f64::from(at), 0.0, 0.0)).collect();
        let thinned = Curve { name: String::new(), points }.thinned();
        assert!(thinned.len() <= POINTS + 1, "{}", thinned.len());
        assert_eq!((thinned[0].0, thinned[thinned.len() - 1].0), (0.0, 12_344.0));
    }
}
