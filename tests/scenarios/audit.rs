//! The audit log, and `weir audit`.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use serde_json::Value;

use super::network::RICH;
use super::scene::{Allowed, Scene};
use crate::Test;
use crate::lab::{Handle, line};

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new("audit: every change of ADD and DEL leaves a record", records),
        Test::new("audit: what a failed ADD did and took back is recorded", rolled_back),
        Test::new("audit: an ADD that runs out of time is recorded", out_of_time),
        Test::new("audit: what GC takes back is recorded under its container", collected),
        Test::new("audit: containers at once lose no line", crowd),
        Test::new("audit: an ADD goes on without a log that cannot be written", unwritable),
        Test::new("audit: weir audit filters, and reads over torn lines", command),
        Test::new("audit: weir audit reads the file that the policy names", named),
        Test::new("audit: weir audit shows nothing that a terminal would obey", terminal),
        Test::new("audit: weir audit --follow shows what is added", follow),
    ]
}

fn log(scene: &Scene) -> PathBuf {
    scene.lab.path("audit.jsonl")
}

fn entries(scene: &Scene) -> anyhow::Result<Vec<Value>> {
    let text = fs::read_to_string(log(scene)).context("read the audit log")?;
    text.lines().map(|line| serde_json::from_str(line).with_context(|| format!("read {line}"))).collect()
}

fn weir(scene: &Scene, arguments: &str) -> anyhow::Result<String> {
    line(format!("{} audit {arguments}", scene.lab.bin.join("weir").display()).trim())
        .variable("WEIR_AUDIT_FILE", log(scene))
        .succeed()
}

/// The operations of a command, in their order.
fn operations<'a>(entries: &'a [Value], command: &str) -> Vec<&'a str> {
    let of_command = entries.iter().filter(|entry| entry["command"] == command);
    of_command.filter_map(|entry| entry["operation"].as_str()).collect()
}

fn records() -> anyhow::Result<()> {
    let scene = Scene::new(&RICH, 1)?;
    let call =
        |command| scene.call(command, 0).variable("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAMESPACE=team-a");
    scene.lab.run(&call("ADD"))?.success()?;
    let added = entries(&scene)?;
    for operation in ["create-bridge", "create-veth", "reserve-next", "masquerade"] {
        ensure!(operations(&added, "ADD").contains(&operation), "{operation} is not in {added:?}");
    }
    for entry in &added {
        for (key, value) in [
            ("command", "ADD"),
            ("network", "n"),
            ("container", "c1"),
            ("ifname", "eth0"),
            ("tenant", "team-a"),
            ("outcome", "done"),
        ] {
            ensure!(entry[key] == value, "{key} is not {value} in {entry}");
        }
        let time = entry["time"].as_str().unwrap_or_default();
        ensure!(time.len() == 27 && time.ends_with('Z'), "the time is {time}");
        ensure!(entry["duration_us"].is_u64() && entry["object"].is_string(), "it is {entry}");
    }
    let plugins: Vec<&Value> = added.iter().map(|entry| &entry["plugin"]).collect();
    ensure!(plugins.contains(&&"bridge".into()) && plugins.contains(&&"host-local".into()), "{plugins:?}");
    scene.silent(&call("DEL"))?;
    let deleted = entries(&scene)?;
    ensure!(operations(&deleted, "DEL").contains(&"unmasquerade"), "DEL left {deleted:?}");
    let mode = fs::metadata(log(&scene))?.permissions().mode();
    ensure!(mode & 0o7777 == 0o600, "the mode of the log is {mode:o}");
    Ok(())
}

fn rolled_back() -> anyhow::Result<()> {
    ["trap-after:8", "panic-after:8"].into_iter().try_for_each(|fault| roll_back(fault).context(fault))
}

fn roll_back(fault: &str) -> anyhow::Result<()> {
    let scene = Scene::new(&RICH, 1)?;
    let call = scene.call("ADD", 0).variable("WEIR_FAULT", fault);
    scene.lab.run(&call)?.failure()?;
    let entries = entries(&scene)?;
    let operations = operations(&entries, "ADD");
    let first_undo = operations.iter().position(|operation| operation.starts_with("undo "));
    let first_undo = first_undo.with_context(|| format!("nothing was taken back: {operations:?}"))?;
    ensure!(
        first_undo > 0 && operations[first_undo..].iter().all(|operation| operation.starts_with("undo ")),
        "the order is {operations:?}"
    );
    ensure!(operations.contains(&"undo reserve"), "the leases are not in {operations:?}");
    ensure!(entries.iter().all(|entry| entry["container"] == "c1"), "they are of {entries:?}");
    Ok(())
}

fn out_of_time() -> anyhow::Result<()> {
    let scene = Scene::new(&RICH, 1)?;
    let call = scene.call("ADD", 0).variable("WEIR_FAULT", "stall-after:6").variable("WEIR_TIMEOUT", "0.3");
    scene.lab.run(&call)?.failure()?;
    let entries = entries(&scene)?;
    let operations = operations(&entries, "ADD");
    ensure!(operations.iter().filter(|name| !name.starts_with("undo ")).count() >= 5, "{operations:?}");
    ensure!(operations.contains(&"undo reserve"), "the leases are not in {operations:?}");
    Ok(())
}

