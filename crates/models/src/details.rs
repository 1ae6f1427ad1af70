//! What the models tell about themselves, each in its `details.rs`, is written with these. Tests compare every list with what the
//! model really has.

use dunlin::details::{MetricNote, Setting, TableNote};

pub(crate) const fn setting(name: &'static str, range: &'static str, meaning: &'static str) -> Setting {
    Setting { name, range, meaning }
}

pub(crate) const fn table(name: &'static str, shape: &'static str, meaning: &'static str) -> TableNote {
    TableNote { name, shape, meaning }
}

pub(crate) const fn metric(name: &'static str, meaning: &'static str) -> MetricNote {
    MetricNote { name, meaning, needs_test: false }
}

pub(crate) const fn test_metric(name: &'static str, meaning: &'static str) -> MetricNote {
    MetricNote { name, meaning, needs_test: true }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use crate::{MODELS, find};
    use dunlin::comm::Cluster;
    use dunlin::data::read;
    use dunlin::run::Run;
    use dunlin::train::Source;
    use dunlin::{Algorithm, Shape};
    use std::collections::BTreeSet;

    fn samples(model: &str) -> [&'static str; 2] {
        match model {
            "mf" => ["sample:ratings", "sample:ratings-test"],
            "logistic" => ["synth:softmax?classes=2", "synth:softmax?classes=2&part=test"],
            "lda" | "lda-vb" => ["sample:documents", "sample:documents-test"],
            _ => ["sample:digits", "sample:digits-test"],
        }
    }

    fn run(model: &str) -> (Run, Source) {
        let mut run = crate::run(model, samples(model)[0]).unwrap();
        run.stop.epochs = 1;
        run.read.blocks = crate::find(model).unwrap().blocks_per_lane.unwrap_or(run.read.blocks);
        let train = read(&run.train, &run.read, None).unwrap();
        let test = read(samples(model)[1], &run.read, Some(&train)).unwrap();
        (run, Source::new(train, Some(test)))
    }

    #[test]
    fn every_setting_is_told_and_no_other() {
        for model in MODELS {
            let defaults = (model.defaults)();
            let fields: BTreeSet<&str> = defaults.as_object().unwrap().keys().map(String::as_str).collect();
            let told: Vec<&str> = model.details.settings.iter().map(|setting| setting.name).collect();
            assert_eq!(told.iter().copied().collect::<BTreeSet<_>>(), fields, "{}", model.name);
            assert_eq!(told.len(), fields.len(), "{}: one is told twice", model.name);
        }
    }

    #[test]
    fn every_metric_is_told_and_no_other() {
        for model in MODELS {
            let (run, source) = run(model.name);
            let outcome = crate::train(&Cluster::Threads(1), &run, &source).unwrap();
            let seen: BTreeSet<&str> = outcome.metrics.keys().map(String::as_str).collect();
            let told: BTreeSet<&str> = model.details.metrics.iter().map(|metric| metric.name).collect();
            assert_eq!(told, seen, "{}", model.name);
            let train = Source::new(read(&run.train, &run.read, None).unwrap(), None);
            let outcome = crate::train(&Cluster::Threads(1), &run, &train).unwrap();
            for metric in model.details.metrics {
                assert_eq!(outcome.metrics.contains_key(metric.name), !metric.needs_test, "{}", metric.name);
            }
        }
    }

    #[test]
    fn every_table_is_told_and_no_other() {
        fn tables<A: Algorithm>(shape: &Shape, set: &[(&str, &str)]) -> Vec<String> {
            let settings = find(A::NAME).unwrap().settings(set.iter().copied()).unwrap();
            let algorithm = A::new(&serde_json::from_value(settings).unwrap(), shape).unwrap();
            algorithm.tables().into_iter().map(|table| table.name).collect()
        }
        for model in MODELS {
            let shape = run(model.name).1.shape().clone();
            let real = match model.name {
                "mf" => tables::<crate::mf::Mf>(&shape, &[]),
                "lda" => tables::<crate::lda::Lda>(&shape, &[]),
                "lda-vb" => tables::<crate::lda_vb::LdaVb>(&shape, &[]),
                "dml" => tables::<crate::dml::Dml>(&shape, &[]),
                "kmeans" => tables::<crate::kmeans::Kmeans>(&shape, &[]),
                "nmf" => tables::<crate::nmf::Nmf>(&shape, &[]),
                "sparse-coding" => tables::<crate::sparse_coding::SparseCoding>(&shape, &[]),
                "lasso" => tables::<crate::lasso::Lasso>(&shape, &[]),
                "logistic" => tables::<crate::logistic::Logistic>(&shape, &[("solver", "newton")]),
                "svm" => tables::<crate::svm::Svm>(&shape, &[]),
                "ds-softmax" => tables::<crate::ds_softmax::DsSoftmax>(&shape, &[]),
                _ => tables::<crate::softmax::Softmax>(&shape, &[("solver", "lbfgs")]),
            };
            let told: Vec<&str> = model.details.tables.iter().map(|table| table.name).collect();
            assert_eq!(told, real, "{}", model.name);
        }
    }
}
