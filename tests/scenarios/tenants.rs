//! Two tenants on one node: each has its own plugin, bridge and range, and
//! nothing of the other's.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::Duration;
use std::{panic, thread};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::scene::addresses;
use crate::Test;
use crate::lab::{Call, Facts, Handle, Lab, Plugins, Reply, changes, guest, line, reaches, weir};

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new("tenants: each one's containers reach each other, and not the other's", both_work),
        Test::new("tenants: nothing of one tenant's is open to the other", kept_apart),
        Test::new("tenants: a tenant's leases are limited, however many ask at once", quota),
    ]
}

/// How many leases `team-a` may hold.
const QUOTA: usize = 4;

/// What an operator writes. `team-a` uses plugins that are part of weir,
/// `team-b` one of its own.
const POLICY: &str = r#"
bundled = "by-rule"

[[allow]]
name = "team a"
network = "team-a-*"
tenant = "team-a"
plugin = ["bridge", "host-local"]
namespaces = ["container", "host"]
links = ["veth*"]
link-kinds = ["veth", "bridge"]
bridges = ["br-team-a"]
addresses = ["10.81.0.0/24"]
routes = ["10.81.0.0/24"]
sysctls = ["accept_ra", "forwarding"]
leases = 4

[[allow]]
name = "team b"
network = "team-b-*"
tenant = "team-b"
plugin = "acme"
digest = "DIGEST"
interfaces = ["weir:net/*", "weir:firewall/*", "weir:store/*", "weir:plugin/*"]
namespaces = ["container", "host"]
links = ["acme*"]
link-kinds = ["veth"]
bridges = ["br-team-b"]
addresses = ["10.82.0.0/24"]
leases = 100
"#;

/// A node with two tenants.
struct House {
    lab: Lab,
    digest: String,
}

impl House {
    /// Containers alternate between the tenants.
    fn new(containers: usize) -> anyhow::Result<Self> {
        let mut lab = Lab::new(Plugins::Weir)?;
        for number in 0..containers {
            lab.add_container_as(&format!("c{number}"), Handle::BindMount)?;
        }
        symlink(weir(), lab.bin.join("acme"))?;
        let policy = lab.path("policy");
        fs::create_dir(&policy)?;
        for directory in [&lab.path("weir"), &policy] {
            fs::set_permissions(directory, Permissions::from_mode(0o755))?;
        }
        lab.on_node("ip link add br-team-b type bridge")?;
        lab.on_node("ip link set br-team-b up")?;
        let mut house = Self { lab, digest: String::new() };
        house.digest = house.install("hostile")?;
        let path = policy.join("policy.toml");
        fs::write(&path, POLICY.replace("DIGEST", &house.digest))?;
        fs::set_permissions(&path, Permissions::from_mode(0o644))?;
        Ok(house)
    }

    /// Installs a component as the plugin of `team-b`; returns its digest.
    fn install(&self, name: &str) -> anyhow::Result<String> {
        let component = guest::component(name)?;
        let weir = self.lab.bin.join("weir");
        let program = line(&format!("{} plugin add {} --type acme", weir.display(), component.display()))
            .variable("WEIR_STATE_DIR", self.lab.path("weir"))
            .variable("WEIR_POLICY_DIR", self.lab.path("policy"));
        let text = self.lab.node.enter(|| program.succeed())?;
        let start = text.find("sha256:").context("no digest")?;
        Ok(text.get(start..start + 71).context("no whole digest")?.to_owned())
    }

    /// A call for a container of a tenant.
    fn call(&self, command: &str, number: usize, tenant: &str, config: &Value) -> Call {
        let kind = config["type"].as_str().unwrap_or_default();
        let arguments = format!("IgnoreUnknown=1;K8S_POD_NAMESPACE={tenant};K8S_POD_NAME=p{number}");
        self.lab
            .call_for(kind, command, &self.lab.containers[number], "eth0")
            .variable("CNI_ARGS", arguments)
            .config(config)
    }

    fn add(&self, number: usize, tenant: &str, config: &Value) -> anyhow::Result<Value> {
        self.lab.run(&self.call("ADD", number, tenant, config))?.success().context(tenant.to_owned())
    }

    fn records(&self) -> anyhow::Result<Vec<Value>> {
        let text = fs::read_to_string(self.lab.path("audit.jsonl")).unwrap_or_default();
        text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }

    /// The node's state, without what a refused call may leave of its own.
    fn state(&self) -> anyhow::Result<Facts> {
        let mut facts = self.lab.digest()?;
        facts.retain(|key, _| {
            !key.ends_with("/lock") && !key.ends_with("/.census") && !key.contains("/last_reserved_ip.")
        });
        for value in facts.values_mut() {
            *value = value.replace(" tentative", "");
        }
        Ok(facts)
    }

