//! Dispatches each request to its handler, by the table of routes ([`crate::api::routes`]).

use hyper::body::Incoming;
use hyper::header::{CONNECTION, HOST, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, Version};

use super::body::RequestBody;
use super::error::ApiError;
use super::response::{self, Response};
use super::watchdog::Activity;
use super::{App, health, ingest, query};
use crate::api::routes::{self, Endpoint, ROUTES, Route};

/// Answers one request. Never fails: an error is an answer too.
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

async fn dispatch(app: &App, head: &Parts, body: &mut RequestBody<'_>) -> Result<Response, ApiError> {
    check_host(head)?;
    app.hosts.check(head)?;
    let route = find(head.uri.path())?;
    let allow = route.method.allow();
    if head.method == Method::OPTIONS {
        return Ok(response::allowed(allow));
    }
    if !takes(route, &head.method) {
        return Err(ApiError::MethodNotAllowed { allow });
    }
    match route.endpoint {
        Endpoint::Event => ingest::event(app, head, body).await,
        Endpoint::Bulk => ingest::bulk(app, head, body).await,
        Endpoint::Metrics => query::metrics(app, head.uri.query().unwrap_or("")).await,
        Endpoint::Health => Ok(health::health(app)),
    }
}

fn find(path: &str) -> Result<&'static Route, ApiError> {
    let known = ROUTES.iter().find(|route| route.path == path);
    known.ok_or(ApiError::NotFound)
}

fn takes(route: &Route, method: &Method) -> bool {
    match route.method {
        // hyper leaves out the body of an answer to HEAD.
        routes::Method::Get => method == Method::GET || method == Method::HEAD,
        routes::Method::Post => method == Method::POST,
    }
}

/// Requires exactly one `Host` (RFC 9112, section 3.2), so that a proxy and this server cannot read different hosts in
/// one request.
fn check_host(head: &Parts) -> Result<(), ApiError> {
    let mut hosts = head.headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(_), None) => Ok(()),
        (None, _) if head.version == Version::HTTP_10 => Ok(()),
        _ => Err(ApiError::BadHost),
    }
}
