//! The bucket.

use weir_sdk::CniError;
use weir_sdk::store::bucket::{self, Bucket};

use crate::{Raid, Step};

impl Raid<'_> {
    /// Takes a step with the bucket; none if it is of another kind.
    pub(crate) fn bucket(&mut self, step: Step<'_>) -> Option<Result<(), CniError>> {
        match step.text("do") {
            "open-bucket" => Some(bucket::open().map(|bucket| self.buckets.push(bucket)).map_err(Into::into)),
            "close-buckets" => {
                self.buckets.clear();
                Some(Ok(()))
            }
            "use-closed-bucket" => Some(use_closed()),
            "set-value" | "remove-value" | "get-value" | "tell-values" => Some(self.value(step)),
            _ => None,
        }
    }

    fn value(&mut self, step: Step<'_>) -> Result<(), CniError> {
        if self.buckets.is_empty() {
            self.buckets.push(bucket::open()?);
        }
        let Some(bucket) = self.buckets.last() else { return Ok(()) };
        for number in 0..step.number("count").max(1) {
            let mut key = step.long_text("key");
            if step.has("count") {
                key += &number.to_string();
            }
            match step.text("do") {
                "set-value" if step.has("size") => {
                    bucket.set(&key, &vec![b'x'; step.number("size") as usize])?
                }
                "set-value" => bucket.set(&key, step.text("value").as_bytes())?,
                "remove-value" => bucket.remove(&key)?,
                "get-value" => return Err(told(&[(key.clone(), bucket.get(&key)?)])),
                _ => {
                    let values = bucket.keys()?.into_iter().map(|key| Ok((key.clone(), bucket.get(&key)?)));
                    return Err(told(&values.collect::<Result<Vec<_>, CniError>>()?));
                }
            }
        }
        Ok(())
    }
}

/// Whoever reads the error has the values.
fn told(values: &[(String, Option<Vec<u8>>)]) -> CniError {
    let one = |(key, value): &(String, Option<Vec<u8>>)| match value {
        Some(value) => format!("[{key}={}]", String::from_utf8_lossy(value)),
        None => format!("[{key}]"),
    };
    let text: String = values.iter().map(one).collect();
    CniError::new(CniError::CONFIG, format!("the bucket has {} values: {text}", values.len()))
}

fn use_closed() -> Result<(), CniError> {
    let bucket = bucket::open()?;
    let number = bucket.handle();
    drop(bucket);
    // SAFETY: none; that the handle has ended is the point.
    let bucket = unsafe { Bucket::from_handle(number) };
    bucket.set("late", b"")?;
    Ok(())
}