    /// Waits for what the kernel does by itself when a link comes up.
    fn settle(&self) -> anyhow::Result<()> {
        for _ in 0..100 {
            let before = self.state()?;
            thread::sleep(Duration::from_millis(60));
            let after = self.state()?;
            let is_up = |bridge| {
                after.get(&format!("node/link/{bridge}/operstate")).is_some_and(|state| state == "UP")
            };
            if before == after && is_up("br-team-a") && is_up("br-team-b") {
                return Ok(());
            }
        }
        anyhow::bail!("the bridges do not come up")
    }

    /// An ADD that has to be refused and recorded, and to change nothing.
    fn refused(&self, tenant: &str, config: &Value, word: &str) -> anyhow::Result<()> {
        let before = self.state()?;
        let seen = self.records()?.len();
        let error = self.lab.run(&self.call("ADD", 2, tenant, config))?.failure()?;
        ensure!(error.code == 100, "the code is {}: {}", error.code, error.text);
        ensure!(error.text.contains(word), "it does not name {word:?}: {}", error.text);
        let records = self.records()?;
        let is_denied = |record: &Value| record["outcome"] == "denied" && record["tenant"] == tenant;
        let denied = records[seen..].iter().any(is_denied);
        ensure!(denied, "no refusal of {tenant:?} is recorded: {:?}", &records[seen..]);
        for _ in 0..100 {
            if changes(&before, &self.state()?).is_empty() {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(50));
        }
        anyhow::bail!("the refused call left {:?}", changes(&before, &self.state()?))
    }
}

/// The network of `team-a`.
fn team_a() -> Value {
    json!({
        "cniVersion": "1.1.0", "name": "team-a-net", "type": "bridge", "bridge": "br-team-a",
        "isGateway": true,
        "ipam": { "type": "host-local", "subnet": "10.81.0.0/24" }
    })
}

/// The network of `team-b`, whose plugin gives each container this address.
fn team_b(number: usize) -> Value {
    let address = format!("10.82.0.{}", number + 10);
    steps(json!([
        { "do": "create-veth", "near": format!("acme{number}"), "far": "eth0", "bridge": "br-team-b" },
        { "do": "reserve", "address": address },
        { "do": "add-address", "link": "eth0", "address": address, "length": 24 },
        { "do": "set-up", "link": "eth0" },
        { "do": "answer-interface", "name": "eth0" },
        { "do": "answer-address", "address": address, "length": 24, "interface": 0 },
    ]))
}

/// The network of `team-b`, whose plugin does this.
fn steps(steps: Value) -> Value {
    json!({ "cniVersion": "1.1.0", "name": "team-b-net", "type": "acme", "attack": { "ADD": steps } })
}

fn both_work() -> anyhow::Result<()> {
    let house = House::new(4)?;
    let mut given = Vec::new();
    for number in 0..4 {
        let (tenant, config) =
            if number % 2 == 0 { ("team-a", team_a()) } else { ("team-b", team_b(number)) };
        let result = house.add(number, tenant, &config)?;
        let address = addresses(&result)?.pop().context("there is no address")?;
        given.push(address.parse::<std::net::IpAddr>()?);
    }
    for (from, to, is_reached) in
        [(0, 2, true), (2, 0, true), (1, 3, true), (3, 1, true), (1, 0, false), (3, 2, false)]
    {
        let namespace = &house.lab.containers[from].namespace;
        let reached = reaches(namespace, given[to]).unwrap_or(false);
        ensure!(reached == is_reached, "container {from} reaches {}: {reached}", given[to]);
    }
    let records = house.records()?;
    ensure!(records.iter().all(|record| record["outcome"] == "done"), "not all was done: {records:?}");
    for number in 0..4 {
        let (tenant, config) =
            if number % 2 == 0 { ("team-a", team_a()) } else { ("team-b", team_b(number)) };
        house.lab.run(&house.call("DEL", number, tenant, &config))?.silence()?;
    }
    let left: Vec<String> = house.lab.lease_files().into_keys().filter(|key| key.contains("/10.8")).collect();
    ensure!(left.is_empty(), "leases are left: {left:?}");
    Ok(())
}

