//! GC: what belongs to no attachment goes, everything else stays.

use std::fs;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::network::{BRIDGE, NETWORKS, Network, RICH, native};
use super::scene::{Allowed, Scene, addresses};
use crate::Test;
use crate::lab::{Facts, Handle, changes};

pub(super) fn tests() -> Vec<Test> {
    let mut tests = vec![
        Test::new("garbage: GC with null lists, as of CRI-O, removes everything", null_lists),
        Test::new("garbage: GC keeps what either of both keys lists", both_keys),
        Test::new("garbage: GC without any list changes nothing", no_list),
        Test::new("garbage: GC twice is GC once", twice),
        Test::new("garbage: GC releases leases that other plugins made", foreign_leases),
        Test::new("garbage: GC and ADD do not mind torn leases", torn_leases),
        Test::new("garbage: GC keeps other interfaces of a container apart", other_interface),
        Test::new("garbage: GC leaves networks with similar names alone", similar_networks),
        Test::new("garbage: GC removes elements whose journal was lost", lost_journal),
        Test::new("garbage: GC cleans up after containers whose namespaces are gone", gone),
        Test::new("garbage: a journal that was torn at any byte does no harm", torn_journal),
        Test::new("garbage: what another boot left is not undone in this one", other_boot),
    ];
    for network in NETWORKS.iter().filter(|network| network.version == "1.1.0") {
        tests.push(Test::new(
            format!("garbage: GC keeps what is valid and removes the rest of {}", network.name),
            || keeps_valid(network),
        ));
        let name =
            format!("garbage: GC leaves a container alone that got another one's path, on {}", network.name);
        tests.push(Test::new(name, || reused_path(network)));
    }
    tests
}

/// A node with two attached containers, c1 and c2, and the states before.
fn attached(network: &'static Network) -> anyhow::Result<(Scene, Facts)> {
    let scene = Scene::new(network, 2)?;
    let before = scene.state()?;
    scene.add(0)?;
    scene.add(1)?;
    scene.settled_state()?;
    Ok((scene, before))
}

fn null_lists() -> anyhow::Result<()> {
    let (scene, before) = attached(&RICH)?;
    scene.gc_with(json!({"cni.dev/attachments": null, "cni.dev/valid-attachments": null}))?;
    scene.expect(&before, Allowed::Shared)
}

fn both_keys() -> anyhow::Result<()> {
    let (scene, before) = attached(&RICH)?;
    let all = scene.settled_state()?;
    let of = |id: &str| json!([{"containerID": id, "ifname": "eth0"}]);
    scene.gc_with(json!({"cni.dev/attachments": of("c1"), "cni.dev/valid-attachments": of("c2")}))?;
    scene.expect(&all, Allowed::Marks)?;
    scene.gc_with(json!({"cni.dev/attachments": of("c3")}))?;
    scene.expect(&before, Allowed::Shared)
}

fn no_list() -> anyhow::Result<()> {
    let (scene, _) = attached(&RICH)?;
    let call = scene.call("ADD", 1).variable("CNI_IFNAME", "eth1").variable("WEIR_FAULT", "kill-after:6");
    ensure!(scene.survive(&call)?.is_none(), "ADD was not killed");
    let all = scene.settled_state()?;
    scene.gc_with(json!({}))?;
    scene.expect(&all, Allowed::Marks)
}

fn twice() -> anyhow::Result<()> {
    let (scene, _) = attached(&RICH)?;
    scene.gc(&["c1"])?;
    let once = scene.settled_state()?;
    scene.gc(&["c1"])?;
    scene.expect(&once, Allowed::Marks)
}

fn keeps_valid(network: &'static Network) -> anyhow::Result<()> {
    let scene = Scene::new(network, 2)?;
    let ifname = if network.plugin == "loopback" { "lo" } else { "eth0" };
    scene.add(0)?;
    let before = scene.settled_state()?;
    scene.add(1)?;
    scene.gc_with(json!({"cni.dev/valid-attachments": [{"containerID": "c1", "ifname": ifname}]}))?;
    scene.expect(&before, Allowed::Marks)?;
    scene.del(1).context("DEL of what was collected")?;
    scene.expect(&before, Allowed::Marks)
}

