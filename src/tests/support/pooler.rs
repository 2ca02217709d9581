//! A throw-away PgBouncer in front of a test's PostgreSQL.
//!
//! Like [`Cluster`](crate::support::postgres::Cluster), it is started by a small shell wrapper whose standard input is
//! a pipe from this process. When the pipe ends, also because this process is killed, the wrapper stops the pooler and
//! removes its directory.

use std::io::{BufRead, BufReader, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Instant;

use crate::support::postgres::{as_unprivileged_user, free_port};
use crate::support::process::stored::Database;
use crate::support::process::{LOOK_AGAIN, PATIENCE};

/// Its arguments are the settings.
const WRAPPER: &str = r#"
dir=$(mktemp -d "${TMPDIR:-/tmp}/fast-ingest-pooler.XXXXXX") || exit 1
trap '' INT TERM HUP PIPE
printf '"postgres" ""\n' >"$dir/users"
printf '%s\nauth_file = %s/users\nlogfile = %s/log\n' "$1" "$dir" "$dir" >"$dir/settings"
pgbouncer "$dir/settings" </dev/null >/dev/null 2>&1 &
echo "$dir"
read -r _
kill -INT $! || kill $!
wait $!
rm -rf "$dir"
"#;

/// A running PgBouncer.
pub(crate) struct Pooler {
    /// Stops the pooler when the wrapper's standard input closes.
    wrapper: Child,
    database: Database,
}

impl Pooler {
    /// A pooler in front of `database`, in this mode (`session`, `transaction` or `statement`). `None` where PgBouncer
    /// is not installed.
    pub(crate) fn before(database: &Database, mode: &str) -> Option<Self> {
        let mut version = Command::new("pgbouncer");
        version.arg("--version").stdout(Stdio::null());
        version.status().ok()?;
        let Database::Postgres(url) = database else {
            panic!("a pooler is for PostgreSQL")
        };
        let (_, behind) = url.rsplit_once('@').unwrap();
        let (address, name) = behind.split_once('/').unwrap();
        let (host, server_port) = address.rsplit_once(':').unwrap();
        // Another process may take the port between the choice and the pooler's start.
        let pooler = (0..5).find_map(|_| {
            let port = free_port();
            let settings = format!(
                "[databases]\n* = host={host} port={server_port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
                 unix_socket_dir =\nauth_type = trust\npool_mode = {mode}"
            );
            let url = format!("postgres://postgres@127.0.0.1:{port}/{name}");
            let pooler = Self {
                wrapper: start(&settings),
                database: Database::Postgres(url),
            };
            pooler.is_listening(port).then_some(pooler)
        });
        Some(pooler.expect("PgBouncer starts"))
    }

    /// The database as it is reached through the pooler.
    pub(crate) fn database(&self) -> &Database {
        &self.database
    }

    fn is_listening(&self, port: u16) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if Instant::now() > deadline {
                return false;
            }
            thread::sleep(LOOK_AGAIN);
        }
        // Another process may listen there: it must lead to the database.
        self.database.try_rows("SELECT 1").is_some()
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        drop(self.wrapper.stdin.take());
        if let Err(error) = self.wrapper.wait() {
            eprintln!("the pooler's wrapper: {error}");
        }
    }
}

/// Starts the wrapper, and waits until it has begun.
fn start(settings: &str) -> Child {
    let mut command = as_unprivileged_user();
    let mut wrapper = command
        .args(["sh", "-c", WRAPPER, "sh", settings])
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a shell starts");
    let mut dir = String::new();
    let stdout = wrapper.stdout.take().expect("piped");
    BufReader::new(stdout).read_line(&mut dir).expect("the wrapper answers");
    wrapper
}

/// Reports a skipped test past the capture of its output, so that the skip is seen and counted.
pub(crate) fn say_skipped(test: &str) {
    let line = format!("{test}: skipped, PgBouncer is not installed\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}
