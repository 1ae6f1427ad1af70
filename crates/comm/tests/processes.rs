//! Ranks as processes: real processes, real sockets, real kills.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use dunlin_comm::cluster::Job;
use dunlin_comm::collective::Op;
use dunlin_comm::control::last_line;
use dunlin_comm::time::{Clock, sleep};
use dunlin_comm::{Buffer, Channel, Cluster, Comm, Error, Message, Processes, Result, child, job};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// Adds up over all ranks.
#[derive(Serialize, Deserialize)]
struct Adding {
    count: usize,
}

impl Job for Adding {
    const NAME: &'static str = "adding";
    type Out = (usize, Vec<f64>, u64);
    fn body(&self, comm: &mut Comm) -> Result<Self::Out> {
        let mut values: Vec<f64> = (0..self.count).map(|i| (i * (comm.rank() + 1)) as f64 * 0.1).collect();
        comm.all_reduce(&mut values, Op::Sum)?;
        comm.barrier()?;
        Ok((comm.rank(), values, comm.bytes_sent()))
    }
}

/// Everybody sends everybody a large body before anybody receives.
#[derive(Serialize, Deserialize)]
struct Exchange {
    bytes: usize,
}

impl Job for Exchange {
    const NAME: &'static str = "exchange";
    type Out = usize;
    fn body(&self, comm: &mut Comm) -> Result<usize> {
        let others: Vec<usize> = (0..comm.size()).filter(|&rank| rank != comm.rank()).collect();
        for &to in &others {
            let mut body = Buffer::zeroed(self.bytes);
            body.bytes_mut().iter_mut().enumerate().for_each(|(i, b)| *b = (i * (comm.rank() + 3)) as u8);
            comm.send(to, Channel::USER, Message::new(&comm.rank(), body))?;
        }
        let mut received = 0;
        for &from in &others {
            let message = comm.recv(Channel::USER, Some(from), "large body")?;
            assert_eq!(message.head::<usize>()?, from);
            assert!(message.body.bytes().iter().enumerate().all(|(i, b)| *b == (i * (from + 3)) as u8));
            received += message.body.len();
        }
        Ok(received)
    }
}

/// Works until somebody is lost: `computing` ranks never look at their link.
#[derive(Serialize, Deserialize)]
struct Endless {
    folder: PathBuf,
    computing: Vec<usize>,
}

impl Job for Endless {
    const NAME: &'static str = "endless";
    type Out = ();
    fn body(&self, comm: &mut Comm) -> Result<()> {
        comm.describe(&format!("part {} of the work", comm.rank()));
        comm.barrier()?;
        note_pid(&self.folder, comm.rank());
        if self.computing.contains(&comm.rank()) {
            sleep(Duration::from_secs(60));
        }
        loop {
            comm.all_reduce(&mut [1.0f32; 1000], Op::Sum)?;
            sleep(Duration::from_millis(1));
        }
    }
}

/// Rank 1 fails.
#[derive(Serialize, Deserialize)]
struct Failing {
    panics: bool,
}

impl Job for Failing {
    const NAME: &'static str = "failing";
    type Out = ();
    fn body(&self, comm: &mut Comm) -> Result<()> {
        comm.barrier()?;
        if comm.rank() == 1 {
            assert!(!self.panics, "on purpose");
            return Err(Error::Body("ratings.tsv:17: no number".into()));
        }
        comm.recv(Channel::USER, None, "what never comes").map(drop)
    }
}

const JOBS: [dunlin_comm::JobEntry; 4] =
    [job::<Adding>(), job::<Exchange>(), job::<Endless>(), job::<Failing>()];

/// Where the children of all tests here begin.
#[test]
fn entry() {
    child(&JOBS);
}

fn cluster(ranks: usize) -> Cluster {
    let arguments = ["--exact", "entry", "--nocapture"].map(String::from).to_vec();
    Cluster::Processes(Processes { arguments, ..Processes::new(ranks) })
}

#[test]
fn the_same_bits_as_on_threads() {
    for ranks in 1..=4 {
        for count in [1, 1000, 100_000] {
            let job = Adding { count };
            let ours = cluster(ranks).run(&job).unwrap();
            let theirs = Cluster::Threads(ranks).run(&job).unwrap();
            assert_eq!(ours.len(), ranks);
            for (rank, (a, b)) in ours.iter().zip(&theirs).enumerate() {
                assert_eq!(a.0, rank);
                assert_eq!(a.1, b.1, "{ranks} ranks, {count} numbers");
                assert!(a.1.iter().all(|v| v.is_finite()));
                assert_eq!(a.2 > 0, ranks > 1, "{} framed bytes", a.2);
            }
        }
    }
}

#[test]
fn large_bodies_both_ways_do_not_block() {
    assert_eq!(cluster(2).run(&Exchange { bytes: 64 << 20 }).unwrap(), [64 << 20; 2]);
    assert_eq!(cluster(3).run(&Exchange { bytes: 5_000_001 }).unwrap(), [10_000_002; 3]);
}

#[test]
fn a_closure_is_refused() {
    let error = cluster(2).run_closure(|_| Ok(())).unwrap_err().to_string();
    assert!(error.contains("closure") && error.contains("Job"), "{error}");
}

#[test]
fn a_failing_rank_is_quoted() {
    let error = cluster(3).run(&Failing { panics: false }).unwrap_err();
    assert!(matches!(error, Error::Failed { status: 1, .. }), "{error:?}");
    assert_eq!(error.to_string(), "rank 1: ratings.tsv:17: no number");
    let error = cluster(3).run(&Failing { panics: true }).unwrap_err().to_string();
    assert!(error.contains("rank 1: a bug") && error.contains("on purpose"), "{error}");
}

