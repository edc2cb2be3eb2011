//! System calls by number, and nothing else. All raw: the helper has no libc, so there is no errno variable, no
//! lock and no allocation anywhere; a call returns its result or `Err(errno)`.

use core::arch::asm;

pub type Result<T = usize> = core::result::Result<T, i32>;
pub type Fd = i32;

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
    pub const SETHOSTNAME: usize = 170; pub const GETDENTS64: usize = 217; pub const CLOCK_GETTIME: usize = 228;
    pub const EXIT_GROUP: usize = 231; pub const EPOLL_CTL: usize = 233; pub const WAITID: usize = 247; pub const KEYCTL: usize = 250;
    pub const OPENAT: usize = 257; pub const MKDIRAT: usize = 258; pub const NEWFSTATAT: usize = 262; pub const UNLINKAT: usize = 263;
    pub const SYMLINKAT: usize = 266; pub const UNSHARE: usize = 272; pub const SIGNALFD4: usize = 289; pub const EPOLL_CREATE1: usize = 291;
    pub const DUP3: usize = 292; pub const PRLIMIT64: usize = 302; pub const SETNS: usize = 308; pub const SECCOMP: usize = 317;
    pub const EPOLL_PWAIT: usize = 281; pub const WAIT4: usize = 61; pub const FCHMOD: usize = 91;
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
    pub const SETHOSTNAME: usize = 161; pub const GETDENTS64: usize = 61; pub const CLOCK_GETTIME: usize = 113;
    pub const EXIT_GROUP: usize = 94; pub const EPOLL_CTL: usize = 21; pub const WAITID: usize = 95; pub const KEYCTL: usize = 219;
    pub const OPENAT: usize = 56; pub const MKDIRAT: usize = 34; pub const NEWFSTATAT: usize = 79; pub const UNLINKAT: usize = 35;
    pub const SYMLINKAT: usize = 36; pub const UNSHARE: usize = 97; pub const SIGNALFD4: usize = 74; pub const EPOLL_CREATE1: usize = 20;
    pub const DUP3: usize = 24; pub const PRLIMIT64: usize = 261; pub const SETNS: usize = 268; pub const SECCOMP: usize = 277;
    pub const EPOLL_PWAIT: usize = 22; pub const WAIT4: usize = 260; pub const PPOLL: usize = 73; pub const FCHMOD: usize = 52;
}
/// The same on every architecture.
#[rustfmt::skip]
pub mod nr_new {
    pub const PIDFD_SEND_SIGNAL: usize = 424; pub const OPEN_TREE: usize = 428; pub const MOVE_MOUNT: usize = 429;
    pub const FSOPEN: usize = 430; pub const FSCONFIG: usize = 431; pub const FSMOUNT: usize = 432;
    pub const CLONE3: usize = 435; pub const CLOSE_RANGE: usize = 436; pub const EPOLL_PWAIT2: usize = 441; pub const MOUNT_SETATTR: usize = 442;
}

/// Makes system call `n`.
///
/// # Safety
/// The arguments must be valid for that call: pointers to live memory of the size the kernel will read or write.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub unsafe fn call(n: usize, a: [usize; 6]) -> Result {
    let r: isize;
    // SAFETY: the syscall instruction clobbers rcx and r11 only; the rest is the caller's promise.
    unsafe {
        asm!("syscall", inlateout("rax") n as isize => r, in("rdi") a[0], in("rsi") a[1], in("rdx") a[2],
             in("r10") a[3], in("r8") a[4], in("r9") a[5], lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    if r < 0 {
        Err(-r as i32)
    } else {
        Ok(r as usize)
    }
}

/// Makes system call `n`.
///
/// # Safety
/// The arguments must be valid for that call: pointers to live memory of the size the kernel will read or write.
#[cfg(target_arch = "aarch64")]
#[inline(always)]
pub unsafe fn call(n: usize, a: [usize; 6]) -> Result {
    let r: isize;
    // SAFETY: svc clobbers x0 only; the rest is the caller's promise.
    unsafe {
        asm!("svc 0", in("x8") n, inlateout("x0") a[0] as isize => r, in("x1") a[1], in("x2") a[2],
             in("x3") a[3], in("x4") a[4], in("x5") a[5], options(nostack));
    }
    if r < 0 {
        Err(-r as i32)
    } else {
        Ok(r as usize)
    }
}

#[inline(always)]
fn padded(given: &[usize]) -> [usize; 6] {
    core::array::from_fn(|i| if i < given.len() { given[i] } else { 0 })
}

macro_rules! syscall {
    ($n:expr $(, $a:expr)*) => {{
        let args = padded(&[$($a as usize),*]);
        // SAFETY: every use in this file passes values or pointers that outlive the call, as its wrapper's types say.
        unsafe { call($n, args) }
    }};
}

/// A NUL-terminated string, checked when it was made.
#[derive(Clone, Copy)]
pub struct Str<'a>(&'a [u8]);

