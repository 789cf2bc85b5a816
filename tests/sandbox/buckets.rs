//! Components that misuse their bucket, want that of others, or fail with
//! changes in it.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::stage::{Expected, RULE, Stage};
use crate::Test;
use crate::lab::{changes, line};

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new("sandbox: keys of a bucket lead nowhere", keys),
        Test::new("sandbox: the buckets of other plugins and networks are out of reach", strangers),
        Test::new("sandbox: a bucket or value that was planted is not followed", planted),
        Test::new("sandbox: a torn value of a bucket is none, and can be replaced", torn),
        Test::new("sandbox: a bucket takes no large values, many keys or floods of changes", floods),
        Test::new("sandbox: CHECK and STATUS read a bucket, and do not change it", readers),
        Test::new("sandbox: a bucket that was given back is not used again", closed),
        Test::new("sandbox: without the interface there is no bucket", ungranted),
        Test::new("sandbox: a plan changes no bucket", plan),
    ]
}

/// A step that sets a value.
pub(super) fn set(key: &str, value: &str) -> Value {
    json!({ "do": "set-value", "key": key, "value": value })
}

/// A step that removes a value.
pub(super) fn remove(key: &str) -> Value {
    json!({ "do": "remove-value", "key": key })
}

/// A step that fails with all values.
pub(super) fn tell() -> Value {
    json!([{ "do": "tell-values" }])
}

/// What it says then.
pub(super) fn told(values: &[(&str, &str)]) -> Expected {
    let mut words = vec![format!("the bucket has {} values", values.len())];
    words.extend(values.iter().map(|(key, value)| format!("[{key}={value}]")));
    Expected { code: 7, words, denied: None }
}

/// A stage on which the ADD of the other container has done this.
pub(super) fn prepared(policy: &str, steps: Value) -> anyhow::Result<Stage> {
    let mut stage = Stage::new(policy)?;
    other_add(&stage, steps)?;
    stage.accept()?;
    Ok(stage)
}

/// ADD of the other container, which has to succeed.
pub(super) fn other_add(stage: &Stage, steps: Value) -> anyhow::Result<()> {
    let mut config = stage.config();
    config["attack"]["ADD"] = steps;
    stage.answer(&stage.call_of("hostile", "ADD", 1, "eth5").config(&config))?.success()?;
    Ok(())
}

/// A path in the directory of the buckets.
pub(super) fn path(stage: &Stage, name: &str) -> PathBuf {
    stage.lab.path("weir/buckets").join(name)
}

fn keys() -> anyhow::Result<()> {
    let mut stage = Stage::new(RULE)?;
    let before = stage.lab.digest()?;
    let long = "\u{10ffff}".repeat(32);
    // The last two are the same letter in two spellings.
    let keys = [
        "../x",
        "../../attachments/x",
        "/etc/passwd",
        "\0",
        ".",
        "..",
        ".unfinished",
        "a",
        "A",
        "a ",
        "\u{1b}[2J",
        &long,
        "\u{e9}",
        "e\u{301}",
    ];
    let steps = keys.iter().enumerate().map(|(number, key)| set(key, &number.to_string())).collect();
    stage.answer(&stage.call("ADD", steps))?.success()?;
    let made = changes(&before, &stage.lab.digest()?);
    let is_value = |change: &&String| change.starts_with("+ bucket/hostile/hostile/");
    ensure!(
        made.len() == keys.len() && made.iter().filter(is_value).count() == keys.len(),
        "there is {made:#?}"
    );
    stage.accept()?;
    for (number, key) in keys.iter().enumerate() {
        let step = json!([{ "do": "get-value", "key": key }]);
        stage.fails(step, &Expected::failure(7, &[&format!("={number}]")]))?;
    }
    for step in ["set-value", "remove-value", "get-value"] {
        for (repeat, words) in
            [(0, "must not be empty"), (129, "has 129 bytes"), (1 << 20, "has 1048576 bytes")]
        {
            let key = if repeat == 0 { "" } else { "k" };
            let step = json!([{ "do": step, "key": key, "repeat": repeat }]);
            stage.fails(step, &Expected::failure(7, &[words]))?;
        }
    }
    let steps = keys.iter().map(|key| remove(key)).collect();
    stage.answer(&stage.call("DEL", steps))?.silence()?;
    let left = changes(&before, &stage.lab.digest()?);
    ensure!(left.is_empty(), "there is {left:#?}");
    // The log can be looked at, and names no value.
    let records = stage.records()?;
    let of_key =
        |record: &&Value| record["operation"] == "set-value" && record["object"] == "../../attachments/x";
    ensure!(records.iter().filter(of_key).count() == 1, "the records are {records:#?}");
    Ok(())
}

