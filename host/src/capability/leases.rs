//! `weir:store/leases`: addresses of the network.

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Instant;

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};
use wasmtime::component::Resource;

use crate::call::{Call, Fate, Served, Stop};
use crate::journal::Inverse;
use crate::leases::{AddressRange, LeaseError, Owner, Pool};
use crate::policy::Operation;
use crate::session::Session;
use crate::wit::weir::store::leases::{self, StoreError, Usage};
use crate::wit::{self, IpAddress};

/// Ranges in one list.
const RANGE_LIMIT: usize = 1024;

/// The leases of a network in the hands of a plugin.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct PoolHandle {
    /// None: there are no leases, and nothing asks to make one.
    pool: Option<Pool>,
    data_dir: PathBuf,
}

impl leases::Host for Session {
    fn open(&mut self, data_dir: Option<String>) -> Served<Result<Resource<PoolHandle>, StoreError>> {
        self.call.check_time()?;
        let is_named = data_dir.is_some();
        let data_dir = match data_dir {
            None => self.call.node.paths().leases().to_owned(),
            Some(path) => match self.permit_data_dir(&path)? {
                Ok(data_dir) => data_dir,
                Err(refused) => return Ok(Err(refused)),
            },
        };
        let node = &self.call.node;
        let mut location = node.leases(&data_dir, &self.call.request.config.name).map_err(Stop)?;
        location.is_real = is_named && !node.is_imagined();
        let wait = self.call.lock_wait();
        // Only ADD makes directories.
        let opened = if self.call.is_add() {
            Pool::open(&location, wait).map(Some)
        } else {
            Pool::open_existing(&location, wait)
        };
        match opened {
            Ok(pool) => Ok(Ok(self.table.push(PoolHandle { pool, data_dir })?)),
            Err(error) => Ok(Err(store_error(error))),
        }
    }
}

impl leases::HostPool for Session {
    fn held(&mut self, pool: Resource<PoolHandle>) -> Served<Result<Vec<IpAddress>, StoreError>> {
        self.read(&pool, |pool, call| pool.held(&owner(call)).map(to_ips))
    }

    fn last_reserved(
        &mut self,
        pool: Resource<PoolHandle>,
        set: u32,
    ) -> Served<Result<Option<IpAddress>, StoreError>> {
        self.read(&pool, |pool, _| Ok(pool.last_reserved(set)?.map(wit::to_ip)))
    }

    fn reserve(
        &mut self,
        pool: Resource<PoolHandle>,
        address: IpAddress,
        set: u32,
    ) -> Served<Result<(), StoreError>> {
        let address = wit::ip(address);
        self.take_census(|session| {
            let net = IpNet::from(address);
            if let Err(denied) = session.permit_lease("reserve", &address.to_string(), &[net])? {
                return Ok(Err(denied));
            }
            session.change_pool(&pool, "reserve", Fate::Journaled, |pool, owner, before| {
                pool.reserve(owner, address, set, before).map(|()| ((), Some(address.to_string())))
            })
        })
    }

    fn reserve_next(
        &mut self,
        pool: Resource<PoolHandle>,
        ranges: Vec<leases::AddressRange>,
        after: Option<IpAddress>,
        skip: Vec<IpAddress>,
        set: u32,
    ) -> Served<Result<Option<IpAddress>, StoreError>> {
        let ranges = match address_ranges(ranges) {
            Ok(ranges) => ranges,
            Err(error) => return Ok(Err(error)),
        };
        let after = after.map(wit::ip);
        let skip: Vec<_> = skip.into_iter().map(wit::ip).collect();
        self.take_census(|session| {
            if let Err(denied) = session.permit_ranges(&ranges)? {
                return Ok(Err(denied));
            }
            session.change_pool(&pool, "reserve-next", Fate::Journaled, |pool, owner, before| {
                let reserved = pool.reserve_next(owner, &ranges, after, &skip, set, before)?;
                Ok((reserved.map(wit::to_ip), reserved.map(|address| address.to_string())))
            })
        })
    }

