//! Connections that the kernel remembers. One of UDP has no beginning or end:
//! as long as its packets come they go where the first one went, so that who
//! sent to a port before it was published would never come to its container.

use std::net::IpAddr;

use netlink_packet_netfilter::NetfilterProtoFamily;
use netlink_packet_netfilter::conntrack::ConntrackMessage;
use nix::libc::{EINVAL, ENOENT, EOPNOTSUPP};
use rtnetlink::packet_core::{DefaultNla, NLA_F_NESTED, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST};

use super::channel::Channel;
use super::error::Cause;
use super::publication::{self, Publication};
use crate::kernel::Refusal;
use crate::kernel::attribute::attribute;

const NEEDS: &str = "a list of connections (CONFIG_NF_CT_NETLINK, module nf_conntrack_netlink)";

const IPCTNL_MSG_CT_GET: u8 = 1;
const IPCTNL_MSG_CT_DELETE: u8 = 2;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ID: u16 = 12;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_DST_PORT: u16 = 3;

/// Makes the kernel forget the connections to a port that go anywhere but to
/// its container.
pub(super) fn forget(channel: &mut Channel, port: &Publication, locals: &[IpAddr]) -> Result<(), Cause> {
    if channel.is_imagined {
        return Ok(());
    }
    let family = if port.is_ipv4() { NetfilterProtoFamily::IPv4 } else { NetfilterProtoFamily::IPv6 };
    let asked = channel.ask(family, request(IPCTNL_MSG_CT_GET, question(port)), NLM_F_REQUEST | NLM_F_DUMP);
    let (connections, _) = asked.map_err(|cause| match cause {
        Cause::Kernel(refusal) | Cause::Unsupported { refusal, .. }
            if matches!(refusal.errno, EINVAL | EOPNOTSUPP) =>
        {
            Cause::Unsupported { needs: NEEDS, refusal }
        }
        cause => cause,
    })?;
    for connection in connections.iter().filter(|connection| is_stale(connection, port, locals)) {
        let Some(tuple) = attribute(connection, CTA_TUPLE_ORIG) else { continue };
        let mut attributes = vec![other(CTA_TUPLE_ORIG | NLA_F_NESTED, tuple)];
        // Another connection may have come in its place.
        attributes.extend(attribute(connection, CTA_ID).map(|id| other(CTA_ID, id)));
        match channel.ask(family, request(IPCTNL_MSG_CT_DELETE, attributes), NLM_F_REQUEST | NLM_F_ACK) {
            // It has ended by itself.
            Ok(_) | Err(Cause::Kernel(Refusal { errno: ENOENT, .. })) => {}
            Err(cause) => return Err(cause),
        }
    }
    Ok(())
}

/// Which connections the kernel is asked for. Linux before 5.8 does not know
/// what that means, and lists all.
fn question(port: &Publication) -> Vec<DefaultNla> {
    const CTA_FILTER: u16 = 25;
    const CTA_FILTER_ORIG_FLAGS: u16 = 1;
    const CTA_FILTER_REPLY_FLAGS: u16 = 2;
    const CTA_FILTER_F_CTA_PROTO_NUM: u32 = 1 << 3;
    const CTA_FILTER_F_CTA_PROTO_DST_PORT: u32 = 1 << 5;
    let flags = CTA_FILTER_F_CTA_PROTO_NUM | CTA_FILTER_F_CTA_PROTO_DST_PORT;
    let protocol = [
        encoded(CTA_PROTO_NUM, &[port.protocol.number()]),
        encoded(CTA_PROTO_DST_PORT, &port.host_port.to_be_bytes()),
    ];
    let filter = [
        encoded(CTA_FILTER_ORIG_FLAGS, &flags.to_ne_bytes()),
        encoded(CTA_FILTER_REPLY_FLAGS, &0_u32.to_ne_bytes()),
    ];
    vec![
        other(CTA_TUPLE_ORIG | NLA_F_NESTED, &encoded(CTA_TUPLE_PROTO | NLA_F_NESTED, &protocol.concat())),
        other(CTA_FILTER | NLA_F_NESTED, &filter.concat()),
    ]
}

fn other(kind: u16, value: &[u8]) -> DefaultNla {
    DefaultNla::new(kind, value.to_vec())
}

fn request(message_type: u8, attributes: Vec<DefaultNla>) -> ConntrackMessage {
    ConntrackMessage::Other { message_type, attributes }
}

