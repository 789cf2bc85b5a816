//! A node on which a plugin of others may put links on links.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::lab::{Call, Facts, Lab, Plugins, changes, line, weir};
use crate::sandbox::copy_hostile_store;

/// How long the kernel may take to finish what it does by itself.
const SETTLE_TIME: Duration = Duration::from_secs(10);

/// What an operator allows such a plugin.
pub(in super::super) const POLICY: &str = r#"
[[allow]]
name = "stations"
plugin = "hostile"
interfaces = ["*"]
namespaces = ["container", "host"]
link-kinds = ["macvlan", "veth", "vxlan"]
links = ["hv*"]
bridges = ["br0"]
parents = ["up0", "br0"]
vnis = ["7"]
addresses = ["10.5.0.0/24"]
routes = ["10.6.0.0/24"]
"#;

/// A node with an uplink and a bridge, and containers.
pub(in super::super) struct Scene {
    pub(in super::super) lab: Lab,
}

impl Scene {
    pub(in super::super) fn new(containers: usize) -> anyhow::Result<Self> {
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

    pub(in super::super) fn write_policy(&self, text: &str) -> anyhow::Result<()> {
        let path = self.lab.path("policy/policy.toml");
        fs::write(&path, text)?;
        Ok(fs::set_permissions(&path, Permissions::from_mode(0o644))?)
    }

    /// A call of the plugin with what it is to do.
    pub(in super::super) fn call(&self, command: &str, number: usize, steps: &Value) -> Call {
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

    pub(in super::super) fn add(&self, number: usize, steps: &Value) -> anyhow::Result<Value> {
        self.lab.run(&self.call("ADD", number, steps))?.success().context("ADD")
    }

    pub(in super::super) fn del(&self, number: usize) -> anyhow::Result<()> {
        self.lab.run(&self.call("DEL", number, &json!([])))?.silence().context("DEL")
    }

    /// The state, without what the kernel changes by itself for a second after
    /// a link came up.
    pub(in super::super) fn state(&self) -> anyhow::Result<Facts> {
        let mut facts = self.lab.digest()?;
        facts.retain(|key, _| !key.ends_with("/operstate"));
        for value in facts.values_mut() {
            *value = value.replace(" tentative", "");
        }
        Ok(facts)
    }

    pub(in super::super) fn settled(&self) -> anyhow::Result<Facts> {
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

    pub(in super::super) fn unchanged(&self, before: &Facts) -> anyhow::Result<()> {
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
    pub(in super::super) fn link(&self, number: usize, name: &str) -> anyhow::Result<Value> {
        let text = self.lab.in_container(number, &format!("ip -details -json link show {name}"))?;
        let links: Value = serde_json::from_str(&text)?;
        Ok(links[0].clone())
    }
}

/// The steps that give a container an address on a parent.
pub(in super::super) fn station(parent: &str, more: Value, address: &str) -> Value {
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
pub(in super::super) fn after(first: &Value, steps: &Value) -> Value {
    [first].into_iter().chain(steps.as_array().into_iter().flatten()).cloned().collect()
}
