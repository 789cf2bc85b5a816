//! Guards: a guarded port of a bridge takes in only frames from the hardware
//! addresses that are allowed there.

use netlink_packet_netfilter::NetfilterProtoFamily;
use netlink_packet_netfilter::nftables::InetHookNumber;

use super::Firewall;
use super::batch::{self, BaseChain, Batch, Outcome, Role};
use super::chain;
use super::channel::{Channel, Object};
use super::comment::{self, ByteOrder};
use super::error::{Cause, FirewallError};
use super::rule::{self, Expression};
use super::set::{Data, Element, Set, Target, key_type};

const FAMILY: NetfilterProtoFamily = NetfilterProtoFamily::Bridge;
const NEEDS_TABLE: &str = "nf_tables for bridges (CONFIG_NF_TABLES_BRIDGE)";
const NEEDS_CHAIN: &str = "filtering by nf_tables in bridges (CONFIG_NF_TABLES_BRIDGE)";
const NEEDS_LOOKUP: &str = "lookups of nf_tables (CONFIG_NF_TABLES)";

/// As early as possible: before anything else changes a frame.
const PRIORITY: i32 = -300;

static PREROUTING: BaseChain = BaseChain {
    name: "prerouting",
    kind: "filter",
    hook: InetHookNumber::PreRouting,
    priority: PRIORITY,
    needs: NEEDS_CHAIN,
};

static INPUT: BaseChain = BaseChain {
    name: "input",
    kind: "filter",
    hook: InetHookNumber::LocalIn,
    priority: PRIORITY,
    needs: NEEDS_CHAIN,
};

/// `IFNAMSIZ`.
const NAME_LENGTH: usize = 16;

static GUARDED: Set = Set {
    family: FAMILY,
    name: "guarded",
    key_type: key_type::IFNAME,
    key_length: NAME_LENGTH as u32,
    byte_order: ByteOrder::Host,
    leads_to: Target::Nothing,
    comment: "ports that take in frames from allowed addresses only",
    number: 1,
};

static ALLOWED: Set = Set {
    family: FAMILY,
    name: "allowed",
    key_type: key_type::of(&[key_type::IFNAME, key_type::MAC]),
    // Each field of a key fills whole words of four bytes.
    key_length: NAME_LENGTH as u32 + 8,
    byte_order: ByteOrder::OfFields,
    leads_to: Target::Nothing,
    comment: "source addresses that guarded ports take in",
    number: 2,
};

impl Firewall {
    /// Drops what enters by the port `port` of a bridge from any source but
    /// `mac` and others that are allowed there.
    pub(crate) fn guard_add(&mut self, owner: &str, port: &str, mac: [u8; 6]) -> Result<(), FirewallError> {
        self.run(
            || format!("allow only frames from {} on port {port}", text(mac)),
            |channel| add(channel, owner, &Keys::new(port, mac)?),
        )
    }

    /// Takes an address from those that `port` takes in, if `owner` allowed it;
    /// returns whether that was so. The last one ends the guarding.
    pub(crate) fn guard_remove(
        &mut self,
        owner: &str,
        port: &str,
        mac: [u8; 6],
    ) -> Result<bool, FirewallError> {
        self.run(
            || format!("no longer allow only frames from {} on port {port}", text(mac)),
            |channel| remove(channel, owner, &Keys::new(port, mac)?),
        )
    }

    /// Whether `port` is guarded and takes in frames from `mac`.
    pub(crate) fn guard_present(&mut self, port: &str, mac: [u8; 6]) -> Result<bool, FirewallError> {
        self.run(
            || format!("look up the guard of {} on port {port}", text(mac)),
            |channel| {
                let keys = Keys::new(port, mac)?;
                let found = Found::of(channel, &keys)?;
                Ok(found.has_rules && found.port.is_some() && found.allowed.is_some())
            },
        )
    }

    /// All guards: owner, port, address.
    pub(crate) fn guard_owners(&mut self) -> Result<Vec<(String, String, [u8; 6])>, FirewallError> {
        let elements =
            self.run(|| "list the guards of ports".to_owned(), |channel| channel.list(&ALLOWED))?;
        let guard = |element: Element| {
            let (port, mac) = fields(&element.key)?;
            Some((element.owner, port, mac))
        };
        Ok(elements.into_iter().filter_map(guard).collect())
    }
}

/// The keys of a guard's elements.
struct Keys {
    port: [u8; NAME_LENGTH],
    allowed: [u8; NAME_LENGTH + 8],
}

