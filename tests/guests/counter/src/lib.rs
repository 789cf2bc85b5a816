//! Hands out addresses in turn. How many there were so far, and who has which,
//! stands in its bucket. It counts in steps of its patch number.

#![forbid(unsafe_code)]

use weir_sdk::request::{Attachment, AttachmentId, Network};
use weir_sdk::store::bucket::{self, Bucket};
use weir_sdk::types::{Dns, IpConfig};
use weir_sdk::{CniError, IpNet, IpamPlugin, IpamResult};

/// The key of the last number.
const LAST: &str = "last";

struct Counter;

weir_sdk::export_ipam_plugin!(Counter);

/// The key of an attachment's number.
fn key(id: &AttachmentId) -> String {
    format!("of {} {}", id.container_id, id.ifname)
}

/// The number under a key.
fn number(bucket: &Bucket, key: &str) -> Result<Option<u8>, CniError> {
    let Some(value) = bucket.get(key)? else { return Ok(None) };
    let number = str::from_utf8(&value).ok().and_then(|text| text.parse().ok());
    number.map(Some).ok_or_else(|| CniError::new(CniError::IO, format!("{key} is no number")))
}

impl IpamPlugin for Counter {
    fn add(attachment: &Attachment) -> Result<IpamResult, CniError> {
        let step: u8 = env!("CARGO_PKG_VERSION_PATCH").parse().map_err(|_| CniError::config("no step"))?;
        let bucket = bucket::open()?;
        let next = number(&bucket, LAST)?.unwrap_or(0).checked_add(step);
        let next = next.ok_or_else(|| CniError::new(CniError::EXHAUSTED, "no number is left"))?;
        bucket.set(LAST, next.to_string().as_bytes())?;
        bucket.set(&key(&attachment.id()), next.to_string().as_bytes())?;
        let address: IpNet =
            format!("10.77.0.{next}/24").parse().map_err(|_| CniError::config("no address"))?;
        let ip = IpConfig { address: address.into(), gateway: None, interface: None };
        let dns = Dns { nameservers: Vec::new(), domain: None, search: Vec::new(), options: Vec::new() };
        Ok(IpamResult { ips: vec![ip], routes: Vec::new(), dns })
    }

    fn del(attachment: &Attachment) -> Result<(), CniError> {
        Ok(bucket::open()?.remove(&key(&attachment.id()))?)
    }

    fn check(attachment: &Attachment) -> Result<(), CniError> {
        let id = attachment.id();
        match number(&bucket::open()?, &key(&id))? {
            Some(_) => Ok(()),
            None => Err(CniError::changed(format!("container {} has no number", id.container_id))),
        }
    }

    fn gc(network: &Network) -> Result<(), CniError> {
        let bucket = bucket::open()?;
        let valid: Vec<String> = network.valid_attachments().iter().map(key).collect();
        for stale in bucket.keys()?.iter().filter(|key| *key != LAST && !valid.contains(key)) {
            bucket.remove(stale)?;
        }
        Ok(())
    }

    fn status(_: &Network) -> Result<(), CniError> {
        match number(&bucket::open()?, LAST)? {
            Some(u8::MAX) => Err(CniError::new(CniError::UNAVAILABLE, "no number is left")),
            _ => Ok(()),
        }
    }
}
