//! The lasso on correlated columns, on 1 to 64 simulated machines: how many rounds and how much time each policy takes to
//! come within 1e-4 of the optimum, if the variables of a round grow with the machines.
//!
//! `cargo run --release --example correlated_lasso -- [key=value ...]`; keys are `data` (the source), `each` (variables of
//! a round for each machine, 4), `machines` (the most, 64), `epochs` (the most, 300), `seed`. Prints a table with tabs.

#![allow(clippy::print_stdout, reason = "a program that prints a table")]

use dunlin::comm::{Cluster, SimConfig};
use dunlin::data::{ReadOptions, read};
use dunlin::event::Outcome;
use dunlin::run::{Run, Until};
use dunlin::train::Source;
use std::error::Error;

const POLICIES: [&str; 6] = ["random", "roundrobin", "priority", "random+theta", "dependency", "workingset"];

struct Setup {
    data: String,
    each: usize,
    machines: usize,
    epochs: usize,
    seed: u64,
}

fn setup() -> Result<Setup, Box<dyn Error>> {
    let data = "synth:correlated?n=2000&columns=4000&nonzeros=25&keep=0.9&support=100";
    let mut setup = Setup { data: data.into(), each: 4, machines: 64, epochs: 300, seed: 1 };
    for argument in std::env::args().skip(1) {
        match argument.split_once('=').ok_or("key=value expected")? {
            ("data", value) => setup.data = value.into(),
            ("each", value) => setup.each = value.parse()?,
            ("machines", value) => setup.machines = value.parse()?,
            ("epochs", value) => setup.epochs = value.parse()?,
            ("seed", value) => setup.seed = value.parse()?,
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
    run.seed = setup.seed;
    run.settings["tolerance"] = 1e-9.into();
    run.stop.epochs = setup.epochs;
    run.stop.until = until.map(|value| Until { metric: "train_objective".into(), at_most: true, value });
    dunlin_models::train(&Cluster::Sim(SimConfig::new(machines, setup.seed)), &run, &source)
}

fn main() -> Result<(), Box<dyn Error>> {
    let setup = setup()?;
    let optimum = train(&setup, "allreduce", 1, None)?.metrics["train_objective"];
    println!("# {}; optimum {optimum}; {} variables a round and machine", setup.data, setup.each);
    println!("policy\tmachines\twant\trounds\tepochs\tseconds\texcess");
    for policy in POLICIES {
        let mut machines = 1;
        while machines <= setup.machines {
            let want = setup.each * machines;
            let words = match policy.split_once('+') {
                Some((policy, _)) => format!("scheduled:{policy},want={want},theta=0.1"),
                None => format!("scheduled:{policy},want={want}"),
            };
            match train(&setup, &words, machines, Some(optimum * (1.0 + 1e-4))) {
                Ok(outcome) => {
                    let excess = outcome.metrics["train_objective"] / optimum - 1.0;
                    let (epochs, seconds) = (outcome.epochs, outcome.seconds);
                    let rounds = epochs * outcome.clocks_per_epoch;
                    println!("{policy}\t{machines}\t{want}\t{rounds}\t{epochs}\t{seconds:.4}\t{excess:.1e}");
                }
                Err(error) => {
                    let text = error.to_string();
                    let word = if text.contains("diverged") { "diverges" } else { &text };
                    println!("{policy}\t{machines}\t{want}\t-\t-\t-\t{word}");
                }
            }
            machines *= 2;
        }
    }
    Ok(())
}
