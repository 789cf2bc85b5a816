//! The command: packs a module and says what the component wants to touch.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;

/// Turns a core WebAssembly module, built for wasm32-unknown-unknown with the
/// weir SDK, into a component.
#[derive(Debug, Parser)]
#[command(name = "weir-pack", version)]
struct Arguments {
    /// The module.
    module: PathBuf,
    /// Where to write the component; beside the module by default, as
    /// `<name>.component.wasm`.
    #[arg(short, long)]
    output: Option<PathBuf>,
}

fn main() -> Result<()> {
    let Arguments { module, output } = Arguments::parse();
    let bytes = fs::read(&module).with_context(|| format!("read {}", module.display()))?;
    let component = weir_pack::componentize(&bytes).with_context(|| format!("pack {}", module.display()))?;
    let output = output.unwrap_or_else(|| module.with_extension("component.wasm"));
    fs::write(&output, &component).with_context(|| format!("write {}", output.display()))?;
    println!("{}: {} KiB", output.display(), component.len().div_ceil(1024));
    let (imports, exports) = weir_pack::interfaces(&component)?;
    println!("uses      {}", imports.join("\n          "));
    println!("provides  {}", exports.join("\n          "));
    Ok(())
}
