//! Faults for tests of recovery. Not in release builds.

use crate::failure::Failure;

/// What happens at the n-th change of a call, as `WEIR_FAULT=trap-after:3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) kind: FaultKind,
    pub(crate) moment: Moment,
    /// Counted from 1.
    pub(crate) change: u32,
}

/// How a call is disturbed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FaultKind {
    /// The plugin traps.
    Trap,
    /// The process is killed.
    Kill,
    /// The change takes longer than the call may.
    Stall,
    /// The host itself fails.
    Panic,
}

/// On which side of the change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// The journal has it, the kernel does not.
    Before,
    /// The kernel has it, the plugin does not know.
    After,
}

impl Fault {
    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        let refuse = || {
            Failure::environment(format!(
                "WEIR_FAULT={text:?}: expected (trap|kill|stall|panic)-(before|after):N"
            ))
        };
        let (what, change) = text.split_once(':').ok_or_else(refuse)?;
        let (kind, moment) = what.split_once('-').ok_or_else(refuse)?;
        Ok(Self {
            kind: match kind {
                "trap" => FaultKind::Trap,
                "kill" => FaultKind::Kill,
                "stall" => FaultKind::Stall,
                "panic" => FaultKind::Panic,
                _ => return Err(refuse()),
            },
            moment: match moment {
                "before" => Moment::Before,
                "after" => Moment::After,
                _ => return Err(refuse()),
            },
            change: change.parse().map_err(|_| refuse())?,
        })
    }
}
