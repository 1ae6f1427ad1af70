//! A wait has an end and names whom it was for; a long one is told of before.

#![allow(clippy::unwrap_used, reason = "a test")]

use dunlin_comm::{Channel, Cluster, Error};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[test]
fn a_wait_that_passes_its_deadline_names_whom_it_was_for() {
    let error = Cluster::Threads(2)
        .run_closure(|comm| {
            comm.set_stall_timeout(Duration::from_millis(50));
            if comm.rank() == 0 {
                comm.recv(Channel::USER, Some(1), "an answer that never comes")?;
            } else {
                let end = comm.now() + Duration::from_secs(20);
                comm.recv_deadline(Channel::USER, None, end)?;
            }
            Ok(())
        })
        .unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("rank 1") && text.contains("an answer that never comes"), "{text}");
}

#[test]
fn a_long_wait_is_told_of_once() {
    let (told, count) = (Arc::new(Mutex::new(String::new())), Arc::new(AtomicUsize::new(0)));
    Cluster::Threads(2)
        .run_closure(|comm| {
            let (told, count) = (told.clone(), count.clone());
            comm.set_warning(Box::new(move |text| {
                *told.lock().unwrap() = text.to_string();
                count.fetch_add(1, Ordering::Relaxed);
            }));
            if comm.rank() == 1 {
                comm.pause(Duration::from_millis(5500));
            }
            comm.barrier()
        })
        .unwrap();
    let text = told.lock().unwrap().clone();
    assert_eq!(count.load(Ordering::Relaxed), 1);
    assert!(text.contains("rank 0 has waited 5 s for rank 1 (all_reduce)"), "{text}");
}