fn collected() -> anyhow::Result<()> {
    let scene = Scene::new(&RICH, 2)?;
    scene.add(0)?;
    scene.add(1)?;
    scene.gc(&["c2"])?;
    let entries = entries(&scene)?;
    let collected: Vec<&Value> = entries.iter().filter(|entry| entry["command"] == "GC").collect();
    let of_the_first = collected.iter().filter(|entry| entry["container"] == "c1").count();
    ensure!(of_the_first > 2, "GC left {collected:?}");
    ensure!(collected.iter().all(|entry| entry["container"] != "c2"), "GC left {collected:?}");
    Ok(())
}

fn crowd() -> anyhow::Result<()> {
    let mut scene = Scene::new(&RICH, 0)?;
    let numbers = (0..12)
        .map(|number| scene.add_container(&format!("crowd{number}"), Handle::BindMount))
        .collect::<anyhow::Result<Vec<usize>>>()?;
    let scene = &scene;
    std::thread::scope(|scope| {
        let adds: Vec<_> = numbers.iter().map(|&number| scope.spawn(move || scene.add(number))).collect();
        adds.into_iter().try_for_each(|add| match add.join() {
            Ok(added) => added.map(drop),
            Err(_) => anyhow::bail!("a thread panicked"),
        })
    })?;
    let entries = entries(scene)?;
    let of = |number: usize| {
        let id = format!("crowd{number}");
        entries.iter().enumerate().filter(move |(_, entry)| entry["container"] == id.as_str())
    };
    for number in numbers {
        let places: Vec<usize> = of(number).map(|(place, _)| place).collect();
        let made = of(number).filter(|(_, entry)| entry["operation"] == "create-veth").count();
        ensure!(made == 1, "crowd{number} has {made} records of its link");
        let (first, last) = (places[0], places[places.len() - 1]);
        ensure!(last - first + 1 == places.len(), "the records of crowd{number} are scattered: {places:?}");
    }
    Ok(())
}

fn unwritable() -> anyhow::Result<()> {
    let scene = Scene::new(&RICH, 1)?;
    let before = scene.state()?;
    let loose = scene.lab.path("loose");
    fs::create_dir(&loose)?;
    fs::set_permissions(&loose, PermissionsExt::from_mode(0o777))?;
    let taken = scene.lab.path("taken");
    fs::create_dir_all(taken.join("audit.jsonl"))?;
    for directory in [loose, taken] {
        for command in ["ADD", "DEL"] {
            let call = scene.call(command, 0).variable("WEIR_AUDIT_FILE", directory.join("audit.jsonl"));
            let output = scene.lab.node.enter(|| call.program().run())?;
            ensure!(output.status.success(), "{command} failed: {}", output.stdout);
            ensure!(output.stderr.contains("audit log"), "{command} says {:?}", output.stderr);
        }
        scene.expect(&before, Allowed::Shared)?;
    }
    Ok(())
}

fn command() -> anyhow::Result<()> {
    let scene = Scene::new(&RICH, 2)?;
    ensure!(weir(&scene, "")?.is_empty(), "it says {}", weir(&scene, "")?);
    let of = |arguments: &str| {
        let weir = scene.lab.bin.join("weir");
        line(format!("{} audit {arguments}", weir.display()).trim()).variable("WEIR_AUDIT_FILE", log(&scene))
    };
    let said = of("").run()?.stderr;
    ensure!(said.contains("no records"), "it says {said}");
    let absent = of("/absent").run()?;
    ensure!(absent.stderr.contains("there is no file /absent"), "it says {}", absent.stderr);
    ensure!(absent.status.code() == Some(1), "it ends with {}", absent.status);
    scene.add(0)?;
    // The writer was killed in the middle of a line.
    fs::File::options().append(true).open(log(&scene))?.write_all(b"{\"time\":\"2026-01-01T00:0")?;
    scene.add(1)?;
    fs::File::options().append(true).open(log(&scene))?.write_all(b"nonsense\n")?;
    fs::rename(log(&scene), scene.lab.path("audit.jsonl.1"))?;
    scene.del(0)?;
    let all = weir(&scene, "")?;
    let order: Vec<&str> = all.lines().filter_map(|line| line.split_whitespace().next()).collect();
    ensure!(order.is_sorted() && order.len() > 20, "the order is {all}");
    for words in ["done   ADD", "c1/eth0", "c2/eth0", "done   DEL", "create-veth"] {
        ensure!(all.contains(words), "it does not say {words:?}: {all}");
    }
    let count = |arguments: &str| anyhow::Ok(weir(&scene, arguments)?.lines().count());
    let total = all.lines().count();
    ensure!(count("--container c1")? + count("--container c2")? == total, "by containers: {total}");
    ensure!(count("--network n")? == total && count("--network other")? == 0, "by networks");
    ensure!(count("--plugin host-local")? > 0 && count("--plugin bridge")? < total, "by plugins");
    ensure!(
        count("--operation create-veth")? == 2,
        "by operations: {}",
        weir(&scene, "--operation create-veth")?
    );
    ensure!(count("--outcome done")? == total && count("--outcome denied")? == 0, "by outcomes");
    ensure!(count("--since 1h")? == total && count("--since 2999-01-01T00:00:00Z")? == 0, "by times");
    ensure!(count("--tenant team-a")? == 0, "by tenants");
    let said = of("--tenant team-a").run()?.stderr;
    ensure!(said.contains("that are no records: 2") && said.contains("no record in"), "it says {said}");
    let like_plans = of("").arguments(["--operation", "create veth"]).succeed()?;
    ensure!(like_plans.lines().count() == 2, "by operations, as plans name them: {like_plans}");
    let json = weir(&scene, "--json --operation create-veth --container c2")?;
    let entry: Value = serde_json::from_str(json.trim())?;
    ensure!(entry["container"] == "c2" && entry["outcome"] == "done", "it says {json}");
    let file = scene.lab.path("audit.jsonl.1");
    ensure!(count(&file.display().to_string())? < total, "a file that is named is not read");
    Ok(())
}

