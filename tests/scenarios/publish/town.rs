//! A node with two networks and a world around it, and a plugin that
//! publishes what it is told.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::lab::{
    Call, Exchange, Facts, Lab, Namespace, Plugins, Transport, guest, is_installed, line, require, weir,
};

/// The addresses of the container that publishes its ports.
pub(super) const SERVER: [&str; 2] = ["10.1.0.2", "fd00:1::2"];

/// Where it listens.
const LISTENING: u16 = 80;

/// How long a UDP client waits.
const PATIENCE: Duration = Duration::from_secs(3);

const POLICY: &str = r#"
[[allow]]
network = "n"
plugin = "portal"
digest = "DIGEST"
interfaces = ["weir:net/*", "weir:firewall/*", "weir:store/*", "weir:plugin/*"]
namespaces = ["container", "host"]
bridges = ["br1"]
addresses = ["10.1.0.0/16", "fd00:1::/64"]
sysctls = ["route_localnet"]
ports = ["81/tcp", "8000-8099/tcp", "8000-8099/udp"]
"#;

/// The first two containers are on one network, the third on another.
pub(super) struct Town {
    pub(super) lab: Lab,
    results: Vec<Value>,
}

impl Town {
    pub(super) fn new(plugins: Plugins) -> anyhow::Result<Self> {
        Self::with(plugins, false)
    }

    /// The same with or without containers that are masqueraded.
    pub(super) fn with(plugins: Plugins, masquerades: bool) -> anyhow::Result<Self> {
        require(is_installed("nft"), "the program nft is missing: install nftables")?;
        let is_weir = plugins == Plugins::Weir;
        let mut lab = Lab::new(plugins)?;
        for _ in 0..3 {
            lab.add_container()?;
        }
        lab.add_world()?;
        let mut town = Self { lab, results: Vec::new() };
        if is_weir {
            town.install()?;
        }
        for number in 0..3 {
            let call = town.lab.call_for("bridge", "ADD", &town.lab.containers[number], "eth0");
            let result = town
                .lab
                .run(&call.config(&network(number, masquerades)))?
                .success()
                .context("ADD of a bridge")?;
            town.results.push(result);
            town.lab.in_container(number, "ip link set lo up")?;
        }
        town.settle()?;
        Ok(town)
    }

