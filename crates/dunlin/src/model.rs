//! A model without its types: what a list of models holds, and a saved model.

use crate::algorithm::{Algorithm, StrategyKind, Sums};
use crate::data::{Block, Data, Kind, Names, ReadOptions, Shape};
use crate::details::Details;
use crate::event::Outcome;
use crate::memory::{Estimate, Needs};
use crate::run::Run;
use crate::saved::{self, write_atomically};
use crate::table::{Params, Replica, TableSpec};
use crate::train::{Observer, Source, train};
use crate::{Error, Result};
use dunlin_comm::Comm;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::Path;

/// Metrics by name.
pub type Metrics = Vec<(&'static str, f64)>;

/// What receives predictions: row, values.
pub type Predictions<'a> = &'a mut dyn FnMut(usize, &[f32]);

/// What receives readable files: name, text.
pub type Texts<'a> = &'a mut dyn FnMut(&str, String);

/// An entry in the list of models; made by [`model`].
#[derive(Clone, Copy, Debug)]
pub struct Model {
    /// The word that chooses it.
    pub name: &'static str,
    /// One line.
    pub about: &'static str,
    /// The kind of data it takes.
    pub data: Kind,
    /// The strategies it allows; the first is the default.
    pub strategies: &'static [StrategyKind],
    /// Blocks a lane by default, if the model wants a certain number.
    pub blocks_per_lane: Option<usize>,
    /// Epochs at most, unless the user says how many.
    pub epochs: usize,
    /// True if, under `rotation`, tables that go round are never whole in one place.
    pub spreads: bool,
    /// What it tells about itself.
    pub details: &'static Details,
    /// All settings with their defaults.
    pub defaults: fn() -> Value,
    /// Checks settings against their types; complete on return.
    check: fn(Value) -> std::result::Result<Value, String>,
    reading: fn(&Value, &mut ReadOptions) -> Result<()>,
    /// Trains it on this rank.
    pub train: fn(&Run, &Source, &mut Comm, &mut dyn Observer) -> Result<Outcome>,
    specs: fn(&Value, &Shape) -> Result<Vec<TableSpec>>,
    local_bytes: fn(&Value, &Shape) -> Result<f64>,
    tables: fn(&Value, &Shape) -> Result<Params>,
    predict: fn(&Value, &Shape, &Params, &[Block], Predictions) -> Result<()>,
    evaluate: fn(&Value, &Shape, &Params, &[Block]) -> Result<Metrics>,
    readable: fn(&Value, &Shape, &Names, &Params, Texts) -> Result<()>,
}

/// The entry of algorithm `A`.
pub const fn model<A: Algorithm>() -> Model {
    Model {
        name: A::NAME,
        about: A::ABOUT,
        data: A::DATA,
        strategies: A::STRATEGIES,
        blocks_per_lane: A::BLOCKS_PER_LANE,
        epochs: A::EPOCHS,
        spreads: A::MEASURES_BY_LAP,
        details: A::DETAILS,
        defaults: || serde_json::to_value(A::Config::default()).unwrap_or_default(),
        check: |value| {
            let config: A::Config = serde_json::from_value(value).map_err(|error| error.to_string())?;
            serde_json::to_value(config).map_err(|error| error.to_string())
        },
        reading: |settings, options| {
            A::reading(&config::<A>(settings)?, options);
            Ok(())
        },
        train: train::<A>,
        specs: |settings, shape| Ok(create::<A>(settings, shape)?.tables()),
        local_bytes: |settings, shape| Ok(create::<A>(settings, shape)?.local_bytes(shape)),
        tables: |settings, shape| {
            let replicas = create::<A>(settings, shape)?.tables().into_iter();
            Ok(Params { replicas: replicas.map(|spec| Replica::new(spec, false)).collect(), lanes: 1 })
        },
        predict: |settings, shape, params, blocks, out| {
            let algorithm = create::<A>(settings, shape)?;
            blocks.iter().try_for_each(|block| algorithm.predict(block, params, out))
        },
        evaluate: |settings, shape, params, blocks| {
            let algorithm = create::<A>(settings, shape)?;
            let mut sums = Sums::default();
            blocks.iter().for_each(|block| algorithm.measure(block, params, None, &mut sums));
            let metrics = algorithm.metrics(&Sums::default(), Some(&sums), params).into_iter();
            Ok(metrics.filter(|(name, _)| name.starts_with("test") || name.starts_with("heldout")).collect())
        },
        readable: |settings, shape, names, params, out| {
            create::<A>(settings, shape)?.readable(shape, names, params, out);
            Ok(())
        },
    }
}

fn config<A: Algorithm>(settings: &Value) -> Result<A::Config> {
    serde_json::from_value(settings.clone())
        .map_err(|error| Error::Usage(format!("settings of {}: {error}", A::NAME)))
}

/// Memory of the machine in bytes, where Linux tells it.
fn memory_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

fn create<A: Algorithm>(settings: &Value, shape: &Shape) -> Result<A> {
    A::new(&config::<A>(settings)?, shape)
}

impl Model {
    /// The settings that `pairs` of key and value make of the defaults. A value is a number, true, false, or else
    /// text.
    ///
    /// # Errors
    /// [`Error::Usage`] for an unknown key, with a near name, or a value of another type.
    pub fn settings<'a>(&self, pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Value> {
        let mut settings = (self.defaults)();
        for (key, text) in pairs {
            let known: Vec<String> =
                settings.as_object().into_iter().flat_map(|map| map.keys().cloned()).collect();
            let Some(place) = settings.get_mut(key) else {
                let near =
                    near_name(key, &known).map(|name| format!("; did you mean {name}?")).unwrap_or_default();
                let known = known.join(", ");
                return Err(Error::Usage(format!(
                    "{} has no setting {key}{near} (it has {known})",
                    self.name
                )));
            };
            let default = place.to_string();
            let told = self.details.settings.iter().find(|setting| setting.name == key);
            let allowed = told.map_or(String::new(), |setting| format!("allowed is {}; ", setting.range));
            *place = serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.into()));
            settings = (self.check)(settings).map_err(|why| {
                let why = in_words(&why);
                Error::Usage(format!("--set {key}={text}: {why} ({allowed}the default is {default})"))
            })?;
        }
        Ok(settings)
    }

    /// `options` with what the model and its `settings` say of how data are read.
    ///
    /// # Errors
    /// [`Error::Usage`] if these are not the model's settings.
    pub fn reading(&self, settings: &Value, options: ReadOptions) -> Result<ReadOptions> {
        let mut options = ReadOptions { kind: Some(self.data), ..options };
        (self.reading)(settings, &mut options)?;
        Ok(options)
    }

    /// Refuses tables that take more than half the memory of the machine, since a lane has a copy of its own: an index or a count in a file may ask for any
    /// size. Does nothing where that memory is not known.
    ///
    /// # Errors
    /// [`Error::Usage`] with the table, its size and what there is; what [`Algorithm::new`] refuses.
    pub fn check_memory(&self, settings: &Value, shape: &Shape) -> Result<()> {
        let Some(memory) = memory_bytes() else { return Ok(()) };
        let bytes = |spec: &TableSpec| spec.rows as f64 * spec.bytes_per_row() as f64;
        let specs = (self.specs)(settings, shape)?;
        let all: f64 = specs.iter().map(bytes).sum();
        let Some(largest) = specs.iter().max_by(|left, right| bytes(left).total_cmp(&bytes(right))) else {
            return Ok(());
        };
        if all <= memory as f64 / 2.0 {
            return Ok(());
        }
        let (name, rows, width) = (&largest.name, largest.rows, largest.width);
        Err(Error::Usage(format!(
            "{}: its tables need {:.1} GB, and half the memory of this machine, {:.1} GB, is allowed; the largest is {name}, {rows} rows of {width} \
             numbers: are the largest index in the data and the settings meant so?",
            self.name,
            all / 1e9,
            memory as f64 / 2e9
        )))
    }

    /// What a worker of `run` will take, if data stay on disk: `--memory`.
    ///
    /// # Errors
    /// [`Error::Usage`] if it is more than `run` allows, with what would help.
    pub fn check_budget(&self, run: &Run, source: &Source) -> Result<Estimate> {
        let (shape, block) = (source.shape(), source.largest_block().unwrap_or(0));
        let tables = (self.specs)(&run.settings, shape)?;
        let local_bytes = (self.local_bytes)(&run.settings, shape)?;
        Needs::new(tables, self.spreads, local_bytes, block, (shape, source.names())).check(run)
    }

    /// Refuses a strategy that the model's mathematics does not allow.
    ///
    /// # Errors
    /// [`Error::Usage`] with those that it allows.
    pub fn check_strategy(&self, kind: StrategyKind) -> Result<()> {
        if self.strategies.contains(&kind) {
            return Ok(());
        }
        let allowed = self.strategies.iter().map(|kind| kind.word()).collect::<Vec<_>>().join(", ");
        let (name, word) = (self.name, kind.word());
        Err(Error::Usage(format!("{name} does not run under {word}: its mathematics allows {allowed}")))
    }

    /// Writes a trained model into the run folder `out`: what a person reads of it, then what [`SavedModel::load`]
    /// reads, the card last. Without `params` the tables are there already, and what a person reads is left out.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file.
    pub fn save(&self, out: &Path, run: &Run, source: &Source, params: Option<&Params>) -> Result<()> {
        let tables = out.join(saved::MODEL);
        let xxh3 = if let Some(params) = params {
            let mut written = Ok(());
            (self.readable)(&run.settings, source.shape(), source.names(), params, &mut |name, text| {
                if written.is_ok() {
                    written = write_atomically(&out.join(name), text.as_bytes());
                }
            })?;
            written?;
            let tensors = saved::to_bytes(params, |replica| replica.spec.saved)?;
            write_atomically(&tables, &tensors)?;
            saved::checksum(&tensors)
        } else {
            saved::checksum_of_file(&tables)?
        };
        let card = Card {
            version: env!("CARGO_PKG_VERSION").into(),
            model: run.model.clone(),
            settings: run.settings.clone(),
            run: run.clone(),
            shape: source.shape().clone(),
            xxh3: Some(xxh3),
        };
        let json =
            |value: serde_json::Result<Vec<u8>>| value.map_err(|error| Error::Damaged(error.to_string()));
        write_atomically(&out.join("names.json"), &json(serde_json::to_vec(source.names()))?)?;
        write_atomically(&out.join("model.json"), &json(serde_json::to_vec_pretty(&card))?)
    }
}

