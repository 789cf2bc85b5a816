//! The identity of the running kernel's boot (random(4)): what lives in the
//! kernel's memory does not outlive it.

use std::fs;
use std::sync::OnceLock;

/// The identity as the kernel writes it; empty where there is none.
pub(crate) fn id() -> &'static str {
    static ID: OnceLock<String> = OnceLock::new();
    ID.get_or_init(|| {
        fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
    })
}
