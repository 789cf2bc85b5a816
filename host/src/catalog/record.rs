//! What the store knows of a component without looking into it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::digest::Digest;

/// What a component says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Description {
    /// The interfaces that it imports, with their versions.
    pub(crate) imports: Vec<String>,
    /// The interfaces that it exports, with their versions.
    pub(crate) exports: Vec<String>,
    /// The language that it was written in, if it says so.
    pub(crate) language: Option<String>,
    /// The tools that made it, if it names them.
    pub(crate) tools: Vec<String>,
}

/// The record of an installed component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The component's digest.
    pub(crate) digest: Digest,
    /// The component's size in bytes.
    pub(crate) size: u64,
    /// The plugin types that it was installed for.
    pub(crate) types: Vec<String>,
    /// What it says of itself.
    #[serde(flatten)]
    pub(crate) description: Description,
    /// When it was installed, in seconds since 1970.
    pub(crate) added: u64,
    /// The key whose signature of it was checked when it was installed.
    pub(crate) signed_by: Option<String>,
    /// For each engine that it was compiled for, the digest of the code.
    pub(crate) compiled: BTreeMap<String, Digest>,
}

impl Description {
    /// Whether it makes interfaces.
    pub(crate) fn is_interface_plugin(&self) -> bool {
        self.exports.iter().any(|export| export.starts_with("weir:plugin/plugin@"))
    }

    /// Whether it hands out addresses.
    pub(crate) fn is_ipam_plugin(&self) -> bool {
        self.exports.iter().any(|export| export.starts_with("weir:plugin/ipam@"))
    }
}
