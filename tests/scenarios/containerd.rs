//! A real runtime: containerd, over the interface that a kubelet uses, with no
//! plugins but weir's.

mod cri;
mod node;
mod pod;

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;

use anyhow::{Context, anyhow, bail, ensure};
use serde_json::{Value, json};

use super::machine::readme_shows;
use crate::Test;
use node::{CONFIG, CONFLIST, IMAGE, Node, ctr, require_recent};
use pod::Pod;

/// Gateways of the network that the README shows.
const GATEWAYS: [&str; 2] = ["10.88.0.1", "fd00:88::1"];

/// All tests of this part.
pub(crate) fn tests() -> Vec<Test> {
    let on_a_node = |name: &str, scenario: fn(&mut Node) -> anyhow::Result<()>| {
        Test::new(format!("containerd: {name}"), move || with_node(CONFLIST, scenario))
    };
    vec![
        on_a_node("a pod has the addresses that its status shows, default routes and a loopback", one_pod),
        on_a_node("pods reach each other by ping and HTTP, and the world by masquerade", two_pods),
        on_a_node("a pod that is stopped twice and removed leaves nothing", stopped_twice),
        on_a_node("pods whose namespace vanished can be stopped and removed, and leave nothing", vanished),
        on_a_node("five pods come and go at the same time", five_pods),
        on_a_node("ctr run --cni connects a container and leaves nothing", ctr_run),
        Test::new(
            "containerd: a pod without an address for it is refused with the reason and leaves nothing",
            || with_node(&small_network()?, refused),
        ),
        Test::new("containerd: asks for the STATUS of a network of CNI 1.1.0", || {
            require_recent()?;
            with_node(&recent_network()?, status)
        }),
        Test::new("containerd: the README shows the configuration of these tests", readme),
    ]
}

/// Runs a scenario; when it fails, the log shows what containerd saw.
fn with_node(conflist: &str, scenario: fn(&mut Node) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut node = Node::start(conflist)?;
    scenario(&mut node).map_err(|error| anyhow!("{error:#}{}", node.log()))
}

fn one_pod(node: &mut Node) -> anyhow::Result<()> {
    let pod = node.run_pod("a")?;
    let shown = node.addresses(&pod)?;
    let [v4, v6] = shown[..] else { bail!("the status shows {shown:?}") };
    ensure!(v4.is_ipv4() && v6.is_ipv6(), "the status shows {shown:?}");

    let namespace = node.namespace(&pod)?;
    let links = ask(node, &format!("ip -n {namespace} -json address show"))?;
    let there: BTreeSet<IpAddr> = addresses(&links, "eth0", "global").collect();
    ensure!(there == BTreeSet::from([v4, v6]), "the status shows {shown:?}, the kernel has {there:?}");
    for (family, gateway) in [("-4", GATEWAYS[0]), ("-6", GATEWAYS[1])] {
        let routes = ask(node, &format!("ip -n {namespace} {family} -json route show default"))?;
        ensure!(routes.pointer("/0/gateway").is_some_and(|via| via == gateway), "no default route: {routes}");
    }
    let loopback: BTreeSet<String> =
        addresses(&links, "lo", "host").map(|address| address.to_string()).collect();
    ensure!(loopback == BTreeSet::from(["127.0.0.1".to_owned(), "::1".to_owned()]), "lo has {loopback:?}");
    let flags = link(&links, "lo").map(|link| link["flags"].to_string()).unwrap_or_default();
    ensure!(flags.contains("\"UP\""), "lo is {flags}");

    node.remove(&pod)?;
    nothing_left(node)
}

