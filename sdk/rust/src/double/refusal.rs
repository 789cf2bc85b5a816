//! Refusals that a test asks for.

use crate::bindings::platform::weir::net::types::NetError;
use crate::bindings::platform::weir::store::bucket::BucketError;
use crate::bindings::platform::weir::store::files::FileError;
use crate::bindings::platform::weir::store::leases::StoreError;
use crate::types::CniError;

/// The error of an operation, of whichever interface; see
/// [`Node::fail_next`](super::Node::fail_next).
#[derive(Debug, Clone, PartialEq)]
pub enum Refusal {
    /// Of `weir:net` and `weir:firewall`.
    Net(NetError),
    /// Of `weir:store/leases`.
    Store(StoreError),
    /// Of `weir:store/bucket`.
    Bucket(BucketError),
    /// Of `weir:store/files`.
    File(FileError),
    /// Of `weir:plugin/ipam`.
    Cni(CniError),
}

macro_rules! refusal {
    ($($case:ident($error:ty)),*) => {$(
        impl From<$error> for Refusal {
            fn from(error: $error) -> Self {
                Self::$case(error)
            }
        }

        impl TryFrom<Refusal> for $error {
            type Error = Refusal;

            fn try_from(refusal: Refusal) -> Result<Self, Refusal> {
                match refusal {
                    Refusal::$case(error) => Ok(error),
                    other => Err(other),
                }
            }
        }
    )*};
}

refusal!(Net(NetError), Store(StoreError), Bucket(BucketError), File(FileError), Cni(CniError));
