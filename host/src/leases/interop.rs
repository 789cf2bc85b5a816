//! One pool, served in turns by this host and by the reference `host-local`.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use super::tests::{Node, WAIT, ip, owner, range, silent};
use super::{AddressRange, Pool};

/// The reference plugin, from `CNI_REFERENCE` or where distributions put it.
fn reference() -> Option<PathBuf> {
    let directory =
        std::env::var_os("CNI_REFERENCE").map_or_else(|| PathBuf::from("/usr/lib/cni"), PathBuf::from);
    let plugin = directory.join("host-local");
    if plugin.exists() {
        return Some(plugin);
    }
    println!(
        "skipped: {} does not exist; set CNI_REFERENCE to the directory of the reference plugins",
        plugin.display()
    );
    None
}

/// Calls the reference plugin for the attachment of `id`; its output is an
/// error if it failed.
fn call(node: &Node, plugin: &PathBuf, command: &str, id: &str) -> Result<Option<IpAddr>, String> {
    let config = serde_json::json!({
        "cniVersion": "0.4.0", "name": node.location.network, "type": "x",
        "ipam": {
            "type": "host-local", "dataDir": node.location.data_dir,
            "ranges": [[{"subnet": "10.0.0.0/16", "rangeStart": "10.0.0.2", "rangeEnd": "10.0.1.200"}]],
        },
    });
    let mut child = Command::new(plugin)
        .env_clear()
        .envs([
            ("CNI_COMMAND", command),
            ("CNI_CONTAINERID", id),
            ("CNI_NETNS", "/none"),
            ("CNI_IFNAME", "eth0"),
        ])
        .env("CNI_PATH", plugin.parent().unwrap())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(config.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        return Err(text);
    }
    let result: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let address = result["ips"][0]["address"].as_str();
    Ok(address.map(|text| text.split_once('/').unwrap().0.parse().unwrap()))
}

fn ranges() -> [AddressRange; 1] {
    [range("10.0.0.2", "10.0.1.200")]
}

fn add(node: &Node, id: &str) -> IpAddr {
    let mut pool = Pool::open(&node.location, WAIT).unwrap();
    let after = pool.last_reserved(0).unwrap();
    pool.reserve_next(&owner(id), &ranges(), after, &[], 0, &mut silent()).unwrap().unwrap()
}

#[test]
fn each_goes_on_where_the_other_stopped() {
    let Some(plugin) = reference() else { return };
    let node = Node::new();
    for number in (2..40).step_by(2) {
        assert_eq!(
            call(&node, &plugin, "ADD", &format!("go{number}")),
            Ok(Some(ip(&format!("10.0.0.{number}"))))
        );
        assert_eq!(add(&node, &format!("weir{number}")), ip(&format!("10.0.0.{}", number + 1)));
    }
    // Each sees, checks and releases what the other leased.
    assert_eq!(node.open().held(&owner("go8")).unwrap(), [ip("10.0.0.8")]);
    assert!(call(&node, &plugin, "ADD", "weir8").unwrap_err().contains("duplicate allocation"));
    call(&node, &plugin, "CHECK", "weir8").unwrap();
    assert_eq!(node.open().release(&owner("go8")).unwrap(), [ip("10.0.0.8")]);
    call(&node, &plugin, "CHECK", "go8").unwrap_err();
    call(&node, &plugin, "DEL", "weir8").unwrap();
    assert!(node.open().held(&owner("weir8")).unwrap().is_empty());
    assert!(!node.file("10.0.0.8").exists() && !node.file("10.0.0.9").exists());
    // An unfinished lease of ours is no lease to the reference plugin.
    fs::write(node.file(".weir-unfinished"), "go100\r\neth0").unwrap();
    assert_eq!(call(&node, &plugin, "ADD", "go100"), Ok(Some(ip("10.0.0.40"))));
    call(&node, &plugin, "DEL", "go100").unwrap();
    assert!(!node.file("10.0.0.40").exists());
}

#[test]
fn both_at_once_lease_nothing_twice_and_lose_nothing() {
    let Some(plugin) = reference() else { return };
    let node = Node::new();
    let (node, plugin) = (&node, &plugin);
    let held: Vec<(String, IpAddr)> = thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|number| {
                scope.spawn(move || {
                    let mut held = Vec::new();
                    for round in 0..20 {
                        let id = format!("c{number}-{round}");
                        let by_reference = (number + round) % 2 == 0;
                        let address = if by_reference {
                            call(node, plugin, "ADD", &id).unwrap().unwrap()
                        } else {
                            add(node, &id)
                        };
                        if round % 3 != 0 {
                            held.push((id, address));
                        } else if (number + round / 3) % 2 == 0 {
                            call(node, plugin, "DEL", &id).unwrap();
                        } else {
                            assert_eq!(node.open().release(&owner(&id)).unwrap(), [address]);
                        }
                    }
                    held
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let addresses: HashSet<IpAddr> = held.iter().map(|(_, address)| *address).collect();
    assert_eq!(addresses.len(), held.len(), "an address was leased twice");
    let files: HashMap<IpAddr, String> = fs::read_dir(node.location.directory())
        .unwrap()
        .filter_map(|entry| {
            let entry = entry.unwrap();
            let address = entry.file_name().to_str()?.parse().ok()?;
            Some((address, fs::read_to_string(entry.path()).unwrap()))
        })
        .collect();
    assert_eq!(files.len(), held.len());
    let mut pool = node.open();
    for (id, address) in &held {
        assert_eq!(files[address], format!("{id}\r\neth0"));
        assert_eq!(pool.held(&owner(id)).unwrap(), [*address]);
    }
    assert_eq!(pool.usage(&ranges(), &[]).unwrap().used, held.len() as u64);
}
