//! Bad variables.

use std::fs;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::{Bad, GOOD, add};

/// A good ADD but for one variable.
fn variable(
    name: &'static str,
    codes: &'static [u64],
    says: &'static [&'static str],
    variable: &'static str,
    value: &'static str,
) -> Bad {
    Bad::new(name, codes, says, move |lab| Ok(add(lab).variable(variable, value).input(GOOD)))
}

pub(super) fn rows() -> Vec<Bad> {
    let mut rows = parameters();
    rows.extend(namespaces());
    rows.extend(arguments());
    rows
}

fn parameters() -> Vec<Bad> {
    let id = |name, id| variable(name, &[4], &["CNI_CONTAINERID"], "CNI_CONTAINERID", id);
    let ifname = |name, ifname| variable(name, &[4], &["CNI_IFNAME"], "CNI_IFNAME", ifname);
    vec![
        Bad::new(
            "no variables about the container",
            &[4],
            &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "ADD"],
            |lab| Ok(lab.call("bridge", "ADD").input(GOOD)),
        ),
        Bad::new("DEL without variables", &[4], &["CNI_CONTAINERID", "CNI_IFNAME", "DEL"], |lab| {
            Ok(lab.call("bridge", "DEL").input(GOOD))
        }),
        Bad::new("one missing variable", &[4], &["CNI_IFNAME"], |lab| {
            Ok(add(lab).without_variable("CNI_IFNAME").input(GOOD))
        }),
        variable("an unknown command", &[4], &["CNI_COMMAND", "FROBNICATE"], "CNI_COMMAND", "FROBNICATE"),
        variable("a command in small letters", &[4], &["CNI_COMMAND", "add"], "CNI_COMMAND", "add"),
        id("an empty container id", ""),
        id("a container id that is a path", "../../x"),
        id("a container id with a slash", "a/b"),
        id("a container id that is two dots", ".."),
        id("a container id with a line's end", "a\nb"),
        ifname("an empty interface name", ""),
        ifname("an interface name that is a path", "../x"),
        ifname("an interface name that is two dots", ".."),
        ifname("an interface name with a colon", "eth0:1"),
        ifname("an interface name with a blank", "eth 0"),
        ifname("an interface name that is too long", "sixteen-bytes-xx"),
    ]
}

fn namespaces() -> Vec<Bad> {
    vec![
        variable(
            "a namespace that is not there",
            &[3, 4],
            &["CNI_NETNS", "/nowhere"],
            "CNI_NETNS",
            "/nowhere",
        ),
        variable("a namespace that is a directory", &[4], &["CNI_NETNS", "/proc"], "CNI_NETNS", "/proc"),
        variable("a namespace that is a device", &[4], &["CNI_NETNS", "/dev/null"], "CNI_NETNS", "/dev/null"),
        variable(
            "a namespace of another kind",
            &[4],
            &["CNI_NETNS", "/proc/self/ns/uts"],
            "CNI_NETNS",
            "/proc/self/ns/uts",
        ),
        Bad::new("a namespace that is a plain file", &[4], &["CNI_NETNS", "plain"], |lab| {
            let path = lab.path("plain");
            fs::write(&path, "")?;
            Ok(add(lab).variable("CNI_NETNS", path).input(GOOD))
        }),
        Bad::new("a namespace that is a fifo", &[4], &["CNI_NETNS", "fifo"], |lab| {
            let path = lab.path("fifo");
            mkfifo(&path, Mode::S_IRWXU)?;
            Ok(add(lab).variable("CNI_NETNS", path).input(GOOD))
        }),
        variable("the node's own namespace", &[8], &["/proc/self/ns/net"], "CNI_NETNS", "/proc/self/ns/net"),
        Bad::new(
            "the node's own namespace, with an override that says no",
            &[8],
            &["/proc/self/ns/net"],
            |lab| {
                let call = add(lab).variable("CNI_NETNS", "/proc/self/ns/net");
                Ok(call.variable("CNI_NETNS_OVERRIDE", "0").input(GOOD))
            },
        ),
    ]
}

fn arguments() -> Vec<Bad> {
    vec![
        variable("an unknown argument", &[4], &["CNI_ARGS", "COLOR"], "CNI_ARGS", "COLOR=red"),
        variable(
            "an unknown argument of many",
            &[4],
            &["COLOR"],
            "CNI_ARGS",
            "IP=10.1.0.9;COLOR=red;IgnoreUnknown=0",
        ),
        variable("an argument without a value", &[4], &["CNI_ARGS", "IP"], "CNI_ARGS", "IP"),
        variable(
            "an IgnoreUnknown that is neither",
            &[4],
            &["IgnoreUnknown", "maybe"],
            "CNI_ARGS",
            "IgnoreUnknown=maybe",
        ),
        variable("an argument IP that is none", &[4, 7], &["IP", "10.1.0.300"], "CNI_ARGS", "IP=10.1.0.300"),
        variable("an argument IP outside of the range", &[4, 7], &["10.9.0.1"], "CNI_ARGS", "IP=10.9.0.1"),
        variable(
            "an argument IP that is the gateway's",
            &[4, 7],
            &["10.1.0.1", "gateway"],
            "CNI_ARGS",
            "IP=10.1.0.1",
        ),
        variable("an argument MAC that is none", &[4, 7], &["02:xx"], "CNI_ARGS", "MAC=02:xx"),
        variable(
            "an argument MAC of a group",
            &[4, 7, 105],
            &["01:00:5e:00:00:01"],
            "CNI_ARGS",
            "MAC=01:00:5e:00:00:01",
        ),
        variable("a time limit that is none", &[4], &["WEIR_TIMEOUT", "soon"], "WEIR_TIMEOUT", "soon"),
    ]
}
