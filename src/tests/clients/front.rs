//! A front before a server: it takes one request per connection and disturbs it as networks and busy servers do.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::process::PATIENCE;

/// What happens to a connection.
#[derive(Debug, Clone, Copy)]
pub(super) enum Treatment {
    /// The front closes it at once.
    HangUp,
    /// The front closes it when the request has begun.
    BreakOff,
    /// The front reads the request and never answers.
    StaySilent,
    /// The front answers with this status and this many seconds in `Retry-After`. The server never gets the request.
    Answer(u16, u32),
    /// The server has answered, and the front closes the connection without passing the answer on.
    LoseAnswer,
    /// The front passes request and answer on.
    PassOn,
}

impl Treatment {
    /// The wait that `Retry-After: 1` asks for, less a margin for clocks that run a little fast.
    pub(super) const WAITED_MIN: Duration = Duration::from_millis(950);
}

/// A request that was read to its end.
#[derive(Debug, Clone)]
pub(super) struct Try {
    head: String,
    pub(super) events: Vec<Value>,
    /// Status of the answer, the server's or the front's own, whether or not the client got it; 0 if none was sent.
    pub(super) status: u16,
    pub(super) arrived: Instant,
    pub(super) answered: Instant,
}

impl Try {
    /// The value of a header, whose name is in lower case; empty if there is none.
    pub(super) fn header(&self, name: &str) -> &str {
        let mut headers = self.head.lines().filter_map(|line| line.split_once(':'));
        let found = headers.find(|(found, _)| found.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value.trim())
    }
}

/// A running front. Its thread ends with the process.
pub(super) struct Front {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Treatment of the next connections; later ones are passed on.
    treatments: VecDeque<Treatment>,
    connections: usize,
    tries: Vec<Try>,
}

impl Front {
    /// A front before the server at this address.
    pub(super) fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::<Mutex<State>>::default();
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for client in listener.incoming() {
                let treatment = {
                    let mut state = shared.lock().unwrap();
                    state.connections += 1;
                    state.treatments.pop_front().unwrap_or(Treatment::PassOn)
                };
                // A client that breaks off causes an error here; its missing request shows in the tries.
                serve(client.unwrap(), treatment, server, &shared).ok();
            }
        });
        Self { address, state }
    }

    /// How the next connections are treated.
    pub(super) fn treat<const N: usize>(&self, treatments: [Treatment; N]) {
        self.state.lock().unwrap().treatments.extend(treatments);
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn connections(&self) -> usize {
        self.state.lock().unwrap().connections
    }

    /// All requests that were read to their end so far.
    pub(super) fn tries(&self) -> Vec<Try> {
        self.state.lock().unwrap().tries.clone()
    }
}

fn serve(client: TcpStream, treatment: Treatment, server: SocketAddr, state: &Mutex<State>) -> io::Result<()> {
    if matches!(treatment, Treatment::HangUp) {
        return Ok(());
    }
    client.set_read_timeout(Some(PATIENCE))?;
    let mut client = BufReader::new(client);
    if matches!(treatment, Treatment::BreakOff) {
        client.fill_buf()?;
        return Ok(());
    }
    let (head, body) = read_request(&mut client)?;
    let arrived = Instant::now();
    let answer = match treatment {
        Treatment::Answer(status, retry_after) => made_up(status, retry_after),
        Treatment::StaySilent => "HTTP/1.1 000".to_owned(),
        _ => ask(server, &head, &body)?,
    };
    let status = answer.get(9..12).and_then(|status| status.parse().ok());
    let events: Value = serde_json::from_slice(&body)?;
    let mut tries = state.lock().unwrap();
    tries.tries.push(Try {
        head,
        events: events.as_array().cloned().unwrap_or_default(),
        status: status.ok_or(io::ErrorKind::InvalidData)?,
        arrived,
        answered: Instant::now(),
    });
    drop(tries);
    match treatment {
        Treatment::LoseAnswer => Ok(()),
        // Until the client closes.
        Treatment::StaySilent => client.read(&mut [0]).map(drop),
        _ => client.get_mut().write_all(answer.as_bytes()),
    }
}

/// Head, without the headers that concern one connection only, and body.
fn read_request(client: &mut BufReader<TcpStream>) -> io::Result<(String, Vec<u8>)> {
    let mut head = String::new();
    let (mut length, mut awaits_continue) = (0, false);
    loop {
        let mut line = String::new();
        client.read_line(&mut line)?;
        let (name, value) = line.split_once(':').unwrap_or_default();
        match name.to_lowercase().as_str() {
            "connection" => continue,
            "expect" => {
                awaits_continue = true;
                continue;
            }
            "content-length" => {
                length = value.trim().parse().map_err(|_| io::ErrorKind::InvalidData)?;
            }
            _ => {}
        }
        if line.trim().is_empty() {
            break;
        }
        head += &line;
    }
    if awaits_continue {
        client.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let mut body = vec![0; length];
    client.read_exact(&mut body)?;
    Ok((head, body))
}

/// The server's whole answer, up to its close.
fn ask(server: SocketAddr, head: &str, body: &[u8]) -> io::Result<String> {
    let mut stream = TcpStream::connect(server)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes())?;
    stream.write_all(body)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn made_up(status: u16, retry_after: u32) -> String {
    let problem = r#"{"code":"made_up","detail":"the front said so"}"#;
    format!(
        "HTTP/1.1 {status} Made Up\r\nContent-Type: application/problem+json\r\nRetry-After: {retry_after}\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{problem}",
        problem.len()
    )
}
