//! Makes the tables in `data/shapes`: layouts that nobody measured, simulated from the layers of a model and corrected by its measured ones.
//!
//! `cargo run --release -p dunlin-spot --example shapes -- gpt-1.5b > crates/spot/data/shapes/gpt-1.5b.csv`

#![allow(clippy::print_stdout, reason = "it prints a table")]

use dunlin_spot::pipeline::{LayerTable, Measured, Settings, fit, shapes};
use dunlin_spot::profile::Profile;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let name = std::env::args().nth(1).ok_or("a model is wanted: gpt-1.5b or gpt-6.7b")?;
    let table = LayerTable::shipped(&name).ok_or(format!("no table of layers for {name}"))??;
    let profile = Profile::built_in(&name)?;
    let batch_ms = 1e3 * f64::from(profile.global_batch);
    let rows = profile.measured().into_iter();
    let measured: Vec<Measured> =
        rows.map(|(layout, rate)| Measured { layout, iteration_ms: batch_ms / rate }).collect();
    let machines = measured.iter().map(|row| row.layout.machines()).max().unwrap_or(1);
    let fit = fit(&table, &Settings::default(), &measured)?;
    let settings = Settings { compute_scale: fit.compute_scale, ..Settings::default() };
    println!("# {name}: layouts that were not measured, simulated; made by the example `shapes`");
    println!("# compute_scale,{},machines,{machines}", fit.compute_scale);
    println!("layout,samples_per_s");
    for shape in shapes(&table, &settings, &measured, machines)? {
        println!("{},{:.4}", shape.layout, shape.samples_per_second);
    }
    Ok(())
}
