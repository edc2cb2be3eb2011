//! A call that the profile kills for ends the whole run, whoever in it makes one, and the outcome says which it was.

use crate::hosts::say;
use crate::support::{
    Host, enforced, fields, guest_spec, promise, skip, start_clock, status, wait_until,
};
use serde_json::json;
use std::io::{BufRead, BufReader};
use std::time::Duration;
use stockade::{
    DockerProfile, EnforcementStatus, Outcome, Process, Profile, Sandbox, Spec, Stdio, Update,
    Verdict, Violation,
};

/// Kills for `name` if its first argument is `first`.
fn kills(name: &str, first: u64) -> Profile {
    let document = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": [name], "action": "SCMP_ACT_KILL_PROCESS",
            "args": [{"index": 0, "value": first, "op": "SCMP_CMP_EQ"}]}],
    });
    Profile::Docker(DockerProfile::new(document).expect("a profile"))
}

/// The guest, which has `who` call getpgid(7, 1, ...), for which its profile kills.
fn calls(who: &str) -> Spec {
    let nr = libc::SYS_getpgid.to_string();
    let high = "0x123456789abcdef0";
    let args = ["calls", who, &nr, "7", high, "-1", "3", "4", "5"];
    guest_spec(args).profile(kills("getpgid", 7))
}

fn violation(outcome: &Outcome) -> &Violation {
    assert_eq!(outcome.verdict, Verdict::Violation, "{outcome:?}");
    let text = outcome.stdout.to_text();
    assert!(!text.contains("after"), "it went on: {outcome:?}");
    match &outcome.violation {
        Some(violation) => violation,
        None => panic!("it is not said which: {outcome:?}"),
    }
}

fn pid_inside(outcome: &Outcome) -> u32 {
    fields(outcome)["before"].parse().expect("a number")
}

#[test]
fn the_programs_own_call_is_told_with_all_that_is_known() {
    let outcome = calls("itself").run().expect("starts");
    let found = violation(&outcome);
    let native = if cfg!(target_arch = "x86_64") {
        "x86_64"
    } else {
        "aarch64"
    };
    let expected = Violation {
        syscall: Some("getpgid".into()),
        number: libc::SYS_getpgid as u32,
        arch: native.into(),
        args: [7, 0x1234_5678_9abc_def0, u64::MAX, 3, 4, 5],
        instruction_pointer: found.instruction_pointer,
        pid: pid_inside(&outcome),
        main: true,
        command: Some("guest".into()),
    };
    assert_eq!(*found, expected);
    // In the code of a static program.
    assert!(
        (0x40_0000..0x80_0000).contains(&found.instruction_pointer),
        "{found:?}"
    );
    assert_eq!(outcome.limit, None);
    assert_eq!(outcome.verdict.short(), "RTE");
    assert!(enforced(&outcome, "violation"), "{outcome:?}");
    let text = outcome.to_json();
    assert!(text.contains(r#""args":["0x7","0x123456789abcdef0","0xffffffffffffffff""#));
    assert_eq!(serde_json::from_str::<Outcome>(&text).unwrap(), outcome);
    let line = found.to_string();
    let begins = "getpgid(0x7, 0x123456789abcdef0, 0xffffffffffffffff, 0x3, 0x4, 0x5), call ";
    assert!(line.starts_with(begins), "{line}");
}

#[test]
fn a_call_of_any_process_ends_the_run() {
    for (who, is_main) in [
        ("thread", true),
        ("child", false),
        ("orphan", false),
        ("stopped", false),
        ("late", false),
        ("threads", true),
        ("bomb", false),
    ] {
        let clock = start_clock();
        let outcome = calls(who).pids(300).run();
        let outcome = match outcome {
            Err(e) if e.kind() == stockade::ErrorKind::Unsupported => {
                skip!("nothing limits pids here: {e}")
            }
            outcome => outcome.expect("starts"),
        };
        let found = violation(&outcome);
        assert_eq!(found.syscall.as_deref(), Some("getpgid"), "{who}");
        assert_eq!(found.args[0], 7, "{who}");
        assert_eq!(found.main, is_main, "{who}: {outcome:?}");
        assert_eq!(found.pid == pid_inside(&outcome), is_main, "{who}");
        assert!(clock.elapsed() < promise() * 5, "{who} took its time");
    }
}

#[test]
fn each_way_to_kill_is_one_and_trap_is_none() {
    let run = |action: &str, who: &str| {
        let document = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["getpgid"], "action": action}],
        });
        let profile = Profile::Docker(DockerProfile::new(document).unwrap());
        calls(who).profile(profile).run().expect("starts")
    };
    for action in ["KILL", "KILL_THREAD", "KILL_PROCESS"] {
        violation(&run(&format!("SCMP_ACT_{action}"), "child"));
    }
    let trapped = run("SCMP_ACT_TRAP", "itself");
    assert_eq!(trapped.verdict, Verdict::Violation, "{trapped:?}");
    assert_eq!(trapped.signal, Some(libc::SIGSYS), "{trapped:?}");
    assert_eq!(trapped.violation, None);
    let survived = run("SCMP_ACT_TRAP", "child");
    assert_eq!(survived.verdict, Verdict::Ok, "{survived:?}");
    for action in ["SCMP_ACT_ERRNO", "SCMP_ACT_LOG"] {
        assert_eq!(run(action, "child").verdict, Verdict::Ok, "{action}");
    }
}

