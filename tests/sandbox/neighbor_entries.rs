//! What a plugin adds to neighbors and forwarding databases is there, and goes
//! with the attachment.

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::neighbors::rule;
use super::stage::{Expected, Stage};
use crate::Test;

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new("neighbors: what ADD adds on the node goes with DEL, GC and roll-back", come_and_go),
        Test::new("neighbors: what somebody replaced meanwhile stays after DEL", replaced),
        Test::new("neighbors: what the plugin removed comes back, what it added does not", removed),
        Test::new("neighbors: what the kernel has learned gives way", learned),
        Test::new(
            "neighbors: a VXLAN link in the container has remote ends as long as the attachment",
            tunnel,
        ),
        Test::new("neighbors: a plan shows them, and adds nothing", planned),
    ]
}

const EXISTING: &str = "02:00:00:00:00:e0";
const STATION: &str = "02:00:00:00:00:5a";
const OTHER: &str = "02:00:00:00:00:67";

/// A pair on the bridge, the container's end under a known address.
fn pair() -> Vec<Value> {
    vec![
        json!({ "do": "create-veth", "near": "hv0", "far": "eth0", "bridge": "br-h" }),
        json!({ "do": "set-mac", "link": "eth0", "mac": STATION }),
        json!({ "do": "answer-interface", "name": "eth0" }),
    ]
}

fn add(address: &str, count: u32) -> Value {
    json!({ "do": "add-neighbors", "link": "br-h", "address": address, "mac": STATION, "count": count })
}

fn steps(more: impl IntoIterator<Item = Value>) -> Value {
    pair().into_iter().chain(more).collect()
}

/// DEL without steps, which has to succeed.
fn detach(stage: &Stage) -> anyhow::Result<()> {
    stage.answer(&stage.call("DEL", json!([])))?.silence().context("DEL")
}

/// The permanent neighbors on a link of the node.
fn permanent(stage: &Stage, link: &str) -> anyhow::Result<Vec<(String, String)>> {
    let text = stage.lab.on_node(&format!("ip -json neighbour show dev {link} nud permanent"))?;
    let list: Vec<Value> = serde_json::from_str(&text)?;
    let word = |entry: &Value, key: &str| entry[key].as_str().unwrap_or_default().to_owned();
    let mut found: Vec<_> = list.iter().map(|entry| (word(entry, "dst"), word(entry, "lladdr"))).collect();
    found.sort();
    Ok(found)
}

fn expect(stage: &Stage, wanted: &[(&str, &str)]) -> anyhow::Result<()> {
    let found = permanent(stage, "br-h")?;
    let wanted: Vec<_> =
        wanted.iter().map(|(address, mac)| ((*address).to_owned(), (*mac).to_owned())).collect();
    ensure!(found == wanted, "neighbors of br-h are {found:?}, not {wanted:?}");
    Ok(())
}

fn come_and_go() -> anyhow::Result<()> {
    let mut stage = Stage::new(&rule())?;
    stage.lab.on_node(&format!("ip neighbour add 10.66.0.5 lladdr {STATION} dev br-h nud permanent"))?;
    stage.accept()?;
    let all = || {
        steps([
            add("10.66.0.4", 3),
            add("fd00:66::5", 1),
            json!({ "do": "add-neighbors", "link": "hv0", "address": "10.66.0.9", "mac": STATION }),
            json!({ "do": "add-neighbors", "side": "container", "link": "eth0", "address": "192.0.2.99", "mac": OTHER }),
            json!({ "do": "add-forwarding", "link": "hv0", "mac": STATION }),
            json!({ "do": "list-neighbors", "link": "br-h", "count": 4 }),
            json!({ "do": "list-neighbors", "link": "hv0", "forwarding": true, "count": 1 }),
        ])
    };
    let is_there = |stage: &Stage| {
        expect(
            stage,
            &[
                ("10.66.0.4", STATION),
                ("10.66.0.5", STATION),
                ("10.66.0.6", STATION),
                ("fd00:66::5", STATION),
            ],
        )?;
        let found = permanent(stage, "hv0")?;
        ensure!(found == [("10.66.0.9".to_owned(), STATION.to_owned())], "of hv0: {found:?}");
        let inside = stage.lab.in_container(0, "ip neighbour show dev eth0 nud permanent")?;
        ensure!(inside.contains("192.0.2.99 lladdr 02:00:00:00:00:67"), "in the container: {inside}");
        let entries = stage.lab.on_node("bridge fdb show dev hv0")?;
        ensure!(entries.contains(&format!("{STATION} master br-h static")), "at hv0: {entries}");
        anyhow::Ok(())
    };
    stage.attach(all())?;
    is_there(&stage)?;
    detach(&stage)?;
    // That the neighbor of the operator is there still is part of it.
    stage.unchanged().context("after DEL")?;

    stage.attach(all())?;
    is_there(&stage)?;
    let mut config = stage.config();
    config["cni.dev/valid-attachments"] = json!([]);
    stage.answer(&stage.call_with("GC", &config))?.silence().context("GC")?;
    stage.unchanged().context("after GC")?;

    let mut failing: Vec<Value> = serde_json::from_value(all())?;
    failing.push(json!({ "do": "fail", "code": 77, "message": "no" }));
    stage.fails(failing.into(), &Expected::failure(77, &["no"])).context("roll-back").map(drop)
}

