//! `weir:store/files`: files that the network's configuration names.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

use crate::call::Served;
use crate::session::Session;
use crate::wit::weir::store::files::{self, FileError};

/// Larger files are no resolver configuration.
const SIZE_LIMIT: u64 = 64 << 10;

impl files::Host for Session {
    fn read(&mut self, path: String) -> Served<Result<String, FileError>> {
        self.call.check_time()?;
        if !self.call.request.config.names("resolvConf", &path) {
            let reason = "the network configuration does not name this file as \"resolvConf\"";
            return self.refuse_file(&path, reason);
        }
        let is_installed = self.guest.grants.is_none();
        if is_installed && !path.starts_with('/') {
            return self.refuse_file(&path, "it is not an absolute path");
        }
        let (file, mode) = match open(&path) {
            Ok(opened) => opened,
            Err(error) => return Ok(Err(error)),
        };
        // Whoever writes the configuration may be a tenant, who has no other
        // way to what the node keeps secret.
        if is_installed && mode & nix::libc::S_IROTH == 0 {
            return self.refuse_file(&path, "not everybody on the node may read it");
        }
        Ok(read(&path, file))
    }
}

impl Session {
    fn refuse_file(&self, path: &str, reason: &str) -> Served<Result<String, FileError>> {
        let reason = format!("read {path}: {reason}");
        self.call.refuse(&self.guest, "read", path, &reason)?;
        Ok(Err(FileError::Denied(reason)))
    }
}

fn io(path: &str, reason: impl fmt::Display) -> FileError {
    FileError::Io(format!("read {path}: {reason}"))
}

/// Opens a regular file; the number is its mode.
fn open(path: &str) -> Result<(File, u32), FileError> {
    // Without O_NONBLOCK, opening a fifo would wait for its writer.
    let file =
        OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path).map_err(|error| {
            match error.kind() {
                ErrorKind::NotFound => FileError::NotFound(format!("read {path}: it does not exist")),
                _ => io(path, error),
            }
        })?;
    let metadata = file.metadata().map_err(|error| io(path, error))?;
    if !metadata.is_file() {
        return Err(io(path, "it is not a regular file"));
    }
    Ok((file, metadata.mode()))
}

fn read(path: &str, file: File) -> Result<String, FileError> {
    let mut text = String::new();
    file.take(SIZE_LIMIT + 1).read_to_string(&mut text).map_err(|error| io(path, error))?;
    if text.len() as u64 > SIZE_LIMIT {
        return Err(io(path, format!("it is larger than {SIZE_LIMIT} bytes")));
    }
    Ok(text)
}
