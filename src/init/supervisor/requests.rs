//! What the host asks of a live sandbox or of a run: a program, a signal, the end.

use super::*;

impl Supervisor {
    /// On a sandbox's own channel: a program to run, or the end.
    pub(super) fn hear_sandbox(&mut self, which: usize, events: u32) {
        let Some(sandbox) = self.sandboxes[which].as_mut() else {
            return;
        };
        let closed = events & (EPOLLRDHUP | EPOLLHUP) != 0;
        if sandbox.busy && !closed {
            sandbox.waiting = true;
            let data = SANDBOX << 32 | which as u64;
            let _ = epoll_change(self.epoll, sandbox.channel, EPOLLRDHUP, data);
            return;
        }
        if sandbox.busy {
            return self.close_sandbox(which);
        }
        let channel = sandbox.channel;
        let mut fds = [-1; FDS_MAX];
        let buffer = as_bytes(MESSAGE.take());
        match receive(channel, buffer, &mut fds, false) {
            Err(EAGAIN | ENOMEM) => {}
            Ok((n, count)) if n > 0 && count > 0 => {
                let kind = read_of::<Message>(buffer).map_or(0, |message| message.kind);
                if (RESET..=READ).contains(&kind) {
                    return self.ask_init(which, kind, &mut buffer[..n], &fds[..count]);
                }
                let result = self.exec(which, &mut buffer[..n], &fds[..count]);
                fds[1..count].iter().for_each(|fd| close(*fd));
                if let Err((section, index, errno)) = result {
                    let failure = Failure {
                        kind: FAILED,
                        section,
                        index,
                        errno: errno as u32,
                    };
                    let _ = send(fds[0], bytes_of(&failure), &[], &[], false);
                    self.leave_open(fds[0]);
                }
            }
            _ => self.close_sandbox(which),
        }
    }

    /// The host has closed it: everything in it ends.
    fn close_sandbox(&mut self, which: usize) {
        for run in 0..self.runs.high() {
            if let Some(run) = self.runs[run].as_mut().filter(|run| run.sandbox == which) {
                run.ending(REASON_CALLER, now());
            }
        }
        // The channel is closed when init, and so all, is dead: that tells a host that waits for it.
        if let Some(sandbox) = self.sandboxes[which].as_mut() {
            sandbox.kill();
            epoll_remove(self.epoll, sandbox.channel);
        }
    }

    /// Its init has done what the host has asked for last: the next may come.
    pub(super) fn answered(&mut self, which: usize) {
        let Some(sandbox) = self.sandboxes[which].as_mut() else {
            return;
        };
        sandbox.busy = false;
        if core::mem::take(&mut sandbox.waiting) && sandbox.channel >= 0 {
            let data = SANDBOX << 32 | which as u64;
            let _ = epoll_change(self.epoll, sandbox.channel, EPOLLIN, data);
        }
    }

    /// Passes a request on to a sandbox's init, which answers itself. Takes the descriptors; whoever asked sees the end of
    /// theirs if it cannot be.
    fn ask_init(&mut self, which: usize, kind: u32, message: &mut [u8], fds: &[Fd]) {
        let Some(sandbox) = self.sandboxes[which].as_mut() else {
            return fds.iter().for_each(|fd| close(*fd));
        };
        let mut socket = -1;
        let mut ready = Ok(());
        if kind == RESET {
            for run in 0..self.runs.high() {
                if let Some(run) = self.runs[run].as_mut().filter(|run| run.sandbox == which) {
                    run.ending(REASON_CALLER, now());
                }
            }
            if sandbox.server >= 0 {
                // Programs that run are killed by init, and not by the end of what they need: it is there until then.
                end_process(&mut sandbox.old_server);
                ready = Plan::new(message, fds.last().copied()).and_then(|mut plan| {
                    let started = serve::start(&mut plan);
                    plan.free();
                    let (server, theirs) = started?;
                    sandbox.old_server = core::mem::replace(&mut sandbox.server, server);
                    socket = theirs;
                    Ok(())
                });
            }
        }
        if ready.is_ok() {
            let envelope = Envelope { run: 0, enter: 0 };
            let reset = Message { kind, arg: 0 };
            let pass = [fds[0], socket];
            let (body, pass) = match (kind, socket) {
                (RESET, 0..) => (bytes_of(&reset), &pass[..]),
                (RESET, _) => (bytes_of(&reset), &pass[..1]),
                _ => (&*message, fds),
            };
            let told = send(sandbox.control[0], bytes_of(&envelope), body, pass, false);
            sandbox.busy = told.is_ok();
        }
        close(socket);
        fds.iter().for_each(|fd| close(*fd));
    }

