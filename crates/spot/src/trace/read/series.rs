//! `{"metadata": {"gap_seconds": 600}, "data": [4, 4, 3]}`, or the array alone with the gap given.

use super::{Content, MOST_INTERVAL_MS, ReadOptions, Source};
use crate::trace::{Availability, MOST_INTERVALS};

#[derive(serde::Deserialize)]
struct Series {
    #[serde(default)]
    metadata: Metadata,
    data: Vec<f64>,
}

#[derive(Default, serde::Deserialize)]
struct Metadata {
    gap_seconds: Option<f64>,
}

pub(super) fn read(text: String, options: &ReadOptions) -> Result<Source, String> {
    let wrong = |error: serde_json::Error| {
        format!(
            "{error}; a JSON series is {{\"metadata\": {{\"gap_seconds\": 600}}, \"data\": [4, 4, 3]}} or [4, 4, 3]"
        )
    };
    let (data, gap) = if text.starts_with('[') {
        (serde_json::from_str(&text).map_err(wrong)?, None)
    } else {
        let series: Series = serde_json::from_str(&text).map_err(wrong)?;
        (series.data, series.metadata.gap_seconds.map(gap_ms).transpose()?)
    };
    let interval_ms = gap.or(options.interval_ms).ok_or(
        "the series has no \"gap_seconds\" in its \"metadata\"; give the interval between its numbers (--gap)",
    )?;
    if data.is_empty() {
        return Err("the series is empty; a trace needs at least one number".into());
    }
    if data.len() as u64 > MOST_INTERVALS {
        return Err(format!("{} numbers; at most {MOST_INTERVALS}", data.len()));
    }
    let counts: Vec<u32> = data
        .iter()
        .enumerate()
        .map(|(at, number)| {
            count(*number, options).map_err(|wrong| format!("number {} of the data: {wrong}", at + 1))
        })
        .collect::<Result<_, _>>()?;
    let counts = Availability::from_counts(interval_ms, &counts);
    Ok(Source { form: "JSON series", content: Content::Counts(counts), notes: Vec::new() })
}

fn gap_ms(seconds: f64) -> Result<u64, String> {
    let ms = (seconds * 1000.0).round();
    if !(1.0..=MOST_INTERVAL_MS as f64).contains(&ms) {
        return Err(format!("gap_seconds {seconds}; from 0.001 to {} is allowed", MOST_INTERVAL_MS / 1000));
    }
    Ok(ms as u64)
}

fn count(number: f64, options: &ReadOptions) -> Result<u32, String> {
    if number < 0.0 || number.fract() != 0.0 {
        return Err(format!("{number}; a whole number, at least 0, is needed"));
    }
    options.check(number as u64) // what is too large saturates, and is refused
}
