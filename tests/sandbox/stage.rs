//! A node on which a hostile plugin is installed, with a neighbour that it
//! could hurt.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};

use super::store;
use crate::lab::{Call, CniError, Facts, Lab, Plugins, Reply, changes, is_installed, line, require, weir};

/// How long the kernel may take to finish what it does by itself.
const SETTLE_TIME: Duration = Duration::from_secs(10);

/// What a call may take beyond its budget, on a machine that has much else to
/// do: taking back what was done, and waiting for a processor.
const MARGIN: Duration = Duration::from_secs(10);

/// The budget of calls, in seconds, that should not need it.
const BUDGET: f64 = 20.0;

/// What a process may have of data, in KiB: enough for two components with all
/// of their memory.
const MEMORY: u32 = 160 << 10;

/// What a node has before anything happens: a bridge that the policy names,
/// with an address of the operator's, and an uplink.
const NODE: &str = "\
link add br-h address 02:00:00:00:00:66 type bridge
link add port0 type veth peer name port1
link set port0 master br-h up
link set port1 up
address add 10.66.0.1/24 dev br-h
address add 10.99.0.1/24 dev br-h
link set br-h up
link add up0 type veth peer name up1
link property add dev up0 altname uplink
address add 192.0.2.1/24 dev up0
link set up0 up
link set up1 up
route add default via 192.0.2.2
neighbour add 192.0.2.2 lladdr 02:00:00:00:00:02 dev up0 nud permanent
";

/// What an operator may allow a plugin on a bridge and a range of its own.
pub(super) const RULE: &str = r#"
[[allow]]
name = "hostile"
network = "hostile"
plugin = "hostile"
interfaces = ["weir:net/*", "weir:firewall/*", "weir:store/*", "weir:plugin/*"]
namespaces = ["container", "host"]
links = ["hv*"]
link-kinds = ["veth"]
bridges = ["br-h"]
addresses = ["10.66.0.0/24"]
routes = ["10.66.0.0/24"]
sysctls = ["accept_ra"]
leases = 8
"#;

/// A node with two containers. Both are on the network `calm` of a bundled
/// plugin, the first one by its `eth1`: it is the one that is to get an `eth0`.
pub(super) struct Stage {
    pub(super) lab: Lab,
    pub(super) budget: f64,
    /// The digest of the component that is called.
    pub(super) digest: String,
    /// The plugin type that is called.
    pub(super) kind: &'static str,
    before: Facts,
}

/// How an attack has to end.
pub(super) struct Expected {
    /// The CNI code.
    pub(super) code: u64,
    /// What the message names.
    pub(super) words: Vec<String>,
    /// The operation that the audit log has to have as denied.
    pub(super) denied: Option<&'static str>,
}

impl Expected {
    /// A refusal, which is recorded.
    pub(super) fn denied(operation: &'static str, words: &[&str]) -> Self {
        Self { denied: Some(operation), ..Self::failure(100, words) }
    }

    /// Another failure.
    pub(super) fn failure(code: u64, words: &[&str]) -> Self {
        Self { code, words: words.iter().map(|word| (*word).to_owned()).collect(), denied: None }
    }
}

impl Stage {
    /// A stage for the plugin that does what the configuration says.
    pub(super) fn new(policy: &str) -> anyhow::Result<Self> {
        let mut stage = Self::empty(policy)?;
        let digest = store::copy_to(&stage.lab.path("weir"))?;
        stage.kind = "hostile";
        stage.digest = digest;
        stage.ready()
    }

    /// A stage for another component, which is installed as `raw`.
    pub(super) fn of_component(policy: &str, component: &[u8]) -> anyhow::Result<Self> {
        let mut stage = Self::empty(policy)?;
        let path = stage.lab.path("raw.wasm");
        fs::write(&path, component)?;
        let text = stage.plugin(&format!("add {} --type raw", path.display()))?;
        stage.kind = "raw";
        stage.digest = digest(&text)?;
        stage.ready()
    }

    fn empty(policy: &str) -> anyhow::Result<Self> {
        require(is_installed("nft"), "the program nft is missing: install nftables")?;
        let mut lab = Lab::new(Plugins::Weir)?;
        for _ in 0..2 {
            lab.add_container()?;
        }
        for kind in ["hostile", "raw"] {
            limit_memory(&lab, kind)?;
        }
        let directory = lab.path("policy");
        fs::create_dir(&directory)?;
        for (path, mode) in [(&lab.path("weir"), 0o755), (&directory, 0o755)] {
            fs::set_permissions(path, Permissions::from_mode(mode))?;
        }
        let stage =
            Self { lab, budget: BUDGET, digest: String::new(), kind: "hostile", before: Facts::new() };
        stage.write_policy(policy)?;
        Ok(stage)
    }

    /// Sets up the neighbour and looks at the node.
    fn ready(mut self) -> anyhow::Result<Self> {
        let program = line("ip -batch -").input(NODE);
        self.lab.node.enter(|| program.succeed())?;
        for (number, ifname) in [(0, "eth1"), (1, "eth0")] {
            let call = self.call_of("bridge", "ADD", number, ifname).config(&calm());
            self.lab.run(&call)?.success().context("ADD of the neighbour")?;
        }
        self.before = self.settled_state()?;
        Ok(self)
    }

