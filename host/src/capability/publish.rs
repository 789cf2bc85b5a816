//! `weir:firewall/publish`: ports of containers at the node's addresses.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use wasmtime::component::Resource;

use super::addresses::address_family;
use super::error::{failure_to_net_error, net_error};
use super::links::LinkHandle;
use crate::call::{Certainty, Served};
use crate::failure::Failure;
use crate::firewall::{self, Publication, Taken, Wanted};
use crate::journal::{Inverse, Side};
use crate::policy::{self, Operation};
use crate::protocol::Protocol;
use crate::result::Prefix;
use crate::session::Session;
use crate::wit::weir::firewall::publish::{self, Port};
use crate::wit::{self, IpFamily, NetError};

/// Ports in one list: what they take has to fit into one message to the kernel,
/// which by default is at most 208 KiB.
const PORT_LIMIT: usize = 128;

/// The setting of a link that lets loopback addresses pass.
const ROUTE_LOCALNET: &str = "route_localnet";

/// Why ports were not published.
enum PublishError {
    Taken(Taken),
    Failure(Failure),
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Taken(Taken { wanted, holder }) => {
                write!(f, "publish {wanted}: another attachment ({holder}) publishes that port")
            }
            Self::Failure(failure) => failure.fmt(f),
        }
    }
}

impl Certainty for PublishError {
    fn nothing_changed(&self) -> bool {
        match self {
            Self::Taken(_) => true,
            Self::Failure(failure) => failure.nothing_changed(),
        }
    }
}

impl publish::Host for Session {
    fn add(&mut self, ports: Vec<Port>) -> Served<Result<(), NetError>> {
        self.call.check_time()?;
        let ports = match publications(&ports) {
            Ok(ports) if ports.is_empty() => return Ok(Ok(())),
            Ok(ports) => ports,
            Err(reason) => return Ok(Err(NetError::Invalid(reason))),
        };
        let locals = match self.permit_ports(&ports)? {
            Ok(locals) => locals,
            Err(error) => return Ok(Err(error)),
        };
        // One port, one change: what is made at once is no less of it.
        for _ in 1..ports.len() {
            self.call.count_change(&self.guest)?;
        }
        let owner = self.call.key.name();
        let attachments = self.call.node.paths().attachments();
        let is_gone = |holder: &str| !attachments.join(holder).exists();
        let wanted = Wanted { ports: &ports, is_gone: &is_gone };
        let inverse = Inverse::RemovePorts { ports: ports.clone() };
        let added = self.call.change(
            &self.guest,
            "publish",
            firewall::summary(&ports),
            Some(inverse),
            || match self.call.node.firewall(|firewall| firewall.publish(&owner, &wanted)) {
                Ok(Ok(())) => Ok(()),
                Ok(Err(taken)) => Err(PublishError::Taken(taken)),
                Err(failure) => Err(PublishError::Failure(failure)),
            },
        )?;
        match added {
            Ok(()) => self.forget_connections(&ports, &locals),
            Err(PublishError::Failure(failure)) => Ok(Err(failure_to_net_error(failure))),
            Err(taken) => Ok(Err(NetError::AlreadyExists(taken.to_string()))),
        }
    }

    fn enable_loopback(&mut self, link: Resource<LinkHandle>) -> Served<Result<(), NetError>> {
        let link = self.link_of(&link)?;
        let name = match link.netns.link_name(link.index()) {
            Ok(name) => name,
            Err(error) => return Ok(Err(net_error(error))),
        };
        if link.side == Side::Container {
            return Ok(Err(NetError::Invalid(format!(
                "let loopback addresses leave by {name}: it is no link of the node"
            ))));
        }
        let path = format!("conf/{name}/{ROUTE_LOCALNET}");
        if let Err(denied) = self.permit_use(link, "enable-loopback", &path)? {
            return Ok(Err(denied));
        }
        if let Err(denied) = self.permit("enable-loopback", &path, &[Operation::Sysctl(ROUTE_LOCALNET)])? {
            return Ok(Err(denied));
        }
        match link.netns.sysctl(true, &path) {
            Ok(value) if value == "1" => return Ok(Ok(())),
            Ok(_) => {}
            Err(error) => return Ok(Err(net_error(error))),
        }
        let done = self.call.change_shared(&self.guest, "enable-loopback", path.as_str(), || {
            // Whoever else sends to loopback addresses is kept out first.
            self.call.node.firewall(|firewall| firewall.guard_loopback())?;
            link.netns.set_sysctl(true, &path, "1").map_err(Failure::from)
        })?;
        Ok(done.map_err(failure_to_net_error))
    }

    fn remove(&mut self) -> Served<Result<(), NetError>> {
        let owner = self.call.key.name();
        let ports = match self.published() {
            Ok(ports) => ports,
            Err(failure) => return Ok(Err(failure_to_net_error(failure))),
        };
        if ports.is_empty() {
            return Ok(Ok(()));
        }
        let removed = self.call.change(&self.guest, "unpublish", firewall::summary(&ports), None, || {
            self.call.node.firewall(|firewall| firewall.unpublish(&owner, &ports))
        })?;
        if let Err(failure) = removed {
            return Ok(Err(failure_to_net_error(failure)));
        }
        self.call.settle(|inverse| matches!(inverse, Inverse::RemovePorts { .. }))?;
        Ok(Ok(()))
    }

