//! Turns a core WebAssembly module into a component.

use anyhow::{Context, Result};
use wit_component::ComponentEncoder;

/// Makes a component of a core module that was built against the contract.
pub fn componentize(module: &[u8]) -> Result<Vec<u8>> {
    ComponentEncoder::default()
        .validate(true)
        .module(module)
        .context("read the interface that the module was built against")?
        .encode()
        .context("encode the component")
}
