//! A node on which calls are planned, and what shows that it did not notice.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, ensure};
use serde_json::Value;

use super::super::scene::Scene;
use crate::lab::{Facts, changes, line};

/// What the command said.
pub(super) struct Said {
    pub(super) success: bool,
    pub(super) text: String,
    pub(super) errors: String,
}

impl Said {
    pub(super) fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_str(&self.text).with_context(|| format!("read {}{}", self.text, self.errors))
    }
}

/// Everything that a plan must leave alone: the kernel's state, and the files
/// with their times.
pub(super) struct Before {
    facts: Facts,
    rules: Option<String>,
    files: BTreeMap<String, String>,
}

/// Without what the kernel does by itself up to a second after a link was
/// made or has lost its other end.
fn without_carrier(mut facts: Facts) -> Facts {
    facts.retain(|key, _| !key.ends_with("/operstate") && !key.contains("/fe80::"));
    for (_, flags) in facts.iter_mut().filter(|(key, _)| key.ends_with("/flags")) {
        let kept = flags.split(' ').filter(|flag| !["NO-CARRIER", "LOWER_UP"].contains(flag));
        *flags = kept.collect::<Vec<_>>().join(" ");
    }
    facts
}

impl Before {
    pub(super) fn of(scene: &Scene) -> anyhow::Result<Self> {
        let mut files = BTreeMap::new();
        for name in ["cni", "weir", "policy", "audit.jsonl", "audit.jsonl.1"] {
            note_files(&scene.lab.path(name), &mut files)?;
        }
        let facts = without_carrier(scene.settled_state()?);
        Ok(Self { facts, rules: scene.lab.digest()?.remove("nft"), files })
    }

    pub(super) fn expect(&self, scene: &Scene) -> anyhow::Result<()> {
        let after = Self::of(scene)?;
        let changes = changes(&self.facts, &after.facts);
        ensure!(changes.is_empty(), "the plan changed the node: {changes:?}");
        ensure!(self.rules == after.rules, "the plan changed the packet filter: {:?}", after.rules);
        ensure!(self.files == after.files, "files were {:?}, and are {:?}", self.files, after.files);
        let left: Vec<_> = fs::read_dir(scene.lab.path("tmp"))?.flatten().map(|entry| entry.path()).collect();
        ensure!(left.is_empty(), "files are left: {left:?}");
        Ok(())
    }
}

/// Notes the times, size and number of a file, or of all below a directory.
fn note_files(path: &Path, files: &mut BTreeMap<String, String>) -> anyhow::Result<()> {
    let Ok(status) = fs::symlink_metadata(path) else { return Ok(()) };
    let times = (status.mtime(), status.mtime_nsec(), status.ctime(), status.ctime_nsec());
    let facts = format!("{times:?} {} {} {:o}", status.size(), status.ino(), status.mode());
    files.insert(path.display().to_string(), facts);
    if status.is_dir() {
        for entry in fs::read_dir(path)? {
            note_files(&entry?.path(), files)?;
        }
    }
    Ok(())
}

/// Plans on the node, which must not notice.
pub(super) fn plan(scene: &Scene, config: &Value, arguments: &[&str]) -> anyhow::Result<Said> {
    let temporary = scene.lab.path("tmp");
    fs::create_dir_all(&temporary)?;
    let before = Before::of(scene)?;
    let bin = scene.lab.bin.display().to_string();
    let program = line(&format!("{bin}/weir plan --config - --cni-path {bin}"))
        .arguments(arguments.iter().copied())
        .variable("WEIR_STATE_DIR", scene.lab.path("weir"))
        .variable("WEIR_POLICY_DIR", scene.lab.path("policy"))
        .variable("WEIR_AUDIT_FILE", scene.lab.path("audit.jsonl"))
        .variable("TMPDIR", &temporary)
        .input(config.to_string());
    let output = scene.lab.node.enter(|| program.run())?;
    ensure!(matches!(output.status.code(), Some(0 | 1)), "{arguments:?}: {}", output.stderr);
    before.expect(scene)?;
    Ok(Said { success: output.status.success(), text: output.stdout, errors: output.stderr })
}

/// Plans a call about a container, and reads the JSON.
pub(super) fn plan_for(scene: &Scene, config: &Value, command: &str, number: usize) -> anyhow::Result<Value> {
    let container = &scene.lab.containers[number];
    let netns = container.path.display().to_string();
    let ifname = if scene.plugin() == "loopback" { "lo" } else { "eth0" };
    let arguments = [
        "--json",
        "--command",
        command,
        "--netns",
        &netns,
        "--container-id",
        &container.id,
        "--ifname",
        ifname,
    ];
    let said = plan(scene, config, &arguments)?;
    let value = said.json()?;
    ensure!(said.success == (value["outcome"] == "success"), "it ended with {}: {value}", said.success);
    Ok(value)
}

/// The configuration as its plugin is named on the command line.
pub(super) fn config(scene: &Scene) -> Value {
    let mut config = scene.config.clone();
    if config["type"] == "other" {
        // A runtime calls it by its name.
        config["type"] = scene.plugin().into();
    }
    config
}

/// Plugin, operation and object, without what is random.
pub(super) fn operations(list: &[Value]) -> Vec<String> {
    let text = |entry: &Value, key: &str| mask(entry[key].as_str().unwrap_or_default());
    let lines = list.iter().filter(|entry| entry["operation"] != "confine");
    lines
        .map(|entry| {
            format!("{} {} {}", text(entry, "plugin"), text(entry, "operation"), text(entry, "object"))
        })
        .collect()
}

/// Puts a star in the place of random digits of names.
fn mask(text: &str) -> String {
    let mut masked = String::new();
    let mut rest = text;
    while let Some(place) = rest.find("veth") {
        let (before, name) = rest.split_at(place + 4);
        let digits = name.bytes().take_while(u8::is_ascii_hexdigit).count();
        masked += before;
        if digits == 8 {
            masked.push('*');
        }
        rest = if digits == 8 { &name[8..] } else { name };
    }
    masked + rest
}

pub(super) fn mask_result(value: &Value) -> Value {
    match value {
        Value::String(text) => mask(text).into(),
        Value::Array(items) => items.iter().map(mask_result).collect(),
        Value::Object(object) => object
            .iter()
            .map(|(key, item)| {
                let is_random = key == "mac" && item != "00:00:00:00:00:00";
                (key.clone(), if is_random { "random".into() } else { mask_result(item) })
            })
            .collect(),
        other => other.clone(),
    }
}

/// What the audit log has got since it had `skip` records.
pub(super) fn audited(scene: &Scene, skip: usize) -> anyhow::Result<Vec<Value>> {
    let text = fs::read_to_string(scene.lab.path("audit.jsonl")).unwrap_or_default();
    text.lines().skip(skip).map(|line| Ok(serde_json::from_str(line)?)).collect()
}

pub(super) fn planned(value: &Value) -> anyhow::Result<Vec<String>> {
    Ok(operations(value["operations"].as_array().with_context(|| format!("no operations in {value}"))?))
}
