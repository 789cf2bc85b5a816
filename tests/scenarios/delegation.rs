//! Native IPAM plugins that weir's bridge asks: the contract of delegation
//! (specification, section "Plugin Delegation").

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::network::{BRIDGE, RICH, native};
use super::scene::{Allowed, Scene, addresses};
use super::script::scene_with;
use crate::Test;
use crate::lab::{CniError, guest, line};

/// A script that answers ADD with an address.
const ANSWER: &str = r#"[ "$CNI_COMMAND" = ADD ] && echo '{"cniVersion":"1.1.0",
    "ips":[{"address":"10.1.0.7/24","gateway":"10.1.0.1"}],"routes":[{"dst":"192.0.2.0/24"}],"dns":{"domain":"a.test"}}'
exit 0"#;

/// How long a call may take beyond its deadline.
const SLACK: Duration = Duration::from_secs(5);

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new("delegation: an IPAM plugin gets the environment and the configuration", contract),
        Test::new("delegation: every command reaches the IPAM plugin", commands),
        Test::new("delegation: an IPAM plugin finds the interface, also when it is to release", interface),
        Test::new("delegation: an IPAM plugin that fails gets a DEL, and its error is passed on", failing),
        Test::new("delegation: an ADD that fails later takes back what the IPAM plugin did", fails_later),
        Test::new("delegation: an IPAM plugin that hangs is killed at the deadline", hanging),
        Test::new(
            "delegation: an IPAM plugin that hangs with a child of its own is killed too",
            hanging_child,
        ),
        Test::new(
            "delegation: an IPAM plugin that is killed at the deadline gets a DEL",
            hanging_with_a_lease,
        ),
        Test::new("delegation: an IPAM plugin ends with the call that is killed", killed),
        Test::new("delegation: an IPAM plugin that prints garbage is named", garbage),
        Test::new("delegation: an IPAM plugin that prints nothing is named", nothing),
        Test::new("delegation: an IPAM plugin that dies without a word is named", dying),
        Test::new("delegation: a type that is only a link to weir is refused", itself),
        Test::new("delegation: a missing IPAM plugin is named, with the places it was looked for", missing),
        Test::new("delegation: a native static plugin hands out what the configuration says", native_static),
        Test::new("delegation: DEL goes on when the native IPAM plugin is gone", vanished),
        Test::new("delegation: an IPAM plugin that a network gave up keeps no container", given_up),
        Test::new("delegation: an IPAM plugin that a component replaced keeps no container", replaced),
        Test::new(
            "delegation: DEL fails with an IPAM plugin whose code is that of refusals",
            code_of_a_refusal,
        ),
        Test::new(
            "delegation: an IPAM plugin is not given up for another plugin's configuration",
            not_given_up,
        ),
    ]
}

fn refused(scene: &Scene) -> anyhow::Result<CniError> {
    let before = scene.settled_state()?;
    let error = scene.lab.run(&scene.call("ADD", 0))?.failure()?;
    scene.expect(&before, Allowed::Shared)?;
    Ok(error)
}

fn mentions(error: &CniError, words: &[&str]) -> anyhow::Result<()> {
    for word in words {
        ensure!(
            error.text.contains(word),
            "the error does not mention {word:?}: code {}, {}",
            error.code,
            error.text
        );
    }
    Ok(())
}

fn contract() -> anyhow::Result<()> {
    let (scene, script) = scene_with(&BRIDGE, "scripted", ANSWER)?;
    let before = scene.state()?;
    let arguments = "IgnoreUnknown=1;K8S_POD_NAME=p";
    let call = |command| {
        scene
            .call(command, 0)
            .variable("CNI_ARGS", arguments)
            .variable("TRACEPARENT", "00-aa-bb-01")
            .variable("OTHER", "kept")
    };
    let result = scene.lab.run(&call("ADD"))?.success()?;
    ensure!(addresses(&result)? == ["10.1.0.7"], "the result is {result}");
    ensure!(result["dns"]["domain"] == "a.test", "the result is {result}");
    ensure!(script.calls() == ["ADD"], "it was called with {:?}", script.calls());
    let container = &scene.lab.containers[0];
    let expected = [
        "CNI_COMMAND=ADD".to_owned(),
        format!("CNI_CONTAINERID={}", container.id),
        format!("CNI_NETNS={}", container.path.display()),
        "CNI_IFNAME=eth0".to_owned(),
        format!("CNI_ARGS={arguments}"),
        format!("CNI_PATH={}", scene.lab.bin.display()),
        "TRACEPARENT=00-aa-bb-01".to_owned(),
        "OTHER=kept".to_owned(),
    ];
    let environment = script.environment("ADD")?;
    for variable in expected {
        ensure!(environment.lines().any(|line| line == variable), "{variable} is not in {environment}");
    }
    let input: Value = serde_json::from_str(&script.input("ADD")?)?;
    ensure!(input == scene.config, "its input was {input}, not {}", scene.config);
    scene.silent(&call("DEL"))?;
    ensure!(script.calls() == ["ADD", "DEL"], "it was called with {:?}", script.calls());
    let environment = script.environment("DEL")?;
    ensure!(environment.contains(&format!("CNI_ARGS={arguments}")), "CNI_ARGS is not in {environment}");
    scene.expect(&before, Allowed::Shared)
}

