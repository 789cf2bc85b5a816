//! `weir:store/leases`: addresses of the network.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub use crate::bindings::platform::weir::net::types::IpAddress;
pub use crate::bindings::platform::weir::store::leases::{AddressRange, StoreError, Usage};
use crate::double::Node;
use crate::double::net::parsed_address;
use crate::double::request::{AttachmentId, DEFAULT_NETWORK, Owner};
use crate::double::state::{self, Shared, State};

/// Range sets are numbered up to this.
const LAST_SET: u32 = 255;

/// Where leases are: the directory, if not the node's default, and the
/// network.
type Place = (Option<String>, String);

/// All leases of the node.
pub(in crate::double) type Directories = BTreeMap<Place, Directory>;

/// The leases of one network in one directory.
#[derive(Debug, Default)]
pub(in crate::double) struct Directory {
    leases: BTreeMap<IpAddr, AttachmentId>,
    last_reserved: BTreeMap<u32, IpAddr>,
    is_locked: bool,
}

/// A leased address.
#[derive(Debug, Clone, PartialEq)]
pub struct Lease {
    /// The directory, if not the node's default.
    pub data_dir: Option<String>,
    /// The network.
    pub network: String,
    /// The address.
    pub address: IpAddr,
    /// Whose it is.
    pub id: AttachmentId,
}

impl Node {
    /// An address of the network `net`, in the node's default directory, is
    /// leased.
    ///
    /// # Panics
    ///
    /// If the text is no address.
    #[must_use]
    pub fn with_lease(self, address: &str, container_id: &str, ifname: &str) -> Self {
        let place = (None, DEFAULT_NETWORK.to_owned());
        let id = AttachmentId { container_id: container_id.to_owned(), ifname: ifname.to_owned() };
        self.0.borrow_mut().leases.entry(place).or_default().leases.insert(parsed_address(address), id);
        self
    }

    /// All leases, in ascending order.
    pub fn leases(&self) -> Vec<Lease> {
        let state = self.0.borrow();
        let of_directory = |((data_dir, network), directory): (&Place, &Directory)| -> Vec<Lease> {
            let lease = |(address, id): (&IpAddr, &AttachmentId)| Lease {
                data_dir: data_dir.clone(),
                network: network.clone(),
                address: *address,
                id: id.clone(),
            };
            directory.leases.iter().map(lease).collect()
        };
        state.leases.iter().flat_map(of_directory).collect()
    }
}

/// The leases of this network, locked until the handle is dropped.
#[derive(Debug)]
pub struct Pool {
    node: Shared,
    place: Place,
}

/// Opens and locks the leases of this network. A second time is `busy` for as
/// long as there is a handle, as the plugin would wait for itself.
pub fn open(data_dir: Option<&str>) -> Result<Pool, StoreError> {
    let node = state::current();
    let mut state = node.borrow_mut();
    state.pass("leases.open")?;
    if let Some(path) = data_dir
        && !state.call.names("dataDir", path)
    {
        return Err(StoreError::Denied(format!(
            "open leases in {path}: the network configuration does not name this directory as \"dataDir\""
        )));
    }
    let place = (data_dir.map(str::to_owned), state.call.network());
    let directory = state.leases.entry(place.clone()).or_default();
    if directory.is_locked {
        return Err(StoreError::Busy(format!("open leases of network {}: they are locked", place.1)));
    }
    directory.is_locked = true;
    drop(state);
    Ok(Pool { node, place })
}

impl Drop for Pool {
    fn drop(&mut self) {
        if let Some(directory) = self.node.borrow_mut().leases.get_mut(&self.place) {
            directory.is_locked = false;
        }
    }
}

impl Pool {
    fn work<T>(
        &self,
        operation: &str,
        work: impl FnOnce(&mut Directory, &Owner, &State) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut state = self.node.borrow_mut();
        state.pass(operation)?;
        let owner = state.owner();
        let mut directory = state.leases.remove(&self.place).unwrap_or_default();
        let done = work(&mut directory, &owner, &state);
        state.leases.insert(self.place.clone(), directory);
        done
    }

    /// The addresses that this attachment holds, in ascending order.
    pub fn held(&self) -> Result<Vec<IpAddress>, StoreError> {
        self.work("pool.held", |directory, owner, _| {
            let held = directory.leases.iter().filter(|(_, id)| **id == owner.id);
            Ok(held.map(|(address, _)| (*address).into()).collect())
        })
    }

    /// The address that was last reserved for the range set number `set`.
    pub fn last_reserved(&self, set: u32) -> Result<Option<IpAddress>, StoreError> {
        self.work("pool.last-reserved", |directory, _, _| {
            Ok(directory.last_reserved.get(&set).copied().map(IpAddress::from))
        })
    }

    /// Reserves one particular address for this attachment.
    pub fn reserve(&self, address: IpAddress, set: u32) -> Result<(), StoreError> {
        self.work("pool.reserve", |directory, owner, _| {
            check_set(set)?;
            let address = IpAddr::from(address);
            match directory.leases.get(&address) {
                Some(id) if *id == owner.id => Ok(()),
                Some(id) => Err(StoreError::Taken(format!(
                    "reserve {address}: it is leased to container {} {}",
                    id.container_id, id.ifname
                ))),
                None => {
                    directory.reserve(address, owner, set);
                    Ok(())
                }
            }
        })
    }

