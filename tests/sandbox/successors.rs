//! Links that come after one of the attachment's, and have its name.

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::stage::{RULE, Stage};
use crate::Test;

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new("sandbox: the way back of changes does not lead to another link of that name", changes),
        Test::new("sandbox: a link that was removed is not looked for at DEL", removed),
    ]
}

const MAC: &str = "02:66:66:66:66:66";

fn attach(stage: &Stage, mut steps: Vec<Value>) -> anyhow::Result<()> {
    steps.push(json!({ "do": "answer-interface", "name": "eth0" }));
    stage.attach(steps.into())
}

/// Somebody makes a link of that name; the attachment's DEL must not touch it.
fn stays(stage: &Stage) -> anyhow::Result<()> {
    for command in [
        &format!("ip link add hv0 address {MAC} mtu 1300 type veth peer name other0"),
        "ip address add 10.66.0.9/24 dev hv0",
        "sysctl -q -w net.ipv6.conf.hv0.accept_ra=2",
        "ip link set hv0 up promisc on",
    ] {
        stage.lab.on_node(command)?;
    }
    let look = || -> anyhow::Result<(String, String)> {
        let setting = stage.lab.on_node("sysctl -n net.ipv6.conf.hv0.accept_ra")?;
        Ok((stage.lab.on_node("ip -details -json address show dev hv0")?, setting))
    };
    let before = look()?;
    stage.answer(&stage.call("DEL", json!([])))?.silence().context("DEL")?;
    let after = look()?;
    ensure!(before == after, "the link was {before:?}, and is {after:?}");
    stage.lab.on_node("ip link del hv0").map(drop)
}

fn pair() -> Value {
    json!({ "do": "create-veth", "near": "hv0", "far": "x0" })
}

/// The link is found anew in a second ADD, so that the handle is not that of
/// its maker.
fn changes() -> anyhow::Result<()> {
    let stage = Stage::new(RULE)?;
    attach(&stage, vec![pair(), json!({ "do": "set-mac", "link": "hv0", "mac": "02:00:00:00:00:77" })])?;
    let steps = [
        json!({ "do": "set-mtu", "link": "hv0", "mtu": 1400 }),
        json!({ "do": "set-up", "link": "hv0" }),
        json!({ "do": "set-mac", "link": "hv0", "mac": "02:00:00:00:00:78" }),
        json!({ "do": "set-promiscuous", "link": "hv0" }),
        json!({ "do": "set-sysctl", "link": "hv0", "key": "accept_ra", "value": "2", "ipv6": true }),
        json!({ "do": "add-address", "link": "hv0", "address": "10.66.0.9", "length": 24 }),
    ];
    attach(&stage, steps.to_vec())?;
    // Not by the plugin, which would know it.
    stage.lab.on_node("ip link del hv0")?;
    stays(&stage)
}

/// Whoever knows the address of a link to come has nothing of it.
fn removed() -> anyhow::Result<()> {
    let stage = Stage::new(RULE)?;
    let remove = || json!({ "do": "remove", "link": "hv0" });
    let named = json!({ "do": "create-veth", "near": "hv0", "near-mac": MAC, "far": "x0" });
    let set = || json!({ "do": "set-mac", "link": "hv0", "mac": MAC });
    // Without any link there would be no journal.
    let kept = || json!({ "do": "create-veth", "near": "hv1", "far": "x1" });
    for steps in [vec![kept(), pair(), set(), remove()], vec![kept(), named, remove()]] {
        let shown = format!("{steps:?}");
        attach(&stage, steps)?;
        stays(&stage).context(shown)?;
    }
    Ok(())
}
