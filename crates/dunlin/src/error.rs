//! What can go wrong, sorted by whose fault it is; the command line turns the sort into an exit code.

/// Results of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of the library.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting or argument that cannot be: place, what was given, what is allowed. Exit code 2.
    #[error("{0}")]
    Usage(String),
    /// Input data that cannot be used: file, line, what is wrong, what is allowed. Exit code 2.
    #[error("{0}")]
    Data(String),
    /// The run was asked to stop; it can be resumed. Exit code 3.
    #[error("{0}")]
    Interrupted(String),
    /// A rank was lost, or the cluster could not be formed. Exit code 4 for a loss.
    #[error(transparent)]
    Comm(#[from] dunlin_comm::Error),
    /// The objective is no number or explodes; says which setting to change. Exit code 5.
    #[error("{0}")]
    Diverged(String),
    /// The operating system refused.
    #[error("{what}: {source}")]
    Io {
        /// What was tried, with the path.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file of ours that is damaged or of another version.
    #[error("{0}")]
    Damaged(String),
}

impl Error {
    /// An [`Error::Io`] that says what was tried.
    pub fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Error {
        let what = what.into();
        move |source| Error::Io { what, source }
    }

    /// The exit status of a program that ends with this error: 2 usage or input data, 3 interrupted and resumable,
    /// 4 a rank was lost, 5 diverged, 1 anything else.
    pub fn status(&self) -> u8 {
        match self {
            Error::Usage(_) | Error::Data(_) => 2,
            Error::Interrupted(_) => 3,
            Error::Diverged(_) => 5,
            Error::Comm(error) => error.status(),
            Error::Io { .. } | Error::Damaged(_) => 1,
        }
    }
}

impl From<Error> for dunlin_comm::Error {
    /// What a rank's body hands down: text and status, for the other ranks and the last line.
    fn from(error: Error) -> dunlin_comm::Error {
        match error {
            Error::Comm(error) => error,
            other => dunlin_comm::Error::Failed { status: other.status(), text: other.to_string() },
        }
    }
}