    fn release(&mut self, pool: Resource<PoolHandle>) -> Served<Result<Vec<IpAddress>, StoreError>> {
        let data_dir = self.table.get(&pool)?.data_dir.clone();
        let released = self.change_pool(&pool, "release", Fate::Passing, |pool, owner, _| {
            let released = pool.release(owner)?;
            let named = released.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
            Ok((released, Some(named)))
        })?;
        if let Ok(addresses) = &released {
            self.call.settle(|inverse| match inverse {
                Inverse::ReleaseLease { data_dir: there, address } => {
                    *there == data_dir && addresses.contains(address)
                }
                _ => false,
            })?;
        }
        Ok(released.map(to_ips))
    }

    fn release_stale(&mut self, pool: Resource<PoolHandle>) -> Served<Result<u32, StoreError>> {
        let valid: Option<HashSet<Owner>> =
            self.call.request.config.valid_attachments.as_ref().map(|valid| {
                let owner = |id: &crate::request::AttachmentId| Owner {
                    container_id: id.container_id.clone(),
                    ifname: id.ifname.clone(),
                };
                valid.iter().map(owner).collect()
            });
        // Without a list nothing is known to be stale.
        let Some(valid) = valid else { return Ok(Ok(0)) };
        self.change_pool(&pool, "release-stale", Fate::Garbage, |pool, _, _| {
            pool.release_stale(&valid).map(|count| {
                let ending = if count == 1 { "" } else { "s" };
                (count, Some(format!("{count} lease{ending}")))
            })
        })
    }

    fn usage(
        &mut self,
        pool: Resource<PoolHandle>,
        ranges: Vec<leases::AddressRange>,
        skip: Vec<IpAddress>,
    ) -> Served<Result<Usage, StoreError>> {
        let ranges = match address_ranges(ranges) {
            Ok(ranges) => ranges,
            Err(error) => return Ok(Err(error)),
        };
        let skip: Vec<_> = skip.into_iter().map(wit::ip).collect();
        let count = |pool: &mut Pool| {
            pool.usage(&ranges, &skip).map(|usage| Usage { total: usage.total, used: usage.used })
        };
        self.call.check_time()?;
        match &mut self.table.get_mut(&pool)?.pool {
            Some(pool) => Ok(count(pool).map_err(store_error)),
            None => Ok(Ok(Usage { total: u64::MAX, used: 0 })),
        }
    }

    fn drop(&mut self, pool: Resource<PoolHandle>) -> Served<()> {
        self.table.delete(pool)?;
        Ok(())
    }
}

impl Session {
    /// Does what may count leases and take one, and lets others count then:
    /// they must not wait for the rest of the call.
    fn take_census<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> T {
        let done = work(self);
        self.call.end_census();
        done
    }

    /// Where a directory really is, if the plugin may keep leases there.
    fn permit_data_dir(&self, path: &str) -> Served<Result<PathBuf, StoreError>> {
        if !path.starts_with('/') {
            let reason = format!("key \"dataDir\": {path:?} is not an absolute path");
            return Ok(Err(StoreError::Invalid(reason)));
        }
        let call = &self.call;
        let found = if call.request.config.names("dataDir", path) {
            call.data_dir(path)
        } else {
            Err("the network configuration does not name this directory as \"dataDir\"".to_owned())
        };
        let data_dir = match found {
            Ok(data_dir) => data_dir,
            Err(reason) => {
                let reason = format!("open leases in {path}: {reason}");
                call.refuse(&self.guest, "open", path, &reason)?;
                return Ok(Err(StoreError::Denied(reason)));
            }
        };
        if !call.is_ruled(&self.guest, &data_dir) {
            return Ok(Ok(data_dir.path));
        }
        let object = data_dir.path.display().to_string();
        let refused = self.refused("open", &object, &[data_dir.operation()])?;
        Ok(refused.map_or(Ok(data_dir.path), |reason| Err(StoreError::Denied(reason))))
    }

