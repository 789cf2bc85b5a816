//! `weir plugin`: the store of installed components.

mod costly;
mod shop;
mod store;
mod trust;

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context, ensure};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::{Value, json};

use crate::Test;
use crate::lab::{guest, line};

use shop::{Shop, digest, files};

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new("plugin: an installed component is listed, inspected and removed", round_trip),
        Test::new("plugin: a core module of the SDK is installed as its component", core_module),
        Test::new("plugin: an installed IPAM plugin serves a bridge network", serves),
        Test::new("plugin: two versions switch while calls run", switch),
        Test::new("plugin: what is no plugin for this weir is refused, and nothing is left", refused),
        Test::new("plugin: what costs the compiler too much is refused", costly::too_costly),
        Test::new("plugin: the compiler ends with weir", costly::killed),
        Test::new("plugin: an unsafe store is not used", store::unsafe_store),
        Test::new("plugin: a damaged store is not used, and mended by adding again", store::damaged),
        Test::new("plugin: code of another weir is not used, and refreshed", store::outdated),
        Test::new("plugin: another weir that is installed takes over what the old one has", store::upgraded),
        Test::new("plugin: a damaged record hides no other, and can be removed", store::damaged_record),
        Test::new(
            "plugin: what is damaged hinders no other, and names are no paths",
            store::refreshed_and_removed,
        ),
        Test::new("plugin: --allow writes a rule for this very component", trust::allow),
        Test::new("plugin: a signature of no known key is refused", trust::signature),
        Test::new("plugin: signatures count as the policy says", trust::signed),
        Test::new("plugin: it is shown what the policy would grant, and by which line", trust::grants),
        Test::new("plugin: installed types are linked by weir install", linked),
        Test::new("plugin: several processes may add at once", crowd),
    ]
}

fn round_trip() -> anyhow::Result<()> {
    let shop = Shop::new()?;
    ensure!(shop.list()?.is_empty(), "something is installed");
    let path = guest::component("fixed")?;
    let text = shop.succeed(&format!("inspect {}", path.display()))?;
    for word in ["sha256:", "installed  no", "Rust", "it is an IPAM plugin", "reads the request"] {
        ensure!(text.contains(word), "inspect does not mention {word:?}: {text}");
    }
    let digest = shop.add("fixed")?;
    let before = shop.everything();
    ensure!(before.len() == 4, "the store holds {before:?}");
    let again = shop.succeed(&format!("add {} --type fixed", path.display()))?;
    ensure!(again.contains("already") && again.contains(&digest), "adding it again says {again}");
    let list = shop.list()?;
    let [entry] = list.as_slice() else { anyhow::bail!("installed are {list:?}") };
    ensure!(
        entry["type"] == "fixed" && entry["inUse"] == true && entry["digest"] == digest.as_str(),
        "listed is {entry}"
    );
    ensure!(entry["size"] == fs::metadata(&path)?.len() && entry["signedBy"].is_null(), "listed is {entry}");
    let text = shop.succeed("list")?;
    ensure!(text.contains("fixed") && text.contains("IPAM") && text.contains("yes"), "list says {text}");
    for target in ["fixed", &path.display().to_string()] {
        let text = shop.succeed(&format!("inspect {target}"))?;
        ensure!(text.contains("as fixed") && text.contains(&digest), "inspect {target} says {text}");
        let value: Value = serde_json::from_str(&shop.succeed(&format!("inspect {target} --json"))?)?;
        ensure!(value["installed"][0]["inUse"] == true && value["misfit"].is_null(), "inspect says {value}");
    }
    let text = shop.succeed("inspect bridge")?;
    ensure!(text.contains("part of weir") && text.contains("network links"), "inspect bridge says {text}");
    shop.fail("inspect nonsense", "nonsense")?;
    shop.fail("remove nonsense", "nonsense")?;
    shop.fail("remove fixed --digest 0123", "0123")?;
    shop.fail("remove bridge", "bridge")?;
    shop.succeed("remove fixed")?;
    ensure!(shop.everything().is_empty(), "left are {:?}", shop.everything());
    ensure!(shop.list()?.is_empty(), "something is installed");
    shop.fail("inspect fixed", "fixed")
}

