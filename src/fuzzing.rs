//! What reads text or bytes from outside, each by itself and with what must hold afterwards. Built for the fuzz targets
//! in `fuzz/` only (`--cfg fuzzing`).

pub use crate::image::fuzzing::{Images, Place, decompress, manifest, names};

use crate::cgroup::{Cgroup, Kind};
use crate::ids::Ids;
use crate::outcome::{Outcome, Stats, Usage, Verdict};
use crate::plan::{Plan, bytes_of, read_of};
use crate::process::split_reads;
use crate::rates::{DeviceRate, HugePages};
use crate::seccomp;
use crate::spec::{Profile, Spec, Tmpfs, Volume};
use crate::verdict::Judged;
use crate::wire::{Exit, Failure};
use crate::{cores, limits, parse_duration, parse_size};

/// A specification in JSON: read, written, read again; and the plan that it becomes, if it is a valid one: head and
/// steps, as the helper gets them.
pub fn spec(data: &[u8]) -> Option<Vec<u8>> {
    let spec: Spec = serde_json::from_slice(data).ok()?;
    let json = serde_json::to_vec(&spec).expect("every value has a form");
    let again: Spec = serde_json::from_slice(&json).expect("our own");
    assert_eq!(again, spec);
    limits::check(&spec).ok()?;
    let plan = plan(&spec)?;
    Some([bytes_of(&plan.head), &plan.bytes].concat())
}

fn plan(spec: &Spec) -> Option<Plan> {
    let ids = Ids::Single {
        note: String::new(),
    };
    let cgroup = Cgroup::pretended(Kind::V2);
    Plan::sandbox(spec, &ids, &cgroup, None, Some(false)).ok()
}

/// A seccomp profile in Docker's format: read, written, read again; and what must hold of its filters.
pub fn profile(text: &str) {
    let Ok(profile) = text.parse::<Profile>() else {
        return;
    };
    let json = serde_json::to_string(&profile).expect("every value has a form");
    let again: Profile = serde_json::from_str(&json).expect("our own");
    assert_eq!(again, profile);
    if let Profile::Docker(document) = &profile {
        document
            .programs()
            .iter()
            .for_each(|one| seccomp::check(one));
    }
}

/// What the supervisor reports: an end with the contents of cgroup files, and a failure; and an outcome in JSON.
pub fn results(data: &[u8]) {
    if let Ok(outcome) = serde_json::from_slice::<Outcome>(data) {
        let json = serde_json::to_vec(&outcome).expect("every value has a form");
        let again: Outcome = serde_json::from_slice(&json).expect("our own");
        assert_eq!(again, outcome);
    }
    let spec = Spec::new(["program"]).memory(1 << 20);
    if let Some(failure) = read_of::<Failure>(data) {
        let plan = plan(&spec).expect("a plain one");
        let error = plan.explain(&failure);
        assert!(!error.to_string().is_empty());
        let _ = plan.is_exec_failure(&failure);
        let _ = Judged::new(&spec).too_small(&failure, &error);
    }
    let Some(exit) = read_of::<Exit>(data) else {
        return;
    };
    let reads = split_reads(&data[size_of::<Exit>()..], exit.reads as usize);
    for kind in [Kind::None, Kind::V1, Kind::V2] {
        let cgroup = Cgroup::pretended(kind);
        let mut outcome = Outcome {
            verdict: Verdict::Ok,
            returncode: 0,
            exit_code: None,
            signal: None,
            limit: None,
            violation: None,
            stdout: Default::default(),
            stderr: Default::default(),
            stdout_truncated: false,
            stderr_truncated: false,
            stdout_bytes: 0,
            stderr_bytes: 0,
            outputs: Default::default(),
            usage: Usage::default(),
            enforcement: Default::default(),
            message: None,
        };
        Judged::new(&spec).fill(&mut outcome, &exit, &reads, &cgroup);
        cgroup.fill_stats(&reads, &mut Stats::default());
        serde_json::to_vec(&outcome).expect("every value has a form");
    }
}

/// Volumes and memory file systems as text.
pub fn volume(text: &str) {
    if let Ok(volume) = text.parse::<Volume>() {
        let again: Volume = String::from(volume.clone()).parse().expect("our own");
        assert_eq!(again, volume);
    }
    if let Ok(tmpfs) = text.parse::<Tmpfs>() {
        let again: Tmpfs = String::from(tmpfs.clone()).parse().expect("our own");
        assert_eq!(again, tmpfs);
    }
}

/// Limits as text: sizes, times, processors, rates.
pub fn limits(text: &str) {
    if let Ok(size) = parse_size(text) {
        assert_eq!(parse_size(&size.to_string()).expect("a number"), size);
    }
    if let Ok(time) = parse_duration(text) {
        let text = format!("{}ns", time.as_nanos());
        parse_duration(&text).expect("a number");
    }
    if let Some(cpus) = cores::parse(text) {
        let mask = cores::mask(text);
        let bits: u32 = mask.iter().map(|byte| byte.count_ones()).sum();
        assert_eq!(bits as usize, cpus.len());
    }
    let _ = cores::check(text);
    if let Ok(rate) = text.parse::<DeviceRate>() {
        let again: DeviceRate = String::from(rate.clone()).parse().expect("our own");
        assert_eq!(again, rate);
    }
    if let Ok(pages) = text.parse::<HugePages>() {
        let again: HugePages = String::from(pages).parse().expect("our own");
        assert_eq!(again, pages);
        let _ = pages.name();
    }
}
