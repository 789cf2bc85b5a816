//! A component whose code costs the compiler more than it may have.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::ensure;

use super::shop::Shop;
use crate::lab::{guest, line};

/// So many conditions in one function are within what WebAssembly allows.
const CONDITIONS: usize = 500_000;

/// How long the compiler may live on without weir.
const PATIENCE: Duration = Duration::from_secs(2);

fn costly(shop: &Shop) -> anyhow::Result<PathBuf> {
    let mut component = fs::read(guest::component("fixed")?)?;
    component.extend(section(CORE_MODULE, &module()));
    let path = shop.lab.path("costly.wasm");
    fs::write(&path, component)?;
    Ok(path)
}

pub(super) fn too_costly() -> anyhow::Result<()> {
    let shop = Shop::new()?;
    let path = costly(&shop)?;
    shop.fail(&format!("add {} --type fixed", path.display()), "more memory than it may have")?;
    ensure!(shop.everything().is_empty(), "left are {:?}", shop.everything());
    shop.add("fixed").map(drop)
}

/// The compiler ends with weir.
pub(super) fn killed() -> anyhow::Result<()> {
    let shop = Shop::new()?;
    let command = format!("plugin add {} --type fixed", costly(&shop)?.display());
    let mut weir = line(&format!("{} {command}", shop.lab.bin.join("weir").display()))
        .variable("WEIR_STATE_DIR", shop.lab.path("weir"))
        .start()?;
    let children = format!("/proc/{0}/task/{0}/children", weir.id());
    // The second time it compiles, which takes long.
    let compiler = loop {
        let child = fs::read_to_string(&children)?.trim().to_owned();
        let arguments = fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
        if arguments.windows(b"compile".len()).any(|part| part == b"compile") {
            break PathBuf::from(format!("/proc/{child}"));
        }
        ensure!(weir.try_wait()?.is_none(), "it ended before it compiled anything");
        thread::sleep(Duration::from_millis(5));
    };
    // It gives up its rights first.
    thread::sleep(Duration::from_millis(200));
    weir.kill()?;
    weir.wait()?;
    let killed = Instant::now();
    while compiler.exists() {
        ensure!(killed.elapsed() < PATIENCE, "the compiler goes on");
        thread::sleep(Duration::from_millis(5));
    }
    shop.add("fixed").map(drop)
}

/// Numbers of sections: of a component, then of a core module.
const CORE_MODULE: u8 = 1;
const TYPES: u8 = 1;
const FUNCTIONS: u8 = 3;
const CODE: u8 = 10;

/// A module with one function that nobody calls: `if x { x += 1 }`, over and
/// over.
fn module() -> Vec<u8> {
    const CONDITION: [u8; 11] = [0x20, 0, 0x04, 0x40, 0x20, 0, 0x41, 1, 0x6a, 0x21, 0];
    let no_locals = [0];
    let conditions = [CONDITION.as_slice(), &[0x0b]].concat().repeat(CONDITIONS);
    let function = [no_locals.as_slice(), &conditions, &[0x20, 0, 0x0b]].concat();
    [
        b"\0asm\x01\0\0\0".to_vec(),
        section(TYPES, &[1, 0x60, 1, 0x7f, 1, 0x7f]),
        section(FUNCTIONS, &[1, 0]),
        section(CODE, &[vec![1], length(function.len()), function].concat()),
    ]
    .concat()
}

fn section(number: u8, content: &[u8]) -> Vec<u8> {
    [vec![number], length(content.len()), content.to_vec()].concat()
}

/// A number as WebAssembly writes it: seven bits a byte, the lowest first.
fn length(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}
