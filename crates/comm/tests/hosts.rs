//! Ranks at known addresses. Most tests run the ranks as threads of this process, each with connections, a
//! control thread and a link of its own, as if it were alone; the last one uses two network namespaces.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use dunlin_comm::cluster::Job;
use dunlin_comm::collective::Op;
use dunlin_comm::time::sleep;
use dunlin_comm::wire::{Frame, Kind, VERSION};
use dunlin_comm::{Cluster, Comm, Hosts, Result};
use serde::{Deserialize, Serialize};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::thread::{JoinHandle, spawn};
use std::time::Duration;

#[derive(Serialize, Deserialize)]
struct Adding;

impl Job for Adding {
    const NAME: &'static str = "adding";
    type Out = u64;
    fn body(&self, comm: &mut Comm) -> Result<u64> {
        let mut sum = [10u64.pow(comm.rank() as u32)];
        comm.all_reduce(&mut sum, Op::Sum)?;
        Ok(sum[0])
    }
}

/// Addresses with ports that were free a moment ago.
fn addresses(count: usize) -> Vec<String> {
    let listeners: Vec<_> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    listeners.iter().map(|listener| listener.local_addr().unwrap().to_string()).collect()
}

fn start(hosts: Hosts) -> JoinHandle<Result<Vec<u64>>> {
    spawn(move || Cluster::Hosts(hosts).run(&Adding))
}

fn rank(rank: usize, addresses: &[String]) -> Hosts {
    let token = "grey plover".into();
    Hosts { rank: Some(rank), token, patience: Duration::from_secs(20), ..Hosts::new(addresses.to_vec()) }
}

fn message(run: JoinHandle<Result<Vec<u64>>>) -> String {
    run.join().unwrap().unwrap_err().to_string()
}

/// Connects as soon as somebody listens.
fn connect(address: &str) -> TcpStream {
    for _ in 0..500 {
        match TcpStream::connect(address) {
            Ok(stream) => return stream,
            Err(_) => sleep(Duration::from_millis(10)),
        }
    }
    panic!("nobody listens at {address}");
}

#[test]
fn rank_0_gets_what_all_return() {
    let addresses = addresses(3);
    let runs: Vec<_> = [2, 0, 1].into_iter().map(|r| start(rank(r, &addresses))).collect();
    let mut outs: Vec<_> = runs.into_iter().map(|run| run.join().unwrap().unwrap()).collect();
    outs.sort();
    assert_eq!(outs, [vec![], vec![], vec![111; 3]]);
}

#[test]
fn a_process_finds_out_which_rank_it_is() {
    let addresses = addresses(3);
    let runs: Vec<_> = (0..3).map(|_| start(Hosts { rank: None, ..rank(0, &addresses) })).collect();
    let outs: Vec<_> = runs.into_iter().flat_map(|run| run.join().unwrap().unwrap()).collect();
    assert_eq!(outs, [111; 3]);
}

#[test]
fn strangers_do_not_end_the_run() {
    let addresses = addresses(2);
    let centre = start(rank(0, &addresses));
    let silent = connect(&addresses[0]);
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 100_000], &[0; 40], b"DLNf", b""] {
        let _ = connect(&addresses[0]).write_all(garbage); // it may be closed on us while we write
    }
    let huge = Frame { head: vec![0; 1 << 20], ..hello_like() }.encode().unwrap();
    let _ = connect(&addresses[0]).write_all(&huge);
    let other = start(rank(1, &addresses));
    assert_eq!(centre.join().unwrap().unwrap(), [11; 2]);
    assert!(other.join().unwrap().unwrap().is_empty());
    drop(silent);
}

fn hello_like() -> Frame {
    let (head, body) = (vec![1, 2, 3], Default::default());
    Frame { kind: Kind::Hello, from: 1, to: 0, channel: 0, view: 0, sequence: 0, head, body }
}

#[test]
fn a_second_rank_of_one_number_is_refused() {
    let addresses = addresses(4);
    let (ours, spare) = (addresses[..3].to_vec(), addresses[3].clone());
    let centre = start(rank(0, &ours));
    let first = start(rank(1, &ours));
    sleep(Duration::from_millis(500)); // the first shall be the first
    let double = start(rank(1, &[ours[0].clone(), spare, ours[2].clone()]));
    let error = message(double);
    assert!(error.contains("there is a rank 1 already, at 127.0.0.1"), "{error}");
    let last = start(rank(2, &ours));
    assert_eq!(centre.join().unwrap().unwrap(), [111; 3], "the run goes on");
    assert!(first.join().unwrap().is_ok() && last.join().unwrap().is_ok());
}

#[test]
fn another_version_is_refused_on_both_sides() {
    let addresses = addresses(3);
    let centre = start(Hosts { patience: Duration::from_secs(2), ..rank(0, &addresses) });
    let mut bytes = hello_like().encode().unwrap();
    bytes[4] = VERSION + 1;
    let mut stream = connect(&addresses[0]);
    stream.write_all(&bytes).unwrap();
    let mut answer = [0; 6];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer[..5], [b'D', b'L', b'N', b'f', VERSION], "so that the other can tell");
    let error = message(centre);
    assert!(error.contains("expected 3 ranks, 1 joined within 2 s; ranks 1, 2 are missing"), "{error}");
    let both = format!("wire version {}, this program speaks {VERSION}", VERSION + 1);
    assert!(error.contains(&both), "{error}");
}

