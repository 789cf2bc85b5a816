//! Components that no compiler and no SDK would make, from WebAssembly text.

use anyhow::Context;
use serde_json::json;
use wit_component::StringEncoding;
use wit_parser::Resolve;

use super::stage::{Expected, RULE, Stage};
use crate::Test;

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "sandbox: an endless loop while a component is instantiated ends with the time",
            endless_start,
        ),
        Test::new("sandbox: a trap while a component is instantiated ends the call", trapping_start),
        Test::new(
            "sandbox: a component that wants too much from the beginning is refused",
            large_from_the_beginning,
        ),
        Test::new("sandbox: memory and tables that grow end at the limit", growing),
        Test::new("sandbox: a list of the same long text many times is not copied", amplified),
        Test::new("sandbox: results that are no values end the call", no_values),
        Test::new("sandbox: a handle that is kept beyond the call ends the call", kept_handle),
        Test::new("sandbox: calling the host while it writes into the component ends the call", reentered),
        Test::new("sandbox: memory that a component does not have is not written to", bad_allocation),
        Test::new("sandbox: an endless loop after a result ends with the time", endless_end),
        Test::new("sandbox: names of functions reach no terminal", names),
        Test::new("sandbox: a flood of logged gigabytes is not copied", gigabyte_line),
    ]
}

/// A core module that hands out addresses, and what makes it hostile.
#[derive(Default)]
struct Raw<'a> {
    /// Further imports, memories, functions; `$request` is its memory's size.
    parts: &'a str,
    /// The body of `add` before it returns the result at 1024.
    add: &'a str,
    /// Data of the result.
    data: &'a str,
    /// Pages of its memory.
    memory: Option<&'a str>,
    /// The body of `cabi_realloc`.
    allocate: Option<&'a str>,
    /// Whether `add` keeps the handle of its attachment.
    keeps: bool,
}

impl Raw<'_> {
    fn component(&self) -> anyhow::Result<Vec<u8>> {
        let drop = if self.keeps { "" } else { "(call $drop (local.get 0))" };
        let text = format!(
            r#"(module
                (import "weir:plugin/request@0.1.0" "[resource-drop]attachment" (func $drop (param i32)))
                (import "weir:plugin/request@0.1.0" "[method]attachment.config" (func $config (param i32 i32)))
                (import "weir:host/log@0.1.0" "emit" (func $emit (param i32 i32 i32)))
                (memory (export "memory") {memory})
                {parts}
                (data (i32.const 1024) "{data}")
                (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) {allocate})
                (func (export "weir:plugin/ipam@0.1.0#add") (param i32) (result i32)
                    {add} {drop} (i32.const 1024))
                {others})"#,
            memory = self.memory.unwrap_or("1"),
            parts = self.parts,
            data = self.data,
            add = self.add,
            allocate = self.allocate.unwrap_or("(i32.const 8192)"),
            others = ["del", "check", "gc", "status"]
                .map(|name| format!(
                    r#"(func (export "weir:plugin/ipam@0.1.0#{name}") (param i32) (result i32) unreachable)"#
                ))
                .join("\n")
        );
        let mut module = wat::parse_str(&text).with_context(|| format!("parse {text}"))?;
        let mut resolve = Resolve::default();
        for package in ["host", "net", "firewall", "store", "plugin"] {
            resolve.push_path(format!("{}/../wit/{package}", env!("CARGO_MANIFEST_DIR")))?;
        }
        let package = resolve.packages.iter().find(|(_, package)| package.name.name == "plugin");
        let (package, _) = package.context("there is a package plugin")?;
        let world = resolve.select_world(&[package], Some("ipam-plugin"))?;
        wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)?;
        weir_pack::componentize(&module)
    }

    /// An ADD of it has to fail so.
    fn fails(&self, budget: f64, expected: &Expected) -> anyhow::Result<()> {
        let policy = RULE.replace("plugin = \"hostile\"", "plugin = \"raw\"");
        let mut stage = Stage::of_component(&policy, &self.component()?)?;
        stage.budget = budget;
        stage.fails(json!([]), expected).map(drop)
    }
}

