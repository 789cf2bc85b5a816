//! The plugins under test, and those that they are compared with.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::{env, fs};

use anyhow::Context;
use serde_json::Value;

use super::missing::{Missing, require};
use super::program::Program;

/// Where Debian's package puts the native plugins.
pub(crate) const NATIVE_DIRECTORY: &str = "/usr/lib/cni";

/// Every plugin type that weir is linked as.
pub(crate) const TYPES: [&str; 5] = ["bridge", "host-local", "static", "loopback", "ptp"];

/// A directory of plugin binaries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Plugins {
    /// Links to weir.
    Weir,
    /// The reference plugins.
    Native(PathBuf),
}

impl Plugins {
    /// The reference.
    pub(crate) fn native() -> anyhow::Result<Self> {
        Self::native_directory().map(Self::Native)
    }

    /// Where the reference is: Debian's native plugins, or those that
    /// `CNI_REFERENCE` names.
    pub(crate) fn native_directory() -> anyhow::Result<PathBuf> {
        let directory =
            env::var_os("CNI_REFERENCE").map_or_else(|| PathBuf::from(NATIVE_DIRECTORY), PathBuf::from);
        require(
            directory.join("bridge").is_file(),
            &format!(
                "{} has no native plugins to compare with: install containernetworking-plugins or set CNI_REFERENCE",
                directory.display()
            ),
        )?;
        Ok(directory)
    }

    /// The directory for `CNI_PATH`; for weir it is made below `root`.
    pub(crate) fn install(&self, root: &Path) -> anyhow::Result<PathBuf> {
        let Self::Native(directory) = self else {
            let directory = root.join("bin");
            fs::create_dir(&directory)?;
            for name in TYPES.into_iter().chain(["weir"]) {
                symlink(weir(), directory.join(name))?;
            }
            return Ok(directory);
        };
        Ok(directory.clone())
    }

    /// Whether a plugin's VERSION lists a version.
    pub(crate) fn supports(&self, plugin: &str, version: &str) -> anyhow::Result<bool> {
        let Self::Native(directory) = self else { return Ok(true) };
        let reply = Program::new(directory.join(plugin))
            .variable("CNI_COMMAND", "VERSION")
            .variable("CNI_PATH", directory)
            .input(r#"{"cniVersion":"1.0.0"}"#)
            .succeed()?;
        let reply: Value = serde_json::from_str(&reply).context("read the reply to VERSION")?;
        let supported = reply["supportedVersions"].as_array().map(Vec::as_slice).unwrap_or_default();
        Ok(supported.iter().any(|known| known == version))
    }

    /// Ends the test as not runnable if a version is not supported.
    pub(crate) fn require_version(&self, plugin: &str, version: &str) -> anyhow::Result<()> {
        if self.supports(plugin, version)? {
            return Ok(());
        }
        let Self::Native(directory) = self else { return Ok(()) };
        Err(Missing(format!("the native plugins in {} do not speak CNI {version}", directory.display()))
            .into())
    }
}

/// The binary under test.
pub(crate) fn weir() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_weir"))
}
