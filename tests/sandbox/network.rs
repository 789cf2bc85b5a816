//! Components that reach for links, addresses and routes of others.

use anyhow::Context;
use serde_json::{Value, json};

use super::stage::{Expected, RULE, Stage, port_of};
use crate::Test;

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new("sandbox: what others need of a shared bridge is not switched off", switching_off),
        Test::new("sandbox: with CNI_NETNS_OVERRIDE the container is the node", the_node_as_container),
        Test::new("sandbox: link names that are tricks are refused", names),
        Test::new("sandbox: links with names that the policy does not list are not made", foreign_names),
        Test::new("sandbox: links of others are out of reach on the node", links_of_others),
        Test::new("sandbox: another network's interface in the container stays", container_links),
        Test::new("sandbox: what takes back a link does not find another of its name", taken_names),
        Test::new("sandbox: a pair that is removed does not hide another one", hidden_pair),
        Test::new("sandbox: bridges that the policy does not list are out of reach", bridges),
    ]
}

/// Names that the kernel, or whoever reads them as a path, takes for something
/// else.
pub(super) const TRICKS: [&str; 15] = [
    ".",
    "..",
    "../x",
    "a/b",
    "eth0 ",
    "hv%d",
    "hv0123456789abcd",
    "hv\0",
    "hv\n",
    "hv:1",
    "hv\u{202e}0",
    "hv\u{200b}",
    "hv\u{a0}",
    "all",
    "default",
];

fn pair() -> Value {
    json!({ "do": "create-veth", "near": "hv0", "far": "eth0" })
}

fn names() -> anyhow::Result<()> {
    let stage = Stage::new(RULE)?;
    for name in TRICKS {
        let expected = Expected::failure(7, &["is no name for a link"]);
        stage.fails(json!([{ "do": "create-veth", "near": name, "far": "eth0" }]), &expected)?;
        stage.fails(json!([{ "do": "create-veth", "near": "hv0", "far": name }]), &expected)?;
    }
    // A name that the host draws is one as others.
    let drawn = Expected::denied("create-veth", &["link \"veth", "links = [\"hv*\""]);
    stage.fails(json!([{ "do": "create-veth", "near": "", "far": "eth0" }]), &drawn).map(drop)
}

fn foreign_names() -> anyhow::Result<()> {
    let stage = Stage::new(RULE)?;
    for name in ["eth9", "veth0", "hv", "HV0", "up0", "uplink", "lo", "ĥv0"] {
        let is_listed = name.starts_with("hv");
        if is_listed {
            continue;
        }
        let expected = Expected::denied("create-veth", &[name, "links = [\"hv*\""]);
        stage.fails(json!([{ "do": "create-veth", "near": name, "far": "eth0" }]), &expected)?;
        let both = json!([{ "do": "create-veth", "near": "hv0", "far": name, "far-side": "host" }]);
        stage.fails(both, &expected)?;
        let from_inside = json!([
            { "do": "create-veth", "side": "container", "near": "eth0", "far": name, "far-side": "host" }
        ]);
        stage.fails(from_inside, &expected)?;
    }
    Ok(())
}

