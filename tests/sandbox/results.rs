//! Components whose results claim what is not so.

use std::fs;

use serde_json::{Value, json};

use super::stage::{Expected, RULE, Stage};
use crate::Test;

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new("sandbox: results with more than there can be are refused", huge),
        Test::new("sandbox: results that contradict themselves are refused", malformed),
        Test::new("sandbox: results with texts that a terminal would obey are refused", texts),
        Test::new("sandbox: results that name other containers are refused", forged),
        Test::new("sandbox: addresses outside of the policy's are not reported", foreign_addresses),
        Test::new("sandbox: an IPAM plugin's gateway gives the node no foreign network", gateways),
    ]
}

/// Fails as the interface plugin, and as the one that hands out addresses.
fn both_fail(stage: &Stage, attack: &Value, expected: &Expected) -> anyhow::Result<()> {
    stage.fails(attack.clone(), expected)?;
    let mut config = stage.config();
    config["type"] = "bridge".into();
    config["ipam"] = json!({ "type": "hostile", "attack": { "ADD": attack } });
    stage.call_fails(&stage.call_with("ADD", &config), expected).map(drop)
}

fn huge() -> anyhow::Result<()> {
    let stage = Stage::new(RULE)?;
    let unusable = |word: &str| Expected::failure(101, &["plugin hostile returned an unusable result", word]);
    let interface = json!({ "do": "answer-interface", "name": "x", "count": 5000 });
    stage.fails(json!([interface]), &unusable("5000 interfaces"))?;
    let ips = json!([{ "do": "answer-address", "address": "10.66.0.5", "length": 24, "count": 5000 }]);
    both_fail(&stage, &ips, &unusable("5000 addresses"))?;
    let routes = json!([{ "do": "answer-route", "address": "10.66.0.0", "length": 24, "count": 5000 }]);
    both_fail(&stage, &routes, &unusable("5000 routes"))?;
    let names = json!([{ "do": "answer-names", "name": "x", "count": 5000 }]);
    both_fail(&stage, &names, &unusable("5000 name servers, domains or options"))?;
    let long = json!([{ "do": "answer-names", "name": "0123456789abcdef", "repeat": 600 }]);
    both_fail(&stage, &long, &unusable("a text of 9600 bytes"))?;
    let too_much =
        json!([{ "do": "answer-names", "name": "0123456789abcdef", "repeat": 1 << 16, "count": 5 }]);
    both_fail(&stage, &too_much, &Expected::failure(103, &["plugin hostile hands over more than"]))
}

fn malformed() -> anyhow::Result<()> {
    let stage = Stage::new(RULE)?;
    let unusable = |word: &str| Expected::failure(101, &["plugin hostile returned an unusable result", word]);
    let address = |length: u8| json!({ "do": "answer-address", "address": "10.66.0.5", "length": length });
    for length in [33, 255] {
        both_fail(&stage, &json!([address(length)]), &unusable(&format!("prefix length {length}")))?;
    }
    let route = json!([{ "do": "answer-route", "address": "10.66.0.0", "length": 255 }]);
    both_fail(&stage, &route, &unusable("prefix length 255"))?;
    for number in [0_u32, 7, u32::MAX] {
        let mut of_none = address(24);
        of_none["interface"] = number.into();
        stage.fails(json!([of_none]), &unusable(&format!("interface {number} of 0")))?;
    }
    Ok(())
}

fn texts() -> anyhow::Result<()> {
    let stage = Stage::new(RULE)?;
    for text in ["\u{1b}[2J", "a\nb", "a\u{202e}b", "a\0b", "a\u{2028}b", "\u{9b}31m"] {
        let expected = Expected::failure(101, &["plugin hostile returned an unusable result", "character"]);
        stage.fails(json!([{ "do": "answer-interface", "name": text }]), &expected)?;
        stage.fails(json!([{ "do": "answer-interface", "name": "x", "mac": text }]), &expected)?;
        both_fail(&stage, &json!([{ "do": "answer-names", "name": text }]), &expected)?;
    }
    Ok(())
}

fn forged() -> anyhow::Result<()> {
    let stage = Stage::new(RULE)?;
    let other = stage.lab.containers[1].path.display().to_string();
    for sandbox in ["/proc/1/ns/net", other.as_str(), "../c2", "c2"] {
        let expected = Expected::failure(101, &["plugin hostile returned an unusable result", sandbox]);
        stage.fails(json!([{ "do": "answer-interface", "name": "eth0", "sandbox": sandbox }]), &expected)?;
    }
    Ok(())
}

fn foreign_addresses() -> anyhow::Result<()> {
    let stage = Stage::new(RULE)?;
    for address in ["10.77.0.2", "8.8.8.8", "::ffff:8.8.8.8", "fd00::1", "10.66.1.0", "0.0.0.0"] {
        let attack = json!([{ "do": "answer-address", "address": address, "length": 8 }]);
        both_fail(&stage, &attack, &Expected::denied("result", &["plugin hostile returned address"]))?;
    }
    Ok(())
}

/// The plugin that makes the interface is bundled, and does what it is told.
fn gateways() -> anyhow::Result<()> {
    let mut stage = Stage::new(RULE)?;
    stage.lab.on_node("ip address flush dev br-h")?;
    // What the bundled plugin sets on every bridge, and leaves.
    let refuse = || Ok(fs::write("/proc/sys/net/ipv6/conf/br-h/accept_ra", "0")?);
    stage.lab.node.enter(refuse)?;
    stage.accept()?;
    for kind in ["bridge", "ptp"] {
        for (length, gateway) in [(1_u8, "10.66.0.1"), (24, "192.0.2.2"), (0, "10.66.0.1"), (24, "8.8.8.8")] {
            if kind == "ptp" && gateway.starts_with("10.66") {
                // It gives the node an address, and no network.
                continue;
            }
            let answer = json!({
                "do": "answer-address", "address": "10.66.0.9", "length": length, "gateway": gateway
            });
            let config = json!({
                "cniVersion": "1.1.0", "name": "hostile", "type": kind, "bridge": "br-h", "isGateway": true,
                "ipam": { "type": "hostile", "attack": { "ADD": [answer] } }
            });
            let call = stage.call_of(kind, "ADD", 0, "eth0").config(&config);
            stage.call_fails(&call, &Expected::denied("add-address", &["plugin hostile", "10.66.0.0/24"]))?;
        }
    }
    Ok(())
}
