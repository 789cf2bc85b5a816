//! Ports of the node: of others, of the node itself, and without leave.

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::stage::{Expected, RULE, Stage};
use crate::Test;

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new("sandbox: no port is published without a rule for it", without_rule),
        Test::new(
            "sandbox: ports, protocols and addresses beside the policy's are not published",
            beside_rule,
        ),
        Test::new("sandbox: a port that a deny rule touches is not published", denied),
        Test::new("sandbox: a published port leads to the container and nothing else", elsewhere),
        Test::new("sandbox: what can never work is not published", impossible),
        Test::new("sandbox: a port that another attachment publishes is not taken over", taken),
        Test::new("sandbox: ports of another attachment stay published", others_stay),
        Test::new("sandbox: loopback addresses pass by no link that the policy does not name", loopback),
        Test::new("sandbox: floods of ports end", flood),
        Test::new("sandbox: CHECK, STATUS, GC and an early DEL publish nothing", changes_nothing),
    ]
}

/// What an operator may allow a plugin to publish.
const PORTS: &str = r#"ports = ["8000-8099/tcp", "127.0.0.1:9000/tcp", "192.0.2.1:53/udp", "22/tcp"]
"#;

fn rule() -> String {
    format!("{RULE}{PORTS}")
}

fn pair() -> Value {
    json!({ "do": "create-veth", "near": "hv0", "far": "eth0", "bridge": "br-h" })
}

fn address(address: &str) -> Value {
    json!({ "do": "add-address", "link": "eth0", "address": address, "length": 24 })
}

/// A port of the container at all addresses.
fn port(number: u32) -> Value {
    json!({ "do": "publish", "port": number, "to": 80, "address": "10.66.0.5" })
}

fn with(mut step: Value, key: &str, value: impl Into<Value>) -> Value {
    step[key] = value.into();
    step
}

/// An attack of a container that has its address.
fn attack(steps: &[Value]) -> Value {
    [&[pair(), address("10.66.0.5")], steps].concat().into()
}

fn denied_publish(words: &[&str]) -> Expected {
    Expected::denied("publish", words)
}

fn without_rule() -> anyhow::Result<()> {
    let stage = Stage::new(RULE)?;
    let words = ["may not publish the node's port 8080/tcp", "ports = [\"8080/tcp\"]"];
    stage.fails(attack(&[port(8080)]), &denied_publish(&words))?;
    let at_one = with(port(8080), "host", "127.0.0.1");
    stage.fails(attack(&[at_one]), &denied_publish(&["ports = [\"127.0.0.1:8080/tcp\"]"]))?;
    // Without a word of the interface it is not even linked.
    stage.write_policy(
        &rule().replace("\"weir:firewall/*\"", "\"weir:firewall/masquerade\", \"weir:firewall/guards\""),
    )?;
    stage.fails(json!([]), &Expected::denied("import", &["weir:firewall/publish"])).map(drop)
}

fn beside_rule() -> anyhow::Result<()> {
    let stage = Stage::new(&rule())?;
    for step in [
        port(7999),
        port(8100),
        port(9000),
        port(53),
        with(port(8080), "protocol", "udp"),
        with(port(8080), "protocol", "sctp"),
        with(port(9000), "host", "192.0.2.1"),
        with(port(9000), "host", "127.0.0.2"),
        with(with(port(53), "host", "192.0.2.1"), "protocol", "tcp"),
        with(with(port(53), "host", "127.0.0.1"), "protocol", "udp"),
        // The last of them is beyond.
        with(port(8090), "count", 11),
    ] {
        stage.fails(attack(&[step]), &denied_publish(&["ports = [\"8000-8099/tcp\""]))?;
    }
    Ok(())
}

