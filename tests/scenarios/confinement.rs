//! What a process has given up by the time its component runs: looked at from
//! outside, while a change that does not end holds it up.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use super::network::RICH;
use super::scene::{Allowed, Scene, addresses};
use super::script::scene_with;
use crate::Test;
use crate::lab::{Call, line, require};

/// CAP_NET_ADMIN, as `/proc/<pid>/status` has it.
const NET_ADMIN: u64 = 1 << 12;

/// CAP_DAC_OVERRIDE: files of a pool may have any mode.
const DAC_OVERRIDE: u64 = 1 << 1;

/// CAP_FOWNER.
const FOWNER: u64 = 1 << 3;

const NONE: u64 = 0;

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "confinement: an interface plugin's process may change networks and leases, and nothing else",
            interface,
        ),
        Test::new("confinement: an IPAM plugin's process may change leases, and nothing else", leases),
        Test::new("confinement: loopback's process may change networks, and nothing else", loopback),
        Test::new("confinement: DEL is confined too", del),
        Test::new("confinement: GC is confined while its component runs", gc),
        Test::new("confinement: leases that belong to another user keep what they need", foreign),
        Test::new("confinement: a call that may execute a native plugin gives up capabilities alone", native),
        Test::new("confinement: nobody gets out of it by naming a native plugin that may not run", no_native),
        Test::new("confinement: what a native plugin needs it has", native_capabilities),
        Test::new("confinement: a journal that names a native plugin leaves it executable", journaled_native),
        Test::new("confinement: the first call of a node makes its directories", first),
        Test::new("confinement: files that the configuration names can be read", named_files),
        Test::new("confinement: nothing is said about it on standard error", silent),
    ]
}

/// A process that is held up.
struct Stalled {
    child: Child,
}

