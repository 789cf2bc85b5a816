//! A network on a node of its own, and what a runtime does with it.

use std::ffi::OsStr;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};

use super::network::{Network, native};
use super::shared::{is_mark, is_shared};
use crate::lab::{
    Call, Container, Facts, Handle, Lab, Output, Plugins, Reply, changes, is_installed, line, require,
};

/// How long the kernel may take to finish what it does by itself, such as
/// clearing away a namespace.
const SETTLE_TIME: Duration = Duration::from_secs(10);

/// How many differences a failure shows.
const SHOWN: usize = 12;

/// A node, its containers and a network.
pub(super) struct Scene {
    pub(super) lab: Lab,
    pub(super) config: Value,
    network: &'static Network,
}

/// How much an attachment may have changed for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Allowed {
    /// What attachments share, which the first one makes.
    Shared,
    /// Marks in the pool only: the shared things are there.
    Marks,
    /// As `Shared`, and settings of the container, which nobody can put back
    /// without its namespace.
    Settings,
}

impl Scene {
    /// A fresh node with `containers` containers.
    pub(super) fn new(network: &'static Network, containers: usize) -> anyhow::Result<Self> {
        require(is_installed("nft"), "the program nft is missing: install nftables")?;
        let mut lab = Lab::new(Plugins::Weir)?;
        network.prepare(&lab)?;
        for number in 0..containers {
            lab.add_container()?;
            network.prepare_container(&lab, number)?;
        }
        let mut config: Value = serde_json::from_str(network.config)?;
        let fixed = [("cniVersion", network.version), ("name", "n"), ("type", network.plugin)];
        for (key, value) in fixed {
            if config[key].is_null() {
                config[key] = value.into();
            }
        }
        Ok(Self { lab, config, network })
    }

    /// Adds one more container and returns its number.
    pub(super) fn add_container(&mut self, id: &str, handle: Handle) -> anyhow::Result<usize> {
        self.lab.add_container_as(id, handle)?;
        let number = self.lab.containers.len() - 1;
        self.network.prepare_container(&self.lab, number)?;
        Ok(number)
    }

