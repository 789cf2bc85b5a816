//! `weir try`: a network configuration at work, in namespaces that nobody
//! else sees.

mod leftovers;
mod namespaces;
mod probe;
mod report;
mod uplink;

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use super::chain::{self, Chain};
use crate::catalog;
use crate::paths::Paths;
use crate::request::{Command, Environment};
use crate::result::CniResult;
use crate::trace::Trace;

use namespaces::Node;
use report::Report;

/// What is tried if nothing else is named.
const EXAMPLE: &str = r#"{ "cniVersion": "0.4.0", "name": "mynet", "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true,
  "ipam": { "type": "host-local", "subnet": "10.244.0.0/16", "routes": [ { "dst": "0.0.0.0/0" } ] } }"#;

pub(super) fn run(conflist: Option<&Path>) -> Result<ExitCode> {
    let text = match conflist {
        Some(path) => chain::read(path)?,
        None => EXAMPLE.to_owned(),
    };
    let chain = Chain::parse(&text)?.without_data_dir();
    let others: Vec<&str> = chain.types().into_iter().filter(|kind| !catalog::is_bundled(kind)).collect();
    if !others.is_empty() {
        bail!(
            "try network {}: {} do not come with weir, and a trial runs nothing else; \"weir plan\" shows what the other plugins of the list would do",
            chain.name,
            others.join(", ")
        );
    }
    // Still outside of the namespaces, so that it is deleted at the end.
    let directory =
        tempfile::Builder::new().prefix("weir-try-").tempdir().context("create a directory for the trial")?;
    let uplinks = uplink::uplinks(&chain.plugins)?;
    let node = Node::enter(directory.path(), &["one", "two"], uplinks)?;
    let mut trial = Trial { chain, node, paths: Paths::below(directory.path()), report: Report::new() };
    let ran = trial.run();
    let code = trial.report.finish();
    drop(trial);
    let path = directory.path().to_owned();
    directory.close().with_context(|| format!("remove {}", path.display()))?;
    ran.map(|()| code)
}

struct Trial {
    chain: Chain,
    node: Node,
    paths: Paths,
    report: Report,
}

impl Trial {
    fn run(&mut self) -> Result<()> {
        self.report.heading(&format!(
            "Network {} ({}), two containers, in namespaces of their own",
            self.chain.name,
            self.chain.types().join(" + ")
        ));
        let before = leftovers::links(&self.node)?;
        let mut attached = Vec::new();
        for index in 0..self.node.containers.len() {
            if let Some(result) = self.attach(index) {
                attached.push((index, result));
            }
        }
        if attached.len() == self.node.containers.len() {
            self.reach(&attached)?;
        }
        for (index, result) in attached {
            self.detach(index, &result);
        }
        let left = leftovers::find(&self.node, &self.paths, &before)?;
        self.report.leftovers(&left);
        Ok(())
    }

    fn attach(&mut self, index: usize) -> Option<CniResult> {
        let container = &self.node.containers[index];
        let trace = Trace::default();
        let started = Instant::now();
        let added = self.chain.add(&|command, called_as| {
            let container = (container.name, container.path.clone());
            Ok(Environment::of_own_call(command, called_as, container, self.paths.clone(), trace.clone()))
        });
        let title = format!("ADD container {}", container.name);
        match added {
            Ok(result) => {
                self.report.call(&title, started.elapsed(), &trace.take());
                Some(result)
            }
            Err(failure) => {
                self.report.call(&title, started.elapsed(), &trace.take());
                self.report.failure(&title, &failure);
                None
            }
        }
    }

    fn detach(&mut self, index: usize, result: &CniResult) {
        let container = &self.node.containers[index];
        let (name, path) = (container.name, container.path.clone());
        let title = format!("DEL container {name}");
        // A second DEL, as containerd sends it, must find nothing to do.
        for (title, shown) in [(title.clone(), true), (format!("{title} again"), false)] {
            let trace = Trace::default();
            let started = Instant::now();
            let surroundings = |command, called_as: &str| {
                let container = (name, path.clone());
                Ok(Environment::of_own_call(command, called_as, container, self.paths.clone(), trace.clone()))
            };
            let deleted = self.chain.run(Command::Del, &surroundings, Some(result));
            if shown {
                self.report.call(&title, started.elapsed(), &trace.take());
            }
            if let Err(failure) = deleted {
                self.report.failure(&title, &failure);
            }
        }
    }

    /// Sends packets between the containers, to the gateway and outside.
    fn reach(&mut self, attached: &[(usize, CniResult)]) -> Result<()> {
        self.report.heading("Packets");
        let [(one, result), (_, other)] = attached else { return Ok(()) };
        let from = &self.node.containers[*one];
        if result.ips.is_empty() {
            self.report.note("the network hands out no addresses, so nothing can be pinged");
            return Ok(());
        }
        for ip in &other.ips {
            let target = ip.address.address;
            if target.is_loopback() || result.ips.iter().any(|ip| ip.address.address == target) {
                self.report.note(&format!("{target} is each container's own address"));
                continue;
            }
            // Through the gateway, other networks are reached.
            let network = ip.address.network();
            let is_near = result.ips.iter().any(|own| own.address.network() == network);
            match is_near && self.chain.isolates_ports() {
                true => {
                    let what = format!("two ({target}) does not answer one, as portIsolation wants it");
                    self.report.probe(&what, probe::silence(from, target));
                }
                false => self.report.probe(&format!("one pings two ({target})"), probe::ping(from, target)),
            }
        }
        let own = self.node.addresses()?;
        for gateway in result.ips.iter().filter_map(|ip| ip.gateway) {
            if own.contains(&gateway) {
                self.report.probe(&format!("one pings the gateway ({gateway})"), probe::ping(from, gateway));
            }
        }
        let masqueraded = self.node.masqueraded()?;
        for source in
            result.ips.iter().map(|ip| ip.address.address).filter(|source| masqueraded.contains(source))
        {
            let what = format!("one ({source}) reaches a host outside, which sees the node's address");
            self.report.probe(&what, probe::masqueraded(&self.node, from, source));
        }
        Ok(())
    }
}