fn kept_apart() -> anyhow::Result<()> {
    let house = House::new(3)?;
    house.add(0, "team-a", &team_a())?;
    house.add(1, "team-b", &team_b(1))?;
    house.settle()?;
    let with = |key: &str, value: &str| {
        let mut config = team_a();
        match key.split_once('.') {
            Some((outer, inner)) => config[outer][inner] = value.into(),
            None => config[key] = value.into(),
        }
        config
    };
    // Each other's bridge.
    house.refused("team-a", &with("bridge", "br-team-b"), "br-team-b")?;
    let veth = json!({ "do": "create-veth", "near": "acme9", "far": "eth0", "bridge": "br-team-a" });
    house.refused("team-b", &steps(json!([veth])), "br-team-a")?;
    // Each other's links, and names.
    let shown = house.lab.on_node("ip -o link show type veth master br-team-a")?;
    let port = shown.split(": ").nth(1).and_then(|name| name.split('@').next()).context("no port")?;
    house.refused("team-b", &steps(json!([{ "do": "remove", "link": port }])), port)?;
    let veth = json!({ "do": "create-veth", "near": "veth9", "far": "eth0" });
    house.refused("team-b", &steps(json!([veth])), "veth9")?;
    // Each other's range.
    house.refused("team-a", &with("ipam.subnet", "10.82.0.0/24"), "10.82.0")?;
    house.refused("team-a", &with("ipam.subnet", "10.80.0.0/14"), "10.81.0.0/24")?;
    house.refused("team-b", &steps(json!([{ "do": "reserve", "address": "10.81.0.9" }])), "10.81.0.9")?;
    let answer = json!({ "do": "answer-address", "address": "10.81.0.9", "length": 24 });
    house.refused("team-b", &steps(json!([answer])), "10.81.0.9")?;
    let masquerade =
        json!({ "do": "masquerade", "address": "10.81.0.2", "direct": "10.81.0.0", "length": 24 });
    house.refused("team-b", &steps(json!([masquerade])), "10.81.0.2")?;
    // Each other's network.
    house.refused("team-a", &with("name", "team-b-net"), "team-b-net")?;
    let mut other = team_b(2);
    other["name"] = "team-a-net".into();
    house.refused("team-b", &other, "team-a-net")?;
    // Each other's plugin.
    let mut other = team_b(2);
    other["name"] = "team-a-net".into();
    house.refused("team-a", &other, "plugin acme")?;
    house.refused("team-b", &with("name", "team-b-net"), "plugin bridge")?;
    // Each other's leases, by way of another directory.
    let place = house.lab.path("cni/networks/team-a-net").display().to_string();
    house.refused("team-b", &steps(json!([{ "do": "open", "data-dir": place }])), "dataDir")?;
    // The name of a tenant, and none.
    for tenant in ["team-b", "team-ab", "TEAM-A", "team-a*", ""] {
        let config = team_a();
        let call = house.call("ADD", 2, tenant, &config);
        let error = house.lab.run(&call)?.failure()?;
        ensure!(error.code == 100, "{tenant:?}: the code is {}: {}", error.code, error.text);
    }
    // Another component in place of the one that was allowed.
    let other = house.install("fixed")?;
    ensure!(other != house.digest, "they have one digest");
    house.refused("team-b", &steps(json!([])), "no allow rule matches it")
}

fn quota() -> anyhow::Result<()> {
    let house = House::new(8)?;
    let config = team_a();
    let replies = thread::scope(|scope| {
        let calls: Vec<_> = (0..8)
            .map(|number| {
                let (house, config) = (&house, &config);
                scope.spawn(move || house.lab.run(&house.call("ADD", number, "team-a", config)))
            })
            .collect();
        calls
            .into_iter()
            .map(|call| call.join().unwrap_or_else(|cause| panic::resume_unwind(cause)))
            .collect::<anyhow::Result<Vec<Reply>>>()
    })?;
    let mut leased = BTreeSet::new();
    let mut attached = Vec::new();
    for (number, reply) in replies.into_iter().enumerate() {
        match reply {
            Reply::Success(result) => {
                attached.push(number);
                leased.extend(addresses(&result.unwrap_or_default())?);
            }
            Reply::Failure(error) => {
                let says = format!("may not hold more than {QUOTA} leases");
                ensure!(error.code == 103 && error.text.contains(&says), "{}: {}", error.code, error.text);
            }
        }
    }
    ensure!(attached.len() == QUOTA && leased.len() == QUOTA, "attached are {attached:?} with {leased:?}");
    let denied = house.records()?.iter().filter(|record| record["outcome"] == "denied").count();
    ensure!(denied == 8 - QUOTA, "{denied} refusals are recorded");
    // Another tenant's are not counted, and what is given back may be had again.
    house.add(
        (0..8).find(|number| !attached.contains(number)).context("all have one")?,
        "team-b",
        &team_b(1),
    )?;
    house.lab.run(&house.call("DEL", attached[0], "team-a", &config))?.silence()?;
    house.add(attached[0], "team-a", &config).map(drop)
}
