//! How long bytes take from one machine to another.

use crate::{Error, Result};
use std::io::BufRead;

/// Most rows of a table.
const MOST_ROWS: usize = 10_000;

/// Point-to-point time as a function of size: straight lines between measured points, the first point's time below it,
/// the last slope beyond the last point.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// (bytes, milliseconds), bytes strictly growing; at least two.
    points: Vec<(f64, f64)>,
}

impl Network {
    /// From measured points (bytes, milliseconds) in any order.
    ///
    /// # Errors
    /// Fewer than two points, a size given twice, a size or time that is negative or no number, a last slope that falls.
    pub fn new(mut points: Vec<(f64, f64)>) -> Result<Network> {
        if let Some((bytes, ms)) =
            points.iter().find(|(b, ms)| !(b.is_finite() && ms.is_finite() && *b >= 0.0 && *ms >= 0.0))
        {
            return Err(Error::data(format!(
                "network: {bytes} bytes in {ms} ms; both are numbers of at least 0"
            )));
        }
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        if let Some(pair) = points.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(Error::data(format!("network: {} bytes are given twice", pair[0].0)));
        }
        match points.as_slice() {
            [.., a, b] if b.1 >= a.1 => Ok(Network { points }),
            [.., a, b] => Err(Error::data(format!(
                "network: {} bytes take {} ms, but {} bytes only {} ms; the last two rows say how it goes on and must not fall",
                a.0, a.1, b.0, b.1
            ))),
            _ => Err(Error::data(format!("network: {} rows; at least 2 sizes", points.len()))),
        }
    }

    /// Reads CSV with the columns `bytes,microseconds`; `#` starts a comment line.
    ///
    /// # Errors
    /// [`Error::Data`] with the line number.
    pub fn read(input: impl BufRead, name: &str) -> Result<Network> {
        let mut points = Vec::new();
        for (number, line) in input.lines().enumerate() {
            let place = format!("{name}:{}", number + 1);
            let line = line.map_err(|error| Error::data(format!("{place}: {error}")))?;
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') || line == "bytes,microseconds" {
                continue;
            }
            let numbers = line.split_once(',').and_then(|(bytes, time)| {
                Some((bytes.trim().parse::<f64>().ok()?, time.trim().parse::<f64>().ok()?))
            });
            let Some((bytes, microseconds)) = numbers else {
                return Err(Error::data(format!(
                    "{place}: {line:?}; bytes,microseconds are wanted, as 1024,137.4"
                )));
            };
            points.push((bytes, microseconds / 1e3));
            if points.len() > MOST_ROWS {
                return Err(Error::data(format!("{place}: more than {MOST_ROWS} rows")));
            }
        }
        Network::new(points).map_err(|error| Error::data(format!("{name}: {error}")))
    }

    /// The measured 10 Gb/s network of Parcae's experiments (0.14 ms for small messages, about 0.9 GB/s for large ones).
    pub fn ten_gigabit() -> Network {
        let text = include_str!("../../data/network/10gbit.csv");
        let plain = || Network { points: vec![(0.0, 0.14), (1.25e9, 1e3)] };
        Network::read(text.as_bytes(), "10gbit.csv").unwrap_or_else(|_| plain()) // a test reads it
    }

    /// Milliseconds that `bytes` take.
    pub fn time_ms(&self, bytes: f64) -> f64 {
        let points = &self.points;
        if bytes <= points[0].0 {
            return points[0].1;
        }
        let upper = points.partition_point(|point| point.0 < bytes).clamp(1, points.len() - 1);
        let ((x0, y0), (x1, y1)) = (points[upper - 1], points[upper]);
        y0 + (y1 - y0) * (bytes - x0) / (x1 - x0)
    }
}
