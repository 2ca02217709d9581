//! Every route of the API, in one table.

/// One route.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    /// HTTP method.
    pub method: Method,
    /// Its path, from the first slash on.
    pub path: &'static str,
    /// What answers it.
    pub endpoint: Endpoint,
}

/// HTTP method of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// GET, and HEAD for its headers alone.
    Get,
    /// POST.
    Post,
}

/// What answers a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// Takes one event.
    Event,
    /// Takes an array of events, all or none.
    Bulk,
    /// Counts events and users.
    Metrics,
    /// Reports the state of the server.
    Health,
}

/// Path to send an array of events to.
pub const BULK: &str = "/events/bulk";
/// Path of the metrics query.
pub const METRICS: &str = "/metrics";
/// Path of the health check.
pub const HEALTH: &str = "/health";

/// Every route. GET routes answer HEAD too. Each route answers OPTIONS, which load balancers use as a check: with its
/// methods, and without permission for pages of other sites (CORS). A POST takes one parameter, `wait`; the rest of its
/// query string is ignored, because proxies and trackers add parameters of their own, and that must not lose an event.
pub const ROUTES: [Route; 4] = [
    Route {
        method: Method::Post,
        path: "/events",
        endpoint: Endpoint::Event,
    },
    Route {
        method: Method::Post,
        path: BULK,
        endpoint: Endpoint::Bulk,
    },
    Route {
        method: Method::Get,
        path: METRICS,
        endpoint: Endpoint::Metrics,
    },
    Route {
        method: Method::Get,
        path: HEALTH,
        endpoint: Endpoint::Health,
    },
];

impl Method {
    /// The method as a request line has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
        }
    }

    /// Value of the `Allow` header of a route with this method.
    pub fn allow(self) -> &'static str {
        match self {
            Self::Get => "GET, HEAD, OPTIONS",
            Self::Post => "POST, OPTIONS",
        }
    }
}

/// The routes in a sentence, for the answer to an unknown path.
pub fn listed() -> String {
    let routes = ROUTES.map(|route| format!("{} {}", route.method.as_str(), route.path));
    let (last, others) = routes.split_last().expect("there are routes");
    format!("{} and {last}", others.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sentence_names_every_route() {
        let expected = "POST /events, POST /events/bulk, GET /metrics and GET /health";
        assert_eq!(listed(), expected);
    }
}
