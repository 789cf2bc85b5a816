//! Asking the kernel by way of its sockets (netlink(7)): a request, or a batch
//! of them, is one datagram, and the kernel has answered when that is sent. So
//! the answer is waited for only if it is not there.

pub(crate) mod attribute;
mod refusal;

use std::io;
use std::iter;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::libc::{MSG_DONTWAIT, MSG_TRUNC};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rtnetlink::packet_core::{NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer};
use rtnetlink::sys::{Socket, SocketAddr};

pub(crate) use refusal::Refusal;

/// The kernel fills an answer to a listing up to half of this size.
const ANSWER_SIZE: usize = 64 << 10;

/// What of a refused request is in the answer before the kernel's words, as
/// `NETLINK_CAP_ACK` is on.
const REQUEST_HEADER: usize = 16;

/// Why there is no answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Interruption {
    /// The time is up.
    TimedOut,
    /// The socket failed.
    Socket(String),
}

impl From<io::Error> for Interruption {
    fn from(error: io::Error) -> Self {
        Self::Socket(error.to_string())
    }
}

/// An open socket of a part of the kernel, which may be used again after a
/// failure: what was done may have to be undone through it. Another listing may
/// have to wait for the end of one that was broken off.
pub(crate) struct Datagrams {
    pub(crate) socket: Socket,
    answer: Vec<u8>,
}

/// A message of the kernel's.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer<'a> {
    /// The number of the request, by which late answers are recognised.
    pub(crate) number: u32,
    /// Whether something changed during the listing that this is part of.
    pub(crate) is_interrupted: bool,
    pub(crate) content: Content<'a>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Content<'a> {
    /// A message of this type.
    Object {
        kind: u16,
        payload: &'a [u8],
    },
    /// The request is done: an acknowledgement, or the end of a listing, which
    /// may be one before all was listed.
    End(Result<(), Refusal>),
    Refusal(Refusal),
}

impl Datagrams {
    /// Takes over a blocking socket.
    pub(crate) fn new(socket: Socket) -> io::Result<Self> {
        // The kernel then answers failures with a text, and without the
        // request that they belong to.
        socket.set_ext_ack(true)?;
        socket.set_cap_ack(true)?;
        Ok(Self { socket, answer: Vec::with_capacity(ANSWER_SIZE) })
    }

