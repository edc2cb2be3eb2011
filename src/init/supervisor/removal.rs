//! Work on files that can take long, done by a child each, as the supervisor has clocks to run: directories on disks that are
//! removed, and what the host asks about files of sub-ids.

use super::*;

impl Directory {
    /// Removes it and all that is in it. Who has no right to that leaves it.
    pub(super) fn remove(&self) {
        let _ = remove::tree(self.fd, self.name.text());
        close(self.fd);
    }
}

impl Supervisor {
    /// Removes what the host has found of a dead one's.
    pub(super) fn remove_named(&mut self, name: &[u8], fd: Fd) {
        let name = Text::new().add(name);
        self.remove_directory(Directory { fd, name });
    }

    pub(super) fn remove_directory(&mut self, directory: Directory) {
        let mut pidfd = -1;
        match fork_into(0, &mut pidfd) {
            Ok(0) => {
                const KEPT: Fd = 3;
                // Nobody else may see his descriptors open for us.
                if dup_to(directory.fd, KEPT, true).is_ok()
                    && close_range(KEPT + 1, u32::MAX).is_ok()
                {
                    let fd = KEPT;
                    Directory { fd, ..directory }.remove();
                }
                exit(0)
            }
            Ok(_) => {
                close(directory.fd);
                if epoll_add(self.epoll, pidfd, REMOVER << 32 | pidfd as u64).is_err() {
                    let _ = reap(pidfd);
                    close(pidfd);
                }
            }
            Err(_) => directory.remove(),
        }
    }

    /// One of them has done.
    pub(super) fn removed(&mut self, pidfd: Fd) {
        epoll_remove(self.epoll, pidfd);
        let _ = reap(pidfd);
        close(pidfd);
    }

    /// A child that does what is asked over `socket`, until its end. Where there is none the host sees that end at once.
    pub(super) fn start_servant(&mut self, socket: Fd) {
        let free = self.servants.iter().position(|servant| *servant < 0);
        if let Some(free) = free
            && matches!(self.config.map, MAP_RANGE)
        {
            let mut pidfd = -1;
            match fork_into(0, &mut pidfd) {
                Ok(0) => {
                    if dup_to(socket, servant::SOCKET, true).is_ok()
                        && close_range(servant::SOCKET + 1, u32::MAX).is_ok()
                    {
                        servant::serve();
                    }
                    exit(1)
                }
                Ok(_) => {
                    self.servants[free] = pidfd;
                    if epoll_add(self.epoll, pidfd, SERVANT_OF << 32 | free as u64).is_err() {
                        end_process(&mut self.servants[free]);
                    }
                }
                Err(_) => {}
            }
        }
        close(socket);
    }

    /// One of them has ended.
    pub(super) fn servant_ended(&mut self, which: usize) {
        let servant = &mut self.servants[which];
        epoll_remove(self.epoll, *servant);
        end_process(servant);
    }
}
