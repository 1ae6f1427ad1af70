//! Ranks as processes of this host: the program starts itself again, once for each rank.

use super::door::{Door, Identity, Patience};
use super::{DEFAULT_PATIENCE, Star, check_size, encode_job, resolve};
use crate::cluster::Job;
use crate::control::last_line;
use crate::link::spin::has_processors;
use crate::time::{Clock, sleep};
use crate::{Buffer, Error, Lost, Result};
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::parent_id;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Tells a child which rank it is and who started it: `rank:size:launcher:address:token`, the launcher by its process
/// number. Not a setting: only a launcher writes it.
pub const VARIABLE: &str = "DUNLIN_RANK";

/// How long children may take to say their last line and end, once a run is over.
const LAST_WORDS: Duration = Duration::from_millis(1500);

/// Ranks as processes of this host. The calling process is rank 0.
///
/// A child's standard output is discarded and its standard error is the caller's.
#[derive(Clone, Debug)]
pub struct Processes {
    /// Number of ranks, the caller included.
    pub ranks: usize,
    /// Arguments for the children. They need none if the first line of `main` calls [`child`].
    pub arguments: Vec<String>,
    /// How long the children have to start and join.
    pub patience: Duration,
}

impl Processes {
    /// `ranks` processes, children without arguments.
    pub fn new(ranks: usize) -> Processes {
        Processes { ranks, arguments: Vec::new(), patience: DEFAULT_PATIENCE }
    }

