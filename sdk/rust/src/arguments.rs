//! `CNI_ARGS`, in which podman and others pass requests.

use crate::CniError;
use crate::request::Attachment;

/// Keys that plugins of one configuration know: what an interface plugin does
/// not use may be meant for the address plugin that it asks.
const KNOWN: [&str; 3] = ["IP", "GATEWAY", "MAC"];

/// The arguments of a call.
#[derive(Debug, Default)]
pub struct Arguments(Vec<(String, String)>);

impl Arguments {
    /// Reads them. Unknown keys are refused unless `IgnoreUnknown` says
    /// otherwise.
    pub fn read(attachment: &Attachment) -> Result<Self, CniError> {
        let arguments = Self(attachment.arguments());
        let ignores_unknown = match arguments.get("IgnoreUnknown").map(str::to_ascii_lowercase).as_deref() {
            None | Some("0" | "false") => false,
            Some("1" | "true") => true,
            Some(other) => {
                return Err(CniError::environment(format!(
                    "CNI_ARGS: IgnoreUnknown={other}: expected 1, true, 0 or false"
                )));
            }
        };
        let unknown = |key: &str| key != "IgnoreUnknown" && !KNOWN.contains(&key);
        if let Some((key, value)) = arguments.0.iter().find(|(key, _)| !ignores_unknown && unknown(key)) {
            return Err(CniError::environment(format!("CNI_ARGS: unknown args [\"{key}={value}\"]"))
                .details(format!("known are {}; add IgnoreUnknown=1 to pass others", KNOWN.join(", "))));
        }
        Ok(arguments)
    }

    /// The value of a key; the last one wins, and an empty one counts as none.
    pub fn get(&self, key: &str) -> Option<&str> {
        let found = self.0.iter().rev().find(|(name, _)| name == key);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }
}
