//! A plugin of others that puts macvlan links and tunnel endpoints on links of
//! the node, as far as a rule lets it.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::Test;
use crate::lab::{Call, Facts, Lab, Plugins, Reply, changes, line, reaches, weir};
use crate::sandbox::copy_hostile_store;

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new("macvlan: two containers on one parent reach each other", traffic),
        Test::new("macvlan: the link is what the native plugin makes", parity),
        Test::new("macvlan: DEL and GC leave nothing, and nothing else is taken", removal),
        Test::new("macvlan: an ADD that ends at any change leaves nothing", interrupted),
        Test::new("macvlan: what the node calls its links does not matter in a container", same_names),
        Test::new("macvlan: a plan says what ADD does, and does nothing", plan),
        Test::new("macvlan: passthru has the parent and gives it back", passthru),
        Test::new("vxlan: an endpoint is shared, and used again by who finds it", tunnel),
    ]
}

/// More changes than this mean that a fault never ends.
const LIMIT: u32 = 20;

/// How long the kernel may take to finish what it does by itself.
const SETTLE_TIME: Duration = Duration::from_secs(10);

const POLICY: &str = r#"
[[allow]]
name = "stations"
plugin = "hostile"
interfaces = ["*"]
namespaces = ["container", "host"]
link-kinds = ["macvlan", "veth", "vxlan"]
links = ["hv*"]
bridges = ["br0"]
parents = ["up0", "br0"]
addresses = ["10.5.0.0/24"]
routes = ["10.6.0.0/24"]
"#;

/// A node with an uplink and a bridge, and containers.
struct Scene {
    lab: Lab,
}

impl Scene {
    fn new(containers: usize) -> anyhow::Result<Self> {
        let mut lab = Lab::new(Plugins::Weir)?;
        for _ in 0..containers {
            lab.add_container()?;
        }
        copy_hostile_store(&lab.path("weir"))?;
        symlink(weir(), lab.bin.join("hostile"))?;
        let policy = lab.path("policy");
        fs::create_dir(&policy)?;
        for directory in [&lab.path("weir"), &policy] {
            fs::set_permissions(directory, Permissions::from_mode(0o755))?;
        }
        let program = line("ip -batch -").input(
            "link add up0 type veth peer name up1\nlink set up0 up\nlink set up1 up\n\
             link add br0 address 02:00:00:00:00:66 type bridge\nlink set br0 up\n\
             link add port0 type veth peer name port1\nlink set port0 master br0 up\nlink set port1 up\naddress add 192.0.2.1/24 dev up0\n",
        );
        lab.node.enter(|| program.succeed())?;
        let scene = Self { lab };
        scene.write_policy(POLICY)?;
        Ok(scene)
    }

    fn write_policy(&self, text: &str) -> anyhow::Result<()> {
        let path = self.lab.path("policy/policy.toml");
        fs::write(&path, text)?;
        Ok(fs::set_permissions(&path, Permissions::from_mode(0o644))?)
    }

    /// A call of the plugin with what it is to do.
    fn call(&self, command: &str, number: usize, steps: &Value) -> Call {
        let config = json!({
            "cniVersion": "1.1.0", "name": "stations", "type": "hostile", "prevResult": {},
            "cni.dev/valid-attachments": [], "attack": { (command): steps }
        });
        let call = match command {
            "GC" => self.lab.call("hostile", command),
            _ => self.lab.call_for("hostile", command, &self.lab.containers[number], "eth0"),
        };
        call.config(&config)
    }

    fn add(&self, number: usize, steps: &Value) -> anyhow::Result<Value> {
        self.lab.run(&self.call("ADD", number, steps))?.success().context("ADD")
    }

    fn del(&self, number: usize) -> anyhow::Result<()> {
        self.lab.run(&self.call("DEL", number, &json!([])))?.silence().context("DEL")
    }

    /// The state, without what the kernel changes by itself for a second after
    /// a link came up.
    fn state(&self) -> anyhow::Result<Facts> {
        let mut facts = self.lab.digest()?;
        facts.retain(|key, _| !key.ends_with("/operstate"));
        for value in facts.values_mut() {
            *value = value.replace(" tentative", "");
        }
        Ok(facts)
    }

    fn settled(&self) -> anyhow::Result<Facts> {
        let deadline = Instant::now() + SETTLE_TIME;
        let mut state = self.state()?;
        loop {
            thread::sleep(Duration::from_millis(100));
            let next = self.state()?;
            let has_carrier = ["up0", "br0"].iter().all(|link| {
                next.get(&format!("node/link/{link}/flags")).is_some_and(|flags| flags.contains("LOWER_UP"))
            });
            if (next == state && has_carrier) || Instant::now() > deadline {
                return Ok(next);
            }
            state = next;
        }
    }

