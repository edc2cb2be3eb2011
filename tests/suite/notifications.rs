//! The host is told when a program has used so much, once, whoever looks and however late.

use crate::support::{guest_spec, promise, slowness, start_clock};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::AsFd;
use std::time::Duration;
use stockade::{ErrorKind, Notification, Sandbox, Update, Verdict};

const MIB: u64 = 1 << 20;

fn cpu_time(notification: Notification) -> (Duration, Duration) {
    match notification {
        Notification::CpuTime { threshold, used } => (threshold, used),
        other => panic!("{other:?}"),
    }
}

fn memory(notification: Notification) -> (u64, u64) {
    match notification {
        Notification::Memory { threshold, used } => (threshold, used),
        other => panic!("{other:?}"),
    }
}

#[test]
fn cpu_time_is_told_once_and_again_when_asked_again() {
    let process = guest_spec(["spin", "20"]).spawn().unwrap();
    for milliseconds in [200, 400] {
        let wanted = Duration::from_millis(milliseconds);
        process.notify_cpu_time(Some(wanted)).unwrap();
        let told = process.next_notification(None).unwrap().unwrap();
        let (threshold, used) = cpu_time(told);
        assert_eq!(threshold, wanted);
        assert!(used >= wanted, "{used:?}");
        assert!(
            used < wanted + Duration::from_millis(150) * slowness(),
            "{used:?}"
        );
        let now = process.stats().unwrap().unwrap().cpu_time;
        assert!(now + Duration::from_millis(10) >= wanted, "{now:?}");
        let more = process.next_notification(Some(Duration::from_millis(100)));
        assert_eq!(more.unwrap(), None, "told twice");
    }
    // Passed already: told at once.
    let clock = start_clock();
    process
        .notify_cpu_time(Some(Duration::from_millis(1)))
        .unwrap();
    cpu_time(process.next_notification(None).unwrap().unwrap());
    assert!(clock.elapsed() < promise());
    process.kill().unwrap();
    assert_eq!(process.wait().unwrap().verdict, Verdict::Killed);
    assert_eq!(process.next_notification(None).unwrap(), None);
}

#[test]
fn memory_is_told_while_it_is_in_use() {
    let process = guest_spec(["alloc", "64m", "20"]).spawn().unwrap();
    process.notify_memory(Some(48 * MIB)).unwrap();
    let (threshold, used) = memory(process.next_notification(None).unwrap().unwrap());
    assert_eq!(threshold, 48 * MIB);
    assert!((48 * MIB..80 * MIB).contains(&used), "{used}");
    process.notify_memory(Some(512 * MIB)).unwrap();
    let more = process.next_notification(Some(Duration::from_millis(200)));
    assert_eq!(more.unwrap(), None, "it does not use so much");
    process.kill().unwrap();
    assert_eq!(process.notifications().count(), 0);
}

#[test]
fn what_is_taken_late_is_not_lost() {
    let process = guest_spec(["spin", "0.4"]).spawn().unwrap();
    process
        .notify_cpu_time(Some(Duration::from_millis(100)))
        .unwrap();
    process.notify_memory(Some(1)).unwrap();
    let outcome = process.wait().unwrap();
    assert_eq!(outcome.verdict, Verdict::Ok);
    let told: Vec<_> = process.notifications().map(Result::unwrap).collect();
    let [first, second] = told[..] else {
        panic!("{told:?}");
    };
    assert_eq!(memory(first).0, 1);
    cpu_time(second);
    assert_eq!(process.next_notification(None).unwrap(), None);
}

#[test]
fn none_is_told_of_what_is_not_used_or_not_wanted_any_more() {
    let process = guest_spec(["spin", "0.3"]).spawn().unwrap();
    process
        .notify_cpu_time(Some(Duration::from_secs(20)))
        .unwrap();
    process.notify_memory(Some(MIB * 1024)).unwrap();
    assert_eq!(process.notifications().count(), 0);
    let process = guest_spec(["spin", "0.4"]).spawn().unwrap();
    process
        .notify_cpu_time(Some(Duration::from_millis(200)))
        .unwrap();
    process.notify_cpu_time(None).unwrap();
    assert_eq!(process.notifications().count(), 0);
    let error = process.notify_memory(Some(0)).expect_err("0 is nothing");
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    process.notify_memory(Some(1)).expect("it has ended");
    assert_eq!(process.next_notification(None).unwrap(), None);
}

#[test]
fn the_descriptor_is_readable_when_one_has_come() {
    let process = guest_spec(["spin", "20"]).spawn().unwrap();
    assert_eq!(process.poll().unwrap(), None);
    process
        .notify_cpu_time(Some(Duration::from_millis(200)))
        .unwrap();
    let mut told = None;
    while told.is_none() {
        let mut fds = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
        let ready = poll(&mut fds, PollTimeout::from(20_000u16)).unwrap();
        assert_eq!(ready, 1, "nothing comes");
        assert_eq!(process.poll().unwrap(), None);
        told = process.next_notification(Some(Duration::ZERO)).unwrap();
    }
}

/// One thread waits for the end and so hears everything first; the one that waits for notifications must not sleep on.
#[test]
fn one_thread_waits_for_the_end_and_another_is_told() {
    let process = guest_spec(["spin", "20"]).spawn().unwrap();
    process
        .notify_cpu_time(Some(Duration::from_millis(300)))
        .unwrap();
    std::thread::scope(|scope| {
        let waiters: Vec<_> = (0..3).map(|_| scope.spawn(|| process.wait())).collect();
        let told = scope.spawn(|| process.next_notification(None));
        cpu_time(told.join().unwrap().unwrap().unwrap());
        process.kill().unwrap();
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap().unwrap().verdict, Verdict::Killed);
        }
    });
}

#[test]
fn a_soft_limit() {
    let sandbox = Sandbox::start(&guest_spec(["true"])).unwrap();
    let process = sandbox.spawn(&guest_spec(["spin", "20"])).unwrap();
    process
        .notify_cpu_time(Some(Duration::from_millis(100)))
        .unwrap();
    let mut told = 0;
    for notification in process.notifications() {
        cpu_time(notification.unwrap());
        told += 1;
        let limit = Some(Duration::from_millis(300) * slowness());
        process.update(&Update::new().cpu_time(limit)).unwrap();
    }
    assert_eq!(told, 1);
    assert_eq!(process.wait().unwrap().verdict, Verdict::TimeLimit);
}

#[test]
fn a_paused_program_is_told_of_when_it_goes_on() {
    let process = guest_spec(["alloc", "32m", "20"]).spawn().unwrap();
    process.notify_memory(Some(24 * MIB)).unwrap();
    memory(process.next_notification(None).unwrap().unwrap());
    process.pause().unwrap();
    process.notify_memory(Some(16 * MIB)).unwrap();
    let none = process.next_notification(Some(Duration::from_millis(200)));
    assert_eq!(none.unwrap(), None);
    process.resume().unwrap();
    memory(process.next_notification(None).unwrap().unwrap());
}
