//! Services: what they send arrives in the order in which they made it, whoever called them.

#![allow(clippy::unwrap_used, reason = "a test")]

use dunlin_comm::{Buffer, Channel, Cluster, Comm, Message, Outbox, Result, Service};

const REPLIES: Channel = Channel(Channel::USER.0 + 7);

/// Tells rank 0 how many messages it has had.
struct Counter(u64);

impl Service for Counter {
    fn handle(&mut self, _: Message, out: &mut Outbox) -> Result<()> {
        self.0 += 1;
        out.push((0, REPLIES, Message::new(&self.0, Buffer::new())));
        Ok(())
    }
}

#[test]
fn replies_keep_their_order_whoever_asked() {
    let calls = 5000;
    let body = |comm: &mut Comm| {
        if comm.rank() == 0 {
            comm.install(Box::new(Counter(0)));
        }
        comm.barrier()?;
        for _ in 0..calls {
            comm.call(0, Message::default())?;
        }
        let mut last = 0u64;
        while comm.rank() == 0 && last < 3 * calls {
            let count: u64 = comm.recv(REPLIES, None, "a count")?.head()?;
            assert_eq!(count, last + 1, "a reply overtook another");
            last = count;
        }
        comm.barrier()
    };
    Cluster::Threads(3).run_closure(body).unwrap();
}
