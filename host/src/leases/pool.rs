//! The leases of one network, locked.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use super::directory::LeaseDirectory;
use super::index::Index;
use super::range::{self, AddressRange, Usage};
use super::record::{Record, Valid};
use super::{LeaseError, Location, Owner};
use crate::lock;

/// Addresses in a row that are looked up one by one before the directory is
/// listed instead: beyond this, a listing is cheaper.
const PROBES: u32 = 64;

/// Range sets are numbered up to this: the last address of each is in a file of
/// its own, which stays.
const LAST_SET: u32 = 255;

/// Takes note of a lease before it is made, for whoever has to undo it.
pub(crate) type Before<'a> = dyn FnMut(IpAddr) -> Result<(), LeaseError> + 'a;

/// The leases of one network, locked against other processes until dropped.
pub(crate) struct Pool {
    directory: LeaseDirectory,
    location: Location,
    index: State,
    _lock: File,
}

enum State {
    /// Not looked at yet.
    Unknown,
    Current(Index),
    /// There can be none; every lease has to be read.
    Unusable,
}

impl Pool {
    /// Opens the pool, and makes it if it does not exist.
    ///
    /// # Errors
    ///
    /// [`LeaseError::Busy`] if another process holds the lock for longer than
    /// `wait`.
    pub(crate) fn open(location: &Location, wait: Duration) -> Result<Self, LeaseError> {
        Self::locked(wait, || {
            let directory = LeaseDirectory::create(location)?;
            let lock = directory.lock_file(true)?;
            Ok(Some((directory, lock)))
        })?
        .map(|(directory, lock)| Self::new(location, directory, lock))
        .ok_or_else(|| {
            LeaseError::io("open the lease directory", &location.directory(), io::ErrorKind::NotFound)
        })
    }

    /// Opens the pool for DEL, GC or STATUS; none if nothing was ever leased
    /// here, and nothing is made then.
    ///
    /// # Errors
    ///
    /// Those of [`Pool::open`].
    pub(crate) fn open_existing(location: &Location, wait: Duration) -> Result<Option<Self>, LeaseError> {
        let opened = Self::locked(wait, || {
            let Some(directory) = LeaseDirectory::open(location)? else { return Ok(None) };
            // Leases without a lock were put there by hand. Then the lock has
            // to be made: a Go plugin would do so too.
            let create = match directory.lock_file(false)? {
                Some(file) => return Ok(Some((directory, Some(file)))),
                None => !directory.addresses()?.is_empty(),
            };
            if !create {
                return Ok(None);
            }
            let lock = directory.lock_file(true)?;
            Ok(Some((directory, lock)))
        })?;
        Ok(opened.map(|(directory, lock)| Self::new(location, directory, lock)))
    }

    /// Locks what `open` finds. If it was removed while we waited, the lock is
    /// one that nobody else will ever see, so that it has to be found again.
    fn locked(
        wait: Duration,
        mut open: impl FnMut() -> Result<Option<(LeaseDirectory, Option<File>)>, LeaseError>,
    ) -> Result<Option<(LeaseDirectory, File)>, LeaseError> {
        let deadline = Instant::now() + wait;
        loop {
            let Some((directory, file)) = open()? else { return Ok(None) };
            let path = directory.lock_path();
            let failed = |source| LeaseError::io("take the lock", &path, source);
            if let Some(file) = file {
                let lock = lock::acquire(file, deadline).map_err(failed)?;
                let lock = lock.ok_or_else(|| LeaseError::Busy { path: path.clone(), waited: wait })?;
                if lock.metadata().map_err(failed)?.nlink() > 0 {
                    return Ok(Some((directory, lock)));
                }
            }
            if Instant::now() >= deadline {
                return Err(LeaseError::Busy { path, waited: wait });
            }
        }
    }

    fn new(location: &Location, directory: LeaseDirectory, lock: File) -> Self {
        Self { directory, location: location.clone(), index: State::Unknown, _lock: lock }
    }

    /// The addresses that `owner` holds, in ascending order.
    pub(crate) fn held(&mut self, owner: &Owner) -> Result<Vec<IpAddr>, LeaseError> {
        Ok(self.leases_of(owner)?.into_iter().map(|(address, _)| address).collect())
    }

    /// The address that was reserved last for the set number `set`; none also
    /// if the note of it is damaged.
    pub(crate) fn last_reserved(&self, set: u32) -> Result<Option<IpAddr>, LeaseError> {
        self.directory.last_reserved(set)
    }

