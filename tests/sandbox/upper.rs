//! Components that put links on links that are not theirs.

use std::os::unix::process::ExitStatusExt;

use anyhow::ensure;
use serde_json::{Value, json};

use super::network::{TRICKS, changes};
use super::stage::{Expected, RULE, Stage};
use crate::Test;

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new("sandbox: nothing is put on a link of the node without a rule", without_rule),
        Test::new("sandbox: a deny rule keeps links off a parent", denied_parent),
        Test::new("sandbox: a parent is what the kernel says it is", other_names),
        Test::new("sandbox: a link that may be a parent may be nothing else", parents_only),
        Test::new("sandbox: links on links stay on their side", sides),
        Test::new("sandbox: new links do not take the names of others", names),
        Test::new("sandbox: what does not fit a parent is refused with the reason", misfits),
        Test::new("sandbox: a macvlan does nothing to its parent", reaching_parents),
        Test::new("sandbox: passthru needs the parent itself", passthru),
        Test::new("sandbox: tunnel endpoints need their underlay, bridge and name", tunnels),
        Test::new("sandbox: only so many macvlans are made", flood),
        Test::new("sandbox: links are put on others by ADD only", commands),
    ]
}

/// The rule with a parent.
fn rule() -> String {
    rule_with("parents = [\"up1\"]", "")
}

/// The rule with keys that it does not have, and other links.
fn rule_with(keys: &str, links: &str) -> String {
    RULE.replace("[\"veth\"]", "[\"veth\", \"macvlan\", \"vxlan\"]")
        .replace("[\"hv*\"]", &format!("[\"hv*\"{links}]"))
        .replace("sysctls =", &format!("{keys}\nvnis = \"7\"\nsysctls ="))
}

fn macvlan(parent: &str) -> Value {
    json!({ "do": "create-macvlan", "name": "eth0", "parent": parent })
}

fn with(mut step: Value, more: Value) -> Value {
    for (key, value) in more.as_object().into_iter().flatten() {
        step[key] = value.clone();
    }
    step
}

fn without_rule() -> anyhow::Result<()> {
    let stage = Stage::new(RULE)?;
    // What it may not see, and what it may see for something else.
    stage.fails(json!([macvlan("up0")]), &Expected::denied("link", &["up0", "hv*"]))?;
    let denied = Expected::denied("create-macvlan", &["br-h", "parents = [\"br-h\"]", "policy.toml"]);
    stage.fails(json!([macvlan("br-h")]), &denied)?;
    stage.fails(json!([with(macvlan("br-h"), json!({ "target": "host", "name": "hv0" }))]), &denied)?;
    // The kind alone does not do, nor the parent alone.
    stage.write_policy(&rule_with("parents = []", ""))?;
    stage.fails(json!([macvlan("br-h")]), &denied)?;
    stage.write_policy(&RULE.replace("sysctls =", "parents = [\"br-h\"]\nsysctls ="))?;
    let denied = Expected::denied("create-macvlan", &["br-h", "link-kinds = [\"veth\", \"macvlan\"]"]);
    stage.fails(json!([macvlan("br-h")]), &denied)?;
    // Another tenant's bridge.
    stage.write_policy(&rule())?;
    stage.fails(json!([macvlan("br-calm")]), &Expected::denied("link", &["br-calm"]))?;
    // Its own link is a link of the node like others.
    let pair = json!({ "do": "create-veth", "near": "hv0", "far": "hv1", "far-side": "host" });
    let denied = Expected::denied("create-macvlan", &["hv0", "parents ="]);
    stage.fails(json!([pair, macvlan("hv0")]), &denied).map(drop)
}