/// An attribute as it is sent.
fn encoded(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = [(value.len() as u16 + 4).to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// Whether a connection came to the port and does not go to its container.
fn is_stale(connection: &[u8], port: &Publication, locals: &[IpAddr]) -> bool {
    let end = |tuple: u16, is_source: bool| {
        attribute(connection, tuple).and_then(|tuple| End::read(tuple, is_source))
    };
    let (Some(original), Some(real)) = (end(CTA_TUPLE_ORIG, false), end(CTA_TUPLE_REPLY, true)) else {
        return false;
    };
    let came_to_port = original.protocol == port.protocol.number()
        && original.port == port.host_port
        && match port.host {
            Some(host) => original.address == host,
            None => locals.contains(&original.address) && !original.address.is_loopback(),
        };
    came_to_port && (real.address, real.port) != (port.container.addr(), port.container_port)
}

/// One end of a connection.
struct End {
    protocol: u8,
    address: IpAddr,
    port: u16,
}

impl End {
    fn read(tuple: &[u8], is_source: bool) -> Option<Self> {
        const CTA_TUPLE_IP: u16 = 1;
        const CTA_PROTO_SRC_PORT: u16 = 2;
        // CTA_IP_V4_SRC, CTA_IP_V4_DST, CTA_IP_V6_SRC, CTA_IP_V6_DST
        let ([v4, v6], port) =
            if is_source { ([1, 3], CTA_PROTO_SRC_PORT) } else { ([2, 4], CTA_PROTO_DST_PORT) };
        let addresses = attribute(tuple, CTA_TUPLE_IP)?;
        let protocol = attribute(tuple, CTA_TUPLE_PROTO)?;
        let address = attribute(addresses, v4).or_else(|| attribute(addresses, v6))?;
        Some(Self {
            protocol: *attribute(protocol, CTA_PROTO_NUM)?.first()?,
            address: publication::address(address)?,
            port: u16::from_be_bytes(*attribute(protocol, port)?.first_chunk()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Protocol;

    fn tuple(kind: u16, ends: [([u8; 4], u16); 2]) -> Vec<u8> {
        let [(source, source_port), (destination, destination_port)] = ends;
        let addresses = [encoded(1, &source), encoded(2, &destination)].concat();
        let protocol = [
            encoded(CTA_PROTO_NUM, &[17]),
            encoded(2, &source_port.to_be_bytes()),
            encoded(CTA_PROTO_DST_PORT, &destination_port.to_be_bytes()),
        ];
        encoded(kind, &[encoded(1, &addresses), encoded(CTA_TUPLE_PROTO, &protocol.concat())].concat())
    }

    #[test]
    fn only_connections_to_the_port_that_go_elsewhere_are_stale() {
        let port = Publication {
            protocol: Protocol::Udp,
            host: None,
            host_port: 53,
            container: "10.1.0.5/24".parse().unwrap(),
            container_port: 5353,
        };
        let (client, node, container) = ([192, 0, 2, 2], [192, 0, 2, 1], [10, 1, 0, 5]);
        let locals = [IpAddr::from(node), IpAddr::from([127, 0, 0, 1])];
        let connection = |to: ([u8; 4], u16), real: ([u8; 4], u16)| {
            [tuple(1, [(client, 4000), to]), tuple(2, [real, (client, 4000)])].concat()
        };
        let is_stale = |connection: &[u8], port: &Publication| is_stale(connection, port, &locals);
        let to_node = connection((node, 53), (node, 53));
        assert!(is_stale(&to_node, &port));
        assert!(is_stale(&connection((node, 53), ([10, 1, 0, 9], 5353)), &port));
        assert!(!is_stale(&connection((node, 53), (container, 5353)), &port));
        assert!(!is_stale(&connection((node, 54), (node, 54)), &port));
        // What only passes through the node, or stays in it.
        assert!(!is_stale(&connection(([8, 8, 8, 8], 53), ([8, 8, 8, 8], 53)), &port));
        assert!(!is_stale(&connection(([127, 0, 0, 1], 53), ([127, 0, 0, 1], 53)), &port));
        let at_one = |host: [u8; 4]| Publication { host: Some(host.into()), ..port };
        assert!(is_stale(&to_node, &at_one(node)) && !is_stale(&to_node, &at_one([192, 0, 2, 9])));
        let tcp = Publication { protocol: Protocol::Tcp, ..port };
        assert!(!is_stale(&to_node, &tcp) && !is_stale(&[], &port) && !is_stale(&[255; 40], &port));
    }
}
