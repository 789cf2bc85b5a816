//! Published ports: connections to the node go to a container.
//!
//! Two maps per family lead from a port of the node to one of a container: the
//! keys of one are ports at all addresses, those of the other begin with an
//! address. Two more tell of connections that they sent on whether answers
//! would come back by way of the node; see [`answers`].

mod maps;
mod rules;

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;

use netlink_packet_netfilter::NetfilterProtoFamily;
use netlink_packet_netfilter::nftables::NfTablesMessage;

use super::batch::{self, Batch, Outcome, Role};
use super::channel::Channel;
use super::comment;
use super::error::{Cause, FirewallError};
use super::imagined::Imagined;
use super::publication::Publication;
use super::set::{Data, Element, Set};
use super::{Firewall, answers, chain, conntrack};
use maps::{MAPS_4, MAPS_6};

const FAMILY: NetfilterProtoFamily = NetfilterProtoFamily::Inet;
const NEEDS_MASQUERADE: &str = "masquerading of nf_tables (CONFIG_NFT_MASQ, module nft_masq)";

/// Each object that is asked for makes the kernel answer with a datagram, all
/// of which have to fit into the socket's buffer.
const QUESTIONS: usize = 24;

/// Another attachment's publication that is in the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Taken {
    /// What was to be published.
    pub(crate) wanted: Publication,
    /// The attachment.
    pub(crate) holder: String,
}

/// What is to be published, and what that depends on.
pub(crate) struct Wanted<'a> {
    /// All of them, or none.
    pub(crate) ports: &'a [Publication],
    /// Whether an attachment is not there any more, so that what it left may
    /// be taken over.
    pub(crate) is_gone: &'a dyn Fn(&str) -> bool,
}

impl Firewall {
    /// Publishes ports, unless another attachment is in the way.
    pub(crate) fn publish(
        &mut self,
        owner: &str,
        wanted: &Wanted<'_>,
    ) -> Result<Result<(), Taken>, FirewallError> {
        let imagined = self.imagined.clone();
        self.run(
            || attempt("publish", wanted.ports),
            |channel| match imagined {
                Some(imagined) => imagine(channel, &imagined, owner, wanted),
                None => add(channel, owner, wanted),
            },
        )
    }

    /// Drops what comes from outside of the node for its loopback addresses.
    pub(crate) fn guard_loopback(&mut self) -> Result<(), FirewallError> {
        let nothing = Wanted { ports: &[], is_gone: &|_| false };
        self.run(
            || "keep others off the loopback addresses".to_owned(),
            |channel| add(channel, "", &nothing).map(drop),
        )
    }

    /// Makes the kernel forget connections to ports that go elsewhere.
    /// `locals` are the node's addresses.
    pub(crate) fn forget_connections(
        &mut self,
        ports: &[Publication],
        locals: &[IpAddr],
    ) -> Result<(), FirewallError> {
        self.run(
            || attempt("forget connections to", ports),
            |channel| ports.iter().try_for_each(|port| conntrack::forget(channel, port, locals)),
        )
    }

    /// Ends the publishing of ports, of those that `owner` publishes.
    pub(crate) fn unpublish(&mut self, owner: &str, ports: &[Publication]) -> Result<(), FirewallError> {
        let imagined = self.imagined.clone();
        self.run(
            || attempt("no longer publish", ports),
            |channel| match imagined {
                Some(imagined) => {
                    ports.iter().for_each(|port| imagined.borrow_mut().remove(owner, port));
                    Ok(())
                }
                None => ports.chunks(QUESTIONS / 2).try_for_each(|ports| remove(channel, owner, ports)),
            },
        )
    }

    /// What `owner` publishes at the place of `port`. Reads two elements.
    pub(crate) fn publication(
        &mut self,
        owner: &str,
        port: &Publication,
    ) -> Result<Option<Publication>, FirewallError> {
        if let Some(seen) = self.imagined.as_ref().and_then(|imagined| imagined.borrow().look_up(owner, port))
        {
            return Ok(seen);
        }
        let elements = self.run(
            || attempt("look up", std::slice::from_ref(port)),
            |channel| {
                let (_, elements) = elements(channel, &port.places())?;
                Ok(elements)
            },
        )?;
        let mut elements = elements.into_iter();
        let found = elements.next().flatten().as_ref().and_then(Publication::of);
        let network = elements.next().flatten().and_then(|element| answers::of_chain(&element.chain?));
        Ok(found.filter(|(named, _)| comment::names(named, owner)).map(|(_, found)| {
            let length = network.map_or(found.container.prefix_len(), |network| network.prefix_len());
            let container = ipnet::IpNet::new(found.container.addr(), length).unwrap_or(found.container);
            Publication { container, ..found }
        }))
    }

