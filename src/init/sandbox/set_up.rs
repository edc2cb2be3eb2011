//! Setting a sandbox up, by its init: ids, mounts, privileges.

use super::*;
use crate::attributes::restrict;
use crate::copy;
use crate::serve;
use crate::template::bind_attributes;

type Done = core::result::Result<(), Fault>;

impl Init {
    pub(super) fn set_up(&mut self, plan: &Plan, map: u32) -> Done {
        const PR_SET_DUMPABLE: usize = 4;
        const PR_CAPBSET_DROP: usize = 24;
        const PR_SET_SECUREBITS: usize = 28;
        const PR_SET_NO_NEW_PRIVS: usize = 38;
        const SECBIT_NO_SETUID_FIXUP: usize = 4;
        // Needs no ids, so it is done while the supervisor writes the maps.
        for capability in 0..64 {
            match prctl(PR_CAPBSET_DROP, capability, 0) {
                Err(EINVAL) => break, // past the last one
                result => result.map_err(step(STEP_CAPABILITIES))?,
            };
        }
        if map == MAP_SINGLE {
            map_self(plan.head.user, plan.head.group).map_err(step(STEP_ID_MAP))?;
        } else {
            let mut fds = [-1; FDS_MAX];
            let mut go = [0; size_of::<Message>()];
            match receive(CONTROL, &mut go, &mut fds, true) {
                Ok((n, _)) if n > 0 => {}
                Ok(_) => exit(1),
                Err(errno) => return Err((IN_STEP, STEP_ID_MAP, errno)),
            }
        }
        if plan.head.flags & HAS_OOM_SCORE_ADJ != 0 {
            // Before ids change and before we are not dumpable, after which the file is not ours any more.
            set_oom_score_adj(plan.head.oom_score_adj).map_err(step(STEP_OOM_SCORE_ADJ))?;
        }
        if plan.head.flags & HAS_UPTIME != 0 {
            set_uptime(plan.head.uptime).map_err(step(STEP_UPTIME))?; // before, for the same reason
        }
        prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0).map_err(step(STEP_CAPABILITIES))?;
        set_ids(plan.head.user, plan.head.group).map_err(step(STEP_IDS))?;
        prctl(PR_SET_DUMPABLE, 0, 0).map_err(step(STEP_IDS))?;
        self.set_up_steps(plan)?;
        // NOROOT, NO_SETUID_FIXUP, NO_CAP_AMBIENT_RAISE and the locks of all four.
        prctl(PR_SET_SECUREBITS, 0b1110_1111, 0).map_err(step(STEP_CAPABILITIES))?;
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0).map_err(step(STEP_CAPABILITIES))?;
        self.signals = signalfd(1 << (SIGCHLD - 1)).map_err(step(STEP_SESSION))?;
        Ok(())
    }

    /// Where there are no namespaces: it and its programs have the caller's ids, and no privilege to drop.
    pub(super) fn set_up_restricted(&mut self, plan: &Plan) -> Done {
        const PR_SET_DUMPABLE: usize = 4;
        const PR_SET_NO_NEW_PRIVS: usize = 38;
        self.children = Children::watch().map_err(step(STEP_DESCENT))?;
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0).map_err(step(STEP_CAPABILITIES))?;
        if plan.head.flags & HAS_OOM_SCORE_ADJ != 0 {
            set_oom_score_adj(plan.head.oom_score_adj).map_err(step(STEP_OOM_SCORE_ADJ))?;
        }
        prctl(PR_SET_DUMPABLE, 0, 0).map_err(step(STEP_IDS))?;
        self.set_up_steps(plan)?;
        self.signals = signalfd(1 << (SIGCHLD - 1)).map_err(step(STEP_SESSION))?;
        Ok(())
    }

    pub(super) fn set_up_steps(&mut self, plan: &Plan) -> Done {
        let mut volume = 0;
        for (at, payload) in plan.steps(plan.head.setup) {
            self.set_up_step(at.op, payload, &mut volume)
                .map_err(|errno| (IN_SETUP, at.index, errno))?;
        }
        Ok(())
    }

    fn set_up_step(&mut self, op: Op, payload: &[u8], volume: &mut usize) -> Result<()> {
        match op.code {
            S_PROC => {
                // Init is hidden from the program, which with one mapped id owns init's files in procfs: it must not
                // make init the first choice of the OOM killer. Before Linux 5.8 there is no such option.
                let (at, flags) = (text(payload)?, MS_NOSUID | MS_NODEV | MS_NOEXEC);
                mount(s!("proc"), at, s!("proc"), flags, s!("hidepid=ptraceable")).or_else(
                    |errno| match errno {
                        EINVAL => mount(s!("proc"), at, s!("proc"), flags, s!("")),
                        _ => Err(errno),
                    },
                )?;
            }
            S_TMPFS => {
                let options = Text::<96>::new().add(b"mode=0755,size=").number(op.a);
                let options = options.add(b",nr_inodes=").number(op.b);
                mount(
                    s!("tmpfs"),
                    text(payload)?,
                    s!("tmpfs"),
                    MS_NOSUID | MS_NODEV,
                    options.text(),
                )?;
            }
            S_DIR => {
                let path = text(payload)?.bytes();
                match op.flags {
                    0 => files::make_dirs(path, op.a as u32)?,
                    _ => files::make_file(path, 0o644, b"", &mut || {})?, // where a single file will be bound
                }
            }
            S_MKDIR => {
                let path = text(payload)?;
                mkdirat(AT_FDCWD, path, op.a as u32)?;
                if let Some((user, group)) = owner_ids(op.b) {
                    fchownat(AT_FDCWD, path, user, group)?;
                }
            }
            S_BIND => {
                let (source, target) = pair(payload)?;
                let below = if op.flags & 1 != 0 { MS_REC } else { 0 };
                mount(source, text(target)?, s!(""), MS_BIND | below, s!(""))?;
            }
            S_VOLUME => {
                let path = text(payload)?.bytes();
                let target = files::open(path, O_PATH)?;
                let tree = *self.volumes.get(*volume).ok_or(EPROTO)?;
                let moved = move_mount(tree, target, s!(""));
                close(target);
                moved?;
                // A second time, for the kernels that have refused it to a tree that was not attached yet.
                let attributes = bind_attributes(op.flags);
                match mount_setattr(tree, attributes, true) {
                    Err(ENOSYS) => restrict(path, attributes, true)?,
                    result => drop(result?),
                }
                close(tree);
                self.volumes[*volume] = -1;
                *volume += 1;
            }
            S_LOOPBACK => loopback_up()?,
            S_HOSTNAME => {
                sethostname(text(payload)?.bytes())?;
            }
            S_MASK => match mount(s!("/dev/null"), text(payload)?, s!(""), MS_BIND, s!("")) {
                Ok(_) | Err(ENOENT) => {}
                Err(e) => return Err(e),
            },
            S_READ_ONLY => {
                let path = text(payload)?;
                match mount(path, path, s!(""), MS_BIND | MS_REC, s!("")) {
                    Err(ENOENT) => return Ok(()),
                    bound => drop(bound?),
                }
                let flags = MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC;
                mount(path, path, s!(""), flags, s!(""))?;
            }
            S_BOX => self.box_on_disk(op, text(payload)?)?,
            S_DISK if op.flags & 1 != 0 => {}
            S_DISK => {
                close(self.disk);
                self.disk = openat(AT_FDCWD, text(payload)?, O_PATH | O_DIRECTORY, 0)?;
            }
            S_OVERLAY => {
                let (target, options) = pair(payload)?;
                self.overlay(op.flags, target, text(options)?)?;
            }
            S_ROOT => {
                let path = text(payload)?;
                if op.flags & 1 != 0 {
                    restrict(path.bytes(), MOUNT_ATTR_RDONLY, false)?;
                }
                chdir(path)?;
                chroot(s!("."))?;
            }
            S_PROBE => {
                let path = text(payload)?;
                unlinkat(AT_FDCWD, path, AT_REMOVEDIR)?;
                mkdirat(AT_FDCWD, path, 0o700)?;
            }
            S_COUNT => {
                let dir = files::open(text(payload)?.bytes(), O_RDONLY | O_DIRECTORY)?;
                self.tally = Tally::new(dir, op.a, op.b);
            }
            S_LANDLOCK => {
                close(self.rules.ruleset);
                let (network, scopes) = (op.b & 0xffff_ffff, op.b >> 32);
                self.rules = Rules {
                    ruleset: landlock_ruleset(op.a, network, scopes)?,
                    flags: u32::from(op.flags),
                };
            }
            S_ALLOW => self.allow(op, text(payload)?)?,
            S_SOURCE | S_SERVE | S_SERVE_FILTER | S_SERVE_LIMIT => {}
            _ => return Err(EPROTO),
        }
        Ok(())
    }
}