fn denied_parent() -> anyhow::Result<()> {
    let stage = Stage::new(&rule())?;
    for (key, deny) in [("parents", "up1"), ("links", "up*"), ("bridges", "?p1")] {
        let deny = format!("[[deny]]\nname = \"uplink\"\n{key} = [\"{deny}\"]\n");
        // It sees the link, as it may make ones of that name.
        stage.write_policy(&format!("{}{deny}", rule_with("parents = [\"up*\"]", ", \"up1\"")))?;
        if key != "links" {
            let denied = Expected::denied("create-macvlan", &["up1", "rule \"uplink\"", "forbids it"]);
            stage.fails(json!([macvlan("up1")]), &denied)?;
            let tunnel = json!({ "do": "create-vxlan", "name": "hv0", "vni": 7, "underlay": "up1" });
            stage.fails(json!([tunnel]), &Expected::denied("create-vxlan", &["up1", "forbids it"]))?;
        }
        stage.write_policy(&format!("{}{deny}", rule_with("parents = [\"up*\"]", "")))?;
        stage.fails(json!([macvlan("up1")]), &Expected::denied("link", &["up1"]))?;
    }
    Ok(())
}

fn other_names() -> anyhow::Result<()> {
    let stage = Stage::new(&rule_with("parents = [\"uplink\"]", ""))?;
    // It is another name of up0, which no rule names.
    stage.fails(json!([macvlan("uplink")]), &Expected::denied("link", &["up0"]))?;
    stage.write_policy(&rule_with("parents = [\"uplink\"]", ", \"up0\""))?;
    let denied =
        Expected::denied("create-macvlan", &["on the link \"up0\"", "parents = [\"uplink\", \"up0\"]"]);
    stage.fails(json!([macvlan("uplink")]), &denied).map(drop)
}

fn parents_only() -> anyhow::Result<()> {
    let stage = Stage::new(&rule_with("parents = [\"up*\", \"br-calm\"]", ""))?;
    for link in ["up1", "uplink", "br-calm"] {
        for (mut step, operation) in changes() {
            step["link"] = link.into();
            let real = if link == "uplink" { "up0" } else { link };
            stage.fails(json!([step]), &Expected::denied(operation, &[real]))?;
        }
    }
    let pair =
        |bridge: Option<&str>| json!({ "do": "create-veth", "near": "hv0", "far": "eth0", "bridge": bridge });
    stage.fails(json!([pair(Some("br-calm"))]), &Expected::denied("create-veth", &["br-calm"]))?;
    let attach = json!({ "do": "attach", "link": "hv0", "bridge": "br-calm" });
    stage.fails(json!([pair(None), attach]), &Expected::denied("attach-to", &["br-calm"])).map(drop)
}

fn sides() -> anyhow::Result<()> {
    let stage = Stage::new(&rule_with("parents = [\"*\"]", ""))?;
    let of_the_container = with(macvlan("eth1"), json!({ "parent-side": "container" }));
    stage.fails(json!([of_the_container]), &Expected::failure(7, &["eth1", "in the other namespace"]))?;
    let of_the_node = with(macvlan("up1"), json!({ "side": "container", "parent-side": "host" }));
    stage.fails(
        json!([json!({ "do": "find", "link": "up1" }), with(of_the_node, json!({ "parent-side": null }))]),
        &Expected::failure(7, &["up1", "in the other namespace"]),
    )?;
    // Another network's interface in the container.
    let in_the_container = with(macvlan("eth1"), json!({ "side": "container" }));
    stage.fails(json!([in_the_container]), &Expected::denied("create-macvlan", &["eth1"]))?;
    let out = with(in_the_container, json!({ "target": "host", "name": "hv0" }));
    stage.fails(json!([out]), &Expected::failure(7, &["it stays in the container"]))?;
    let tunnel = json!({ "do": "create-vxlan", "side": "container", "name": "hv0", "vni": 7 });
    stage.fails(json!([tunnel]), &Expected::failure(7, &["no place in a container"]))?;
    // Where only the container's namespace is allowed, there is no parent.
    stage.write_policy(&rule().replace("[\"container\", \"host\"]", "[\"container\"]"))?;
    let expected = Expected::denied("host", &["work in the node's namespace"]);
    stage.fails(json!([macvlan("up1")]), &expected)?;
    stage
        .fails(json!([with(macvlan("eth0"), json!({ "side": "container", "target": "host" }))]), &expected)
        .map(drop)
}

