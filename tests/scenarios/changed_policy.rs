//! A policy that changes between the calls for an attachment, or breaks.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use anyhow::ensure;

use super::network::{BRIDGE, RICH};
use super::scene::{Allowed, Scene};
use crate::Test;
use crate::lab::{Call, CniError};

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new("policy: with a broken file ADD and CHECK fail, DEL works from the journal", del),
        Test::new("policy: with a broken file GC works from the journal", collect),
        Test::new("policy: what it would not let a plugin make is released", released),
        Test::new("policy: a change takes effect with the next call", change),
    ]
}

/// A file with an error in its second line.
const BROKEN: &str = "[[allow]]\nplugins = \"bridge\"\n";

fn write(scene: &Scene, text: &str) -> anyhow::Result<()> {
    let directory = scene.lab.path("policy");
    fs::create_dir_all(&directory)?;
    fs::set_permissions(&directory, Permissions::from_mode(0o755))?;
    let path = directory.join("policy.toml");
    fs::write(&path, text)?;
    Ok(fs::set_permissions(&path, Permissions::from_mode(0o644))?)
}

fn call(scene: &Scene, command: &str) -> Call {
    under_policy(scene, scene.call(command, 0))
}

fn under_policy(scene: &Scene, call: Call) -> Call {
    call.variable("WEIR_POLICY_DIR", scene.lab.path("policy"))
}

fn refused(scene: &Scene, call: &Call, word: &str) -> anyhow::Result<CniError> {
    let before = scene.settled_state()?;
    let error = scene.lab.run(call)?.failure()?;
    ensure!(error.code == 100, "the code is {}: {}", error.code, error.text);
    ensure!(error.text.contains(word), "it does not mention {word:?}: {}", error.text);
    scene.expect(&before, Allowed::Shared)?;
    Ok(error)
}

fn place(scene: &Scene, rest: &str) -> String {
    format!("{}:{rest}", scene.lab.path("policy").join("policy.toml").display())
}

fn del() -> anyhow::Result<()> {
    let scene = Scene::new(&RICH, 2)?;
    // What attachments share.
    scene.add(1)?;
    let before = scene.settled_state()?;
    let result = scene.lab.run(&call(&scene, "ADD"))?.success()?;
    write(&scene, BROKEN)?;
    let unknown = place(&scene, "2:1: unknown key");
    refused(&scene, &call(&scene, "ADD"), &unknown)?;
    let mut config = scene.config.clone();
    config["prevResult"] = result;
    refused(&scene, &call(&scene, "CHECK").config(&config), &unknown)?;
    scene.silent(&call(&scene, "DEL"))?;
    scene.expect(&before, Allowed::Marks)?;
    // Of an attachment that is not known nothing can be taken away.
    refused(&scene, &call(&scene, "DEL"), &unknown).map(drop)
}

/// A lease that a native plugin made, in a directory that no rule names; and a
/// container that no rule lets be connected.
fn released() -> anyhow::Result<()> {
    let mut scene = Scene::new(&BRIDGE, 1)?;
    let directory = scene.lab.path("elsewhere");
    scene.config["cniVersion"] = "1.0.0".into();
    scene.config["ipam"]["dataDir"] = directory.display().to_string().into();
    scene.lab.run(&scene.native_call("host-local", "ADD", &scene.lab.containers[0])?)?.success()?;
    let lease = directory.join("n/10.1.0.2");
    ensure!(lease.exists(), "the native plugin made no lease");
    write(
        &scene,
        "bundled = \"by-rule\"\n[[allow]]\nplugin = [\"bridge\", \"host-local\"]\ndata-dirs = []\n",
    )?;
    refused(&scene, &call(&scene, "ADD"), "data-dirs = [")?;
    ensure!(lease.exists(), "ADD took the lease");
    scene.silent(&call(&scene, "DEL"))?;
    ensure!(!lease.exists(), "the lease stays");
    write(&scene, "bundled = \"by-rule\"\n")?;
    refused(&scene, &call(&scene, "ADD"), "no allow rule matches it")?;
    scene.silent(&call(&scene, "DEL"))
}

fn collect() -> anyhow::Result<()> {
    let scene = Scene::new(&RICH, 2)?;
    scene.add(1)?;
    let before = scene.settled_state()?;
    scene.add(0)?;
    write(&scene, BROKEN)?;
    let mut config = scene.config.clone();
    config["cni.dev/valid-attachments"] = serde_json::json!([{"containerID": "c2", "ifname": "eth0"}]);
    let gc = under_policy(&scene, scene.lab.call(scene.plugin(), "GC").config(&config));
    // It says what it could not do: asking the component.
    let error = scene.lab.run(&gc)?.failure()?;
    ensure!(error.code == 100 && error.text.contains(&place(&scene, "2:1")), "GC says {error:?}");
    scene.expect(&before, Allowed::Marks)
}

fn change() -> anyhow::Result<()> {
    let scene = Scene::new(&RICH, 1)?;
    let rule = |addresses: &str| format!("[[allow]]\nplugin = \"host-local\"\naddresses = [{addresses}]\n");
    let both = r#""10.1.0.0/24", "fd00:1::/64""#;
    for _ in 0..3 {
        // Each is as long as the other, and written within the same tick.
        write(&scene, &rule(&both.replace("fd00:1", "fd00:2")))?;
        refused(&scene, &call(&scene, "ADD"), &place(&scene, "3"))?;
        write(&scene, &rule(both))?;
        scene.lab.run(&call(&scene, "ADD"))?.success()?;
        // What was allowed once can be taken away afterwards.
        write(&scene, "[[deny]]\nplugin = [\"bridge\", \"host-local\"]\n")?;
        scene.silent(&call(&scene, "DEL"))?;
        ensure!(scene.leased().is_empty(), "leases are left: {:?}", scene.leased());
        ensure!(scene.journals().is_empty(), "journals are left: {:?}", scene.journals());
        refused(&scene, &call(&scene, "ADD"), "forbids it")?;
    }
    Ok(())
}
