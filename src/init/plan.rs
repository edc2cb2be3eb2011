//! Reading plans: a head and rows of steps, all in one buffer.

use crate::mem::read_of;
use crate::sys::{EPROTO, Fd, Result, Str, map_private, unmap};
use crate::wire::*;

/// A request and its plan.
pub struct Plan<'a> {
    pub head: Request,
    pub bytes: &'a mut [u8],
    mapped: bool,
}

impl<'a> Plan<'a> {
    /// From a message that has come into `buffer`, or from the memfd that came with it.
    pub fn new(message: &'a mut [u8], last_fd: Option<Fd>) -> Result<Plan<'a>> {
        let head: Request = read_of(message).ok_or(EPROTO)?;
        if head.in_memfd == 0 {
            return Ok(Plan {
                head,
                bytes: &mut message[size_of::<Request>()..],
                mapped: false,
            });
        }
        Plan::mapped(head, last_fd.ok_or(EPROTO)?)
    }

    /// From a memfd alone, so that it can outlive the message.
    pub fn mapped(head: Request, fd: Fd) -> Result<Plan<'static>> {
        Ok(Plan {
            head,
            bytes: map_private(fd, head.in_memfd as usize)?,
            mapped: true,
        })
    }

    pub fn steps(&self, section: Section) -> Steps<'_> {
        let (from, to) = (
            section.offset as usize,
            section.offset as usize + section.len as usize,
        );
        Steps {
            bytes: self.bytes.get(..to).unwrap_or(&[]),
            at: from,
            index: 0,
        }
    }

    pub fn payload(&mut self, step: &Step) -> &mut [u8] {
        &mut self.bytes[step.at..step.at + step.len]
    }

    pub fn free(self) {
        if self.mapped {
            unmap(self.bytes);
        }
    }
}

/// One step and where its payload lies in the plan.
#[derive(Clone, Copy)]
pub struct Step {
    pub index: u32,
    pub op: Op,
    pub at: usize,
    pub len: usize,
}

pub struct Steps<'a> {
    bytes: &'a [u8],
    at: usize,
    index: u32,
}

impl<'a> Iterator for Steps<'a> {
    type Item = (Step, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let op: Op = read_of(self.bytes.get(self.at..)?)?;
        let at = self.at + size_of::<Op>();
        let len = op.len as usize;
        let payload = self.bytes.get(at..at + len)?;
        let step = Step {
            index: self.index,
            op,
            at,
            len,
        };
        self.at = at + len.next_multiple_of(8);
        self.index += 1;
        Some((step, payload))
    }
}

/// The string at the start of a payload.
pub fn text(payload: &[u8]) -> Result<Str<'_>> {
    Str::split(payload).map(|(text, _)| text).ok_or(EPROTO)
}

/// The two strings, or string and content, of a payload.
pub fn pair(payload: &[u8]) -> Result<(Str<'_>, &[u8])> {
    Str::split(payload).ok_or(EPROTO)
}

/// A number in decimal, with a NUL behind it.
pub struct Decimal([u8; 24], usize);

impl Decimal {
    pub fn new(mut n: u64) -> Decimal {
        let mut buffer = [0; 24];
        let mut at = 23;
        loop {
            at -= 1;
            buffer[at] = b'0' + (n % 10) as u8;
            n /= 10;
            if n == 0 {
                return Decimal(buffer, at);
            }
        }
    }
    pub fn text(&self) -> Str<'_> {
        match Str::split(&self.0[self.1..]) {
            Some((text, _)) => text,
            None => crate::s!(""),
        }
    }
}

/// Builds short NUL-terminated texts: paths below /proc, id maps.
#[derive(Clone, Copy)]
pub struct Text<const N: usize> {
    buffer: [u8; N],
    len: usize,
}

impl<const N: usize> Text<N> {
    pub fn new() -> Self {
        Text {
            buffer: [0; N],
            len: 0,
        }
    }
    /// Appends; what would not fit is cut.
    pub fn add(mut self, bytes: &[u8]) -> Self {
        for b in bytes {
            if self.len + 1 < N {
                self.buffer[self.len] = *b;
                self.len += 1;
            }
        }
        self
    }
    pub fn number(self, n: u64) -> Self {
        self.add(Decimal::new(n).text().bytes())
    }
    pub fn bytes(&self) -> &[u8] {
        &self.buffer[..self.len]
    }
    pub fn text(&self) -> Str<'_> {
        match Str::split(&self.buffer) {
            Some((text, _)) => text,
            None => crate::s!(""),
        }
    }
}