    /// Waits until the kernel has made sure that nobody else has its IPv6
    /// addresses: until then it finds no neighbours.
    fn settle(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(10);
        let tentative = "ip -6 address show tentative";
        loop {
            let mut left = self.lab.on_node(tentative)?;
            for number in 0..self.lab.containers.len() {
                left += &self.lab.in_container(number, tentative)?;
            }
            if left.trim().is_empty() {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "addresses stay tentative: {left}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn install(&self) -> anyhow::Result<()> {
        symlink(weir(), self.lab.bin.join("portal"))?;
        let policy = self.lab.path("policy");
        fs::create_dir(&policy)?;
        for directory in [&self.lab.path("weir"), &policy] {
            fs::set_permissions(directory, Permissions::from_mode(0o755))?;
        }
        let component = guest::component("hostile")?;
        let text = self.weir(&format!("plugin add {} --type portal", component.display()), "")?;
        let start = text.find("sha256:").context("no digest")?;
        let digest = text.get(start..start + 71).context("no whole digest")?;
        let path = policy.join("policy.toml");
        fs::write(&path, POLICY.replace("DIGEST", digest))?;
        Ok(fs::set_permissions(&path, Permissions::from_mode(0o644))?)
    }

    /// Runs one of weir's commands; returns what it says, however it ends.
    fn weir(&self, arguments: &str, input: &str) -> anyhow::Result<String> {
        let program = line(&format!("{} {arguments}", self.lab.bin.join("weir").display()))
            .variable("WEIR_STATE_DIR", self.lab.path("weir"))
            .variable("WEIR_POLICY_DIR", self.lab.path("policy"))
            .variable("WEIR_AUDIT_FILE", self.lab.path("audit.jsonl"))
            .variable("TMPDIR", self.lab.path(""))
            .input(input);
        let output = self.lab.node.enter(|| program.run())?;
        ensure!(matches!(output.status.code(), Some(0 | 1)), "{arguments}: {}", output.stderr);
        Ok(output.stdout)
    }

    /// A step that publishes a port.
    pub(super) fn port(&self, protocol: &str, host: Option<&str>, port: u16, container: &str) -> Value {
        let length = if container.contains(':') { 64 } else { 16 };
        json!({ "do": "publish", "protocol": protocol, "host": host, "port": port, "to": LISTENING,
            "address": container, "length": length })
    }

    /// The steps that publish one port of the first container by all means.
    pub(super) fn everywhere(&self) -> Value {
        let port = |protocol: &str, host: Option<&str>, container: usize| {
            self.port(protocol, host, super::PORT, SERVER[container])
        };
        json!([
            { "do": "enable-loopback", "link": "br1" },
            port("tcp", None, 0),
            port("udp", None, 0),
            port("tcp", None, 1),
            port("udp", None, 1),
            port("tcp", Some("127.0.0.1"), 0),
            port("udp", Some("127.0.0.1"), 0),
        ])
    }

    fn config(&self, number: usize, command: &str, steps: &Value) -> Value {
        json!({ "cniVersion": "1.1.0", "name": "n", "type": "portal",
            "prevResult": self.results[number], "attack": { command: steps } })
    }

    pub(super) fn call_with(&self, command: &str, number: usize, steps: &Value) -> Call {
        let call = self.lab.call_for("portal", command, &self.lab.containers[number], "eth0");
        call.config(&self.config(number, command, steps))
    }

    pub(super) fn call(&self, command: &str, number: usize) -> Call {
        self.call_with(command, number, &json!([]))
    }

    /// Publishes ports of a container.
    pub(super) fn publish_for(&self, number: usize, steps: &Value) -> anyhow::Result<()> {
        self.lab.run(&self.call_with("ADD", number, steps))?.success().map(drop).context("publish")
    }

    /// Publishes ports of the first container.
    pub(super) fn publish(&self, steps: &Value) -> anyhow::Result<()> {
        self.publish_for(0, steps)
    }

    /// The same by the reference.
    pub(super) fn publish_natively(&self, port: u16) -> anyhow::Result<()> {
        let mapping =
            |protocol: &str| json!({ "hostPort": port, "containerPort": LISTENING, "protocol": protocol });
        let config = json!({ "cniVersion": "1.0.0", "name": "n", "type": "portmap",
            "capabilities": { "portMappings": true }, "prevResult": self.results[0],
            "runtimeConfig": { "portMappings": [mapping("tcp"), mapping("udp")] } });
        let call = self.lab.call_for("portmap", "ADD", &self.lab.containers[0], "eth0").config(&config);
        self.lab.run(&call)?.success().map(drop).context("ADD of portmap")
    }

    /// GC that keeps the `eth0` of these containers.
    pub(super) fn gc(&self, valid: &[&str]) -> anyhow::Result<()> {
        let valid: Vec<Value> = valid.iter().map(|id| json!({"containerID": id, "ifname": "eth0"})).collect();
        let mut config = self.config(0, "GC", &json!([]));
        config["cni.dev/valid-attachments"] = valid.into();
        self.lab.run(&self.lab.call("portal", "GC").config(&config))?.silence().context("GC")
    }

    /// What `weir plan` says of an ADD.
    pub(super) fn plan(&self, number: usize, steps: &Value) -> anyhow::Result<Value> {
        let container = &self.lab.containers[number];
        let arguments = format!(
            "plan --config - --cni-path {} --json --command add --netns {} --container-id {} --ifname eth0",
            self.lab.bin.display(),
            container.path.display(),
            container.id
        );
        let text = self.weir(&arguments, &self.config(number, "ADD", steps).to_string())?;
        serde_json::from_str(&text).with_context(|| format!("read {text}"))
    }

    /// The elements in which the packet filter keeps ports.
    pub(super) fn elements(&self) -> anyhow::Result<Facts> {
        let text = self.lab.node.enter(|| line("nft --json --stateless list ruleset").succeed())?;
        let ruleset: Value = serde_json::from_str(&text).context("read the packet filter")?;
        let mut facts = Facts::new();
        for map in ruleset["nftables"].as_array().into_iter().flatten().map(|object| &object["map"]) {
            for element in map["elem"].as_array().into_iter().flatten() {
                facts.insert(format!("{} {element}", map["name"]), String::new());
            }
        }
        Ok(facts)
    }

    pub(super) fn journals(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.lab.path("weir/attachments")).into_iter().flatten().flatten();
        let paths = entries.map(|entry| entry.path());
        paths.filter(|path| path.to_string_lossy().ends_with(":portal")).collect()
    }

    pub(super) fn lose_journal(&self) -> anyhow::Result<()> {
        let journals = self.journals();
        ensure!(!journals.is_empty(), "there is no journal");
        Ok(journals.into_iter().try_for_each(fs::remove_file)?)
    }

    /// Who is seen by a server when a client connects by TCP.
    pub(super) fn exchange(
        &self,
        server: &Namespace,
        (listen, listening): (&str, u16),
        client: &Namespace,
        (to, port): (&str, u16),
    ) -> anyhow::Result<Option<String>> {
        let at = |address: &str, port| Ok::<_, anyhow::Error>(SocketAddr::new(address.parse()?, port));
        let (listen, to) = (at(listen, listening)?, at(to, port)?);
        let seen = Exchange { transport: Transport::Tcp, server, listen, client, to }.seen()?;
        Ok(seen.map(|address| address.to_string()))
    }

    /// Who is seen when the neighbour uses the container's own address.
    pub(super) fn see_direct(&self) -> anyhow::Result<Option<String>> {
        let [server, neighbour, _] = self.lab.containers.as_slice() else { anyhow::bail!("no containers") };
        let to = (SERVER[0], LISTENING);
        self.exchange(&server.namespace, to, &neighbour.namespace, to)
    }

    /// Whom the first container sees, of all that come to a port of the node.
    pub(super) fn matrix(
        &self,
        port: u16,
        transports: &[Transport],
    ) -> anyhow::Result<BTreeMap<String, String>> {
        let [server, neighbour, other] = self.lab.containers.as_slice() else {
            anyhow::bail!("no containers")
        };
        let world = self.lab.world.as_ref().context("there is no world")?;
        let clients: [(&str, &Namespace, &[&str]); 5] = [
            ("world", world.namespace(), &["192.0.2.1", "2001:db8::1"]),
            ("node", &self.lab.node, &["192.0.2.1", "127.0.0.1", "2001:db8::1"]),
            ("other", &other.namespace, &["192.0.2.1", "10.2.0.1", "2001:db8::1"]),
            ("neighbour", &neighbour.namespace, &["192.0.2.1", "10.1.0.1", "2001:db8::1"]),
            ("itself", &server.namespace, &["192.0.2.1", "10.1.0.1", "2001:db8::1"]),
        ];
        let mut seen = BTreeMap::new();
        for (name, client, addresses) in clients {
            for address in addresses {
                for transport in transports {
                    let to = SocketAddr::new(address.parse()?, port);
                    let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0_u16; 8].into() };
                    let listen = SocketAddr::new(any, LISTENING);
                    let server = &server.namespace;
                    let who = Exchange { transport: *transport, server, listen, client, to }.seen()?;
                    let who = who.map_or("nobody".to_owned(), |address| address.to_string());
                    seen.insert(format!("{name} to {address} by {transport:?}"), who);
                }
            }
        }
        Ok(seen)
    }

    /// A client in the world that uses one UDP socket all the time, and both
    /// containers of the network to answer it.
    pub(super) fn udp_client(&self, port: u16) -> anyhow::Result<UdpClient> {
        let world = self.lab.world.as_ref().context("there is no world")?;
        let client = world.namespace().enter(|| {
            let client = UdpSocket::bind("0.0.0.0:0")?;
            client.connect(("192.0.2.1", port))?;
            Ok(client)
        })?;
        client.set_nonblocking(true)?;
        let mut servers = Vec::new();
        for container in &self.lab.containers[..2] {
            let server = container.namespace.enter(|| Ok(UdpSocket::bind(("0.0.0.0", LISTENING))?))?;
            server.set_nonblocking(true)?;
            servers.push((container.id.clone(), server));
        }
        Ok(UdpClient { client, servers })
    }
}

