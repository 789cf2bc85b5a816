//! The cases, and running each of them by both sides in turns.

mod floor;
mod installed;
mod measure;
mod order;
mod profile;
mod table;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::lab::{Call, Handle, Lab, isolation};

use measure::{Cost, Samples};
use table::Report;

/// Rounds of each case.
const ROUNDS: usize = 120;

/// Runs the cases that the command line names; all by default.
pub(crate) fn run() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let Some(program) = env::var_os(order::TRACED) {
        return order::execute_traced(&program);
    }
    if let [mode, rest @ ..] = arguments.as_slice()
        && mode == "--floor"
    {
        return floor::run(rest);
    }
    if arguments.iter().any(|argument| argument == "--profile") {
        let program = installed::counting_program()?;
        isolation::enter()?;
        return profile::write(&program);
    }
    let program = installed::program()?;
    isolation::enter()?;
    if arguments.iter().any(|argument| argument == "--order") {
        return order::write(&program);
    }
    let rounds = env::var("WEIR_BENCH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(ROUNDS);
    let filter = arguments.first().cloned().unwrap_or_default();
    let mut report = Report::default();
    let bench = Bench { program, rounds, filter };
    bench.run(&mut report)?;
    println!("{report}");
    // Last, since a process counts what its parent once used as its own peak.
    order::warn_if_stale(&bench.program)
}

struct Bench {
    program: PathBuf,
    rounds: usize,
    filter: String,
}

/// The two sides of every comparison.
struct Sides {
    weir: Lab,
    native: Lab,
}

impl Sides {
    fn new(program: &Path, containers: usize) -> Result<Self> {
        let lab = |lab: Result<Lab>| {
            let mut lab = lab?;
            for number in 0..containers {
                lab.add_container_as(&format!("bench{number}"), Handle::BindMount)?;
            }
            anyhow::Ok(lab)
        };
        Ok(Self { weir: lab(installed::weir_lab(program))?, native: lab(installed::native_lab())? })
    }

    fn both(&self) -> [&Lab; 2] {
        [&self.weir, &self.native]
    }
}

fn bridge(extra: Value) -> Value {
    let mut config = json!({
        "cniVersion": "0.4.0", "name": "bench", "type": "bridge", "bridge": "cni0", "isGateway": true,
        "ipam": {"type": "host-local", "subnet": "10.244.0.0/16", "routes": [{"dst": "0.0.0.0/0"}]},
    });
    for (key, value) in extra.as_object().into_iter().flatten() {
        config[key] = value.clone();
    }
    config
}

impl Bench {
    fn run(&self, report: &mut Report) -> Result<()> {
        self.attach("bridge + host-local", &bridge(json!({})), true, report)?;
        self.attach("the same with ipMasq", &bridge(json!({"ipMasq": true})), false, report)?;
        self.version(report)?;
        self.pool(report)?;
        self.policy(report)?;
        // Last, as the disk goes on with so many files for a while, and ADD
        // writes to it.
        [0, 5_000, 50_000].into_iter().try_for_each(|leases| self.host_local(leases, report))
    }

    fn skips(&self, name: &str) -> bool {
        !name.contains(&self.filter)
    }

    /// ADD and DEL of one container, again and again.
    fn attach(&self, name: &str, config: &Value, with_floor: bool, report: &mut Report) -> Result<()> {
        if self.skips(name) {
            return Ok(());
        }
        let sides = Sides::new(&self.program, 1)?;
        let mut samples: [[Samples; 2]; 2] = Default::default();
        let mut floor: [Samples; 2] = Default::default();
        let floor_lab = with_floor.then(floor::lab).transpose()?;
        for round in 0..=self.rounds {
            for (lab, samples) in sides.both().into_iter().zip(&mut samples) {
                for (command, samples) in ["ADD", "DEL"].into_iter().zip(samples) {
                    let call = lab.call_for("bridge", command, &lab.containers[0], "eth0").config(config);
                    let cost = measure::call(lab, &call)?;
                    // The first round makes the bridge and the tables.
                    if round > 0 {
                        samples.add(cost);
                    }
                }
            }
            if let Some(lab) = &floor_lab {
                for (command, samples) in ["add", "del"].into_iter().zip(&mut floor) {
                    let cost = floor::measure(lab, command)?;
                    if round > 0 {
                        samples.add(cost);
                    }
                }
            }
        }
        let [[weir_add, weir_del], [native_add, native_del]] = &samples;
        let [floor_add, floor_del] = &floor;
        let floor_of = |samples| with_floor.then_some(samples);
        report.compare(&format!("{name}: ADD"), weir_add, native_add, floor_of(floor_add));
        report.compare(&format!("{name}: DEL"), weir_del, native_del, floor_of(floor_del));
        Ok(())
    }

