//! A store in which something is not as it should be.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::PathBuf;

use anyhow::{Context, ensure};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::shop::Shop;
use crate::lab::{guest, line, require};

pub(super) fn unsafe_store() -> anyhow::Result<()> {
    let shop = Shop::new()?;
    shop.add("fixed")?;
    shop.address()?;
    let state = shop.lab.path("weir");
    let directories = ["components", "compiled", "records", "types"].map(|name| shop.store(name));
    let read = [shop.only("compiled")?, shop.only("records")?, shop.only("types")?];
    let root = state.join("plugins");
    let used = [vec![state, root], directories[1..].to_vec(), read.to_vec()].concat();
    let mut has_second_user = true;
    for path in &used {
        let name = path.file_name().context("it has no name")?.to_string_lossy().into_owned();
        let mode = fs::metadata(path)?.permissions();
        for bit in [0o020, 0o002] {
            fs::set_permissions(path, Permissions::from_mode(mode.mode() & 0o7777 | bit))?;
            shop.broken(&[&name, "others may write"])?;
        }
        fs::set_permissions(path, mode)?;
        // In a user namespace there may be no other user.
        match chown(path, Some(65534), None) {
            Ok(()) => {
                shop.broken(&[&name, "belongs to user 65534"])?;
                chown(path, Some(0), None)?;
            }
            Err(error) if error.raw_os_error() == Some(nix::libc::EINVAL) => has_second_user = false,
            Err(error) => return Err(error.into()),
        }
        shop.address().with_context(|| format!("{name} is as it was"))?;
    }
    for path in used.iter().skip(1) {
        let aside = shop.lab.path("aside");
        fs::rename(path, &aside)?;
        symlink(&aside, path)?;
        shop.broken(&["symbolic link"])?;
        fs::remove_file(path)?;
        fs::rename(&aside, path)?;
        shop.address().with_context(|| format!("{} is as it was", path.display()))?;
    }
    // What is no file, where a file is expected.
    for path in &read {
        let aside = shop.lab.path("aside");
        fs::rename(path, &aside)?;
        mkfifo(path, Mode::from_bits_truncate(0o644))?;
        shop.broken(&["cannot be trusted"])?;
        fs::remove_file(path)?;
        fs::rename(&aside, path)?;
    }
    // Nor is it written to.
    fs::set_permissions(shop.store("types"), Permissions::from_mode(0o777))?;
    shop.fail(&format!("add {} --type other", guest::component("fixed")?.display()), "others may write")?;
    require(has_second_user, "there is no second user here, to whom files could belong")
}

pub(super) fn damaged() -> anyhow::Result<()> {
    let shop = Shop::new()?;
    shop.add("fixed")?;
    let component = guest::component("fixed")?;
    let mend = || shop.succeed(&format!("add {} --type fixed", component.display()));
    let compiled = shop.only("compiled")?;
    let whole = fs::read(&compiled)?;
    let write = |bytes: &[u8]| fs::write(&compiled, bytes).map(|()| compiled.display().to_string());
    let mut flips = Vec::new();
    for place in [0, 20, whole.len() / 3, whole.len() / 2, whole.len() - 1] {
        let mut bytes = whole.clone();
        bytes[place] ^= 0x10;
        flips.push(bytes);
    }
    let cases = [whole[..whole.len() / 2].to_vec(), Vec::new(), [&whole[..], b"x"].concat()];
    for bytes in cases.into_iter().chain(flips) {
        let name = write(&bytes)?;
        shop.broken(&[&name, "not the code that weir compiled", "plugin add"])?;
        let text = mend()?;
        ensure!(text.contains("again"), "adding it again says {text}");
        ensure!(fs::read(&compiled)? == whole, "the code was compiled to something else");
        shop.address()?;
    }
    for path in [compiled.clone(), shop.only("records")?] {
        fs::remove_file(&path)?;
        shop.broken(&["plugin add"])?;
        mend()?;
        shop.address()?;
    }
    let record = shop.only("records")?;
    for text in ["", "{}", "[1", "{\"digest\": \"sha256:0\"}"] {
        fs::write(&record, text)?;
        shop.broken(&["damaged", "plugin add"])?;
        mend()?;
        shop.address()?;
    }
    fs::write(shop.only("types")?, "sha256:../../x")?;
    shop.broken(&["damaged"])?;
    mend()?;
    shop.address()?;
    // It is noticed when the component itself is not what it was.
    fs::write(shop.only("components")?, b"x")?;
    shop.address()?;
    mend()?;
    ensure!(fs::read(shop.only("components")?)? == fs::read(&component)?, "it was not mended");
    ensure!(shop.everything().len() == 4, "the store holds {:?}", shop.everything());
    Ok(())
}

