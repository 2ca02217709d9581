//! A plain HTTP/1.1 client on a blocking socket. It separates the cases that a ledger needs: sent, answered, neither.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use super::PATIENCE;

/// A keep-alive connection.
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
}

/// A complete answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// As received, in lower case.
    pub(crate) headers: String,
    pub(crate) body: String,
}

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    /// Sends a request and reads its answer.
    pub(crate) fn request(&mut self, method: &str, path: &str, body: &[u8]) -> io::Result<Answer> {
        self.send(method, path, body)?;
        self.receive()
    }

    /// Sends a request. On return the system has accepted all of it.
    pub(crate) fn send(&mut self, method: &str, path: &str, body: &[u8]) -> io::Result<()> {
        let mut bytes = head(method, path, body.len()).into_bytes();
        bytes.extend_from_slice(body);
        self.stream.get_mut().write_all(&bytes)
    }

    /// Sends the head of a request, but not the body that it announces.
    pub(crate) fn send_head(&mut self, method: &str, path: &str, length: usize) -> io::Result<()> {
        let head = head(method, path, length);
        self.stream.get_mut().write_all(head.as_bytes())
    }

    /// Reads an answer to its end.
    pub(crate) fn receive(&mut self) -> io::Result<Answer> {
        let mut status_line = String::new();
        self.read_line(&mut status_line)?;
        let status = status_line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| malformed(&status_line))?;
        let mut headers = String::new();
        loop {
            let start = headers.len();
            self.read_line(&mut headers)?;
            if &headers[start..] == "\r\n" {
                break;
            }
        }
        let mut answer = Answer {
            status,
            headers: headers.to_lowercase(),
            body: String::new(),
        };
        let length = answer.header("content-length").map_or(Ok(0), str::parse);
        let mut body = vec![0; length.map_err(|_| malformed(&answer.headers))?];
        self.stream.read_exact(&mut body)?;
        answer.body = String::from_utf8(body).map_err(|_| malformed("a body that is no text"))?;
        Ok(answer)
    }

    fn read_line(&mut self, line: &mut String) -> io::Result<()> {
        self.stream.read_line(line)?;
        if line.ends_with('\n') {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }
}

impl Answer {
    /// Value of the header `name`; both are in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            (found == name).then(|| value.trim())
        })
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

fn head(method: &str, path: &str, length: usize) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n"
    )
}

fn malformed(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.to_owned())
}
