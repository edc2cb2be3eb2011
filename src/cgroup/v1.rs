//! Rung 3: the controllers of cgroup v1, each where it can be written: as root, or in what an administrator has given away.

use super::host::Host;
use super::{Base, Cgroup, CpuClock, Layout, Read, Write, keyed, sweep};
use crate::outcome::Usage;
use crate::spec::Spec;
use std::fs;
use std::time::Duration;

const WANTED: [&str; 3] = ["memory", "pids", "cpuacct"];
/// Clock ticks of cpuacct.stat.
const TICK: Duration = Duration::from_millis(10);

pub(super) fn prepare(host: &Host, name: &str) -> Result<Vec<Base>, String> {
    let mut bases: Vec<Base> = Vec::new();
    let mut reasons = Vec::new();
    for controller in WANTED {
        let Some(parent) = host.own_v1(controller) else {
            reasons.push(format!("{controller} is not mounted"));
            continue;
        };
        let path = parent.join(name);
        // Controllers can share a hierarchy.
        if let Some(base) = bases.iter_mut().find(|base| base.path == path) {
            base.controllers.push(controller);
            continue;
        }
        sweep::sweep(&parent);
        match fs::create_dir(&path) {
            Ok(()) => bases.push(Base {
                path,
                controllers: vec![controller],
            }),
            Err(e) => reasons.push(format!(
                "{}: {e}; root can give a child of it to this user with chown",
                parent.display()
            )),
        }
    }
    if bases.is_empty() {
        Err(reasons.join(", "))
    } else {
        Ok(bases)
    }
}

pub(super) fn layout(cgroup: &Cgroup, spec: &Spec) -> Layout {
    let mut writes = Vec::new();
    if let (Some(memory), Some(dir)) = (spec.memory, cgroup.dir("memory")) {
        let value = memory.to_string();
        writes.push(Write {
            dir,
            file: "memory.limit_in_bytes",
            value: value.clone(),
            required: true,
        });
        // Memory and swap together, so no swap at all; absent without swap accounting.
        writes.push(Write {
            dir,
            file: "memory.memsw.limit_in_bytes",
            value,
            required: false,
        });
    }
    if let (Some(pids), Some(dir)) = (spec.pids, cgroup.dir("pids")) {
        writes.push(Write {
            dir,
            file: "pids.max",
            value: pids.to_string(),
            required: true,
        });
    }
    let reads = reads(cgroup);
    let clock = reads.iter().position(|read| read.file == "cpuacct.usage");
    Layout {
        writes,
        enter: (0..cgroup.bases.len() as u8).collect(),
        enter_file: "cgroup.procs",
        cpu: clock.map(|at| CpuClock {
            read: at as u8,
            key: "",
            unit_ns: 1,
        }),
        reads,
    }
}

pub(super) fn reads(cgroup: &Cgroup) -> Vec<Read> {
    let files = [
        ("cpuacct", "cpuacct.usage"),
        ("cpuacct", "cpuacct.stat"),
        ("memory", "memory.max_usage_in_bytes"),
        ("memory", "memory.oom_control"),
        ("pids", "pids.peak"),
    ];
    files
        .into_iter()
        .filter_map(|(controller, file)| {
            Some(Read {
                dir: cgroup.dir(controller)?,
                file,
            })
        })
        .collect()
}

pub(super) fn enforced_by(cgroup: &Cgroup, limit: &str) -> Option<&'static str> {
    let (controller, by) = match limit {
        "memory" => ("memory", "cgroup v1 memory.limit_in_bytes"),
        "pids" => ("pids", "cgroup v1 pids.max"),
        "cpu_time" => (
            "cpuacct",
            "the supervisor's clock on cgroup v1 cpuacct.usage",
        ),
        _ => return None,
    };
    cgroup.dir(controller).map(|_| by)
}

pub(super) fn fill(file: &str, text: &str, usage: &mut Usage) {
    let mut source = |name: &str| {
        usage
            .sources
            .insert(name.into(), format!("cgroup v1 {file}"))
    };
    match file {
        "cpuacct.usage" => {
            if let Ok(ns) = text.trim().parse() {
                source("cpu_time");
                usage.cpu_time = Duration::from_nanos(ns);
            }
        }
        "cpuacct.stat" => {
            let ticks = |key| keyed(text, key).map(|n| TICK * u32::try_from(n).unwrap_or(u32::MAX));
            if let (Some(user), Some(system)) = (ticks("user"), ticks("system")) {
                // In ticks only, but the sum is exact: share it out in the same proportion.
                let all = usage.cpu_time;
                let part = match (user + system).as_secs_f64() {
                    0.0 => 1.0,
                    sum => user.as_secs_f64() / sum,
                };
                usage.cpu_user = all.mul_f64(part);
                usage.cpu_system = all - usage.cpu_user.min(all);
            }
        }
        "memory.max_usage_in_bytes" => {
            source("memory_peak");
            usage.memory_peak = text.trim().parse().ok();
        }
        "memory.oom_control" => usage.oom_killed = keyed(text, "oom_kill").is_some_and(|n| n > 0),
        "pids.peak" => {
            source("pids_peak");
            usage.pids_peak = text.trim().parse().ok();
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_from_files() {
        let mut usage = Usage::default();
        fill("cpuacct.usage", "1000000000\n", &mut usage);
        fill("cpuacct.stat", "user 75\nsystem 25\n", &mut usage);
        fill(
            "memory.oom_control",
            "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
            &mut usage,
        );
        assert_eq!(usage.cpu_user, Duration::from_millis(750));
        assert_eq!(usage.cpu_system, Duration::from_millis(250));
        assert!(usage.oom_killed);
    }
}
