//! Plugins that only tests use, built from tests/guests when the first test
//! asks for one.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, ensure};

/// What guests are built for.
const TARGET: &str = "wasm32-unknown-unknown";

/// The component of a guest, which is named after its directory.
pub(crate) fn component(name: &str) -> anyhow::Result<PathBuf> {
    let module = module(name)?;
    let path = module.with_file_name(format!("{name}.component.wasm"));
    // Tests that run beside this one may have made it.
    if !path.exists() {
        let component =
            weir_pack::componentize(&fs::read(&module)?).with_context(|| format!("pack {name}"))?;
        let fresh = tempfile::NamedTempFile::new_in(module.parent().context("it is in no directory")?)?;
        fs::write(&fresh, component)?;
        fresh.persist(&path)?;
    }
    Ok(path)
}

/// The core module of a guest.
pub(crate) fn module(name: &str) -> anyhow::Result<PathBuf> {
    static DIRECTORY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let directory = DIRECTORY.get_or_init(|| build().map_err(|error| format!("{error:#}")));
    let directory = directory.as_ref().map_err(|error| anyhow::anyhow!("{error}"))?;
    let path = directory.join(format!("guest_{}.wasm", name.replace('-', "_")));
    ensure!(path.is_file(), "there is no guest {name} in tests/guests");
    Ok(path)
}

/// Builds all guests; returns the directory that they are in.
fn build() -> anyhow::Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/guests");
    let target_dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guests");
    let directory = target_dir.join(TARGET).join("release");
    let output = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--release", "--workspace", "--target", TARGET, "--target-dir"])
        .arg(&target_dir)
        .current_dir(&root)
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .output()
        .context("run cargo build for the guests")?;
    ensure!(output.status.success(), "the guests do not build: {}", String::from_utf8_lossy(&output.stderr));
    // Of what was built before.
    for entry in fs::read_dir(&directory)? {
        let path = entry?.path();
        if path.to_string_lossy().ends_with(".component.wasm") {
            fs::remove_file(path)?;
        }
    }
    Ok(directory)
}
