//! Ratings 3.5 + p·q + noise: factors are normal with p·q of variance 1, users are drawn evenly and items by a
//! power law. No model can do better on new ratings than an RMSE of `noise`.

use super::{Generator, Keys, rounded};
use crate::Result;
use crate::data::ratings::Gatherer;
use crate::data::{Data, Kind, Notes, ReadOptions};
use crate::rng::stream;

pub(super) const GENERATOR: Generator = Generator {
    name: "mf",
    about: "ratings: 3.5 + user factor · item factor + noise; the best test RMSE is the noise",
    keys: &[("users", "1000"), ("items", "500"), ("n", "50000"), ("rank", "4"), ("noise", "0.3")],
    kind: Kind::Ratings,
    make,
};

fn make(keys: &Keys, options: &ReadOptions, like: Option<&Data>) -> Result<(Data, Notes)> {
    let (users, items) = (keys.count("users", 1, 1 << 30)?, keys.count("items", 1, 1 << 30)?);
    let (count, rank) = (keys.count("n", 1, 1 << 32)?, keys.count("rank", 1, 1024)?);
    keys.limit("(users + items) x rank", &[users + items, rank], 1 << 31)?;
    let (noise, seed) = (keys.real("noise")?, keys.seed()?);
    let user_factors = factors(seed, "synth mf users", users, rank);
    let item_factors = factors(seed, "synth mf items", items, rank);
    let mut rng = keys.rows("synth mf rows")?;
    let mut gatherer = Gatherer::new(options, like);
    for _ in 0..count {
        let user = rng.below(users);
        // x = u^2.5 has density x^-0.6: few items are popular, most are not.
        let unit = rng.unit();
        let item = ((unit * unit * unit.sqrt() * items as f64) as usize).min(items - 1);
        let (p, q) = (&user_factors[user * rank..][..rank], &item_factors[item * rank..][..rank]);
        let product: f64 = p.iter().zip(q).map(|(p, q)| f64::from(p * q)).sum();
        let rating = rounded(3.5 + product + noise * rng.normal());
        let (user, item) = ((user + 1).to_string(), (item + 1).to_string());
        gatherer.add(user.as_bytes(), item.as_bytes(), rating).map_err(|message| keys.refuse(message))?;
    }
    gatherer.finish(&keys.source, options, like)
}

/// (count, rank) normal numbers of variance 1/√rank.
fn factors(seed: u64, purpose: &str, count: usize, rank: usize) -> Vec<f32> {
    let mut rng = stream(seed, purpose, &[]);
    let scale = (rank as f64).powf(-0.25);
    (0..count * rank).map(|_| (scale * rng.normal()) as f32).collect()
}
