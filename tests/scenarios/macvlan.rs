//! A plugin of others that puts macvlan links on links of the node, as far as
//! a rule lets it.

pub(super) mod scene;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use scene::{POLICY, Scene, after, station};

use crate::Test;
use crate::lab::{Call, Plugins, Reply, line, reaches};

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new("macvlan: two containers on one parent reach each other", traffic),
        Test::new("macvlan: the link is what the native plugin makes", parity),
        Test::new("macvlan: DEL and GC leave nothing, and nothing else is taken", removal),
        Test::new("macvlan: an ADD that ends at any change leaves nothing", interrupted),
        Test::new("macvlan: what the node calls its links does not matter in a container", same_names),
        Test::new("macvlan: a plan says what ADD does, and does nothing", plan),
        Test::new("macvlan: passthru has the parent and gives it back", passthru),
    ]
}

/// More changes than this mean that a fault never ends.
const LIMIT: u32 = 20;

fn traffic() -> anyhow::Result<()> {
    for parent in ["up0", "br0"] {
        let scene = Scene::new(2)?;
        let before = scene.settled()?;
        for (number, address) in ["10.5.0.2", "10.5.0.3"].into_iter().enumerate() {
            scene.add(number, &station(parent, json!({}), address))?;
        }
        for (number, other) in [(0, "10.5.0.3"), (1, "10.5.0.2")] {
            ensure!(
                reaches(&scene.lab.containers[number].namespace, other.parse()?)?,
                "{number} does not reach {other} on {parent}"
            );
        }
        for number in 0..2 {
            scene.del(number)?;
        }
        scene.unchanged(&before)?;
        for (number, address) in ["10.5.0.2", "10.5.0.3"].into_iter().enumerate() {
            scene.add(number, &station(parent, json!({ "mode": "private" }), address))?;
        }
        ensure!(
            !reaches(&scene.lab.containers[0].namespace, "10.5.0.3".parse()?)?,
            "private links reach each other"
        );
    }
    Ok(())
}

fn parity() -> anyhow::Result<()> {
    let directory = Plugins::native_directory()?;
    for mode in ["bridge", "private", "vepa", "passthru"] {
        for mtu in [0, 1400] {
            let scene = Scene::new(1)?;
            scene.write_policy(&POLICY.replace("\"hv*\"", "\"hv*\", \"up0\""))?;
            let more = json!({ "mode": mode, "mtu": mtu });
            scene.add(0, &station("up0", more, "10.5.0.2"))?;
            let ours = scene.link(0, "eth0")?;
            scene.del(0)?;
            let config = json!({
                "cniVersion": "1.0.0", "name": "n", "type": "macvlan", "master": "up0", "mode": mode, "mtu": mtu,
                "ipam": { "type": "static", "addresses": [{ "address": "10.5.0.2/24" }] }
            });
            let native = |command: &str| {
                Call::new(directory.join("macvlan"), command, &directory)
                    .variable("CNI_CONTAINERID", "native")
                    .variable("CNI_NETNS", &scene.lab.containers[0].path)
                    .variable("CNI_IFNAME", "eth0")
                    .config(&config)
            };
            scene.lab.run(&native("ADD"))?.success().context("ADD of the native plugin")?;
            let theirs = scene.link(0, "eth0")?;
            scene.lab.run(&native("DEL"))?.silence()?;
            ensure!(ours["linkinfo"]["info_data"]["mode"] == mode, "the link is {ours}");
            let state = |link: &Value| {
                let mut link = link.clone();
                // The native plugin turns off a queue that nothing uses. What the
                // kernel finds out about the parent, it tells later.
                for key in ["ifindex", "address", "txqlen", "operstate"] {
                    link[key] = Value::Null;
                }
                link
            };
            ensure!(
                state(&ours) == state(&theirs),
                "{mode} {mtu}: it is\n{ours}\nand of the native plugin\n{theirs}"
            );
            if mode == "passthru" {
                ensure!(ours["address"] == theirs["address"], "it is\n{ours}\nand\n{theirs}");
            }
        }
    }
    Ok(())
}

