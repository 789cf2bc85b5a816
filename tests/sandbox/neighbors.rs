//! Components that reach for neighbors and forwarding entries of others.

use std::fs;
use std::net::Ipv4Addr;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::stage::{Expected, RULE, Stage, port_of};
use crate::Test;

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new("sandbox: neighbors outside of the policy's are out of reach", foreign_addresses),
        Test::new("sandbox: the node's gateway keeps its hardware address", gateway),
        Test::new("sandbox: neighbors on links of others are out of reach", foreign_links),
        Test::new("sandbox: what is no station is no neighbor", no_stations),
        Test::new("sandbox: no port takes the hardware address of another container", stolen_station),
        Test::new("sandbox: forwarding on links of others is out of reach", foreign_ports),
        Test::new("sandbox: floods of neighbors end at the limits and leave nothing", flood),
        Test::new("sandbox: neighbors do not change but by ADD", other_commands),
        Test::new("sandbox: more neighbors than anybody needs are not listed", dumps),
    ]
}

/// The rule, with neighbors in its range.
pub(super) fn rule() -> String {
    RULE.replace("routes = [", "neighbors = [\"10.66.0.0/24\", \"fd00:66::/64\"]\nroutes = [")
}

const MAC: &str = "02:00:00:00:00:bd";

fn pair() -> Value {
    json!({ "do": "create-veth", "near": "hv0", "far": "eth0", "bridge": "br-h" })
}

fn neighbor(link: &str, address: &str) -> Value {
    json!({ "do": "add-neighbors", "link": link, "address": address, "mac": MAC })
}

fn foreign_addresses() -> anyhow::Result<()> {
    let stage = Stage::new(&rule())?;
    for address in ["10.66.1.0", "10.65.255.255", "192.0.2.2", "::a42:5", "fd00:67::5", "fe80::1"] {
        for link in ["br-h", "hv0"] {
            let expected = Expected::denied("add-neighbors", &[address, "neighbors = [\"10.66.0.0/24\", "]);
            stage.fails(json!([pair(), neighbor(link, address)]), &expected)?;
            let mut step = neighbor(link, address);
            step["do"] = "remove-neighbors".into();
            stage.fails(json!([pair(), step]), &Expected::denied("remove-neighbors", &[address]))?;
        }
    }
    // One of a list is enough.
    let last =
        json!({ "do": "add-neighbors", "link": "br-h", "address": "10.66.0.254", "mac": MAC, "count": 3 });
    stage.fails(json!([pair(), last]), &Expected::denied("add-neighbors", &["10.66.1.0/32"]))?;
    stage.write_policy(&format!("{}[[deny]]\nneighbors = [\"10.66.0.5\"]\n", rule()))?;
    let expected = Expected::denied("add-neighbors", &["10.66.0.5/32", "forbids it"]);
    stage.fails(json!([pair(), neighbor("br-h", "10.66.0.5")]), &expected)?;
    // The key has to be there.
    stage.write_policy(RULE)?;
    let expected = Expected::denied("add-neighbors", &["add to", "neighbors = [\"10.66.0.5/32\"]"]);
    stage.fails(json!([pair(), neighbor("br-h", "10.66.0.5")]), &expected).map(drop)
}

fn gateway() -> anyhow::Result<()> {
    let mut stage = Stage::new(&rule())?;
    stage.lab.on_node("ip neighbour add 10.99.0.254 lladdr 02:00:00:00:00:fe dev br-h nud permanent")?;
    stage.lab.on_node("ip neighbour add 10.66.0.254 lladdr 02:00:00:00:00:fe dev br-h nud permanent")?;
    stage.lab.on_node("ip route add 203.0.113.0/24 via 10.99.0.254 dev br-h")?;
    stage.accept()?;
    for action in ["add-neighbors", "remove-neighbors"] {
        let step =
            json!({ "do": action, "link": "br-h", "address": "10.99.0.254", "mac": "02:00:00:00:00:fe" });
        stage.fails(json!([pair(), step]), &Expected::denied(action, &["10.99.0.254"]))?;
    }
    let poison = json!([pair(), neighbor("br-h", "10.99.0.254")]);
    stage.fails(poison, &Expected::denied("add-neighbors", &["10.99.0.254"]))?;
    // What the operator has added stays, even where the policy reaches.
    let poison = json!([pair(), neighbor("br-h", "10.66.0.5"), neighbor("br-h", "10.66.0.254")]);
    let expected = Expected::failure(105, &["10.66.0.254", "File exists", "it is at 02:00:00:00:00:fe"]);
    stage.fails(poison, &expected)?;
    // All of a list, or nothing of it.
    let list =
        json!({ "do": "add-neighbors", "link": "br-h", "address": "10.66.0.250", "mac": MAC, "count": 5 });
    stage.fails(json!([pair(), list]), &expected).map(drop)
}

