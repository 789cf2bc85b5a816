//! The conversation with the kernel: requests, batches and listings, each one
//! datagram, and the answers to them.

use std::collections::BTreeMap;
use std::iter;
use std::time::{Duration, Instant};

use netlink_packet_netfilter::nftables::{GenMessage, NfTablesMessage};
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessageInner, NetfilterProtoFamily};
use nix::libc::{EAGAIN, EINTR, ENOENT, EOPNOTSUPP, ERESTART};
use rtnetlink::packet_core::{NLM_F_DUMP, NLM_F_REQUEST};
use rtnetlink::sys::Socket;

use super::batch::{self, Batch, Outcome};
use super::error::Cause;
use super::set::{Element, Set};
use crate::kernel::attribute::{self, attribute};
use crate::kernel::{Answer, Content, Datagrams, Interruption, Refusal};

/// `struct nfgenmsg` of linux/netfilter/nfnetlink.h, before the attributes of
/// an object.
const NETFILTER_HEADER: usize = 4;

/// How often a listing is begun again because the rule set changed meanwhile.
const LISTINGS: usize = 16;

/// The attributes of an object of the rule set.
pub(super) type Object = Vec<u8>;

/// A socket and the time that an operation on it has left.
pub(super) struct Channel {
    datagrams: Datagrams,
    /// The time of each operation.
    pub(super) timeout: Duration,
    deadline: Instant,
    /// The number of the next message. Answers carry it, so that late ones are
    /// recognised.
    next: u32,
    /// In a plan, every change succeeds, and none is made.
    pub(super) is_imagined: bool,
}

impl Channel {
    pub(super) fn new(socket: Socket, timeout: Duration) -> Result<Self, Cause> {
        let datagrams = Datagrams::new(socket).map_err(Interruption::from)?;
        let deadline = Instant::now() + timeout;
        Ok(Self { datagrams, timeout, deadline, next: 1, is_imagined: false })
    }

    /// Begins an operation.
    pub(super) fn start(&mut self) {
        self.deadline = Instant::now() + self.timeout;
    }

    /// Fails if the operation's time is over. To be asked in each loop that
    /// ends only when no other process interferes.
    pub(super) fn check_time(&self) -> Result<(), Cause> {
        if Instant::now() < self.deadline { Ok(()) } else { Err(Cause::TimedOut) }
    }

    /// Has the kernel make changes. With a `generation`, only if the rule set
    /// is still the one that had it.
    pub(super) fn commit(&mut self, batch: &Batch, generation: Option<u32>) -> Result<Outcome, Cause> {
        if self.is_imagined {
            return Ok(Outcome::Committed);
        }
        loop {
            self.check_time()?;
            let first = self.numbers(batch.len() + 2);
            self.send(&batch.encode(first, generation))?;
            match self.outcome(batch, first)? {
                Ok(refused) if refused.is_empty() => return Ok(Outcome::Committed),
                Ok(refused) if !refused.iter().any(|refused| is_passing(refused.refusal.errno)) => {
                    return Ok(Outcome::Refused(refused));
                }
                Ok(_) => {}
                Err(refusal) if refusal.errno == ERESTART && generation.is_some() => {
                    return Ok(Outcome::Outdated);
                }
                Err(refusal) if is_passing(refusal.errno) => {}
                Err(refusal) => return Err(whole(refusal)),
            }
            std::thread::yield_now();
        }
    }

    /// Reads the answers to a batch: which steps were refused, or why all of
    /// it was.
    fn outcome(&mut self, batch: &Batch, first: u32) -> Result<Result<Vec<batch::Refused>, Refusal>, Cause> {
        let mut refused = Vec::new();
        loop {
            for answer in self.receive()? {
                let answer = answer?;
                let number = answer.number.wrapping_sub(first) as usize;
                if number > batch.len() {
                    continue;
                }
                if let Content::Refusal(refusal) = answer.content {
                    match number.checked_sub(1) {
                        None => return Ok(Err(refusal)),
                        Some(index) => refused.extend(batch.refused(index, refusal)),
                    }
                }
                if number == batch.len() {
                    return Ok(Ok(refused));
                }
            }
        }
    }

    /// Asks for elements, and for the generation of the rule set before they
    /// were read. An element is none if it, its set or its table is absent.
    pub(super) fn elements<const N: usize>(
        &mut self,
        family: NetfilterProtoFamily,
        wanted: [(&Set, &[u8]); N],
    ) -> Result<(u32, [Option<Element>; N]), Cause> {
        let (generation, answers) = self.objects(family, wanted.map(|(set, key)| set.get(key)))?;
        Ok((generation, answers.map(|answer| Element::read(&answer?).pop())))
    }

    /// Asks for objects, and for the generation of the rule set before they
    /// were read. An object is none if it, or what it is in, is absent.
    pub(super) fn objects<const N: usize>(
        &mut self,
        family: NetfilterProtoFamily,
        wanted: [NfTablesMessage; N],
    ) -> Result<(u32, [Option<Object>; N]), Cause> {
        let (generation, mut objects) = self.objects_of(family, &wanted)?;
        Ok((generation, std::array::from_fn(|at| objects.get_mut(at).and_then(Option::take))))
    }

