//! Components that want leases and files of others.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{anyhow, ensure};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::{Value, json};

use super::stage::{Expected, RULE, Stage};
use crate::Test;
use crate::lab::{Reply, require};

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new("sandbox: leases in places that the configuration does not name are out of reach", places),
        Test::new("sandbox: addresses outside of the policy's are not leased", outside),
        Test::new("sandbox: an address that another attachment holds is not leased, nor released", theft),
        Test::new("sandbox: leases are kept in no directory that the policy does not name", directories),
        Test::new("sandbox: who has leased an address and goes on keeps nobody from leasing", census),
        Test::new("sandbox: taking leases back does not wait for each of them", patience),
        Test::new("sandbox: ranges without end or number cost no time", ranges),
        Test::new(
            "sandbox: a lease lock that others hold does not hold up a call for longer than its time",
            lock,
        ),
        Test::new(
            "sandbox: a journal that others hold does not hold up a call for longer than its time",
            journal,
        ),
        Test::new("sandbox: only files that anybody may read and the configuration names are read", files),
    ]
}

fn places() -> anyhow::Result<()> {
    let stage = Stage::new(RULE)?;
    for path in
        ["/etc", "/var/lib/cni/networks/calm", "/var/lib/cni/networks/", "/", "/var/lib/cni/networks/../.."]
    {
        let expected = Expected::denied("open", &[path, "dataDir"]);
        stage.fails(json!([{ "do": "open", "data-dir": path }]), &expected)?;
    }
    for path in ["", ".", "../networks", "var"] {
        let expected = Expected::failure(7, &["is not an absolute path"]);
        stage.fails(json!([{ "do": "open", "data-dir": path }]), &expected)?;
    }
    // In the place of another network there is still no way to its leases.
    stage.write_policy(&RULE.replace("leases = 8", "data-dirs = \"/var/lib/cni/*\"\nleases = 8"))?;
    let mut config = stage.config();
    config["ipam"]["dataDir"] = "/var/lib/cni/networks/calm".into();
    config["attack"]["ADD"] = json!([
        { "do": "open", "data-dir": "/var/lib/cni/networks/calm" },
        { "do": "release" },
        { "do": "reserve", "address": "10.77.0.2" },
    ]);
    let call = stage.call_with("ADD", &config);
    stage.call_fails(&call, &Expected::denied("reserve", &["10.77.0.2"])).map(drop)
}

