//! The lasso on correlated columns, on 1 to 64 simulated machines: how many rounds and how much virtual time each policy
//! takes to come within 1e-4 of the optimum, if the variables of a round grow with the machines.
//!
//! `cargo run --release -p dunlin-models --example correlated_lasso -- [key=value ...]`; keys are `data` (the source),
//! `each` (variables of a round for each machine), `machines` (the most), `epochs` (the most), `compute_ns` (virtual cost
//! of a row with all its columns), `seed`, and `plot` (a file for the picture). Prints a table in Markdown.

#![allow(clippy::print_stdout, reason = "a program that prints a table")]

use dunlin::comm::{Cluster, SimConfig};
use dunlin::data::{ReadOptions, read};
use dunlin::event::Outcome;
use dunlin::run::{Run, Until};
use dunlin::train::Source;
use std::error::Error;
use std::fmt::Write as _;

/// The first four look at no correlations.
const POLICIES: [&str; 6] = ["all", "random", "roundrobin", "priority", "dependency", "workingset"];
/// How near to the optimum, as a share of it.
const NEAR: f64 = 1e-4;

struct Setup {
    data: String,
    each: usize,
    machines: usize,
    epochs: usize,
    compute_ns: f64,
    seed: u64,
    plot: Option<String>,
}

fn setup() -> Result<Setup, Box<dyn Error>> {
    let data = "synth:correlated?n=2000&columns=4000&nonzeros=25&keep=0.9&support=100".to_string();
    let (each, machines, epochs, compute_ns, seed, plot) = (8, 64, 400, 500_000.0, 1, None);
    let mut setup = Setup { data, each, machines, epochs, compute_ns, seed, plot };
    for argument in std::env::args().skip(1) {
        match argument.split_once('=').ok_or("key=value expected")? {
            ("data", value) => setup.data = value.into(),
            ("each", value) => setup.each = value.parse()?,
            ("machines", value) => setup.machines = value.parse()?,
            ("epochs", value) => setup.epochs = value.parse()?,
            ("compute_ns", value) => setup.compute_ns = value.parse()?,
            ("seed", value) => setup.seed = value.parse()?,
            ("plot", value) => setup.plot = Some(value.into()),
            (key, _) => return Err(format!("no key {key}").into()),
        }
    }
    Ok(setup)
}

fn train(setup: &Setup, strategy: &str, machines: usize, until: Option<f64>) -> dunlin::Result<Outcome> {
    let options = ReadOptions { targets: true, blocks: machines, ..ReadOptions::default() };
    let source = Source::new(read(&setup.data, &options, None)?, None);
    let mut run = Run { workers: machines, lanes: machines, ..dunlin_models::run("lasso", &setup.data)? };
    run.strategy = strategy.parse()?;
    (run.seed, run.compute_ns) = (setup.seed, setup.compute_ns);
    run.settings["tolerance"] = 1e-9.into();
    run.settings["cut"] = "rows".into();
    run.stop.epochs = setup.epochs;
    run.stop.until = until.map(|value| Until { metric: "train_objective".into(), at_most: true, value });
    dunlin_models::train(&Cluster::Sim(SimConfig::new(machines, setup.seed)), &run, &source)
}

/// What came of a policy on a number of machines: rounds and seconds until it was near enough.
struct Cell {
    machines: usize,
    reached: Option<[f64; 2]>,
}

/// Trains, prints a row of the table.
fn measure(setup: &Setup, policy: &str, machines: usize, optimum: f64) -> Cell {
    let want = setup.each * machines;
    let words = match policy {
        "all" => "scheduled:all".to_string(),
        _ => format!("scheduled:{policy},want={want}"),
    };
    let want = if policy == "all" { "all".to_string() } else { want.to_string() };
    let outcome = train(setup, &words, machines, Some(optimum * (1.0 + NEAR)));
    let (text, reached) = match outcome {
        Ok(outcome) => {
            let excess = outcome.metrics["train_objective"] / optimum - 1.0;
            let rounds = (outcome.epochs * outcome.clocks_per_epoch) as f64;
            let reached = (excess <= NEAR).then_some([rounds, outcome.seconds]);
            let more = if reached.is_some() { "" } else { "> " };
            (format!("{more}{rounds} | {more}{:.3} | {excess:.1e}", outcome.seconds), reached)
        }
        Err(error) if error.to_string().contains("diverged") => ("diverges | | ".to_string(), None),
        Err(error) => (format!("{error} | | "), None),
    };
    println!("| {policy} | {machines} | {want} | {text} |");
    Cell { machines, reached }
}

