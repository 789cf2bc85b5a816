//! Taking changes back.

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::entry::{Inverse, LinkId};
use super::file::Journal;
use crate::buckets::Bucket;
use crate::delegate;
use crate::failure::Failure;
use crate::leases::{Owner, Pool};
use crate::netlink::{NetlinkError, RouteSpec};
use crate::node::Node;
use crate::printable::printable;

/// How long a roll-back waits for the locks of leases and values, of which it
/// may need one again and again.
const LOCK_WAIT: Duration = Duration::from_secs(5);

/// The time that a roll-back still has for waiting for locks.
struct Patience(Cell<Duration>);

impl Patience {
    fn new() -> Self {
        Self(Cell::new(LOCK_WAIT))
    }

    /// Opens what may be locked, within the time.
    fn wait<T>(&self, open: impl FnOnce(Duration) -> T) -> T {
        let started = Instant::now();
        let opened = open(self.0.get());
        self.0.set(self.0.get().saturating_sub(started.elapsed()));
        opened
    }
}

/// What a roll-back achieved.
#[derive(Debug, Default)]
pub(crate) struct Undone {
    /// How many changes were taken back.
    pub(crate) count: usize,
    /// Why others were not; they stay in the journal.
    pub(crate) failures: Vec<Failure>,
}

/// Is told what was tried to be taken back, and whether it was.
pub(crate) type Note<'a> = dyn FnMut(&Inverse, &Result<(), Failure>) + 'a;

/// Takes back what a journal holds, newest first: all of it, or only what was
/// done since it was opened. Goes on after failures.
///
/// `is_given_up` tells whether the network has nothing to do with an IPAM plugin
/// any more.
pub(crate) fn roll_back(
    journal: &mut Journal,
    node: &Node,
    is_given_up: &dyn Fn(&str) -> bool,
    only_new: bool,
    note: &mut Note<'_>,
) -> Undone {
    let mut undone = Undone::default();
    let survived_a_reboot = !journal.is_of_this_boot();
    let patience = Patience::new();
    for (number, inverse) in journal.pending(only_new) {
        if survived_a_reboot && !outlives_a_reboot(&inverse) {
            journal.forget(number);
            continue;
        }
        let done = undo(&inverse, journal, node, &patience);
        note(&inverse, &done);
        match done {
            Ok(()) => {
                journal.forget(number);
                undone.count += 1;
            }
            // That somebody else's program is gone or fails must not keep a
            // container for ever.
            Err(failure) if matches!(&inverse, Inverse::DelegateDel { plugin, .. } if is_given_up(plugin)) => {
                eprintln!(
                    "weir: IPAM plugin {}, which the network does not use any more: {}; what it may still hold is left",
                    printable(&inverse.object()),
                    printable(&failure.to_string())
                );
                journal.forget(number);
            }
            Err(failure) => undone.failures.push(failure),
        }
    }
    undone
}

fn outlives_a_reboot(inverse: &Inverse) -> bool {
    matches!(
        inverse,
        Inverse::ReleaseLease { .. } | Inverse::RestoreValue { .. } | Inverse::DelegateDel { .. }
    )
}

