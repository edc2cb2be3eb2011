//! A D-Bus connection that can do what asking systemd for a scope needs, and no more (the D-Bus specification, 0.43).
//!
//! The crates for D-Bus would do it too, but not inside somebody else's process: they start threads, leave descriptors
//! open across the host's exec, or write without `MSG_NOSIGNAL`, so that a manager that hangs up kills the host by
//! SIGPIPE.

use crate::launch::above_stdio;
use nix::errno::Errno;
use nix::sys::socket::sockopt::{PeerCredentials, ReceiveTimeout, SendTimeout};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, getsockopt, recv, send,
    setsockopt, socket,
};
use nix::sys::time::TimeVal;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// The specification allows 128 MiB; nothing that is asked for here comes near this.
const MESSAGE_MAX: usize = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(25);

const METHOD_CALL: u8 = 1;
const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;
const SIGNAL: u8 = 4;

/// Numbers of header fields.
const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SIGNATURE: u8 = 8;

pub(super) struct Bus {
    socket: OwnedFd,
    serial: u32,
    deadline: Instant,
    /// Signals that came while a reply was waited for.
    signals: Vec<Message>,
}

/// What is called.
pub(super) struct Call<'a> {
    pub destination: &'a str,
    pub path: &'a str,
    pub interface: &'a str,
    pub member: &'a str,
    pub signature: &'a str,
    pub body: Body,
}

impl Bus {
    /// Connects and authenticates as the effective user. The whole conversation has to be over in [`PATIENCE`].
    pub fn connect(address: &UnixAddr) -> io::Result<Bus> {
        let made = socket(
            AddressFamily::Unix,
            SockType::Stream,
            SockFlag::SOCK_CLOEXEC,
            None,
        )?;
        let socket = above_stdio(made)?;
        let time = TimeVal::new(PATIENCE.as_secs() as i64, 0);
        setsockopt(&socket, SendTimeout, &time)?;
        setsockopt(&socket, ReceiveTimeout, &time)?;
        connect(socket.as_raw_fd(), address).map_err(timed_out)?;
        let mut bus = Bus {
            socket,
            serial: 0,
            deadline: Instant::now() + PATIENCE,
            signals: Vec::new(),
        };
        // Process ids mean nothing to a manager that lives in another pid namespace: it would move a stranger.
        if getsockopt(&bus.socket, PeerCredentials)?.pid() == 0 {
            return Err(io::Error::other("it is of another pid namespace"));
        }
        bus.authenticate()?;
        Ok(bus)
    }

    /// SASL's EXTERNAL: the user id, in hexadecimal digits of its decimal ones, which the kernel vouches for.
    ///
    /// All of it is said at once, as systemd's own clients do: a manager that reads `BEGIN` together with the first message
    /// leaves that alone until more comes (systemd 247 does). Once it has answered, `BEGIN` is read.
    fn authenticate(&mut self) -> io::Result<()> {
        let uid = nix::unistd::geteuid().to_string();
        let hex: String = uid.bytes().map(|b| format!("{b:02x}")).collect();
        self.write(format!("\0AUTH EXTERNAL {hex}\r\nBEGIN\r\n").as_bytes())?;
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            if line.len() > 4096 {
                return Err(malformed());
            }
            line.extend(self.read(1)?);
        }
        if !line.starts_with(b"OK ") {
            let said = String::from_utf8_lossy(&line);
            return Err(io::Error::other(format!(
                "it refuses this user: {}",
                said.trim()
            )));
        }
        Ok(())
    }

    /// Calls a method and waits for its reply.
    pub fn call(&mut self, call: &Call) -> io::Result<Message> {
        self.serial += 1;
        self.write(&call.message(self.serial))?;
        loop {
            let message = self.message()?;
            match message.kind {
                METHOD_RETURN if message.reply_to == self.serial => return Ok(message),
                ERROR if message.reply_to == self.serial => {
                    let text = message.strings().next().unwrap_or_default();
                    let name = &message.name;
                    return Err(io::Error::other(format!("{text} ({name})")));
                }
                SIGNAL => self.signals.push(message),
                _ => {}
            }
        }
    }

    /// The next signal.
    pub fn signal(&mut self) -> io::Result<Message> {
        if !self.signals.is_empty() {
            return Ok(self.signals.remove(0));
        }
        loop {
            let message = self.message()?;
            if message.kind == SIGNAL {
                return Ok(message);
            }
        }
    }

    fn message(&mut self) -> io::Result<Message> {
        let head = self.read(16)?;
        let number = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("4 bytes"));
        let (body, fields) = (number(4) as usize, number(12) as usize);
        if head[0] != b'l' || body > MESSAGE_MAX || fields > MESSAGE_MAX {
            return Err(malformed());
        }
        let fields_bytes = self.read(fields.next_multiple_of(8))?;
        let body = self.read(body)?;
        Message::parse(head[1], &fields_bytes[..fields], body).ok_or_else(malformed)
    }

    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match send(self.socket.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL) {
                Ok(n) => bytes = &bytes[n..],
                Err(Errno::EINTR) => {}
                Err(e) => return Err(timed_out(e)),
            }
        }
        Ok(())
    }

    fn read(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        let mut at = 0;
        while at < count {
            if Instant::now() >= self.deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
            match recv(self.socket.as_raw_fd(), &mut bytes[at..], MsgFlags::empty()) {
                Ok(0) => return Err(io::Error::other("it hung up")),
                Ok(n) => at += n,
                Err(Errno::EINTR) => {}
                Err(e) => return Err(timed_out(e)),
            }
        }
        Ok(bytes)
    }
}

