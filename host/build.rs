//! Builds the bundled plugins: each crate in `plugins/` becomes a core module,
//! then a component, then code for the machine that weir is built for, which
//! the catalog embeds.

#![allow(clippy::disallowed_methods, reason = "a build script runs cargo and reads what cargo tells it")]

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

include!("src/engine/settings.rs");

const GUEST_TARGET: &str = "wasm32-unknown-unknown";

/// A plugin's crate.
struct Plugin {
    /// The crate's name.
    package: String,
    /// The plugin type.
    kind: String,
    /// Interfaces that it may import.
    grants: Vec<String>,
}

fn main() -> Result<()> {
    let manifest_dir = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let root = manifest_dir.parent().context("the host crate is not in a workspace")?;
    for input in
        ["plugins", "sdk/rust", "sdk/config", "wit", "Cargo.lock", "Cargo.toml", "rust-toolchain.toml"]
    {
        println!("cargo::rerun-if-changed={}", root.join(input).display());
    }
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/engine/settings.rs");

    if unpacks_relocations() {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }

    let out = PathBuf::from(env::var("OUT_DIR")?);
    // Beside the outer build's directories, not in them: cargo locks those.
    let target_dir =
        out.ancestors().nth(4).context("OUT_DIR is not below a target directory")?.join("guests");
    let plugins = plugins(root)?;
    ensure_target(root)?;
    build(root, &target_dir, &plugins)?;

    let mut settings = settings();
    settings.target(&env::var("TARGET")?)?;
    let engine = Engine::new(&settings)?;
    let mut table = String::from("pub(crate) static BUNDLED: &[Bundled] = &[\n");
    for plugin in &plugins {
        let module =
            target_dir.join(GUEST_TARGET).join("guest").join(plugin.package.replace('-', "_") + ".wasm");
        let entry = compile(&engine, plugin, &module, &out)
            .with_context(|| format!("make a component of {}", plugin.package))?;
        table.push_str(&entry);
    }
    table.push_str("];\n");
    writeln!(
        table,
        "/// Identifies the engine: code that was compiled for another one does not run.\npub(crate) const COMPILED_FOR: &str = {:?};",
        engine_key(&engine)
    )?;
    fs::write(out.join("bundled.rs"), table)?;
    Ok(())
}

/// Whether the C library that is linked in can read packed relocations, as
/// glibc does since 2.36. They are a hundredth in size, and read at each start.
fn unpacks_relocations() -> bool {
    let is_glibc = env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|environment| environment == "gnu");
    let is_native = env::var("HOST").is_ok() && env::var("HOST") == env::var("TARGET");
    let Ok(output) = Command::new("getconf").arg("GNU_LIBC_VERSION").output() else { return false };
    let version = String::from_utf8_lossy(&output.stdout);
    let mut parts = version.trim().trim_start_matches("glibc ").split('.').map(str::parse::<u32>);
    let (Some(Ok(major)), Some(Ok(minor))) = (parts.next(), parts.next()) else { return false };
    is_glibc && is_native && (major, minor) >= (2, 36)
}

/// Finds the crates that say `package.metadata.weir`.
fn plugins(root: &Path) -> Result<Vec<Plugin>> {
    let mut cargo = cargo(root)?;
    cargo.args(["metadata", "--no-deps", "--format-version", "1"]);
    let output = cargo.output().context("run cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let mut plugins = Vec::new();
    for package in metadata["packages"].as_array().context("cargo metadata lists no packages")? {
        let weir = &package["metadata"]["weir"];
        let Some(kind) = weir["type"].as_str() else { continue };
        let package = package["name"].as_str().context("a package has no name")?.to_owned();
        let grants = weir["grants"].as_array().with_context(|| format!("{package} lists no grants"))?;
        let grants = grants.iter().filter_map(|grant| grant.as_str().map(str::to_owned)).collect();
        plugins.push(Plugin { package, kind: kind.to_owned(), grants });
    }
    ensure!(!plugins.is_empty(), "no crate in plugins/ has package.metadata.weir");
    plugins.sort_by(|one, other| one.kind.cmp(&other.kind));
    Ok(plugins)
}

/// Has rustup bring what plugins are built for. It does so by itself where it
/// installs the toolchain, but not for a toolchain that is already there.
fn ensure_target(root: &Path) -> Result<()> {
    let rustc = env::var("RUSTC")?;
    let output = Command::new(rustc).args(["--print", "target-libdir", "--target", GUEST_TARGET]).output()?;
    if Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir() {
        return Ok(());
    }
    let added = Command::new("rustup").args(["target", "add", GUEST_TARGET]).current_dir(root).status();
    ensure!(
        added.is_ok_and(|status| status.success()),
        "the toolchain lacks {GUEST_TARGET}, for which plugins are built: rustup target add {GUEST_TARGET}"
    );
    Ok(())
}

fn build(root: &Path, target_dir: &Path, plugins: &[Plugin]) -> Result<()> {
    let mut cargo = cargo(root)?;
    cargo.args(["build", "--profile", "guest", "--target", GUEST_TARGET, "--target-dir"]).arg(target_dir);
    for plugin in plugins {
        cargo.args(["--package", &plugin.package]);
    }
    let output = cargo.output().context("run cargo build for the plugins")?;
    if !output.status.success() {
        bail!("the plugins do not build:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// Cargo without what the outer build set for itself: flags for its target,
/// and wrappers such as clippy.
fn cargo(root: &Path) -> Result<Command> {
    let mut command = Command::new(env::var("CARGO")?);
    command.current_dir(root);
    for variable in [
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_BUILD_TARGET",
        "CARGO_MAKEFLAGS",
        "CLIPPY_ARGS",
        "MAKEFLAGS",
        "RUSTFLAGS",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
    ] {
        command.env_remove(variable);
    }
    Ok(command)
}

/// Compiles a plugin and returns its line of the catalog.
fn compile(engine: &Engine, plugin: &Plugin, module: &Path, out: &Path) -> Result<String> {
    let module = fs::read(module).with_context(|| format!("read {}", module.display()))?;
    let bytes = weir_pack::componentize(&module)?;
    let digest = format!("sha256:{:x}", Sha256::digest(&bytes));
    let component = Component::new(engine, bytes)?;
    let exports: Vec<String> =
        component.component_type().exports(engine).map(|(name, _)| name.to_owned()).collect();
    let has = |interface: &str| exports.iter().any(|export| export.starts_with(interface));
    let code = out.join(format!("{}.cwasm", plugin.kind));
    fs::write(&code, component.serialize()?)?;
    let mut entry = String::new();
    writeln!(
        entry,
        "    Bundled {{ name: {:?}, digest: {digest:?}, code: &PageAligned(*include_bytes!({code:?})).0, is_interface_plugin: {}, is_ipam_plugin: {}, grants: &{:?} }},",
        plugin.kind,
        has("weir:plugin/plugin@"),
        has("weir:plugin/ipam@"),
        plugin.grants
    )?;
    Ok(entry)
}

/// What tells engines apart that cannot run each other's code.
fn engine_key(engine: &Engine) -> String {
    struct Digesting(Sha256);
    impl Hasher for Digesting {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }

        fn finish(&self) -> u64 {
            0
        }
    }
    let mut hasher = Digesting(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut hasher);
    format!("{:x}", hasher.0.finalize())[..16].to_owned()
}