impl Init {
    /// A rule about what is mounted at `path`.
    fn allow(&self, op: Op, path: Str) -> Result<()> {
        if op.flags & 1 != 0 {
            let opened = openat(AT_FDCWD, path, O_PATH | O_DIRECTORY | O_NOFOLLOW, 0)?;
            let added = landlock_allow(self.rules.ruleset, opened, op.a);
            close(opened);
            return added.map(|_| ());
        }
        let opened = files::open(path.bytes(), O_PATH)?;
        let added = fstat(opened).and_then(|stat| {
            let rights = match stat.mode() & S_IFMT {
                S_IFDIR => op.a,
                _ => op.b,
            };
            match rights {
                0 => Ok(0), // which the kernel takes for a mistake
                _ => landlock_allow(self.rules.ruleset, opened, rights),
            }
        });
        close(opened);
        added.map(|_| ())
    }

    /// A new directory on the host's disk, shown at `path`.
    fn box_on_disk(&mut self, op: Op, path: Str) -> Result<()> {
        let place = op.flags as usize;
        if self.generation == 0 {
            let tree = *self.volumes.get(place).ok_or(EPROTO)?;
            let target = openat(AT_FDCWD, s!("/disk"), O_PATH | O_DIRECTORY, 0)?;
            let moved = move_mount(tree, target, s!(""));
            close(target);
            moved?;
            let attributes = bind_attributes(BIND_WRITABLE);
            match mount_setattr(tree, attributes, true) {
                Err(ENOSYS) => restrict(b"/disk", attributes, true)?,
                result => drop(result?),
            }
            close(tree);
            self.volumes[place] = -1;
        }
        self.generation += 1;
        let directory = on_disk(self.generation);
        mkdirat(AT_FDCWD, directory.text(), 0o755)?;
        mount(directory.text(), path, s!(""), MS_BIND, s!(""))?;
        self.tally.close();
        let dir = openat(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0)?;
        self.tally = Tally::new(dir, op.a, op.b);
        Ok(())
    }

