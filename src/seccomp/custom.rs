//! Profiles of the caller's own, in the format of Docker and of the OCI runtime specification (`linux.seccomp`).
//!
//! What they say holds in place of the default profile, with the meaning that libseccomp gives it: a rule without
//! conditions outranks those that have some, of which the first that holds counts; what no rule is about meets the default
//! action; a rule with the default action says nothing. Where this is stricter:
//!
//! * other ABIs of the machine kill, whatever `architectures` says, and calls that Stockade has no name for do not exist;
//! * the low half alone is compared of arguments that the kernel reads as 32 bits, as it ignores the other half;
//! * what keeps the sandbox's own limits from being passed is refused all the same: see [`floor`];
//! * a name that is not known is passed over in a rule that allows, as in Docker, and refused in one that denies.

use super::profile::{Action, Check, Verdict, floor};
use super::syscalls::{AARCH64, Arch, X86_64};
use crate::error::Error;
use serde::Deserialize;
use std::collections::HashMap;

/// A profile, ready to be made a program for one architecture.
#[derive(Debug)]
pub(super) struct Custom {
    default: Action,
    rules: HashMap<String, Vec<Rule>>,
}

/// What decides about one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Decision {
    /// Comes before all else.
    pub(super) floor: Option<&'static Check>,
    pub(super) rules: Vec<Rule>,
    pub(super) otherwise: Action,
}

/// An action, if all conditions hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) conditions: Vec<Condition>,
    pub(super) action: Action,
}

/// A comparison of one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    /// From 0.
    pub(super) arg: u32,
    pub(super) op: Op,
    pub(super) value: u64,
    /// The bits that are compared.
    pub(super) mask: u64,
}

/// How an argument is compared with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Arguments that the kernel takes as 32 bits, of calls that profiles look into.
const NARROW: &[(&str, u32)] = &[
    ("clone", 0),
    ("fcntl", 1),
    ("ioctl", 1),
    ("keyctl", 0),
    ("mmap", 2),
    ("mmap", 3),
    ("mprotect", 2),
    ("openat", 2),
    ("open", 1),
    ("personality", 0),
    ("prctl", 0),
    ("ptrace", 0),
    ("socket", 0),
    ("socket", 1),
    ("socket", 2),
    ("socketpair", 0),
    ("socketpair", 1),
    ("socketpair", 2),
    ("unshare", 0),
];

impl Custom {
    /// Reads a profile for `arch` and Linux `release` (major, minor).
    pub(super) fn read(
        document: &serde_json::Value,
        arch: &Arch,
        release: (u32, u32),
    ) -> Result<Custom, Error> {
        let document = Document::deserialize(document).map_err(invalid)?;
        if !document.architectures.is_empty() && !document.architectures.iter().any(|a| arch.is(a))
            || !document.arch_map.is_empty()
                && !document.arch_map.iter().any(|m| arch.is(&m.architecture))
        {
            return Err(invalid(format!(
                "it is not for this machine's architecture, {}",
                arch.scmp
            )));
        }
        let default = action(&document.default_action, document.default_errno_ret)?;
        let mut rules: HashMap<String, Vec<Rule>> = HashMap::new();
        for entry in &document.syscalls {
            let action = action(&entry.action, entry.errno_ret)?;
            if action == default || !entry.applies(arch, release)? {
                continue;
            }
            let conditions = entry.args.as_deref().unwrap_or_default();
            for name in entry.names.iter().chain(&entry.name) {
                if !X86_64.has(name) && !AARCH64.has(name) {
                    let permits = matches!(action, Action::Allow | Action::Log);
                    if !permits && matches!(default, Action::Allow | Action::Log) {
                        return Err(invalid(format!(
                            "`{name}`, which it denies, is no system call of x86-64 or ARM64 that is known here; remove it"
                        )));
                    }
                    continue;
                }
                let rule = Rule {
                    conditions: conditions
                        .iter()
                        .map(|c| c.condition(name))
                        .collect::<Result<_, _>>()?,
                    action,
                };
                rules.entry(name.clone()).or_default().push(rule);
            }
        }
        for (name, rules) in &mut rules {
            if let Some(outright) = rules
                .iter()
                .find(|rule| rule.conditions.is_empty())
                .cloned()
            {
                let other = |r: &Rule| r.conditions.is_empty() && r.action != outright.action;
                if rules.iter().any(other) {
                    return Err(invalid(format!(
                        "two rules about `{name}` contradict each other"
                    )));
                }
                *rules = vec![outright];
            }
        }
        let custom = Custom { default, rules };
        for needed in ["execve", "exit_group"] {
            if !custom.may_allow(needed) {
                return Err(invalid(format!(
                    "it has to allow `{needed}`: no program can be started without it"
                )));
            }
        }
        Ok(custom)
    }

    fn may_allow(&self, name: &str) -> bool {
        let rules = self.rules.get(name).map_or(&[][..], |rules| rules);
        let outright = rules.first().filter(|rule| rule.conditions.is_empty());
        let permits = |action: &Action| matches!(action, Action::Allow | Action::Log);
        permits(&outright.map_or(self.default, |rule| rule.action))
    }

