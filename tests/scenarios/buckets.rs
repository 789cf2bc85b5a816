//! A plugin that hands out addresses in turn, and keeps in its bucket how many
//! there were.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::thread;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::Test;
use crate::lab::{Call, Lab, Plugins, Reply, guest, line};

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new("buckets: a plugin goes on where its last call stopped, also in its next version", counts),
        Test::new("buckets: plugin types and networks count for themselves", separate),
        Test::new("buckets: an ADD that fails or is killed does not count", failures),
        Test::new("buckets: CHECK, GC and STATUS find what ADD kept", other_commands),
        Test::new("buckets: calls at the same time get different numbers", crowd),
        Test::new("buckets: only a plugin that imports the interface gets one", imports),
    ]
}

const POLICY: &str = r#"
[[allow]]
plugin = ["counter", "other"]
interfaces = ["weir:store/bucket"]
addresses = ["10.77.0.0/24"]
"#;

/// How many containers there are.
const CONTAINERS: usize = 8;

/// A node on which the plugin is installed.
struct Desk {
    lab: Lab,
}

impl Desk {
    fn new() -> anyhow::Result<Self> {
        let mut lab = Lab::new(Plugins::Weir)?;
        for _ in 0..CONTAINERS {
            lab.add_container()?;
        }
        fs::create_dir(lab.path("policy"))?;
        let desk = Self { lab };
        for name in ["weir", "policy"] {
            fs::set_permissions(desk.lab.path(name), Permissions::from_mode(0o755))?;
        }
        let policy = desk.lab.path("policy/policy.toml");
        fs::write(&policy, POLICY)?;
        fs::set_permissions(policy, Permissions::from_mode(0o644))?;
        desk.install("counter", "counter")?;
        Ok(desk)
    }

    fn install(&self, name: &str, kind: &str) -> anyhow::Result<()> {
        let component = guest::component(name)?;
        self.weir(&format!("plugin add {} --type {kind}", component.display())).map(drop)
    }

    fn weir(&self, arguments: &str) -> anyhow::Result<String> {
        let program = line(&format!("{} {arguments}", self.lab.bin.join("weir").display()))
            .variable("WEIR_STATE_DIR", self.lab.path("weir"))
            .variable("WEIR_POLICY_DIR", self.lab.path("policy"));
        self.lab.node.enter(|| program.succeed())
    }

    fn call_of(&self, command: &str, kind: &str, network: &str, number: usize) -> Call {
        let config =
            json!({ "cniVersion": "1.1.0", "name": network, "type": kind, "ipam": { "type": kind } });
        self.lab.call_for("weir", command, &self.lab.containers[number], "eth0").config(&config)
    }

    fn call(&self, command: &str, number: usize) -> Call {
        self.call_of(command, "counter", "desk", number)
    }

    /// The last number of the address that ADD hands out.
    fn add_of(&self, kind: &str, network: &str, number: usize) -> anyhow::Result<u8> {
        let result = self.lab.run(&self.call_of("ADD", kind, network, number))?.success()?;
        address(&result)
    }

    fn add(&self, number: usize) -> anyhow::Result<u8> {
        self.add_of("counter", "desk", number)
    }

    fn del(&self, number: usize) -> anyhow::Result<()> {
        self.lab.run(&self.call("DEL", number))?.silence()
    }

    /// How many values the bucket has.
    fn values(&self) -> usize {
        fs::read_dir(self.lab.path("weir/buckets/desk/counter")).map_or(0, Iterator::count)
    }
}

fn address(result: &Value) -> anyhow::Result<u8> {
    let address = result["ips"][0]["address"].as_str();
    let last = address.and_then(|text| text.strip_prefix("10.77.0.")?.strip_suffix("/24"));
    last.with_context(|| format!("the result is {result}"))?.parse().context("read the address")
}

fn counts() -> anyhow::Result<()> {
    let desk = Desk::new()?;
    ensure!((desk.add(0)?, desk.add(1)?) == (1, 2), "it does not count");
    ensure!(desk.values() == 3, "it has {} values", desk.values());
    // Its values need no journal once ADD has succeeded.
    ensure!(fs::read_dir(desk.lab.path("weir/attachments"))?.next().is_none(), "a journal is left");
    desk.del(0)?;
    ensure!(desk.add(0)? == 3, "DEL has taken the count back");
    desk.install("counter-next", "counter")?;
    ensure!(desk.add(2)? == 13, "the next version has another bucket");
    for number in [0, 1, 2, 2] {
        desk.del(number)?;
    }
    ensure!(desk.values() == 1, "DEL leaves {} values", desk.values());
    let text = desk.weir("plugin inspect counter")?;
    ensure!(text.contains("keeps a few values of its own between calls"), "it says {text}");
    Ok(())
}

