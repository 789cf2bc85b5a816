//! What becomes of changes in a bucket: those of an ADD that fails or is
//! killed go, all others stay.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use nix::fcntl::{Flock, FlockArg};
use serde_json::{Value, json};

use super::buckets::{other_add, path, prepared, remove, set, tell, told};
use super::stage::{Expected, RULE, Stage};
use crate::Test;
use crate::lab::Reply;

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new("sandbox: an ADD that fails leaves its bucket as it was", failed),
        Test::new("sandbox: an ADD that is killed while it sets values leaves its bucket as it was", killed),
        Test::new("sandbox: what another call has set in a bucket since is not taken back", overtaken),
        Test::new("sandbox: what a successful ADD, DEL or GC has set in a bucket stays", kept),
        Test::new("sandbox: a bucket that is held until the deadline makes others try again later", held),
    ]
}

/// Four changes of two values that exist and one that does not.
fn four_changes() -> Vec<Value> {
    vec![set("a", "10"), set("c", "3"), remove("b"), set("a", "11")]
}

fn with_two() -> anyhow::Result<Stage> {
    prepared(RULE, json!([set("a", "1"), set("b", "2")]))
}

fn failed() -> anyhow::Result<()> {
    let mut stage = with_two()?;
    stage.budget = 3.0;
    let address = json!({ "do": "answer-address", "address": "10.77.0.2", "length": 24 });
    for (end, code) in [
        (json!({ "do": "panic" }), 101),
        (json!({ "do": "fail", "code": 7, "message": "no" }), 7),
        (json!({ "do": "spin" }), 102),
        (address, 100),
    ] {
        for close in [false, true] {
            let mut steps = four_changes();
            if close {
                steps.push(json!({ "do": "close-buckets" }));
            }
            steps.push(end.clone());
            stage.fails(steps.into(), &Expected::failure(code, &[]))?;
        }
    }
    let undone = stage.records()?;
    let count = |name: &str| undone.iter().filter(|record| record["operation"] == name).count();
    ensure!(count("undo set-value") == 24 && count("undo remove-value") == 8, "the log is {undone:#?}");
    stage.fails(tell(), &told(&[("a", "1"), ("b", "2")])).map(drop)
}

fn killed() -> anyhow::Result<()> {
    let stage = with_two()?;
    let mut config = stage.config();
    config["cni.dev/valid-attachments"] = json!([{ "containerID": "c2", "ifname": "eth5" }]);
    let gc = stage.call_with("GC", &config);
    let cures = [("DEL", stage.call("DEL", json!([]))), ("GC", gc), ("ADD", stage.call("ADD", json!([])))];
    for (name, cure) in &cures {
        for change in 1..=4 {
            for moment in ["before", "after"] {
                let fault = format!("kill-{moment}:{change}");
                let add = stage.call("ADD", four_changes().into()).variable("WEIR_FAULT", &fault);
                let output = stage.lab.node.enter(|| add.program().run())?;
                ensure!(output.status.signal() == Some(nix::libc::SIGKILL), "{fault}: {}", output.status);
                stage.answer(cure)?.success()?;
                stage.unchanged().with_context(|| format!("{fault}, then {name}"))?;
            }
        }
    }
    stage.fails(tell(), &told(&[("a", "1"), ("b", "2")])).map(drop)
}

fn overtaken() -> anyhow::Result<()> {
    let mut stage = with_two()?;
    let slow = json!([set("a", "10"), set("c", "3"), { "do": "close-buckets" }, { "do": "spin" }]);
    let slow = stage.call("ADD", slow).variable("WEIR_TIMEOUT", "6");
    let keys = || fs::read_dir(path(&stage, "hostile/hostile")).map_or(0, Iterator::count);
    thread::scope(|scope| {
        let failing = scope.spawn(|| stage.answer(&slow));
        let deadline = Instant::now() + Duration::from_secs(5);
        while keys() < 3 {
            ensure!(Instant::now() < deadline, "nothing was set");
            thread::sleep(Duration::from_millis(5));
        }
        // To the very value that will be taken back.
        other_add(&stage, json!([set("a", "10")]))?;
        let error = failing.join().map_err(|_| anyhow::anyhow!("it panicked"))??.failure()?;
        ensure!(error.code == 102, "the code is {}: {}", error.code, error.text);
        anyhow::Ok(())
    })?;
    stage.accept()?;
    stage.fails(tell(), &told(&[("a", "10"), ("b", "2")])).map(drop)
}

fn kept() -> anyhow::Result<()> {
    let mut stage = with_two()?;
    // With a link of its own there is a journal, which DEL takes back.
    let mut steps = vec![json!({ "do": "create-veth", "near": "hv0", "far": "eth0" })];
    steps.extend(four_changes());
    let calls = [
        (stage.call("ADD", steps.into()), vec![("a", "11"), ("c", "3")]),
        (stage.call("DEL", json!([remove("c"), set("d", "4")])), vec![("a", "11"), ("d", "4")]),
        (stage.call("GC", json!([set("e", "5"), remove("d")])), vec![("a", "11"), ("e", "5")]),
        // Nothing of the attachment is left.
        (stage.call("DEL", json!([remove("a"), remove("a")])), vec![("e", "5")]),
    ];
    for (call, values) in calls {
        stage.answer(&call)?.success()?;
        stage.accept()?;
        stage.fails(tell(), &told(&values))?;
    }
    Ok(())
}

/// Whether somebody has the bucket open.
fn is_held(stage: &Stage) -> bool {
    let directory = File::open(path(stage, "hostile/hostile"));
    directory.is_ok_and(|file| Flock::lock(file, FlockArg::LockExclusiveNonblock).is_err())
}

fn held() -> anyhow::Result<()> {
    let mut stage = with_two()?;
    let greedy = json!([{ "do": "open-bucket" }, set("a", "10"), { "do": "spin" }]);
    let greedy = stage.call("ADD", greedy).variable("WEIR_TIMEOUT", "14");
    thread::scope(|scope| {
        let holding = scope.spawn(|| stage.answer(&greedy));
        let deadline = Instant::now() + Duration::from_secs(5);
        while !is_held(&stage) {
            ensure!(Instant::now() < deadline, "the bucket is not held");
            thread::sleep(Duration::from_millis(20));
        }
        let mut config = stage.config();
        config["attack"]["ADD"] = json!([set("z", "1")]);
        let started = Instant::now();
        let other = stage.answer(&stage.call_of("hostile", "ADD", 1, "eth6").config(&config))?.failure()?;
        ensure!(other.code == 11, "the code is {}: {}", other.code, other.text);
        ensure!(other.text.contains("another call had it open"), "it says {}", other.text);
        ensure!(started.elapsed() < Duration::from_secs(13), "it took {:?}", started.elapsed());
        let error = holding.join().map_err(|_| anyhow::anyhow!("it panicked"))??.failure()?;
        ensure!(error.code == 102, "the code is {}: {}", error.code, error.text);
        anyhow::Ok(())
    })?;
    stage.unchanged()?;
    // A plugin that opens it twice waits for itself, for no longer than it may.
    stage.budget = 0.6;
    let twice = json!([{ "do": "open-bucket" }, { "do": "open-bucket" }]);
    let Reply::Failure(error) = stage.answer(&stage.call("ADD", twice))? else {
        anyhow::bail!("it has the bucket twice")
    };
    ensure!([11, 102].contains(&error.code), "the code is {}: {}", error.code, error.text);
    stage.unchanged()
}
