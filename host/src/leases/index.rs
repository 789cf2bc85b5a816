//! Which addresses an owner holds, without reading all leases: a hash table in
//! a file, of which a search reads a few slots.
//!
//! It is a cache of what the lease files say. Its header notes the state of
//! the lease directory that it describes; whatever anyone else changes there
//! changes that state, and the index is built anew. The same goes for an index
//! that is damaged, of another version, or from before the node was started:
//! it is not synced to disk, so that a crash may keep the header and lose the
//! slots. Whoever uses a hit reads the lease before believing it.
//!
//! Access needs the lock of the pool.

use std::fs::{DirBuilder, File};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt};

use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt};
use nix::fcntl::OFlag;

use super::Location;
use super::directory::{Stamp, open_directory};
use super::record::Record;
use super::slot::{SIZE, Slot, hash};

const MAGIC: &[u8; 8] = b"weirlse1";
const HEADER: usize = 128;
const MIN_SLOTS: u64 = 1024;
/// Slots that are read at once; a search rarely needs more.
const WINDOW: u64 = 16;

/// An open index.
pub(super) struct Index {
    dir: Dir,
    name: String,
    file: File,
    boot: [u8; 16],
    salt: u64,
    /// A power of two.
    slots: u64,
    /// Slots that are not empty.
    used: u64,
}

