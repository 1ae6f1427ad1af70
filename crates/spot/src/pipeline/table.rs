//! The table of layers that `dunlin spot profile` reads.
//!
//! CSV in two parts; `#` starts a comment line, empty lines are skipped. First settings, one `name,value` a line, then
//! the header and the layers in order; `count` repeats a layer:
//!
//! ```text
//! model,tiny-gpt             required: the name in the table that is printed
//! global_batch,128           required: samples of an iteration
//! micro_batch,1              required: samples of a micro-batch; the times below are for one
//! sequence,1024              required: with hidden, what crosses from stage to stage:
//! hidden,1600                required:   4 bytes x micro_batch x sequence x hidden, each way
//! memory_gib,15.5            what a machine can hold
//! bytes_per_parameter,12     weight and optimiser state (12: float32 and two moments)
//! tied_embedding,yes         the first layer's gradient is reduced over twice as many ranks
//! all_reduce_gbit,10         rate of the gradient all-reduce, in Gb/s
//! network,1048576,1428.1     a point of the network: bytes, microseconds; none: a measured 10 Gb/s network
//!
//! layer,count,forward_ms,backward_ms,optimizer_ms,activation_mib,parameters
//! embedding,1,0.752,0.798,5.655,9,82124800
//! block,48,6.51,13.448,2.117,269,30740800
//! ```

use super::Network;
use crate::{Error, Result};
use std::io::BufRead;

/// Most layers, counts included.
const MOST_LAYERS: usize = 1024;
/// Longest line, bytes.
const LONGEST_LINE: usize = 4096;
/// The header of the second part.
const HEADER: &str = "layer,count,forward_ms,backward_ms,optimizer_ms,activation_mib,parameters";
/// The tables that come with the crate.
const SHIPPED: [(&str, &str); 4] = [
    ("gpt-1.5b", include_str!("../../data/layers/gpt-1.5b.csv")),
    ("gpt-2", include_str!("../../data/layers/gpt-2.csv")),
    ("gpt-2.7b", include_str!("../../data/layers/gpt-2.7b.csv")),
    ("gpt-6.7b", include_str!("../../data/layers/gpt-6.7b.csv")),
];

/// One layer, for one micro-batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// What it is called.
    pub name: String,
    /// Forward pass, milliseconds.
    pub forward_ms: f64,
    /// Backward pass, milliseconds, without recomputation.
    pub backward_ms: f64,
    /// Optimiser step, milliseconds an iteration.
    pub optimizer_ms: f64,
    /// Activations kept from the forward to the backward pass, MiB.
    pub activation_mib: f64,
    /// Parameters.
    pub parameters: f64,
}

/// A model as a row of layers, with the network and the machines it runs on.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerTable {
    /// Its name.
    pub model: String,
    /// Samples of an iteration, over all pipelines.
    pub global_batch: u32,
    /// Samples of a micro-batch.
    pub micro_batch: u32,
    /// Positions of a sample; 1 where there is no sequence.
    pub sequence: u32,
    /// Numbers a position that cross from stage to stage.
    pub hidden: u32,
    /// What a machine can hold, GiB.
    pub memory_gib: f64,
    /// Bytes a parameter for weight and optimiser state.
    pub bytes_per_parameter: f64,
    /// The first layer shares its weights with the last.
    pub tied_embedding: bool,
    /// Rate of the gradient all-reduce, Gb/s.
    pub all_reduce_gbit: f64,
    /// Point-to-point times.
    pub network: Network,
    /// The layers in order; at least one.
    pub layers: Vec<Layer>,
}

