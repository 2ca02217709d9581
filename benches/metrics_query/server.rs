//! A PostgreSQL for the bench: thrown away at the end, or kept in a directory. Both sync, as in production.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::postgres::{self, Cluster};

/// A running server.
pub(crate) enum Server {
    /// Removed with this value.
    ThrowAway(Cluster),
    /// Stopped with this value; its data stays.
    Kept(Kept),
}

/// A server whose data stays.
pub(crate) struct Kept {
    programs: PathBuf,
    data: PathBuf,
    port: u16,
}

impl Server {
    /// A server without data.
    pub(crate) fn throw_away() -> Self {
        Self::ThrowAway(Cluster::start_with_fsync(true))
    }

    /// A server on the data in a directory, which is made if it is missing.
    pub(crate) fn kept_in(directory: &Path) -> Self {
        std::fs::create_dir_all(directory).expect("FAST_INGEST_BENCH_KEEP can be written to");
        // The server's user makes the data directory in it.
        std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o1777)).ok();
        let server = Kept {
            programs: postgres::programs(),
            data: directory.join("data"),
            port: postgres::free_port(),
        };
        let log = directory.join("log");
        if server.data.join("PG_VERSION").exists() {
            // A run that was killed may have left the server running.
            server.pg_ctl(&["-m", "fast", "stop"]);
        } else {
            let made = server.run("initdb", &["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C"]);
            assert!(
                made,
                "initdb failed: can the server's user get at {}?",
                directory.display()
            );
        }
        let options = format!(
            "-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories=",
            server.port
        );
        let log = log.to_str().expect("a path in UTF-8");
        assert!(
            server.pg_ctl(&["-l", log, "-o", &options, "start"]),
            "PostgreSQL did not start: see {log}"
        );
        Self::Kept(server)
    }

    /// URL of a database, made if it is missing.
    pub(crate) async fn database(&self, name: &str) -> String {
        let admin = postgres::connect(&self.url("postgres")).await;
        let exists = "SELECT FROM pg_database WHERE datname = $1";
        if admin
            .query_opt(exists, &[&name])
            .await
            .expect("the server answers")
            .is_none()
        {
            let create = format!("CREATE DATABASE {name}");
            admin.batch_execute(&create).await.expect("a new database");
        }
        self.url(name)
    }

    /// Removes a database, if it exists.
    pub(crate) async fn drop_database(&self, name: &str) {
        let admin = postgres::connect(&self.url("postgres")).await;
        let drop = format!("DROP DATABASE IF EXISTS {name}");
        admin.batch_execute(&drop).await.expect("no session uses it");
    }

    fn url(&self, name: &str) -> String {
        match self {
            Self::ThrowAway(cluster) => cluster.url(name),
            Self::Kept(server) => format!("postgres://postgres@127.0.0.1:{}/{name}", server.port),
        }
    }
}

impl Kept {
    fn pg_ctl(&self, arguments: &[&str]) -> bool {
        self.run("pg_ctl", &[&["-w", "-t", "300"], arguments].concat())
    }

    /// Runs one of the server's programs. Without pipes: the server would inherit them and keep them open.
    fn run(&self, program: &str, arguments: &[&str]) -> bool {
        let mut command: Command = postgres::as_unprivileged_user();
        command
            .arg(self.programs.join(program))
            .arg("-D")
            .arg(&self.data)
            .args(arguments)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if !self.pg_ctl(&["-m", "fast", "stop"]) {
            eprintln!("PostgreSQL in {} did not stop", self.data.display());
        }
    }
}
