//! What a host can run out of: namespaces, descriptors, processes, room on a disk. Each is a clear error or a right
//! outcome, and all is well once there is enough.

use crate::hosts::say;
use crate::support::{
    Host, alive, guest_dir, guest_spec, is_root, open_descriptors, promise, run_succeeds, skip,
    slowness, wait_until,
};
use std::ffi::CString;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use stockade::image::{Import, Source, Store};
use stockade::{Error, ErrorKind, Overlay, Rootfs, Sandbox, Verdict};

/// Has the command run in a user namespace of its own, whose only user is the caller, after `then` in it.
fn in_user_namespace(
    command: &mut Command,
    more: i32,
    then: impl Fn() -> std::io::Result<()> + Send + Sync + 'static,
) {
    // SAFETY: neither fails nor touches memory.
    let (user, group) = unsafe { (libc::geteuid(), libc::getegid()) };
    let change = move || {
        // SAFETY: plain system calls in a process with one thread.
        if unsafe { libc::unshare(libc::CLONE_NEWUSER | more) } != 0 {
            return Err(std::io::Error::last_os_error());
        }
        std::fs::write("/proc/self/setgroups", "deny")?;
        std::fs::write("/proc/self/uid_map", format!("{user} {user} 1"))?;
        std::fs::write("/proc/self/gid_map", format!("{group} {group} 1"))?;
        then()
    };
    // SAFETY: the closure allocates, which the child of a process that forks may do with the C library that Rust uses here;
    // it takes no lock of the test's.
    unsafe { command.pre_exec(change) };
}

#[test]
fn namespaces() {
    for kind in ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"] {
        let path = format!("/proc/sys/user/max_{kind}_namespaces");
        if !std::path::Path::new(&path).exists() {
            skip!("{path}: this kernel has none");
        }
        let mut works = None;
        let limits: &[i32] = match slowness() {
            1 => &[0, 1, 2, 4, 8, 16, 32, 64],
            _ => &[0, 64],
        };
        for &limit in limits {
            let path = path.clone();
            let said = Host::start_with("few-namespaces", "", |command| {
                in_user_namespace(command, 0, move || std::fs::write(&path, limit.to_string()));
            })
            .finish();
            match said[0].as_str() {
                "works" => works = works.or(Some(limit)),
                refused => {
                    assert!(works.is_none(), "{kind} {limit}: {said:?}");
                    assert!(
                        refused.contains(&libc::ENOSPC.to_string()) && refused.contains("limit"),
                        "{kind} {limit}: {refused}"
                    );
                }
            }
        }
        assert!(works.is_some_and(|limit| limit > 0), "{kind}: {works:?}");
    }
}

/// Plays a host of which the test has limited the namespaces.
pub fn few_namespaces() {
    for _ in 0..2 {
        match guest_spec(["true"]).run() {
            Ok(outcome) => {
                assert_eq!(outcome.verdict, Verdict::Ok, "{outcome:?}");
                say("works");
            }
            Err(e) => say(&format!("{}: {e}", e.errno())),
        }
    }
}

#[test]
fn descriptors() {
    let said = Host::start("counted-descriptors", "").finish();
    assert_eq!(said.last().map(String::as_str), Some("works"), "{said:#?}");
}

/// What is short just now is no damage of the store's, for which its images would be removed.
#[test]
fn a_store_is_not_damaged_for_want_of_descriptors() {
    let said = Host::start("verifies-with-few-descriptors", "").finish();
    assert_eq!(said, ["works"]);
}

/// Plays a host with each number of descriptors that looks whether its store is intact.
pub fn verifies_with_few_descriptors() {
    let boxed = crate::commit::Boxed::new();
    let store = boxed.store();
    let whole = store.verify().expect("it is looked at");
    let (mut worked, mut refused) = (0, 0);
    for most in 3..64 {
        limit(libc::RLIMIT_NOFILE, most, 4096);
        let verified = store.verify();
        limit(libc::RLIMIT_NOFILE, 1024, 4096);
        match verified {
            Ok(verified) => {
                assert_eq!(verified, whole, "{most}");
                worked += 1;
            }
            Err(e) => {
                assert_eq!(e.errno(), libc::EMFILE, "{most}: {e}");
                refused += 1;
            }
        }
    }
    assert!(worked > 3 && refused > 3, "{worked} {refused}");
    say("works");
}

