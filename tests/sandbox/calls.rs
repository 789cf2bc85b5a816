//! Components that use the calls themselves: commands that change nothing,
//! other plugins, what they are not granted, and failing half-way.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use anyhow::ensure;
use serde_json::{Value, json};

use super::stage::{Expected, RULE, Stage};
use crate::Test;

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new("sandbox: CHECK, STATUS and GC change nothing", changes_nothing),
        Test::new("sandbox: DEL of an unknown attachment makes nothing", del_makes_nothing),
        Test::new("sandbox: what a failed ADD did is taken back, however it fails", half_done),
        Test::new("sandbox: imports that the policy does not list are refused with the line", imports),
        Test::new("sandbox: without a rule nothing of a component runs", no_rule),
        Test::new("sandbox: a rule for another digest, network or tenant does not count", other_rules),
        Test::new("sandbox: an IPAM plugin does not ask for addresses", ipam_of_ipam),
        Test::new("sandbox: an IPAM plugin is asked only so often", asked_often),
        Test::new("sandbox: changes are counted over all answers of an IPAM plugin", changes_of_ipam),
        Test::new("sandbox: an IPAM plugin's limits end the plugin that asked", limits_of_ipam),
        Test::new("sandbox: native programs that the policy does not list are not executed", delegates),
    ]
}

fn pair() -> Value {
    json!({ "do": "create-veth", "near": "hv0", "far": "eth0", "bridge": "br-h" })
}

fn changes_nothing() -> anyhow::Result<()> {
    let stage = Stage::new(RULE)?;
    let changes = [
        (json!({ "do": "create-veth", "near": "hv0", "far": "hv1", "far-side": "host" }), "create-veth"),
        (json!({ "do": "add-address", "link": "br-h", "address": "10.66.0.9", "length": 24 }), "add-address"),
        (
            json!({ "do": "remove-address", "link": "br-h", "address": "10.66.0.1", "length": 24 }),
            "remove-address",
        ),
        (json!({ "do": "add-route", "link": "br-h", "address": "10.66.0.0", "length": 25 }), "add-route"),
        (json!({ "do": "set-up", "link": "br-h" }), "set-up"),
        (
            json!({ "do": "set-sysctl", "link": "br-h", "key": "accept_ra", "value": "2", "ipv6": true }),
            "set-sysctl",
        ),
        (
            json!({ "do": "masquerade", "address": "10.66.0.5", "direct": "10.66.0.0", "length": 24 }),
            "masquerade",
        ),
    ];
    for command in ["CHECK", "STATUS", "GC"] {
        for (step, operation) in &changes {
            let expected = Expected::denied(operation, &["plugin hostile", command]);
            stage.call_fails(&stage.call(command, json!([step])), &expected)?;
        }
    }
    // A pool has to be there for it.
    let pool = stage.lab.leases("hostile");
    fs::create_dir(&pool)?;
    fs::write(pool.join("lock"), "")?;
    for command in ["CHECK", "STATUS", "GC"] {
        let call = stage.call(command, json!([{ "do": "reserve", "address": "10.66.0.5" }]));
        stage.call_fails(&call, &Expected::denied("reserve", &["plugin hostile", command]))?;
    }
    Ok(())
}

fn del_makes_nothing() -> anyhow::Result<()> {
    let stage = Stage::new(RULE)?;
    for (step, operation) in [
        (json!({ "do": "create-veth", "near": "hv0", "far": "hv1", "far-side": "host" }), "create-veth"),
        (pair(), "create-veth"),
        (
            json!({ "do": "masquerade", "address": "10.66.0.5", "direct": "10.66.0.0", "length": 24 }),
            "masquerade",
        ),
    ] {
        let call = stage.call("DEL", json!([step]));
        stage.call_fails(&call, &Expected::denied(operation, &["plugin hostile", "DEL"]))?;
    }
    Ok(())
}

