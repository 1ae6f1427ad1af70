//! The lasso in its plainest form, ½‖y − Xβ‖² + λ‖β‖₁, on data whose neighbouring columns are correlated.

use dunlin::algorithm::{Algorithm, StrategyKind, Sums, Unit};
use dunlin::data::{Block, Contents, Data, DenseRows, Kind, Names, Shape};
use dunlin::rng::stream;
use dunlin::schedule::{Change, Pair, Scheduled};
use dunlin::table::{Params, TableSpec, Type};
use dunlin::{Error, Result};

pub const ROWS: usize = 240;
pub const COLUMNS: usize = 90;
pub const LAMBDA: f64 = 12.0;

/// Each row has its target behind its columns.
pub struct TinyLasso;

fn dense(block: &Block) -> &DenseRows {
    match &block.contents {
        Contents::Dense(rows) => rows,
        _ => panic!("dense rows"),
    }
}

fn rows(block: &Block) -> impl Iterator<Item = &[f32]> {
    dense(block).values.chunks(COLUMNS + 1)
}

fn shrunk(value: f64) -> f64 {
    value.signum() * (value.abs() - LAMBDA).max(0.0)
}

impl Algorithm for TinyLasso {
    const NAME: &'static str = "tiny-lasso";
    const ABOUT: &'static str = "for tests";
    const DATA: Kind = Kind::Labelled;
    const STRATEGIES: &'static [StrategyKind] = &[StrategyKind::Scheduled];
    const DIVERGED_ADVICE: &'static str = "use a smaller want=";
    type Config = super::NoSettings;
    /// Residuals of the block's rows.
    type Local = Vec<f64>;

    fn new(_: &super::NoSettings, _: &Shape) -> Result<TinyLasso> {
        Ok(TinyLasso)
    }
    fn tables(&self) -> Vec<TableSpec> {
        vec![
            TableSpec::new("beta", COLUMNS, 1).element(Type::F64),
            TableSpec::new("seen", COLUMNS, 1).element(Type::I32),
        ]
    }
    fn begin(&self, unit: &Unit, params: &mut Params, _: Option<Vec<f64>>) -> Result<Vec<f64>> {
        let mut seen = params.table_mut::<i32>(1);
        rows(unit.block).for_each(|_| seen.row_mut(0)[0] += 1);
        Ok(rows(unit.block).map(|row| f64::from(row[COLUMNS])).collect())
    }
    fn step(&self, _: &Unit, _: &mut Params, _: &mut Vec<f64>, _: &mut Sums) -> Result<()> {
        Err(Error::Usage("only scheduled".into()))
    }
    fn scheduled(&self) -> Option<&dyn Scheduled<Vec<f64>>> {
        Some(self)
    }
    fn measure(&self, block: &Block, params: &Params, local: Option<&Vec<f64>>, sums: &mut Sums) {
        let beta = params.table::<f64>(0);
        for (row, residual) in rows(block).zip(local.into_iter().flatten()) {
            let fit: f64 = (0..COLUMNS).map(|j| f64::from(row[j]) * beta.row(j)[0]).sum();
            let exact = f64::from(row[COLUMNS]) - fit;
            sums.add("squares", exact * exact);
            sums.add("off", (exact - residual).abs());
        }
    }
    fn metrics(&self, train: &Sums, _: Option<&Sums>, params: &Params) -> Vec<(&'static str, f64)> {
        let norm: f64 = params.table::<f64>(0).flat().iter().map(|beta| beta.abs()).sum();
        let objective = train.get("squares") / 2.0 + LAMBDA * norm;
        let seen = f64::from(params.table::<i32>(1).row(0)[0]);
        vec![("train_objective", objective), ("off", train.get("off")), ("seen", seen)]
    }
}

