//! `weir:plugin/ipam` as an import: the plugin that hands out addresses, of
//! which a test says what it answers.

use super::net::{parsed_address, parsed_net};
pub use super::request::{Attachment, Network};
use super::{Node, state};
pub use crate::types::{CniError, IpamResult};
use crate::types::{Dns, IpConfig, Route};

/// A call of the IPAM plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IpamCall {
    /// It was to lease addresses.
    Add,
    /// It was to release them.
    Del,
    /// It was to compare.
    Check,
    /// It was to release what is stale.
    Gc,
    /// It was to say whether ADD could succeed.
    Status,
}

/// The IPAM plugin.
#[derive(Debug, Default)]
pub(super) struct Ipam {
    answer: Option<IpamResult>,
    calls: Vec<IpamCall>,
}

impl Ipam {
    fn answer(&mut self) -> &mut IpamResult {
        self.answer.get_or_insert_with(|| IpamResult {
            ips: Vec::new(),
            routes: Vec::new(),
            dns: Dns::none(),
        })
    }
}

impl Node {
    /// The IPAM plugin answers ADD so. That it fails instead is said by
    /// [`Node::fail_next`]; everything but ADD succeeds.
    #[must_use]
    pub fn with_ipam(self, answer: IpamResult) -> Self {
        self.0.borrow_mut().ipam.answer = Some(answer);
        self
    }

    /// The IPAM plugin hands out this address too, as `10.1.0.5/24`.
    ///
    /// # Panics
    ///
    /// If a text is no address.
    #[must_use]
    pub fn with_ipam_address(self, address: &str, gateway: Option<&str>) -> Self {
        let gateway = gateway.map(|gateway| parsed_address(gateway).into());
        let ip = IpConfig { address: parsed_net(address).into(), gateway, interface: None };
        self.0.borrow_mut().ipam.answer().ips.push(ip);
        self
    }

    /// The IPAM plugin hands out this route too.
    ///
    /// # Panics
    ///
    /// If a text is no address.
    #[must_use]
    pub fn with_ipam_route(self, destination: &str, gateway: Option<&str>) -> Self {
        let route = Route {
            destination: parsed_net(destination).into(),
            gateway: gateway.map(|gateway| parsed_address(gateway).into()),
            mtu: None,
            advmss: None,
            priority: None,
            table: None,
            scope: None,
        };
        self.0.borrow_mut().ipam.answer().routes.push(route);
        self
    }

    /// What the IPAM plugin was asked, in order.
    pub fn ipam_calls(&self) -> Vec<IpamCall> {
        self.0.borrow().ipam.calls.clone()
    }
}

fn ask(call: IpamCall, operation: &str) -> Result<(), CniError> {
    let node = state::current();
    let mut state = node.borrow_mut();
    if !state.call.has_ipam() {
        return Err(CniError::config("key \"ipam.type\" is required"));
    }
    state.ipam.calls.push(call);
    state.pass(operation)
}

/// Leases addresses for the attachment.
///
/// # Panics
///
/// If the test does not say what the IPAM plugin answers.
pub fn add(attachment: &Attachment) -> Result<IpamResult, CniError> {
    attachment.id();
    ask(IpamCall::Add, "ipam.add")?;
    let answer = state::current().borrow().ipam.answer.clone();
    Ok(answer.expect("the plugin asks the IPAM plugin: let the test say what it answers (Node::with_ipam)"))
}

/// Releases them.
pub fn del(attachment: &Attachment) -> Result<(), CniError> {
    attachment.id();
    ask(IpamCall::Del, "ipam.del")
}

/// Fails if the attachment does not hold what ADD gave it.
pub fn check(attachment: &Attachment) -> Result<(), CniError> {
    attachment.id();
    ask(IpamCall::Check, "ipam.check")
}

/// Releases what belongs to attachments that are no longer valid.
pub fn gc(network: &Network) -> Result<(), CniError> {
    network.name();
    ask(IpamCall::Gc, "ipam.gc")
}

/// Answers whether ADD could succeed now.
pub fn status(network: &Network) -> Result<(), CniError> {
    network.name();
    ask(IpamCall::Status, "ipam.status")
}