impl<'a> Str<'a> {
    /// The first string in `bytes` and what comes behind its NUL.
    pub fn split(bytes: &'a [u8]) -> Option<(Str<'a>, &'a [u8])> {
        let end = bytes.iter().position(|b| *b == 0)?;
        Some((Str(&bytes[..=end]), &bytes[end + 1..]))
    }
    pub const fn literal(bytes: &'static [u8]) -> Str<'static> {
        assert!(!bytes.is_empty() && bytes[bytes.len() - 1] == 0);
        Str(bytes)
    }
    pub fn ptr(self) -> *const u8 {
        self.0.as_ptr()
    }
    /// Without the NUL.
    pub fn bytes(self) -> &'a [u8] {
        &self.0[..self.0.len() - 1]
    }
}

#[macro_export]
macro_rules! s {
    ($text:literal) => {
        $crate::sys::Str::literal(concat!($text, "\0").as_bytes())
    };
}

pub const EPERM: i32 = 1;
pub const ENOENT: i32 = 2;
pub const EINTR: i32 = 4;
pub const E2BIG: i32 = 7;
pub const EAGAIN: i32 = 11;
pub const EACCES: i32 = 13;
pub const EBUSY: i32 = 16;
pub const EEXIST: i32 = 17;
pub const ENOTDIR: i32 = 20;
pub const EINVAL: i32 = 22;
pub const ENFILE: i32 = 23;
pub const EMFILE: i32 = 24;
pub const ENOSYS: i32 = 38;
pub const EPROTO: i32 = 71;
pub const ETOOMANYREFS: i32 = 109;

pub const AT_FDCWD: Fd = -100;
pub const AT_EMPTY_PATH: usize = 0x1000;
pub const AT_RECURSIVE: usize = 0x8000;
pub const AT_REMOVEDIR: usize = 0x200;

pub const O_RDONLY: usize = 0;
pub const O_WRONLY: usize = 1;
pub const O_RDWR: usize = 2;
pub const O_CREAT: usize = 0o100;
pub const O_EXCL: usize = 0o200;
pub const O_NOCTTY: usize = 0o400;
pub const O_NONBLOCK: usize = 0o4000;
pub const O_CLOEXEC: usize = 0o2000000;
pub const O_PATH: usize = 0o10000000;
#[cfg(target_arch = "x86_64")]
pub const O_DIRECTORY: usize = 0o200000;
#[cfg(target_arch = "x86_64")]
pub const O_NOFOLLOW: usize = 0o400000;
#[cfg(target_arch = "aarch64")]
pub const O_DIRECTORY: usize = 0o40000;
#[cfg(target_arch = "aarch64")]
pub const O_NOFOLLOW: usize = 0o100000;

pub const SIGKILL: i32 = 9;
pub const SIGCHLD: i32 = 17;

pub fn exit(status: i32) -> ! {
    loop {
        let _ = syscall!(nr::EXIT_GROUP, status);
    }
}

// ---- files

pub fn openat(dir: Fd, path: Str, flags: usize, mode: u32) -> Result<Fd> {
    syscall!(nr::OPENAT, dir, path.ptr(), flags | O_CLOEXEC, mode).map(|fd| fd as Fd)
}

pub fn close(fd: Fd) {
    if fd >= 0 {
        let _ = syscall!(nr::CLOSE, fd);
    }
}

pub fn close_range(first: Fd, last: u32) -> Result {
    syscall!(nr_new::CLOSE_RANGE, first, last, 0)
}

pub fn dup_to(fd: Fd, to: Fd, cloexec: bool) -> Result {
    syscall!(nr::DUP3, fd, to, if cloexec { O_CLOEXEC } else { 0 })
}