impl Index {
    /// Opens the index of a pool whose directory is in the state `stamp`.
    /// Every error means the same: build it.
    pub(super) fn open(location: &Location, stamp: &Stamp) -> io::Result<Self> {
        let dir = open_directory(&location.index_dir)?;
        let name = file_name(location);
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits());
        let file = dir.open_with(&name, &options)?.into_std();
        let mut header = [0; HEADER];
        file.read_exact_at(&mut header, 0)?;
        let (slots, used, salt) = (word(&header, 8), word(&header, 16), word(&header, 24));
        let index = Self { dir, name, file, boot: boot_id()?, salt, slots, used };
        // Comparing with what would be written now checks everything at once.
        if header != index.header(stamp) || !slots.is_power_of_two() || used >= slots {
            return Err(damaged("it describes another state"));
        }
        if Some(index.file.metadata()?.size())
            != slots.checked_mul(SIZE as u64).map(|size| size + HEADER as u64)
        {
            return Err(damaged("its size is wrong"));
        }
        Ok(index)
    }

    /// Writes the index of `leases`. It counts once it is sealed.
    pub(super) fn build(location: &Location, leases: &[(IpAddr, Record)]) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(&location.index_dir)?;
        let dir = open_directory(&location.index_dir)?;
        let salt = RandomState::new().hash_one(leases.len());
        let keyed: Vec<(u64, IpAddr)> =
            leases.iter().filter_map(|(address, record)| Some((key(salt, record)?, *address))).collect();
        Self::write(dir, file_name(location), boot_id()?, salt, &keyed)
    }

    /// The addresses that stand under `record`, and perhaps others.
    pub(super) fn find(&self, record: &Record) -> io::Result<Vec<IpAddr>> {
        match key(self.salt, record) {
            Some(key) => self.find_key(key),
            None => Ok(Vec::new()),
        }
    }

    /// Whether the index cannot tell the records apart.
    pub(super) fn are_equal(&self, one: &Record, other: &Record) -> bool {
        key(self.salt, one) == key(self.salt, other)
    }

    /// Adds a lease.
    pub(super) fn insert(&mut self, record: &Record, address: IpAddr) -> io::Result<()> {
        match key(self.salt, record) {
            Some(key) => self.insert_key(key, address),
            None => Ok(()),
        }
    }

    /// Takes a lease out.
    pub(super) fn remove(&mut self, record: &Record, address: IpAddr) -> io::Result<()> {
        let Some(key) = key(self.salt, record) else { return Ok(()) };
        let mut found = None;
        self.probe(key, |position, slot| {
            found = (slot == Slot::Lease(key, address)).then_some(position);
            found.is_some()
        })?;
        found.map_or(Ok(()), |position| self.put(position, Slot::Removed))
    }

    /// States that the index describes the directory in the state `stamp`.
    pub(super) fn seal(&self, stamp: &Stamp) -> io::Result<()> {
        self.file.write_all_at(&self.header(stamp), 0)
    }

    fn find_key(&self, key: u64) -> io::Result<Vec<IpAddr>> {
        let mut found = Vec::new();
        self.probe(key, |_, slot| {
            if let Slot::Lease(other, address) = slot
                && other == key
            {
                found.push(address);
            }
            false
        })?;
        Ok(found)
    }

    fn insert_key(&mut self, key: u64, address: IpAddr) -> io::Result<()> {
        if (self.used + 1) * 2 > self.slots {
            self.resize()?;
        }
        let mut place = None;
        let end = self.probe(key, |position, slot| {
            place = (slot == Slot::Removed).then_some(position);
            place.is_some()
        })?;
        let position = match (place, end) {
            (Some(position), _) => position,
            (None, Some(position)) => {
                self.used += 1;
                position
            }
            (None, None) => return Err(damaged("it is full")),
        };
        self.put(position, Slot::Lease(key, address))
    }

    /// Visits the slots of a key up to the first empty one, whose position it
    /// returns, or until `visit` has enough.
    fn probe(&self, key: u64, mut visit: impl FnMut(u64, Slot) -> bool) -> io::Result<Option<u64>> {
        let mut position = key & (self.slots - 1);
        let mut visited = 0;
        let mut window = [[0; SIZE]; WINDOW as usize];
        while visited < self.slots {
            let count = WINDOW.min(self.slots - position);
            // A lossless conversion: at most WINDOW.
            let window = &mut window[..count as usize];
            self.file.read_exact_at(window.as_flattened_mut(), offset(position))?;
            for (position, bytes) in (position..).zip(window.iter()) {
                match Slot::decode(bytes, self.salt, position) {
                    None => return Err(damaged("a slot is damaged")),
                    Some(Slot::Empty) => return Ok(Some(position)),
                    Some(slot) if visit(position, slot) => return Ok(None),
                    Some(_) => {}
                }
            }
            visited += count;
            position = (position + count) & (self.slots - 1);
        }
        Ok(None)
    }

    fn put(&self, position: u64, slot: Slot) -> io::Result<()> {
        self.file.write_all_at(&slot.encode(self.salt, position), offset(position))
    }

    /// Writes the table anew, large enough for half as many leases again and
    /// without the slots of removed ones.
    fn resize(&mut self) -> io::Result<()> {
        let mut leases = Vec::new();
        let mut bytes = vec![0; usize::try_from(self.slots).map_err(io::Error::other)? * SIZE];
        self.file.read_exact_at(&mut bytes, HEADER as u64)?;
        for (position, bytes) in (0..).zip(bytes.as_chunks::<SIZE>().0) {
            match Slot::decode(bytes, self.salt, position) {
                Some(Slot::Lease(key, address)) => leases.push((key, address)),
                Some(_) => {}
                None => return Err(damaged("a slot is damaged")),
            }
        }
        *self = Self::write(self.dir.try_clone()?, self.name.clone(), self.boot, self.salt, &leases)?;
        Ok(())
    }

    fn write(
        dir: Dir,
        name: String,
        boot: [u8; 16],
        salt: u64,
        leases: &[(u64, IpAddr)],
    ) -> io::Result<Self> {
        // At most a third full, so that the next resize is far away.
        let slots = (leases.len() as u64 * 3).next_power_of_two().max(MIN_SLOTS);
        let count = usize::try_from(slots).map_err(io::Error::other)?;
        let mut table = vec![Slot::Empty; count];
        for (key, address) in leases {
            let mut position = (key & (slots - 1)) as usize;
            while table[position] != Slot::Empty {
                position = (position + 1) & (count - 1);
            }
            table[position] = Slot::Lease(*key, *address);
        }
        // An index without a valid header, until it is sealed.
        let mut bytes = vec![0; HEADER];
        bytes.reserve_exact(count * SIZE);
        for (position, slot) in (0..).zip(table) {
            bytes.extend_from_slice(&slot.encode(salt, position));
        }
        let unfinished = format!("{name}.new");
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).mode(0o600);
        options.custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits());
        let file = dir.open_with(&unfinished, &options)?.into_std();
        let written = file.write_all_at(&bytes, 0).and_then(|()| dir.rename(&unfinished, &dir, &name));
        if let Err(error) = written {
            // Others need the room more than a half of an index does.
            let _ = dir.remove_file(&unfinished);
            return Err(error);
        }
        Ok(Self { dir, name, file, boot, salt, slots, used: leases.len() as u64 })
    }

    /// Magic 8, slots 8, used 8, salt 8, boot id 16, stamp 48, padding 24,
    /// check 8.
    fn header(&self, stamp: &Stamp) -> [u8; HEADER] {
        let mut header = [0; HEADER];
        header[..8].copy_from_slice(MAGIC);
        header[8..16].copy_from_slice(&self.slots.to_le_bytes());
        header[16..24].copy_from_slice(&self.used.to_le_bytes());
        header[24..32].copy_from_slice(&self.salt.to_le_bytes());
        header[32..48].copy_from_slice(&self.boot);
        let stamp = [
            stamp.device,
            stamp.inode,
            stamp.modified.0.cast_unsigned(),
            stamp.modified.1.cast_unsigned(),
            stamp.changed.0.cast_unsigned(),
            stamp.changed.1.cast_unsigned(),
        ];
        for (word, place) in stamp.iter().zip(header[48..96].as_chunks_mut::<8>().0) {
            *place = word.to_le_bytes();
        }
        let check = hash(0, &[&header[..HEADER - 8]]);
        header[HEADER - 8..].copy_from_slice(&check.to_le_bytes());
        header
    }
}

