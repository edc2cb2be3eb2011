//! Starting a sandbox: from the host's request to the clone of its init.

use super::*;

impl Supervisor {
    /// Starts a sandbox. `fds`: the channel, the standard streams that the flags name, the plan's memfd if it has one.
    pub(super) fn start(&mut self, message: &mut [u8], fds: &[Fd]) {
        let channel = fds[0];
        let mut upper = None;
        let made = match Plan::new(message, fds.last().copied()) {
            Ok(mut plan) => {
                upper = upper_directory(&plan, &fds[1..]);
                let made = self
                    .check_room(fds)
                    .and_then(|()| self.start_sandbox(&mut plan, channel, &fds[1..]));
                plan.free();
                made
            }
            Err(errno) => Err((IN_STEP, STEP_PLAN, errno)),
        };
        let kept = upper.map(|upper| upper.fd);
        let others = fds[1..].iter().filter(|fd| Some(**fd) != kept);
        others.for_each(|fd| close(*fd));
        match (made, upper) {
            (Ok(slot), _) => {
                if let Some(sandbox) = self.sandboxes[slot].as_mut() {
                    sandbox.upper = upper;
                }
            }
            (Err(_), Some(upper)) => self.remove_directory(upper),
            _ => {}
        }
        if let Err((section, index, errno)) = made {
            let failure = Failure {
                kind: FAILED,
                section,
                index,
                errno: errno as u32,
            };
            let _ = send(channel, bytes_of(&failure), &[], &[], false);
            self.leave_open(channel);
        }
    }

    pub(super) fn start_sandbox(
        &mut self,
        plan: &mut Plan,
        channel: Fd,
        fds: &[Fd],
    ) -> core::result::Result<usize, Fault> {
        let flags = plan.head.flags;
        let free =
            (0..SANDBOXES_MAX).find(|i| self.sandboxes[*i].is_none() && self.runs[*i].is_none());
        let slot = free.ok_or((IN_STEP, STEP_SLOTS, ENFILE))?;
        let mut trees = [-1; VOLUMES_MAX];
        let (mut volumes, mut template) = (0, None);
        if (flags & RESTRICT != 0) != (self.config.map == MAP_NONE) {
            return Err((IN_STEP, STEP_PLAN, EPROTO));
        }
        if flags & RESTRICT == 0 {
            template = Some(self.templates.enter(plan, self.config.map)?);
            volumes = self.templates.open_volumes(plan, &mut trees)?;
        }
        let result = self.start_init(plan, channel, fds, slot, &trees[..volumes]);
        trees[..volumes].iter().for_each(|fd| close(*fd));
        let (mut sandbox, run) = result?;
        let data = slot as u64;
        let watched = epoll_add(self.epoll, sandbox.pidfd, INIT << 32 | data)
            .and_then(|_| epoll_add(self.epoll, sandbox.control[0], CONTROL << 32 | data))
            .and_then(|_| {
                epoll_add(
                    self.epoll,
                    channel,
                    if run.is_some() { RUN } else { SANDBOX } << 32 | data,
                )
            });
        if let Err(errno) = watched {
            sandbox.kill();
            let _ = reap(sandbox.pidfd);
            sandbox.reap_server();
            close(sandbox.pidfd);
            sandbox.control.iter().for_each(|fd| close(*fd));
            self.release_network(sandbox.network);
            if let Some(mut run) = run {
                run.groups.close();
                self.remove(run.groups);
            }
            return Err((IN_STEP, STEP_EPOLL, errno));
        }
        if let Some(template) = template {
            sandbox.template = self.templates.lease(template);
            sandbox.shared = self.templates.shared(template);
        }
        debug_assert!(flags & ONE_SHOT != 0 || run.is_none());
        self.sandboxes[slot] = Some(sandbox);
        self.runs[slot] = run;
        Ok(slot)
    }

