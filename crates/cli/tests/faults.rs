//! What befalls a run: ranks that die or freeze, a user who interrupts, a disk that is full, a loss that explodes.
//! Each ends with its exit code and a last line that says what happened, and an earlier checkpoint stays good.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{Folder, Ran, Running, assert_gone};
use dunlin::comm::time::sleep;
use rustix::process::{Pid, Signal, kill_process};
use std::fmt::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A run of three workers that lasts until something happens to it.
fn endless(folder: &Folder, cluster: &str, more: &str) -> Running {
    let run =
        "train mf --train synth:mf?n=3000&users=200&items=50 --workers 3 --set rate=0.001 --epochs 1000000";
    let every = if more.contains("--eval-every") { "" } else { "--eval-every 1" };
    let clocks = if more.contains("rotation") { "" } else { "--clocks-per-epoch 2" };
    folder.begin(&format!("{run} {every} {clocks} --slow random:1:20 --cluster {cluster} {more}"))
}

/// Starts such a run, lets `act` do something to its children (the ranks 1 and 2) once it works, and waits for its
/// end and theirs.
fn befall(more: &str, act: impl FnOnce(&Running, &[Pid])) -> Ran {
    let folder = Folder::new();
    let mut running = endless(&folder, "processes", more);
    running.until_said("epoch    3 ");
    let children = running.until_children(2);
    act(&running, &children);
    let ran = running.end();
    assert_gone(&children);
    ran
}

#[test]
fn a_killed_rank_is_named() {
    for (rank, strategy) in [(1, "bsp"), (2, "ssp:2"), (1, "essp:1"), (2, "allreduce")] {
        let ran = befall(&format!("--strategy {strategy}"), |_, children| {
            // What a rank holds travels with its signs of life, twice a second.
            sleep(Duration::from_millis(1500));
            kill_process(children[rank - 1], Signal::KILL).unwrap();
        });
        let named = format!("rank {rank} was lost: its connection closed");
        let ran = ran.exits(4).tells(&[&named, "it held lane"]);
        assert!(!ran.err.contains("aborted") && ran.out.is_empty(), "{ran}");
        assert_eq!(ran.err.matches("was lost").count(), 1, "one terminal, one line: {ran}");
    }
}

#[test]
fn a_rank_killed_under_rotation_is_named_with_its_row_block() {
    let ran = befall("--strategy rotation --lanes 6", |_, children| {
        sleep(Duration::from_millis(1500)); // as above
        kill_process(children[0], Signal::KILL).unwrap();
    });
    let ran =
        ran.exits(4).tells(&["rank 1 was lost: its connection closed", "it held lane", " with row block "]);
    assert_eq!(ran.err.matches("was lost").count(), 1, "one terminal, one line: {ran}");
    assert!(ran.err.contains("rotation, 12 row blocks that go round once an epoch"), "{ran}");
}

#[test]
fn a_rank_killed_while_the_run_begins_is_named() {
    for milliseconds in [0, 3, 10, 30, 100] {
        let folder = Folder::new();
        let mut running = endless(&folder, "processes", "--quiet");
        let children = running.until_children(2);
        sleep(Duration::from_millis(milliseconds));
        kill_process(children[0], Signal::KILL).unwrap();
        running.end().exits(4).tells(&["rank 1 was lost"]);
        assert_gone(&children);
    }
}

#[test]
fn a_launcher_killed_while_the_run_begins_leaves_nobody() {
    for milliseconds in [0, 3, 10, 30] {
        let folder = Folder::new();
        let mut running = endless(&folder, "processes", "--quiet");
        let children = running.until_children(2);
        sleep(Duration::from_millis(milliseconds));
        running.signal(Signal::KILL);
        assert_eq!(running.end().code, None);
        assert_gone(&children);
    }
}

#[test]
fn a_stopped_rank_is_named() {
    let ran = befall("--strategy ssp:3", |_, children| kill_process(children[1], Signal::STOP).unwrap());
    ran.exits(4).tells(&["rank 2 was lost: no sign of life"]);
}

#[test]
fn the_launchers_death_ends_its_children() {
    for strategy in ["bsp", "asp"] {
        let ran = befall(&format!("--strategy {strategy}"), |launcher, _| launcher.signal(Signal::KILL));
        assert_eq!(ran.code, None, "killed: {ran}");
    }
}

#[test]
fn ctrl_c_once_saves_and_leaves() {
    let folder = Folder::new();
    for (out, cluster, strategy) in [
        ("a", "processes", "bsp"),
        ("b", "processes", "ssp:2"),
        ("c", "threads", "allreduce"),
        ("d", "processes", "rotation"),
    ] {
        let mut running = endless(&folder, cluster, &format!("--strategy {strategy} --out {out}"));
        running.until_said("epoch    2 ");
        running.signal_group(Signal::INT); // as a terminal does it: children get it too
        let ran = running.end().exits(3);
        let resume = format!("go on with --out {out} --resume");
        let ran = ran.tells(&["interrupted after epoch", &resume]);
        assert!(ran.err.contains("once more to abort") && ran.err.contains("checkpoint epochs-"), "{ran}");
        let saved = std::fs::read_dir(folder.path(out).join("checkpoints")).unwrap().count();
        assert_eq!(saved, 1, "{ran}");
    }
}

