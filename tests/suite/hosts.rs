//! Host programs: this test binary started again, by `support::Host`, in a role. Each is a process of its own, which
//! can be starved, stopped and killed. A role speaks in lines that begin with `@ `.

mod disturbed;
mod leftovers;
mod small;

use crate::support::ROLE_VARIABLE;
use crate::{
    drift, exhausted, faults, floods, fork, inject, lateral, overlay, patience, restrict, stuck,
    threads, violation,
};
use std::io::Write;

/// Says a line to the test that started this role.
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "@ {line}")
        .and_then(|()| out.flush())
        .expect("the test listens");
}

/// Plays the role of the environment; without one, this is no host program and there is nothing to do.
#[test]
fn role() {
    let Ok(value) = std::env::var(ROLE_VARIABLE) else {
        return;
    };
    let (role, argument) = value.split_once(' ').expect("a role and an argument");
    match role {
        "leaky" => small::leaky(),
        "stopped" => small::stopped(),
        "false-device" => small::false_device(),
        "no-openat2" => small::no_openat2(argument.parse().expect("an error number")),
        "builds-while-others-fork" => fork::builds_while_others_fork(),
        "few-descriptors" => small::few_descriptors(),
        "first-use" => threads::first_use(),
        "leftovers" => leftovers::leftovers(),
        "sigchld-ignored" => disturbed::sigchld_ignored(),
        "reaps-all" => disturbed::reaps_all(),
        "closed-streams" => disturbed::closed_streams(),
        "interrupted" => disturbed::interrupted(),
        "odd-surroundings" => disturbed::odd_surroundings(),
        "undisturbed" => disturbed::undisturbed(),
        "victim" => faults::victim(),
        "killer" => faults::killer(argument),
        "overlay-victim" => overlay::victim(argument),
        "reflink" => overlay::reflink(argument),
        "disk-victim" => overlay::disk_victim(argument),
        "server-killed" => overlay::server_killed(argument),
        "supervisor-killed" => faults::supervisor_killed(),
        "supervisor-killed-busy" => faults::supervisor_killed_busy(),
        "restrict-keeper-killed" => restrict::keeper_killed(argument),
        "groups-left" => patience::groups_left(),
        "mounted-below" => lateral::mounted_below(argument),
        "many-roots" => lateral::many_roots(argument),
        "restrict-sweeps" => restrict::sweeps(argument),
        "no-user-namespaces" => restrict::no_user_namespaces(),
        "forks" => fork::forks(),
        "forks-with-threads" => fork::forks_with_threads(),
        "closes-while-others-fork" => fork::closes_while_others_fork(),
        "many-sandboxes" => stuck::many_sandboxes(),
        "no-descriptors" => stuck::no_descriptors(),
        "asks-at-the-end" => stuck::asks_at_the_end(),
        "with-a-listener" => violation::with_a_listener(),
        "injector" => inject::injector(argument),
        "injected" => inject::injected(argument),
        "flooded" => floods::flooded(argument),
        "few-in-flight" => floods::few_in_flight(),
        "few-namespaces" => exhausted::few_namespaces(),
        "counted-descriptors" => exhausted::counted_descriptors(),
        "verifies-with-few-descriptors" => exhausted::verifies_with_few_descriptors(),
        "few-processes" => exhausted::few_processes(),
        "full-disk" => exhausted::full_disk(argument),
        "many-runs" => drift::many_runs(argument.parse().expect("a number")),
        "many-at-once" => drift::many_at_once(),
        _ => panic!("no role `{role}`"),
    }
}