pub fn read(fd: Fd, buffer: &mut [u8]) -> Result {
    syscall!(nr::READ, fd, buffer.as_mut_ptr(), buffer.len())
}

/// Reads until the buffer is full or the file ends.
pub fn read_all(fd: Fd, buffer: &mut [u8]) -> Result<&[u8]> {
    let mut n = 0;
    while n < buffer.len() {
        match read(fd, &mut buffer[n..]) {
            Ok(0) => break,
            Ok(k) => n += k,
            Err(EINTR) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(&buffer[..n])
}

pub fn write_all(fd: Fd, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        match syscall!(nr::WRITE, fd, bytes.as_ptr(), bytes.len()) {
            Ok(n) => bytes = &bytes[n..],
            Err(EINTR) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

pub fn mkdirat(dir: Fd, path: Str, mode: u32) -> Result {
    syscall!(nr::MKDIRAT, dir, path.ptr(), mode)
}

pub fn fchmod(fd: Fd, mode: u32) -> Result {
    syscall!(nr::FCHMOD, fd, mode)
}

pub fn symlinkat(target: Str, dir: Fd, path: Str) -> Result {
    syscall!(nr::SYMLINKAT, target.ptr(), dir, path.ptr())
}

pub fn unlinkat(dir: Fd, path: Str, flags: usize) -> Result {
    syscall!(nr::UNLINKAT, dir, path.ptr(), flags)
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Stat {
    head: [u64; 18],
}

pub const S_IFMT: u32 = 0o170000;
pub const S_IFREG: u32 = 0o100000;
pub const S_IFDIR: u32 = 0o040000;
pub const S_IFCHR: u32 = 0o020000;

impl Stat {
    /// `st_mode`.
    pub fn mode(&self) -> u32 {
        if cfg!(target_arch = "x86_64") {
            self.head[3] as u32
        } else {
            self.head[2] as u32
        }
    }
    /// `st_rdev`.
    pub fn rdev(&self) -> u64 {
        if cfg!(target_arch = "x86_64") {
            self.head[5]
        } else {
            self.head[4]
        }
    }
}

pub fn fstat(fd: Fd) -> Result<Stat> {
    let mut stat = Stat { head: [0; 18] };
    syscall!(
        nr::NEWFSTATAT,
        fd,
        s!("").ptr(),
        &raw mut stat,
        AT_EMPTY_PATH
    )?;
    Ok(stat)
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct StatFs {
    pub kind: u64,
    pub block_size: u64,
    pub blocks: u64,
    pub blocks_free: u64,
    pub blocks_available: u64,
    pub files: u64,
    pub files_free: u64,
    other: [u64; 3],
    pub flags: u64,
    spare: [u64; 4],
}

pub fn fstatfs(fd: Fd) -> Result<StatFs> {
    let mut out = StatFs::default();
    syscall!(nr::FSTATFS, fd, &raw mut out)?;
    Ok(out)
}

pub fn getdents(fd: Fd, buffer: &mut [u8]) -> Result {
    syscall!(nr::GETDENTS64, fd, buffer.as_mut_ptr(), buffer.len())
}

pub fn fchdir(fd: Fd) -> Result {
    syscall!(nr::FCHDIR, fd)
}

pub fn chdir(path: Str) -> Result {
    syscall!(nr::CHDIR, path.ptr())
}

pub fn getcwd(buffer: &mut [u8]) -> Result {
    syscall!(nr::GETCWD, buffer.as_mut_ptr(), buffer.len())
}

pub fn chroot(path: Str) -> Result {
    syscall!(nr::CHROOT, path.ptr())
}

pub fn umask(mask: u32) {
    let _ = syscall!(nr::UMASK, mask);
}

/// Maps `len` bytes of `fd` privately, for reading and writing.
pub fn map_private<'a>(fd: Fd, len: usize) -> Result<&'a mut [u8]> {
    let at = syscall!(
        nr::MMAP,
        0,
        len,
        3, /* READ|WRITE */
        2, /* PRIVATE */
        fd,
        0
    )?;
    // SAFETY: the kernel just gave this fresh mapping of len bytes; the memfd behind it is sealed against shrinking.
    Ok(unsafe { core::slice::from_raw_parts_mut(at as *mut u8, len) })
}

pub fn unmap(memory: &mut [u8]) {
    let _ = syscall!(nr::MUNMAP, memory.as_mut_ptr(), memory.len());
}

// ---- mounts

pub const OPEN_TREE_CLONE: usize = 1;
pub const MOVE_MOUNT_F_EMPTY_PATH: usize = 4;
pub const MOVE_MOUNT_T_EMPTY_PATH: usize = 0x40;
pub const MOUNT_ATTR_RDONLY: u64 = 1;
pub const MOUNT_ATTR_NOSUID: u64 = 2;
pub const MOUNT_ATTR_NODEV: u64 = 4;
pub const MOUNT_ATTR_NOEXEC: u64 = 8;
pub const MS_RDONLY: usize = 1;
pub const MS_NOSUID: usize = 2;
pub const MS_NODEV: usize = 4;
pub const MS_NOEXEC: usize = 8;
pub const MS_REMOUNT: usize = 32;
pub const MS_BIND: usize = 4096;
pub const MS_REC: usize = 16384;
pub const MS_PRIVATE: usize = 1 << 18;
pub const MNT_DETACH: usize = 2;

pub fn mount(source: Str, target: Str, kind: Str, flags: usize, data: Str) -> Result {
    syscall!(
        nr::MOUNT,
        source.ptr(),
        target.ptr(),
        kind.ptr(),
        flags,
        data.ptr()
    )
}

pub fn umount(target: Str, flags: usize) -> Result {
    syscall!(nr::UMOUNT2, target.ptr(), flags)
}

pub fn pivot_root(new: Str, old: Str) -> Result {
    syscall!(nr::PIVOT_ROOT, new.ptr(), old.ptr())
}

/// A detached copy of what is mounted at `path`.
pub fn open_tree_clone(dir: Fd, path: Str, recursive: bool) -> Result<Fd> {
    let flags =
        OPEN_TREE_CLONE | O_CLOEXEC | AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 };
    syscall!(nr_new::OPEN_TREE, dir, path.ptr(), flags).map(|fd| fd as Fd)
}

/// Attaches the tree `fd` at `path`, through symbolic links in none of its components if `dir` is an `O_PATH` of it.
pub fn move_mount(fd: Fd, dir: Fd, path: Str) -> Result {
    syscall!(
        nr_new::MOVE_MOUNT,
        fd,
        s!("").ptr(),
        dir,
        path.ptr(),
        MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH
    )
}

/// Begins a new file system of this kind.
pub fn fs_open(kind: Str) -> Result<Fd> {
    const FSOPEN_CLOEXEC: usize = 1;
    syscall!(nr_new::FSOPEN, kind.ptr(), FSOPEN_CLOEXEC).map(|fd| fd as Fd)
}

/// Makes it with these options; gives a detached mount, nosuid and nodev.
pub fn fs_create(context: Fd, options: &[(Str, Str)]) -> Result<Fd> {
    const FSCONFIG_SET_STRING: usize = 1;
    const FSCONFIG_CMD_CREATE: usize = 6;
    for (key, value) in options {
        syscall!(
            nr_new::FSCONFIG,
            context,
            FSCONFIG_SET_STRING,
            key.ptr(),
            value.ptr(),
            0
        )?;
    }
    syscall!(nr_new::FSCONFIG, context, FSCONFIG_CMD_CREATE, 0, 0, 0)?;
    syscall!(
        nr_new::FSMOUNT,
        context,
        1,
        MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV
    )
    .map(|fd| fd as Fd)
}

#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Sets attributes on the tree `fd` and, with `recursive`, all mounts below; makes them private.
pub fn mount_setattr(fd: Fd, set: u64, recursive: bool) -> Result {
    let attr = MountAttr {
        set,
        clear: 0,
        propagation: MS_PRIVATE as u64,
        userns_fd: 0,
    };
    let flags = AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 };
    syscall!(
        nr_new::MOUNT_SETATTR,
        fd,
        s!("").ptr(),
        flags,
        &raw const attr,
        size_of::<MountAttr>()
    )
}

// ---- processes

pub const CLONE_VM: u64 = 0x100;
pub const CLONE_VFORK: u64 = 0x4000;
pub const CLONE_PIDFD: u64 = 0x1000;
pub const CLONE_NEWNS: u64 = 0x20000;
pub const CLONE_NEWCGROUP: u64 = 0x2000000;
pub const CLONE_NEWUTS: u64 = 0x4000000;
pub const CLONE_NEWIPC: u64 = 0x8000000;
pub const CLONE_NEWUSER: u64 = 0x10000000;
pub const CLONE_NEWPID: u64 = 0x20000000;
pub const CLONE_NEWNET: u64 = 0x40000000;
pub const CLONE_INTO_CGROUP: u64 = 0x200000000;

#[repr(C)]
#[derive(Default)]
pub struct CloneArgs {
    pub flags: u64,
    pub pidfd: u64,
    pub child_tid: u64,
    pub parent_tid: u64,
    pub exit_signal: u64,
    pub stack: u64,
    pub stack_size: u64,
    pub tls: u64,
    pub set_tid: u64,
    pub set_tid_size: u64,
    pub cgroup: u64,
}

/// Forks: a child with a copy of this memory, in new namespaces. `Ok(0)` in the child.
pub fn fork_into(flags: u64, pidfd: &mut Fd) -> Result {
    let args = CloneArgs {
        flags: flags | CLONE_PIDFD,
        pidfd: pidfd as *mut Fd as u64,
        ..CloneArgs::default()
    };
    syscall!(nr_new::CLONE3, &raw const args, size_of::<CloneArgs>())
}

/// Runs `child(arg)` in a child that shares this memory while we wait for its exec or exit.
///
/// `stack` is the child's; `child` must not return.
pub fn vfork_into(
    args: &mut CloneArgs,
    stack: &mut [u8],
    child: extern "C" fn(usize) -> !,
    arg: usize,
) -> Result {
    args.flags |= CLONE_VM | CLONE_VFORK;
    args.stack = stack.as_mut_ptr() as u64 & !15;
    args.stack_size = (stack.len() as u64 - 16) & !15;
    let r: isize;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: in the child the kernel has put rsp on `stack`; it calls `child(arg)`, which never returns, so nothing of
    // the caller's frame is touched by it. In the parent this is an ordinary system call.
    unsafe {
        asm!("syscall",
             "test rax, rax",
             "jnz 2f",
             "xor ebp, ebp",
             "mov rdi, r13",
             "call r12",
             "ud2",
             "2:",
             inlateout("rax") nr_new::CLONE3 as isize => r, in("rdi") args as *mut CloneArgs, in("rsi") size_of::<CloneArgs>(),
             in("r12") child, in("r13") arg, lateout("rcx") _, lateout("r11") _);
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above, with sp for rsp.
    unsafe {
        asm!("svc 0",
             "cbnz x0, 2f",
             "mov x29, xzr",
             "mov x0, x20",
             "blr x21",
             "brk #1",
             "2:",
             in("x8") nr_new::CLONE3, inlateout("x0") args as *mut CloneArgs as isize => r, in("x1") size_of::<CloneArgs>(),
             in("x20") arg, in("x21") child);
    }
    if r < 0 {
        Err(-r as i32)
    } else {
        Ok(r as usize)
    }
}

pub fn unshare(flags: u64) -> Result {
    syscall!(nr::UNSHARE, flags)
}

pub fn setns(fd: Fd, kind: u64) -> Result {
    syscall!(nr::SETNS, fd, kind)
}

/// Replaces the program.
///
/// # Safety
/// `args` and `env` must point to arrays of pointers to NUL-terminated strings, ended by a null pointer.
pub unsafe fn execve(path: *const u8, args: *const usize, env: *const usize) -> i32 {
    match syscall!(nr::EXECVE, path, args, env) {
        Ok(_) => 0,
        Err(e) => e,
    }
}

pub fn kill(pid: i32, signal: i32) -> Result {
    syscall!(nr::KILL, pid, signal)
}

pub fn pidfd_kill(pidfd: Fd) -> Result {
    syscall!(nr_new::PIDFD_SEND_SIGNAL, pidfd, SIGKILL, 0, 0)
}

/// Reaps the process behind `pidfd`, however it was cloned.
pub fn reap(pidfd: Fd) -> Result {
    const P_PIDFD: usize = 3;
    const WEXITED: usize = 4;
    const WALL: usize = 0x40000000;
    syscall!(nr::WAITID, P_PIDFD, pidfd, 0, WEXITED | WALL, 0)
}

/// Reaps any child: its pid and wait status, or `None` if none has ended (with `block`: waits for one).
pub fn wait_any(block: bool) -> Result<Option<(i32, u32)>> {
    const WNOHANG: usize = 1;
    const WALL: usize = 0x40000000;
    let mut status = 0u32;
    loop {
        match syscall!(
            nr::WAIT4,
            -1isize,
            &raw mut status,
            WALL | if block { 0 } else { WNOHANG },
            0
        ) {
            Ok(0) => return Ok(None),
            Ok(pid) => return Ok(Some((pid as i32, status))),
            Err(EINTR) => {}
            Err(e) => return Err(e),
        }
    }
}

pub fn setsid() -> Result {
    syscall!(nr::SETSID)
}

pub fn drop_groups() -> Result {
    syscall!(nr::SETGROUPS, 0, 0)
}

pub fn set_ids(user: u32, group: u32) -> Result {
    syscall!(nr::SETRESGID, group, group, group)?;
    syscall!(nr::SETRESUID, user, user, user)
}

pub fn sethostname(name: &[u8]) -> Result {
    syscall!(nr::SETHOSTNAME, name.as_ptr(), name.len())
}

pub fn prctl(option: usize, a: usize, b: usize) -> Result {
    syscall!(nr::PRCTL, option, a, b, 0, 0)
}

/// Empties the effective, permitted and inheritable sets.
pub fn drop_capabilities() -> Result {
    let head: [u32; 2] = [0x20080522, 0];
    let data = [0u32; 6];
    syscall!(nr::CAPSET, head.as_ptr(), data.as_ptr())
}

/// Joins a new, empty session keyring.
pub fn new_session_keyring() -> Result {
    syscall!(nr::KEYCTL, 1, 0)
}

pub fn set_rlimit(resource: u32, soft: u64, hard: u64) -> Result {
    let limit = [soft, hard];
    syscall!(nr::PRLIMIT64, 0, resource, limit.as_ptr(), 0)
}

/// Raises the limit on open descriptors as far as it goes; gives it.
pub fn raise_open_files() -> u64 {
    const RLIMIT_NOFILE: usize = 7;
    let mut limit = [0u64; 2];
    if syscall!(nr::PRLIMIT64, 0, RLIMIT_NOFILE, 0, limit.as_mut_ptr()).is_err() {
        return u64::MAX;
    }
    limit[0] = limit[1];
    let _ = syscall!(nr::PRLIMIT64, 0, RLIMIT_NOFILE, limit.as_ptr(), 0);
    limit[1]
}

/// Installs a filter: `filter` is an array of `struct sock_filter`.
pub fn seccomp(filter: &[u8]) -> Result {
    #[repr(C)]
    struct Program {
        len: u16,
        filter: *const u8,
    }
    let program = Program {
        len: (filter.len() / 8) as u16,
        filter: filter.as_ptr(),
    };
    syscall!(nr::SECCOMP, 1, 0, &raw const program)
}

pub const RUSAGE_CHILDREN: isize = -1;

/// The fields of `struct rusage` that we report.
#[derive(Clone, Copy, Default)]
pub struct Usage {
    pub user_ns: u64,
    pub system_ns: u64,
    pub max_rss: u64,
    pub csw_voluntary: u64,
    pub csw_forced: u64,
}

pub fn children_usage() -> Usage {
    let mut raw = [0u64; 18];
    let _ = syscall!(nr::GETRUSAGE, RUSAGE_CHILDREN, raw.as_mut_ptr());
    Usage {
        user_ns: raw[0] * 1_000_000_000 + raw[1] * 1000,
        system_ns: raw[2] * 1_000_000_000 + raw[3] * 1000,
        max_rss: raw[4] * 1024,
        csw_voluntary: raw[16],
        csw_forced: raw[17],
    }
}

/// CLOCK_MONOTONIC, nanoseconds.
pub fn now() -> u64 {
    let mut time = [0u64; 2];
    let _ = syscall!(nr::CLOCK_GETTIME, 1, time.as_mut_ptr());
    time[0] * 1_000_000_000 + time[1]
}

pub const SIG_SETMASK: usize = 2;

pub fn signal_mask(how: usize, mask: u64) {
    let _ = syscall!(nr::RT_SIGPROCMASK, how, &raw const mask, 0, 8);
}

pub fn signalfd(mask: u64) -> Result<Fd> {
    syscall!(
        nr::SIGNALFD4,
        -1isize,
        &raw const mask,
        8,
        O_CLOEXEC | O_NONBLOCK
    )
    .map(|fd| fd as Fd)
}

// ---- sockets and events

pub fn socketpair() -> Result<[Fd; 2]> {
    const AF_UNIX: usize = 1;
    const SOCK_SEQPACKET: usize = 5;
    let mut fds = [-1; 2];
    syscall!(
        nr::SOCKETPAIR,
        AF_UNIX,
        SOCK_SEQPACKET | O_CLOEXEC,
        0,
        fds.as_mut_ptr()
    )?;
    Ok(fds)
}

/// Brings the interface `lo` of the current network namespace up.
pub fn loopback_up() -> Result<()> {
    const SIOCSIFFLAGS: usize = 0x8914;
    let fd = syscall!(
        nr::SOCKET,
        2, /* AF_INET */
        2 /* SOCK_DGRAM */ | O_CLOEXEC,
        0
    )? as Fd;
    let mut request = [0u8; 40];
    request[..2].copy_from_slice(b"lo");
    request[16] = 1 | 64; // IFF_UP | IFF_RUNNING
    let result = syscall!(nr::IOCTL, fd, SIOCSIFFLAGS, request.as_mut_ptr());
    close(fd);
    result.map(|_| ())
}

#[repr(C)]
struct IoVec {
    at: *const u8,
    len: usize,
}

#[repr(C)]
struct MsgHdr {
    name: usize,
    name_len: u32,
    pad: u32,
    iov: *const IoVec,
    iov_len: usize,
    control: *mut u8,
    control_len: usize,
    flags: i32,
    pad2: u32,
}

/// Room for one SCM_RIGHTS message of FDS_MAX descriptors.
#[repr(C, align(8))]
struct Control([u8; 16 + 4 * crate::wire::FDS_MAX]);

const MSG_DONTWAIT: usize = 0x40;
const MSG_NOSIGNAL: usize = 0x4000;
const MSG_CMSG_CLOEXEC: usize = 0x40000000;

/// Sends one message of two parts with descriptors.
pub fn send(fd: Fd, head: &[u8], body: &[u8], fds: &[Fd], wait: bool) -> Result<()> {
    let mut control = Control([0; 16 + 4 * crate::wire::FDS_MAX]);
    let len = 16 + 4 * fds.len();
    control.0[..8].copy_from_slice(&len.to_ne_bytes());
    control.0[8..12].copy_from_slice(&1u32.to_ne_bytes()); // SOL_SOCKET
    control.0[12..16].copy_from_slice(&1u32.to_ne_bytes()); // SCM_RIGHTS
    for (i, fd) in fds.iter().enumerate() {
        control.0[16 + 4 * i..20 + 4 * i].copy_from_slice(&fd.to_ne_bytes());
    }
    let iov = [
        IoVec {
            at: head.as_ptr(),
            len: head.len(),
        },
        IoVec {
            at: body.as_ptr(),
            len: body.len(),
        },
    ];
    let message = MsgHdr {
        name: 0,
        name_len: 0,
        pad: 0,
        iov: iov.as_ptr(),
        iov_len: 2,
        control: if fds.is_empty() {
            core::ptr::null_mut()
        } else {
            control.0.as_mut_ptr()
        },
        control_len: if fds.is_empty() { 0 } else { len },
        flags: 0,
        pad2: 0,
    };
    loop {
        let flags = MSG_NOSIGNAL | if wait { 0 } else { MSG_DONTWAIT };
        match syscall!(nr::SENDMSG, fd, &raw const message, flags) {
            Ok(_) => return Ok(()),
            Err(EINTR) => {}
            Err(e) => return Err(e),
        }
    }
}

/// Receives one message: its length (0 at the end of the stream) and how many descriptors came.
pub fn receive(
    fd: Fd,
    buffer: &mut [u8],
    fds: &mut [Fd; crate::wire::FDS_MAX],
    wait: bool,
) -> Result<(usize, usize)> {
    let mut control = Control([0; 16 + 4 * crate::wire::FDS_MAX]);
    let iov = IoVec {
        at: buffer.as_mut_ptr(),
        len: buffer.len(),
    };
    loop {
        let mut message = MsgHdr {
            name: 0,
            name_len: 0,
            pad: 0,
            iov: &raw const iov,
            iov_len: 1,
            control: control.0.as_mut_ptr(),
            control_len: control.0.len(),
            flags: 0,
            pad2: 0,
        };
        let flags = MSG_CMSG_CLOEXEC | if wait { 0 } else { MSG_DONTWAIT };
        match syscall!(nr::RECVMSG, fd, &raw mut message, flags) {
            Err(EINTR) => {}
            Err(e) => return Err(e),
            Ok(n) => {
                // The one control message says its own length; that of the whole is padded.
                let mut len = [0; 8];
                len.copy_from_slice(&control.0[..8]);
                let used = if message.control_len >= 16 {
                    usize::from_ne_bytes(len)
                } else {
                    16
                };
                let count = used.saturating_sub(16) / 4;
                for (i, slot) in fds.iter_mut().enumerate().take(count) {
                    let mut bytes = [0; 4];
                    bytes.copy_from_slice(&control.0[16 + 4 * i..20 + 4 * i]);
                    *slot = Fd::from_ne_bytes(bytes);
                }
                return Ok((n, count));
            }
        }
    }
}

pub const EPOLLIN: u32 = 1;
pub const EPOLLOUT: u32 = 4;

#[cfg_attr(target_arch = "x86_64", repr(C, packed))]
#[cfg_attr(not(target_arch = "x86_64"), repr(C))]
#[derive(Clone, Copy)]
pub struct Event {
    pub events: u32,
    pub data: u64,
}

pub fn epoll_create() -> Result<Fd> {
    syscall!(nr::EPOLL_CREATE1, O_CLOEXEC).map(|fd| fd as Fd)
}

pub fn epoll_add(epoll: Fd, fd: Fd, data: u64) -> Result {
    let event = Event {
        events: EPOLLIN,
        data,
    };
    syscall!(nr::EPOLL_CTL, epoll, 1, fd, &raw const event)
}

/// Changes what `fd` is watched for.
pub fn epoll_change(epoll: Fd, fd: Fd, events: u32, data: u64) -> Result {
    let event = Event { events, data };
    syscall!(nr::EPOLL_CTL, epoll, 3, fd, &raw const event)
}

pub fn epoll_remove(epoll: Fd, fd: Fd) {
    let event = Event { events: 0, data: 0 };
    let _ = syscall!(nr::EPOLL_CTL, epoll, 2, fd, &raw const event);
}

/// Waits for events for at most `timeout` nanoseconds (`u64::MAX`: for ever).
pub fn epoll_wait(epoll: Fd, events: &mut [Event], timeout: u64) -> Result {
    let spec = [timeout / 1_000_000_000, timeout % 1_000_000_000];
    let at = if timeout == u64::MAX {
        core::ptr::null()
    } else {
        spec.as_ptr()
    };
    match syscall!(
        nr_new::EPOLL_PWAIT2,
        epoll,
        events.as_mut_ptr(),
        events.len(),
        at,
        0,
        8
    ) {
        // Before Linux 5.11 there is no such call, and older seccomp profiles of outer containers say EPERM.
        Err(ENOSYS | EPERM) => {
            let ms = if timeout == u64::MAX {
                -1
            } else {
                timeout.div_ceil(1_000_000).min(1 << 30) as isize
            };
            syscall!(
                nr::EPOLL_PWAIT,
                epoll,
                events.as_mut_ptr(),
                events.len(),
                ms,
                0,
                8
            )
        }
        other => other,
    }
}

#[repr(C)]
pub struct PollFd {
    pub fd: Fd,
    pub events: u16,
    pub revents: u16,
}

/// Waits until one of `fds` is ready, for at most `timeout` nanoseconds (`u64::MAX`: for ever).
pub fn poll(fds: &mut [PollFd], timeout: u64) -> Result {
    let spec = [timeout / 1_000_000_000, timeout % 1_000_000_000];
    let at = if timeout == u64::MAX {
        core::ptr::null()
    } else {
        spec.as_ptr()
    };
    syscall!(nr::PPOLL, fds.as_mut_ptr(), fds.len(), at, 0, 8)
}

/// Waits for that many nanoseconds.
pub fn sleep(time: u64) {
    let _ = poll(&mut [], time);
}
