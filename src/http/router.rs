//! The API in one table.

use hyper::body::Incoming;
use hyper::header::{CONNECTION, HOST, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, Version};

use super::body::RequestBody;
use super::error::ApiError;
use super::response::{self, Response};
use super::watchdog::Activity;
use super::{App, health, ingest, query};

/// Every route. GET routes answer HEAD too, and each answers OPTIONS, which load balancers use to see whether anybody is there: with the
/// methods, and without leave for other sites' pages. A POST takes one parameter, `wait`; the rest of its query string is ignored, because proxies
/// and trackers add parameters of their own, and an event must not get lost for that.
static ROUTES: [(Verb, &str, Endpoint); 4] = [
    (Verb::Post, "/events", Endpoint::Event),
    (Verb::Post, "/events/bulk", Endpoint::Bulk),
    (Verb::Get, "/metrics", Endpoint::Metrics),
    (Verb::Get, "/health", Endpoint::Health),
];

#[derive(Debug, Clone, Copy)]
enum Endpoint {
    Event,
    Bulk,
    Metrics,
    Health,
}

#[derive(Debug, Clone, Copy)]
enum Verb {
    Get,
    Post,
}

impl Verb {
    fn takes(self, method: &Method) -> bool {
        match self {
            // hyper leaves the body of an answer to HEAD out.
            Self::Get => method == Method::GET || method == Method::HEAD,
            Self::Post => method == Method::POST,
        }
    }

    fn allow(self) -> &'static str {
        match self {
            Self::Get => "GET, HEAD, OPTIONS",
            Self::Post => "POST, OPTIONS",
        }
    }
}

/// Answers one request. Never fails: what goes wrong is an answer too.
pub(super) async fn answer(app: &App, activity: &Activity, request: Request<Incoming>) -> Response {
    let (head, incoming) = request.into_parts();
    let mut body = RequestBody::new(&head, incoming, activity);
    let mut response = dispatch(app, &head, &mut body)
        .await
        .unwrap_or_else(ApiError::into_response);
    let can_carry_another = body.finish().await;
    if !can_carry_another {
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

async fn dispatch(
    app: &App,
    head: &Parts,
    body: &mut RequestBody<'_>,
) -> Result<Response, ApiError> {
    check_host(head)?;
    app.hosts.check(head)?;
    let (verb, endpoint) = find(head.uri.path())?;
    if head.method == Method::OPTIONS {
        return Ok(response::allowed(verb.allow()));
    }
    if !verb.takes(&head.method) {
        let allow = verb.allow();
        return Err(ApiError::MethodNotAllowed { allow });
    }
    match endpoint {
        Endpoint::Event => ingest::event(app, head, body).await,
        Endpoint::Bulk => ingest::bulk(app, head, body).await,
        Endpoint::Metrics => query::metrics(app, head.uri.query().unwrap_or("")).await,
        Endpoint::Health => Ok(health::health(app)),
    }
}

fn find(path: &str) -> Result<(Verb, Endpoint), ApiError> {
    let known = ROUTES.iter().find(|(_, known, _)| *known == path);
    known
        .map(|&(verb, _, endpoint)| (verb, endpoint))
        .ok_or(ApiError::NotFound)
}

/// RFC 9112, section 3.2: two readings of one request must not lead to two different hosts.
fn check_host(head: &Parts) -> Result<(), ApiError> {
    let mut hosts = head.headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(_), None) => Ok(()),
        (None, _) if head.version == Version::HTTP_10 => Ok(()),
        _ => Err(ApiError::BadHost),
    }
}
