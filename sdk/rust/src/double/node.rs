//! The node, in the hands of a test.

use super::refusal::Refusal;
use super::state::{self, Shared};

/// Where something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// In the node's namespace.
    Host,
    /// In the container's.
    Container,
}

/// A node with one container, in the memory of the thread.
///
/// Both have `lo`, and the node has `eth0`. Functions named `with_…` prepare
/// it; the others tell what has become of it.
#[derive(Debug)]
pub struct Node(pub(super) Shared);

impl Node {
    /// Makes a node, which the thread uses from now on.
    #[expect(clippy::new_without_default, reason = "it does more than to make a value")]
    pub fn new() -> Self {
        Self(state::replace())
    }

    /// The kernel has no IPv6.
    #[must_use]
    pub fn without_ipv6(self) -> Self {
        self.0.borrow_mut().has_ipv6 = false;
        self
    }

    /// The container's namespace goes away, and its links with it.
    pub fn container_gone(&self) {
        self.0.borrow_mut().remove_container();
    }

    /// Lets the next call of an operation fail; asked for again, the one
    /// after that too.
    ///
    /// The operation has the contract's name, behind that of its resource or
    /// interface: `"netns.create-veth"`, `"link.set-up"`, `"addresses.add"`,
    /// `"links.container"`, `"pool.reserve-next"`, `"leases.open"`,
    /// `"bucket.open"`, `"bucket.set"`, `"files.read"`, `"ipam.add"`. The node panics at its end if there was no
    /// such call, since the test has shown nothing then.
    pub fn fail_next(&self, operation: &str, error: impl Into<Refusal>) {
        self.0.borrow_mut().refusals.push((operation.to_owned(), error.into()));
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        // Nothing else may be borrowed while a test's node ends.
        if let Some((operation, _)) = self.0.borrow().refusals.first() {
            panic!("{operation} was to fail, but the plugin did not call it");
        }
    }
}
