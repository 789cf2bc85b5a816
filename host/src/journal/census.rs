//! How many leases a tenant holds, as far as the journal knows: those that
//! plugins of weir took and have not released.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::entry::{Inverse, Line};
use super::file::{Header, whole_lines};
use super::listing::list;
use crate::failure::{Failure, code};
use crate::lock;

/// Held by whoever counts and then takes a lease, until it is in his journal.
/// The name is none that an attachment can have.
const LOCK: &str = ".census";

/// Makes the calls that are bounded by numbers of leases come one by one.
pub(crate) fn begin(directory: &Path, wait: Duration) -> Result<File, Failure> {
    let path = directory.join(LOCK);
    let broken = |error: std::io::Error| Failure::io(format!("lock {}: {error}", path.display()));
    let mut options = OpenOptions::new();
    options.write(true).create(true).mode(0o600).custom_flags(nix::libc::O_NOFOLLOW);
    let file = options.open(&path).map_err(broken)?;
    lock::acquire(file, Instant::now() + wait).map_err(broken)?.ok_or_else(|| {
        Failure::new(
            code::TRY_AGAIN,
            format!("lock {}: other calls count leases for too long", path.display()),
        )
    })
}

/// Counts the leases of a tenant or, if there is none, of a network. A lease
/// whose journal cannot be read counts for everybody.
pub(crate) fn leases(directory: &Path, network: &str, tenant: Option<&str>) -> Result<u32, Failure> {
    let mut count = 0_u32;
    for name in list(directory)? {
        let bytes = match fs::read(directory.join(&name)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => {
                return Err(Failure::io(format!(
                    "read the journal {}: {error}",
                    directory.join(&name).display()
                )));
            }
        };
        let (lines, _) = whole_lines(&bytes);
        let mut lines = lines.split(|byte| *byte == b'\n');
        let header: Option<Header> = lines.next().and_then(|line| serde_json::from_slice(line).ok());
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

fn leases_in<'a>(lines: impl Iterator<Item = &'a [u8]>) -> u32 {
    let mut changes = Vec::new();
    for line in lines {
        match serde_json::from_slice(line) {
            Ok(Line::Change(inverse)) => changes.push(matches!(inverse, Inverse::ReleaseLease { .. })),
            Ok(Line::Cancelled { cancel }) => {
                if let Some(change) = changes.get_mut(cancel) {
                    *change = false;
                }
            }
            Ok(Line::Added { .. } | Line::Waiting(_)) | Err(_) => {}
        }
    }
    u32::try_from(changes.into_iter().filter(|is_lease| *is_lease).count()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Journal, Key};

    const WAIT: Duration = Duration::from_secs(1);

    /// An attachment with so many leases, one of which was cancelled.
    fn attach(directory: &Path, network: &str, container: &str, tenant: Option<&str>, leases: u8) {
        let key = Key {
            network: network.to_owned(),
            container_id: container.to_owned(),
            ifname: "eth0".to_owned(),
            plugin: "host-local".to_owned(),
        };
        let header = Header::new(key, None, None, String::new()).of_tenant(tenant);
        let mut journal = Journal::begin(directory, header, WAIT).unwrap();
        let lease = |last| Inverse::ReleaseLease {
            data_dir: "/leases".into(),
            address: std::net::Ipv4Addr::new(10, 0, 0, last).into(),
        };
        for last in 0..leases {
            journal.record(lease(last)).unwrap();
        }
        let cancelled = journal.record(lease(leases)).unwrap();
        journal.cancel(cancelled).unwrap();
        journal.commit(Vec::new()).unwrap();
    }

    #[test]
    fn leases_count_for_their_tenant_in_all_networks() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        attach(directory, "one", "a", Some("red"), 2);
        attach(directory, "two", "b", Some("red"), 1);
        attach(directory, "one", "c", Some("blue"), 4);
        attach(directory, "one", "d", None, 3);
        let _lock = begin(directory, WAIT).unwrap();
        assert_eq!(leases(directory, "one", Some("red")).unwrap(), 3);
        assert_eq!(leases(directory, "one", Some("blue")).unwrap(), 4);
        assert_eq!(leases(directory, "one", None).unwrap(), 3);
        assert_eq!(leases(directory, "two", None).unwrap(), 0);
        // Nobody knows whose it is.
        fs::write(
            directory.join("torn"),
            "{\"weir\":1,\n{\"undo\":\"release-lease\",\"data-dir\":\"/x\",\"address\":\"10.0.0.1\"}\n",
        )
        .unwrap();
        assert_eq!(leases(directory, "two", None).unwrap(), 1);
    }

    #[test]
    fn only_one_call_counts_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let held = begin(directory.path(), WAIT).unwrap();
        let failure = begin(directory.path(), Duration::from_millis(10)).unwrap_err();
        assert_eq!(failure.code, code::TRY_AGAIN);
        drop(held);
        begin(directory.path(), WAIT).unwrap();
    }
}