    pub(super) fn exec(
        &mut self,
        which: usize,
        message: &mut [u8],
        fds: &[Fd],
    ) -> core::result::Result<(), Fault> {
        let Some(sandbox) = self.sandboxes[which] else {
            return Err((IN_STEP, STEP_INIT_DIED, EPROTO));
        };
        self.check_room(fds)?;
        let slot =
            (0..SANDBOXES_MAX).find(|i| self.runs[*i].is_none() && self.sandboxes[*i].is_none());
        let slot = slot.ok_or((IN_STEP, STEP_SLOTS, ENFILE))?;
        let mut start = Start::NONE;
        let plan = Plan::new(message, fds.last().copied()).map_err(step(STEP_PLAN))?;
        let run = self.new_run(&plan, which, fds[0], &mut start);
        let in_memfd = plan.head.in_memfd != 0;
        plan.free();
        let mut run = run?;
        // Passed on: streams, groups, the plan's memfd.
        let mut pass = [-1; FDS_MAX];
        let streams = fds.len() - 1 - usize::from(in_memfd);
        let mut count = streams.min(3);
        pass[..count].copy_from_slice(&fds[1..1 + count]);
        let mut enter = 0;
        for fd in start.enter.iter().filter(|fd| **fd >= 0) {
            pass[count] = *fd;
            count += 1;
            enter += 1;
        }
        if start.into_cgroup >= 0 {
            pass[count] = start.into_cgroup;
            count += 1;
            enter = u32::MAX;
        }
        if in_memfd {
            pass[count] = fds[fds.len() - 1];
            count += 1;
        }
        let envelope = Envelope {
            run: slot as u32,
            enter,
        };
        // Watched first: once init is told, there is no way back.
        let told = epoll_add(self.epoll, fds[0], RUN << 32 | slot as u64).and_then(|_| {
            let pass = &pass[..count];
            send(
                sandbox.control[0],
                bytes_of(&envelope),
                message,
                pass,
                false,
            )
        });
        start.close();
        if let Err(errno) = told {
            epoll_remove(self.epoll, fds[0]);
            run.groups.close();
            self.remove(run.groups);
            return Err(match errno {
                EPIPE | ECONNRESET => (IN_STEP, STEP_INIT_DIED, 0),
                _ => (IN_STEP, STEP_SOCKETS, errno),
            });
        }
        self.runs[slot] = Some(run);
        if let Some(sandbox) = self.sandboxes[which].as_mut() {
            sandbox.busy = true;
        }
        Ok(())
    }

    /// On a run's channel: kill, a signal, or the host's loss of interest.
    pub(super) fn hear_run(&mut self, which: usize) {
        let Some(run) = self.runs[which] else { return };
        let mut fds = [-1; FDS_MAX];
        let mut buffer = [0; size_of::<Update>()];
        match receive(run.channel, &mut buffer, &mut fds, false) {
            Err(EAGAIN | ENOMEM) => {}
            Ok((n, count)) if n > 0 => {
                let mut passed = fds[..count].iter();
                match read_of::<Message>(&buffer[..n]) {
                    _ if run.parked => {} // it has ended
                    Some(Message { kind: KILL, arg }) => self.kill_run(which, arg),
                    Some(Message { kind: STATS, .. }) => {
                        if let Some(answer) = passed.next() {
                            self.stats(which, *answer);
                        }
                    }
                    Some(Message { kind: GROUP, .. }) => {
                        if let Some(answer) = passed.next() {
                            let group = Group {
                                kind: ANSWER,
                                arg: 0,
                                name: run.groups.name(),
                            };
                            let _ = send(*answer, bytes_of(&group), &[], &[], false);
                            close(*answer);
                        }
                    }
                    Some(Message { kind: NOTIFY, .. }) => {
                        if let (Some(run), Some(threshold)) =
                            (self.runs[which].as_mut(), read_of(&buffer[..n]))
                        {
                            run.threshold(&threshold, now());
                        }
                    }
                    Some(Message { kind: UPDATE, .. }) => {
                        if let (Some(answer), Some(update)) =
                            (passed.next(), read_of::<Update>(&buffer[..n]))
                        {
                            self.update(which, &update, *answer);
                        }
                    }
                    Some(Message {
                        kind: kind @ (PAUSE | RESUME),
                        ..
                    }) => {
                        if let Some(answer) = passed.next() {
                            self.pause(which, kind, *answer);
                        }
                    }
                    Some(message) => self.tell_init(which, &message),
                    None => {}
                }
                passed.for_each(|fd| tell_over(*fd));
            }
            _ => {
                epoll_remove(self.epoll, run.channel);
                close(run.channel);
                if let Some(run) = self.runs[which].as_mut() {
                    run.channel = -1;
                }
                if !run.parked {
                    self.kill_run(which, REASON_CALLER);
                }
            }
        }
        if run.parked {
            self.unpark(run.sandbox);
        }
    }

