//! The end of a program: what it used, and the files to collect.

use super::*;

impl Init {
    pub(super) fn finish(&mut self, program: &Program, first: &Plan) {
        if let Some(plan) = program.plan.as_ref() {
            self.collect(program.run, plan);
        } else if self.flags & ONE_SHOT != 0 {
            self.collect(program.run, first);
        }
        let used = children_usage();
        let disk = if self.disk >= 0 {
            fstatfs(self.disk).unwrap_or_default()
        } else {
            StatFs::default()
        };
        self.count();
        let mut message = Exit {
            kind: EXIT,
            status: program.status.unwrap_or(0),
            started_at: program.started_at,
            ended_at: program.ended_at,
            user_ns: used.user_ns - program.before.user_ns,
            system_ns: used.system_ns - program.before.system_ns,
            max_rss: used.max_rss,
            csw_voluntary: used.csw_voluntary - program.before.csw_voluntary,
            csw_forced: used.csw_forced - program.before.csw_forced,
            blocks_read: used.blocks_read - program.before.blocks_read,
            blocks_written: used.blocks_written - program.before.blocks_written,
            disk_total: disk.blocks * disk.block_size,
            disk_free: disk.blocks_free * disk.block_size,
            inodes_total: disk.files,
            inodes_free: disk.files_free,
            violation: program.violation,
            unheard: program.unheard as u32,
            ..Exit::default()
        };
        self.tally.tell(&mut message);
        self.tell(program.run, &message, &[], &[]);
    }

    /// Opens the files to collect and passes them on, for the host to read.
    fn collect(&self, run: u32, plan: &Plan) {
        let outputs = plan
            .steps(plan.head.run)
            .filter(|(at, _)| at.op.code == R_OUTPUT);
        for (index, (_, payload)) in outputs.enumerate() {
            let opened = text(payload).and_then(|path| self.open_regular(path.bytes()));
            let message = Collected {
                kind: OUTPUT,
                index: index as u32,
                errno: opened.err().unwrap_or(0) as u32,
                has_fd: u32::from(opened.is_ok()),
            };
            match opened {
                Ok(fd) => {
                    self.tell(run, &message, &[], &[fd]);
                    close(fd);
                }
                Err(_) => self.tell(run, &message, &[], &[]),
            }
        }
    }

    pub(super) fn open_regular(&self, path: &[u8]) -> Result<Fd> {
        const FUSE_SUPER_MAGIC: u64 = 0x6573_5546;
        const HOW: usize = O_RDONLY | O_NONBLOCK | O_NOCTTY;
        let fd = regular(files::open(path, HOW)?)?;
        if fstatfs(fd)?.kind != FUSE_SUPER_MAGIC || self.outer < 0 {
            return Ok(fd);
        }
        // What serves the root ends with the sandbox, and the host reads later: it is given the file itself, from the
        // highest layer that has it. As it is there, no layer hides it.
        if let Ok(upper) = files::open_below(self.upper, s!("."), path, HOW) {
            close(fd);
            return regular(upper);
        }
        for lower in 0..LOWERS_MAX {
            let name = Text::<32>::new().add(b"lower/").number(lower);
            if let Ok(lower) = files::open_below(self.outer, name.text(), path, HOW) {
                close(fd);
                return regular(lower);
            }
        }
        Ok(fd) // a volume that is served by someone else
    }
}

/// `fd`, if it is a regular file.
fn regular(fd: Fd) -> Result<Fd> {
    let errno = match fstat(fd) {
        Ok(stat) if stat.mode() & S_IFMT == S_IFREG => return Ok(fd),
        Ok(_) => EINVAL,
        Err(errno) => errno,
    };
    close(fd);
    Err(errno)
}
