//! The simulator: it replays, it models the network, and nothing that goes wrong in it ends in silence.

#![allow(clippy::unwrap_used, reason = "a test")]

use dunlin_comm::cluster::run_sim;
use dunlin_comm::collective::Op;
use dunlin_comm::link::sim::Report;
use dunlin_comm::time::Clock;
use dunlin_comm::{
    Buffer, Channel, Cluster, Comm, Error, Fault, Lost, Message, Network, Outbox, Result, Service, SimConfig,
    Stragglers, Time,
};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

const MAIL: Channel = Channel::USER;

fn message(values: &[u64]) -> Message {
    Message::new(&(), Buffer::from(values))
}

/// A network without jitter, and ranks without it.
fn exact(ranks: usize) -> SimConfig {
    let network = Network { jitter: 0.0, ..Network::default() };
    SimConfig { network, compute_jitter: 0.0, ..SimConfig::new(ranks, 1) }
}

/// Adds up what it is sent and answers with the sum so far.
#[derive(Default)]
struct Adder(u64);

impl Service for Adder {
    fn handle(&mut self, message: Message, out: &mut Outbox) -> Result<()> {
        self.0 += message.head::<u64>()?;
        out.push((message.from, MAIL, Message::new(&self.0, Buffer::new())));
        Ok(())
    }
}

/// Some of everything that a rank may do: compute, send, receive from one and from any, look, call a service,
/// reduce. Returns a number that depends on all of it but not on the order of events.
fn mixed(comm: &mut Comm, rounds: u64) -> Result<u64> {
    let (rank, size) = (comm.rank(), comm.size());
    comm.install(Box::new(Adder::default()));
    comm.barrier()?;
    let (mut total, mut letters) = (0, 0);
    for round in 0..rounds {
        comm.describe(&format!("round {round}"));
        comm.compute(Duration::from_micros(100 + 137 * ((rank as u64 + round) % 5)));
        let bulk = vec![round + rank as u64; 1 + 100 * ((rank + round as usize) % 7)];
        comm.send((rank + 1) % size, Channel(20), message(&bulk))?;
        comm.call((rank + round as usize) % size, Message::new(&(round + 1), Buffer::new()))?;
        while comm.try_recv(Channel(21), None)?.is_some() {
            letters += 1; // how many are there by now depends on the order
        }
        let got = comm.recv(Channel(20), Some((rank + size - 1) % size), "the neighbour")?;
        total += got.numbers::<u64>(0, 1)?[0];
        let _: u64 = comm.recv(MAIL, None, "the adder")?.head()?;
        comm.send((rank + 2) % size, Channel(21), message(&[1]))?;
        if round % 3 == 0 {
            let mut sum = [total, 1];
            comm.all_reduce(&mut sum, Op::Sum)?;
            assert_eq!(sum[1], size as u64);
            total = total.wrapping_mul(31).wrapping_add(sum[0] % 7);
        }
    }
    comm.barrier()?; // all small letters are under way, and links keep their order
    while comm.try_recv(Channel(21), None)?.is_some() {
        letters += 1;
    }
    Ok(total * 1000 + letters)
}

#[test]
fn one_seed_replays_to_identical_bytes_and_another_does_not() {
    let run = |seed| {
        let mut config = SimConfig::new(5, seed);
        config.record = true;
        config.stragglers = Stragglers::Random { probability: 0.2, factor: 5.0 };
        let (results, report) = run_sim(&config, |comm| mixed(comm, 9).map(|_| comm.now()));
        (results.unwrap(), report)
    };
    let (times, report) = run(7);
    assert!(report.transcript.lines().count() as u64 == report.frames_delivered);
    assert!(report.frames_delivered > 5 * 9 * 3);
    for _ in 0..3 {
        let again = run(7);
        assert_eq!(again.1.transcript.as_bytes(), report.transcript.as_bytes());
        assert_eq!(again, (times.clone(), report.clone()));
    }
    assert_ne!(run(8).1.transcript, report.transcript);
}

