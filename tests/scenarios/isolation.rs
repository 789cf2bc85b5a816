//! What a call executes: nothing.

use anyhow::ensure;
use serde_json::Value;

use super::network::{NETWORKS, Network};
use super::scene::{Allowed, Scene};
use super::script::scene_with;
use crate::Test;
use crate::lab::Facts;

pub(super) fn tests() -> Vec<Test> {
    let alone = NETWORKS.iter().filter(|network| !network.config.contains("native-")).map(|network| {
        Test::new(format!("isolation: no call executes a program on {}", network.name), || {
            executes_nothing(network)
        })
    });
    alone
        .chain([Test::new(
            "isolation: a native IPAM plugin is the only program executed",
            executes_a_delegate,
        )])
        .collect()
}

/// Runs a call under strace; returns what was executed, and the answer.
fn trace(scene: &Scene, command: &str, config: &Value) -> anyhow::Result<(Vec<String>, Value)> {
    let call = scene.call(command, 0).config(config);
    let (output, seen) = scene.trace(&call, "trace=execve,execveat")?;
    ensure!(output.status.success(), "{command}: {} {}", output.stdout, output.stderr);
    let executed = seen.lines().filter(|line| line.contains("exec")).map(str::to_owned).collect();
    let answer =
        if output.stdout.trim().is_empty() { Value::Null } else { serde_json::from_str(&output.stdout)? };
    Ok((executed, answer))
}

fn once(scene: &Scene, command: &str, config: &Value) -> anyhow::Result<Value> {
    let (executed, answer) = trace(scene, command, config)?;
    ensure!(executed.len() == 1, "{command} executed {executed:?}");
    Ok(answer)
}

fn executes_nothing(network: &'static Network) -> anyhow::Result<()> {
    let scene = Scene::new(network, 1)?;
    let before: Facts = scene.state()?;
    let mut config = scene.config.clone();
    let result = once(&scene, "ADD", &config)?;
    config["prevResult"] = result;
    once(&scene, "CHECK", &config)?;
    once(&scene, "STATUS", &config)?;
    once(&scene, "DEL", &config)?;
    scene.expect(&before, Allowed::Shared)?;
    once(&scene, "ADD", &scene.config)?;
    config["cni.dev/valid-attachments"] = Value::Null;
    once(&scene, "GC", &config)?;
    once(&scene, "VERSION", &config)?;
    scene.expect(&before, Allowed::Shared)
}

fn executes_a_delegate() -> anyhow::Result<()> {
    let answer = r#"[ "$CNI_COMMAND" = ADD ] && echo '{"cniVersion":"1.1.0","ips":[{"address":"10.1.0.7/24"}]}'
exit 0"#;
    let (scene, _) = scene_with(&super::network::BRIDGE, "scripted", answer)?;
    for command in ["ADD", "DEL"] {
        let (executed, _) = trace(&scene, command, &scene.config)?;
        // The script itself executes env and cat.
        let own = |line: &&String| !["/env\"", "/cat\""].iter().any(|part| line.contains(part));
        let executed: Vec<&String> = executed.iter().filter(own).collect();
        let [_, delegate] = executed.as_slice() else { anyhow::bail!("{command} executed {executed:?}") };
        ensure!(delegate.contains("/scripted\""), "{command} executed {delegate}");
    }
    Ok(())
}
