//! `weir attachments`: what the journal knows.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use comfy_table::{Table, presets};
use serde_json::json;

use crate::cli::output::say;
use crate::journal::{self, Entry, State};
use crate::request::state_paths;

pub(super) fn run(as_json: bool) -> Result<ExitCode> {
    let directory = state_paths().attachments();
    let mut entries = Vec::new();
    for name in journal::list(&directory)? {
        entries.extend(journal::look(&directory, &name)?);
    }
    if as_json {
        print_json(&entries);
    } else if entries.is_empty() {
        say!("no attachments in {}", directory.display());
    } else {
        say!("{}", table(&entries));
    }
    Ok(ExitCode::SUCCESS)
}

fn print_json(entries: &[Entry]) {
    for Entry { header, state } in entries {
        let (state, addresses) = described(state);
        let line = json!({
            "network": header.key.network,
            "containerID": header.key.container_id,
            "ifname": header.key.ifname,
            "plugin": header.key.plugin,
            "netns": header.netns,
            "begun": header.begun,
            "state": state,
            "addresses": addresses,
        });
        say!("{line}");
    }
}

fn table(entries: &[Entry]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["NETWORK", "CONTAINER", "INTERFACE", "PLUGIN", "ADDRESSES", "STATE", "AGE", "NETNS"]);
    for Entry { header, state } in entries {
        let (state, addresses) = described(state);
        table.add_row([
            header.key.network.clone(),
            header.key.container_id.clone(),
            header.key.ifname.clone(),
            header.key.plugin.clone(),
            addresses.join(" "),
            state.to_owned(),
            age(header.begun),
            header.netns.as_deref().unwrap_or(Path::new("")).display().to_string(),
        ]);
    }
    table
}

fn described(state: &State) -> (&'static str, &[String]) {
    match state {
        State::Busy => ("busy", &[]),
        State::Interrupted => ("interrupted", &[]),
        State::Added(addresses) => ("attached", addresses),
    }
}

fn age(begun: u64) -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH + Duration::from_secs(begun)).unwrap_or_default();
    let seconds = since.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}