/// The signal alone is no call: a program can send it to itself.
#[test]
fn a_signal_that_the_program_sends_is_none() {
    let outcome = guest_spec(["signal", "31"]).run().expect("starts");
    if outcome
        .enforcement
        .get("violation")
        .is_some_and(|e| e.status != EnforcementStatus::Enforced)
    {
        skip!("only the kernel hears of calls here, and says no more than that signal");
    }
    assert_eq!(outcome.signal, Some(libc::SIGSYS), "{outcome:?}");
    assert_eq!(outcome.verdict, Verdict::Signaled, "{outcome:?}");
}

#[test]
fn another_abi_is_one_with_every_profile() {
    if !cfg!(target_arch = "x86_64") {
        skip!("this architecture has one entry to the kernel");
    }
    for profile in [Profile::Default, Profile::Strict, kills("getpgid", 7)] {
        let run = |args: [&str; 2]| guest_spec(args).profile(profile.clone()).run().unwrap();
        let outcome = run(["attempt", "int80"]);
        if outcome.signal == Some(libc::SIGSEGV) {
            skip!("this kernel has no 32-bit entry");
        }
        let found = violation(&outcome);
        let call = (found.arch.as_str(), found.number, found.syscall.as_deref());
        assert_eq!(call, ("i386", 20, None), "{outcome:?}");
        // The same of a child.
        let outcome = run(["probe", "int80"]);
        assert!(!violation(&outcome).main, "{outcome:?}");
        let found = run(["attempt", "x32"]);
        let found = violation(&found);
        let call = (found.arch.as_str(), found.number, found.syscall.as_deref());
        assert_eq!(call, ("x32", 0x4000_0000 + 39, Some("getpid")));
    }
}

#[test]
fn a_start_that_violates_does_not_hang() {
    // The path is a pointer, never null: what is compared is the environment, behind it.
    let document = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["execve"], "action": "SCMP_ACT_KILL",
            "args": [{"index": 0, "value": 0, "op": "SCMP_CMP_NE"}]}],
    });
    let spec = guest_spec(["true"]).profile(Profile::Docker(DockerProfile::new(document).unwrap()));
    let clock = start_clock();
    let outcome = spec.run().expect("starts");
    let found = violation(&outcome);
    assert_eq!(found.syscall.as_deref(), Some("execve"));
    assert!(found.main);
    // What cannot be executed ends by a call that is killed for, and is what it was.
    let mut spec = guest_spec(["true"]).profile(kills("exit_group", 127));
    spec.args = vec!["/no/such/program".into()];
    let outcome = spec.run().expect("starts");
    assert_eq!(outcome.verdict, Verdict::ExecFailed, "{outcome:?}");
    assert!(clock.elapsed() < promise() * 4);
}

#[test]
fn other_programs_of_the_sandbox_go_on() {
    let sandbox = Sandbox::start(&guest_spec(["-"])).expect("starts");
    let other = guest_spec(["sleep", "1"]);
    let other = sandbox.spawn(&other).expect("starts");
    for who in ["itself", "child", "thread"] {
        violation(&sandbox.run(&calls(who)).expect("runs"));
    }
    let outcome = other.wait().expect("waits");
    assert_eq!(outcome.verdict, Verdict::Ok, "{outcome:?}");
    assert_eq!(outcome.violation, None);
    // More than there is room for listeners, should one be forgotten.
    for _ in 0..100 {
        violation(&sandbox.run(&calls("itself")).expect("runs"));
    }
    assert!(sandbox.run(&guest_spec(["true"])).unwrap().success());
}

#[test]
fn what_a_program_left_behind_is_ended_for_its_call_as_well() {
    let sandbox = Sandbox::start(&guest_spec(["-"])).expect("starts");
    let other = sandbox
        .spawn(&guest_spec(["sleep", "1.5"]))
        .expect("starts");
    let outcome = sandbox.run(&calls("left")).expect("runs");
    assert_eq!(outcome.verdict, Verdict::Ok, "{outcome:?}");
    let text = other.wait().expect("waits").stdout.to_text();
    assert_eq!(text, "", "the other program has ended as it would");
}

/// The program's process, once it has said `before`.
fn begun(spec: &Spec) -> (Process, BufReader<std::fs::File>) {
    let process = spec.clone().stdout(Stdio::Pipe).spawn().expect("starts");
    let mut out = BufReader::new(std::fs::File::from(process.take_stdout().unwrap()));
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert!(line.starts_with("before="), "{line}");
    (process, out)
}

