//! Everything that exists in a lab, to show that nothing was left behind or
//! changed.

use std::fs;
use std::path::Path;

use super::program::{is_installed, line};
use super::{Facts, Lab, Snapshot};

impl Lab {
    /// The kernel's state of the node and of every container, and the leases.
    /// This is what native plugins make as well.
    pub(crate) fn state(&self) -> anyhow::Result<(Facts, Vec<Snapshot>)> {
        let mut facts = self.lease_files();
        let mut snapshots = Vec::new();
        let namespaces = [("node", &self.node)].into_iter();
        let namespaces = namespaces.chain(self.containers.iter().map(|c| (c.id.as_str(), &c.namespace)));
        for (name, namespace) in namespaces {
            let snapshot = Snapshot::take(namespace)?;
            facts.extend(snapshot.facts.iter().map(|(key, value)| (format!("{name}/{key}"), value.clone())));
            snapshots.push(snapshot);
        }
        Ok((facts, snapshots))
    }

    /// The state, weir's journal and buckets, and the packet filter where `nft` shows it.
    pub(crate) fn digest(&self) -> anyhow::Result<Facts> {
        let (mut facts, _) = self.state()?;
        list(&self.path("weir").join("attachments"), "journal", &mut facts);
        list(&self.path("weir").join("buckets"), "bucket", &mut facts);
        if is_installed("nft") {
            facts.insert(
                "nft".to_owned(),
                self.node.enter(|| line("nft --stateless list ruleset").succeed())?,
            );
        }
        Ok(facts)
    }

    /// All files below `/var/lib/cni`, with their content.
    pub(crate) fn lease_files(&self) -> Facts {
        let mut facts = Facts::new();
        list(&self.path("cni"), "leases", &mut facts);
        facts
    }
}

/// What differs between two sets of facts, one a line.
pub(crate) fn changes(before: &Facts, after: &Facts) -> Vec<String> {
    let gone = before.iter().filter(|(key, _)| !after.contains_key(*key));
    let gone = gone.map(|(key, value)| format!("- {key} = {value}"));
    let other = after.iter().filter_map(|(key, value)| match before.get(key) {
        None => Some(format!("+ {key} = {value}")),
        Some(old) if old != value => Some(format!("~ {key} = {old} -> {value}")),
        Some(_) => None,
    });
    gone.chain(other).collect()
}

fn list(directory: &Path, name: &str, facts: &mut Facts) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let (path, name) = (entry.path(), format!("{name}/{}", entry.file_name().to_string_lossy()));
        if path.is_dir() {
            list(&path, &name, facts);
        } else {
            let content = fs::read(&path).unwrap_or_default();
            facts.insert(name, String::from_utf8_lossy(&content).escape_debug().to_string());
        }
    }
}
