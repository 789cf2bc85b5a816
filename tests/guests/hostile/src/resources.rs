//! Time, memory, handles and noise.

use std::hint::black_box;

use weir_sdk::host::log::{self, Level};
use weir_sdk::host::{clock, random};
use weir_sdk::ipam;
use weir_sdk::net::links;
use weir_sdk::{CniError, CniResult};

use crate::{Raid, Step};

impl Raid<'_> {
    /// Takes a step that uses something up; none if it is of another kind.
    pub(crate) fn resources(&mut self, step: Step<'_>) -> Option<Result<(), CniError>> {
        match step.text("do") {
            "spin" => loop {
                black_box(());
            },
            "spin-in-calls" => loop {
                black_box((clock::now(), random::bytes(u32::MAX)));
            },
            "fill-memory" => {
                let mut blocks = Vec::new();
                loop {
                    blocks.push(black_box(vec![1_u8; 1 << 20]));
                }
            }
            "recurse" => {
                black_box(recurse(1));
            }
            "panic" => panic!("{}", step.text("text")),
            "log" => log::emit(Level::Error, &step.long_text("text")),
            "fail" => {
                return Some(Err(CniError {
                    code: step.count("code"),
                    message: step.long_text("message"),
                    details: step.long_text("details"),
                }));
            }
            "hoard-namespaces" => loop {
                match links::host() {
                    Ok(netns) => self.namespaces.push(netns),
                    Err(error) => return Some(Err(error.into())),
                }
            },
            "ask-ipam" => return Some(self.ask()),
            "have-ipam-collect" => return Some(self.network.map_or(Ok(()), ipam::gc)),
            "use-after-drop" => return Some(use_after_drop()),
            "use-as-another" => return Some(use_as_another()),
            "use-invented" => {
                // SAFETY: none; that the number is no handle is the point.
                let netns = unsafe { links::Netns::from_handle(step.count("number")) };
                return Some(netns.link("lo").map(drop).map_err(Into::into));
            }
            _ => return None,
        }
        Some(Ok(()))
    }

    fn ask(&mut self) -> Result<(), CniError> {
        if let Some(attachment) = self.attachment {
            let answer = ipam::add(attachment)?;
            self.result = CniResult { ips: answer.ips, ..self.result.clone() };
        }
        self.network.map_or(Ok(()), ipam::status)
    }
}

fn recurse(depth: u64) -> u64 {
    if black_box(depth) == 0 { 0 } else { recurse(black_box(depth + 1)) + depth }
}

fn use_after_drop() -> Result<(), CniError> {
    let netns = links::host()?;
    let number = netns.handle();
    drop(netns);
    // SAFETY: none; that the handle has ended is the point.
    let netns = unsafe { links::Netns::from_handle(number) };
    netns.link("lo")?;
    Ok(())
}

fn use_as_another() -> Result<(), CniError> {
    let netns = links::host()?;
    // SAFETY: none; that the handle is of another type is the point.
    let link = unsafe { links::Link::from_handle(netns.take_handle()) };
    link.describe()?;
    Ok(())
}