impl Keys {
    fn new(name: &str, mac: [u8; 6]) -> Result<Self, Cause> {
        let bytes = name.as_bytes();
        if bytes.is_empty() || bytes.len() >= NAME_LENGTH || bytes.contains(&0) {
            return Err(Cause::Invalid(format!("{name:?} is no name of an interface")));
        }
        let mut keys = Self { port: [0; NAME_LENGTH], allowed: [0; NAME_LENGTH + 8] };
        keys.port[..bytes.len()].copy_from_slice(bytes);
        keys.allowed[..NAME_LENGTH].copy_from_slice(&keys.port);
        keys.allowed[NAME_LENGTH..][..6].copy_from_slice(&mac);
        Ok(keys)
    }

    /// The elements of the port and of the address.
    fn elements(&self) -> [(&'static Set, &[u8]); 2] {
        [(&GUARDED, &self.port), (&ALLOWED, &self.allowed)]
    }
}

/// The port and the address of an element of `allowed`.
fn fields(key: &[u8]) -> Option<(String, [u8; 6])> {
    let (port, mac) = key.split_at_checked(NAME_LENGTH)?;
    let name = port.split(|byte| *byte == 0).next()?;
    Some((String::from_utf8_lossy(name).into_owned(), *mac.first_chunk()?))
}

fn text(mac: [u8; 6]) -> String {
    let [a, b, c, d, e, f] = mac;
    format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
}

/// What the kernel has of a guard.
struct Found {
    generation: u32,
    port: Option<Element>,
    allowed: Option<Element>,
    /// Whether the rules are there, without which elements do nothing.
    has_rules: bool,
}

impl Found {
    fn of(channel: &mut Channel, keys: &Keys) -> Result<Self, Cause> {
        let [port, allowed] = keys.elements().map(|(set, key)| set.get(key));
        let [prerouting, input] = [&PREROUTING, &INPUT].map(|chain| chain::look_up(chain.name));
        let (generation, [port, allowed, prerouting, input]) =
            channel.objects(FAMILY, [port, allowed, prerouting, input])?;
        let element = |answer: Option<Object>| Element::read(&answer?).pop();
        Ok(Self {
            generation,
            port: element(port),
            allowed: element(allowed),
            has_rules: [prerouting, input].iter().all(|hook| chain::has_rules(hook.as_ref())),
        })
    }
}

fn has_sets(channel: &mut Channel) -> Result<bool, Cause> {
    let (_, [set]) = channel.objects(FAMILY, [ALLOWED.look_up()])?;
    Ok(set.is_some())
}

/// Puts back the rules, and the chains of the hooks.
fn mend_base(batch: &mut Batch) {
    for chain in [&PREROUTING, &INPUT] {
        batch.base_chain(chain);
        batch.flush_chain(chain.name);
    }
    rules(batch);
}

fn add(channel: &mut Channel, owner: &str, keys: &Keys) -> Result<(), Cause> {
    let userdata = comment::of_owner(owner)
        .ok_or_else(|| Cause::Invalid(format!("{owner:?} cannot be kept as the owner's name")))?;
    loop {
        let Found { generation, port, allowed, has_rules } = Found::of(channel, keys)?;
        let is_own = allowed.as_ref().is_some_and(|allowed| comment::names(&allowed.owner, owner));
        if has_rules && port.is_some() && is_own {
            return Ok(());
        }
        let makes_base = port.is_none() && allowed.is_none() && !has_sets(channel)?;
        let mut batch = Batch::new(FAMILY);
        if makes_base {
            make_base(&mut batch);
        } else if !has_rules {
            // Somebody has flushed them.
            mend_base(&mut batch);
        }
        let mut addresses = match &port {
            None if allowed.is_none() => 0,
            port => count(channel, port.as_ref(), keys)?,
        };
        match allowed {
            Some(_) => batch.remove(&ALLOWED, &keys.allowed),
            None => addresses += 1,
        }
        batch.add(Role::Owned, &ALLOWED, &keys.allowed, Data::Nothing, userdata.clone());
        set_count(&mut batch, keys, port.is_some(), addresses);
        // The generation makes sure that nothing of this has changed.
        match channel.commit(&batch, Some(generation))? {
            Outcome::Committed => return Ok(()),
            Outcome::Outdated => {}
            Outcome::Refused(refused) => {
                if let Some(cause) = batch::failure(&refused, makes_base) {
                    return Err(cause);
                }
            }
        }
    }
}

/// What all ports share. The sets make it happen once.
fn make_base(batch: &mut Batch) {
    batch.table("weir's: bridge ports drop forged source addresses; changes by others are lost", NEEDS_TABLE);
    batch.base_chain(&PREROUTING);
    batch.base_chain(&INPUT);
    batch.set(&GUARDED);
    batch.set(&ALLOWED);
    rules(batch);
}

fn rules(batch: &mut Batch) {
    batch.rule(Role::Base, PREROUTING.name, drop_forged(), NEEDS_LOOKUP);
    // Frames to link-local groups (01:80:c2:00:00:00 to 0f) never come to
    // prerouting, but a bridge learns addresses from them. Those of LLDP (0e)
    // come to no hook at all: the bridge itself has to be told not to learn.
    let mut link_local = vec![
        rule::destination_mac(),
        rule::mask(6, vec![0xff, 0xff, 0xff, 0xff, 0xff, 0xf0]),
        rule::equals(vec![0x01, 0x80, 0xc2, 0, 0, 0]),
    ];
    link_local.extend(drop_forged());
    batch.rule(Role::Base, INPUT.name, link_local, NEEDS_LOOKUP);
}

fn drop_forged() -> Vec<Expression> {
    vec![
        rule::port(),
        rule::is_in(GUARDED.name),
        rule::port(),
        rule::then_source_mac(),
        rule::is_not_in(ALLOWED.name),
        rule::verdict(rule::DROP),
    ]
}

fn remove(channel: &mut Channel, owner: &str, keys: &Keys) -> Result<bool, Cause> {
    loop {
        let (generation, [port, allowed]) = channel.elements(FAMILY, keys.elements())?;
        if !allowed.is_some_and(|allowed| comment::names(&allowed.owner, owner)) {
            return Ok(false);
        }
        let mut batch = Batch::new(FAMILY);
        batch.remove(&ALLOWED, &keys.allowed);
        if port.is_some() {
            let addresses = count(channel, port.as_ref(), keys)?;
            set_count(&mut batch, keys, true, addresses.saturating_sub(1));
        }
        // The generation makes sure that nothing of this has changed.
        match channel.commit(&batch, Some(generation))? {
            Outcome::Committed => return Ok(true),
            Outcome::Outdated => {}
            Outcome::Refused(refused) => {
                if let Some(cause) = batch::failure(&refused, false) {
                    return Err(cause);
                }
            }
        }
    }
}

/// How many addresses are allowed on a port. Its element tells, so that the
/// guards of all other ports need not be read; they are if somebody else wrote
/// the element.
fn count(channel: &mut Channel, port: Option<&Element>, keys: &Keys) -> Result<usize, Cause> {
    if let Some(addresses) = port.and_then(|port| counted(&port.owner)) {
        return Ok(addresses);
    }
    let allowed = channel.list(&ALLOWED)?;
    Ok(allowed.iter().filter(|allowed| allowed.key.starts_with(&keys.port)).count())
}

/// Says how many addresses are allowed on a port from now on.
fn set_count(batch: &mut Batch, keys: &Keys, is_guarded: bool, addresses: usize) {
    if is_guarded {
        batch.remove(&GUARDED, &keys.port);
    }
    if addresses > 0 {
        batch.add(Role::Port, &GUARDED, &keys.port, Data::Nothing, comment::plain(&count_text(addresses)));
    }
}

fn count_text(addresses: usize) -> String {
    format!("addresses: {addresses}")
}

fn counted(text: &str) -> Option<usize> {
    text.strip_prefix("addresses: ")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

    #[test]
    fn a_key_reads_back() {
        let keys = Keys::new("veth0123456789a", MAC).unwrap();
        assert_eq!(fields(&keys.allowed), Some(("veth0123456789a".to_owned(), MAC)));
        assert_eq!(keys.allowed.len(), ALLOWED.key_length as usize);
        assert_eq!(keys.port.len(), GUARDED.key_length as usize);
        assert_eq!(fields(&keys.port), None);
    }

    #[test]
    fn a_count_reads_back() {
        assert_eq!(counted(&count_text(12)), Some(12));
        assert_eq!(counted("12"), None);
    }

    #[test]
    fn what_no_interface_can_be_called_is_refused() {
        for name in ["", "sixteen-letters-", "a\0b"] {
            assert!(Keys::new(name, MAC).is_err());
        }
    }
}