fn strangers() -> anyhow::Result<()> {
    let policy = RULE.replace("network = \"hostile\"", "network = \"hostile*\"");
    let mut stage = Stage::new(&policy)?;
    let mut config = stage.config();
    config["name"] = "hostile-2".into();
    config["attack"]["ADD"] = json!([set("secret", "of another network")]);
    stage.answer(&stage.call_with("ADD", &config))?.success()?;
    // The same as the bucket of another plugin.
    fs::create_dir(path(&stage, "hostile"))?;
    fs::set_permissions(path(&stage, "hostile"), Permissions::from_mode(0o700))?;
    let (from, to) = (path(&stage, "hostile-2/hostile"), path(&stage, "hostile/other"));
    stage.lab.on_node(&format!("cp -a {} {}", from.display(), to.display()))?;
    let name = fs::read_dir(&from)?.next().context("nothing was set")??.file_name();
    let name = name.to_string_lossy();
    stage.accept()?;
    stage.fails(tell(), &told(&[]))?;
    for key in [
        "secret",
        &name,
        &format!("../other/{name}"),
        &format!("../../hostile-2/hostile/{name}"),
        "../other/secret",
    ] {
        let step = json!([{ "do": "get-value", "key": key }]);
        let error = stage.fails(step, &Expected::failure(7, &["the bucket has 1 values"]))?;
        ensure!(!error.text.contains("of another network"), "{key}: it says {}", error.text);
        // Nor does it change them.
        stage
            .fails(json!([set(key, "mine"), remove(key), { "do": "panic" }]), &Expected::failure(101, &[]))?;
    }
    config["attack"]["ADD"] = tell();
    stage.call_fails(&stage.call_with("ADD", &config), &told(&[("secret", "of another network")])).map(drop)
}

fn planted() -> anyhow::Result<()> {
    let mut stage = prepared(RULE, json!([set("k", "1")]))?;
    let elsewhere = stage.lab.path("elsewhere");
    fs::create_dir(&elsewhere)?;
    let set_one = json!([set("k", "2")]);
    for name in ["weir/buckets/hostile/hostile", "weir/buckets/hostile", "weir/buckets"] {
        let (place, moved) = (stage.lab.path(name), stage.lab.path("moved"));
        fs::rename(&place, &moved)?;
        for target in [&elsewhere, &stage.lab.leases("calm"), &moved] {
            symlink(target, &place)?;
            stage.accept()?;
            let expected = Expected::failure(5, &["cannot be trusted: it is a symbolic link"]);
            stage.fails(set_one.clone(), &expected)?;
            stage.call_fails(&stage.call("STATUS", tell()), &expected)?;
            stage.answer(&stage.call("DEL", json!([])))?.silence()?;
            stage.unchanged()?;
            fs::remove_file(&place)?;
        }
        ensure!(fs::read_dir(&elsewhere)?.next().is_none(), "there is something in its place");
        fs::rename(&moved, &place)?;
        fs::set_permissions(&place, Permissions::from_mode(0o777))?;
        stage.accept()?;
        stage.fails(set_one.clone(), &Expected::failure(5, &["others may write to it"]))?;
        fs::set_permissions(&place, Permissions::from_mode(0o700))?;
    }
    // A link in the place of a value is replaced, and leads nowhere.
    let value = only_value(&stage)?;
    let target = elsewhere.join("target");
    fs::rename(&value, &target)?;
    symlink(&target, &value)?;
    stage.accept()?;
    let content = fs::read(&target)?;
    let get = json!([{ "do": "get-value", "key": "k" }]);
    stage.fails(get.clone(), &Expected::failure(5, &["it is a symbolic link"]))?;
    other_add(&stage, json!([set("k", "3")]))?;
    ensure!(fs::read(&target)? == content, "the link was followed");
    ensure!(fs::symlink_metadata(&value)?.is_file(), "the link is still there");
    stage.accept()?;
    stage.fails(get, &told(&[("k", "3")])).map(drop)
}

/// The file of the only value.
fn only_value(stage: &Stage) -> anyhow::Result<PathBuf> {
    let mut entries = fs::read_dir(path(stage, "hostile/hostile"))?;
    Ok(entries.next().context("nothing was set")??.path())
}

fn torn() -> anyhow::Result<()> {
    let mut stage = prepared(RULE, json!([set("k", "a value")]))?;
    let value = only_value(&stage)?;
    let whole = fs::read(&value)?;
    let mut flipped = whole.clone();
    flipped[whole.len() - 1] ^= 1;
    for content in [&whole[..whole.len() - 1], &whole[..3], &[], &flipped, &vec![b'x'; 1 << 20]] {
        fs::write(&value, content)?;
        stage.accept()?;
        let expected = Expected::failure(5, &["it is damaged, or not what weir wrote"]);
        stage.fails(json!([{ "do": "get-value", "key": "k" }]), &expected)?;
        stage.fails(tell(), &expected)?;
    }
    other_add(&stage, json!([set("k", "another")]))?;
    stage.accept()?;
    stage.fails(tell(), &told(&[("k", "another")])).map(drop)
}

