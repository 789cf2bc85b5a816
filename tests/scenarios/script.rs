//! IPAM plugins that are shell scripts.

use std::fs;
use std::path::PathBuf;

use anyhow::Context;

use super::network::Network;
use super::scene::Scene;
use crate::lab::line;

/// A shell script in `CNI_PATH` that writes down how it is called.
pub(super) struct Script {
    log: PathBuf,
}

impl Script {
    /// Makes the script. `body` says what it does after it has taken its
    /// input; `$log` is its directory.
    pub(super) fn new(scene: &Scene, name: &str, body: &str) -> anyhow::Result<Self> {
        let log = scene.lab.path(&format!("{name}.log"));
        fs::create_dir(&log)?;
        let text = format!(
            "#!/bin/sh\nlog='{}'\necho \"$CNI_COMMAND\" >>\"$log/calls\"\nenv >\"$log/environment.$CNI_COMMAND\"\n\
             cat >\"$log/input.$CNI_COMMAND\"\n{body}\n",
            log.display()
        );
        let draft = log.join("draft");
        fs::write(&draft, text)?;
        // Copied by another process: a file that this one has written may be
        // still open in a child of another thread, and busy to be executed.
        let target = scene.lab.bin.join(name);
        line(&format!("install -m 0755 {} {}", draft.display(), target.display())).succeed()?;
        Ok(Self { log })
    }

    /// The commands that it was called with.
    pub(super) fn calls(&self) -> Vec<String> {
        let text = fs::read_to_string(self.log.join("calls")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// The environment at its last call with a command.
    pub(super) fn environment(&self, command: &str) -> anyhow::Result<String> {
        self.read(&format!("environment.{command}"))
    }

    /// Its input at its last call with a command.
    pub(super) fn input(&self, command: &str) -> anyhow::Result<String> {
        self.read(&format!("input.{command}"))
    }

    /// A file that it has written.
    pub(super) fn read(&self, name: &str) -> anyhow::Result<String> {
        fs::read_to_string(self.log.join(name)).with_context(|| format!("the plugin wrote no {name}"))
    }

    /// Whether it has written a file.
    pub(super) fn has(&self, name: &str) -> bool {
        self.log.join(name).exists()
    }
}

/// A node whose bridge asks the script `name`.
pub(super) fn scene_with(
    network: &'static Network,
    name: &str,
    body: &str,
) -> anyhow::Result<(Scene, Script)> {
    let mut scene = Scene::new(network, 1)?;
    scene.config["ipam"] = serde_json::json!({"type": name, "key": ["kept", {"as": "it is"}]});
    let script = Script::new(&scene, name, body)?;
    Ok((scene, script))
}
