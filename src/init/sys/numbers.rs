//! Numbers of system calls.

#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
pub mod nr {
    pub const READ: usize = 0; pub const WRITE: usize = 1; pub const CLOSE: usize = 3; pub const PPOLL: usize = 271;
    pub const MMAP: usize = 9; pub const MUNMAP: usize = 11; pub const RT_SIGPROCMASK: usize = 14; pub const IOCTL: usize = 16;
    pub const SOCKET: usize = 41; pub const SENDMSG: usize = 46; pub const RECVMSG: usize = 47; pub const SOCKETPAIR: usize = 53;
    pub const EXECVE: usize = 59; pub const KILL: usize = 62;
    pub const FCHDIR: usize = 81; pub const CHDIR: usize = 80; pub const GETCWD: usize = 79; pub const UMASK: usize = 95;
    pub const GETRUSAGE: usize = 98; pub const SETSID: usize = 112; pub const SETGROUPS: usize = 116; pub const SETRESUID: usize = 117;
    pub const SETRESGID: usize = 119; pub const CAPSET: usize = 126; pub const FSTATFS: usize = 138; pub const PIVOT_ROOT: usize = 155;
    pub const PRCTL: usize = 157; pub const CHROOT: usize = 161; pub const MOUNT: usize = 165; pub const UMOUNT2: usize = 166;
    pub const SETFSUID: usize = 122; pub const SETFSGID: usize = 123; pub const CAPGET: usize = 125;
    pub const SETHOSTNAME: usize = 170; pub const GETDENTS64: usize = 217; pub const CLOCK_GETTIME: usize = 228;
    pub const EXIT_GROUP: usize = 231; pub const PERSONALITY: usize = 135; pub const EPOLL_CTL: usize = 233; pub const WAITID: usize = 247; pub const KEYCTL: usize = 250;
    pub const OPENAT: usize = 257; pub const MKDIRAT: usize = 258; pub const NEWFSTATAT: usize = 262; pub const UNLINKAT: usize = 263;
    pub const SYMLINKAT: usize = 266; pub const UNSHARE: usize = 272; pub const SIGNALFD4: usize = 289; pub const EPOLL_CREATE1: usize = 291;
    pub const DUP3: usize = 292; pub const PRLIMIT64: usize = 302; pub const SETNS: usize = 308; pub const SECCOMP: usize = 317;
    pub const LSEEK: usize = 8; pub const SENDFILE: usize = 40; pub const FGETXATTR: usize = 193; pub const MKNODAT: usize = 259; pub const READLINKAT: usize = 267;
    pub const UTIMENSAT: usize = 280; pub const FCHOWNAT: usize = 260;
    pub const SETPRIORITY: usize = 141; pub const SCHED_SETSCHEDULER: usize = 144; pub const SCHED_SETAFFINITY: usize = 203;
    pub const EPOLL_PWAIT: usize = 281; pub const FCNTL: usize = 72; pub const FUTEX: usize = 202; pub const TGKILL: usize = 234;
    pub const WAIT4: usize = 61; pub const FCHMOD: usize = 91; pub const RENAMEAT2: usize = 316; pub const STATX: usize = 332;
    pub const EXIT: usize = 60; pub const FCHMODAT: usize = 268; pub const SHUTDOWN: usize = 48; pub const GETSID: usize = 124;
}
#[cfg(target_arch = "aarch64")]
#[rustfmt::skip]
pub mod nr {
    pub const READ: usize = 63; pub const WRITE: usize = 64; pub const CLOSE: usize = 57;
    pub const MMAP: usize = 222; pub const MUNMAP: usize = 215; pub const RT_SIGPROCMASK: usize = 135; pub const IOCTL: usize = 29;
    pub const SOCKET: usize = 198; pub const SENDMSG: usize = 211; pub const RECVMSG: usize = 212; pub const SOCKETPAIR: usize = 199;
    pub const EXECVE: usize = 221; pub const KILL: usize = 129;
    pub const FCHDIR: usize = 50; pub const CHDIR: usize = 49; pub const GETCWD: usize = 17; pub const UMASK: usize = 166;
    pub const GETRUSAGE: usize = 165; pub const SETSID: usize = 157; pub const SETGROUPS: usize = 159; pub const SETRESUID: usize = 147;
    pub const SETRESGID: usize = 149; pub const CAPSET: usize = 91; pub const FSTATFS: usize = 44; pub const PIVOT_ROOT: usize = 41;
    pub const PRCTL: usize = 167; pub const CHROOT: usize = 51; pub const MOUNT: usize = 40; pub const UMOUNT2: usize = 39;
    pub const SETFSUID: usize = 151; pub const SETFSGID: usize = 152; pub const CAPGET: usize = 90;
    pub const SETHOSTNAME: usize = 161; pub const GETDENTS64: usize = 61; pub const CLOCK_GETTIME: usize = 113;
    pub const EXIT_GROUP: usize = 94; pub const PERSONALITY: usize = 92; pub const EPOLL_CTL: usize = 21; pub const WAITID: usize = 95; pub const KEYCTL: usize = 219;
    pub const OPENAT: usize = 56; pub const MKDIRAT: usize = 34; pub const NEWFSTATAT: usize = 79; pub const UNLINKAT: usize = 35;
    pub const SYMLINKAT: usize = 36; pub const UNSHARE: usize = 97; pub const SIGNALFD4: usize = 74; pub const EPOLL_CREATE1: usize = 20;
    pub const DUP3: usize = 24; pub const PRLIMIT64: usize = 261; pub const SETNS: usize = 268; pub const SECCOMP: usize = 277;
    pub const LSEEK: usize = 62; pub const SENDFILE: usize = 71; pub const FGETXATTR: usize = 10; pub const MKNODAT: usize = 33; pub const READLINKAT: usize = 78;
    pub const UTIMENSAT: usize = 88; pub const FCHOWNAT: usize = 54;
    pub const SETPRIORITY: usize = 140; pub const SCHED_SETSCHEDULER: usize = 119; pub const SCHED_SETAFFINITY: usize = 122;
    pub const EPOLL_PWAIT: usize = 22; pub const FCNTL: usize = 25; pub const FUTEX: usize = 98; pub const TGKILL: usize = 131;
    pub const WAIT4: usize = 260; pub const PPOLL: usize = 73; pub const FCHMOD: usize = 52; pub const RENAMEAT2: usize = 276;
    pub const STATX: usize = 291; pub const EXIT: usize = 93; pub const FCHMODAT: usize = 53; pub const SHUTDOWN: usize = 210; pub const GETSID: usize = 156;
}
/// The same on every architecture.
#[rustfmt::skip]
pub mod nr_new {
    pub const PIDFD_SEND_SIGNAL: usize = 424; pub const OPEN_TREE: usize = 428; pub const MOVE_MOUNT: usize = 429;
    pub const FSOPEN: usize = 430; pub const FSCONFIG: usize = 431; pub const FSMOUNT: usize = 432;
    pub const CLONE3: usize = 435; pub const CLOSE_RANGE: usize = 436; pub const EPOLL_PWAIT2: usize = 441; pub const MOUNT_SETATTR: usize = 442;
    pub const LANDLOCK_CREATE_RULESET: usize = 444; pub const LANDLOCK_ADD_RULE: usize = 445; pub const LANDLOCK_RESTRICT_SELF: usize = 446;
    pub const FCHMODAT2: usize = 452;
}