#[test]
fn seeds_explore_different_orders() {
    let mut orders = std::collections::BTreeSet::new();
    for seed in 0..50 {
        let (results, _) = run_sim(&SimConfig::new(4, seed), |comm| {
            if comm.rank() > 0 {
                comm.send(0, MAIL, message(&[]))?;
                return Ok(Vec::new());
            }
            (0..3).map(|_| comm.recv(MAIL, None, "anybody").map(|m| m.from)).collect::<Result<Vec<_>>>()
        });
        orders.insert(results.unwrap().swap_remove(0));
    }
    assert_eq!(orders.len(), 6, "three letters can come in six orders");
}

/// When the fault is known to all.
fn known(fault: &Fault, config: &SimConfig) -> Option<f64> {
    match fault {
        Fault::Crash { at, .. } => Some(at.seconds() + config.network.latency_seconds),
        Fault::Silence { at, .. } | Fault::Cut { at, .. } => Some(at.seconds() + 1.5),
        _ => None,
    }
}

/// What a run with faults must look like: the right result, or the loss that was known first.
fn check_outcome(seed: u64, config: &SimConfig, outcome: &Result<Vec<(u64, u64)>>, report: &Report) {
    let first = (report.fired.iter())
        .filter_map(|fault| Some((known(fault, config)?, fault)))
        .min_by(|a, b| a.0.total_cmp(&b.0));
    match (outcome, first) {
        (Ok(results), None | Some((_, Fault::Cut { .. }))) => {
            let expected = Cluster::Threads(config.ranks).run_closure(|comm| mixed(comm, 6));
            let expected = expected.expect("threads have no faults");
            let values: Vec<u64> = results.iter().map(|(value, _)| *value).collect();
            assert_eq!(values, expected, "seed {seed}");
            let duplicates: u64 = results.iter().map(|(_, duplicates)| duplicates).sum();
            assert!(duplicates <= report.frames_doubled as u64, "seed {seed}");
        }
        (Err(Error::Lost(lost)), Some((_, fault))) => {
            assert_eq!(Some(lost.rank), fault.loses(), "seed {seed}: {lost} after {:?}", report.fired);
            let cause = match fault {
                Fault::Crash { .. } => "it crashed".to_string(),
                Fault::Silence { .. } => "no sign of life for 1.5 s".to_string(),
                Fault::Cut { a, b, .. } => format!("cut off from rank {}", a.min(b)),
                _ => unreachable!("a fault that loses nobody"),
            };
            assert_eq!(lost.cause, cause, "seed {seed}");
        }
        (outcome, first) => panic!("seed {seed}: {outcome:?} after {first:?} of {:?}", report.fired),
    }
}

#[test]
fn a_thousand_seeds_with_faults_end_well_or_name_the_loss_and_replay() {
    let mut fired = BTreeMap::new();
    let (mut resent, mut doubled, mut duplicates, mut well, mut held) = (0, 0, 0, 0, 0);
    for seed in 0..1000 {
        let ranks = 3 + seed as usize % 3;
        let mut config = SimConfig::new(ranks, seed);
        config.record = true;
        config.faults = Fault::random(seed, ranks, Time::from_seconds(0.007));
        let run = || run_sim(&config, |comm| Ok((mixed(comm, 6)?, comm.counters().duplicates)));
        let (outcome, report) = run();
        check_outcome(seed, &config, &outcome, &report);
        let (again, replayed) = run();
        assert_eq!(replayed, report, "seed {seed}");
        assert_eq!(format!("{again:?}"), format!("{outcome:?}"), "seed {seed}");

        report.fired.iter().for_each(|fault| *fired.entry(fault.kind()).or_insert(0) += 1);
        (resent, doubled) = (resent + report.frames_resent, doubled + report.frames_doubled);
        match outcome {
            Ok(results) => {
                well += 1;
                duplicates += results.iter().map(|(_, duplicates)| duplicates).sum::<u64>();
            }
            Err(Error::Lost(Lost { held: text, .. })) => held += usize::from(text.starts_with("round")),
            Err(_) => {}
        }
    }
    println!("{well} ended well; fired {fired:?}; {resent} resent, {doubled} doubled, {duplicates} dropped");
    for kind in Fault::KINDS {
        assert!(fired.get(kind).is_some_and(|count| *count >= 100), "{kind} fired too rarely: {fired:?}");
    }
    assert!(resent > 100 && doubled > 100 && duplicates > 100, "{resent}, {doubled}, {duplicates}");
    assert!((300..700).contains(&well), "{well} ended well");
    assert!(held > 200, "{held} losses say what was held");
}

