//! `weir:store/files`: files that the network's configuration names.

pub use crate::bindings::platform::weir::store::files::FileError;
use crate::double::{Node, state};

/// Larger files are no resolver configuration.
const SIZE_LIMIT: usize = 64 << 10;

impl Node {
    /// There is this file.
    #[must_use]
    pub fn with_file(self, path: &str, text: &str) -> Self {
        self.0.borrow_mut().files.insert(path.to_owned(), text.to_owned());
        self
    }
}

/// Reads a text file whose path stands in the network's configuration as a
/// value of a key `resolvConf`.
pub fn read(path: &str) -> Result<String, FileError> {
    let node = state::current();
    let mut state = node.borrow_mut();
    state.pass("files.read")?;
    if !state.call.names("resolvConf", path) {
        return Err(FileError::Denied(format!(
            "read {path}: the network configuration does not name this file as \"resolvConf\""
        )));
    }
    match state.files.get(path) {
        Some(text) if text.len() > SIZE_LIMIT => {
            Err(FileError::Io(format!("read {path}: it is larger than {SIZE_LIMIT} bytes")))
        }
        Some(text) => Ok(text.clone()),
        None => Err(FileError::NotFound(format!("read {path}: it does not exist"))),
    }
}
