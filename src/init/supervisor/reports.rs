//! What inits say, passed on to the host without ever waiting for it; and their deaths.

use super::requests::tell_over;
use super::*;

const fn failed(step: u32) -> Failure {
    Failure {
        kind: FAILED,
        section: IN_STEP,
        index: step,
        errno: 0,
    }
}

impl Supervisor {
    /// From an init: pass on what it says, adding what it cannot know.
    pub(super) fn hear_init(&mut self, which: usize) {
        while let Some(sandbox) = self.sandboxes[which].filter(|s| s.parked.is_none()) {
            let mut fds = [-1; FDS_MAX];
            let mut buffer = [0u64; PARKED_MAX / 8];
            let control = sandbox.control[0];
            let received = receive(control, as_bytes(&mut buffer), &mut fds, false);
            let Ok((n, count)) = received else {
                return; // its end is told by its pidfd
            };
            let bytes = as_bytes(&mut buffer);
            let Some(envelope) = read_of::<Envelope>(&bytes[..n]) else {
                return;
            };
            let run = envelope.run as usize % SANDBOXES_MAX;
            if self.pass_on(which, run, &bytes[size_of::<Envelope>()..n], &fds[..count]) {
                fds[..count].iter().for_each(|fd| close(*fd));
            } else {
                let fd = fds[0];
                self.park(
                    which,
                    Parked {
                        bytes: buffer,
                        len: n,
                        run,
                        fd,
                    },
                );
            }
        }
    }

    /// Passes on one message about `run`; false if the host has no room for it now.
    pub(super) fn pass_on(&mut self, which: usize, run: usize, message: &[u8], fds: &[Fd]) -> bool {
        match read_of::<Message>(message).map(|m| m.kind) {
            Some(READY) => self.tell_owner(which, message),
            Some(FAILED) if self.runs[run].is_none() => {
                self.tell_owner(which, message);
                self.answered(which);
            }
            Some(FILES) => self.shown(which, fds),
            Some(BUSY) => self.set_up_goes_on(which),
            Some(DONE) => self.answered(which),
            Some(REMOVE) => self.remove_written(message, fds),
            Some(STARTED) => {
                self.started(run, message, fds);
                self.answered(which);
            }
            Some(KILL) => {
                if let Some(run) = self.runs[run].as_mut() {
                    run.signalled(now());
                }
            }
            Some(PAUSE | RESUME) => self.answer(run, 0),
            Some(VIOLATED) => self.kill_run(run, REASON_VIOLATION),
            Some(EXIT) => return self.exited(run, message),
            Some(FAILED) => {
                let told = self.finish(run, message, &[]);
                if told {
                    self.answered(which);
                }
                return told;
            }
            Some(OUTPUT) => return self.collected(run, message, fds),
            _ => {}
        }
        true
    }

    fn set_up_goes_on(&mut self, which: usize) {
        for run in 0..self.runs.high() {
            if let Some(run) = self.runs[run].as_mut().filter(|run| run.sandbox == which) {
                run.set_up_goes_on(now());
            }
        }
    }

    /// What was written before a reset, in `fds`, is removed by a child of ours, which no program of the sandbox can reach.
    fn remove_written(&mut self, message: &[u8], fds: &[Fd]) {
        let name = message.get(size_of::<Message>()..).unwrap_or(&[]);
        if let Some(Ok(fd)) = fds.first().map(|fd| dup_from(*fd, LOW_FDS)) {
            self.remove_named(name, fd);
        }
    }

    /// Keeps what an init has shown of its sandbox.
    fn shown(&mut self, which: usize, fds: &[Fd]) {
        let copies = |flags: [usize; 2]| {
            let mut fds = fds.iter().zip(flags);
            let open = |(fd, flags): (&Fd, usize)| openat(*fd, s!("."), O_DIRECTORY | flags, 0);
            [(); 2].map(|()| fds.next().and_then(|one| open(one).ok()).unwrap_or(-1))
        };
        if let Some(sandbox) = self.sandboxes[which].as_mut() {
            sandbox.close_files();
            end_process(&mut sandbox.old_server); // after a reset the root is another's
            sandbox.files = copies([O_RDONLY, O_PATH]);
        }
    }

    pub(super) fn tell_owner(&self, which: usize, message: &[u8]) {
        if let Some(sandbox) = self.sandboxes[which] {
            let _ = send(sandbox.channel, message, &[], &[], false);
        }
    }