fn removal() -> anyhow::Result<()> {
    let scene = Scene::new(2)?;
    let before = scene.settled()?;
    // By the component, with a pair whose way back has to stay in the journal.
    let pair = json!({ "do": "create-veth", "near": "hv0", "far": "eth9" });
    let steps = after(&pair, &station("up0", json!({}), "10.5.0.2"));
    scene.add(0, &steps)?;
    let remove = json!([{ "do": "remove", "link": "eth0", "side": "container" }]);
    scene.lab.run(&scene.call("DEL", 0, &remove))?.silence()?;
    scene.unchanged(&before)?;
    // From the journal.
    scene.add(0, &station("up0", json!({}), "10.5.0.2"))?;
    scene.add(1, &station("up0", json!({}), "10.5.0.3"))?;
    scene.del(0)?;
    ensure!(scene.link(1, "eth0").is_ok(), "the neighbour's link is gone");
    scene.lab.run(&scene.call("GC", 0, &json!([])))?.silence()?;
    scene.unchanged(&before)?;
    // The runtime has forgotten the container's namespace, which lives on.
    scene.add(0, &station("up0", json!({}), "10.5.0.2"))?;
    let forgotten = scene.call("DEL", 0, &json!([])).variable("CNI_NETNS", "");
    scene.lab.run(&forgotten)?.silence().context("DEL with an empty CNI_NETNS")?;
    scene.unchanged(&before)?;
    // The same, and weir itself fails.
    scene.add(0, &steps)?;
    let remove = json!([{ "do": "remove", "link": "hv0", "side": "host" }]);
    let failing = scene.call("DEL", 0, &remove).variable("CNI_NETNS", "");
    let failing = failing.variable("WEIR_FAULT", "panic-before:1");
    scene.lab.run(&failing)?.silence().context("DEL in which weir fails")?;
    scene.unchanged(&before)?;
    // Another link of that name is not taken for it.
    scene.add(0, &station("up0", json!({}), "10.5.0.2"))?;
    scene.lab.in_container(0, "ip link delete eth0")?;
    scene.lab.in_container(0, "ip link add eth0 type bridge")?;
    scene.del(0)?;
    scene.lab.in_container(0, "ip link delete eth0")?;
    scene.unchanged(&before)
}

fn interrupted() -> anyhow::Result<()> {
    let scene = Scene::new(1)?;
    let before = scene.settled()?;
    let on_node = json!({ "do": "create-macvlan", "name": "hv0", "parent": "up0", "target": "host" });
    for (parent, mode) in [("up0", "bridge"), ("br0", "private")] {
        let steps = after(&on_node, &station(parent, json!({ "mode": mode }), "10.5.0.2"));
        'faults: for kind in ["trap", "kill"] {
            for change in 1..LIMIT {
                for moment in ["before", "after"] {
                    let fault = format!("{kind}-{moment}:{change}");
                    let call = scene.call("ADD", 0, &steps).variable("WEIR_FAULT", &fault);
                    let output = scene.lab.node.enter(|| call.program().run())?;
                    let is_done = output.status.success();
                    if kind == "trap" && !is_done {
                        let Reply::Failure(error) = Reply::read(&output)? else { anyhow::bail!("{fault}") };
                        ensure!(error.code == 101, "{fault}: {error:?}");
                        scene.unchanged(&before).with_context(|| fault.clone())?;
                    }
                    scene.del(0)?;
                    scene.unchanged(&before).context(fault)?;
                    if is_done {
                        ensure!(change > 3, "ADD makes {change} changes");
                        continue 'faults;
                    }
                }
            }
            anyhow::bail!("ADD makes more than {LIMIT} changes");
        }
    }
    Ok(())
}

fn same_names() -> anyhow::Result<()> {
    let scene = Scene::new(1)?;
    scene.lab.on_node("ip link add eth0 type bridge")?;
    let before = scene.settled()?;
    scene.add(0, &station("up0", json!({}), "10.5.0.2"))?;
    ensure!(scene.link(0, "eth0")?["linkinfo"]["info_kind"] == "macvlan", "there is no macvlan");
    scene.del(0)?;
    scene.unchanged(&before)
}

