//! The native `dhcp` plugin as the IPAM plugin of a bridge, with a real server.

use std::fs;
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::network::{BRIDGE, native};
use super::scene::{Allowed, Scene, addresses};
use crate::Test;
use crate::lab::{is_installed, line, require};

/// How long the programs may take to start.
const START_TIME: Duration = Duration::from_secs(10);

pub(super) fn tests() -> Vec<Test> {
    vec![Test::new(
        "dhcp: weir's bridge gets addresses by the native plugin, as the native bridge does",
        bridge,
    )]
}

/// A program that is killed in the end.
struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn start(scene: &Scene, command: &str) -> anyhow::Result<Service> {
    scene.lab.node.enter(|| line(command).start()).map(Service)
}

/// A node whose bridge is in a network with a DHCP server, and that has the
/// plugin's daemon.
fn served() -> anyhow::Result<(Scene, [Service; 2])> {
    require(is_installed("busybox"), "the program busybox is missing: install busybox-static")?;
    let mut scene = Scene::new(&BRIDGE, 1)?;
    let path = |name: &str| scene.lab.path(name);
    let conf = format!(
        "start 10.1.0.50\nend 10.1.0.59\ninterface cni0\nlease_file {}\npidfile {}\n\
         option subnet 255.255.255.0\noption router 10.1.0.1\noption lease 600\n",
        path("udhcpd.leases").display(),
        path("udhcpd.pid").display()
    );
    fs::write(path("udhcpd.conf"), conf)?;
    fs::write(path("udhcpd.leases"), "")?;
    for text in ["link add cni0 type bridge", "address add 10.1.0.1/24 dev cni0", "link set cni0 up"] {
        scene.lab.on_node(&format!("ip {text}"))?;
    }
    let server = start(&scene, &format!("busybox udhcpd -f {}", path("udhcpd.conf").display()))?;
    let socket = path("dhcp.sock");
    let program = native("dhcp")?;
    require(program.is_file(), "there is no native plugin dhcp")?;
    let daemon = start(&scene, &format!("{} daemon -socketpath {}", program.display(), socket.display()))?;
    let deadline = Instant::now() + START_TIME;
    while !socket.exists() || !path("udhcpd.pid").exists() {
        ensure!(Instant::now() < deadline, "the server or the daemon did not start");
        thread::sleep(Duration::from_millis(10));
    }
    scene.lab.lend_native("dhcp")?;
    scene.config["cniVersion"] = "1.0.0".into();
    scene.config["ipam"] = json!({"type": "dhcp", "daemonSocketPath": socket.display().to_string()});
    Ok((scene, [server, daemon]))
}

fn bridge() -> anyhow::Result<()> {
    let mut seen = Vec::new();
    for is_native in [false, true] {
        let (scene, _services) = served()?;
        let before = scene.state()?;
        let call = |command| match is_native {
            true => scene.native_call("bridge", command, &scene.lab.containers[0]),
            false => Ok(scene.call(command, 0)),
        };
        let result = scene.lab.run(&call("ADD")?)?.success().context("ADD")?;
        let [address] = addresses(&result)?.try_into().ok().context("it has one address")?;
        ensure!(address.starts_with("10.1.0.5"), "the address is {address}");
        ensure!(result["ips"][0]["gateway"] == "10.1.0.1", "the result is {result}");
        let inside = scene.lab.in_container(0, "ip -4 -oneline address show eth0")?;
        ensure!(inside.contains(&format!("{address}/24")), "eth0 has {inside}");
        scene.lab.in_container(0, "ping -c 1 -W 2 10.1.0.1")?;
        let routes: Value = serde_json::from_str(&scene.lab.in_container(0, "ip -json route")?)?;
        let of = |route: &Value| format!("{} {}", route["dst"], route["gateway"]);
        seen.push(routes.as_array().into_iter().flatten().map(of).collect::<Vec<_>>());
        if !is_native {
            scene.check(0, &result)?;
        }
        scene.silent(&call("DEL")?)?;
        scene.expect(&before, Allowed::Shared)?;
    }
    ensure!(seen[0] == seen[1], "the routes are {:?}, and {:?} by the native bridge", seen[0], seen[1]);
    Ok(())
}