    /// The same for any number of objects, each of which makes the kernel
    /// answer with a datagram.
    pub(super) fn objects_of(
        &mut self,
        family: NetfilterProtoFamily,
        wanted: &[NfTablesMessage],
    ) -> Result<(u32, Vec<Option<Object>>), Cause> {
        const NFTA_GEN_ID: u16 = 1;
        let count = wanted.len();
        let generation = NfTablesMessage::GetGen(GenMessage { attributes: Vec::new() });
        let mut request = Vec::with_capacity(512);
        loop {
            self.check_time()?;
            let first = self.numbers(count + 1);
            request.clear();
            for (message, number) in iter::once(&generation).chain(wanted).zip(0..) {
                let header = NetfilterHeader::new(family, 0, 0);
                batch::encode(
                    &mut request,
                    header,
                    message.clone(),
                    NLM_F_REQUEST,
                    first.wrapping_add(number),
                );
            }
            self.send(&request)?;
            let mut generation = None;
            let mut objects = vec![None; count];
            let mut is_passing_by = false;
            let mut missing = count + 1;
            while missing > 0 {
                for answer in self.receive()? {
                    let answer = answer?;
                    let number = answer.number.wrapping_sub(first) as usize;
                    if number > count {
                        continue;
                    }
                    missing -= 1;
                    match (answer.content, number.checked_sub(1)) {
                        (Content::Object { payload, .. }, Some(index)) => {
                            objects[index] = Some(object(payload).to_vec())
                        }
                        (Content::Object { payload, .. }, None) => {
                            generation = attribute(object(payload), NFTA_GEN_ID).and_then(attribute::number);
                        }
                        (Content::Refusal(refusal), _) if is_passing(refusal.errno) => is_passing_by = true,
                        (Content::Refusal(Refusal { errno: ENOENT, .. }), Some(_)) => {}
                        (Content::Refusal(refusal), _) => return Err(whole(refusal)),
                        (Content::End(_), _) => {}
                    }
                }
            }
            if is_passing_by {
                continue;
            }
            return match generation {
                Some(generation) => Ok((generation, objects)),
                None => Err(Cause::Socket("the kernel does not tell the rule set's generation".to_owned())),
            };
        }
    }

    /// Lists all elements of a set; none if it is absent. On a node whose rule
    /// set never rests long enough for one listing, what several listings saw
    /// is put together.
    pub(super) fn list(&mut self, set: &Set) -> Result<Vec<Element>, Cause> {
        let mut seen = BTreeMap::new();
        for _ in 0..LISTINGS {
            let (objects, is_complete) = self.dump(set.family, &set.list())?;
            let elements = objects.iter().flat_map(|object| Element::read(object));
            if is_complete {
                return Ok(elements.collect());
            }
            seen.extend(elements.map(|element| (element.key.clone(), element)));
        }
        Ok(seen.into_values().collect())
    }

    /// Lists objects, and tells whether the listing is of one generation.
    pub(super) fn dump(
        &mut self,
        family: NetfilterProtoFamily,
        request: &NfTablesMessage,
    ) -> Result<(Vec<Object>, bool), Cause> {
        match self.ask(family, request.clone(), NLM_F_REQUEST | NLM_F_DUMP) {
            Err(Cause::Kernel(Refusal { errno: ENOENT, .. })) => Ok((Vec::new(), true)),
            Err(Cause::Kernel(refusal)) if is_passing(refusal.errno) => Ok((Vec::new(), false)),
            answer => answer,
        }
    }

    /// Makes a request of any part of netfilter that the kernel answers with
    /// objects and an end; tells whether nothing changed meanwhile.
    pub(super) fn ask(
        &mut self,
        family: NetfilterProtoFamily,
        request: impl Into<NetfilterMessageInner>,
        flags: u16,
    ) -> Result<(Vec<Object>, bool), Cause> {
        self.check_time()?;
        let first = self.numbers(1);
        let mut bytes = Vec::with_capacity(128);
        let header = NetfilterHeader::new(family, 0, 0);
        batch::encode(&mut bytes, header, request, flags, first);
        self.send(&bytes)?;
        let mut objects = Vec::new();
        let mut is_complete = true;
        loop {
            for answer in self.receive()? {
                let answer = answer?;
                if answer.number != first {
                    continue;
                }
                is_complete &= !answer.is_interrupted;
                match answer.content {
                    Content::Object { payload, .. } => objects.push(object(payload).to_vec()),
                    Content::End(Ok(())) => return Ok((objects, is_complete)),
                    Content::End(Err(refusal)) | Content::Refusal(refusal) => return Err(whole(refusal)),
                }
            }
        }
    }

    /// Takes numbers for messages and returns the first.
    fn numbers(&mut self, count: usize) -> u32 {
        let first = self.next;
        self.next = first.wrapping_add(count as u32);
        first
    }

    fn send(&self, bytes: &[u8]) -> Result<(), Cause> {
        Ok(self.datagrams.send(bytes, left_until(self.deadline))?)
    }

    /// Receives one datagram of the kernel's.
    fn receive(&mut self) -> Result<impl Iterator<Item = Result<Answer<'_>, Interruption>>, Cause> {
        Ok(self.datagrams.receive(left_until(self.deadline))?)
    }
}

fn left_until(deadline: Instant) -> impl Fn() -> Duration {
    move || deadline.saturating_duration_since(Instant::now())
}

/// The attributes of an object that the kernel describes.
fn object(payload: &[u8]) -> &[u8] {
    payload.get(NETFILTER_HEADER..).unwrap_or_default()
}

/// Whether the kernel asks for the same again.
fn is_passing(errno: i32) -> bool {
    matches!(errno, EAGAIN | EINTR | ERESTART)
}

/// A refusal that is not about a step: of the whole batch, or of a request.
fn whole(refusal: Refusal) -> Cause {
    match refusal.errno {
        EOPNOTSUPP => Cause::Unsupported { needs: "nf_tables (CONFIG_NF_TABLES)", refusal },
        _ => Cause::Kernel(refusal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_what_follows_its_header() {
        assert_eq!(object(&[1, 0, 0, 0, 5, 6, 7, 8]), [5, 6, 7, 8]);
        assert!(object(&[1, 0, 0]).is_empty());
    }
}
