//! The kernel's settings: what calls leave in /proc, and nodes on which they
//! cannot be written, as inside of many containers.

use std::fs;
use std::os::unix::fs::MetadataExt;

use anyhow::ensure;

use super::network::{NETWORKS, Network, RICH};
use super::scene::{Allowed, Scene};
use crate::Test;
use crate::lab::Plugins;

pub(super) fn tests() -> Vec<Test> {
    [Some(&RICH), NETWORKS.iter().find(|network| network.plugin == "ptp")]
        .into_iter()
        .flatten()
        .map(|network| {
            Test::new(format!("settings: read-only ones keep nobody from {}", network.name), || {
                read_only(network)
            })
        })
        .chain([Test::new("settings: a call multiplies no entries of /proc", multiplies_no_entries)])
        .collect()
}

/// Whoever opens a container's settings from outside makes the kernel add an
/// entry for each directory on the way, which is found before the older one.
fn multiplies_no_entries() -> anyhow::Result<()> {
    let scene = Scene::new(&RICH, 1)?;
    let entries = || {
        scene.lab.containers[0].namespace.enter(|| {
            ["/proc/sys/net/ipv4/conf", "/proc/sys/net/ipv6/conf"]
                .map(|path| {
                    // Open, so that the kernel keeps it.
                    let file = fs::File::open(path)?;
                    Ok((file.metadata()?.ino(), file))
                })
                .into_iter()
                .collect::<anyhow::Result<Vec<_>>>()
        })
    };
    let before = entries()?;
    scene.add(0)?;
    let after = entries()?;
    for ((before, _), (after, _)) in before.iter().zip(&after) {
        ensure!(before == after, "entry {before} was replaced by {after}");
    }
    Ok(())
}

fn read_only(network: &'static Network) -> anyhow::Result<()> {
    // Newer native plugins insist on one.
    let is_old = !Plugins::native()?.supports(network.plugin, "1.1.0")?;
    for is_native in [false, true].into_iter().filter(|is_native| is_old || !is_native) {
        let mut scene = Scene::new(network, 1)?;
        scene.config["cniVersion"] = "1.0.0".into();
        // Without these there would be no network.
        for key in ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"] {
            scene.lab.on_node(&format!("sysctl -w {key}=1"))?;
        }
        scene.lab.on_node("mount --bind /proc/sys /proc/sys")?;
        scene.lab.on_node("mount -o remount,bind,ro /proc/sys")?;
        let before = scene.state()?;
        let call = |command| -> anyhow::Result<String> {
            let call = match is_native {
                true => scene.native_call(network.plugin, command, &scene.lab.containers[0])?,
                false => scene.call(command, 0),
            };
            let output = scene.lab.node.enter(|| call.program().run())?;
            ensure!(output.status.success(), "{command}, native {is_native}: {}", output.stdout);
            Ok(output.stderr)
        };
        let notes = call("ADD")?;
        if !is_native {
            ensure!(
                notes.contains("accept_dad") && notes.contains("it stays as it is"),
                "the notes are {notes}"
            );
        }
        ensure!(
            scene.lab.in_container(0, "ip address show eth0")?.contains("fd00:1::2/64"),
            "there is no address"
        );
        call("DEL")?;
        if !is_native {
            scene.expect(&before, Allowed::Shared)?;
        }
    }
    Ok(())
}
