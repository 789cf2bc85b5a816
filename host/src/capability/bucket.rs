//! `weir:store/bucket`: what a plugin keeps for itself between calls.

use std::time::Instant;

use wasmtime::component::Resource;

use crate::buckets::{Bucket, BucketError, VALUE_LIMIT, Value};
use crate::call::{Call, Fate, Served, Stop};
use crate::journal::Inverse;
use crate::printable::printable;
use crate::session::Session;
use crate::wit::weir::store::bucket::{self, BucketError as Refusal};

/// A bucket in the hands of a plugin.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct BucketHandle {
    /// None: nothing was ever set, and nothing may be.
    bucket: Option<Bucket>,
}

impl bucket::Host for Session {
    fn open(&mut self) -> Served<Result<Resource<BucketHandle>, Refusal>> {
        let call = &self.call;
        call.check_time()?;
        let location = call.node.bucket(&call.key.network, &self.guest.name).map_err(Stop)?;
        let wait = call.lock_wait();
        let opened = if call.may_keep() {
            Bucket::open(&location, wait).map(Some)
        } else {
            Bucket::open_existing(&location, wait)
        };
        match opened {
            Ok(bucket) => Ok(Ok(self.table.push(BucketHandle { bucket })?)),
            Err(error) => Ok(Err(refusal(error))),
        }
    }
}

impl bucket::HostBucket for Session {
    fn get(
        &mut self,
        handle: Resource<BucketHandle>,
        key: String,
    ) -> Served<Result<Option<Vec<u8>>, Refusal>> {
        self.read_bucket(&handle, |bucket| Ok(bucket.get(&key)?.map(Value::into_bytes)))
    }

    fn set(
        &mut self,
        handle: Resource<BucketHandle>,
        key: String,
        value: Vec<u8>,
    ) -> Served<Result<(), Refusal>> {
        if value.len() > VALUE_LIMIT {
            let reason = format!(
                "set {:?} in the bucket: the value has {} bytes, at most {VALUE_LIMIT}",
                printable(&key),
                value.len()
            );
            return Ok(Err(Refusal::Limit(reason)));
        }
        self.change_bucket(&handle, "set-value", &key, Some(value))
    }

    fn remove(&mut self, handle: Resource<BucketHandle>, key: String) -> Served<Result<(), Refusal>> {
        self.change_bucket(&handle, "remove-value", &key, None)
    }

    fn keys(&mut self, handle: Resource<BucketHandle>) -> Served<Result<Vec<String>, Refusal>> {
        self.read_bucket(&handle, Bucket::keys)
    }

    fn drop(&mut self, handle: Resource<BucketHandle>) -> Served<()> {
        self.table.delete(handle)?;
        Ok(())
    }
}

impl Session {
    fn read_bucket<T: Default>(
        &self,
        handle: &Resource<BucketHandle>,
        work: impl FnOnce(&Bucket) -> Result<T, BucketError>,
    ) -> Served<Result<T, Refusal>> {
        self.call.check_time()?;
        match &self.table.get(handle)?.bucket {
            Some(bucket) => Ok(work(bucket).map_err(refusal)),
            None => Ok(Ok(T::default())),
        }
    }

    /// Gives a key a value, or removes it.
    fn change_bucket(
        &self,
        handle: &Resource<BucketHandle>,
        operation: &'static str,
        key: &str,
        bytes: Option<Vec<u8>>,
    ) -> Served<Result<(), Refusal>> {
        let (call, guest) = (&self.call, &self.guest);
        call.check_time()?;
        let shown = printable(key);
        call.permit_change(guest, operation, &shown, Fate::Kept)?;
        let Some(bucket) = &self.table.get(handle)?.bucket else { return Ok(Ok(())) };
        let (exists, earlier) = match bucket.get(key) {
            Ok(earlier) => (earlier.is_some(), earlier),
            // There is nothing of it that could be put back.
            Err(BucketError::Damaged { .. }) => (true, None),
            Err(error) => return Ok(Err(refusal(error))),
        };
        if bytes.is_none() && !exists {
            return Ok(Ok(()));
        }
        let room = if exists { Ok(()) } else { bucket.check_room() };
        if let Err(error) = room.and_then(|()| keep_earlier(call, key, earlier.as_ref())) {
            return Ok(Err(refusal(error)));
        }
        let value = bytes.map(Value::new).transpose()?;
        let inverse = call.is_add().then(|| Inverse::RestoreValue {
            plugin: guest.name.clone(),
            key: key.to_owned(),
            earlier,
            written: value.as_ref().map(Value::tag),
        });
        let started = Instant::now();
        let done = call.make(guest, inverse, || match &value {
            Some(value) => bucket.set(key, value),
            None => bucket.remove(key),
        })?;
        call.note(guest, operation, shown.into_owned(), &done, started);
        Ok(done.map_err(refusal))
    }
}

/// Counts what the journal will have to keep of a value, during ADD.
fn keep_earlier(call: &Call, key: &str, earlier: Option<&Value>) -> Result<(), BucketError> {
    let Some(earlier) = earlier.filter(|_| call.is_add()) else { return Ok(()) };
    let Some(left) = call.earlier_left.get().checked_sub(earlier.len()) else {
        return Err(BucketError::Limit(format!(
            "change {:?} in the bucket: the values that this ADD has replaced and removed are as many as can be put \
             back if it fails",
            printable(key)
        )));
    };
    call.earlier_left.set(left);
    Ok(())
}

fn refusal(error: BucketError) -> Refusal {
    let message = error.to_string();
    match error {
        BucketError::Busy { .. } => Refusal::Busy(message),
        BucketError::Damaged { .. } => Refusal::Damaged(message),
        BucketError::Limit(_) => Refusal::Limit(message),
        BucketError::Invalid(_) => Refusal::Invalid(message),
        BucketError::Untrusted { .. } | BucketError::Io { .. } => Refusal::Io(message),
    }
}
