//! Guards: a guarded port of a bridge takes in only frames from the hardware
//! addresses that are allowed there.

use netlink_packet_netfilter::NetfilterProtoFamily;
use netlink_packet_netfilter::nftables::InetHookNumber;
use nix::libc::{EEXIST, ENOENT};

use super::Firewall;
use super::batch::{BaseChain, Batch, Outcome, Refused, Role};
use super::channel::Channel;
use super::comment::{self, ByteOrder};
use super::error::{Cause, FirewallError};
use super::masquerade::refusal_of;
use super::rule::{self, Expression};
use super::set::{Set, key_type};

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
    maps_to_chain: false,
    comment: "ports that take in frames from allowed addresses only",
    number: 1,
};

static ALLOWED: Set = Set {
    family: FAMILY,
    name: "allowed",
    key_type: key_type::IFNAME << key_type::NEXT | key_type::MAC,
    // Each field of a key fills whole words of four bytes.
    key_length: NAME_LENGTH as u32 + 8,
    byte_order: ByteOrder::OfFields,
    maps_to_chain: false,
    comment: "source addresses that guarded ports take in",
    number: 2,
};

/// The comments of guarded ports. The first saves a listing of all guards when
/// one is removed.
const ONE: &str = "one address";
const SEVERAL: &str = "several addresses";

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
                let (_, elements) = channel.elements([(&GUARDED, &keys.port), (&ALLOWED, &keys.allowed)])?;
                Ok(elements.iter().all(Option::is_some))
            },
        )
    }

    /// All guards: owner, port, address.
    pub(crate) fn guard_owners(&mut self) -> Result<Vec<(String, String, [u8; 6])>, FirewallError> {
        let elements =
            self.run(|| "list the guards of ports".to_owned(), |channel| channel.list(&ALLOWED))?;
        let guard = |element: super::set::Element| {
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

fn add(channel: &mut Channel, owner: &str, keys: &Keys) -> Result<(), Cause> {
    let userdata = comment::of_owner(owner)
        .ok_or_else(|| Cause::Invalid(format!("{owner:?} cannot be kept as the owner's name")))?;
    let (mut with_base, mut replaces, mut is_guarded) = (false, false, false);
    loop {
        let mut batch = Batch::new(FAMILY);
        if with_base {
            base(&mut batch);
        }
        if replaces {
            batch.remove(&ALLOWED, &keys.allowed);
        }
        batch.add(Role::Owned, &ALLOWED, &keys.allowed, None, userdata.clone());
        if is_guarded {
            batch.remove(&GUARDED, &keys.port);
        }
        // An address that is there already need not be the only one.
        let number = if is_guarded || replaces { SEVERAL } else { ONE };
        batch.add(Role::Port, &GUARDED, &keys.port, None, comment::plain(number));
        let refused = match channel.commit(&batch, None)? {
            Outcome::Committed => return Ok(()),
            Outcome::Outdated => continue,
            Outcome::Refused(refused) => refused,
        };
        let any = |role, errno| {
            refused.iter().any(|refused| refused.role == role && refused.refusal.errno == errno)
        };
        let base_exists = any(Role::Base, EEXIST);
        for Refused { role, needs, refusal } in &refused {
            let expected = match (role, refusal.errno) {
                (Role::Base | Role::Owned | Role::Port, EEXIST) | (Role::Removal, ENOENT) => true,
                (Role::Owned | Role::Port, ENOENT) => !with_base || base_exists,
                _ => false,
            };
            if !expected {
                return Err(refusal_of(*role, needs, refusal));
            }
        }
        with_base = !with_base && (any(Role::Owned, ENOENT) || any(Role::Port, ENOENT));
        let is_allowed = any(Role::Owned, EEXIST);
        // What was to be removed is gone: the next attempt sees what is left.
        (replaces, is_guarded) = match any(Role::Removal, ENOENT) {
            true => (false, false),
            false => (replaces || is_allowed, is_guarded || any(Role::Port, EEXIST)),
        };
        if is_allowed {
            let (_, [port, allowed]) =
                channel.elements([(&GUARDED, &keys.port), (&ALLOWED, &keys.allowed)])?;
            if port.is_some() && allowed.is_some_and(|element| comment::names(&element.owner, owner)) {
                return Ok(());
            }
        }
        channel.check_time()?;
    }
}

/// What all ports share. The sets make it happen once.
fn base(batch: &mut Batch) {
    batch.table("weir's: bridge ports drop forged source addresses; changes by others are lost", NEEDS_TABLE);
    batch.base_chain(&PREROUTING);
    batch.base_chain(&INPUT);
    batch.set(&GUARDED);
    batch.set(&ALLOWED);
    batch.rule(Role::Base, PREROUTING.name, drop_forged(), NEEDS_LOOKUP);
    // Frames to link-local groups (01:80:c2:00:00:00 to 0f, LLDP and the like)
    // never come to prerouting, but a bridge learns addresses from them.
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
        channel.check_time()?;
        let (generation, [port, allowed]) =
            channel.elements([(&GUARDED, &keys.port), (&ALLOWED, &keys.allowed)])?;
        if !allowed.is_some_and(|element| comment::names(&element.owner, owner)) {
            return Ok(false);
        }
        let is_last = match &port {
            None => false,
            Some(port) if port.owner == ONE => true,
            Some(_) => {
                let others = |key: &[u8]| key.starts_with(&keys.port) && key != keys.allowed;
                !channel.list(&ALLOWED)?.iter().any(|element| others(&element.key))
            }
        };
        let mut batch = Batch::new(FAMILY);
        batch.remove(&ALLOWED, &keys.allowed);
        if is_last {
            batch.remove(&GUARDED, &keys.port);
        }
        // The generation makes sure that nothing of this has changed.
        match channel.commit(&batch, Some(generation))? {
            Outcome::Committed => return Ok(true),
            Outcome::Outdated => {}
            Outcome::Refused(refused) => {
                if let Some(refused) = refused.iter().find(|refused| refused.refusal.errno != ENOENT) {
                    return Err(refusal_of(refused.role, refused.needs, &refused.refusal));
                }
            }
        }
    }
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
    fn what_no_interface_can_be_called_is_refused() {
        for name in ["", "sixteen-letters-", "a\0b"] {
            assert!(Keys::new(name, MAC).is_err());
        }
    }
}
