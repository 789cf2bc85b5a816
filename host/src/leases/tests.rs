//! What every caller may rely on.

mod index;
mod lock;

use std::collections::HashSet;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::time::Duration;

use super::index::file_name;
use super::range::Usage;
use super::{AddressRange, LeaseError, Location, Owner, Pool};

pub(super) const WAIT: Duration = Duration::from_secs(20);

/// A data directory of its own, with room for indexes beside it.
pub(super) struct Node {
    pub(super) location: Location,
    directory: tempfile::TempDir,
}

impl Node {
    pub(super) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let location = Location {
            data_dir: directory.path().join("networks"),
            network: "net".into(),
            index_dir: directory.path().join("state/leases"),
            is_real: false,
        };
        Self { location, directory }
    }

    pub(super) fn open(&self) -> Pool {
        Pool::open(&self.location, WAIT).unwrap()
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.location.directory().join(name)
    }

    fn index(&self) -> PathBuf {
        self.location.index_dir.join(file_name(&self.location))
    }

    /// The state in which the index was left must be the directory's: else
    /// every call would read all leases.
    fn is_indexed(&self) -> bool {
        let before = fs::metadata(self.index()).unwrap().ino();
        self.open().held(&owner("nobody")).unwrap();
        fs::metadata(self.index()).unwrap().ino() == before
    }
}

pub(super) fn owner(container_id: &str) -> Owner {
    Owner { container_id: container_id.into(), ifname: "eth0".into() }
}

pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(super) fn range(first: &str, last: &str) -> AddressRange {
    AddressRange { first: ip(first), last: ip(last) }
}

pub(super) fn silent() -> impl FnMut(IpAddr) -> Result<(), LeaseError> {
    |_| Ok(())
}

fn next(pool: &mut Pool, id: &str, ranges: &[AddressRange]) -> Option<IpAddr> {
    let after = pool.last_reserved(0).unwrap();
    pool.reserve_next(&owner(id), ranges, after, &[], 0, &mut silent()).unwrap()
}

#[test]
fn files_are_those_of_the_reference_plugin() {
    let node = Node::new();
    node.open().reserve(&owner("c1"), ip("fd00:0:0:0::1"), 3, &mut silent()).unwrap();
    let file = node.file("fd00::1");
    assert_eq!(fs::read(&file).unwrap(), b"c1\r\neth0");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(node.location.directory()).unwrap().permissions().mode() & 0o777, 0o755);
    assert_eq!(fs::metadata(node.file("lock")).unwrap().permissions().mode() & 0o777, 0o644);
    assert_eq!(fs::read(node.file("last_reserved_ip.3")).unwrap(), b"fd00::1");
    // A shorter address leaves nothing of the longer one behind.
    node.open().reserve(&owner("c1"), ip("::ffff:10.0.0.9"), 3, &mut silent()).unwrap();
    assert_eq!(fs::read(node.file("last_reserved_ip.3")).unwrap(), b"10.0.0.9");
    let mut names: Vec<_> = fs::read_dir(node.location.directory())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["10.0.0.9", "fd00::1", "last_reserved_ip.3", "lock"]);
}

#[test]
fn addresses_go_round_and_run_out() {
    let node = Node::new();
    let ranges = [range("10.0.0.2", "10.0.0.3"), range("10.0.1.2", "10.0.1.2")];
    let mut pool = node.open();
    assert_eq!(next(&mut pool, "a", &ranges), Some(ip("10.0.0.2")));
    assert_eq!(next(&mut pool, "b", &ranges), Some(ip("10.0.0.3")));
    assert_eq!(pool.release(&owner("a")).unwrap(), [ip("10.0.0.2")]);
    // Not the one that has just become free.
    assert_eq!(next(&mut pool, "c", &ranges), Some(ip("10.0.1.2")));
    assert_eq!(next(&mut pool, "d", &ranges), Some(ip("10.0.0.2")));
    assert_eq!(next(&mut pool, "e", &ranges), None);
    assert_eq!(pool.usage(&ranges, &[]).unwrap(), Usage { total: 3, used: 3 });
}

#[test]
fn skipped_addresses_are_never_leased() {
    let node = Node::new();
    let mut pool = node.open();
    let ranges = [range("10.0.0.1", "10.0.0.2")];
    let skip = [ip("10.0.0.1")];
    let mut reserve = |id| pool.reserve_next(&owner(id), &ranges, None, &skip, 0, &mut silent()).unwrap();
    assert_eq!(reserve("a"), Some(ip("10.0.0.2")));
    assert_eq!(reserve("b"), None);
    assert_eq!(pool.usage(&ranges, &skip).unwrap(), Usage { total: 1, used: 1 });
}

