//! Too much of everything, against the real binary: connections, files, heads, bodies in flight, bodies without an end.

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Barrier};
use std::thread;

use crate::hostile::support::{Attacker, Siege, pour, status_of, wait_until};
use crate::support::http::{get, post_head};
use crate::support::process::Launch;
use crate::support::process::stored::Database;
use crate::torture::report::Footprint;

/// Limits for small bodies: what the process uses by itself, with a margin for a debug build.
const CALM: Footprint = Footprint {
    rss_kib: 64 * 1024,
    threads: 32,
    files: 128,
};
const MIB: u64 = 1024 * 1024;

#[test]
fn connections_beyond_the_cap_are_refused_and_cost_nothing() {
    let limits = Footprint {
        // 40 connections, 64 that are refused with an answer, and the server's own.
        files: 40 + 64 + 64,
        ..CALM
    };
    let siege = Siege::begin(limits, &[("--connections-max", "40")]);
    // Half of them send a request, the others send nothing.
    let request = get("/health");
    let mut attackers: Vec<_> = (0..400)
        .map(|number| {
            let beginning = if number % 2 == 0 { &request[..] } else { b"" };
            Attacker::open(siege.address(), beginning)
        })
        .collect();
    siege.assert_goes_on();
    // 39 hold the remaining connections, up to 64 silent ones those of refusals.
    wait_until("the others are closed", || {
        attackers.iter_mut().for_each(Attacker::look);
        attackers.iter().filter(|one| !one.is_cut).count() <= 39 + 64
    });
    let count = |status| {
        let with_it = attackers.iter().filter(|one| one.status() == Some(status));
        with_it.count()
    };
    assert!((1..=39).contains(&count(200)), "{} served", count(200));
    assert!(count(503) > 0, "some are refused");
    let others = attackers.iter().filter_map(Attacker::status);
    let others: Vec<_> = others.filter(|status| ![200, 503].contains(status)).collect();
    assert!(others.is_empty(), "other answers: {others:?}");
    drop(attackers);
    // Their connections are free again.
    wait_until("a new client is served", || {
        let mut client = Attacker::open(siege.address(), &get("/health"));
        wait_until("an answer", || {
            client.look();
            client.is_cut || client.status().is_some()
        });
        client.status() == Some(200)
    });
    siege.lift(&[]);
}

/// With this limit of files the server serves 30 connections; below its own need of files it does not start.
#[test]
fn a_flood_of_connections_does_not_take_the_last_files() {
    let under = |files: u32| {
        let limited = format!("ulimit -n {files}; exec \"$@\"");
        move |launch: Launch| launch.under(["sh", "-c", &limited, "sh"])
    };
    let dir = tempfile::tempdir().unwrap();
    let too_few = under(64)(Launch::new(dir.path(), &Database::embedded(dir.path())));
    too_few.run_to_end().assert_refusal(78, &["ulimit -n"]);

    let limits = Footprint { files: 230, ..CALM };
    // With these flags, segments and flushes open files all the time.
    let flags = [("--wal-segment-bytes", "64KiB"), ("--flush-interval", "5ms")];
    let siege = Siege::begin_with(limits, &flags, under(230));
    siege.server().wait_for_log("serving at most 30 connections");
    let mut attackers: Vec<Attacker> = Vec::new();
    for _ in 0..3 {
        attackers.extend((0..200).map(|_| Attacker::open(siege.address(), b"G")));
        siege.assert_goes_on();
    }
    wait_until("only served and refused clients are left", || {
        attackers.iter_mut().for_each(Attacker::look);
        attackers.iter().filter(|one| !one.is_cut).count() <= 29 + 64
    });
    drop(attackers);
    let peak = siege.lift(&[]);
    assert!(peak.files > 29 + 64, "clients were not connected: {peak:?}");
}

