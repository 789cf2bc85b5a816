//! What is compared: network configurations, and what a runtime does with them.

mod addresses;
mod bridge;
mod chain;
mod errors;
mod ptp;
mod simple;

use serde_json::Value;

use crate::lab::Family;

/// The version of cases that are about something else.
const USUAL_VERSION: &str = "1.0.0";

/// A line of the table.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    /// A sentence, less its subject.
    pub(crate) name: String,
    /// The plugin that is called.
    pub(crate) plugin: &'static str,
    /// The configuration without `cniVersion`, `name` and `type`, if it does
    /// not say them itself. `{dir}` stands for the lab's directory.
    pub(crate) config: &'static str,
    /// Plugins that come after it in the list, and their configurations, in
    /// the same way. They are native in both labs.
    pub(crate) followers: Vec<(&'static str, &'static str)>,
    /// `cniVersion`; empty for none.
    pub(crate) version: &'static str,
    /// `CNI_ARGS`.
    pub(crate) arguments: &'static str,
    /// `CNI_IFNAME`.
    pub(crate) ifname: &'static str,
    /// Files to make in the lab's directory.
    pub(crate) files: Vec<(&'static str, &'static str)>,
    /// What happens.
    pub(crate) steps: Vec<Step>,
    /// What the machine or the reference needs to have.
    pub(crate) needs: Vec<Need>,
}

/// Something that happens in both labs. Containers are numbered from 0.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step {
    /// ADD, which has to succeed.
    Add(usize),
    /// ADD, which has to fail and to say all of this.
    Refused(usize, Vec<&'static str>),
    /// CHECK, which has to succeed.
    Check(usize),
    /// CHECK, which has to fail.
    Changed(usize),
    /// DEL with everything that a runtime knows.
    Del(usize),
    /// DEL after a refused ADD. Weir does it whatever the configuration says;
    /// native plugins refuse a bad one again.
    CleanUp(usize),
    /// DEL with an empty `CNI_NETNS`.
    DelWithoutNetns(usize),
    /// The container's processes end, and with them its namespace.
    End(usize),
    /// A program on the node.
    OnNode(&'static str),
    /// A program in a container's network.
    InContainer(usize, &'static str),
    /// A container can reach an address, or it cannot.
    Reaches(usize, &'static str, bool),
    /// The world sees this address when the container connects to it.
    WorldSees(usize, Family, &'static str),
}

/// What a case needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// A network beyond the node.
    World,
    /// The `nft` program, for the native plugins.
    Nft,
    /// The `iptables` program, for the native plugins.
    Iptables,
    /// Native plugins that are newer than 1.1.1.
    RecentReference,
    /// VLAN filtering in the kernel's bridge.
    VlanFiltering,
}

impl Case {
    /// A case with the usual steps for its version.
    pub(crate) fn new(plugin: &'static str, name: &str, config: &'static str) -> Self {
        Self {
            name: name.to_owned(),
            plugin,
            config,
            followers: Vec::new(),
            version: USUAL_VERSION,
            arguments: "",
            ifname: "eth0",
            files: Vec::new(),
            steps: usual_steps(USUAL_VERSION),
            needs: Vec::new(),
        }
    }

    fn version(mut self, version: &'static str) -> Self {
        self.version = version;
        self.steps = usual_steps(version);
        self
    }

    fn arguments(mut self, arguments: &'static str) -> Self {
        self.arguments = arguments;
        self
    }

    fn followed_by(mut self, plugin: &'static str, config: &'static str) -> Self {
        self.followers.push((plugin, config));
        self
    }

    fn file(mut self, name: &'static str, content: &'static str) -> Self {
        self.files.push((name, content));
        self
    }

    /// Replaces the steps.
    fn steps(mut self, steps: impl Into<Vec<Step>>) -> Self {
        self.steps = steps.into();
        self
    }

    /// Puts steps before the usual ones.
    fn first(mut self, steps: impl Into<Vec<Step>>) -> Self {
        let usual = std::mem::replace(&mut self.steps, steps.into());
        self.steps.extend(usual);
        self
    }

    /// Puts steps after the last ADD.
    fn then(mut self, steps: impl IntoIterator<Item = Step>) -> Self {
        let last =
            self.steps.iter().rposition(|step| matches!(step, Step::Add(_))).map_or(0, |last| last + 1);
        self.steps.splice(last..last, steps);
        self
    }

    /// One ADD that fails, and the DEL that a runtime sends after it.
    fn refused(self, facts: impl Into<Vec<&'static str>>) -> Self {
        self.steps([Step::Refused(0, facts.into()), Step::CleanUp(0)])
    }

    fn needs(mut self, need: Need) -> Self {
        self.needs.push(need);
        self
    }

    /// How many containers there are.
    pub(crate) fn containers(&self) -> usize {
        let number = |step: &Step| match step {
            Step::Add(number)
            | Step::Refused(number, _)
            | Step::Check(number)
            | Step::Changed(number)
            | Step::Del(number)
            | Step::CleanUp(number)
            | Step::DelWithoutNetns(number)
            | Step::End(number)
            | Step::InContainer(number, _)
            | Step::Reaches(number, ..)
            | Step::WorldSees(number, ..) => number + 1,
            Step::OnNode(_) => 0,
        };
        self.steps.iter().map(number).max().unwrap_or_default()
    }

    /// The configuration of each plugin of the list, for a lab in `directory`.
    pub(crate) fn configs(&self, directory: &str) -> anyhow::Result<Vec<(&'static str, Value)>> {
        let all = [(self.plugin, self.config)].into_iter().chain(self.followers.iter().copied());
        all.map(|(plugin, text)| {
            let mut config: Value = serde_json::from_str(&text.replace("{dir}", directory))?;
            for (key, value) in [("cniVersion", self.version), ("name", "mynet"), ("type", plugin)] {
                if config[key].is_null() && !value.is_empty() {
                    config[key] = value.into();
                }
            }
            Ok((plugin, config))
        })
        .collect()
    }
}

/// Two containers come and go; the second's namespace is gone before DEL.
fn usual_steps(version: &str) -> Vec<Step> {
    let mut steps = vec![Step::Add(0)];
    if knows_check(version) {
        steps.push(Step::Check(0));
    }
    steps.extend([Step::Add(1), Step::Del(0), Step::Del(0), Step::End(1), Step::DelWithoutNetns(1)]);
    steps
}

/// Another network gives a container default routes.
fn other_network(container: usize) -> [Step; 7] {
    [
        "ip link add other0 type veth peer name other1",
        "ip link set other0 up",
        "ip link set other1 up",
        "ip address add 192.168.7.2/24 dev other0",
        "ip address add fd00:7::2/64 dev other0 nodad",
        "ip route add default via 192.168.7.1",
        "ip route add default via fd00:7::1",
    ]
    .map(|command| Step::InContainer(container, command))
}

/// Whether a version has CHECK, and passes `prevResult` to DEL.
pub(crate) fn knows_check(version: &str) -> bool {
    !["", "0.1.0", "0.2.0", "0.3.0", "0.3.1"].contains(&version)
}

/// The whole table.
pub(crate) fn all() -> Vec<Case> {
    [bridge::cases(), addresses::cases(), ptp::cases(), simple::cases(), chain::cases(), errors::cases()]
        .concat()
}