    /// Reserves the first free address after `after`.
    pub fn reserve_next(
        &self,
        ranges: &[AddressRange],
        after: Option<IpAddress>,
        skip: &[IpAddress],
        set: u32,
    ) -> Result<Option<IpAddress>, StoreError> {
        self.work("pool.reserve-next", |directory, owner, _| {
            check_set(set)?;
            let order = walk(ranges, after.map(IpAddr::from))?;
            let free = order.into_iter().flat_map(Stretch::addresses).find(|address| {
                !skip.contains(&(*address).into()) && !directory.leases.contains_key(address)
            });
            if let Some(address) = free {
                directory.reserve(address, owner, set);
            }
            Ok(free.map(IpAddress::from))
        })
    }

    /// Releases every address that this attachment holds, and returns them.
    pub fn release(&self) -> Result<Vec<IpAddress>, StoreError> {
        self.work("pool.release", |directory, owner, _| {
            Ok(directory.release(|id| *id == owner.id).into_iter().map(IpAddress::from).collect())
        })
    }

    /// During GC: releases every lease whose attachment is not valid.
    pub fn release_stale(&self) -> Result<u32, StoreError> {
        self.work("pool.release-stale", |directory, _, state| {
            let Some(valid) = &state.call.valid else { return Ok(0) };
            Ok(directory.release(|id| !valid.contains(id)).len().try_into().unwrap_or(u32::MAX))
        })
    }

    /// Counts how many addresses of `ranges` are in use.
    pub fn usage(&self, ranges: &[AddressRange], skip: &[IpAddress]) -> Result<Usage, StoreError> {
        self.work("pool.usage", |directory, _, _| {
            let stretches = walk(ranges, None)?;
            let within = |address: &IpAddr| stretches.iter().any(|stretch| stretch.contains(*address));
            let mut skip: Vec<IpAddr> = skip.iter().copied().map(IpAddr::from).filter(within).collect();
            skip.sort();
            skip.dedup();
            let size = stretches.iter().fold(0u128, |sum, stretch| sum.saturating_add(stretch.len()));
            let total = u64::try_from(size.saturating_sub(skip.len() as u128)).unwrap_or(u64::MAX);
            let used =
                directory.leases.keys().filter(|address| within(address) && !skip.contains(address)).count();
            Ok(Usage { total, used: used as u64 })
        })
    }
}

impl Directory {
    fn reserve(&mut self, address: IpAddr, owner: &Owner, set: u32) {
        self.leases.insert(address, owner.id.clone());
        self.last_reserved.insert(set, address);
    }

    fn release(&mut self, is_released: impl Fn(&AttachmentId) -> bool) -> Vec<IpAddr> {
        self.leases.extract_if(.., |_, id| is_released(id)).map(|(address, _)| address).collect()
    }
}

fn check_set(set: u32) -> Result<(), StoreError> {
    if set > LAST_SET {
        return Err(StoreError::Invalid(format!("range set number {set}: they end at {LAST_SET}")));
    }
    Ok(())
}

/// Addresses of one family in a row, as numbers.
#[derive(Clone, Copy)]
struct Stretch {
    is_ipv4: bool,
    first: u128,
    last: u128,
}

impl Stretch {
    fn len(&self) -> u128 {
        (self.last - self.first).saturating_add(1)
    }

    fn contains(&self, address: IpAddr) -> bool {
        self.is_ipv4 == address.is_ipv4() && (self.first..=self.last).contains(&number(address))
    }

    fn addresses(self) -> impl Iterator<Item = IpAddr> {
        (self.first..=self.last).map(move |number| match u32::try_from(number) {
            Ok(number) if self.is_ipv4 => Ipv4Addr::from_bits(number).into(),
            _ => Ipv6Addr::from_bits(number).into(),
        })
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// The order in which addresses are tried: behind `after` to the end, and
/// round again from the start up to and including it.
fn walk(ranges: &[AddressRange], after: Option<IpAddr>) -> Result<Vec<Stretch>, StoreError> {
    let stretch = |range: &AddressRange| {
        let (first, last) = (IpAddr::from(range.first), IpAddr::from(range.last));
        if first.is_ipv4() != last.is_ipv4() || first > last {
            return Err(StoreError::Invalid(format!("{first} to {last} is no range of addresses")));
        }
        Ok(Stretch { is_ipv4: first.is_ipv4(), first: number(first), last: number(last) })
    };
    let stretches = ranges.iter().map(stretch).collect::<Result<Vec<_>, _>>()?;
    let start = after.and_then(|after| {
        let position = stretches.iter().position(|stretch| stretch.contains(after))?;
        Some((position, number(after)))
    });
    let Some((position, after)) = start else { return Ok(stretches) };
    let current = stretches[position];
    let behind = (after < current.last).then_some(Stretch { first: after + 1, ..current });
    let others = stretches[position + 1..].iter().chain(&stretches[..position]).copied();
    Ok(behind.into_iter().chain(others).chain([Stretch { last: after, ..current }]).collect())
}