#[test]
fn endless_heads_are_cut() {
    let siege = Siege::begin(CALM, &[]);
    let begun = "GET /health HTTP/1.1\r\nHost: localhost\r\n";
    let line = "X-Header: value\r\n";
    let x = "x".repeat(4096);
    let shapes = [
        // The beginning, the repeated piece, its bytes at most, and the possible answers.
        ("GET /", &x, MIB, [414, 431]),
        (&format!("{begun}X: "), &x, MIB, [431; 2]),
        (begun, &line.repeat(20), MIB, [431; 2]),
        (begun, &format!("{}\r\n", line.repeat(101)), 1, [431; 2]),
        ("", &x, MIB, [400, 431]),
    ];
    for (beginning, piece, bytes_max, answers) in shapes {
        let outcomes = attack(siege.address(), 12, beginning.as_bytes(), piece, bytes_max);
        for (sent, status) in &outcomes {
            assert!(*sent > 0, "{beginning}");
            // Bytes sent after an answer reset the connection, so not all clients see their answer.
            let fits = status.is_none_or(|status| answers.contains(&status));
            assert!(fits, "{beginning}: {status:?}");
        }
        let answered = outcomes.iter().filter(|(_, status)| status.is_some());
        assert!(answered.count() > 0, "{beginning}: {outcomes:?}");
    }
    siege.lift(&[]);
}

/// The largest bodies on 64 connections, all but the last bytes sent: a quarter of a gigabyte, if the server held them.
#[test]
fn large_bodies_at_once_stay_inside_the_byte_budget() {
    const ATTACKERS: usize = 64;
    const BODY: u64 = 4 * MIB;
    const SENT_MAX: u64 = BODY - BODY / 40;
    // A body reserves twice its size, so two of them and part of others fit.
    let flags = [("--inflight-bytes-max", "20MiB"), ("--body-timeout", "6s")];
    let limits = Footprint {
        rss_kib: CALM.rss_kib + 20 * 1024,
        ..CALM
    };
    let siege = Siege::begin(limits, &flags);
    let begun = Arc::new(Barrier::new(ATTACKERS));
    let attackers: Vec<_> = (0..ATTACKERS)
        .map(|_| {
            let (address, begun) = (siege.address(), Arc::clone(&begun));
            thread::spawn(move || {
                let mut stream = TcpStream::connect(address).unwrap();
                let head = post_head("/events/bulk", &format!("Content-Length: {BODY}\r\n"));
                stream.write_all(&[&head[..], b"["].concat()).unwrap();
                // All requests have begun before the first is large.
                begun.wait();
                let (sent, received) = pour(stream, &[b' '; 32 * 1024], SENT_MAX);
                (sent, status_of(&received))
            })
        })
        .collect();
    siege.assert_goes_on();
    let outcomes: Vec<_> = attackers.into_iter().map(|one| one.join().unwrap()).collect();
    let sent: u64 = outcomes.iter().map(|(sent, _)| sent).sum();
    let count = |wanted: Option<u16>| {
        let with_it = outcomes.iter().filter(|(_, status)| *status == wanted);
        with_it.count()
    };
    // Held until the server timed out the rest; refused for lack of room; cut while they sent on.
    let (held, told, cut) = (count(Some(408)), count(Some(429)), count(None));
    eprintln!("{held} held, {told} refused, {cut} cut, {sent} bytes sent");
    assert_eq!(held + told + cut, ATTACKERS, "any other answer: {outcomes:?}");
    assert!(sent > 20 * MIB, "the attack took place: {outcomes:?}");
    assert!((1..=2).contains(&held), "{held} whole bodies were held at once");
    siege.lift(&[]);
}

/// Bodies that stop just before their end, sized so that no other large one fits. Honest small requests are not
/// affected.
#[test]
fn stalled_bodies_that_fill_the_budget_leave_room_for_small_ones() {
    const SMALL: usize = 16 * 1024;
    // Room for the first body, and then for less than another one.
    let flags = [("--inflight-bytes-max", "15MiB"), ("--body-timeout", "10min")];
    let limits = Footprint {
        rss_kib: CALM.rss_kib + 15 * 1024,
        files: 256,
        ..CALM
    };
    let siege = Siege::begin(limits, &flags);
    let open = |bytes: usize, sent: usize| {
        let head = post_head("/events/bulk", &format!("Content-Length: {bytes}\r\n"));
        Attacker::open(siege.address(), &[head, vec![b' '; sent]].concat())
    };
    let mut attackers = Vec::new();
    let mut looks = 0;
    while has_room(&siege, SMALL + 1) {
        let (mut fits, mut too_large) = (SMALL + 1, 4 * 1024 * 1024 + 1);
        while too_large - fits > 1024 {
            let middle = usize::midpoint(fits, too_large);
            if has_room(&siege, middle) {
                fits = middle;
            } else {
                too_large = middle;
            }
        }
        let mut attacker = open(fits, fits - 1);
        wait_until("it is accepted or refused", || {
            looks += 1;
            assert!(looks < 300, "the budget does not fill");
            attacker.look();
            attacker.is_cut || attacker.status().is_some() || !has_room(&siege, fits)
        });
        attackers.push(attacker);
    }
    // Small bodies take the rest, whenever the honest client is not using it.
    attackers.extend((0..100).map(|_| open(SMALL / 8, 1)));
    siege.assert_goes_on();
    assert!(!has_room(&siege, SMALL + 1), "the bodies still hold their room");
    drop(attackers);
    wait_until("there is room again", || has_room(&siege, 4 * 1024 * 1024));
    siege.lift(&[]);
}

