//! Limits: checked, and compiled into what holds them.

use crate::cgroup::{self, Cgroup, Layout};
use crate::cores;
use crate::error::Error;
use crate::plan::Steps;
use crate::restrict;
use crate::spec::{Spec, Stdio};
use crate::wire::*;
use nix::sys::resource::{Resource, getrlimit};
use std::time::Duration;

pub(crate) const OUTPUT_DEFAULT: u64 = 64 << 20;
pub(crate) const OUTPUT_FILE_DEFAULT: u64 = 64 << 20;
const OPEN_FILES_DEFAULT: u64 = 1024;
/// Signals that a program may have queued, and what it may keep in POSIX message queues, of which Linux gives a user
/// 819,200 bytes.
const SIGNALS_PENDING: u64 = 1024;
const QUEUED_BYTES: u64 = 128 << 10;
pub(crate) const STACK_DEFAULT: u64 = 8 << 20;
/// Less and not even a shell starts.
const MEMORY_MIN: u64 = 1 << 20;
/// The kernel holds nothing finer than 1 ms in its period of 100 ms.
const CPUS_MIN: f64 = 0.01;
const CPUS_MAX: f64 = 100_000.0;
const NICE_MAX: i32 = 19;
const OOM_SCORE_ADJ_MAX: i32 = 1000;
const STACK_MIN: u64 = 64 << 10;
const OPEN_FILES_MIN: u64 = 4;
const TIME_MAX: Duration = Duration::from_secs(365 * 86_400);
/// A hundred years; the kernel's own clocks end after 146.
const UPTIME_MAX: Duration = Duration::from_secs(36_500 * 86_400);

/// Adds the steps that set the limits of a run, which have been [checked](check) and may be changed if `updatable`.
pub(crate) fn add(
    spec: &Spec,
    cgroup: &Cgroup,
    head: &mut Request,
    limits: &mut Steps,
    run: &mut Steps,
    updatable: bool,
) -> Result<(), Error> {
    let layout = cgroup.layout(spec);
    let mut made = Vec::new();
    let touched = layout
        .enter
        .iter()
        .copied()
        .chain(layout.writes.iter().map(|w| w.dir))
        .chain(layout.reads.iter().map(|r| r.dir));
    for dir in touched {
        if !made.contains(&dir) {
            made.push(dir);
            let enter = u64::from(layout.enter.contains(&dir));
            limits.text(
                L_GROUP,
                0,
                u64::from(dir),
                enter,
                &[layout.enter_file.as_bytes()],
            );
        }
    }
    for write in &layout.writes {
        limits.text(
            L_WRITE,
            0,
            u64::from(write.dir),
            u64::from(write.required),
            &[write.file.as_bytes(), write.value.as_bytes()],
        );
    }
    for read in &layout.reads {
        limits.text(
            L_READ,
            0,
            u64::from(read.dir),
            u64::from(read.at_end),
            &[read.file.as_bytes()],
        );
    }
    if let Some(cpu) = &layout.cpu {
        head.cpu_read = u32::from(cpu.read) + 1;
        head.cpu_unit = cpu.unit_ns;
        head.cpu_key[..cpu.key.len()].copy_from_slice(cpu.key.as_bytes());
    }
    let number = |read: Option<u8>| read.map_or(0, |read| u32::from(read) + 1);
    head.memory_read = number(layout.memory);
    head.stat_read = number(layout.stat);
    head.kernel_read = number(layout.kernel);
    head.swap_read = number(layout.swap);
    head.swap_with_memory = u32::from(layout.swap_with_memory);
    head.clocks = clocks(spec, cgroup, &layout);
    if cgroup.samples_processes() {
        head.flags |= SAMPLE;
    }
    let mut rlimit =
        |resource: u32, value: u64| run.add(R_RLIMIT, resource as u16, value, value, &[]);
    rlimit(libc::RLIMIT_CORE, 0);
    rlimit(
        libc::RLIMIT_MEMLOCK,
        at_most_hard(Resource::RLIMIT_MEMLOCK, 64 << 10),
    );
    rlimit(
        libc::RLIMIT_NOFILE,
        spec.open_files.unwrap_or_else(open_files_default),
    );
    // The kernel counts these for all of a user's processes together, this one among them.
    for (resource, most) in [
        (Resource::RLIMIT_SIGPENDING, SIGNALS_PENDING),
        (Resource::RLIMIT_MSGQUEUE, QUEUED_BYTES),
    ] {
        rlimit(resource as u32, at_most_hard(resource, most));
    }
    rlimit(
        libc::RLIMIT_STACK,
        spec.stack
            .unwrap_or_else(|| at_most_hard(Resource::RLIMIT_STACK, STACK_DEFAULT)),
    );
    // On a disk no file system holds the sum of all, which is counted; one file alone is held.
    let disk = spec.disk.unwrap_or(crate::mounts::DISK_DEFAULT);
    let counted = spec.upper_dir.is_some() || restrict::is_asked(spec);
    let on_disk = counted.then_some(disk);
    if let Some(size) = spec.file_size.into_iter().chain(on_disk).min() {
        rlimit(libc::RLIMIT_FSIZE, size);
    }
    if let (Some(pids), None, true) = (
        spec.pids,
        cgroup.enforcement("pids", spec),
        kernel_at_least(5, 14) && !restrict::is_asked(spec),
    ) {
        // Counted per user namespace, of which each sandbox has one; init is in it too.
        rlimit(libc::RLIMIT_NPROC, pids + 1);
    }
    if let (Some(cpu), false) = (spec.cpu_time, updatable) {
        // Behind the supervisor's clock, for each process, should that be starved. Not where the limit may be raised:
        // nobody without privileges can raise this one again.
        rlimit(libc::RLIMIT_CPU, cpu.as_secs() + 2);
    }
    let idle = spec.cpu_idle && cgroup.enforcement("cpu_idle", spec).is_none();
    if idle || spec.nice.is_some() {
        // Else it could take back what follows, if this process may raise priorities.
        rlimit(libc::RLIMIT_NICE, 0);
    }
    if let Some(nice) = spec.nice {
        run.add(R_NICE, 0, nice as u64, 0, &[]);
    }
    if idle {
        run.add(R_IDLE, 0, 0, 0, &[]);
    }
    if let (Some(list), None) = (&spec.cpuset_cpus, cgroup.enforcement("cpuset_cpus", spec)) {
        run.add(R_AFFINITY, 0, 0, 0, &[&cores::mask(list)]);
    }
    Ok(())
}

