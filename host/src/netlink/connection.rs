//! The exchange with the kernel: one request and its answers.
//!
//! A call asks one thing at a time, and the kernel has answered when the
//! request is sent. So rtnetlink's connection is driven from here, without an
//! executor, and the socket is waited for only if no answer is there.

use std::cell::Cell;
use std::io;
use std::os::fd::AsFd;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::BufMut;
use futures_util::StreamExt;
use netlink_packet_core::NetlinkMessage;
use netlink_sys::{AsyncSocket, Socket, SocketAddr};
use nix::libc::MSG_DONTWAIT;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rtnetlink::proto::{self, ConnectionHandle};

use super::message::Message;

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

/// Why there is no answer.
pub(super) enum Interruption {
    /// The time is up.
    TimedOut,
    /// There are more answers than a call has room for.
    TooMany,
    /// The socket failed.
    Socket(String),
}

/// Answers to one request that are kept: anybody in a container can give its
/// links any number of neighbors, addresses and routes.
pub(super) const ANSWER_LIMIT: usize = 1 << 18;

/// An open routing socket.
pub(super) struct Connection {
    handle: ConnectionHandle<Message>,
    inner: Mutex<proto::Connection<Message, Direct>>,
}

impl Connection {
    /// Takes over a blocking socket.
    pub(super) fn new(socket: Socket) -> Self {
        let (inner, handle, _) = proto::from_socket_with_codec(Direct::of(socket));
        Self { handle, inner: Mutex::new(inner) }
    }

    /// The name that a link has at this moment.
    pub(super) fn link_name(&self, index: u32) -> io::Result<String> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(rustix::net::netdevice::index_to_name(&inner.socket_mut().socket, index)?)
    }

    /// Sends a request and gathers its answers.
    pub(super) fn exchange(
        &self,
        request: NetlinkMessage<Message>,
        budget: &Budget,
    ) -> Result<Vec<NetlinkMessage<Message>>, Interruption> {
        let broken = |error: &dyn std::fmt::Display| Interruption::Socket(error.to_string());
        let mut responses =
            self.handle.request(request, SocketAddr::new(0, 0)).map_err(|error| broken(&error))?;
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let mut context = Context::from_waker(Waker::noop());
        let mut answers = Vec::new();
        inner.socket_mut().failure.take();
        inner.poll_requests(&mut context);
        inner.poll_send_messages(&mut context);
        loop {
            inner.socket_mut().reads.set(Reads::Due);
            inner.poll_read_messages(&mut context);
            if let Some(error) = inner.socket_mut().failure.take() {
                return Err(broken(&error));
            }
            inner.forward_unsolicited_messages();
            inner.forward_responses();
            while let Poll::Ready(response) = responses.poll_next_unpin(&mut context) {
                match response {
                    Some(answer) => answers.push(answer),
                    None => return Ok(answers),
                }
            }
            if answers.len() > ANSWER_LIMIT {
                return Err(Interruption::TooMany);
            }
            if inner.should_shut_down() {
                return Err(broken(&"the socket is closed"));
            }
            let time = budget.remaining();
            if time.is_zero() {
                return Err(Interruption::TimedOut);
            }
            if inner.socket_mut().reads.get() == Reads::Empty {
                wait(&inner.socket_mut().socket, time)?;
            }
        }
    }
}

/// Waits until there is something to read.
fn wait(socket: &Socket, time: Duration) -> Result<(), Interruption> {
    let milliseconds = u16::try_from(time.as_millis()).unwrap_or(u16::MAX).saturating_add(1);
    let mut waiting = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    match poll(&mut waiting, PollTimeout::from(milliseconds)) {
        // The caller sees by itself whether there is an answer now.
        Ok(_) | Err(nix::Error::EINTR) => Ok(()),
        Err(errno) => Err(Interruption::Socket(errno.desc().to_owned())),
    }
}

/// A socket that is asked directly: what is not there yet is pending, and
/// nobody is woken.
///
/// The connection reads until nothing is there any more, which costs a system
/// call for each answer. So it gets one datagram at a time, and is asked for
/// more only if the answer is not whole.
///
/// Nor does it learn of failures, after which it would do nothing any more:
/// what was done before may have to be undone through the same socket.
struct Direct {
    socket: Socket,
    reads: Cell<Reads>,
    failure: Cell<Option<io::Error>>,
}

/// What becomes of the next attempt to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reads {
    /// The kernel is asked.
    Due,
    /// It was.
    Done,
    /// It was, and had nothing.
    Empty,
}

impl Direct {
    fn of(socket: Socket) -> Self {
        Self { socket, reads: Cell::new(Reads::Due), failure: Cell::new(None) }
    }

    fn read<T>(&self, read: impl FnOnce(&Socket) -> io::Result<T>) -> Poll<io::Result<T>> {
        if self.reads.replace(Reads::Done) != Reads::Due {
            return Poll::Pending;
        }
        match read(&self.socket) {
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                self.reads.set(Reads::Empty);
                Poll::Pending
            }
            Err(error) => {
                self.failure.set(Some(error));
                Poll::Pending
            }
            Ok(value) => Poll::Ready(Ok(value)),
        }
    }

    fn write(&self, bytes: &[u8], written: io::Result<usize>) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(written.unwrap_or_else(|error| {
            self.failure.set(Some(error));
            bytes.len()
        })))
    }
}

impl AsyncSocket for Direct {
    fn socket_ref(&self) -> &Socket {
        &self.socket
    }

    fn socket_mut(&mut self) -> &mut Socket {
        &mut self.socket
    }

    fn new(protocol: isize) -> io::Result<Self> {
        Socket::new(protocol).map(Self::of)
    }

    fn poll_send(&self, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.write(bytes, self.socket.send(bytes, 0))
    }

    fn poll_send_to(
        &self,
        _: &mut Context<'_>,
        bytes: &[u8],
        address: &SocketAddr,
    ) -> Poll<io::Result<usize>> {
        self.write(bytes, self.socket.send_to(bytes, address, 0))
    }

    fn poll_recv<B: BufMut>(&self, _: &mut Context<'_>, buffer: &mut B) -> Poll<io::Result<()>> {
        self.read(|socket| socket.recv(buffer, MSG_DONTWAIT).map(drop))
    }

    fn poll_recv_from<B: BufMut>(&self, _: &mut Context<'_>, buffer: &mut B) -> Poll<io::Result<SocketAddr>> {
        self.read(|socket| socket.recv_from(buffer, MSG_DONTWAIT).map(|(_, address)| address))
    }

    fn poll_recv_from_full(&self, _: &mut Context<'_>) -> Poll<io::Result<(Vec<u8>, SocketAddr)>> {
        let mut buffer = Vec::with_capacity(64 << 10);
        self.read(|socket| socket.recv_from(&mut buffer, MSG_DONTWAIT).map(|(_, address)| (buffer, address)))
    }
}
