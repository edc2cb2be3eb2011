//! Sockets and events.

use super::*;

pub fn socketpair() -> Result<[Fd; 2]> {
    const AF_UNIX: usize = 1;
    const SOCK_SEQPACKET: usize = 5;
    let mut fds = [-1; 2];
    syscall!(
        nr::SOCKETPAIR,
        AF_UNIX,
        SOCK_SEQPACKET | O_CLOEXEC,
        0,
        fds.as_mut_ptr()
    )?;
    Ok(fds)
}

/// Brings the interface `lo` of the current network namespace up.
pub fn loopback_up() -> Result<()> {
    const SIOCSIFFLAGS: usize = 0x8914;
    let fd = syscall!(
        nr::SOCKET,
        2, /* AF_INET */
        2 /* SOCK_DGRAM */ | O_CLOEXEC,
        0
    )? as Fd;
    let mut request = [0u8; 40];
    request[..2].copy_from_slice(b"lo");
    request[16] = 1 | 64; // IFF_UP | IFF_RUNNING
    let result = syscall!(nr::IOCTL, fd, SIOCSIFFLAGS, request.as_mut_ptr());
    close(fd);
    result.map(|_| ())
}

#[repr(C)]
struct IoVec {
    at: *const u8,
    len: usize,
}

#[repr(C)]
struct MsgHdr {
    name: usize,
    name_len: u32,
    pad: u32,
    iov: *const IoVec,
    iov_len: usize,
    control: *mut u8,
    control_len: usize,
    flags: i32,
    pad2: u32,
}

/// Room for one SCM_RIGHTS message of FDS_MAX descriptors.
#[repr(C, align(8))]
struct Control([u8; 16 + 4 * crate::wire::FDS_MAX]);

const MSG_DONTWAIT: usize = 0x40;
const MSG_NOSIGNAL: usize = 0x4000;
const MSG_CMSG_CLOEXEC: usize = 0x40000000;

/// How often a word is said again, every millisecond, that the kernel has no memory for.
const SAID_AGAIN: u32 = 20;

/// Sends one message of two parts with descriptors.
pub fn send(fd: Fd, head: &[u8], body: &[u8], fds: &[Fd], wait: bool) -> Result<()> {
    let mut control = Control([0; 16 + 4 * crate::wire::FDS_MAX]);
    let len = 16 + 4 * fds.len();
    control.0[..8].copy_from_slice(&len.to_ne_bytes());
    control.0[8..12].copy_from_slice(&1u32.to_ne_bytes()); // SOL_SOCKET
    control.0[12..16].copy_from_slice(&1u32.to_ne_bytes()); // SCM_RIGHTS
    for (i, fd) in fds.iter().enumerate() {
        control.0[16 + 4 * i..20 + 4 * i].copy_from_slice(&fd.to_ne_bytes());
    }
    let iov = [
        IoVec {
            at: head.as_ptr(),
            len: head.len(),
        },
        IoVec {
            at: body.as_ptr(),
            len: body.len(),
        },
    ];
    let message = MsgHdr {
        name: 0,
        name_len: 0,
        pad: 0,
        iov: iov.as_ptr(),
        iov_len: 2,
        control: if fds.is_empty() {
            core::ptr::null_mut()
        } else {
            control.0.as_mut_ptr()
        },
        control_len: if fds.is_empty() { 0 } else { len },
        flags: 0,
        pad2: 0,
    };
    let mut again = SAID_AGAIN;
    loop {
        let flags = MSG_NOSIGNAL | if wait { 0 } else { MSG_DONTWAIT };
        match syscall!(nr::SENDMSG, fd, &raw const message, flags) {
            Ok(_) => return Ok(()),
            Err(EINTR) => {}
            // The kernel has no memory for it now; what is not said is missed by somebody.
            Err(ENOMEM | ENOBUFS) if again > 0 => {
                again -= 1;
                sleep(1_000_000);
            }
            Err(e) => return Err(e),
        }
    }
}