fn names() -> anyhow::Result<()> {
    let everything = rule_with("parents = [\"*\"]", ", \"*\"")
        .replace("[\"br-h\"]", "[\"*\"]")
        .replace("[\"veth\", ", "[\"veth\", \"bridge\", ");
    let mut stage = Stage::new(&everything)?;
    let on_node = json!({ "target": "host" });
    let each = |name: &str| {
        let named = json!({ "name": name });
        [
            with(with(macvlan("up1"), on_node.clone()), named.clone()),
            with(json!({ "do": "create-vxlan", "vni": 7, "underlay": "up1" }), named.clone()),
            with(json!({ "do": "create-bridge" }), named),
            json!({ "do": "create-veth", "near": name, "far": "hv9" }),
            json!({ "do": "create-veth", "near": "hv9", "far": name, "far-side": "host" }),
        ]
    };
    for name in TRICKS {
        let expected = Expected::failure(7, &["is no name for a link"]);
        for step in each(name) {
            stage.fails(json!([step]), &expected)?;
        }
        stage.fails(json!([with(macvlan("up1"), json!({ "name": name }))]), &expected)?;
    }
    // Only veth pairs are given names.
    for step in each("").into_iter().filter(|step| step["do"] != "create-veth") {
        stage.fails(json!([step]), &Expected::failure(7, &["\"\" is no name for a link"]))?;
    }
    // What exists stays what it is, by whichever of its names.
    for name in ["lo", "up0", "uplink", "br-h", "br-calm"] {
        for step in each(name) {
            stage.fails(json!([step]), &Expected::failure(105, &["File exists"]))?;
        }
    }
    for name in ["lo", "eth1"] {
        let inside = with(macvlan("up1"), json!({ "name": name }));
        stage.fails(json!([inside]), &Expected::failure(105, &[name, "File exists"]))?;
    }
    // Another attachment's link, of the same kind, also if the call is killed
    // before the link is made, and if both have one address.
    stage.lab.on_node("ip link add link up1 name hv5 address 02:00:00:00:00:05 type macvlan mode bridge")?;
    stage.accept()?;
    for step in each("hv5") {
        stage.fails(json!([step]), &Expected::failure(105, &["File exists"]))?;
    }
    let [taken, ..] = each("hv5");
    let killed = |step: Value| stage.call("ADD", json!([step])).variable("WEIR_FAULT", "kill-before:1");
    let alike = with(taken.clone(), json!({ "mac": "02:00:00:00:00:05" }));
    stage.call_fails(&killed(alike), &Expected::failure(105, &["File exists"]))?;
    let output = stage.lab.node.enter(|| killed(taken).program().run())?;
    ensure!(output.status.signal() == Some(nix::libc::SIGKILL), "{}", output.status);
    stage.answer(&stage.call("DEL", json!([])))?.silence()?;
    stage.unchanged()?;
    // Without a rule for the name.
    stage.write_policy(&rule())?;
    for name in ["lo", "eth0", "up0", "br-h", "new0"] {
        for (step, operation) in each(name).into_iter().zip(["create-macvlan", "create-vxlan"]) {
            stage.fails(json!([step]), &Expected::denied(operation, &[name, "links = ["]))?;
        }
    }
    Ok(())
}