/// A message of serde with the kinds of numbers named as a person would.
pub fn in_words(message: &str) -> String {
    let pairs =
        [("usize", "a whole number, at least 0"), ("u64", "a whole number, at least 0"), ("f64", "a number")];
    pairs.iter().fold(message.to_string(), |text, (kind, words)| {
        text.replace(&format!("expected {kind}"), &format!("expected {words}"))
    })
}

/// The name among `known` that is nearest to `given`, if any is near.
pub fn near_name<'a>(given: &str, known: &'a [String]) -> Option<&'a str> {
    let scored = known.iter().map(|name| (strsim::damerau_levenshtein(given, name), name.as_str()));
    scored.min().filter(|(distance, name)| *distance <= 1 + name.len() / 3).map(|(_, name)| name)
}

/// "; did you mean X?" if one of `known` is near to `given`; else nothing.
pub fn did_you_mean(given: &str, known: &[&str]) -> String {
    let known: Vec<String> = known.iter().map(|name| name.to_string()).collect();
    near_name(given, &known).map(|name| format!("; did you mean {name}?")).unwrap_or_default()
}

/// The card of a saved model: everything but the numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Card {
    /// Version of the program that wrote it.
    pub version: String,
    /// The model's name.
    pub model: String,
    /// Its settings.
    pub settings: Value,
    /// The run that made it.
    pub run: Run,
    /// Shape of the training data.
    pub shape: Shape,
    /// xxh3-64 of `model.safetensors`, in hexadecimal; models of older programs have none.
    #[serde(default)]
    pub xxh3: Option<String>,
}