    /// Whether the policy lets the plugin lease any of these ranges.
    fn permit_ranges(&self, ranges: &[AddressRange]) -> Served<Result<(), StoreError>> {
        if self.guest.is_unrestricted() {
            return Ok(Ok(()));
        }
        for AddressRange { first, last } in ranges {
            self.call.check_time()?;
            let mut nets: Vec<IpNet> = match (first, last) {
                (IpAddr::V4(first), IpAddr::V4(last)) => {
                    Ipv4Subnets::new(*first, *last, 0).map(IpNet::from).collect()
                }
                (IpAddr::V6(first), IpAddr::V6(last)) => {
                    Ipv6Subnets::new(*first, *last, 0).map(IpNet::from).collect()
                }
                _ => Vec::new(),
            };
            // A rule that is to allow the addresses of hosts names the subnet,
            // rather than the many prefixes that make it up without its ends.
            let is_denied = |net: &IpNet| self.guest.check(&Operation::Address(*net)).is_err();
            if nets.iter().any(is_denied)
                && let Some(subnet) = subnet_of(*first, *last)
            {
                nets = vec![subnet];
            }
            if let Err(denied) = self.permit_lease("reserve-next", &format!("{first} to {last}"), &nets)? {
                return Ok(Err(denied));
            }
        }
        Ok(Ok(()))
    }

    /// Whether the policy lets the plugin lease addresses, and another one.
    fn permit_lease(&self, operation: &str, object: &str, nets: &[IpNet]) -> Served<Result<(), StoreError>> {
        if self.guest.is_unrestricted() {
            return Ok(Ok(()));
        }
        let wanted: Vec<Operation<'_>> = nets.iter().map(|net| Operation::Address(*net)).collect();
        if let Some(reason) = self.refused(operation, object, &wanted)? {
            return Ok(Err(StoreError::Denied(reason)));
        }
        if self.guest.permit.leases().is_none() {
            return Ok(Ok(()));
        }
        let held = self.call.leases_of_tenant().map_err(Stop)?;
        let Err(refusal) = self.guest.permit.check_leases(held) else { return Ok(Ok(())) };
        let reason = format!("{refusal}; {}", refusal.hint());
        self.call.refuse(&self.guest, operation, object, &reason)?;
        Ok(Err(StoreError::Limit(reason)))
    }

    fn read<T: Default>(
        &mut self,
        handle: &Resource<PoolHandle>,
        work: impl FnOnce(&mut Pool, &Call) -> Result<T, LeaseError>,
    ) -> Served<Result<T, StoreError>> {
        self.call.check_time()?;
        match &mut self.table.get_mut(handle)?.pool {
            Some(pool) => Ok(work(pool, &self.call).map_err(store_error)),
            None => Ok(Ok(T::default())),
        }
    }

    /// Changes leases. `before` is called with each address just before it is
    /// leased, and writes the way back into the journal.
    fn change_pool<T: Default>(
        &mut self,
        handle: &Resource<PoolHandle>,
        operation: &'static str,
        fate: Fate,
        work: impl FnOnce(
            &mut Pool,
            &Owner,
            &mut dyn FnMut(IpAddr) -> Result<(), LeaseError>,
        ) -> Result<(T, Option<String>), LeaseError>,
    ) -> Served<Result<T, StoreError>> {
        let owner = owner(&self.call);
        let call = &self.call;
        call.permit_change(&self.guest, operation, &call.key.network, fate)?;
        let PoolHandle { pool, data_dir } = self.table.get_mut(handle)?;
        let Some(pool) = pool else { return Ok(Ok(T::default())) };
        let mut before = |address| {
            let inverse = Inverse::ReleaseLease { data_dir: data_dir.clone(), address };
            let recorded = call.record(Some(inverse));
            recorded.map(drop).map_err(|error| LeaseError::Journal { address, reason: error.to_string() })
        };
        let started = Instant::now();
        let done = call.make(&self.guest, None, || work(pool, &owner, &mut before))?;
        let object = match &done {
            Ok((_, Some(object))) => object.clone(),
            _ => call.request.config.name.clone(),
        };
        call.note(&self.guest, operation, object, &done, started);
        Ok(done.map(|(value, _)| value).map_err(store_error))
    }
}