fn half_done() -> anyhow::Result<()> {
    let mut stage = Stage::new(RULE)?;
    let most = [
        pair(),
        json!({ "do": "reserve-next", "first": "10.66.0.2", "last": "10.66.0.9" }),
        json!({ "do": "add-address", "link": "eth0", "address": "10.66.0.2", "length": 24 }),
        json!({ "do": "set-up", "link": "eth0" }),
        json!({ "do": "add-route", "link": "eth0", "address": "0.0.0.0", "length": 0, "gateway": "10.66.0.1" }),
        json!({ "do": "set-sysctl", "link": "lo", "side": "container", "key": "accept_ra", "value": "2", "ipv6": true }),
        json!({ "do": "set-sysctl", "link": "hv0", "key": "accept_ra", "value": "0", "ipv6": true }),
        json!({ "do": "masquerade", "address": "10.66.0.2", "direct": "10.66.0.0", "length": 24 }),
        json!({ "do": "guard", "link": "hv0" }),
    ];
    let ends = [
        (json!({ "do": "panic" }), Expected::failure(101, &["trapped"])),
        (json!({ "do": "fail", "code": 77, "message": "no" }), Expected::failure(77, &["no"])),
        (json!({ "do": "fill-memory" }), Expected::failure(103, &["bytes of memory"])),
        (json!({ "do": "set-down", "link": "up0" }), Expected::denied("link", &["up0"])),
        (
            json!({ "do": "answer-address", "address": "8.8.8.8", "length": 24 }),
            Expected::denied("result", &["8.8.8.8"]),
        ),
        (json!({ "do": "answer-interface", "name": "\u{1b}" }), Expected::failure(101, &["unusable result"])),
    ];
    for (end, expected) in ends {
        let steps: Vec<Value> = most.iter().cloned().chain([end]).collect();
        stage.fails(steps.into(), &expected)?;
    }
    stage.budget = 1.0;
    let steps: Vec<Value> = most.iter().cloned().chain([json!({ "do": "spin" })]).collect();
    stage.fails(steps.into(), &Expected::failure(102, &["ADD did not finish"])).map(drop)
}

fn imports() -> anyhow::Result<()> {
    let stage = Stage::new(&RULE.replace("\"weir:net/*\", \"weir:firewall/*\", ", ""))?;
    let expected = Expected::denied(
        "import",
        &["weir:net/links", "weir:net/routes", "weir:firewall/guards", "interfaces = [", "policy.toml"],
    );
    stage.fails(json!([]), &expected)?;
    stage.write_policy(&format!(
        "{RULE}[[deny]]\nname = \"no filter\"\ninterfaces = [\"weir:firewall/guards\"]\n"
    ))?;
    let expected = Expected::denied("import", &["weir:firewall/guards", "no filter"]);
    stage.fails(json!([]), &expected).map(drop)
}

fn no_rule() -> anyhow::Result<()> {
    let stage = Stage::new("")?;
    let words =
        ["plugin hostile in network hostile may not", "[[allow]]", "plugin = \"hostile\"", &stage.digest];
    let expected = Expected::denied("import", &words);
    for command in ["ADD", "CHECK", "STATUS", "GC", "DEL"] {
        stage.call_fails(&stage.call(command, json!([{ "do": "spin" }])), &expected)?;
    }
    Ok(())
}

fn other_rules() -> anyhow::Result<()> {
    let stage = Stage::new(RULE)?;
    let digest = format!("digest = \"sha256:{}\"\n", "0".repeat(64));
    for (from, to) in [
        ("plugin = \"hostile\"\n", format!("plugin = \"hostile\"\n{digest}")),
        ("plugin = \"hostile\"\n", "plugin = \"hostil?e\"\n".to_owned()),
        ("network = \"hostile\"\n", "network = \"hostile-*\"\n".to_owned()),
        ("network = \"hostile\"\n", "network = \"hostile\"\ntenant = \"*\"\n".to_owned()),
    ] {
        stage.write_policy(&RULE.replace(from, &to))?;
        stage.fails(json!([]), &Expected::denied("import", &["no allow rule matches it"]))?;
    }
    // Another tenant, and one that is called as the pattern reads.
    stage.write_policy(
        &RULE.replace("plugin = \"hostile\"\n", "plugin = \"hostile\"\ntenant = \"team-?\"\n"),
    )?;
    for tenant in ["team-ab", "TEAM-a", "team-", "x;K8S_POD_NAMESPACE=team-a"] {
        let arguments = format!("K8S_POD_NAMESPACE={tenant}");
        let call = stage.call("ADD", json!([])).variable("CNI_ARGS", arguments);
        stage.call_fails(&call, &Expected::denied("import", &["no allow rule matches it"]))?;
    }
    Ok(())
}

/// A configuration in which the plugin is its own IPAM plugin.
fn own_ipam(stage: &Stage, attack: Value, of_ipam: Value) -> Value {
    let mut config = stage.config();
    config["attack"]["ADD"] = attack;
    config["ipam"] = json!({ "type": "hostile", "attack": { "ADD": of_ipam } });
    config
}