/// When the last of `frames` (sender, receiver), sent at once with a megabyte each, is there.
fn last_arrival(frames: &[(usize, usize)]) -> f64 {
    let (times, _) = run_sim(&exact(3), |comm| {
        let rank = comm.rank();
        for (_, to) in frames.iter().filter(|(from, _)| *from == rank) {
            let body = Buffer::zeroed(1_000_000 - dunlin_comm::wire::HEADER_BYTES);
            comm.send(*to, MAIL, Message::new(&(), body))?;
        }
        for _ in frames.iter().filter(|(_, to)| *to == rank) {
            comm.recv(MAIL, None, "a megabyte")?;
        }
        Ok(if frames.iter().any(|(_, to)| *to == rank) { comm.now().seconds() } else { 0.0 })
    });
    times.expect("nothing goes wrong").into_iter().fold(0.0, f64::max)
}

#[test]
fn bandwidth_is_shared_per_nic_and_latency_adds_up() {
    let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-8, "{a} is not {b}");
    near(last_arrival(&[(0, 2)]), 0.0081); // 8 Mbit at 1 Gbit/s and 100 µs
    near(last_arrival(&[(0, 2), (1, 2)]), 0.0161); // the receiver's NIC
    near(last_arrival(&[(0, 1), (0, 2)]), 0.0161); // the sender's
    near(last_arrival(&[(0, 2), (0, 2)]), 0.0161);
    near(last_arrival(&[(0, 1), (1, 0)]), 0.0081); // full duplex
    near(last_arrival(&[(0, 1), (1, 2), (2, 0)]), 0.0081); // the switch does not block

    let mut far = exact(2);
    far.network.latency_seconds = 0.25;
    far.network.bandwidth_bits_per_second = f64::INFINITY;
    let (times, _) = run_sim(&far, |comm| {
        for hop in 0..4 {
            match hop % 2 == comm.rank() {
                true => comm.send(1 - comm.rank(), MAIL, message(&[]))?,
                false => drop(comm.recv(MAIL, None, "the ball")?),
            }
        }
        Ok(comm.now())
    });
    assert_eq!(times.unwrap(), [Time::from_seconds(1.0), Time::from_seconds(0.75)]);
}

#[test]
fn a_straggler_takes_its_factor_of_virtual_time() {
    let mut config = exact(2);
    config.stragglers = Stragglers::Fixed(vec![(1, 4.0)]);
    let work = |comm: &mut Comm| {
        (0..100).for_each(|_| comm.compute(Duration::from_millis(1)));
        Ok(comm.now().0)
    };
    assert_eq!(run_sim(&config, work).0.unwrap(), [100_000_000, 400_000_000]);

    config.stragglers = Stragglers::Random { probability: 0.1, factor: 5.0 };
    let often = |comm: &mut Comm| {
        (0..10_000).for_each(|_| comm.compute(Duration::from_millis(1)));
        Ok(comm.now().seconds())
    };
    for seconds in run_sim(&config, often).0.unwrap() {
        assert!((13.5..14.5).contains(&seconds), "10 s, a tenth of it five times as long: {seconds}");
    }

    let (times, _) = run_sim(&SimConfig::new(2, 5), often);
    for seconds in times.unwrap() {
        assert!((9.99..10.01).contains(&seconds) && seconds != 10.0, "jitter evens out: {seconds}");
    }
}