    /// Stops every process of a run, or lets them go on, and tells over `answer` when that is done.
    ///
    /// By the freezer of cgroup v2, where its group is one. That of v1 is not used: what it has frozen does not die of
    /// SIGKILL, so if we were killed it would stay for ever. There, and without a cgroup, init stops them by SIGSTOP.
    fn pause(&mut self, which: usize, kind: u32, answer: Fd) {
        let Some(run) = self.runs[which].as_mut() else {
            return tell_over(answer);
        };
        if run.reason != REASON_NONE {
            return tell_over(answer);
        }
        if let Err(errno) = run.can_pause() {
            return tell_answer(answer, errno);
        }
        let pause = kind == PAUSE;
        let kernel = self.bases.version == CGROUP_V2 && run.groups.freeze(pause).is_ok();
        if !kernel && self.config.map == MAP_NONE {
            // Init could stop its children, and not theirs.
            return tell_answer(answer, EOPNOTSUPP);
        }
        run.pause(pause, kernel, answer, now());
        if !kernel {
            self.tell_init(which, &Message { kind, arg: 0 });
        }
    }

    /// Tells over `answer` what a run uses now.
    fn stats(&mut self, which: usize, answer: Fd) {
        let Some(run) = self.runs[which].as_mut().filter(|r| r.channel >= 0) else {
            return tell_over(answer);
        };
        if run.started_at() == 0 {
            return tell_answer(answer, EAGAIN);
        }
        if let Some(sandbox) = self.sandboxes[run.sandbox].as_ref() {
            run.open_procfs(sandbox.init, &sandbox.disk, sandbox.files);
        }
        let (memory, pids) = run.look();
        let time = now();
        let mut exit = Exit {
            started_at: run.started_at(),
            ended_at: time,
            paused: run.paused(time),
            ..Exit::default()
        };
        run.seen.tell(&mut exit);
        let raw = as_bytes(RAW.take());
        let (len, reads) = run.groups.read(&run.reads, true, raw);
        exit.reads = reads;
        let message = Now {
            kind: ANSWER,
            paused: u32::from(run.is_paused()),
            memory,
            pids,
            exit,
        };
        let _ = send(answer, bytes_of(&message), &raw[..len], &[], false);
        close(answer);
    }

    /// Other clocks for a run, from now on.
    fn update(&mut self, which: usize, update: &Update, answer: Fd) {
        match self.runs[which].as_mut() {
            Some(run) => {
                run.update(update.clocks, now());
                tell_answer(answer, 0);
            }
            None => tell_over(answer),
        }
    }

    pub(super) fn answer(&mut self, which: usize, errno: i32) {
        if let Some(run) = self.runs[which].as_mut() {
            tell_answer(run.answered(), errno);
        }
    }

    pub(super) fn tell_init(&self, which: usize, message: &Message) {
        let Some(run) = self.runs[which] else { return };
        if let Some(sandbox) = self.sandboxes[run.sandbox] {
            let envelope = Envelope {
                run: which as u32,
                enter: 0,
            };
            let _ = send(
                sandbox.control[0],
                bytes_of(&envelope),
                bytes_of(message),
                &[],
                false,
            );
        }
    }

    pub(super) fn kill_run(&mut self, which: usize, reason: u32) {
        if let Some(run) = self.runs[which].as_mut() {
            run.ending(reason, now());
            self.tell_init(
                which,
                &Message {
                    kind: KILL,
                    arg: reason,
                },
            );
        }
    }
}

/// What was asked for comes too late.
pub(super) fn tell_over(answer: Fd) {
    if answer >= 0 {
        tell_answer(answer, RUN_OVER as i32);
    }
}

fn tell_answer(answer: Fd, errno: i32) {
    let message = Message {
        kind: ANSWER,
        arg: errno as u32,
    };
    let _ = send(answer, bytes_of(&message), &[], &[], false);
    close(answer);
}
