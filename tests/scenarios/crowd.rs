//! Many calls at the same time.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Mutex;
use std::{panic, thread};

use anyhow::{Context, ensure};

use super::network::{BRIDGE, Network, RICH};
use super::scene::{Allowed, Scene, addresses};
use crate::Test;
use crate::lab::{Handle, Reply};

/// How many calls run at the same time.
const CALLERS: usize = 16;

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new("crowd: 16 processes attach and detach 200 containers", || crowd(&BRIDGE, 200)),
        Test::new("crowd: 16 processes attach and detach 50 containers with everything", || crowd(&RICH, 50)),
        Test::new("crowd: one of several ADDs of one container succeeds", one_of_several),
        Test::new("crowd: containers come and go at the same time", || come_and_go(&RICH, 16, 6)),
    ]
}

/// Does something with all containers, by as many threads as there are
/// callers, each of which runs one process at a time.
fn by_all_callers(count: usize, work: impl Fn(usize) -> anyhow::Result<()> + Sync) -> anyhow::Result<()> {
    let waiting = Mutex::new((0..count).rev().collect::<Vec<_>>());
    let next = || waiting.lock().ok()?.pop();
    let caller = || {
        while let Some(number) = next() {
            work(number).with_context(|| format!("container {number}"))?;
        }
        anyhow::Ok(())
    };
    thread::scope(|scope| {
        let running: Vec<_> = (0..CALLERS).map(|_| scope.spawn(caller)).collect();
        running.into_iter().try_for_each(|run| run.join().unwrap_or_else(|cause| panic::resume_unwind(cause)))
    })
}

fn crowded(network: &'static Network, count: usize) -> anyhow::Result<Scene> {
    let mut scene = Scene::new(network, 0)?;
    for number in 0..count {
        scene.add_container(&format!("crowd{number}"), Handle::BindMount)?;
    }
    Ok(scene)
}

fn crowd(network: &'static Network, count: usize) -> anyhow::Result<()> {
    let scene = crowded(network, count)?;
    let before = scene.state()?;
    let results = Mutex::new(Vec::new());
    by_all_callers(count, |number| {
        let result = scene.add(number)?;
        results.lock().map_err(|_| anyhow::anyhow!("a caller panicked"))?.push((number, result));
        Ok(())
    })?;
    let results = results.into_inner()?;
    ensure!(results.len() == count, "there are {} results", results.len());
    let mut all = BTreeSet::new();
    for (number, result) in &results {
        for address in addresses(result)? {
            ensure!(
                all.insert(address.clone()),
                "{address} was handed out twice, the second time to {number}"
            );
        }
        ensure!(has_interface(&scene, *number)?, "container {number} has no eth0");
    }
    let leased: BTreeSet<String> = scene.leased().into_iter().collect();
    ensure!(leased == all, "leases are not the addresses in use: {:?}", leased.symmetric_difference(&all));
    ensure!(scene.journals().len() == count, "there are {} journals", scene.journals().len());
    by_all_callers(count, |number| scene.del(number))?;
    scene.expect(&before, Allowed::Shared)
}

/// Callers that attach and detach their own container again and again.
fn come_and_go(network: &'static Network, count: usize, rounds: usize) -> anyhow::Result<()> {
    let scene = crowded(network, count)?;
    let before = scene.state()?;
    by_all_callers(count, |number| {
        for _ in 0..rounds {
            let result = scene.add(number)?;
            scene.check(number, &result)?;
            scene.del(number)?;
        }
        Ok(())
    })?;
    scene.expect(&before, Allowed::Shared)
}

fn one_of_several() -> anyhow::Result<()> {
    let scene = Scene::new(&RICH, 1)?;
    let before = scene.state()?;
    let succeeded = Mutex::new(Vec::new());
    by_all_callers(8, |_| {
        if let Reply::Success(Some(result)) = scene.lab.run(&scene.call("ADD", 0))? {
            succeeded.lock().map_err(|_| anyhow::anyhow!("a caller panicked"))?.push(result);
        }
        Ok(())
    })?;
    let succeeded = succeeded.into_inner()?;
    ensure!(succeeded.len() == 1, "{} ADDs succeeded", succeeded.len());
    scene.check(0, &succeeded[0])?;
    ensure!(scene.leased().len() == 2, "leased are {:?}", scene.leased());
    scene.del(0)?;
    scene.expect(&before, Allowed::Shared)
}

fn has_interface(scene: &Scene, number: usize) -> anyhow::Result<bool> {
    let links = scene.lab.containers[number]
        .namespace
        .enter(|| Ok(fs::read_to_string("/proc/thread-self/net/dev")?))?;
    Ok(links.contains("eth0:"))
}