fn misfits() -> anyhow::Result<()> {
    let stage = Stage::new(&rule_with("parents = [\"up1\", \"hv*\", \"port1\", \"port0\"]", ""))?;
    let large = with(macvlan("up1"), json!({ "mtu": 1501 }));
    stage.fails(json!([large]), &Expected::failure(7, &["MTU 1501 is above the parent's, which is 1500"]))?;
    let small = with(macvlan("up1"), json!({ "mtu": 1 }));
    stage.fails(json!([small]), &Expected::failure(105, &["eth0"]))?;
    // The kernel would put the second one on the parent of the first one.
    let first = with(macvlan("up1"), json!({ "target": "host", "name": "hv1" }));
    let second = Expected::failure(7, &["hv1 is a macvlan itself"]);
    stage.fails(json!([first, macvlan("hv1")]), &second)?;
    let inside = with(macvlan("eth0"), json!({ "side": "container", "name": "eth7" }));
    let second = Expected::failure(7, &["eth0 is a macvlan itself"]);
    stage.fails(json!([macvlan("up1"), inside]), &second)?;
    stage.fails(json!([macvlan("port0")]), &Expected::failure(11, &["port0 is a port of a bridge"])).map(drop)
}

fn reaching_parents() -> anyhow::Result<()> {
    let mut stage = Stage::new(&rule_with("parents = [\"up1\"]", ", \"up1\""))?;
    stage.lab.in_container(0, "ip link add hb0 type bridge")?;
    stage.accept()?;
    for more in [json!({}), json!({ "mode": "passthru" }), json!({ "target": "host", "name": "hv0" })] {
        let made = with(macvlan("up1"), more.clone());
        let (link, side, bridge) = match more["target"].is_null() {
            true => ("eth0", "container", "hb0"),
            false => ("hv0", "host", "br-h"),
        };
        let promiscuous = json!({ "do": "set-promiscuous", "link": link });
        let denied = Expected::denied("set-promiscuous", &["its parent would receive every frame"]);
        stage.fails(json!([made, promiscuous]), &denied)?;
        let attach = json!({ "do": "attach", "link": link, "side": side, "bridge": bridge });
        let denied = Expected::denied("attach-to", &["its parent would receive every frame"]);
        stage.fails(json!([made, attach]), &denied)?;
        if more["mode"] == "passthru" {
            let mac = json!({ "do": "set-mac", "link": link, "mac": "02:00:00:00:00:99" });
            stage
                .fails(json!([made, mac]), &Expected::denied("set-mac", &["its address is its parent's"]))?;
        }
    }
    Ok(())
}

fn passthru() -> anyhow::Result<()> {
    let stage = Stage::new(&rule())?;
    let only = with(macvlan("up1"), json!({ "mode": "passthru" }));
    let denied =
        Expected::denied("create-macvlan", &["take over the link \"up1\"", "links = [\"hv*\", \"up1\"]"]);
    stage.fails(json!([only]), &denied)?;
    // In that mode the address is not the guest's to choose.
    stage.write_policy(&rule_with("parents = [\"up1\"]", ", \"up1\""))?;
    let with_mac = with(only.clone(), json!({ "mac": "02:00:00:00:00:99" }));
    stage.fails(json!([with_mac]), &Expected::failure(7, &["has the parent's hardware address"]))?;
    let second = with(macvlan("up1"), json!({ "name": "eth7" }));
    stage.fails(json!([only, second]), &Expected::failure(105, &["eth7 on up1"]))?;
    // Whoever is there is not shut out.
    let first = with(macvlan("up1"), json!({ "name": "eth7" }));
    stage.fails(json!([first, only]), &Expected::failure(105, &["eth0 on up1"])).map(drop)
}

