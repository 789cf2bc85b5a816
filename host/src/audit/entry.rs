//! One line of the audit log.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::printable::printable;

/// What a line begins with. Nothing inside of a line reads like it, as quotes
/// in texts are escaped, so that lines are found again behind a torn one.
const BEGINNING: &str = "{\"time\":\"";

/// How an operation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// It was done.
    Done,
    /// It was tried, and something went wrong.
    Failed,
    /// It was not tried, as the plugin may not do it.
    Denied,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Denied => "denied",
        })
    }
}

/// A line. Empty texts are left out of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry<'a> {
    /// When it ended: RFC 3339, UTC, microseconds. Such texts sort by time.
    pub(crate) time: Cow<'a, str>,
    #[serde(default)]
    pub(crate) command: Cow<'a, str>,
    #[serde(default)]
    pub(crate) network: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "is_empty")]
    pub(crate) container: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "is_empty")]
    pub(crate) ifname: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "is_empty")]
    pub(crate) tenant: Cow<'a, str>,
    #[serde(default)]
    pub(crate) plugin: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "is_empty")]
    pub(crate) digest: Cow<'a, str>,
    #[serde(default)]
    pub(crate) operation: Cow<'a, str>,
    #[serde(default)]
    pub(crate) object: Cow<'a, str>,
    pub(crate) outcome: Verdict,
    #[serde(default, skip_serializing_if = "is_empty")]
    pub(crate) reason: Cow<'a, str>,
    #[serde(default)]
    pub(crate) duration_us: u64,
}

#[expect(clippy::ptr_arg, reason = "the form that serde asks for")]
fn is_empty(text: &Cow<'_, str>) -> bool {
    text.is_empty()
}

impl<'a> Entry<'a> {
    /// Adds the line to a text.
    pub(super) fn write(&self, text: &mut Vec<u8>) {
        let before = text.len();
        match serde_json::to_writer(&mut *text, self) {
            Ok(()) => text.push(b'\n'),
            // Texts and numbers always have a form.
            Err(_) => text.truncate(before),
        }
    }

    /// Reads a line; none if nothing can be made of it. Of one that continues
    /// a torn one, the whole one counts.
    pub(crate) fn read(line: &str) -> Option<Self> {
        let start = line.rfind(BEGINNING)?;
        serde_json::from_str(&line[start..]).ok()
    }

    /// The texts with their names, without the empty ones.
    pub(crate) fn texts(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [
            ("command", &self.command),
            ("network", &self.network),
            ("container", &self.container),
            ("ifname", &self.ifname),
            ("tenant", &self.tenant),
            ("plugin", &self.plugin),
            ("digest", &self.digest),
            ("operation", &self.operation),
            ("object", &self.object),
            ("reason", &self.reason),
        ]
        .into_iter()
        .filter(|(_, text)| !text.is_empty())
        .map(|(name, text)| (name, text.as_ref()))
    }

    /// The same with all texts harmless: whoever wrote the file may not have
    /// been weir.
    pub(crate) fn harmless(&self) -> Entry<'_> {
        Entry {
            time: printable(&self.time),
            command: printable(&self.command),
            network: printable(&self.network),
            container: printable(&self.container),
            ifname: printable(&self.ifname),
            tenant: printable(&self.tenant),
            plugin: printable(&self.plugin),
            digest: printable(&self.digest),
            operation: printable(&self.operation),
            object: printable(&self.object),
            outcome: self.outcome,
            reason: printable(&self.reason),
            duration_us: self.duration_us,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn example() -> Entry<'static> {
        Entry {
            time: "2026-01-02T03:04:05.678901Z".into(),
            command: "ADD".into(),
            network: "n".into(),
            container: "c1".into(),
            ifname: "eth0".into(),
            tenant: "team-a".into(),
            plugin: "bridge".into(),
            digest: "sha256:00".into(),
            operation: "create-veth".into(),
            object: "veth \"1\"".into(),
            outcome: Verdict::Failed,
            reason: "C:\\".into(),
            duration_us: 7,
        }
    }

    fn line(entry: &Entry<'_>) -> String {
        let mut text = Vec::new();
        entry.write(&mut text);
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn what_is_written_is_read() {
        let line = line(&example());
        assert!(line.ends_with("\n") && line.starts_with(BEGINNING), "{line}");
        assert_eq!(Entry::read(line.trim_end()), Some(example()));
    }

    #[test]
    fn empty_texts_are_left_out() {
        let entry = Entry { tenant: "".into(), digest: "".into(), reason: "".into(), ..example() };
        let line = line(&entry);
        assert!(!line.contains("tenant") && !line.contains("digest") && !line.contains("reason"), "{line}");
        assert_eq!(Entry::read(&line), Some(entry));
    }

    #[test]
    fn a_line_is_found_behind_a_torn_one() {
        let whole = line(&example());
        for end in 0..whole.trim_end().len() {
            let torn = format!("{}{whole}", &whole[..end]);
            assert_eq!(Entry::read(torn.trim_end()), Some(example()), "{torn}");
            assert_eq!(Entry::read(&whole[..end]), None);
        }
    }

    #[test]
    fn texts_cannot_pass_for_a_line() {
        let forged = line(&example()).trim_end().to_owned();
        let entry = Entry { object: forged.into(), ..example() };
        assert_eq!(Entry::read(&line(&entry)), Some(entry));
    }
}