impl Scheduled<Vec<f64>> for TinyLasso {
    fn variables(&self) -> usize {
        COLUMNS
    }
    fn partials(&self) -> usize {
        2
    }
    fn push(&self, variables: &[u32], block: &Block, _: &Params, residuals: &Vec<f64>, partial: &mut [f64]) {
        for (variable, partial) in variables.iter().zip(partial.chunks_mut(2)) {
            for (row, residual) in rows(block).zip(residuals) {
                let value = f64::from(row[*variable as usize]);
                partial[0] += value * residual;
                partial[1] += value * value;
            }
        }
    }
    fn pull(&self, variables: &[u32], sums: &[f64], params: &mut Params, changes: &mut Vec<Change>) {
        let mut beta = params.table_mut::<f64>(0);
        for (variable, sums) in variables.iter().zip(sums.chunks(2)) {
            let value = &mut beta.row_mut(*variable as usize)[0];
            let (old, new) = (*value, shrunk(sums[0] + sums[1] * *value) / sums[1]);
            *value = new;
            changes.push(Change { variable: *variable, old, new });
        }
    }
    fn apply(&self, changes: &[Change], block: &Block, _: &Params, residuals: &mut Vec<f64>) {
        for change in changes {
            for (row, residual) in rows(block).zip(residuals.iter_mut()) {
                *residual -= f64::from(row[change.variable as usize]) * (change.new - change.old);
            }
        }
    }
    fn products(&self, pairs: &[Pair], block: &Block, _: &Params, _: &Vec<f64>, out: &mut [f64]) {
        for ((left, right), out) in pairs.iter().zip(out) {
            let product = |row: &[f32]| f64::from(row[*left as usize]) * f64::from(row[*right as usize]);
            *out += rows(block).map(product).sum::<f64>();
        }
    }
}

/// Each column is the one before it plus noise with probability 0.9, else new. 12 blocks.
pub fn correlated() -> Data {
    let mut rng = stream(3, "test-lasso", &[]);
    let mut columns: Vec<Vec<f64>> = Vec::new();
    for column in 0..COLUMNS {
        let is_new = column == 0 || rng.unit() >= 0.9;
        let noise = if is_new { 1.0 } else { 0.3 };
        let values = (0..ROWS).map(|row| {
            let before = if is_new { 0.0 } else { columns[column - 1][row] };
            0.95 * before + noise * rng.normal()
        });
        let values = values.collect();
        columns.push(values);
    }
    let truth: Vec<f64> =
        (0..COLUMNS).map(|_| if rng.unit() < 0.15 { 2.0 * rng.normal() } else { 0.0 }).collect();
    let blocks = (0..12).map(|id| {
        let (first_row, end_row) = (ROWS * id / 12, ROWS * (id + 1) / 12);
        let mut rows = DenseRows { width: COLUMNS + 1, ..DenseRows::default() };
        for row in first_row..end_row {
            rows.values.extend(columns.iter().map(|column| column[row] as f32));
            let target: f64 = columns.iter().zip(&truth).map(|(column, beta)| column[row] * beta).sum();
            rows.values.push((target + 0.5 * rng.normal()) as f32);
            rows.classes.push(0);
        }
        Block { id: id as u32, first_row, end_row, contents: Contents::Dense(rows) }
    });
    let blocks = blocks.collect();
    let shape = Shape {
        kind: Kind::Labelled,
        rows: ROWS,
        columns: COLUMNS + 1,
        entries: ROWS * (COLUMNS + 1),
        samples: ROWS,
        classes: vec![0],
        mean_target: 0.0,
        min_target: 0.0,
        max_target: 0.0,
    };
    Data { shape, names: Names::default(), blocks }
}

/// The least objective, by cyclic coordinate descent until nothing moves, and how fast that came down: its value after
/// each sweep.
pub fn optimum() -> f64 {
    let data = correlated();
    let rows: Vec<Vec<f64>> =
        data.blocks.iter().flat_map(rows).map(|row| row.iter().map(|v| f64::from(*v)).collect()).collect();
    let mut residuals: Vec<f64> = rows.iter().map(|row| row[COLUMNS]).collect();
    let mut beta = vec![0.0; COLUMNS];
    for _ in 0..3000 {
        for j in 0..COLUMNS {
            let square: f64 = rows.iter().map(|row| row[j] * row[j]).sum();
            let product: f64 = rows.iter().zip(&residuals).map(|(row, residual)| row[j] * residual).sum();
            let new = shrunk(product + square * beta[j]) / square;
            let delta = new - beta[j];
            rows.iter().zip(&mut residuals).for_each(|(row, residual)| *residual -= delta * row[j]);
            beta[j] = new;
        }
    }
    residuals.iter().map(|r| r * r).sum::<f64>() / 2.0 + LAMBDA * beta.iter().map(|b| b.abs()).sum::<f64>()
}
