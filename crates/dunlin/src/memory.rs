//! Memory: how much a worker may take (`--memory`), and how much it will.
//!
//! The estimate is made before training, from the shape of the data, the model's tables and the strategy; a run whose
//! workers cannot keep to their budget is refused then, not hours later.

use crate::data::{Kind, Names, Shape};
use crate::run::Run;
use crate::strategy::{StrategySpec, rotation};
use crate::table::{Axis, TableSpec};
use crate::train::{BLOCKS_IN_MEMORY, BLOCKS_IN_MOVE};
use crate::transfer::Format;
use crate::{Error, Result};

/// Units of sizes, the longest names first.
const UNITS: [(&str, f64); 9] = [
    ("KIB", 1024.0),
    ("MIB", 1_048_576.0),
    ("GIB", 1_073_741_824.0),
    ("TIB", 1_099_511_627_776.0),
    ("KB", 1e3),
    ("MB", 1e6),
    ("GB", 1e9),
    ("TB", 1e12),
    ("B", 1.0),
];

/// What the program itself takes in a process, and what it reads through, in bytes.
const PROGRAM: f64 = 16e6;
/// What dealing rows or ratings to blocks takes while reading, in bytes.
const READING: f64 = 12e6;

/// The bytes that `text` says: a number and a unit, `2GB`, `512 MiB`.
///
/// # Errors
/// [`Error::Usage`] with what is allowed.
pub fn parse_bytes(flag: &str, text: &str) -> Result<u64> {
    let wrong = || {
        Error::Usage(format!(
            "{flag} {text}: a number above 0 and a unit, such as 2GB or 512MiB (units: B, kB, MB, GB, TB, KiB, MiB, GiB, TiB)"
        ))
    };
    let upper = text.trim().to_ascii_uppercase();
    let (number, unit) =
        UNITS.iter().find_map(|(unit, bytes)| Some((upper.strip_suffix(unit)?, bytes))).ok_or_else(wrong)?;
    let number: f64 = number.trim().parse().map_err(|_| wrong())?;
    let bytes = number * unit;
    if (1.0..1e18).contains(&bytes) { Ok(bytes as u64) } else { Err(wrong()) }
}

/// `bytes` as a person would say it: "1.50 GB", "12.0 MB".
pub fn in_words(bytes: f64) -> String {
    if bytes >= 1e9 { format!("{:.2} GB", bytes / 1e9) } else { format!("{:.1} MB", bytes / 1e6) }
}

/// What decides how much memory a run takes, beside the [`Run`].
#[derive(Clone, Debug)]
pub struct Needs {
    /// The model's tables.
    pub tables: Vec<TableSpec>,
    /// True if tables that go round are never whole in one place.
    pub spreads: bool,
    /// Bytes of local state, all blocks together.
    pub local_bytes: f64,
    /// Bytes of the largest block of data.
    pub largest_block: usize,
    /// Kind of the data.
    pub kind: Kind,
    /// Rows of the data.
    pub rows: usize,
    /// Bytes of the names of users, items and words.
    pub names: f64,
}

impl Needs {
    /// Of data of this shape with these names.
    pub fn new(
        tables: Vec<TableSpec>,
        spreads: bool,
        local_bytes: f64,
        largest_block: usize,
        (shape, names): (&Shape, &Names),
    ) -> Needs {
        // a String, what it points to, and what the allocator keeps beside
        let text = |name: &String| 24.0 + ((name.len() + 8).next_multiple_of(16).max(32)) as f64;
        let names = [&names.rows, &names.columns, &names.classes].into_iter().flatten().map(text).sum();
        let (kind, rows) = (shape.kind, shape.rows);
        Needs { tables, spreads, local_bytes, largest_block, kind, rows, names }
    }

    /// What each of `workers` workers takes, about.
    pub fn estimate(&self, run: &Run, workers: usize) -> Estimate {
        let lanes = run.lanes.max(workers);
        self.estimate_of(run, workers, [lanes.div_ceil(workers), lanes])
    }

    /// What one of `workers` workers takes that hosts `hosted` of `lanes` lanes, about.
    fn estimate_of(&self, run: &Run, workers: usize, [hosted, lanes]: [usize; 2]) -> Estimate {
        let (share, block) = (hosted as f64 / lanes as f64, self.largest_block as f64);
        let is_one_process = run.cluster == "threads" || run.cluster.starts_with("sim");
        let of_process = if is_one_process { 1.0 / workers as f64 } else { 1.0 };
        let mut estimate = Estimate {
            program: (PROGRAM + self.names) * of_process,
            data: BLOCKS_IN_MEMORY as f64 * block,
            locals: self.local_bytes * share,
            ..Estimate::default()
        };
        let by_row = match self.kind {
            Kind::Labelled => 8.0,
            Kind::Documents => 16.0,
            Kind::Ratings => 24.0,
        };
        estimate.reading = (READING + by_row * self.rows as f64 + 3.0 * block) * of_process;
        for spec in &self.tables {
            let whole = spec.rows as f64 * (spec.bytes_per_row() as f64 + 1.0);
            let is_spread = self.spreads && run.strategy.rotates() && lanes > 1;
            let (tables, exchange) = match is_spread && spec.axis != Axis::Whole {
                // Its share of the rows, and of what waits here of others, or stays at home; it copies them to hand
                // them over in the end.
                true => (whole * share, 3.0 * whole * share),
                false => table_bytes(spec, &run.strategy, lanes, whole, share),
            };
            estimate.tables += tables;
            if spec.axis != Axis::Example
                && run.strategy.has_servers()
                && run.transfer.of(spec) != Format::F32
            {
                estimate.exchange += whole * (lanes as f64 * share).ceil(); // what rounding leaves, of each lane
            }
            estimate.exchange += exchange;
        }
        estimate
    }

