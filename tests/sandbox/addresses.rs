//! Components that want addresses, routes and settings that are not theirs.

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::stage::{Expected, RULE, Stage, port_of};
use crate::Test;

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new("sandbox: addresses outside of the policy's are not configured", spoofing),
        Test::new("sandbox: a bridge's address brings no route to more than the policy's", wide_prefixes),
        Test::new("sandbox: addresses that others gave a bridge stay", addresses_of_others),
        Test::new("sandbox: the node's routes are out of reach", routes),
        Test::new("sandbox: settings outside of the policy's are not written", settings),
        Test::new("sandbox: settings that no kernel has do not fill the memory of a plan", long_values),
        Test::new("sandbox: addresses of others are not masqueraded", masquerade),
        Test::new("sandbox: the masquerading of another container is not taken over", taken_masquerade),
        Test::new("sandbox: ports of others get no guard by way of a name in the container", guards),
        Test::new("sandbox: more VLANs than there are do not reach the kernel", vlans),
        Test::new("sandbox: VLANs outside of the policy's are not joined", foreign_vlans),
    ]
}

fn pair() -> Value {
    json!({ "do": "create-veth", "near": "hv0", "far": "eth0" })
}

fn spoofing() -> anyhow::Result<()> {
    let stage = Stage::new(RULE)?;
    for (address, length) in [
        ("8.8.8.8", 32),
        ("10.66.1.0", 24),
        ("10.65.255.255", 32),
        ("::ffff:8.8.8.8", 128),
        ("::ffff:10.66.1.1", 120),
        ("::10.66.0.1", 128),
        ("64:ff9b::10.66.0.1", 128),
        ("fd00::1", 64),
        ("127.0.0.1", 8),
        ("0.0.0.0", 0),
    ] {
        for link in ["hv0", "eth0"] {
            let spoof = json!({ "do": "add-address", "link": link, "address": address, "length": length });
            stage.fails(json!([pair(), spoof]), &Expected::denied("add-address", &["10.66.0.0/24"]))?;
        }
    }
    for length in [33, 128, 255] {
        let spoof = json!({ "do": "add-address", "link": "eth0", "address": "10.66.0.5", "length": length });
        stage.fails(json!([pair(), spoof]), &Expected::failure(7, &["is no prefix of its family"]))?;
    }
    Ok(())
}

fn wide_prefixes() -> anyhow::Result<()> {
    let stage = Stage::new(RULE)?;
    for link in ["br-h", "hv0"] {
        for (address, length) in
            [("10.66.0.5", 1), ("10.66.0.5", 0), ("10.66.0.5", 23), ("::ffff:10.66.0.5", 96)]
        {
            let wide = json!({ "do": "add-address", "link": link, "address": address, "length": length });
            stage.fails(json!([pair(), wide]), &Expected::denied("add-address", &["10.66.0.0/24"]))?;
        }
    }
    Ok(())
}

fn addresses_of_others() -> anyhow::Result<()> {
    let stage = Stage::new(RULE)?;
    let remove = json!({ "do": "remove-address", "link": "br-h", "address": "10.99.0.1", "length": 24 });
    stage.fails(json!([remove]), &Expected::denied("remove-address", &["10.99.0.0/24", "10.66.0.0/24"]))?;
    let remove = json!({ "do": "remove-address", "link": "br-calm", "address": "10.77.0.1", "length": 24 });
    stage.fails(json!([remove]), &Expected::denied("link", &["br-calm"])).map(drop)
}

fn routes() -> anyhow::Result<()> {
    let stage = Stage::new(RULE)?;
    let add = |link: &str, address: &str, length: u8| json!({ "do": "add-route", "link": link, "address": address, "length": length });
    for link in ["br-h", "hv0"] {
        for (address, length) in [
            ("0.0.0.0", 0),
            ("0.0.0.0", 1),
            ("192.0.2.2", 32),
            ("10.66.0.0", 23),
            ("10.77.0.2", 32),
            ("::", 0),
            ("::ffff:0.0.0.0", 96),
        ] {
            let steps = json!([pair(), add(link, address, length)]);
            stage.fails(steps, &Expected::denied("add-route", &["10.66.0.0/24"]))?;
        }
        for table in [255_u32, 253, 100, u32::MAX] {
            let mut step = add(link, "10.66.0.0", 25);
            step["table"] = table.into();
            let words = format!("table {table} of the host namespace is out of reach");
            stage.fails(json!([pair(), step]), &Expected::denied("add-route", &[&words]))?;
        }
        let mut before = add(link, "10.66.0.0", 25);
        before["do"] = "prepend-route".into();
        let words = "only a container's routes can be put before others";
        stage.fails(json!([pair(), before]), &Expected::denied("add-route", &[words]))?;
        let mut hops = add(link, "10.66.0.1", 24);
        hops["gateway"] = "192.0.2.2".into();
        stage.fails(json!([pair(), hops]), &Expected::failure(7, &["the destination has host bits"]))?;
    }
    // Out of a link of its own there is no such route.
    let remove = json!({ "do": "remove-route", "link": "hv0", "address": "0.0.0.0", "length": 0 });
    stage.fails(json!([pair(), remove]), &Expected::failure(105, &["0.0.0.0/0"]))?;
    let remove = json!({ "do": "remove-route", "link": "br-h", "address": "10.99.0.0", "length": 24 });
    stage.fails(json!([remove]), &Expected::denied("remove-route", &["br-h"])).map(drop)
}