#[test]
fn a_panic_or_an_error_frees_the_baton_and_is_the_cause_that_is_told() {
    let told = Mutex::new(Vec::new());
    let fail = |how: fn() -> Result<()>| {
        let (outcome, _) = run_sim(&SimConfig::new(3, 1), |comm| {
            if comm.rank() == 1 {
                comm.describe("lane 7");
                comm.compute(Duration::from_millis(3));
                how()?;
            }
            let waited = comm.recv(MAIL, Some(1), "a letter");
            told.lock().unwrap().push((comm.now(), waited.as_ref().unwrap_err().to_string()));
            waited
        });
        outcome.unwrap_err().to_string()
    };
    assert!(fail(|| panic!("on purpose")).contains("panicked: on purpose"));
    assert_eq!(fail(|| Err(Error::Body("no more data".into()))), "no more data");
    let told = told.into_inner().unwrap();
    assert_eq!(told.len(), 4);
    for (time, text) in &told {
        assert!(text.starts_with("rank 1 was lost: its work failed"), "{text}");
        assert!(text.ends_with("it held lane 7"), "{text}");
        assert!((0.0030..0.0033).contains(&time.seconds()), "one latency after it happened: {time:?}");
    }
}

#[test]
fn a_deadlock_is_reported_to_everybody_with_names() {
    let told = Mutex::new(Vec::new());
    let (outcome, _) = run_sim(&SimConfig::new(3, 1), |comm| {
        comm.describe(&format!("lane {}", comm.rank()));
        if comm.rank() == 2 {
            return Ok(());
        }
        let waited = comm.recv_deadline(MAIL, None, Time::NEVER);
        told.lock().unwrap().push(waited.as_ref().unwrap_err().to_string());
        waited.map(drop)
    });
    assert!(matches!(outcome, Err(Error::Timeout { .. })), "{outcome:?}");
    let told = told.into_inner().unwrap();
    assert_eq!(told.len(), 2);
    for text in told {
        for part in
            ["deadlock", "rank 0 waits", "holds lane 0", "rank 1 waits", "holds lane 1", "rank 2 ended"]
        {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
    }
}

#[test]
fn looking_for_ever_ends_in_an_error_and_looking_long_enough_finds() {
    let (outcome, _) = run_sim(&SimConfig::new(2, 1), |comm| {
        while comm.try_recv(MAIL, None)?.is_none() {}
        Ok(())
    });
    let text = outcome.unwrap_err().to_string();
    assert!(text.contains("nobody has done anything but look"), "{text}");

    let (times, _) = run_sim(&SimConfig::new(2, 1), |comm| {
        if comm.rank() == 0 {
            comm.compute(Duration::from_secs(500));
            comm.send(1, MAIL, message(&[1]))?;
        } else {
            while comm.try_recv(MAIL, None)?.is_none() {}
        }
        Ok(comm.now().seconds())
    });
    let times = times.unwrap();
    assert!(times[1] > times[0] && times[1] < times[0] * 1.001, "{times:?}");
}

#[test]
fn waits_end_at_their_virtual_deadline() {
    let (times, _) = run_sim(&SimConfig::new(2, 1), |comm| {
        let deadline = Time::from_seconds(3600.0 * (1 + comm.rank()) as f64);
        assert!(comm.recv_deadline(MAIL, None, deadline)?.is_none());
        let now = comm.now();
        comm.set_stall_timeout(Duration::from_secs(5));
        let stalled = comm.recv(MAIL, Some(1 - comm.rank()), "nothing").unwrap_err().to_string();
        assert!(stalled.contains("waited 5.0 s for rank"), "{stalled}");
        Ok(now.seconds())
    });
    assert_eq!(times.unwrap(), [3600.0, 7200.0]);
}

#[test]
fn a_rank_that_ends_early_is_not_lost_and_its_last_frames_arrive() {
    let (results, report) = run_sim(&SimConfig::new(2, 3), |comm| {
        assert!(comm.is_simulated() && !comm.shares_memory() && !comm.is_one_host());
        if comm.rank() == 0 {
            (0..50).try_for_each(|i| comm.send(1, MAIL, message(&[i])))?;
            return Ok((0, comm.bytes_sent()));
        }
        comm.compute(Duration::from_secs(1));
        let mut sum = 0;
        for _ in 0..50 {
            sum += comm.recv(MAIL, Some(0), "a number")?.numbers::<u64>(0, 1)?[0];
        }
        Ok((sum, comm.bytes_sent()))
    });
    assert_eq!(results.unwrap(), [(0, 50 * 48), (49 * 50 / 2, 0)]);
    assert_eq!(report.frames_delivered, 50);
}

#[test]
fn the_same_code_gives_the_same_results_on_threads() {
    for ranks in [1, 2, 3, 6] {
        let body = |comm: &mut Comm| mixed(comm, 7);
        let threads = Cluster::Threads(ranks).run_closure(body).unwrap();
        let cluster = Cluster::Sim(SimConfig::new(ranks, 11));
        assert_eq!(cluster.ranks(), ranks);
        assert_eq!(cluster.run_closure(body).unwrap(), threads);
    }
}

#[test]
fn a_bad_configuration_is_refused() {
    let outcome = Cluster::Sim(SimConfig::new(0, 1)).run_closure(|_| Ok(()));
    assert!(matches!(outcome, Err(Error::Launch(_))), "{outcome:?}");
}

/// When rank 1 receives each of the megabytes that rank 0 sends at these milliseconds.
fn arrivals(fault: Fault, sent: &[u64]) -> Vec<f64> {
    let config = SimConfig { faults: vec![fault], ..exact(2) };
    let (times, report) = run_sim(&config, |comm| {
        let mut times = Vec::new();
        for at in sent {
            if comm.rank() == 1 {
                comm.recv(MAIL, Some(0), "a megabyte")?;
                times.push(comm.now().seconds());
                continue;
            }
            let wait = Time(at * 1_000_000).since(comm.now());
            comm.compute(wait);
            let body = Buffer::zeroed(1_000_000 - dunlin_comm::wire::HEADER_BYTES);
            comm.send(1, MAIL, Message::new(&(), body))?;
        }
        match comm.rank() {
            // Rank 0 stays until all is there: who has ended has no connections that could break.
            0 => drop(comm.recv(MAIL, Some(1), "the thanks")?),
            _ => comm.send(0, MAIL, message(&[]))?,
        }
        Ok(times)
    });
    assert_eq!(report.fired, config.faults);
    times.expect("nobody is lost").swap_remove(1)
}

#[test]
fn delay_and_reconnect_move_frames_by_what_they_say() {
    let near = |got: Vec<f64>, expected: &[f64]| {
        let close = got.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-8);
        assert!(close && got.len() == expected.len(), "{got:?} is not {expected:?}");
    };
    let (from, until) = (Time(0), Time(1_000_000));
    let late = Fault::Delay { a: 1, b: 0, from, until, extra_seconds: 1.0 };
    near(arrivals(late, &[0, 2]), &[1.0081, 1.0161]); // the second is on time, but must not overtake
    let broken = Fault::Reconnect { a: 1, b: 0, at: Time(4_000_000) };
    near(arrivals(broken.clone(), &[0]), &[0.0161]); // half of it was wasted, and the NIC's time for the rest
    near(arrivals(broken, &[5]), &[0.0131]); // not yet sent
    let doubling = Fault::Reconnect { a: 1, b: 0, at: Time(50_000_000) };
    near(arrivals(doubling, &[0, 51]), &[0.0081, 0.0662]); // a handshake and the first once more
}