/// What is wrong with one component keeps no other from being compiled anew,
/// and names of files are no types.
pub(super) fn refreshed_and_removed() -> anyhow::Result<()> {
    let shop = Shop::new()?;
    shop.add("fixed")?;
    shop.succeed(&format!("add {} --type counter", guest::component("counter")?.display()))?;
    let files = |part: &str| -> anyhow::Result<Vec<PathBuf>> {
        fs::read_dir(shop.store(part))?.map(|entry| Ok(entry?.path())).collect()
    };
    let mut components = files("components")?;
    components.sort();
    for compiled in files("compiled")? {
        fs::remove_file(compiled)?;
    }
    fs::write(&components[0], b"x")?;
    shop.fail("refresh", "it is not the component that was installed")?;
    ensure!(files("compiled")?.len() == 1, "the other one was not compiled");
    let victim = shop.store("victim");
    fs::write(&victim, b"")?;
    for name in ["../victim", "../lock", "..", "."] {
        shop.fail(&format!("remove {name}"), "it is no name of a type")?;
    }
    ensure!(victim.exists(), "a file was removed that is no plugin");
    Ok(())
}

pub(super) fn outdated() -> anyhow::Result<()> {
    let shop = Shop::new()?;
    let digest = shop.add("fixed")?;
    let compiled = shop.only("compiled")?;
    date_back(&shop, &digest)?;
    shop.broken(&["another version of weir", "weir plugin refresh"])?;
    let text = shop.succeed("refresh")?;
    ensure!(text.contains("compiled 1"), "refresh says {text}");
    ensure!(shop.only("compiled")? == compiled, "compiled are {:?}", shop.only("compiled")?);
    shop.address()?;
    let text = shop.succeed("refresh")?;
    ensure!(text.contains("already"), "refresh says {text}");
    ensure!(shop.list()?.len() == 1, "installed are {:?}", shop.list()?);
    Ok(())
}

/// Leaves the only component as another weir compiled it.
fn date_back(shop: &Shop, digest: &str) -> anyhow::Result<()> {
    let compiled = shop.only("compiled")?;
    let name = compiled.file_stem().context("it has no name")?.to_string_lossy().into_owned();
    let engine = name.split_once('-').context("its name names no engine")?.1.to_owned();
    let record = shop.only("records")?;
    let text = fs::read_to_string(&record)?;
    fs::write(&record, text.replace(&engine, "0123456789abcdef"))?;
    let name = format!("{}-0123456789abcdef.cwasm", &digest[7..]);
    Ok(fs::rename(&compiled, shop.store("compiled").join(name))?)
}

/// Another weir takes over: calls find what they need, or the old one stays.
pub(super) fn upgraded() -> anyhow::Result<()> {
    let shop = Shop::new()?;
    let digest = shop.add("fixed")?;
    let compiled = shop.only("compiled")?;
    date_back(&shop, &digest)?;
    let directory = shop.lab.path("opt");
    let weir = shop.lab.bin.join("weir");
    let install = line(&format!("{} install --bin-dir {}", weir.display(), directory.display()))
        .variable("WEIR_STATE_DIR", shop.lab.path("weir"));
    let component = shop.only("components")?;
    let intact = fs::read(&component)?;
    fs::write(&component, b"x")?;
    let output = shop.lab.node.enter(|| install.run())?;
    ensure!(
        !output.status.success() && output.stderr.contains("it is not the component that was installed"),
        "it says {}",
        output.stderr
    );
    ensure!(output.stderr.contains("weir plugin remove fixed"), "it says {}", output.stderr);
    ensure!(!directory.exists(), "the new weir is there");
    fs::write(&component, intact)?;
    shop.lab.node.enter(|| install.succeed())?;
    let files = || -> anyhow::Result<Vec<PathBuf>> {
        fs::read_dir(shop.store("compiled"))?.map(|entry| Ok(entry?.path())).collect()
    };
    // The other one may still be at work somewhere.
    ensure!(files()?.len() == 2 && files()?.contains(&compiled), "compiled are {:?}", files()?);
    shop.address()?;
    shop.succeed("refresh")?;
    ensure!(files()? == [compiled], "compiled are {:?}", files()?);
    Ok(())
}

/// A damaged record hides no other, and can be removed.
pub(super) fn damaged_record() -> anyhow::Result<()> {
    let shop = Shop::new()?;
    shop.add("fixed")?;
    fs::write(shop.only("records")?, "{")?;
    shop.succeed(&format!("add {} --type counter", guest::component("counter")?.display()))?;
    let (success, text) = shop.plugin("list")?;
    ensure!(!success && text.contains("counter") && text.contains("is damaged"), "list says {text}");
    let text = shop.succeed("remove fixed")?;
    ensure!(text.contains("removed fixed"), "remove says {text}");
    let types: Vec<String> = shop.list()?.iter().map(|entry| entry["type"].to_string()).collect();
    ensure!(types == ["\"counter\""], "installed are {types:?}");
    Ok(())
}