fn named() -> anyhow::Result<()> {
    let scene = Scene::new(&RICH, 1)?;
    let (directory, path) = (scene.lab.path("policy"), scene.lab.path("named.jsonl"));
    fs::create_dir(&directory)?;
    fs::write(directory.join("policy.toml"), format!("[audit]\nfile = {:?}\n", path.display().to_string()))?;
    for path in [&directory, &directory.join("policy.toml")] {
        let mode = if path.is_dir() { 0o755 } else { 0o644 };
        fs::set_permissions(path, PermissionsExt::from_mode(mode))?;
    }
    let call = scene.call("ADD", 0).variable("WEIR_POLICY_DIR", &directory);
    scene.lab.run(&call.without_variable("WEIR_AUDIT_FILE"))?.success()?;
    let audit = |arguments: &str| {
        let command = format!("{} audit {arguments}", scene.lab.bin.join("weir").display());
        line(command.trim()).variable("WEIR_POLICY_DIR", &directory)
    };
    ensure!(audit("").succeed()?.contains("create-veth"), "it says {}", audit("").succeed()?);
    // The environment comes before the policy, an argument before either.
    let elsewhere = audit("").variable("WEIR_AUDIT_FILE", log(&scene)).run()?.stderr;
    ensure!(elsewhere.contains("no records"), "it says {elsewhere}");
    let argument = audit(&path.display().to_string()).variable("WEIR_AUDIT_FILE", log(&scene)).succeed()?;
    ensure!(argument.contains("create-veth"), "it says {argument}");
    // Who looks for what happened is not kept from it by a policy in pieces.
    fs::write(directory.join("policy.toml"), "[audit\n")?;
    let output = audit("").variable("WEIR_AUDIT_FILE", &path).run()?;
    ensure!(output.stdout.contains("create-veth"), "it says {}", output.stdout);
    ensure!(output.stderr.contains("policy.toml:1:"), "it says {}", output.stderr);
    Ok(())
}

fn terminal() -> anyhow::Result<()> {
    let scene = Scene::new(&RICH, 1)?;
    let call =
        scene.call("ADD", 0).variable("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAMESPACE=a\u{1b}[2J\u{202e}b");
    scene.lab.run(&call)?.success()?;
    let text = fs::read_to_string(log(&scene))?;
    let forged = r#"{"time":"2026-01-01T00:00:00.000000Z","object":"\u001b[2Jforged","outcome":"done"}"#;
    fs::write(log(&scene), format!("{text}{forged}\n"))?;
    for shown in [text, weir(&scene, "")?, weir(&scene, "--json")?] {
        let bad = shown.chars().find(|c| (c.is_control() && *c != '\n') || *c == '\u{202e}');
        ensure!(bad.is_none(), "{bad:?} is in {shown}");
    }
    ensure!(weir(&scene, "")?.contains("[2Jforged"), "the forged line is not shown");
    Ok(())
}

fn follow() -> anyhow::Result<()> {
    let scene = Scene::new(&RICH, 1)?;
    let mut child = Command::new(scene.lab.bin.join("weir"))
        .args(["audit", "--follow", "--json"])
        .env("WEIR_AUDIT_FILE", log(&scene))
        .stdout(Stdio::piped())
        .spawn()?;
    let out = child.stdout.take().context("it has a standard output")?;
    let seen = std::thread::spawn(move || {
        BufReader::new(out).lines().map_while(Result::ok).find(|line| line.contains("unmasquerade"))
    });
    let done = scene
        .add(0)
        .and_then(|_| Ok(fs::rename(log(&scene), scene.lab.path("audit.jsonl.1"))?))
        .and_then(|()| scene.del(0));
    // It sees the records within moments; whatever happens, it has to end.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !seen.is_finished() && std::time::Instant::now() < deadline {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    child.kill()?;
    child.wait()?;
    done?;
    ensure!(matches!(seen.join(), Ok(Some(_))), "it did not show the DEL");
    Ok(())
}
