//! What a worker sends to shards: at the end of a clock, and before it.

use super::early::{most_important, set_aside};
use super::{Own, ParameterServer};
use crate::Result;
use crate::codec::Part;
use crate::strategy::server::ToShard;
use crate::table::Params;
use crate::update::Afterwards;
use dunlin_comm::collective::Node;
use dunlin_comm::{Comm, Message};

impl ParameterServer {
    /// What `lane` has written, by shard.
    pub(super) fn take(&mut self, params: &mut Params, lane: usize, afterwards: Afterwards) -> Vec<Part> {
        let (shards, carry) = (self.shard_ranks.len(), &mut self.carries[lane - self.hosted.start]);
        params.take_rounded(&self.geometry, shards, afterwards, carry, &mut self.spare)
    }

    /// Packs `part`; gives what the message's head needs, and its body.
    fn pack(&mut self, part: Part) -> Part {
        self.report.update_bytes[0] += part.dense_bytes(&self.geometry) as u64;
        let part = part.packed(&self.formats, &self.geometry);
        self.report.update_bytes[1] += part.body.len() as u64;
        part
    }

    pub(super) fn send(
        &mut self,
        comm: &mut Comm,
        shard: usize,
        lanes: Node,
        clock: u64,
        part: Part,
    ) -> Result<()> {
        let Part { entries, body } = self.pack(part);
        if let Some(budget) = &mut self.budget {
            budget.spend(comm, body.len());
            budget.numbers[shard] = 0;
            self.report.managed.clock_bytes += body.len() as u64;
        }
        let head = ToShard::Push { shard: shard as u16, lanes, clock, entries };
        Ok(comm.call(self.shard_ranks[shard], Message::shared(&head, body))?)
    }

    /// Sends what is most important of what `lane` has written so far, within `bytes`.
    pub(super) fn send_early(
        &mut self,
        comm: &mut Comm,
        params: &mut Params,
        (lane, clock): (usize, u64),
        bytes: f64,
    ) -> Result<()> {
        let chosen = most_important(params, &self.formats, bytes);
        if chosen.iter().all(Vec::is_empty) {
            return Ok(());
        }
        let others = set_aside(params, &chosen);
        let parts = self.take(params, lane, Afterwards::Keep);
        params.replicas.iter_mut().zip(others).for_each(|(replica, others)| replica.touched = others);
        for (shard, part) in parts.into_iter().enumerate().filter(|(_, part)| !part.entries.is_empty()) {
            let Some(budget) = &mut self.budget else { return Ok(()) };
            let number = budget.numbers[shard];
            budget.numbers[shard] += 1;
            self.unconfirmed[shard].push(Own { lane, clock, number, part: part.clone() });
            let Part { entries, body } = self.pack(part);
            self.report.managed.early_bytes += body.len() as u64;
            self.budget.iter_mut().for_each(|budget| budget.spend(comm, body.len()));
            let head = ToShard::Early { shard: shard as u16, lane: lane as u32, clock, number, entries };
            comm.call(self.shard_ranks[shard], Message::shared(&head, body))?;
        }
        Ok(())
    }
}
