//! Calls that are killed at random moments.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::{env, panic, thread};

use anyhow::{Context, bail, ensure};

use super::network::{Network, RICH};
use super::scene::{Allowed, Scene};
use crate::Test;
use crate::lab::Handle;

/// How many calls are killed, unless `WEIR_KILLS` says something else.
const KILLS: u32 = 1000;

/// Kills between two looks at the node.
const BATCH: u32 = 100;

/// Containers that runtimes work on at the same time.
const WORKERS: usize = 4;

pub(super) fn tests() -> Vec<Test> {
    vec![Test::new("storm: calls that are killed at random moments leave nothing behind", || storm(&RICH))]
}

/// A small generator of random numbers (xorshift), so that a run can be told
/// by its seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

fn storm(network: &'static Network) -> anyhow::Result<()> {
    let total = match env::var("WEIR_KILLS") {
        Ok(text) => text.parse().context("WEIR_KILLS is the number of calls to kill")?,
        Err(_) => KILLS,
    };
    let seed: u64 = SystemTime::now().duration_since(UNIX_EPOCH)?.subsec_nanos().into();
    let mut scene = Scene::new(network, 0)?;
    for number in 0..WORKERS {
        let handle = if number.is_multiple_of(2) { Handle::BindMount } else { Handle::Process };
        scene.add_container(&format!("s{number}"), handle)?;
    }
    let before = scene.state()?;
    let started = Instant::now();
    scene.add(0)?;
    let usual = started.elapsed();
    scene.del(0)?;
    let mut kills = 0;
    for batch in 0.. {
        if kills >= total {
            break;
        }
        kills += rage(&scene, seed + batch, usual).with_context(|| format!("seed {seed}, batch {batch}"))?;
        clean_up(&scene, batch).with_context(|| format!("seed {seed}, batch {batch}, {kills} kills"))?;
        scene
            .expect(&before, Allowed::Shared)
            .with_context(|| format!("seed {seed}, after {kills} kills"))?;
    }
    Ok(())
}

/// Kills calls of all workers; returns how many.
fn rage(scene: &Scene, seed: u64, usual: Duration) -> anyhow::Result<u32> {
    let killed = AtomicU32::new(0);
    thread::scope(|scope| {
        let work = |number: usize| {
            let mut dice = Dice((seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15 ^ (number as u64) << 17) | 1);
            while killed.load(Ordering::Relaxed) < BATCH {
                let command = if dice.roll(3) == 0 { "DEL" } else { "ADD" };
                // Some calls get to their end.
                let delay = Duration::from_micros(dice.roll(2 * usual.as_micros() as u64));
                if strike(scene, number, command, delay)? {
                    killed.fetch_add(1, Ordering::Relaxed);
                }
                // A runtime that gets no answer sends DEL, or tries again.
                if dice.roll(3) == 0 {
                    scene.del(number)?;
                }
            }
            anyhow::Ok(())
        };
        let running: Vec<_> = (0..WORKERS).map(|number| scope.spawn(move || work(number))).collect();
        running.into_iter().try_for_each(|run| run.join().unwrap_or_else(|cause| panic::resume_unwind(cause)))
    })?;
    Ok(killed.into_inner())
}

/// Starts a call and kills it after some time; whether it was still running.
fn strike(scene: &Scene, number: usize, command: &str, delay: Duration) -> anyhow::Result<bool> {
    use std::io::{Read, Write};
    use std::os::unix::process::ExitStatusExt;
    let call = scene.call(command, number);
    let mut child = scene.lab.node.enter(|| call.program().start())?;
    let mut input = child.stdin.take().context("the call has a standard input")?;
    // It may be that fast that nothing of it is read.
    let _ = input.write_all(call.program().input_bytes());
    drop(input);
    thread::sleep(delay);
    child.kill()?;
    let status = child.wait()?;
    if status.signal() == Some(nix::libc::SIGKILL) {
        return Ok(true);
    }
    let mut answer = String::new();
    child.stdout.take().context("the call has a standard output")?.read_to_string(&mut answer)?;
    // A second ADD without a DEL may be refused; DEL never.
    match (command, status.code()) {
        (_, Some(0)) | ("ADD", Some(1)) => Ok(false),
        _ => bail!("{command} ended with {status}: {answer}"),
    }
}

/// Deletes or collects everything.
fn clean_up(scene: &Scene, batch: u64) -> anyhow::Result<()> {
    if !batch.is_multiple_of(2) {
        return scene.gc(&[]);
    }
    for number in 0..WORKERS {
        if number.is_multiple_of(3) { scene.del_without_netns(number)? } else { scene.del(number)? }
    }
    ensure!(scene.leased().is_empty(), "leases are left: {:?}", scene.leased());
    Ok(())
}
