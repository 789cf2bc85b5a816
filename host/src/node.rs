//! The node as a call sees it: its namespaces and its packet filter, each
//! opened when it is first needed.

use std::cell::{OnceCell, RefCell};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use crate::buckets;
use crate::failure::{Failure, code};
use crate::firewall::{Firewall, FirewallError};
use crate::imagination::Imagination;
use crate::journal::Side;
use crate::leases::Location;
use crate::netlink::{Budget, Netns};
use crate::netns::{self, NetnsFile};
use crate::paths::Paths;

/// Handles on the node.
pub(crate) struct Node {
    budget: Arc<Budget>,
    paths: Paths,
    container_file: RefCell<Option<NetnsFile>>,
    own_file: OnceCell<Arc<NetnsFile>>,
    is_shared: OnceCell<bool>,
    host: OnceCell<Arc<Netns>>,
    container: OnceCell<Option<Arc<Netns>>>,
    firewall: RefCell<Option<Firewall>>,
    /// In a plan, what is changed instead of the node.
    imagination: Option<Rc<Imagination>>,
}

impl Node {
    /// Prepares handles; opens nothing yet. `container` is none when the
    /// container's namespace is gone.
    pub(crate) fn new(container: Option<NetnsFile>, paths: Paths, deadline: Instant) -> Self {
        Self {
            budget: Arc::new(Budget::until(deadline)),
            paths,
            container_file: RefCell::new(container),
            own_file: OnceCell::new(),
            is_shared: OnceCell::new(),
            host: OnceCell::new(),
            container: OnceCell::new(),
            firewall: RefCell::new(None),
            imagination: None,
        }
    }

    /// The same for a plan, if it is for one.
    pub(crate) fn imagining(self, imagination: Option<Rc<Imagination>>) -> Self {
        Self { imagination, ..self }
    }

    /// The same node with another container, whose namespace is entered now;
    /// none if that cannot be done.
    pub(crate) fn with_container(&self, container: NetnsFile) -> Option<Self> {
        let node = Self::new(Some(container), self.paths.clone(), Instant::now());
        let node = Self { budget: Arc::clone(&self.budget), ..node }.imagining(self.imagination.clone());
        node.container().is_ok().then_some(node)
    }

    /// Whether nothing is really changed.
    pub(crate) fn is_imagined(&self) -> bool {
        self.imagination.is_some()
    }

    /// Where the leases of a network are.
    pub(crate) fn leases(&self, data_dir: &Path, network: &str) -> Result<Location, Failure> {
        let data_dir = match &self.imagination {
            Some(imagination) => imagination.leases(data_dir, network)?,
            None => data_dir.to_owned(),
        };
        let index_dir = self.paths.lease_indexes();
        Ok(Location { data_dir, network: network.to_owned(), index_dir, is_real: false })
    }

    /// Where a plugin keeps its values in a network.
    pub(crate) fn bucket(&self, network: &str, plugin: &str) -> Result<buckets::Location, Failure> {
        let below = |state: &Path| buckets::Location {
            state: state.to_owned(),
            network: network.to_owned(),
            plugin: plugin.to_owned(),
        };
        if let Some(imagination) = &self.imagination {
            imagination.bucket(&below(self.paths.state()))?;
        }
        Ok(below(self.paths.bucket_state()))
    }

    fn imagined(&self, netns: Netns) -> std::io::Result<Netns> {
        match &self.imagination {
            Some(imagination) => netns.imagining(imagination.world()),
            None => Ok(netns),
        }
    }

    /// Where the node keeps state.
    pub(crate) fn paths(&self) -> &Paths {
        &self.paths
    }

    /// Moves the moment by which requests have to be answered.
    pub(crate) fn extend(&self, deadline: Instant) {
        self.budget.extend(deadline);
    }

    /// The node's namespace.
    pub(crate) fn host(&self) -> Result<Arc<Netns>, Failure> {
        if let Some(host) = self.host.get() {
            return Ok(Arc::clone(host));
        }
        let host = Netns::host(self.own_file()?, Arc::clone(&self.budget))
            .and_then(|host| self.imagined(host))
            .map_err(|error| Failure::io(format!("open the host namespace: {error}")))?;
        Ok(Arc::clone(self.host.get_or_init(|| Arc::new(host))))
    }

    /// The namespace of this process.
    fn own_file(&self) -> Result<Arc<NetnsFile>, Failure> {
        if let Some(own) = self.own_file.get() {
            return Ok(Arc::clone(own));
        }
        let own = NetnsFile::current().map_err(|error| Failure::io(error.to_string()))?;
        Ok(Arc::clone(self.own_file.get_or_init(|| Arc::new(own))))
    }

    /// Whether the container is in the namespace of this process. Has to be
    /// asked before the container's is opened, and is known from then on.
    pub(crate) fn is_shared(&self) -> Result<bool, Failure> {
        if let Some(known) = self.is_shared.get() {
            return Ok(*known);
        }
        let is_shared = match &*self.container_file.borrow() {
            Some(container) => container
                .is(&*self.own_file()?)
                .map_err(|error| Failure::io(format!("compare network namespaces: {error}")))?,
            None => false,
        };
        Ok(*self.is_shared.get_or_init(|| is_shared))
    }

    /// The container's namespace, if it still exists.
    pub(crate) fn container(&self) -> Result<Option<Arc<Netns>>, Failure> {
        if let Some(container) = self.container.get() {
            return Ok(container.clone());
        }
        let container = match self.container_file.borrow_mut().take() {
            Some(file) => {
                let own = self.own_file()?;
                let netns = Netns::container(file, &own, Arc::clone(&self.budget));
                let netns = netns.and_then(|netns| self.imagined(netns)).map_err(|error| {
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
                let firewall = Firewall::new(socket, self.budget.remaining())?;
                empty.insert(match &self.imagination {
                    Some(imagination) => firewall.imagining(imagination.firewall()),
                    None => firewall,
                })
            }
        };
        firewall.set_timeout(self.budget.remaining());
        Ok(work(firewall)?)
    }
}
