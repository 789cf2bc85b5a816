//! The content of a lease file.

use std::collections::HashSet;
use std::fmt;

use super::{LeaseError, Owner};

/// Whom a lease file names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Record {
    /// Nobody. The writer holds the lock while it writes, so that this can be
    /// seen under the lock only if a writer, or the node, died meanwhile.
    Torn,
    /// A container without an interface, as written before plugins 0.7.
    Container(String),
    /// An attachment.
    Attachment(Owner),
    /// Something that no version of the format contains.
    Foreign,
}

impl Record {
    /// Understands the content of a lease file.
    pub(super) fn parse(content: &[u8]) -> Self {
        // A file whose blocks did not reach the disk reads as zeros.
        if content.iter().all(|byte| *byte == 0 || byte.is_ascii_whitespace()) {
            return Self::Torn;
        }
        let Ok(text) = str::from_utf8(content) else { return Self::Foreign };
        let mut lines = text.trim().lines().map(str::trim);
        match (lines.next(), lines.next(), lines.next()) {
            (Some(container_id), None, None) => Self::Container(container_id.to_owned()),
            (Some(container_id), Some(ifname), None) => {
                Self::Attachment(Owner { container_id: container_id.to_owned(), ifname: ifname.to_owned() })
            }
            _ => Self::Foreign,
        }
    }

    /// The records that may stand in leases of `owner`: the exact one, and
    /// that of leases made before interfaces were noted.
    pub(super) fn of(owner: &Owner) -> [Self; 2] {
        [Self::Attachment(owner.clone()), Self::Container(owner.container_id.clone())]
    }

    /// Whether the lease is one of `owner`.
    pub(super) fn belongs_to(&self, owner: &Owner) -> bool {
        match self {
            Self::Attachment(holder) => holder == owner,
            Self::Container(id) => *id == owner.container_id,
            Self::Torn | Self::Foreign => false,
        }
    }
}

/// For people.
impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Torn => f.write_str("nobody"),
            Self::Container(id) => write!(f, "container {id}"),
            Self::Attachment(owner) => {
                write!(f, "container {}, interface {}", owner.container_id, owner.ifname)
            }
            Self::Foreign => f.write_str("an owner that cannot be read"),
        }
    }
}

impl Owner {
    /// The content of a lease file of this owner.
    pub(super) fn content(&self) -> String {
        format!("{}\r\n{}", self.container_id, self.ifname)
    }

    /// Refuses names that would change the meaning of the file.
    pub(super) fn check(&self) -> Result<(), LeaseError> {
        for (what, name) in [("container id", &self.container_id), ("interface name", &self.ifname)] {
            if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control()) {
                return Err(LeaseError::Invalid(format!(
                    "lease to {what} {name:?}: it must not be empty nor contain spaces or control characters"
                )));
            }
        }
        Ok(())
    }
}

/// The attachments that a garbage collection leaves alone.
pub(super) struct Valid<'a> {
    owners: &'a HashSet<Owner>,
    containers: HashSet<&'a str>,
}

impl<'a> Valid<'a> {
    pub(super) fn new(owners: &'a HashSet<Owner>) -> Self {
        Self { owners, containers: owners.iter().map(|owner| owner.container_id.as_str()).collect() }
    }

    /// Whether a lease with this record must stay.
    pub(super) fn keeps(&self, record: &Record) -> bool {
        match record {
            Record::Attachment(owner) => self.owners.contains(owner),
            Record::Container(id) => self.containers.contains(id.as_str()),
            Record::Torn | Record::Foreign => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner() -> Owner {
        Owner { container_id: "c1".into(), ifname: "eth0".into() }
    }

    #[test]
    fn content_is_that_of_the_reference_plugin() {
        assert_eq!(owner().content().as_bytes(), b"c1\r\neth0");
        assert_eq!(Record::parse(b"c1\r\neth0"), Record::Attachment(owner()));
        assert_eq!(Record::parse(b"c1\n"), Record::Container("c1".into()));
    }

    #[test]
    fn blank_is_torn_and_garbage_is_not() {
        for torn in [&b""[..], b"\r\n", b"\0\0\0\0"] {
            assert_eq!(Record::parse(torn), Record::Torn);
        }
        assert_eq!(Record::parse(b"\xff\xfe"), Record::Foreign);
        assert_eq!(Record::parse(b"a\nb\nc"), Record::Foreign);
    }

    #[test]
    fn owners_cannot_forge_a_second_line() {
        let forged = Owner { container_id: "c1\r\neth0".into(), ifname: "x".into() };
        assert!(matches!(forged.check(), Err(LeaseError::Invalid(_))));
        assert!(matches!(Owner { ifname: String::new(), ..owner() }.check(), Err(LeaseError::Invalid(_))));
        owner().check().unwrap();
    }
}
