//! A model on a kind of machine: how fast every layout trains, and what moving costs.
//!
//! Five profiles are built in ([`BUILT_IN`]): the throughputs and migration constants that the authors of Parcae
//! (NSDI 2024) measured on AWS p3.2xlarge and published with their code. Others are JSON files of the same form, see
//! [`Profile::parse`]. Tables are kept as measured, with their quirks (a bigger layout may be slower).

mod gpus;
mod parts;
mod shapes;
mod synthetic;
mod table;

use crate::{Error, Layout, Result};
pub use parts::{Allowed, Costs, Dollars, Groups, Layers, Network};
use serde::Deserialize;
use std::collections::BTreeMap;
pub use synthetic::synthetic;

/// The profiles that come with the program: name and text.
pub const BUILT_IN: [(&str, &str); 5] = [
    ("resnet152", include_str!("../data/profiles/resnet152.json")),
    ("vgg19", include_str!("../data/profiles/vgg19.json")),
    ("bert", include_str!("../data/profiles/bert.json")),
    ("gpt-1.5b", include_str!("../data/profiles/gpt-1.5b.json")),
    ("gpt-6.7b", include_str!("../data/profiles/gpt-6.7b.json")),
];

/// Most machines of a layout; a table that names more is refused.
pub const MAX_MACHINES: u32 = 4096;
/// Most layers of a model, most rows of a table.
const MAX_LAYERS: usize = 100_000;
/// Samples per second of any layout that trains.
const SLOWEST: f64 = 1e-9;
const FASTEST: f64 = 1e12;

/// The file, before it is checked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    source: String,
    global_batch: u32,
    micro_batch: u32,
    #[serde(default)]
    dollars_per_hour: Dollars,
    #[serde(default)]
    allowed: Allowed,
    #[serde(default)]
    costs: Costs,
    #[serde(default = "adam")]
    bytes_per_parameter: f64,
    #[serde(default)]
    cut_points: u32,
    #[serde(default = "for_transformers")]
    redundancy_overhead: f64,
    layers: Vec<Layers>,
    #[serde(default)]
    network: Network,
    throughput: Vec<(u32, u32, f64)>,
    #[serde(default)]
    shapes: BTreeMap<String, f64>,
}

/// An fp32 weight and two moments of Adam.
fn adam() -> f64 {
    12.0
}

/// Bamboo's measurement for BERT.
fn for_transformers() -> f64 {
    0.198
}

/// A checked profile.
#[derive(Clone, Debug)]
pub struct Profile {
    /// The word for it.
    pub name: String,
    /// Model and machine, in a line.
    pub description: String,
    /// Where the numbers come from.
    pub source: String,
    /// Samples of one optimiser step.
    pub global_batch: u32,
    /// Samples of one pass through a pipeline.
    pub micro_batch: u32,
    /// Prices of a machine.
    pub dollars_per_hour: Dollars,
    /// Constants of migration, milliseconds.
    pub costs: Costs,
    /// Bytes of state for each parameter: weight and optimiser.
    pub bytes_per_parameter: f64,
    /// Equal blocks between which the model may be cut, for systems that want stages of equal blocks; 0 if anywhere.
    pub cut_points: u32,
    /// Share of the speed that redundant computing costs, below 1.
    pub redundancy_overhead: f64,
    /// Parameters of every layer, first to last.
    pub layers: Vec<f64>,
    /// Time of one transfer between two machines.
    pub network: Network,
    /// Layouts that may be chosen, by machines, then by pipelines.
    layouts: Vec<Layout>,
    /// Samples per second of every measured layout.
    rates: BTreeMap<Layout, f64>,
    /// The same of layouts beside them.
    shapes: BTreeMap<Layout, f64>,
    /// Whether those count.
    shaped: bool,
    /// GPUs of a machine, and if there are several, what each layout of machines is in GPUs.
    gpus: u32,
    on_gpus: BTreeMap<Layout, Layout>,
    fingerprint: u64,
}

impl Profile {
    /// The built-in profile of that name.
    ///
    /// # Errors
    /// Names what there is.
    ///
    /// # Examples
    /// ```
    /// use dunlin_spot::{Layout, profile::Profile};
    /// let bert = Profile::built_in("bert").unwrap();
    /// assert_eq!(bert.best(30), Layout::new(10, 3));
    /// assert_eq!(bert.best(1), Layout::IDLE); // it needs two machines
    /// ```
    pub fn built_in(name: &str) -> Result<Profile> {
        let known = BUILT_IN.iter().find(|(known, _)| *known == name);
        let names = BUILT_IN.map(|(name, _)| name).join(", ");
        let (_, text) = known.ok_or_else(|| {
            Error::usage(format!("model {name} is not known; there are {names}, others by --profile FILE"))
        })?;
        let mut profile = Profile::parse(text, name)?;
        profile.shapes =
            shapes::built_in(name).map_err(|what| Error::data(format!("profile {name}: {what}")))?;
        Ok(profile)
    }