impl LayerTable {
    /// Names of the tables that come with the crate.
    pub fn shipped_names() -> impl Iterator<Item = &'static str> {
        SHIPPED.iter().map(|(name, _)| *name)
    }

    /// A table that comes with the crate; none if there is no such.
    ///
    /// # Errors
    /// None that a test has not ruled out.
    pub fn shipped(name: &str) -> Option<Result<LayerTable>> {
        let (_, text) = SHIPPED.iter().find(|(known, _)| *known == name)?;
        Some(LayerTable::read(text.as_bytes(), name))
    }

    /// Reads a table; `name` is what messages call it.
    ///
    /// # Errors
    /// [`Error::Data`] with the line number: what was given, what is wrong, what is wanted.
    pub fn read(input: impl BufRead, name: &str) -> Result<LayerTable> {
        let mut reader = Reader { raw: Raw::default(), in_layers: false };
        for (number, line) in input.lines().enumerate() {
            let line = line.map_err(|error| Error::data(format!("{name}:{}: {error}", number + 1)))?;
            reader.line(&line).map_err(|wrong| Error::data(format!("{name}:{}: {wrong}", number + 1)))?;
        }
        reader.finish().map_err(|wrong| Error::data(format!("{name}: {wrong}")))
    }

    /// Forward + backward of every layer, milliseconds: what a stage is balanced by.
    pub(crate) fn weights(&self) -> Vec<f64> {
        self.layers.iter().map(|layer| layer.forward_ms + layer.backward_ms).collect()
    }

    /// Bytes from stage to stage, one micro-batch, one way.
    pub fn hop_bytes(&self) -> f64 {
        4.0 * f64::from(self.micro_batch) * f64::from(self.sequence) * f64::from(self.hidden)
    }

    /// Milliseconds of that.
    pub fn hop_ms(&self) -> f64 {
        self.network.time_ms(self.hop_bytes())
    }

    /// Ring all-reduce of `bytes` over `ranks`: bytes / rate x 2 (ranks - 1) / ranks, in milliseconds.
    pub fn all_reduce_ms(&self, bytes: f64, ranks: u32) -> f64 {
        let ranks = f64::from(ranks.max(1));
        bytes / (self.all_reduce_gbit / 8.0 * 1e6) * 2.0 * (ranks - 1.0) / ranks
    }

    /// Parameters of all layers.
    pub fn parameters(&self) -> f64 {
        self.layers.iter().map(|layer| layer.parameters).sum()
    }
}

#[derive(Default)]
struct Raw {
    model: Option<String>,
    whole: [Option<u32>; 4], // in the order of WHOLE
    memory_gib: Option<f64>,
    bytes_per_parameter: Option<f64>,
    tied_embedding: Option<bool>,
    all_reduce_gbit: Option<f64>,
    network: Vec<(f64, f64)>,
    layers: Vec<Layer>,
}

/// Settings that are whole numbers and must be there.
const WHOLE: [&str; 4] = ["global_batch", "micro_batch", "sequence", "hidden"];

struct Reader {
    raw: Raw,
    in_layers: bool,
}

impl Reader {
    fn line(&mut self, line: &str) -> std::result::Result<(), String> {
        if line.len() > LONGEST_LINE {
            return Err(format!("a line of {} bytes; at most {LONGEST_LINE}", line.len()));
        }
        let line = line.trim().trim_start_matches('\u{feff}');
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        match (self.in_layers, fields[0]) {
            (true, _) => self.layer(&fields),
            (false, "layer") if fields.join(",") == HEADER => {
                self.in_layers = true;
                Ok(())
            }
            (false, "layer") => Err(format!("header {line:?}; wanted is {HEADER}")),
            (false, "network") => self.network(&fields),
            (false, name) => match fields.as_slice() {
                [_, value] => self.setting(name, value),
                _ => Err(format!("{line:?}; a setting is name,value; the layers follow the line {HEADER}")),
            },
        }
    }

