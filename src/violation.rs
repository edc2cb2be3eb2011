//! The system call that a run was ended for.

use crate::seccomp;
use crate::wire;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A system call for which the seccomp profile kills: what was called, and by whom. It was not made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// Its name (`"ptrace"`); `None` if it has none here, as those of 32-bit ABIs and of the future.
    pub syscall: Option<String>,
    /// Its number in that ABI.
    pub number: u32,
    /// By which ABI of the machine: `"x86_64"`, `"x32"`, `"i386"`, `"aarch64"` or `"arm"`.
    pub arch: String,
    /// Its six arguments, whether it takes so many or not. In JSON `"0x..."`.
    #[serde(with = "hex")]
    pub args: [u64; 6],
    /// Where it was made. In JSON `"0x..."`.
    #[serde(with = "hex_one")]
    pub instruction_pointer: u64,
    /// The process, by its number inside the sandbox.
    pub pid: u32,
    /// Whether that is the program itself, not one that it started.
    pub main: bool,
    /// The name of the thread (`/proc/PID/comm`), which the program can choose; `None` if it is not known.
    pub command: Option<String>,
}

impl Violation {
    /// What init saw, if it saw one.
    pub(crate) fn seen(by_init: &wire::Violation) -> Option<Violation> {
        if by_init.seen == 0 {
            return None;
        }
        let (arch, syscall) = seccomp::call(by_init.arch, by_init.nr);
        let end = by_init.command.iter().position(|b| *b == 0).unwrap_or(16);
        let command = String::from_utf8_lossy(&by_init.command[..end]);
        Some(Violation {
            syscall: syscall.map(String::from),
            number: by_init.nr,
            arch,
            args: by_init.args,
            instruction_pointer: by_init.instruction_pointer,
            pid: by_init.pid,
            main: by_init.main != 0,
            command: (!command.is_empty()).then(|| command.into_owned()),
        })
    }
}

/// One line: `ptrace(0x0, 0x1, 0x0, 0x0, 0x0, 0x0), call 101 of x86_64, at 0x401136, by process 2 (main)`.
impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.syscall.as_deref().unwrap_or("unknown");
        let args: Vec<String> = self.args.iter().map(|arg| format!("{arg:#x}")).collect();
        write!(f, "{name}({}), call {} of ", args.join(", "), self.number)?;
        write!(f, "{}, at {:#x}", self.arch, self.instruction_pointer)?;
        let who = if self.main { "the program" } else { "process" };
        write!(f, ", by {who} {}", self.pid)?;
        match &self.command {
            Some(command) => write!(f, " ({})", command.escape_debug()),
            None => Ok(()),
        }
    }
}

mod hex_one {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn parse<E: Error>(text: &str) -> Result<u64, E> {
        let digits = text.strip_prefix("0x");
        digits
            .and_then(|digits| u64::from_str_radix(digits, 16).ok())
            .ok_or_else(|| E::custom(format!("`{text}` is no number in hexadecimal (0x...)")))
    }

    pub fn serialize<S: Serializer>(value: &u64, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{value:#x}"))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        parse(&String::deserialize(from)?)
    }
}

mod hex {
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(values: &[u64; 6], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(values.iter().map(|value| format!("{value:#x}")))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<[u64; 6], D::Error> {
        let mut values = [0; 6];
        for (value, text) in values.iter_mut().zip(<[String; 6]>::deserialize(from)?) {
            *value = super::hex_one::parse(&text)?;
        }
        Ok(values)
    }
}
