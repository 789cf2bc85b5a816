//! One message there and one back, between two namespaces.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::Namespace;

/// How long each step of an exchange may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp,
    Udp,
}

/// Who listens where, and who sends whereto.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exchange<'a> {
    pub(crate) transport: Transport,
    pub(crate) server: &'a Namespace,
    pub(crate) listen: SocketAddr,
    pub(crate) client: &'a Namespace,
    pub(crate) to: SocketAddr,
}

impl Exchange<'_> {
    /// The address that the server sees, if the client gets its answer.
    pub(crate) fn seen(&self) -> anyhow::Result<Option<IpAddr>> {
        match self.transport {
            Transport::Tcp => self.seen_by_tcp(),
            Transport::Udp => self.seen_by_udp(),
        }
    }

    fn seen_by_tcp(&self) -> anyhow::Result<Option<IpAddr>> {
        let listener = self.server.enter(|| bound(|| TcpListener::bind(self.listen)))?;
        listener.set_nonblocking(true)?;
        let Ok(mut client) = self.client.enter(|| Ok(TcpStream::connect_timeout(&self.to, PATIENCE)?)) else {
            return Ok(None);
        };
        client.set_read_timeout(Some(PATIENCE))?;
        let deadline = Instant::now() + PATIENCE;
        let (mut server, peer) = loop {
            match listener.accept() {
                Ok(accepted) => break accepted,
                Err(error) if error.kind() == ErrorKind::WouldBlock && Instant::now() < deadline => {
                    thread::sleep(Duration::from_millis(1));
                }
                // Somebody else took the connection.
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error).context("accept"),
            }
        };
        server.write_all(b"!")?;
        Ok(client.read_exact(&mut [0]).is_ok().then(|| peer.ip().to_canonical()))
    }

    fn seen_by_udp(&self) -> anyhow::Result<Option<IpAddr>> {
        let server = self.server.enter(|| bound(|| UdpSocket::bind(self.listen)))?;
        server.set_read_timeout(Some(PATIENCE))?;
        let any = if self.to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let client = self.client.enter(|| {
            let client = UdpSocket::bind(any)?;
            // From now on it takes answers from there only.
            Ok(client.connect(self.to).and_then(|()| client.send(b"?")).map(|_| client))
        })?;
        let Ok(client) = client else { return Ok(None) };
        client.set_read_timeout(Some(PATIENCE))?;
        let Ok((_, peer)) = server.recv_from(&mut [0; 8]) else { return Ok(None) };
        server.send_to(b"!", peer)?;
        Ok(client.recv(&mut [0; 8]).is_ok().then(|| peer.ip().to_canonical()))
    }
}

/// Takes a port. Another thread that starts a program at this moment may hold
/// what had it before for a little longer.
fn bound<T>(bind: impl Fn() -> io::Result<T>) -> anyhow::Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match bind() {
            Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(5));
            }
            taken => return taken.context("take a port"),
        }
    }
}