fn foreign_leases() -> anyhow::Result<()> {
    let (scene, before) = attached(&RICH)?;
    let path = scene.lab.leases("n");
    // As host-local writes them, with and without an interface.
    fs::write(path.join("10.1.0.50"), "gone\r\neth0")?;
    fs::write(path.join("10.1.0.51"), "ancient")?;
    fs::write(path.join("fd00:1::50"), "gone\r\neth0")?;
    fs::write(path.join("10.1.0.52"), "c1\r\neth1")?;
    let mut config = scene.config.clone();
    config["cniVersion"] = "1.0.0".into();
    config["ipam"] = json!({"type": "host-local", "subnet": "10.1.0.0/24"});
    match native("host-local") {
        Ok(native) => {
            let call = scene.lab.call_binary(native, "ADD").variable("CNI_CONTAINERID", "native");
            let call = call.variable("CNI_NETNS", "/dev/null").variable("CNI_IFNAME", "eth0").config(&config);
            scene.lab.run(&call)?.success().context("native host-local")?;
        }
        // Those above are enough.
        Err(_) => eprintln!("there is no native host-local"),
    }
    scene.gc(&["c1", "c2"])?;
    let mut leased = scene.leased();
    leased.sort();
    ensure!(leased == ["10.1.0.2", "10.1.0.3", "fd00:1::2", "fd00:1::3"], "leased are {leased:?}");
    scene.gc(&[])?;
    scene.expect(&before, Allowed::Shared)
}

fn torn_leases() -> anyhow::Result<()> {
    let scene = Scene::new(&BRIDGE, 2)?;
    let before = scene.state()?;
    scene.add(0)?;
    let path = scene.lab.leases("n");
    for (number, content) in [(3, ""), (4, "\0\0\0\0"), (5, "\r\n")] {
        fs::write(path.join(format!("10.1.0.{number}")), content)?;
    }
    let second = scene.add(1)?;
    ensure!(addresses(&second)? == ["10.1.0.3"], "the torn lease kept its address: {second}");
    scene.gc(&["c1", "c2"])?;
    ensure!(scene.leased() == ["10.1.0.2", "10.1.0.3"], "leased are {:?}", scene.leased());
    scene.del(1)?;
    scene.del(0)?;
    scene.expect(&before, Allowed::Shared)
}

fn other_interface() -> anyhow::Result<()> {
    let scene = Scene::new(&RICH, 1)?;
    scene.add(0)?;
    let before = scene.settled_state()?;
    let second = scene.call("ADD", 0).variable("CNI_IFNAME", "eth1");
    scene.lab.run(&second)?.success()?;
    scene.gc(&["c1"])?;
    scene.expect(&before, Allowed::Marks)
}

fn similar_networks() -> anyhow::Result<()> {
    let mut scene = Scene::new(&RICH, 3)?;
    scene.add(0)?;
    for (number, name) in [(1, "n2"), (2, "n.n")] {
        scene.config["name"] = name.into();
        scene.config["ipam"]["ranges"] = json!([[{"subnet": format!("10.1{number}.0.0/24")}], [{"subnet": format!("fd00:1{number}::/64")}]]);
        scene.config["bridge"] = format!("br{number}").into();
        scene.add(number)?;
    }
    // Elements of ports do not name a network.
    let others = |facts: Facts| -> Facts {
        let is_other = |key: &String| {
            let is_owned =
                key.starts_with("journal/") || (key.starts_with("nft/") && !key.contains("guarded"));
            is_owned && !key.contains("n:c1:")
        };
        facts.into_iter().filter(|(key, _)| is_other(key)).collect()
    };
    let before = others(scene.state()?);
    ensure!(before.len() >= 8, "the other networks have {before:?}");
    scene.config["name"] = "n".into();
    scene.gc(&[])?;
    let left = changes(&before, &others(scene.state()?));
    ensure!(left.is_empty(), "GC changed other networks: {left:?}");
    ensure!(scene.leased().len() == 4, "leased are {:?}", scene.leased());
    Ok(())
}

fn lost_journal() -> anyhow::Result<()> {
    let (mut scene, before) = attached(&RICH)?;
    let all = scene.settled_state()?;
    for journal in scene.journals() {
        fs::remove_file(journal)?;
    }
    scene.gc(&["c1", "c2"])?;
    let left: Vec<String> =
        changes(&all, &scene.state()?).into_iter().filter(|change| !change.contains(" journal/")).collect();
    ensure!(left.is_empty(), "GC took from valid attachments: {left:?}");
    scene.end_container(1)?;
    scene.gc(&["c1"])?;
    let facts = scene.state()?;
    let elements = facts.keys().filter(|key| key.starts_with("nft/") && key.contains("n:c2:")).count();
    ensure!(elements == 0, "{elements} elements of c2 are left");
    // The link is known to the container only; DEL finds it there.
    scene.del(0)?;
    scene.expect(&before, Allowed::Shared)
}

