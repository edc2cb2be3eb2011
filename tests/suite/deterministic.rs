//! What is the same in every run, where that is asked for.

use crate::support::{enforced, fields, guest_spec, skip, slowness};
use std::collections::BTreeMap;
use std::time::Duration;
use stockade::{EnforcementStatus, ErrorKind, Outcome, Sandbox, Spec, Verdict};

fn ok(spec: &Spec) -> Outcome {
    let outcome = spec.run().expect("the sandbox starts");
    assert_eq!(outcome.verdict, Verdict::Ok, "{outcome:?}");
    outcome
}

fn said(spec: &Spec) -> BTreeMap<String, String> {
    fields(&ok(spec))
}

#[test]
fn addresses_are_the_same_where_that_is_asked_for() {
    let spec = guest_spec(["addresses"]).deterministic(true);
    let first = said(&spec);
    for _ in 0..5 {
        assert_eq!(said(&spec), first);
    }
    // What a program executes is as it is itself.
    let again = guest_spec(["again", "again", "addresses"]).deterministic(true);
    let later = said(&again);
    assert_eq!(said(&again), later);
    for place in ["heap", "mmap", "vdso"] {
        assert_eq!(later[place], first[place], "{place}");
    }
    let outcome = ok(&spec);
    assert!(enforced(&outcome, "deterministic"), "{outcome:?}");
}

#[test]
fn addresses_differ_where_it_is_not() {
    if std::fs::read_to_string("/proc/sys/kernel/randomize_va_space").is_ok_and(|n| n.trim() != "2")
    {
        skip!("this host randomises no addresses");
    }
    let spec = guest_spec(["addresses"]);
    let runs: Vec<_> = (0..5).map(|_| said(&spec)).collect();
    for place in ["stack", "heap", "mmap", "vdso"] {
        assert!(
            runs.iter().any(|run| run[place] != runs[0][place]),
            "{place}: {}",
            runs[0][place]
        );
    }
    assert_eq!(ok(&spec).enforcement.get("deterministic"), None);
}

fn shell(script: &str) -> Spec {
    let mut spec = guest_spec(["-"]);
    spec.args = vec!["/bin/sh".into(), "-c".into(), script.into()];
    spec
}

#[test]
fn hash_seeds_are_zero_unless_they_are_given() {
    let names = "echo $PYTHONHASHSEED,$PERL_HASH_SEED,$PERL_PERTURB_KEYS";
    let text = |spec: Spec| ok(&spec).stdout.to_text();
    assert_eq!(text(shell(names)), ",,\n");
    assert_eq!(text(shell(names).deterministic(true)), "0,0,0\n");
    let given = shell(names).env("PYTHONHASHSEED", "7").env("A", "b");
    assert_eq!(text(given.deterministic(true)), "7,0,0\n");
}

#[test]
fn hashes_of_python_and_perl_are_the_same() {
    for (program, script) in [
        (
            "/usr/bin/python3",
            "python3 -c 'print(hash(\"x\"), {*\"abcdefgh\"})'",
        ),
        (
            "/usr/bin/perl",
            "perl -e 'my %h = map { $_ => 1 } 1..50; print join q(,), keys %h'",
        ),
    ] {
        if !std::path::Path::new(program).exists() {
            skip!("{program} is not here");
        }
        let runs = |deterministic: bool| -> Vec<String> {
            let spec = shell(script).deterministic(deterministic);
            (0..4).map(|_| ok(&spec).stdout.to_text()).collect()
        };
        let same = runs(true);
        assert!(same.iter().all(|run| *run == same[0]), "{same:?}");
        let other = runs(false);
        assert!(other.iter().any(|run| *run != other[0]), "{other:?}");
    }
}

#[test]
fn clocks_begin_where_they_are_told_to() {
    let spec = guest_spec(["clocks"]);
    let refused = spec.clone().uptime(Duration::ZERO).run();
    if let Err(error) = &refused
        && error.kind() == ErrorKind::Unsupported
    {
        skip!("{error}");
    }
    for uptime in [0, 1000, 1_000_000_000] {
        let clocks = said(&spec.clone().uptime(Duration::from_secs(uptime)));
        for clock in ["monotonic", "boottime", "uptime"] {
            let now: f64 = clocks[clock].parse().expect("a number");
            let since = now - uptime as f64;
            assert!(
                (-0.02..5.0 * f64::from(slowness())).contains(&since),
                "{clock}: {now}, told {uptime}"
            );
        }
        // The time of day is nobody's to change.
        let host = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .expect("after 1970");
        let inside: f64 = clocks["realtime"].parse().expect("a number");
        assert!((host.as_secs_f64() - inside).abs() < 5.0 * f64::from(slowness()));
    }
    let outcome = ok(&spec.clone().uptime(Duration::ZERO));
    assert!(enforced(&outcome, "uptime"), "{outcome:?}");
    let most = spec.uptime(Duration::MAX).run().expect_err("too long");
    assert_eq!(most.kind(), ErrorKind::InvalidArgument, "{most}");
}

#[test]
fn limits_and_bills_are_by_the_hosts_clock() {
    let spec = guest_spec(["sleep", "0.3"]).uptime(Duration::from_secs(5_000_000));
    let outcome = match spec.run() {
        Err(error) if error.kind() == ErrorKind::Unsupported => skip!("{error}"),
        outcome => outcome.expect("runs"),
    };
    let took = outcome.usage.wall_time;
    assert!(
        took > Duration::from_millis(290) && took < Duration::from_secs(2) * slowness(),
        "{took:?}"
    );
    let limited = guest_spec(["sleep", "20"])
        .uptime(Duration::ZERO)
        .wall_time(Duration::from_millis(300));
    let outcome = limited.run().expect("runs");
    assert_eq!(outcome.verdict, Verdict::WallTimeLimit, "{outcome:?}");
    assert!(outcome.usage.wall_time < Duration::from_secs(2) * slowness());
}

#[test]
fn in_a_live_sandbox_the_clock_is_the_sandboxs_and_the_seed_the_programs() {
    let base = guest_spec(["-"]).uptime(Duration::from_secs(77));
    let sandbox = match Sandbox::start(&base) {
        Err(error) if error.kind() == ErrorKind::Unsupported => skip!("{error}"),
        sandbox => sandbox.expect("starts"),
    };
    let uptime = || -> f64 {
        let spec = guest_spec(["clocks"]).uptime(Duration::from_secs(77));
        let outcome = sandbox.run(&spec).expect("runs");
        fields(&outcome)["monotonic"].parse().expect("a number")
    };
    let (first, second) = (uptime(), uptime());
    assert!(first >= 77.0 && first < second, "{first}, {second}");
    let other = sandbox
        .run(&guest_spec(["clocks"]))
        .expect_err("no such clock here");
    assert_eq!(other.kind(), ErrorKind::InvalidArgument, "{other}");
    let stack = |deterministic: bool| {
        let spec = guest_spec(["addresses"]).uptime(Duration::from_secs(77));
        let outcome = sandbox.run(&spec.deterministic(deterministic));
        fields(&outcome.expect("runs"))["stack"].clone()
    };
    assert_eq!(stack(true), stack(true));
    let outcome = sandbox.run(&guest_spec(["true"]).uptime(Duration::from_secs(77)));
    let uptime = &outcome.expect("runs").enforcement["uptime"];
    assert_eq!(uptime.status, EnforcementStatus::Enforced);
}