fn two_pods(node: &mut Node) -> anyhow::Result<()> {
    add_world(node)?;
    let pods = node.run_pods(&["a", "b"])?;
    let mut containers = Vec::new();
    for pod in &pods {
        let container = node.start_container(pod)?;
        node.exec(&container, "echo $HOSTNAME >/www/index.html && busybox httpd -h /www -p [::]:8080")?;
        containers.push((container, node.addresses(pod)?));
    }
    for (here, there, name) in [(0, 1, "b"), (1, 0, "a")] {
        let ((container, _), (_, others)) = (&containers[here], &containers[there]);
        for address in others {
            node.exec(container, &format!("busybox ping -c 1 -W 5 {address}"))?;
            let host = if address.is_ipv6() { format!("[{address}]") } else { address.to_string() };
            let page = node.exec(container, &format!("busybox wget -q -O - http://{host}:8080/"))?;
            ensure!(page.trim() == name, "{address} is that of {name} and serves {page:?}");
        }
        for address in GATEWAYS.into_iter().chain(WORLD) {
            node.exec(container, &format!("busybox ping -c 1 -W 5 {address}"))?;
        }
    }
    node.end_pods("StopPodSandbox", &pods)?;
    node.end_pods("RemovePodSandbox", &pods)?;
    // The kernel takes its time with the links of a namespace.
    node.run("ip link delete up0")?;
    node.run("ip netns delete world")?;
    nothing_left(node)
}

/// Addresses beyond the node.
const WORLD: [&str; 2] = ["192.0.2.2", "2001:db8::2"];

/// Connects the node to a world that knows no way to the pods.
fn add_world(node: &Node) -> anyhow::Result<()> {
    for command in [
        "ip netns add world",
        "ip link add up0 type veth peer name world0 netns world",
        "ip address add 192.0.2.1/24 dev up0",
        "ip address add 2001:db8::1/64 dev up0 nodad",
        "ip link set up0 up",
        "ip -n world address add 192.0.2.2/24 dev world0",
        "ip -n world address add 2001:db8::2/64 dev world0 nodad",
        "ip -n world link set world0 up",
    ] {
        node.run(command)?;
    }
    Ok(())
}

fn stopped_twice(node: &mut Node) -> anyhow::Result<()> {
    let other = node.run_pod("b")?;
    let before = node.leftovers()?;
    // A link, a namespace, a result for each interface, leases, entries of the
    // journal, elements.
    ensure!(before.len() == 10, "the checks find too little of a pod: {before:#?}");
    let pod = node.run_pod("a")?;
    node.start_container(&pod)?;
    // The namespace is there at first; then it is not, and nothing is known of
    // what was added.
    for _ in 0..2 {
        node.stop(&pod)?;
        let after = node.leftovers()?;
        ensure!(before == after, "a stopped pod leaves something: {before:#?} became {after:#?}");
    }
    node.remove(&pod)?;
    // Without having been stopped.
    node.remove(&other)?;
    nothing_left(node)
}

/// The README's network with IPv6 for all, and IPv4 for one pod.
fn small_network() -> anyhow::Result<String> {
    let mut network: Value = serde_json::from_str(CONFLIST).context("read the conflist")?;
    let ipam = network.pointer_mut("/plugins/0/ipam").context("the plugin has an ipam")?;
    ipam["ranges"] = json!([[{ "subnet": "fd00:88::/64" }], [{ "subnet": "10.88.0.0/30" }]]);
    Ok(network.to_string())
}

/// The README's network in the newest version of CNI.
fn recent_network() -> anyhow::Result<String> {
    let mut network: Value = serde_json::from_str(CONFLIST).context("read the conflist")?;
    network["cniVersion"] = "1.1.0".into();
    Ok(network.to_string())
}

fn status(node: &mut Node) -> anyhow::Result<()> {
    let pod = node.run_pod("a")?;
    node.remove(&pod)?;
    let broken = recent_network()?.replace("host-local", "nobody");
    fs::write(node.path("etc/cni/net.d/10-weir.conflist"), broken)?;
    // The kubelet is told what weir says.
    node.wait_for("the network is not ready", |node| {
        let status = node.cri.call("Status", json!({}))?;
        Ok(status.to_string().contains("nobody"))
    })
}

fn refused(node: &mut Node) -> anyhow::Result<()> {
    let pod = node.run_pod("a")?;
    let before = node.leftovers()?;
    let (method, request) = node.pod_request("b");
    let Err(error) = node.cri.try_call(method, request)? else {
        bail!("there is an address for a second pod");
    };
    for words in ["no IP addresses available", "10.88.0.1-10.88.0.2"] {
        ensure!(error.contains(words), "the error does not say {words:?}: {error}");
    }
    let remaining = node.pods()?;
    ensure!(remaining == [pod.id.as_str()], "containerd keeps the refused pod: {remaining:?}");
    let after = node.leftovers()?;
    ensure!(before == after, "the refused pod leaves something: {before:#?} became {after:#?}");

    // Its name is free, and so is the address once the first one is gone.
    node.remove(&pod)?;
    let pod = node.run_pod("b")?;
    node.remove(&pod)?;
    nothing_left(node)
}

