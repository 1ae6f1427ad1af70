//! Documents from the model of latent Dirichlet allocation: topics ~ Dirichlet(beta) over words, each document
//! mixes them by Dirichlet(alpha) and has from half to one and a half times `length` tokens.

use super::{Generator, Keys};
use crate::data::docword::Bags;
use crate::data::{Data, Kind, Notes, ReadOptions};
use crate::rng::{Stream, stream};
use crate::{Error, Result};

pub(super) const GENERATOR: Generator = Generator {
    name: "lda",
    about: "documents: words drawn from a mixture of topics",
    keys: &[
        ("docs", "1000"),
        ("words", "1000"),
        ("topics", "10"),
        ("length", "100"),
        ("alpha", "0.1"),
        ("beta", "0.05"),
    ],
    kind: Kind::Documents,
    make,
};

fn make(keys: &Keys, options: &ReadOptions, like: Option<&Data>) -> Result<(Data, Notes)> {
    let (documents, words) = (keys.count("docs", 1, 1 << 30)?, keys.count("words", 1, 1 << 30)?);
    let (topics, length) = (keys.count("topics", 1, 1 << 20)?, keys.count("length", 1, 1 << 20)?);
    keys.limit("words x topics", &[words, topics], 1 << 28)?;
    keys.limit("docs x length", &[documents, length], 1 << 33)?;
    let (alpha, beta, seed) = (keys.real("alpha")?, keys.real("beta")?, keys.seed()?);
    let mut rng = stream(seed, "synth lda topics", &[]);
    let topic_words: Vec<Vec<f32>> = (0..topics).map(|_| cumulative(&mut rng, beta, words)).collect();
    let mut rng = keys.rows("synth lda rows")?;
    let columns = like.map_or(words, |like| like.shape.columns);
    let (mut bags, mut notes) = (Bags::new(options), Notes::default());
    let mut tokens: Vec<u32> = Vec::new();
    for _ in 0..documents {
        let mixture = cumulative(&mut rng, alpha, topics);
        tokens.clear();
        for _ in 0..length / 2 + rng.below(length + 1) {
            let topic = draw(&mut rng, &mixture);
            tokens.push(draw(&mut rng, &topic_words[topic]) as u32);
        }
        tokens.sort_unstable();
        for run in tokens.chunk_by(|left, right| left == right) {
            if (run[0] as usize) < columns {
                bags.word(run[0], run.len() as u32);
            } else {
                notes.dropped_entries += 1;
            }
        }
        bags.end_document().map_err(|word| Error::Data(format!("word {word} twice in one document")))?;
    }
    Ok((bags.finish(&keys.source, words, Vec::new(), options, like)?, notes))
}

/// A draw from the symmetric Dirichlet distribution, as cumulative sums that end at 1.
fn cumulative(rng: &mut Stream, concentration: f64, length: usize) -> Vec<f32> {
    let weights: Vec<f64> = (0..length).map(|_| gamma(rng, concentration)).collect();
    let total: f64 = weights.iter().sum();
    if total <= 0.0 {
        // All underflowed, as they do for a very small concentration: all weight is on one.
        let only = rng.below(length);
        return (0..length).map(|at| if at < only { 0.0 } else { 1.0 }).collect();
    }
    let mut sum = 0.0;
    let add = |weight: f64| {
        sum += weight;
        (sum / total) as f32
    };
    weights.into_iter().map(add).collect()
}

fn draw(rng: &mut Stream, cumulative: &[f32]) -> usize {
    let unit = rng.unit_f32();
    cumulative.partition_point(|sum| *sum <= unit).min(cumulative.len() - 1)
}

/// A draw from Gamma(shape, 1): Marsaglia and Tsang (2000), section 6 for shapes below 1.
fn gamma(rng: &mut Stream, shape: f64) -> f64 {
    if shape < 1.0 {
        let below = (1.0 - rng.unit()).powf(1.0 / shape);
        return gamma(rng, shape + 1.0) * below;
    }
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let normal = rng.normal();
        let v = (1.0 + c * normal).powi(3);
        if v > 0.0 && (1.0 - rng.unit()).ln() < 0.5 * normal * normal + d - d * v + d * v.ln() {
            return d * v;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gamma_has_its_mean_and_variance() {
        for shape in [0.1, 0.7, 1.0, 4.5] {
            let mut rng = stream(3, "gamma", &[]);
            let draws: Vec<f64> = (0..200_000).map(|_| gamma(&mut rng, shape)).collect();
            let mean = draws.iter().sum::<f64>() / draws.len() as f64;
            let variance = draws.iter().map(|draw| (draw - mean).powi(2)).sum::<f64>() / draws.len() as f64;
            assert!((mean / shape - 1.0).abs() < 0.03, "shape {shape}: mean {mean}");
            assert!((variance / shape - 1.0).abs() < 0.06, "shape {shape}: variance {variance}");
        }
    }
}