fn replaced() -> anyhow::Result<()> {
    let mut stage = Stage::new(&rule())?;
    stage.attach(steps([add("10.66.0.4", 3)]))?;
    stage.lab.on_node(&format!("ip neighbour replace 10.66.0.5 lladdr {OTHER} dev br-h nud permanent"))?;
    detach(&stage)?;
    expect(&stage, &[("10.66.0.5", OTHER)])?;
    // Taken away by somebody, there is nothing to take back.
    stage.accept()?;
    stage.attach(steps([add("10.66.0.4", 1)]))?;
    stage.lab.on_node("ip neighbour del 10.66.0.4 dev br-h")?;
    detach(&stage)?;
    stage.unchanged()
}

fn removed() -> anyhow::Result<()> {
    let mut stage = Stage::new(&rule())?;
    for address in ["10.66.0.7", "10.66.0.8"] {
        stage.lab.on_node(&format!("ip neighbour add {address} lladdr {EXISTING} dev br-h nud permanent"))?;
    }
    stage.accept()?;
    let remove = |address: &str, mac: &str| json!({ "do": "remove-neighbors", "link": "br-h", "address": address, "mac": mac });
    stage.attach(steps([
        add("10.66.0.4", 2),
        remove("10.66.0.4", STATION),
        remove("10.66.0.7", EXISTING),
        // It has another hardware address: nothing is done.
        remove("10.66.0.8", OTHER),
    ]))?;
    expect(&stage, &[("10.66.0.5", STATION), ("10.66.0.8", EXISTING)])?;
    detach(&stage)?;
    stage.unchanged().context("after DEL")?;
    // DEL of the plugin itself takes back what ADD added.
    stage.attach(steps([add("10.66.0.4", 1)]))?;
    let del = json!([remove("10.66.0.4", STATION)]);
    stage.answer(&stage.call("DEL", del))?.silence().context("DEL of the plugin")?;
    stage.unchanged()
}

fn learned() -> anyhow::Result<()> {
    let stage = Stage::new(&rule())?;
    stage.lab.on_node(&format!("ip neighbour add 10.66.0.4 lladdr {OTHER} dev br-h nud reachable"))?;
    stage.attach(steps([
        add("10.66.0.4", 1),
        json!({ "do": "add-forwarding", "link": "hv0", "mac": STATION }),
    ]))?;
    expect(&stage, &[("10.66.0.4", STATION)])?;
    detach(&stage)?;
    stage.unchanged()
}