fn floods() -> anyhow::Result<()> {
    let mut stage = Stage::new(RULE)?;
    stage.budget = 60.0;
    let many = |size: u32, count: u32| json!({ "do": "set-value", "key": "k", "size": size, "count": count });
    for (size, words) in [
        (16_385, "16385 bytes, at most 16384"),
        (3 << 20, "at most 16384"),
        (5 << 20, "hands over more than 4194304 bytes"),
    ] {
        stage.fails(json!([set("a", "1"), many(size, 1)]), &Expected::failure(103, &[words]))?;
    }
    stage.fails(json!([many(1, 1025)]), &Expected::failure(103, &["has 1024 keys, at most 1024"]))?;
    // What an ADD replaces has to be kept until it succeeds.
    other_add(&stage, json!([many(16_384, 20)]))?;
    stage.accept()?;
    let expected = Expected::failure(103, &["as many as can be put back"]);
    stage.fails(json!([many(1, 17)]), &expected)?;
    stage.fails(json!([{ "do": "remove-value", "key": "k", "count": 17 }]), &expected)?;
    stage.fails(json!([{ "do": "set-value", "key": "k0", "size": 16_384, "times": 20 }]), &expected)?;
    other_add(&stage, json!([many(1, 16)]))?;
    stage.accept()?;
    stage.write_policy(&format!("{RULE}[allow.limits]\nchanges = 10\n"))?;
    let expected = Expected::failure(103, &["plugin hostile made more than 10 changes in one call"]);
    stage.fails(json!([many(1, 1000)]), &expected)?;
    stage.fails(json!([{ "do": "set-value", "key": "k", "value": "x", "times": 1000 }]), &expected).map(drop)
}

fn readers() -> anyhow::Result<()> {
    let stage = Stage::new(RULE)?;
    for command in ["CHECK", "STATUS"] {
        stage.call_fails(&stage.call(command, tell()), &told(&[]))?;
        let expected = Expected::denied("set-value", &["set-value k", command]);
        stage.call_fails(&stage.call(command, json!([set("k", "2")])), &expected)?;
        ensure!(!stage.lab.path("weir/buckets").exists(), "{command} made a bucket");
    }
    let stage = prepared(RULE, json!([set("k", "1")]))?;
    for command in ["CHECK", "STATUS"] {
        stage.call_fails(&stage.call(command, tell()), &told(&[("k", "1")]))?;
        for (step, operation) in [(set("k", "2"), "set-value"), (remove("k"), "remove-value")] {
            let expected = Expected::denied(operation, &["plugin hostile may not", "k", command]);
            stage.call_fails(&stage.call(command, json!([step])), &expected)?;
        }
    }
    Ok(())
}

fn closed() -> anyhow::Result<()> {
    let stage = Stage::new(RULE)?;
    let expected = Expected::failure(101, &["plugin hostile", "unknown handle index"]);
    stage.fails(json!([{ "do": "use-closed-bucket" }]), &expected).map(drop)
}

fn ungranted() -> anyhow::Result<()> {
    let stage = Stage::new(&RULE.replace("\"weir:store/*\"", "\"weir:store/leases\", \"weir:store/files\""))?;
    stage.fails(json!([set("k", "1")]), &Expected::denied("import", &["weir:store/bucket"])).map(drop)
}

fn plan() -> anyhow::Result<()> {
    let stage = prepared(RULE, json!([set("a", "1"), set("b", "2")]))?;
    let (file, temporary) = (stage.lab.path("plan.json"), stage.lab.path("tmp"));
    fs::create_dir(&temporary)?;
    let planned = |steps: Value| -> anyhow::Result<Value> {
        let mut config = stage.config();
        config["attack"]["ADD"] = steps;
        fs::write(&file, config.to_string())?;
        let bin = stage.lab.bin.display();
        let program = line(&format!("{bin}/weir plan --json --cni-path {bin} --config {}", file.display()))
            .variable("WEIR_STATE_DIR", stage.lab.path("weir"))
            .variable("WEIR_POLICY_DIR", stage.lab.path("policy"))
            .variable("WEIR_AUDIT_FILE", stage.lab.path("audit.jsonl"))
            .variable("TMPDIR", &temporary);
        let output = stage.lab.node.enter(|| program.run())?;
        stage.unchanged()?;
        serde_json::from_str(&output.stdout).with_context(|| format!("{} {}", output.stdout, output.stderr))
    };
    let steps = json!([set("a", "10"), remove("b"), set("c", "3")]);
    let value = planned(steps.clone())?;
    let operations = value["operations"].as_array().context("there are no operations")?;
    let told_of: Vec<_> =
        operations.iter().map(|one| format!("{} {}", one["operation"], one["object"])).collect();
    let expected = ["\"set-value\" \"a\"", "\"remove-value\" \"b\"", "\"set-value\" \"c\""];
    ensure!(value["outcome"] == "success" && told_of == expected, "it says {value:#}");
    // What comes later in the plan sees it.
    let steps = json!([steps[0], steps[1], { "do": "tell-values" }]);
    let value = planned(steps)?;
    let text = value["error"]["msg"].as_str().unwrap_or_default();
    ensure!(text.contains("the bucket has 1 values: [a=10]"), "it says {value:#}");
    let undone = value.to_string();
    ensure!(undone.contains("undo set-value") && undone.contains("undo remove-value"), "it says {value:#}");
    Ok(())
}