    /// The IPAM plugin alone, with leases of others in its pool.
    fn host_local(&self, leases: u32, report: &mut Report) -> Result<()> {
        let name = format!("host-local, {leases} leases");
        if self.skips(&name) {
            return Ok(());
        }
        let sides = Sides::new(&self.program, 1)?;
        let config = bridge(json!({}));
        for lab in sides.both() {
            let directory = lab.leases("bench");
            fs::create_dir_all(&directory)?;
            for number in 0..leases {
                let address = std::net::Ipv4Addr::from_bits(0x0af4_0002 + number);
                fs::write(directory.join(address.to_string()), format!("other{number}\r\neth0"))?;
            }
            let last = std::net::Ipv4Addr::from_bits(0x0af4_0001 + leases);
            fs::write(directory.join("last_reserved_ip.0"), last.to_string())?;
        }
        let mut samples: [[Samples; 2]; 2] = Default::default();
        for round in 0..=self.rounds {
            for (side, (lab, samples)) in sides.both().into_iter().zip(&mut samples).enumerate() {
                // The native plugin reads all leases, for half a second.
                if leases > 10_000 && side == 1 && round % 4 != 0 {
                    continue;
                }
                for (command, samples) in ["ADD", "DEL"].into_iter().zip(samples) {
                    let call =
                        lab.call_for("host-local", command, &lab.containers[0], "eth0").config(&config);
                    let cost = measure::call(lab, &call)?;
                    if round > 0 {
                        samples.add(cost);
                    }
                }
            }
        }
        let [[weir_add, weir_del], [native_add, native_del]] = &samples;
        report.compare(&format!("{name}: ADD"), weir_add, native_add, None);
        report.compare(&format!("{name}: DEL"), weir_del, native_del, None);
        Ok(())
    }

