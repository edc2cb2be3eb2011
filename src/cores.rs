//! Processors: lists of them, and giving runs some of their own.

use crate::error::Error;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::{Mutex, PoisonError};

/// The value of `cpuset_cpus` that asks for processors of the run's own.
pub(crate) const EXCLUSIVE: &str = "exclusive";
/// What sched_setaffinity(2) and the kernel's cpusets take here.
pub(crate) const CPUS_MAX: u32 = 1024;

type Cpus = BTreeSet<u32>;

/// A list in the form of cpuset(7), `0-3,7`.
pub(crate) fn parse(text: &str) -> Option<Cpus> {
    let mut cpus = Cpus::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |n: &str| n.trim().parse::<u32>().ok().filter(|n| *n < CPUS_MAX);
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

/// The list as text.
fn list(cpus: &Cpus) -> String {
    let each: Vec<String> = cpus.iter().map(u32::to_string).collect();
    each.join(",")
}

/// The processors that this process may use.
fn allowed() -> Result<Cpus, Error> {
    let status = fs::read_to_string("/proc/self/status");
    let status = status.map_err(|e| Error::system("reading /proc/self/status", e))?;
    status
        .lines()
        .find_map(|line| parse(line.strip_prefix("Cpus_allowed_list:")?.trim()))
        .ok_or_else(|| Error::invalid("cpuset_cpus: /proc/self/status names no processors"))
}

/// Refuses a list that is none, or names what this process may not use: the kernel would not.
pub(crate) fn check(text: &str) -> Result<(), Error> {
    if text == EXCLUSIVE {
        return Ok(());
    }
    let bad = |why: String| Err(Error::invalid(format!("cpuset_cpus: `{text}`: {why}")));
    let Some(cpus) = parse(text) else {
        return bad(format!(
            "it is neither a list of processors such as `0-2,4` nor `{EXCLUSIVE}`"
        ));
    };
    let allowed = allowed()?;
    match cpus.is_subset(&allowed) {
        true => Ok(()),
        false => bad(format!("this process may use {} only", list(&allowed))),
    }
}

/// The list as a mask for sched_setaffinity(2).
pub(crate) fn mask(text: &str) -> Vec<u8> {
    let mut mask = vec![0; CPUS_MAX as usize / 8];
    for cpu in parse(text).unwrap_or_default() {
        mask[cpu as usize / 8] |= 1 << (cpu % 8);
    }
    mask
}

/// How many leases each processor is in. One for each process: a forked child has another, as a lock that another thread
/// of its parent held would never be released in it.
pub(crate) type Taken = Mutex<BTreeMap<u32, u32>>;

/// Processors that a run has to itself among the runs of this process that ask for that, until dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    choice: Choice,
    taken: &'static Taken,
    pid: u32,
}

#[derive(Debug)]
struct Choice {
    cpus: Cpus,
    /// Those and the other threads of the same cores.
    cores: Cpus,
    /// What is shared after all, in words.
    shares: Option<String>,
}

impl Lease {
    /// `count` processors, each the first of a core that nobody else has, if there are so many; else of a core that
    /// others have another thread of; else whatever this process may use.
    pub fn take(count: usize, taken: &'static Taken) -> Result<Lease, Error> {
        let allowed = allowed()?;
        let mut counts = taken.lock().unwrap_or_else(PoisonError::into_inner);
        let choice = choose(count, &allowed, &counts, siblings);
        for cpu in &choice.cores {
            *counts.entry(*cpu).or_default() += 1;
        }
        drop(counts);
        Ok(Lease {
            choice,
            taken,
            pid: std::process::id(),
        })
    }

    /// The processors in the form of cpuset(7).
    pub fn list(&self) -> String {
        list(&self.choice.cpus)
    }

    /// What it shares with others after all, in words.
    pub fn shares(&self) -> Option<&str> {
        self.choice.shares.as_deref()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.pid != std::process::id() {
            return;
        }
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        for cpu in &self.choice.cores {
            if let Some(count) = taken.get_mut(cpu) {
                *count -= 1;
            }
        }
        taken.retain(|_, count| *count > 0);
    }
}