    fn unchanged(&self, before: &Facts) -> anyhow::Result<()> {
        let deadline = Instant::now() + SETTLE_TIME;
        loop {
            let left = changes(before, &self.state()?);
            if left.is_empty() {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "this is not as it was before:\n  {}", left.join("\n  "));
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// What the kernel says of a container's link.
    fn link(&self, number: usize, name: &str) -> anyhow::Result<Value> {
        let text = self.lab.in_container(number, &format!("ip -details -json link show {name}"))?;
        let links: Value = serde_json::from_str(&text)?;
        Ok(links[0].clone())
    }
}

/// The steps that give a container an address on a parent.
fn station(parent: &str, more: Value, address: &str) -> Value {
    let mut made = json!({ "do": "create-macvlan", "name": "eth0", "parent": parent });
    for (key, value) in more.as_object().into_iter().flatten() {
        made[key] = value.clone();
    }
    json!([
        made,
        { "do": "add-address", "link": "eth0", "address": address, "length": 24 },
        { "do": "answer-interface", "name": "eth0" },
        { "do": "answer-address", "address": address, "length": 24, "interface": 0 },
    ])
}

/// The steps with another one before them.
fn after(first: &Value, steps: &Value) -> Value {
    [first].into_iter().chain(steps.as_array().into_iter().flatten()).cloned().collect()
}

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
    let Plugins::Native(directory) = Plugins::native()? else { anyhow::bail!("there are no native plugins") };
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
                // The native plugin turns off a queue that nothing uses.
                for key in ["ifindex", "address", "txqlen"] {
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
    let before = scene.settled()?;
    let steps = |name: &str| {
        let tunnel =
            json!({ "do": "create-vxlan", "name": name, "vni": 7, "underlay": "up0", "bridge": "br0" });
        after(&tunnel, &station("up0", json!({}), "10.5.0.2"))
    };
    let planned = |steps: Value| -> anyhow::Result<Value> {
        let config = json!({ "cniVersion": "1.1.0", "name": "stations", "type": "hostile", "attack": { "ADD": steps } });
        let bin = scene.lab.bin.display().to_string();
        let netns = scene.lab.containers[0].path.display().to_string();
        let program = line(&format!(
            "{bin}/weir plan --json --config - --cni-path {bin} --netns {netns} --container-id c1 --ifname eth0"
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
    let value = planned(steps("hv0"))?;
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
    ensure!(tunnel["rules"] == json!([place(10), place(8), place(9)]), "it is {tunnel}");
    ensure!(value["result"]["interfaces"][0]["name"] == "eth0", "it says {value}");
    // And what would be refused, by the policy or for what is there.
    let denied = planned(steps("evil0"))?;
    ensure!(
        find(&denied, "create-vxlan")?["allowed"] == false && denied["error"]["code"] == 100,
        "it says {denied}"
    );
    let twice = json!([steps("hv0")[1], steps("hv0")[1]]);
    ensure!(planned(twice)?["error"]["code"] == 105, "a name was given twice");
    let reply = scene.add(0, &steps("hv0"))?;
    ensure!(reply["interfaces"] == value["result"]["interfaces"], "it is {reply}, planned was {value}");
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

fn tunnel() -> anyhow::Result<()> {
    let scene = Scene::new(2)?;
    let before = scene.settled()?;
    let make = json!({
        "do": "create-vxlan", "name": "hv0", "vni": 7, "port": 8472, "underlay": "up0", "local": "192.0.2.1",
        "bridge": "br0"
    });
    scene.add(0, &json!([make, { "do": "answer-interface", "name": "hv0", "sandbox": "host" }]))?;
    let text = scene.lab.on_node("ip -details -json link show hv0")?;
    let links: Value = serde_json::from_str(&text)?;
    let (link, data) = (&links[0], &links[0]["linkinfo"]["info_data"]);
    ensure!(link["mtu"] == 1450 && link["master"] == "br0", "it is {link}");
    for (key, value) in [
        ("id", json!(7)),
        ("port", json!(8472)),
        ("link", json!("up0")),
        ("local", json!("192.0.2.1")),
        ("learning", json!(false)),
    ] {
        ensure!(data[key] == value, "{key} is {}: {data}", data[key]);
    }
    // It stays, and whoever comes next finds it and may use it.
    scene.del(0)?;
    ensure!(scene.state()?.contains_key("node/link/hv0/kind"), "it went with the attachment");
    let again = scene.lab.run(&scene.call("ADD", 1, &json!([make])))?.failure()?;
    ensure!(again.text.contains("File exists"), "{}", again.text);
    let address = json!({ "do": "add-address", "link": "hv0", "address": "10.5.0.1", "length": 24 });
    scene.add(1, &json!([{ "do": "set-up", "link": "hv0" }, address]))?;
    for (step, operation) in [("set-down", "set-down"), ("remove", "remove"), ("set-mtu", "set-mtu")] {
        let refused =
            scene.lab.run(&scene.call("ADD", 0, &json!([{ "do": step, "link": "hv0", "mtu": 1300 }])))?;
        let refused = refused.failure()?;
        ensure!(refused.code == 100 && refused.text.contains(operation), "{step}: {refused:?}");
    }
    scene.del(1)?;
    scene.lab.on_node("ip link delete hv0")?;
    scene.unchanged(&before)
}
