//! The WebAssembly engine: one configuration for the compiler (build script)
//! and for running, because a component only loads under the settings that it
//! was compiled with.

use std::thread;
use std::time::Duration;

use wasmtime::Engine;

include!("engine/settings.rs");

/// A guest's linear memory may grow to this many bytes.
pub(crate) const MEMORY_LIMIT: usize = 32 << 20;

/// Handles that a guest may hold at a time.
pub(crate) const HANDLE_LIMIT: usize = 1024;

/// Makes the engine.
pub(crate) fn engine() -> wasmtime::Result<Engine> {
    Engine::new(&settings())
}

/// Interrupts all guests of the engine once `budget` is over. The process
/// handles one call and ends, so nothing has to stop the watch.
pub(crate) fn watch(engine: &Engine, budget: Duration) -> std::io::Result<()> {
    let engine = engine.weak();
    thread::Builder::new().name("deadline".to_owned()).stack_size(64 << 10).spawn(move || {
        thread::sleep(budget);
        if let Some(engine) = engine.upgrade() {
            engine.increment_epoch();
        }
    })?;
    Ok(())
}