fn foreign_links() -> anyhow::Result<()> {
    let stage = Stage::new(&rule().replace("\"hv*\"", "\"hv*\", \"up*\", \"veth*\""))?;
    let port = port_of(&stage.lab, "br-calm")?;
    for link in ["up0", "uplink", &port] {
        let real = if link == "uplink" { "up0" } else { link };
        for action in ["add-neighbors", "remove-neighbors"] {
            let step = json!({ "do": action, "link": link, "address": "10.66.0.5", "mac": MAC });
            stage.fails(json!([step]), &Expected::denied(action, &[real]))?;
        }
    }
    // The bridge of another tenant.
    let expected = Expected::denied("link", &["br-calm"]);
    stage.fails(json!([pair(), neighbor("br-calm", "10.77.0.2")]), &expected)?;
    stage.write_policy(&rule().replace("[\"br-h\"]", "[\"br-h\", \"br-calm\"]"))?;
    let expected = Expected::denied("add-neighbors", &["10.77.0.2"]);
    stage.fails(json!([pair(), neighbor("br-calm", "10.77.0.2")]), &expected)?;
    // The container's interface on another network.
    for action in ["add-neighbors", "remove-neighbors"] {
        let step = json!({
            "do": action, "side": "container", "link": "eth1", "address": "10.77.0.1", "mac": MAC
        });
        stage.fails(json!([pair(), step]), &Expected::denied(action, &["eth1"]))?;
    }
    Ok(())
}

fn no_stations() -> anyhow::Result<()> {
    let stage = Stage::new(&rule())?;
    // Neither is an address of the policy smuggled in by another spelling, nor
    // one that it does not have.
    for address in
        ["::ffff:10.66.0.5", "::ffff:192.0.2.2", "0.0.0.0", "224.0.0.1", "::", "ff02::1", "127.0.0.1"]
    {
        let expected = Expected::failure(7, &["is not the address of another station"]);
        stage.fails(json!([pair(), neighbor("br-h", address)]), &expected)?;
        let entry = json!({ "do": "add-forwarding", "link": "hv0", "mac": MAC, "destination": address });
        stage.fails(json!([pair(), entry]), &expected)?;
    }
    for mac in ["00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01"] {
        let expected = Expected::failure(7, &[mac, "is not the hardware address of one station"]);
        let step = json!({ "do": "add-neighbors", "link": "br-h", "address": "10.66.0.5", "mac": mac });
        stage.fails(json!([pair(), step]), &expected)?;
        stage.fails(json!([pair(), { "do": "add-forwarding", "link": "hv0", "mac": mac }]), &expected)?;
    }
    Ok(())
}

fn stolen_station() -> anyhow::Result<()> {
    let mut stage = Stage::new(&rule())?;
    // A container of somebody else on the bridge that both may use.
    let victim = "02:00:00:00:00:77";
    // The bridge would move an entry that does not stick as soon as the
    // attacker's container sent anything.
    stage.lab.on_node(&format!("bridge fdb add {victim} dev port0 master static sticky"))?;
    stage.accept()?;
    let steal = |mac: &str| json!({ "do": "add-forwarding", "link": "hv0", "mac": mac });
    for mac in [victim, MAC] {
        let expected = Expected::denied("add-forwarding", &[mac, "other end of link hv0 in the container"]);
        stage.fails(json!([pair(), steal(mac)]), &expected)?;
    }
    // Nor by taking the address for its own first.
    let disguise = json!({ "do": "set-mac", "link": "eth0", "mac": victim });
    let expected = Expected::failure(105, &[victim, "knows it at another port"]);
    stage.fails(json!([pair(), disguise, steal(victim)]), &expected)?;
    let shown = stage.lab.on_node("ip -json link show dev br-h")?;
    let shown: Value = serde_json::from_str(&shown)?;
    let bridge = shown[0]["address"].as_str().context("the bridge has no address")?.to_owned();
    let disguise = json!({ "do": "set-mac", "link": "eth0", "mac": bridge });
    let expected = Expected::failure(105, &[&bridge, "the bridge has that address"]);
    stage.fails(json!([pair(), disguise, steal(&bridge)]), &expected)?;
    // Both ends on the node: nobody is there.
    let both =
        json!({ "do": "create-veth", "near": "hv0", "far": "hv1", "far-side": "host", "bridge": "br-h" });
    let expected = Expected::denied("add-forwarding", &["in the container"]);
    stage.fails(json!([both, steal(MAC)]), &expected).map(drop)
}

