//! `weir:store/files`: files that the network's configuration names.

use std::fmt;
use std::fs::{File, Metadata, OpenOptions};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::libc::{O_NONBLOCK, S_IROTH, S_IXOTH};
use nix::sys::stat::Mode;

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
        let file = match find(&path, is_installed) {
            Ok(found) => found,
            Err(error) => return Ok(Err(error)),
        };
        // Whoever writes the configuration may be a tenant, who has no other
        // way to what the node keeps secret.
        if is_installed && !is_public(&file).unwrap_or(false) {
            return self.refuse_file(&path, "not everybody on the node may read it");
        }
        Ok(read(&path, &file))
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

/// Finds a regular file, without opening it: that alone does something to some
/// devices. With `in_sight` no link of the kernel's own is followed, as those
/// of `/proc` that lead to what other processes see under the same names.
fn find(path: &str, in_sight: bool) -> Result<File, FileError> {
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    let found = if in_sight {
        let how = OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_NO_MAGICLINKS);
        openat2(AT_FDCWD, path, how)
    } else {
        open(path, flags, Mode::empty())
    };
    let file = File::from(found.map_err(|errno| match errno {
        Errno::ENOENT => FileError::NotFound(format!("read {path}: it does not exist")),
        errno => io(path, errno.desc()),
    })?);
    if !file.metadata().map_err(|error| io(path, error))?.is_file() {
        return Err(io(path, "it is not a regular file"));
    }
    Ok(file)
}

/// Whether everybody may read a file: by its own mode, and by those of the
/// directories that it is in.
fn is_public(file: &File) -> std::io::Result<bool> {
    // The path of what was found: the one that was asked for may have links in
    // it, and others by now.
    let path = std::fs::read_link(handle(file))?;
    let may = |metadata: Metadata, right: u32| metadata.mode() & right != 0;
    if !path.is_absolute() || !may(file.metadata()?, S_IROTH) {
        return Ok(false);
    }
    for directory in path.ancestors().skip(1) {
        if !may(std::fs::symlink_metadata(directory)?, S_IXOTH) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The link to what a descriptor stands for.
fn handle(file: &File) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// Resolvers read a file line by line: bytes that are no text spoil nothing but
/// the line that they are in.
fn read(path: &str, file: &File) -> Result<String, FileError> {
    // Whoever has a lease of the file (fcntl(2)) must not hold the call up.
    let opened = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(handle(file));
    let file = opened.map_err(|error| io(path, error))?;
    let mut text = Vec::new();
    file.take(SIZE_LIMIT + 1).read_to_end(&mut text).map_err(|error| io(path, error))?;
    if text.len() as u64 > SIZE_LIMIT {
        return Err(io(path, format!("it is larger than {SIZE_LIMIT} bytes")));
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}