    fn overlay(&mut self, driver: u16, target: Str, options: Str) -> Result<()> {
        close(self.upper);
        self.upper = openat(AT_FDCWD, s!("/box/upper"), O_PATH | O_DIRECTORY, 0)?;
        if self.outer < 0 {
            self.outer = openat(AT_FDCWD, s!("/"), O_PATH | O_DIRECTORY, 0)?;
        }
        match driver {
            OVERLAY_KERNEL => {
                // Lower layers are named from there.
                chdir(s!("/lower"))?;
                let flags = MS_NOSUID | MS_NODEV;
                let kind = s!("overlay");
                mount(kind, target, kind, flags, options)?;
                chdir(s!("/"))?;
                Ok(())
            }
            OVERLAY_FUSE => serve::begin(self.server),
            OVERLAY_COPY => {
                let upper = s!("/box/upper");
                let mut told = now();
                let (bytes, inodes) = self.tally.room();
                let mut room = copy::Room {
                    bytes,
                    inodes,
                    meanwhile: &mut || self.set_up_goes_on(&mut told),
                };
                copy::layers(options.bytes(), upper, &mut room)?;
                mount(upper, target, s!(""), MS_BIND, s!("")).map(|_| ())
            }
            _ => Err(EPROTO),
        }
    }
}

impl Init {
    /// Tells the supervisor so, a few times in a second.
    fn set_up_goes_on(&self, told: &mut u64) {
        const EVERY: u64 = 250_000_000;
        let time = now();
        if time >= told.saturating_add(EVERY) {
            *told = time;
            self.tell(0, &Message { kind: BUSY, arg: 0 }, &[], &[]);
        }
    }
}

/// Where what is written has been after so many resets, from the root that the sandbox was made in.
pub(super) fn on_disk(generation: u64) -> Text<48> {
    Text::new().add(b"/disk/").number(generation)
}

fn set_oom_score_adj(score: i32) -> Result<()> {
    let fd = openat(AT_FDCWD, s!("/proc/self/oom_score_adj"), O_WRONLY, 0)?;
    let sign: &[u8] = if score < 0 { b"-" } else { b"" };
    let text = Text::<16>::new()
        .add(sign)
        .number(u64::from(score.unsigned_abs()));
    let written = write_all(fd, text.bytes());
    close(fd);
    written
}

/// Goes to a time namespace whose clocks say `uptime` now.
fn set_uptime(uptime: u64) -> Result<()> {
    unshare(CLONE_NEWTIME)?;
    let mut text = Text::<120>::new();
    let mut shift = 0;
    for clock in [CLOCK_BOOTTIME, CLOCK_MONOTONIC] {
        shift = uptime as i64 - clock_time(clock) as i64;
        let (seconds, nanoseconds) = (
            shift.div_euclid(1_000_000_000),
            shift.rem_euclid(1_000_000_000),
        );
        text = text
            .number(clock as u64)
            .add(if seconds < 0 { b" -" } else { b" " });
        text = text.number(seconds.unsigned_abs()).add(b" ");
        text = text.number(nanoseconds as u64).add(b"\n");
    }
    let offsets = openat(AT_FDCWD, s!("/proc/self/timens_offsets"), O_WRONLY, 0)?;
    let written = write_all(offsets, text.bytes());
    close(offsets);
    written?;
    // We go there ourselves: the kernel lets nobody start a program there who shares memory with it until its exec.
    let path = s!("/proc/self/ns/time_for_children");
    let namespace = openat(AT_FDCWD, path, O_RDONLY, 0)?;
    let entered = setns(namespace, CLONE_NEWTIME);
    close(namespace);
    entered?;
    shift_now(shift);
    Ok(())
}

fn map_self(user: u32, group: u32) -> Result<()> {
    for (path, id) in [
        (s!("/proc/self/uid_map"), user),
        (s!("/proc/self/gid_map"), group),
    ] {
        let fd = openat(AT_FDCWD, path, O_WRONLY, 0)?;
        let written = write_all(
            fd,
            Text::<32>::new()
                .number(u64::from(id))
                .add(b" 0 1\n")
                .bytes(),
        );
        close(fd);
        written?;
    }
    Ok(())
}
