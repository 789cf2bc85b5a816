//! Published ports: who reaches them, by which address the container sees it,
//! and what is left of them.

mod town;

use std::fs;

use anyhow::{Context, ensure};
use serde_json::json;

use crate::Test;
use crate::lab::{Facts, Family, Plugins, Transport, is_installed, require};
use town::{SERVER, Town};

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new("publish: everybody reaches a port, and the container sees who it is", matrix),
        Test::new("publish: what is reached and seen is the same as with the native portmap", || {
            as_portmap(false)
        }),
        Test::new("publish: the same goes for containers that are masqueraded", || as_portmap(true)),
        Test::new("publish: a port at one address is at no other", one_address),
        Test::new("publish: packets that pass through the node are not taken", passing),
        Test::new("publish: nothing from outside gets to the node's loopback", loopback_stays),
        Test::new("publish: UDP clients from before come to the new container", udp_moves),
        Test::new("publish: DEL, GC and a failed ADD leave nothing", nothing_left),
        Test::new("publish: without the component DEL leaves nothing", without_component),
        Test::new("publish: GC removes ports whose journal was lost", lost_journal),
        Test::new("publish: the port of an attachment that is gone without DEL can be had", forgotten),
        Test::new("publish: the rule set can be saved and loaded", saved),
        Test::new("publish: a plan shows the port and publishes nothing", planned),
    ]
}

/// The port of the node that is published, of whichever protocol.
const PORT: u16 = 8080;

const BOTH: [Transport; 2] = [Transport::Tcp, Transport::Udp];

fn matrix() -> anyhow::Result<()> {
    let town = Town::new(Plugins::Weir)?;
    town.publish(&town.everywhere())?;
    let seen = town.matrix(PORT, &BOTH)?;
    for (line, who) in [
        ("world to 192.0.2.1 by Tcp", "192.0.2.2"),
        ("world to 192.0.2.1 by Udp", "192.0.2.2"),
        ("world to 2001:db8::1 by Tcp", "2001:db8::2"),
        ("world to 2001:db8::1 by Udp", "2001:db8::2"),
        ("node to 192.0.2.1 by Tcp", "192.0.2.1"),
        ("node to 192.0.2.1 by Udp", "192.0.2.1"),
        ("node to 2001:db8::1 by Tcp", "2001:db8::1"),
        ("node to 127.0.0.1 by Tcp", "10.1.0.1"),
        ("node to 127.0.0.1 by Udp", "10.1.0.1"),
        ("other to 192.0.2.1 by Tcp", "10.2.0.2"),
        ("other to 2001:db8::1 by Udp", "fd00:2::2"),
        // Answers of these would pass the node by.
        ("neighbour to 192.0.2.1 by Tcp", "10.1.0.1"),
        ("neighbour to 10.1.0.1 by Udp", "10.1.0.1"),
        ("neighbour to 2001:db8::1 by Tcp", "fd00:1::1"),
        ("itself to 192.0.2.1 by Tcp", "10.1.0.1"),
        ("itself to 192.0.2.1 by Udp", "10.1.0.1"),
        ("itself to 2001:db8::1 by Tcp", "fd00:1::1"),
    ] {
        let found = seen.get(line).with_context(|| format!("{line} was not tried: {seen:?}"))?;
        ensure!(found == who, "{line}: the container sees {found}, not {who}");
    }
    let quiet = town.matrix(PORT + 1, &[Transport::Tcp])?;
    let reached: Vec<_> = quiet.iter().filter(|(_, seen)| *seen != "nobody").collect();
    ensure!(reached.is_empty(), "a port that is not published is reached: {reached:?}");
    // Connections to the container's own address are nobody's business.
    let direct = town.see_direct()?;
    ensure!(direct.as_deref() == Some("10.1.0.3"), "the neighbour is seen as {direct:?}");
    Ok(())
}

/// Compares with the native plugins.
fn as_portmap(masquerades: bool) -> anyhow::Result<()> {
    require(is_installed("iptables"), "the program iptables is missing, which portmap uses")?;
    let native = Plugins::native()?;
    if let Plugins::Native(directory) = &native {
        require(directory.join("portmap").is_file(), "there is no native portmap")?;
    }
    let native = Town::with(native, masquerades)?;
    native.publish_natively(PORT)?;
    let town = Town::with(Plugins::Weir, masquerades)?;
    town.publish(&town.everywhere())?;
    let (seen, of_native) = (town.matrix(PORT, &BOTH)?, native.matrix(PORT, &BOTH)?);
    let differing: Vec<String> = seen
        .iter()
        .filter(|(line, seen)| of_native.get(*line) != Some(seen))
        .map(|(line, seen)| format!("{line}: weir {seen}, native {:?}", of_native.get(line)))
        .collect();
    ensure!(differing.is_empty(), "{}", differing.join("\n"));
    let from_inside = |town: &Town| -> anyhow::Result<_> {
        let world = town.lab.world.as_ref().context("there is a world")?;
        town.lab
            .containers
            .iter()
            .map(|container| world.sees(&container.namespace, Family::V4))
            .collect::<anyhow::Result<Vec<_>>>()
    };
    let (seen, of_native) = (from_inside(&town)?, from_inside(&native)?);
    ensure!(seen == of_native, "the world sees {seen:?}, natively {of_native:?}");
    let is_hidden = seen.iter().all(|seen| seen.is_some_and(|seen| seen.to_string() == "192.0.2.1"));
    ensure!(is_hidden == masquerades, "the world sees {seen:?}");
    Ok(())
}

