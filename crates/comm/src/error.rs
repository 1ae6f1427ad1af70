//! What can go wrong between ranks.

use serde::{Deserialize, Serialize};

/// Results of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// The first rank that was lost: who, why, and what it held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// The rank that was lost.
    pub rank: usize,
    /// Why: "its connection closed", "no sign of life for 3.0 s", "it panicked: ...".
    pub cause: String,
    /// What it was doing or held, as it last said itself with [`crate::Comm::describe`]; may be empty.
    pub held: String,
    /// The exit status for everybody: [`Lost::GONE`], or what the rank's own body failed with.
    pub status: u8,
}

impl Lost {
    /// The exit status where a rank is gone without a word of its own.
    pub const GONE: u8 = 4;
}

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "rank {} was lost: {}", self.rank, self.cause)?;
        if !self.held.is_empty() {
            write!(f, "; it held {}", self.held)?;
        }
        Ok(())
    }
}

/// An error of the communication floor.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A rank is gone: every wait on every other rank ends with the first loss.
    #[error("{0}")]
    Lost(Lost),
    /// A wait passed its deadline.
    #[error("waited {seconds:.1} s for {whom} ({what}); no answer{standing}")]
    Timeout {
        /// Whom the wait was for: "rank 3", "any rank".
        whom: String,
        /// What it was for: "barrier", "channel 5".
        what: String,
        /// How long, in seconds.
        seconds: f64,
        /// Who is to blame, as far as it is known: "; rank 3 (lane 5 at clock 12) moved last 120.0 s ago".
        standing: String,
    },
    /// A peer sent something that this program does not understand.
    #[error("rank {from} sent a bad message: {what}")]
    BadMessage {
        /// The sender.
        from: usize,
        /// What was wrong.
        what: String,
    },
    /// Bytes that are no frame.
    #[error("bad frame: {0}")]
    BadFrame(String),
    /// The cluster could not be formed.
    #[error("cannot form the cluster: {0}")]
    Launch(String),
    /// The operating system refused.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The rank's own body failed; carries the message.
    #[error("{0}")]
    Body(String),
    /// The rank's own body failed, and says with which status the program is to end.
    #[error("{text}")]
    Failed {
        /// The exit status.
        status: u8,
        /// The message.
        text: String,
    },
}

impl Error {
    /// The exit status of a program that ends with this error: that of the rank that failed first, wherever it
    /// is; [`Lost::GONE`] if one is gone; else 1.
    pub fn status(&self) -> u8 {
        match self {
            Error::Lost(lost) => lost.status,
            Error::Failed { status, .. } => *status,
            _ => 1,
        }
    }

    /// An [`Error::Io`] that says what was tried.
    pub fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Error {
        let what = what.into();
        move |source| Error::Io { what, source }
    }
}