    pub(super) fn collected(&mut self, which: usize, message: &[u8], fds: &[Fd]) -> bool {
        let Some(run) = self.runs[which].as_mut() else {
            return true;
        };
        run.collecting(now());
        match send(run.channel, message, &[], fds, false) {
            Err(EAGAIN) => false,
            // More descriptors are on their way than the kernel allows: the host is told of this one, without it.
            Err(ETOOMANYREFS) => {
                let Some(mut collected) = read_of::<Collected>(message) else {
                    return true;
                };
                collected.errno = ETOOMANYREFS as u32;
                collected.has_fd = 0;
                send(run.channel, bytes_of(&collected), &[], &[], false) != Err(EAGAIN)
            }
            _ => true,
        }
    }

    pub(super) fn park(&mut self, which: usize, parked: Parked) {
        if let (Some(sandbox), Some(run)) = (
            self.sandboxes[which].as_mut(),
            self.runs[parked.run].as_mut(),
        ) {
            sandbox.parked = Some(parked);
            run.parked = true;
            epoll_remove(self.epoll, sandbox.control[0]);
            let data = RUN << 32 | parked.run as u64;
            let _ = epoll_change(self.epoll, run.channel, EPOLLIN | EPOLLOUT, data);
        }
    }

    /// The host may have made room in the channel of a run whose sandbox waits for that, or has closed it.
    pub(super) fn unpark(&mut self, which: usize) {
        let Some(sandbox) = self.sandboxes[which].as_mut() else {
            return;
        };
        let Some(mut parked) = sandbox.parked else {
            return;
        };
        let bytes = &as_bytes(&mut parked.bytes)[size_of::<Envelope>()..parked.len];
        let fds = [parked.fd];
        let fds = if parked.fd >= 0 { &fds[..] } else { &[] };
        if !self.pass_on(which, parked.run, bytes, fds) {
            return;
        }
        close(parked.fd);
        if let Some(run) = self.runs[parked.run].as_mut() {
            run.parked = false;
            let data = RUN << 32 | parked.run as u64;
            let _ = epoll_change(self.epoll, run.channel, EPOLLIN, data);
        }
        let Some(sandbox) = self.sandboxes[which].as_mut() else {
            return;
        };
        sandbox.parked = None;
        if sandbox.pidfd >= 0 {
            let _ = epoll_add(self.epoll, sandbox.control[0], CONTROL << 32 | which as u64);
        }
        self.hear_init(which);
        self.forget_dead(which);
    }

    pub(super) fn started(&mut self, which: usize, message: &[u8], fds: &[Fd]) {
        let Some(run) = self.runs[which].as_mut() else {
            return;
        };
        let Some(started) = read_of::<Started>(message) else {
            return;
        };
        if let Some(sandbox) = self.sandboxes[run.sandbox].as_ref()
            && sandbox.channel >= 0
        {
            run.open_procfs(sandbox.init, &sandbox.disk, sandbox.files);
            run.not_the_first();
        }
        if run.reason == REASON_NONE {
            run.started(started.at);
        }
        if started.has_pidfd != 0 {
            let _ = send(run.channel, message, &[], fds, false);
        }
    }

    /// False if the host has no room for it now.
    pub(super) fn exited(&mut self, which: usize, message: &[u8]) -> bool {
        let Some(run) = self.runs[which] else {
            return true;
        };
        let Some(mut exit) = read_of::<Exit>(message) else {
            return true;
        };
        exit.reason = run.reason_of_end(exit.ended_at);
        exit.paused = run.paused(exit.ended_at);
        run.seen.tell(&mut exit);
        let sandbox = self.sandboxes[run.sandbox];
        exit.shared = sandbox.map_or(Shared::default(), |sandbox| sandbox.shared);
        let raw = as_bytes(RAW.take());
        let (len, reads) = run.groups.read(&run.reads, false, raw);
        exit.reads = reads;
        self.finish(which, bytes_of(&exit), &raw[..len])
    }

    /// Tells the host the last of a run and forgets it; false if the host has no room for it now.
    pub(super) fn finish(&mut self, which: usize, message: &[u8], body: &[u8]) -> bool {
        let Some(mut run) = self.runs[which] else {
            return true;
        };
        if run.channel >= 0 {
            if send(run.channel, message, body, &[], false) == Err(EAGAIN) {
                return false;
            }
            self.leave_open(run.channel);
            run.channel = -1;
        }
        self.runs[which] = None;
        tell_over(run.answered());
        run.close();
        self.remove(run.groups);
        true
    }

