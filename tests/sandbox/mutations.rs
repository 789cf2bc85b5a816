//! Damaged components, as the store and the sandbox meet them. That none of
//! many more makes the store or the compiler fall over is shown in
//! `host/src/catalog`.

use std::fs;

use anyhow::ensure;
use serde_json::json;

use super::stage::{RULE, Stage};
use crate::Test;
use crate::lab::{guest, line};

pub(super) fn tests() -> Vec<Test> {
    vec![Test::new("sandbox: components with flipped bits are refused, or kept to the rules", flipped)]
}

/// How many damaged components are tried.
const COUNT: u64 = 60;

/// Numbers that look random, and are the same each time (xorshift64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 as usize
    }
}

fn flipped() -> anyhow::Result<()> {
    let whole = fs::read(guest::component("hostile")?)?;
    let policy = RULE.replace("plugin = \"hostile\"", "plugin = \"raw\"");
    let mut stage = Stage::of_component(&policy, &whole)?;
    stage.budget = 2.0;
    let path = stage.lab.path("flipped.wasm");
    let attack = json!([
        { "do": "create-veth", "near": "hv0", "far": "eth0", "bridge": "br-h" },
        { "do": "reserve-next", "first": "10.66.0.2", "last": "10.66.0.9" },
        { "do": "add-address", "link": "eth0", "address": "10.66.0.2", "length": 24 },
        { "do": "answer-address", "address": "10.66.0.2", "length": 24 },
    ]);
    let mut installed = 0;
    for seed in 1..=COUNT {
        let mut numbers = Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut bytes = whole.clone();
        for _ in 0..=numbers.next() % 3 {
            let place = numbers.next() % bytes.len();
            bytes[place] ^= 1 << (numbers.next() % 8);
        }
        fs::write(&path, bytes)?;
        let program = line(&format!(
            "{} plugin add {} --type raw",
            stage.lab.bin.join("weir").display(),
            path.display()
        ))
        .variable("WEIR_STATE_DIR", stage.lab.path("weir"))
        .variable("WEIR_POLICY_DIR", stage.lab.path("policy"));
        let output = stage.lab.node.enter(|| program.run())?;
        ensure!(
            matches!(output.status.code(), Some(0 | 1)) && !output.stderr.contains("thread '"),
            "seed {seed}: weir plugin add: {}: {}",
            output.status,
            output.stderr
        );
        if !output.status.success() {
            continue;
        }
        installed += 1;
        // Whatever it does, it is answered.
        stage.answer(&stage.call("ADD", attack.clone()))?;
        stage.answer(&stage.call("DEL", json!([])))?;
        stage.unchanged().map_err(|error| error.context(format!("seed {seed}")))?;
    }
    ensure!(installed > 0, "none of them could be installed, so that none was called");
    Ok(())
}