    /// How many lanes a worker of `run` may host and still take in another, or send one, within its budget; all of them
    /// without a budget. 0 if it has no room to move any.
    pub fn most_lanes(&self, run: &Run) -> usize {
        let (Some(budget), lanes) = (run.memory, run.lanes) else { return run.lanes };
        let moving = (BLOCKS_IN_MOVE * self.largest_block) as f64;
        let total = |hosted: usize| {
            let estimate = self.estimate_of(run, run.workers, [hosted, lanes]);
            Estimate { data: estimate.data + moving, ..estimate }.total()
        };
        (1..=lanes).rev().find(|hosted| total(*hosted) <= budget as f64).unwrap_or(0)
    }

    /// The estimate for `run`, if it keeps to the budget of `run`.
    ///
    /// # Errors
    /// [`Error::Usage`]: what does not fit, the smallest number of workers that would, or why none would.
    pub fn check(&self, run: &Run) -> Result<Estimate> {
        let estimate = self.estimate(run, run.workers);
        let Some(budget) = run.memory.map(|bytes| bytes as f64) else { return Ok(estimate) };
        if estimate.total() <= budget {
            return Ok(estimate);
        }
        let mut more = run.workers + 1..=1000;
        let advice = match more.find(|workers| self.estimate(run, *workers).total() <= budget) {
            Some(workers) => format!("--workers {workers} would be enough"),
            None => self.estimate(run, 1000).why_never(run),
        };
        Err(Error::Usage(format!(
            "--memory {}: each of {} workers needs about {}; {advice}",
            in_words(budget),
            run.workers,
            estimate.words()
        )))
    }
}

/// Bytes of a table's rows on a worker, and of what its exchange takes beside them.
fn table_bytes(
    spec: &TableSpec,
    strategy: &StrategySpec,
    lanes: usize,
    whole: f64,
    share: f64,
) -> (f64, f64) {
    if spec.axis == Axis::Example {
        // Rank 0 brings all rows together in the end, to save them.
        return (whole, 0.0);
    }
    match strategy {
        _ if lanes == 1 => (whole, 0.0),
        // A visiting row block lies beside the table, and one is on its way.
        StrategySpec::Rotation if rotation::rotates(spec.axis) => (whole, 2.0 * whole * share),
        // Values and base; own update and the sum of all.
        StrategySpec::Rotation | StrategySpec::AllReduce => (2.0 * whole, 2.0 * whole),
        // Values and base; an update on its way; the share that this worker serves, with updates that wait.
        _ => (2.0 * whole, whole + 2.0 * whole * share),
    }
}

/// Bytes that a worker takes, about.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Estimate {
    /// The program, and names of rows and columns, once a process.
    pub program: f64,
    /// While reading: what is known of every row, and the block being made. Over before training takes memory.
    pub reading: f64,
    /// Blocks of data in memory at a time.
    pub data: f64,
    /// The model's tables.
    pub tables: f64,
    /// Updates, and what is served to others.
    pub exchange: f64,
    /// Local state of blocks.
    pub locals: f64,
}

impl Estimate {
    /// The most at any time.
    pub fn total(&self) -> f64 {
        self.program + self.reading.max(self.data + self.tables + self.exchange + self.locals)
    }

    /// In words, the total first.
    pub fn words(&self) -> String {
        let parts = [
            ("program and names", self.program),
            ("data", self.data),
            ("model", self.tables),
            ("updates", self.exchange),
            ("local state", self.locals),
        ];
        let parts: Vec<String> = parts
            .iter()
            .filter(|(_, bytes)| *bytes > 0.0)
            .map(|(what, bytes)| format!("{what} {}", in_words(*bytes)))
            .collect();
        format!(
            "{} ({}; while reading {})",
            in_words(self.total()),
            parts.join(", "),
            in_words(self.program + self.reading)
        )
    }