fn field_of(pid: u32, key: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    line.unwrap_or("").trim().to_string()
}

/// Stops the init of a program and lets it go on in the end.
struct Stopped(i32);

impl Stopped {
    fn new(process: &Process) -> Stopped {
        let pid = process.pid().expect("it runs");
        let init = field_of(pid, "PPid:").parse().expect("a number");
        // SAFETY: signals a process of this test's.
        assert_eq!(unsafe { libc::kill(init, libc::SIGSTOP) }, 0);
        Stopped(init)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { libc::kill(self.0, libc::SIGCONT) };
    }
}

#[test]
fn a_call_that_comes_with_the_end_is_not_lost() {
    let (process, _out) = begun(&calls("ended"));
    let pid = process.pid().expect("it runs");
    let stopped = Stopped::new(&process);
    let ended = || field_of(pid, "State:").starts_with('Z');
    assert!(wait_until(promise() * 5, ended));
    drop(stopped);
    let outcome = process.wait().expect("waits");
    assert!(!violation(&outcome).main, "{outcome:?}");
    assert_eq!(outcome.exit_code, Some(0), "{outcome:?}");
}

#[test]
fn what_is_asked_for_while_a_call_waits_changes_nothing_of_it() {
    for what in ["pause", "update", "kill", "signal"] {
        let (process, _out) = begun(&calls("ended"));
        let stopped = Stopped::new(&process);
        // Until the child has made its call.
        std::thread::sleep(Duration::from_millis(350));
        let pause = || {
            process.pause()?;
            process.resume()
        };
        let done = std::thread::scope(|scope| {
            let asked = scope.spawn(|| match what {
                "pause" => pause(),
                "update" => process.update(&Update::new().wall_time(Some(Duration::from_secs(20)))),
                "kill" => process.kill(),
                _ => process.signal(libc::SIGTERM),
            });
            std::thread::sleep(Duration::from_millis(50));
            drop(stopped);
            asked.join().expect("does not panic")
        });
        let outcome = process.wait().expect("waits");
        assert_eq!(
            outcome.verdict,
            Verdict::Violation,
            "{what}: {done:?} {outcome:?}"
        );
        assert!(outcome.violation.is_some(), "{what}: {outcome:?}");
    }
}

#[test]
fn a_program_that_is_paused_makes_its_call_when_it_goes_on() {
    let (process, _out) = begun(&calls("late"));
    process.pause().expect("it can be paused");
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(process.poll().unwrap(), None);
    process.resume().expect("it can be resumed");
    let outcome = process.wait().expect("waits");
    violation(&outcome);
}

#[test]
fn the_fewest_descriptors_leave_room_for_it() {
    let outcome = calls("itself").open_files(4).run().expect("starts");
    violation(&outcome);
    assert!(enforced(&outcome, "violation"));
}

#[test]
fn a_program_can_refuse_itself_calls_but_have_no_listener() {
    let nr = libc::SYS_getpgid.to_string();
    let outcome = guest_spec(["own-filter", &nr]).run().expect("starts");
    let seen = fields(&outcome);
    assert_eq!(seen["listener"], "EBUSY", "{outcome:?}");
    assert_eq!((&*seen["filter"], &*seen["call"]), ("OK", "EDOM"));
    assert_eq!(outcome.verdict, Verdict::Ok);
}

#[test]
fn a_call_that_a_signal_interrupts_is_not_made() {
    let outcome = calls("interrupted").run().expect("starts");
    match outcome.verdict {
        Verdict::Violation => drop(violation(&outcome)),
        _ => assert_eq!(fields(&outcome)["made"], "0", "{outcome:?}"),
    }
}

/// A host that is itself under a filter with a listener: there can be no second one.
pub fn with_a_listener() {
    let allow = libc::sock_filter {
        code: (libc::BPF_RET | libc::BPF_K) as u16,
        jt: 0,
        jf: 0,
        k: libc::SECCOMP_RET_ALLOW,
    };
    let program = libc::sock_fprog {
        len: 1,
        filter: (&raw const allow).cast_mut(),
    };
    // SAFETY: both calls read what lives until they return.
    let listener = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            &raw const program,
        )
    };
    assert!(listener >= 0, "{}", std::io::Error::last_os_error());
    for who in ["itself", "child"] {
        let outcome = calls(who).run().expect("starts");
        let by = &outcome.enforcement["violation"].by;
        let why = by.contains("can be only one");
        let status = status(&outcome, "violation");
        say(&format!("{}: {status:?} {why}", outcome.verdict));
    }
}

#[test]
fn under_another_listener_the_kernel_kills_and_the_outcome_says_so() {
    assert_eq!(
        Host::start("with-a-listener", "").finish(),
        ["VIOLATION: Approximated true", "OK: Approximated true"]
    );
}
