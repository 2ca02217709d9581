//! HTTP/1.1 by hand on hyper: connections, routes, answers.
