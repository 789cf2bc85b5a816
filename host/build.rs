//! Builds the compiler, and with it the bundled plugins: each crate in
//! `plugins/` becomes a core module, then a component, then code for the
//! machine that weir is built for. The catalog embeds all that.

#![allow(clippy::disallowed_methods, reason = "a build script runs cargo and reads what cargo tells it")]

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use sha2::{Digest, Sha256};
use wit_parser::Resolve;

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

impl Plugin {
    /// The name under which the linker knows its code.
    fn symbol(&self) -> String {
        format!("WEIR_COMPONENT_{}", self.kind.replace('-', "_").to_uppercase())
    }
}

fn main() -> Result<()> {
    let manifest_dir = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let root = manifest_dir.parent().context("the host crate is not in a workspace")?;
    for input in [
        "plugins",
        "sdk/rust",
        "sdk/config",
        "sdk/heap",
        "sdk/pack",
        "wit",
        "Cargo.lock",
        "Cargo.toml",
        "rust-toolchain.toml",
    ] {
        println!("cargo::rerun-if-changed={}", root.join(input).display());
    }
    println!("cargo::rerun-if-changed=build.rs");
    for input in ["compiler", "src/engine/settings.rs", "src/catalog/description.rs"] {
        println!("cargo::rerun-if-changed={input}");
    }

    let out = PathBuf::from(env::var("OUT_DIR")?);
    // Beside the outer build's directories, not in them: cargo locks those.
    let target_dir =
        out.ancestors().nth(4).context("OUT_DIR is not below a target directory")?.join("guests");
    let plugins = plugins(root)?;
    link(&manifest_dir, &plugins, &out)?;
    ensure_target(root)?;
    build(root, &target_dir, &plugins)?;

    let compiler_dir = target_dir.with_file_name("compiler");
    let target = env::var("TARGET")?;
    let carried = build_compiler(root, &compiler_dir, &target, &[])?;
    let program = out.join("weir-compiler");
    fs::copy(&carried, &program).with_context(|| format!("copy {}", carried.display()))?;
    let builder = env::var("HOST")?;
    let compiler = match processor(&builder) == processor(&target) {
        true => carried,
        // It does not run here.
        false => build_compiler(root, &compiler_dir, &builder, &["--features", "other-processors"])?,
    };

    let mut code = String::new();
    let mut table = String::from("static BUNDLED: &[Bundled] = &[\n");
    for plugin in &plugins {
        let module =
            target_dir.join(GUEST_TARGET).join("guest").join(plugin.package.replace('-', "_") + ".wasm");
        let (item, entry) = compile(&compiler, &target, plugin, &module, &out)
            .with_context(|| format!("make a component of {}", plugin.package))?;
        code.push_str(&item);
        table.push_str(&entry);
    }
    table.push_str("];\n");
    let mut constant = |name, of, value: String| writeln!(table, "const {name}: {of} = {value};");
    constant(
        "COMPILED_FOR",
        "&str",
        format!("{:?}", String::from_utf8(run(&compiler, &["key", &target], b"")?)?),
    )?;
    constant("TARGET", "&str", format!("{target:?}"))?;
    constant("INTERFACES", "&[&str]", format!("&{:?}", interfaces(root)?))?;
    // In a section of its own, away from what each call reads.
    writeln!(
        table,
        "#[unsafe(link_section = \".compiler\")]\nstatic COMPILER: [u8; {}] = *include_bytes!({program:?});",
        fs::metadata(&program)?.len()
    )?;
    fs::write(out.join("bundled.rs"), code + &table)?;
    Ok(())
}

