//! What the store knows of a component without looking into it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::description::Description;
use super::digest::Digest;

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
    /// The key that had signed the file that it was installed from.
    pub(crate) signed_by: Option<String>,
    /// For each engine that it was compiled for, the digest of the code.
    pub(crate) compiled: BTreeMap<String, Digest>,
}
