//! The table of cases through weir and through the native plugins: results and
//! the kernel's state have to be equal after each step.

use std::cell::Cell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use super::cases::{self, Case, Need, Step};
use super::differences::{DIFFERENCES, Difference, Gap, REFUSALS, Refusal, gaps};
use super::normalise::Names;
use crate::Test;
use crate::lab::{Facts, Lab, Missing, Plugins, Reply, changes, is_installed, reaches, require};

/// How long both sides may take to become equal: the kernel itself finishes
/// some things a little later.
const SETTLE_TIME: Duration = Duration::from_secs(8);

/// One test for each case.
pub(crate) fn tests() -> Vec<Test> {
    let test =
        |case: Case| Test::new(format!("parity: {} {}", case.plugin, case.name), move || compare(&case));
    cases::all().into_iter().map(test).collect()
}

/// One of both labs, with what the runtime would remember.
struct Side {
    name: &'static str,
    lab: Lab,
    /// The plugins of the list, and their configurations.
    plugins: Vec<(&'static str, Value)>,
    results: HashMap<usize, Value>,
    /// What this side is known to refuse, and whether it did.
    refusals: Vec<(&'static Refusal, Cell<bool>)>,
}

fn compare(case: &Case) -> anyhow::Result<()> {
    let reference = Plugins::native()?;
    if !case.version.is_empty() {
        reference.require_version(case.plugin, case.version)?;
    }
    let is_recent = reference.supports("bridge", "1.1.0")?;
    check_needs(case, is_recent)?;
    if case.needs.contains(&Need::VlanFiltering) {
        require_vlan_filtering(case)?;
    }
    let refusals = REFUSALS.iter().filter(|refusal| refusal.against.is(is_recent) && (refusal.case)(case));
    let mut weir = Side::new("weir", Plugins::Weir, case)?;
    let mut native = Side::new("native", reference, case)?;
    native.refusals = refusals.map(|refusal| (refusal, Cell::new(false))).collect();
    if native.refusals.iter().any(|(refusal, _)| refusal.command == "ADD") {
        let reply = native.call("ADD", 0, case, true)?;
        ensure!(native.refuses("ADD", &reply), "the native plugins do not refuse ADD any more");
        return case.steps.iter().try_for_each(|step| weir.take(step, case));
    }
    let expected =
        DIFFERENCES.iter().filter(|difference| difference.against.is(is_recent) && (difference.case)(case));
    let mut comparison =
        Comparison { expected: expected.map(|difference| (difference, false)).collect(), found: Vec::new() };
    let mut sides = [weir, native];
    for (number, step) in case.steps.iter().enumerate() {
        let here = format!("step {}, {step:?}", number + 1);
        for side in &mut sides {
            side.take(step, case).with_context(|| format!("{here}: {}{}", side.name, comparison.report()))?;
        }
        // Native plugins leave things behind when they refuse.
        if !matches!(step, Step::Refused(..) | Step::CleanUp(_)) {
            comparison.look(&here, &sides, step)?;
        }
    }
    let never = sides[1].refusals.iter().find(|(_, occurred)| !occurred.get());
    if let Some((refusal, _)) = never {
        bail!("a refusal of {} is listed and does not occur any more: {}", refusal.command, refusal.reason);
    }
    comparison.finish()
}

/// What was found to differ so far.
struct Comparison {
    /// Differences that are listed for the case, and whether they occurred.
    expected: Vec<(&'static Difference, bool)>,
    found: Vec<(String, Gap)>,
}

impl Comparison {
    /// Compares both sides until nothing new differs.
    fn look(&mut self, here: &str, sides: &[Side; 2], step: &Step) -> anyhow::Result<()> {
        let deadline = Instant::now() + SETTLE_TIME;
        loop {
            let gaps = gaps(&sides[0].facts(step)?, &sides[1].facts(step)?);
            let is_new = |gap: &&Gap| {
                !self.expected.iter().any(|(difference, _)| difference.explains(gap))
                    && !self.found.iter().any(|(_, known)| known == *gap)
            };
            let new: Vec<Gap> = gaps.iter().filter(is_new).cloned().collect();
            if new.is_empty() || Instant::now() > deadline {
                for (difference, occurred) in &mut self.expected {
                    *occurred |= gaps.iter().any(|gap| difference.explains(gap));
                }
                self.found.extend(new.into_iter().map(|gap| (here.to_owned(), gap)));
                return Ok(());
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn report(&self) -> String {
        self.found.iter().map(|(here, gap)| format!("\n  {gap} (since {here})")).collect()
    }

    fn finish(self) -> anyhow::Result<()> {
        ensure!(self.found.is_empty(), "weir differs from the native plugins:{}", self.report());
        match self.expected.iter().find(|(_, occurred)| !occurred) {
            Some((difference, _)) => {
                bail!("a difference is listed and does not occur any more: {}", difference.reason)
            }
            None => Ok(()),
        }
    }
}

fn check_needs(case: &Case, is_recent: bool) -> anyhow::Result<()> {
    for need in &case.needs {
        match need {
            Need::World | Need::VlanFiltering => {}
            Need::Nft => {
                require(is_installed("nft"), "the native plugins need the program nft: install nftables")?
            }
            Need::Iptables => require(
                is_installed("iptables") && is_installed("ip6tables"),
                "the native plugins need the program iptables: install iptables",
            )?,
            Need::RecentReference => {
                require(is_recent, "the native plugins do not know this: set CNI_REFERENCE")?
            }
        }
    }
    Ok(())
}

/// Without VLAN filtering in the kernel weir's refusal has to be clear, and
/// there is nothing to compare.
fn require_vlan_filtering(case: &Case) -> anyhow::Result<()> {
    let side = Side::new("weir", Plugins::Weir, case)?;
    if side.lab.on_node("ip link add probe type bridge vlan_filtering 1").is_ok() {
        return Ok(());
    }
    side.refuse(0, &["VLAN filtering", "kernel"], case)?;
    Err(Missing("the kernel has no VLAN filtering in bridges; weir's refusal says so".to_owned()).into())
}

impl Side {
    fn new(name: &'static str, plugins: Plugins, case: &Case) -> anyhow::Result<Self> {
        let mut lab = Lab::new(plugins)?;
        for _ in 0..case.containers() {
            lab.add_container()?;
        }
        if case.needs.contains(&Need::World) {
            lab.add_world()?;
        }
        for (name, content) in &case.files {
            std::fs::write(lab.path(name), content)?;
        }
        let plugins = case.configs(&lab.path("").to_string_lossy())?;
        for (plugin, _) in &plugins {
            lab.lend_native(plugin)?;
        }
        Ok(Self { name, lab, plugins, results: HashMap::new(), refusals: Vec::new() })
    }

    /// Does what a step says, and checks what it says on each side alone.
    fn take(&mut self, step: &Step, case: &Case) -> anyhow::Result<()> {
        match step {
            Step::Add(number) => {
                let result = self.call("ADD", *number, case, true)?.success()?;
                self.results.insert(*number, result);
            }
            Step::Refused(number, facts) => self.refuse(*number, facts, case)?,
            Step::Check(number) => self.be_silent("CHECK", *number, case, true)?,
            Step::Changed(number) => {
                self.call("CHECK", *number, case, true)?.failure()?;
            }
            Step::Del(number) => self.be_silent("DEL", *number, case, true)?,
            Step::CleanUp(number) => {
                let reply = self.call("DEL", *number, case, true)?;
                if self.name == "weir" {
                    reply.silence()?;
                }
            }
            Step::DelWithoutNetns(number) => self.be_silent("DEL", *number, case, false)?,
            Step::End(number) => self.lab.end_container(*number)?,
            Step::OnNode(line) => drop(self.lab.on_node(line)?),
            Step::InContainer(number, line) => drop(self.lab.in_container(*number, line)?),
            Step::Reaches(number, address, expected) => {
                let address: IpAddr = address.parse()?;
                let namespace = &self.lab.containers[*number].namespace;
                self.until(expected, || reaches(namespace, address))?;
            }
            Step::WorldSees(number, family, address) => {
                let address: IpAddr = address.parse()?;
                let world = self.lab.world.as_ref().context("the case needs a world")?;
                let namespace = &self.lab.containers[*number].namespace;
                self.until(&Some(address), || world.sees(namespace, *family))?;
            }
        }
        Ok(())
    }

    /// Calls the plugins one after the other, until one of them refuses.
    fn call(&self, command: &str, number: usize, case: &Case, has_netns: bool) -> anyhow::Result<Reply> {
        let is_later = command == "CHECK" || (command == "DEL" && cases::knows_check(case.version));
        let mut result = self.results.get(&number).filter(|_| is_later).cloned();
        let mut plugins = self.plugins.clone();
        if command == "DEL" {
            plugins.reverse();
        }
        let mut last = Reply::Success(None);
        for (plugin, mut config) in plugins {
            if let Some(result) = &result {
                config["prevResult"] = result.clone();
            }
            let mut call = self.lab.call_for(plugin, command, &self.lab.containers[number], case.ifname);
            if !case.arguments.is_empty() {
                call = call.variable("CNI_ARGS", case.arguments);
            }
            if !has_netns {
                call = call.variable("CNI_NETNS", "");
            }
            last = self.lab.run(&call.config(&config)).with_context(|| format!("{command} of {plugin}"))?;
            match &last {
                Reply::Failure(_) => break,
                Reply::Success(Some(new)) if command == "ADD" => result = Some(new.clone()),
                Reply::Success(_) => {}
            }
        }
        Ok(last)
    }

    /// Makes a call that has to succeed and say nothing, if it is not known to
    /// be refused.
    fn be_silent(&self, command: &str, number: usize, case: &Case, has_netns: bool) -> anyhow::Result<()> {
        let reply = self.call(command, number, case, has_netns)?;
        if self.refuses(command, &reply) { Ok(()) } else { reply.silence() }
    }

    fn refuses(&self, command: &str, reply: &Reply) -> bool {
        let Reply::Failure(error) = reply else { return false };
        let known = self
            .refusals
            .iter()
            .find(|(refusal, _)| refusal.command == command && error.text.contains(refusal.says));
        known.inspect(|(_, occurred)| occurred.set(true)).is_some()
    }

    /// An ADD that fails says why. Weir's also leaves nothing behind but what
    /// all containers of the network share.
    fn refuse(&self, number: usize, facts: &[&str], case: &Case) -> anyhow::Result<()> {
        let before = self.lab.digest()?;
        let error = self.call("ADD", number, case, true)?.failure()?;
        for fact in facts {
            let says = error.text.to_ascii_lowercase().contains(&fact.to_ascii_lowercase());
            ensure!(says, "the error does not mention {fact:?}: {:?}", error.text);
        }
        if self.name == "weir" {
            let bridge = self.plugins[0].1["bridge"].as_str().unwrap_or("cni0");
            let left: Vec<String> = changes(&before, &self.lab.digest()?)
                .into_iter()
                .filter(|change| !change.contains(bridge) && !is_shared(change))
                .collect();
            ensure!(left.is_empty(), "the refused ADD left something behind:\n{}", left.join("\n"));
        }
        Ok(())
    }

    /// Waits for what packets need some time to show.
    fn until<T: PartialEq + std::fmt::Debug>(
        &self,
        expected: &T,
        look: impl Fn() -> anyhow::Result<T>,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + SETTLE_TIME;
        loop {
            let seen = look()?;
            if seen == *expected {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("saw {seen:?}, expected {expected:?}");
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// What can be seen after a step.
    fn facts(&self, step: &Step) -> anyhow::Result<Facts> {
        let (facts, snapshots) = self.lab.state()?;
        let names =
            ["node"].into_iter().chain(self.lab.containers.iter().map(|container| container.id.as_str()));
        let kept: String = self.plugins.iter().map(|(_, config)| config.to_string()).collect();
        let mut names = Names::of(names.zip(&snapshots), &kept);
        for container in &self.lab.containers {
            names.path(&container.path.to_string_lossy(), &format!("netns of {}", container.id));
        }
        let mut facts = names.apply_to(&facts);
        if let Step::Add(number) = step {
            facts.extend(names.result(&self.results[number]));
        }
        Ok(facts)
    }
}

/// What an attachment makes for all others, too.
fn is_shared(change: &str) -> bool {
    ["/sysctl/ipv4/", "/sysctl/ipv6/", "/lock = ", "/last_reserved_ip."]
        .iter()
        .any(|part| change.contains(part))
}
