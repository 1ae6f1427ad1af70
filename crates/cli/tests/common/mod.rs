//! What the tests of the program need: a fresh folder, and runs of the real binary with all that they say.

#![allow(clippy::unwrap_used, unreachable_pub, dead_code, reason = "shared by tests, which use parts of it")]

use dunlin::comm::time::{Clock, sleep};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// The longest that anything here may take: generous, for machines that do much else.
pub const BOUND: f64 = 120.0;

static COUNT: AtomicUsize = AtomicUsize::new(0);

/// A folder of one test's own, in which its programs run; removed in the end.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Folder {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("dunlin-cli-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub fn root(&self) -> &Path {
        &self.0
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn text(&self, name: &str) -> String {
        let path = self.path(name);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// Writes a file.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> &Folder {
        std::fs::write(self.path(name), bytes).unwrap();
        self
    }

    /// Runs the program here to its end.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        self.start(arguments).end()
    }

    /// Runs it with the words of `line`.
    pub fn say(&self, line: &str) -> Ran {
        self.run(&line.split_whitespace().collect::<Vec<_>>())
    }

    /// Starts the program here with the words of `line`.
    pub fn begin(&self, line: &str) -> Running {
        self.start(&line.split_whitespace().collect::<Vec<_>>())
    }

    /// Starts the program here, as the first of a process group of its own.
    pub fn start(&self, arguments: &[&str]) -> Running {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let (out, err) = (self.path(&format!(".{number}.out")), self.path(&format!(".{number}.err")));
        let child = Command::new(env!("CARGO_BIN_EXE_dunlin"))
            .args(arguments)
            .current_dir(&self.0)
            .stdin(Stdio::null())
            .stdout(File::create(&out).unwrap())
            .stderr(File::create(&err).unwrap())
            .process_group(0)
            .spawn()
            .unwrap();
        Running { child, out, err, command: arguments.join(" ") }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0); // a folder that stays does no harm
    }
}

/// A program that runs.
pub struct Running {
    child: Child,
    out: PathBuf,
    err: PathBuf,
    command: String,
}

impl Running {
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// What it has said on standard error so far.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.err).unwrap()).into_owned()
    }

    /// Waits until `what` is there.
    pub fn until<T>(&mut self, what: &str, mut look: impl FnMut(&Running) -> Option<T>) -> T {
        let clock = Clock::start();
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            let ended = self.child.try_wait().unwrap();
            let late = clock.now().seconds() > BOUND;
            assert!(
                ended.is_none() && !late,
                "dunlin {}: waited for {what}; ended: {ended:?}\n{}",
                self.command,
                self.stderr()
            );
            sleep(Duration::from_millis(5));
        }
    }

    /// Waits until `text` is on standard error.
    pub fn until_said(&mut self, text: &str) {
        self.until(text, |running| running.stderr().contains(text).then_some(()));
    }

    /// Waits until it has `count` children, and returns them in the order in which they were started.
    pub fn until_children(&mut self, count: usize) -> Vec<Pid> {
        self.until("its children", |running| {
            let children = children_of(running.pid());
            (children.len() == count).then_some(children)
        })
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// What a terminal does: the whole process group gets it.
    pub fn signal_group(&self, signal: Signal) {
        kill_process_group(self.pid(), signal).unwrap();
    }

    /// Waits for its end.
    pub fn end(mut self) -> Ran {
        let clock = Clock::start();
        let code = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status.code();
            }
            if clock.now().seconds() > BOUND {
                let _ = self.child.kill();
                panic!("dunlin {}: does not end\n{}", self.command, self.stderr());
            }
            sleep(Duration::from_millis(5));
        };
        let out = String::from_utf8_lossy(&std::fs::read(&self.out).unwrap()).into_owned();
        Ran { code, out, err: self.stderr(), command: std::mem::take(&mut self.command) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it has ended if this fails
        let _ = self.child.wait();
    }
}

/// The processes whose parent is `parent`.
pub fn children_of(parent: Pid) -> Vec<Pid> {
    let parent = parent.as_raw_nonzero().to_string();
    let numbers = std::fs::read_dir("/proc").unwrap().flatten();
    let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let mut found: Vec<i32> = numbers
        .filter(|number| {
            let stat = std::fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
            let fields = stat.rsplit_once(')').map(|(_, rest)| rest.to_string()).unwrap_or_default();
            fields.split_whitespace().nth(1) == Some(&parent)
        })
        .collect();
    found.sort_unstable();
    found.into_iter().filter_map(Pid::from_raw).collect()
}

/// Fails if one of `pids` is still there some seconds later.
pub fn assert_gone(pids: &[Pid]) {
    let clock = Clock::start();
    while let Some(pid) = pids.iter().find(|pid| is_alive(**pid)) {
        assert!(clock.now().seconds() < 20.0, "process {pid:?} is still there");
        sleep(Duration::from_millis(10));
    }
}

/// True unless the process has ended; one that nobody waits for has.
fn is_alive(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

/// What a program has said, and how it ended.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
    pub command: String,
}

impl std::fmt::Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Ran { code, out, err, command } = self;
        write!(f, "\n$ dunlin {command}\nexit code {code:?}\n--- out\n{out}--- err\n{err}---")
    }
}

impl Ran {
    /// Fails unless it ended with `code`, and without a panic.
    #[track_caller]
    pub fn exits(self, code: i32) -> Ran {
        assert_eq!(self.code, Some(code), "{self}");
        assert!(!self.err.contains("panicked"), "{self}");
        self
    }

    /// The last line on standard error.
    pub fn last_line(&self) -> &str {
        self.err.lines().last().unwrap_or_default()
    }

    /// Fails unless the last line on standard error is ours and has all of `parts` in it.
    #[track_caller]
    pub fn tells(self, parts: &[&str]) -> Ran {
        let line = self.last_line();
        assert!(line.starts_with("dunlin: "), "{self}");
        for part in parts {
            assert!(line.contains(part), "{part:?} is missing: {self}");
        }
        self
    }

    /// Fails unless it was refused: exit code 2, nothing on standard output, one line on standard error that has all
    /// of `parts` in it.
    #[track_caller]
    pub fn refused(self, parts: &[&str]) -> Ran {
        let said = self.exits(2).tells(parts);
        assert!(said.out.is_empty() && said.err.lines().count() == 1, "one line: {said}");
        said
    }

    /// The object on the last line of standard output.
    pub fn object(&self) -> serde_json::Value {
        let line = self.out.lines().last().unwrap_or_default();
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {self}"))
    }
}

/// Runs the program with `arguments`, split at spaces, in `folder`.
pub fn dunlin(folder: &Folder, arguments: &str) -> Ran {
    folder.say(arguments)
}

/// Fails with both texts unless `text` holds `part`.
#[track_caller]
pub fn holds(text: &str, part: &str) {
    assert!(text.contains(part), "\n--- looked for\n{part}\n--- in\n{text}");
}