/// A model in a run folder: `model.json` (the card), `names.json` (original ids), `model.safetensors`.
#[derive(Debug)]
pub struct SavedModel {
    /// The card.
    pub card: Card,
    /// Names of rows and columns of the training data.
    pub names: Names,
    /// The tables.
    pub params: Params,
    model: Model,
}

impl SavedModel {
    /// Reads the model of run folder `out`; `models` are those that this program knows.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Damaged`] naming the file; [`Error::Usage`] if the folder has no model.
    pub fn load(out: &Path, models: &[Model]) -> Result<SavedModel> {
        let read = |name: &str| {
            let path = out.join(name);
            std::fs::read(&path).map_err(|source| match source.kind() {
                std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => Error::Usage(format!(
                    "{}: no {name} there; a run folder has one once training has ended",
                    out.display()
                )),
                _ => Error::Io { what: format!("cannot read {}", path.display()), source },
            })
        };
        let damaged = |name: &str, error: serde_json::Error| {
            Error::Damaged(format!("{}: {error}", out.join(name).display()))
        };
        let card: Card =
            serde_json::from_slice(&read("model.json")?).map_err(|e| damaged("model.json", e))?;
        let names = serde_json::from_slice(&read("names.json")?).map_err(|e| damaged("names.json", e))?;
        let model = models.iter().find(|model| model.name == card.model).copied().ok_or_else(|| {
            Error::Damaged(format!("{}: model {:?}, which this program has not", out.display(), card.model))
        })?;
        let mut params = (model.tables)(&card.settings, &card.shape)?;
        let place = out.join(saved::MODEL);
        let place = place.display().to_string();
        let tables = read(saved::MODEL)?;
        let found = saved::checksum(&tables);
        if let Some(wanted) = card.xxh3.as_ref().filter(|wanted| **wanted != found) {
            return Err(Error::Damaged(format!(
                "{place}: damaged: its checksum is {found}, and model.json says {wanted}"
            )));
        }
        saved::from_bytes(&tables, &place, &mut params, |replica| replica.spec.saved)?;
        Ok(SavedModel { card, names, params, model })
    }

    /// Data without blocks that stand for the training data when others are read like them.
    pub fn like(&self) -> Data {
        Data { shape: self.card.shape.clone(), names: self.names.clone(), blocks: Vec::new() }
    }

    /// Predictions for all rows of `data`, in order.
    ///
    /// # Errors
    /// [`Error::Usage`] where the model predicts nothing.
    pub fn predict(&self, data: &Data, out: Predictions) -> Result<()> {
        (self.model.predict)(&self.card.settings, &self.card.shape, &self.params, &data.blocks, out)
    }

    /// The test metrics on `data`.
    ///
    /// # Errors
    /// If the model cannot be made again.
    pub fn evaluate(&self, data: &Data) -> Result<Metrics> {
        (self.model.evaluate)(&self.card.settings, &self.card.shape, &self.params, &data.blocks)
    }
}
