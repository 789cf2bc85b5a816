//! Turns a core WebAssembly module into a component.

use anyhow::{Context, Result, bail};
use wit_component::{ComponentEncoder, DecodedWasm};
use wit_parser::WorldKey;

/// Makes a component of a core module that was built against the contract.
pub fn componentize(module: &[u8]) -> Result<Vec<u8>> {
    ComponentEncoder::default()
        .validate(true)
        .module(module)
        .context("read the interface that the module was built against")?
        .encode()
        .context("encode the component")
}

/// The names of the interfaces that a component imports, and of those that it
/// exports.
pub fn interfaces(component: &[u8]) -> Result<(Vec<String>, Vec<String>)> {
    let DecodedWasm::Component(resolve, world) =
        wit_component::decode(component).context("read the component")?
    else {
        bail!("read the component: it is a package of interfaces");
    };
    let world = &resolve.worlds[world];
    let name = |key: &WorldKey| resolve.name_world_key(key);
    Ok((world.imports.keys().map(name).collect(), world.exports.keys().map(name).collect()))
}