    /// All published ports with their owners, of the whole node. What the
    /// containers' networks are is left out.
    pub(crate) fn publications(&mut self) -> Result<Vec<(String, Publication)>, FirewallError> {
        let seen = self.run(
            || "list the published ports".to_owned(),
            |channel| {
                let mut seen = Vec::new();
                for maps in [&MAPS_4, &MAPS_6] {
                    for map in [&maps.at_all, &maps.at_one] {
                        seen.extend(channel.list(map)?.iter().filter_map(Publication::of));
                    }
                }
                Ok(seen)
            },
        )?;
        Ok(match &self.imagined {
            Some(imagined) => imagined.borrow().laid_over(seen),
            None => seen,
        })
    }
}

fn attempt(what: &str, ports: &[Publication]) -> String {
    format!("{what} {}", summary(ports))
}

/// A list of ports that fits into a message.
pub(crate) fn summary(ports: &[Publication]) -> String {
    const SHOWN: usize = 4;
    let shown: Vec<String> = ports.iter().take(SHOWN).map(ToString::to_string).collect();
    match ports.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Asks for elements, and for the generation of the rule set before the first
/// was read.
fn elements(
    channel: &mut Channel,
    wanted: &[(&'static Set, Vec<u8>)],
) -> Result<(u32, Vec<Option<Element>>), Cause> {
    let messages: Vec<NfTablesMessage> = wanted.iter().map(|(set, key)| set.get(key)).collect();
    let (mut first, mut elements) = (None, Vec::with_capacity(wanted.len()));
    for messages in messages.chunks(QUESTIONS) {
        let (generation, answers) = channel.objects_of(FAMILY, messages)?;
        first.get_or_insert(generation);
        elements.extend(answers.into_iter().map(|answer| Element::read(&answer?).pop()));
    }
    Ok((first.unwrap_or_default(), elements))
}

/// What the kernel holds where something is to be published.
struct Present {
    generation: u32,
    /// For each port: the element that leads to a container, and the one for
    /// answers.
    of_ports: Vec<[Option<Element>; 2]>,
    /// Others that are in the way, if they are another's.
    near: Vec<Element>,
}

impl Present {
    fn read(channel: &mut Channel, ports: &[Publication]) -> Result<Self, Cause> {
        let mut keys = Vec::with_capacity(3 * ports.len());
        keys.extend(ports.iter().flat_map(Publication::places));
        let at_one = ports.iter().filter(|port| port.host.is_some());
        keys.extend(at_one.map(|port| (&port.maps().at_all, port.key_of_all())));
        let (generation, elements) = elements(channel, &keys)?;
        let mut elements = elements.into_iter();
        let of_ports = ports.iter().map(|_| [0; 2].map(|_| elements.next().flatten())).collect();
        let mut near: Vec<Element> = elements.flatten().collect();
        for maps in [&MAPS_4, &MAPS_6] {
            let is_among = |port: &Publication| port.host.is_none() && std::ptr::eq(port.maps(), maps);
            if ports.iter().any(is_among) {
                near.extend(channel.list(&maps.at_one)?);
            }
        }
        Ok(Self { generation, of_ports, near })
    }

    /// What is published there, by whomever.
    fn publications(&self) -> Vec<(String, Publication)> {
        let own = self.of_ports.iter().flat_map(|[container, _]| container);
        own.chain(&self.near).filter_map(Publication::of).collect()
    }
}

/// Looks for a publication of another attachment that is in the way.
fn taken(owner: &str, wanted: &Wanted<'_>, present: &[(String, Publication)]) -> Option<Taken> {
    let others: Vec<_> = present
        .iter()
        .filter(|(named, _)| !comment::names(named, owner) && !(wanted.is_gone)(named))
        .collect();
    wanted.ports.iter().find_map(|port| {
        let (holder, _) = others.iter().find(|(_, other)| port.meets(other))?;
        Some(Taken { wanted: *port, holder: holder.clone() })
    })
}

/// Only remembers what would be published.
fn imagine(
    channel: &mut Channel,
    imagined: &Rc<RefCell<Imagined>>,
    owner: &str,
    wanted: &Wanted<'_>,
) -> Result<Result<(), Taken>, Cause> {
    let real = Present::read(channel, wanted.ports)?.publications();
    let mut imagined = imagined.borrow_mut();
    if let Some(taken) = taken(owner, wanted, &imagined.laid_over(real)) {
        return Ok(Err(taken));
    }
    wanted.ports.iter().for_each(|port| imagined.add(owner, *port));
    Ok(Ok(()))
}

fn add(channel: &mut Channel, owner: &str, wanted: &Wanted<'_>) -> Result<Result<(), Taken>, Cause> {
    let userdata = comment::of_owner(owner)
        .ok_or_else(|| Cause::Invalid(format!("{owner:?} cannot be kept as the owner's name")))?;
    loop {
        let present = Present::read(channel, wanted.ports)?;
        if let Some(taken) = taken(owner, wanted, &present.publications()) {
            return Ok(Err(taken));
        }
        let (batch, makes_base) = addition(channel, owner, &userdata, wanted.ports, &present)?;
        if batch.len() == 0 {
            return Ok(Ok(()));
        }
        // The generation makes sure that nobody else came first.
        match channel.commit(&batch, Some(present.generation))? {
            Outcome::Committed => return Ok(Ok(())),
            Outcome::Outdated => {}
            Outcome::Refused(refused) => {
                if let Some(cause) = batch::failure(&refused, makes_base) {
                    return Err(cause);
                }
            }
        }
    }
}

/// What has to be changed, and whether that is everything from the table on.
fn addition(
    channel: &mut Channel,
    owner: &str,
    userdata: &[u8],
    ports: &[Publication],
    present: &Present,
) -> Result<(Batch, bool), Cause> {
    let mut batch = Batch::new(FAMILY);
    let mut makes_base = false;
    if present.of_ports.iter().flatten().all(Option::is_none) {
        let (_, [set]) = channel.objects(FAMILY, [MAPS_4.at_all.look_up()])?;
        makes_base = set.is_none();
    }
    if makes_base {
        rules::base(&mut batch);
    }
    let mut networks: Vec<_> = ports.iter().map(|port| port.container.trunc()).collect();
    networks.sort_unstable();
    networks.dedup();
    for networks in networks.chunks(QUESTIONS) {
        let questions: Vec<_> =
            networks.iter().map(|network| chain::look_up(&answers::chain_name(*network))).collect();
        let (_, chains) = channel.objects_of(FAMILY, &questions)?;
        for network in
            networks.iter().zip(chains).filter(|(_, chain)| chain.is_none()).map(|(network, _)| network)
        {
            let name = answers::chain_name(*network);
            batch.chain(Role::Network, &name);
            for rule in answers::rules(*network) {
                batch.rule(Role::Network, &name, rule, NEEDS_MASQUERADE);
            }
        }
    }
    for (port, [container, answers]) in ports.iter().zip(&present.of_ports) {
        let (value, chain) = (port.value(), port.chain());
        let mut ensure = |set: &Set, key: &[u8], data: Data<'_>, present: Option<&Element>| {
            if present.is_some_and(|element| is(element, owner, data)) {
                return;
            }
            if present.is_some() {
                batch.remove(set, key);
            }
            batch.add(Role::Owned, set, key, data, userdata.to_vec());
        };
        ensure(port.map(), &port.key(), Data::Value(&value), container.as_ref());
        ensure(port.answers(), &port.answer_key(), Data::Chain(&chain), answers.as_ref());
    }
    Ok((batch, makes_base))
}

/// Whether an element is the owner's and leads there.
fn is(element: &Element, owner: &str, data: Data<'_>) -> bool {
    comment::names(&element.owner, owner)
        && match data {
            Data::Nothing => true,
            Data::Chain(chain) => element.chain.as_deref() == Some(chain),
            Data::Value(value) => element.value.as_deref() == Some(value),
        }
}

fn remove(channel: &mut Channel, owner: &str, ports: &[Publication]) -> Result<(), Cause> {
    loop {
        let keys: Vec<_> = ports.iter().flat_map(Publication::places).collect();
        let (generation, elements) = elements(channel, &keys)?;
        let mut batch = Batch::new(FAMILY);
        for ((set, key), element) in keys.iter().zip(elements) {
            if element.is_some_and(|element| comment::names(&element.owner, owner)) {
                batch.remove(set, key);
            }
        }
        if batch.len() == 0 {
            return Ok(());
        }
        // The generation makes sure that the elements are still the owner's.
        match channel.commit(&batch, Some(generation))? {
            Outcome::Committed => return Ok(()),
            Outcome::Outdated => {}
            Outcome::Refused(refused) => {
                if let Some(cause) = batch::failure(&refused, false) {
                    return Err(cause);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_list_fits_into_a_message() {
        let port = |number: u16| Publication {
            protocol: crate::protocol::Protocol::Tcp,
            host: Some("2001:db8::1".parse().unwrap()),
            host_port: number,
            container: "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128".parse().unwrap(),
            container_port: number,
        };
        // What `Key::name` makes at most.
        let userdata = comment::of_owner(&"x".repeat(200)).unwrap();
        let mut batch = Batch::new(FAMILY);
        rules::base(&mut batch);
        for port in (1..=128).map(port) {
            for (set, key) in port.places() {
                batch.remove(set, &key);
            }
            let [(map, key), (answers, answer_key)] = port.places();
            batch.add(Role::Owned, map, &key, Data::Value(&port.value()), userdata.clone());
            batch.add(Role::Owned, answers, &answer_key, Data::Chain(&port.chain()), userdata.clone());
        }
        // `net.core.wmem_default`, of which the kernel uses a part itself.
        assert!(batch.encode(1, Some(1)).len() < 212_992 - 32);
    }
}
