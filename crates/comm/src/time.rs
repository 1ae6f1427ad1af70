//! Time: the only place that reads a clock.
//!
//! A [`Time`] counts nanoseconds since the cluster started, on the wall clock or in the simulator's virtual
//! time; which of the two is the link's business. Nothing above it can tell.

use std::ops::{Add, Sub};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// An instant, in nanoseconds since the cluster started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub u64);

impl Time {
    /// An instant that never comes.
    pub const NEVER: Time = Time(u64::MAX);

    /// Seconds since the cluster started.
    pub fn seconds(self) -> f64 {
        self.0 as f64 * 1e-9
    }

    /// The instant `seconds` after the start.
    pub fn from_seconds(seconds: f64) -> Time {
        Time((seconds * 1e9) as u64)
    }

    /// Time since `earlier`; zero if `earlier` is later.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Time;
    fn add(self, duration: Duration) -> Time {
        Time(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Time> for Time {
    type Output = Duration;
    fn sub(self, earlier: Time) -> Duration {
        self.since(earlier)
    }
}

/// A running wall clock whose zero is the moment it was started.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// Starts a clock.
    #[expect(clippy::disallowed_methods, reason = "this is the place that reads the clock")]
    pub fn start() -> Clock {
        Clock(Instant::now())
    }

    /// The time since the start.
    pub fn now(&self) -> Time {
        Time(self.0.elapsed().as_nanos() as u64)
    }
}

/// Seconds since 1970, for names and records; never used to order or to wait.
#[expect(clippy::disallowed_methods, reason = "this is the place that reads the clock")]
pub fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// Sleeps for `duration` of wall-clock time. For links, tests and straggler injection, not for rank code.
#[expect(clippy::disallowed_methods, reason = "this is the place that waits on the clock")]
pub fn sleep(duration: Duration) {
    std::thread::sleep(duration)
}
