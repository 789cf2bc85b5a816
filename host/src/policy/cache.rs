//! The compiled policy, which a call reads instead of all files.
//!
//! It notes the state in which it found the files, so that whatever is done to
//! one of them makes it worthless. It is a cache and nothing else: one that is
//! damaged, old, of another version or in doubtful hands is not looked at, and
//! written anew.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::fcntl::OFlag;
use nix::sys::stat::fstat;
use serde::{Deserialize, Serialize};

use super::Policy;
use super::compiled::Rules;
use super::document::Document;
use super::error::PolicyError;
use super::files::{self, Sources, State};
use super::settings::Settings;

/// Changes with what the file looks like.
const MAGIC: &[u8; 8] = b"weirpol4";

/// The magic number, and the sum of what follows.
const HEADER: usize = 12;

/// A policy's files count as settled when they were not changed for so long.
/// The kernel's clock is coarse: of two changes in a row the second one may
/// leave no trace in the times of a file.
pub(super) const SETTLED: Duration = Duration::from_secs(2);

/// What stands before the rules.
#[derive(Debug, Serialize, Deserialize)]
struct Prologue {
    version: String,
    directory: PathBuf,
    state: State,
    settings: Settings,
    files: Vec<PathBuf>,
}

/// Reads a policy, from its cache if that is possible.
pub(super) fn load(directory: &Path, cache: &Path, settled: Duration) -> Result<Policy, PolicyError> {
    if !files::exist(directory)? {
        return Ok(Policy::default());
    }
    if let Some(policy) = open(directory, cache) {
        return Ok(policy);
    }
    let sources = Sources::read(directory);
    if !sources.problems.is_empty() {
        return Err(PolicyError::new(sources.problems));
    }
    let policy = Policy::of(Document::parse(&sources.files))?;
    if is_settled(&sources.state, settled) && sources.state.is_current(directory) {
        // Where nothing can be written every call reads the files, which
        // takes longer and is right.
        let _ = write(directory, cache, sources.state, &policy);
    }
    Ok(policy)
}

fn is_settled(state: &State, settled: Duration) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let changed = Duration::from_secs(u64::try_from(state.changed()).unwrap_or(0));
    changed <= now && now.saturating_sub(changed) >= settled
}

/// The policy in a cache file, if it is as it should be.
pub(super) fn open(directory: &Path, cache: &Path) -> Option<Policy> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(cache).ok()?;
    let status = fstat(&file).ok()?;
    if !files::is_private(&status) {
        return None;
    }
    let mut bytes = Vec::with_capacity(usize::try_from(status.st_size).ok()?.min(16 << 20) + 1);
    file.take(64 << 20).read_to_end(&mut bytes).ok()?;
    let (header, content) = bytes.split_first_chunk::<HEADER>()?;
    if *header != self::header(content) {
        return None;
    }
    let (prologue, rules) = postcard::take_from_bytes::<Prologue>(content).ok()?;
    let begin = bytes.len() - rules.len();
    let is_right = prologue.version == env!("CARGO_PKG_VERSION")
        && prologue.directory == directory
        && prologue.state.is_current(directory);
    is_right.then(|| Policy {
        settings: prologue.settings,
        files: prologue.files.iter().map(|path| Rc::from(path.as_path())).collect(),
        rules: Rules::in_file(bytes, begin),
    })
}

fn header(content: &[u8]) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..MAGIC.len()].copy_from_slice(MAGIC);
    header[MAGIC.len()..].copy_from_slice(&crc32fast::hash(content).to_le_bytes());
    header
}

fn write(directory: &Path, cache: &Path, state: State, policy: &Policy) -> io::Result<()> {
    let prologue = Prologue {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        directory: directory.to_owned(),
        state,
        settings: policy.settings.clone(),
        files: policy.files.iter().map(|path| path.to_path_buf()).collect(),
    };
    let mut content = postcard::to_extend(&prologue, Vec::new()).map_err(io::Error::other)?;
    content.extend(policy.rules.as_bytes());
    if let Some(parent) = cache.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    }
    // Calls that come at the same time write the same; a mixture of different
    // ones has the wrong sum.
    let unfinished = cache.with_extension("cache.new");
    let mut file = create(&unfinished)?;
    file.write_all(&header(&content))?;
    file.write_all(&content)?;
    fs::rename(&unfinished, cache)
}

/// Opens the file to write. What is there and belongs to somebody else, or can
/// be read by others, goes away first.
fn create(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let mut options = OpenOptions::new();
    options.write(true).create(true).mode(0o600).custom_flags(flags.bits());
    let file = options.open(path)?;
    if !files::is_private(&fstat(&file)?) {
        fs::remove_file(path)?;
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the file belonged to others"));
    }
    file.set_len(0)?;
    Ok(file)
}
