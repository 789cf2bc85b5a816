//! A real runtime: podman with its CNI backend, which calls weir for bridge and
//! host-local, and the native plugins for what else is in its chains. Each
//! scenario is run with the native plugins alone too, and what there is to see
//! is compared.

mod node;

use std::fmt::Debug;
use std::thread;

use anyhow::{Context, anyhow, ensure};
use serde_json::Value;

use super::machine::readme_shows;
use crate::Test;
use crate::lab::Plugins;
use node::{NETWORK, Node};

/// All tests of this part.
pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::new("podman: a container of its own network gets what the native plugins give", || {
            compare(default_network)
        }),
        Test::new("podman: a fixed address and hardware address arrive in both families", || {
            compare(fixed_addresses)
        }),
        Test::new("podman: an address that is taken is refused and leaves nothing", || {
            compare(taken_address)
        }),
        Test::new("podman: containers reach each other, and the node a published port", || {
            compare(published_port)
        }),
        Test::new("podman: networks are connected, reloaded and disconnected while a container runs", || {
            compare(connected_later)
        }),
        Test::new("podman: five containers come and go at the same time", || compare(five_containers)),
        Test::new("podman: the README shows the configuration of these tests", || readme_shows(&[NETWORK])),
    ]
}

/// Bridges of the networks here; podman numbers them.
const BRIDGES: [&str; 2] = ["cni-podman0", "cni-podman1"];

/// Runs a scenario with weir and with the native plugins, and compares what
/// they let it see.
fn compare<T: PartialEq + Debug>(scenario: fn(&Node) -> anyhow::Result<T>) -> anyhow::Result<()> {
    let see = |plugins: &Plugins| {
        let node = Node::start(plugins)?;
        let seen = scenario(&node)?;
        let left = node.leftovers(&BRIDGES)?;
        ensure!(left.is_empty(), "after the last container there are {left:#?}");
        Ok(seen)
    };
    let weir = see(&Plugins::Weir).context("with weir")?;
    let native = see(&Plugins::native()?).context("with the native plugins")?;
    ensure!(weir == native, "weir: {weir:#?}\nnative plugins: {native:#?}");
    Ok(())
}

fn default_network(node: &Node) -> anyhow::Result<Vec<Value>> {
    node.run_container("a", "")?;
    uses_weir_where_it_is_installed(node)?;
    node.exec("a", "busybox ping -c 1 -W 5 10.88.0.1")?;
    let seen = seen(node, "a")?;
    ensure!(text(&seen, "10.88.0.2"), "the container has no address: {seen:#?}");
    node.remove("a")?;
    Ok(seen)
}

/// Whether weir served the container, if it is there to be called: its journal
/// tells.
fn uses_weir_where_it_is_installed(node: &Node) -> anyhow::Result<()> {
    let config = node.run("cat /etc/containers/containers.conf")?;
    let is_called = config.contains("\"/opt/cni/bin\"");
    let listed = node.run("/opt/cni/bin/weir attachments")?;
    ensure!(listed.contains("eth0") == is_called, "weir lists: {listed}");
    Ok(())
}

fn fixed_addresses(node: &Node) -> anyhow::Result<Vec<Value>> {
    add_dual_network(node)?;
    node.run_container(
        "a",
        "--network dual --ip 10.99.0.77 --ip6 fd00:99::77 --mac-address 02:00:00:00:00:77",
    )?;
    let seen = seen(node, "a")?;
    for part in ["10.99.0.77", "fd00:99::77"] {
        ensure!(text(&seen, part), "the container has no {part}: {seen:#?}");
    }
    let links = node.ask("a", "ip -json link show eth0")?;
    ensure!(links[0]["address"] == "02:00:00:00:00:77", "eth0 is {links}");
    node.remove("a")?;
    Ok(seen)
}

fn add_dual_network(node: &Node) -> anyhow::Result<()> {
    node.run("podman network create --ipv6 --subnet 10.99.0.0/24 --subnet fd00:99::/64 dual").map(drop)
}

fn taken_address(node: &Node) -> anyhow::Result<()> {
    let options = "--ip 10.88.0.77";
    node.run_container("a", options)?;
    let before = node.leftovers(&BRIDGES)?;
    ensure!(!before.is_empty(), "the checks find nothing of a container");
    let Err(error) = node.run_container("b", options) else { anyhow::bail!("the address is given twice") };
    ensure!(error.to_string().contains("10.88.0.77"), "the error does not name the address: {error:#}");
    // Podman keeps the container that it could not start.
    node.remove("b")?;
    let after = node.leftovers(&BRIDGES)?;
    ensure!(before == after, "the refused container leaves something: {before:#?} became {after:#?}");
    node.remove("a")?;
    node.run_container("b", options)?;
    node.remove("b")
}

