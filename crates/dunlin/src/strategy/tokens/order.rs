//! The order of visits: written down by every rank, and gone through again by one.
//!
//! A visit is named by its place in the lane's sequence (that of the lines) and in the token's (lap, then hop). Any
//! order that keeps both sequences, and has a view of merged tables begin after as many merges, gives the same bits.
//!
//! ```text
//! dunlin order 2: 4 lanes, 32 row blocks, seed 7, data 0c5d17a2b3e4f601, 160 visits
//! lane  row_block  lap  hop  merged                 (tabs between them; laps count those of `begin`)
//! 0     3          0    0    0
//! ```

use crate::rng::Stream;
use crate::{Error, Result};
use dunlin_comm::{Buffer, Message};
use std::collections::VecDeque;
use std::fmt::Write;
use std::path::Path;

/// One visit of a row block to a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visit {
    /// The lane.
    pub lane: usize,
    /// The row block.
    pub row_block: usize,
    /// Which time round it is.
    pub lap: u64,
    /// Lanes that the row block had visited before in this lap.
    pub hop: usize,
    /// Laps of merged tables that were in the lane's view when it began.
    pub merged: u64,
}

/// The visits of a rank as a message.
pub fn to_message(visits: &[Visit]) -> Message {
    let mut body = Buffer::new();
    for visit in visits {
        body.extend(&[visit.lane as u64, visit.row_block as u64, visit.lap, visit.hop as u64, visit.merged]);
    }
    Message::new(&(visits.len() as u64), body)
}

/// The visits that [`to_message`] put into `message`.
///
/// # Errors
/// [`dunlin_comm::Error::BadMessage`] if they are not there.
pub fn from_message(message: &Message) -> Result<Vec<Visit>> {
    let count = message.head::<u64>()? as usize;
    Ok(from_numbers(message.numbers::<u64>(0, count.saturating_mul(5))?))
}

/// The visits of a body of [`to_message`] under another head.
///
/// # Errors
/// [`dunlin_comm::Error::BadMessage`] for a body of other numbers.
pub fn from_body(message: &Message) -> Result<Vec<Visit>> {
    Ok(from_numbers(message.numbers::<u64>(0, message.body.len() / 40 * 5)?))
}

fn from_numbers(numbers: &[u64]) -> Vec<Visit> {
    let visit = |n: &[u64]| Visit {
        lane: n[0] as usize,
        row_block: n[1] as usize,
        lap: n[2],
        hop: n[3] as usize,
        merged: n[4],
    };
    numbers.chunks_exact(5).map(visit).collect()
}

/// What an order is of: it can be gone through where all of this is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head<'a> {
    /// Number of lanes.
    pub lanes: usize,
    /// Number of row blocks.
    pub row_blocks: usize,
    /// The run's seed.
    pub seed: u64,
    /// Fingerprint of the training data.
    pub data: &'a str,
}

impl Head<'_> {
    /// The first line, but for the number of visits.
    fn line(&self) -> String {
        let Head { lanes, row_blocks, seed, data } = self;
        format!("dunlin order 2: {lanes} lanes, {row_blocks} row blocks, seed {seed}, data {data}")
    }
}

/// Writes the visits of all lanes, each lane's in order.
///
/// # Errors
/// If the file cannot be written.
pub fn write(path: &Path, head: &Head, visits: &[Visit]) -> Result<()> {
    let (head, count) = (head.line(), visits.len());
    let mut text = format!("{head}, {count} visits\nlane\trow_block\tlap\thop\tmerged\n");
    for Visit { lane, row_block, lap, hop, merged } in visits {
        let _ = writeln!(text, "{lane}\t{row_block}\t{lap}\t{hop}\t{merged}");
    }
    std::fs::write(path, text).map_err(Error::io(format!("writing {}", path.display())))
}

/// What is left of a recorded order.
#[derive(Clone, Debug)]
pub struct Script {
    lanes: Vec<VecDeque<Visit>>,
    place: String,
    /// To choose among what may come next: any choice gives the same bits.
    rng: Stream,
}