fn limit(resource: libc::__rlimit_resource_t, soft: u64, hard: u64) {
    let limit = libc::rlimit {
        rlim_cur: soft,
        rlim_max: hard,
    };
    // SAFETY: the structure lives through the call.
    assert_eq!(unsafe { libc::setrlimit(resource, &limit) }, 0);
}

/// Plays a host with each number of descriptors, from none on, as its soft limit; its supervisor has more.
pub fn counted_descriptors() {
    let mut worked = 0;
    let mut refused = 0;
    for most in 3..64 {
        limit(libc::RLIMIT_NOFILE, most, 4096);
        let spec = guest_spec(["true"]).file("a", "b").collect("a");
        let result = spec.run();
        limit(libc::RLIMIT_NOFILE, 1024, 4096);
        match result {
            Ok(outcome) => {
                assert_eq!(outcome.verdict, Verdict::Ok, "{most}: {outcome:?}");
                let why = outcome.outputs["a"].error.as_deref();
                assert!(why.is_none_or(|why| why.contains("descriptor")), "{why:?}");
                worked += 1;
            }
            Err(e) => {
                assert_eq!(worked, 0, "{most}: {e}");
                assert_eq!(
                    (e.kind(), e.errno()),
                    (ErrorKind::Resource, libc::EMFILE),
                    "{most}: {e}"
                );
                refused += 1;
            }
        }
        let open = open_descriptors(std::process::id());
        assert!(open < 16, "{most}: {open} are open");
        if worked == 5 {
            break;
        }
    }
    assert!(refused > 3 && worked == 5, "{refused} {worked}");
    run_succeeds();
    say("works");
}

#[test]
fn processes() {
    if is_root() {
        skip!("RLIMIT_NPROC does not bind root");
    }
    let said = Host::start("few-processes", "").finish();
    assert_eq!(said, ["refused", "works"]);
}

/// Plays a host that may start no process.
pub fn few_processes() {
    let mut old = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the structure lives through the call.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NPROC, &mut old) }, 0);
    limit(libc::RLIMIT_NPROC, 1, old.rlim_max);
    let error = guest_spec(["true"]).run().expect_err("no process");
    assert_eq!(error.kind(), ErrorKind::Resource, "{error}");
    assert!(error.to_string().contains("ulimit -u"), "{error}");
    say("refused");
    limit(libc::RLIMIT_NPROC, old.rlim_cur, old.rlim_max);
    run_succeeds();
    say("works");
}