/// A budget that is not to be used up.
const LONG: f64 = 20.0;
const SHORT: f64 = 0.6;

fn endless_start() -> anyhow::Result<()> {
    let raw = Raw { parts: "(func $start (loop $again (br $again))) (start $start)", ..Raw::default() };
    raw.fails(SHORT, &Expected::failure(102, &["ADD did not finish within 600ms"]))
}

fn trapping_start() -> anyhow::Result<()> {
    let raw = Raw { parts: "(func $start unreachable) (start $start)", ..Raw::default() };
    raw.fails(LONG, &Expected::failure(101, &["plugin raw trapped", "unreachable"]))?;
    let raw = Raw { parts: "(func $start (call $start)) (start $start)", ..Raw::default() };
    raw.fails(LONG, &Expected::failure(101, &["plugin raw exhausted its stack"]))
}

fn large_from_the_beginning() -> anyhow::Result<()> {
    let memory = Raw { memory: Some("513"), ..Raw::default() };
    memory.fails(LONG, &Expected::failure(103, &["plugin raw needs more than 33554432 bytes of memory"]))?;
    let table = Raw { parts: "(table 65537 funcref)", ..Raw::default() };
    table.fails(LONG, &Expected::failure(103, &["plugin raw needs a table of more than 65536 elements"]))?;
    let tables = "(table 1 funcref)".repeat(9);
    let tables = Raw { parts: &tables, ..Raw::default() };
    tables.fails(LONG, &Expected::failure(103, &["plugin raw consists of too many parts", "table"]))
}

fn growing() -> anyhow::Result<()> {
    let memory =
        Raw { add: "(loop $again (drop (memory.grow (i32.const 16))) (br $again))", ..Raw::default() };
    memory.fails(LONG, &Expected::failure(103, &["plugin raw needs more than 33554432 bytes of memory"]))?;
    let both = Raw {
        parts: "(memory $other 1)",
        add: "(loop $again
            (drop (memory.grow (i32.const 2))) (drop (memory.grow $other (i32.const 2)))
            (br_if $again (i32.lt_u (memory.size $other) (i32.const 260))))",
        ..Raw::default()
    };
    both.fails(LONG, &Expected::failure(103, &["plugin raw needs more than 33554432 bytes of memory"]))?;
    let table = Raw {
        parts: "(table $t 1 funcref)",
        add: "(loop $again (drop (table.grow $t (ref.null func) (i32.const 1000))) (br $again))",
        ..Raw::default()
    };
    table.fails(LONG, &Expected::failure(103, &["plugin raw needs a table of more than 65536 elements"]))
}

/// Where a result's fields are, from 1024 on: the case, `ips`, `routes`, and of
/// `dns` the name servers, the domain, `search` and the options.
const SEARCH: u32 = 1024 + 40;

/// Stores numbers one after the other.
fn store(at: u32, numbers: &[u32]) -> String {
    let one = |(number, place): (&u32, u32)| {
        format!("(i32.store (i32.const {place}) (i32.const {}))", number.cast_signed())
    };
    numbers.iter().zip((at..).step_by(4)).map(one).collect()
}

fn amplified() -> anyhow::Result<()> {
    // 3,000 times the same 16 MiB.
    let fill = "(local $p i32) (local.set $p (i32.const 16777216))
        (loop $again
            (i32.store (local.get $p) (i32.const 0))
            (i32.store (i32.add (local.get $p) (i32.const 4)) (i32.const 16777216))
            (local.set $p (i32.add (local.get $p) (i32.const 8)))
            (br_if $again (i32.lt_u (local.get $p) (i32.const 16801216))))";
    let add = format!("{fill} {}", store(SEARCH, &[16 << 20, 3000]));
    let raw = Raw { add: &add, memory: Some("300"), ..Raw::default() };
    raw.fails(LONG, &Expected::failure(103, &["plugin raw hands over more than 4194304 bytes at once"]))?;
    // Texts without bytes, and as many as fit into a number.
    let add = store(SEARCH, &[0, u32::MAX]);
    let raw = Raw { add: &add, ..Raw::default() };
    raw.fails(LONG, &Expected::failure(101, &["plugin raw"]))?;
    let add = store(SEARCH, &[16 << 20, (4 << 20) / 8]);
    let raw = Raw { add: &add, memory: Some("512"), ..Raw::default() };
    raw.fails(LONG, &Expected::failure(103, &["plugin raw hands over more than 4194304 bytes at once"]))
}

