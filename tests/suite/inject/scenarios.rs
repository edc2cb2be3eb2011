//! What is tried: a host that does one thing while a call fails, does it again, and says how both went.

use super::tracer::MARK;
use crate::hosts::say;
use crate::support::{guest_dir, guest_spec};
use serde_json::{Value, json};
use std::io::BufRead;
use std::path::Path;
use std::time::{Duration, Instant};
use stockade::{
    Enforce, Error, Network, Outcome, Overlay, Rootfs, Sandbox, Spec, Tmpfs, Verdict, Volume,
};

/// Longer than any of it takes, but no clock of its own is to hide that something hangs.
const LONG: Duration = Duration::from_secs(20);

/// Plays the host: `NAME DIRECTORY [warm]`.
pub fn injected(argument: &str) {
    let words: Vec<&str> = argument.split(' ').collect();
    let (name, dir) = (words[0], Path::new(words[1]));
    if words.get(2) == Some(&"warm") {
        scenario(name, dir).expect("it works");
    }
    let mut lines = std::io::stdin().lock().lines();
    let mut ask = |what: String| {
        say(&what);
        lines.next().map(|line| line.expect("text"))
    };
    // SAFETY: it cannot fail.
    ask(format!("ready {}", unsafe { libc::gettid() }));
    mark(1);
    let start = Instant::now();
    let first = scenario(name, dir);
    let took = start.elapsed();
    mark(2);
    // What the supervisor clears away afterwards is tried as well.
    std::thread::sleep(Duration::from_millis(10));
    mark(3);
    ask(format!("first {}", told(first, took)));
    let start = Instant::now();
    let second = scenario(name, dir);
    ask(format!("second {}", told(second, start.elapsed())));
}

fn mark(which: u64) {
    // SAFETY: a request that the kernel does not know; the tracer does.
    unsafe { libc::prctl(MARK, which) };
}

fn told(result: Result<Vec<Outcome>, Error>, took: Duration) -> Value {
    let ms = took.as_millis() as u64;
    match result {
        Ok(all) => json!({"ms": ms, "outcomes": all.iter().map(outcome).collect::<Vec<_>>()}),
        Err(e) => json!({"ms": ms, "error": e.to_string(), "kind": format!("{:?}", e.kind()),
            "errno": e.errno(), "step": e.step()}),
    }
}

fn outcome(outcome: &Outcome) -> Value {
    let outputs = outcome.outputs.iter().map(|(path, file)| {
        let said = match &file.error {
            Some(error) => format!("error: {error}"),
            None => file.content.to_text(),
        };
        (path.clone(), said.into())
    });
    let enforcement = outcome.enforcement.iter();
    let enforcement = enforcement.map(|(name, it)| {
        let text = format!("{:?}: {}", it.status, it.by);
        (name.clone(), no_ids(&text).into())
    });
    json!({
        "verdict": outcome.verdict.name(),
        "message": outcome.message,
        "stdout": plain(&outcome.stdout.to_text()),
        "stderr": outcome.stderr.to_text(),
        "outputs": outputs.collect::<serde_json::Map<_, _>>(),
        "enforcement": enforcement.collect::<serde_json::Map<_, _>>(),
    })
}

/// Without the numbers of pipes, namespaces and descriptors, which are others each time. Of a namespace it is told whose it is.
fn plain(text: &str) -> Vec<String> {
    let line = |line: &str| match line.strip_prefix("ns.").and_then(|it| it.split_once('=')) {
        Some((kind, id)) => {
            let host = std::fs::read_link(format!("/proc/self/ns/{kind}"));
            let same = host.is_ok_and(|host| host.to_str() == Some(id));
            format!("ns.{kind}={}", if same { "the host's" } else { "its own" })
        }
        None => match (line.split_once(":["), line.split_once("stockade-upper-")) {
            (Some((kind, _)), _) => format!("{kind}:[]"),
            (None, Some((before, after))) => {
                format!("{before}{}", after.trim_start_matches(|c: char| c != '/'))
            }
            // What cannot be gone to is named by its descriptor.
            (None, None) => match line.split_once("/proc/self/fd/") {
                Some((before, after)) => {
                    let after = after.trim_start_matches(|c: char| c.is_ascii_digit());
                    format!("{before}.{after}")
                }
                None => line.into(),
            },
        },
    };
    let lines = text.lines().map(line).map(|it| no_ids(&it));
    // Which number it has depends on how many there were before.
    let pid = text.lines().find_map(|line| line.strip_prefix("pid="));
    let own = |line: String| match (line.split_once('='), pid) {
        (Some((key @ ("pid" | "pgid" | "sid"), id)), Some(pid)) if id == pid => {
            format!("{key}=own")
        }
        (Some((id, name)), Some(pid)) if id == pid && name == "guest" => format!("own={name}"),
        _ => line,
    };
    lines.map(own).collect()
}

/// Without long numbers: each host of root's has ids of its own.
fn no_ids(text: &str) -> String {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let len = match digits(rest) {
            0 => c.len_utf8(),
            len => len,
        };
        plain.push_str(if len < 10 { &rest[..len] } else { "N" });
        rest = &rest[len..];
    }
    plain
}