/// Receives one message: its length (0 at the end of the stream) and how many descriptors came.
pub fn receive(
    fd: Fd,
    buffer: &mut [u8],
    fds: &mut [Fd; crate::wire::FDS_MAX],
    wait: bool,
) -> Result<(usize, usize)> {
    let mut control = Control([0; 16 + 4 * crate::wire::FDS_MAX]);
    let iov = IoVec {
        at: buffer.as_mut_ptr(),
        len: buffer.len(),
    };
    let mut reset = false;
    loop {
        let mut message = MsgHdr {
            name: 0,
            name_len: 0,
            pad: 0,
            iov: &raw const iov,
            iov_len: 1,
            control: control.0.as_mut_ptr(),
            control_len: control.0.len(),
            flags: 0,
            pad2: 0,
        };
        let flags = MSG_CMSG_CLOEXEC | if wait { 0 } else { MSG_DONTWAIT };
        match syscall!(nr::RECVMSG, fd, &raw mut message, flags) {
            Err(EINTR) => {}
            // The other side has ended with something of ours unread. That is said once; what it had said itself comes next.
            Err(ECONNRESET) if !reset => reset = true,
            Err(e) => return Err(e),
            Ok(n) => {
                // The one control message says its own length; that of the whole is padded.
                let mut len = [0; 8];
                len.copy_from_slice(&control.0[..8]);
                let used = if message.control_len >= 16 {
                    usize::from_ne_bytes(len)
                } else {
                    16
                };
                let count = used.saturating_sub(16) / 4;
                for (i, slot) in fds.iter_mut().enumerate().take(count) {
                    let mut bytes = [0; 4];
                    bytes.copy_from_slice(&control.0[16 + 4 * i..20 + 4 * i]);
                    *slot = Fd::from_ne_bytes(bytes);
                }
                return Ok((n, count));
            }
        }
    }
}

pub const EPOLLIN: u32 = 1;
pub const EPOLLOUT: u32 = 4;
pub const EPOLLHUP: u32 = 16;
/// The other end says nothing more.
pub const EPOLLRDHUP: u32 = 0x2000;

#[cfg_attr(target_arch = "x86_64", repr(C, packed))]
#[cfg_attr(not(target_arch = "x86_64"), repr(C))]
#[derive(Clone, Copy)]
pub struct Event {
    pub events: u32,
    pub data: u64,
}

pub fn epoll_create() -> Result<Fd> {
    syscall!(nr::EPOLL_CREATE1, O_CLOEXEC).map(|fd| fd as Fd)
}

pub fn epoll_add(epoll: Fd, fd: Fd, data: u64) -> Result {
    let event = Event {
        events: EPOLLIN,
        data,
    };
    syscall!(nr::EPOLL_CTL, epoll, 1, fd, &raw const event)
}

/// Changes what `fd` is watched for.
pub fn epoll_change(epoll: Fd, fd: Fd, events: u32, data: u64) -> Result {
    let event = Event { events, data };
    syscall!(nr::EPOLL_CTL, epoll, 3, fd, &raw const event)
}

pub fn epoll_remove(epoll: Fd, fd: Fd) {
    let event = Event { events: 0, data: 0 };
    let _ = syscall!(nr::EPOLL_CTL, epoll, 2, fd, &raw const event);
}

/// Waits for events for at most `timeout` nanoseconds (`u64::MAX`: for ever).
pub fn epoll_wait(epoll: Fd, events: &mut [Event], timeout: u64) -> Result {
    let spec = [timeout / 1_000_000_000, timeout % 1_000_000_000];
    let at = if timeout == u64::MAX {
        core::ptr::null()
    } else {
        spec.as_ptr()
    };
    match syscall!(
        nr_new::EPOLL_PWAIT2,
        epoll,
        events.as_mut_ptr(),
        events.len(),
        at,
        0,
        8
    ) {
        // Before Linux 5.11 there is no such call, and older seccomp profiles of outer containers say EPERM.
        Err(ENOSYS | EPERM) => {
            let ms = if timeout == u64::MAX {
                -1
            } else {
                timeout.div_ceil(1_000_000).min(1 << 30) as isize
            };
            syscall!(
                nr::EPOLL_PWAIT,
                epoll,
                events.as_mut_ptr(),
                events.len(),
                ms,
                0,
                8
            )
        }
        other => other,
    }
}

#[repr(C)]
pub struct PollFd {
    pub fd: Fd,
    pub events: u16,
    pub revents: u16,
}

/// Waits until one of `fds` is ready, for at most `timeout` nanoseconds (`u64::MAX`: for ever).
pub fn poll(fds: &mut [PollFd], timeout: u64) -> Result {
    let spec = [timeout / 1_000_000_000, timeout % 1_000_000_000];
    let at = if timeout == u64::MAX {
        core::ptr::null()
    } else {
        spec.as_ptr()
    };
    syscall!(nr::PPOLL, fds.as_mut_ptr(), fds.len(), at, 0, 8)
}

/// Waits for that many nanoseconds.
pub fn sleep(time: u64) {
    let _ = poll(&mut [], time);
}

/// The other end reads the end, and so do we.
pub fn shut_down(socket: Fd) {
    const SHUT_RDWR: usize = 2;
    let _ = syscall!(nr::SHUTDOWN, socket, SHUT_RDWR);
}
