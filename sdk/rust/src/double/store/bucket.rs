//! `weir:store/bucket`: what a plugin keeps for itself between calls.
//!
//! It takes nothing back when a plugin fails, as only the host knows how a call
//! has ended, and lets CHECK and STATUS write, as they are ordinary functions
//! here.

use std::collections::BTreeMap;

pub use crate::bindings::platform::weir::store::bucket::BucketError;
use crate::double::Node;
use crate::double::request::DEFAULT_NETWORK;
use crate::double::state::{self, Shared};

const KEY_LIMIT: usize = 128;
const VALUE_LIMIT: usize = 16 << 10;
const KEYS_LIMIT: usize = 1024;

/// The buckets of the plugin under test, by their networks.
pub(in crate::double) type Buckets = BTreeMap<String, Kept>;

/// What is kept for one network.
#[derive(Debug, Default)]
pub(in crate::double) struct Kept {
    values: BTreeMap<String, Vec<u8>>,
    is_locked: bool,
}

impl Node {
    /// The plugin has kept a value for the network `net`.
    #[must_use]
    pub fn with_value(self, key: &str, value: &[u8]) -> Self {
        let mut state = self.0.borrow_mut();
        let kept = state.buckets.entry(DEFAULT_NETWORK.to_owned()).or_default();
        kept.values.insert(key.to_owned(), value.to_vec());
        drop(state);
        self
    }

    /// What the plugin keeps for a network.
    pub fn values(&self, network: &str) -> BTreeMap<String, Vec<u8>> {
        let state = self.0.borrow();
        state.buckets.get(network).map(|kept| kept.values.clone()).unwrap_or_default()
    }
}

/// The bucket of the plugin in this network, locked until the handle is
/// dropped.
#[derive(Debug)]
pub struct Bucket {
    node: Shared,
    network: String,
}

/// Opens and locks the bucket of this network. A second time is `busy` for as
/// long as there is a handle, as the plugin would wait for itself.
pub fn open() -> Result<Bucket, BucketError> {
    let node = state::current();
    let mut state = node.borrow_mut();
    state.pass("bucket.open")?;
    let network = state.call.network();
    let kept = state.buckets.entry(network.clone()).or_default();
    if kept.is_locked {
        return Err(BucketError::Busy(format!("open the bucket of network {network}: it is locked")));
    }
    kept.is_locked = true;
    drop(state);
    Ok(Bucket { node, network })
}

impl Drop for Bucket {
    fn drop(&mut self) {
        if let Some(kept) = self.node.borrow_mut().buckets.get_mut(&self.network) {
            kept.is_locked = false;
        }
    }
}

impl Bucket {
    fn work<T>(
        &self,
        operation: &str,
        work: impl FnOnce(&mut BTreeMap<String, Vec<u8>>) -> Result<T, BucketError>,
    ) -> Result<T, BucketError> {
        let mut state = self.node.borrow_mut();
        state.pass(operation)?;
        work(&mut state.buckets.entry(self.network.clone()).or_default().values)
    }

    /// The value of a key; none if there is none.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>, BucketError> {
        self.work("bucket.get", |values| {
            check_key(key)?;
            Ok(values.get(key).cloned())
        })
    }

    /// Gives a key a value.
    pub fn set(&self, key: &str, value: &[u8]) -> Result<(), BucketError> {
        self.work("bucket.set", |values| {
            check_key(key)?;
            if value.len() > VALUE_LIMIT {
                return Err(BucketError::Limit(format!(
                    "set {key:?} in the bucket: the value has {} bytes, at most {VALUE_LIMIT}",
                    value.len()
                )));
            }
            if values.len() >= KEYS_LIMIT && !values.contains_key(key) {
                return Err(BucketError::Limit(format!("the bucket has {} keys", values.len())));
            }
            values.insert(key.to_owned(), value.to_vec());
            Ok(())
        })
    }

    /// Removes a key with its value, if there is one.
    pub fn remove(&self, key: &str) -> Result<(), BucketError> {
        self.work("bucket.remove", |values| {
            check_key(key)?;
            values.remove(key);
            Ok(())
        })
    }

    /// All keys, sorted by their bytes.
    pub fn keys(&self) -> Result<Vec<String>, BucketError> {
        self.work("bucket.keys", |values| Ok(values.keys().cloned().collect()))
    }
}

fn check_key(key: &str) -> Result<(), BucketError> {
    if (1..=KEY_LIMIT).contains(&key.len()) {
        return Ok(());
    }
    Err(BucketError::Invalid(format!("a key of a bucket has 1 to {KEY_LIMIT} bytes, not {}", key.len())))
}
