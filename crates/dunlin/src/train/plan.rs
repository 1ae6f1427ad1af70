//! How an epoch is cut into clocks, and the tables into row blocks: from all training data, alike on every rank.

use super::source::{Source, lock};
use crate::algorithm::Algorithm;
use crate::checkpoint::Manifest;
use crate::data::{Block, Contents, Shape, cut_columns};
use crate::run::Run;
use crate::schedule;
use crate::serial::share;
use crate::strategy::{StrategySpec, rotation, tokens};
use crate::table::Axis;
use crate::{Error, Result};
use std::ops::Range;

/// What is decided before lanes take their blocks.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Clocks in an epoch.
    pub(super) clocks_per_epoch: usize,
    /// The ranges of rows that go round; none unless the strategy is `rotation`.
    pub(super) row_blocks: Vec<Range<usize>>,
    /// True if these are columns of the data, which are cut along them; classes leave the data whole.
    pub(super) cuts_data: bool,
    /// How variables are scheduled; none unless the strategy is `scheduled`.
    pub(super) schedule: Option<schedule::Plan>,
    /// What the user should know of it.
    pub(super) warning: Option<String>,
}

/// What is said of data of which each lane has some columns instead of some rows.
pub(super) fn told_of_columns(shape: &Shape) -> String {
    let grouped = |number: usize| {
        let digits = number.to_string();
        let group = |(at, digit): (usize, char)| match at > 0 && (digits.len() - at).is_multiple_of(3) {
            true => format!(",{digit}"),
            false => digit.to_string(),
        };
        digits.chars().enumerate().map(group).collect::<String>()
    };
    let sign = if shape.columns > shape.rows { ">" } else { "<=" };
    format!("data cut by columns: {} columns {sign} {} rows", grouped(shape.columns), grouped(shape.rows))
}

impl Plan {
    /// # Errors
    /// What the model finds wrong with the data.
    pub(super) fn new<A: Algorithm>(
        algorithm: &A,
        run: &Run,
        source: &Source,
        before: Option<&Manifest>,
    ) -> Result<Plan> {
        let blocks = lock(&source.train);
        let blocks: Vec<&Block> = blocks.iter().flatten().collect();
        let disk = source.disk.as_ref();
        match disk {
            Some(disk) => disk.check(algorithm, run.seed)?,
            None => algorithm.check(&blocks, run.seed)?,
        }
        if run.rotates() {
            let tables = algorithm.tables();
            let per_lane = match run.strategy {
                StrategySpec::RotationAsync => tokens::tokens_per_lane(&tables, run.lanes),
                _ => rotation::blocks_per_lane(&tables, run.lanes),
            };
            let count = row_blocks_before(run, before).unwrap_or(run.lanes * per_lane);
            let cuts_data = tables.iter().any(|table| table.axis == Axis::Feature);
            let row_blocks = match cuts_data {
                true => {
                    let columns = source.shape.columns;
                    match disk {
                        None => {
                            check_entries::<A>(&blocks)?;
                            cut_columns(blocks.iter().copied(), columns, count)
                        }
                        Some(disk) => {
                            let stub = disk.stub()?;
                            check_entries::<A>(&stub.iter().collect::<Vec<_>>())?;
                            disk.cut_columns(columns, count)?
                        }
                    }
                }
                false => {
                    let classes =
                        tables.iter().filter(|table| table.axis == Axis::Output).map(|table| table.rows);
                    let classes = classes.max().unwrap_or(0);
                    // With fewer classes than row blocks, empty ones come last.
                    let cut = count.min(classes).max(1);
                    let part = |part| if part < cut { share(classes, cut, part) } else { classes..classes };
                    (0..count).map(part).collect()
                }
            };
            return Ok(Plan { clocks_per_epoch: row_blocks.len(), row_blocks, cuts_data, ..Plan::default() });
        }
        if let (StrategySpec::Scheduled(schedule), Some(model)) = (&run.strategy, algorithm.scheduled()) {
            let plan = schedule.resolve(model.variables(), run.lanes)?;
            let clocks_per_epoch = plan.clocks_per_epoch();
            return Ok(Plan { clocks_per_epoch, schedule: Some(plan), ..Plan::default() });
        }
        let wanted = match disk {
            None => algorithm.clocks_per_epoch(&blocks, run.lanes),
            Some(disk) => disk.clocks(algorithm, run.lanes)?,
        };
        let (wanted, count) = (wanted.max(1), disk.map_or(blocks.len(), |disk| disk.blocks));
        let most = (count / run.lanes).max(1); // a clock without a block would change nothing
        let clocks = run.clocks_per_epoch.unwrap_or(wanted.min(most)).max(1);
        let warning = (clocks < wanted).then(|| {
            let more = if wanted > most { "--blocks and --clocks-per-epoch" } else { "--clocks-per-epoch" };
            let rotation = match A::STRATEGIES.contains(&crate::algorithm::StrategyKind::Rotation) {
                true => "use --strategy rotation, which needs no more clocks, or ",
                false => "",
            };
            format!(
                "{clocks} clocks an epoch; {} asks for {wanted} with {} lanes, or the sum of their updates may overshoot: {rotation}\
                 fewer --lanes, a lower rate, or more {more}",
                A::NAME,
                run.lanes
            )
        });
        Ok(Plan { clocks_per_epoch: clocks, warning, ..Plan::default() })
    }
}

/// Into how many row blocks tables were cut in the run that `run` goes on with, if they were: local states may be by row
/// block, and mean nothing under other cuts. What would be refused anyway decides nothing.
fn row_blocks_before(run: &Run, before: Option<&Manifest>) -> Option<usize> {
    let before = before.filter(|before| before.run.rotates() && before.run.lanes == run.lanes)?;
    let count = before.clocks_per_epoch;
    (count > 0 && count.is_multiple_of(run.lanes)).then_some(count)
}

/// Refuses data whose entries cannot be dealt out by column: better before training than in the middle of a start.
fn check_entries<A: Algorithm>(blocks: &[&Block]) -> Result<()> {
    let what = blocks.iter().find_map(|block| match block.contents {
        Contents::Dense(_) => Some("dense rows"),
        Contents::Pairs(_) => Some("pairs"),
        Contents::Ratings(_) | Contents::Documents(_) | Contents::Sparse(_) => None,
    });
    match what {
        None => Ok(()),
        Some(what) => Err(Error::Usage(format!(
            "--strategy rotation: the data of {} are {what} here, and only sparse rows, ratings and documents can be \
             cut along their columns; use another strategy, such as bsp or allreduce",
            A::NAME
        ))),
    }
}
