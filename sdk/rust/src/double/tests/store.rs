use crate::double::Node;
use crate::double::net::parsed_address;
use crate::double::request::{Attachment, Network};
use crate::double::store::bucket::{self, BucketError};
use crate::double::store::files::{self, FileError};
use crate::double::store::leases::{self, AddressRange, StoreError};

fn range(first: &str, last: &str) -> AddressRange {
    AddressRange { first: parsed_address(first).into(), last: parsed_address(last).into() }
}

#[test]
fn the_pool_is_locked_until_its_handle_is_dropped() {
    let _node = Node::new();
    let pool = leases::open(None).unwrap();
    assert!(matches!(leases::open(None), Err(StoreError::Busy(_))));
    drop(pool);
    leases::open(None).unwrap();
}

#[test]
fn addresses_are_reserved_in_turn() {
    let node = Node::new().with_lease("10.1.0.3", "other", "eth0");
    let pool = leases::open(None).unwrap();
    let ranges = [range("10.1.0.1", "10.1.0.4"), range("10.1.1.1", "10.1.1.1")];
    let skip = [parsed_address("10.1.0.1").into()];
    let mut given = Vec::new();
    while let Some(address) = pool
        .reserve_next(&ranges, pool.last_reserved(7).unwrap(), &skip, 7)
        .unwrap()
        .map(std::net::IpAddr::from)
    {
        given.push(address.to_string());
    }
    assert_eq!(given, ["10.1.0.2", "10.1.0.4", "10.1.1.1"]);
    let usage = pool.usage(&ranges, &skip).unwrap();
    assert_eq!((usage.total, usage.used), (4, 4));
    assert_eq!(pool.held().unwrap().len(), 3);
    pool.reserve(parsed_address("10.1.0.2").into(), 7).unwrap();
    assert!(matches!(pool.reserve(parsed_address("10.1.0.3").into(), 7), Err(StoreError::Taken(_))));
    pool.release().unwrap();
    // Behind the last one, and round again.
    let after = Some(parsed_address("10.1.0.2").into());
    let next = |after| pool.reserve_next(&ranges, after, &skip, 7).unwrap().map(std::net::IpAddr::from);
    assert_eq!(next(after), Some(parsed_address("10.1.0.4")));
    assert_eq!(next(Some(parsed_address("10.1.1.1").into())), Some(parsed_address("10.1.0.2")));
    assert_eq!(node.leases().len(), 3);
    assert!(matches!(pool.usage(&[range("10.1.0.2", "10.1.0.1")], &[]), Err(StoreError::Invalid(_))));
}

#[test]
fn only_stale_leases_are_stale() {
    let node = Node::new().with_lease("10.1.0.3", "gone", "eth0").with_lease("10.1.0.4", "alive", "eth0");
    Network::new("{}").name();
    assert_eq!(leases::open(None).unwrap().release_stale(), Ok(0), "nothing is known without a list");
    Network::new("{}").with_valid_attachments([("alive", "eth0"), ("gone", "eth1")]).name();
    assert_eq!(leases::open(None).unwrap().release_stale(), Ok(1));
    assert_eq!(node.leases()[0].id.container_id, "alive");
}

#[test]
fn paths_have_to_stand_in_the_configuration() {
    let _node = Node::new().with_file("/etc/resolv.conf", "nameserver 10.0.0.1").with_file("/etc/shadow", "");
    let config = r#"{"ipam": {"dataDir": "/data", "RESOLVCONF": "/etc/resolv.conf", "list": [{"resolvConf": "/no"}]}}"#;
    Attachment::new(config).id();
    leases::open(Some("/data")).unwrap();
    assert!(matches!(leases::open(Some("/other")), Err(StoreError::Denied(_))));
    assert!(files::read("/etc/resolv.conf").is_ok());
    assert!(matches!(files::read("/etc/shadow"), Err(FileError::Denied(_))));
    assert!(matches!(files::read("/no"), Err(FileError::NotFound(_))));
}

#[test]
fn the_bucket_keeps_values_for_each_network() {
    let node = Node::new().with_value("count", b"7");
    Attachment::new("{}").id();
    let bucket = bucket::open().unwrap();
    assert_eq!(bucket.get("count").unwrap().as_deref(), Some(&b"7"[..]));
    bucket.set("count", b"8").unwrap();
    bucket.set("../x", b"").unwrap();
    assert_eq!(bucket.keys().unwrap(), ["../x", "count"]);
    bucket.remove("../x").unwrap();
    bucket.remove("../x").unwrap();
    assert_eq!(bucket.get("../x"), Ok(None));
    drop(bucket);
    Network::new(r#"{"name": "other"}"#).name();
    assert_eq!(bucket::open().unwrap().keys(), Ok(Vec::new()));
    assert_eq!(node.values("net"), [("count".to_owned(), b"8".to_vec())].into());
    assert!(node.values("other").is_empty());
}

#[test]
fn the_bucket_is_locked_until_its_handle_is_dropped() {
    let node = Node::new();
    let opened = bucket::open().unwrap();
    assert!(matches!(bucket::open(), Err(BucketError::Busy(_))));
    drop(opened);
    node.fail_next("bucket.set", BucketError::Damaged("torn".to_owned()));
    let bucket = bucket::open().unwrap();
    assert_eq!(bucket.set("a", b"1"), Err(BucketError::Damaged("torn".to_owned())));
    bucket.set("a", b"1").unwrap();
}

#[test]
fn the_bucket_has_the_limits_of_the_host() {
    let _node = Node::new();
    let bucket = bucket::open().unwrap();
    for key in ["", &"k".repeat(129)] {
        assert!(matches!(bucket.get(key), Err(BucketError::Invalid(_))));
        assert!(matches!(bucket.set(key, b""), Err(BucketError::Invalid(_))));
        assert!(matches!(bucket.remove(key), Err(BucketError::Invalid(_))));
    }
    bucket.set("a", &[0; 16 << 10]).unwrap();
    assert!(matches!(bucket.set("a", &[0; (16 << 10) + 1]), Err(BucketError::Limit(_))));
    for number in 1..1024 {
        bucket.set(&number.to_string(), b"").unwrap();
    }
    bucket.set("a", b"again").unwrap();
    assert!(matches!(bucket.set("b", b""), Err(BucketError::Limit(_))));
}