/// The name of a pool's index: the network for people, and a hash of the
/// whole path, for networks of one name in several directories.
pub(super) fn file_name(location: &Location) -> String {
    use std::os::unix::ffi::OsStrExt;
    let readable: String = location
        .network
        .chars()
        .take(64)
        .map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' })
        .collect();
    let path: std::path::PathBuf = location.directory().components().collect();
    format!("{readable}-{:016x}", hash(0, &[path.as_os_str().as_bytes()]))
}

/// The hash of a record; none if no owner can have it.
fn key(salt: u64, record: &Record) -> Option<u64> {
    match record {
        Record::Attachment(owner) => {
            Some(hash(salt, &[owner.container_id.as_bytes(), owner.ifname.as_bytes()]))
        }
        Record::Container(id) => Some(hash(salt, &[id.as_bytes()])),
        Record::Torn | Record::Foreign => None,
    }
}

fn offset(position: u64) -> u64 {
    HEADER as u64 + position * SIZE as u64
}

fn word(bytes: &[u8; HEADER], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

fn damaged(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

fn boot_id() -> io::Result<[u8; 16]> {
    let digits: String = crate::boot::id().chars().filter(char::is_ascii_hexdigit).collect();
    u128::from_str_radix(&digits, 16).map(u128::to_be_bytes).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp { device: 1, inode: 2, modified: (3, 4), changed: (5, 6) };

    fn location(directory: &tempfile::TempDir) -> Location {
        Location {
            data_dir: directory.path().join("networks"),
            network: "a/b".into(),
            index_dir: directory.path().join("index"),
            is_real: false,
        }
    }

    fn address(number: u32) -> IpAddr {
        std::net::Ipv4Addr::from_bits(number).into()
    }

    #[test]
    fn equal_hashes_and_growth_lose_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let mut index = Index::build(&location(&directory), &[]).unwrap();
        // All in the last slots: searches have to go round.
        let key = |number: u32| u64::MAX - u64::from(number % 2);
        for number in 0..600 {
            index.insert_key(key(number), address(number)).unwrap();
        }
        assert_eq!(index.slots, 2048);
        index.seal(&STAMP).unwrap();
        let index = Index::open(&location(&directory), &STAMP).unwrap();
        let mut found = index.find_key(u64::MAX).unwrap();
        found.sort();
        assert_eq!(found, (0..600).step_by(2).map(address).collect::<Vec<_>>());
    }

    #[test]
    fn churn_does_not_fill_the_table() {
        let directory = tempfile::tempdir().unwrap();
        let mut index = Index::build(&location(&directory), &[]).unwrap();
        for number in 0..3000 {
            let record = Record::Container(number.to_string());
            index.insert(&record, address(number)).unwrap();
            assert_eq!(index.find(&record).unwrap(), [address(number)]);
            index.remove(&record, address(number)).unwrap();
            assert!(index.find(&record).unwrap().is_empty());
        }
        assert_eq!(index.slots, MIN_SLOTS);
    }

    #[test]
    fn only_the_sealed_state_opens() {
        let directory = tempfile::tempdir().unwrap();
        let location = location(&directory);
        let index = Index::build(&location, &[]).unwrap();
        assert!(Index::open(&location, &STAMP).is_err());
        index.seal(&STAMP).unwrap();
        Index::open(&location, &STAMP).unwrap();
        for other in [
            Stamp { device: 9, ..STAMP },
            Stamp { inode: 9, ..STAMP },
            Stamp { modified: (3, 5), ..STAMP },
            Stamp { changed: (5, 7), ..STAMP },
        ] {
            assert!(Index::open(&location, &other).is_err());
        }
    }
}