    /// Reserves `address` for `owner`. If they hold it already, nothing
    /// changes and `before` is not called.
    ///
    /// # Errors
    ///
    /// [`LeaseError::Taken`] if somebody else holds it; the errors of
    /// `before`, after which nothing was reserved.
    pub(crate) fn reserve(
        &mut self,
        owner: &Owner,
        address: IpAddr,
        set: u32,
        before: &mut Before<'_>,
    ) -> Result<(), LeaseError> {
        owner.check()?;
        check_set(set)?;
        let address = address.to_canonical();
        self.look_at_index()?;
        if let Some(record) = self.lease(address)? {
            if record.belongs_to(owner) {
                return Ok(());
            }
            return Err(self.taken(address, &record));
        }
        if self.place(owner, address, set, before)? {
            return Ok(());
        }
        // Someone who ignores the lock was faster.
        let record = self.directory.read(address)?.unwrap_or(Record::Foreign);
        Err(self.taken(address, &record))
    }

    /// Reserves the first free address of `ranges` for `owner`: the first one
    /// after `after`, or from the start if that is none or in no range, once
    /// round. Addresses in `skip` are left out. None if all are taken.
    ///
    /// # Errors
    ///
    /// [`LeaseError::Invalid`] for senseless ranges; the errors of `before`,
    /// after which nothing was reserved.
    pub(crate) fn reserve_next(
        &mut self,
        owner: &Owner,
        ranges: &[AddressRange],
        after: Option<IpAddr>,
        skip: &[IpAddr],
        set: u32,
        before: &mut Before<'_>,
    ) -> Result<Option<IpAddr>, LeaseError> {
        owner.check()?;
        check_set(set)?;
        let skip: HashSet<IpAddr> = skip.iter().map(IpAddr::to_canonical).collect();
        let order = range::walk(ranges, after)?.filter(|address| !skip.contains(address));
        self.look_at_index()?;
        let mut probed = 0;
        let mut listed: Option<HashSet<IpAddr>> = None;
        // Every step but the last meets a lease, so that the length of the
        // walk does not depend on the size of the ranges.
        for address in order {
            let free = match &listed {
                Some(listed) => !listed.contains(&address),
                None => self.is_free(address)?,
            };
            if free && self.place(owner, address, set, before)? {
                return Ok(Some(address));
            }
            probed = if free { 0 } else { probed + 1 };
            if probed == PROBES && listed.is_none() {
                listed = Some(self.all_taken()?);
            }
        }
        Ok(None)
    }

    /// Releases every address that `owner` holds, and returns them. Leases
    /// that name only the container are released if there is none that names
    /// the interface too, as the reference plugin does.
    pub(crate) fn release(&mut self, owner: &Owner) -> Result<Vec<IpAddr>, LeaseError> {
        let mut leases = self.leases_of(owner)?;
        if leases.iter().any(|(_, record)| matches!(record, Record::Attachment(_))) {
            leases.retain(|(_, record)| matches!(record, Record::Attachment(_)));
        }
        for (address, _) in &leases {
            self.directory.remove(*address)?;
        }
        if !leases.is_empty() {
            self.follow(|index| {
                leases.iter().try_for_each(|(address, record)| index.remove(record, *address))
            });
        }
        Ok(leases.into_iter().map(|(address, _)| address).collect())
    }

    /// Releases `address` if `owner` holds it. False if not.
    pub(crate) fn release_address(&mut self, owner: &Owner, address: IpAddr) -> Result<bool, LeaseError> {
        let address = address.to_canonical();
        self.look_at_index()?;
        let Some(record) = self.directory.read(address)?.filter(|record| record.belongs_to(owner)) else {
            return Ok(false);
        };
        let released = self.directory.remove(address)?;
        self.follow(|index| index.remove(&record, address));
        Ok(released)
    }

    /// Releases every lease whose owner is not in `valid`, and returns how
    /// many. This reads all leases.
    pub(crate) fn release_stale(&mut self, valid: &HashSet<Owner>) -> Result<u32, LeaseError> {
        let valid = Valid::new(valid);
        let (keep, stale): (Vec<_>, Vec<_>) =
            self.directory.scan()?.into_iter().partition(|(_, record)| valid.keeps(record));
        let mut released = 0;
        for (address, _) in &stale {
            released += u32::from(self.directory.remove(*address)?);
        }
        if released > 0 {
            self.build_index(&keep);
        }
        Ok(released)
    }

    /// Counts how many addresses of `ranges` are in use, without those in
    /// `skip`. This lists the directory.
    pub(crate) fn usage(&mut self, ranges: &[AddressRange], skip: &[IpAddr]) -> Result<Usage, LeaseError> {
        range::usage(ranges, skip, self.all_taken()?.into_iter())
    }