fn one_address() -> anyhow::Result<()> {
    let town = Town::new(Plugins::Weir)?;
    town.publish(&json!([town.port("tcp", Some("192.0.2.1"), PORT, "10.1.0.2")]))?;
    for (line, seen) in town.matrix(PORT, &[Transport::Tcp])? {
        let is_it = line.ends_with("to 192.0.2.1 by Tcp");
        ensure!(is_it == (seen != "nobody"), "{line}: {seen}");
    }
    Ok(())
}

/// The port of another machine, to which the node is only the way.
fn passing() -> anyhow::Result<()> {
    let town = Town::new(Plugins::Weir)?;
    town.publish(&town.everywhere())?;
    let world = town.lab.world.as_ref().context("there is a world")?.namespace();
    for (client, to, seen) in [(2, "192.0.2.2", "10.2.0.2"), (1, "2001:db8::2", "fd00:1::3")] {
        let client = &town.lab.containers[client].namespace;
        let found = town.exchange(world, (to, PORT), client, (to, PORT))?;
        ensure!(found.as_deref() == Some(seen), "{to} sees {found:?}");
    }
    Ok(())
}

/// What listens on the node's loopback hears the node alone, although the
/// bridge passes on what comes from there.
fn loopback_stays() -> anyhow::Result<()> {
    let town = Town::new(Plugins::Weir)?;
    town.publish(&town.everywhere())?;
    let shown = town.lab.on_node("cat /proc/sys/net/ipv4/conf/br1/route_localnet")?;
    ensure!(shown.trim() == "1", "the bridge does not forward loopback addresses: {shown}");
    // The neighbour sends what is for 127.0.0.1 to the node.
    let neighbour = &town.lab.containers[1].namespace;
    for rule in [
        "rule add pref 100 lookup local",
        "rule del pref 0 lookup local",
        "rule add pref 5 to 127.0.0.1 lookup 7",
        "route add 127.0.0.1/32 via 10.1.0.1 dev eth0 src 10.1.0.3 table 7",
    ] {
        town.lab.in_container(1, &format!("ip {rule}"))?;
    }
    neighbour.enter(|| Ok(fs::write("/proc/sys/net/ipv4/conf/eth0/route_localnet", "1")?))?;
    let at = ("127.0.0.1", 9999);
    let heard = || town.exchange(&town.lab.node, at, neighbour, at);
    ensure!(heard()?.is_none(), "a container reaches the node's loopback");
    // The same without weir's rule.
    town.lab.on_node("nft flush chain inet weir loopback")?;
    ensure!(heard()?.is_some(), "the test cannot fail");
    Ok(())
}

fn udp_moves() -> anyhow::Result<()> {
    let town = Town::new(Plugins::Weir)?;
    // From now on the kernel remembers connections.
    town.publish_for(1, &json!([town.port("tcp", None, 81, "10.1.0.3")]))?;
    town.lab.run(&town.call("DEL", 1))?.silence()?;
    let client = town.udp_client(PORT)?;
    // The node itself is who hears it now, and nobody there answers.
    ensure!(client.ask()?.is_none(), "somebody answers at a port that is not published");
    town.publish(&town.everywhere())?;
    ensure!(client.ask()?.as_deref() == Some("c1"), "the client from before does not come to the container");
    town.lab.run(&town.call("DEL", 0))?.silence()?;
    town.publish_for(1, &json!([town.port("udp", None, PORT, "10.1.0.3")]))?;
    ensure!(client.ask()?.as_deref() == Some("c2"), "the client does not come to the next container");
    Ok(())
}

/// Elements and journals.
fn kept(town: &Town) -> anyhow::Result<Facts> {
    let mut facts = town.elements()?;
    for journal in town.journals() {
        facts.insert(format!("journal {}", journal.display()), String::new());
    }
    Ok(facts)
}