#[test]
fn ctrl_c_twice_aborts() {
    let folder = Folder::new();
    // Clocks that last: the first wish is not yet granted when the second comes.
    let mut running = endless(&folder, "processes", "--eval-every 1000000 --slow random:1:60000");
    running.until_said("training mf");
    let children = running.until_children(2);
    running.signal_group(Signal::INT);
    running.until_said("once more to abort");
    running.signal_group(Signal::INT);
    let ran = running.end().exits(1);
    assert!(ran.err.contains("dunlin: aborted"), "{ran}");
    assert_gone(&children);
}

/// Ratings of two groups of users over items of their own. Those of the second, which the last lanes own, are so
/// large that every step there overshoots.
fn uneven() -> String {
    let mut text = String::new();
    for user in 0..60 {
        for item in 0..8 {
            let sign = if (user + item) % 2 == 0 { 1 } else { -1 };
            let _ = match user < 30 {
                true => writeln!(text, "a{user}\ti{item}\t{}", 3 + sign),
                false => writeln!(text, "b{user}\tj{item}\t{}", sign * 1_000_000),
            };
        }
    }
    text
}

#[test]
fn a_diverging_rank_elsewhere_decides_the_exit_code() {
    let folder = Folder::new();
    folder.write("uneven.tsv", uneven());
    for cluster in ["threads", "processes", "sim"] {
        for strategy in ["bsp", "allreduce", "asp"] {
            let line =
                format!("train mf --train uneven.tsv --workers 2 --cluster {cluster} --strategy {strategy}");
            folder.say(&format!("{line} --quiet")).exits(5).tells(&["mf", "lower rate", "no checkpoint"]);
        }
    }
}

#[test]
fn a_run_that_explodes_keeps_its_last_checkpoint() {
    let folder = Folder::new();
    let line = "train mf --train synth:mf?n=4000&users=200&items=20 --workers 2 --lanes 6 --clocks-per-epoch 1 \
                --set schedule=constant --set rate=0.02 --checkpoint-epochs 1 --epochs 200 --quiet";
    for cluster in ["threads", "processes"] {
        let ran = folder.say(&format!("{line} --cluster {cluster} --out {cluster}")).exits(5);
        let ran =
            ran.tells(&["mf diverged", "use more --clocks-per-epoch", "the checkpoint of epoch", "is kept"]);
        let kept = std::fs::read_dir(folder.path(cluster).join("checkpoints")).unwrap().count();
        assert!(kept >= 1, "{ran}");
        assert!(
            folder.text(&format!("{cluster}/events.jsonl")).contains("\"event\":\"checkpoint\""),
            "{ran}"
        );
    }
}

/// A file system of its own, in memory, for as long as this lives.
struct Disk(PathBuf);

impl Disk {
    /// `None` where the tests may not mount one.
    fn mount(place: &Path, size: &str) -> Option<Disk> {
        std::fs::create_dir_all(place).unwrap();
        let options = format!("size={size}");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(place).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Disk(place.into())),
            _ => {
                eprintln!("SKIPPED: the tests of full and read-only disks need root, to mount a tmpfs");
                None
            }
        }
    }

    fn remount(&self, option: &str) {
        let options = format!("remount,{option}");
        assert!(Command::new("mount").args(["-o", &options]).arg(&self.0).status().unwrap().success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status(); // the folder's removal shows if it failed
    }
}

#[test]
fn a_full_disk_harms_no_earlier_checkpoint() {
    let folder = Folder::new();
    let Some(disk) = Disk::mount(&folder.path("disk"), "1m") else { return };
    let line =
        "train mf --train synth:mf?n=2000&users=200&items=50 --lanes 2 --out disk/o --checkpoint-epochs 1";
    folder.say(&format!("{line} --epochs 2")).exits(0);
    for more in ["", "--workers 2 --cluster processes"] {
        let filler = folder.path("disk/filler");
        assert!(std::fs::write(&filler, vec![1; 2 << 20]).is_err(), "the disk is full now");
        let ran = folder.say(&format!("{line} {more} --resume --epochs 4 --quiet")).exits(1);
        let ran = ran.tells(&["cannot", "disk/o/checkpoints", "No space left on device"]);
        let others = ran.err.lines().filter(|line| !line.contains("warning: cannot write")).count();
        assert_eq!(others, 1, "{ran}");
        let names: Vec<_> = std::fs::read_dir(folder.path("disk/o/checkpoints")).unwrap().flatten().collect();
        assert!(names.iter().all(|entry| !entry.file_name().to_string_lossy().starts_with('.')), "{names:?}");
        std::fs::remove_file(&filler).unwrap();
    }
    let ran = folder.say(&format!("{line} --resume --epochs 4")).exits(0);
    assert!(ran.err.contains("going on after epoch 2"), "{ran}");
    drop(disk);
}