    pub(super) fn write_policy(&self, policy: &str) -> anyhow::Result<()> {
        let path = self.lab.path("policy/policy.toml");
        fs::write(&path, policy)?;
        Ok(fs::set_permissions(&path, Permissions::from_mode(0o644))?)
    }

    /// Runs `weir plugin`, which has to succeed.
    pub(super) fn plugin(&self, arguments: &str) -> anyhow::Result<String> {
        self.weir(&format!("plugin {arguments}"))
    }

    /// Runs one of weir's commands, which has to succeed.
    pub(super) fn weir(&self, arguments: &str) -> anyhow::Result<String> {
        let program = line(&format!("{} {arguments}", self.lab.bin.join("weir").display()))
            .variable("WEIR_STATE_DIR", self.lab.path("weir"))
            .variable("WEIR_POLICY_DIR", self.lab.path("policy"))
            .variable("WEIR_AUDIT_FILE", self.lab.path("audit.jsonl"))
            .variable("TMPDIR", self.lab.path(""));
        self.lab.node.enter(|| program.succeed())
    }

    /// A call of any plugin about a container.
    pub(super) fn call_of(&self, kind: &str, command: &str, number: usize, ifname: &str) -> Call {
        let container = &self.lab.containers[number];
        self.with_policy(self.lab.call_for(kind, command, container, ifname))
    }

    /// The hostile plugin's call with this attack.
    pub(super) fn call(&self, command: &str, attack: Value) -> Call {
        let mut config = self.config();
        config["attack"][command] = attack;
        self.call_with(command, &config)
    }

    /// ADD, which has to succeed.
    pub(super) fn attach(&self, steps: Value) -> anyhow::Result<()> {
        self.answer(&self.call("ADD", steps))?.success().map(drop).context("ADD")
    }

    /// A call with a whole configuration.
    pub(super) fn call_with(&self, command: &str, config: &Value) -> Call {
        let call = match command {
            "GC" | "STATUS" => self.with_policy(self.lab.call(self.kind, command)),
            _ => self.call_of(self.kind, command, 0, "eth0"),
        };
        call.config(config)
    }

    fn with_policy(&self, call: Call) -> Call {
        call.variable("WEIR_POLICY_DIR", self.lab.path("policy"))
            .variable("WEIR_TIMEOUT", self.budget.to_string())
    }

    /// The network's configuration, without an attack.
    pub(super) fn config(&self) -> Value {
        json!({ "cniVersion": "1.1.0", "name": "hostile", "type": self.kind, "prevResult": {} })
    }

    /// An ADD that has to fail, and leave nothing.
    pub(super) fn fails(&self, attack: Value, expected: &Expected) -> anyhow::Result<CniError> {
        let what = attack.to_string().chars().take(300).collect::<String>();
        self.call_fails(&self.call("ADD", attack), expected).context(what)
    }

    /// A call that has to fail, and leave nothing. DEL of an attachment of which
    /// nothing is known says what it may not do on standard error alone: the
    /// container has to go.
    pub(super) fn call_fails(&self, call: &Call, expected: &Expected) -> anyhow::Result<CniError> {
        let seen = self.records()?.len();
        let (reply, notes) = self.answer_with_notes(call)?;
        let error = match reply {
            Reply::Success(None) if expected.code == 100 && notes.contains("there is nothing to undo") => {
                CniError { code: 100, text: notes }
            }
            reply => reply.failure()?,
        };
        ensure!(
            error.code == expected.code,
            "the code is {}, not {}: {}",
            error.code,
            expected.code,
            error.text
        );
        for word in &expected.words {
            ensure!(error.text.contains(word.as_str()), "the message does not name {word:?}: {}", error.text);
        }
        if let Some(operation) = expected.denied {
            let records = self.records()?;
            let is_it = |record: &&Value| record["outcome"] == "denied" && record["operation"] == operation;
            let record = records[seen..].iter().find(is_it);
            let record = record.with_context(|| {
                format!("the audit log has no {operation} that was denied: {:?}", &records[seen..])
            })?;
            ensure!(
                record["plugin"] == self.kind && record["digest"] == self.digest.as_str(),
                "the record is {record}"
            );
        }
        self.unchanged()?;
        Ok(error)
    }

    /// Makes a call, which has to keep its time and to say nothing that a
    /// terminal would obey.
    pub(super) fn answer(&self, call: &Call) -> anyhow::Result<Reply> {
        self.answer_with_notes(call).map(|(reply, _)| reply)
    }

    /// The same, with what it wrote to standard error.
    fn answer_with_notes(&self, call: &Call) -> anyhow::Result<(Reply, String)> {
        let started = Instant::now();
        let output = self.lab.node.enter(|| call.program().run())?;
        let took = started.elapsed();
        let limit = Duration::from_secs_f64(self.budget) + MARGIN;
        ensure!(took < limit, "the call took {took:?}, of which it had {} s", self.budget);
        for text in [&output.stdout, &output.stderr, &self.log()] {
            let bad = text.chars().find(|c| !is_harmless(*c));
            ensure!(bad.is_none(), "{bad:?} is in {}", text.escape_debug());
        }
        ensure!(!output.stderr.contains("thread '"), "the host panicked: {}", output.stderr);
        Ok((Reply::read(&output)?, output.stderr))
    }

