//! A kernel that does nothing: for plans. What is asked to be changed is only
//! remembered, and whoever looks afterwards is shown the real kernel's state
//! with that laid over it.
//!
//! It stands where requests are sent, so that no operation can get past it:
//! only questions reach the real kernel.

mod address;
mod link;
mod link_message;
mod neighbor;
mod route;
mod setting;
#[cfg(test)]
mod tests;
mod upper;
mod vlan;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_REQUEST};
use rtnetlink::packet_route::address::AddressMessage;
use rtnetlink::packet_route::link::{BridgeVlanInfo, LinkMessage};
use rtnetlink::packet_route::neighbour::NeighbourMessage;
use rtnetlink::packet_route::route::RouteMessage;
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::NetlinkError;
use neighbor::Entry;
use route::Route;

/// The first index of links that exist in a plan only. The kernel counts from
/// 1, and never gets that far.
const FIRST_INDEX: u32 = 1 << 30;

/// What a plan has changed, in all namespaces.
#[derive(Debug, Default)]
pub(crate) struct World(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    links_made: u32,
    /// Namespaces by the number that they have for each other.
    numbers: Vec<u64>,
    /// By the number of the namespace.
    spaces: HashMap<u64, Space>,
    /// Ends of real pairs whose other end is gone: the namespace and index of
    /// the other one, and the index of this one.
    severed: Vec<(u64, u32, u32)>,
}

/// What differs in one namespace.
#[derive(Debug, Default)]
struct Space {
    /// Links that were made or changed, as the kernel would describe them.
    links: BTreeMap<u32, LinkMessage>,
    /// The other ends of pairs that were made, by namespace and index.
    peers: HashMap<u32, (u64, u32)>,
    /// What links that were made sit on, by namespace and index.
    parents: HashMap<u32, (u64, u32)>,
    /// Real links that were deleted.
    gone: HashSet<u32>,
    addresses: Vec<AddressMessage>,
    removed_addresses: Vec<(u32, IpAddr, u8)>,
    routes: Vec<RouteMessage>,
    removed_routes: Vec<Route>,
    neighbors: Vec<NeighbourMessage>,
    removed_neighbors: Vec<Entry>,
    vlans: HashMap<u32, Vec<BridgeVlanInfo>>,
    /// By family (whether it is IPv4) and path.
    settings: HashMap<(bool, String), String>,
}

impl World {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The part of a world that one namespace is.
pub(super) struct Imagined {
    world: Arc<World>,
    namespace: u64,
}

/// Asks the real kernel.
pub(super) type Ask<'a> =
    dyn Fn(RouteNetlinkMessage, u16) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> + 'a;

/// A request that is being answered.
struct Inquiry<'a> {
    state: &'a mut State,
    namespace: u64,
    attempt: &'a dyn Fn() -> String,
    ask: &'a Ask<'a>,
}

impl Imagined {
    /// The namespace that has this number.
    pub(super) fn new(world: Arc<World>, namespace: u64) -> Self {
        Self { world, namespace }
    }

    /// Answers a request as the kernel would.
    pub(super) fn answer(
        &self,
        message: RouteNetlinkMessage,
        flags: u16,
        attempt: &dyn Fn() -> String,
        ask: &Ask<'_>,
    ) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        use RouteNetlinkMessage as Message;
        let ask = |question, flags| match question {
            Message::GetLink(_)
            | Message::GetAddress(_)
            | Message::GetRoute(_)
            | Message::GetNeighbour(_) => ask(question, flags),
            _ => unreachable!("only questions are asked"),
        };
        let mut state = self.world.lock();
        let mut inquiry = Inquiry { state: &mut state, namespace: self.namespace, attempt, ask: &ask };
        match message {
            Message::GetNsId(message) => inquiry.number_of(&message),
            Message::GetLink(message) if is_about_ports(&message) => inquiry.vlans(message, flags),
            Message::GetLink(message) => inquiry.links(message, flags),
            Message::NewLink(message) if flags & NLM_F_CREATE != 0 => inquiry.create_link(&message),
            Message::SetLink(message) if is_about_ports(&message) => inquiry.change_vlans(&message, true),
            Message::NewLink(message) | Message::SetLink(message) => inquiry.change_link(&message),
            Message::DelLink(message) if is_about_ports(&message) => inquiry.change_vlans(&message, false),
            Message::DelLink(message) => inquiry.delete_link(message.header.index),
            Message::GetAddress(message) => inquiry.addresses(message, flags),
            Message::NewAddress(message) => inquiry.add_address(message),
            Message::DelAddress(message) => inquiry.remove_address(&message),
            Message::GetRoute(message) => inquiry.routes(message, flags),
            Message::NewRoute(message) => inquiry.add_route(message, flags),
            Message::DelRoute(message) => inquiry.remove_route(&message),
            Message::GetNeighbour(message) => inquiry.neighbors(message, flags),
            Message::NewNeighbour(message) => inquiry.add_neighbor(message, flags),
            Message::DelNeighbour(message) => inquiry.remove_neighbor(&message),
            _ => Err(inquiry.refusal(nix::libc::EOPNOTSUPP)),
        }
    }
}

fn is_about_ports(message: &LinkMessage) -> bool {
    message.header.interface_family == AddressFamily::Bridge
}

impl Inquiry<'_> {
    fn space(&mut self) -> &mut Space {
        self.state.spaces.entry(self.namespace).or_default()
    }

    /// What the kernel would say no with.
    fn refusal(&self, errno: i32) -> NetlinkError {
        let reason = nix::Error::from_raw(errno).desc().to_owned();
        NetlinkError::Kernel { attempt: (self.attempt)(), errno, reason }
    }

    fn ask_one(&self, message: RouteNetlinkMessage) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        (self.ask)(message, NLM_F_REQUEST)
    }

    fn ask_all(&self, message: RouteNetlinkMessage) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        (self.ask)(message, NLM_F_REQUEST | NLM_F_DUMP)
    }
}
