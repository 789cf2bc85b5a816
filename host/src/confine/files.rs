//! The files of the process (landlock(7)), and with them connections to ports,
//! abstract sockets and signals to other processes, none of which a call uses.

use std::fs::DirBuilder;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, PathBeneath, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetError, RulesetStatus, Scope,
};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::geteuid;

use super::capabilities::Capabilities;
use super::needs::{Missing, Needs, Place, Use};
use crate::real_path::open_real;

/// The newest rules that are asked for. An older kernel keeps those it knows.
const RULES: ABI = ABI::V6;

/// Opened paths, each with what may be done there.
pub(super) struct Files(Vec<(OwnedFd, BitFlags<AccessFs>)>);

impl Files {
    /// Opens the paths that are needed and exist. Capabilities that they need
    /// are kept.
    pub(super) fn open(needs: &Needs, capabilities: &mut Capabilities) -> Result<Self, String> {
        let own = geteuid().as_raw();
        let mut files = Vec::with_capacity(needs.places.len());
        for place in &needs.places {
            let opened = match open_place(place) {
                Err(Errno::EACCES) => {
                    capabilities.keep_foreign_files();
                    open_place(place)
                }
                opened => opened,
            };
            let file = match opened {
                Ok(file) => file,
                Err(errno @ (Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM)) => {
                    return Err(format!(
                        "open {}, to confine the call to it: {}",
                        place.path.display(),
                        errno.desc()
                    ));
                }
                // Whoever needs it will meet the same, and say so.
                Err(_) => continue,
            };
            if is_foreign(&file, place.wanted, own) {
                capabilities.keep_foreign_files();
            }
            files.push((file, rights(place.wanted)));
        }
        Ok(Self(files))
    }

    /// Forbids everything else.
    pub(super) fn restrict(self) -> Result<(), String> {
        match restrict(self.0) {
            Ok(RulesetStatus::NotEnforced) => {
                Err("the kernel does not have it, or it is turned off".to_owned())
            }
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }
}

fn restrict(files: Vec<(OwnedFd, BitFlags<AccessFs>)>) -> Result<RulesetStatus, RulesetError> {
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(RULES))?
        .handle_access(AccessNet::from_all(RULES))?
        .scope(Scope::from_all(RULES))?
        .create()?;
    for (file, rights) in files {
        rules = rules.add_rule(PathBeneath::new(file, rights))?;
    }
    Ok(rules.restrict_self()?.ruleset)
}

fn rights(wanted: Use) -> BitFlags<AccessFs> {
    match wanted {
        Use::Read => AccessFs::ReadFile | AccessFs::ReadDir,
        Use::Settings => AccessFs::ReadFile | AccessFs::ReadDir | AccessFs::WriteFile,
        Use::Write => {
            AccessFs::ReadFile
                | AccessFs::ReadDir
                | AccessFs::WriteFile
                | AccessFs::Truncate
                | AccessFs::MakeReg
                | AccessFs::MakeDir
                | AccessFs::RemoveFile
        }
    }
}

fn open_place(place: &Place) -> Result<OwnedFd, Errno> {
    let open = |path| if place.is_real { open_real(path, None) } else { open_path(path) };
    let make = |path, mode| {
        if place.is_real { open_real(path, Some(Mode::from_bits_truncate(mode))) } else { make(path, mode) }
    };
    match (open(&place.path), place.missing, place.path.parent()) {
        (Err(Errno::ENOENT), Missing::Make(mode), _) => make(&place.path, mode),
        (Err(Errno::ENOENT), Missing::MakeAbove(mode), Some(above)) => match open(above) {
            Err(Errno::ENOENT) => make(above, mode),
            opened => opened,
        },
        (Err(Errno::ENOENT), Missing::Above, Some(above)) => open(above),
        (opened, _, _) => opened,
    }
}

fn open_path(path: &Path) -> Result<OwnedFd, Errno> {
    open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
}

fn make(path: &Path, mode: u32) -> Result<OwnedFd, Errno> {
    // If it cannot be made, opening it says why.
    let _ = DirBuilder::new().recursive(true).mode(mode).create(path);
    open_path(path)
}

/// Whether it needs a capability to be used, since it belongs to another user.
fn is_foreign(file: &OwnedFd, wanted: Use, own: u32) -> bool {
    let needed = match wanted {
        // Any process that may change a network may use those.
        Use::Settings => return false,
        Use::Read => Mode::S_IROTH,
        Use::Write => Mode::S_IWOTH | Mode::S_IXOTH,
    };
    fstat(file)
        .is_ok_and(|state| state.st_uid != own && !Mode::from_bits_truncate(state.st_mode).contains(needed))
}
