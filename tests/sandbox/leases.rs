//! Components that want leases and files of others.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::{Duration, Instant};

use anyhow::ensure;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::json;

use super::stage::{Expected, RULE, Stage};
use crate::Test;
use crate::lab::{Reply, require};

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new("sandbox: leases in places that the configuration does not name are out of reach", places),
        Test::new("sandbox: addresses outside of the policy's are not leased", outside),
        Test::new("sandbox: an address that another attachment holds is not leased, nor released", theft),
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

/// Holds a file's lock, as another process would.
fn hold(path: &std::path::Path) -> anyhow::Result<Flock<File>> {
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
    stage.call_fails(&read(&open, false), &Expected::denied("read", &[&open, "resolvConf"]))?;
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
    for relative in ["open.conf", "../../etc/shadow", "etc/passwd"] {
        stage.call_fails(&read(relative, true), &Expected::denied("read", &["not an absolute path"]))?;
    }
    require(fs::metadata("/etc/shadow").is_ok(), "there is no /etc/shadow here")?;
    stage.call_fails(&read("/etc/shadow", true), &Expected::denied("read", &["/etc/shadow"])).map(drop)
}
