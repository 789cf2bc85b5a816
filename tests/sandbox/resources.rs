//! Components that use up what they are given.

use anyhow::ensure;
use serde_json::{Value, json};

use super::stage::{Expected, RULE, Stage};
use crate::Test;
use crate::lab::Reply;

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new("sandbox: deadlines and traps do without the signals of whoever calls", blocked_signals),
        Test::new("sandbox: an endless loop ends with the runtime's time", endless_loop),
        Test::new("sandbox: an endless loop ends with the policy's time", policy_time),
        Test::new("sandbox: endless calls of the host end with the time", endless_calls),
        Test::new("sandbox: an endless loop in each command ends with the time", endless_everywhere),
        Test::new("sandbox: filling the memory ends at the limit", memory),
        Test::new("sandbox: the policy's memory limit is kept", policy_memory),
        Test::new("sandbox: endless recursion ends with the stack", recursion),
        Test::new("sandbox: a panic in each command and role ends the call", panics),
        Test::new("sandbox: a flood of handles ends at the limit", handles),
        Test::new("sandbox: a gigabyte of log lines is dropped", log_flood),
        Test::new("sandbox: a flood of empty log lines is dropped", empty_log_lines),
        Test::new("sandbox: lines of a log and errors reach no terminal", terminal),
        Test::new("sandbox: huge errors are cut", huge_errors),
        Test::new("sandbox: strange error codes stay codes", error_codes),
        Test::new("sandbox: handles that ended, or are of another type, end the plugin", bad_handles),
        Test::new("sandbox: a flood of changes ends at the policy's limit", change_flood),
        Test::new("sandbox: a flood of refused changes ends at the limit", refusal_flood),
        Test::new("sandbox: waiting for a link does not outlive the time", waiting),
    ]
}

/// Commands that are answered by the component in any case.
const ASKED: [&str; 3] = ["ADD", "CHECK", "STATUS"];

/// A stage whose calls have little time.
fn hurried() -> anyhow::Result<Stage> {
    let mut stage = Stage::new(RULE)?;
    stage.budget = 0.6;
    Ok(stage)
}

fn endless_loop() -> anyhow::Result<()> {
    let stage = hurried()?;
    let expected = Expected::failure(102, &["ADD did not finish within 600ms", "WEIR_TIMEOUT"]);
    stage.fails(json!([{ "do": "spin" }]), &expected).map(drop)
}

fn policy_time() -> anyhow::Result<()> {
    let stage = Stage::new(&format!("{RULE}[allow.limits]\ntime = \"300ms\"\n"))?;
    let expected = Expected::failure(102, &["within the 300ms that the policy gives it", "limits.time"]);
    for attack in ["spin", "spin-in-calls"] {
        stage.fails(json!([{ "do": attack }]), &expected)?;
    }
    Ok(())
}

fn endless_calls() -> anyhow::Result<()> {
    let stage = hurried()?;
    let expected = Expected::failure(102, &["ADD did not finish"]);
    stage.fails(json!([{ "do": "spin-in-calls" }]), &expected)?;
    // Questions to the kernel, and to the lease directory.
    for step in [
        json!({ "do": "find", "link": "lo", "side": "container" }),
        json!({ "do": "usage", "first": "10.66.0.1", "last": "10.66.0.9" }),
    ] {
        let mut step = step;
        step["times"] = u64::MAX.into();
        step["anyway"] = true.into();
        stage.fails(json!([step]), &expected)?;
    }
    Ok(())
}

fn endless_everywhere() -> anyhow::Result<()> {
    let stage = hurried()?;
    for command in ASKED {
        let call = stage.call(command, json!([{ "do": "spin" }]));
        let words = format!("{command} did not finish");
        stage.call_fails(&call, &Expected::failure(102, &[&words]))?;
    }
    // The runtime has to get rid of the container.
    let del = stage.call("DEL", json!([{ "do": "spin" }]));
    stage.call_fails(&del, &Expected::failure(102, &["DEL did not finish"]))?;
    let gc = stage.call("GC", json!([{ "do": "spin" }]));
    stage.call_fails(&gc, &Expected::failure(102, &["GC did not finish"])).map(drop)
}

fn memory() -> anyhow::Result<()> {
    let stage = Stage::new(RULE)?;
    let expected = Expected::failure(103, &["plugin hostile needs more than 33554432 bytes of memory"]);
    stage.fails(json!([{ "do": "fill-memory" }]), &expected).map(drop)
}

fn policy_memory() -> anyhow::Result<()> {
    let stage = Stage::new(&format!("{RULE}[allow.limits]\nmemory = \"4MiB\"\n"))?;
    let expected = Expected::failure(103, &["plugin hostile needs more than 4194304 bytes of memory"]);
    stage.fails(json!([{ "do": "fill-memory" }]), &expected).map(drop)
}

