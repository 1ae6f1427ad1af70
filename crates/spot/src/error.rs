//! What can be wrong with what the user gives.

/// Results of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of planning. Every text says the place, what was given, what is wrong and what is allowed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// A setting that cannot be: a number of machines, a horizon, a policy's name.
    #[error("{0}")]
    Usage(String),
    /// A trace, a profile or a layer table that cannot be used.
    #[error("{0}")]
    Data(String),
}

impl Error {
    /// [`Error::Usage`] from a text.
    pub fn usage(text: impl Into<String>) -> Error {
        Error::Usage(text.into())
    }

    /// [`Error::Data`] from a text.
    pub fn data(text: impl Into<String>) -> Error {
        Error::Data(text.into())
    }
}
