//! What a call costs, beside the native plugins in the same loop, and beside
//! the kernel's own floor.
//!
//! `cargo bench -p weir [-- FILTER]`; `WEIR_BENCH_ROUNDS` sets the number of
//! rounds of each case, `WEIR_BENCH_PROGRAM` another weir than the one that is
//! built for it; `--profile`, then `--order` make anew what is in `host/profile`.
//! Whole processes are measured: wall time, processor time and peak memory as
//! the kernel accounts them.

#![allow(clippy::disallowed_methods, reason = "benchmarks run programs and read the environment")]

#[allow(dead_code, unused_imports, reason = "benchmarks use a part of the lab")]
mod lab;
mod speed;

fn main() -> anyhow::Result<()> {
    speed::run()
}
