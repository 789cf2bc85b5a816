//! Loading components that were compiled ahead of time. This module alone
//! turns bytes into code that runs.

use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::{Mutex, PoisonError};

use nix::sys::mman::{ProtFlags, mprotect};
use wasmtime::component::Component;
use wasmtime::{CustomCodeMemory, Engine};

use crate::catalog::{self, Code, Plugin};
use crate::failure::{Failure, code};

/// The size of a page on every machine that weir is built for.
pub(crate) const PAGE: usize = 4096;

/// Makes a file with compiled code part of the executable's own code, in pages
/// of its own, and declares its bytes.
///
/// So it runs from where it is: the kernel maps the executable's file, only
/// what is used of it is ever read, and nothing has to become executable when
/// it is loaded.
macro_rules! embed {
    ($name:ident, $path:literal, $length:literal) => {
        ::core::arch::global_asm!(
            concat!(".pushsection .text.", stringify!($name), ", \"ax\", @progbits"),
            ".p2align 12",
            concat!(".globl ", stringify!($name)),
            concat!(".hidden ", stringify!($name)),
            concat!(stringify!($name), ":"),
            concat!(".incbin \"", $path, "\""),
            // Nothing else is in its last page.
            ".p2align 12",
            ".popsection",
        );
        // SAFETY: the name is that of the file above, which has this length
        // and is never written to.
        unsafe extern "C" {
            safe static $name: [u8; $length];
        }
    };
}
pub(crate) use embed;

/// Makes code executable where it is, if it is not already.
pub(crate) struct InPlace;

impl CustomCodeMemory for InPlace {
    fn required_alignment(&self) -> usize {
        PAGE
    }

    fn publish_executable(&self, start: *const u8, length: usize) -> wasmtime::Result<()> {
        if catalog::is_embedded(start) {
            return Ok(());
        }
        let address = NonNull::new(start.cast_mut().cast::<c_void>())
            .ok_or_else(|| wasmtime::Error::msg("there is no code to make executable"))?;
        // SAFETY: the range is the text of a component, in pages of its own,
        // which nobody writes to: it was read-only before, and stays so.
        unsafe { mprotect(address, length, ProtFlags::PROT_READ | ProtFlags::PROT_EXEC) }
            .map_err(|errno| wasmtime::Error::msg(format!("make code executable: {}", errno.desc())))
    }

    fn unpublish_executable(&self, _: *const u8, _: usize) -> wasmtime::Result<()> {
        // Another instance of the component may still run.
        Ok(())
    }
}

/// Bundled components that are loaded, by where their code is: it can be in use
/// only once.
static LOADED: Mutex<Vec<(usize, Component)>> = Mutex::new(Vec::new());

/// Loads a component.
#[expect(clippy::disallowed_methods, reason = "the one place that loads compiled code")]
pub(crate) fn load(engine: &Engine, plugin: &Plugin) -> Result<Component, Failure> {
    let (component, advice) = match &plugin.code {
        Code::Embedded(code) => {
            let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
            let place = code.as_ptr().addr();
            if let Some((_, component)) = loaded.iter().find(|(there, _)| *there == place) {
                return Ok(component.clone());
            }
            // SAFETY: the bytes were compiled by this crate's build script and
            // are part of this executable: they stay for ever and never change,
            // and nobody who could not replace the executable itself can
            // replace them.
            let component = unsafe { Component::deserialize_raw(engine, NonNull::from(*code)) };
            loaded.extend(component.as_ref().ok().map(|component| (place, component.clone())));
            (component, "this build of weir is broken; install it anew")
        }
        Code::Stored(compiled) => {
            let code = compiled.read()?;
            // SAFETY: the bytes are this process's own copy, which nobody else
            // can change, and they have the digest of what weir's compiler
            // made of the component. It stands in a record that, as the
            // compiled file, only the user that weir runs as can have written:
            // the store has checked owner and mode of what it opened.
            let component = unsafe { Component::deserialize(engine, code) };
            (component, "run \"weir plugin refresh\", which compiles it anew")
        }
    };
    component.map_err(|error| {
        Failure::new(code::COMPONENT, format!("load the component of plugin type {}: {error:#}", plugin.name))
            .details(advice)
    })
}
