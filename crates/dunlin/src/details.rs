//! What a model tells a person about itself: `dunlin models NAME` prints it. Types and defaults are not said here;
//! they are those of the model's `Config`.

/// A field of a model's `Config`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its name, as in `--set NAME=VALUE`.
    pub name: &'static str,
    /// The values it may take, with their unit if they have one.
    pub range: &'static str,
    /// What it decides.
    pub meaning: &'static str,
}

/// A shared table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableNote {
    /// Its name, as in `--strategy ssp:4,NAME=0` and in `model.safetensors`.
    pub name: &'static str,
    /// How many rows of how many elements, in words.
    pub shape: &'static str,
    /// What a row holds.
    pub meaning: &'static str,
}

/// A metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricNote {
    /// Its name, as in `--until NAME<=X`.
    pub name: &'static str,
    /// Its formula or meaning, with unit and where its optimum is.
    pub meaning: &'static str,
    /// True if it is there only with `--test`.
    pub needs_test: bool,
}

/// All that a person may want to know before training a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// All fields of `Config`, in its order.
    pub settings: &'static [Setting],
    /// All shared tables that it may have.
    pub tables: &'static [TableNote],
    /// All metrics that it may have.
    pub metrics: &'static [MetricNote],
    /// What a line of `dunlin predict` holds.
    pub predicts: &'static str,
    /// A command line that runs as it stands.
    pub example: &'static str,
}

impl Details {
    /// Nothing is told.
    pub const NONE: Details = Details { settings: &[], tables: &[], metrics: &[], predicts: "", example: "" };
}