fn foreign_ports() -> anyhow::Result<()> {
    let mut stage = Stage::new(&rule().replace("\"hv*\"", "\"hv*\", \"port*\", \"vx*\""))?;
    stage.lab.on_node("ip link add vx0 type vxlan id 66 dstport 4789 nolearning")?;
    stage.lab.on_node("bridge fdb append 00:00:00:00:00:00 dev vx0 dst 192.0.2.9")?;
    stage.lab.on_node("bridge fdb add 02:00:00:00:00:77 dev port0 master static")?;
    stage.accept()?;
    for action in ["add-forwarding", "remove-forwarding"] {
        let entry = |link: &str, mac: &str, destination: Option<&str>| json!({ "do": action, "link": link, "mac": mac, "destination": destination });
        let attacks = [
            (entry("br-h", "02:00:00:00:00:77", None), "br-h"),
            (entry("port0", "02:00:00:00:00:77", None), "port0"),
        ];
        for (step, link) in attacks {
            stage.fails(json!([pair(), step]), &Expected::denied(action, &[link]))?;
        }
        // A kind of link that no rule names for this plugin.
        let zeros = entry("vx0", "00:00:00:00:00:00", Some("192.0.2.9"));
        stage.fails(json!([pair(), zeros]), &Expected::denied("link", &["vx0"]))?;
        // The remote end counts, whatever the link is.
        let remote = entry("hv0", MAC, Some("192.0.2.9"));
        stage.fails(json!([pair(), remote]), &Expected::denied(action, &["192.0.2.9/32"]))?;
    }
    let inside = json!({ "do": "add-forwarding", "link": "hv0", "mac": MAC, "destination": "10.66.0.9" });
    stage.fails(json!([pair(), inside]), &Expected::failure(105, &["are for VXLAN links"])).map(drop)
}

fn flood() -> anyhow::Result<()> {
    let policy = rule().replace("\"10.66.0.0/24\", \"fd00:66::/64\"", "\"10.0.0.0/8\"");
    let stage = Stage::new(&policy)?;
    let add = |link: &str, address: &str, count: u32| {
        json!({
            "do": "add-neighbors", "link": link, "side": if link == "eth0" { "container" } else { "host" },
            "address": address, "mac": MAC, "count": count
        })
    };
    stage.fails(
        json!([pair(), add("br-h", "10.1.0.1", 1025)]),
        &Expected::failure(7, &["1025 entries in one list, at most 1024"]),
    )?;
    for link in ["br-h", "eth0"] {
        let mut steps = vec![pair()];
        steps.extend((1..6).map(|number| add(link, &format!("10.{number}.0.1"), 1024)));
        stage.fails(steps.into(), &Expected::failure(103, &["more than 4096 changes"]))?;
    }
    stage.write_policy(&format!("{policy}limits.changes = 100\n"))?;
    let expected = Expected::failure(103, &["more than 100 changes"]);
    stage
        .fails(json!([pair(), add("br-h", "10.1.0.1", 60), add("br-h", "10.2.0.1", 60)]), &expected)
        .map(drop)
}

fn other_commands() -> anyhow::Result<()> {
    let mut stage = Stage::new(&rule())?;
    stage.lab.on_node("ip neighbour add 10.66.0.7 lladdr 02:00:00:00:00:bd dev br-h nud permanent")?;
    stage.accept()?;
    let changes = [
        (neighbor("br-h", "10.66.0.5"), "add-neighbors"),
        (
            json!({ "do": "remove-neighbors", "link": "br-h", "address": "10.66.0.7", "mac": MAC }),
            "remove-neighbors",
        ),
    ];
    for command in ["CHECK", "STATUS", "GC", "DEL"] {
        for (step, operation) in &changes {
            let expected = Expected::denied(operation, &["plugin hostile", command]);
            stage.call_fails(&stage.call(command, json!([step])), &expected)?;
        }
    }
    Ok(())
}

/// Anybody who is root in a container can add as many.
fn dumps() -> anyhow::Result<()> {
    let stage = Stage::new(&rule())?;
    let batch = stage.lab.path("neighbors");
    let address = |number: u32| Ipv4Addr::from(0x0a00_0000 + number);
    let lines = (0..270_000)
        .map(|number| format!("neighbour add {} lladdr {MAC} dev eth1 nud permanent\n", address(number)));
    fs::write(&batch, lines.collect::<String>())?;
    stage.lab.in_container(0, &format!("ip -batch {}", batch.display()))?;
    let list = json!([{ "do": "list-neighbors", "side": "container", "link": "eth1" }]);
    let error = stage.answer(&stage.call("ADD", list))?.failure()?;
    ensure!(error.text.contains("more than 262144"), "the message is {}", error.text);
    Ok(())
}