fn core_module() -> anyhow::Result<()> {
    let shop = Shop::new()?;
    let text = shop.succeed(&format!("add {} --type fixed", guest::module("fixed")?.display()))?;
    let of_module = digest(&text).context("no digest")?;
    let text = shop.succeed(&format!("add {} --type fixed", guest::component("fixed")?.display()))?;
    ensure!(text.contains("already") && text.contains(&of_module), "adding its component says {text}");
    ensure!(shop.address()? == "10.77.0.7/24", "the address is {}", shop.address()?);
    Ok(())
}

fn serves() -> anyhow::Result<()> {
    let shop = Shop::new()?;
    let digest = shop.add("fixed")?;
    let config = json!({
        "cniVersion": "1.1.0", "name": "shop", "type": "bridge", "bridge": "shop0", "ipam": { "type": "fixed" }
    });
    let call =
        |command| shop.lab.call_for("bridge", command, &shop.lab.containers[0], "eth0").config(&config);
    let result = shop.lab.run(&call("ADD"))?.success()?;
    ensure!(result["ips"][0]["address"] == "10.77.0.7/24", "the result is {result}");
    let shown = shop.lab.in_container(0, "ip -o addr show dev eth0")?;
    ensure!(shown.contains("10.77.0.7/24"), "eth0 has {shown}");
    // The one that goes away stays in no one's way.
    shop.succeed(&format!("remove fixed --digest {}", &digest[7..20]))?;
    shop.lab.run(&call("DEL"))?.silence()?;
    Ok(())
}

fn switch() -> anyhow::Result<()> {
    let shop = Shop::new()?;
    let one = shop.add("fixed")?;
    ensure!(shop.address()? == "10.77.0.7/24", "the address is {}", shop.address()?);
    let two = shop.add("fixed-next")?;
    ensure!(shop.address()? == "10.77.0.8/24", "the address is {}", shop.address()?);
    ensure!(shop.list()?.len() == 2, "installed are {:?}", shop.list()?);
    shop.fail(&format!("remove fixed --digest {two}"), "in use")?;
    let is_over = AtomicBool::new(false);
    let seen = thread::scope(|scope| {
        let caller = scope.spawn(|| -> anyhow::Result<Vec<String>> {
            let mut seen = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                seen.push(shop.address()?);
                shop.ask("DEL")?.map_err(|error| anyhow::anyhow!("DEL: {}", error.text))?;
            }
            Ok(seen)
        });
        let switched = (0..20).try_for_each(|number| {
            let digest = if number % 2 == 0 { &one } else { &two };
            shop.succeed(&format!("use fixed {digest}")).map(drop)
        });
        is_over.store(true, Ordering::Relaxed);
        let seen = caller.join().map_err(|_| anyhow::anyhow!("the caller panicked"))?;
        switched.and(seen)
    })?;
    ensure!(!seen.is_empty(), "no call was made");
    for address in &seen {
        ensure!(["10.77.0.7/24", "10.77.0.8/24"].contains(&address.as_str()), "a call got {address}");
    }
    ensure!(shop.address()? == "10.77.0.8/24", "the address is {}", shop.address()?);
    shop.succeed(&format!("remove fixed --digest {one}"))?;
    ensure!(shop.list()?.len() == 1 && shop.everything().len() == 4, "left are {:?}", shop.everything());
    shop.fail(&format!("use fixed {one}"), "no version")
}

/// A component with one text in place of another that is as long.
fn patched(shop: &Shop, name: &str, from: &str, to: &str) -> anyhow::Result<PathBuf> {
    ensure!(from.len() == to.len(), "{from} and {to} differ in length");
    let mut bytes = fs::read(guest::component("fixed")?)?;
    let mut found = false;
    for start in 0..bytes.len() - from.len() {
        if &bytes[start..start + from.len()] == from.as_bytes() {
            bytes[start..start + from.len()].copy_from_slice(to.as_bytes());
            found = true;
        }
    }
    ensure!(found, "the guest does not contain {from}");
    let path = shop.lab.path(name);
    fs::write(&path, bytes)?;
    Ok(path)
}