impl Script {
    /// Reads the order of a run of which all that `head` says is true.
    ///
    /// # Errors
    /// [`Error::Usage`] or [`Error::Data`] with file, line and what is wrong.
    pub fn read(path: &Path, head: &Head) -> Result<Script> {
        let place = path.display().to_string();
        let wrong = |what: String| Error::Data(format!("--replay {place}: {what}"));
        let bytes = std::fs::read(path).map_err(|error| wrong(format!("cannot read it: {error}")))?;
        let text = String::from_utf8(bytes)
            .map_err(|_| wrong("this is no text; give a file that --log-order wrote".into()))?;
        let mut lines = text.lines().enumerate();
        let count = count_of(lines.next().map_or("", |(_, line)| line), &place, head)?;
        let Head { lanes, row_blocks, seed, .. } = *head;
        let mut by_lane = vec![VecDeque::new(); lanes];
        for (line, text) in lines.skip(1) {
            let visit = parse(text).filter(|visit| visit.lane < lanes && visit.row_block < row_blocks);
            let Some(visit) = visit else {
                let given: String = text.chars().take(100).collect();
                return Err(Error::Data(format!(
                    "--replay {place}:{}: \"{given}\"; five whole numbers belong here, a lane below {lanes} and a row \
                     block below {row_blocks} first",
                    line + 1
                )));
            };
            by_lane[visit.lane].push_back(visit);
        }
        let found: usize = by_lane.iter().map(VecDeque::len).sum();
        if found != count || !text.ends_with('\n') {
            return Err(wrong(format!(
                "it is cut or was changed: its first line says {count} visits, and {found} are there"
            )));
        }
        Ok(Script { lanes: by_lane, place, rng: crate::rng::stream(seed, "replay", &[]) })
    }

    /// Takes the next visit of some lane that may come now.
    pub(super) fn take(&mut self, may_come: impl Fn(&Visit) -> bool) -> Option<Visit> {
        let heads = self.lanes.iter().filter_map(VecDeque::front);
        let ready: Vec<usize> = heads.filter(|visit| may_come(visit)).map(|visit| visit.lane).collect();
        let lane = *ready.get(self.rng.below(ready.len().max(1)))?;
        self.lanes[lane].pop_front()
    }

    /// Why it cannot go on.
    pub(super) fn is_stuck(&self) -> Error {
        let what = match self.lanes.iter().filter_map(VecDeque::front).min_by_key(|visit| visit.lap) {
            None => "it ends before this run does; give fewer --epochs".to_string(),
            Some(Visit { lane, row_block, lap, hop, .. }) => format!(
                "lane {lane} is to have row block {row_block} next, in lap {lap} as number {} of its lanes, and that cannot \
                 be; replay with the --eval-every of the run that wrote it",
                hop + 1
            ),
        };
        Error::Usage(format!("--replay {}: {what}", self.place))
    }
}

/// The number of visits that the first line of an order says, if the rest of it is `head`.
fn count_of(first: &str, place: &str, head: &Head) -> Result<usize> {
    if first.starts_with("dunlin order 1:") {
        return Err(Error::Usage(format!(
            "--replay {place}:1: the format of an older dunlin, which does not say what data it is of; write the order again \
             with --log-order"
        )));
    }
    let wanted = head.line();
    let count = first.strip_prefix(&wanted).and_then(|rest| rest.strip_prefix(", ")?.strip_suffix(" visits"));
    count.and_then(|count| count.parse().ok()).ok_or_else(|| {
        let given: String = first.chars().take(120).collect();
        Error::Usage(format!(
            "--replay {place}:1: \"{given}\"; this run writes \"{wanted}\": replay with the same data, settings, lanes and seed"
        ))
    })
}

fn parse(line: &str) -> Option<Visit> {
    let mut numbers = line.split('\t').map(|field| field.parse::<u64>().ok());
    let mut next = || numbers.next().flatten();
    let visit = Visit {
        lane: next()? as usize,
        row_block: next()? as usize,
        lap: next()?,
        hop: next()? as usize,
        merged: next()?,
    };
    numbers.next().is_none().then_some(visit)
}