    /// Makes the lease of `address`. False if it is in use after all.
    fn place(
        &mut self,
        owner: &Owner,
        address: IpAddr,
        set: u32,
        before: &mut Before<'_>,
    ) -> Result<bool, LeaseError> {
        // First, because a note too much does no harm, whereas a lease whose
        // making is reported as failed would.
        self.directory.note_reserved(set, address)?;
        before(address)?;
        if !self.directory.make(owner, address)? {
            return Ok(false);
        }
        self.follow(|index| index.insert(&Record::Attachment(owner.clone()), address));
        Ok(true)
    }

    fn is_free(&self, address: IpAddr) -> Result<bool, LeaseError> {
        match &self.index {
            // Building the index has removed the torn ones, so that whatever
            // exists is taken.
            State::Current(_) => Ok(!self.directory.exists(address)?),
            State::Unknown | State::Unusable => Ok(self.lease(address)?.is_none()),
        }
    }

    /// The record of a lease. A torn one is removed: it is none.
    fn lease(&self, address: IpAddr) -> Result<Option<Record>, LeaseError> {
        match self.directory.read(address)? {
            Some(Record::Torn) => {
                self.directory.remove(address)?;
                Ok(None)
            }
            record => Ok(record),
        }
    }

    fn all_taken(&mut self) -> Result<HashSet<IpAddr>, LeaseError> {
        self.look_at_index()?;
        if matches!(self.index, State::Unusable) {
            // For its side effect: torn leases are not taken.
            self.directory.scan()?;
        }
        Ok(self.directory.addresses()?.into_iter().collect())
    }

    fn taken(&self, address: IpAddr, record: &Record) -> LeaseError {
        LeaseError::Taken { address, holder: record.to_string(), path: self.directory.lease_path(address) }
    }

    fn leases_of(&mut self, owner: &Owner) -> Result<Vec<(IpAddr, Record)>, LeaseError> {
        self.look_at_index()?;
        let mut leases = match self.indexed(owner)? {
            Some(leases) => leases,
            None => {
                let all = self.directory.scan()?;
                // It was wrong, or there is none: in the latter case this
                // fails as it did before.
                if matches!(self.index, State::Current(_)) {
                    self.build_index(&all);
                }
                all.into_iter().filter(|(_, record)| record.belongs_to(owner)).collect()
            }
        };
        leases.sort_by_key(|(address, _)| *address);
        Ok(leases)
    }

    /// The leases of an owner according to the index, each of them read; none
    /// if there is no index or it is wrong.
    fn indexed(&self, owner: &Owner) -> Result<Option<Vec<(IpAddr, Record)>>, LeaseError> {
        let State::Current(index) = &self.index else { return Ok(None) };
        let mut leases = Vec::new();
        for wanted in Record::of(owner) {
            let Ok(addresses) = index.find(&wanted) else { return Ok(None) };
            for address in addresses {
                match self.directory.read(address)? {
                    Some(record) if record == wanted => leases.push((address, record)),
                    // Another owner with the same hash.
                    Some(record) if index.are_equal(&record, &wanted) => {}
                    _ => return Ok(None),
                }
            }
        }
        Ok(Some(leases))
    }

    /// Finds out whether there is an index of the present state, and else
    /// builds it. Before any change: afterwards nobody could tell.
    fn look_at_index(&mut self) -> Result<(), LeaseError> {
        if matches!(self.index, State::Unknown) {
            match self.directory.stamp().and_then(|stamp| Index::open(&self.location, &stamp)) {
                Ok(index) => self.index = State::Current(index),
                Err(_) => {
                    let leases = self.directory.scan()?;
                    self.build_index(&leases);
                }
            }
        }
        Ok(())
    }

    fn build_index(&mut self, leases: &[(IpAddr, Record)]) {
        let built = Index::build(&self.location, leases).and_then(|index| {
            index.seal(&self.directory.restamp()?)?;
            Ok(index)
        });
        // Without one everything works, only slower.
        self.index = built.map_or(State::Unusable, State::Current);
    }

    /// Lets the index follow a change of the directory. If that fails its
    /// header is out of date, and whoever comes next builds it anew.
    fn follow(&mut self, change: impl FnOnce(&mut Index) -> io::Result<()>) {
        if let State::Current(index) = &mut self.index {
            let followed = change(index).and_then(|()| index.seal(&self.directory.restamp()?));
            if followed.is_err() {
                self.index = State::Unusable;
            }
        }
    }
}

fn check_set(set: u32) -> Result<(), LeaseError> {
    if set > LAST_SET {
        return Err(LeaseError::Invalid(format!("range set number {set}: they end at {LAST_SET}")));
    }
    Ok(())
}