    /// What gives the verdict on the call of a name, and the decisions that its verdicts point to. With `huge_pages`,
    /// those are the profile's matter.
    pub(super) fn verdicts(
        &self,
        arch: &Arch,
        huge_pages: bool,
    ) -> (HashMap<&'static str, Verdict>, Vec<Decision>) {
        let mut decisions: Vec<Decision> = Vec::new();
        let mut verdicts = HashMap::new();
        for (_, name) in arch.calls() {
            let rules = self.rules.get(name).cloned().unwrap_or_default();
            let (rules, otherwise) = match &rules[..] {
                [one] if one.conditions.is_empty() => (Vec::new(), one.action),
                _ => (rules, self.default),
            };
            let floor = floor(name, huge_pages);
            let verdict = if rules.is_empty() && (floor.is_none() || !otherwise.permits()) {
                Verdict::Act(otherwise)
            } else {
                let decision = Decision {
                    floor,
                    rules,
                    otherwise,
                };
                let known = decisions.iter().position(|one| *one == decision);
                Verdict::Decide(known.unwrap_or_else(|| {
                    decisions.push(decision);
                    decisions.len() - 1
                }))
            };
            verdicts.insert(name, verdict);
        }
        (verdicts, decisions)
    }
}

fn invalid(message: impl std::fmt::Display) -> Error {
    Error::invalid(format!("profile: {message}"))
}

fn action(word: &str, errno: Option<u32>) -> Result<Action, Error> {
    Ok(match word {
        "SCMP_ACT_ALLOW" => Action::Allow,
        "SCMP_ACT_LOG" => Action::Log,
        "SCMP_ACT_ERRNO" => match errno.unwrap_or(libc::EPERM as u32) {
            errno @ 1..=4095 => Action::Errno(errno as i32),
            other => return Err(invalid(format!("errnoRet: {other} is no error number"))),
        },
        "SCMP_ACT_TRAP" => Action::Trap,
        // A program that is left without one of its threads is of no use to anybody.
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" | "SCMP_ACT_KILL_PROCESS" => Action::Kill,
        "SCMP_ACT_TRACE" | "SCMP_ACT_NOTIFY" => {
            return Err(invalid(format!("{word}: there is nobody to be asked")));
        }
        other => return Err(invalid(format!("`{other}` is no action"))),
    })
}

// ---- the document

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    default_action: String,
    #[serde(default)]
    default_errno_ret: Option<u32>,
    #[serde(default, deserialize_with = "nullable")]
    architectures: Vec<String>,
    #[serde(default, deserialize_with = "nullable")]
    arch_map: Vec<ArchMap>,
    #[serde(default, deserialize_with = "nullable")]
    syscalls: Vec<Entry>,
    #[serde(default, rename = "comment")]
    _comment: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchMap {
    architecture: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Entry {
    #[serde(default)]
    names: Vec<String>,
    /// The form of old profiles.
    #[serde(default)]
    name: Option<String>,
    action: String,
    #[serde(default)]
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Option<Vec<Arg>>,
    #[serde(default)]
    includes: Option<Filter>,
    #[serde(default)]
    excludes: Option<Filter>,
    #[serde(default, rename = "comment")]
    _comment: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Filter {
    #[serde(default)]
    caps: Option<Vec<String>>,
    #[serde(default)]
    arches: Option<Vec<String>>,
    #[serde(default)]
    min_kernel: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Arg {
    index: u32,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

fn nullable<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

impl Entry {
    /// Whether it is for a program without capabilities, on this architecture and kernel.
    fn applies(&self, arch: &Arch, release: (u32, u32)) -> Result<bool, Error> {
        let newer = |filter: &Filter| match &filter.min_kernel {
            None => Ok(None),
            Some(text) => {
                let mut numbers = text.split('.').map(str::parse);
                match (numbers.next(), numbers.next(), numbers.next()) {
                    (Some(Ok(major)), Some(Ok(minor)), None) => Ok(Some(release >= (major, minor))),
                    _ => Err(invalid(format!("minKernel: `{text}` is no version"))),
                }
            }
        };
        let here = |filter: &Filter| {
            let listed = filter.arches.as_ref().filter(|list| !list.is_empty());
            listed.map(|list| list.iter().any(|name| name == arch.go))
        };
        if let Some(includes) = &self.includes {
            let wants_caps = includes.caps.as_ref().is_some_and(|caps| !caps.is_empty());
            if wants_caps || here(includes) == Some(false) || newer(includes)? == Some(false) {
                return Ok(false);
            }
        }
        if let Some(excludes) = &self.excludes
            && (here(excludes) == Some(true) || newer(excludes)? == Some(true))
        {
            return Ok(false);
        }
        Ok(true)
    }
}

impl Arg {
    fn condition(&self, name: &str) -> Result<Condition, Error> {
        if self.index > 5 {
            return Err(invalid(format!(
                "`{name}`: arguments have the indices 0 to 5, not {}",
                self.index
            )));
        }
        let narrow = NARROW.contains(&(name, self.index));
        let width = if narrow {
            u64::from(u32::MAX)
        } else {
            u64::MAX
        };
        let (op, value, mask) = match self.op.as_str() {
            "SCMP_CMP_EQ" => (Op::Equal, self.value, width),
            "SCMP_CMP_NE" => (Op::NotEqual, self.value, width),
            "SCMP_CMP_LT" => (Op::Less, self.value, width),
            "SCMP_CMP_LE" => (Op::LessOrEqual, self.value, width),
            "SCMP_CMP_GT" => (Op::Greater, self.value, width),
            "SCMP_CMP_GE" => (Op::GreaterOrEqual, self.value, width),
            "SCMP_CMP_MASKED_EQ" => (Op::Equal, self.value_two, self.value & width),
            other => return Err(invalid(format!("`{name}`: `{other}` is no comparison"))),
        };
        if value > width {
            return Err(invalid(format!(
                "`{name}`: argument {} has 32 bits, and {value:#x} has more",
                self.index
            )));
        }
        Ok(Condition {
            arg: self.index,
            op,
            value,
            mask,
        })
    }
}
