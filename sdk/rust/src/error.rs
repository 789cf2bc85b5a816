//! Errors of a plugin, and what becomes of the host's refusals: the one place
//! where a plugin's failure gets its CNI code (specification, section
//! "Error"; from 100 on weir's own, which the README lists).

use std::fmt;

use crate::bindings::platform::weir::net::types::NetError;
use crate::bindings::platform::weir::store::bucket::BucketError;
use crate::bindings::platform::weir::store::files::FileError;
use crate::bindings::platform::weir::store::leases::StoreError;
use crate::types::CniError;

impl CniError {
    /// Invalid environment variables.
    pub const ENVIRONMENT: u32 = 4;
    /// Input or output failed.
    pub const IO: u32 = 5;
    /// The content could not be decoded.
    pub const DECODE: u32 = 6;
    /// The network configuration is invalid.
    pub const CONFIG: u32 = 7;
    /// Try again later.
    pub const TRY_AGAIN: u32 = 11;
    /// ADD cannot be served.
    pub const UNAVAILABLE: u32 = 50;
    /// The plugin may not do that.
    pub const DENIED: u32 = 100;
    /// Time, memory or another resource is used up.
    pub const LIMIT: u32 = 103;
    /// The kernel refused an operation.
    pub const KERNEL: u32 = 105;
    /// No address is left.
    pub const EXHAUSTED: u32 = 106;
    /// CHECK found something other than what ADD made.
    pub const CHANGED: u32 = 107;

    /// Makes an error; the message says what was attempted, on which object,
    /// and why it failed.
    pub fn new(code: u32, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: String::new() }
    }

    /// Adds what to do next.
    #[must_use]
    pub fn details(mut self, details: impl Into<String>) -> Self {
        self.details = details.into();
        self
    }

    /// The configuration says something that cannot be done.
    pub fn config(message: impl fmt::Display) -> Self {
        Self::new(Self::CONFIG, format!("network configuration: {message}"))
    }

    /// The environment says something that cannot be done.
    pub fn environment(message: impl Into<String>) -> Self {
        Self::new(Self::ENVIRONMENT, message)
    }

    /// CHECK found a difference.
    pub fn changed(message: impl Into<String>) -> Self {
        Self::new(Self::CHANGED, message).details("delete the container's attachment and add it again")
    }
}

impl From<NetError> for CniError {
    fn from(error: NetError) -> Self {
        let (code, message) = match error {
            NetError::Denied(message) => (Self::DENIED, message),
            NetError::Busy(message) => (Self::TRY_AGAIN, message),
            NetError::Invalid(message) => (Self::CONFIG, message),
            NetError::Limit(message) => (Self::LIMIT, message),
            NetError::Kernel(error) => (Self::KERNEL, error.message),
            NetError::NotFound(message)
            | NetError::AlreadyExists(message)
            | NetError::Unsupported(message)
            | NetError::Other(message) => (Self::KERNEL, message),
        };
        Self::new(code, message)
    }
}

impl From<StoreError> for CniError {
    fn from(error: StoreError) -> Self {
        let (code, message) = match error {
            StoreError::Denied(message) => (Self::DENIED, message),
            StoreError::Busy(message) => (Self::TRY_AGAIN, message),
            StoreError::Taken(message) | StoreError::Invalid(message) => (Self::CONFIG, message),
            StoreError::Limit(message) => (Self::LIMIT, message),
            StoreError::Io(message) | StoreError::Other(message) => (Self::IO, message),
        };
        Self::new(code, message)
    }
}

impl From<BucketError> for CniError {
    fn from(error: BucketError) -> Self {
        let (code, message) = match error {
            BucketError::Busy(message) => (Self::TRY_AGAIN, message),
            BucketError::Invalid(message) => (Self::CONFIG, message),
            BucketError::Limit(message) => (Self::LIMIT, message),
            BucketError::Damaged(message) | BucketError::Io(message) | BucketError::Other(message) => {
                (Self::IO, message)
            }
        };
        Self::new(code, message)
    }
}

impl From<FileError> for CniError {
    fn from(error: FileError) -> Self {
        match error {
            FileError::Denied(message) => Self::new(Self::DENIED, message),
            FileError::NotFound(message) | FileError::Io(message) => Self::new(Self::IO, message),
        }
    }
}
