//! Sends events to fast-ingest, each stored once, whatever fails in between. In a program of your own:
//! `cargo add ureq serde_json fastrand` and `cargo add uuid --features v4`. Here:
//!
//! ```sh
//! FAST_INGEST_URL=http://127.0.0.1:8080 cargo run --example client < events.ndjson > not-accepted.ndjson
//! ```
//!
//! reads one JSON event a line and ends with status 0 once all of them are accepted. Otherwise it says why, ends with
//! status 1 and writes those that were not accepted to standard output, with their ids: sending these again is safe.

use std::env;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

/// One event, by the names of its fields. Its time may be `SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis()`.
type Event = Map<String, Value>;

/// What the server takes in one request: 1,000 events, and 4 MiB with some room.
const BATCH_EVENTS: usize = 1000;
const BATCH_BYTES: usize = 4_000_000;
/// The longest wait doubles with each try.
const WAIT_FIRST: Duration = Duration::from_millis(200);
const WAIT_MAX: Duration = Duration::from_secs(10);

/// Why a batch is not accepted.
enum Failure {
    /// Not yet: try again, after this time at least.
    Retry(String, Duration),
    /// Refused for good: retries are useless.
    Final(String),
}

struct Client {
    agent: ureq::Agent,
    url: String,
    key: Option<String>,
    /// After this time a batch that is not accepted is given up.
    give_up_after: Duration,
}

impl Client {
    fn from_environment() -> Self {
        let setting = |name| env::var(name).ok().filter(|value| !value.is_empty());
        let url = setting("FAST_INGEST_URL").unwrap_or("http://127.0.0.1:8080".to_owned());
        let seconds = |name, otherwise| {
            let seconds = setting(name).and_then(|seconds| seconds.parse().ok());
            Duration::from_secs(seconds.unwrap_or(otherwise))
        };
        // A try with its answer.
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(seconds("FAST_INGEST_TRY_TIMEOUT", 30)))
            .http_status_as_error(false)
            .max_redirects(0)
            .build();
        Self {
            agent: agent.into(),
            url: format!("{}/events/bulk", url.trim_end_matches('/')),
            key: setting("FAST_INGEST_KEY"),
            give_up_after: seconds("FAST_INGEST_GIVE_UP_AFTER", 300),
        }
    }

    /// Returns once the server has all `events` safe on disk; otherwise returns the reason, and how many, from the front,
    /// it has. The others may be sent again: they have their ids.
    fn send(&self, events: &mut [Event]) -> Result<(), (String, usize)> {
        for event in events.iter_mut() {
            // Before the first try, and never changed: by its id the server recognizes an event that it already has.
            if event.get("event_id").is_none_or(Value::is_null) {
                let id = uuid::Uuid::new_v4().to_string();
                event.insert("event_id".to_owned(), id.into());
            }
        }
        let encoded: Vec<_> = events.iter().map(|event| json!(event).to_string()).collect();
        let mut start = 0;
        while start < encoded.len() {
            let (mut end, mut size) = (start, 0);
            while end < encoded.len()
                && end - start < BATCH_EVENTS
                && (end == start || size + encoded[end].len() < BATCH_BYTES)
            {
                size += encoded[end].len() + 1;
                end += 1;
            }
            let body = format!("[{}]", encoded[start..end].join(","));
            self.send_batch(&body, end - start).map_err(|why| (why, start))?;
            start = end;
        }
        Ok(())
    }

    /// Sends the same bytes until they are accepted.
    fn send_batch(&self, body: &str, count: usize) -> Result<(), String> {
        let start = Instant::now();
        let mut longest = WAIT_FIRST;
        loop {
            let (why, retry_after) = match self.try_once(body, count) {
                Ok(()) => return Ok(()),
                Err(Failure::Final(why)) => return Err(why),
                Err(Failure::Retry(why, retry_after)) => (why, retry_after),
            };
            // Full jitter: clients that failed together must not retry together.
            let wait = retry_after + longest.mul_f64(fastrand::f64());
            if start.elapsed() + wait > self.give_up_after {
                return Err(format!("gave up after {:?}: {why}", self.give_up_after));
            }
            eprintln!("trying again in {wait:.1?}: {why}");
            std::thread::sleep(wait);
            longest = WAIT_MAX.min(2 * longest);
        }
    }

    fn try_once(&self, body: &str, count: usize) -> Result<(), Failure> {
        let lost = |error: ureq::Error| Failure::Retry(format!("no answer: {error}"), Duration::ZERO);
        let mut request = self.agent.post(&self.url).content_type("application/json");
        if let Some(key) = &self.key {
            request = request.header("Authorization", format!("Bearer {key}"));
        }
        let mut answer = request.send(body).map_err(lost)?;
        let text = answer.body_mut().read_to_string().map_err(lost)?;
        // The answer may come from a proxy in front, and be no JSON.
        let fields: Value = serde_json::from_str(&text).unwrap_or_default();
        let status = answer.status().as_u16();
        if matches!(status, 200 | 202) && fields["accepted"] == count {
            return Ok(());
        }
        let text = |of: &Value, name| of[name].as_str().unwrap_or_default().to_owned();
        let mut why = format!("{status} {}: {}", text(&fields, "code"), text(&fields, "detail"));
        // 408 and 5xx come from a slow network, or from a proxy in front.
        if matches!(status, 408 | 429 | 500..) {
            let seconds = answer.headers().get("Retry-After");
            let seconds = seconds.and_then(|seconds| seconds.to_str().ok()?.parse::<u32>().ok());
            let retry_after = Duration::from_secs(seconds.unwrap_or(0).into());
            return Err(Failure::Retry(why, retry_after));
        }
        for error in fields["errors"].as_array().into_iter().flatten() {
            let (field, message) = (text(error, "field"), text(error, "message"));
            why += &format!("\n  event {}, {field}: {message}", error["index"]);
        }
        Err(Failure::Final(why))
    }
}

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let input = serde_json::Deserializer::from_reader(io::stdin().lock()).into_iter();
    let mut events = input.collect::<Result<Vec<Event>, _>>()?;
    let Err((why, accepted)) = Client::from_environment().send(&mut events) else {
        return Ok(ExitCode::SUCCESS);
    };
    let left = &events[accepted..];
    eprintln!("{} of {} events were not accepted: {why}", left.len(), events.len());
    for event in left {
        writeln!(io::stdout(), "{}", json!(event))?;
    }
    Ok(ExitCode::FAILURE)
}
