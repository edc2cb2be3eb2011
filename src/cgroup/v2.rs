//! Rung 1: a subtree of the unified hierarchy (Linux's admin-guide/cgroup-v2).

use super::host::Host;
use super::{Base, Cgroup, CpuClock, Layout, Read, Write, keyed, sweep};
use crate::outcome::Usage;
use crate::spec::Spec;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

const WANTED: [&str; 3] = ["memory", "pids", "cpu"];

/// Prepares a base in this process's own group or, if that holds processes and so cannot have controllers for its
/// children, in the one above.
pub(super) fn prepare(host: &Host, name: &str) -> Result<Base, String> {
    let own = host
        .own_v2()
        .ok_or("it is not mounted, or this process's group is not in sight")?;
    let mut why = match prepare_in(&own, name) {
        Ok(base) => return Ok(base),
        Err(why) => format!("{}: {why}", own.display()),
    };
    if let Some(above) = own
        .parent()
        .filter(|above| above.join("cgroup.procs").exists())
    {
        match prepare_in(above, name) {
            Ok(base) => return Ok(base),
            Err(w) => why = format!("{why}; {}: {w}", above.display()),
        }
    }
    Err(why)
}

/// Prepares a base in a directory that the caller has named.
pub(super) fn prepare_given(parent: &Path, name: &str) -> Result<Base, String> {
    if !parent.is_absolute() || !parent.join("cgroup.controllers").exists() {
        return Err(
            "it is not a cgroup v2 directory (an absolute path such as /sys/fs/cgroup/...)".into(),
        );
    }
    prepare_in(parent, name)
}

fn prepare_in(parent: &Path, name: &str) -> Result<Base, String> {
    let offered = read(&parent.join("cgroup.controllers")).unwrap_or_default();
    if !offered.split_whitespace().any(|c| WANTED.contains(&c)) {
        return Err(
            "neither memory nor pids nor cpu is delegated to it (its cgroup.controllers)".into(),
        );
    }
    sweep::sweep(parent);
    let path = parent.join(name);
    fs::create_dir(&path).map_err(|e| match e.raw_os_error() {
        Some(libc::EACCES | libc::EROFS | libc::EPERM) => format!(
            "not writable ({e}): start this program with `systemd-run --user --scope -p Delegate=yes`, or give a delegated \
             directory as cgroup_parent"
        ),
        _ => e.to_string(),
    })?;
    let mut refused = None;
    for dir in [parent, path.as_path()] {
        let enabled = read(&dir.join("cgroup.subtree_control")).unwrap_or_default();
        let offered = read(&dir.join("cgroup.controllers")).unwrap_or_default();
        for controller in WANTED {
            let has = |list: &str| list.split_whitespace().any(|c| c == controller);
            if has(&offered) && !has(&enabled) {
                if let Err(e) =
                    fs::write(dir.join("cgroup.subtree_control"), format!("+{controller}"))
                {
                    refused.get_or_insert(e);
                }
            }
        }
    }
    let usable = read(&path.join("cgroup.subtree_control")).unwrap_or_default();
    let controllers: Vec<_> = WANTED
        .into_iter()
        .filter(|c| usable.split_whitespace().any(|u| u == *c))
        .collect();
    if !controllers.contains(&"memory") && !controllers.contains(&"pids") {
        sweep::remove_tree(&path);
        return Err(match refused.as_ref().and_then(io::Error::raw_os_error) {
            Some(libc::EBUSY) => "it holds processes itself, so its children can have no controllers: move them to a child group, \
                                  or give another directory as cgroup_parent"
                .into(),
            _ => format!("no controller could be enabled for its children{}", refused.map_or(String::new(), |e| format!(": {e}"))),
        });
    }
    Ok(Base { path, controllers })
}

fn read(path: &Path) -> io::Result<String> {
    fs::read_to_string(path)
}

