//! The files of the process (landlock(7)), and with them connections to ports,
//! abstract sockets and signals to other processes, none of which a call uses.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
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
use super::needs::{Needs, Use};

/// The newest rules that are asked for. An older kernel keeps those it knows.
const RULES: ABI = ABI::V6;

/// Opened paths, each with what may be done there.
pub(super) struct Files(Vec<(OwnedFd, BitFlags<AccessFs>)>);

impl Files {
    /// Opens the paths that are needed and exist. Capabilities that they need
    /// are kept.
    pub(super) fn open(needs: &Needs, capabilities: &mut Capabilities) -> Self {
        let mut files = Vec::with_capacity(needs.paths.len() + 2);
        for (path, wanted) in &needs.paths {
            let opened = match open_path(path) {
                Err(Errno::EACCES) => {
                    capabilities.keep_foreign_files();
                    open_path(path)
                }
                opened => opened,
            };
            // What does not exist now is not there later either: what a call
            // makes is below something that exists.
            let Ok(file) = opened else { continue };
            if is_foreign(&file, *wanted) {
                capabilities.keep_foreign_files();
            }
            files.push((file, rights(*wanted)));
        }
        Self(files)
    }

    /// Adds directories with settings of the kernel's.
    pub(super) fn add_settings<'a>(&mut self, directories: impl Iterator<Item = &'a File>) {
        // If it cannot be had twice, settings there cannot be set.
        let files = directories.filter_map(|directory| directory.try_clone().ok());
        self.0.extend(files.map(|file| (OwnedFd::from(file), rights(Use::Settings))));
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

fn open_path(path: &Path) -> Result<OwnedFd, Errno> {
    open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
}

/// Whether it needs a capability to be used, since it belongs to another user.
fn is_foreign(file: &OwnedFd, wanted: Use) -> bool {
    let needed = match wanted {
        // Any process that may change a network may use those.
        Use::Settings => return false,
        Use::Read => Mode::S_IROTH,
        Use::Write => Mode::S_IWOTH | Mode::S_IXOTH,
    };
    fstat(file).map_err(io::Error::from).is_ok_and(|state| {
        state.st_uid != geteuid().as_raw() && !Mode::from_bits_truncate(state.st_mode).contains(needed)
    })
}
