//! `weir plan`.

mod planner;
mod restricted;

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::json;

use super::network::{BRIDGE, NETWORKS, Network, RICH};
use super::scene::Scene;
use crate::Test;
use crate::lab::{line, require};
use planner::{Before, audited, config, mask_result, operations, plan, plan_for, planned};
use restricted::{RULES, named, write_policy};

pub(super) fn tests() -> Vec<Test> {
    let mut tests = vec![
        Test::new("plan: a container that does not exist yet is planned for", future),
        Test::new("plan: a loopback interface that was never up gets its addresses", loopback),
        Test::new("plan: an attachment that exists is refused as ADD refuses it", twice),
        Test::new("plan: what an interrupted ADD left is taken back first", interrupted),
        Test::new("plan: what an ADD that fails later would take back is shown", taken_back),
        Test::new("plan: CHECK says whether the attachment is as it was", check),
        Test::new("plan: DEL of what is gone does nothing", gone),
        Test::new("plan: an exhausted pool is noticed", exhausted),
        Test::new("plan: rules that were flushed are as good as there", flushed),
        Test::new("plan: the plugins of a list follow each other", list),
        Test::new("plan: a native plugin ends ADD, and is left out of DEL", native),
        Test::new("plan: the table says the same as JSON", table),
        Test::new("plan: without root it says what is missing", unprivileged),
        Test::new("plan: what cannot be planned is named", unfit),
    ];
    tests.extend(restricted::tests());
    tests.extend(NETWORKS.iter().map(|network| {
        Test::new(format!("plan: what it tells of {} is what happens", network.name), || as_planned(network))
    }));
    tests
}

/// The first container finds nothing, the second one what the first one's ADD
/// made.
fn as_planned(network: &'static Network) -> anyhow::Result<()> {
    let scene = Scene::new(network, 2)?;
    let config = config(&scene);
    for number in [0, 1] {
        let value = plan_for(&scene, &config, "add", number)?;
        let skip = audited(&scene, 0)?.len();
        let result = scene.lab.run(&scene.call("ADD", number).config(&config))?.success()?;
        let (expected, plan) = (operations(&audited(&scene, skip)?), planned(&value)?);
        if config["ipam"]["type"] == "native-host-local" {
            ensure!(value["outcome"] == "unknown" && !plan.is_empty(), "it says {value}");
            ensure!(expected.starts_with(&plan), "planned was {plan:#?}, done is {expected:#?}");
            continue;
        }
        ensure!(plan == expected, "planned was {plan:#?}, done is {expected:#?}");
        let (plan, result) = (mask_result(&value["result"]), mask_result(&result));
        ensure!(plan == result, "the planned result is {plan:#}, the real one {result:#}");
    }
    for number in [0, 1] {
        let value = plan_for(&scene, &config, "del", number)?;
        ensure!(value["outcome"] == "success", "DEL would fail: {value}");
        let skip = audited(&scene, 0)?.len();
        scene.silent(&scene.call("DEL", number).config(&config))?;
        let (expected, plan) = (operations(&audited(&scene, skip)?), planned(&value)?);
        ensure!(plan == expected, "planned was {plan:#?}, done is {expected:#?}");
    }
    Ok(())
}

/// ADD puts them back, which no plan can wait for.
fn flushed() -> anyhow::Result<()> {
    let scene = Scene::new(&RICH, 2)?;
    scene.add(0)?;
    let config = config(&scene);
    for table in ["inet", "bridge"] {
        scene.lab.on_node(&format!("nft flush table {table} weir"))?;
        let value = plan_for(&scene, &config, "add", 1)?;
        ensure!(value["outcome"] == "success", "ADD would fail: {value}");
    }
    Ok(())
}

fn future() -> anyhow::Result<()> {
    let scene = Scene::new(&RICH, 0)?;
    let said = plan(&scene, &scene.config, &["--json"])?;
    let value = said.json()?;
    ensure!(said.success && value["outcome"] == "success", "it says {value}");
    let interfaces = value["result"]["interfaces"].as_array().context("no interfaces")?;
    let sandbox = &interfaces[2]["sandbox"];
    ensure!(sandbox == "(the container's network namespace)", "the sandbox is {sandbox}");
    ensure!(!said.text.contains("/proc/self"), "it says {}", said.text);
    ensure!(planned(&value)?.contains(&"bridge set-up eth0 up".to_owned()), "it says {value}");
    // What is planned need not even be possible.
    let mut config = scene.config.clone();
    config["ipam"]["ranges"][0][0]["gateway"] = "10.9.0.1".into();
    let said = plan(&scene, &config, &["--json"])?;
    ensure!(!said.success, "it says {}", said.text);
    Ok(())
}