    fn setting(&mut self, name: &str, value: &str) -> std::result::Result<(), String> {
        let raw = &mut self.raw;
        if let Some(place) = WHOLE.iter().position(|whole| *whole == name) {
            let number = value.parse::<u32>().ok().filter(|number| *number > 0);
            let number = number.ok_or(format!("{name} {value:?}; a whole number, at least 1, is wanted"))?;
            return once(&mut raw.whole[place], number, name);
        }
        match name {
            "model" if value.is_empty() => Err("model without a name".into()),
            "model" => once(&mut raw.model, value.to_string(), name),
            "memory_gib" => once(&mut raw.memory_gib, above_zero(name, value)?, name),
            "bytes_per_parameter" => once(&mut raw.bytes_per_parameter, above_zero(name, value)?, name),
            "all_reduce_gbit" => once(&mut raw.all_reduce_gbit, above_zero(name, value)?, name),
            "tied_embedding" => match value {
                "yes" => once(&mut raw.tied_embedding, true, name),
                "no" => once(&mut raw.tied_embedding, false, name),
                _ => Err(format!("tied_embedding {value:?}; yes or no")),
            },
            _ => Err(format!(
                "setting {name:?}; there are model, {}, memory_gib, bytes_per_parameter, tied_embedding, all_reduce_gbit, network",
                WHOLE.join(", ")
            )),
        }
    }

    fn network(&mut self, fields: &[&str]) -> std::result::Result<(), String> {
        match fields {
            [_, bytes, time] => {
                let point = (number("bytes", bytes)?, number("microseconds", time)? / 1e3);
                self.raw.network.push(point);
                Ok(())
            }
            _ => Err(format!("{:?}; wanted is network,BYTES,MICROSECONDS", fields.join(","))),
        }
    }

    fn layer(&mut self, fields: &[&str]) -> std::result::Result<(), String> {
        let [name, count, forward, backward, optimizer, activation, parameters] = fields else {
            return Err(format!("{} fields; a layer has 7: {HEADER}", fields.len()));
        };
        let count = count.parse::<usize>().ok().filter(|count| (1..=MOST_LAYERS).contains(count));
        let count = count.ok_or(format!("count {:?}; a whole number from 1 to {MOST_LAYERS}", fields[1]))?;
        if self.raw.layers.len() + count > MOST_LAYERS {
            return Err(format!("more than {MOST_LAYERS} layers"));
        }
        let layer = Layer {
            name: (*name).to_string(),
            forward_ms: number("forward_ms", forward)?,
            backward_ms: number("backward_ms", backward)?,
            optimizer_ms: number("optimizer_ms", optimizer)?,
            activation_mib: number("activation_mib", activation)?,
            parameters: number("parameters", parameters)?,
        };
        self.raw.layers.extend(std::iter::repeat_n(layer, count));
        Ok(())
    }

    fn finish(self) -> std::result::Result<LayerTable, String> {
        let raw = self.raw;
        let need = |place: usize| raw.whole[place].ok_or(format!("no line {},...", WHOLE[place]));
        if raw.layers.is_empty() {
            return Err(format!("no layers; they follow the line {HEADER}"));
        }
        if raw.layers.iter().all(|layer| layer.forward_ms + layer.backward_ms == 0.0) {
            return Err("every layer takes 0 ms".into());
        }
        let network = match raw.network.is_empty() {
            true => Network::ten_gigabit(),
            false => Network::new(raw.network).map_err(|error| error.to_string())?,
        };
        Ok(LayerTable {
            model: raw.model.ok_or("no line model,...")?,
            global_batch: need(0)?,
            micro_batch: need(1)?,
            sequence: need(2)?,
            hidden: need(3)?,
            memory_gib: raw.memory_gib.unwrap_or(15.5),
            bytes_per_parameter: raw.bytes_per_parameter.unwrap_or(12.0),
            tied_embedding: raw.tied_embedding.unwrap_or(true),
            all_reduce_gbit: raw.all_reduce_gbit.unwrap_or(10.0),
            network,
            layers: raw.layers,
        })
    }
}

/// Sets what may be set once.
fn once<T>(place: &mut Option<T>, value: T, name: &str) -> std::result::Result<(), String> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(format!("{name} is given a second time")),
    }
}

fn number(name: &str, value: &str) -> std::result::Result<f64, String> {
    let number = value.parse::<f64>().ok().filter(|number| (0.0..=1e15).contains(number));
    number.ok_or(format!("{name} {value:?}; a number from 0 to 1e15 is wanted"))
}

fn above_zero(name: &str, value: &str) -> std::result::Result<f64, String> {
    match number(name, value)? {
        0.0 => Err(format!("{name} 0; a number above 0 is wanted")),
        number => Ok(number),
    }
}