/// What a socket with a time limit says when it is over.
fn timed_out(e: Errno) -> io::Error {
    match e {
        Errno::EAGAIN => io::ErrorKind::TimedOut.into(),
        other => other.into(),
    }
}

fn malformed() -> io::Error {
    io::Error::other("it says what is no D-Bus")
}

impl Call<'_> {
    fn message(&self, serial: u32) -> Vec<u8> {
        let mut fields = Body::default();
        for (field, kind, text) in [
            (PATH, "o", self.path),
            (INTERFACE, "s", self.interface),
            (MEMBER, "s", self.member),
            (DESTINATION, "s", self.destination),
        ] {
            fields.align(8);
            fields.byte(field).signature(kind).string(text);
        }
        if !self.signature.is_empty() {
            fields.align(8);
            fields
                .byte(SIGNATURE)
                .signature("g")
                .signature(self.signature);
        }
        let mut message = Body::default();
        message.byte(b'l').byte(METHOD_CALL).byte(0).byte(1);
        message.number(self.body.0.len() as u32).number(serial);
        message.number(fields.0.len() as u32);
        message.0.extend(&fields.0);
        message.align(8);
        message.0.extend(&self.body.0);
        message.0
    }
}

/// Values in D-Bus's form, each aligned to its size.
#[derive(Default)]
pub(super) struct Body(Vec<u8>);

impl Body {
    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    fn byte(&mut self, byte: u8) -> &mut Self {
        self.0.push(byte);
        self
    }

    pub fn number(&mut self, n: u32) -> &mut Self {
        self.align(4);
        self.0.extend(n.to_le_bytes());
        self
    }

    pub fn long(&mut self, n: u64) -> &mut Self {
        self.align(8);
        self.0.extend(n.to_le_bytes());
        self
    }

    pub fn string(&mut self, text: &str) -> &mut Self {
        self.number(text.len() as u32);
        self.0.extend(text.as_bytes());
        self.byte(0)
    }

    /// A signature, which is also what stands before the value of a variant.
    pub fn signature(&mut self, text: &str) -> &mut Self {
        self.byte(text.len() as u8);
        self.0.extend(text.as_bytes());
        self.byte(0)
    }

    /// An array of structures, which are what `fill` adds, each begun by [`structure`](Body::structure).
    pub fn array(&mut self, fill: impl FnOnce(&mut Self)) -> &mut Self {
        self.number(0);
        let length = self.0.len() - 4;
        self.align(8);
        let start = self.0.len();
        fill(self);
        let filled = (self.0.len() - start) as u32;
        self.0[length..length + 4].copy_from_slice(&filled.to_le_bytes());
        self
    }

    pub fn structure(&mut self) -> &mut Self {
        self.align(8);
        self
    }
}

/// A message that came.
#[derive(Debug)]
pub(super) struct Message {
    kind: u8,
    reply_to: u32,
    /// The signal's member, or the error's name.
    pub name: String,
    signature: String,
    body: Vec<u8>,
}

impl Message {
    fn parse(kind: u8, fields: &[u8], body: Vec<u8>) -> Option<Message> {
        let mut message = Message {
            kind,
            reply_to: 0,
            name: String::new(),
            signature: String::new(),
            body,
        };
        let mut reader = Reader(fields, 0);
        while reader.1 < fields.len() {
            reader.align(8);
            let field = reader.byte()?;
            let value = match reader.signature()? {
                "s" | "o" => reader.string()?,
                "g" => reader.signature()?,
                "u" => {
                    let number = reader.number()?;
                    if field == REPLY_SERIAL {
                        message.reply_to = number;
                    }
                    ""
                }
                _ => return None,
            };
            match field {
                MEMBER | ERROR_NAME => message.name = value.into(),
                SIGNATURE => message.signature = value.into(),
                _ => {}
            }
        }
        Some(message)
    }

