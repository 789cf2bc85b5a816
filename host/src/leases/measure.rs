//! That an operation costs the same in a full pool as in an empty one.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use super::tests::{Node, WAIT, owner, range, silent};
use super::{LeaseError, Pool};

/// Median times of an ADD and of a DEL, each with its own opening of the pool
/// as in a process of its own.
fn measure(leases: u32, stride: u32) -> (Duration, Duration) {
    let node = Node::new();
    drop(node.open());
    for number in 0..leases {
        let address = Ipv4Addr::from_bits(0x0a00_0001 + number * stride);
        fs::write(node.file(&address.to_string()), format!("container-{number}\r\neth0")).unwrap();
    }
    let last = Ipv4Addr::from_bits(0x0a00_0000 + leases * stride / 2);
    fs::write(node.file("last_reserved_ip.0"), last.to_string()).unwrap();
    if stride == 1 {
        let last = Ipv4Addr::from_bits(0x0a00_0000 + leases);
        fs::write(node.file("last_reserved_ip.0"), last.to_string()).unwrap();
    }
    let start = Instant::now();
    node.open().held(&owner("nobody")).unwrap();
    let first = start.elapsed();
    let ranges = [range("10.0.0.1", "10.15.255.254")];
    let (mut adds, mut dels) = (Vec::new(), Vec::new());
    for number in 0..400 {
        let owner = owner(&format!("new-{number}"));
        let start = Instant::now();
        let mut pool = Pool::open(&node.location, WAIT).unwrap();
        assert!(pool.held(&owner).unwrap().is_empty());
        let after = pool.last_reserved(0).unwrap();
        let mut note: Box<dyn FnMut(IpAddr) -> Result<(), LeaseError>> = Box::new(silent());
        pool.reserve_next(&owner, &ranges, after, &[], 0, &mut note).unwrap().unwrap();
        drop(pool);
        adds.push(start.elapsed());
        if number % 2 == 0 {
            let start = Instant::now();
            let mut pool = Pool::open_existing(&node.location, WAIT).unwrap().unwrap();
            assert_eq!(pool.release(&owner).unwrap().len(), 1);
            drop(pool);
            dels.push(start.elapsed());
        }
    }
    adds.sort();
    dels.sort();
    let (add, del) = (adds[adds.len() / 2], dels[dels.len() / 2]);
    println!("{leases} leases, every {stride}.: ADD {add:?}, DEL {del:?}; building the index {first:?}");
    (add, del)
}

fn assert_flat(leases: u32) {
    let (add, del) = measure(0, 1);
    for stride in [1, 2] {
        let (full_add, full_del) = measure(leases, stride);
        // Reading 5,000 leases would take a hundred times as long; the rest
        // is room for a busy machine.
        assert!(full_add < add * 3, "ADD takes {full_add:?}, in an empty pool {add:?}");
        assert!(full_del < del * 3, "DEL takes {full_del:?}, in an empty pool {del:?}");
    }
}

#[test]
fn operations_cost_the_same_in_a_full_pool() {
    assert_flat(5_000);
}

#[test]
#[ignore = "makes 100,000 files"]
fn operations_cost_the_same_in_a_huge_pool() {
    assert_flat(50_000);
}