/// Whether a body of this many bytes would be read now.
fn has_room(siege: &Siege, bytes: usize) -> bool {
    let lines = format!("Content-Length: {bytes}\r\nExpect: 100-continue\r\n");
    let mut client = Attacker::open(siege.address(), &post_head("/events/bulk", &lines));
    wait_until("an answer", || {
        client.look();
        client.status().is_some()
    });
    // The server gives back the room of this body before the connection ends.
    client.stream.shutdown(Shutdown::Write).unwrap();
    wait_until("the server's end", || {
        client.look();
        client.is_cut
    });
    match client.status() {
        Some(100) => true,
        Some(429) => false,
        other => panic!("another answer: {other:?}"),
    }
}

#[test]
fn bodies_without_an_end_are_cut() {
    let siege = Siege::begin(CALM, &[]);
    let chunked = "Transfer-Encoding: chunked\r\n";
    let spaces = " ".repeat(4096);
    let chunk = format!("1000\r\n{spaces}\r\n");
    let shapes = [
        // Header lines, the beginning of the body, the repeated piece, and the answer.
        ("Content-Length: 10737418240\r\n", "[", &spaces, 413),
        (chunked, "", &chunk, 413),
        (chunked, "", &"1\r\n \r\n".repeat(1000), 413),
        (chunked, "fffffffffffffff\r\n", &spaces, 413),
        (chunked, "1;", &"x".repeat(4096), 400),
        (chunked, "0\r\n", &"X: y\r\n".repeat(100), 400),
    ];
    for (lines, beginning, piece, answer) in shapes {
        let head = post_head("/events", lines);
        let beginning = [&head[..], beginning.as_bytes()].concat();
        let outcomes = attack(siege.address(), 8, &beginning, piece, u64::MAX);
        let shape = String::from_utf8_lossy(&beginning);
        for (sent, status) in &outcomes {
            // Most of it is in socket buffers.
            assert!((1..64 * MIB).contains(sent), "{shape}: {sent} bytes were taken");
            assert!(status.is_none_or(|status| status == answer), "{shape}: {status:?}");
        }
    }
    siege.lift(&[]);
}

/// A chunk size may begin with any number of zeros. They never become a body, so only a time limit can end the request,
/// and it must do so although the connection always has something to read.
#[test]
fn an_endless_chunk_size_is_cut_by_the_body_limit() {
    let siege = Siege::begin(CALM, &[("--body-timeout", "3s")]);
    let head = post_head("/events", "Transfer-Encoding: chunked\r\n");
    let outcomes = attack(siege.address(), 4, &head, &"0".repeat(64 * 1024), u64::MAX);
    for (sent, status) in outcomes {
        assert!(sent > 0);
        assert!(status.is_none_or(|status| status == 408), "{status:?}");
    }
    siege.lift(&[]);
}

/// This many attackers at once: each sends the beginning, and then one piece again and again. Returns what each sent
/// after the beginning, and its answer.
fn attack(
    address: SocketAddr,
    attackers: usize,
    beginning: &[u8],
    piece: &str,
    bytes_max: u64,
) -> Vec<(u64, Option<u16>)> {
    thread::scope(|scope| {
        let attack = || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(beginning).unwrap();
            let (sent, received) = pour(stream, piece.as_bytes(), bytes_max);
            (sent, status_of(&received))
        };
        let attackers: Vec<_> = (0..attackers).map(|_| scope.spawn(attack)).collect();
        let outcomes = attackers.into_iter().map(|attacker| attacker.join().unwrap());
        outcomes.collect()
    })
}