fn loopback() -> anyhow::Result<()> {
    let scene = Scene::new(&BRIDGE, 2)?;
    scene.lab.containers[1]
        .namespace
        .enter(|| Ok(fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1")?))?;
    let config = json!({"cniVersion": "1.0.0", "name": "n", "type": "loopback"});
    for (number, expected) in [(0, 2), (1, 1)] {
        let container = &scene.lab.containers[number];
        let netns = container.path.display().to_string();
        let arguments = ["--json", "--netns", &netns, "--ifname", "lo"];
        let value = plan(&scene, &config, &arguments)?.json()?;
        let call = scene.lab.call_for("loopback", "ADD", container, "lo").config(&config);
        let result = scene.lab.run(&call)?.success()?;
        ensure!(value["result"] == result, "the planned result is {value:#}, the real one {result:#}");
        ensure!(result["ips"].as_array().is_some_and(|ips| ips.len() == expected), "it is {result}");
    }
    Ok(())
}

fn twice() -> anyhow::Result<()> {
    for network in [&RICH, &NETWORKS[4]] {
        let scene = Scene::new(network, 1)?;
        scene.add(0)?;
        let value = plan_for(&scene, &scene.config, "add", 0)?;
        let skip = audited(&scene, 0)?.len();
        let error = scene.lab.run(&scene.call("ADD", 0))?.failure()?;
        ensure!(value["outcome"] == "failure" && value["error"]["code"] == error.code, "it says {value}");
        let text = format!("{} {}", value["error"]["msg"], value["error"]["details"]).replace('"', "");
        ensure!(text.contains(&error.text[..20]), "planned was {text}, it is {error:?}");
        let (expected, plan) = (operations(&audited(&scene, skip)?), planned(&value)?);
        ensure!(plan == expected, "planned was {plan:#?}, done is {expected:#?}");
    }
    Ok(())
}

fn interrupted() -> anyhow::Result<()> {
    let scene = Scene::new(&RICH, 1)?;
    let killed = scene.survive(&scene.call("ADD", 0).variable("WEIR_FAULT", "kill-after:20"))?;
    ensure!(killed.is_none(), "it was not killed");
    for command in ["add", "del"] {
        let value = plan_for(&scene, &scene.config, command, 0)?;
        ensure!(value["outcome"] == "success", "it says {value}");
    }
    let value = plan_for(&scene, &scene.config, "add", 0)?;
    let result = scene.add(0)?;
    let expected = operations(&audited(&scene, 0)?);
    let plan = planned(&value)?;
    ensure!(plan[0].contains(" undo "), "planned was {plan:#?}");
    ensure!(plan == expected, "planned was {plan:#?}, done is {expected:#?}");
    let (plan, result) = (mask_result(&value["result"]), mask_result(&result));
    ensure!(plan == result, "the planned result is {plan:#}, the real one {result:#}");
    Ok(())
}

fn taken_back() -> anyhow::Result<()> {
    let scene = Scene::new(&RICH, 1)?;
    // The bridge's name is that of another link.
    scene.lab.on_node("ip link add cni0 type veth peer name other0")?;
    let value = plan_for(&scene, &scene.config, "add", 0)?;
    let error = scene.lab.run(&scene.call("ADD", 0))?.failure()?;
    ensure!(value["error"]["code"] == error.code, "planned was {value}, it is {error:?}");
    let (expected, plan) = (operations(&audited(&scene, 0)?), planned(&value)?);
    ensure!(
        plan == expected && plan.iter().any(|line| line.contains("undo reserve")),
        "planned was {plan:#?}"
    );
    Ok(())
}

fn check() -> anyhow::Result<()> {
    for network in [&RICH, &NETWORKS[6], &NETWORKS[8]] {
        let scene = Scene::new(network, 1)?;
        let result = scene.add(0)?;
        let mut config = config(&scene);
        config["prevResult"] = result;
        let value = plan_for(&scene, &config, "check", 0)?;
        ensure!(value["outcome"] == "success" && planned(&value)?.is_empty(), "it says {value}");
        if network.plugin == "host-local" {
            continue;
        }
        scene.lab.in_container(0, "ip address flush dev eth0")?;
        let value = plan_for(&scene, &config, "check", 0)?;
        let text = value["error"]["msg"].as_str().unwrap_or_default();
        ensure!(value["outcome"] == "failure" && text.contains("10.1.0.2/24"), "it says {value}");
    }
    Ok(())
}

fn gone() -> anyhow::Result<()> {
    let mut scene = Scene::new(&RICH, 1)?;
    let value = plan_for(&scene, &scene.config, "del", 0)?;
    ensure!(value["outcome"] == "success", "it says {value}");
    scene.add(0)?;
    let del = scene.end_container(0)?;
    // The kernel clears it away behind our back.
    let deadline = Instant::now() + Duration::from_secs(10);
    while scene.state()?.keys().any(|key| key.starts_with("node/link/veth")) {
        ensure!(Instant::now() < deadline, "the container's link stays");
        thread::sleep(Duration::from_millis(20));
    }
    let arguments = ["--json", "--command", "del", "--container-id", "c1"];
    let value = plan(&scene, &scene.config, &arguments)?.json()?;
    ensure!(value["outcome"] == "success", "it says {value}");
    let skip = audited(&scene, 0)?.len();
    scene.silent(&del)?;
    let (expected, plan) = (operations(&audited(&scene, skip)?), planned(&value)?);
    ensure!(plan == expected && !plan.is_empty(), "planned was {plan:#?}, done is {expected:#?}");
    Ok(())
}

fn exhausted() -> anyhow::Result<()> {
    let scene = Scene::new(&BRIDGE, 2)?;
    let mut config = scene.config.clone();
    config["ipam"]["rangeEnd"] = "10.1.0.2".into();
    scene.lab.run(&scene.call("ADD", 0).config(&config))?.success()?;
    let value = plan_for(&scene, &config, "add", 1)?;
    let text = value["error"]["msg"].as_str().unwrap_or_default();
    ensure!(text.contains("no IP addresses available"), "it says {value}");
    // A data directory of its own is copied as well, and messages name it.
    config["ipam"]["dataDir"] = scene.lab.path("leases").display().to_string().into();
    let value = plan_for(&scene, &config, "add", 1)?;
    ensure!(value["outcome"] == "success" && !scene.lab.path("leases").exists(), "it says {value}");
    scene.lab.run(&scene.call("ADD", 1).config(&config))?.success()?;
    config["ipam"]["rangeEnd"] = "10.1.0.9".into();
    let arguments = ["--json", "--args", "IP=10.1.0.2"];
    let text = plan(&scene, &config, &arguments)?.text;
    let lease = scene.lab.path("leases/n/10.1.0.2").display().to_string();
    ensure!(text.contains(&lease) && !text.contains("weir-plan-"), "it says {text}");
    Ok(())
}

fn list() -> anyhow::Result<()> {
    let scene = Scene::new(&BRIDGE, 1)?;
    let bridge = |name: &str| {
        json!({"type": "bridge", "bridge": name, "isGateway": true,
            "ipam": {"type": "static", "addresses": [{"address": "10.5.0.2/24"}]}})
    };
    // The second one finds what the first one made.
    let config =
        json!({"cniVersion": "1.0.0", "name": "list", "plugins": [bridge("b0"), {"type": "loopback"}]});
    let said = plan(&scene, &config, &["--json"])?;
    let value = said.json()?;
    ensure!(said.success && value["plugins"] == json!(["bridge", "loopback"]), "it says {value}");
    ensure!(value["result"]["ips"][0]["address"] == "10.5.0.2/24", "it says {value}");
    ensure!(value["result"]["interfaces"].as_array().is_some_and(|all| all.len() == 3), "it says {value}");
    let config = json!({"cniVersion": "1.0.0", "name": "list", "plugins": [bridge("b0"), bridge("b0")]});
    let value = plan(&scene, &config, &["--json"])?.json()?;
    ensure!(named(&value, "create-bridge").len() == 1, "it says {value}");
    ensure!(value["error"]["msg"].as_str().is_some_and(|text| text.contains("eth0")), "it says {value}");
    let config =
        json!({"cniVersion": "1.0.0", "name": "list", "plugins": [bridge("b0"), {"type": "portmap"}]});
    let said = plan(&scene, &config, &["--json"])?;
    let value = said.json()?;
    ensure!(!said.success && value["outcome"] == "unknown", "it says {value}");
    ensure!(value["notes"].to_string().contains("portmap"), "it says {value}");
    ensure!(!named(&value, "create-veth").is_empty(), "it says {value}");
    ensure!(!planned(&value)?.iter().any(|line| line.contains("undo")), "it says {value}");
    let value = plan(&scene, &config, &["--json", "--command", "del", "--container-id", "c1"])?.json()?;
    ensure!(value["outcome"] == "success", "it says {value}");
    ensure!(value["notes"].to_string().contains("portmap"), "it says {value}");
    Ok(())
}

fn native() -> anyhow::Result<()> {
    let scene = Scene::new(&NETWORKS[9], 1)?;
    let value = plan_for(&scene, &scene.config, "add", 0)?;
    ensure!(value["outcome"] == "unknown", "it says {value}");
    ensure!(named(&value, "delegate").len() == 1, "it says {value}");
    let program = scene.lab.bin.join("native-host-local").display().to_string();
    ensure!(value["notes"].to_string().contains(&program), "it says {value}");
    write_policy(&scene, "[[deny]]\ndelegates = \"*\"\n")?;
    let value = plan_for(&scene, &scene.config, "add", 0)?;
    ensure!(value["outcome"] == "failure" && value["error"]["code"] == 100, "it says {value}");
    write_policy(&scene, "")?;
    let mut config = scene.config.clone();
    config["ipam"]["type"] = "absent".into();
    let value = plan_for(&scene, &config, "add", 0)?;
    ensure!(value["error"]["msg"].as_str().is_some_and(|text| text.contains("absent")), "it says {value}");
    Ok(())
}

fn table() -> anyhow::Result<()> {
    let scene = Scene::new(&RICH, 0)?;
    let path = write_policy(&scene, RULES)?;
    let said = plan(&scene, &scene.config, &[])?;
    ensure!(said.success, "it says {}", said.text);
    for words in
        ["create bridge", "masquerade", "ADD would succeed", "\"cniVersion\": \"1.1.0\"", "are random"]
    {
        ensure!(said.text.contains(words), "it does not say {words:?}: {}", said.text);
    }
    ensure!(said.text.contains(&format!("allowed by {path}:5")), "it says {}", said.text);
    write_policy(&scene, "[[allow]]\nplugin = \"bridge\"\nbridges = \"x\"\n")?;
    let said = plan(&scene, &scene.config, &[])?;
    ensure!(!said.success, "it says {}", said.text);
    for words in ["denied: ", "bridges = [\"x\", \"cni0\"]", "ADD would fail with code 100", "undo reserve"] {
        ensure!(said.text.contains(words), "it does not say {words:?}: {}", said.text);
    }
    // Names in a configuration are not obeyed by a terminal.
    let mut config = scene.config.clone();
    config["bridge"] = "a\u{1b}[2Jb".into();
    let said = plan(&scene, &config, &[])?;
    ensure!(!said.success && !said.text.contains('\u{1b}'), "it says {:?}", said.text);
    Ok(())
}

fn unprivileged() -> anyhow::Result<()> {
    const NOBODY: &str = "setpriv --reuid=65534 --regid=65534 --clear-groups ";
    let scene = Scene::new(&BRIDGE, 1)?;
    line(&format!("chmod 0755 {}", scene.lab.path("").display())).succeed()?;
    let weir = scene.lab.bin.join("weir").display().to_string();
    let readable = line(&format!("{NOBODY}test -x {weir}")).run();
    require(
        readable.is_ok_and(|output| output.status.success()),
        "there is no second user here, or weir is in a directory that others cannot enter",
    )?;
    scene.add(0)?;
    fs::create_dir(scene.lab.path("tmp"))?;
    line(&format!("chmod 1777 {}", scene.lab.path("tmp").display())).succeed()?;
    let before = Before::of(&scene)?;
    let netns = scene.lab.containers[0].path.display().to_string();
    for arguments in [String::new(), format!("--netns {netns}"), "--command del --container-id c1".to_owned()]
    {
        let program = line(&format!("{NOBODY}{weir} plan --config - {arguments}"))
            .variable("WEIR_STATE_DIR", scene.lab.path("weir"))
            .variable("WEIR_POLICY_DIR", scene.lab.path("policy"))
            .variable("WEIR_AUDIT_FILE", scene.lab.path("audit.jsonl"))
            .variable("TMPDIR", scene.lab.path("tmp"))
            .input(scene.config.to_string());
        let output = scene.lab.node.enter(|| program.run())?;
        let text = format!("{}{}", output.stdout, output.stderr);
        ensure!(output.status.code() == Some(1) && text.contains("as root"), "{arguments}: it says {text}");
        before.expect(&scene)?;
    }
    Ok(())
}

fn unfit() -> anyhow::Result<()> {
    let scene = Scene::new(&BRIDGE, 1)?;
    let netns = scene.lab.containers[0].path.display().to_string();
    let container = ["--container-id", "c1"];
    for (config, arguments, word) in [
        (json!([]), vec![], "name"),
        (json!({"cniVersion": "1.0.0", "name": "n", "type": "absent"}), vec![], "absent"),
        (scene.config.clone(), vec!["--command", "del"], "--container-id"),
        (scene.config.clone(), vec!["--command", "check", container[0], container[1]], "--netns"),
        (
            scene.config.clone(),
            vec!["--command", "check", container[0], container[1], "--netns", &netns],
            "prevResult",
        ),
        (scene.config.clone(), vec!["--netns", "/absent"], "/absent"),
        (scene.config.clone(), vec!["--container-id", "a/b"], "CNI_CONTAINERID"),
        (scene.config.clone(), vec!["--ifname", "a/b"], "CNI_IFNAME"),
        (scene.config.clone(), vec!["--args", "x"], "CNI_ARGS"),
    ] {
        let said = plan(&scene, &config, &arguments)?;
        let text = format!("{}{}", said.text, said.errors);
        ensure!(!said.success && text.contains(word), "{arguments:?}: it does not mention {word:?}: {text}");
    }
    Ok(())
}
