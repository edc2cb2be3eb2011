//! Compiles a specification into steps for the helper, and explains a step that failed.

use crate::cgroup::Cgroup;
use crate::error::{Error, ErrorKind};
use crate::ids::Ids;
use crate::overlay::{Chosen, Scratch};
use crate::spec::{Network, Profile, Spec, Stdio};
use crate::supervisor::Host;
use crate::wire::*;
use crate::{limits, mounts, remedy, restrict, seccomp};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Where programs work, unless they say otherwise.
pub(crate) const WORK: &str = "/work";
/// Where a program without a slash is looked up if `env` has no `PATH`.
const DEFAULT_PATH: &[u8] = b"/usr/local/bin:/usr/bin:/bin";
const OUTPUTS_MAX: usize = 4096;
/// personality(2): addresses are the same in every run. An exec keeps it.
const ADDR_NO_RANDOMIZE: u64 = libc::ADDR_NO_RANDOMIZE as u64;
/// What interpreters seed their hashes by, where a seed is documented: python(1), perlrun(1).
const HASH_SEEDS: [&str; 3] = ["PERL_HASH_SEED", "PERL_PERTURB_KEYS", "PYTHONHASHSEED"];

/// What a sandbox with a writable root has of its own there, before any program runs.
pub(crate) enum Made {
    /// With a mode.
    Directory(u32),
    File(u32, Vec<u8>),
    /// A file that was the host's when the template was made.
    Copied,
}

/// A plan ready to be sent.
pub(crate) struct Plan {
    pub head: Request,
    pub bytes: Vec<u8>,
    /// The host's directory for what is written, until it is sent.
    pub upper: Option<Scratch>,
}

/// Builds one section: a row of steps.
#[derive(Default)]
pub(crate) struct Steps(Vec<u8>);

impl Steps {
    pub fn add(&mut self, code: u16, flags: u16, a: u64, b: u64, payload: &[&[u8]]) {
        let len: usize = payload.iter().map(|part| part.len()).sum();
        let op = Op {
            code,
            flags,
            len: len as u32,
            a,
            b,
        };
        self.0.extend_from_slice(bytes_of(&op));
        for part in payload {
            self.0.extend_from_slice(part);
        }
        self.0.resize(self.0.len().next_multiple_of(8), 0);
    }

