//! A file that an operator names.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// Components are no larger.
const COMPONENT_LIMIT: u64 = 64 << 20;

/// Signatures are no larger.
const SIGNATURE_LIMIT: u64 = 64 << 10;

/// Reads a component.
pub(super) fn component(path: &Path) -> Result<Vec<u8>> {
    read(path, COMPONENT_LIMIT)
}

/// Reads a signature.
pub(super) fn signature(path: &Path) -> Result<String> {
    String::from_utf8(read(path, SIGNATURE_LIMIT)?)
        .with_context(|| format!("read {}: it is not text", path.display()))
}

fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let attempt = || format!("read {}", path.display());
    // Without O_NONBLOCK, opening a fifo would wait for its writer.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY)
        .open(path)
        .with_context(attempt)?;
    if !file.metadata().with_context(attempt)?.is_file() {
        bail!("{}: it is not a regular file", attempt());
    }
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).with_context(attempt)?;
    if bytes.len() as u64 > limit {
        bail!("{}: it is larger than {}", attempt(), super::size(limit));
    }
    Ok(bytes)
}
