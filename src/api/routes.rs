//! Every route of the API, in one table.

/// One route.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    /// How it is asked.
    pub method: Method,
    /// Its path, from the first slash on.
    pub path: &'static str,
    /// What answers it.
    pub endpoint: Endpoint,
}

/// How a route is asked.
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
    /// Tells how the server is.
    Health,
}

/// Where an array of events goes.
pub const BULK: &str = "/events/bulk";
/// Where metrics are asked for.
pub const METRICS: &str = "/metrics";
/// Where health is asked for.
pub const HEALTH: &str = "/health";

/// Every route. GET routes answer HEAD too, and each answers OPTIONS, which load balancers use to see whether anybody
/// is there: with the methods, and without leave for other sites' pages. A POST takes one parameter, `wait`; the rest
/// of its query string is ignored, because proxies and trackers add parameters of their own, and an event must not get
/// lost for that.
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
    /// As a request line has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
        }
    }

    /// Value of the `Allow` header of a route that is asked like this.
    pub fn allow(self) -> &'static str {
        match self {
            Self::Get => "GET, HEAD, OPTIONS",
            Self::Post => "POST, OPTIONS",
        }
    }
}

/// The routes in a sentence, for whoever asked for another one.
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
