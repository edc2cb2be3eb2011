//! What the host asks of a live sandbox: files in and out, its upper layer, and to begin anew.

use super::set_up::on_disk;
use super::*;

/// What an answer carries.
#[derive(Default)]
struct Answer {
    fd: Option<Fd>,
    /// How many bytes of the buffer.
    length: usize,
}

impl Init {
    /// Does it, and says how it went over the socket that came with it.
    pub(super) fn answer(&mut self, message: Message, bytes: &[u8], fds: &[Fd], plan: &Plan) {
        let Some((socket, rest)) = fds.split_first() else {
            return;
        };
        let given = rest.first().copied().unwrap_or(-1);
        let mut body = [0; ANSWER_MAX];
        let result = match message.kind {
            RESET => self.reset(plan, given).map(|()| Answer::default()),
            _ => self
                .serve(bytes, given, &mut body)
                .map_err(|errno| (IN_STEP, STEP_LIVE, errno)),
        };
        let (answer, (section, index, errno)) = match result {
            Ok(answer) => (answer, (0, 0, 0)),
            Err(fault) => (Answer::default(), fault),
        };
        let head = Failure {
            kind: ANSWER,
            section,
            index,
            errno: errno as u32,
        };
        let body = body.get(..answer.length).unwrap_or(&[]);
        let _ = send(*socket, bytes_of(&head), body, answer.fd.as_slice(), false);
        answer.fd.iter().for_each(|fd| close(*fd));
        fds.iter().for_each(|fd| close(*fd));
        let old = core::mem::replace(&mut self.old, [-1; 2]);
        old.iter().for_each(|fd| close(*fd));
        if section == 0 && message.kind == RESET && self.generation > 1 {
            self.forget_written();
        }
        if section != 0 && message.kind == RESET {
            exit(1); // half a root is none
        }
    }

    /// Has the supervisor remove what was on the disk before a reset.
    fn forget_written(&self) {
        let path = on_disk(self.generation - 1);
        let (_, below) = path.bytes().split_at(1);
        let (_, name) = path.bytes().split_at(b"/disk/".len());
        let below = Text::<48>::new().add(below);
        if let Ok(dir) = openat(self.outer, below.text(), O_RDONLY | O_DIRECTORY, 0) {
            let kind = REMOVE;
            self.tell(0, &Message { kind, arg: 0 }, name, &[dir]);
            close(dir);
        }
    }

    /// One request about files.
    fn serve(&mut self, bytes: &[u8], given: Fd, body: &mut [u8]) -> Result<Answer> {
        let ask: Ask = read_of(bytes).ok_or(EPROTO)?;
        let nothing = Answer::default();
        if ask.kind == UPPER_LAYER {
            let fd = openat(self.upper, s!("."), O_RDONLY | O_DIRECTORY, 0)?;
            return Ok(Answer {
                fd: Some(fd),
                ..nothing
            });
        }
        let (path, rest) = pair(bytes.get(size_of::<Ask>()..).ok_or(EPROTO)?)?;
        let path = path.bytes();
        match ask.kind {
            PUT_FILE => files::copy_file(path, ask.arg, given, &mut || self.meanwhile())?,
            MAKE_DIR => files::make_dirs(path, ask.arg)?,
            MAKE_LINK => files::make_link(path, text(rest)?)?,
            GET_FILE => {
                let fd = self.open_regular(path)?;
                let length = statx(fd, body).inspect_err(|_| close(fd))?;
                return Ok(Answer {
                    fd: Some(fd),
                    length,
                });
            }
            STAT => {
                let it = files::open(path, O_PATH)?;
                let length = statx(it, body);
                close(it);
                return Ok(Answer {
                    length: length?,
                    ..nothing
                });
            }
            READ_LINK => {
                let link = files::open(path, O_PATH)?;
                let length = readlinkat(link, s!(""), body);
                close(link);
                return Ok(Answer {
                    length: length?,
                    ..nothing
                });
            }
            READ => {
                if fstat(given)?.mode() & S_IFMT != S_IFREG {
                    return Err(EINVAL); // it could keep us waiting
                }
                seek(given, ask.offset)?;
                return Ok(Answer {
                    length: read(given, body)?,
                    ..nothing
                });
            }
            LIST => {
                let dir = files::open(path, O_RDONLY | O_DIRECTORY)?;
                let length = seek(dir, ask.offset).and_then(|_| getdents(dir, body));
                close(dir);
                return Ok(Answer {
                    length: length?,
                    ..nothing
                });
            }
            _ => return Err(EPROTO),
        }
        Ok(nothing)
    }

    /// Ends everything that runs, and makes the root anew.
    fn reset(&mut self, plan: &Plan, server: Fd) -> core::result::Result<(), Fault> {
        self.end_everything(true);
        self.finish_ended(plan);
        domain::end();
        let step = |errno| (IN_STEP, STEP_RESET, errno);
        self.server = server;
        let volumes = plan.steps(plan.head.setup);
        let volumes = volumes.filter(|(at, _)| at.op.code == S_VOLUME);
        for (place, (_, payload)) in self.volumes.iter_mut().zip(volumes) {
            let tree = text(payload)
                .and_then(|path| files::open(path.bytes(), O_PATH))
                .and_then(|target| {
                    let tree = open_tree_clone(target, s!(""), true);
                    close(target);
                    tree
                });
            *place = tree.map_err(step)?;
        }
        // The old tmpfs and what joins it are held until the host has its answer: giving them back takes time.
        close(self.disk);
        self.disk = -1;
        self.tally.close();
        let root = openat(AT_FDCWD, s!("/"), O_PATH | O_DIRECTORY, 0).map_err(step)?;
        self.old = [core::mem::replace(&mut self.upper, -1), root];
        fchdir(self.outer)
            .and_then(|_| chroot(s!(".")))
            .and_then(|_| umount(s!("/root"), MNT_DETACH))
            .and_then(|_| umount(s!("/box"), MNT_DETACH))
            .map_err(step)?;
        self.set_up_steps(plan)?;
        self.show_files(plan, 0);
        Ok(())
    }
}
