//! On the cgroups that this machine has, whichever they are: as root and as anybody else.

use super::*;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

/// Group number 1 below each base, as the supervisor makes it.
struct Group(Vec<PathBuf>);

impl Group {
    fn make(cgroup: &Cgroup, layout: &Layout) -> Group {
        let paths: Vec<_> = cgroup.bases.iter().map(|b| b.path.join("1")).collect();
        paths.iter().for_each(|path| fs::create_dir(path).unwrap());
        for Write {
            dir,
            file,
            value,
            required,
        } in &layout.writes
        {
            let written = fs::write(paths[usize::from(*dir)].join(&**file), value);
            assert!(written.is_ok() || !required, "{file}: {written:?}");
        }
        Group(paths)
    }

    /// Runs a shell that has entered the groups.
    fn run(&self, layout: &Layout, script: &str) -> std::process::ExitStatus {
        let enter: Vec<String> = layout
            .enter
            .iter()
            .map(|dir| {
                let file = self.0[usize::from(*dir)].join(layout.enter_file);
                format!("echo $$ >{} && ", file.display())
            })
            .collect();
        let script = format!("{} exec 2>/dev/null; {script}", enter.concat() + ":;");
        Command::new("/bin/sh")
            .args(["-c", &script])
            .status()
            .unwrap()
    }

    /// When what was started in it has ended.
    fn remove(&self) {
        for path in &self.0 {
            let start = std::time::Instant::now();
            while path.exists() {
                assert!(start.elapsed().as_secs() < 30, "{} stays", path.display());
                sweep::remove_tree(path);
            }
        }
    }

    fn usage(&self, cgroup: &Cgroup, layout: &Layout) -> Usage {
        let contents: Vec<Option<Vec<u8>>> = layout
            .reads
            .iter()
            .map(|read| fs::read(self.0[usize::from(read.dir)].join(read.file)).ok())
            .collect();
        assert!(contents.iter().all(Option::is_some), "{:?}", layout.reads);
        let contents: Vec<Option<&[u8]>> = contents.iter().map(Option::as_deref).collect();
        let mut usage = Usage::default();
        cgroup.fill_usage(&contents, spec().memory, &mut usage);
        usage
    }
}

/// What this machine has; its base groups are removed whatever happens.
struct Prepared(Cgroup);

impl Drop for Prepared {
    fn drop(&mut self) {
        self.0.remove();
    }
}

fn prepare() -> Prepared {
    prepare_with(Controllers {
        cpu: true,
        ..Controllers::default()
    })
}

fn prepare_with(more: Controllers) -> Prepared {
    Prepared(Cgroup::find(0, more).unwrap())
}

fn spec() -> Spec {
    Spec::new(["true"]).memory(32 << 20).pids(8)
}

#[test]
fn bases_are_made_and_removed() {
    let prepared = prepare();
    let cgroup = &prepared.0;
    assert_eq!(cgroup.kind() == Kind::None, cgroup.dirs().is_empty());
    if cgroup.kind() == Kind::None {
        let why = cgroup.why_not().unwrap();
        assert!(
            why.contains("cgroup v2: ") && why.contains("cgroup v1: "),
            "{why}"
        );
        assert_eq!(cgroup.enforcement("memory", &spec()), None);
        assert!(cgroup.layout(&spec()).enter.is_empty());
        return;
    }
    for base in &cgroup.bases {
        assert!(base.path.ends_with(cgroup.name()));
        assert!(base.path.join("cgroup.procs").exists());
    }
    cgroup.remove();
    assert!(cgroup.bases.iter().all(|base| !base.path.exists()));
}

#[test]
fn the_own_group_is_left_as_it_was() {
    let look = || {
        let own = host::Host::read().unwrap().own_v2();
        ["cgroup.type", "cgroup.subtree_control"].map(|file| {
            own.as_ref()
                .and_then(|own| fs::read_to_string(own.join(file)).ok())
        })
    };
    let before = look();
    let _prepared = prepare();
    assert_eq!(look(), before);
}

#[test]
fn what_a_group_uses() {
    let prepared = prepare();
    let cgroup = &prepared.0;
    if cgroup.kind() == Kind::None {
        assert!(cgroup.layout(&spec()).reads.is_empty());
        return;
    }
    let layout = cgroup.layout(&spec());
    let group = Group::make(cgroup, &layout);
    let burn = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; (true); (true)";
    assert!(group.run(&layout, burn).success());
    let usage = group.usage(cgroup, &layout);
    assert!(usage.cpu_time.as_micros() > 1000, "{usage:?}");
    assert_eq!(usage.cpu_user + usage.cpu_system, usage.cpu_time);
    assert!(!usage.oom_killed);
    for read in &layout.reads {
        match read.file {
            "pids.peak" => assert!((1..=8).contains(&usage.pids_peak.unwrap()), "{usage:?}"),
            "memory.peak" | "memory.max_usage_in_bytes" => {
                assert!(
                    (4096..=32 << 20).contains(&usage.memory_peak.unwrap()),
                    "{usage:?}"
                );
            }
            _ => {}
        }
    }
}