#[test]
fn long_rows_of_leases_are_passed() {
    let node = Node::new();
    let mut pool = node.open();
    let ranges = [range("fd00::", "fd00::ffff:ffff:ffff:ffff")];
    for number in 0..200 {
        let address = ip(&format!("fd00::{number:x}"));
        pool.reserve(&owner(&number.to_string()), address, 1, &mut silent()).unwrap();
    }
    let found = pool.reserve_next(&owner("x"), &ranges, None, &[], 1, &mut silent()).unwrap();
    assert_eq!(found, Some(ip("fd00::c8")));
    let full = [range("fd00::", "fd00::c8")];
    assert_eq!(pool.reserve_next(&owner("y"), &full, None, &[], 1, &mut silent()).unwrap(), None);
}

#[test]
fn owners_are_found_and_kept_apart() {
    let node = Node::new();
    let other = Owner { ifname: "net1".into(), ..owner("a") };
    {
        let mut pool = node.open();
        for address in ["fd00::5", "10.0.0.5"] {
            pool.reserve(&owner("a"), ip(address), 0, &mut silent()).unwrap();
        }
        pool.reserve(&other, ip("10.0.0.6"), 0, &mut silent()).unwrap();
    }
    let mut pool = node.open();
    assert_eq!(pool.held(&owner("a")).unwrap(), [ip("10.0.0.5"), ip("fd00::5")]);
    assert!(pool.held(&owner("b")).unwrap().is_empty());
    let mut journal = Vec::new();
    let mut note = |address| {
        journal.push(address);
        Ok(())
    };
    pool.reserve(&owner("a"), ip("10.0.0.5"), 0, &mut note).unwrap();
    let error = pool.reserve(&owner("a"), ip("10.0.0.6"), 0, &mut note).unwrap_err();
    assert!(matches!(&error, LeaseError::Taken { .. }), "{error}");
    assert!(error.to_string().contains("container a, interface net1"), "{error}");
    assert!(journal.is_empty());
    assert!(!pool.release_address(&owner("a"), ip("10.0.0.6")).unwrap());
    assert!(!pool.release_address(&owner("a"), ip("10.0.0.7")).unwrap());
    assert!(pool.release_address(&owner("a"), ip("fd00::5")).unwrap());
    assert_eq!(pool.release(&owner("a")).unwrap(), [ip("10.0.0.5")]);
    assert!(pool.release(&owner("a")).unwrap().is_empty());
    assert_eq!(pool.held(&other).unwrap(), [ip("10.0.0.6")]);
    drop(pool);
    assert!(node.is_indexed());
}

#[test]
fn leases_without_an_interface_belong_to_the_container() {
    let node = Node::new();
    drop(node.open());
    fs::write(node.file("10.0.0.2"), "a").unwrap();
    node.open().reserve(&owner("a"), ip("10.0.0.3"), 0, &mut silent()).unwrap();
    let mut pool = node.open();
    assert_eq!(pool.held(&owner("a")).unwrap(), [ip("10.0.0.2"), ip("10.0.0.3")]);
    assert_eq!(pool.release(&owner("a")).unwrap(), [ip("10.0.0.3")]);
    assert_eq!(pool.release(&owner("a")).unwrap(), [ip("10.0.0.2")]);
}

#[test]
fn nothing_is_leased_that_the_journal_does_not_know() {
    let node = Node::new();
    let mut pool = node.open();
    let file = node.file("10.0.0.2");
    let mut refuse = |address| {
        assert!(!file.exists());
        Err(LeaseError::Journal { address, reason: "the disk is full".into() })
    };
    let ranges = [range("10.0.0.2", "10.0.0.9")];
    pool.reserve(&owner("a"), ip("10.0.0.2"), 0, &mut refuse).unwrap_err();
    pool.reserve_next(&owner("a"), &ranges, None, &[], 0, &mut refuse).unwrap_err();
    assert_eq!(pool.usage(&ranges, &[]).unwrap().used, 0);
    assert!(pool.held(&owner("a")).unwrap().is_empty());
}