fn nothing_left() -> anyhow::Result<()> {
    let town = Town::new(Plugins::Weir)?;
    let before = kept(&town)?;
    let added = |town: &Town| -> anyhow::Result<()> {
        town.publish(&town.everywhere())?;
        let facts = kept(town)?;
        // Six ports, each with an element for answers.
        let count = facts.keys().filter(|key| key.contains("n:c1:eth0:portal")).count();
        ensure!(count == 12 + 1, "there are {count} things of the attachment: {facts:?}");
        Ok(())
    };
    added(&town)?;
    town.lab.run(&town.call("DEL", 0))?.silence().context("DEL")?;
    ensure!(kept(&town)? == before, "DEL left {:?}", kept(&town)?);
    added(&town)?;
    let call = town.call("DEL", 0).variable("CNI_NETNS", "");
    town.lab.run(&call)?.silence().context("DEL without a namespace")?;
    ensure!(kept(&town)? == before, "DEL without a namespace left {:?}", kept(&town)?);
    for moment in ["trap-after:1", "trap-before:3", "trap-after:4"] {
        let call = town.call_with("ADD", 0, &town.everywhere()).variable("WEIR_FAULT", moment);
        town.lab.run(&call)?.failure().with_context(|| format!("ADD with {moment}"))?;
        ensure!(kept(&town)? == before, "ADD with {moment} left {:?}", kept(&town)?);
    }
    // What others publish stays.
    town.publish_for(1, &json!([town.port("tcp", None, 81, "10.1.0.3")]))?;
    let before = kept(&town)?;
    added(&town)?;
    town.gc(&["c2"])?;
    ensure!(kept(&town)? == before, "GC took from c2, or left {:?}", kept(&town)?);
    town.gc(&[])?;
    ensure!(kept(&town)?.is_empty(), "GC left {:?}", kept(&town)?);
    let chains = town.lab.on_node("nft list table inet weir")?;
    ensure!(!chains.contains("chain answers-"), "GC left the chains of networks: {chains}");
    Ok(())
}

fn without_component() -> anyhow::Result<()> {
    let town = Town::new(Plugins::Weir)?;
    let before = kept(&town)?;
    town.publish(&town.everywhere())?;
    fs::remove_dir_all(town.lab.path("weir/plugins"))?;
    town.lab.run(&town.call("DEL", 0))?.silence()?;
    ensure!(kept(&town)? == before, "DEL left {:?}", kept(&town)?);
    Ok(())
}

fn lost_journal() -> anyhow::Result<()> {
    let town = Town::new(Plugins::Weir)?;
    let before = town.elements()?;
    town.publish(&town.everywhere())?;
    let all = town.elements()?;
    town.lose_journal()?;
    town.gc(&["c1", "c2", "c3"])?;
    ensure!(town.elements()? == all, "GC took from a valid attachment");
    town.gc(&["c2", "c3"])?;
    ensure!(town.elements()? == before, "GC left {:?}", town.elements()?);
    Ok(())
}

fn forgotten() -> anyhow::Result<()> {
    let town = Town::new(Plugins::Weir)?;
    let port = |container: &str| json!([town.port("tcp", None, PORT, container)]);
    town.publish(&port("10.1.0.2"))?;
    let error = town.lab.run(&town.call_with("ADD", 1, &port("10.1.0.3")))?.failure()?;
    ensure!(error.text.contains("another attachment (n:c1:eth0:portal)"), "it says {}", error.text);
    town.lose_journal()?;
    town.publish_for(1, &port("10.1.0.3"))?;
    let shown = town.lab.on_node("nft list map inet weir published4")?;
    ensure!(shown.contains("\"n:c2:eth0:portal\" : 10.1.0.3 . 80"), "{shown}");
    Ok(())
}

fn saved() -> anyhow::Result<()> {
    let town = Town::new(Plugins::Weir)?;
    town.publish(&town.everywhere())?;
    let before = town.lab.on_node("nft list table inet weir")?;
    let path = town.lab.path("saved.nft");
    fs::write(&path, &before)?;
    town.lab.on_node("nft delete table inet weir")?;
    town.lab.on_node(&format!("nft -f {}", path.display()))?;
    let after = town.lab.on_node("nft list table inet weir")?;
    ensure!(before == after, "{before}\nbecame\n{after}");
    let seen = town.matrix(PORT, &[Transport::Tcp])?;
    ensure!(seen["world to 192.0.2.1 by Tcp"] == "192.0.2.2", "{seen:?}");
    ensure!(seen["itself to 192.0.2.1 by Tcp"] == "10.1.0.1", "{seen:?}");
    town.lab.run(&town.call("DEL", 0))?.silence()?;
    ensure!(town.elements()?.is_empty(), "DEL left {:?}", town.elements()?);
    Ok(())
}

fn planned() -> anyhow::Result<()> {
    let town = Town::new(Plugins::Weir)?;
    town.publish_for(1, &json!([town.port("tcp", None, 81, "10.1.0.3")]))?;
    let before = kept(&town)?;
    let look = |count: u64| json!({ "do": "look-at-ports", "count": count });
    let mut steps = town.everywhere();
    if let Some(steps) = steps.as_array_mut() {
        steps.extend([look(6), json!({ "do": "unpublish" }), look(0)]);
    }
    let shown = town.plan(0, &steps)?;
    ensure!(shown["outcome"] == "success", "{shown}");
    let text = shown.to_string();
    for words in ["\"publish\"", "8080/tcp to 10.1.0.2:80", "forget-connections", "unpublish"] {
        ensure!(text.contains(words), "the plan does not say {words}: {text}");
    }
    ensure!(kept(&town)? == before, "the plan left {:?}", kept(&town)?);
    // It sees what is in the way.
    let shown = town.plan(0, &json!([town.port("tcp", None, 81, SERVER[0])]))?.to_string();
    ensure!(shown.contains("another attachment (n:c2:eth0:portal)"), "{shown}");
    Ok(())
}