    /// Reads a profile from JSON. `place` is named in errors.
    ///
    /// The object has `name`, `global_batch`, `micro_batch`, `layers` (rows `{"count", "parameters"}`) and `throughput` (rows
    /// `[pipelines, stages, samples per second]`, 0 for a layout that does not fit); it may have `description`, `source`, `dollars_per_hour`, `allowed`,
    /// `costs`, `bytes_per_parameter` (default 12), `cut_points`, `redundancy_overhead`, `network` (rows `[bytes, microseconds]`, default 10 Gb/s) and
    /// `shapes` (samples per second by words like `3x7+1x9`: layouts that [`Profile::with_shapes`] adds).
    ///
    /// # Errors
    /// Text that is no such object, numbers that cannot be, no layout at all.
    pub fn parse(text: &str, place: &str) -> Result<Profile> {
        let file: File =
            serde_json::from_str(text).map_err(|error| Error::data(format!("profile {place}: {error}")))?;
        Profile::check(file, text).map_err(|what| Error::data(format!("profile {place}: {what}")))
    }

    /// Reads a profile in either form: JSON ([`Profile::parse`]) or the table of `dunlin spot profile --csv`, whose costs, layers
    /// and prices are those of the built-in profile of that model if there is one (`model` says which rows to take), else the
    /// default costs and states of no size.
    ///
    /// # Errors
    /// As [`Profile::parse`]; a row that is no row, with its line.
    pub fn read(text: &str, place: &str, model: Option<&str>) -> Result<Profile> {
        if text.trim_start().starts_with('{') {
            return Profile::parse(text, place);
        }
        table::parse(text, model)
            .and_then(|file| Profile::check(file, text))
            .map_err(|what| Error::data(format!("profile {place}: {what}")))
    }

    fn check(file: File, text: &str) -> std::result::Result<Profile, String> {
        if file.global_batch == 0 || file.micro_batch == 0 {
            return Err("global_batch and micro_batch are at least 1".into());
        }
        file.costs.check()?;
        file.network.check()?;
        file.dollars_per_hour.check()?;
        if !parts::is_amount(file.bytes_per_parameter) {
            return Err(format!(
                "bytes_per_parameter is {}, 0 to {:e} is wanted",
                file.bytes_per_parameter,
                parts::MOST
            ));
        }
        if !(0.0..1.0).contains(&file.redundancy_overhead) {
            return Err(format!(
                "redundancy_overhead is {}, at least 0 and below 1 is wanted",
                file.redundancy_overhead
            ));
        }
        let layers = parts::expand(&file.layers, MAX_LAYERS)?;
        let rates = rates(&file.throughput)?;
        let mut layouts: Vec<Layout> =
            rates.keys().copied().filter(|&layout| file.allowed.holds(layout)).collect();
        if layouts.is_empty() {
            return Err(
                "no layout of the table is allowed and trains; `allowed` lists stages and min_pipelines"
                    .into(),
            );
        }
        if let Some(deep) = layouts.iter().find(|layout| layout.stages as usize > layers.len()) {
            return Err(format!(
                "layout {deep} has more stages than the model has layers ({})",
                layers.len()
            ));
        }
        sort(&mut layouts);
        let mut shapes = shapes::check(&file.shapes, layers.len())?;
        shapes.retain(|layout, _| !rates.contains_key(layout));
        Ok(Profile {
            name: file.name,
            description: file.description,
            source: file.source,
            global_batch: file.global_batch,
            micro_batch: file.micro_batch,
            dollars_per_hour: file.dollars_per_hour,
            costs: file.costs,
            bytes_per_parameter: file.bytes_per_parameter,
            cut_points: file.cut_points,
            redundancy_overhead: file.redundancy_overhead,
            layers,
            network: file.network,
            layouts,
            rates,
            shapes,
            shaped: false,
            gpus: 1,
            on_gpus: BTreeMap::new(),
            fingerprint: crate::fingerprint(text.as_bytes()),
        })
    }