fn denied() -> anyhow::Result<()> {
    let mut stage = Stage::new(&format!(
        "{}[[deny]]\nname = \"the node's own\"\nports = [\"1-1023/tcp\", \"127.0.0.1:8080/tcp\"]\n",
        rule()
    ))?;
    for step in [
        port(22),
        with(port(22), "host", "192.0.2.1"),
        with(port(22), "host", "127.0.0.1"),
        // All addresses are that one, too.
        port(8080),
        with(port(8080), "host", "127.0.0.1"),
        with(port(8075), "count", 10),
    ] {
        stage.fails(attack(&[step]), &denied_publish(&["the node's own", "forbids it"]))?;
    }
    other_publishes(&mut stage, port(8090))?;
    let beside = with(port(8080), "host", "192.0.2.1");
    let steps = attack(&[port(8081), beside, json!({ "do": "panic" })]);
    stage.fails(steps, &Expected::failure(101, &[])).map(drop).context("what the rule does not touch")
}

fn elsewhere() -> anyhow::Result<()> {
    let stage = Stage::new(&rule())?;
    let to = |address: &str| with(port(8080), "address", address);
    // Of the neighbour, of the node, of anybody.
    for address in ["10.77.0.2", "10.77.0.3", "10.77.0.1", "192.0.2.1", "127.0.0.1", "8.8.8.8"] {
        stage.fails(attack(&[to(address)]), &denied_publish(&[address, "10.66.0.0/24"]))?;
    }
    stage
        .fails(attack(&[to("10.66.0.9")]), &denied_publish(&["no link of the container has the address"]))?;
    stage.fails(attack(&[to("10.66.0.1")]), &denied_publish(&["10.66.0.1 is an address of the node"]))?;
    // An address of the node that the container took, too.
    let steps = attack(&[address("10.66.0.1"), to("10.66.0.1")]);
    stage.fails(steps, &denied_publish(&["is an address of the node"]))?;
    stage.write_policy(&rule().replace("\"10.66.0.0/24\"]\nroutes", "\"0.0.0.0/0\", \"::/0\"]\nroutes"))?;
    for address in ["127.0.0.1", "127.0.0.9", "::1", "192.0.2.1", "10.77.0.1"] {
        stage.fails(attack(&[to(address)]), &denied_publish(&[address, "is an address of the node"]))?;
    }
    // A neighbour's.
    stage.fails(attack(&[to("10.77.0.3")]), &denied_publish(&["no link of the container"])).map(drop)
}

fn impossible() -> anyhow::Result<()> {
    let stage = Stage::new(&rule())?;
    for (step, reason) in [
        (with(port(8080), "address", "::ffff:10.66.0.5"), "IPv4-mapped"),
        (with(port(8080), "host", "::ffff:127.0.0.1"), "IPv4-mapped"),
        (with(port(8080), "host", "2001:db8::1"), "one family"),
        (with(port(8080), "host", "0.0.0.0"), "leave the node's address out"),
        (with(port(8080), "host", "224.0.0.1"), "multicast"),
        (with(port(8080), "length", 33), "no prefix of its family"),
        (port(0), "begin with 1"),
        (with(port(8080), "to", 0), "begin with 1"),
        (with(port(8000), "count", 129), "at most 128"),
        (with(port(65535), "count", 2), "begin with 1"),
    ] {
        stage.fails(attack(&[step]), &Expected::failure(7, &[reason]))?;
    }
    Ok(())
}

/// Has the second container's attachment publish a port; what is there then
/// has to stay.
fn other_publishes(stage: &mut Stage, step: Value) -> anyhow::Result<()> {
    let steps = [
        json!({ "do": "create-veth", "near": "hv9", "far": "eth5", "bridge": "br-h" }),
        json!({ "do": "add-address", "link": "eth5", "address": "10.66.0.7", "length": 24 }),
        with(step, "address", "10.66.0.7"),
    ];
    let mut config = stage.config();
    config["attack"]["ADD"] = steps.to_vec().into();
    stage.answer(&stage.call_of("hostile", "ADD", 1, "eth5").config(&config))?.success()?;
    stage.accept()
}

