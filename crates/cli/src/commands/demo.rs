//! `dunlin demo`: a first look on data that come with the program.

use crate::commands::data::out;
use crate::commands::train::{Train, TrainFlags};
use dunlin::Result;

#[derive(Debug, clap::Args)]
pub(crate) struct Demo {}

impl Demo {
    pub(crate) fn run(self) -> Result<()> {
        out(
            &"Handwritten digits (UCI optdigits, 1,438 training and 359 test images), multinomial logistic regression,",
        )?;
        out(
            &"4 workers with a lane each. First in lock-step over a parameter server, then by all-reduce: same bits.\n",
        )?;
        let mut seen = Vec::new();
        for (strategy, cluster) in
            [("bsp", "threads"), ("allreduce", "threads"), ("bsp", "processes"), ("bsp", "sim:4")]
        {
            let flags = TrainFlags {
                model: Some("softmax".into()),
                train: Some("sample:digits".into()),
                test: Some("sample:digits-test".into()),
                workers: Some(4),
                strategy: Some(strategy.into()),
                cluster: Some(cluster.into()),
                epochs: Some(30),
                eval_every: Some(30),
                ..TrainFlags::default()
            };
            let outcome = Train { flags, json: false, quiet: true }.train()?;
            let metric = |name: &str| outcome.metrics.get(name).copied().unwrap_or(f64::NAN);
            let time = if cluster.starts_with("sim") { "virtual seconds" } else { "seconds" };
            out(&format!(
                "{strategy:<10} {cluster:<10} test accuracy {:.4}  objective {:.6}  in {:.3} {time}",
                metric("test_accuracy"),
                metric("train_objective"),
                outcome.seconds
            ))?;
            seen.push(metric("train_objective").to_bits());
        }
        let same = seen.windows(2).all(|pair| pair[0] == pair[1]);
        out(&format!(
            "\nAll four objectives {}.",
            if same { "are equal to the last bit" } else { "DIFFER: a bug" }
        ))?;
        out(&"Next:")?;
        out(
            &"  dunlin train softmax --train sample:digits --test sample:digits-test --workers 2 --out runs-out/first",
        )?;
        out(&"  dunlin eval runs-out/first sample:digits-test")?;
        out(&"  dunlin models            what else it can train")?;
        out(&"  dunlin train --help      every setting")
    }
}
