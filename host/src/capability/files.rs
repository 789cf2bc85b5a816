//! `weir:store/files`: files that the network's configuration names.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;

use crate::call::Served;
use crate::session::Session;
use crate::wit::weir::store::files::{self, FileError};

/// Larger files are no resolver configuration.
const SIZE_LIMIT: u64 = 64 << 10;

impl files::Host for Session {
    fn read(&mut self, path: String) -> Served<Result<String, FileError>> {
        self.call.check_time()?;
        if !self.call.request.config.names("resolvConf", &path) {
            return Ok(Err(FileError::Denied(format!(
                "read {path}: the network configuration does not name this file as \"resolvConf\""
            ))));
        }
        Ok(read(&path))
    }
}

fn read(path: &str) -> Result<String, FileError> {
    let io = |reason: String| FileError::Io(format!("read {path}: {reason}"));
    // Without O_NONBLOCK, opening a fifo would wait for its writer.
    let file =
        OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path).map_err(|error| {
            match error.kind() {
                ErrorKind::NotFound => FileError::NotFound(format!("read {path}: it does not exist")),
                _ => io(error.to_string()),
            }
        })?;
    if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return Err(io("it is not a regular file".to_owned()));
    }
    let mut text = String::new();
    file.take(SIZE_LIMIT + 1).read_to_string(&mut text).map_err(|error| io(error.to_string()))?;
    if text.len() as u64 > SIZE_LIMIT {
        return Err(io(format!("it is larger than {SIZE_LIMIT} bytes")));
    }
    Ok(text)
}