    fn version(&self, report: &mut Report) -> Result<()> {
        if self.skips("VERSION") {
            return Ok(());
        }
        let sides = Sides::new(&self.program, 0)?;
        let mut samples: [Samples; 2] = Default::default();
        for _ in 0..self.rounds {
            for (lab, samples) in sides.both().into_iter().zip(&mut samples) {
                let call = lab.call("bridge", "VERSION").input(r#"{"cniVersion":"1.0.0"}"#);
                samples.add(measure::call(lab, &call)?);
            }
        }
        let [weir, native] = &samples;
        report.compare("VERSION", weir, native, None);
        Ok(())
    }

    /// What a large policy costs; here both sides are weir.
    fn policy(&self, report: &mut Report) -> Result<()> {
        const NAME: &str = "500 rules against none";
        if self.skips(NAME) {
            return Ok(());
        }
        let lab = || {
            let mut lab = installed::weir_lab(&self.program)?;
            lab.add_container_as("bench0", Handle::BindMount)?;
            anyhow::Ok(lab)
        };
        let labs = [lab()?, lab()?];
        write_policy(&labs[0], &many_rules())?;
        let config = bridge(json!({}));
        let mut samples: [[Samples; 2]; 2] = Default::default();
        for round in 0..=self.rounds {
            for (lab, samples) in labs.iter().zip(&mut samples) {
                for (command, samples) in ["ADD", "DEL"].into_iter().zip(samples) {
                    let call = lab.call_for("bridge", command, &lab.containers[0], "eth0").config(&config);
                    let cost = measure::call(lab, &call)?;
                    if round > 0 {
                        samples.add(cost);
                    }
                }
            }
        }
        let [[many_add, many_del], [none_add, none_del]] = &samples;
        report.compare(&format!("{NAME}: ADD"), many_add, none_add, None);
        report.compare(&format!("{NAME}: DEL"), many_del, none_del, None);
        Ok(())
    }

    /// Many containers at once: wall time of all of them, for each operation.
    fn pool(&self, report: &mut Report) -> Result<()> {
        const CONTAINERS: usize = 50;
        const WORKERS: usize = 8;
        if self.skips("50 by a pool of 8") {
            return Ok(());
        }
        let sides = Sides::new(&self.program, CONTAINERS)?;
        let config = bridge(json!({}));
        let mut samples: [[Samples; 2]; 2] = Default::default();
        for round in 0..=self.rounds.div_ceil(20) {
            for (lab, samples) in sides.both().into_iter().zip(&mut samples) {
                for (command, samples) in ["ADD", "DEL"].into_iter().zip(samples) {
                    let calls: Vec<Call> = lab
                        .containers
                        .iter()
                        .map(|container| lab.call_for("bridge", command, container, "eth0").config(&config))
                        .collect();
                    let started = Instant::now();
                    let costs = in_parallel(lab, &calls, WORKERS)?;
                    let each = |total: Duration| total / u32::try_from(CONTAINERS).unwrap_or(1);
                    let cost = Cost {
                        wall: each(started.elapsed()),
                        cpu: each(costs.iter().map(|cost| cost.cpu).sum()),
                        peak: costs.iter().map(|cost| cost.peak).max().unwrap_or_default(),
                    };
                    if round > 0 {
                        samples.add(cost);
                    }
                }
            }
        }
        let [[weir_add, weir_del], [native_add, native_del]] = &samples;
        report.compare("50 by a pool of 8: ADD", weir_add, native_add, None);
        report.compare("50 by a pool of 8: DEL", weir_del, native_del, None);
        Ok(())
    }
}

/// Does something with each of the networks whose calls weir is built to be
/// fast for.
fn usual(lab: &Lab, mut each: impl FnMut(&Value) -> Result<()>) -> Result<()> {
    let kinds = [("0.4.0", false, None), ("1.0.0", true, None), ("1.0.0", false, Some(many_rules()))];
    for (version, masquerade, policy) in kinds {
        if let Some(policy) = policy {
            write_policy(lab, &policy)?;
        }
        each(&json!({
            "cniVersion": version, "name": "bench", "type": "bridge", "bridge": "cni0", "isGateway": true,
            "ipMasq": masquerade,
            "ipam": {"type": "host-local", "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
                     "ranges": [[{"subnet": "10.244.0.0/16"}], [{"subnet": "fd00:244::/64"}]]},
        }))?;
    }
    Ok(())
}

/// Gives a lab a policy, and waits until weir keeps it in compiled form: files
/// that were changed just now are not trusted to stay as they are.
fn write_policy(lab: &Lab, policy: &str) -> Result<()> {
    fs::create_dir_all(lab.path("policy"))?;
    fs::write(lab.path("policy").join("policy.toml"), policy)?;
    thread::sleep(Duration::from_secs(3));
    Ok(())
}

/// A policy of 500 rules, two of which are about the calls.
fn many_rules() -> String {
    let others = (0..249).map(|number| {
        format!(
            "[[allow]]\nnetwork = \"tenant-{number}-*\"\ntenant = \"team-{number}\"\nplugin = [\"bridge\", \"host-local\"]\n\
             bridges = [\"br-{number}\"]\nlinks = [\"veth*\"]\naddresses = [\"10.{number}.0.0/16\"]\n\
             [[deny]]\nnetwork = \"guest-{number}\"\nbridges = [\"uplink*\"]\nroutes = [\"0.0.0.0/0\"]\n"
        )
    });
    let own = "[[allow]]\nnetwork = \"ben*\"\nplugin = \"bridge\"\nbridges = [\"cni0\"]\nlinks = [\"veth*\"]\naddresses = [\"10.244.0.0/16\", \"fd00:244::/64\"]\n\
               [[allow]]\nnetwork = \"bench\"\nplugin = \"host-local\"\naddresses = [\"10.244.0.0/16\", \"fd00:244::/64\"]\n";
    format!("bundled = \"by-rule\"\n{}{own}", others.collect::<String>())
}

fn in_parallel(lab: &Lab, calls: &[Call], workers: usize) -> Result<Vec<Cost>> {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..workers)
            .map(|worker| {
                scope.spawn(move || {
                    let mine = calls.iter().skip(worker).step_by(workers);
                    mine.map(|call| measure::call(lab, call)).collect::<Result<Vec<Cost>>>()
                })
            })
            .collect();
        let mut costs = Vec::new();
        for thread in threads {
            costs.extend(thread.join().ok().context("a worker panicked")??);
        }
        Ok(costs)
    })
}