fn recursion() -> anyhow::Result<()> {
    let stage = Stage::new(RULE)?;
    let expected = Expected::failure(101, &["plugin hostile exhausted its stack"]);
    stage.fails(json!([{ "do": "recurse" }]), &expected).map(drop)
}

fn panics() -> anyhow::Result<()> {
    let stage = Stage::new(RULE)?;
    let panic = json!([{ "do": "panic", "text": "now" }]);
    let trapped = Expected::failure(101, &["plugin hostile trapped"]);
    let mut config = stage.config();
    for command in ["ADD", "DEL", "CHECK", "GC", "STATUS"] {
        config["attack"][command] = panic.clone();
        config["ipam"]["attack"][command] = panic.clone();
    }
    config["ipam"]["type"] = "hostile".into();
    // As the plugin that hands out addresses, for a plugin that makes links.
    let mut as_ipam = config.clone();
    as_ipam["type"] = "bridge".into();
    for config in [config, as_ipam] {
        for command in ["ADD", "DEL", "CHECK", "STATUS", "GC"] {
            stage.call_fails(&stage.call_with(command, &config), &trapped)?;
        }
    }
    Ok(())
}

fn handles() -> anyhow::Result<()> {
    let stage = Stage::new(RULE)?;
    let expected = Expected::failure(103, &["plugin hostile holds more than 1024 handles"]);
    stage.fails(json!([{ "do": "hoard-namespaces" }]), &expected)?;
    stage.write_policy(&format!("{RULE}[allow.limits]\nhandles = 8\n"))?;
    let expected = Expected::failure(103, &["plugin hostile holds more than 8 handles"]);
    stage.fails(json!([{ "do": "hoard-namespaces" }]), &expected).map(drop)
}

/// Runs an ADD that succeeds, and returns what it wrote to standard error.
fn said(stage: &Stage, attack: Value) -> anyhow::Result<String> {
    let call = stage.call("ADD", attack);
    stage.answer(&call)?.success()?;
    let output = stage.lab.node.enter(|| call.program().run())?;
    stage.answer(&stage.call("DEL", json!([])))?.silence()?;
    stage.unchanged()?;
    Ok(output.stderr)
}

fn log_flood() -> anyhow::Result<()> {
    let stage = Stage::new(RULE)?;
    let said =
        said(&stage, json!([{ "do": "log", "text": "0123456789abcdef", "repeat": 64, "times": 1 << 20 }]))?;
    ensure!(said.len() < 160 << 10, "it wrote {} bytes", said.len());
    ensure!(said.contains("plugin hostile logs too much"), "the loss is not noted");
    // One line that is larger than all that may be handed over.
    let expected = Expected::failure(103, &["plugin hostile hands over more than 4194304 bytes at once"]);
    stage.fails(json!([{ "do": "log", "text": "0123456789abcdef", "repeat": 1 << 19 }]), &expected).map(drop)
}

fn empty_log_lines() -> anyhow::Result<()> {
    let stage = Stage::new(RULE)?;
    let said = said(&stage, json!([{ "do": "log", "text": "", "times": 100_000 }]))?;
    ensure!(said.len() < 160 << 10, "it wrote {} bytes", said.len());
    ensure!(said.contains("plugin hostile logs too much"), "the loss is not noted");
    Ok(())
}

/// What a terminal obeys, and what turns text around.
const ESCAPES: &str = "\u{1b}[2J\u{1b}]0;title\u{7}\u{9b}31m\r\u{8}\u{202e}gnp.exe\u{2066}\u{200f}";

fn terminal() -> anyhow::Result<()> {
    let stage = Stage::new(RULE)?;
    let pair = json!({ "do": "create-veth", "near": "hv0", "far": "eth0" });
    stage.answer(&stage.call("ADD", json!([pair, { "do": "log", "text": ESCAPES }])))?.success()?;
    stage.answer(&stage.call("DEL", json!([{ "do": "panic", "text": ESCAPES }])))?.silence()?;
    let fail = json!([{ "do": "fail", "code": 7, "message": ESCAPES, "details": ESCAPES }]);
    stage.fails(fail.clone(), &Expected::failure(7, &["[2J", "gnp.exe"]))?;
    stage.answer(&stage.call("ADD", json!([pair])))?.success()?;
    // DEL says on standard error what it does not answer; a line of a
    // plugin's must not pass for one of weir's.
    let forged = json!([{ "do": "fail", "code": 7, "message": "one\nweir: forged", "details": ESCAPES }]);
    let call = stage.call("DEL", forged);
    let output = stage.lab.node.enter(|| call.program().run())?;
    ensure!(output.status.success(), "DEL failed: {}", output.stdout);
    ensure!(
        output.stderr.contains("DEL was done") && !output.stderr.contains("\nweir: forged"),
        "standard error is {}",
        output.stderr
    );
    // What is done to things with such names is recorded.
    let attack = json!([{ "do": "find", "link": ESCAPES }]);
    stage.fails(attack, &Expected::failure(7, &["is no name for a link"]))?;
    let attack = json!([{ "do": "set-sysctl", "link": "lo", "side": "container", "key": "accept_ra", "value": ESCAPES, "ipv6": true }]);
    let reply = stage.answer(&stage.call("ADD", attack))?;
    ensure!(matches!(reply, Reply::Failure(_)), "the kernel took {reply:?}");
    stage.unchanged()
}