fn undo(inverse: &Inverse, journal: &Journal, node: &Node, patience: &Patience) -> Result<(), Failure> {
    let key = &journal.header.key;
    match inverse {
        Inverse::DeleteLink { link, kind, mac } => with_link(node, link, |netns, link| {
            let is_it = link.is_kind(kind) && mac.is_none_or(|mac| link.mac == Some(mac));
            if is_it { netns.remove_link(link.index) } else { Ok(()) }
        }),
        Inverse::SetUp { link, up } => with_link(node, link, |netns, link| netns.set_up(link.index, *up)),
        Inverse::SetMtu { link, mtu } => with_link(node, link, |netns, link| netns.set_mtu(link.index, *mtu)),
        Inverse::SetMac { link, mac } => with_link(node, link, |netns, link| netns.set_mac(link.index, *mac)),
        Inverse::SetPromiscuous { link, on } => {
            with_link(node, link, |netns, link| netns.set_promiscuous(link.index, *on))
        }
        Inverse::RemoveAddress { link, prefix } => match prefix.parse() {
            Ok(prefix) => with_link(node, link, |netns, link| netns.remove_address(link.index, prefix)),
            Err(reason) => Err(Failure::io(format!("read the journal: {reason}"))),
        },
        Inverse::RestoreAddress { link, prefix } => match prefix.parse() {
            Ok(prefix) => {
                with_link(node, link, |netns, link| ignore_existing(netns.add_address(link.index, prefix)))
            }
            Err(reason) => Err(Failure::io(format!("read the journal: {reason}"))),
        },
        Inverse::RemoveRoute { link, destination, gateway, table, priority } => {
            let route = RouteSpec {
                destination: destination
                    .parse()
                    .map_err(|reason| Failure::io(format!("read the journal: {reason}")))?,
                gateway: *gateway,
                source: None,
                // RT_SCOPE_NOWHERE matches any scope.
                scope: 255,
                table: *table,
                priority: *priority,
                mtu: None,
                advmss: None,
            };
            with_link(node, link, |netns, link| netns.remove_route(link.index, &route))
        }
        Inverse::RemoveNeighbors { link, neighbors } => with_link(node, link, |netns, link| {
            let present = netns.present_neighbors(link.index, neighbors)?;
            Ok(netns.remove_neighbors(link.index, &present)?)
        }),
        Inverse::RestoreNeighbors { link, neighbors } => with_link(node, link, |netns, link| {
            each_unless_existing(neighbors, |neighbor| {
                let missing = netns.missing_neighbors(link.index, neighbor)?;
                Ok(netns.add_neighbors(link.index, &missing)?)
            })
        }),
        Inverse::RemoveForwarding { link, entries } => with_link(node, link, |netns, link| {
            let present = netns.present_forwarding(link.index, entries)?;
            Ok(netns.remove_forwarding(link.index, &present)?)
        }),
        Inverse::RestoreForwarding { link, entries } => with_link(node, link, |netns, link| {
            each_unless_existing(entries, |entry| {
                let missing = netns.missing_forwarding(link.index, entry)?;
                Ok(netns.add_forwarding(link.index, &missing)?)
            })
        }),
        Inverse::RestoreSysctl { link, ipv4, key, value } => with_link(node, link, |netns, link| {
            netns.set_sysctl(*ipv4, &format!("conf/{}/{key}", link.name), value)
        }),
        Inverse::ReleaseLease { data_dir, address } => {
            let location = node.leases(data_dir, &key.network)?;
            let owner = Owner { container_id: key.container_id.clone(), ifname: key.ifname.clone() };
            let opened = patience.wait(|time| Pool::open_existing(&location, time))?;
            if let Some(mut pool) = opened {
                pool.release_address(&owner, *address)?;
            }
            Ok(())
        }
        Inverse::RemoveMasquerade { source } => {
            node.firewall(|firewall| firewall.masquerade_remove(&key.name(), *source).map(drop))
        }
        Inverse::RemoveGuard { port, mac } => {
            node.firewall(|firewall| firewall.guard_remove(&key.name(), port, *mac).map(drop))
        }
        Inverse::RestoreValue { plugin, key: of_value, earlier, written } => {
            let location = node.bucket(&key.network, plugin)?;
            let opened = patience.wait(|time| Bucket::open_existing(&location, time))?;
            if let Some(bucket) = opened {
                bucket.restore(of_value, earlier.as_ref(), *written)?;
            }
            Ok(())
        }
        Inverse::RemovePorts { ports } => node.firewall(|firewall| firewall.unpublish(&key.name(), ports)),
        Inverse::DelegateDel { .. } if node.is_imagined() => Ok(()),
        Inverse::DelegateDel { plugin, path } => delegate::undo(plugin, path, &journal.header),
    }
}

/// Does something to a link, if it and its namespace are still there. Another
/// link that has its name by now is none of the attachment's.
fn with_link(
    node: &Node,
    link: &LinkId,
    work: impl FnOnce(&crate::netlink::Netns, &crate::netlink::LinkState) -> Result<(), NetlinkError>,
) -> Result<(), Failure> {
    let Some(netns) = node.netns(link.side)? else { return Ok(()) };
    let found = match link.index {
        Some(index) => netns.link_by_index(index),
        None => netns.link_by_name(&link.name),
    };
    let found = match found {
        Ok(found) => found,
        Err(error) if error.is_absent() => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    ignore_absent(work(&netns, &found)).map_err(Failure::from)
}

/// Puts the items of a list back one by one: what somebody else has put in the
/// place of one stays, and the others come back all the same.
fn each_unless_existing<T>(
    items: &[T],
    restore: impl Fn(&[T]) -> Result<(), NetlinkError>,
) -> Result<(), NetlinkError> {
    items.chunks(1).try_for_each(|item| ignore_existing(restore(item)))
}

fn ignore_absent(result: Result<(), NetlinkError>) -> Result<(), NetlinkError> {
    match result {
        Err(error) if error.is_absent() => Ok(()),
        other => other,
    }
}

fn ignore_existing(result: Result<(), NetlinkError>) -> Result<(), NetlinkError> {
    match result {
        Err(error) if error.is_existing() => Ok(()),
        other => other,
    }
}
