//! `weir attachments`.

use std::fs::File;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::network::RICH;
use super::scene::Scene;
use crate::Test;
use crate::lab::{changes, line};

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new("attachments: an empty journal is said to be empty", empty),
        Test::new("attachments: whoever stops reading causes no fault", unread),
        Test::new("attachments: attached, interrupted and busy ones are told apart", states),
    ]
}

fn list(scene: &Scene, arguments: &str) -> anyhow::Result<String> {
    let command = format!("{} attachments {arguments}", scene.lab.bin.join("weir").display());
    line(command.trim()).variable("WEIR_STATE_DIR", scene.lab.path("weir")).succeed()
}

fn empty() -> anyhow::Result<()> {
    let scene = Scene::new(&RICH, 1)?;
    for _ in 0..2 {
        ensure!(list(&scene, "")?.contains("no attachments"), "it says {}", list(&scene, "")?);
        ensure!(list(&scene, "--json")?.is_empty(), "it says {}", list(&scene, "--json")?);
        scene.add(0)?;
        scene.del(0)?;
    }
    Ok(())
}

/// What the commands do whose output nobody takes, or that cannot be written.
fn unread() -> anyhow::Result<()> {
    let scene = Scene::new(&RICH, 1)?;
    scene.add(0)?;
    let commands =
        ["attachments", "attachments --json", "plugin list", "plugin inspect bridge", "policy check"];
    for command in commands {
        for (sink, code) in [("| true", 0), (">/dev/full", 1)] {
            let weir = scene.lab.bin.join("weir");
            // The reader has gone before anything is written.
            let script = format!("{{ sleep 0.1; {} {command}; echo $? >\"$CODE\"; }} {sink}", weir.display());
            let file = scene.lab.path("code");
            let output = line("bash -c")
                .arguments([script])
                .variable("CODE", &file)
                .variable("WEIR_STATE_DIR", scene.lab.path("weir"))
                .variable("WEIR_POLICY_DIR", scene.lab.path("policy"))
                .run()?;
            let ended = std::fs::read_to_string(&file)?;
            ensure!(
                ended.trim() == code.to_string(),
                "{command} {sink} ends with {ended}: {}",
                output.stderr
            );
            let says = output.stderr.contains("write to standard output");
            ensure!(
                says == (code == 1) && !output.stderr.contains("panicked"),
                "{command}: {}",
                output.stderr
            );
        }
    }
    Ok(())
}

fn states() -> anyhow::Result<()> {
    let scene = Scene::new(&RICH, 3)?;
    scene.add(0)?;
    scene.add(2)?;
    let call = scene.call("ADD", 1).variable("WEIR_FAULT", "kill-after:6");
    ensure!(scene.survive(&call)?.is_none(), "ADD was not killed");
    // A call that works on an attachment has its journal locked.
    let busy = scene.journals().into_iter().find(|path| path.to_string_lossy().contains(":c3:"));
    let busy = File::open(busy.context("c3 has a journal")?)?;
    busy.lock()?;
    let before = scene.settled_state()?;
    let text = list(&scene, "--json")?;
    let entries: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let told: Vec<(&str, &str)> = entries
        .iter()
        .map(|entry| {
            (entry["containerID"].as_str().unwrap_or_default(), entry["state"].as_str().unwrap_or_default())
        })
        .collect();
    ensure!(told == [("c1", "attached"), ("c2", "interrupted"), ("c3", "busy")], "it says {told:?}");
    let first = &entries[0];
    ensure!(
        first["network"] == "n" && first["ifname"] == "eth0" && first["plugin"] == "bridge",
        "it says {first}"
    );
    ensure!(first["addresses"] == json!(["10.1.0.2/24", "fd00:1::2/64"]), "it says {first}");
    ensure!(first["netns"].as_str() == scene.lab.containers[0].path.to_str(), "it says {first}");
    let table = list(&scene, "")?;
    for word in ["NETWORK", "attached", "interrupted", "busy", "10.1.0.2/24", "c1", "bridge"] {
        ensure!(table.contains(word), "the table does not say {word:?}: {table}");
    }
    let changed = changes(&before, &scene.state()?);
    ensure!(changed.is_empty(), "looking has changed something: {changed:?}");
    Ok(())
}