    fn log(&self) -> String {
        fs::read_to_string(self.lab.path("audit.jsonl")).unwrap_or_default()
    }

    /// The records of the audit log.
    pub(super) fn records(&self) -> anyhow::Result<Vec<Value>> {
        self.log().lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }

    fn state(&self) -> anyhow::Result<Facts> {
        let mut facts = self.lab.digest()?;
        facts.remove("nft");
        facts.extend(self.packet_filter()?);
        for value in facts.values_mut().filter(|value| value.contains(" tentative")) {
            *value = value.replace(" tentative", "");
        }
        // A lock says nothing about what it guards.
        facts.retain(|key, _| !key.ends_with("/lock") && !key.ends_with("/.census"));
        Ok(facts)
    }

    /// Elements and rules. The chain of a network that nothing leads to may
    /// stay.
    fn packet_filter(&self) -> anyhow::Result<Facts> {
        let text = self.lab.node.enter(|| line("nft --json --stateless list ruleset").succeed())?;
        let ruleset: Value = serde_json::from_str(&text).context("read the packet filter")?;
        let mut facts = Facts::new();
        for object in ruleset["nftables"].as_array().into_iter().flatten() {
            for set in [&object["set"], &object["map"]] {
                for element in set["elem"].as_array().into_iter().flatten() {
                    facts.insert(format!("nft/{}/{element}", set["name"]), String::new());
                }
            }
            let rule = &object["rule"];
            if !rule.is_null() && rule["chain"] != "direct-10.66.0.0/24" {
                facts.insert(format!("nft/{}/{}", rule["chain"], rule["handle"]), rule["expr"].to_string());
            }
        }
        Ok(facts)
    }

    fn settled_state(&self) -> anyhow::Result<Facts> {
        let (mut state, deadline) = (self.state()?, Instant::now() + SETTLE_TIME);
        loop {
            thread::sleep(Duration::from_millis(60));
            let next = self.state()?;
            // The kernel looks for carriers once a second.
            let has_carrier = ["br-h", "br-calm", "up0"].iter().all(|link| {
                next.get(&format!("node/link/{link}/operstate")).is_some_and(|state| state == "UP")
            });
            if (next == state && has_carrier) || Instant::now() > deadline {
                return Ok(next);
            }
            state = next;
        }
    }

    /// Fails unless the node is as it was.
    pub(super) fn unchanged(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + SETTLE_TIME;
        loop {
            let left: Vec<String> = changes(&self.before, &self.state()?)
                .into_iter()
                // The hostile network's own marks of where it continues hurt
                // nobody.
                .filter(|change| !change.contains(" leases/networks/hostile/last_reserved_ip."))
                .collect();
            if left.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("the node is not as it was before:\n  {}", left.join("\n  "));
            }
            thread::sleep(Duration::from_millis(30));
        }
    }

    /// Takes what is there now for what has to stay.
    pub(super) fn accept(&mut self) -> anyhow::Result<()> {
        self.before = self.settled_state()?;
        Ok(())
    }
}

/// The network of the neighbour.
pub(super) fn calm() -> Value {
    json!({
        "cniVersion": "1.1.0", "name": "calm", "type": "bridge", "bridge": "br-calm",
        "isGateway": true, "ipMasq": true, "macspoofchk": true,
        "ipam": { "type": "host-local", "subnet": "10.77.0.0/24" }
    })
}

/// The name of a port of a bridge.
pub(super) fn port_of(lab: &Lab, bridge: &str) -> anyhow::Result<String> {
    let shown = lab.on_node(&format!("ip -o link show type veth master {bridge}"))?;
    let name = shown.split(": ").nth(1).and_then(|name| name.split('@').next());
    Ok(name.with_context(|| format!("{bridge} has no port"))?.to_owned())
}

/// Puts a script in place of a link to weir, which gives it little memory: what
/// a component makes the host allocate must not be without bounds.
fn limit_memory(lab: &Lab, kind: &str) -> anyhow::Result<()> {
    let linked = lab.path("linked");
    fs::create_dir_all(&linked)?;
    symlink(weir(), linked.join(kind))?;
    let script = lab.bin.join(kind);
    let body = format!("#!/bin/sh\nulimit -d {MEMORY}\nexec {}\n", linked.join(kind).display());
    fs::write(&script, body)?;
    Ok(fs::set_permissions(&script, Permissions::from_mode(0o755))?)
}

fn is_harmless(character: char) -> bool {
    character == '\n'
        || !(character.is_control()
            || matches!(character, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'))
}

/// The first digest in a text.
pub(super) fn digest(text: &str) -> anyhow::Result<String> {
    let start = text.find("sha256:").with_context(|| format!("there is no digest in {text}"))?;
    Ok(text.get(start..start + 71).context("the digest is cut")?.to_owned())
}
