//! The floor: the links, addresses and routes of one attachment, by a program
//! that does nothing else. One netlink socket for each namespace, one request
//! after the other, no checks.

use std::env;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{Socket, SocketAddr};

use super::measure::{self, Cost};
use crate::lab::{Handle, Lab, Plugins};

const BRIDGE: &str = "cni0";

/// A lab whose node has a bridge.
pub(super) fn lab() -> Result<Lab> {
    let mut lab = Lab::new(Plugins::Weir)?;
    lab.add_container_as("floor", Handle::BindMount)?;
    lab.on_node("ip link add cni0 type bridge")?;
    lab.on_node("ip link set cni0 up")?;
    lab.on_node("ip addr add 10.244.0.1/16 dev cni0")?;
    Ok(lab)
}

/// Runs this program as the floor.
pub(super) fn measure(lab: &Lab, command: &str) -> Result<Cost> {
    lab.node.enter(|| {
        let started = Instant::now();
        let child = Command::new(env::current_exe()?)
            .args(["--floor", command])
            .arg(&lab.containers[0].path)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("execute the floor")?;
        measure::finish(child, b"", started)
    })
}

/// The program: `add` or `del`, then the container's namespace.
pub(super) fn run(arguments: &[String]) -> Result<()> {
    let [command, path] = arguments else { bail!("usage: --floor add|del NETNS") };
    let netns = File::open(path)?;
    let node = Socket::new(NETLINK_ROUTE)?;
    let own = File::open("/proc/self/ns/net")?;
    setns(&netns, CloneFlags::CLONE_NEWNET)?;
    let container = Socket::new(NETLINK_ROUTE)?;
    setns(&own, CloneFlags::CLONE_NEWNET)?;
    if command == "del" {
        let mut link = LinkMessage::default();
        link.attributes.push(LinkAttribute::IfName("eth0".into()));
        return ask(&container, RouteNetlinkMessage::DelLink(link), 0);
    }
    let bridge = index(BRIDGE)?;
    let mut far = LinkMessage::default();
    far.attributes.push(LinkAttribute::IfName("eth0".into()));
    far.attributes.push(LinkAttribute::NetNsFd(netns.as_raw_fd()));
    let mut near = LinkMessage::default();
    near.header.flags = LinkFlags::Up;
    near.header.change_mask = LinkFlags::Up;
    near.attributes.push(LinkAttribute::IfName("vethfloor".into()));
    near.attributes.push(LinkAttribute::Controller(bridge));
    for end in [&mut near, &mut far] {
        end.attributes.extend([LinkAttribute::NumTxQueues(1), LinkAttribute::NumRxQueues(1)]);
    }
    near.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(far))),
    ]));
    ask(&node, RouteNetlinkMessage::NewLink(near), NLM_F_CREATE | NLM_F_EXCL)?;
    setns(&netns, CloneFlags::CLONE_NEWNET)?;
    let eth0 = index("eth0")?;
    let address = Ipv4Addr::new(10, 244, 0, 2);
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = 16;
    message.header.index = eth0;
    message.attributes.push(AddressAttribute::Local(IpAddr::V4(address)));
    message.attributes.push(AddressAttribute::Broadcast(Ipv4Addr::new(10, 244, 255, 255)));
    ask(&container, RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL)?;
    let mut up = LinkMessage::default();
    up.header.index = eth0;
    up.header.flags = LinkFlags::Up;
    up.header.change_mask = LinkFlags::Up;
    ask(&container, RouteNetlinkMessage::SetLink(up), 0)?;
    let mut route = RouteMessage::default();
    route.header.address_family = AddressFamily::Inet;
    route.header.table = 254;
    route.header.protocol = RouteProtocol::Boot;
    route.header.scope = RouteScope::Universe;
    route.header.kind = RouteType::Unicast;
    route.attributes.push(RouteAttribute::Gateway(Ipv4Addr::new(10, 244, 0, 1).into()));
    route.attributes.push(RouteAttribute::Oif(eth0));
    ask(&container, RouteNetlinkMessage::NewRoute(route), NLM_F_CREATE | NLM_F_EXCL)
}

fn index(name: &str) -> Result<u32> {
    nix::net::if_::if_nametoindex(name).with_context(|| format!("find link {name}"))
}

fn ask(socket: &Socket, message: RouteNetlinkMessage, flags: u16) -> Result<()> {
    let mut request = NetlinkMessage::from(message);
    request.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    request.finalize();
    let mut buffer = vec![0; request.buffer_len()];
    request.serialize(&mut buffer);
    socket.send_to(&buffer, &SocketAddr::new(0, 0), 0)?;
    let (answer, _) = socket.recv_from_full()?;
    match NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer)?.payload {
        NetlinkPayload::Error(error) if error.code.is_some() => bail!("the kernel refused: {error}"),
        _ => Ok(()),
    }
}
