//! The exchange with the kernel: one request and its answers.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::libc::ENODEV;
use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_DUMP, NetlinkMessage};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::sys::Socket;

use super::message;
use crate::kernel::{Content, Datagrams, Interruption, Refusal, unreadable};

/// The moment by which each answer of a call must be there.
pub(crate) struct Budget(Mutex<Instant>);

impl Budget {
    pub(crate) fn until(deadline: Instant) -> Self {
        Self(Mutex::new(deadline))
    }

    /// The time that is left.
    pub(crate) fn remaining(&self) -> Duration {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).saturating_duration_since(Instant::now())
    }

    /// Gives clean-up its own time after the call's has run out.
    pub(crate) fn extend(&self, deadline: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = deadline;
    }
}

/// Why a request was not answered as it should be.
#[derive(Debug)]
pub(super) enum Cause {
    /// The kernel refused.
    Refused(Refusal),
    /// There is no answer.
    Interrupted(Interruption),
}

impl From<Interruption> for Cause {
    fn from(interruption: Interruption) -> Self {
        Self::Interrupted(interruption)
    }
}

/// Answers to one request that are kept: anybody in a container can give its
/// links any number of neighbors, addresses and routes.
const ANSWER_LIMIT: usize = 1 << 18;

/// An open routing socket.
pub(super) struct Connection(Mutex<State>);

struct State {
    datagrams: Datagrams,
    /// The number of the last request.
    number: u32,
}

impl Connection {
    /// Takes over a blocking socket.
    pub(super) fn new(socket: Socket) -> io::Result<Self> {
        let datagrams = Datagrams::new(socket)?;
        // Lists are then filtered by the kernel. Old ones cannot, so that what
        // they list is filtered here as well.
        let _ = datagrams.socket.set_netlink_get_strict_chk(true);
        Ok(Self(Mutex::new(State { datagrams, number: 0 })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The name that a link has at this moment.
    pub(super) fn link_name(&self, index: u32) -> io::Result<String> {
        Ok(rustix::net::netdevice::index_to_name(&self.lock().datagrams.socket, index)?)
    }

    /// Sends a request and gathers its answers; those about links have their
    /// settings, where that is wanted.
    pub(super) fn exchange(
        &self,
        request: RouteNetlinkMessage,
        flags: u16,
        with_settings: bool,
        budget: &Budget,
    ) -> Result<Vec<RouteNetlinkMessage>, Cause> {
        let State { datagrams, number } = &mut *self.lock();
        *number = number.wrapping_add(1);
        let mut request = NetlinkMessage::from(request);
        request.header.flags = flags;
        request.header.sequence_number = *number;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        datagrams.send(&bytes, || budget.remaining())?;
        // Nothing follows the answer to a question about one object.
        let is_about_one = flags & (NLM_F_ACK | NLM_F_DUMP) == 0;
        let mut answers = Vec::new();
        loop {
            for answer in datagrams.receive(|| budget.remaining())? {
                let answer = answer?;
                if answer.number != *number {
                    // It is late: whoever asked has given up.
                    continue;
                }
                match answer.content {
                    Content::Object { kind, payload } => match message::read(kind, payload, with_settings) {
                        Ok(object) if is_about_one => return Ok(vec![object]),
                        Ok(object) => answers.push(object),
                        Err(error) if is_about_one => return Err(unreadable(&error).into()),
                        // weir makes nothing that it cannot read.
                        Err(_) => {}
                    },
                    // Some kernels end the list of a link's addresses so, if
                    // the link has no IPv6.
                    Content::End(Err(refusal)) if refusal.errno != ENODEV => {
                        return Err(Cause::Refused(refusal));
                    }
                    Content::End(_) => return Ok(answers),
                    Content::Refusal(refusal) => return Err(Cause::Refused(refusal)),
                }
            }
            if answers.len() > ANSWER_LIMIT {
                let reason = format!("there are more than {ANSWER_LIMIT}");
                return Err(Interruption::Socket(reason).into());
            }
            // Somebody else may have made the list as long as they like.
            if budget.remaining().is_zero() {
                return Err(Interruption::TimedOut.into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rtnetlink::packet_core::{NLM_F_DUMP, NLM_F_REQUEST};
    use rtnetlink::packet_route::link::LinkMessage;
    use rtnetlink::sys::protocols::NETLINK_ROUTE;

    use super::*;

    /// The loopback link, which every namespace has under this number.
    const LO: u32 = 1;

    fn connection() -> Connection {
        Connection::new(Socket::new(NETLINK_ROUTE).unwrap()).unwrap()
    }

    fn soon() -> Budget {
        Budget::until(Instant::now() + Duration::from_secs(10))
    }

    fn about(index: u32) -> RouteNetlinkMessage {
        let mut message = LinkMessage::default();
        message.header.index = index;
        RouteNetlinkMessage::GetLink(message)
    }

    fn numbers(answers: &[RouteNetlinkMessage]) -> Vec<u32> {
        let number = |answer: &RouteNetlinkMessage| match answer {
            RouteNetlinkMessage::NewLink(link) => link.header.index,
            other => panic!("{other:?}"),
        };
        answers.iter().map(number).collect()
    }

    fn ask(connection: &Connection, index: u32) -> Result<Vec<u32>, Cause> {
        connection.exchange(about(index), NLM_F_REQUEST, false, &soon()).map(|answers| numbers(&answers))
    }

    #[test]
    fn one_and_all_are_answered() {
        let connection = connection();
        assert_eq!(ask(&connection, LO).unwrap(), [LO]);
        let all = connection.exchange(about(0), NLM_F_REQUEST | NLM_F_DUMP, false, &soon()).unwrap();
        assert!(numbers(&all).contains(&LO), "{all:?}");
        assert_eq!(ask(&connection, LO).unwrap(), [LO], "nothing is left of the list");
    }

    #[test]
    fn a_refusal_is_told_and_leaves_the_socket_in_order() {
        let connection = connection();
        let refused = ask(&connection, 1 << 30);
        assert!(matches!(&refused, Err(Cause::Refused(refusal)) if refusal.errno == ENODEV), "{refused:?}");
        assert_eq!(ask(&connection, LO).unwrap(), [LO]);
    }

    #[test]
    fn late_answers_are_passed_over() {
        let connection = connection();
        for _ in 0..3 {
            let mut unread = NetlinkMessage::from(about(1 << 30));
            unread.header.flags = NLM_F_REQUEST;
            unread.header.sequence_number = 1000;
            unread.finalize();
            let mut bytes = vec![0; unread.buffer_len()];
            unread.serialize(&mut bytes);
            let sent = connection.lock().datagrams.send(&bytes, || Duration::from_secs(10));
            assert_eq!(sent, Ok(()));
        }
        assert_eq!(ask(&connection, LO).unwrap(), [LO]);
    }

    #[test]
    fn nothing_is_sent_when_the_time_is_up() {
        let connection = connection();
        let over = Budget::until(Instant::now());
        let answer = connection.exchange(about(LO), NLM_F_REQUEST, false, &over);
        assert!(matches!(answer, Err(Cause::Interrupted(Interruption::TimedOut))), "{answer:?}");
        let left = connection.lock().datagrams.receive(|| Duration::ZERO).err();
        assert_eq!(left, Some(Interruption::TimedOut), "there is an answer");
    }
}
