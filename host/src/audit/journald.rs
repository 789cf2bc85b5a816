//! Records for the systemd journal, in its native protocol: a datagram of
//! `FIELD=value` lines for each.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use super::entry::{Entry, Verdict};

/// Where the journal listens.
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";

/// A journal that does not read must not hold up a container.
const PATIENCE: Duration = Duration::from_millis(200);

/// A connection to the journal.
#[derive(Debug)]
pub(super) struct Journald {
    socket: UnixDatagram,
}

impl Journald {
    pub(super) fn connect(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { socket })
    }

    pub(super) fn send(&self, entry: &Entry<'_>) -> io::Result<()> {
        self.socket.send(datagram(entry).as_bytes()).map(drop)
    }
}

/// None of the texts has line breaks, as all are printable.
fn datagram(entry: &Entry<'_>) -> String {
    use std::fmt::Write;
    let priority = if entry.outcome == Verdict::Done { 6 } else { 4 };
    let mut text = format!(
        "MESSAGE={} {}: {} {}: {}",
        entry.command, entry.plugin, entry.operation, entry.object, entry.outcome
    );
    if !entry.reason.is_empty() {
        text += &format!(": {}", entry.reason);
    }
    // Writing to a string does not fail.
    let _ = write!(
        text,
        "\nPRIORITY={priority}\nSYSLOG_IDENTIFIER=weir\nWEIR_TIME={}\nWEIR_OUTCOME={}\nWEIR_DURATION_US={}\n",
        entry.time, entry.outcome, entry.duration_us
    );
    for (name, value) in entry.texts() {
        let _ = writeln!(text, "WEIR_{}={value}", name.to_ascii_uppercase());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::entry::tests::example;

    #[test]
    fn a_record_is_one_datagram_of_fields() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let journal = UnixDatagram::bind(&path).unwrap();
        Journald::connect(&path).unwrap().send(&example()).unwrap();
        let mut bytes = [0; 4096];
        let length = journal.recv(&mut bytes).unwrap();
        let text = std::str::from_utf8(&bytes[..length]).unwrap();
        for line in [
            "MESSAGE=ADD bridge: create-veth veth \"1\": failed: C:\\",
            "PRIORITY=4",
            "WEIR_NETWORK=n",
            "WEIR_CONTAINER=c1",
            "WEIR_TENANT=team-a",
            "WEIR_OUTCOME=failed",
            "WEIR_DURATION_US=7",
        ] {
            assert!(text.lines().any(|there| there == line), "{line} is not in {text}");
        }
        assert!(text.ends_with('\n'));
    }

    #[test]
    fn a_journal_that_does_not_read_is_given_up() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let _journal = UnixDatagram::bind(&path).unwrap();
        let journald = Journald::connect(&path).unwrap();
        let sent = (0..100_000).map(|_| journald.send(&example())).find(Result::is_err);
        assert!(sent.is_some(), "everything was taken");
    }
}