    /// The plugin that is called.
    pub(super) fn plugin(&self) -> &'static str {
        self.network.plugin
    }

    /// A call about a container.
    pub(super) fn call(&self, command: &str, number: usize) -> Call {
        let ifname = if self.network.plugin == "loopback" { "lo" } else { "eth0" };
        let container = &self.lab.containers[number];
        self.lab.call_for(self.network.plugin, command, container, ifname).config(&self.config)
    }

    /// A call of a native plugin about the `eth0` of a container.
    pub(super) fn native_call(
        &self,
        plugin: &str,
        command: &str,
        container: &Container,
    ) -> anyhow::Result<Call> {
        let program = native(plugin)?;
        let directory = program.parent().context("a plugin is in a directory")?.to_owned();
        Ok(self
            .lab
            .call_binary(program, command)
            .variable("CNI_PATH", directory)
            .variable("CNI_CONTAINERID", &container.id)
            .variable("CNI_NETNS", &container.path)
            .variable("CNI_IFNAME", "eth0")
            .config(&self.config))
    }

    /// ADD, which has to succeed.
    pub(super) fn add(&self, number: usize) -> anyhow::Result<Value> {
        self.lab.run(&self.call("ADD", number))?.success().context("ADD")
    }

    /// DEL, which has to succeed.
    pub(super) fn del(&self, number: usize) -> anyhow::Result<()> {
        self.silent(&self.call("DEL", number)).context("DEL")
    }

    /// DEL with an empty `CNI_NETNS`.
    pub(super) fn del_without_netns(&self, number: usize) -> anyhow::Result<()> {
        let call = self.call("DEL", number).variable("CNI_NETNS", "");
        self.silent(&call).context("DEL with an empty CNI_NETNS")
    }

    /// CHECK with the result of ADD.
    pub(super) fn check(&self, number: usize, result: &Value) -> anyhow::Result<()> {
        let mut config = self.config.clone();
        config["prevResult"] = result.clone();
        self.silent(&self.call("CHECK", number).config(&config)).context("CHECK")
    }

    /// GC that keeps the `eth0` of these containers.
    pub(super) fn gc(&self, valid: &[&str]) -> anyhow::Result<()> {
        let valid: Vec<Value> = valid.iter().map(|id| json!({"containerID": id, "ifname": "eth0"})).collect();
        self.gc_with(json!({"cni.dev/valid-attachments": valid})).context("GC")
    }

    /// GC with these keys.
    pub(super) fn gc_with(&self, keys: Value) -> anyhow::Result<()> {
        let mut config = self.config.clone();
        for (key, value) in keys.as_object().into_iter().flatten() {
            config[key] = value.clone();
        }
        self.silent(&self.lab.call(self.network.plugin, "GC").config(&config))
    }

    /// Makes a call that has to succeed and say nothing.
    pub(super) fn silent(&self, call: &Call) -> anyhow::Result<()> {
        self.lab.run(call)?.silence()
    }

    /// Makes a call that may be killed; none then.
    pub(super) fn survive(&self, call: &Call) -> anyhow::Result<Option<Reply>> {
        use std::os::unix::process::ExitStatusExt;
        let output = self.lab.node.enter(|| call.program().run())?;
        if output.status.signal() == Some(nix::libc::SIGKILL) {
            Ok(None)
        } else {
            Reply::read(&output).map(Some)
        }
    }

    /// Makes a call under strace(1), with an expression for it; returns what the
    /// plugin did, and what strace saw.
    pub(super) fn trace(&self, call: &Call, expression: &str) -> anyhow::Result<(Output, String)> {
        require(is_installed("strace"), "the program strace is missing: install strace")?;
        let log = self.lab.path("trace");
        let arguments = ["-fqq", "-e", expression, "-o"].map(OsStr::new).into_iter().chain([log.as_os_str()]);
        let program = call.program().clone().executed_by("strace", arguments);
        let output = self.lab.node.enter(|| program.run())?;
        require(!output.stderr.contains("PTRACE"), "strace is not allowed to trace here")?;
        Ok((output, fs::read_to_string(&log).context("read what strace saw")?))
    }

    /// Destroys a container with its namespace, as a runtime or a crash does.
    /// A mount point stays as a plain file. Returns a DEL that still names it.
    pub(super) fn end_container(&mut self, number: usize) -> anyhow::Result<Call> {
        let del = self.call("DEL", number);
        let container = self.lab.containers.remove(number);
        if !container.path.starts_with("/proc") {
            self.lab.on_node(&format!("umount {}", container.path.display()))?;
        }
        Ok(del)
    }

    /// Everything there is, with the packet filter's elements one by one.
    pub(super) fn state(&self) -> anyhow::Result<Facts> {
        let mut facts = self.lab.digest()?;
        facts.remove("nft");
        // Duplicate address detection ends by itself.
        for value in facts.values_mut().filter(|value| value.contains(" tentative")) {
            *value = value.replace(" tentative", "");
        }
        let text = self.lab.node.enter(|| line("nft --json --stateless list ruleset").succeed())?;
        let ruleset: Value = serde_json::from_str(&text).context("read the packet filter")?;
        for object in ruleset["nftables"].as_array().into_iter().flatten() {
            for set in [&object["set"], &object["map"]] {
                for element in set["elem"].as_array().into_iter().flatten() {
                    facts.insert(format!("nft/{}/{element}", set["name"]), String::new());
                }
            }
        }
        Ok(facts)
    }

    /// The same, once the kernel is done with what it does by itself when a
    /// link comes up or its last port goes.
    pub(super) fn settled_state(&self) -> anyhow::Result<Facts> {
        let mut state = self.state()?;
        let deadline = Instant::now() + SETTLE_TIME;
        loop {
            thread::sleep(Duration::from_millis(100));
            let next = self.state()?;
            if (next == state && !is_changing(&next)) || Instant::now() > deadline {
                return Ok(next);
            }
            state = next;
        }
    }

    /// Fails unless the state is what it was before, but for what is allowed.
    pub(super) fn expect(&self, before: &Facts, allowed: Allowed) -> anyhow::Result<()> {
        // What ended containers had is gone with them.
        let lives = |key: &str| {
            let owner = key.split('/').next().unwrap_or_default();
            ["node", "leases", "journal", "nft"].contains(&owner)
                || self.lab.containers.iter().any(|c| c.id == owner)
        };
        let before: Facts = before
            .iter()
            .filter(|(key, _)| lives(key))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        let is_allowed = |change: &String| match allowed {
            Allowed::Shared => is_shared(change),
            Allowed::Marks => is_mark(change),
            Allowed::Settings => is_shared(change) || self.is_setting(change),
        };
        let deadline = Instant::now() + SETTLE_TIME;
        loop {
            let left: Vec<String> =
                changes(&before, &self.state()?).into_iter().filter(|change| !is_allowed(change)).collect();
            if left.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                let (some, more) = left.split_at(left.len().min(SHOWN));
                let more =
                    if more.is_empty() { String::new() } else { format!("\n  and {} more", more.len()) };
                bail!("this is not as it was before:\n  {}{more}", some.join("\n  "));
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn is_setting(&self, change: &str) -> bool {
        self.lab.containers.iter().any(|container| {
            ["sysctl/", "link/lo/", "route/"]
                .iter()
                .any(|part| change.contains(&format!(" {}/{part}", container.id)))
        })
    }

    /// The addresses that are leased.
    pub(super) fn leased(&self) -> Vec<String> {
        let facts = self.lab.lease_files();
        let name = |key: &String| key.rsplit('/').next().unwrap_or_default().to_owned();
        facts.keys().map(name).filter(|name| name.parse::<std::net::IpAddr>().is_ok()).collect()
    }

    /// The journal's files.
    pub(super) fn journals(&self) -> Vec<std::path::PathBuf> {
        let entries = fs::read_dir(self.lab.path("weir/attachments")).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    }
}

/// The addresses of a result, without their prefix lengths.
pub(super) fn addresses(result: &Value) -> anyhow::Result<Vec<String>> {
    let ips = result["ips"].as_array().context("the result has no ips")?;
    ensure!(!ips.is_empty(), "the result has no addresses: {result}");
    let address = |ip: &Value| Some(ip["address"].as_str()?.split('/').next()?.to_owned());
    ips.iter().map(|ip| address(ip).with_context(|| format!("no address in {ip}"))).collect()
}

/// Whether the kernel has still to notice that a link works, or works no more,
/// which it does for some of them once a second only: its carrier changes at
/// once, its operational state later.
fn is_changing(state: &Facts) -> bool {
    let links = state.iter().filter_map(|(key, value)| Some((key.strip_suffix("/operstate")?, value)));
    links.filter(|(link, _)| !link.ends_with("/lo")).any(|(link, operational)| {
        let has_carrier = state
            .get(&format!("{link}/flags"))
            .is_some_and(|flags| flags.split(' ').any(|flag| flag == "LOWER_UP"));
        operational == "UNKNOWN" || operational == "UP" && !has_carrier
    })
}