    /// A step whose payload is strings.
    pub fn text(&mut self, code: u16, flags: u16, a: u64, b: u64, strings: &[&[u8]]) {
        let mut payload = Vec::with_capacity(strings.len() * 2);
        for string in strings {
            payload.push(*string);
            payload.push(b"\0");
        }
        self.add(code, flags, a, b, &payload);
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Plain data of the wire as bytes.
pub(crate) fn bytes_of<T: Copy>(value: &T) -> &[u8] {
    // SAFETY: in all uses T is a repr(C) struct of integers without padding, from `wire`.
    unsafe { std::slice::from_raw_parts((value as *const T).cast(), size_of::<T>()) }
}

/// Plain data of the wire from the start of `bytes`.
pub(crate) fn read_of<T: Copy>(bytes: &[u8]) -> Option<T> {
    if bytes.len() < size_of::<T>() {
        return None;
    }
    // SAFETY: long enough, and T is a repr(C) struct of integers, for which any bytes are a value.
    Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

impl Plan {
    /// The plan of a sandbox, with its program if `run`: then it says whether the program's limits may be changed.
    pub fn sandbox(
        spec: &Spec,
        ids: &Ids,
        cgroup: &Cgroup,
        overlay: Option<&Chosen>,
        run: Option<bool>,
    ) -> Result<Plan, Error> {
        let same = matches!(ids, Ids::Range { same: true, .. });
        let (user, group) = ids.user_of(spec.user.as_deref())?;
        let upper_dir = overlay.and_then(|chosen| chosen.upper_dir.as_deref());
        let upper = upper_dir.map(|dir| Scratch::new(dir, ids)).transpose()?;
        let place = upper.as_ref().map(|upper| upper.path.as_str());
        let root = mounts::Root::new(spec, ids, (user, group), overlay, place)?;
        let mut flags = match spec.network {
            Network::None => 0,
            Network::Loopback => NET_NEW,
            Network::Host => NET_HOST,
        };
        let (mut limits, mut program) = (Steps::default(), Steps::default());
        let mut head = head(user, group);
        if let Some(updatable) = run {
            flags |= HAS_RUN | ONE_SHOT;
            let sections = (&mut head, &mut limits, &mut program);
            add_run(spec, cgroup, sections, updatable, None)?;
        }
        if let Some(score) = spec.oom_score_adj {
            flags |= HAS_OOM_SCORE_ADJ;
            head.oom_score_adj = score;
        }
        if let (Some(uptime), None) = (spec.uptime, limits::no_time_namespace()) {
            flags |= HAS_UPTIME;
            head.uptime = limits::nanoseconds(Some(uptime));
        }
        if same {
            flags |= SAME_IDS;
        }
        head.flags |= flags;
        head.volumes = spec.volumes.len() as u32;
        let sections = [
            root.template.bytes(),
            root.setup.bytes(),
            limits.bytes(),
            program.bytes(),
        ];
        Ok(assemble(head, sections, upper))
    }

    /// The plan of a program without namespaces, whose limits may be changed if `updatable`.
    pub fn restricted(spec: &Spec, host: &Host, updatable: bool) -> Result<Plan, Error> {
        let dir = restrict::directory(spec, host)?;
        let made = Plan::restricted_in(spec, &host.cgroup, updatable, &dir.path);
        match made {
            Ok((head, [setup, limits, program])) => {
                let sections = [&[], setup.bytes(), limits.bytes(), program.bytes()];
                Ok(assemble(head, sections, Some(dir)))
            }
            Err(e) => {
                dir.discard();
                Err(e)
            }
        }
    }

    fn restricted_in(
        spec: &Spec,
        cgroup: &Cgroup,
        updatable: bool,
        dir: &str,
    ) -> Result<(Request, [Steps; 3]), Error> {
        let mut setup = Steps::default();
        restrict::add(&mut setup, spec, dir)?;
        let (mut limits, mut program) = (Steps::default(), Steps::default());
        let mut head = head(0, 0);
        let made = (&mut head, &mut limits, &mut program);
        add_run(spec, cgroup, made, updatable, Some(dir))?;
        if let Some(score) = spec.oom_score_adj {
            head.flags |= HAS_OOM_SCORE_ADJ;
            head.oom_score_adj = score;
        }
        // The network namespace is the host's; what is to have no network is kept from sockets.
        head.flags |= HAS_RUN | ONE_SHOT | NET_HOST | RESTRICT;
        head.flags &= !SAMPLE;
        Ok((head, [setup, limits, program]))
    }

    /// The plan of a sandbox that is only to come up, with id 1000 inside.
    pub fn probe(root: &mounts::Root, host_network: bool, upper: Option<Scratch>) -> Plan {
        let user = crate::ids::USER_DEFAULT;
        let mut head = head(user, user);
        if host_network {
            head.flags |= NET_HOST;
        }
        let sections = [root.template.bytes(), root.setup.bytes(), &[], &[]];
        assemble(head, sections, upper)
    }

    /// The plan of one more program in a live sandbox, whose limits may be changed if `updatable`.
    pub fn program(spec: &Spec, cgroup: &Cgroup, updatable: bool) -> Result<Plan, Error> {
        let (mut limits, mut program) = (Steps::default(), Steps::default());
        let mut head = head(0, 0);
        head.flags = HAS_RUN;
        let made = (&mut head, &mut limits, &mut program);
        add_run(spec, cgroup, made, updatable, None)?;
        let sections = [&[], &[], limits.bytes(), program.bytes()];
        Ok(assemble(head, sections, None))
    }

    /// Whether the plan must be sent in a memfd.
    pub fn needs_memfd(&self, live: bool) -> bool {
        // Init keeps the plan of a program in a live sandbox for its outputs; only a memfd can be kept.
        self.bytes.len() + 256 > MESSAGE_MAX
            || (live && self.steps(self.head.run).any(|(op, _)| op.code == R_OUTPUT))
    }

    fn steps(&self, section: Section) -> impl Iterator<Item = (Op, &[u8])> {
        let mut rest =
            &self.bytes[section.offset as usize..(section.offset + section.len) as usize];
        std::iter::from_fn(move || {
            let op: Op = read_of(rest)?;
            let end = size_of::<Op>() + op.len as usize;
            let payload = &rest[size_of::<Op>()..end];
            rest = &rest[end.next_multiple_of(8).min(rest.len())..];
            Some((op, payload))
        })
    }

    /// What is made in the directory `top` of the template.
    pub fn made_in(&self, top: &str) -> BTreeMap<PathBuf, Made> {
        let mut all = BTreeMap::new();
        for (op, payload) in self.steps(self.head.template) {
            let mut parts = payload.splitn(3, |b| *b == 0);
            let first = parts.next().unwrap_or_default();
            let second = parts.next().unwrap_or_default();
            let (path, made) = match op.code {
                T_DIR => (first, Made::Directory(op.a as u32)),
                // Of its content a NUL byte is no end.
                T_FILE => {
                    let content = payload.get(first.len() + 1..).unwrap_or_default();
                    (first, Made::File(op.a as u32, content.to_vec()))
                }
                T_COPY => (second, Made::Copied),
                _ => continue,
            };
            let path = Path::new(OsStr::from_bytes(path));
            if let Ok(inside) = path.strip_prefix(top)
                && !inside.as_os_str().is_empty()
            {
                all.insert(inside.to_path_buf(), made);
            }
        }
        all
    }

    /// The error that a failure report means.
    pub fn explain(&self, failure: &Failure) -> Error {
        let section = match failure.section {
            IN_TEMPLATE => self.head.template,
            IN_SETUP => self.head.setup,
            IN_LIMITS => self.head.limits,
            IN_RUN => self.head.run,
            _ => Section::default(),
        };
        let step = self.steps(section).nth(failure.index as usize);
        remedy::explain(failure, step)
    }

    /// Whether the failure is the program's own: it could not be executed.
    pub fn is_exec_failure(&self, failure: &Failure) -> bool {
        failure.section == IN_RUN
            && self
                .steps(self.head.run)
                .nth(failure.index as usize)
                .is_some_and(|(op, _)| op.code == R_EXEC)
    }
}

fn head(user: u32, group: u32) -> Request {
    Request {
        kind: START,
        in_memfd: 0,
        flags: 0,
        user,
        group,
        volumes: 0,
        template: Section::default(),
        setup: Section::default(),
        limits: Section::default(),
        run: Section::default(),
        template_key: 0,
        clocks: Clocks::default(),
        uptime: 0,
        cpu_read: 0,
        cpu_unit: 0,
        memory_read: 0,
        stat_read: 0,
        kernel_read: 0,
        swap_read: 0,
        swap_with_memory: 0,
        oom_score_adj: 0,
        cpu_key: [0; 16],
    }
}

fn assemble(mut head: Request, sections: [&[u8]; 4], upper: Option<Scratch>) -> Plan {
    if upper.is_some() {
        head.flags |= HAS_UPPER;
        head.volumes += 1;
    }
    let mut bytes = Vec::with_capacity(sections.iter().map(|s| s.len()).sum());
    let places = [
        &mut head.template,
        &mut head.setup,
        &mut head.limits,
        &mut head.run,
    ];
    for (place, section) in places.into_iter().zip(sections) {
        *place = Section {
            offset: bytes.len() as u32,
            len: section.len() as u32,
        };
        bytes.extend_from_slice(section);
    }
    head.template_key = fnv1a(sections[0]);
    Plan { head, bytes, upper }
}

/// FNV-1a, 64 bits: names a template. The host is trusted, so it need not withstand an attacker.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, b| {
        (hash ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Adds a program. `dir`: what it has in place of `/work`, without namespaces.
fn add_run(
    spec: &Spec,
    cgroup: &Cgroup,
    (head, limits, run): (&mut Request, &mut Steps, &mut Steps),
    updatable: bool,
    dir: Option<&str>,
) -> Result<(), Error> {
    let inside = |path: &str, field| {
        let path = inside(path, field)?;
        match dir {
            Some(dir) => restrict::place(path, field, spec, dir),
            None => Ok(path),
        }
    };
    limits::add(spec, cgroup, head, limits, run, updatable)?;
    for (path, file) in &spec.files {
        let path = inside(path, "files")?;
        let mode = file.mode.unwrap_or(0o644);
        if mode > 0o777 {
            return Err(Error::invalid(format!(
                "files: `{path}`: mode {mode:o} has more than permission bits"
            )));
        }
        run.add(
            R_FILE,
            0,
            u64::from(mode),
            0,
            &[path.as_bytes(), b"\0", &file.content],
        );
    }
    let cwd = spec.cwd.as_deref().unwrap_or(WORK);
    run.text(R_CWD, 0, 0, 0, &[inside(cwd, "cwd")?.as_bytes()]);
    if spec.deterministic {
        run.add(R_PERSONALITY, 0, ADDR_NO_RANDOMIZE, 0, &[]);
    }
    if matches!(spec.profile, Profile::Docker(_)) {
        // Ours refuse keyrings; with one of the caller's a program would find the supervisor's, as all others do.
        run.add(R_KEYRING, 0, 0, 0, &[]);
    }
    let network = spec.network != Network::None;
    let filter = match dir {
        Some(_) => seccomp::as_bytes(seccomp::restrict_program(network)),
        None => spec.profile.filter(network, !spec.hugetlb.is_empty()),
    };
    run.add(R_SECCOMP, 0, 0, 0, &[filter]);
    if spec.outputs.len() > OUTPUTS_MAX {
        return Err(Error::invalid(format!(
            "outputs: {} paths are more than {OUTPUTS_MAX}",
            spec.outputs.len()
        )));
    }
    for path in &spec.outputs {
        run.text(R_OUTPUT, 0, 0, 0, &[inside(path, "outputs")?.as_bytes()]);
    }
    run.add(R_EXEC, 0, 0, 0, &[&exec(spec, dir)?]);
    if spec.stderr == Some(Stdio::Stdout) {
        head.flags |= STDERR_TO_STDOUT;
    }
    Ok(())
}

/// `path` as an absolute path inside the sandbox; relative ones are below `/work`.
pub(crate) fn inside(path: &str, field: &str) -> Result<String, Error> {
    let bad = |why| Error::invalid(format!("{field}: `{}`: {why}", path.escape_default()));
    if path.contains('\0') {
        return Err(bad("a path cannot hold a NUL byte"));
    }
    if path.is_empty() {
        return Err(bad("the path is empty"));
    }
    if path.split('/').any(|part| part == "..") {
        return Err(bad(
            "`..` is not taken in paths; write the path that is meant",
        ));
    }
    if path.len() > 4000 || path.split('/').any(|part| part.len() > 255) {
        return Err(bad("the path is too long"));
    }
    Ok(if path.starts_with('/') {
        path.to_string()
    } else {
        format!("{WORK}/{path}")
    })
}

/// The payload of R_EXEC: tables of offsets, then the strings.
fn exec(spec: &Spec, dir: Option<&str>) -> Result<Vec<u8>, Error> {
    let program = spec
        .args
        .first()
        .ok_or_else(|| Error::invalid("args: it is empty: there is no program to run"))?;
    if program.is_empty() {
        return Err(Error::invalid("args: the program's name is empty"));
    }
    if spec.args.iter().any(|arg| arg.contains(&0)) {
        return Err(Error::invalid(
            "args: an argument holds a NUL byte, which no program can be given",
        ));
    }
    let mut env = Vec::with_capacity(spec.env.len());
    for (name, value) in &spec.env {
        if name.is_empty() || name.contains(&b'=') || name.contains(&0) || value.contains(&0) {
            let name = name.to_text();
            return Err(Error::invalid(format!(
                "env: `{}`: a name is neither empty nor holds `=`, and neither name nor value holds NUL",
                name.escape_default()
            )));
        }
        env.push([name, b"=" as &[u8], value].concat());
    }
    let seeds = HASH_SEEDS
        .iter()
        .filter(|name| spec.deterministic && !spec.env.contains_key(&crate::Bytes::from(**name)));
    env.extend(seeds.map(|name| format!("{name}=0").into_bytes()));
    for (name, dir) in ["HOME", "TMPDIR"].iter().zip([dir; 2]) {
        if let Some(dir) = dir.filter(|_| !spec.env.contains_key(&crate::Bytes::from(*name))) {
            env.push(format!("{name}={dir}").into_bytes());
        }
    }
    let mut paths: Vec<Vec<u8>> = Vec::new();
    if program.contains(&b'/') {
        paths.push(program.to_vec());
    } else {
        let path = spec
            .env
            .get(&crate::Bytes::from("PATH"))
            .map_or(DEFAULT_PATH, |path| path);
        for dir in path.split(|b| *b == b':') {
            let dir = if dir.is_empty() { b"." } else { dir };
            paths.push([dir, b"/", program].concat());
        }
    }
    exec_tables([
        spec.args.iter().map(|arg| &**arg).collect(),
        env.iter().map(|entry| entry.as_slice()).collect(),
        paths.iter().map(|path| path.as_slice()).collect(),
    ])
}

/// Arguments, environment and paths to try, none with a NUL byte, as [`ExecHead`] describes.
pub(crate) fn exec_tables(tables: [Vec<&[u8]>; 3]) -> Result<Vec<u8>, Error> {
    let counts: Vec<usize> = tables.iter().map(Vec::len).collect();
    let mut offset = size_of::<ExecHead>() + counts.iter().map(|n| (n + 1) * 8).sum::<usize>();
    let head = ExecHead {
        args: counts[0] as u32,
        env: counts[1] as u32,
        paths: counts[2] as u32,
        pad: 0,
    };
    let mut out = bytes_of(&head).to_vec();
    for table in &tables {
        for string in table {
            out.extend_from_slice(&(offset as u64).to_ne_bytes());
            offset += string.len() + 1;
        }
        out.extend_from_slice(&0u64.to_ne_bytes());
    }
    for string in tables.iter().flatten() {
        out.extend_from_slice(string);
        out.push(0);
    }
    if out.len() > u32::MAX as usize / 2 {
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            "args: arguments and environment are too long",
        ));
    }
    Ok(out)
}
