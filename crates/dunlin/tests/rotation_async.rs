//! `rotation:async`: whatever the order in which row blocks wander, it is some serial order, which can be gone through
//! again to the same bits; nothing is lost, doubled or hung, whatever goes wrong.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{TestJob, Trained, run, train_on};
use dunlin::comm::cluster::{Job, run_sim};
use dunlin::comm::link::sim::Stragglers;
use dunlin::comm::{Cluster, Comm, Error, Fault, SimConfig, Time};
use dunlin::rng::stream;
use dunlin::run::{CheckpointPolicy, Run, Stop};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

const ASYNC: &str = "rotation:async";

fn train_sim(
    config: &SimConfig,
    run: &Run,
) -> (dunlin::comm::Result<Vec<Trained>>, dunlin::comm::link::sim::Report) {
    let job = TestJob::new(run);
    run_sim(config, |comm: &mut Comm| job.body(comm))
}

fn scratch(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("dunlin-async-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// (lane, row block, lap) of each line of an order.
fn visits(text: &str) -> Vec<[u64; 3]> {
    let line = |line: &str| {
        let numbers: Vec<u64> = line.split('\t').map(|field| field.parse().unwrap()).collect();
        [numbers[0], numbers[1], numbers[2]]
    };
    text.lines().skip(2).map(line).collect()
}

/// Every pair once a lap, no lane two laps ahead of what it lacks; how many visits came before one of an earlier lap.
fn check_order(place: &str, text: &str, lanes: u64, tokens: u64, laps: u64) -> usize {
    let visits = visits(text);
    let all: BTreeSet<[u64; 3]> = visits.iter().copied().collect();
    assert_eq!((visits.len(), all.len() as u64), (all.len(), lanes * tokens * laps), "{place}");
    let mut early = 0;
    for lane in 0..lanes {
        let mut had: BTreeMap<u64, u64> = BTreeMap::new();
        for [_, _, lap] in visits.iter().filter(|visit| visit[0] == lane) {
            let unfinished = (0..laps).find(|lap| had.get(lap).is_none_or(|had| *had < tokens)).unwrap();
            assert!(
                *lap <= unfinished + 1,
                "{place}: lane {lane} in lap {lap} while it lacks some of {unfinished}"
            );
            early += usize::from(*lap > unfinished);
            *had.entry(*lap).or_default() += 1;
        }
    }
    early
}

#[test]
fn a_replay_gives_the_bits_of_any_run() {
    let folder = scratch("replay");
    let (mut early, mut orders) = (0, BTreeSet::new());
    for seed in 0..40u64 {
        let mut rng = stream(seed, "replay-test", &[]);
        let lanes = 3 + rng.below(4);
        let order = folder.join(format!("{seed}.order"));
        let eval_every = 1 + rng.below(4);
        // Every other time tables are nowhere whole, and each evaluation is a lap more.
        let is_spread = seed % 8 >= 4;
        let measured = if is_spread { 4u64.div_ceil(eval_every as u64) } else { 0 };
        let model = match (is_spread, seed % 16 >= 8) {
            (false, false) => "tiny-mf",
            (true, false) => "tiny-spread",
            (false, true) => "tiny-wide",
            (true, true) => "tiny-wide-spread",
        };
        let base = Run { eval_every, seed, compute_ns: 20_000.0, ..run(model, ASYNC, 3, lanes, 4) };
        let logged = Run { log_order: Some(order.clone()), ..base.clone() };
        let stragglers = Stragglers::Random { probability: 0.2, factor: 10.0 };
        let trained = match seed % 4 {
            0 => train_on(&Cluster::Threads(3), &logged).unwrap(),
            _ => train_sim(&SimConfig { stragglers, ..SimConfig::new(3, seed) }, &logged)
                .0
                .unwrap()
                .swap_remove(0),
        };
        let place = format!("seed {seed}, {lanes} lanes, evaluated every {eval_every}");
        let text = std::fs::read_to_string(&order).unwrap();
        let tokens = (40 / lanes).min(8) * lanes;
        early += check_order(&place, &text, lanes as u64, tokens as u64, 5 + measured);
        let replay = Run { workers: 1, replay: Some(order), ..base };
        let again = train_on(&Cluster::Threads(1), &replay).unwrap();
        assert_eq!(again.hash, trained.hash, "{place}: other tables");
        assert_eq!(again.losses, trained.losses, "{place}: other metrics");
        orders.insert(text);
    }
    assert!(early > 100 && orders.len() > 30, "{early} visits a lap ahead, {} orders", orders.len());
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn an_order_that_cannot_be_followed_is_refused_in_words() {
    let folder = scratch("refused");
    let order = folder.join("order");
    let base = Run { eval_every: 4, ..run("tiny-mf", ASYNC, 3, 4, 4) };
    train_sim(&SimConfig::new(3, 1), &Run { log_order: Some(order.clone()), ..base.clone() }).0.unwrap();
    let text = std::fs::read_to_string(&order).unwrap();
    let told = |text: &str, change: fn(Run) -> Run| {
        std::fs::write(&order, text).unwrap();
        let run = change(Run { workers: 1, replay: Some(order.clone()), ..base.clone() });
        train_on(&Cluster::Threads(run.workers), &run).unwrap_err().to_string()
    };
    let half = &text[..text[..text.len() / 2].rfind('\n').unwrap() + 1];
    let (first, rest) = text.split_once('\n').unwrap();
    let (head, count) = first.trim_end_matches(" visits").rsplit_once(' ').unwrap();
    // Said to be all that there is, and yet it is not.
    let halved =
        half.replacen(&format!(" {count} visits"), &format!(" {} visits", half.lines().count() - 2), 1);
    let old = format!("dunlin order 1: 4 lanes, 32 row blocks, seed 1\n{rest}");
    let data = head.split_once(", data ").unwrap().1.split(',').next().unwrap();
    let elsewhere = text.replacen(data, "0123456789abcdef", 1);
    let cases = [
        (told(&halved, |run| run), "cannot be; replay with the --eval-every"),
        (told(half, |run| run), "it is cut or was changed"),
        (told(&text[..text.len() - 1], |run| run), "it is cut or was changed"),
        (told(&old, |run| run), "write the order again with --log-order"),
        (told(&elsewhere, |run| run), "data 0123456789abcdef, "),
        (told(&elsewhere, |run| run), "replay with the same data"),
        (told(&text, |run| Run { resume: true, ..run }), "an order begins where its run began"),
        (
            told(&text, |run| Run { stop: Stop { epochs: 6, ..Stop::default() }, ..run }),
            "it ends before this run does",
        ),
        (
            told(&text, |run| Run { seed: 5, ..run }),
            "this run writes \"dunlin order 2: 4 lanes, 32 row blocks, seed 5, data ",
        ),
        (told(&text.replace("\t3\t1\t", "\tx\t1\t"), |run| run), "five whole numbers belong here"),
        (told(&text, |run| Run { workers: 2, ..run }), "one worker goes through the order"),
        (
            told(&text, |run| Run { strategy: "rotation".parse().unwrap(), ..run }),
            "the order of visits is always the same",
        ),
        (told("", |run| run), "order:1: \"\"; this run writes"),
    ];
    for (text, wanted) in cases {
        assert!(text.contains(wanted), "{text}\nlacks: {wanted}");
    }
    std::fs::remove_dir_all(folder).unwrap();
}

/// The metrics that do not depend on the order: how often each rating was seen, and a sum of random numbers, one for
/// each pair and epoch.
fn ledger(trained: &Trained) -> Vec<&(String, f64)> {
    trained.metrics.iter().filter(|(name, _)| name != "train_objective").collect()
}

#[test]
fn faults_lose_nothing_or_end_the_run_with_the_row_block_that_was_lost() {
    let mut fired: BTreeMap<&str, usize> = BTreeMap::new();
    let mut wanted: BTreeMap<usize, Trained> = BTreeMap::new();
    let (mut ended_well, mut lost, mut held, mut resent) = (0, 0, 0, 0);
    for seed in 0..400u64 {
        let lanes = 3 + seed as usize % 4;
        let base = run("tiny-mf", ASYNC, 3, lanes, 4);
        let run = Run { eval_every: 1 + seed as usize % 4, compute_ns: 20_000.0, ..base };
        let wanted = wanted
            .entry(lanes)
            .or_insert_with(|| train_sim(&SimConfig::new(3, 0), &run).0.unwrap().swap_remove(0));
        let faults = Fault::random(seed, 3, Time::from_seconds(0.06));
        let stragglers = match seed % 3 {
            0 => Stragglers::None,
            1 => Stragglers::Fixed(vec![(seed as usize / 3 % 3, 8.0)]),
            _ => Stragglers::Random { probability: 0.2, factor: 10.0 },
        };
        let config = SimConfig { faults: faults.clone(), stragglers, ..SimConfig::new(3, seed) };
        let (outcome, report) = train_sim(&config, &run);
        let place = format!("seed {seed}, {lanes} lanes, {faults:?}");
        report.fired.iter().for_each(|fault| *fired.entry(fault.kind()).or_default() += 1);
        resent += report.frames_resent;
        match outcome {
            Ok(outs) => {
                ended_well += 1;
                assert_eq!(ledger(&outs[0]), ledger(wanted), "{place}: lost or doubled");
            }
            Err(Error::Lost(loss)) => {
                lost += 1;
                held += usize::from(loss.to_string().contains(" with row block "));
                let losers: Vec<usize> = report.fired.iter().filter_map(Fault::loses).collect();
                assert!(losers.contains(&loss.rank), "{place}: {loss}");
            }
            Err(other) => panic!("{place}: {other}"),
        }
    }
    assert!(ended_well > 100 && lost > 50, "{ended_well} ended well, {lost} lost a rank");
    assert!(held > lost / 2, "{held} of {lost} losses name a row block");
    assert!(Fault::KINDS.iter().all(|kind| fired.get(kind).is_some_and(|n| *n > 10)), "{fired:?}");
    assert!(resent > 10, "{resent} frames were sent again");
}

#[test]
fn a_run_goes_on_from_the_end_of_an_epoch_on_another_number_of_workers() {
    let folder = scratch("resume");
    let epochs = |epochs| Stop { epochs, ..Stop::default() };
    let through = train_on(&Cluster::Threads(3), &run("tiny-mf", ASYNC, 3, 6, 5)).unwrap();
    for (workers, model) in [1, 2, 3]
        .into_iter()
        .flat_map(|workers| [(workers, "tiny-mf"), (workers, "tiny-spread"), (workers, "tiny-wide-spread")])
    {
        let out = Some(folder.join(format!("{model}-{workers}")));
        let checkpoint = CheckpointPolicy { epochs: 1, seconds: None };
        let first = Run { out, checkpoint, eval_every: 2, stop: epochs(2), ..run(model, ASYNC, 3, 6, 2) };
        train_on(&Cluster::Threads(3), &first).unwrap();
        let second = Run { workers, resume: true, stop: epochs(5), ..first };
        let resumed = train_on(&Cluster::Threads(workers), &second).unwrap();
        assert_eq!(ledger(&resumed), ledger(&through), "{workers} workers");
    }
    std::fs::remove_dir_all(folder).unwrap();
}