#[test]
fn nothing_leaves_a_rank_after_it_stopped_and_it_is_told_when_the_run_ends() {
    for (fault, cause) in [
        (Fault::Crash { rank: 0, at: Time(5_000_000) }, "it crashed"),
        (Fault::Silence { rank: 0, at: Time(5_000_000) }, "no sign of life"),
    ] {
        let mut config = exact(2);
        config.record = true;
        config.network.latency_seconds = 0.5;
        config.faults = vec![fault];
        let seen = Mutex::new(0);
        let (outcome, report) = run_sim(&config, |comm| {
            if comm.rank() == 0 {
                comm.send(1, MAIL, message(&[1]))?;
                comm.compute(Duration::from_millis(10)); // stopped in the middle of it
                comm.send(1, MAIL, message(&[2]))?;
                comm.recv(MAIL, Some(1), "an answer")?;
                *seen.lock().unwrap() += 1;
                return Ok(());
            }
            comm.recv(MAIL, Some(0), "what was sent before")?;
            comm.send(0, MAIL, message(&[3]))?;
            comm.recv(MAIL, Some(0), "what was sent after").map(drop)
        });
        assert_eq!(*seen.lock().unwrap(), 0, "a rank that has stopped sees nothing");
        assert_eq!(report.transcript.lines().filter(|line| line.contains(" 0>1 ")).count(), 1);
        let text = outcome.expect_err("rank 0 is lost").to_string();
        assert!(text.starts_with(&format!("rank 0 was lost: {cause}")), "{text}");
    }
}