    /// Of a thousand workers: what still does not fit.
    fn why_never(&self, run: &Run) -> String {
        let training = self.data + self.tables + self.exchange + self.locals;
        if self.reading > training {
            return "no number of workers would be enough: every process reads the data through, and what it keeps of \
                    each row and block is too much; more --blocks may help"
                .into();
        }
        if self.data > self.tables + self.exchange {
            return format!(
                "no number of workers would be enough: {BLOCKS_IN_MEMORY} blocks of the data are in memory at a time; use \
                 more --blocks"
            );
        }
        format!(
            "no number of workers would be enough: under --strategy {} every worker has all rows of the model, or brings \
             them together in the end",
            run.strategy
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_or_refused() {
        let read = |text: &str| parse_bytes("--memory", text);
        let known =
            [("2GB", 2_000_000_000), ("512 MiB", 536_870_912), ("1.5kb", 1500), ("7B", 7), ("1TiB", 1 << 40)];
        for (text, bytes) in known {
            assert_eq!(read(text).unwrap(), bytes, "{text}");
        }
        for text in ["", "2", "GB", "-1GB", "0MB", "nanGB", "infGB", "1e30TB", "2 GBs", "two GB"] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.starts_with("--memory") && error.contains("2GB or 512MiB"), "{error}");
        }
    }

    fn needs(rows: usize, block: usize) -> Needs {
        let tables = vec![
            TableSpec::new("users", rows, 32).axis(Axis::Example),
            TableSpec::new("items", 1_000_000, 32),
        ];
        Needs {
            tables,
            spreads: false,
            local_bytes: 1e9,
            largest_block: block,
            kind: Kind::Ratings,
            rows,
            names: 0.0,
        }
    }

    #[test]
    fn the_smallest_number_of_workers_that_fits_is_named() {
        let run = |memory: u64| Run {
            memory: Some(memory),
            cluster: "processes".into(),
            strategy: StrategySpec::Rotation,
            lanes: 4,
            workers: 2,
            ..Run::default()
        };
        let needs = needs(1000, 1_000_000);
        assert!(needs.check(&run(4_000_000_000)).is_ok());
        let error = needs.check(&run(400_000_000)).unwrap_err().to_string();
        assert!(error.contains("each of 2 workers needs about") && error.contains("--workers"), "{error}");
        let named: usize =
            error.rsplit("--workers ").next().unwrap().split(' ').next().unwrap().parse().unwrap();
        let total = |workers| needs.estimate(&run(1), workers).total();
        assert!(total(named) <= 4e8 && total(named - 1) > 4e8, "{error}");
    }

    #[test]
    fn a_spread_model_takes_its_share_of_each_worker() {
        let run = |workers| Run {
            cluster: "processes".into(),
            strategy: StrategySpec::Rotation,
            lanes: 8,
            workers,
            ..Run::default()
        };
        let needs = Needs { spreads: true, local_bytes: 0.0, ..needs(1000, 0) };
        let model = |workers| {
            let estimate = needs.estimate(&run(workers), workers);
            estimate.tables + estimate.exchange
        };
        assert!((model(8) * 8.0 - model(2) * 2.0).abs() < 1.0, "{} and {}", model(8), model(2));
    }

    #[test]
    fn a_worker_may_host_as_many_lanes_as_fit() {
        let run = |memory| Run {
            memory,
            cluster: "processes".into(),
            strategy: StrategySpec::Rotation,
            lanes: 12,
            workers: 3,
            ..Run::default()
        };
        let needs = Needs { spreads: true, ..needs(1000, 1_000_000) };
        assert_eq!(needs.most_lanes(&run(None)), 12);
        let total = |hosted| needs.estimate_of(&run(None), 3, [hosted, 12]).total();
        let room = (BLOCKS_IN_MOVE * 1_000_000) as f64;
        for hosted in 1..12 {
            let budget = |bytes: f64| run(Some(bytes as u64));
            assert_eq!(needs.most_lanes(&budget(total(hosted) + room + 1.0)), hosted);
            assert_eq!(needs.most_lanes(&budget(total(hosted) + room - 1.0)), hosted - 1, "no room to move");
        }
        assert_eq!(needs.estimate(&run(None), 3), needs.estimate_of(&run(None), 3, [4, 12]));
        let uneven = Run { lanes: 10, ..run(None) };
        assert_eq!(
            needs.estimate(&uneven, 3),
            needs.estimate_of(&uneven, 3, [4, 10]),
            "the most that one has"
        );
    }

    #[test]
    fn where_no_number_of_workers_fits_the_reason_is_given() {
        let run = |strategy: &str, memory: u64| Run {
            memory: Some(memory),
            cluster: "processes".into(),
            strategy: strategy.parse().unwrap(),
            lanes: 2,
            workers: 2,
            ..Run::default()
        };
        let refused =
            |needs: Needs, strategy, memory| needs.check(&run(strategy, memory)).unwrap_err().to_string();
        let error = refused(needs(1000, 1_000_000), "bsp", 200_000_000);
        assert!(error.contains("no number of workers") && error.contains("--strategy bsp"), "{error}");
        let data = Needs { tables: Vec::new(), ..needs(1000, 100_000_000) };
        let error = refused(data, "bsp", 200_000_000);
        assert!(error.contains("no number of workers") && error.contains("more --blocks"), "{error}");
    }
}