fn plan() -> anyhow::Result<()> {
    let scene = Scene::new(1)?;
    scene.settled()?;
    let steps = |name: &str| {
        let tunnel =
            json!({ "do": "create-vxlan", "name": name, "vni": 7, "underlay": "up0", "bridge": "br0" });
        after(&tunnel, &station("up0", json!({}), "10.5.0.2"))
    };
    let planned = |command: &str, steps: Value| -> anyhow::Result<Value> {
        let before = scene.state()?;
        let config = json!({ "cniVersion": "1.1.0", "name": "stations", "type": "hostile", "attack": { "ADD": steps } });
        let bin = scene.lab.bin.display().to_string();
        let netns = scene.lab.containers[0].path.display().to_string();
        let program = line(&format!(
            "{bin}/weir plan --json --config - --cni-path {bin} --netns {netns} --command {command} --container-id c1 --ifname eth0"
        ))
        .variable("WEIR_STATE_DIR", scene.lab.path("weir"))
        .variable("WEIR_POLICY_DIR", scene.lab.path("policy"))
        .variable("WEIR_AUDIT_FILE", scene.lab.path("audit.jsonl"))
        .variable("TMPDIR", scene.lab.path(""))
        .input(config.to_string());
        let output = scene.lab.node.enter(|| program.run())?;
        scene.unchanged(&before)?;
        serde_json::from_str(&output.stdout).with_context(|| format!("{}{}", output.stdout, output.stderr))
    };
    let value = planned("add", steps("hv0"))?;
    ensure!(value["outcome"] == "success", "it says {value}");
    let find = |value: &Value, name: &str| {
        let all = value["operations"].as_array().cloned().unwrap_or_default();
        all.into_iter()
            .find(|operation| operation["operation"] == name)
            .with_context(|| format!("no {name} in {value}"))
    };
    let place =
        |line: u32| format!("{}:{line} (rule \"stations\")", scene.lab.path("policy/policy.toml").display());
    let made = find(&value, "create-macvlan")?;
    ensure!(made["rules"] == json!([place(10)]) && made["allowed"] == true, "it is {made}");
    let tunnel = find(&value, "create-vxlan")?;
    ensure!(tunnel["rules"] == json!([place(10), place(8), place(11), place(9)]), "it is {tunnel}");
    ensure!(value["result"]["interfaces"][0]["name"] == "eth0", "it says {value}");
    // And what would be refused, by the policy or for what is there.
    let denied = planned("add", steps("evil0"))?;
    ensure!(
        find(&denied, "create-vxlan")?["allowed"] == false && denied["error"]["code"] == 100,
        "it says {denied}"
    );
    let twice = json!([steps("hv0")[1], steps("hv0")[1]]);
    ensure!(planned("add", twice)?["error"]["code"] == 105, "a name was given twice");
    let reply = scene.add(0, &steps("hv0"))?;
    ensure!(reply["interfaces"] == value["result"]["interfaces"], "it is {reply}, planned was {value}");
    scene.settled()?;
    let value = planned("del", json!([]))?;
    let list = value["operations"].as_array().context("it has operations")?;
    let done: Vec<&str> = list.iter().filter_map(|operation| operation["object"].as_str()).collect();
    ensure!(done == ["eth0 in the container namespace"], "it says {value}");
    Ok(())
}

fn passthru() -> anyhow::Result<()> {
    let scene = Scene::new(1)?;
    scene.write_policy(&POLICY.replace("\"hv*\"", "\"hv*\", \"up0\""))?;
    let before = scene.settled()?;
    scene.add(0, &station("up0", json!({ "mode": "passthru" }), "10.5.0.2"))?;
    let during = scene.state()?;
    ensure!(
        during["node/link/up0/promiscuity"] != before["node/link/up0/promiscuity"],
        "it is not promiscuous"
    );
    scene.del(0)?;
    scene.unchanged(&before)?;
    scene.add(0, &station("up0", json!({ "mode": "passthru" }), "10.5.0.2"))?;
    let remove = json!([{ "do": "remove", "link": "eth0", "side": "container" }]);
    scene.lab.run(&scene.call("DEL", 0, &remove))?.silence()?;
    scene.unchanged(&before)
}