fn published_port(node: &Node) -> anyhow::Result<()> {
    node.run_container("server", "--publish 8080:80")?;
    node.exec("server", "echo hello >/www/index.html && busybox httpd -h /www -p 80")?;
    node.run_container("client", "")?;
    let address = address(node, "server")?;
    node.exec("client", &format!("busybox ping -c 1 -W 5 {address}"))?;
    for url in [format!("http://{address}:80/"), "http://10.88.0.1:8080/".to_owned()] {
        let page = node.exec("client", &format!("busybox wget -q -O - {url}"))?;
        ensure!(page.trim() == "hello", "{url} serves {page:?} to a neighbour");
    }
    for url in ["http://10.88.0.1:8080/", "http://127.0.0.1:8080/"] {
        let page = node.run(&format!("busybox wget -q -O - {url}"))?;
        ensure!(page.trim() == "hello", "{url} serves {page:?} to the node");
    }
    node.remove("server client")
}

fn connected_later(node: &Node) -> anyhow::Result<Vec<Vec<Value>>> {
    add_dual_network(node)?;
    node.run_container("a", "")?;
    let mut all = Vec::new();
    for command in
        ["network connect dual a", "network reload a", "network disconnect podman a", "network reload --all"]
    {
        node.run(&format!("podman {command}"))?;
        all.push(seen(node, "a")?);
    }
    let [connected, reloaded, disconnected, again] = &all[..] else { unreachable!("there are four") };
    ensure!(text(connected, "10.88.0.2") && text(connected, "10.99.0.2"), "connected: {connected:#?}");
    ensure!(text(reloaded, "10.88.") && text(reloaded, "10.99."), "reloaded: {reloaded:#?}");
    for left in [disconnected, again] {
        ensure!(!text(left, "10.88.") && text(left, "10.99."), "disconnected: {left:#?}");
    }
    node.exec("a", "busybox ping -c 1 -W 5 10.99.0.1 && busybox ping -c 1 -W 5 fd00:99::1")?;
    node.remove("a")?;
    // Several networks are reloaded in any order.
    all.remove(1);
    Ok(all)
}

fn five_containers(node: &Node) -> anyhow::Result<()> {
    let names = ["a", "b", "c", "d", "e"];
    for name in names {
        node.create_container(name, "")?;
    }
    for _ in 0..2 {
        at_the_same_time(&names, |name| node.start_container(name))?;
        let mut addresses: Vec<String> =
            names.iter().map(|name| address(node, name)).collect::<anyhow::Result<_>>()?;
        addresses.sort();
        addresses.dedup();
        ensure!(addresses.len() == names.len(), "{} containers have {addresses:?}", names.len());
        at_the_same_time(&names, |name| node.stop_container(name))?;
        let left = node.leftovers(&BRIDGES)?;
        ensure!(left.is_empty(), "stopped containers leave {left:#?}");
    }
    node.remove(&names.join(" "))
}

fn at_the_same_time(names: &[&str], work: impl Fn(&str) -> anyhow::Result<()> + Sync) -> anyhow::Result<()> {
    thread::scope(|scope| {
        let threads: Vec<_> = names.iter().map(|name| scope.spawn(|| work(name))).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().map_err(|_| anyhow!("a thread of the test panicked"))?)
    })
}

/// What there is to see of a container's network: inside of it, and by podman.
fn seen(node: &Node, name: &str) -> anyhow::Result<Vec<Value>> {
    let mut seen = vec![
        node.ask(name, "ip -json address show")?,
        node.ask(name, "ip -json -4 route show")?,
        node.ask(name, "ip -json -6 route show")?,
        node.inspect(name)?["NetworkSettings"]["Networks"].clone(),
    ];
    seen.iter_mut().for_each(forget_what_is_random);
    Ok(seen)
}

/// Removes what differs from container to container, as hardware addresses.
fn forget_what_is_random(value: &mut Value) {
    match value {
        Value::Array(items) => {
            // What follows from a random hardware address.
            items.retain(|item| {
                let is_local = |key: &str| item[key].as_str().is_some_and(|text| text.starts_with("fe80"));
                !is_local("local")
            });
            items.iter_mut().for_each(forget_what_is_random);
        }
        Value::Object(members) => {
            // And what weir does better: conformance/differences.rs tells of it.
            for key in ["address", "MacAddress", "link_index", "ifindex", "Aliases", "link_netnsid", "txqlen"]
            {
                members.remove(key);
            }
            members.values_mut().for_each(forget_what_is_random);
        }
        _ => {}
    }
}

/// Whether what was seen has a text in it.
fn text(seen: &[Value], part: &str) -> bool {
    seen.iter().any(|value| value.to_string().contains(part))
}

/// The address that a container has in podman's own network.
fn address(node: &Node, name: &str) -> anyhow::Result<String> {
    let found = node.inspect(name)?;
    let address = found["NetworkSettings"]["Networks"]["podman"]["IPAddress"].as_str();
    Ok(address.filter(|address| !address.is_empty()).context("the container has an address")?.to_owned())
}
