//! Connections that can be called off and that give up on a silent peer, whatever layer above waits for them.

use super::stop::Stop;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    self, AddressFamily, SockFlag, SockType, SockaddrIn, SockaddrIn6, SockaddrLike, sockopt,
};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};
use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport,
};

/// How often a wait looks whether it was called off.
const LOOK: Duration = Duration::from_millis(100);
/// Most addresses of a host that are tried.
const ADDRESSES_MAX: usize = 8;

/// Makes the connections: a part of ureq's chain, below TLS.
#[derive(Clone, Debug)]
pub(super) struct Tcp {
    pub stop: Arc<Stop>,
    /// How long to wait for a connection, and for the next bytes.
    pub patience: Duration,
}

impl Tcp {
    fn open(&self, addr: SocketAddr) -> io::Result<TcpStream> {
        let (family, to): (_, &dyn SockaddrLike) = match addr {
            SocketAddr::V4(v4) => (AddressFamily::Inet, &SockaddrIn::from(v4)),
            SocketAddr::V6(v6) => (AddressFamily::Inet6, &SockaddrIn6::from(v6)),
        };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket::socket(family, SockType::Stream, flags, None)?;
        match socket::connect(fd.as_raw_fd(), to) {
            Ok(()) => {}
            Err(Errno::EINPROGRESS | Errno::EINTR) => {
                self.wait(&fd, PollFlags::POLLOUT, Duration::MAX)?;
                match socket::getsockopt(&fd, sockopt::SocketError)? {
                    0 => {}
                    errno => return Err(io::Error::from_raw_os_error(errno)),
                }
            }
            Err(errno) => return Err(errno.into()),
        }
        let stream = TcpStream::from(fd);
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Waits until the socket is ready, for as long as there is patience, or for less.
    fn wait(&self, fd: &impl AsFd, events: PollFlags, less: Duration) -> io::Result<()> {
        let until = Instant::now() + self.patience.min(less);
        loop {
            self.stop.check()?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            // A millisecond more than none, so that the end is not polled for.
            let ms = left.min(LOOK).as_millis() as u16 + 1;
            match poll(
                &mut [PollFd::new(fd.as_fd(), events)],
                PollTimeout::from(ms),
            ) {
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

impl<In: Transport> Connector<In> for Tcp {
    type Out = Either<In, Wire>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, Error> {
        // A proxy's tunnel.
        if let Some(chained) = chained {
            return Ok(Some(Either::A(chained)));
        }
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for addr in details.addrs.iter().take(ADDRESSES_MAX) {
            match self.open(*addr) {
                Ok(stream) => {
                    let (input, output) = (
                        details.config.input_buffer_size(),
                        details.config.output_buffer_size(),
                    );
                    return Ok(Some(Either::B(Wire {
                        stream,
                        buffers: LazyBuffers::new(input, output),
                        tcp: self.clone(),
                    })));
                }
                Err(error) => last = error,
            }
            self.stop.check()?;
        }
        Err(last.into())
    }
}

/// A connection.
#[derive(Debug)]
pub(super) struct Wire {
    stream: TcpStream,
    buffers: LazyBuffers,
    tcp: Tcp,
}

impl Transport for Wire {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let mut data = &self.buffers.output()[..amount];
        while !data.is_empty() {
            // The standard library sends with MSG_NOSIGNAL.
            match (&self.stream).write(data) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
                Ok(n) => data = &data[n..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.tcp
                        .wait(&self.stream, PollFlags::POLLOUT, *timeout.after)?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        // Also when there is always something to read.
        self.tcp.stop.check()?;
        loop {
            match (&self.stream).read(self.buffers.input_append_buf()) {
                Ok(n) => {
                    self.buffers.input_appended(n);
                    return Ok(n > 0);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.tcp
                        .wait(&self.stream, PollFlags::POLLIN, *timeout.after)?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Whether it can be used for another request: nothing has come that nobody asked for, not even its end.
    fn is_open(&mut self) -> bool {
        let read = (&self.stream).read(&mut [0]);
        matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

/// Looks up addresses in the calling thread: ureq's own starts one for that, which may live longer than the call.
#[derive(Debug)]
pub(super) struct Names;

impl Resolver for Names {
    fn resolve(&self, uri: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let host = uri.host().ok_or(Error::HostNotFound)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let usual = if uri.scheme_str() == Some("https") {
            443
        } else {
            80
        };
        let found = (host, uri.port_u16().unwrap_or(usual)).to_socket_addrs();
        let mut addrs = self.empty();
        for addr in found.map_err(|_| Error::HostNotFound)?.take(ADDRESSES_MAX) {
            addrs.push(addr);
        }
        match addrs.is_empty() {
            true => Err(Error::HostNotFound),
            false => Ok(addrs),
        }
    }
}