/// See [`Town::udp_client`].
pub(super) struct UdpClient {
    client: UdpSocket,
    servers: Vec<(String, UdpSocket)>,
}

impl UdpClient {
    /// The container that answers.
    pub(super) fn ask(&self) -> anyhow::Result<Option<String>> {
        let deadline = Instant::now() + PATIENCE;
        // Of an earlier question, it may be told that nobody was there.
        let _ = self.client.take_error()?;
        self.client.send(b"?")?;
        let mut buffer = [0; 16];
        while Instant::now() < deadline {
            for (name, server) in &self.servers {
                if let Ok((_, peer)) = server.recv_from(&mut buffer) {
                    server.send_to(name.as_bytes(), peer)?;
                }
            }
            match self.client.recv(&mut buffer) {
                Ok(length) => return Ok(Some(String::from_utf8_lossy(&buffer[..length]).into_owned())),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    thread::sleep(Duration::from_millis(1))
                }
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => return Ok(None),
                Err(error) => return Err(error).context("receive an answer"),
            }
        }
        Ok(None)
    }
}

/// The network of a container.
fn network(number: usize, masquerades: bool) -> Value {
    let (name, bridge, range, range6) = if number == 2 {
        ("m", "br2", "10.2.0.0/24", "fd00:2::/64")
    } else {
        ("n", "br1", "10.1.0.0/16", "fd00:1::/64")
    };
    json!({
        "cniVersion": "1.0.0", "name": name, "type": "bridge", "bridge": bridge,
        "isDefaultGateway": true, "hairpinMode": true, "ipMasq": masquerades,
        "ipam": { "type": "host-local", "ranges": [[{ "subnet": range }], [{ "subnet": range6 }]] }
    })
}