fn commands() -> anyhow::Result<()> {
    let (scene, script) = scene_with(&BRIDGE, "scripted", ANSWER)?;
    let result = scene.add(0)?;
    scene.check(0, &result)?;
    scene.silent(&scene.lab.call("bridge", "STATUS").config(&scene.config))?;
    scene.gc(&["c1"])?;
    let calls = script.calls();
    ensure!(calls == ["ADD", "CHECK", "STATUS", "GC"], "it was called with {calls:?}");
    let input: Value = serde_json::from_str(&script.input("GC")?)?;
    ensure!(input["cni.dev/valid-attachments"][0]["containerID"] == "c1", "its input at GC was {input}");
    let input: Value = serde_json::from_str(&script.input("CHECK")?)?;
    ensure!(input["prevResult"] == result, "its input at CHECK was {input}");
    scene.gc(&[])?;
    ensure!(script.calls().iter().filter(|call| *call == "DEL").count() == 1, "GC: {:?}", script.calls());
    Ok(())
}

fn interface() -> anyhow::Result<()> {
    let body = format!(
        "nsenter --net=\"$CNI_NETNS\" ip -oneline link show \"$CNI_IFNAME\" >\"$log/link.$CNI_COMMAND\" 2>&1\n{ANSWER}"
    );
    let (scene, script) = scene_with(&RICH, "scripted", &body)?;
    scene.add(0)?;
    scene.del(0)?;
    for command in ["ADD", "DEL"] {
        let link = script.read(&format!("link.{command}"))?;
        ensure!(link.contains(" eth0@"), "during {command} there is {link}");
    }
    Ok(())
}

fn failing() -> anyhow::Result<()> {
    let body = r#"[ "$CNI_COMMAND" = DEL ] && exit 0
        echo '{"cniVersion":"1.1.0","code":111,"msg":"no more leases","details":"ask for more"}'; exit 1"#;
    let (scene, script) = scene_with(&BRIDGE, "scripted", body)?;
    let error = refused(&scene)?;
    ensure!(error.code == 111, "the code is {}", error.code);
    mentions(&error, &["no more leases", "ask for more"])?;
    ensure!(script.calls() == ["ADD", "DEL"], "it was called with {:?}", script.calls());
    scene.del(0)
}

fn fails_later() -> anyhow::Result<()> {
    // The gateway is nowhere.
    let body = ANSWER.replace(r#""dst":"192.0.2.0/24""#, r#""dst":"192.0.2.0/24","gw":"203.0.113.1""#);
    let (scene, script) = scene_with(&RICH, "scripted", &body)?;
    let error = refused(&scene)?;
    mentions(&error, &["203.0.113.1"])?;
    ensure!(script.calls() == ["ADD", "DEL"], "it was called with {:?}", script.calls());
    let environment = script.environment("DEL")?;
    for variable in ["CNI_CONTAINERID=c1", "CNI_IFNAME=eth0", "CNI_COMMAND=DEL"] {
        ensure!(environment.lines().any(|line| line == variable), "{variable} is not in {environment}");
    }
    let input: Value = serde_json::from_str(&script.input("DEL")?)?;
    ensure!(input == scene.config, "its input at DEL was {input}");
    Ok(())
}

/// ADD with a short time; how long it took, and the error.
fn overdue(scene: &Scene) -> anyhow::Result<CniError> {
    let before = scene.settled_state()?;
    let started = Instant::now();
    let call = scene.call("ADD", 0).variable("WEIR_TIMEOUT", "1");
    let error = scene.lab.run(&call)?.failure()?;
    let took = started.elapsed();
    ensure!(took < Duration::from_secs(1) + SLACK, "ADD took {took:?}: {}", error.text);
    scene.expect(&before, Allowed::Shared)?;
    Ok(error)
}

fn hanging() -> anyhow::Result<()> {
    let (scene, _) = scene_with(&BRIDGE, "scripted", r#"[ "$CNI_COMMAND" = ADD ] && exec sleep 30; exit 0"#)?;
    mentions(&overdue(&scene)?, &["scripted", "did not finish"])
}

fn hanging_child() -> anyhow::Result<()> {
    // The child keeps the standard output of its parent.
    let (scene, _) =
        scene_with(&BRIDGE, "scripted", r#"[ "$CNI_COMMAND" = ADD ] && { sleep 30; exit 1; }; exit 0"#)?;
    mentions(&overdue(&scene)?, &["scripted", "did not finish"])
}

fn hanging_with_a_lease() -> anyhow::Result<()> {
    let body = r#"case "$CNI_COMMAND" in
        ADD) touch "$log/lease"; exec sleep 30;;
        DEL) rm -f "$log/lease";;
        esac"#;
    let (scene, script) = scene_with(&BRIDGE, "scripted", body)?;
    overdue(&scene)?;
    ensure!(script.calls().contains(&"DEL".to_owned()), "it was called with {:?}", script.calls());
    ensure!(!script.has("lease"), "its lease is left");
    Ok(())
}

fn killed() -> anyhow::Result<()> {
    let body = r#"case "$CNI_COMMAND" in
        ADD) touch "$log/begun"; sleep 1; touch "$log/lease";;
        DEL) rm -f "$log/lease";;
        esac"#;
    let (scene, script) = scene_with(&BRIDGE, "scripted", body)?;
    let call = scene.call("ADD", 0);
    let mut child = scene.lab.node.enter(|| call.program().start_with_input())?;
    let started = Instant::now();
    while !script.has("begun") {
        ensure!(started.elapsed() < SLACK, "the IPAM plugin was not called");
        thread::sleep(Duration::from_millis(2));
    }
    child.kill()?;
    child.wait()?;
    scene.del(0)?;
    thread::sleep(Duration::from_millis(1_500));
    ensure!(!script.has("lease"), "it went on, and its lease is left");
    ensure!(script.calls() == ["ADD", "DEL"], "it was called with {:?}", script.calls());
    Ok(())
}

