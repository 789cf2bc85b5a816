//! `weir plugin`: the store of installed components.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context, ensure};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::{Value, json};

use crate::Test;
use crate::lab::{CniError, Lab, Plugins, Reply, SigningKey, guest, line, require};

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new("plugin: an installed component is listed, inspected and removed", round_trip),
        Test::new("plugin: a core module of the SDK is installed as its component", core_module),
        Test::new("plugin: an installed IPAM plugin serves a bridge network", serves),
        Test::new("plugin: two versions switch while calls run", switch),
        Test::new("plugin: what is no plugin for this weir is refused, and nothing is left", refused),
        Test::new("plugin: an unsafe store is not used", unsafe_store),
        Test::new("plugin: a damaged store is not used, and mended by adding again", damaged),
        Test::new("plugin: code of another weir is not used, and refreshed", outdated),
        Test::new("plugin: --allow writes a rule for this very component", allow),
        Test::new("plugin: a signature of no known key is refused", signature),
        Test::new("plugin: signatures count as the policy says", signed),
        Test::new("plugin: it is shown what the policy would grant, and by which line", grants),
        Test::new("plugin: installed types are linked by weir install", linked),
        Test::new("plugin: several processes may add at once", crowd),
    ]
}

/// Installed plugins get nothing else.
const POLICY: &str = "[[allow]]\nplugin = \"fixed\"\naddresses = [\"0.0.0.0/0\", \"::/0\"]\n";

struct Shop {
    lab: Lab,
}

impl Shop {
    fn new() -> anyhow::Result<Self> {
        let mut lab = Lab::new(Plugins::Weir)?;
        lab.add_container()?;
        fs::set_permissions(lab.path("weir"), Permissions::from_mode(0o755))?;
        fs::create_dir_all(lab.path("policy"))?;
        fs::write(lab.path("policy").join("policy.toml"), POLICY)?;
        Ok(Self { lab })
    }

    /// Runs `weir plugin`; whether it succeeded, and what it printed.
    fn plugin(&self, arguments: &str) -> anyhow::Result<(bool, String)> {
        let command = format!("{} plugin {arguments}", self.lab.bin.join("weir").display());
        let program = line(&command)
            .variable("WEIR_STATE_DIR", self.lab.path("weir"))
            .variable("WEIR_POLICY_DIR", self.lab.path("policy"));
        let output = self.lab.node.enter(|| program.run())?;
        ensure!(!output.stderr.contains("panicked"), "plugin {arguments}: {}", output.stderr);
        Ok((output.status.success(), format!("{}{}", output.stdout, output.stderr)))
    }

    /// Writes the policy.
    fn policy(&self, text: &str) -> anyhow::Result<()> {
        let directory = self.lab.path("policy");
        fs::create_dir_all(&directory)?;
        fs::set_permissions(&directory, Permissions::from_mode(0o755))?;
        let path = directory.join("policy.toml");
        fs::write(&path, text)?;
        Ok(fs::set_permissions(&path, Permissions::from_mode(0o644))?)
    }

    fn succeed(&self, arguments: &str) -> anyhow::Result<String> {
        let (success, text) = self.plugin(arguments)?;
        ensure!(success, "plugin {arguments}: {text}");
        Ok(text)
    }

    fn fail(&self, arguments: &str, word: &str) -> anyhow::Result<()> {
        let (success, text) = self.plugin(arguments)?;
        ensure!(!success && text.contains(word), "plugin {arguments}: it does not mention {word:?}: {text}");
        Ok(())
    }

    /// Installs a guest as the type `fixed`; returns its digest.
    fn add(&self, name: &str) -> anyhow::Result<String> {
        let text = self.succeed(&format!("add {} --type fixed", guest::component(name)?.display()))?;
        digest(&text).with_context(|| format!("no digest in {text}"))
    }

    fn list(&self) -> anyhow::Result<Vec<Value>> {
        let text = self.succeed("list --json")?;
        text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }

    /// A path in the store.
    fn store(&self, name: &str) -> PathBuf {
        self.lab.path("weir").join("plugins").join(name)
    }

    /// The only file of a directory of the store.
    fn only(&self, directory: &str) -> anyhow::Result<PathBuf> {
        let found = files(&self.store(directory));
        let [path] = found.as_slice() else { anyhow::bail!("{directory} holds {found:?}") };
        Ok(path.clone())
    }

    /// Everything in the store but its directories and its lock.
    fn everything(&self) -> Vec<PathBuf> {
        ["components", "compiled", "records", "types"]
            .iter()
            .flat_map(|name| files(&self.store(name)))
            .collect()
    }