fn tunnels() -> anyhow::Result<()> {
    let mut stage = Stage::new(RULE)?;
    let tunnel = |more: Value| with(json!({ "do": "create-vxlan", "name": "hv0", "vni": 7 }), more);
    let denied = |words: &[&str]| Expected::denied("create-vxlan", words);
    stage.fails(json!([tunnel(json!({}))]), &denied(&["vxlan", "parents = [\"*\"]"]))?;
    stage.write_policy(&rule())?;
    stage.fails(
        json!([tunnel(json!({}))]),
        &denied(&["every link of the node", "parents = [\"up1\", \"*\"]"]),
    )?;
    stage.fails(json!([tunnel(json!({ "underlay": "br-h" }))]), &denied(&["br-h", "parents"]))?;
    let on = |more: Value| tunnel(with(json!({ "underlay": "up1" }), more));
    stage.fails(json!([on(json!({ "name": "eth0" }))]), &denied(&["eth0", "links"]))?;
    stage.fails(json!([on(json!({ "name": "hv%d" }))]), &Expected::failure(7, &["no name"]))?;
    stage.fails(json!([on(json!({ "bridge": "br-calm" }))]), &Expected::denied("link", &["br-calm"]))?;
    stage.fails(json!([on(json!({ "vni": 8 }))]), &denied(&["network 8", "vnis = [\"7\", \"8\"]"]))?;
    // It would learn any neighbor.
    for (more, word) in [(json!({}), "0.0.0.0/0"), (json!({ "local": "fd00::1" }), "::/0")] {
        let learning = with(more, json!({ "learning": true }));
        stage.fails(json!([on(learning)]), &denied(&[word, "neighbors"]))?;
    }
    for (more, word) in [
        (json!({ "vni": 1 << 24 }), "24 bits"),
        (json!({ "port": 53 }), "belongs to the node"),
        (json!({ "port": 0 }), "belongs to the node"),
        (json!({ "mtu": 1451 }), "50 bytes of headers"),
        (json!({ "mtu": 1431, "local": "fd00::1" }), "70 bytes of headers"),
    ] {
        stage.fails(json!([on(more)]), &Expected::failure(7, &[word]))?;
    }
    stage.fails(json!([on(json!({ "bridge": "up1" }))]), &denied(&["up1", "bridge"]))?;
    // One that somebody else made.
    stage.lab.on_node("ip link add vx9 type vxlan id 7 dstport 4789 dev up0")?;
    stage.accept()?;
    let busy = Expected::failure(105, &["VXLAN device with the specified VNI already exists"]);
    stage.fails(json!([on(json!({}))]), &busy)?;
    stage.fails(json!([{ "do": "find", "link": "vx9" }]), &Expected::denied("link", &["vx9"]))?;
    stage.write_policy(&rule_with("parents = [\"up1\", \"vx9\"]", ""))?;
    for (mut step, operation) in changes() {
        step["link"] = "vx9".into();
        stage.fails(json!([step]), &Expected::denied(operation, &["vx9"]))?;
    }
    Ok(())
}

fn flood() -> anyhow::Result<()> {
    let limited = format!("{}[allow.limits]\nchanges = 5\n", rule());
    let stage = Stage::new(&limited)?;
    let steps: Vec<Value> =
        (0..20).map(|number| with(macvlan("up1"), json!({ "name": format!("m{number}") }))).collect();
    stage.fails(steps.into(), &Expected::failure(103, &["more than 5 changes"]))?;
    let refused = with(macvlan("br-h"), json!({ "anyway": true, "times": 20 }));
    stage.fails(json!([refused]), &Expected::failure(103, &["more than 5 changes"])).map(drop)
}

fn commands() -> anyhow::Result<()> {
    let stage = Stage::new(&rule())?;
    let on_node = with(macvlan("up1"), json!({ "target": "host", "name": "hv0" }));
    let tunnel = json!({ "do": "create-vxlan", "name": "hv0", "vni": 7, "underlay": "up1" });
    for command in ["CHECK", "STATUS", "GC", "DEL"] {
        for (step, operation) in [(&on_node, "create-macvlan"), (&tunnel, "create-vxlan")] {
            let expected = Expected::denied(operation, &["plugin hostile", command]);
            stage.call_fails(&stage.call(command, json!([step])), &expected)?;
        }
    }
    for command in ["CHECK", "DEL"] {
        let expected = Expected::denied("create-macvlan", &["plugin hostile", command]);
        stage.call_fails(&stage.call(command, json!([macvlan("up1")])), &expected)?;
    }
    Ok(())
}