fn garbage() -> anyhow::Result<()> {
    let (scene, script) = scene_with(&BRIDGE, "scripted", "echo this is no JSON; exit 0")?;
    mentions(&refused(&scene)?, &["scripted", "no CNI result"])?;
    ensure!(script.calls() == ["ADD", "DEL"], "it was called with {:?}", script.calls());
    Ok(())
}

fn nothing() -> anyhow::Result<()> {
    let (scene, _) = scene_with(&BRIDGE, "scripted", "exit 0")?;
    mentions(&refused(&scene)?, &["scripted"])
}

fn dying() -> anyhow::Result<()> {
    let (scene, _) = scene_with(&BRIDGE, "scripted", r#"[ "$CNI_COMMAND" = ADD ] && kill -9 $$; exit 0"#)?;
    mentions(&refused(&scene)?, &["scripted", "ADD"])
}

fn itself() -> anyhow::Result<()> {
    let mut scene = Scene::new(&BRIDGE, 1)?;
    scene.config["ipam"]["type"] = "mirror".into();
    std::os::unix::fs::symlink(scene.lab.bin.join("weir"), scene.lab.bin.join("mirror"))?;
    let started = Instant::now();
    mentions(&refused(&scene)?, &["mirror", "weir", "no component"])?;
    ensure!(started.elapsed() < SLACK, "it took {:?}", started.elapsed());
    // Also by a copy of the link, in another directory.
    std::fs::create_dir(scene.lab.path("elsewhere"))?;
    std::os::unix::fs::symlink(scene.lab.bin.join("mirror"), scene.lab.path("elsewhere/mirror"))?;
    let call = scene.call("ADD", 0).variable("CNI_PATH", scene.lab.path("elsewhere"));
    mentions(&scene.lab.run(&call)?.failure()?, &["mirror", "no component"])
}

fn missing() -> anyhow::Result<()> {
    let mut scene = Scene::new(&BRIDGE, 1)?;
    scene.config["ipam"]["type"] = "absent".into();
    let bin = scene.lab.bin.display().to_string();
    mentions(&refused(&scene)?, &["absent", &bin])?;
    scene.del(0).context("DEL after it")
}

fn native_static() -> anyhow::Result<()> {
    let mut scene = Scene::new(&BRIDGE, 1)?;
    scene.config["cniVersion"] = "1.0.0".into();
    scene.config["ipam"] = serde_json::json!({
        "type": "native-static", "addresses": [{"address": "10.1.0.5/24", "gateway": "10.1.0.1"}]
    });
    std::os::unix::fs::symlink(native("static")?, scene.lab.bin.join("native-static"))?;
    let before = scene.state()?;
    let result = scene.add(0)?;
    ensure!(addresses(&result)? == ["10.1.0.5"], "the result is {result}");
    scene.check(0, &result)?;
    scene.del(0)?;
    scene.expect(&before, Allowed::Shared)
}

fn vanished() -> anyhow::Result<()> {
    let (scene, _) = scene_with(&RICH, "scripted", ANSWER)?;
    let before = scene.state()?;
    scene.add(0)?;
    let plugin = scene.lab.bin.join("scripted");
    std::fs::rename(&plugin, scene.lab.path("hidden"))?;
    // Its lease cannot be released, which the runtime has to know; all else is.
    let error = scene.lab.run(&scene.call("DEL", 0))?.failure()?;
    mentions(&error, &["scripted"])?;
    let left: Vec<String> = crate::lab::changes(&before, &scene.state()?)
        .into_iter()
        .filter(|change| !super::shared::is_shared(change) && !change.contains(" journal/"))
        .collect();
    ensure!(left.is_empty(), "DEL left more than the journal: {left:?}");
    std::fs::rename(scene.lab.path("hidden"), &plugin)?;
    scene.del(0).context("once the plugin is back")?;
    scene.expect(&before, Allowed::Shared)
}

/// The type of the program has a component since.
fn replaced() -> anyhow::Result<()> {
    let (scene, _) = scene_with(&RICH, "scripted", ANSWER)?;
    let before = scene.state()?;
    scene.add(0)?;
    let (program, weir) = (scene.lab.bin.join("scripted"), scene.lab.bin.join("weir"));
    std::fs::remove_file(&program)?;
    std::os::unix::fs::symlink(&weir, &program)?;
    line(&format!("{} plugin add {} --type scripted", weir.display(), guest::component("fixed")?.display()))
        .variable("WEIR_STATE_DIR", scene.lab.path("weir"))
        .variable("WEIR_POLICY_DIR", scene.lab.path("policy"))
        .variable("TMPDIR", scene.lab.path(""))
        .succeed()?;
    scene.del(0)?;
    scene.expect(&before, Allowed::Shared)
}

/// A program has codes of its own, which may be those of weir.
fn code_of_a_refusal() -> anyhow::Result<()> {
    let body = r#"echo '{"cniVersion":"1.1.0","code":100,"msg":"no server"}'; exit 1"#;
    let (scene, _) = scene_with(&RICH, "scripted", body)?;
    let error = scene.lab.run(&scene.call("DEL", 0))?.failure()?;
    ensure!(error.code == 100, "the code is {}", error.code);
    mentions(&error, &["no server"])
}

/// Another plugin of the list cleans up, whose configuration names no IPAM
/// plugin.
fn not_given_up() -> anyhow::Result<()> {
    let (mut scene, _) = scene_with(&RICH, "scripted", ANSWER)?;
    let before = scene.state()?;
    scene.add(0)?;
    let plugin = scene.lab.bin.join("scripted");
    std::fs::rename(&plugin, scene.lab.path("hidden"))?;
    scene.config["cni.dev/valid-attachments"] = json!([]);
    let mut other = scene.config.clone();
    other["type"] = "loopback".into();
    other["ipam"] = Value::Null;
    let gc = |kind: &str, config: &Value| scene.lab.run(&scene.lab.call(kind, "GC").config(config));
    for (kind, config) in [("bridge", &scene.config), ("loopback", &other), ("bridge", &scene.config)] {
        mentions(&gc(kind, config)?.failure()?, &["scripted"]).with_context(|| format!("GC of {kind}"))?;
    }
    std::fs::rename(scene.lab.path("hidden"), &plugin)?;
    gc("loopback", &other)?.silence()?;
    scene.expect(&before, Allowed::Shared)
}

/// The network has another IPAM plugin by now, and the old one is gone, fails
/// or still works.
fn given_up() -> anyhow::Result<()> {
    let failing = r#"[ "$CNI_COMMAND" = ADD ] || { echo '{"code":99,"msg":"no server"}'; exit 1; }"#;
    for (body, is_gone) in [(ANSWER, true), (ANSWER, false), (&format!("{failing}\n{ANSWER}") as &str, false)]
    {
        for command in ["DEL", "GC"] {
            let (mut scene, script) = scene_with(&RICH, "scripted", body)?;
            let before = scene.state()?;
            scene.add(0)?;
            scene.config["ipam"] = json!({"type": "host-local", "subnet": "10.1.0.0/24"});
            if is_gone {
                std::fs::remove_file(scene.lab.bin.join("scripted"))?;
            }
            scene.config["cni.dev/valid-attachments"] = json!([]);
            let call = match command {
                "GC" => scene.lab.call("bridge", "GC").config(&scene.config),
                _ => scene.call("DEL", 0),
            };
            let output = scene.lab.node.enter(|| call.program().run())?;
            ensure!(output.status.success(), "{command} says {}", output.stdout);
            let works = body == ANSWER && !is_gone;
            ensure!(
                output.stderr.contains("scripted, which the network does not use any more") != works,
                "{command} notes {:?}",
                output.stderr
            );
            let asked = script.calls().iter().any(|call| call == "DEL");
            ensure!(asked != is_gone, "it was called with {:?}", script.calls());
            scene.expect(&before, Allowed::Shared)?;
        }
    }
    Ok(())
}
