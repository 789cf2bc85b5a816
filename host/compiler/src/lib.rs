//! Looks into components and compiles them.

#![forbid(unsafe_code)]

#[path = "../../src/catalog/description.rs"]
mod description;

use std::borrow::Cow;
use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};
use description::Description;
use sha2::{Digest, Sha256};
use wasmparser::{Encoding, KnownCustom, Parser, Payload, Validator, WasmFeatures};
pub use wasmtime::Engine;

include!("../../src/engine/settings.rs");

/// Names of languages and tools are cut after so many characters.
const NAME_LIMIT: usize = 64;

/// So many names of tools are kept.
const TOOL_LIMIT: usize = 16;

/// A component, and what it says of itself.
#[derive(Debug)]
pub struct Described<'a> {
    /// The component.
    pub component: Cow<'a, [u8]>,
    description: Description,
}

impl Described<'_> {
    /// What it says of itself, as a line of JSON.
    pub fn to_json(&self) -> Result<String> {
        Ok(serde_json::to_string(&self.description)?)
    }
}

/// Looks into a component, or into a core module that was built against the
/// contract, of which it makes a component first.
pub fn describe(bytes: &[u8]) -> Result<Described<'_>> {
    let component = match encoding(bytes)? {
        Encoding::Component => Cow::Borrowed(bytes),
        Encoding::Module => {
            if !is_built_against_the_contract(bytes)? {
                bail!("it is a core module that was not built with weir's SDK, and no component");
            }
            Cow::Owned(weir_pack::componentize(bytes).context("make a component of the module")?)
        }
    };
    // Everything that is read from now on is known to be well-formed.
    let features = WasmFeatures::default();
    Validator::new_with_features(features).validate_all(&component).context("it is not valid")?;
    let description = read(&component)?;
    Ok(Described { component, description })
}

fn encoding(bytes: &[u8]) -> Result<Encoding> {
    if !bytes.starts_with(b"\0asm") {
        bail!("it is not WebAssembly");
    }
    match Parser::new(0).parse_all(bytes).next() {
        Some(Ok(Payload::Version { encoding, .. })) => Ok(encoding),
        Some(Err(error)) => Err(error).context("it is not WebAssembly that weir can read"),
        _ => bail!("it is not WebAssembly that weir can read"),
    }
}

/// Bindings leave the interface that they were generated from in a section.
fn is_built_against_the_contract(module: &[u8]) -> Result<bool> {
    for payload in Parser::new(0).parse_all(module) {
        if let Payload::CustomSection(section) = payload.context("it is not valid")?
            && section.name().starts_with("component-type")
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Reads what a valid component imports and exports, and who made it.
fn read(component: &[u8]) -> Result<Description> {
    let (mut imports, mut exports) = (Vec::new(), Vec::new());
    let (mut languages, mut tools) = (BTreeSet::new(), BTreeSet::new());
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(component) {
        match payload? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    imports.push(import?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    exports.push(export?.name.name.to_owned());
                }
            }
            Payload::CustomSection(section) => {
                if let KnownCustom::Producers(fields) = section.as_known() {
                    // Whether it can be read does not matter to what it does.
                    let _ = producers(fields, &mut languages, &mut tools);
                }
            }
            _ => {}
        }
    }
    let language = languages.into_iter().collect::<Vec<_>>().join(", ");
    Ok(Description {
        imports,
        exports,
        language: (!language.is_empty()).then_some(language),
        tools: tools.into_iter().take(TOOL_LIMIT).collect(),
    })
}

fn producers(
    fields: wasmparser::ProducersSectionReader<'_>,
    languages: &mut BTreeSet<String>,
    tools: &mut BTreeSet<String>,
) -> wasmparser::Result<()> {
    for field in fields {
        let field = field?;
        for value in field.values {
            let value = value?;
            match field.name {
                "language" if languages.len() < 4 => drop(languages.insert(plain(value.name))),
                "processed-by" | "sdk" => {
                    let version = value.version.split(' ').next().unwrap_or_default();
                    tools.insert(plain(format!("{} {version}", value.name).trim()));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// Text of a third party on its way to a terminal: nothing but what is printed
/// as one narrow character.
fn plain(text: &str) -> String {
    text.chars().map(|c| if matches!(c, ' '..='~') { c } else { '?' }).take(NAME_LIMIT).collect()
}

/// The engine that compiles for one kind of machine.
pub fn engine(target: &str) -> Result<Engine> {
    let mut settings = settings();
    settings.target(target)?;
    Ok(Engine::new(&settings)?)
}

/// Compiles a component.
pub fn compile(engine: &Engine, component: &[u8]) -> Result<Vec<u8>> {
    Ok(engine.precompile_component(component)?)
}

/// What tells engines apart that cannot run each other's code: the engine
/// writes all that matters into what it compiles, be it an empty component.
pub fn key(engine: &Engine) -> Result<String> {
    let code = compile(engine, b"\0asm\x0d\0\x01\0")?;
    Ok(format!("{:x}", Sha256::digest(&code))[..16].to_owned())
}
