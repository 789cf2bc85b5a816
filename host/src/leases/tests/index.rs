//! The index may be missing, damaged or out of date.

use std::fs;

use super::{Node, ip, next, owner, range};

/// Puts a file where the directory of the indexes should be.
pub(super) fn block_index(node: &Node) {
    fs::remove_dir_all(&node.location.index_dir).unwrap();
    fs::write(&node.location.index_dir, "").unwrap();
}

#[test]
fn everything_works_without_an_index() {
    let node = Node::new();
    drop(node.open());
    fs::create_dir_all(&node.location.index_dir).unwrap();
    block_index(&node);
    let ranges = [range("10.0.0.1", "10.0.0.100")];
    for number in 1..=100 {
        let address = next(&mut node.open(), &format!("c{number}"), &ranges).unwrap();
        assert_eq!(address, ip(&format!("10.0.0.{number}")));
    }
    assert_eq!(next(&mut node.open(), "x", &ranges), None);
    assert_eq!(node.open().held(&owner("c7")).unwrap(), [ip("10.0.0.7")]);
    assert_eq!(node.open().release(&owner("c7")).unwrap(), [ip("10.0.0.7")]);
    assert_eq!(next(&mut node.open(), "x", &ranges), Some(ip("10.0.0.7")));
}

#[test]
fn what_others_change_is_seen() {
    let node = Node::new();
    let ranges = [range("10.0.0.1", "10.0.0.9")];
    assert_eq!(next(&mut node.open(), "a", &ranges), Some(ip("10.0.0.1")));
    for round in 0..50 {
        fs::write(node.file("10.0.0.2"), format!("b{round}\r\neth0")).unwrap();
        assert_eq!(node.open().held(&owner(&format!("b{round}"))).unwrap(), [ip("10.0.0.2")]);
        fs::remove_file(node.file("10.0.0.2")).unwrap();
        let gone = owner(&format!("b{round}"));
        assert!(node.open().held(&gone).unwrap().is_empty());
        assert!(node.open().release(&gone).unwrap().is_empty());
    }
    // Below the index's nose: the directory does not change with it.
    fs::write(node.file("10.0.0.1"), "c\r\neth0").unwrap();
    assert!(node.open().held(&owner("a")).unwrap().is_empty());
    assert_eq!(node.open().held(&owner("c")).unwrap(), [ip("10.0.0.1")]);
}

#[test]
fn a_damaged_index_is_replaced() {
    let node = Node::new();
    let ranges = [range("10.0.0.1", "10.0.3.254")];
    for number in 0..40 {
        next(&mut node.open(), &number.to_string(), &ranges).unwrap();
    }
    let sound = fs::read(node.index()).unwrap();
    let mut damages =
        vec![Vec::new(), b"garbage".to_vec(), sound[..sound.len() - 1].to_vec(), sound.repeat(2)];
    for range in [0..128, 0..sound.len(), 128..sound.len()] {
        for value in [0, 0xff] {
            let mut damage = sound.clone();
            damage[range.clone()].fill(value);
            damages.push(damage);
        }
    }
    let mut older = sound.clone();
    older[7] = b'0';
    damages.push(older);
    let mut shifted = sound.clone();
    shifted[128..].rotate_left(32);
    damages.push(shifted);
    for damage in damages {
        fs::write(node.index(), &damage).unwrap();
        for number in 0..40 {
            let held = node.open().held(&owner(&number.to_string())).unwrap();
            assert_eq!(held, [ip(&format!("10.0.0.{}", number + 1))]);
        }
        assert!(node.is_indexed());
        // Back to what was sound once, and is out of date by now.
        fs::write(node.index(), &sound).unwrap();
        assert_eq!(node.open().held(&owner("3")).unwrap(), [ip("10.0.0.4")]);
    }
    fs::remove_file(node.index()).unwrap();
    fs::create_dir(node.index()).unwrap();
    assert_eq!(node.open().release(&owner("3")).unwrap(), [ip("10.0.0.4")]);
}