    pub(crate) fn run<J: Job>(&self, job: &J) -> Result<Vec<J::Out>> {
        check_size(self.ranks)?;
        if std::env::var_os(VARIABLE).is_some() {
            return Err(Error::Launch(format!(
                "this process was started as a rank ({VARIABLE} is set) and may not start others; \
                 call dunlin_comm::child as the first line of main"
            )));
        }
        let patience = Patience::start(self.patience);
        let door = Door::open(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let identity = Identity {
            rank: 0,
            size: self.ranks,
            token: random_token()?,
            address: door.address()?.to_string(),
            job: J::NAME.into(),
        };
        let children = Children::start(self, &identity)?;
        let for_control = children.0.clone();
        let last_act = Box::new(move |_: &Lost| {
            end(&for_control, LAST_WORDS / 3);
            true
        });
        let star = Star::gather(identity, door, patience, encode_job(job)?, last_act, &mut |joined| {
            children.check(|rank| joined.contains_key(&rank))
        })?;
        Star { spins: has_processors(self.ranks), ..star }.run(job)
    }
}

fn random_token() -> Result<String> {
    let mut bytes = [0; 16];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(Error::io("reading /dev/urandom"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The processes that a launcher has started. None outlives it.
struct Children(Arc<Mutex<Vec<(usize, Child)>>>);

impl Children {
    fn start(cluster: &Processes, identity: &Identity) -> Result<Children> {
        let program = std::env::current_exe().map_err(Error::io("asking which program this is"))?;
        let children = Children(Arc::default());
        for rank in 1..cluster.ranks {
            let Identity { size, address, token, .. } = identity;
            let child = Command::new(&program)
                .args(&cluster.arguments)
                .env(VARIABLE, format!("{rank}:{size}:{}:{address}:{token}", std::process::id()))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .spawn()
                .map_err(Error::io(format!("starting {} as rank {rank}", program.display())))?;
            children.0.lock().unwrap_or_else(PoisonError::into_inner).push((rank, child));
        }
        Ok(children)
    }

    /// # Errors
    /// [`Error::Lost`] if a child has ended before it joined.
    fn check(&self, has_joined: impl Fn(usize) -> bool) -> Result<()> {
        for (rank, child) in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter_mut() {
            if let Ok(Some(status)) = child.try_wait() {
                let when = if has_joined(*rank) { "before all ranks were there" } else { "before it joined" };
                let cause = format!("it ended {when}: {status}");
                return Err(Error::Lost(Lost {
                    rank: *rank,
                    cause,
                    held: String::new(),
                    status: Lost::GONE,
                }));
            }
        }
        Ok(())
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        end(&self.0, LAST_WORDS);
    }
}

/// Waits until all children have ended, and kills those that have not after `patience`.
fn end(children: &Mutex<Vec<(usize, Child)>>, patience: Duration) {
    let mut children = children.lock().unwrap_or_else(PoisonError::into_inner);
    let clock = Clock::start();
    let mut pause = Duration::from_micros(200);
    loop {
        children.retain_mut(|(_, child)| matches!(child.try_wait(), Ok(None)));
        if children.is_empty() || Duration::from_nanos(clock.now().0) >= patience {
            break;
        }
        sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
    for (_, mut child) in children.drain(..) {
        let _ = child.kill(); // it has ended if this fails
        let _ = child.wait();
    }
}

/// A job that a child can be asked to run.
#[derive(Clone, Copy, Debug)]
pub struct JobEntry {
    name: &'static str,
    run: fn(Star, &Buffer) -> Result<()>,
}

/// The entry of job `J`, for [`child`].
pub const fn job<J: Job>() -> JobEntry {
    JobEntry { name: J::NAME, run: |star, bytes| star.run_encoded::<J>(bytes).map(drop) }
}

/// The first line of a program that uses [`Processes`]: in a process that a launcher started as a rank it runs
/// that rank and ends the process; elsewhere it returns at once.
///
/// The exit code is 0, or the [`Error::status`] of what came first: 4 if a rank was lost. The last line on standard
/// error says why, once for all ranks: rank 0 says it, or each of the others if rank 0 is gone.
pub fn child(jobs: &[JobEntry]) {
    let Ok(text) = std::env::var(VARIABLE) else { return };
    let code = match serve(&text, jobs) {
        Ok(()) => 0,
        Err(error) => {
            // What the work of a rank failed with is brought to rank 0, whose process reports it once; and so is
            // a loss, unless it is that of rank 0 itself.
            let is_told = match &error {
                Error::Body(_) | Error::Failed { .. } => true,
                Error::Lost(lost) => !is_ours_to_tell(lost),
                _ => false,
            };
            if !is_told {
                last_line(&error);
            }
            error.status().into()
        }
    };
    std::process::exit(code)
}

/// True if no launcher is left to tell of the loss on the terminal that all ranks share.
fn is_ours_to_tell(lost: &Lost) -> bool {
    lost.rank == 0
}

fn serve(text: &str, jobs: &[JobEntry]) -> Result<()> {
    let patience = Patience::start(DEFAULT_PATIENCE);
    let (identity, launcher, centre) = parse(text)?;
    // A child that is stopped does not see its launcher die: the system is asked to wake it then.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::CONT));
    let door = Door::open(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    let identity = Identity { address: door.address()?.to_string(), ..identity };
    let spins = has_processors(identity.size);
    // A launcher that dies before this process has reached it leaves nothing that could be seen to close; it may
    // have died before this process could ask who its parent is, hence it has told.
    let watch = || match parent_id() == launcher {
        true => Ok(()),
        false => Err(Error::Launch("the process that started this rank has ended".into())),
    };
    let (star, welcome, bytes) =
        Star::join(identity, door, patience, centre, Box::new(is_ours_to_tell), watch)?;
    match jobs.iter().find(|entry| entry.name == welcome.job) {
        Some(entry) => (entry.run)(Star { spins, ..star }, &bytes),
        None => {
            let known: Vec<_> = jobs.iter().map(|entry| entry.name).collect();
            let job = welcome.job;
            Err(star.give_up(Error::Launch(format!("no job {job:?} was given to child(), only {known:?}"))))
        }
    }
}

/// Takes [`VARIABLE`] apart: who this is, who started it, and where rank 0 listens.
fn parse(text: &str) -> Result<(Identity, u32, SocketAddr)> {
    let fields = || {
        let (rank, rest) = text.split_once(':')?;
        let (size, rest) = rest.split_once(':')?;
        let (launcher, rest) = rest.split_once(':')?;
        let (address, token) = rest.rsplit_once(':')?;
        Some((rank.parse().ok()?, size.parse().ok()?, launcher.parse().ok()?, address, token.to_string()))
    };
    let (rank, size, launcher, address, token): (usize, usize, u32, &str, String) =
        fields().filter(|(rank, size, ..)| (1..*size).contains(rank)).ok_or_else(|| {
            Error::Launch(format!("{VARIABLE} is not rank:size:launcher:address:token; do not set it"))
        })?;
    let identity = Identity { rank, size, token, address: String::new(), job: String::new() };
    Ok((identity, launcher, resolve(address)?))
}
