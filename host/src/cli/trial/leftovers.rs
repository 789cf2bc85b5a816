//! What is still there after everything was taken away.

use std::collections::HashSet;
use std::fs;
use std::net::IpAddr;

use anyhow::Result;

use super::namespaces::Node;
use crate::journal;
use crate::paths::Paths;

/// Things found after DEL.
#[derive(Default)]
pub(super) struct Leftovers {
    /// Nothing may be in here.
    pub(super) forgotten: Vec<String>,
    /// What containers share, and stays by design.
    pub(super) shared: Vec<String>,
}

/// The names of the node's links.
pub(super) fn links(node: &Node) -> Result<HashSet<String>> {
    Ok(node.netns.links()?.into_iter().map(|link| link.name).collect())
}

/// Looks everywhere where a plugin can leave something.
pub(super) fn find(node: &Node, paths: &Paths, before: &HashSet<String>) -> Result<Leftovers> {
    let mut left = Leftovers::default();
    for link in node.netns.links()?.into_iter().filter(|link| !before.contains(&link.name)) {
        match link.kind.as_deref() {
            Some("bridge") => left.shared.push(format!("bridge {}", link.name)),
            _ => left.forgotten.push(format!("link {} of the node", link.name)),
        }
    }
    for container in &node.containers {
        for link in container.netns.links()?.into_iter().filter(|link| link.name != "lo") {
            left.forgotten.push(format!("link {} of container {}", link.name, container.name));
        }
    }
    let mut firewall = node.firewall()?;
    for (owner, source, _) in firewall.masquerade_owners()? {
        left.forgotten.push(format!("masquerading of {source} for {owner}"));
    }
    for (owner, port, _) in firewall.guard_owners()? {
        left.forgotten.push(format!("guard of {port} for {owner}"));
    }
    for (owner, port) in firewall.publications()? {
        left.forgotten.push(format!("published port {port} for {owner}"));
    }
    for name in journal::list(&paths.attachments())? {
        left.forgotten.push(format!("journal of {name}"));
    }
    for network in fs::read_dir(paths.leases()).into_iter().flatten().flatten() {
        for lease in fs::read_dir(network.path()).into_iter().flatten().flatten() {
            let name = lease.file_name().to_string_lossy().into_owned();
            if name.parse::<IpAddr>().is_ok() {
                left.forgotten.push(format!("lease of {name}"));
            }
        }
    }
    Ok(left)
}
