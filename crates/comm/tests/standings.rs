//! A wait lasts while the rank it is for gets on, and names it if it does not.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use dunlin_comm::cluster::{Job, run_sim};
use dunlin_comm::{Channel, Cluster, Comm, Doing, Error, Message, Processes, Result, SimConfig, child, job};
use serde::{Deserialize, Serialize};
use std::time::Duration;

const STALL: Duration = Duration::from_secs(3);

/// Rank `waiter` waits with a stall timeout of 3 s for rank 1, which answers after 5 s. Meanwhile rank 1 says now and
/// then what it does, or nothing at all.
#[derive(Serialize, Deserialize)]
struct Slow {
    waiter: usize,
    moves: bool,
}

impl Job for Slow {
    const NAME: &'static str = "slow";
    type Out = ();
    fn body(&self, comm: &mut Comm) -> Result<()> {
        comm.barrier()?;
        if comm.rank() == 1 {
            for clock in 0..10 {
                if self.moves || clock == 0 {
                    comm.describe(&format!("lane 5 at clock {clock}"));
                }
                comm.pause(Duration::from_millis(500));
            }
            return comm.send(self.waiter, Channel::USER, Message::default());
        }
        if comm.rank() == self.waiter {
            comm.set_stall_timeout(STALL);
            return comm.recv(Channel::USER, Some(1), "an answer").map(drop);
        }
        Ok(())
    }
}

#[test]
fn entry() {
    child(&[job::<Slow>()]);
}

fn check(cluster: &Cluster) {
    for waiter in [0, 2] {
        std::thread::scope(|scope| {
            scope.spawn(move || cluster.run(&Slow { waiter, moves: true }).unwrap());
            let error = cluster.run(&Slow { waiter, moves: false }).unwrap_err().to_string();
            assert!(error.contains("for rank 1 (an answer)"), "waiter {waiter}: {error}");
            assert!(error.contains("rank 1 (lane 5 at clock 0) moved last"), "waiter {waiter}: {error}");
        });
    }
}

#[test]
fn while_it_moves_on_threads() {
    check(&Cluster::Threads(3));
}

#[test]
fn while_it_moves_in_other_processes() {
    let arguments = ["--exact", "entry", "--nocapture"].map(String::from).to_vec();
    check(&Cluster::Processes(Processes { arguments, ..Processes::new(3) }));
}

#[test]
fn while_it_moves_in_the_simulator() {
    for seed in 0..50 {
        check(&Cluster::Sim(SimConfig::new(3, seed)));
    }
}

#[test]
fn the_slowest_rank_is_named_to_who_waits_for_another() {
    // Rank 0 waits for rank 1, which cannot answer before rank 2 is done.
    let body = |comm: &mut Comm| {
        comm.set_stall_timeout(if comm.rank() == 0 { STALL } else { 100 * STALL });
        comm.barrier()?;
        match comm.rank() {
            0 => comm.recv(Channel::USER, Some(1), "a row").map(drop),
            1 => {
                (0..9).for_each(|_| comm.describe("a shard"));
                comm.recv(Channel::USER, Some(2), "a commit")?;
                comm.send(0, Channel::USER, Message::default())
            }
            _ => {
                comm.describe("lane 2 at clock 4");
                comm.pause(2 * STALL);
                comm.send(1, Channel::USER, Message::default())
            }
        }
    };
    for cluster in [Cluster::Threads(3), Cluster::Sim(SimConfig::new(3, 7))] {
        let error = cluster.run_closure(body).unwrap_err();
        assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("for rank 1 (a row)"), "{text}");
        assert!(text.contains("rank 2 (lane 2 at clock 4) has made the least progress"), "{text}");
    }
}

#[test]
fn standings_tell_who_works_waits_and_has_ended() {
    let (outcome, _) = run_sim(&SimConfig::new(4, 3), |comm| {
        match comm.rank() {
            0 => comm.compute(Duration::from_secs(2)),
            1 => comm.describe("a shard"),
            2 => return Ok(()),
            _ => comm.compute(Duration::from_secs(9)),
        }
        if comm.rank() == 1 {
            comm.recv(Channel::USER, Some(0), "the end")?;
        } else if comm.rank() == 0 {
            comm.poll()?; // at two seconds
            let standings: Vec<_> = comm.standings().into_iter().map(|s| (s.rank, s.doing, s.held)).collect();
            let expected = [(1, Doing::Waits, "a shard"), (2, Doing::Ended, ""), (3, Doing::Works, "")]
                .map(|(r, d, h)| (r, d, h.into()));
            assert_eq!(standings, expected);
            assert_eq!(comm.slowest().map(|s| s.rank), Some(3));
            comm.send(1, Channel::USER, Message::default())?;
        }
        Ok(())
    });
    outcome.unwrap();
}
