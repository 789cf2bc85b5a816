//! The conversation with the kernel: requests, batches and listings, each one
//! datagram, and the answers to them.

use std::collections::BTreeMap;
use std::io;
use std::iter;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer};
use netlink_packet_netfilter::nftables::{GenMessage, NfTablesMessage};
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessageInner, NetfilterProtoFamily};
use netlink_sys::{Socket, SocketAddr};
use nix::libc::{EAGAIN, EINTR, ENOENT, EOPNOTSUPP, ERESTART, MSG_DONTWAIT, MSG_TRUNC};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::attribute::{self, attribute};
use super::batch::{self, Batch, Outcome};
use super::error::{Cause, Refusal};
use super::set::{Element, Set};

/// The kernel fills an answer to a listing up to this size.
const ANSWER_SIZE: usize = 32 * 1024;

/// How often a listing is begun again because the rule set changed meanwhile.
const LISTINGS: usize = 16;

/// The attributes of an object of the rule set.
pub(super) type Object = Vec<u8>;

/// A socket and the time that an operation on it has left.
pub(super) struct Channel {
    socket: Socket,
    /// The time of each operation.
    pub(super) timeout: Duration,
    deadline: Instant,
    /// The number of the next message. Answers carry it, so that late ones are
    /// recognised.
    next: u32,
    answer: Vec<u8>,
    /// In a plan, every change succeeds, and none is made.
    pub(super) is_imagined: bool,
}

impl Channel {
    pub(super) fn new(socket: Socket, timeout: Duration) -> io::Result<Self> {
        // The kernel then answers failures with a text, and without the
        // request that they belong to.
        socket.set_ext_ack(true)?;
        socket.set_cap_ack(true)?;
        let answer = Vec::with_capacity(ANSWER_SIZE);
        let deadline = Instant::now() + timeout;
        Ok(Self { socket, timeout, deadline, next: 1, answer, is_imagined: false })
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
                    let number = answer.number.wrapping_sub(first) as usize;
                    if number > count {
                        continue;
                    }
                    missing -= 1;
                    match (answer.content, number.checked_sub(1)) {
                        (Content::Object(object), Some(index)) => objects[index] = Some(object),
                        (Content::Object(object), None) => {
                            generation = attribute(&object, NFTA_GEN_ID).and_then(attribute::number);
                        }
                        (Content::Refusal(refusal), _) if is_passing(refusal.errno) => is_passing_by = true,
                        (Content::Refusal(Refusal { errno: ENOENT, .. }), Some(_)) => {}
                        (Content::Refusal(refusal), _) => return Err(whole(refusal)),
                        (Content::End, _) => {}
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
                if answer.number != first {
                    continue;
                }
                is_complete &= !answer.is_interrupted;
                match answer.content {
                    Content::Object(object) => objects.push(object),
                    Content::End => return Ok((objects, is_complete)),
                    Content::Refusal(refusal) => return Err(whole(refusal)),
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
        let kernel = SocketAddr::new(0, 0);
        loop {
            match self.socket.send_to(bytes, &kernel, 0) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => self.check_time()?,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Receives one datagram of the kernel's.
    fn receive(&mut self) -> Result<Vec<Answer>, Cause> {
        loop {
            self.answer.clear();
            match self.socket.recv_from(&mut self.answer, MSG_DONTWAIT | MSG_TRUNC) {
                Ok((_, sender)) if sender.port_number() != 0 => {}
                Ok((length, _)) if length > self.answer.len() => {
                    return Err(Cause::Socket(format!("the kernel's answer of {length} bytes is too long")));
                }
                Ok(_) => return parse(&self.answer),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait()?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => self.check_time()?,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits for something to receive.
    fn wait(&self) -> Result<(), Cause> {
        self.check_time()?;
        // One more, as poll counts whole milliseconds.
        let left = self.deadline.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(_) | Err(nix::Error::EINTR) => Ok(()),
            Err(errno) => Err(Cause::Socket(errno.desc().to_owned())),
        }
    }
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

/// A message of the kernel's.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    number: u32,
    /// Whether the rule set changed during the listing that this is part of.
    is_interrupted: bool,
    content: Content,
}

#[derive(Debug, PartialEq, Eq)]
enum Content {
    Object(Object),
    /// The request is done: an acknowledgement, or the end of a listing.
    End,
    Refusal(Refusal),
}

fn parse(datagram: &[u8]) -> Result<Vec<Answer>, Cause> {
    const NLM_F_DUMP_INTR: u16 = 0x10;
    const NETFILTER_HEADER: usize = 4;
    let mut answers = Vec::with_capacity(1);
    let mut rest = datagram;
    while !rest.is_empty() {
        let message = NetlinkBuffer::new_checked(rest)
            .map_err(|error| Cause::Socket(format!("the kernel's answer cannot be read: {error}")))?;
        let payload = message.payload();
        let content = match message.message_type() {
            NLMSG_ERROR | NLMSG_DONE => {
                let (code, words) = payload.split_first_chunk().unwrap_or((&[0; 4], &[]));
                match i32::from_ne_bytes(*code) {
                    0.. => Content::End,
                    code => Content::Refusal(Refusal::new(code.saturating_neg(), words)),
                }
            }
            _ => Content::Object(payload.get(NETFILTER_HEADER..).unwrap_or_default().to_vec()),
        };
        let is_interrupted = message.flags() & NLM_F_DUMP_INTR != 0;
        answers.push(Answer { number: message.sequence_number(), is_interrupted, content });
        rest = rest.get((message.length() as usize).next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(answers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_one_after_another() {
        let mut datagram =
            vec![24, 0, 0, 0, 0x0c, 0x0a, 0x10, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 5, 6, 7, 8];
        datagram.extend([20, 0, 0, 0, 3, 0, 2, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        datagram.extend([20, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0xfe, 0xff, 0xff, 0xff]);
        if cfg!(target_endian = "little") {
            let answer = |number, is_interrupted, content| Answer { number, is_interrupted, content };
            assert_eq!(
                parse(&datagram).unwrap(),
                [
                    answer(1, true, Content::Object(vec![5, 6, 7, 8])),
                    answer(2, false, Content::End),
                    answer(3, false, Content::Refusal(Refusal::new(ENOENT, &[]))),
                ]
            );
        }
    }

    #[test]
    fn an_answer_that_is_cut_off_is_an_error() {
        assert!(matches!(parse(&[0; 7]), Err(Cause::Socket(_))));
        assert!(matches!(parse(&[40, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), Err(Cause::Socket(_))));
        assert!(parse(&[]).unwrap().is_empty());
    }
}