#[test]
fn a_child_that_does_not_join_is_named() {
    // Without arguments a child of this binary would run all tests; this one runs none and ends.
    let arguments = vec!["--exact".into(), "no such test".into()];
    let cluster = Cluster::Processes(Processes { arguments, ..Processes::new(3) });
    let error = cluster.run(&Adding { count: 1 }).unwrap_err().to_string();
    assert!(error.contains("ended before it joined: exit status: 0"), "{error}");
}

#[test]
fn an_unknown_job_is_named() {
    #[derive(Serialize, Deserialize)]
    struct Unknown;
    impl Job for Unknown {
        const NAME: &'static str = "unknown";
        type Out = ();
        fn body(&self, comm: &mut Comm) -> Result<()> {
            comm.barrier()
        }
    }
    let error = cluster(2).run(&Unknown).unwrap_err().to_string();
    assert!(error.contains("no job \"unknown\"") && error.contains("adding"), "{error}");
}

// The tests of losses look at a whole run from outside: the launcher, too, is a process of its own.

const FOLDER: &str = "DUNLIN_TEST_FOLDER";

/// Not a test: the launcher of the runs below.
#[test]
#[ignore = "run by other tests"]
fn launcher() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let ranks = std::env::var("DUNLIN_TEST_RANKS").unwrap().parse().unwrap();
    let computing = std::env::var("DUNLIN_TEST_COMPUTING").unwrap();
    let computing = computing.split_whitespace().map(|rank| rank.parse().unwrap()).collect();
    let Err(error) = cluster(ranks).run(&Endless { folder: folder.into(), computing }) else { return };
    last_line(&error);
    std::process::exit(if matches!(error, Error::Lost(_)) { 4 } else { 1 });
}

fn note_pid(folder: &Path, rank: usize) {
    let temporary = folder.join(format!("{rank}.tmp"));
    std::fs::write(&temporary, std::process::id().to_string()).unwrap();
    std::fs::rename(temporary, folder.join(rank.to_string())).unwrap();
}

/// Runs [`Endless`], does `act` with the process ids once all ranks work, and returns how the launcher ended.
/// Fails if a rank is still there some time later.
fn observe(name: &str, ranks: usize, computing: &str, act: impl FnOnce(&[Pid])) -> Output {
    let folder = std::env::temp_dir().join(format!("dunlin-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let launcher = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "launcher", "--ignored", "--nocapture"])
        .env(FOLDER, &folder)
        .env("DUNLIN_TEST_RANKS", ranks.to_string())
        .env("DUNLIN_TEST_COMPUTING", computing)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pids: Vec<Pid> = (0..ranks).map(|rank| wait_for_pid(&folder.join(rank.to_string()))).collect();
    sleep(Duration::from_millis(300)); // into the work, and what they hold is told
    act(&pids);
    let output = launcher.wait_with_output().unwrap();
    let clock = Clock::start();
    while let Some(rank) =
        pids.iter().position(|pid| Path::new(&format!("/proc/{}", pid.as_raw_nonzero())).exists())
    {
        assert!(clock.now().seconds() < 5.0, "rank {rank} is still there");
        sleep(Duration::from_millis(10));
    }
    std::fs::remove_dir_all(&folder).unwrap();
    output
}

fn wait_for_pid(file: &Path) -> Pid {
    let clock = Clock::start();
    loop {
        if let Ok(text) = std::fs::read_to_string(file) {
            return Pid::from_raw(text.parse().unwrap()).unwrap();
        }
        assert!(clock.now().seconds() < 60.0, "{} does not come", file.display());
        sleep(Duration::from_millis(10));
    }
}

fn last_lines(output: &Output) -> Vec<String> {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    text.lines().filter(|line| line.starts_with("dunlin:")).map(String::from).collect()
}

#[test]
fn a_killed_rank_is_named_by_all() {
    let output = observe("killed", 4, "", |pids| kill_process(pids[2], Signal::KILL).unwrap());
    assert_eq!(output.status.code(), Some(4));
    let expected = "dunlin: rank 2 was lost: its connection closed; it held part 2 of the work";
    assert_eq!(last_lines(&output), [expected], "rank 0 says it for all");
}

#[test]
fn a_killed_rank_ends_those_that_compute() {
    let output = observe("computing", 3, "0 1", |pids| kill_process(pids[2], Signal::KILL).unwrap());
    assert_eq!(output.status.code(), Some(4));
    let expected = "dunlin: rank 2 was lost: its connection closed; it held part 2 of the work";
    assert_eq!(last_lines(&output), [expected]);
}

#[test]
fn a_stopped_rank_is_found_by_its_silence() {
    let output = observe("stopped", 3, "", |pids| kill_process(pids[1], Signal::STOP).unwrap());
    assert_eq!(output.status.code(), Some(4));
    let expected = "dunlin: rank 1 was lost: no sign of life for 1.5 s; it held part 1 of the work";
    assert_eq!(last_lines(&output), [expected], "the stopped one was killed");
}

#[test]
fn the_launchers_death_ends_its_children() {
    let output = observe("launcher", 3, "1", |pids| kill_process(pids[0], Signal::KILL).unwrap());
    assert_eq!(output.status.code(), None, "killed");
    let expected = "dunlin: rank 0 was lost: its connection closed; it held part 0 of the work";
    assert_eq!(last_lines(&output), [expected; 2]);
}

#[test]
fn the_launchers_death_ends_a_stopped_child() {
    let output = observe("orphan", 3, "", |pids| {
        kill_process(pids[1], Signal::STOP).unwrap();
        kill_process(pids[0], Signal::KILL).unwrap();
    });
    assert_eq!(output.status.code(), None, "killed");
    assert!(last_lines(&output).iter().any(|line| line.contains("rank 0 was lost")), "{output:?}");
}
