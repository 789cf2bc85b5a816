//! `weir plugin list`.

use std::collections::BTreeMap;

use anyhow::Result;
use comfy_table::{Table, presets};
use serde_json::json;

use super::size;
use crate::catalog::{Digest, Record};
use crate::cli::output::say;
use crate::failure::Failure;

/// A version of a plugin type.
struct Version {
    kind: String,
    is_in_use: bool,
    record: Record,
}

pub(super) fn run(as_json: bool) -> Result<()> {
    let (mut versions, mut failures) = (Vec::new(), Vec::new());
    if let Some(store) = super::store()? {
        let mut current = BTreeMap::new();
        for kind in store.types().map_err(Failure::from)? {
            match store.current(&kind) {
                Ok(digest) => current.extend(digest.map(|digest| (kind, digest))),
                Err(error) => failures.push(error.into()),
            }
        }
        for (_, record) in store.records().map_err(Failure::from)? {
            let record = match record {
                Ok(record) => record,
                Err(error) => {
                    failures.push(error.into());
                    continue;
                }
            };
            for kind in record.types.clone() {
                let is_in_use = current.get(&kind) == Some(&record.digest);
                versions.push(Version { kind, is_in_use, record: record.clone() });
            }
        }
    }
    versions.sort_by(|one, other| {
        one.kind
            .cmp(&other.kind)
            .then(other.is_in_use.cmp(&one.is_in_use))
            .then(one.record.added.cmp(&other.record.added))
    });
    if as_json {
        print_json(&versions);
    } else if versions.is_empty() && failures.is_empty() {
        say!("no plugins are installed; \"weir plugin add\" installs one");
    } else if !versions.is_empty() {
        say!("{}", table(&versions));
    }
    Ok(Failure::all(failures)?)
}

fn print_json(versions: &[Version]) {
    for Version { kind, is_in_use, record } in versions {
        let line = json!({
            "type": kind,
            "inUse": is_in_use,
            "digest": record.digest,
            "size": record.size,
            "imports": record.description.imports,
            "exports": record.description.exports,
            "language": record.description.language,
            "tools": record.description.tools,
            "added": record.added,
            "signedBy": record.signed_by,
        });
        say!("{line}");
    }
}

fn table(versions: &[Version]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["TYPE", "VERSION", "IN USE", "KIND", "SIZE", "LANGUAGE", "SIGNED"]);
    for Version { kind, is_in_use, record } in versions {
        let description = &record.description;
        let role = match (description.is_interface_plugin(), description.is_ipam_plugin()) {
            (true, true) => "interface, IPAM",
            (true, false) => "interface",
            _ => "IPAM",
        };
        table.add_row([
            kind.clone(),
            short(&record.digest),
            if *is_in_use { "yes" } else { "no" }.to_owned(),
            role.to_owned(),
            size(record.size),
            description.language.clone().unwrap_or_else(|| "unknown".to_owned()),
            if record.signed_by.is_some() { "yes" } else { "no" }.to_owned(),
        ]);
    }
    table
}

/// Enough of a digest to name a version by.
fn short(digest: &Digest) -> String {
    digest.hex().chars().take(12).collect()
}