#[test]
fn limits_hold() {
    let prepared = prepare();
    let cgroup = &prepared.0;
    let layout = cgroup.layout(&spec());
    let held = |limit| cgroup.enforcement(limit, &spec()).is_some();
    if held("memory") {
        let group = Group::make(cgroup, &layout);
        // From a pipe, tail must keep the last 100 MiB in memory.
        let hog = "head -c 100m /dev/zero | tail -c 100m >/dev/null";
        group.run(&layout, hog);
        let usage = group.usage(cgroup, &layout);
        assert!(usage.oom_killed, "{usage:?}");
        group.remove();
    }
    if held("pids") {
        let group = Group::make(cgroup, &layout);
        let few = "for i in 1 2 3; do sleep 0.1 & done; wait; exit 0";
        assert!(group.run(&layout, few).success());
        let forks = "for i in 1 2 3 4 5 6 7 8 9 10; do sleep 0.5 & done; wait; exit 0";
        assert!(!group.run(&layout, forks).success(), "10 of 8 processes");
        group.remove();
    }
}

#[test]
fn a_layout_asks_only_for_what_is_limited() {
    let prepared = prepare();
    let cgroup = &prepared.0;
    let unlimited = cgroup.layout(&Spec::new(["true"]));
    assert_eq!((unlimited.writes, unlimited.oom), (vec![], None));
    let limited = cgroup.layout(&spec());
    match limited.oom {
        Some(at) => assert_eq!(limited.reads[usize::from(at)].file, "memory.oom_control"),
        None => assert!(cgroup.kind() != Kind::V1 || cgroup.dir("memory").is_none()),
    }
    let writes = cgroup.layout(&Spec::new(["true"]).pids(3)).writes;
    let held = cgroup.dir("pids").map(|dir| Write {
        dir,
        file: "pids.max".into(),
        value: "3".into(),
        required: true,
    });
    assert_eq!(writes, Vec::from_iter(held));
}

#[test]
fn every_controller_there_is() {
    let prepared = prepare_with(Controllers {
        cpu: true,
        cpuset: true,
        io: true,
        hugetlb: true,
    });
    let cgroup = &prepared.0;
    let layout = cgroup.layout(&spec().cpus(0.5).cpuset_cpus("0"));
    if cgroup.kind() == Kind::None {
        return;
    }
    let group = Group::make(cgroup, &layout);
    let seen = match cgroup.dir("cpuset") {
        Some(_) => "grep -q 'Cpus_allowed_list:[[:space:]]*0$' /proc/self/status",
        None => "true",
    };
    assert!(group.run(&layout, seen).success(), "{:?}", layout.writes);
    group.remove();
    // Whoever asks for nothing can enter such groups too.
    let layout = cgroup.layout(&Spec::new(["true"]));
    let group = Group::make(cgroup, &layout);
    assert!(group.run(&layout, "true").success(), "{:?}", layout.writes);
    group.remove();
}

#[test]
fn controllers_that_others_lack() {
    let of = |spec: Spec| Controllers::of(&spec);
    let spec = || Spec::new(["true"]);
    assert_eq!(of(spec().memory(1)), Controllers::default());
    let cpu = of(spec().cpus(1.0));
    assert_eq!(cpu.beyond(of(spec().cpu_weight(5))), None);
    assert_eq!(cpu.beyond(of(spec().io_weight(5))), Some("cpu"));
    assert_eq!(
        of(spec().cpuset_cpus("0").cpus(1.0)).beyond(cpu),
        Some("cpuset")
    );
}

#[test]
fn a_bad_parent_is_named() {
    let dir = tempfile::tempdir().unwrap();
    for parent in ["relative", "/nowhere", dir.path().to_str().unwrap()] {
        let Err(error) = Cgroup::in_parent(parent, Controllers::default()) else {
            panic!("{parent} was taken");
        };
        assert_eq!(error.kind(), crate::ErrorKind::InvalidArgument);
        assert!(error.to_string().contains(parent), "{error}");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn capabilities_count_for_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("cgroup.procs");
    fs::write(&file, "").unwrap();
    for (mode, may) in [(0o644, true), (0o444, false), (0o066, false)] {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(refused::may_write(&file).unwrap(), may, "{mode:o}");
    }
    assert!(!refused::may_write(&dir.path().join("missing")).unwrap());
}

#[test]
fn a_forked_child_removes_nothing() {
    let mut prepared = prepare();
    prepared.0.owner += 1;
    prepared.0.remove();
    assert!(prepared.0.bases.iter().all(|base| base.path.exists()));
    prepared.0.owner -= 1;
}
