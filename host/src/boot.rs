//! The identity of the running kernel's boot (random(4)): what lives in the
//! kernel's memory does not outlive it.

use std::fs::File;
use std::io::Read;
use std::sync::OnceLock;

/// The identity as the kernel writes it; empty where there is none.
pub(crate) fn id() -> &'static str {
    static ID: OnceLock<String> = OnceLock::new();
    ID.get_or_init(|| {
        let mut id = [0; 64];
        let read = File::open("/proc/sys/kernel/random/boot_id").and_then(|mut file| file.read(&mut id));
        String::from_utf8_lossy(&id[..read.unwrap_or(0)]).trim().to_owned()
    })
}
