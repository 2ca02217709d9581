//! The two servers under load: ours, and a bare hyper that reads the body and answers 202. Each is a process of its
//! own.

use std::convert::Infallible;
use std::ffi::OsString;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;

use super::{disk, process};
use crate::postgres::free_port;

/// First argument of this program when it runs as the bare server.
pub(crate) const BARE_SERVER: &str = "--bare-server";
/// Longest wait for a server to start or to stop, and for a flush.
const PATIENCE: Duration = Duration::from_secs(300);

/// A running server, stopped when dropped.
pub(crate) struct Server {
    child: Child,
    /// The address it listens on.
    pub(crate) address: SocketAddr,
    /// Its data directory; `None` for the bare server.
    data: Option<Data>,
}

/// A data directory, removed at the end or not.
pub(crate) enum Data {
    /// Used by this server only, and removed with it.
    Own(TempDir),
    /// Kept by the caller.
    Lent(PathBuf),
}

impl Data {
    /// An empty directory on the disk under test.
    pub(crate) fn fresh() -> Self {
        Self::Own(disk::fresh_directory())
    }

    fn path(&self) -> &Path {
        match self {
            Self::Own(directory) => directory.path(),
            Self::Lent(directory) => directory,
        }
    }
}

impl Server {
    /// Starts ours, on PostgreSQL or on SQLite, with further arguments.
    pub(crate) fn ours(data: Data, database_url: Option<&str>, arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fast-ingest"));
        command.env_clear();
        command.args(["serve", "--data-dir"]).arg(data.path());
        command.args(arguments);
        if let Some(url) = database_url {
            command.env("DATABASE_URL", url);
        }
        let log = File::create(data.path().join("stderr")).expect("a file");
        command.stdout(Stdio::null()).stderr(log);
        let address = address();
        command.env("PORT", address.port().to_string());
        let mut server = Self::start(command, address);
        server.data = Some(data);
        server
    }

    /// Starts the bare server.
    pub(crate) fn bare() -> Self {
        let program = std::env::current_exe().expect("this program");
        let address = address();
        let mut command = Command::new(program);
        command.args([OsString::from(BARE_SERVER), address.to_string().into()]);
        Self::start(command, address)
    }

    fn start(mut command: Command, address: SocketAddr) -> Self {
        let child = command.stdin(Stdio::null()).spawn().expect("the program starts");
        let mut server = Self {
            child,
            address,
            data: None,
        };
        let started = Instant::now();
        while TcpStream::connect(address).is_err() {
            let exited = server.child.try_wait().expect("it is our child");
            assert!(exited.is_none(), "the server did not start: {exited:?}");
            assert!(started.elapsed() < PATIENCE, "the server does not listen");
            thread::sleep(Duration::from_millis(1));
        }
        server
    }

    /// Id of the server's process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// CPU time of the threads that accept events: those of the runtime and the log's.
    pub(crate) fn cpu_of_accepting(&self) -> Duration {
        let threads = process::cpu_of_threads(self.pid());
        let accepting = threads
            .into_iter()
            .filter(|(name, _)| !matches!(name.as_str(), "flush" | "rollup"));
        accepting.map(|(_, cpu)| cpu).sum()
    }

    /// CPU time of the threads of this name.
    pub(crate) fn cpu_of_thread(&self, name: &str) -> Duration {
        let threads = process::cpu_of_threads(self.pid());
        let named = threads.into_iter().filter(|(thread, _)| thread == name);
        named.map(|(_, cpu)| cpu).sum()
    }

    /// Events in the log that are not in the database.
    pub(crate) fn flush_lag(&self) -> u64 {
        self.health("/flush/lag_events")
    }

    /// A number in the answer of `GET /health`, by the path to it.
    pub(crate) fn health(&self, path: &str) -> u64 {
        let health = self.get("/health");
        let number = health.pointer(path).and_then(Value::as_u64);
        number.unwrap_or_else(|| panic!("no {path} in {health}"))
    }

    /// Waits until everything is in the database.
    pub(crate) fn wait_until_flushed(&self) {
        let started = Instant::now();
        while self.flush_lag() > 0 {
            assert!(started.elapsed() < PATIENCE, "the flush does not end");
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn get(&self, path: &str) -> Value {
        use std::io::{Read as _, Write as _};
        let mut stream = TcpStream::connect(self.address).expect("the server listens");
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answered");
        let (_, body) = answer.split_once("\r\n\r\n").expect("an answer");
        serde_json::from_str(body).expect("JSON")
    }

    /// Stops the server with SIGTERM, and waits for its end.
    fn terminate(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        if rustix::process::kill_process(pid, rustix::process::Signal::TERM).is_ok() {
            let status = self.child.wait().expect("it is our child");
            let is_ours = self.data.is_some();
            assert!(
                !is_ours || status.success() || thread::panicking(),
                "the server ended with {status}"
            );
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            self.terminate();
        }
    }
}

fn address() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()))
}

/// The bare server: the same runtime, the same hyper, nothing of ours.
pub(crate) fn serve_bare(address: &str) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let listener = TcpListener::bind(address).await.expect("a free port");
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            stream.set_nodelay(true).expect("a TCP socket");
            tokio::spawn(async move {
                let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(accept));
                // An error only means that the client has closed the connection.
                connection.await.ok();
            });
        }
    });
}

async fn accept(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = request.into_body().collect().await;
    let is_there = body.is_ok_and(|body| !body.to_bytes().is_empty());
    let mut response = Response::new(Full::new(Bytes::from_static(b"{\"accepted\":1}")));
    *response.status_mut() = if is_there {
        StatusCode::ACCEPTED
    } else {
        StatusCode::BAD_REQUEST
    };
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    Ok(response)
}
