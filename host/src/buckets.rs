//! Buckets: a few values that a plugin keeps for itself between calls, in one
//! bucket for each plugin type in each network.
//!
//! `<state>/buckets/<network>/<plugin>/` holds one file per key. Its name is
//! the key in [an encoding](key), its content the value with [what tells a whole
//! one from a torn one](value). The lock is that of the directory. Everything
//! there may be deleted while no call runs: then nothing was ever set.

mod directory;
mod key;
mod value;

#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use directory::BucketDirectory;
pub(crate) use value::Value;

use crate::lock;

/// The directory of all buckets, in that of weir's state.
const BUCKETS: &str = "buckets";

/// Bytes of a value.
pub(crate) const VALUE_LIMIT: usize = 16 << 10;

/// Keys of a bucket.
const KEYS_LIMIT: usize = 1024;

/// Where a bucket is.
#[derive(Debug, Clone)]
pub(crate) struct Location {
    /// What weir keeps, with the directory of all buckets.
    pub(crate) state: PathBuf,
    /// The network's name, a single path component.
    pub(crate) network: String,
    /// The plugin's type, a single path component.
    pub(crate) plugin: String,
}

impl Location {
    /// The directory of the bucket.
    pub(crate) fn directory(&self) -> PathBuf {
        self.state.join(BUCKETS).join(&self.network).join(&self.plugin)
    }

    /// Whether there is a directory that can be trusted; with `create` it is
    /// made if there is none.
    pub(crate) fn prepare(&self, create: bool) -> bool {
        let opened = self.check().and_then(|()| match BucketDirectory::open(self)? {
            None if create => BucketDirectory::create(self).map(Some),
            opened => Ok(opened),
        });
        opened.is_ok_and(|directory| directory.is_some())
    }

    /// Whether the names lead nowhere else.
    pub(crate) fn check(&self) -> Result<(), BucketError> {
        for name in [&self.network, &self.plugin] {
            if name.is_empty() || name.starts_with('.') || name.contains(['/', '\\', '\0']) {
                return Err(BucketError::Invalid(format!(
                    "bucket of plugin {:?} in network {:?}: {name:?} is not usable as the name of one directory",
                    self.plugin, self.network
                )));
            }
        }
        Ok(())
    }
}

/// Why something was not done with a bucket.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BucketError {
    /// Another call has the bucket open for longer than this one may wait.
    #[error(
        "open the bucket {}: another call had it open for more than {} ms; try again, and if it stays so, look for \
         the process that hangs in /proc/locks",
        path.display(),
        waited.as_millis()
    )]
    Busy {
        /// The bucket.
        path: PathBuf,
        /// How long this call waited.
        waited: Duration,
    },
    /// A file is no whole value of this key.
    #[error("read {}: {reason}; remove the file if the plugin does not", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Somebody else may change what is in a directory.
    #[error("open the bucket: {} cannot be trusted: {reason}; correct that, or move it aside", path.display())]
    Untrusted {
        /// The directory.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A limit is reached.
    #[error("{0}")]
    Limit(String),
    /// A key or a name cannot be.
    #[error("{0}")]
    Invalid(String),
    /// The file system failed.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was attempted, such as `write the value`.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

impl BucketError {
    fn io(action: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self::Io { action, path: path.to_owned(), source: source.into() }
    }
}

/// An open bucket. No other call has it open.
#[derive(Debug)]
pub(crate) struct Bucket(BucketDirectory);

impl Bucket {
    /// Opens a bucket, and makes it if there is none.
    pub(crate) fn open(location: &Location, wait: Duration) -> Result<Self, BucketError> {
        location.check()?;
        let directory = match BucketDirectory::open(location)? {
            Some(directory) => directory,
            None => BucketDirectory::create(location)?,
        };
        Self::lock(directory, wait)
    }

    /// Opens a bucket; none if nothing was ever set.
    pub(crate) fn open_existing(location: &Location, wait: Duration) -> Result<Option<Self>, BucketError> {
        location.check()?;
        BucketDirectory::open(location)?.map(|directory| Self::lock(directory, wait)).transpose()
    }

    fn lock(directory: BucketDirectory, wait: Duration) -> Result<Self, BucketError> {
        let (file, path) = directory.into_parts();
        let locked = lock::acquire(file, Instant::now() + wait)
            .map_err(|error| BucketError::io("lock the bucket", &path, error))?;
        match locked {
            Some(file) => Ok(Self(BucketDirectory::of_parts(file, path))),
            None => Err(BucketError::Busy { path, waited: wait }),
        }
    }

    /// The value of a key.
    pub(crate) fn get(&self, key: &str) -> Result<Option<Value>, BucketError> {
        let name = key::file_name(key)?;
        let Some(content) = self.0.read(&name)? else { return Ok(None) };
        let value = content.and_then(|bytes| Value::decode(key, &bytes));
        value.map(Some).map_err(|reason| BucketError::Damaged { path: self.0.path().join(name), reason })
    }

    /// Whether there is room for one more key.
    pub(crate) fn check_room(&self) -> Result<(), BucketError> {
        let count = self.keys()?.len();
        if count < KEYS_LIMIT {
            return Ok(());
        }
        Err(BucketError::Limit(format!(
            "the bucket {} has {count} keys, at most {KEYS_LIMIT}",
            self.0.path().display()
        )))
    }

    /// Gives a key a value.
    pub(crate) fn set(&self, key: &str, value: &Value) -> Result<(), BucketError> {
        self.0.write(&key::file_name(key)?, &value.encode(key))
    }

    /// Removes a key, if it exists.
    pub(crate) fn remove(&self, key: &str) -> Result<(), BucketError> {
        self.0.remove(&key::file_name(key)?)
    }

    /// All keys, sorted, also those of damaged values. Files of other names
    /// are no values.
    pub(crate) fn keys(&self) -> Result<Vec<String>, BucketError> {
        let mut keys: Vec<String> =
            self.0.names()?.iter().filter_map(|name| key::of_file_name(name)).collect();
        keys.sort_unstable();
        Ok(keys)
    }

    /// Takes a change back that gave a key the value of this tag, or removed
    /// it: unless it was changed again, the key gets its earlier value.
    pub(crate) fn restore(
        &self,
        key: &str,
        earlier: Option<&Value>,
        written: Option<u64>,
    ) -> Result<(), BucketError> {
        let present = match self.get(key) {
            // No call leaves a torn value behind, so it is somebody else's.
            Err(BucketError::Damaged { .. }) => return Ok(()),
            present => present?,
        };
        if present.map(|value| value.tag()) != written {
            return Ok(());
        }
        match earlier {
            Some(earlier) => self.set(key, earlier),
            None => self.remove(key),
        }
    }
}
