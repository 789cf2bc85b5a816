//! What the node is made of.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;

use super::Side;
use super::firewall::guards::Guard;
use super::host::Ambient;
use super::ipam::Ipam;
use super::net::namespace::Namespace;
use super::refusal::Refusal;
use super::request::{Call, Owner};
use super::store::bucket::Buckets;
use super::store::leases::Directories;
use crate::bindings::platform::weir::firewall::masquerade::Entry;
use crate::bindings::platform::weir::firewall::publish::Port;

/// A node and whoever has a handle to something on it.
pub(super) type Shared = Rc<RefCell<State>>;

#[derive(Debug)]
pub(super) struct State {
    /// What is being served.
    pub(super) call: Rc<Call>,
    pub(super) host: Namespace,
    pub(super) container: Option<Namespace>,
    pub(super) has_ipv6: bool,
    /// Addresses that somebody else on the network has.
    pub(super) duplicates: Vec<IpAddr>,
    /// Addresses that plugins announced.
    pub(super) announced: Vec<IpAddr>,
    pub(super) masquerade: Vec<(Owner, Entry)>,
    pub(super) guards: Vec<Guard>,
    pub(super) published: Vec<(Owner, Port)>,
    pub(super) leases: Directories,
    pub(super) buckets: Buckets,
    pub(super) files: BTreeMap<String, String>,
    pub(super) ambient: Ambient,
    pub(super) ipam: Ipam,
    pub(super) refusals: Vec<(String, Refusal)>,
}

thread_local! {
    static CURRENT: RefCell<Shared> = RefCell::new(State::shared());
}

/// The thread's node.
pub(super) fn current() -> Shared {
    CURRENT.with(|current| Rc::clone(&current.borrow()))
}

/// Gives the thread a new node.
pub(super) fn replace() -> Shared {
    CURRENT.with(|current| current.replace(State::shared()));
    current()
}

impl State {
    fn shared() -> Shared {
        Rc::new(RefCell::new(Self {
            call: Rc::default(),
            host: Namespace::of_host(),
            container: Some(Namespace::of_container()),
            has_ipv6: true,
            duplicates: Vec::new(),
            announced: Vec::new(),
            masquerade: Vec::new(),
            guards: Vec::new(),
            published: Vec::new(),
            leases: Directories::default(),
            buckets: Buckets::default(),
            files: BTreeMap::new(),
            ambient: Ambient::default(),
            ipam: Ipam::default(),
            refusals: Vec::new(),
        }))
    }

    /// Fails if a test has asked for it.
    pub(super) fn pass<E: TryFrom<Refusal, Error = Refusal>>(&mut self, operation: &str) -> Result<(), E> {
        let Some(position) = self.refusals.iter().position(|(name, _)| name == operation) else {
            return Ok(());
        };
        let (_, refusal) = self.refusals.remove(position);
        Err(E::try_from(refusal).unwrap_or_else(|other| panic!("{operation} cannot fail with {other:?}")))
    }

    /// Who is being served.
    pub(super) fn owner(&self) -> Owner {
        self.call.owner()
    }

    pub(super) fn namespace(&self, side: Side) -> Option<&Namespace> {
        match side {
            Side::Host => Some(&self.host),
            Side::Container => self.container.as_ref(),
        }
    }

    pub(super) fn namespace_mut(&mut self, side: Side) -> Option<&mut Namespace> {
        match side {
            Side::Host => Some(&mut self.host),
            Side::Container => self.container.as_mut(),
        }
    }
}