pub(super) fn layout(cgroup: &Cgroup, spec: &Spec) -> Layout {
    let mut writes = Vec::new();
    let mut write = |file, value: String, required| {
        writes.push(Write {
            dir: 0,
            file,
            value,
            required,
        })
    };
    if cgroup.dir("memory").is_some() {
        if let Some(memory) = spec.memory {
            write("memory.max", memory.to_string(), true);
            write("memory.swap.max", "0".into(), false); // absent without swap accounting
        }
        write("memory.oom.group", "1".into(), false);
    }
    if let (Some(pids), Some(_)) = (spec.pids, cgroup.dir("pids")) {
        write("pids.max", pids.to_string(), true);
    }
    Layout {
        writes,
        enter: vec![0],
        enter_file: "cgroup.procs",
        reads: reads(cgroup),
        cpu: Some(CpuClock {
            read: 0,
            key: "usage_usec",
            unit_ns: 1000,
        }),
    }
}

pub(super) fn reads(cgroup: &Cgroup) -> Vec<Read> {
    let mut files = vec!["cpu.stat"];
    if cgroup.dir("memory").is_some() {
        files.extend(["memory.peak", "memory.events"]);
    }
    if cgroup.dir("pids").is_some() {
        files.push("pids.peak");
    }
    files.push("io.stat");
    files
        .into_iter()
        .map(|file| Read { dir: 0, file })
        .collect()
}

pub(super) fn enforced_by(cgroup: &Cgroup, limit: &str) -> Option<&'static str> {
    match limit {
        "memory" => cgroup.dir("memory").map(|_| "cgroup v2 memory.max"),
        "pids" => cgroup.dir("pids").map(|_| "cgroup v2 pids.max"),
        // Counted by every v2 group, with or without the cpu controller.
        "cpu_time" => Some("the supervisor's clock on cgroup v2 cpu.stat"),
        _ => None,
    }
}

pub(super) fn fill(file: &str, text: &str, usage: &mut Usage) {
    let mut source = |name: &str| {
        usage
            .sources
            .insert(name.into(), format!("cgroup v2 {file}"))
    };
    let micros = |key| keyed(text, key).map(Duration::from_micros);
    match file {
        "cpu.stat" => {
            if let (Some(all), Some(user), Some(system)) = (
                micros("usage_usec"),
                micros("user_usec"),
                micros("system_usec"),
            ) {
                source("cpu_time");
                (usage.cpu_time, usage.cpu_user, usage.cpu_system) = (all, user, system);
            }
            usage.throttled_time = micros("throttled_usec");
        }
        "memory.peak" => {
            source("memory_peak");
            usage.memory_peak = text.trim().parse().ok();
        }
        "memory.events" => usage.oom_killed = keyed(text, "oom_kill").is_some_and(|n| n > 0),
        "pids.peak" => {
            source("pids_peak");
            usage.pids_peak = text.trim().parse().ok();
        }
        "io.stat" => {
            source("io_read");
            let sum = |key: &str| {
                text.split_whitespace()
                    .filter_map(|field| field.strip_prefix(key)?.parse::<u64>().ok())
                    .sum()
            };
            (usage.io_read, usage.io_write) = (Some(sum("rbytes=")), Some(sum("wbytes=")));
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
        fill(
            "cpu.stat",
            "usage_usec 3000000\nuser_usec 2000000\nsystem_usec 1000000\nnr_throttled 0\nthrottled_usec 5\n",
            &mut usage,
        );
        fill(
            "memory.events",
            "low 0\nhigh 0\nmax 3\noom 1\noom_kill 2\noom_group_kill 1\n",
            &mut usage,
        );
        fill("memory.peak", "4096\n", &mut usage);
        fill(
            "io.stat",
            "8:0 rbytes=10 wbytes=20 rios=1\n8:16 rbytes=1 wbytes=2\n",
            &mut usage,
        );
        assert_eq!(usage.cpu_time, Duration::from_secs(3));
        assert!(usage.oom_killed);
        assert_eq!(
            (usage.memory_peak, usage.io_read, usage.io_write),
            (Some(4096), Some(11), Some(22))
        );
        assert_eq!(usage.throttled_time, Some(Duration::from_micros(5)));
    }
}
