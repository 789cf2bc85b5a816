/// The settings of the engine. Shared with the build script by inclusion.
fn settings() -> wasmtime::Config {
    let mut config = wasmtime::Config::new();
    config.epoch_interruption(true);
    config.concurrency_support(false);
    // An instance serves one call: copying its few pages of data costs less
    // than a file to share them by.
    config.memory_init_cow(false);
    config.native_unwind_info(false);
    config.generate_address_map(true);
    config.wasm_backtrace_max_frames(core::num::NonZeroUsize::new(32));
    config
}