fn ipam_of_ipam() -> anyhow::Result<()> {
    let stage = Stage::new(RULE)?;
    let config = own_ipam(&stage, json!([{ "do": "ask-ipam" }]), json!([{ "do": "ask-ipam" }]));
    let expected = Expected::denied("ipam", &["plugin hostile hands out addresses"]);
    stage.call_fails(&stage.call_with("ADD", &config), &expected)?;
    let flood = json!([{ "do": "ask-ipam", "times": 1 << 20, "anyway": true }]);
    let config = own_ipam(&stage, json!([{ "do": "ask-ipam" }]), flood);
    let limit = Expected::failure(103, &["more than 4096 changes"]);
    stage.call_fails(&stage.call_with("ADD", &config), &Expected { denied: Some("ipam"), ..limit }).map(drop)
}

fn asked_often() -> anyhow::Result<()> {
    let stage = Stage::new(RULE)?;
    let ask = json!([{ "do": "ask-ipam", "times": 10_000, "anyway": true }]);
    for of_ipam in [
        json!([]),
        json!([{ "do": "panic" }]),
        json!([{ "do": "log", "text": "x", "repeat": 1000, "times": 60 }]),
    ] {
        let config = own_ipam(&stage, ask.clone(), of_ipam);
        let expected = Expected::failure(103, &["plugin hostile asked its IPAM plugin more than 64 times"]);
        let call = stage.call_with("ADD", &config);
        stage.call_fails(&call, &expected)?;
        let output = stage.lab.node.enter(|| call.program().run())?;
        ensure!(output.stderr.len() < 80 << 10, "it wrote {} bytes", output.stderr.len());
    }
    Ok(())
}

fn changes_of_ipam() -> anyhow::Result<()> {
    let stage = Stage::new(&format!("{RULE}[allow.limits]\nchanges = 20\n"))?;
    let ask = json!([{ "do": "ask-ipam", "times": 60, "anyway": true }]);
    let few = json!([{ "do": "create-veth", "near": "eth0", "far": "eth0", "times": 5, "anyway": true }]);
    let config = own_ipam(&stage, ask, few);
    let expected = Expected::failure(103, &["plugin hostile made more than 20 changes in one call"]);
    stage.call_fails(&stage.call_with("ADD", &config), &expected).map(drop)
}

fn limits_of_ipam() -> anyhow::Result<()> {
    let mut stage = Stage::new(RULE)?;
    let ask =
        json!([{ "do": "ask-ipam", "anyway": true }, { "do": "fail", "code": 7, "message": "not reached" }]);
    let config = own_ipam(&stage, ask.clone(), json!([{ "do": "fill-memory" }]));
    stage.call_fails(&stage.call_with("ADD", &config), &Expected::failure(103, &["bytes of memory"]))?;
    stage.budget = 0.6;
    let config = own_ipam(&stage, ask, json!([{ "do": "spin" }]));
    stage
        .call_fails(&stage.call_with("ADD", &config), &Expected::failure(102, &["ADD did not finish"]))
        .map(drop)
}

fn delegates() -> anyhow::Result<()> {
    let stage = Stage::new(RULE)?;
    let mark = stage.lab.path("executed");
    let program = stage.lab.bin.join("native");
    fs::write(&program, format!("#!/bin/sh\ntouch {}\necho '{{}}'\n", mark.display()))?;
    fs::set_permissions(&program, Permissions::from_mode(0o755))?;
    let mut config = stage.config();
    config["attack"]["ADD"] = json!([{ "do": "ask-ipam" }]);
    config["ipam"]["type"] = "native".into();
    let expected =
        Expected::denied("delegate", &["execute the program \"native\"", "delegates = [\"native\"]"]);
    stage.call_fails(&stage.call_with("ADD", &config), &expected)?;
    for kind in ["../bin/native", "/bin/sh", "native/", ".", "..", "na\u{0}tive"] {
        config["ipam"]["type"] = kind.into();
        stage.call_fails(&stage.call_with("ADD", &config), &Expected::failure(7, &["ipam.type"]))?;
    }
    // CHECK changes nothing, be it by a program that the plugin may ask.
    stage.write_policy(&format!("{RULE}delegates = [\"native\"]\n"))?;
    config["attack"]["CHECK"] = json!([{ "do": "ask-ipam" }]);
    config["ipam"]["type"] = "native".into();
    let expected = Expected::denied("delegate", &["native ADD during CHECK", "it changes nothing"]);
    stage.call_fails(&stage.call_with("CHECK", &config), &expected)?;
    config["attack"]["STATUS"] = json!([{ "do": "have-ipam-collect" }]);
    let expected = Expected::denied("delegate", &["native GC during STATUS", "it changes nothing"]);
    stage.call_fails(&stage.call_with("STATUS", &config), &expected)?;
    ensure!(!mark.exists(), "the program was executed");
    Ok(())
}