    fn list(&mut self) -> Served<Result<Vec<Port>, NetError>> {
        self.call.check_time()?;
        let owner = self.call.key.name();
        let ports = self.published().and_then(|ports| {
            let mut held = Vec::new();
            for port in ports {
                let found = self.call.node.firewall(|firewall| firewall.publication(&owner, &port))?;
                held.extend(found.map(to_port));
            }
            Ok(held)
        });
        Ok(ports.map_err(failure_to_net_error))
    }
}

impl Session {
    /// Whether ports may be published, and lead to the container and nothing
    /// else; returns the node's addresses.
    fn permit_ports(&self, ports: &[Publication]) -> Served<Result<Vec<IpAddr>, NetError>> {
        for port in ports {
            let wanted = [
                Operation::Port(policy::Port {
                    address: port.host,
                    number: port.host_port,
                    protocol: port.protocol,
                }),
                Operation::Address(IpNet::from(port.container.addr())),
            ];
            if let Err(denied) = self.permit("publish", &port.to_string(), &wanted)? {
                return Ok(Err(denied));
            }
        }
        let families = [IpFamily::Ipv4, IpFamily::Ipv6];
        let mut locals = Vec::new();
        for family in families {
            let is_ipv4 = family == IpFamily::Ipv4;
            let ports: Vec<_> =
                ports.iter().filter(|port| port.container.addr().is_ipv4() == is_ipv4).collect();
            if ports.is_empty() {
                continue;
            }
            let (own, of_node) = match self.addresses_of_both(family) {
                Ok(addresses) => addresses,
                Err(error) => return Ok(Err(error)),
            };
            for port in ports {
                let address = port.container.addr();
                let reason = if address.is_loopback() || of_node.contains(&address) {
                    format!("publish {port}: {address} is an address of the node")
                } else if !own.contains(&address) {
                    format!("publish {port}: no link of the container has the address {address}")
                } else {
                    continue;
                };
                return self.forbid("publish", &port.to_string(), reason);
            }
            locals.extend(of_node);
        }
        Ok(Ok(locals))
    }

    /// The container's addresses, and the node's.
    fn addresses_of_both(&self, family: IpFamily) -> Result<(Vec<IpAddr>, Vec<IpAddr>), NetError> {
        let of = |side: Side| match self.call.node.netns(side).map_err(failure_to_net_error)? {
            Some(netns) => netns.all_addresses(address_family(family)).map_err(net_error),
            None => Ok(Vec::new()),
        };
        Ok((of(Side::Container)?, of(Side::Host)?))
    }

    /// Makes the kernel forget where packets to the ports went before.
    fn forget_connections(&self, ports: &[Publication], locals: &[IpAddr]) -> Served<Result<(), NetError>> {
        let ports: Vec<_> = ports.iter().copied().filter(|port| port.protocol == Protocol::Udp).collect();
        if ports.is_empty() {
            return Ok(Ok(()));
        }
        let object = firewall::summary(&ports);
        let forgotten = self.call.change(&self.guest, "forget-connections", object, None, || {
            self.call.node.firewall(|firewall| firewall.forget_connections(&ports, locals))
        })?;
        Ok(forgotten.map_err(failure_to_net_error))
    }

    /// The attachment's ports, as for masquerading.
    fn published(&self) -> Result<Vec<Publication>, Failure> {
        let journaled = self.call.journaled(|inverse| match inverse {
            Inverse::RemovePorts { ports } => Some(ports.clone()),
            _ => None,
        })?;
        let Some(lists) = journaled else {
            let owner = self.call.key.name();
            let all = self.call.node.firewall(|firewall| firewall.publications())?;
            return Ok(all.into_iter().filter(|(named, _)| *named == owner).map(|(_, port)| port).collect());
        };
        // One may have replaced another.
        let mut ports: Vec<Publication> = Vec::new();
        for port in lists.into_iter().flatten() {
            ports.retain(|other| !other.is_at_place_of(&port));
            ports.push(port);
        }
        Ok(ports)
    }
}

/// Reads what a plugin wants to publish.
fn publications(ports: &[Port]) -> Result<Vec<Publication>, String> {
    if ports.len() > PORT_LIMIT {
        return Err(format!("publish {} ports at once: at most {PORT_LIMIT} can be", ports.len()));
    }
    let mut read: Vec<Publication> = Vec::with_capacity(ports.len());
    for port in ports {
        let publication = publication(port)?;
        if let Some(other) = read.iter().find(|other| other.is_at_place_of(&publication)) {
            return Err(format!("publish {publication}: the same port is to lead to another one ({other})"));
        }
        read.push(publication);
    }
    Ok(read)
}