fn huge_errors() -> anyhow::Result<()> {
    let stage = Stage::new(RULE)?;
    let attack = |repeat: u32| json!([{ "do": "fail", "code": 7, "message": "0123456789abcdef", "repeat": repeat, "details": "x" }]);
    let error = stage.fails(attack(1 << 16), &Expected::failure(7, &["0123456789abcdef"]))?;
    ensure!(error.text.len() < 32 << 10, "it has {} bytes", error.text.len());
    // More than it may hand over.
    stage
        .fails(
            attack(1 << 19),
            &Expected::failure(103, &["plugin hostile hands over more than 4194304 bytes at once"]),
        )
        .map(drop)
}

fn error_codes() -> anyhow::Result<()> {
    let stage = Stage::new(RULE)?;
    for (code, seen) in [(0_u32, 999_u64), (1, 1), (99, 99), (u32::MAX, u64::from(u32::MAX))] {
        let attack = json!([{ "do": "fail", "code": code, "message": "because", "details": "" }]);
        stage.fails(attack, &Expected::failure(seen, &["because"]))?;
    }
    Ok(())
}

fn bad_handles() -> anyhow::Result<()> {
    let stage = Stage::new(RULE)?;
    for (attack, word) in [
        (json!({ "do": "use-after-drop" }), "unknown handle index"),
        (json!({ "do": "use-as-another" }), "handle index"),
        (json!({ "do": "use-invented", "number": 77 }), "unknown handle index 77"),
        (json!({ "do": "use-invented", "number": 1 }), "handle index"),
        (json!({ "do": "use-invented", "number": u32::MAX }), "handle index"),
    ] {
        stage.fails(json!([attack]), &Expected::failure(101, &["plugin hostile", word]))?;
    }
    Ok(())
}

fn change_flood() -> anyhow::Result<()> {
    let stage = Stage::new(&format!("{RULE}[allow.limits]\nchanges = 20\n"))?;
    let attack = json!([
        { "do": "create-veth", "near": "hv0", "far": "eth0" },
        { "do": "add-address", "link": "eth0", "address": "10.66.0.5", "length": 24 },
        { "do": "set-down", "link": "hv0", "times": 1000 },
    ]);
    let expected = Expected::failure(103, &["plugin hostile made more than 20 changes in one call"]);
    stage.fails(attack, &expected).map(drop)
}

fn refusal_flood() -> anyhow::Result<()> {
    let stage = Stage::new(RULE)?;
    let attack =
        json!([{ "do": "create-veth", "near": "eth0", "far": "eth0", "times": 1 << 20, "anyway": true }]);
    let limit = Expected::failure(103, &["plugin hostile made more than 4096 changes in one call"]);
    let expected = Expected { denied: Some("create-veth"), ..limit };
    stage.fails(attack, &expected)?;
    let records = stage.records()?;
    ensure!(records.len() < 1200, "it left {} records", records.len());
    let last = records.last().map(ToString::to_string).unwrap_or_default();
    ensure!(last.contains("more operations were refused"), "the last record is {last}");
    Ok(())
}

fn waiting() -> anyhow::Result<()> {
    let stage = hurried()?;
    let expected = Expected::failure(102, &["ADD did not finish"]);
    for wait in ["wait-up", "settle"] {
        let attack = json!([
            { "do": "create-veth", "near": "hv0", "far": "eth0" },
            { "do": "set-down", "link": "eth0" },
            { "do": wait, "link": "hv0", "anyway": true, "times": 1 << 20 },
        ]);
        stage.fails(attack, &expected)?;
    }
    Ok(())
}

fn blocked_signals() -> anyhow::Result<()> {
    let stage = hurried()?;
    stage.lab.prepend("hostile", "exec env --block-signal=ALRM,SEGV,BUS,ILL,FPE")?;
    let error = stage.answer(&stage.call("ADD", json!([{ "do": "spin" }])))?.failure()?;
    ensure!(error.code == 102, "the code is {}: {}", error.code, error.text);
    let error = stage.answer(&stage.call("ADD", json!([{ "do": "recurse" }])))?.failure()?;
    ensure!(error.code == 101, "the code is {}: {}", error.code, error.text);
    stage.unchanged()
}
