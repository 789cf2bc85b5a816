//! The node as a call sees it: its namespaces and its packet filter, each
//! opened when it is first needed.

use std::cell::{OnceCell, RefCell};
use std::sync::Arc;
use std::time::Instant;

use crate::failure::{Failure, code};
use crate::firewall::{Firewall, FirewallError};
use crate::journal::Side;
use crate::netlink::{Driver, Netns};
use crate::netns::{self, NetnsFile};
use crate::paths::Paths;

/// Handles on the node.
pub(crate) struct Node {
    driver: Arc<Driver>,
    paths: Paths,
    container_file: RefCell<Option<NetnsFile>>,
    host: OnceCell<Arc<Netns>>,
    container: OnceCell<Option<Arc<Netns>>>,
    firewall: RefCell<Option<Firewall>>,
}

impl Node {
    /// Prepares handles; opens nothing yet. `container` is none when the
    /// container's namespace is gone.
    pub(crate) fn new(
        container: Option<NetnsFile>,
        paths: Paths,
        deadline: Instant,
    ) -> Result<Self, Failure> {
        let driver = Driver::new(deadline)
            .map_err(|error| Failure::io(format!("prepare for netlink requests: {error}")))?;
        Ok(Self {
            driver: Arc::new(driver),
            paths,
            container_file: RefCell::new(container),
            host: OnceCell::new(),
            container: OnceCell::new(),
            firewall: RefCell::new(None),
        })
    }

    /// Where the node keeps state.
    pub(crate) fn paths(&self) -> &Paths {
        &self.paths
    }

    /// Moves the moment by which requests have to be answered.
    pub(crate) fn extend(&self, deadline: Instant) {
        self.driver.extend(deadline);
    }

    /// The node's namespace.
    pub(crate) fn host(&self) -> Result<Arc<Netns>, Failure> {
        if let Some(host) = self.host.get() {
            return Ok(Arc::clone(host));
        }
        let file = NetnsFile::current().map_err(|error| Failure::io(error.to_string()))?;
        let host = Netns::host(file, Arc::clone(&self.driver))
            .map_err(|error| Failure::io(format!("open the host namespace: {error}")))?;
        Ok(Arc::clone(self.host.get_or_init(|| Arc::new(host))))
    }

    /// The container's namespace, if it still exists.
    pub(crate) fn container(&self) -> Result<Option<Arc<Netns>>, Failure> {
        if let Some(container) = self.container.get() {
            return Ok(container.clone());
        }
        let container = match self.container_file.borrow_mut().take() {
            Some(file) => {
                let netns = Netns::container(file, Arc::clone(&self.driver)).map_err(|error| {
                    Failure::io(format!("enter the container namespace: {error}")).details(
                        "weir has to run as root, or as root of the user namespace that owns the container's",
                    )
                })?;
                Some(Arc::new(netns))
            }
            None => None,
        };
        Ok(self.container.get_or_init(|| container).clone())
    }

    /// One of both.
    pub(crate) fn netns(&self, side: Side) -> Result<Option<Arc<Netns>>, Failure> {
        match side {
            Side::Host => self.host().map(Some),
            Side::Container => self.container(),
        }
    }

    /// Does something with the node's packet filter.
    pub(crate) fn firewall<T>(
        &self,
        work: impl FnOnce(&mut Firewall) -> Result<T, FirewallError>,
    ) -> Result<T, Failure> {
        let mut firewall = self.firewall.borrow_mut();
        let firewall = match &mut *firewall {
            Some(firewall) => firewall,
            empty => {
                let socket = netns::netfilter_socket().map_err(|error| {
                    Failure::new(code::KERNEL, format!("open an nf_tables socket: {error}"))
                })?;
                empty.insert(Firewall::new(socket, self.driver.remaining())?)
            }
        };
        firewall.set_timeout(self.driver.remaining());
        Ok(work(firewall)?)
    }
}
