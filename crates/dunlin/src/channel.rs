//! The channels of a run, all in one place so that no two are the same.

use dunlin_comm::Channel;

/// Shards to workers: values and sums.
pub const FROM_SHARD: Channel = Channel(Channel::USER.0);
/// Between rank 0 and dedicated server ranks: start at a clock, ready, stop.
pub const CONTROL: Channel = Channel(Channel::USER.0 + 1);
/// To rank 0: a rank's part of a checkpoint is on the disk.
pub const SAVED: Channel = Channel(Channel::USER.0 + 2);
/// On which nothing comes: to wait, and answer meanwhile.
pub const NEVER: Channel = Channel(Channel::USER.0 + 3);
/// Wakes a rank that holds before a stop.
pub const WAKE: Channel = Channel(Channel::USER.0 + 4);
/// Row blocks that go round: whoever receives one has it, and passes it on.
pub const ROTATION: Channel = Channel(Channel::KEPT.0);
/// Lanes on their way to another worker.
pub const MOVE: Channel = Channel(Channel::USER.0 + 7);
/// The features that a worker touches.
pub const REACH: Channel = Channel(Channel::USER.0 + 8);
/// Partial sums of variables.
pub const SCHEDULE: Channel = Channel(Channel::USER.0 + 6);
