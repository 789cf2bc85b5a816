//! weir's part of the node's packet filter: the tables `inet weir` and
//! `bridge weir`, reached through nf_tables' netlink interface.
//!
//! Rules are few and never change with the number of containers. What changes
//! are elements of sets and maps, each with its owner as comment, so
//! `nft list table inet weir` tells who asked for what. Many weir processes
//! work on the tables at the same time; nothing here relies on being alone.

mod answers;
mod batch;
mod chain;
mod channel;
mod comment;
mod conntrack;
mod error;
mod guard;
mod imagined;
mod masquerade;
mod native;
mod network;
mod publication;
mod publish;
mod rule;
mod set;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use rtnetlink::sys::Socket;

use channel::Channel;
use error::Cause;
pub(crate) use error::FirewallError;
pub(crate) use imagined::Imagined;
pub(crate) use native::NativeRules;
pub(crate) use publication::Publication;
pub(crate) use publish::{Taken, Wanted, summary};

/// The name of weir's table in each family.
const TABLE: &str = "weir";

/// The packet filter of one network namespace.
pub(crate) struct Firewall {
    channel: Channel,
    /// In a plan, what it has changed.
    imagined: Option<Rc<RefCell<Imagined>>>,
}

impl Firewall {
    /// Works on the namespace in which `socket` was opened. No operation takes
    /// longer than `timeout`.
    pub(crate) fn new(socket: Socket, timeout: Duration) -> Result<Self, FirewallError> {
        let channel = Channel::new(socket, timeout)
            .map_err(|cause| cause.during("prepare the nf_tables socket".to_owned()))?;
        Ok(Self { channel, imagined: None })
    }

    /// The same for a plan: from now on nothing is changed but `imagined`.
    pub(crate) fn imagining(mut self, imagined: &Rc<RefCell<Imagined>>) -> Self {
        self.channel.is_imagined = true;
        self.imagined = Some(Rc::clone(imagined));
        self
    }

    /// Changes the time that each later operation may take.
    pub(crate) fn set_timeout(&mut self, timeout: Duration) {
        self.channel.timeout = timeout;
    }

    /// Runs one operation within its time; `attempt` says what it is.
    fn run<T>(
        &mut self,
        attempt: impl FnOnce() -> String,
        work: impl FnOnce(&mut Channel) -> Result<T, Cause>,
    ) -> Result<T, FirewallError> {
        self.channel.start();
        work(&mut self.channel).map_err(|cause| cause.during(attempt()))
    }
}