fn taken() -> anyhow::Result<()> {
    let at_one = |number: u32| with(port(number), "host", "192.0.2.1");
    for (held, wanted) in [
        (port(8080), vec![port(8080), at_one(8080), with(port(8079), "count", 3)]),
        (at_one(8080), vec![port(8080), at_one(8080)]),
    ] {
        let mut stage = Stage::new(&rule())?;
        other_publishes(&mut stage, held)?;
        let expected = Expected::failure(105, &["8080/tcp", "another attachment (hostile:c2:eth5:hostile)"]);
        for wanted in wanted {
            stage.fails(attack(&[wanted]), &expected)?;
        }
        // Beside it, all is free.
        let free = attack(&[port(8081), json!({ "do": "panic" })]);
        stage.fails(free, &Expected::failure(101, &[])).context("another port")?;
    }
    Ok(())
}

fn others_stay() -> anyhow::Result<()> {
    let mut stage = Stage::new(&rule())?;
    other_publishes(&mut stage, port(8080))?;
    let unpublish = json!({ "do": "unpublish" });
    let steps = attack(&[
        json!({ "do": "look-at-ports", "count": 0 }),
        unpublish.clone(),
        port(8081),
        json!({ "do": "look-at-ports", "count": 1 }),
        unpublish.clone(),
        json!({ "do": "look-at-ports", "count": 0 }),
        json!({ "do": "fail", "code": 77, "message": "the end" }),
    ]);
    stage.fails(steps, &Expected::failure(77, &["the end"]))?;
    let shown = stage.lab.on_node("nft list map inet weir published4")?;
    ensure!(shown.contains("tcp . 8080 comment \"hostile:c2:eth5:hostile\" : 10.66.0.7 . 80"), "{shown}");
    // A DEL of what was never added.
    let call = stage.call("DEL", json!([unpublish]));
    stage.answer(&call)?.silence()?;
    stage.unchanged()
}

fn loopback() -> anyhow::Result<()> {
    let stage = Stage::new(&rule())?;
    let enable = |link: &str| json!({ "do": "enable-loopback", "link": link });
    for link in ["br-h", "hv0"] {
        let expected =
            Expected::denied("enable-loopback", &["sysctls = [\"accept_ra\", \"route_localnet\"]"]);
        stage.fails(json!([pair(), enable(link)]), &expected)?;
    }
    stage.write_policy(&rule().replace("[\"accept_ra\"]", "[\"*\"]"))?;
    for link in ["br-calm", "up0"] {
        stage.fails(json!([enable(link)]), &Expected::denied("link", &[link]))?;
    }
    let mut of_container = enable("eth0");
    of_container["side"] = "container".into();
    stage.fails(json!([pair(), of_container]), &Expected::failure(7, &["no link of the node"])).map(drop)
}

fn flood() -> anyhow::Result<()> {
    let mut stage = Stage::new(&rule().replace("8000-8099/tcp", "1-65535/tcp"))?;
    other_publishes(&mut stage, port(80))?;
    let many = with(with(port(1000), "count", 125), "times", 80);
    stage.fails(attack(&[many]), &Expected::failure(103, &["more than 4096 changes"]))?;
    stage.write_policy(&format!(
        "{}[allow.limits]\nchanges = 20\n",
        rule().replace("8000-8099/tcp", "1-65535/tcp")
    ))?;
    let some = with(port(1000), "count", 19);
    stage.fails(attack(&[some]), &Expected::failure(103, &["more than 20 changes"])).map(drop)
}

fn changes_nothing() -> anyhow::Result<()> {
    let mut stage = Stage::new(&rule())?;
    stage.lab.in_container(0, "ip address add 10.66.0.5/32 dev lo")?;
    stage.accept()?;
    for command in ["CHECK", "DEL"] {
        let expected = denied_publish(&["plugin hostile", command]);
        stage.call_fails(&stage.call(command, json!([port(8080)])), &expected)?;
    }
    for command in ["STATUS", "GC"] {
        // There is no container.
        stage.call_fails(&stage.call(command, json!([port(8080)])), &denied_publish(&["no link"]))?;
    }
    Ok(())
}