fn separate() -> anyhow::Result<()> {
    let desk = Desk::new()?;
    desk.install("counter", "other")?;
    desk.add(0)?;
    for (kind, network) in [("other", "desk"), ("counter", "desk-2"), ("other", "desk-2")] {
        ensure!(desk.add_of(kind, network, 0)? == 1, "{kind} in {network} goes on with the count of another");
    }
    ensure!(desk.add(1)? == 2, "it has lost count");
    Ok(())
}

fn failures() -> anyhow::Result<()> {
    let desk = Desk::new()?;
    let mut last = desk.add(0)?;
    for change in [1, 2] {
        for kind in ["trap", "kill", "stall"] {
            for moment in ["before", "after"] {
                let fault = format!("{kind}-{moment}:{change}");
                let call = desk.call("ADD", 1).variable("WEIR_FAULT", &fault);
                let call = if kind == "stall" { call.variable("WEIR_TIMEOUT", "0.5") } else { call };
                let output = desk.lab.node.enter(|| call.program().run())?;
                if kind == "kill" {
                    ensure!(output.status.signal() == Some(nix::libc::SIGKILL), "{fault}: {}", output.status);
                } else {
                    Reply::read(&output)?.failure().context(fault.clone())?;
                    ensure!(desk.values() == 2, "{fault}: it has {} values", desk.values());
                }
                // The next ADD, or the DEL that a runtime sends, cleans up.
                if moment == "before" {
                    desk.del(1)?;
                    ensure!(desk.values() == 2, "{fault}: DEL leaves {} values", desk.values());
                }
                let next = desk.add(1)?;
                ensure!(next == last + 1, "{fault}: {next} follows {last}");
                desk.del(1)?;
                last = next;
            }
        }
    }
    Ok(())
}

fn other_commands() -> anyhow::Result<()> {
    let desk = Desk::new()?;
    let status = desk.lab.call("weir", "STATUS").config(
        &json!({ "cniVersion": "1.1.0", "name": "desk", "type": "counter", "ipam": { "type": "counter" } }),
    );
    desk.lab.run(&status)?.silence()?;
    ensure!(!desk.lab.path("weir/buckets").exists(), "STATUS made a bucket");
    let add = |number: usize| desk.lab.run(&desk.call("ADD", number))?.success();
    let results = [add(0)?, add(1)?];
    let check = |number: usize| {
        let config = json!({
            "cniVersion": "1.1.0", "name": "desk", "type": "counter", "ipam": { "type": "counter" },
            "prevResult": results[number]
        });
        desk.lab.run(&desk.call("CHECK", number).config(&config))
    };
    check(0)?.silence()?;
    check(1)?.silence()?;
    desk.lab.run(&status)?.silence()?;
    let gc = desk.lab.call("weir", "GC").config(&json!({
        "cniVersion": "1.1.0", "name": "desk", "type": "counter", "ipam": { "type": "counter" },
        "cni.dev/valid-attachments": [{ "containerID": "c2", "ifname": "eth0" }]
    }));
    desk.lab.run(&gc)?.silence()?;
    check(1)?.silence()?;
    let error = check(0)?.failure()?;
    ensure!(error.code == 107 && error.text.contains("c1 has no number"), "it says {}", error.text);
    ensure!(desk.values() == 2, "GC leaves {} values", desk.values());
    Ok(())
}

fn crowd() -> anyhow::Result<()> {
    let desk = Desk::new()?;
    let numbers = thread::scope(|scope| {
        let adding: Vec<_> = (0..CONTAINERS)
            .map(|number| {
                scope.spawn({
                    let desk = &desk;
                    move || desk.add(number)
                })
            })
            .collect();
        let numbers = adding.into_iter().map(|one| one.join().map_err(|_| anyhow::anyhow!("it panicked"))?);
        numbers.collect::<anyhow::Result<BTreeSet<u8>>>()
    })?;
    ensure!(numbers.iter().copied().eq(1..=CONTAINERS as u8), "they got {numbers:?}");
    Ok(())
}

fn imports() -> anyhow::Result<()> {
    let desk = Desk::new()?;
    desk.install("fixed", "other")?;
    desk.add_of("other", "desk", 0)?;
    let bridge = json!({
        "cniVersion": "1.1.0", "name": "desk", "type": "bridge",
        "ipam": { "type": "host-local", "subnet": "10.88.0.0/24" }
    });
    let container = &desk.lab.containers[1];
    desk.lab.run(&desk.lab.call_for("bridge", "ADD", container, "eth0").config(&bridge))?.success()?;
    ensure!(!desk.lab.path("weir/buckets").exists(), "there is a bucket");
    // What a process does not confine itself to is noted there.
    desk.add(2)?;
    let log = fs::read_to_string(desk.lab.path("audit.jsonl"))?;
    ensure!(!log.contains("\"confine\""), "the audit log is {log}");
    Ok(())
}
