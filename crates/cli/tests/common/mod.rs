//! The program, driven as a user drives it.

#![allow(clippy::unwrap_used, unreachable_pub, dead_code, reason = "shared by tests, which use parts of it")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A folder of its own that goes away.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Folder {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("dunlin-cli-test-{}-{count}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn text(&self, name: &str) -> String {
        let path = self.path(name);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0); // a folder left over does no harm
    }
}

/// What the program did.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

/// Runs the program with `arguments`, split at spaces, in `folder`.
pub fn dunlin(folder: &Folder, arguments: &str) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dunlin"));
    let output = command.args(arguments.split(' ')).current_dir(&folder.0 as &Path).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

impl Ran {
    /// Itself if the exit code is `code`; else both outputs.
    #[track_caller]
    pub fn exits(self, code: i32) -> Ran {
        assert_eq!(self.code, Some(code), "\n--- out\n{}\n--- err\n{}", self.out, self.err);
        self
    }
}

/// Fails with both texts unless `text` holds `part`.
#[track_caller]
pub fn holds(text: &str, part: &str) {
    assert!(text.contains(part), "\n--- looked for\n{part}\n--- in\n{text}");
}
