//! The database's password: sent as given, and never shown.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread::{self, JoinHandle};

use crate::support::process::command::run_with;
use crate::support::process::run;

/// Characters that need percent-encoding in a URL, and a piece that looks percent-encoded.
const PASSWORD: &str = "p@ss%41:/w?rd";

#[test]
fn a_password_in_pgpassword_is_sent_as_it_is() {
    for (credentials, sent) in [("user", PASSWORD), ("user:own", "own")] {
        let (port, asked) = server_that_asks_for_a_password();
        let url = format!("postgres://{credentials}@127.0.0.1:{port}/db?sslmode=disable");
        let ended = run_with(
            &["migrate", "status"],
            &[("PGPASSWORD", PASSWORD), ("DATABASE_URL", &url)],
        );
        assert_eq!(asked.join().unwrap(), sent);
        ended.assert_refusal(69, &["not today"]);
        assert!(!ended.stderr.contains("w?rd"), "{ended:?}");
    }
}

#[test]
fn a_url_with_a_password_that_is_not_encoded_is_refused_without_showing_it() {
    for (url, piece) in [
        ("postgres://user:p@secret@127.0.0.1:1/db", "secret"),
        ("postgres://user:p@secret/hidden@127.0.0.1:1/db", "secret"),
        ("postgres://user:p@secret/hidden@127.0.0.1:1/db", "hidden"),
        ("postgres://user:p@secret?hidden@127.0.0.1:1/db", "secret"),
    ] {
        for command in [&["migrate", "up"][..], &["serve"], &["verify"]] {
            let dir = tempfile::tempdir().unwrap();
            let data_dir = ["--data-dir", dir.path().to_str().unwrap()];
            let ended = run(&[command, &["--database-url", url], &data_dir].concat());
            ended.assert_refusal(78, &["PGPASSWORD"]);
            assert!(!ended.stderr.contains(piece), "{ended:?}");
        }
    }
}

/// A server that asks for the password in clear text and refuses it. The thread returns what it got.
fn server_that_asks_for_a_password() -> (u16, JoinHandle<String>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let asking = thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        read_message(&mut client);
        client.write_all(b"R\0\0\0\x08\0\0\0\x03").unwrap();
        client.read_exact(&mut [0]).unwrap();
        let password = read_message(&mut client);
        let fields = b"SFATAL\0VFATAL\0C28P01\0Mnot today\0\0";
        let length = (fields.len() as u32 + 4).to_be_bytes();
        let answer = [b"E", &length[..], fields].concat();
        client.write_all(&answer).unwrap();
        let password = password.strip_suffix(b"\0").unwrap();
        String::from_utf8(password.to_vec()).unwrap()
    });
    (port, asking)
}

/// The rest of a message, after its length.
fn read_message(client: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 4];
    client.read_exact(&mut length).unwrap();
    let mut rest = vec![0; u32::from_be_bytes(length) as usize - 4];
    client.read_exact(&mut rest).unwrap();
    rest
}