    /// With the layouts that nobody measured: for the models with a table of layers other numbers of stages and pipelines of two depths,
    /// simulated ([`crate::pipeline::shapes()`]). All of one depth may be chosen then, and of two those that train nearly as
    /// much as anything on as many machines.
    ///
    /// # Examples
    /// ```
    /// use dunlin_spot::{Layout, profile::Profile};
    /// let gpt = Profile::built_in("gpt-6.7b").unwrap();
    /// assert_eq!(gpt.best(19), Layout::new(1, 16)); // as measured
    /// assert_eq!(gpt.with_shapes().best(31), Layout::mixed((1, 13), (1, 18)));
    /// ```
    pub fn with_shapes(&self) -> Profile {
        let mut profile = Profile { shaped: true, ..self.clone() };
        let measured = self.without_shapes().layouts;
        profile.layouts = shapes::worth(&measured, &self.shapes, |layout| profile.samples_per_second(layout));
        profile
    }

    /// Without them.
    pub fn without_shapes(&self) -> Profile {
        let mut profile = Profile { shaped: false, ..self.clone() };
        profile.layouts.retain(|layout| !self.shapes.contains_key(layout));
        profile
    }

    /// Layouts that may be chosen, by machines, then by pipelines. Never empty.
    pub fn layouts(&self) -> &[Layout] {
        &self.layouts
    }

    /// Every measured layout with its samples per second.
    pub fn measured(&self) -> Vec<(Layout, f64)> {
        self.rates.iter().map(|(&layout, &rate)| (layout, rate)).collect()
    }

    /// Samples per second of a layout, measured or, with shapes, simulated; 0 if it is neither or idle.
    pub fn samples_per_second(&self, layout: Layout) -> f64 {
        let simulated = || self.shapes.get(&layout).filter(|_| self.shaped);
        self.rates.get(&layout).or_else(simulated).copied().unwrap_or(0.0)
    }

    /// The layout of most samples per second on `machines` machines; idle if none fits. Of equals the one of more
    /// machines, as the published plans do.
    pub fn best(&self, machines: u32) -> Layout {
        let mut best = (Layout::IDLE, 0.0);
        for &layout in self.layouts.iter().filter(|layout| layout.machines() <= machines) {
            if self.samples_per_second(layout) > 0.0 && self.samples_per_second(layout) >= best.1 {
                best = (layout, self.samples_per_second(layout));
            }
        }
        best.0
    }

    /// The fewest machines any layout needs.
    pub fn fewest_machines(&self) -> u32 {
        self.layouts[0].machines()
    }

    /// The layers of every stage when they are cut into `stages` near-equal contiguous runs, the longer ones first. Where a machine has
    /// several GPUs, those of every machine: the stages of its GPUs.
    pub fn cut(&self, stages: u32) -> Vec<std::ops::Range<usize>> {
        let (count, machines, gpus) = (self.layers.len(), stages.max(1) as usize, self.gpus as usize);
        let stages = if gpus > 1 { self.stages_on(stages.max(1)) as usize } else { machines };
        let (each, longer) = (count / stages, count % stages);
        let start = |machine: usize| {
            let stage = (machine * gpus).min(stages);
            stage * each + stage.min(longer)
        };
        (0..machines).map(|machine| start(machine)..start(machine + 1)).collect()
    }

    /// Bytes of state of a run of layers.
    pub fn bytes(&self, layers: std::ops::Range<usize>) -> f64 {
        self.layers[layers].iter().sum::<f64>() * self.bytes_per_parameter
    }

    /// A number that changes with the text of the profile.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }
}

/// By machines, then by pipelines.
fn sort(layouts: &mut [Layout]) {
    layouts.sort_by_key(|layout| (layout.machines(), layout.all_pipelines(), *layout));
}

/// The table of throughput, checked.
fn rates(rows: &[(u32, u32, f64)]) -> std::result::Result<BTreeMap<Layout, f64>, String> {
    let mut rates = BTreeMap::new();
    for &(pipelines, stages, rate) in rows {
        let machines = u64::from(pipelines) * u64::from(stages);
        if machines == 0 || machines > u64::from(MAX_MACHINES) {
            return Err(format!(
                "layout {pipelines}x{stages} has {machines} machines, 1 to {MAX_MACHINES} is wanted"
            ));
        }
        if rate != 0.0 && !(SLOWEST..=FASTEST).contains(&rate) {
            return Err(format!(
                "layout {pipelines}x{stages} trains {rate} samples/s, 0 (it does not fit) or {SLOWEST:e} to {FASTEST:e} is wanted"
            ));
        }
        if rates.insert(Layout::new(pipelines, stages), rate).is_some() {
            return Err(format!("layout {pipelines}x{stages} is in the throughput table twice"));
        }
    }
    // What does not train is as if it had never been measured; it was kept so far to find it listed twice.
    rates.retain(|_, rate| *rate > 0.0);
    Ok(rates)
}