    /// New descriptors get the lowest free numbers, so those of the latest message say how many are left.
    pub(super) fn check_room(&self, latest: &[Fd]) -> core::result::Result<(), Fault> {
        let highest = latest.iter().copied().max().unwrap_or(0);
        if highest as u64 + SPARE_FDS >= self.open_files {
            return Err((IN_STEP, STEP_SLOTS, EMFILE));
        }
        Ok(())
    }

    pub(super) fn start_init(
        &mut self,
        plan: &mut Plan,
        channel: Fd,
        fds: &[Fd],
        slot: usize,
        trees: &[Fd],
    ) -> core::result::Result<(Sandbox, Option<Run>), Fault> {
        let flags = plan.head.flags;
        let network = self.enter_network(flags).map_err(step(STEP_NETWORK))?;
        let mut start = Start::NONE;
        let mut run = None;
        if flags & HAS_RUN != 0 {
            run = Some(self.new_run(plan, slot, channel, &mut start)?);
            streams(flags, fds, &mut start);
        }
        let served = serve::start(plan).map_err(step(STEP_SERVE));
        let made = served.and_then(|(mut server, socket)| {
            let made = self.clone_init(plan, slot, trees, &start, socket);
            close(socket);
            if made.is_err() {
                end_process(&mut server);
            }
            made.map(|(init, pidfd, control)| (init, pidfd, control, server))
        });
        // Streams are closed by the caller; what was opened for entering groups is ours.
        start.stdio = [-1; 3];
        start.close();
        match made {
            Ok((init, pidfd, control, server)) => {
                if let Some(network) = network {
                    self.networks[network].leased = true;
                }
                let disk = disk_path(plan);
                Ok((
                    Sandbox {
                        init,
                        pidfd,
                        control,
                        restricted: flags & RESTRICT != 0,
                        asked_to_end: false,
                        busy: false,
                        waiting: false,
                        channel: if run.is_some() { -1 } else { channel },
                        network,
                        template: None,
                        shared: Shared::default(),
                        server,
                        old_server: -1,
                        files: [-1; 2],
                        disk,
                        upper: None,
                        parked: None,
                    },
                    run,
                ))
            }
            Err(fault) => {
                if let Some(mut run) = run {
                    run.groups.close();
                    self.remove(run.groups);
                }
                Err(fault)
            }
        }
    }

    pub(super) fn new_run(
        &mut self,
        plan: &Plan,
        sandbox: usize,
        channel: Fd,
        start: &mut Start,
    ) -> core::result::Result<Run, Fault> {
        let name = self.next_name;
        self.next_name += 1;
        let groups = Groups::make(
            &self.bases,
            name,
            plan,
            &mut start.enter,
            &mut start.into_cgroup,
        )?;
        Ok(Run::new(
            sandbox,
            channel,
            &plan.head,
            groups,
            Reads::of(plan),
            self.config.cpus,
        ))
    }

    /// Clones init into new namespaces and writes its id maps: its pid, pidfd and the ends of its socket, ours first.
    pub(super) fn clone_init(
        &mut self,
        plan: &mut Plan,
        run: usize,
        trees: &[Fd],
        start: &Start,
        server: Fd,
    ) -> core::result::Result<(i32, Fd, [Fd; 2]), Fault> {
        let mut namespaces =
            CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS;
        if plan.head.flags & NET_NEW != 0 {
            namespaces |= CLONE_NEWNET;
        }
        if plan.head.flags & RESTRICT != 0 {
            namespaces = 0;
        }
        let [ours, theirs] = socketpair().map_err(step(STEP_SOCKETS))?;
        let mut pidfd = -1;
        let init = match fork_into(namespaces, &mut pidfd) {
            Ok(0) => {
                let fds = Inherited {
                    control: theirs,
                    server,
                    trees,
                };
                become_init(plan, self.config.map, run as u32, &fds, start)
            }
            Ok(pid) => pid as i32,
            Err(errno) => {
                close(ours);
                close(theirs);
                return Err((IN_STEP, STEP_CLONE, errno));
            }
        };
        if self.config.map == MAP_RANGE || self.config.map == MAP_ROOT {
            let go = Message { kind: GO, arg: 0 };
            let mapped = self
                .map_ids(init, &plan.head)
                .and_then(|()| send(ours, bytes_of(&go), &[], &[], false));
            if let Err(errno) = mapped {
                let died = has_ended(pidfd, 50_000_000); // one that was killed may take a moment
                let _ = pidfd_kill(pidfd);
                let _ = reap(pidfd);
                close(pidfd);
                // Init may have failed first, and said at what.
                let said = last_word(ours);
                close(ours);
                close(theirs);
                return Err(said.unwrap_or(match died {
                    true => (IN_STEP, STEP_INIT_DIED, 0),
                    false => (IN_STEP, STEP_ID_MAP, errno),
                }));
            }
        }
        Ok((init, pidfd, [ours, theirs]))
    }