fn main() -> Result<(), Box<dyn Error>> {
    let setup = setup()?;
    let optimum = train(&setup, "allreduce", 1, None)?.metrics["train_objective"];
    println!(
        "`{}`, optimum {optimum}, {} variables a round and machine, {} ns a row\n",
        setup.data, setup.each, setup.compute_ns
    );
    println!("| policy | machines | variables a round | rounds | virtual seconds | above the optimum |");
    println!("|---|--:|--:|--:|--:|--:|");
    let machines: Vec<usize> =
        (0..).map(|power| 1 << power).take_while(|machines| *machines <= setup.machines).collect();
    let lines: Vec<(&str, Vec<Cell>)> = POLICIES
        .iter()
        .map(|policy| {
            (*policy, machines.iter().map(|count| measure(&setup, policy, *count, optimum)).collect())
        })
        .collect();
    if let Some(path) = &setup.plot {
        std::fs::write(path, picture(&lines))?;
    }
    Ok(())
}

const COLOURS: [&str; 6] = ["#8c8c8c", "#c0392b", "#e08e0b", "#8e44ad", "#1f6fb2", "#1e8449"];
/// Of a panel: left edge of the second, width, top and height of its frame.
const SECOND: f64 = 420.0;
const WIDTH: f64 = 320.0;
const TOP: f64 = 50.0;
const HEIGHT: f64 = 260.0;

/// Rounds and seconds over machines, both on logarithmic axes, as SVG.
fn picture(lines: &[(&str, Vec<Cell>)]) -> String {
    let mut svg = String::from(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 900 390\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"900\" height=\"390\" fill=\"white\"/>\n",
    );
    panel(&mut svg, lines, 0, 70.0, "rounds to 1e-4 of the optimum");
    panel(&mut svg, lines, 1, 70.0 + SECOND, "virtual seconds");
    for (number, (policy, _)) in lines.iter().enumerate() {
        let x = 70.0 + 130.0 * number as f64;
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(
            svg,
            "<line x1=\"{x}\" x2=\"{}\" y1=\"372\" y2=\"372\" stroke=\"{}\" stroke-width=\"3\"/>\
             <text x=\"{}\" y=\"376\">{policy}</text>",
            x + 22.0,
            COLOURS[number % 6],
            x + 28.0
        );
    }
    svg + "</svg>\n"
}

fn panel(svg: &mut String, lines: &[(&str, Vec<Cell>)], which: usize, left: f64, title: &str) {
    let cells = || lines.iter().flat_map(|(_, cells)| cells);
    let values = || cells().filter_map(|cell| cell.reached).map(|reached| reached[which].max(1e-9).log10());
    let low = values().fold(f64::INFINITY, f64::min).floor();
    let high = values().fold(f64::NEG_INFINITY, f64::max).ceil().max(low + 1.0);
    let most = cells().map(|cell| cell.machines).max().unwrap_or(1).max(2) as f64;
    let x = |machines: usize| left + WIDTH * (machines as f64).log2() / most.log2();
    let y = |value: f64| TOP + HEIGHT * (high - value.max(1e-9).log10()) / (high - low);
    let _ = writeln!(svg, "<text x=\"{left}\" y=\"{}\" font-weight=\"bold\">{title}</text>", TOP - 22.0);
    if low.is_finite() {
        for power in low as i32..=high as i32 {
            let (at, right) = (y(10f64.powi(power)), left + WIDTH);
            let _ = writeln!(
                svg,
                "<line x1=\"{left}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">1e{power}</text>",
                left - 8.0,
                at + 4.0
            );
        }
    }
    for cell in lines.first().map_or(&[][..], |(_, cells)| cells) {
        let (at, below) = (x(cell.machines), TOP + HEIGHT + 18.0);
        let _ = writeln!(
            svg,
            "<text x=\"{at:.1}\" y=\"{below}\" text-anchor=\"middle\">{}</text>",
            cell.machines
        );
    }
    let (middle, below) = (left + WIDTH / 2.0, TOP + HEIGHT + 36.0);
    let _ =
        writeln!(svg, "<text x=\"{middle}\" y=\"{below}\" text-anchor=\"middle\">simulated machines</text>");
    for (number, (_, cells)) in lines.iter().enumerate() {
        line(
            svg,
            cells,
            COLOURS[number % 6],
            &x,
            &|cell| cell.reached.map(|reached| y(reached[which])),
            number,
        );
    }
}

/// A policy's line; where it did not come near, a cross above the frame.
fn line(
    svg: &mut String,
    cells: &[Cell],
    colour: &str,
    x: &dyn Fn(usize) -> f64,
    y: &dyn Fn(&Cell) -> Option<f64>,
    number: usize,
) {
    let (mut path, mut pen) = (String::new(), 'M');
    for cell in cells {
        let at = x(cell.machines);
        let Some(height) = y(cell) else {
            let at = at - 10.0 + 4.0 * number as f64; // so that crosses of several policies stand side by side
            let _ = writeln!(
                svg,
                "<text x=\"{at:.1}\" y=\"{}\" fill=\"{colour}\" text-anchor=\"middle\">×</text>",
                TOP - 6.0
            );
            pen = 'M';
            continue;
        };
        let _ = write!(path, "{pen}{at:.1} {height:.1}");
        pen = 'L';
        let _ = writeln!(svg, "<circle cx=\"{at:.1}\" cy=\"{height:.1}\" r=\"3\" fill=\"{colour}\"/>");
    }
    let _ = writeln!(svg, "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>");
}
