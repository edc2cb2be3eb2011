//! What the host asks of a live sandbox with a writable root: its upper layer, and to begin anew.

use super::*;

impl Init {
    /// Does it, and says how it went over the socket that came with it.
    pub(super) fn answer(&mut self, message: Message, fds: &[Fd], plan: &Plan) {
        let Some((answer, rest)) = fds.split_first() else {
            return;
        };
        let mut given = -1;
        let result = match message.kind {
            RESET => self.reset(plan, rest.first().copied().unwrap_or(-1)),
            _ => openat(self.upper, s!("."), O_RDONLY | O_DIRECTORY, 0)
                .map(|fd| given = fd)
                .map_err(|errno| (IN_STEP, STEP_PLAN, errno)),
        };
        let (section, index, errno) = result.err().unwrap_or((0, 0, 0));
        let message = Failure {
            kind: ANSWER,
            section,
            index,
            errno: errno as u32,
        };
        let given_fds = [given];
        let given_fds = if given >= 0 { &given_fds[..] } else { &[] };
        let _ = send(*answer, bytes_of(&message), &[], given_fds, false);
        close(given);
        fds.iter().for_each(|fd| close(*fd));
        if section != 0 && index != STEP_PLAN {
            exit(1); // half a root is none
        }
    }

    /// Ends everything that runs, and makes the root anew.
    fn reset(&mut self, plan: &Plan, server: Fd) -> core::result::Result<(), Fault> {
        let _ = kill(-1, SIGKILL);
        while let Ok(Some((pid, status))) = wait_any(true) {
            self.note(pid, status);
        }
        self.finish_ended(plan);
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
        // Nothing of ours must hold the old one.
        close(self.disk);
        close(self.upper);
        (self.disk, self.upper) = (-1, -1);
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