/// How the program is linked, so that it starts fast: with packed relocations,
/// which are a hundredth in size and read at each start, with equal tables once,
/// each of which has to be relocated then, and with what a call executes in one
/// place that the kernel can map as large pages (`src/large_pages.rs`).
fn link(manifest_dir: &Path, plugins: &[Plugin], out: &Path) -> Result<()> {
    let functions = manifest_dir.join("profile/functions.order");
    println!("cargo::rerun-if-changed={}", functions.display());
    let is = |variable: &str, value: &str| env::var(variable).is_ok_and(|found| found == value);
    if is("CARGO_CFG_TARGET_ENV", "musl") && is("RUSTC_LINKER", "rust-lld") {
        let order = out.join("symbols.order");
        let mut components: Vec<_> = plugins.iter().map(Plugin::symbol).collect();
        components.insert(1, "weir_start".to_owned());
        // Two functions of the C library's that the list does not have: in
        // assembly, they have no size.
        let first = "weir_text\n_start\n__set_thread_area";
        let last = components.join("\n");
        fs::write(&order, format!("{first}\n{}{last}\n", fs::read_to_string(functions)?))?;
        for argument in [
            "--pack-dyn-relocs=relr",
            "--icf=all",
            "--ignore-data-address-equality",
            "--no-warn-symbol-ordering",
            &format!("--symbol-ordering-file={}", order.display()),
            // Code begins at a multiple of the size of a large page, in the
            // file as in memory, and shares none with anything else.
            "-zseparate-loadable-segments",
            "-zmax-page-size=0x200000",
            // A part of its own for what could be protected after the start
            // costs a mapping, and musl's start does not protect it.
            "-znorelro",
        ] {
            println!("cargo::rustc-link-arg-bins={argument}");
        }
        if is("CARGO_CFG_TARGET_ARCH", "x86_64") {
            println!("cargo::rustc-link-arg-bins=--entry=weir_start");
        }
    } else if is("CARGO_CFG_TARGET_ENV", "gnu") && glibc_unpacks_relocations() {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
    Ok(())
}

/// Whether the glibc that is linked in can read packed relocations, as it does
/// since 2.36.
fn glibc_unpacks_relocations() -> bool {
    let is_native = env::var("HOST").is_ok() && env::var("HOST") == env::var("TARGET");
    let Ok(output) = Command::new("getconf").arg("GNU_LIBC_VERSION").output() else { return false };
    let version = String::from_utf8_lossy(&output.stdout);
    let mut parts = version.trim().trim_start_matches("glibc ").split('.').map(str::parse::<u32>);
    let (Some(Ok(major)), Some(Ok(minor))) = (parts.next(), parts.next()) else { return false };
    is_native && (major, minor) >= (2, 36)
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

/// The processor of a target.
fn processor(target: &str) -> Option<&str> {
    target.split('-').next()
}

/// Builds the compiler of components, for a machine to run it on.
fn build_compiler(root: &Path, target_dir: &Path, target: &str, features: &[&str]) -> Result<PathBuf> {
    let mut cargo = cargo(root)?;
    let manifest = root.join("host/compiler/Cargo.toml");
    cargo.args(["build", "--release", "--target", target, "--manifest-path"]).arg(manifest);
    cargo.arg("--target-dir").arg(target_dir).args(features);
    let output = cargo.output().context("run cargo build for the compiler")?;
    if !output.status.success() {
        bail!("the compiler does not build:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(target_dir.join(target).join("release/weir-compiler"))
}

/// Runs the compiler of components.
fn run(compiler: &Path, arguments: &[&str], input: &[u8]) -> Result<Vec<u8>> {
    let mut command = Command::new(compiler);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("execute {}", compiler.display()))?;
    // It reads everything before it writes.
    child.stdin.take().context("there is no pipe")?.write_all(input)?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(output.stdout)
}

/// Compiles a plugin; returns the item with its code and its line of the
/// catalog.
fn compile(
    compiler: &Path,
    target: &str,
    plugin: &Plugin,
    module: &Path,
    out: &Path,
) -> Result<(String, String)> {
    let module = fs::read(module).with_context(|| format!("read {}", module.display()))?;
    let described = run(compiler, &["describe"], &module)?;
    let end = described.iter().position(|byte| *byte == b'\n').context("the description has no end")?;
    let (description, component) = (&described[..end], &described[end + 1..]);
    let description: Value = serde_json::from_slice(description)?;
    let exports = description["exports"].as_array().context("the description lists no exports")?;
    let has = |interface: &str| {
        exports.iter().filter_map(Value::as_str).any(|export| export.starts_with(interface))
    };
    // For tests.
    fs::write(out.join(format!("{}.wasm", plugin.kind)), component)?;
    let code = out.join(format!("{}.cwasm", plugin.kind));
    let compiled = run(compiler, &["compile", target], component)?;
    fs::write(&code, &compiled)?;
    let symbol = plugin.symbol();
    let item = format!("embed!({symbol}, {code:?}, {});\n", compiled.len());
    let mut entry = String::new();
    writeln!(
        entry,
        "    Bundled {{ name: {:?}, digest: \"sha256:{:x}\", size: {}, description: {:?}, code: &{symbol}, is_interface_plugin: {}, is_ipam_plugin: {}, grants: &{:?} }},",
        plugin.kind,
        Sha256::digest(component),
        component.len(),
        description.to_string(),
        has("weir:plugin/plugin@"),
        has("weir:plugin/ipam@"),
        plugin.grants
    )?;
    Ok((item, entry))
}

/// The interfaces of the contract, with their versions.
fn interfaces(root: &Path) -> Result<Vec<String>> {
    let mut resolve = Resolve::default();
    let mut plugin = None;
    for package in ["host", "net", "firewall", "store", "plugin"] {
        plugin = Some(resolve.push_path(root.join("wit").join(package))?.0);
    }
    let world = resolve.select_world(&[plugin.context("there is no contract")?], Some("host-side"))?;
    Ok(resolve.worlds[world].imports.keys().map(|key| resolve.name_world_key(key)).collect())
}