#[test]
fn a_look_sees_all_that_happened_up_to_now() {
    let mut config = exact(2);
    config.network =
        Network { bandwidth_bits_per_second: f64::INFINITY, latency_seconds: 0.001, jitter: 0.0 };
    let (found, _) = run_sim(&config, |comm| {
        if comm.rank() == 0 {
            comm.compute(Duration::from_millis(1));
            comm.send(1, MAIL, message(&[]))?;
            return Ok([false; 2]);
        }
        comm.compute(Duration::from_nanos(1_990_000));
        let early = comm.try_recv(MAIL, None)?.is_some();
        let rest = Time(2_000_000).since(comm.now());
        comm.compute(rest);
        Ok([early, comm.try_recv(MAIL, None)?.is_some()])
    });
    assert_eq!(found.unwrap()[1], [false, true]);
}

#[test]
fn a_cut_between_ranks_that_have_ended_harms_nobody() {
    let cut = |at| {
        let mut config = SimConfig::new(3, 1);
        config.faults = vec![Fault::Cut { a: 1, b: 2, at: Time::from_seconds(at) }];
        run_sim(&config, |comm| {
            comm.compute(Duration::from_secs(if comm.rank() == 0 { 10 } else { 1 }));
            comm.poll()
        })
    };
    for (at, fired) in [(0.5, 1), (5.0, 0)] {
        let (outcome, report) = cut(at);
        assert!(outcome.is_ok(), "{outcome:?}");
        assert_eq!(report.fired.len(), fired);
    }
}

/// Prints what a hand-over costs: `cargo test -p dunlin-comm --test sim -- --ignored --nocapture`.
#[test]
#[ignore = "prints a measurement"]
fn hand_over_cost() {
    for ranks in [2, 8, 64] {
        let laps = 20_000 / ranks;
        let clock = Clock::start();
        let (outcome, report) = run_sim(&SimConfig::new(ranks, 1), |comm| {
            for lap in 0..laps {
                if comm.rank() > 0 || lap > 0 {
                    comm.recv(MAIL, None, "the ball")?;
                }
                comm.send((comm.rank() + 1) % ranks, MAIL, message(&[]))?;
            }
            Ok(())
        });
        outcome.unwrap();
        let micros = clock.now().seconds() * 1e6 / report.hand_overs as f64;
        println!("{ranks} ranks: {micros:.2} µs a hand-over, {} hand-overs", report.hand_overs);
    }
}