fn outside() -> anyhow::Result<()> {
    let stage = Stage::new(RULE)?;
    for address in ["10.77.0.2", "10.66.1.0", "::ffff:10.77.0.2", "fd00::1", "::", "255.255.255.255"] {
        let expected = Expected::denied("reserve", &["10.66.0.0/24"]);
        stage.fails(json!([{ "do": "reserve", "address": address }]), &expected)?;
    }
    for (first, last) in [
        ("10.66.0.0", "10.66.1.0"),
        ("10.65.255.255", "10.66.0.9"),
        ("10.0.0.0", "10.255.255.255"),
        ("0.0.0.0", "255.255.255.255"),
        ("::ffff:10.66.0.0", "::ffff:10.66.1.0"),
        ("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("::ffff:10.66.0.1", "::1:0:0:0"),
    ] {
        let step = json!({ "do": "reserve-next", "first": first, "last": last });
        stage.fails(json!([step]), &Expected::denied("reserve-next", &["10.66.0.0/24"]))?;
    }
    Ok(())
}

fn theft() -> anyhow::Result<()> {
    let mut stage = Stage::new(RULE)?;
    let mut config = stage.config();
    config["attack"]["ADD"] = json!([{ "do": "reserve", "address": "10.66.0.7" }]);
    stage.answer(&stage.call_of("hostile", "ADD", 1, "eth5").config(&config))?.success()?;
    stage.accept()?;
    for address in ["10.66.0.7", "::ffff:10.66.0.7"] {
        let step = json!({ "do": "reserve", "address": address });
        stage.fails(json!([step]), &Expected::failure(7, &["10.66.0.7", "c2"]))?;
        let step = json!({ "do": "reserve-next", "first": address, "last": address });
        stage.fails(json!([step]), &Expected::failure(106, &["no address is left"]))?;
    }
    // It has none that it could give back.
    let steps = json!([{ "do": "release" }, { "do": "panic" }]);
    stage.fails(steps, &Expected::failure(101, &[]))?;
    let del = stage.call("DEL", json!([{ "do": "release" }]));
    stage.answer(&del)?.silence()?;
    stage.unchanged()
}

fn ranges() -> anyhow::Result<()> {
    let mut stage =
        Stage::new(&RULE.replace("\"10.66.0.0/24\"]\nroutes", "\"10.66.0.0/16\", \"::/0\"]\nroutes"))?;
    stage.budget = 3.0;
    let step = |first: &str, last: &str, count: u32, skip: u32| json!({ "do": "reserve-next", "first": first, "last": last, "count": count, "skip": skip });
    let many = step("10.66.0.0", "10.66.255.255", 1024, 65_536);
    stage.fails(json!([many]), &Expected::failure(7, &["ranges overlap"]))?;
    let more = step("10.66.0.0", "10.66.255.255", 100_000, 0);
    stage.fails(json!([more]), &Expected::failure(103, &["100000 ranges in one list"]))?;
    let all = step("10.66.0.0", "10.66.255.255", 1, 65_536);
    stage.fails(json!([all]), &Expected::failure(106, &["no address is left"]))?;
    let backwards = step("10.66.0.9", "10.66.0.1", 1, 0);
    stage.fails(json!([backwards]), &Expected::failure(7, &["is no range of addresses"]))?;
    let mixed = step("10.66.0.9", "fd00::1", 1, 0);
    stage.fails(json!([mixed]), &Expected::failure(7, &["is no range of addresses"]))?;
    // All that there is, and a lease of it.
    let endless = step("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 1, 0);
    let steps = json!([endless, { "do": "usage", "first": "::", "last": "ffff::" }, { "do": "panic" }]);
    stage.fails(steps, &Expected::failure(101, &[])).map(drop)
}

/// Directories that the configuration names, to which its author has no other
/// way.
fn directories() -> anyhow::Result<()> {
    let stage = Stage::new(RULE)?;
    let inside = |name: &str| stage.lab.path(name).display().to_string();
    fs::create_dir(stage.lab.path("open"))?;
    symlink(stage.lab.path("policy"), stage.lab.path("open/policy"))?;
    symlink(stage.lab.path("weir"), stage.lab.path("open/weir"))?;
    let call = |path: &str, network: &str| {
        let mut config = stage.config();
        config["name"] = network.into();
        config["ipam"]["dataDir"] = path.into();
        config["attack"]["ADD"] = json!([
            { "do": "open", "data-dir": path }, { "do": "reserve", "address": "10.66.0.5" }, { "do": "panic" }
        ]);
        stage.call_with("ADD", &config)
    };
    let nothing_new = |path: &str| -> anyhow::Result<()> {
        ensure!(!Path::new(path).exists() && !stage.lab.path("new").exists(), "{path} was made");
        Ok(())
    };
    // Without a key that names them there is the default, by whatever name.
    let default = call("/var/lib/../lib/cni//networks/.", "hostile");
    stage.call_fails(&default, &Expected::failure(101, &["trapped"]))?;
    for name in ["open", "new/leases", "open/../new"] {
        let expected = Expected::denied("open", &["keep leases in", "data-dirs"]);
        stage.call_fails(&call(&inside(name), "hostile"), &expected)?;
        nothing_new(&inside("open/hostile"))?;
    }
    let named = json!([inside("open"), inside("open/*")]);
    let key = format!("data-dirs = {named}\nleases = 8");
    let rule = RULE.replace("network = \"hostile\"\n", "").replace("leases = 8", &key);
    stage.write_policy(&rule)?;
    stage.call_fails(&call(&inside("open/more"), "hostile"), &Expected::failure(101, &["trapped"]))?;
    ensure!(stage.lab.path("open/more/hostile").exists(), "the rule lets nothing be made");
    stage.call_fails(&call(&inside("open/more"), "hostile"), &Expected::failure(101, &["trapped"]))?;
    stage.write_policy(&format!("{rule}[[deny]]\ndata-dirs = \"{}\"\n", inside("open/more")))?;
    for (name, network) in [("open/more/", "hostile"), ("open", "more")] {
        let expected = Expected::denied("open", &["keep leases in", "narrow"]);
        stage.call_fails(&call(&inside(name), network), &expected)?;
    }
    stage.write_policy(&rule)?;
    let expected = Expected::denied("open", &["keep leases in", "data-dirs"]);
    stage.call_fails(&call(&inside("open/../new"), "hostile"), &expected)?;
    let expected = Expected::denied("open", &["leave out the \"..\""]);
    stage.call_fails(&call(&inside("open/absent/../../new"), "hostile"), &expected)?;
    nothing_new(&inside("open/absent"))?;
    // Not even a rule opens what weir itself keeps.
    stage.write_policy(&rule.replace(&named.to_string(), "\"*\""))?;
    let above = stage.lab.path("").file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    for (name, network) in [
        ("..", above.as_str()),
        ("policy", "x.toml"),
        ("policy/policy.d/x.toml", "hostile"),
        ("open/policy/policy.d", "x.toml"),
        ("weir/attachments", "hostile"),
        ("open/weir", "attachments"),
        ("", "weir"),
        ("", "audit.jsonl.1"),
        ("audit.jsonl.1/leases", "hostile"),
    ] {
        let path = inside(name);
        let expected = Expected::denied("open", &[&format!("open leases in {path}: ")]);
        stage.call_fails(&call(&path, network), &expected)?;
        nothing_new(&inside("policy/x.toml"))?;
        nothing_new(&inside("policy/policy.d"))?;
        nothing_new(&inside("audit.jsonl.1"))?;
    }
    Ok(())
}

/// A call that leases an address, and then does nothing until its time is up,
/// must not hold up others, on other networks, that are bounded by a number of
/// leases.
fn census() -> anyhow::Result<()> {
    let mut stage = Stage::new(&RULE.replace("network = \"hostile\"\n", ""))?;
    let reserve = |address: &str| json!({ "do": "reserve", "address": address });
    stage.budget = 8.0;
    let slow = stage.call("ADD", json!([reserve("10.66.0.5"), { "do": "spin" }]));
    let mut config = stage.config();
    config["name"] = "other".into();
    config["attack"]["ADD"] = json!([reserve("10.66.0.6")]);
    let other = |command| stage.call_of("hostile", command, 1, "eth5").config(&config);
    thread::scope(|scope| {
        let slow = scope.spawn(|| stage.answer(&slow));
        wait_for(|| stage.lab.leases("hostile").join("10.66.0.5").exists())?;
        stage.answer(&other("ADD"))?.success()?;
        ensure!(!slow.is_finished(), "the other call was held up");
        let error = slow.join().map_err(|_| anyhow!("the call's thread panicked"))??.failure()?;
        ensure!(error.code == 102, "the code is {}: {}", error.code, error.text);
        Ok(())
    })?;
    stage.answer(&other("DEL"))?.silence()?;
    fs::remove_dir_all(stage.lab.leases("other"))?;
    stage.unchanged()
}

/// Many leases are taken back while somebody else has their lock.
fn patience() -> anyhow::Result<()> {
    let mut stage = Stage::new(RULE)?;
    let steps: Vec<Value> =
        (1..=6).map(|last| json!({ "do": "reserve", "address": format!("10.66.0.{last}") })).collect();
    stage.answer(&stage.call("ADD", steps.into()))?.success()?;
    stage.budget = 1.0;
    let held = hold(&stage.lab.leases("hostile").join("lock"))?;
    let error = stage.answer(&stage.call("DEL", json!([])))?.failure()?;
    ensure!(error.code == 11, "the code is {}: {}", error.code, error.text);
    drop(held);
    stage.answer(&stage.call("DEL", json!([])))?.silence()?;
    stage.unchanged()
}

fn wait_for(is_so: impl Fn() -> bool) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !is_so() {
        ensure!(Instant::now() < deadline, "it did not happen");
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Holds a file's lock, as another process would.
fn hold(path: &Path) -> anyhow::Result<Flock<File>> {
    let file = File::options().create(true).truncate(false).write(true).open(path)?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno.into())
}

fn lock() -> anyhow::Result<()> {
    let mut stage = Stage::new(RULE)?;
    stage.budget = 0.6;
    let pool = stage.lab.leases("hostile");
    fs::create_dir(&pool)?;
    let _held = hold(&pool.join("lock"))?;
    let patient = json!([{ "do": "reserve", "address": "10.66.0.5", "anyway": true, "times": 1000 }]);
    stage.fails(patient, &Expected::failure(102, &["ADD did not finish"]))?;
    let call = stage.call("ADD", json!([{ "do": "reserve", "address": "10.66.0.5" }]));
    let Reply::Failure(error) = stage.answer(&call)? else { anyhow::bail!("there was no lock") };
    ensure!([11, 102].contains(&error.code), "the code is {}: {}", error.code, error.text);
    stage.unchanged()
}

fn journal() -> anyhow::Result<()> {
    let mut stage = Stage::new(RULE)?;
    let pair = json!({ "do": "create-veth", "near": "hv0", "far": "eth0" });
    stage.answer(&stage.call("ADD", json!([pair])))?.success()?;
    stage.accept()?;
    stage.budget = 0.6;
    let directory = stage.lab.path("weir/attachments");
    let held =
        fs::read_dir(directory)?.map(|entry| hold(&entry?.path())).collect::<anyhow::Result<Vec<_>>>()?;
    ensure!(!held.is_empty(), "there is no journal");
    for command in ["ADD", "DEL"] {
        let started = Instant::now();
        let Reply::Failure(error) = stage.answer(&stage.call(command, json!([])))? else {
            anyhow::bail!("{command} did not wait")
        };
        ensure!([11, 102].contains(&error.code), "the code is {}: {}", error.code, error.text);
        ensure!(started.elapsed() < Duration::from_secs(5), "{command} took {:?}", started.elapsed());
    }
    stage.unchanged()
}

fn files() -> anyhow::Result<()> {
    let stage = Stage::new(RULE)?;
    fs::set_permissions(stage.lab.path(""), Permissions::from_mode(0o755))?;
    let path = |name: &str| stage.lab.path(name).display().to_string();
    let make = |name: &str, mode: u32| -> anyhow::Result<String> {
        fs::write(stage.lab.path(name), "root:secret")?;
        fs::set_permissions(stage.lab.path(name), Permissions::from_mode(mode))?;
        Ok(path(name))
    };
    let read = |path: &str, is_named: bool| {
        let mut config = stage.config();
        if is_named {
            config["resolvConf"] = path.into();
        }
        config["attack"]["ADD"] = json!([{ "do": "read-file", "path": path }]);
        stage.call_with("ADD", &config)
    };
    let open = make("open.conf", 0o644)?;
    stage.call_fails(&read(&open, true), &Expected::failure(7, &["the file says root:secret"]))?;
    fs::write(stage.lab.path("latin.conf"), b"root:s\xe9cret")?;
    let latin = Expected::failure(7, &["the file says root:s\u{fffd}cret"]);
    stage.call_fails(&read(&path("latin.conf"), true), &latin)?;
    stage.call_fails(&read(&open, false), &Expected::denied("read", &[&open, "resolvConf"]))?;
    for mode in [0o700, 0o710, 0o754] {
        let directory = stage.lab.path(&format!("directory-{mode:o}"));
        fs::create_dir_all(directory.join("inner"))?;
        fs::write(directory.join("inner/open.conf"), "root:secret")?;
        symlink(directory.join("inner"), stage.lab.path(&format!("way-{mode:o}")))?;
        fs::set_permissions(&directory, Permissions::from_mode(mode))?;
        for name in [format!("directory-{mode:o}/inner/open.conf"), format!("way-{mode:o}/open.conf")] {
            let expected = Expected::denied("read", &[&path(&name), "not everybody"]);
            stage.call_fails(&read(&path(&name), true), &expected)?;
        }
    }
    for mode in [0o600, 0o640] {
        let secret = make("secret", mode)?;
        stage.call_fails(&read(&secret, true), &Expected::denied("read", &[&secret, "not everybody"]))?;
    }
    symlink(stage.lab.path("secret"), stage.lab.path("link"))?;
    stage.call_fails(&read(&path("link"), true), &Expected::denied("read", &["not everybody"]))?;
    mkfifo(&stage.lab.path("fifo"), Mode::from_bits_truncate(0o644))?;
    for special in [path("fifo"), "/dev/zero".to_owned(), "/dev/tty".to_owned(), "/".to_owned()] {
        let call = read(&special, true);
        let Reply::Failure(error) = stage.answer(&call)? else { anyhow::bail!("{special} was read") };
        ensure!([5, 100].contains(&error.code), "the code is {}: {}", error.code, error.text);
    }
    // What another process sees, which may have other directories above it.
    let through = format!("/proc/{}/root{open}", std::process::id());
    let Reply::Failure(error) = stage.answer(&read(&through, true))? else { anyhow::bail!("it was read") };
    ensure!([5, 100].contains(&error.code), "the code is {}: {}", error.code, error.text);
    for relative in ["open.conf", "../../etc/shadow", "etc/passwd"] {
        stage.call_fails(&read(relative, true), &Expected::denied("read", &["not an absolute path"]))?;
    }
    require(fs::metadata("/etc/shadow").is_ok(), "there is no /etc/shadow here")?;
    stage.call_fails(&read("/etc/shadow", true), &Expected::denied("read", &["/etc/shadow"])).map(drop)
}