/// What the supervisor's clocks have to hold.
pub(crate) fn clocks(spec: &Spec, cgroup: &Cgroup, layout: &Layout) -> Clocks {
    Clocks {
        wall_time: nanoseconds(spec.wall_time),
        cpu_time: nanoseconds(spec.cpu_time),
        memory: match cgroup.enforcement("memory", spec) {
            Some(_) => 0,
            None => spec.memory.unwrap_or(0),
        },
        look_max: nanoseconds(Some(cgroup.look_max(spec.memory))),
        oom_read: layout.oom.map_or(0, |read| u64::from(read) + 1),
    }
}

pub(crate) fn nanoseconds(time: Option<Duration>) -> u64 {
    time.map_or(0, |t| t.as_nanos().min(u128::from(u64::MAX)) as u64)
}

/// Refuses values that no host could take.
pub(crate) fn check(spec: &Spec) -> Result<(), Error> {
    let bad = |text: String| Err(Error::invalid(text));
    for (name, time) in [("cpu_time", spec.cpu_time), ("wall_time", spec.wall_time)] {
        if time.is_some_and(|t| t < Duration::from_millis(1) || t > TIME_MAX) {
            return bad(format!("{name}: it is at least 1 ms and at most 365 days"));
        }
    }
    if spec.uptime.is_some_and(|t| t > UPTIME_MAX) {
        return bad("uptime: it is at most 36500 days".into());
    }
    for (name, value, least) in [
        ("memory", spec.memory, MEMORY_MIN),
        ("stack", spec.stack, STACK_MIN),
        ("open_files", spec.open_files, OPEN_FILES_MIN),
        ("pids", spec.pids, 1),
    ] {
        if let Some(value) = value
            && (value < least || value > i64::MAX as u64)
        {
            return bad(format!(
                "{name}: {value} is out of range; it is at least {least}"
            ));
        }
    }
    if let Some(swap) = spec.swap {
        let Some(memory) = spec.memory else {
            return bad("swap: it is counted beside memory, which must be given too".into());
        };
        if memory
            .checked_add(swap)
            .is_none_or(|sum| sum > i64::MAX as u64)
        {
            return bad(format!("swap: {swap} is out of range"));
        }
    }
    if spec
        .cpus
        .is_some_and(|n| !(CPUS_MIN..=CPUS_MAX).contains(&n))
    {
        return bad(format!(
            "cpus: it is at least {CPUS_MIN} and at most {CPUS_MAX}"
        ));
    }
    if spec.cpu_weight.is_some_and(|n| !(1..=10_000).contains(&n)) {
        return bad("cpu_weight: it is at least 1 and at most 10000".into());
    }
    if spec.cpu_idle && spec.cpu_weight.is_some() {
        return bad(
            "cpu_idle: it excludes cpu_weight, since what is idle has the least there is".into(),
        );
    }
    if let Some(list) = &spec.cpuset_cpus {
        cores::check(list)?;
    }
    if spec.nice.is_some_and(|n| !(0..=NICE_MAX).contains(&n)) {
        return bad(format!(
            "nice: it is at least 0 and at most {NICE_MAX}; to go below 0 takes privileges that no sandbox has"
        ));
    }
    if spec.stop_signal.is_some_and(|n| !(1..=64).contains(&n)) {
        return bad("stop_signal: a signal is at least 1 and at most 64".into());
    }
    if let Some(score) = spec.oom_score_adj {
        let own = own_oom_score_adj();
        if !(own..=OOM_SCORE_ADJ_MAX).contains(&score) {
            return bad(format!(
                "oom_score_adj: it is at least {own}, this process's own, and at most {OOM_SCORE_ADJ_MAX}"
            ));
        }
    }
    if spec.oom_group.is_some() && spec.memory.is_none() {
        return bad(
            "oom_group: it says what happens when memory is used up, which must be given too"
                .into(),
        );
    }
    for (name, limits) in spec.io_limits() {
        for limit in limits {
            if !(1..=i64::MAX as u64).contains(&limit.rate) {
                return bad(format!("{name}: a rate is at least 1 in a second"));
            }
            if let Err(why) = cgroup::device(&limit.device) {
                return bad(format!("{name}: `{}`: {why}", limit.device));
            }
        }
    }
    if spec.io_weight.is_some_and(|n| !(1..=10_000).contains(&n)) {
        return bad("io_weight: it is at least 1 and at most 10000".into());
    }
    for huge in &spec.hugetlb {
        let dir = format!("/sys/kernel/mm/hugepages/hugepages-{}kB", huge.size >> 10);
        if huge.size % 1024 != 0 || !std::path::Path::new(&dir).exists() {
            return bad(format!(
                "hugetlb: this kernel has no pages of {} bytes; /sys/kernel/mm/hugepages has one directory for each size",
                huge.size
            ));
        }
    }
    if let (Some(stack), Some(memory)) = (spec.stack, spec.memory)
        && stack > memory
    {
        return bad(format!("stack: {stack} is more than memory, {memory}"));
    }
    if spec.input.is_some() && spec.stdin.is_some() {
        return bad("input: it cannot be given together with stdin".into());
    }
    if matches!(spec.stdin, Some(Stdio::Capture | Stdio::Stdout)) {
        return bad("stdin: it is null, pipe or a descriptor".into());
    }
    if spec.stdout == Some(Stdio::Stdout) {
        return bad("stdout: it cannot lead to itself".into());
    }
    let hard = at_most_hard(Resource::RLIMIT_NOFILE, u64::MAX);
    if spec.open_files.is_some_and(|n| n > hard) {
        return bad(format!(
            "open_files: {} is more than this process's own hard limit, {hard} (ulimit -Hn)",
            spec.open_files.unwrap_or(0)
        ));
    }
    Ok(())
}

