//! Packets that show whether a network works.

use std::io::{self, ErrorKind, Read};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use super::namespaces::{Container, Node};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// Types of messages: RFC 792 and RFC 4443.
const ICMPV4_REQUEST: u8 = 8;
const ICMPV4_REPLY: u8 = 0;
const ICMPV6_REQUEST: u8 = 128;
const ICMPV6_REPLY: u8 = 129;

/// Sends an echo request from a container and waits for the reply.
pub(super) fn ping(from: &Container, target: IpAddr) -> Result<Duration, String> {
    let sent = Instant::now();
    from.file
        .run(|| echo(target))
        .and_then(|answered| answered)
        .map(|()| sent.elapsed())
        .map_err(|error| format!("ping {target}: {}", reason(&error)))
}

/// Sends an echo request that nobody may answer.
pub(super) fn silence(from: &Container, target: IpAddr) -> Result<Duration, String> {
    let sent = Instant::now();
    match from.file.run(|| echo(target)).and_then(|answered| answered) {
        Ok(()) => Err(format!("{target} answers")),
        // Nobody answers to the request, or to the question who that is.
        Err(error) if is_late(&error) || error.kind() == ErrorKind::HostUnreachable => Ok(sent.elapsed()),
        Err(error) => Err(format!("ping {target}: {error}")),
    }
}

fn echo(target: IpAddr) -> io::Result<()> {
    const IDENTIFIER: [u8; 2] = [0x77, 0x65];
    let (domain, protocol, request, reply) = match target {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4, ICMPV4_REQUEST, ICMPV4_REPLY),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6, ICMPV6_REQUEST, ICMPV6_REPLY),
    };
    let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
    let mut message = [request, 0, 0, 0, IDENTIFIER[0], IDENTIFIER[1], 0, 1];
    if target.is_ipv4() {
        // The kernel fills it in for ICMPv6.
        let sum = checksum(&message).to_be_bytes();
        message[2..4].copy_from_slice(&sum);
    }
    // Whatever others send is not delivered.
    socket.connect(&SocketAddr::new(target, 0).into())?;
    socket.send(&message)?;
    let end = Instant::now() + PATIENCE;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        socket.set_read_timeout(Some(left))?;
        let mut received = [0; 256];
        let length = (&socket).read(&mut received)?;
        // An IPv4 raw socket delivers the IP header too; 20 bytes without
        // options, which an answer to this request does not have.
        let start = if target.is_ipv4() { 20 } else { 0 };
        let received = received[..length].get(start..).unwrap_or_default();
        if received.first() == Some(&reply) && received.get(4..6) == Some(&IDENTIFIER) {
            return Ok(());
        }
    }
}

/// RFC 1071, of an even number of bytes.
fn checksum(message: &[u8]) -> u16 {
    let sum: u32 =
        message.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap_or(u16::MAX)
}

/// Sends a datagram from a container to the host outside and back; the host
/// must not see the container's own address.
pub(super) fn masqueraded(node: &Node, from: &Container, source: IpAddr) -> Result<Duration, String> {
    let sent = Instant::now();
    let seen = exchange(node, from, source)
        .map_err(|error| format!("reach the host outside: {}", reason(&error)))?;
    if seen == source {
        return Err(format!("the host outside sees {seen}, the container's own address"));
    }
    Ok(sent.elapsed())
}

fn exchange(node: &Node, from: &Container, source: IpAddr) -> io::Result<IpAddr> {
    let targets = node.uplinks.map(|uplink| uplink.outside.address);
    let target = targets.into_iter().find(|target| target.is_ipv4() == source.is_ipv4());
    let target = target.ok_or(ErrorKind::AddrNotAvailable)?;
    // A socket stays in the namespace in which it was made.
    let server = node.outside.file.run(|| UdpSocket::bind((target, 0)))??;
    let client = from.file.run(|| UdpSocket::bind((source, 0)))??;
    for socket in [&server, &client] {
        socket.set_read_timeout(Some(PATIENCE))?;
    }
    client.send_to(b"ping", server.local_addr()?)?;
    let (_, peer) = server.recv_from(&mut [0; 16])?;
    server.send_to(b"pong", peer)?;
    client.recv_from(&mut [0; 16])?;
    Ok(peer.ip())
}

fn reason(error: &io::Error) -> String {
    match is_late(error) {
        true => format!("no answer within {PATIENCE:?}"),
        false => error.to_string(),
    }
}

fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

#[cfg(test)]
mod tests {
    use super::checksum;

    #[test]
    fn a_message_with_its_checksum_sums_to_zero() {
        let mut message = [8, 0, 0, 0, 0x77, 0x65, 0, 1];
        let sum = checksum(&message).to_be_bytes();
        message[2..4].copy_from_slice(&sum);
        assert_eq!(checksum(&message), 0);
    }
}