fn choose(
    count: usize,
    allowed: &Cpus,
    taken: &BTreeMap<u32, u32>,
    siblings: impl Fn(u32) -> Cpus,
) -> Choice {
    let free = |cpu: &u32| !taken.contains_key(cpu);
    let mut choice = Choice {
        cpus: Cpus::new(),
        cores: Cpus::new(),
        shares: None,
    };
    for cpu in allowed.iter().filter(|cpu| free(cpu)) {
        if choice.cpus.len() == count {
            break;
        }
        let core = siblings(*cpu);
        if core.iter().all(free) && !choice.cores.contains(cpu) {
            choice.cpus.insert(*cpu);
            choice.cores.extend(core);
        }
    }
    if choice.cpus.len() == count {
        return choice;
    }
    // Not enough whole cores: threads of cores, first those of the cores that it already has.
    let threads: Vec<u32> = allowed.iter().copied().filter(free).collect();
    if threads.len() >= count {
        let (own, other): (Vec<u32>, Vec<u32>) =
            threads.iter().partition(|cpu| choice.cores.contains(cpu));
        let left = own.iter().chain(&other).copied();
        let more = left
            .filter(|cpu| !choice.cpus.contains(cpu))
            .collect::<Vec<_>>();
        let missing = count - choice.cpus.len();
        choice.cpus.extend(more.into_iter().take(missing));
        choice.cores.extend(choice.cpus.clone());
        let alone = choice
            .cpus
            .iter()
            .all(|cpu| siblings(*cpu).iter().all(free));
        choice.shares =
            (!alone).then(|| "shares cores with other runs, by another thread of each".into());
        return choice;
    }
    let (busy, all) = (allowed.len() - threads.len(), allowed.len());
    Choice {
        cpus: allowed.clone(),
        cores: Cpus::new(),
        shares: Some(format!(
            "shares the processors: {count} asked for, and other runs have {busy} of {all}"
        )),
    }
}

/// The processors that are threads of the same core as `cpu`, itself among them.
fn siblings(cpu: u32) -> Cpus {
    let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
    let text = fs::read_to_string(path).unwrap_or_default();
    let mut cpus = parse(text.trim()).unwrap_or_default();
    cpus.insert(cpu);
    cpus
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        let all = |text| parse(text).map(|cpus| list(&cpus));
        assert_eq!(all("0-2,5").unwrap(), "0,1,2,5");
        assert_eq!(all("7").unwrap(), "7");
        for bad in ["", "a", "2-1", "1,", "-1", "0-", "1024", "0-99999999999"] {
            assert_eq!(all(bad), None, "{bad}");
        }
        assert_eq!(mask("0,3,9")[..3], [0b1001, 0b10, 0]);
    }

    /// Four cores of two threads: 0 and 4, 1 and 5, ...
    fn lease(count: usize, taken: &[u32]) -> (String, bool) {
        let taken = taken.iter().map(|cpu| (*cpu, 1)).collect();
        let pair = |cpu: u32| Cpus::from([cpu % 4, cpu % 4 + 4]);
        let choice = choose(count, &(0..8).collect(), &taken, pair);
        (list(&choice.cpus), choice.shares.is_some())
    }

    #[test]
    fn whole_cores_come_first() {
        assert_eq!(lease(1, &[]), ("0".into(), false));
        assert_eq!(lease(2, &[0, 4]), ("1,2".into(), false));
        assert_eq!(lease(4, &[]), ("0,1,2,3".into(), false));
        // More threads than cores, with nobody else there.
        assert_eq!(lease(6, &[]), ("0,1,2,3,4,5".into(), false));
        // A thread whose core another run has.
        assert_eq!(lease(1, &[0, 1, 2, 3]), ("4".into(), true));
        // None left.
        assert_eq!(
            lease(3, &[0, 1, 2, 3, 4, 5]),
            ("0,1,2,3,4,5,6,7".into(), true)
        );
    }

    #[test]
    fn what_was_leased_comes_back() {
        static TAKEN: Taken = Mutex::new(BTreeMap::new());
        let count = allowed().unwrap().len();
        let take = |count| Lease::take(count, &TAKEN).unwrap();
        let all = take(count);
        let none_left = take(1);
        assert!(none_left.shares().is_some(), "{none_left:?}");
        drop((all, none_left));
        assert_eq!(take(count).shares(), None);
    }
}
