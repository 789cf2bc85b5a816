//! A store with the hostile plugin, which is compiled once for all tests.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::stage::digest;
use crate::lab::{guest, line, weir};

/// Copies a store in which the hostile plugin is installed; returns its digest.
pub(crate) fn copy_to(state: &Path) -> anyhow::Result<String> {
    static STORE: OnceLock<Result<(PathBuf, String), String>> = OnceLock::new();
    let store = STORE.get_or_init(|| install().map_err(|error| format!("{error:#}")));
    let (directory, digest) = store.as_ref().map_err(|error| anyhow::anyhow!("{error}"))?;
    copy(&directory.join("plugins"), &state.join("plugins"))?;
    Ok(digest.clone())
}

/// Installs the hostile plugin where it stays for all tests.
fn install() -> anyhow::Result<(PathBuf, String)> {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("hostile");
    if directory.exists() {
        fs::remove_dir_all(&directory)?;
    }
    fs::create_dir(&directory)?;
    fs::set_permissions(&directory, Permissions::from_mode(0o755))?;
    let component = guest::component("hostile")?;
    let text = line(&format!("{} plugin add {} --type hostile", weir().display(), component.display()))
        .variable("WEIR_STATE_DIR", &directory)
        .variable("WEIR_POLICY_DIR", &directory)
        .succeed()?;
    let digest = digest(&text)?;
    Ok((directory, digest))
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir(to)?;
    fs::set_permissions(to, fs::metadata(from)?.permissions())?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}
