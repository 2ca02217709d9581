//! Integration tests: real servers, real sockets, real databases, real files. One binary, a module a behaviour.

mod import;