#[test]
fn torn_files_do_not_leak_addresses() {
    let node = Node::new();
    let ranges = [range("10.0.0.2", "10.0.0.4")];
    drop(node.open());
    for unindexed in [false, true] {
        fs::write(node.file("10.0.0.2"), "").unwrap();
        fs::write(node.file("10.0.0.3"), "\0\0\0\0").unwrap();
        fs::write(node.file("10.0.0.4"), "\r\n").unwrap();
        if unindexed {
            index::block_index(&node);
        }
        let mut pool = node.open();
        assert_eq!(pool.usage(&ranges, &[]).unwrap().used, 0);
        fs::write(node.file("10.0.0.2"), "").unwrap();
        pool.reserve(&owner("a"), ip("10.0.0.2"), 0, &mut silent()).unwrap();
        assert_eq!(next(&mut pool, "b", &ranges), Some(ip("10.0.0.3")));
        assert_eq!(next(&mut pool, "c", &ranges), Some(ip("10.0.0.4")));
        assert_eq!(pool.release_stale(&HashSet::new()).unwrap(), 3);
    }
}

#[test]
fn what_a_killed_process_left_of_a_lease_is_cleared_away() {
    let node = Node::new();
    drop(node.open());
    let unfinished = node.file(".weir-unfinished");
    for unindexed in [false, true] {
        if unindexed {
            index::block_index(&node);
        }
        fs::write(&unfinished, "k").unwrap();
        assert!(node.open().release(&owner("killed")).unwrap().is_empty());
        assert!(!unfinished.exists());
        fs::write(&unfinished, "killed\r\neth0").unwrap();
        node.open().reserve(&owner("a"), ip("10.0.0.2"), 0, &mut silent()).unwrap();
        assert_eq!(fs::read_to_string(node.file("10.0.0.2")).unwrap(), "a\r\neth0");
        assert!(!unfinished.exists());
        // While the pool is open, the next lease is made all the same.
        let mut pool = node.open();
        assert_eq!(pool.held(&owner("a")).unwrap(), [ip("10.0.0.2")]);
        symlink("/dev/null", &unfinished).unwrap();
        pool.reserve(&owner("b"), ip("10.0.0.3"), 0, &mut silent()).unwrap();
        assert_eq!(fs::read_to_string(node.file("10.0.0.3")).unwrap(), "b\r\neth0");
        // A name that somebody has taken who ignores the lock.
        let mut take = |address: IpAddr| {
            fs::write(node.file(&address.to_string()), "c").unwrap();
            Ok(())
        };
        pool.reserve(&owner("d"), ip("10.0.0.4"), 0, &mut take).unwrap_err();
        assert!(!unfinished.exists() && fs::read_to_string(node.file("10.0.0.4")).unwrap() == "c");
        assert_eq!(pool.release_stale(&HashSet::new()).unwrap(), 3);
    }
}

#[test]
fn only_stale_leases_are_collected() {
    let node = Node::new();
    let mut pool = node.open();
    for (id, address) in [("a", "10.0.0.2"), ("b", "10.0.0.3"), ("c", "fd00::1")] {
        pool.reserve(&owner(id), ip(address), 0, &mut silent()).unwrap();
    }
    drop(pool);
    fs::write(node.file("10.0.0.4"), "a").unwrap();
    fs::write(node.file("10.0.0.5"), "gone").unwrap();
    fs::write(node.file("10.0.0.6"), "").unwrap();
    let other = Owner { ifname: "net1".into(), ..owner("b") };
    let valid = HashSet::from([owner("a"), other]);
    assert_eq!(node.open().release_stale(&valid).unwrap(), 3);
    let mut pool = node.open();
    assert_eq!(pool.held(&owner("a")).unwrap(), [ip("10.0.0.2"), ip("10.0.0.4")]);
    assert_eq!(pool.usage(&[range("0.0.0.0", "255.255.255.255")], &[]).unwrap().used, 2);
    assert_eq!(pool.release_stale(&valid).unwrap(), 0);
    assert!(node.file("last_reserved_ip.0").exists() && node.file("lock").exists());
    drop(pool);
    assert!(node.is_indexed());
}

