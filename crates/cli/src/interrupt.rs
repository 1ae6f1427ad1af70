//! Ctrl-C: once is a wish, twice an order.

use crate::console::note;
use dunlin::comm::launch::processes::VARIABLE;
use dunlin::train::INTERRUPTED;
use std::sync::atomic::{AtomicBool, Ordering};

/// The first Ctrl-C asks the run to end after the clock that it is at, with a checkpoint; the second ends the program.
pub(crate) fn listen() {
    let _ = ctrlc::set_handler(|| {
        if INTERRUPTED.swap(true, Ordering::Relaxed) {
            note("dunlin: aborted");
            std::process::exit(1);
        }
        note("dunlin: stopping after this clock; once more to abort");
    }); // set already: a demo trains more than once
}

/// In a rank that a launcher started: a terminal sends Ctrl-C to the whole process group, and the launcher decides
/// what comes of the first. The second ends this process too.
pub(crate) fn leave_to_launcher() {
    static SEEN: AtomicBool = AtomicBool::new(false);
    if std::env::var_os(VARIABLE).is_some() {
        let _ = ctrlc::set_handler(|| {
            if SEEN.swap(true, Ordering::Relaxed) {
                std::process::exit(1);
            }
        }); // without a handler the run ends at the first
    }
}