impl Stalled {
    /// Starts a call that stalls at its first change, and waits until it does.
    fn start(scene: &Scene, call: &Call) -> anyhow::Result<Self> {
        let call = call.clone().variable("WEIR_FAULT", "stall-before:1").variable("WEIR_TIMEOUT", "20");
        let child = scene.lab.node.enter(|| call.program().start_with_input())?;
        let stalled = Self { child };
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            if stalled.file("syscall")?.starts_with(SLEEPING) {
                return Ok(stalled);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        bail!("the call did not stall: {}", stalled.file("status")?)
    }

    fn file(&self, name: &str) -> anyhow::Result<String> {
        let path = format!("/proc/{}/{name}", self.child.id());
        fs::read_to_string(&path).with_context(|| format!("read {path}"))
    }

    /// A field of `/proc/<pid>/status`.
    fn status(&self, field: &str) -> anyhow::Result<String> {
        let status = self.file("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        Ok(line.with_context(|| format!("there is no {field} in {status}"))?.trim().to_owned())
    }

    fn capabilities(&self, field: &str) -> anyhow::Result<u64> {
        Ok(u64::from_str_radix(&self.status(field)?, 16)?)
    }

    /// Checks that everything was given up but these capabilities.
    fn expect(&self, capabilities: u64) -> anyhow::Result<()> {
        for field in ["CapEff", "CapPrm"] {
            let has = self.capabilities(field)?;
            ensure!(has == capabilities, "{field} is {has:x}, not {capabilities:x}");
        }
        for (field, value) in [("CapInh", NONE), ("CapAmb", NONE)] {
            ensure!(self.capabilities(field)? == value, "{field} is {}", self.status(field)?);
        }
        for (field, value) in [("NoNewPrivs", "1"), ("Seccomp", "2"), ("Seccomp_filters", "1")] {
            ensure!(self.status(field)? == value, "{field} is {}", self.status(field)?);
        }
        Ok(())
    }
}

impl Drop for Stalled {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How `/proc/<pid>/syscall` shows a sleep.
#[cfg(target_arch = "x86_64")]
const SLEEPING: &str = "230 ";
#[cfg(target_arch = "aarch64")]
const SLEEPING: &str = "115 ";

fn interface() -> anyhow::Result<()> {
    let scene = Scene::new(&RICH, 1)?;
    Stalled::start(&scene, &scene.call("ADD", 0))?.expect(NET_ADMIN | DAC_OVERRIDE)
}

fn leases() -> anyhow::Result<()> {
    let scene = Scene::new(&RICH, 1)?;
    Stalled::start(&scene, &call_host_local(&scene, "ADD"))?.expect(DAC_OVERRIDE)
}

fn loopback() -> anyhow::Result<()> {
    let scene = Scene::new(&RICH, 1)?;
    let config = serde_json::json!({"cniVersion": "1.0.0", "name": "lo", "type": "loopback"});
    let call = scene.lab.call_for("loopback", "ADD", &scene.lab.containers[0], "lo").config(&config);
    Stalled::start(&scene, &call)?.expect(NET_ADMIN)
}

/// host-local alone, as an interface plugin that is no part of weir calls it.
fn call_host_local(scene: &Scene, command: &str) -> Call {
    scene.lab.call_for("host-local", command, &scene.lab.containers[0], "eth0").config(&scene.config)
}

fn del() -> anyhow::Result<()> {
    let scene = Scene::new(&RICH, 1)?;
    scene.add(0)?;
    Stalled::start(&scene, &scene.call("DEL", 0))?.expect(NET_ADMIN | DAC_OVERRIDE)
}

fn gc() -> anyhow::Result<()> {
    let scene = Scene::new(&RICH, 1)?;
    scene.add(0)?;
    let mut config = scene.config.clone();
    config["cni.dev/valid-attachments"] = serde_json::json!([{"containerID": "c1", "ifname": "eth0"}]);
    let call = scene.lab.call(scene.plugin(), "GC").config(&config);
    Stalled::start(&scene, &call)?.expect(NET_ADMIN | DAC_OVERRIDE)
}

fn foreign() -> anyhow::Result<()> {
    let scene = Scene::new(&RICH, 1)?;
    let pool = scene.lab.leases("n");
    fs::create_dir_all(&pool)?;
    let owned = chown(&pool, Some(1000), Some(1000));
    require(owned.is_ok(), "in a user namespace, files have no other owners")?;
    fs::set_permissions(&pool, PermissionsExt::from_mode(0o755))?;
    Stalled::start(&scene, &call_host_local(&scene, "ADD"))?.expect(DAC_OVERRIDE | FOWNER)?;
    let result = scene.lab.run(&call_host_local(&scene, "ADD"))?.success()?;
    ensure!(!addresses(&result)?.is_empty(), "the result is {result}");
    scene.silent(&call_host_local(&scene, "DEL"))
}

fn native() -> anyhow::Result<()> {
    let (scene, _) = scene_with(&RICH, "scripted", "exit 0")?;
    let stalled = Stalled::start(&scene, &scene.call("ADD", 0))?;
    let has = stalled.capabilities("CapEff")?;
    ensure!(has & NET_ADMIN != 0 && has & (1 << 21) == 0, "CapEff is {has:x}");
    for field in ["NoNewPrivs", "Seccomp"] {
        ensure!(stalled.status(field)? == "0", "{field} is {}", stalled.status(field)?);
    }
    drop(stalled);
    scene.del(0)?;
    let log = fs::read_to_string(scene.lab.path("audit.jsonl"))?;
    ensure!(log.contains("native plugin scripted may have to be executed"), "the audit log is {log}");
    Ok(())
}

fn no_native() -> anyhow::Result<()> {
    let (mut scene, script) = scene_with(&RICH, "scripted", "exit 0")?;
    let policy = scene.lab.path("policy");
    fs::create_dir(&policy)?;
    fs::write(policy.join("policy.toml"), "[[deny]]\ndelegates = [\"scripted\"]\n")?;
    for kind in ["scripted", "nobody"] {
        scene.config["ipam"]["type"] = kind.into();
        let call = scene.call("ADD", 0).variable("WEIR_POLICY_DIR", &policy);
        scene.lab.run(&call)?.failure().context(kind)?;
        let log = fs::read_to_string(scene.lab.path("audit.jsonl")).unwrap_or_default();
        ensure!(!log.contains("may have to be executed"), "{kind}: the audit log is {log}");
    }
    ensure!(script.calls().is_empty(), "it was called with {:?}", script.calls());
    Ok(())
}

fn native_capabilities() -> anyhow::Result<()> {
    let body = r#"grep -E 'Cap(Eff|Prm)' /proc/self/status > "$log/capabilities"
        [ "$CNI_COMMAND" = ADD ] && echo '{"cniVersion":"1.1.0","ips":[{"address":"10.1.0.7/24"}]}'
        exit 0"#;
    let (scene, script) = scene_with(&RICH, "scripted", body)?;
    scene.add(0)?;
    let text = script.read("capabilities")?;
    // What this process has, the plugin of a runtime had without weir.
    let own = scene.lab.node.enter(|| line("grep -E Cap(Eff|Prm) /proc/self/status").succeed())?;
    ensure!(text == own, "the native plugin has {text}, not {own}");
    scene.del(0)
}

fn journaled_native() -> anyhow::Result<()> {
    let body = r#"[ "$CNI_COMMAND" = ADD ] && echo '{"cniVersion":"1.1.0","ips":[{"address":"10.1.0.7/24"}]}'
        exit 0"#;
    let (mut scene, script) = scene_with(&RICH, "scripted", body)?;
    scene.add(0)?;
    // The operator has changed the configuration meanwhile.
    scene.config["ipam"] = serde_json::json!({"type": "host-local", "subnet": "10.1.0.0/24"});
    scene.del(0)?;
    ensure!(script.calls() == ["ADD", "DEL"], "it was called with {:?}", script.calls());
    Ok(())
}

fn first() -> anyhow::Result<()> {
    let scene = Scene::new(&RICH, 2)?;
    let state = scene.lab.path("fresh");
    let call = |command, number| {
        scene
            .call(command, number)
            .variable("WEIR_STATE_DIR", state.join("state"))
            .variable("WEIR_CNI_STATE_DIR", state.join("a/b/networks"))
            .variable("WEIR_AUDIT_FILE", state.join("log/audit.jsonl"))
    };
    for number in [0, 1] {
        scene.lab.run(&call("ADD", number))?.success().with_context(|| format!("ADD {number}"))?;
    }
    // The index is no cache unless it is written.
    for path in ["state/attachments", "state/leases", "a/b/networks/n", "log"] {
        ensure!(fs::read_dir(state.join(path))?.next().is_some(), "{path} is empty");
    }
    for number in [0, 1] {
        scene.silent(&call("DEL", number))?;
    }
    Ok(())
}

fn named_files() -> anyhow::Result<()> {
    let mut scene = Scene::new(&RICH, 1)?;
    let path = scene.lab.path("resolv.conf");
    fs::write(scene.lab.path("real.conf"), "nameserver 192.0.2.53\nsearch a.test\n")?;
    std::os::unix::fs::symlink("real.conf", &path)?;
    let data_dir = scene.lab.path("elsewhere/leases");
    scene.config["ipam"]["resolvConf"] = path.display().to_string().into();
    scene.config["ipam"]["dataDir"] = data_dir.display().to_string().into();
    let before = scene.state()?;
    let result = scene.add(0)?;
    ensure!(result["dns"]["nameservers"][0] == "192.0.2.53", "the result is {result}");
    let leases = || has_leases(&data_dir.join("n"));
    ensure!(leases()?, "there is no lease in {}", data_dir.display());
    // DEL goes by the journal, whatever the configuration says by now.
    scene.config["ipam"]["dataDir"] = scene.lab.path("other").display().to_string().into();
    scene.del(0)?;
    ensure!(!leases()?, "the lease is left in {}", data_dir.display());
    scene.expect(&before, Allowed::Shared)
}

fn has_leases(directory: &Path) -> anyhow::Result<bool> {
    let names = fs::read_dir(directory)?.collect::<Result<Vec<_>, _>>()?;
    Ok(names.iter().any(|entry| entry.file_name().to_string_lossy().parse::<std::net::IpAddr>().is_ok()))
}

fn silent() -> anyhow::Result<()> {
    let symbols = fs::read_to_string("/proc/kallsyms").unwrap_or_default();
    require(
        symbols.contains("sys_landlock_create_ruleset"),
        "the kernel has no landlock, or tells no symbols",
    )?;
    let scene = Scene::new(&RICH, 1)?;
    for command in ["ADD", "DEL", "DEL"] {
        let call = scene.call(command, 0);
        let output = scene.lab.node.enter(|| call.program().run())?;
        ensure!(output.status.success() && output.stderr.is_empty(), "{command} says {}", output.stderr);
    }
    // Without a note that a piece is missing, all of them were there.
    let log = fs::read_to_string(scene.lab.path("audit.jsonl"))?;
    ensure!(!log.contains("\"confine\""), "the audit log is {log}");
    Ok(())
}