fn publication(port: &Port) -> Result<Publication, String> {
    let Some(container) = wit::prefix(port.container) else {
        return Err(format!(
            "publish a port of {}/{}: that is no prefix of its family",
            wit::ip(port.container.address),
            port.container.length
        ));
    };
    let publication = Publication {
        protocol: match port.protocol {
            publish::Protocol::Tcp => Protocol::Tcp,
            publish::Protocol::Udp => Protocol::Udp,
            publish::Protocol::Sctp => Protocol::Sctp,
        },
        host: port.host_address.map(wit::ip),
        host_port: port.host_port,
        container: IpNet::new(container.address, container.length)
            .map_err(|error| format!("publish a port of {container}: {error}"))?,
        container_port: port.container_port,
    };
    match reason_against(&publication) {
        Some(reason) => Err(format!("publish {publication}: {reason}")),
        None => Ok(publication),
    }
}

/// Why a port can never be published.
fn reason_against(port: &Publication) -> Option<&'static str> {
    let is_mapped = |address: &IpAddr| address.to_canonical() != *address;
    let container = port.container.addr();
    if port.host_port == 0 || port.container_port == 0 {
        return Some("ports begin with 1");
    }
    if is_mapped(&container) || port.host.as_ref().is_some_and(is_mapped) {
        return Some("no packet has an IPv4-mapped address: write the IPv4 address");
    }
    if container.is_unspecified() || container.is_multicast() {
        return Some("no container has that address");
    }
    let host = port.host?;
    if host.is_ipv4() != container.is_ipv4() {
        return Some("both addresses have to be of one family");
    }
    if host.is_unspecified() {
        return Some("leave the node's address out to mean all of them");
    }
    if host.is_multicast() {
        return Some("a multicast address is none of the node");
    }
    (host == Ipv6Addr::LOCALHOST).then_some("nothing can be forwarded from ::1")
}

fn to_port(port: Publication) -> Port {
    Port {
        protocol: match port.protocol {
            Protocol::Tcp => publish::Protocol::Tcp,
            Protocol::Udp => publish::Protocol::Udp,
            Protocol::Sctp => publish::Protocol::Sctp,
        },
        host_address: port.host.map(wit::to_ip),
        host_port: port.host_port,
        container: wit::to_prefix(Prefix {
            address: port.container.addr(),
            length: port.container.prefix_len(),
        }),
        container_port: port.container_port,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(host: Option<&str>, container: &str) -> Port {
        let (address, length) = container.split_once('/').unwrap();
        Port {
            protocol: publish::Protocol::Tcp,
            host_address: host.map(|host| wit::to_ip(host.parse().unwrap())),
            host_port: 8080,
            container: wit::IpPrefix {
                address: wit::to_ip(address.parse().unwrap()),
                length: length.parse().unwrap(),
            },
            container_port: 80,
        }
    }

    #[test]
    fn ports_survive_the_way_there_and_back() {
        for port in [port(None, "10.1.0.5/24"), port(Some("2001:db8::1"), "fd00::5/64")] {
            let read = publications(&[port]).unwrap();
            assert_eq!(publications(&[to_port(read[0])]).unwrap(), read);
        }
    }

    #[test]
    fn what_can_never_work_is_refused() {
        for (host, container, reason) in [
            (None, "10.1.0.5/33", "no prefix of its family"),
            (None, "::ffff:10.1.0.5/120", "IPv4-mapped"),
            (Some("::ffff:192.0.2.1"), "fd00::5/64", "IPv4-mapped"),
            (Some("192.0.2.1"), "fd00::5/64", "one family"),
            (Some("0.0.0.0"), "10.1.0.5/24", "leave the node's address out"),
            (Some("::"), "fd00::5/64", "leave the node's address out"),
            (Some("224.0.0.1"), "10.1.0.5/24", "multicast"),
            (Some("::1"), "fd00::5/64", "from ::1"),
            (None, "0.0.0.0/0", "no container has"),
            (None, "ff02::1/128", "no container has"),
        ] {
            let error = publications(&[port(host, container)]).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
        let good = port(None, "10.1.0.5/24");
        for bad in [Port { host_port: 0, ..good }, Port { container_port: 0, ..good }] {
            assert!(publications(&[bad]).unwrap_err().contains("begin with 1"));
        }
    }

    #[test]
    fn a_list_has_each_port_once_and_is_short() {
        let good = port(None, "10.1.0.5/24");
        let other = Port { container_port: 81, ..good };
        assert!(publications(&[good, other]).unwrap_err().contains("the same port"));
        let at_one = port(Some("192.0.2.1"), "10.1.0.5/24");
        assert_eq!(publications(&[good, at_one, port(None, "fd00::5/64")]).unwrap().len(), 3);
        let many = |count: u16| (1..=count).map(|host_port| Port { host_port, ..good }).collect::<Vec<_>>();
        assert!(publications(&many(128)).is_ok() && publications(&many(129)).is_err());
    }
}
