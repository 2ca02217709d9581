//! The shapes, one per line: what is in doubt, the request, and how it must be answered.

/// A request, and the statuses of all answers that come until the server closes. With `{L}` for the length of its
/// event, `{B}` for the event, `{C}` for the event in chunks.
pub(super) type Shape = (&'static str, &'static str, &'static [u16]);

/// The end of the body is in doubt, or the request is malformed.
#[rustfmt::skip]
pub(super) const LENGTHS: &[Shape] = &[
    // hyper follows RFC 9112, section 6.3: chunked wins, and the connection ends with the answer.
    ("a length and chunks", "{P}Content-Length: {L}\r\nTransfer-Encoding: chunked\r\n\r\n{C}", &[202]),
    ("chunks and a length", "{P}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n{C}", &[202]),
    ("chunks and length 0", "{P}Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n{C}", &[202]),
    ("chunks and a bad length", "{P}Transfer-Encoding: chunked\r\nContent-Length: x\r\n\r\n{C}", &[202]),
    ("a bad length and chunks", "{P}Content-Length: x\r\nTransfer-Encoding: chunked\r\n\r\n{C}", &[400]),
    // RFC 9112 allows equal lengths to count as one.
    ("a length twice", "{P}Content-Length: {L}\r\nContent-Length: {L}\r\n\r\n{B}", &[202, 202]),
    ("two lengths", "{P}Content-Length: {L}\r\nContent-Length: 5\r\n\r\n{B}", &[400]),
    ("two lengths, 0 last", "{P}Content-Length: {L}\r\nContent-Length: 0\r\n\r\n{B}", &[400]),
    ("a list of lengths", "{P}Content-Length: {L}, {L}\r\n\r\n{B}", &[400]),
    ("a list without space", "{P}Content-Length: 5,5\r\n\r\nhello", &[400]),
    ("a plus", "{P}Content-Length: +{L}\r\n\r\n{B}", &[400]),
    ("a minus", "{P}Content-Length: -{L}\r\n\r\n{B}", &[400]),
    ("minus 0", "{P}Content-Length: -0\r\n\r\n", &[400]),
    ("hexadecimal", "{P}Content-Length: 0x5\r\n\r\nhello", &[400]),
    ("a fraction", "{P}Content-Length: 5.0\r\n\r\nhello", &[400]),
    ("no digits", "{P}Content-Length: \r\n\r\n", &[400]),
    ("an inner space", "{P}Content-Length: 1 2\r\n\r\nhello", &[400]),
    ("a tab in the number", "{P}Content-Length: 5\t5\r\n\r\nhello", &[400]),
    ("2^64", "{P}Content-Length: 18446744073709551616\r\n\r\nhello", &[400]),
    ("2^64 - 1", "{P}Content-Length: 18446744073709551615\r\n\r\nhello", &[431]),
    ("2^64 + 5", "{P}Content-Length: 18446744073709551621\r\n\r\nhello", &[400]),
    ("30 digits", "{P}Content-Length: 100000000000000000000000000005\r\n\r\nhello", &[400]),
    // No doubt about these: white space around a value and leading zeros of a number mean nothing.
    ("outer space", "{P}Content-Length: \t {L} \t\r\n\r\n{B}", &[202, 202]),
    ("zeros", "{P}Content-Length: 0000000000000000000000000{L}\r\n\r\n{B}", &[202, 202]),
];

#[rustfmt::skip]
pub(super) const CODINGS: &[Shape] = &[
    ("upper case", "{P}Transfer-Encoding: CHUNKED\r\n\r\n{C}", &[202, 202]),
    ("xchunked", "{P}Transfer-Encoding: xchunked\r\n\r\n{C}", &[400]),
    ("chunkedx", "{P}Transfer-Encoding: chunkedx\r\n\r\n{C}", &[400]),
    ("quoted", "{P}Transfer-Encoding: \"chunked\"\r\n\r\n{C}", &[400]),
    ("a parameter", "{P}Transfer-Encoding: chunked;q=1\r\n\r\n{C}", &[400]),
    ("identity", "{P}Transfer-Encoding: identity\r\n\r\n{C}", &[400]),
    ("identity with a length", "{P}Transfer-Encoding: identity\r\nContent-Length: {L}\r\n\r\n{B}", &[400]),
    ("nothing", "{P}Transfer-Encoding: \r\n\r\n{C}", &[400]),
    ("gzip", "{P}Transfer-Encoding: gzip\r\n\r\n{C}", &[400]),
    ("chunked, then identity", "{P}Transfer-Encoding: chunked, identity\r\n\r\n{C}", &[400]),
    ("chunked and identity", "{P}Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n{C}", &[400]),
    // The end is clear; the other coding is not supported.
    ("gzip, then chunked", "{P}Transfer-Encoding: gzip, chunked\r\n\r\n{C}", &[415]),
    ("identity and chunked", "{P}Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n{C}", &[415]),
    ("chunked twice", "{P}Transfer-Encoding: chunked, chunked\r\n\r\n{C}", &[415]),
    ("HTTP/1.0", "POST /events HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n{C}", &[400]),
    ("a form feed", "{P}Transfer-Encoding: \x0cchunked\r\n\r\n{C}", &[400]),
    ("a vertical tab", "{P}Transfer-Encoding:\x0bchunked\r\n\r\n{C}", &[400]),
    ("a control character", "{P}Transfer-Encoding: chunked\x01\r\n\r\n{C}", &[400]),
];

#[rustfmt::skip]
pub(super) const CHUNKS: &[Shape] = &[
    ("an extension", "{K}5;a=b\r\nhello\r\n0\r\n\r\n", &[400, 202]),
    ("trailers", "{K}5\r\nhello\r\n0\r\nX: y\r\n\r\n", &[400]),
    ("zeros", "{K}0000000005\r\nhello\r\n0000\r\n\r\n", &[400, 202]),
    ("no size", "{K}\r\nhello\r\n0\r\n\r\n", &[400]),
    ("a plus", "{K}+5\r\nhello\r\n0\r\n\r\n", &[400]),
    ("a minus", "{K}-5\r\nhello\r\n0\r\n\r\n", &[400]),
    ("0x", "{K}0x5\r\nhello\r\n0\r\n\r\n", &[400]),
    ("an underscore", "{K}0_5\r\nhello\r\n0\r\n\r\n", &[400]),
    ("a leading space", "{K} 5\r\nhello\r\n0\r\n\r\n", &[400]),
    ("2^64", "{K}10000000000000000\r\nhello\r\n0\r\n\r\n", &[400]),
    ("2^64 + 5", "{K}10000000000000005\r\nhello\r\n0\r\n\r\n", &[400]),
    ("2^68 + 5", "{K}100000000000000005\r\nhello\r\n0\r\n\r\n", &[400]),
    ("more data than the size", "{K}5\r\nhelloXX0\r\n\r\n", &[400]),
    ("less data than the size", "{K}6\r\nhello\r\n0\r\n\r\n", &[400]),
    ("a bare LF after the size", "{K}5\nhello\r\n0\r\n\r\n", &[400]),
    ("a bare CR after the size", "{K}5\rhello\r\n0\r\n\r\n", &[400]),
    ("a bare LF after the data", "{K}5\r\nhello\n0\r\n\r\n", &[400]),
    ("a bare LF in an extension", "{K}5;a\nb\r\nhello\r\n0\r\n\r\n", &[400]),
    ("a bare CR in an extension", "{K}5;a\rb\r\nhello\r\n0\r\n\r\n", &[400]),
    ("a bare LF at the end", "{K}5\r\nhello\r\n0\r\n\n", &[400]),
    ("garbage at the end", "{K}5\r\nhello\r\n0\r\nGET / HTTP/1.1\r\n\r\n", &[400]),
];

#[rustfmt::skip]
pub(super) const HEADS: &[Shape] = &[
    ("a space before the colon", "{P}Content-Length : {L}\r\n\r\n{B}", &[400]),
    ("a tab before the colon", "{P}Content-Length\t: {L}\r\n\r\n{B}", &[400]),
    ("a space before that of chunks", "{P}Transfer-Encoding : chunked\r\n\r\n{C}", &[400]),
    ("a folded line", "{P}X: a\r\n b\r\nContent-Length: {L}\r\n\r\n{B}", &[400]),
    ("a folded length", "{P}Content-Length:\r\n {L}\r\n\r\n{B}", &[400]),
    ("a folded coding", "{P}Transfer-Encoding:\r\n chunked\r\n\r\n{C}", &[400]),
    ("a first line that is folded", "POST /events HTTP/1.1\r\n Host: localhost\r\n\r\n", &[400]),
    ("no colon", "{P}Content-Length\r\n\r\n{B}", &[400]),
    ("no name", "{P}: {L}\r\n\r\n{B}", &[400]),
    ("NUL in a value", "{P}X: a\0b\r\nContent-Length: {L}\r\n\r\n{B}", &[400]),
    ("NUL in a name", "{P}X\0: a\r\nContent-Length: {L}\r\n\r\n{B}", &[400]),
    ("NUL in the target", "POST /events\0 HTTP/1.1\r\nHost: localhost\r\n\r\n", &[400]),
    ("a bare CR in a value", "{P}X: a\rContent-Length: {L}\r\n\r\n{B}", &[400]),
    ("a bare CR in the first line", "POST /events\rHTTP/1.1\r\nHost: localhost\r\n\r\n", &[400]),
    ("no host", "POST /events HTTP/1.1\r\nContent-Length: 0\r\n\r\n", &[400, 202]),
    ("two hosts", "GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", &[400, 202]),
    ("HTTP/0.9", "GET /health\r\n\r\n", &[400]),
    ("HTTP/1.2", "GET /health HTTP/1.2\r\nHost: localhost\r\n\r\n", &[400]),
    ("HTTP/2.0", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[]),
    ("http/1.1", "GET /health http/1.1\r\nHost: localhost\r\n\r\n", &[400]),
    ("a space in the target", "GET /hea lth HTTP/1.1\r\nHost: localhost\r\n\r\n", &[400]),
    ("two spaces", "GET  /health HTTP/1.1\r\nHost: localhost\r\n\r\n", &[400]),
    ("a tab", "GET\t/health\tHTTP/1.1\r\nHost: localhost\r\n\r\n", &[400]),
    ("a space first", " GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n", &[400]),
    // An ordinary request, answered as such.
    ("empty lines first", "\r\n\r\nGET /health HTTP/1.1\r\nHost: localhost\r\n\r\n", &[200, 202]),
    ("lower case", "get /health HTTP/1.1\r\nHost: localhost\r\n\r\n", &[405, 202]),
    ("absolute", "GET http://localhost/health HTTP/1.1\r\nHost: localhost\r\n\r\n", &[200, 202]),
    ("absolute, another host", "GET http://other/health HTTP/1.1\r\nHost: localhost\r\n\r\n", &[403, 202]),
    ("another host", "GET /health HTTP/1.1\r\nHost: other\r\n\r\n", &[403, 202]),
    ("another site", "GET /health HTTP/1.1\r\nHost: localhost\r\nOrigin: http://other\r\n\r\n", &[403, 202]),
    ("TRACE", "TRACE /health HTTP/1.1\r\nHost: localhost\r\n\r\n", &[405, 202]),
    ("OPTIONS *", "OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n", &[404, 202]),
    ("GET with a body", "GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello", &[200, 202]),
    ("CONNECT", "CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n", &[404, 202]),
    ("an upgrade", "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n", &[200, 202]),
    // RFC 9112, section 2.2, lets a line end with LF alone. Both readings end at the same place.
    ("bare LF", "GET /health HTTP/1.1\nHost: localhost\n\n", &[200, 202]),
];
