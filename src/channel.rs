//! The host's ends of the sockets to its supervisor: messages, with descriptors beside them.

use crate::error::{Error, ErrorKind};
use crate::launch::above_stdio;
use crate::plan::{bytes_of, read_of};
use crate::wire::{FAILED, FDS_MAX, Failure, Message, STEP_INIT_DIED};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, Shutdown, SockFlag, SockType,
    recvmsg, sendmsg, shutdown, socketpair,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Sends one message.
pub(crate) fn send(socket: RawFd, head: &[u8], body: &[u8], fds: &[RawFd]) -> io::Result<()> {
    let parts = [IoSlice::new(head), IoSlice::new(body)];
    let rights = [ControlMessage::ScmRights(fds)];
    let control = if fds.is_empty() {
        &rights[..0]
    } else {
        &rights[..]
    };
    loop {
        match sendmsg::<()>(socket, &parts, control, MsgFlags::MSG_NOSIGNAL, None) {
            Ok(_) => return Ok(()),
            Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// Whether the other end is.
pub(crate) fn is_gone(e: &io::Error) -> bool {
    matches!(
        e.raw_os_error(),
        Some(libc::EPIPE | libc::ECONNRESET | libc::ENOTCONN | libc::ECONNREFUSED)
    )
}

/// Two ends, neither of which is a standard stream.
pub(crate) fn pair() -> Result<(OwnedFd, OwnedFd), Error> {
    let made = socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    );
    let (ours, theirs) = made.map_err(|e| Error::system("making a socket pair", e))?;
    let up = |fd| above_stdio(fd).map_err(|e| Error::system("making a socket pair", e));
    Ok((up(ours)?, up(theirs)?))
}

/// The host's end of the socket of one sandbox or run.
pub(crate) struct Channel {
    socket: OwnedFd,
    /// The process that made it: a forked child must not speak for its parent.
    pid: u32,
}

/// What comes over a channel.
pub(crate) struct Received {
    pub bytes: Vec<u8>,
    pub fd: Option<OwnedFd>,
}

impl Channel {
    pub fn new() -> Result<(Channel, OwnedFd), Error> {
        let (ours, theirs) = pair()?;
        Ok((
            Channel {
                socket: ours,
                pid: std::process::id(),
            },
            theirs,
        ))
    }

    pub fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    pub fn is_ours(&self) -> bool {
        self.pid == std::process::id()
    }

    pub fn check_owner(&self) -> Result<(), Error> {
        if self.is_ours() {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::State,
            "this handle was made by another process, before a fork; make one here",
        ))
    }

    /// Sends a short message; an end that is gone is no error, as its end will be seen when receiving.
    pub fn tell(&self, kind: u32, arg: u32) -> Result<(), Error> {
        self.say(bytes_of(&Message { kind, arg }))
    }

    /// The same with any message.
    pub fn say(&self, message: &[u8]) -> Result<(), Error> {
        self.check_owner()?;
        match send(self.fd(), message, &[], &[]) {
            Err(e) if !is_gone(&e) => Err(Error::system("sending to the supervisor", e)),
            _ => Ok(()),
        }
    }

    /// Asks for something, and waits until it is done: the answer; `None` if the run is over.
    pub fn ask(&self, message: &[u8]) -> Result<Option<Received>, Error> {
        self.check_owner()?;
        let (answer, theirs) = Channel::new()?;
        match send(self.fd(), message, &[], &[theirs.as_raw_fd()]) {
            Err(e) if is_gone(&e) => return Ok(None),
            Err(e) => return Err(Error::system("sending to the supervisor", e)),
            Ok(()) => drop(theirs),
        }
        answer.receive_or_end(self)
    }

    /// Waits for the one message of this channel, or the end of `whole`, which is what it was asked of.
    pub fn receive_or_end(&self, whole: &Channel) -> Result<Option<Received>, Error> {
        // A child that another thread forks meanwhile may hold the socket open, so the other's own end counts too.
        let mut ends = [
            PollFd::new(self.as_fd(), PollFlags::POLLIN),
            PollFd::new(whole.as_fd(), PollFlags::empty()),
        ];
        loop {
            match poll(&mut ends, PollTimeout::NONE) {
                Err(nix::errno::Errno::EINTR) => {}
                Err(e) => return Err(Error::system("waiting for the supervisor", e)),
                Ok(_) => return self.receive(false),
            }
        }
    }

    /// Nothing more is said: whoever hears us sees that behind all that was.
    pub fn say_no_more(&self) {
        let _ = shutdown(self.fd(), Shutdown::Write);
    }

    /// Whether the next message, which stays, is that the sandbox's init has died.
    pub fn says_init_died(&self) -> bool {
        let mut buffer = [0; size_of::<Failure>()];
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        let seen = nix::sys::socket::recv(self.fd(), &mut buffer, flags);
        let said = seen.ok().and_then(|n| read_of::<Failure>(&buffer[..n]));
        said.is_some_and(|said| said.kind == FAILED && said.index == STEP_INIT_DIED)
    }

    /// Nothing more is said or heard. The descriptor stays, which others may wait on.
    pub fn close(&self) {
        let _ = shutdown(self.fd(), Shutdown::Both);
    }

    /// The next message if there is one; `Ok(None)` if not yet, an empty one at the end.
    pub fn receive(&self, wait: bool) -> Result<Option<Received>, Error> {
        let mut buffer = [0u8; 20 * 1024];
        let mut control = nix::cmsg_space!([RawFd; FDS_MAX]);
        let flags = MsgFlags::MSG_CMSG_CLOEXEC
            | if wait {
                MsgFlags::empty()
            } else {
                MsgFlags::MSG_DONTWAIT
            };
        let mut ended = false;
        loop {
            let mut parts = [IoSliceMut::new(&mut buffer)];
            match recvmsg::<()>(self.fd(), &mut parts, Some(&mut control), flags) {
                // Not the end yet: the kernel looks for a message first and whether the other side has closed second
                // (`__unix_dgram_recvmsg` in net/unix/af_unix.c), which may send its last word and close in between.
                // Now that it has closed, a second look is the last.
                Ok(message) if message.bytes == 0 && !ended => ended = true,
                Ok(message) => {
                    // Cut off if this process has no descriptor free: then there is none, which its reader will say.
                    let whole = !message.flags.contains(MsgFlags::MSG_CTRUNC);
                    let parts = message.cmsgs().ok().filter(|_| whole);
                    let mut fd = None;
                    for part in parts.into_iter().flatten() {
                        if let ControlMessageOwned::ScmRights(fds) = part {
                            for raw in fds {
                                // SAFETY: the kernel has just given it to us.
                                fd = Some(unsafe { OwnedFd::from_raw_fd(raw) });
                            }
                        }
                    }
                    let n = message.bytes;
                    let fd = fd
                        .map(above_stdio)
                        .transpose()
                        .map_err(|e| Error::system("receiving a descriptor", e))?;
                    return Ok(Some(Received {
                        bytes: buffer[..n].to_vec(),
                        fd,
                    }));
                }
                Err(nix::errno::Errno::EINTR) => {}
                Err(nix::errno::Errno::EAGAIN) => return Ok(None),
                // The other side closed before it read our last word, such as a kill that came too late. Said once; what
                // it had sent before is still to be had, and then the end.
                Err(nix::errno::Errno::ECONNRESET) => {}
                Err(e) => return Err(Error::system("receiving from the supervisor", e)),
            }
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The other side says one thing and closes while we look: once in some thousand rounds the kernel tells of the end
    /// first.
    #[test]
    fn the_last_word_comes_before_the_end() {
        let (to_speaker, ends) = std::sync::mpsc::sync_channel::<OwnedFd>(0);
        let speaker = std::thread::spawn(move || {
            for theirs in ends {
                send(theirs.as_raw_fd(), b"last", &[], &[]).unwrap();
            }
        });
        let start = std::time::Instant::now();
        for round in 0..20_000 {
            if start.elapsed().as_secs() >= 10 {
                break;
            }
            let (channel, theirs) = Channel::new().unwrap();
            to_speaker.send(theirs).unwrap();
            let received = loop {
                if let Some(received) = channel.receive(false).unwrap() {
                    break received;
                }
            };
            assert_eq!(received.bytes, b"last", "round {round}");
            assert_eq!(channel.receive(true).unwrap().unwrap().bytes, b"");
        }
        drop(to_speaker);
        speaker.join().unwrap();
    }
}
