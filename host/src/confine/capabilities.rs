//! The capabilities of the process (capabilities(7)).

use nix::unistd::geteuid;
use rustix::io::Result;
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, capabilities, capabilities_secure_bits,
    set_capabilities, set_capabilities_secure_bits,
};

use super::needs::Needs;

/// What files of other users need.
const FOREIGN_FILES: CapabilitySet = CapabilitySet::DAC_OVERRIDE.union(CapabilitySet::FOWNER);

/// What executing and killing a program of another user needs.
const PROGRAMS: CapabilitySet = CapabilitySet::DAC_OVERRIDE.union(CapabilitySet::KILL);

/// The capabilities, while it is found out which are needed.
#[derive(Debug)]
pub(super) struct Capabilities {
    had: Result<CapabilitySets>,
    kept: CapabilitySet,
}

impl Capabilities {
    /// Lowers what is in effect to what is needed in any case. The rest can
    /// still be raised.
    pub(super) fn lower(needs: &Needs) -> Self {
        let mut kept = CapabilitySet::empty();
        if needs.network {
            kept |= CapabilitySet::NET_ADMIN;
        }
        // Files of a pool may have any mode: other plugins run as root and do
        // not care. Below the call's own directories that is no privilege.
        if needs.leases {
            kept |= CapabilitySet::DAC_OVERRIDE;
        }
        if needs.program.is_some() {
            kept |= PROGRAMS;
        }
        let had = capabilities(None);
        let lowered = Self { had, kept };
        // If that fails, giving up for good will fail too, and say so.
        let _ = lowered.apply();
        lowered
    }

    /// Keeps what files of others need.
    pub(super) fn keep_foreign_files(&mut self) {
        if !self.kept.contains(FOREIGN_FILES) {
            self.kept |= FOREIGN_FILES;
            let _ = self.apply();
        }
    }

    fn apply(&self) -> Result<()> {
        let had = self.had?;
        let effective = had.permitted & (self.kept | CapabilitySet::SETPCAP);
        set_capabilities(None, CapabilitySets { effective, ..had })
    }

    /// Gives up the others, for this process and for what it might execute.
    ///
    /// Without the special treatment of root, whatever is executed has the
    /// capabilities of its file, and with "no new privileges", which the
    /// filter of system calls brings, not even those. Emptying the bounding
    /// set as well would forbid the same once more, for 41 system calls.
    /// Ambient capabilities go with the inheritable ones.
    pub(super) fn give_up(self) -> std::result::Result<(), String> {
        self.lock_root()
            .and_then(|()| {
                let kept = self.had?.permitted & self.kept;
                let inheritable = CapabilitySet::empty();
                set_capabilities(None, CapabilitySets { effective: kept, permitted: kept, inheritable })
            })
            .map_err(|errno| errno.to_string())
    }

    fn lock_root(&self) -> Result<()> {
        // Who has no right to this has nothing to lose by it either.
        if !self.had?.permitted.contains(CapabilitySet::SETPCAP) {
            return Ok(());
        }
        let locked = CapabilitiesSecureBits::NO_ROOT
            | CapabilitiesSecureBits::NO_ROOT_LOCKED
            | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE
            | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED;
        // Fails if others are locked already, which have to stay then.
        set_capabilities_secure_bits(locked)
            .or_else(|_| set_capabilities_secure_bits(capabilities_secure_bits()? | locked))
    }

    /// Gives up the others for this process alone: what root executes has all
    /// of them again. Anybody else could not pass them on, and keeps them.
    pub(super) fn leave_to_program(self) {
        let Ok(had) = self.had else { return };
        let sets = if geteuid().is_root() {
            let kept = had.permitted & self.kept;
            CapabilitySets { effective: kept, permitted: kept, ..had }
        } else {
            had
        };
        // Every process may lower what it has.
        let _ = set_capabilities(None, sets);
    }
}