#[test]
fn room_on_a_disk() {
    let place = tempfile::tempdir().expect("a directory");
    let dir = CString::new(place.path().display().to_string()).expect("no NUL");
    let argument = place.path().display().to_string();
    let said = Host::start_with("full-disk", &argument, |command| {
        in_user_namespace(command, libc::CLONE_NEWNS, move || {
            // SAFETY: strings that end with NUL.
            let mounted = unsafe {
                libc::mount(
                    c"none".as_ptr(),
                    dir.as_ptr(),
                    c"tmpfs".as_ptr(),
                    0,
                    c"size=4m,mode=0755".as_ptr().cast(),
                )
            };
            match mounted {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    })
    .finish();
    assert_eq!(said.last().map(String::as_str), Some("works"), "{said:#?}");
}

/// Plays a host whose store, temporary files and directory for what sandboxes write are on a disk that is full.
pub fn full_disk(argument: &str) {
    let dir = std::path::Path::new(argument);
    let path = |name: &str| dir.join(name);
    for made in ["upper", "root/bin"] {
        std::fs::create_dir_all(path(made)).expect("mkdir");
    }
    std::fs::copy(guest_dir().join("guest"), path("root/bin/guest")).expect("copy");
    let store = Store::open(Some(&path("store"))).expect("a store");
    let mut filler = std::fs::File::create(path("filler")).expect("a file");
    while std::io::Write::write_all(&mut filler, &[1; 512]).is_ok() {}
    drop(filler);

    let import = || {
        let import = Import::default().name("box:1");
        store.import(Source::Path(path("root")), import)
    };
    let full = |error: Error, what: &str| {
        let says = error.errno() == libc::ENOSPC || error.to_string().contains("are free");
        assert!(says, "{what}: {error:?}");
        say(&format!("{what}: {error}"));
    };
    full(import().map(drop).expect_err("no room"), "import");
    assert_eq!(store.list().expect("list").len(), 0);
    assert_eq!(store.verify().expect("verify").problems, [""; 0]);

    let spec = || {
        let mut spec = guest_spec(["true"])
            .rootfs(Rootfs::Directory(path("root").display().to_string()))
            .overlay(Overlay::Copy)
            .upper_dir(path("upper").display().to_string());
        spec.args = ["/bin/guest", "true"].map(Into::into).into();
        spec
    };
    match spec().run() {
        Ok(outcome) => assert_eq!(outcome.verdict, Verdict::DiskLimit, "{outcome:?}"),
        Err(error) => full(error, "upper_dir"),
    }
    let empty = || {
        std::fs::read_dir(path("upper"))
            .expect("a directory")
            .count()
            == 0
    };
    assert!(wait_until(promise() * 5, empty), "something is left");
    // What needs no disk needs none.
    run_succeeds();

    std::fs::remove_file(path("filler")).expect("unlink");
    import().expect("there is room");
    assert_eq!(store.verify().expect("verify").problems, [""; 0]);
    say("works");
}

/// The clock on the wall goes forth and back while programs run: their limits are held by another.
#[test]
fn the_date_may_jump() {
    if std::env::var_os("STOCKADE_SUITE_OWN_CLOCK").is_none() || !is_root() {
        skip!("the date is set only in a machine of the test's own (STOCKADE_SUITE_OWN_CLOCK)");
    }
    let jump = |seconds: i64| {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("after 1970");
        let to = libc::timespec {
            tv_sec: now.as_secs() as i64 + seconds,
            tv_nsec: 0,
        };
        // SAFETY: the structure lives through the call.
        assert_eq!(unsafe { libc::clock_settime(libc::CLOCK_REALTIME, &to) }, 0);
    };
    const YEAR: i64 = 365 * 24 * 3600;
    for seconds in [YEAR, -YEAR, -3600, 3600] {
        let limit = Duration::from_secs(2);
        let limited = guest_spec(["sleep", "20"])
            .wall_time(limit)
            .spawn()
            .expect("starts");
        let ends = guest_spec(["sleep", "1"])
            .wall_time(promise() * 10)
            .spawn()
            .expect("starts");
        let sandbox = Sandbox::start(&guest_spec(["-"])).expect("starts");
        let pid = limited.pid().expect("it runs");
        let start = Instant::now();
        jump(seconds);
        let ended = ends.wait().expect("wait");
        assert_eq!(ended.verdict, Verdict::Ok, "{seconds}: {ended:?}");
        assert!(
            ended.usage.wall_time < promise() * 5,
            "{seconds}: {:?}",
            ended.usage
        );
        assert!(alive(pid), "{seconds}: ended too early");
        assert!(sandbox.run(&guest_spec(["true"])).expect("runs").success());
        let outcome = limited.wait().expect("wait");
        jump(-seconds);
        let took = start.elapsed();
        assert_eq!(
            outcome.verdict,
            Verdict::WallTimeLimit,
            "{seconds}: {outcome:?}"
        );
        assert!(took < limit + promise(), "{seconds}: {took:?}");
        assert!(
            outcome.usage.wall_time >= limit,
            "{seconds}: {:?}",
            outcome.usage
        );
    }
}