#[test]
fn a_disk_that_is_read_only() {
    let folder = Folder::new();
    let Some(disk) = Disk::mount(&folder.path("disk"), "1m") else { return };
    disk.remount("ro");
    for more in ["", "--workers 2 --cluster processes"] {
        let ran =
            folder.say(&format!("train mf --train synth:mf?n=500 --out disk/o --quiet {more}")).exits(2);
        let ran = ran.tells(&["--out disk/o: the folder cannot be made", "Read-only"]);
        assert_eq!(ran.err.lines().count(), 1, "{ran}");
    }
}

#[test]
fn a_run_folder_that_is_deleted_ends_the_run() {
    let folder = Folder::new();
    for (out, more) in [("a", "--checkpoint-epochs 1"), ("b", "")] {
        for cluster in ["threads", "processes"] {
            let mut running = endless(&folder, cluster, &format!("{more} --out {out}"));
            running.until_said("epoch    2 ");
            // A checkpoint may be written into it meanwhile: moved away, it is gone at once.
            std::fs::rename(folder.path(out), folder.path(&format!("{out}-{cluster}"))).unwrap();
            let ran = running.end().exits(1);
            let ran = ran.tells(&["cannot", &format!("{out}/")]);
            let said = ran.last_line();
            assert!(said.contains("deleted or moved") || said.contains("No such file"), "{ran}");
            assert!(!folder.path(out).join("model.safetensors").exists(), "{ran}");
            let _ = std::fs::remove_dir_all(folder.path(out)); // there if a checkpoint was just begun
        }
    }
}

/// Two addresses with ports that were free a moment ago.
fn addresses() -> [String; 2] {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().to_string())
}

#[test]
fn hosts_agree_with_threads() {
    let folder = Folder::new();
    let line = "train mf --train synth:mf?n=3000 --epochs 3 --json";
    let threads = folder.say(&format!("{line} --workers 2")).exits(0).object();
    folder.write("hosts.txt", addresses().join("\n"));
    let line = format!("{line} --cluster hosts:hosts.txt --token plover");
    let other = folder.begin(&format!("{line} --rank 1"));
    let hosts = folder.say(&format!("{line} --rank 0")).exits(0).object();
    assert_eq!(hosts["metrics"], threads["metrics"]);
    assert!(hosts["bytes_sent"].as_u64().unwrap() > 0);
    let other = other.end().exits(0);
    assert!(other.out.is_empty() && other.err.contains("rank 0 has the result"), "{other}");
}

#[test]
fn ctrl_c_ends_the_wait_for_other_hosts() {
    let folder = Folder::new();
    folder.write("hosts.txt", addresses().join("\n"));
    for rank in 0..2 {
        let line = format!("train mf --train synth:mf?n=3000 --cluster hosts:hosts.txt --rank {rank}");
        let running = folder.begin(&line);
        sleep(Duration::from_millis(2000)); // it waits for the other now
        running.signal(Signal::INT);
        running.end().exits(3).tells(&["interrupted while the ranks joined"]);
    }
}

#[test]
fn hosts_that_fail_together() {
    let folder = Folder::new();
    folder.write("uneven.tsv", uneven()).write("hosts.txt", addresses().join("\n"));
    let line = "train mf --train uneven.tsv --quiet --cluster hosts:hosts.txt";
    let other = folder.begin(&format!("{line} --rank 1"));
    folder.say(&format!("{line} --rank 0")).exits(5).tells(&["lower rate"]);
    other.end().exits(5).tells(&["lower rate"]);
}

#[test]
fn a_host_without_the_data() {
    let (folder, other) = (Folder::new(), Folder::new());
    let addresses = addresses().join("\n");
    folder.write("hosts.txt", &addresses).write("uneven.tsv", uneven());
    other.write("hosts.txt", &addresses);
    let line = "train mf --train uneven.tsv --quiet --cluster hosts:hosts.txt";
    let rank_1 = other.begin(&format!("{line} --rank 1"));
    let ran = folder.say(&format!("{line} --rank 0")).exits(2).tells(&["rank 1: uneven.tsv: no such file"]);
    assert_eq!(ran.err.lines().count(), 1, "{ran}");
    rank_1.end().exits(2).tells(&["uneven.tsv: no such file"]);
}

#[test]
fn a_port_in_use() {
    let folder = Folder::new();
    let taken = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let addresses = taken.each_ref().map(|listener| listener.local_addr().unwrap().to_string());
    folder.write("hosts.txt", addresses.join("\n"));
    let line = "train mf --train synth:mf?n=500 --cluster hosts:hosts.txt";
    let ran = folder.say(&format!("{line} --rank 0")).exits(1);
    ran.tells(&["cannot listen at", &addresses[0], "another program uses this port"]);
    let ran = folder.say(line).exits(1).tells(&["none of the addresses", &addresses[1]]);
    assert_eq!(ran.err.lines().count(), 1, "{ran}");
}