fn refused() -> anyhow::Result<()> {
    let shop = Shop::new()?;
    let good = guest::component("fixed")?.display().to_string();
    let file = |name: &str, bytes: &[u8]| -> anyhow::Result<String> {
        let path = shop.lab.path(name);
        fs::write(&path, bytes)?;
        Ok(path.display().to_string())
    };
    let huge = file("huge", b"\0asm\x0d\0\x01\0")?;
    fs::File::options().write(true).open(&huge)?.set_len((64 << 20) + 1)?;
    let fifo = shop.lab.path("fifo");
    mkfifo(&fifo, Mode::from_bits_truncate(0o600))?;
    let whole = fs::read(&good)?;
    let version = patched(&shop, "version", "weir:host/log@0.1.0", "weir:host/log@0.9.0")?;
    let wasi = patched(&shop, "wasi", "weir:host/log@0.1.0", "wasi:host/log@0.1.0")?;
    let export = patched(&shop, "export", "weir:plugin/ipam@0.1.0", "weir:plugin/ipam@0.9.0")?;
    let function = patched(&shop, "function", "emit", "omit")?;
    let cases = [
        (file("nothing", b"")?, "not WebAssembly"),
        (file("text", b"weir")?, "not WebAssembly"),
        (file("module", b"\0asm\x01\0\0\0")?, "SDK"),
        (file("empty", b"\0asm\x0d\0\x01\0")?, "weir:plugin/ipam@0.1.0"),
        (file("half", &whole[..whole.len() / 2])?, "not valid"),
        (huge, "larger than 64.0 MiB"),
        (fifo.display().to_string(), "not a regular file"),
        (shop.lab.path("").display().to_string(), "not a regular file"),
        (shop.lab.path("absent").display().to_string(), "No such file"),
        (version.display().to_string(), "weir:host/log@0.9.0 (it has weir:host/log@0.1.0)"),
        (wasi.display().to_string(), "wasi:host/log@0.1.0 (weir has no WASI)"),
        (export.display().to_string(), "weir:plugin/ipam@0.9.0"),
        (function.display().to_string(), "does not fit this weir"),
        (format!("{good} --type bridge"), "weir's own"),
        (format!("{good} --type weir"), "weir's own"),
        (format!("{good} --type ../x"), "plugin type"),
        (format!("{good} --type fixed --allow weir:net/links"), "does not use it"),
    ];
    for (arguments, word) in cases {
        shop.fail(&format!("add {arguments}"), word)?;
        ensure!(shop.everything().is_empty(), "add {arguments} left {:?}", shop.everything());
    }
    ensure!(!shop.lab.path("policy").join("policy.d").exists(), "a rule was written");
    // Another attempt is not disturbed by these.
    shop.add("fixed").map(drop)
}

fn linked() -> anyhow::Result<()> {
    let shop = Shop::new()?;
    shop.add("fixed")?;
    let bin = shop.lab.path("linked");
    let weir = shop.lab.bin.join("weir").display().to_string();
    let run = |command: &str| {
        let program = line(command).variable("WEIR_STATE_DIR", shop.lab.path("weir"));
        shop.lab.node.enter(|| program.run())
    };
    let output = run(&format!("{weir} install --bin-dir {}", bin.display()))?;
    ensure!(output.status.success() && output.stdout.contains("fixed"), "install: {}", output.stderr);
    let about = run(&bin.join("fixed").display().to_string())?;
    ensure!(about.status.success() && about.stderr.contains("fixed"), "it says {}", about.stderr);
    let config =
        json!({ "cniVersion": "1.1.0", "name": "shop", "type": "bridge", "ipam": { "type": "fixed" } });
    let call = shop
        .lab
        .call_binary(bin.join("fixed"), "ADD")
        .variable("CNI_CONTAINERID", "c1")
        .variable("CNI_NETNS", &shop.lab.containers[0].path)
        .variable("CNI_IFNAME", "eth0")
        .config(&config);
    let result = shop.lab.run(&call)?.success()?;
    ensure!(result["ips"][0]["address"] == "10.77.0.7/24", "the result is {result}");
    Ok(())
}

fn crowd() -> anyhow::Result<()> {
    let shop = Shop::new()?;
    let paths = [guest::component("fixed")?, guest::component("fixed-next")?];
    thread::scope(|scope| {
        let adders: Vec<_> = (0..6)
            .map(|number| {
                let (shop, path) = (&shop, &paths[number % 2]);
                scope.spawn(move || shop.succeed(&format!("add {} --type t{}", path.display(), number / 2)))
            })
            .collect();
        adders
            .into_iter()
            .try_for_each(|adder| adder.join().map_err(|_| anyhow::anyhow!("it panicked"))?.map(drop))
    })?;
    ensure!(shop.list()?.len() == 6, "installed are {:?}", shop.list()?);
    ensure!(files(&shop.store("types")).len() == 3, "types are {:?}", files(&shop.store("types")));
    Ok(())
}
