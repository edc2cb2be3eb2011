//! Calls that a program's filter kills for: whoever makes one is held by the kernel until init has heard of it, and never
//! goes on.

use super::*;

/// More than programs, as one can leave processes behind that outlive it.
pub(super) const LISTENERS_MAX: usize = 2 * PROGRAMS_MAX;
/// How many calls of one program are heard of before anything else is.
const HEARD_AT_ONCE: usize = 64;
const POLLIN: u16 = 1;
const POLLHUP: u16 = 16;

#[derive(Clone, Copy)]
pub(super) struct Listener {
    pub(super) fd: Fd,
    /// `None` when its program has ended.
    run: Option<u32>,
}

impl Listener {
    pub(super) const NONE: Listener = Listener { fd: -1, run: None };
}

/// The next call of the program `main` that waits, if one does.
fn heard(listener: Fd, main: i32) -> Option<Violation> {
    let mut ready = [PollFd {
        fd: listener,
        events: POLLIN,
        revents: 0,
    }];
    if listener < 0 || poll(&mut ready, 0) != Ok(1) || ready[0].revents & POLLIN == 0 {
        return None;
    }
    // Does not wait: of each call that was to be seen there is one to be had, if only to hear that it waits no more.
    let notice = next_notice(listener).ok()?;
    let tid = notice.tid as i32;
    let is_main = is_thread_of(main, tid);
    let mut violation = Violation {
        seen: 1,
        nr: notice.nr,
        arch: notice.arch,
        main: u32::from(is_main),
        pid: if is_main { main as u32 } else { notice.tid },
        tid: notice.tid,
        instruction_pointer: notice.instruction_pointer,
        args: notice.args,
        command: [0; 16],
    };
    let (command, process) = (command(tid), process(tid));
    // Else the number may be another's by now.
    if is_waiting(listener, &notice) {
        violation.command = command.unwrap_or_default();
        if let (false, Some(process)) = (is_main, process) {
            violation.pid = process;
        }
    }
    let _ = kill(tid, SIGKILL);
    Some(violation)
}

fn read_proc<'a>(tid: i32, file: &[u8], buffer: &'a mut [u8]) -> Option<&'a [u8]> {
    let path = Text::<40>::new()
        .add(b"/proc/")
        .number(tid as u64)
        .add(file);
    let fd = openat(AT_FDCWD, path.text(), O_RDONLY, 0).ok()?;
    let content = read_all(fd, buffer).ok();
    close(fd);
    content
}

/// A thread's name.
fn command(tid: i32) -> Option<[u8; 16]> {
    let mut name = [0; 16];
    let length = read_proc(tid, b"/comm", &mut name)?.len();
    *name.get_mut(length.checked_sub(1)?)? = 0; // a line
    Some(name)
}

/// The process that a thread belongs to.
fn process(tid: i32) -> Option<u32> {
    const KEY: &[u8] = b"\nTgid:\t";
    let mut buffer = [0; 512];
    let status = read_proc(tid, b"/status", &mut buffer)?;
    let at = status.windows(KEY.len()).position(|part| part == KEY)?;
    let digits = status.get(at + KEY.len()..)?;
    let digits = digits.iter().take_while(|b| b.is_ascii_digit());
    Some(digits.fold(0u32, |n, b| {
        n.wrapping_mul(10).wrapping_add(u32::from(b - b'0'))
    }))
}

impl Init {
    /// Hears of the calls of a program from now on.
    pub(super) fn listen(&mut self, run: u32, fd: Fd) {
        if fd < 0 {
            return;
        }
        let idle = |l: &Listener| l.fd < 0;
        let ended = |l: &Listener| l.run.is_none();
        let place = self.listeners.iter().position(idle);
        // What is left behind of a program gets ENOSYS from then on.
        let place = place.or_else(|| self.listeners.iter().position(ended));
        match place {
            Some(place) => {
                close(self.listeners[place].fd);
                self.listeners[place] = Listener { fd, run: Some(run) };
            }
            None => close(fd),
        }
    }

    /// Hears of every call that waits, and ends the runs that made one.
    pub(super) fn hear_calls(&mut self) {
        for place in 0..LISTENERS_MAX {
            let Listener { fd, run } = self.listeners[place];
            let owner = |p: &&mut Program| Some(p.run) == run;
            for _ in 0..HEARD_AT_ONCE {
                let programs = self.programs.iter_mut().flatten();
                let program = programs.into_iter().find(owner);
                let main = program.as_ref().map_or(-1, |p| p.pid);
                let Some(violation) = heard(fd, main) else {
                    break;
                };
                if let Some(program) = program.filter(|p| p.violation.seen == 0) {
                    let run = program.run;
                    program.violation = violation;
                    self.signal_all(run, SIGKILL);
                    let message = Message {
                        kind: VIOLATED,
                        arg: 0,
                    };
                    self.tell(run, &message, &[], &[]);
                }
            }
        }
    }

    /// A program has ended. What it has left behind is still heard of, and killed, until nothing is left.
    pub(super) fn unlisten(&mut self, run: u32) {
        for listener in self.listeners.iter_mut().filter(|l| l.run == Some(run)) {
            listener.run = None;
        }
    }

    /// Closes the listeners that nobody can be heard of by any more: those for which the kernel says so, or all.
    pub(super) fn close_listeners(&mut self, all: bool) {
        for listener in self.listeners.iter_mut().filter(|l| l.fd >= 0) {
            let mut ready = [PollFd {
                fd: listener.fd,
                events: 0,
                revents: 0,
            }];
            if all || poll(&mut ready, 0) == Ok(1) && ready[0].revents & POLLHUP != 0 {
                close(listener.fd);
                *listener = Listener::NONE;
            }
        }
    }
}