#[test]
fn an_interrupt_ends_the_wait_for_the_others() {
    let addresses = addresses(3);
    for number in 0..3 {
        let error =
            start(Hosts { interrupted: || true, ..rank(number, &addresses) }).join().unwrap().unwrap_err();
        assert!(error.status() == 3 && error.to_string().contains("interrupted"), "{error:?}");
    }
}

#[test]
fn a_wrong_token_is_refused() {
    let addresses = addresses(2);
    let centre = start(rank(0, &addresses));
    let error = message(start(Hosts { token: "ruff".into(), ..rank(1, &addresses) }));
    assert!(error.contains("sent this process away") && error.contains("token"), "{error}");
    assert!(!error.contains("plover") && !error.contains("ruff"), "tokens are not told: {error}");
    let right = start(rank(1, &addresses));
    assert_eq!(centre.join().unwrap().unwrap(), [11; 2]);
    right.join().unwrap().unwrap();
}

#[test]
fn a_missing_rank_0_is_named() {
    let addresses = addresses(2);
    let error = message(start(Hosts { patience: Duration::from_secs(1), ..rank(1, &addresses) }));
    assert!(error.contains("cannot reach rank 0 at 127.0.0.1") && error.contains("within 1 s"), "{error}");
}

#[test]
fn addresses_are_checked() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let list = [taken.local_addr().unwrap().to_string()];
    let error = message(start(rank(0, &list)));
    assert!(error.contains(&list[0]) && error.contains("another program uses this port"), "{error}");
    let error = message(start(rank(0, &["192.0.2.1:7000".into()])));
    assert!(error.contains("192.0.2.1:7000 of rank 0") && error.contains("--insecure"), "{error}");
    let error = message(start(Hosts { insecure: true, ..rank(0, &["192.0.2.1:7000".into()]) }));
    assert!(error.contains("no address of this host"), "{error}");
    let error = message(start(rank(3, &list)));
    assert!(error.contains("rank 3") && error.contains("1 addresses"), "{error}");
}

#[test]
fn bad_lines_of_a_host_file_are_named() {
    for (text, expected) in [
        ("a:1\nb\n", "hosts.txt:2: \"b\" is not host:port"),
        ("a:1\n\n# c\nd:99999", "hosts.txt:4"),
        (":7000", "hosts.txt:1"),
        ("a:1\nb:1\na:1 # again", "hosts.txt:3: a:1 is on line 1 already"),
        ("# nothing\n", "hosts.txt: no addresses"),
    ] {
        let error = Hosts::parse("hosts.txt", text).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

const RANK: &str = "DUNLIN_TEST_HOST_RANK";
const NAMES: [&str; 2] = ["dunlin-test-0", "dunlin-test-1"];

/// Not a test: one of the two ranks below.
#[test]
#[ignore = "run by another test"]
fn rank_in_a_namespace() {
    let Ok(number) = std::env::var(RANK) else { return };
    let list = [0, 1].map(|rank| format!("10.213.7.{}:7000", rank + 1));
    let hosts = Hosts { rank: None, insecure: true, ..rank(0, &list) };
    let outs = Cluster::Hosts(hosts).run(&Adding).unwrap();
    assert_eq!(outs, if number == "0" { vec![11; 2] } else { vec![] });
}

fn ip(arguments: &str) -> bool {
    let status = Command::new("ip").args(arguments.split(' ')).stderr(std::process::Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

#[test]
fn ranks_in_two_network_namespaces() {
    let [a, b] = NAMES;
    let remove = || NAMES.map(|name| ip(&format!("netns del {name}")));
    remove(); // what a killed test left
    let set_up = [
        format!("netns add {a}"),
        format!("netns add {b}"),
        format!("link add dunlin0 netns {a} type veth peer name dunlin1 netns {b}"),
        format!("-n {a} address add 10.213.7.1/24 dev dunlin0"),
        format!("-n {b} address add 10.213.7.2/24 dev dunlin1"),
        format!("-n {a} link set dunlin0 up"),
        format!("-n {b} link set dunlin1 up"),
    ];
    if let Some(failed) = set_up.iter().find(|arguments| !ip(arguments)) {
        remove();
        eprintln!(
            "SKIPPED: ranks in two network namespaces: `ip {failed}` failed; it takes root and iproute2"
        );
        return;
    }
    let program = std::env::current_exe().unwrap();
    let run = |rank: usize| {
        Command::new("ip")
            .args(["netns", "exec", NAMES[rank]])
            .arg(&program)
            .args(["--exact", "rank_in_a_namespace", "--ignored", "--nocapture"])
            .env(RANK, rank.to_string())
            .spawn()
            .unwrap()
    };
    let statuses = [run(0), run(1)].map(|mut process| process.wait().unwrap());
    remove();
    assert!(statuses.iter().all(|status| status.success()), "{statuses:?}");
}