    /// The strings and object paths in the body, up to the first value that is neither those nor a number.
    pub fn strings(&self) -> impl Iterator<Item = &str> {
        let mut reader = Reader(&self.body, 0);
        self.signature
            .chars()
            .map_while(move |kind| match kind {
                's' | 'o' => reader.string().map(Some),
                'u' | 'i' => reader.number().map(|_| None),
                _ => None,
            })
            .flatten()
    }
}

struct Reader<'a>(&'a [u8], usize);

impl<'a> Reader<'a> {
    fn align(&mut self, to: usize) {
        self.1 = self.1.next_multiple_of(to);
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let end = self.1.checked_add(count)?;
        let bytes = self.0.get(self.1..end)?;
        self.1 = end;
        Some(bytes)
    }

    fn byte(&mut self) -> Option<u8> {
        Some(self.take(1)?[0])
    }

    fn number(&mut self) -> Option<u32> {
        self.align(4);
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn text(&mut self, length: usize) -> Option<&'a str> {
        let bytes = self.take(length.checked_add(1)?)?;
        std::str::from_utf8(&bytes[..length]).ok()
    }

    fn string(&mut self) -> Option<&'a str> {
        let length = self.number()? as usize;
        self.text(length)
    }

    fn signature(&mut self) -> Option<&'a str> {
        let length = usize::from(self.byte()?);
        self.text(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(message: &[u8]) -> Option<Message> {
        let number = |at: usize| {
            let bytes = message.get(at..at + 4)?;
            Some(u32::from_le_bytes(bytes.try_into().ok()?) as usize)
        };
        let (body, fields) = (number(4)?, number(12)?);
        let start = (16 + fields).next_multiple_of(8);
        assert_eq!(message.len(), start + body);
        Message::parse(
            message[1],
            &message[16..16 + fields],
            message[start..].to_vec(),
        )
    }

    #[test]
    fn a_call_is_laid_out_as_the_specification_says() {
        let mut body = Body::default();
        body.string("unit").string("fail").array(|all| {
            all.structure().string("Delegate").signature("b").number(1);
        });
        let call = Call {
            destination: "org.freedesktop.systemd1",
            path: "/org",
            interface: "a.b",
            member: "Start",
            signature: "ssa(sv)",
            body,
        };
        let message = parsed(&call.message(7)).unwrap();
        assert_eq!(
            (message.kind, message.name.as_str()),
            (METHOD_CALL, "Start")
        );
        assert_eq!(message.signature, "ssa(sv)");
        assert_eq!(message.strings().collect::<Vec<_>>(), ["unit", "fail"]);
        // The array's length does not count the padding before its first structure, which begins at a multiple of 8.
        let array = &message.body[24..];
        assert_eq!(array[..4], 20u32.to_le_bytes());
        assert_eq!(array[8..12], 8u32.to_le_bytes());
        assert_eq!(array.len(), 8 + 20);
    }

    #[test]
    fn nothing_of_authentication_is_left_to_come_with_the_first_message() {
        use std::io::{Read, Write};
        let place = tempfile::tempdir().unwrap();
        let socket = place.path().join("socket");
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let manager = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream
                .set_read_timeout(Some(Duration::from_secs(5)))
                .unwrap();
            let (mut said, mut byte) = (Vec::new(), [0]);
            while !said.ends_with(b"BEGIN\r\n") && stream.read_exact(&mut byte).is_ok() {
                said.extend(byte);
            }
            let _ = stream.write_all(b"OK 0123\r\n");
            String::from_utf8(said).unwrap()
        });
        Bus::connect(&UnixAddr::new(&socket).unwrap()).unwrap();
        let said = manager.join().unwrap();
        assert!(said.starts_with("\0AUTH EXTERNAL "), "{said:?}");
        assert!(said.ends_with("\r\nBEGIN\r\n"), "{said:?}");
    }

    #[test]
    fn hostile_messages_are_refused() {
        for fields in [
            &[SIGNATURE, 1, b'g', 0, 200][..],
            &[MEMBER, 1, b's', 0, 255, 255, 255, 255, 0],
            &[MEMBER, 1, b's', 0, 4, 0, 0, 0, b'a'],
            &[MEMBER, 2, b'a', b's', 0, 0, 0, 0],
            &[MEMBER],
        ] {
            assert!(
                Message::parse(SIGNAL, fields, Vec::new()).is_none(),
                "{fields:?}"
            );
        }
        let message = Message {
            kind: SIGNAL,
            reply_to: 0,
            name: String::new(),
            signature: "uoss".into(),
            body: vec![1, 0, 0, 0, 255, 255, 255, 255],
        };
        assert_eq!(message.strings().count(), 0);
    }
}