/// Changes of a link of the node, and how the audit log calls them.
pub(super) fn changes() -> [(Value, &'static str); 17] {
    [
        (json!({ "do": "set-down" }), "set-down"),
        (json!({ "do": "set-up" }), "set-up"),
        (json!({ "do": "set-mtu", "mtu": 600 }), "set-mtu"),
        (json!({ "do": "set-mac" }), "set-mac"),
        (json!({ "do": "set-promiscuous" }), "set-promiscuous"),
        (json!({ "do": "set-port" }), "set-port"),
        (json!({ "do": "add-vlans", "count": 1 }), "change-vlans"),
        (json!({ "do": "attach", "bridge": "br-h" }), "attach-to"),
        (json!({ "do": "remove" }), "remove"),
        (json!({ "do": "add-address", "address": "10.66.0.5", "length": 24 }), "add-address"),
        (json!({ "do": "remove-address", "address": "192.0.2.1", "length": 24 }), "remove-address"),
        (json!({ "do": "announce" }), "announce"),
        (json!({ "do": "add-route", "address": "10.66.0.0", "length": 25 }), "add-route"),
        (json!({ "do": "prepend-route", "address": "10.66.0.0", "length": 25 }), "add-route"),
        (json!({ "do": "remove-route", "address": "192.0.2.0", "length": 24 }), "remove-route"),
        (json!({ "do": "set-sysctl", "key": "accept_ra", "value": "2", "ipv6": true }), "set-sysctl"),
        (json!({ "do": "guard" }), "guard"),
    ]
}

fn links_of_others() -> anyhow::Result<()> {
    let stage = Stage::new(&RULE.replace("\"hv*\"", "\"hv*\", \"up*\", \"veth*\""))?;
    let port = port_of(&stage.lab, "br-calm")?;
    for link in ["up0", "uplink", &port] {
        for (change, operation) in changes() {
            let mut step = change;
            step["link"] = link.into();
            let real = if link == "uplink" { "up0" } else { link };
            stage.fails(json!([step]), &Expected::denied(operation, &[real]))?;
        }
    }
    // Without a rule that names them, they are not even looked at.
    stage.write_policy(RULE)?;
    for link in ["up0", "uplink", &port] {
        stage.fails(json!([{ "do": "find", "link": link }]), &Expected::denied("link", &["hv*"]))?;
    }
    Ok(())
}

fn container_links() -> anyhow::Result<()> {
    let stage = Stage::new(RULE)?;
    for (change, operation) in [
        (json!({ "do": "set-down" }), "set-down"),
        (json!({ "do": "set-mtu", "mtu": 600 }), "set-mtu"),
        (json!({ "do": "set-mac" }), "set-mac"),
        (json!({ "do": "remove" }), "remove"),
        (json!({ "do": "add-address", "address": "10.66.0.5", "length": 24 }), "add-address"),
        (json!({ "do": "remove-address", "address": "10.77.0.2", "length": 24 }), "remove-address"),
        (json!({ "do": "add-route", "address": "0.0.0.0", "length": 1 }), "add-route"),
        (json!({ "do": "prepend-route", "address": "0.0.0.0", "length": 0 }), "add-route"),
        (json!({ "do": "remove-route", "address": "10.77.0.0", "length": 24 }), "remove-route"),
        (json!({ "do": "set-sysctl", "key": "accept_ra", "value": "2", "ipv6": true }), "set-sysctl"),
        (json!({ "do": "guard" }), "guard"),
    ] {
        let mut step = change;
        step["link"] = "eth1".into();
        step["side"] = "container".into();
        stage.fails(json!([pair(), step]), &Expected::denied(operation, &["eth1"]))?;
    }
    Ok(())
}

/// Links that are like what the plugin wants to make, when its time is over or
/// it is killed just before the kernel is asked.
fn taken_names() -> anyhow::Result<()> {
    let mut stage = Stage::new(RULE)?;
    stage.lab.on_node("ip link add hv5 type veth peer name hv6")?;
    stage.accept()?;
    let mac_of = |text: &str| -> anyhow::Result<String> {
        let links: Value = serde_json::from_str(text).context("read what ip says")?;
        Ok(links[0]["address"].as_str().context("the link has an address")?.to_owned())
    };
    let inside = stage.lab.in_container(0, "ip -json link show eth1")?;
    let outside = stage.lab.on_node("ip -json link show hv5")?;
    for (name, side, mac) in [("eth1", "container", mac_of(&inside)?), ("hv5", "host", mac_of(&outside)?)] {
        let step = json!({
            "do": "create-veth", "side": side, "near": name, "near-mac": mac, "far": "hv7", "far-side": "host"
        });
        for fault in ["stall-before:1", "kill-before:1"] {
            let call = stage.call("ADD", json!([step])).variable("WEIR_FAULT", fault);
            let call = call.variable("WEIR_TIMEOUT", "0.5");
            stage.call_fails(&call, &Expected::failure(105, &[name, "File exists"]))?;
            stage.answer(&stage.call("DEL", json!([])))?.silence()?;
            stage.unchanged()?;
        }
    }
    Ok(())
}

fn hidden_pair() -> anyhow::Result<()> {
    let stage = Stage::new(RULE)?;
    let attack = json!([
        { "do": "create-veth", "near": "hv1", "far": "hv2", "far-side": "host" },
        { "do": "create-veth", "side": "container", "near": "c1", "far": "c2" },
        { "do": "remove", "link": "c1" },
        { "do": "panic" },
    ]);
    stage.fails(attack, &Expected::failure(101, &["trapped"])).map(drop)
}

fn bridges() -> anyhow::Result<()> {
    let stage = Stage::new(RULE)?;
    let expected = Expected::denied("create-bridge", &["br-new", "bridge"]);
    stage.fails(json!([{ "do": "create-bridge", "name": "br-new" }]), &expected)?;
    let expected = Expected::denied("link", &["br-calm"]);
    stage.fails(json!([pair(), { "do": "attach", "link": "hv0", "bridge": "br-calm" }]), &expected)?;
    let with_bridge = json!({ "do": "create-veth", "near": "hv0", "far": "eth0", "bridge": "br-calm" });
    stage.fails(json!([with_bridge]), &expected)?;
    // A link of its own is no bridge, whatever it asks for.
    let expected = Expected::denied("attach-to", &["hv0"]);
    stage.fails(
        json!([pair(), { "do": "create-veth", "near": "hv1", "far": "hv2" }, { "do": "attach", "link": "hv1", "bridge": "hv0" }]),
        &expected,
    )?;
    Ok(())
}

fn switching_off() -> anyhow::Result<()> {
    let stage = Stage::new(RULE)?;
    let off = json!([{ "do": "set-promiscuous", "link": "br-h", "off": true }]);
    stage.fails(off, &Expected::denied("set-promiscuous", &["br-h", "not made by this attachment"]))?;
    let off = json!([{ "do": "set-vlan-filtering", "link": "br-h", "on": false }]);
    stage
        .fails(off, &Expected::denied("set-vlan-filtering", &["br-h", "not made by this attachment"]))
        .map(drop)
}

/// What may be done in the container's namespace may not be done in the
/// node's because a runtime says that it is the same.
fn the_node_as_container() -> anyhow::Result<()> {
    let stage = Stage::new(&RULE.replace("[\"container\", \"host\"]", "[\"container\"]"))?;
    let attack = |steps: Value| {
        let call = stage.call("ADD", steps).variable("CNI_NETNS", "/proc/self/ns/net");
        call.variable("CNI_NETNS_OVERRIDE", "1")
    };
    let route = json!({ "do": "add-route", "side": "container", "link": "up0", "address": "10.66.0.0", "length": 25 });
    for step in [
        json!({ "do": "create-bridge", "side": "container", "name": "br-h2" }),
        json!({ "do": "enable-forwarding", "side": "container" }),
        route.clone(),
    ] {
        stage
            .call_fails(&attack(json!([step])), &Expected::denied("host", &["namespace"]))
            .with_context(|| step.to_string())?;
    }
    // Whoever may work there is bound by the rules for it.
    stage.write_policy(RULE)?;
    stage.call_fails(&attack(json!([route])), &Expected::denied("link", &["up0"])).map(drop)
}
