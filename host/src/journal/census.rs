//! How many leases a tenant holds, as far as the journal knows: those that
//! plugins of weir took and have not released.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::entry::{Inverse, Line};
use super::file::{Header, list};
use crate::failure::{Failure, code};

/// Held by whoever counts and then takes a lease, until it is in his journal.
/// The name is none that an attachment can have.
const LOCK: &str = ".census";

/// Makes the calls that are bounded by numbers of leases come one by one.
pub(crate) fn lock(directory: &Path, wait: Duration) -> Result<File, Failure> {
    let path = directory.join(LOCK);
    let broken = |error: std::io::Error| Failure::io(format!("lock {}: {error}", path.display()));
    let mut options = OpenOptions::new();
    options.write(true).create(true).mode(0o600).custom_flags(nix::libc::O_NOFOLLOW);
    let file = options.open(&path).map_err(broken)?;
    let end = Instant::now() + wait;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(2));
            }
            Err(TryLockError::WouldBlock) => {
                return Err(Failure::new(
                    code::TRY_AGAIN,
                    format!("lock {}: other calls count leases for too long", path.display()),
                ));
            }
            Err(TryLockError::Error(error)) => return Err(broken(error)),
        }
    }
}

/// Counts the leases of a tenant or, if there is none, of a network. A lease
/// whose journal cannot be read counts for everybody.
pub(crate) fn leases(directory: &Path, network: &str, tenant: Option<&str>) -> Result<u32, Failure> {
    let mut count = 0_u32;
    for name in list(directory)? {
        let text = match fs::read_to_string(directory.join(&name)) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => {
                return Err(Failure::io(format!(
                    "read the journal {}: {error}",
                    directory.join(&name).display()
                )));
            }
        };
        let mut lines = text.lines();
        let header: Option<Header> = lines.next().and_then(|line| serde_json::from_str(line).ok());
        let is_counted = header.is_none_or(|header| match tenant {
            Some(tenant) => header.tenant.as_deref() == Some(tenant),
            None => header.tenant.is_none() && header.key.network == network,
        });
        if is_counted {
            count = count.saturating_add(leases_in(lines));
        }
    }
    Ok(count)
}

fn leases_in<'a>(lines: impl Iterator<Item = &'a str>) -> u32 {
    let mut changes = Vec::new();
    for line in lines {
        match serde_json::from_str(line) {
            Ok(Line::Change(inverse)) => changes.push(matches!(inverse, Inverse::ReleaseLease { .. })),
            Ok(Line::Cancelled { cancel }) => {
                if let Some(change) = changes.get_mut(cancel) {
                    *change = false;
                }
            }
            Ok(Line::Added { .. }) | Err(_) => {}
        }
    }
    u32::try_from(changes.into_iter().filter(|is_lease| *is_lease).count()).unwrap_or(u32::MAX)
}
