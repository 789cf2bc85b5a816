//! What is beyond the node, and who can reach whom.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::Namespace;
use super::program::line;

/// How long a connection may take.
const PATIENCE: Duration = Duration::from_millis(1200);

/// A port on which nobody listens.
const CLOSED_PORT: u16 = 9;

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

/// A network namespace that the node routes to.
#[derive(Debug)]
pub(crate) struct World {
    namespace: Namespace,
}

impl World {
    /// The world's addresses.
    pub(crate) const ADDRESS: [&str; 2] = ["192.0.2.2", "2001:db8::2"];

    /// Makes the world and the node's link to it.
    pub(super) fn beyond(node: &Namespace) -> anyhow::Result<Self> {
        let namespace = Namespace::network()?;
        let lines = |namespace: &Namespace, lines: &[&str]| {
            namespace.enter(|| lines.iter().try_for_each(|text| line(text).succeed().map(drop)))
        };
        // The link is made inside the world, its other end put on the node by
        // a process that lives there.
        node.enter(|| {
            let mut holder = namespace.enter(|| line("sleep 30").start())?;
            let made =
                line(&format!("ip link add up0 type veth peer name world0 netns {}", holder.id())).succeed();
            holder.kill()?;
            holder.wait()?;
            made
        })?;
        lines(
            &namespace,
            &[
                "ip link set lo up",
                "ip link set world0 up",
                "ip address add 192.0.2.2/24 dev world0",
                "ip address add 2001:db8::2/64 dev world0 nodad",
            ],
        )?;
        lines(
            node,
            &[
                "ip link set up0 up",
                "ip address add 192.0.2.1/24 dev up0",
                "ip address add 2001:db8::1/64 dev up0 nodad",
            ],
        )?;
        lines(
            &namespace,
            &["ip route add default via 192.0.2.1", "ip -6 route add default via 2001:db8::1"],
        )?;
        Ok(Self { namespace })
    }

    /// Its namespace.
    pub(crate) fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The address that the world sees when a container connects to it, or
    /// none if it cannot.
    pub(crate) fn sees(&self, container: &Namespace, family: Family) -> anyhow::Result<Option<IpAddr>> {
        let (any, address) = match family {
            Family::V4 => ("0.0.0.0:0", Self::ADDRESS[0]),
            Family::V6 => ("[::]:0", Self::ADDRESS[1]),
        };
        let listener = self.namespace.enter(|| TcpListener::bind(any).context("listen in the world"))?;
        let address = SocketAddr::new(address.parse()?, listener.local_addr()?.port());
        let Ok(_connection) = container.enter(|| Ok(TcpStream::connect_timeout(&address, PATIENCE)?)) else {
            return Ok(None);
        };
        listener.set_nonblocking(true)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match listener.accept() {
                Ok((_, peer)) => return Ok(Some(peer.ip())),
                Err(error) if error.kind() == ErrorKind::WouldBlock && Instant::now() < deadline => {
                    thread::sleep(Duration::from_millis(1));
                }
                Err(error) => return Err(error).context("accept the container's connection"),
            }
        }
    }
}

/// Whether a packet from a namespace to an address is answered.
pub(crate) fn reaches(namespace: &Namespace, address: IpAddr) -> anyhow::Result<bool> {
    let address = SocketAddr::new(address, CLOSED_PORT);
    namespace.enter(|| match TcpStream::connect_timeout(&address, PATIENCE) {
        Ok(_) => Ok(true),
        // The other side says that nobody listens, so it is there.
        Err(error) => Ok(error.kind() == ErrorKind::ConnectionRefused),
    })
}
