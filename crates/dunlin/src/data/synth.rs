//! Data made up from a known truth: `synth:KIND?key=value&...`.
//!
//! The truth (factors, topics, weights, subspace) follows from the sizes and `seed`; `part=test` draws other rows
//! from the same truth. The same words give the same bits everywhere.

mod correlated;
mod dml;
mod lasso;
mod lda;
mod mf;
mod softmax;

use super::read::{check_kind, check_relevant, unknown};
use super::{Data, Kind, Notes, ReadOptions};
use crate::rng::{Stream, stream};
use crate::{Error, Result};

type Make = fn(&Keys, &ReadOptions, Option<&Data>) -> Result<(Data, Notes)>;

/// A generator: the word that chooses it, one line about it, its keys with their defaults, what it makes.
struct Generator {
    name: &'static str,
    about: &'static str,
    keys: &'static [(&'static str, &'static str)],
    kind: Kind,
    make: Make,
}

const GENERATORS: [&Generator; 6] = [
    &mf::GENERATOR,
    &lda::GENERATOR,
    &softmax::GENERATOR,
    &dml::GENERATOR,
    &lasso::GENERATOR,
    &correlated::GENERATOR,
];

/// Keys that every generator has.
const COMMON: [(&str, &str); 2] = [("seed", "1"), ("part", "train")];

/// The generators as sources with all keys and their defaults, each with one line about it.
pub fn generators() -> Vec<(String, &'static str)> {
    let source = |generator: &&Generator| {
        let keys: Vec<String> =
            generator.keys.iter().chain(&COMMON).map(|(key, value)| format!("{key}={value}")).collect();
        (format!("synth:{}?{}", generator.name, keys.join("&")), generator.about)
    };
    GENERATORS.iter().map(source).collect()
}

/// Makes what `what`, the source without `synth:`, asks for.
///
/// # Errors
/// [`Error::Usage`] for an unknown generator or key or a value out of range.
pub(super) fn read(what: &str, options: &ReadOptions, like: Option<&Data>) -> Result<(Data, Notes)> {
    let (name, query) = what.split_once('?').unwrap_or((what, ""));
    let names = GENERATORS.map(|generator| generator.name);
    let found = GENERATORS.iter().find(|generator| generator.name == name);
    let generator = found.ok_or_else(|| unknown("generator", name, &names))?;
    let source = format!("synth:{what}");
    check_kind(&source, "made up", generator.kind, options, like)?;
    if like.is_none() {
        check_relevant(&source, "made up", options)?;
    }
    (generator.make)(&Keys::parse(source, generator, query)?, options, like)
}

/// What was given behind the question mark, with defaults for the rest.
struct Keys {
    source: String,
    values: Vec<(&'static str, String)>,
}

impl Keys {
    fn parse(source: String, generator: &Generator, query: &str) -> Result<Keys> {
        let defaults = generator.keys.iter().chain(&COMMON);
        let mut values: Vec<(&str, String)> =
            defaults.map(|(key, value)| (*key, value.to_string())).collect();
        let mut given: Vec<&str> = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair
                .split_once('=')
                .ok_or_else(|| Error::Usage(format!("{source}: {pair:?}; wanted is key=value&key=value")))?;
            let names: Vec<&str> = values.iter().map(|(name, _)| *name).collect();
            let at = names.iter().position(|name| *name == key);
            let at = at.ok_or_else(|| unknown(&format!("key of synth:{}", generator.name), key, &names))?;
            if given.contains(&key) {
                return Err(Error::Usage(format!("{source}: {key} is given twice")));
            }
            given.push(key);
            values[at].1 = value.to_string();
        }
        Ok(Keys { source, values })
    }

    fn text(&self, key: &str) -> &str {
        self.values.iter().find(|(name, _)| *name == key).map_or("", |(_, value)| value)
    }

    fn refuse(&self, message: impl std::fmt::Display) -> Error {
        Error::Usage(format!("{}: {message}", self.source))
    }

    /// A whole number from `least` to `most`; `1e6` will do.
    fn count(&self, key: &str, least: usize, most: usize) -> Result<usize> {
        let text = self.text(key);
        let round = || text.parse::<f64>().ok().filter(|v| v.fract() == 0.0 && (0.0..9e15).contains(v));
        let value = text.parse::<usize>().ok().or_else(|| round().map(|value| value as usize));
        value
            .filter(|value| (least..=most).contains(value))
            .ok_or_else(|| self.refuse(format!("{key}={text}; a whole number from {least} to {most}")))
    }

    /// A finite number from 0 to a million.
    fn real(&self, key: &str) -> Result<f64> {
        let text = self.text(key);
        let value = text.parse::<f64>().ok().filter(|value| (0.0..=1e6).contains(value));
        value.ok_or_else(|| self.refuse(format!("{key}={text}; a number from 0 to 1e6")))
    }

    fn seed(&self) -> Result<u64> {
        Ok(self.count("seed", 0, 9_000_000_000_000_000)? as u64)
    }

    /// The stream of the rows: another one for the held-out part.
    fn rows(&self, purpose: &str) -> Result<Stream> {
        let part = match self.text("part") {
            "train" => 0,
            "test" => 1,
            other => return Err(self.refuse(format!("part={other}; train or test"))),
        };
        Ok(stream(self.seed()?, purpose, &[part]))
    }

    /// Refuses sizes whose product is beyond `most` numbers.
    fn limit(&self, what: &str, sizes: &[usize], most: u64) -> Result<()> {
        let product = sizes.iter().try_fold(1u64, |all, size| all.checked_mul(*size as u64));
        match product.filter(|product| *product <= most) {
            Some(_) => Ok(()),
            None => Err(self.refuse(format!("{what} = {sizes:?} makes too many numbers; at most {most}"))),
        }
    }
}

/// `value` to four decimals, so that files stay short and read back the same.
fn rounded(value: f64) -> f32 {
    ((value * 1e4).round() / 1e4) as f32
}
