//! Plans under a policy.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use anyhow::ensure;
use serde_json::{Value, json};

use super::super::network::{BRIDGE, RICH};
use super::super::scene::Scene;
use super::planner::{audited, operations, plan, plan_for, planned};
use crate::Test;
use crate::lab::{guest, line};

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new("plan: each operation names the rule that allows it, or the refusal", rules),
        Test::new("plan: tenants are told apart by their arguments", tenants),
        Test::new("plan: a policy with an error allows nothing", broken_policy),
        Test::new("plan: an installed plugin is run from the store, as far as it may", installed),
    ]
}

pub(super) fn write_policy(scene: &Scene, text: &str) -> anyhow::Result<String> {
    let directory = scene.lab.path("policy");
    fs::create_dir_all(&directory)?;
    fs::set_permissions(&directory, Permissions::from_mode(0o755))?;
    let path = directory.join("policy.toml");
    fs::write(&path, text)?;
    fs::set_permissions(&path, Permissions::from_mode(0o644))?;
    Ok(path.display().to_string())
}

/// The operations of a plan with this name.
pub(super) fn named<'a>(value: &'a Value, name: &str) -> Vec<&'a Value> {
    let all = value["operations"].as_array().into_iter().flatten();
    all.filter(|operation| operation["operation"] == name).collect()
}

pub(super) const RULES: &str = r#"bundled = "by-rule"
[[allow]]
name = "all"
plugin = ["bridge", "host-local"]
bridges = ["cni0"]
addresses = ["10.1.0.0/24", "fd00:1::/64"]
links = ["veth*"]
"#;

fn rules() -> anyhow::Result<()> {
    let scene = Scene::new(&RICH, 1)?;
    let path = write_policy(&scene, RULES)?;
    let place = |line: u32| format!("{path}:{line} (rule \"all\")");
    let value = plan_for(&scene, &scene.config, "add", 0)?;
    ensure!(value["outcome"] == "success", "it says {value}");
    for (operation, lines) in [
        ("reserve-next", vec![6]),
        ("create-bridge", vec![5]),
        ("create-veth", vec![7, 5]),
        ("masquerade", vec![6]),
    ] {
        let found = named(&value, operation);
        ensure!(!found.is_empty(), "{operation} is not in {value}");
        let expected: Vec<String> = lines.into_iter().map(place).collect();
        for found in found {
            ensure!(found["allowed"] == true && found["rules"] == json!(expected), "{operation} is {found}");
        }
    }
    // Refused early, late, and by a rule that forbids.
    for (from, to, operation, reason) in [
        ("fd00:1::/64", "fd00:2::/64", "reserve-next", format!("change {path}:6 (rule \"all\"): addresses")),
        ("\"cni0\"", "\"cni1\"", "link", "bridges = [\"cni1\", \"cni0\"]".to_owned()),
        ("bridges = [\"cni0\"]", "bridges = [\"cni*\"]\nroutes = []", "", String::new()),
        (
            "\"veth*\"]\n",
            "\"veth*\"]\n[[deny]]\nbridges = \"cni0\"\n",
            "create-bridge",
            format!("{path}:9 forbids it"),
        ),
    ] {
        write_policy(&scene, &RULES.replace(from, to))?;
        let value = plan_for(&scene, &scene.config, "add", 0)?;
        let skip = audited(&scene, 0)?.len();
        let reply = scene.lab.run(&scene.call("ADD", 0))?;
        let (expected, plan) = (operations(&audited(&scene, skip)?), planned(&value)?);
        ensure!(plan == expected, "planned was {plan:#?}, done is {expected:#?}");
        if operation.is_empty() {
            reply.success()?;
            scene.del(0)?;
            scene.lab.on_node("ip link delete cni0")?;
            continue;
        }
        let error = reply.failure()?;
        ensure!(value["error"]["code"] == error.code, "planned was {value}, it is {error:?}");
        let denied: Vec<&Value> = value["operations"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|op| op["allowed"] == false)
            .collect();
        let [denied] = denied.as_slice() else { anyhow::bail!("denied are {denied:?}") };
        let text = denied["reason"].as_str().unwrap_or_default();
        ensure!(text.contains(&reason), "{operation}: it does not say {reason:?}: {denied}");
    }
    Ok(())
}

fn installed() -> anyhow::Result<()> {
    let scene = Scene::new(&BRIDGE, 1)?;
    fs::set_permissions(scene.lab.path("weir"), Permissions::from_mode(0o755))?;
    let component = guest::component("fixed")?;
    let weir = scene.lab.bin.join("weir");
    let add = format!("{} plugin add --type fixed {}", weir.display(), component.display());
    let add = line(&add)
        .variable("WEIR_STATE_DIR", scene.lab.path("weir"))
        .variable("WEIR_POLICY_DIR", scene.lab.path("policy"));
    scene.lab.node.enter(|| add.succeed())?;
    let mut config = scene.config.clone();
    config["ipam"] = json!({"type": "fixed"});
    let value = plan_for(&scene, &config, "add", 0)?;
    let [denied] = named(&value, "import")[..] else { anyhow::bail!("it says {value}") };
    ensure!(denied["allowed"] == false && value["error"]["code"] == 100, "it says {value}");
    write_policy(&scene, "[[allow]]\nplugin = \"fixed\"\naddresses = \"10.77.0.0/24\"\n")?;
    let value = plan_for(&scene, &config, "add", 0)?;
    ensure!(value["result"]["ips"][0]["address"] == "10.77.0.7/24", "it says {value}");
    Ok(())
}

fn tenants() -> anyhow::Result<()> {
    let scene = Scene::new(&BRIDGE, 0)?;
    write_policy(&scene, "[[deny]]\ntenant = \"evil\"\naddresses = \"10.1.0.0/24\"\n")?;
    for (tenant, expected) in [("good", true), ("evil", false)] {
        let args = format!("IgnoreUnknown=1;K8S_POD_NAMESPACE={tenant}");
        let said = plan(&scene, &scene.config, &["--args", &args])?;
        ensure!(said.success == expected, "{tenant}: {}", said.text);
    }
    Ok(())
}

fn broken_policy() -> anyhow::Result<()> {
    let scene = Scene::new(&BRIDGE, 1)?;
    scene.add(0)?;
    let path = write_policy(&scene, "[[allow]]\nplugins = \"bridge\"\n")?;
    let value = plan_for(&scene, &scene.config, "add", 0)?;
    let text = value["error"]["msg"].as_str().unwrap_or_default();
    ensure!(value["error"]["code"] == 100 && text.contains(&format!("{path}:2:1")), "it says {value}");
    let value = plan_for(&scene, &scene.config, "del", 0)?;
    ensure!(value["outcome"] == "success", "it says {value}");
    let skip = audited(&scene, 0)?.len();
    scene.del(0)?;
    let (expected, plan) = (operations(&audited(&scene, skip)?), planned(&value)?);
    ensure!(plan == expected && plan.iter().all(|line| line.contains(" undo ")), "planned was {plan:#?}");
    Ok(())
}
