//! What a call inherits and finds that nobody would choose: limits, disks that
//! are full, rules that were flushed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, ensure};

use super::network::RICH;
use super::scene::{Allowed, Scene};
use crate::Test;

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new("surroundings: no file may be written, and ADD says so", no_files),
        Test::new("surroundings: an index leaves the last room of a disk to others", full_state),
        Test::new("surroundings: an audit log that is required has to have room", full_log),
        Test::new("surroundings: rules that were flushed are missed, and put back", flushed),
    ]
}

fn no_files() -> anyhow::Result<()> {
    let scene = Scene::new(&RICH, 1)?;
    let before = scene.state()?;
    scene.lab.prepend(scene.plugin(), "ulimit -f 0; exec")?;
    let error = scene.lab.run(&scene.call("ADD", 0))?.failure()?;
    ensure!(error.text.contains("File too large"), "the message is {}", error.text);
    scene.del(0)?;
    scene.expect(&before, Allowed::Marks)
}

/// A file system of its own, of this size.
fn small(scene: &Scene, path: &Path, size: &str) -> anyhow::Result<()> {
    fs::create_dir_all(path)?;
    scene.lab.on_node(&format!("mount -t tmpfs -o size={size},mode=700 none {}", path.display())).map(drop)
}

fn full_state() -> anyhow::Result<()> {
    let scene = Scene::new(&RICH, 1)?;
    small(&scene, &scene.lab.path("weir"), "32k")?;
    scene.add(0).context("there is room for a journal")?;
    scene.del(0)
}

fn full_log() -> anyhow::Result<()> {
    let scene = Scene::new(&RICH, 1)?;
    let (policy, log) = (scene.lab.path("policy"), scene.lab.path("log"));
    fs::create_dir(&policy)?;
    fs::write(policy.join("policy.toml"), "[audit]\nrequired = true\n")?;
    fs::set_permissions(&policy, PermissionsExt::from_mode(0o755))?;
    small(&scene, &log, "8k")?;
    let call = |command| {
        let call = scene.call(command, 0).variable("WEIR_POLICY_DIR", &policy);
        call.variable("WEIR_AUDIT_FILE", log.join("audit.jsonl"))
    };
    scene.lab.run(&call("ADD"))?.success().context("there is room")?;
    scene.silent(&call("DEL"))?;
    // The kernel takes the empty bridge out of service first.
    let before = scene.settled_state()?;
    scene.lab.on_node(&format!("dd if=/dev/zero of={} bs=1k count=64", log.join("rest").display())).ok();
    let error = scene.lab.run(&call("ADD"))?.failure()?;
    ensure!(error.text.contains("No space left on device"), "the message is {}", error.text);
    scene.expect(&before, Allowed::Marks)
}

fn flushed() -> anyhow::Result<()> {
    let scene = Scene::new(&RICH, 2)?;
    // Chains come in the order in which they were made.
    let rules = || -> anyhow::Result<String> {
        let mut text = scene.lab.on_node("nft -t list table inet weir")?;
        text.push_str(&scene.lab.on_node("nft -t list table bridge weir")?);
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_unstable();
        Ok(lines.join("\n"))
    };
    let result = scene.add(0)?;
    scene.check(0, &result)?;
    let before = rules()?;
    for command in [
        "nft flush table inet weir",
        "nft flush chain inet weir postrouting",
        "nft delete chain inet weir postrouting",
        "nft flush table bridge weir",
        "nft flush chain bridge weir input",
    ] {
        scene.lab.on_node(command)?;
        ensure!(scene.check(0, &result).is_err(), "CHECK does not miss it: {command}");
        scene.add(1).context(command)?;
        let after = rules()?;
        ensure!(after == before, "{command}: the rules were\n{before}\nand are\n{after}");
        scene.check(0, &result).context(command)?;
        scene.del(1)?;
    }
    Ok(())
}