fn tunnel() -> anyhow::Result<()> {
    let mut stage = Stage::new(&rule())?;
    for line in [
        "ip link add eth0 type vxlan id 7 dstport 4789 nolearning",
        "ip link set eth0 up",
        "bridge fdb append 00:00:00:00:00:00 dev eth0 dst 192.0.2.1",
        "bridge fdb add 02:00:00:00:00:e0 dev eth0 dst 192.0.2.1",
    ] {
        stage.lab.in_container(0, line)?;
    }
    stage.accept()?;
    let step = |action: &str, mac: &str, destination: &str| json!({ "do": action, "side": "container", "link": "eth0", "mac": mac, "destination": destination });
    let zeros = "00:00:00:00:00:00";
    let mut several = step("add-forwarding", zeros, "192.0.2.1");
    several["count"] = 3.into();
    let all = [
        several,
        step("add-forwarding", STATION, "192.0.2.2"),
        step("remove-forwarding", EXISTING, "192.0.2.1"),
        json!({ "do": "list-neighbors", "side": "container", "link": "eth0", "forwarding": true, "count": 4 }),
        json!({ "do": "answer-interface", "name": "eth0" }),
    ];
    stage.attach(all.iter().cloned().collect())?;
    let shown = stage.lab.in_container(0, "bridge fdb show dev eth0")?;
    for (mac, destination) in
        [(zeros, "192.0.2.1"), (zeros, "192.0.2.2"), (zeros, "192.0.2.3"), (STATION, "192.0.2.2")]
    {
        ensure!(shown.contains(&format!("{mac} dst {destination} self permanent")), "it has {shown}");
    }
    ensure!(!shown.contains(EXISTING), "it still has {shown}");
    // One of them is led elsewhere by somebody.
    stage.lab.in_container(0, &format!("bridge fdb replace {STATION} dev eth0 dst 192.0.2.9"))?;
    detach(&stage)?;
    let shown = stage.lab.in_container(0, "bridge fdb show dev eth0")?;
    ensure!(shown.contains(&format!("{STATION} dst 192.0.2.9 self permanent")), "it has {shown}");
    stage.lab.in_container(0, &format!("bridge fdb del {STATION} dev eth0 dst 192.0.2.9"))?;
    stage.unchanged().context("after DEL")?;
    // A station has one remote end.
    let other = step("add-forwarding", EXISTING, "192.0.2.2");
    let expected = Expected::failure(105, &["it leads to 192.0.2.1"]);
    stage.fails(json!([all[0], all[1], other]), &expected).map(drop)
}

fn planned() -> anyhow::Result<()> {
    let stage = Stage::new(&rule())?;
    let mut config = stage.config();
    config["attack"]["ADD"] = steps([
        add("10.66.0.4", 3),
        json!({ "do": "remove-neighbors", "link": "br-h", "address": "10.66.0.5", "mac": STATION }),
        json!({ "do": "add-forwarding", "link": "hv0", "mac": STATION }),
        json!({ "do": "list-neighbors", "link": "br-h", "count": 2 }),
        json!({ "do": "list-neighbors", "link": "hv0", "forwarding": true, "count": 1 }),
    ]);
    let path = stage.lab.path("config.json");
    std::fs::write(&path, config.to_string())?;
    let container = &stage.lab.containers[0];
    let text = stage.weir(&format!(
        "plan --json --config {} --cni-path {} --netns {} --container-id {}",
        path.display(),
        stage.lab.bin.display(),
        container.path.display(),
        container.id
    ))?;
    let plan: Value = serde_json::from_str(&text)?;
    ensure!(plan["outcome"] == "success", "it says {plan}");
    let shown: Vec<String> = plan["operations"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|step| format!("{} {} {}", step["operation"], step["object"], step["allowed"]))
        .filter(|line| line.contains("neighbors") || line.contains("forwarding"))
        .collect();
    ensure!(
        shown
            == [
                "\"add-neighbors\" \"10.66.0.4 at 02:00:00:00:00:5a, 10.66.0.5 at 02:00:00:00:00:5a, 10.66.0.6 at 02:00:00:00:00:5a to br-h\" true",
                "\"remove-neighbors\" \"10.66.0.5 at 02:00:00:00:00:5a from br-h\" true",
                "\"add-forwarding\" \"02:00:00:00:00:5a to hv0\" true",
            ],
        "it shows {shown:#?}"
    );
    stage.unchanged()?;
    // And so it comes.
    stage.attach(config["attack"]["ADD"].clone())?;
    detach(&stage)?;
    stage.unchanged()
}
