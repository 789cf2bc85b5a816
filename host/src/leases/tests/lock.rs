//! Only one at a time works on a pool.

use std::fs;
use std::time::{Duration, Instant};

use super::{Node, ip, owner, silent};
use crate::leases::{LeaseError, Pool};

#[test]
fn a_held_lock_is_waited_for_but_not_for_ever() {
    let node = Node::new();
    let pool = node.open();
    let start = Instant::now();
    let error = Pool::open(&node.location, Duration::from_millis(80)).err().unwrap();
    assert!(matches!(error, LeaseError::Busy { .. }), "{error}");
    assert!(start.elapsed() >= Duration::from_millis(80));
    assert!(matches!(
        Pool::open_existing(&node.location, Duration::ZERO).err(),
        Some(LeaseError::Busy { .. })
    ));
    drop(pool);
    node.open();
}

#[test]
fn a_lock_that_was_removed_meanwhile_does_not_count() {
    let node = Node::new();
    let first = node.open();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| node.open());
        std::thread::sleep(Duration::from_millis(50));
        fs::remove_dir_all(node.location.directory()).unwrap();
        drop(first);
        let mut second = waiter.join().unwrap();
        assert!(Pool::open(&node.location, Duration::ZERO).is_err());
        second.reserve(&owner("a"), ip("10.0.0.2"), 0, &mut silent()).unwrap();
    });
    assert!(node.file("10.0.0.2").exists());
}
