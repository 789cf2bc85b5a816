//! The network configuration, read into a plugin's own structure.

use serde::de::DeserializeOwned;

use crate::CniError;
use crate::request::{Attachment, Network};

/// Whatever has the network's configuration.
pub trait Config {
    /// The configuration, JSON.
    fn text(&self) -> String;
}

impl Config for Attachment {
    fn text(&self) -> String {
        self.config()
    }
}

impl Config for Network {
    fn text(&self) -> String {
        self.config()
    }
}

/// Reads the configuration. Keys match without regard to case and null counts
/// as absent, as the reference plugins have it.
pub fn read<T: DeserializeOwned>(source: &impl Config) -> Result<T, CniError> {
    weir_config::from_str(&source.text()).map_err(|error| match error {
        weir_config::ConfigError::Syntax(_) => CniError::new(CniError::DECODE, error.to_string()),
        weir_config::ConfigError::Value { .. } => CniError::config(error.to_string()),
    })
}