/// The subnet of whose addresses only some at its ends are not in a range: its
/// own, the gateway's and that of broadcasts.
fn subnet_of(first: IpAddr, last: IpAddr) -> Option<IpNet> {
    const ENDS: u128 = 3;
    let bits = |address: IpAddr| match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()), 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    };
    let ((low, length), (high, _)) = (bits(first), bits(last));
    let host_bits = u8::try_from(u128::BITS - (low ^ high).leading_zeros()).ok()?;
    let subnet = IpNet::new(first, length - host_bits).ok()?.trunc();
    let size = 1_u128.checked_shl(u32::from(host_bits))?;
    (size - (high - low + 1) <= ENDS).then_some(subnet)
}

fn owner(call: &Call) -> Owner {
    let environment = &call.request.environment;
    Owner { container_id: environment.container_id.clone(), ifname: environment.ifname.clone() }
}

fn to_ips(addresses: Vec<IpAddr>) -> Vec<IpAddress> {
    addresses.into_iter().map(wit::to_ip).collect()
}

fn address_ranges(ranges: Vec<leases::AddressRange>) -> Result<Vec<AddressRange>, StoreError> {
    if ranges.len() > RANGE_LIMIT {
        return Err(StoreError::Limit(format!("{} ranges in one list, at most {RANGE_LIMIT}", ranges.len())));
    }
    let ranges: Vec<AddressRange> = ranges
        .into_iter()
        .map(|range| {
            let (first, last) = (wit::ip(range.first), wit::ip(range.last));
            if first.is_ipv4() == last.is_ipv4() && first <= last {
                Ok(AddressRange { first, last })
            } else {
                Err(StoreError::Invalid(format!("{first} to {last} is no range of addresses")))
            }
        })
        .collect::<Result<_, _>>()?;
    // Or the same addresses would be walked over again and again.
    let ends = |range: &AddressRange| (range.first.to_canonical(), range.last.to_canonical());
    let mut sorted: Vec<(IpAddr, IpAddr)> = ranges.iter().map(ends).collect();
    sorted.sort_unstable();
    if let Some([(_, last), (first, _)]) =
        sorted.array_windows().find(|[(_, last), (first, _)]| first <= last)
    {
        return Err(StoreError::Invalid(format!(
            "ranges overlap: one ends at {last}, another begins at {first}"
        )));
    }
    Ok(ranges)
}

fn store_error(error: LeaseError) -> StoreError {
    let message = error.to_string();
    match error {
        LeaseError::Busy { .. } => StoreError::Busy(message),
        LeaseError::Taken { .. } => StoreError::Taken(message),
        LeaseError::Invalid(_) => StoreError::Invalid(message),
        LeaseError::Io { .. } => StoreError::Io(message),
        _ => StoreError::Other(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_hosts_is_of_a_subnet() {
        for (first, last, subnet) in [
            ("10.1.0.1", "10.1.0.254", Some("10.1.0.0/24")),
            ("10.1.0.2", "10.1.0.254", Some("10.1.0.0/24")),
            ("10.1.0.0", "10.1.0.255", Some("10.1.0.0/24")),
            ("10.1.0.3", "10.1.0.254", None),
            ("10.1.0.254", "10.1.1.1", None),
            ("10.1.0.5", "10.1.0.5", Some("10.1.0.5/32")),
            ("fd00::1", "fd00::ffff:ffff:ffff:ffff", Some("fd00::/64")),
            ("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", None),
            ("0.0.0.0", "255.255.255.255", Some("0.0.0.0/0")),
        ] {
            let found = subnet_of(first.parse().unwrap(), last.parse().unwrap());
            assert_eq!(found, subnet.map(|subnet| subnet.parse().unwrap()), "{first} to {last}");
        }
    }
}
