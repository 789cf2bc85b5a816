//! ADDs that are killed: whatever comes next has to clean up.

use anyhow::{Context, ensure};

use super::network::{NETWORKS, Network, RICH};
use super::scene::{Allowed, Scene};
use crate::Test;
use crate::lab::{Facts, Handle};

/// More changes than this mean that a fault never ends.
const LIMIT: u32 = 80;

const MOMENTS: [&str; 2] = ["before", "after"];

/// What comes after an ADD that was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cure {
    Del,
    DelWithoutNetns,
    DelAfterTheEnd,
    Gc,
    GcAfterTheEnd,
    Add,
}

impl Cure {
    const ALL: [Self; 6] =
        [Self::Del, Self::DelWithoutNetns, Self::DelAfterTheEnd, Self::Gc, Self::GcAfterTheEnd, Self::Add];

    fn name(self) -> &'static str {
        match self {
            Self::Del => "DEL",
            Self::DelWithoutNetns => "DEL with an empty CNI_NETNS",
            Self::DelAfterTheEnd => "DEL after the namespace is gone",
            Self::Gc => "GC",
            Self::GcAfterTheEnd => "GC after the namespace is gone",
            Self::Add => "a new ADD",
        }
    }

    /// The cures that a network's version knows.
    fn of(network: &Network) -> Vec<Self> {
        let knows_gc = network.version == "1.1.0";
        Self::ALL
            .into_iter()
            .filter(|cure| knows_gc || !matches!(cure, Self::Gc | Self::GcAfterTheEnd))
            .collect()
    }
}

pub(super) fn tests() -> Vec<Test> {
    // One network with each cure after each kill, the others with the cures
    // in turn.
    let each = Cure::ALL.map(|cure| {
        let name = format!("kills: {} cleans up after a kill at any change of {}", cure.name(), RICH.name);
        Test::new(name, move || kill_everywhere(&RICH, &[cure]))
    });
    let all = NETWORKS.iter().filter(|network| network.name != RICH.name).map(|network| {
        let name = format!("kills: DEL, GC and ADD clean up after a kill at any change of {}", network.name);
        Test::new(name, || kill_everywhere(network, &Cure::of(network)))
    });
    each.into_iter().chain(all).collect()
}

fn kill_everywhere(network: &'static Network, cures: &[Cure]) -> anyhow::Result<()> {
    let mut turn = cures.iter().cycle();
    for change in 1..LIMIT {
        for moment in MOMENTS {
            let cure = *turn.next().context("there is a cure")?;
            let fault = format!("kill-{moment}:{change}");
            let was_killed =
                kill(network, &fault, cure).with_context(|| format!("{fault}, then {}", cure.name()))?;
            if !was_killed {
                ensure!(change > 1, "ADD makes no changes");
                return Ok(());
            }
        }
        // With an even number of cures each would meet one moment only.
        if cures.len().is_multiple_of(MOMENTS.len()) {
            turn.next();
        }
    }
    anyhow::bail!("ADD makes more than {LIMIT} changes")
}

/// One killed ADD on a fresh node; false if the fault is beyond its last
/// change.
fn kill(network: &'static Network, fault: &str, cure: Cure) -> anyhow::Result<bool> {
    let mut scene = Scene::new(network, 0)?;
    // Both kinds of namespaces in turn, so that both kinds of paths vanish.
    let handle = if fault.contains("before") { Handle::BindMount } else { Handle::Process };
    let number = scene.add_container("c1", handle)?;
    let before = scene.state()?;
    let call = scene.call("ADD", number).variable("WEIR_FAULT", fault);
    if let Some(reply) = scene.survive(&call)? {
        reply.success().context("ADD with a fault beyond its end")?;
        return Ok(false);
    }
    apply(&mut scene, number, cure, &before)?;
    Ok(true)
}

fn apply(scene: &mut Scene, number: usize, cure: Cure, before: &Facts) -> anyhow::Result<()> {
    match cure {
        Cure::Del => scene.del(number)?,
        Cure::DelWithoutNetns => {
            scene.del_without_netns(number)?;
            scene.expect(before, Allowed::Settings)?;
            scene.del_without_netns(number).context("once more")?;
            return scene.expect(before, Allowed::Settings);
        }
        Cure::DelAfterTheEnd => {
            let del = scene.end_container(number)?;
            scene.silent(&del)?;
            scene.expect(before, Allowed::Shared)?;
            return scene.silent(&del).context("once more");
        }
        Cure::Gc => scene.gc(&[])?,
        Cure::GcAfterTheEnd => {
            scene.end_container(number)?;
            scene.gc(&[])?;
            return scene.expect(before, Allowed::Shared);
        }
        Cure::Add => {
            let result = scene.add(number)?;
            scene.check(number, &result)?;
            scene.del(number)?;
        }
    }
    scene.expect(before, Allowed::Shared)?;
    scene.del(number).context("once more")?;
    scene.expect(before, Allowed::Shared)
}