    /// The last is said over `channel`, which stays open until the host has heard it and closes its end. If it sent
    /// something at the moment in which we close ours, the kernel would drop what it has not read yet
    /// (`unix_dgram_sendmsg` in net/unix/af_unix.c, before Linux 6.2).
    pub(super) fn leave_open(&self, channel: Fd) {
        let data = OVER << 32 | channel as u64;
        let watched = epoll_change(self.epoll, channel, EPOLLIN, data)
            .or_else(|_| epoll_add(self.epoll, channel, data));
        if watched.is_err() {
            close(channel);
        }
    }

    /// The host asks for something that is over, and is told so; or it has heard that.
    pub(super) fn hear_over(&self, channel: Fd) {
        let mut fds = [-1; FDS_MAX];
        match receive(channel, &mut [0; size_of::<Message>()], &mut fds, false) {
            Err(EAGAIN) => {}
            Ok((n, count)) if n > 0 => fds[..count].iter().for_each(|fd| tell_over(*fd)),
            _ => {
                epoll_remove(self.epoll, channel);
                close(channel);
            }
        }
    }

    pub(super) fn init_ended(&mut self, which: usize) {
        self.hear_init(which); // what it said last
        let Some(sandbox) = self.sandboxes[which].as_mut() else {
            return;
        };
        let _ = reap(sandbox.pidfd);
        let restricted = sandbox.restricted;
        sandbox.reap_server();
        epoll_remove(self.epoll, sandbox.pidfd);
        close(sandbox.pidfd);
        if sandbox.channel >= 0 {
            epoll_remove(self.epoll, sandbox.channel);
            // For who waits for its start; nobody else reads this.
            let _ = send(
                sandbox.channel,
                bytes_of(&failed(STEP_INIT_DIED)),
                &[],
                &[],
                false,
            );
            close(sandbox.channel);
        }
        sandbox.close_files();
        let upper = sandbox.upper.take();
        let network = sandbox.network.take();
        let template = sandbox.template.take();
        (sandbox.init, sandbox.pidfd, sandbox.channel) = (0, -1, -1);
        self.release_network(network);
        if let Some(template) = template {
            self.templates.release(template);
        }
        if restricted {
            self.end_orphans();
        }
        if let Some(upper) = upper {
            self.remove_directory(upper);
        }
        self.forget_dead(which);
    }

    /// Forgets a sandbox whose init is dead, once all that it has said is passed on.
    pub(super) fn forget_dead(&mut self, which: usize) {
        let done = |s: &Sandbox| s.pidfd < 0 && s.parked.is_none();
        let Some(sandbox) = self.sandboxes[which].filter(done) else {
            return;
        };
        epoll_remove(self.epoll, sandbox.control[0]);
        for run in 0..self.runs.high() {
            if self.runs[run].is_some_and(|r| r.sandbox == which) {
                // Killed with it; the reason, if any, is the run's own.
                self.lost(which, run);
            }
            if self.sandboxes[which].is_some_and(|s| s.parked.is_some()) {
                return;
            }
        }
        sandbox.control.iter().for_each(|fd| close(*fd));
        self.sandboxes[which] = None;
        self.sandboxes.trim();
        self.runs.trim();
    }

    /// A run whose init has died without a word: all of it is dead, but how the program ended is not known.
    pub(super) fn lost(&mut self, sandbox: usize, run: usize) {
        let Some(dead) = self.runs[run] else {
            return;
        };
        let exit = Exit {
            kind: EXIT,
            status: SIGKILL as u32,
            started_at: dead.started_at(),
            ended_at: now(),
            lost: 1,
            ..Exit::default()
        };
        let failure = failed(match dead.stuck {
            true => STEP_STUCK,
            false => STEP_INIT_DIED,
        });
        let message = match (dead.reason, dead.started_at()) {
            (REASON_NONE, 0) => bytes_of(&failure),
            _ => bytes_of(&exit),
        };
        if !self.pass_on(sandbox, run, message, &[]) {
            let mut bytes = [0; PARKED_MAX / 8];
            let len = size_of::<Envelope>() + message.len();
            as_bytes(&mut bytes)[size_of::<Envelope>()..len].copy_from_slice(message);
            self.park(
                sandbox,
                Parked {
                    bytes,
                    len,
                    run,
                    fd: -1,
                },
            );
        }
    }
}