    /// Sends a datagram; `left` tells the time that there is for it.
    pub(crate) fn send(&self, bytes: &[u8], left: impl Fn() -> Duration) -> Result<(), Interruption> {
        let kernel = SocketAddr::new(0, 0);
        loop {
            check(&left)?;
            match self.socket.send_to(bytes, &kernel, 0) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Receives one datagram of the kernel's; `left` tells the time that there
    /// is for it.
    pub(crate) fn receive(
        &mut self,
        left: impl Fn() -> Duration,
    ) -> Result<impl Iterator<Item = Result<Answer<'_>, Interruption>>, Interruption> {
        loop {
            self.answer.clear();
            match self.socket.recv_from(&mut self.answer, MSG_DONTWAIT | MSG_TRUNC) {
                Ok((_, sender)) if sender.port_number() != 0 => {}
                Ok((length, _)) if length > self.answer.len() => {
                    return Err(Interruption::Socket(format!(
                        "the kernel's answer of {length} bytes is too long"
                    )));
                }
                Ok(_) => return Ok(answers(&self.answer)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait(&left)?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
            check(&left)?;
        }
    }

    /// Waits for something to receive.
    fn wait(&self, left: impl Fn() -> Duration) -> Result<(), Interruption> {
        // One more, as poll counts whole milliseconds.
        let time = left() + Duration::from_millis(1);
        let timeout = PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(_) | Err(nix::Error::EINTR) => Ok(()),
            Err(errno) => Err(Interruption::Socket(errno.desc().to_owned())),
        }
    }
}

fn check(left: impl Fn() -> Duration) -> Result<(), Interruption> {
    if left().is_zero() { Err(Interruption::TimedOut) } else { Ok(()) }
}

/// The messages in a datagram.
fn answers(datagram: &[u8]) -> impl Iterator<Item = Result<Answer<'_>, Interruption>> {
    let mut rest = datagram;
    iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let message = match NetlinkBuffer::new_checked(rest) {
            Ok(message) => message,
            Err(error) => {
                rest = &[];
                return Some(Err(unreadable(&error)));
            }
        };
        let payload = message.payload();
        let content = match (message.message_type(), payload.split_first_chunk()) {
            (NLMSG_DONE, None) => Content::End(Ok(())),
            (NLMSG_DONE, Some((code, words))) => {
                Content::End(refused(*code).map_or(Ok(()), |errno| Err(Refusal::new(errno, words))))
            }
            (NLMSG_ERROR, None) => {
                rest = &[];
                return Some(Err(unreadable(&"an error without a code")));
            }
            (NLMSG_ERROR, Some((code, words))) => match refused(*code) {
                None => Content::End(Ok(())),
                Some(errno) => {
                    let words = words.get(REQUEST_HEADER..).unwrap_or_default();
                    Content::Refusal(Refusal::new(errno, words))
                }
            },
            (kind, _) => Content::Object { kind, payload },
        };
        let is_interrupted = message.flags() & NLM_F_DUMP_INTR != 0;
        let number = message.sequence_number();
        rest = rest.get((message.length() as usize).next_multiple_of(4)..).unwrap_or_default();
        Some(Ok(Answer { number, is_interrupted, content }))
    })
}

/// The positive errno, if it is one.
fn refused(code: [u8; 4]) -> Option<i32> {
    let code = i32::from_ne_bytes(code);
    (code < 0).then(|| code.saturating_neg())
}

/// What is told of an answer that makes no sense.
pub(crate) fn unreadable(error: &dyn std::fmt::Display) -> Interruption {
    Interruption::Socket(format!("the kernel's answer cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use nix::libc::ENOENT;

    use super::*;

    #[test]
    fn answers_are_read_one_after_another() {
        let mut datagram =
            vec![24, 0, 0, 0, 0x0c, 0x0a, 0x10, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 5, 6, 7, 8];
        datagram.extend([20, 0, 0, 0, 3, 0, 2, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        datagram.extend([20, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0xfe, 0xff, 0xff, 0xff]);
        if cfg!(target_endian = "little") {
            let answer = |number, is_interrupted, content| Ok(Answer { number, is_interrupted, content });
            let object = Content::Object { kind: 0x0a0c, payload: &[1, 0, 0, 0, 5, 6, 7, 8] };
            assert_eq!(
                answers(&datagram).collect::<Vec<_>>(),
                [
                    answer(1, true, object),
                    answer(2, false, Content::End(Ok(()))),
                    answer(3, false, Content::Refusal(Refusal::new(ENOENT, &[]))),
                ]
            );
        }
    }

    #[test]
    fn a_listing_may_end_early() {
        let mut datagram = vec![20, 0, 0, 0, 3, 0, 2, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0xfe, 0xff, 0xff, 0xff];
        datagram.extend([16, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
        if cfg!(target_endian = "little") {
            let ends: Vec<_> = answers(&datagram).map(|answer| answer.unwrap().content).collect();
            assert_eq!(ends, [Content::End(Err(Refusal::new(ENOENT, &[]))), Content::End(Ok(()))]);
        }
    }

    #[test]
    fn an_answer_that_is_cut_off_is_an_error() {
        let without_code = [16, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let too_short = [40, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        for datagram in [&[0; 7][..], &too_short, &without_code] {
            let read: Vec<_> = answers(datagram).collect();
            assert!(matches!(read[..], [Err(Interruption::Socket(_))]), "{read:?}");
        }
        assert_eq!(answers(&[]).count(), 0);
    }
}