fn vanished(node: &mut Node) -> anyhow::Result<()> {
    let pods = node.run_pods(&["unmounted", "dead"])?;
    let [unmounted, dead] = &pods[..] else { bail!("there are {} pods", pods.len()) };
    // This one's processes keep the namespace, which nobody finds any more.
    take_away_namespace(node, unmounted)?;
    // This one is gone with its links, as after a crash.
    node.run(&format!("{} --namespace k8s.io task kill --signal SIGKILL {}", ctr(), dead.id))?;
    take_away_namespace(node, dead)?;
    node.wait_for("the links of the dead pod are gone", |node| {
        Ok(node.run("ip -brief link show type veth")?.lines().count() == 1)
    })?;
    for pod in &pods {
        node.stop(pod)?;
    }
    nothing_left(node)?;
    pods.iter().try_for_each(|pod| node.remove(pod))?;
    nothing_left(node)
}

fn take_away_namespace(node: &mut Node, pod: &Pod) -> anyhow::Result<()> {
    let namespace = node.namespace(pod)?;
    node.run(&format!("umount --lazy /run/netns/{namespace}"))?;
    node.run(&format!("rm /run/netns/{namespace}")).map(drop)
}

fn five_pods(node: &mut Node) -> anyhow::Result<()> {
    for _ in 0..2 {
        let pods = node.run_pods(&["a", "b", "c", "d", "e"])?;
        let mut all = BTreeSet::new();
        for pod in &pods {
            all.extend(node.addresses(pod)?);
        }
        ensure!(all.len() == 2 * pods.len(), "{} pods have {all:?}", pods.len());
        node.end_pods("StopPodSandbox", &pods)?;
        node.end_pods("RemovePodSandbox", &pods)?;
        nothing_left(node)?;
    }
    Ok(())
}

fn ctr_run(node: &mut Node) -> anyhow::Result<()> {
    // It deletes without a namespace, and with the result of ADD.
    let group = format!("{}/c1", node.cgroup.path());
    let command = format!("busybox ip -o address && busybox ping -c 1 -W 5 {}", GATEWAYS[0]);
    let ctr = ctr();
    let words = "--namespace k8s.io run --cni --rm --snapshotter native --cgroup".split(' ');
    let words = [ctr.as_str()].into_iter().chain(words).chain([
        group.as_str(),
        IMAGE,
        "c1",
        "/bin/busybox",
        "sh",
        "-c",
        command.as_str(),
    ]);
    let shown = node.run_words(words)?;
    for address in ["127.0.0.1/8", "10.88.0.2/16", "fd00:88::2/64"] {
        ensure!(shown.contains(address), "the container has no {address}: {shown}");
    }
    nothing_left(node)
}

fn readme() -> anyhow::Result<()> {
    readme_shows(&[CONFIG, CONFLIST])
}

fn nothing_left(node: &Node) -> anyhow::Result<()> {
    let left = node.leftovers()?;
    ensure!(left.is_empty(), "after the last pod there are {left:#?}");
    let listed = node.run("/opt/cni/bin/weir attachments")?;
    ensure!(listed.starts_with("no attachments"), "weir lists attachments: {listed}");
    Ok(())
}

fn ask(node: &Node, command: &str) -> anyhow::Result<Value> {
    let text = node.run(command)?;
    serde_json::from_str(&text).with_context(|| format!("read the answer of {command}: {text:?}"))
}

fn link<'a>(links: &'a Value, name: &str) -> Option<&'a Value> {
    links.as_array()?.iter().find(|link| link["ifname"] == name)
}

fn addresses<'a>(links: &'a Value, name: &str, scope: &'a str) -> impl Iterator<Item = IpAddr> + 'a {
    let all = link(links, name).and_then(|link| link["addr_info"].as_array());
    let some = all.into_iter().flatten().filter(move |address| address["scope"] == scope);
    some.filter_map(|address| address["local"].as_str()?.parse().ok())
}