    /// Asks the installed plugin for an address.
    fn ask(&self, command: &str) -> anyhow::Result<Result<Value, CniError>> {
        let config =
            json!({ "cniVersion": "1.1.0", "name": "shop", "type": "fixed", "ipam": { "type": "fixed" } });
        let call = self.lab.call_for("weir", command, &self.lab.containers[0], "eth0").config(&config);
        Ok(match self.lab.run(&call)? {
            Reply::Success(value) => Ok(value.unwrap_or_default()),
            Reply::Failure(error) => Err(error),
        })
    }

    fn address(&self) -> anyhow::Result<String> {
        let result =
            self.ask("ADD")?.map_err(|error| anyhow::anyhow!("ADD: {} {}", error.code, error.text))?;
        Ok(result["ips"][0]["address"].as_str().unwrap_or_default().to_owned())
    }

    /// A call has to fail because of the store.
    fn broken(&self, words: &[&str]) -> anyhow::Result<()> {
        match self.ask("ADD")? {
            Ok(value) => anyhow::bail!("{words:?}: ADD succeeded, with {value}"),
            Err(error) => {
                ensure!(error.code == 104, "{words:?}: the code is {}: {}", error.code, error.text);
                for word in words {
                    ensure!(error.text.contains(word), "it does not mention {word:?}: {}", error.text);
                }
                Ok(())
            }
        }
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// The first digest in a text.
fn digest(text: &str) -> Option<String> {
    let start = text.find("sha256:")?;
    text.get(start..start + 71).map(str::to_owned)
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

fn unsafe_store() -> anyhow::Result<()> {
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

fn damaged() -> anyhow::Result<()> {
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

fn outdated() -> anyhow::Result<()> {
    let shop = Shop::new()?;
    let digest = shop.add("fixed")?;
    // As another weir leaves it.
    let compiled = shop.only("compiled")?;
    let name = compiled.file_stem().context("it has no name")?.to_string_lossy().into_owned();
    let engine = name.split_once('-').context("its name names no engine")?.1.to_owned();
    let record = shop.only("records")?;
    let text = fs::read_to_string(&record)?;
    fs::write(&record, text.replace(&engine, "0123456789abcdef"))?;
    fs::rename(&compiled, shop.store("compiled").join(format!("{}-0123456789abcdef.cwasm", &digest[7..])))?;
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

fn allow() -> anyhow::Result<()> {
    let shop = Shop::new()?;
    let path = guest::component("fixed")?.display().to_string();
    shop.policy("")?;
    let text = shop.succeed(&format!("add {path} --type fixed"))?;
    let rule = shop.lab.path("policy").join("policy.d/plugin-fixed.toml");
    let shown = rule.display().to_string();
    ensure!(text.contains("[[allow]]") && text.contains(&shown), "it proposes {text}");
    ensure!(!rule.exists(), "a rule was written unasked");
    for _ in 0..2 {
        shop.succeed(&format!("add {path} --type fixed --allow weir:plugin/request"))?;
    }
    let digest = digest(&text).context("no digest")?;
    let expected = format!(
        "[[allow]]\nname = \"fixed\"\nplugin = \"fixed\"\ndigest = \"{digest}\"\ninterfaces = [\"weir:plugin/request\"]\n"
    );
    let written = fs::read_to_string(&rule)?;
    ensure!(written == expected, "the rule is {written}");
    ensure!(fs::metadata(&rule)?.permissions().mode() & 0o7777 == 0o644, "its mode is wrong");
    let text = shop.succeed("remove fixed")?;
    ensure!(text.contains(&shown), "removing it says {text}");
    Ok(())
}

fn signature() -> anyhow::Result<()> {
    let shop = Shop::new()?;
    let path = shop.lab.path("signature");
    fs::write(
        &path,
        "untrusted comment: signature from minisign secret key\nRUQf6LRCGA9i559r3g7V1qNyJDApGip8MfqcadIgT9CuhV3EMhHoN1mGTkUidF/z7SrlQgXdy8ofjb7bNJJylDOocrCo8KLzZwo=\ntrusted comment: timestamp:1633700835\tfile:test\tprehashed\nwLMDjy9FLAuxZ3q4NlEvkgtyhrr0gtTu6KC4KBJdITbbOeAi1zBIYo0v4iTgt8jJpIidRJnp94ABQkJAgAooBQ==\n",
    )?;
    let good = guest::component("fixed")?;
    let add = format!("add {} --type fixed --signature", good.display());
    shop.fail(&format!("{add} {}", path.display()), "none of the 0 known signing keys")?;
    fs::write(&path, "nothing")?;
    shop.fail(&format!("{add} {}", path.display()), "cannot be read")?;
    shop.fail(&format!("{add} {}", shop.lab.path("absent").display()), "No such file")?;
    ensure!(shop.everything().is_empty(), "left are {:?}", shop.everything());
    Ok(())
}

fn signed() -> anyhow::Result<()> {
    let shop = Shop::new()?;
    let path = guest::component("fixed")?;
    let bytes = fs::read(&path)?;
    let (key, other) = (SigningKey::new(1), SigningKey::new(2));
    let sign = |name: &str, key: &SigningKey, bytes: &[u8]| -> anyhow::Result<String> {
        let path = shop.lab.path(name);
        fs::write(&path, key.sign(bytes))?;
        Ok(path.display().to_string())
    };
    let good = sign("good", &key, &bytes)?;
    let stranger = sign("stranger", &other, &bytes)?;
    let wrong = sign("wrong", &key, b"something else")?;
    let add = format!("add {} --type fixed", path.display());
    let known = key.public();
    let policy = |is_required: bool| {
        let text =
            format!("[plugins]\nsigning-keys = [\"{known}\"]\nrequire-signature = {is_required}\n{POLICY}");
        shop.policy(&text)
    };
    policy(true)?;
    shop.fail(&add, "requires a signature")?;
    shop.fail(&format!("{add} --signature {stranger}"), "none of the 1 known signing keys")?;
    shop.fail(&format!("{add} --signature {wrong}"), "not one of this file")?;
    shop.policy("[plugins]\nsigning-key = []\n")?;
    shop.fail(&format!("{add} --signature {good}"), "policy.toml:2:1: unknown key")?;
    ensure!(shop.everything().is_empty(), "left are {:?}", shop.everything());
    policy(true)?;
    shop.succeed(&format!("{add} --signature {good}"))?;
    ensure!(shop.list()?[0]["signedBy"] == known.as_str(), "listed is {:?}", shop.list()?);
    let text = shop.succeed("inspect fixed")?;
    ensure!(text.contains(&known), "inspect says {text}");
    shop.address()?;
    shop.succeed("remove fixed")?;
    // A signature that is not needed has to be right all the same.
    policy(false)?;
    shop.fail(&format!("{add} --signature {wrong}"), "not one of this file")?;
    shop.succeed(&add)?;
    ensure!(shop.list()?[0]["signedBy"].is_null(), "listed is {:?}", shop.list()?);
    Ok(())
}

fn grants() -> anyhow::Result<()> {
    let shop = Shop::new()?;
    let path = guest::component("fixed")?;
    shop.policy("")?;
    let has = |text: &str, word: &str| -> anyhow::Result<()> {
        ensure!(text.contains(word), "it does not mention {word:?}: {text}");
        Ok(())
    };
    let of = |value: &Value, interface: &str| -> anyhow::Result<Value> {
        let imports = value["imports"].as_array().context("it lists imports")?;
        let name = |import: &Value| import["interface"].as_str().map(str::to_owned).unwrap_or_default();
        let found = imports.iter().find(|import| name(import).starts_with(interface));
        found.cloned().with_context(|| format!("{interface} is not in {value}"))
    };
    let inspect = format!("inspect {}", path.display());
    for arguments in [&inspect, &format!("add {} --type fixed", path.display())] {
        let text = shop.succeed(arguments)?;
        has(&text, "denied: no allow rule matches it")?;
        has(&text, "[[allow]]\nname = \"fixed\"\nplugin = \"fixed\"\ndigest = \"sha256:")?;
    }
    shop.policy("[[allow]]\nname = \"f\"\nplugin = \"fixed\"\ninterfaces = []\n[[deny]]\ninterfaces = \"weir:host/log\"\n")?;
    let place = shop.lab.path("policy").join("policy.toml").display().to_string();
    for target in [inspect.as_str(), "inspect fixed"] {
        let text = shop.succeed(target)?;
        has(&text, &format!("denied: {place}:6 forbids it"))?;
        has(&text, &format!("allowed by {place}:4 (rule \"f\")"))?;
        let value: Value = serde_json::from_str(&shop.succeed(&format!("{target} --json"))?)?;
        let (log, request) = (of(&value, "weir:host/log")?, of(&value, "weir:plugin/request")?);
        ensure!(log["allowed"] == false && log["rule"].is_null(), "it says {log}");
        has(log["reason"].as_str().unwrap_or_default(), ":6 forbids it")?;
        ensure!(request["allowed"] == true && request["reason"].is_null(), "it says {request}");
        has(request["rule"].as_str().unwrap_or_default(), &format!("{place}:4"))?;
    }
    shop.policy("[[allow]]\nplugin = \"bridge\"\nnetwork = \"n\"\ninterfaces = \"weir:net/links\"\n")?;
    let text = shop.succeed("inspect bridge --network n")?;
    has(&text, &format!("allowed by {place}:4"))?;
    has(&text, &format!("change {place}:4: interfaces = [\"weir:net/links\", \"weir:net/routes\"]"))?;
    has(&shop.succeed("inspect bridge")?, "as no rule restricts it")?;
    shop.policy("[[allow]]\nplugins = \"bridge\"\n")?;
    has(&shop.succeed("inspect bridge")?, &format!("nothing is allowed: {place}:2:1: unknown key"))
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
