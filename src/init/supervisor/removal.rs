//! Directories on disks, removed by a child each: that can take long, and the supervisor has clocks to run.

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
}