    pub(super) fn map_ids(&self, init: i32, head: &Request) -> Result<()> {
        for (file, id) in [(b"/uid_map", head.user), (b"/gid_map", head.group)] {
            // Whoever the program's user is, 0 is the caller where files have the owners that an image gives them.
            let id = if head.flags & SAME_IDS != 0 { 0 } else { id };
            let (id, ids) = (u64::from(id), u64::from(self.config.ids));
            let mut map = Text::<160>::new();
            if self.config.map == MAP_ROOT {
                map = map.add(b"0 1 ").number(ids).add(b"\n");
            } else {
                // This id is the caller's own, which is our 0; the others keep their order. One line for each
                // extent of our own map, since none may span two.
                if id > 0 {
                    map = map.add(b"0 1 ").number(id.min(ids)).add(b"\n");
                }
                map = map.number(id).add(b" 0 1\n");
                if id < ids {
                    map = map
                        .number(id + 1)
                        .add(b" ")
                        .number(id + 1)
                        .add(b" ")
                        .number(ids - id)
                        .add(b"\n");
                }
            }
            let path = Text::<40>::new()
                .add(b"/proc/")
                .number(init as u64)
                .add(file);
            let fd = openat(AT_FDCWD, path.text(), O_WRONLY, 0)?;
            let written = write_all(fd, map.bytes());
            close(fd);
            written?;
        }
        Ok(())
    }

    /// Goes to the network namespace that a sandbox with these flags is cloned from; gives the one that it leases.
    pub(super) fn enter_network(&mut self, flags: u32) -> Result<Option<usize>> {
        if flags & NET_HOST != 0 {
            // There is no way back: the host keeps a supervisor for such sandboxes that never leaves.
            return if self.network == -1 {
                Ok(None)
            } else {
                Err(EPROTO)
            };
        }
        if flags & NET_NEW != 0 {
            return Ok(None);
        }
        let free = self.networks.iter().position(|n| n.fd >= 0 && !n.leased);
        if let Some(free) = free {
            if self.network != free as isize {
                setns(self.networks[free].fd, CLONE_NEWNET)?;
                self.network = free as isize;
            }
            return Ok(Some(free));
        }
        unshare(CLONE_NEWNET)?;
        self.network = -2; // one that is not in the table, until it is
        let slot = self.networks.iter().position(|n| n.fd < 0);
        let Some(slot) = slot else { return Ok(None) };
        let fd = openat(AT_FDCWD, s!("/proc/self/ns/net"), O_RDONLY, 0)?;
        self.networks[slot] = Network { fd, leased: false };
        self.network = slot as isize;
        Ok(Some(slot))
    }

    pub(super) fn release_network(&mut self, network: Option<usize>) {
        if let Some(network) = network {
            self.networks[network].leased = false;
        }
    }
}

