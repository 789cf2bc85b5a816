//! A node on which plugins are installed.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::lab::{CniError, Lab, Plugins, Reply, guest, line};

/// Installed plugins get nothing else.
pub(super) const POLICY: &str = "[[allow]]\nplugin = \"fixed\"\naddresses = [\"0.0.0.0/0\", \"::/0\"]\n";

pub(super) struct Shop {
    pub(super) lab: Lab,
}

impl Shop {
    pub(super) fn new() -> anyhow::Result<Self> {
        let mut lab = Lab::new(Plugins::Weir)?;
        lab.add_container()?;
        fs::set_permissions(lab.path("weir"), Permissions::from_mode(0o755))?;
        fs::create_dir_all(lab.path("policy"))?;
        fs::write(lab.path("policy").join("policy.toml"), POLICY)?;
        Ok(Self { lab })
    }

    /// Runs `weir plugin`; whether it succeeded, and what it printed.
    pub(super) fn plugin(&self, arguments: &str) -> anyhow::Result<(bool, String)> {
        let command = format!("{} plugin {arguments}", self.lab.bin.join("weir").display());
        let program = line(&command)
            .variable("WEIR_STATE_DIR", self.lab.path("weir"))
            .variable("WEIR_POLICY_DIR", self.lab.path("policy"));
        let output = self.lab.node.enter(|| program.run())?;
        ensure!(!output.stderr.contains("panicked"), "plugin {arguments}: {}", output.stderr);
        Ok((output.status.success(), format!("{}{}", output.stdout, output.stderr)))
    }

    /// Writes the policy.
    pub(super) fn policy(&self, text: &str) -> anyhow::Result<()> {
        let directory = self.lab.path("policy");
        fs::create_dir_all(&directory)?;
        fs::set_permissions(&directory, Permissions::from_mode(0o755))?;
        let path = directory.join("policy.toml");
        fs::write(&path, text)?;
        Ok(fs::set_permissions(&path, Permissions::from_mode(0o644))?)
    }

    pub(super) fn succeed(&self, arguments: &str) -> anyhow::Result<String> {
        let (success, text) = self.plugin(arguments)?;
        ensure!(success, "plugin {arguments}: {text}");
        Ok(text)
    }

    pub(super) fn fail(&self, arguments: &str, word: &str) -> anyhow::Result<()> {
        let (success, text) = self.plugin(arguments)?;
        ensure!(!success && text.contains(word), "plugin {arguments}: it does not mention {word:?}: {text}");
        Ok(())
    }

    /// Installs a guest as the type `fixed`; returns its digest.
    pub(super) fn add(&self, name: &str) -> anyhow::Result<String> {
        let text = self.succeed(&format!("add {} --type fixed", guest::component(name)?.display()))?;
        digest(&text).with_context(|| format!("no digest in {text}"))
    }

    pub(super) fn list(&self) -> anyhow::Result<Vec<Value>> {
        let text = self.succeed("list --json")?;
        text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }

    /// A path in the store.
    pub(super) fn store(&self, name: &str) -> PathBuf {
        self.lab.path("weir").join("plugins").join(name)
    }

    /// The only file of a directory of the store.
    pub(super) fn only(&self, directory: &str) -> anyhow::Result<PathBuf> {
        let found = files(&self.store(directory));
        let [path] = found.as_slice() else { anyhow::bail!("{directory} holds {found:?}") };
        Ok(path.clone())
    }

    /// Everything in the store but its directories and its lock.
    pub(super) fn everything(&self) -> Vec<PathBuf> {
        ["components", "compiled", "records", "types"]
            .iter()
            .flat_map(|name| files(&self.store(name)))
            .collect()
    }

    /// Asks the installed plugin for an address.
    pub(super) fn ask(&self, command: &str) -> anyhow::Result<Result<Value, CniError>> {
        let config =
            json!({ "cniVersion": "1.1.0", "name": "shop", "type": "fixed", "ipam": { "type": "fixed" } });
        let call = self.lab.call_for("weir", command, &self.lab.containers[0], "eth0").config(&config);
        Ok(match self.lab.run(&call)? {
            Reply::Success(value) => Ok(value.unwrap_or_default()),
            Reply::Failure(error) => Err(error),
        })
    }

    pub(super) fn address(&self) -> anyhow::Result<String> {
        let result =
            self.ask("ADD")?.map_err(|error| anyhow::anyhow!("ADD: {} {}", error.code, error.text))?;
        Ok(result["ips"][0]["address"].as_str().unwrap_or_default().to_owned())
    }

    /// A call has to fail because of the store.
    pub(super) fn broken(&self, words: &[&str]) -> anyhow::Result<()> {
        match self.ask("ADD")? {
            Ok(value) => anyhow::bail!("{words:?}: ADD succeeded, with {value}"),
            Err(error) => {
                ensure!(error.code == 104, "{words:?}: the code is {}: {}", error.code, error.text);
                for word in words {
                    ensure!(error.text.contains(word), "it does not mention {word:?}: {}", error.text);
                }
                Ok(())
            }
        }
    }
}

pub(super) fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// The first digest in a text.
pub(super) fn digest(text: &str) -> Option<String> {
    let start = text.find("sha256:")?;
    text.get(start..start + 71).map(str::to_owned)
}
