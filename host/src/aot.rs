//! Loading components that were compiled ahead of time. This module alone
//! turns bytes into code that runs.

use wasmtime::Engine;
use wasmtime::component::Component;

use crate::catalog::Bundled;
use crate::failure::{Failure, code};

/// Loads a bundled component.
#[expect(clippy::disallowed_methods, reason = "the one place that loads compiled code")]
pub(crate) fn load(engine: &Engine, bundled: &Bundled) -> Result<Component, Failure> {
    // SAFETY: the bytes were compiled by this crate's build script and are part
    // of this executable; nobody who could not replace the executable itself
    // can replace them.
    let component = unsafe { Component::deserialize(engine, bundled.code) };
    component.map_err(|error| {
        Failure::new(code::COMPONENT, format!("load the component of plugin type {}: {error:#}", bundled.name))
            .details("this build of weir is broken; install it anew")
    })
}
