//! A plugin of others that makes tunnel endpoints, as far as a rule lets it.

use anyhow::ensure;
use serde_json::{Value, json};

use super::macvlan::scene::Scene;
use crate::Test;

pub(super) fn tests() -> Vec<Test> {
    vec![Test::new("vxlan: an endpoint is shared, and used again by who finds it", tunnel)]
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