#[test]
fn only_files_named_after_addresses_are_leases() {
    let node = Node::new();
    drop(node.open());
    for name in ["10.0.0.02", "FD00::1", "notes", "10.0.0.2.bak", "last_reserved_ip.1"] {
        fs::write(node.file(name), "a\r\neth0").unwrap();
    }
    fs::create_dir(node.file("10.0.0.7")).unwrap();
    fs::write(node.file("10.0.0.7/10.0.0.8"), "a\r\neth0").unwrap();
    fs::write(node.directory.path().join("elsewhere"), "a\r\neth0").unwrap();
    symlink(node.directory.path().join("elsewhere"), node.file("10.0.0.9")).unwrap();
    nix::unistd::mkfifo(&node.file("10.0.0.10"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut pool = node.open();
    assert!(pool.held(&owner("a")).unwrap().is_empty());
    assert_eq!(pool.release_stale(&HashSet::new()).unwrap(), 0);
    assert_eq!(pool.last_reserved(1).unwrap(), None);
    assert_eq!(pool.last_reserved(2).unwrap(), None);
    for address in ["10.0.0.7", "10.0.0.9", "10.0.0.10"] {
        let error = pool.reserve(&owner("a"), ip(address), 0, &mut silent()).unwrap_err();
        assert!(matches!(error, LeaseError::Taken { .. }), "{error}");
    }
    let found =
        pool.reserve_next(&owner("a"), &[range("10.0.0.7", "10.0.0.11")], None, &[], 0, &mut silent());
    assert_eq!(found.unwrap(), Some(ip("10.0.0.8")));
}

#[test]
fn the_last_reserved_address_may_be_anything() {
    let node = Node::new();
    let pool = node.open();
    for (content, expected) in [
        ("10.0.0.7", Some("10.0.0.7")),
        ("10.0.0.7\n", Some("10.0.0.7")),
        ("", None),
        ("10.0.", None),
        ("\0\0", None),
    ] {
        fs::write(node.file("last_reserved_ip.0"), content).unwrap();
        assert_eq!(pool.last_reserved(0).unwrap(), expected.map(ip));
    }
    fs::write(node.file("last_reserved_ip.0"), b"\xff\xff").unwrap();
    assert_eq!(pool.last_reserved(0).unwrap(), None);
}

#[test]
fn names_and_links_do_not_lead_elsewhere() {
    let node = Node::new();
    for network in ["", ".", "..", "a/b", "/etc", "a\0b"] {
        let location = Location { network: network.into(), ..node.location.clone() };
        assert!(matches!(Pool::open(&location, WAIT).err(), Some(LeaseError::Invalid(_))), "{network:?}");
    }
    let elsewhere = node.directory.path().join("elsewhere");
    fs::create_dir_all(&elsewhere).unwrap();
    fs::create_dir_all(&node.location.data_dir).unwrap();
    symlink(&elsewhere, node.location.directory()).unwrap();
    let error = Pool::open(&node.location, WAIT).err().unwrap();
    assert!(error.to_string().contains("symbolic links are not followed"), "{error}");
    Pool::open_existing(&node.location, WAIT).err().unwrap();
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
}

#[test]
fn what_does_not_exist_is_not_made() {
    let node = Node::new();
    assert!(Pool::open_existing(&node.location, WAIT).unwrap().is_none());
    assert!(!node.location.data_dir.exists());
    fs::create_dir_all(node.location.directory()).unwrap();
    assert!(Pool::open_existing(&node.location, WAIT).unwrap().is_none());
    assert_eq!(fs::read_dir(node.location.directory()).unwrap().count(), 0);
    fs::write(node.file("10.0.0.2"), "a\r\neth0").unwrap();
    let mut pool = Pool::open_existing(&node.location, WAIT).unwrap().unwrap();
    assert_eq!(pool.release(&owner("a")).unwrap(), [ip("10.0.0.2")]);
}

#[test]
fn range_sets_end_somewhere() {
    let node = Node::new();
    let mut pool = node.open();
    let address: IpAddr = "10.1.0.2".parse().unwrap();
    let ranges = [AddressRange { first: address, last: address }];
    let one = pool.reserve(&owner("a"), address, 256, &mut |_| Ok(()));
    let next = pool.reserve_next(&owner("a"), &ranges, None, &[], 256, &mut |_| Ok(()));
    assert!(matches!(one, Err(LeaseError::Invalid(_))), "{one:?}");
    assert!(matches!(next, Err(LeaseError::Invalid(_))), "{next:?}");
    assert!(!node.file("last_reserved_ip.256").exists());
    pool.reserve(&owner("a"), address, 255, &mut |_| Ok(())).unwrap();
}