/// What this process's children begin with, which only the privileged may go below.
pub(crate) fn own_oom_score_adj() -> i32 {
    let text = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

/// Why the clocks of a sandbox cannot be set, if so.
pub(crate) fn no_time_namespace() -> Option<&'static str> {
    use crate::once::Once;
    static WHY: Once<Option<&str>> = Once::new();
    *WHY.get_or_init(|| {
        let read = || std::fs::read_to_string("/proc/self/timens_offsets");
        // What fails once may have failed by chance, and this is not asked again.
        let Ok(offsets) = read().or_else(|_| read()) else {
            return Some("this kernel has no time namespaces (Linux 5.6, CONFIG_TIME_NS)");
        };
        // The kernel adds what it is told to the machine's own clocks, which one in such a namespace cannot see.
        let numbers = offsets
            .lines()
            .flat_map(|line| line.split_whitespace().skip(1));
        match numbers.clone().all(|number| number == "0") {
            true => None,
            false => Some("this process is in a time namespace of its own"),
        }
    })
}

/// A default of ours, or this process's own hard limit if that is lower: nobody but root could raise it.
fn at_most_hard(resource: Resource, value: u64) -> u64 {
    getrlimit(resource).map_or(value, |(_, hard)| value.min(hard))
}

/// Linux counts the descriptors that all processes of a user have on their way through sockets, and gives none more than
/// its own limit on open ones, and a message's worth (253). So a program that has the caller's id on the host must stay far
/// below the caller's limit: else nobody of this user's, we among them, could pass a descriptor on while it keeps its own.
fn open_files_default() -> u64 {
    let soft = getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft);
    let most = match nix::unistd::geteuid().is_root() {
        true => OPEN_FILES_DEFAULT, // its programs have other ids
        false => OPEN_FILES_DEFAULT.min((soft / 2).max(OPEN_FILES_MIN)),
    };
    at_most_hard(Resource::RLIMIT_NOFILE, most)
}

/// Whether the running kernel is at least this version.
pub(crate) fn kernel_at_least(major: u32, minor: u32) -> bool {
    use crate::once::Once;
    static VERSION: Once<(u32, u32)> = Once::new();
    let version = VERSION.get_or_try_init(|| {
        let text = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
        let mut numbers = text
            .split(|c: char| !c.is_ascii_digit())
            .map(|n| n.parse().unwrap_or(0));
        let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        Ok::<_, std::io::Error>(version)
    });
    version.is_ok_and(|version| *version >= (major, minor))
}