fn scenario(name: &str, dir: &Path) -> Result<Vec<Outcome>, Error> {
    let path = |name: &str| dir.join(name).display().to_string();
    let inventory = || guest_spec(["inventory", "/work/in", "/etc/hosts"]).wall_time(LONG);
    let over = |overlay: Overlay| {
        let mut spec = inventory()
            .rootfs(Rootfs::Directory(path("root")))
            .overlay(overlay)
            .collect("/made");
        spec.args = ["/bin/guest", "inventory", "/etc/hosts"]
            .map(Into::into)
            .into();
        spec
    };
    let limited = |spec: Spec| {
        spec.memory(64 << 20)
            .pids(20)
            .cpu_time(Duration::from_secs(10))
            .enforce(Enforce::BestEffort)
    };
    match name {
        "plain" => {
            let spec = limited(inventory())
                .input("input")
                .file("in", "content")
                .collect("made")
                .cwd("/tmp")
                .nice(19)
                .hostname("box");
            Ok(vec![spec.run()?])
        }
        "loopback" => Ok(vec![inventory().network(Network::Loopback).run()?]),
        "volumes" => {
            let volume = |name: &str, inside: &str, writable| Volume {
                host: path(name),
                inside: inside.into(),
                writable,
            };
            let spec = limited(inventory())
                .volume(volume("volume", "/volume", true))
                .volume(volume("root", "/opt/deep/root", false))
                .tmpfs(Tmpfs {
                    path: "/scratch".into(),
                    size: Some(1 << 20),
                    inodes: None,
                });
            Ok(vec![spec.run()?])
        }
        "directory" => {
            let mut spec = inventory().rootfs(Rootfs::Directory(path("root")));
            spec.args = ["/bin/guest", "inventory", "/etc/passwd"]
                .map(Into::into)
                .into();
            Ok(vec![spec.run()?])
        }
        "files" => {
            // What is written to memory is found by looking there, where no cgroup counts it.
            let write = "head -c 60000000 /dev/zero >/work/made; sleep 2";
            let spec = Spec::new(["/bin/sh", "-c", write])
                .memory(30 << 20)
                .enforce(Enforce::BestEffort)
                .wall_time(LONG);
            let verdict = spec.run()?.verdict;
            assert_ne!(verdict, Verdict::Ok, "it was not held to its limit");
            Ok(vec![])
        }
        "between" => {
            // Two that share a root, of which only the first has a volume.
            let run = |spec: Spec| spec.wall_time(LONG).run();
            let with = Spec::new(["/bin/sh", "-c", "true"]).volume(Volume {
                host: path("volume"),
                inside: "/work/volume".into(),
                writable: false,
            });
            let first = run(with);
            let second = run(Spec::new(["/bin/cat", "/proc/self/mountinfo"]))?;
            let mounts = second.stdout.to_text();
            let root = mounts
                .lines()
                .find(|line| line.split(' ').nth(4) == Some("/"));
            let own = root.is_some_and(|root| root.contains(" - tmpfs "));
            assert!(
                own || second.verdict != Verdict::Ok,
                "it sees the host's root: {mounts}"
            );
            Ok(vec![first?])
        }
        "live" => {
            let sandbox = Sandbox::start(&limited(inventory()))?;
            sandbox.put("/work/in", b"content", None)?;
            let first = sandbox.run(&limited(inventory()).collect("/work/made"))?;
            let process = sandbox.spawn(&limited(inventory()))?;
            let second = process.wait()?;
            let made = sandbox.get("/work/made")?;
            assert_eq!(made, b"made");
            sandbox.close()?;
            Ok(vec![first, second])
        }
        "kernel" | "fuse" | "copy" | "disk" => {
            let overlay = match name {
                "kernel" => Overlay::Kernel,
                "fuse" => Overlay::Fuse,
                _ => Overlay::Copy,
            };
            let mut spec = over(overlay);
            if name == "disk" {
                spec = spec.upper_dir(path("upper"));
            }
            let sandbox = Sandbox::start(&spec)?;
            let first = sandbox.run(&spec)?;
            sandbox.reset()?;
            let second = sandbox.run(&spec)?;
            sandbox.close()?;
            Ok(vec![first, second])
        }
        "image" => {
            let spec = Spec::new(["/bin/guest", "inventory", "/etc/hosts"])
                .image("box:1")
                .store(path("store"))
                .wall_time(LONG);
            Ok(vec![spec.run()?])
        }
        _ => panic!("no scenario `{name}`"),
    }
}

/// Makes what they need in `dir`.
pub fn prepare(dir: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let guest = guest_dir().join("guest");
    for made in ["tmp", "root/bin", "root/etc", "volume", "upper"] {
        std::fs::create_dir_all(dir.join(made)).expect("mkdir");
    }
    std::fs::copy(guest, dir.join("root/bin/guest")).expect("copy");
    std::fs::write(dir.join("root/etc/passwd"), "root:x:0:0::/:/bin/guest\n").expect("write");
    for open in ["", "tmp", "volume"] {
        let mode = if open.is_empty() { 0o755 } else { 0o777 };
        std::fs::set_permissions(dir.join(open), PermissionsExt::from_mode(mode)).expect("chmod");
    }
    let store = stockade::image::Store::open(Some(&dir.join("store"))).expect("a store");
    let import = stockade::image::Import::default().name("box:1");
    let source = stockade::image::Source::Path(dir.join("root"));
    store.import(source, import).expect("it is imported");
}