/// Where an init that is dead says that it has failed, if it does.
fn last_word(control: Fd) -> Option<Fault> {
    let mut fds = [-1; FDS_MAX];
    let mut buffer = [0u64; PARKED_MAX / 8];
    let bytes = as_bytes(&mut buffer);
    let (n, _) = receive(control, bytes, &mut fds, false).ok()?;
    let failure: Failure = read_of(bytes.get(size_of::<Envelope>()..n)?)?;
    (failure.kind == FAILED).then_some((failure.section, failure.index, failure.errno as i32))
}

fn streams(flags: u32, fds: &[Fd], start: &mut Start) {
    let mut next = fds.iter();
    for (i, flag) in [HAS_STDIN, HAS_STDOUT, HAS_STDERR].iter().enumerate() {
        if flags & flag != 0 {
            start.stdio[i] = next.next().copied().unwrap_or(-1);
        }
    }
}

/// The directory for what is written, if it is on a disk.
fn upper_directory(plan: &Plan, fds: &[Fd]) -> Option<Directory> {
    let flags = plan.head.flags;
    if flags & HAS_UPPER == 0 {
        return None;
    }
    let before = [HAS_STDIN, HAS_STDOUT, HAS_STDERR];
    let before = before.iter().filter(|flag| flags & **flag != 0).count();
    let sources = plan.steps(plan.head.setup);
    let (_, payload) = sources.filter(|(at, _)| at.op.code == S_SOURCE).last()?;
    let path = text(payload).ok()?.bytes();
    let name = path.rsplit(|b| *b == b'/').next()?;
    let (fd, name) = (*fds.get(before)?, Text::new().add(name));
    Some(Directory { fd, name })
}

fn disk_path(plan: &Plan) -> Text<64> {
    let found = plan
        .steps(plan.head.setup)
        .find(|(at, _)| at.op.code == S_DISK && at.op.flags == 0);
    Text::new().add(
        found
            .and_then(|(_, payload)| text(payload).ok())
            .map_or(b"", |path| path.bytes()),
    )
}

/// Descriptors of init's own, beside those of its first program.
struct Inherited<'a> {
    control: Fd,
    server: Fd,
    trees: &'a [Fd],
}

/// In the new child: puts its descriptors where init expects them, closes all others, and goes on as init.
fn become_init(plan: &mut Plan, map: u32, run: u32, fds: &Inherited, start: &Start) -> ! {
    let fail = |errno: i32| -> ! {
        let failure = Failure {
            kind: FAILED,
            section: IN_STEP,
            index: STEP_PLACES,
            errno: errno as u32,
        };
        let envelope = Envelope { run, enter: 0 };
        let _ = send(
            fds.control,
            bytes_of(&envelope),
            bytes_of(&failure),
            &[],
            false,
        );
        exit(1)
    };
    let place = |fd: Fd, at: Fd| {
        if fd < 0 {
            return -1;
        }
        match dup_to(fd, at, true) {
            Ok(_) => at,
            Err(errno) => fail(errno),
        }
    };
    place(fds.control, sandbox::CONTROL);
    let mut placed = Start::NONE;
    for (i, fd) in start.stdio.iter().enumerate() {
        placed.stdio[i] = place(*fd, sandbox::FIRST_STDIO + i as Fd);
    }
    placed.into_cgroup = place(start.into_cgroup, sandbox::FIRST_CGROUP);
    for (i, fd) in start.enter.iter().enumerate() {
        placed.enter[i] = place(*fd, sandbox::FIRST_ENTER + i as Fd);
    }
    place(fds.server, serve::SERVER);
    for (i, fd) in fds.trees.iter().enumerate() {
        place(*fd, sandbox::FIRST_VOLUME + i as Fd);
    }
    if let Err(errno) = close_range(sandbox::FIRST_VOLUME + fds.trees.len() as Fd, u32::MAX) {
        fail(errno);
    }
    sandbox::main(plan, map, run, placed)
}