fn gone() -> anyhow::Result<()> {
    let (mut scene, before) = attached(&RICH)?;
    scene.end_container(1)?;
    scene.end_container(0)?;
    scene.gc(&[])?;
    scene.expect(&before, Allowed::Shared)
}

/// A runtime uses the path of a namespace again: the process id of a dead
/// container, or a mount point.
fn reused_path(network: &'static Network) -> anyhow::Result<()> {
    let ifname = if network.plugin == "loopback" { "lo" } else { "eth0" };
    let mut scene = Scene::new(network, 1)?;
    scene.add(0)?;
    let path = scene.lab.containers[0].path.clone();
    scene.end_container(0)?;
    let number = scene.add_container("c2", Handle::Process)?;
    let container = &mut scene.lab.containers[number];
    scene.lab.node.enter(|| container.namespace.bind(&path))?;
    container.path = path;
    scene.add(number)?;
    let of_second =
        |facts: Facts| -> Facts { facts.into_iter().filter(|(key, _)| key.starts_with("c2/")).collect() };
    let before = of_second(scene.settled_state()?);
    scene.gc_with(json!({"cni.dev/valid-attachments": [{"containerID": "c2", "ifname": ifname}]}))?;
    let changed = changes(&before, &of_second(scene.settled_state()?));
    ensure!(
        changed.is_empty(),
        "GC of c1 changed c2, which has its namespace path:\n  {}",
        changed.join("\n  ")
    );
    ensure!(
        scene.journals().iter().all(|path| path.to_string_lossy().contains(":c2:")),
        "c1's journal is left"
    );
    Ok(())
}

fn torn_journal() -> anyhow::Result<()> {
    let scene = Scene::new(&BRIDGE, 1)?;
    let before = scene.state()?;
    scene.add(0)?;
    let journals = scene.journals();
    let [journal] = journals.as_slice() else { anyhow::bail!("expected one journal: {journals:?}") };
    let text = fs::read(journal)?;
    scene.del(0)?;
    for length in (0..text.len()).step_by(7) {
        fs::write(journal, &text[..length])?;
        if length % 2 == 0 { scene.del(0) } else { scene.gc(&[]) }
            .with_context(|| format!("{length} bytes"))?;
        ensure!(scene.journals().is_empty(), "the journal of {length} bytes is left");
        fs::write(journal, &text[..length])?;
        let result = scene.add(0).with_context(|| format!("ADD after a journal of {length} bytes"))?;
        scene.check(0, &result)?;
        scene.del(0)?;
    }
    scene.expect(&before, Allowed::Shared)
}

/// Makes the journal one of an earlier boot of the node.
fn date_back(scene: &Scene) -> anyhow::Result<()> {
    for journal in scene.journals() {
        let text = fs::read_to_string(&journal)?;
        let (header, rest) = text.split_once('\n').context("a journal has a header")?;
        let mut header: Value = serde_json::from_str(header)?;
        ensure!(header["boot"].is_string(), "the header names no boot: {header}");
        header["boot"] = "00000000-0000-0000-0000-000000000000".into();
        fs::write(&journal, format!("{header}\n{rest}"))?;
    }
    Ok(())
}

/// After a reboot the leases are there, and nothing else; what looks like it
/// is something new. Without the component, so that the journal is alone.
fn other_boot() -> anyhow::Result<()> {
    let scene = Scene::new(&BRIDGE, 1)?;
    scene.add(0)?;
    let all = scene.settled_state()?;
    date_back(&scene)?;
    let call = scene.call("DEL", 0).variable("CNI_NETNS", "").variable("WEIR_FAULT", "trap-before:1");
    scene.silent(&call)?;
    ensure!(scene.journals().is_empty(), "the journal is left");
    ensure!(scene.leased().is_empty(), "leased are {:?}", scene.leased());
    let left = changes(&all, &scene.state()?);
    let left: Vec<&String> =
        left.iter().filter(|change| !change.contains(" journal/") && !change.contains(" leases/")).collect();
    ensure!(left.is_empty(), "DEL undid what this boot made: {left:?}");
    let scene = Scene::new(&RICH, 1)?;
    let before = scene.state()?;
    scene.add(0)?;
    date_back(&scene)?;
    scene.del(0)?;
    scene.expect(&before, Allowed::Shared)
}