fn settings() -> anyhow::Result<()> {
    let stage = Stage::new(RULE)?;
    for link in ["br-h", "hv0"] {
        for key in ["forwarding", "proxy_arp", "route_localnet", "rp_filter"] {
            let step = json!({ "do": "set-sysctl", "link": link, "key": key, "value": "1" });
            let words = format!("sysctls = [\"accept_ra\", \"{key}\"]");
            stage.fails(json!([pair(), step]), &Expected::denied("set-sysctl", &[&words]))?;
        }
        for key in
            ["", "../../../kernel/hostname", "../all/forwarding", "accept_ra/..", "ACCEPT_RA", "accept_ra\0"]
        {
            for action in ["set-sysctl", "read-sysctl"] {
                let step = json!({ "do": action, "link": link, "key": key, "value": "1" });
                stage.fails(json!([pair(), step]), &Expected::failure(7, &["is no setting of a link"]))?;
            }
        }
    }
    for is_ipv6 in [false, true] {
        let step = json!({ "do": "enable-forwarding", "ipv6": is_ipv6 });
        let expected = Expected::denied("enable-forwarding", &["\"forwarding\""]);
        stage.fails(json!([step]), &expected)?;
    }
    Ok(())
}

fn long_values() -> anyhow::Result<()> {
    let stage = Stage::new(RULE)?;
    let step =
        json!({ "do": "set-sysctl", "link": "eth0", "key": "arp_notify", "value": "1", "repeat": 300 });
    stage.fails(json!([pair(), step]), &Expected::failure(7, &["300 bytes", "at most 256"])).map(drop)
}

fn masquerade() -> anyhow::Result<()> {
    let stage = Stage::new(RULE)?;
    for address in ["10.77.0.2", "192.0.2.1", "8.8.8.8", "::ffff:10.77.0.2", "fd00::1"] {
        let direct = if address.contains(':') { "::" } else { "10.0.0.0" };
        let step = json!({ "do": "masquerade", "address": address, "direct": direct, "length": 8 });
        stage.fails(json!([step]), &Expected::denied("masquerade", &["10.66.0.0/24"]))?;
    }
    let step = json!({ "do": "masquerade", "address": "10.66.0.5", "direct": "::", "length": 8 });
    stage.fails(json!([step]), &Expected::failure(7, &["of another family"])).map(drop)
}

fn taken_masquerade() -> anyhow::Result<()> {
    let mut stage = Stage::new(RULE)?;
    let masquerade =
        json!({ "do": "masquerade", "address": "10.66.0.7", "direct": "10.66.0.0", "length": 24 });
    let mut config = stage.config();
    config["attack"]["ADD"] = json!([masquerade]);
    stage.answer(&stage.call_of("hostile", "ADD", 1, "eth5").config(&config))?.success()?;
    stage.accept()?;
    let mut other = masquerade;
    other["direct"] = "0.0.0.0".into();
    other["length"] = 0.into();
    stage
        .fails(json!([other]), &Expected::denied("masquerade", &["10.66.0.7", "another attachment"]))
        .map(drop)
}

fn guards() -> anyhow::Result<()> {
    let stage = Stage::new(RULE)?;
    let port = port_of(&stage.lab, "br-calm")?;
    let twin = json!({ "do": "create-veth", "near": "hv0", "far": port });
    for action in ["guard", "look-at-guard"] {
        let step = json!({ "do": action, "link": port });
        stage.fails(json!([twin, step]), &Expected::denied("guard", &[&port, "host namespace"]))?;
    }
    let shown = stage.lab.on_node("nft list ruleset")?;
    ensure!(shown.contains(&port), "the neighbour's guard is gone: {shown}");
    // Found again, its own link is one that the attachment made.
    let own = json!([pair(), { "do": "guard", "link": "hv0" }, { "do": "panic" }]);
    stage.fails(own, &Expected::failure(101, &[])).map(drop).context("a guard of its own")
}

fn vlans() -> anyhow::Result<()> {
    let stage = Stage::new(RULE)?;
    let port = json!({ "do": "create-veth", "near": "hv0", "far": "eth0", "bridge": "br-h" });
    for count in [4095, 16_400, 100_000] {
        let step = json!({ "do": "add-vlans", "link": "hv0", "count": count });
        stage.fails(json!([port, step]), &Expected::failure(7, &["ranges of VLANs"]))?;
    }
    Ok(())
}

fn foreign_vlans() -> anyhow::Result<()> {
    let stage = Stage::new(RULE)?;
    let port = json!({ "do": "create-veth", "near": "hv0", "far": "eth0", "bridge": "br-h" });
    let both = json!([port, { "do": "add-vlans", "link": "hv0", "count": 1 }]);
    stage.fails(
        both.clone(),
        &Expected::denied("add-vlans", &["VLAN 2-3", "vlans = [\"2-3\"]", "policy.toml"]),
    )?;
    // All of them have to be allowed, on that bridge.
    stage.write_policy(&RULE.replace("leases", "vlans = [\"1-2\", \"4\"]\nleases"))?;
    stage.fails(both.clone(), &Expected::denied("add-vlans", &["vlans = [\"1-2\", \"4\", \"2-3\"]"]))?;
    let other = "[[allow]]\nplugin = \"hostile\"\nbridges = \"br-x\"\nvlans = \"1-4094\"\n";
    stage.write_policy(&format!("{RULE}{other}"))?;
    stage.fails(both.clone(), &Expected::denied("add-vlans", &["port of \"br-h\""]))?;
    let allowed = RULE.replace("leases", "vlans = [\"2-3\"]\nleases");
    stage.write_policy(&format!("{allowed}\n[[deny]]\nvlans = \"3\"\n"))?;
    stage.fails(both, &Expected::denied("add-vlans", &["VLAN 2-3", "forbids it"])).map(drop)
}