fn no_values() -> anyhow::Result<()> {
    let cases = [
        // A list beyond the memory.
        store(SEARCH, &[0xffff_0000, 10]),
        // One that is not aligned.
        store(SEARCH, &[1025, 2]),
        // A case that there is not.
        store(1024, &[7]),
        // A text that is no UTF-8: one of 1 byte, which is 0xff, at 2048.
        format!("{}{}", store(SEARCH, &[2052, 1]), store(2048, &[0xff, 2048, 1])),
        // A domain beyond the memory.
        store(1024 + 28, &[1, 0x7fff_ffff, 0x7fff_ffff]),
        // An address of a family that there is not.
        format!("{}{}", store(1028, &[2048, 1]), store(2048, &[9, 9, 9, 9])),
        // A place for the result that there is not.
        "(call $drop (local.get 0)) (return (i32.const -4))".to_owned(),
    ];
    for add in cases {
        Raw { add: &add, ..Raw::default() }
            .fails(LONG, &Expected::failure(101, &["plugin raw"]))
            .with_context(|| add.clone())?;
    }
    Ok(())
}

fn kept_handle() -> anyhow::Result<()> {
    let raw = Raw { keeps: true, ..Raw::default() };
    raw.fails(LONG, &Expected::failure(101, &["plugin raw", "borrow handles still remain"]))?;
    let raw = Raw { add: "(call $drop (local.get 0))", ..Raw::default() };
    raw.fails(LONG, &Expected::failure(101, &["plugin raw", "handle index"]))
}

fn reentered() -> anyhow::Result<()> {
    // The host asks for memory to write the configuration to.
    let raw = Raw {
        add: "(call $config (local.get 0) (i32.const 4096))",
        allocate: Some("(call $emit (i32.const 0) (i32.const 0) (i32.const 1)) (i32.const 8192)"),
        ..Raw::default()
    };
    raw.fails(LONG, &Expected::failure(101, &["plugin raw", "cannot leave component instance"]))?;
    let raw = Raw { allocate: Some("(loop $again (br $again)) (i32.const 0)"), ..raw };
    raw.fails(SHORT, &Expected::failure(102, &["ADD did not finish"]))
}

fn bad_allocation() -> anyhow::Result<()> {
    for place in ["(i32.const -4)", "(i32.const 65535)", "(i32.const 2147483647)", "unreachable"] {
        let raw = Raw {
            add: "(call $config (local.get 0) (i32.const 4096))",
            allocate: Some(place),
            ..Raw::default()
        };
        raw.fails(LONG, &Expected::failure(101, &["plugin raw"])).context(place)?;
    }
    Ok(())
}

fn endless_end() -> anyhow::Result<()> {
    let parts =
        r#"(func (export "cabi_post_weir:plugin/ipam@0.1.0#add") (param i32) (loop $again (br $again)))"#;
    let raw = Raw { parts, ..Raw::default() };
    raw.fails(SHORT, &Expected::failure(102, &["ADD did not finish"]))
}

fn names() -> anyhow::Result<()> {
    let parts = r#"(func $trap (@name "\1b[2J\c2\9b31m\e2\80\aegnp.exe\0aweir: forged") unreachable)"#;
    let raw = Raw { parts, add: "(call $trap)", ..Raw::default() };
    raw.fails(LONG, &Expected::failure(101, &["plugin raw trapped", "[2J", "gnp.exe"]))
}

fn gigabyte_line() -> anyhow::Result<()> {
    let raw = Raw {
        add: "(loop $again (call $emit (i32.const 0) (i32.const 0) (i32.const 33554432)) (br $again))",
        memory: Some("512"),
        ..Raw::default()
    };
    raw.fails(LONG, &Expected::failure(103, &["plugin raw hands over more than 4194304 bytes at once"]))
}
