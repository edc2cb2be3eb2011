//! Files and directories.

use super::*;

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

/// Has them closed at an exec.
pub fn close_range_at_exec(first: Fd, last: u32) -> Result {
    const CLOSE_RANGE_CLOEXEC: usize = 4;
    syscall!(nr_new::CLOSE_RANGE, first, last, CLOSE_RANGE_CLOEXEC)
}

pub fn dup_to(fd: Fd, to: Fd, cloexec: bool) -> Result {
    syscall!(nr::DUP3, fd, to, if cloexec { O_CLOEXEC } else { 0 })
}

/// A copy of `fd`, closed at an exec, with a number of at least `from`.
pub fn dup_from(fd: Fd, from: Fd) -> Result<Fd> {
    const F_DUPFD_CLOEXEC: usize = 1030;
    syscall!(nr::FCNTL, fd, F_DUPFD_CLOEXEC, from).map(|fd| fd as Fd)
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

/// Changes the mode of what `fd`, which may be opened for its path alone, is open on. Since Linux 6.6.
pub fn fchmod_path(fd: Fd, mode: u32) -> Result {
    let nothing = s!("");
    syscall!(nr_new::FCHMODAT2, fd, nothing.ptr(), mode, AT_EMPTY_PATH)
}

/// Changes the mode, through links.
pub fn fchmodat(dir: Fd, path: Str, mode: u32) -> Result {
    syscall!(nr::FCHMODAT, dir, path.ptr(), mode)
}

/// Changes the owner, of a link itself.
pub fn fchownat(dir: Fd, path: Str, user: u32, group: u32) -> Result {
    syscall!(
        nr::FCHOWNAT,
        dir,
        path.ptr(),
        user,
        group,
        AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH
    )
}

pub fn symlinkat(target: Str, dir: Fd, path: Str) -> Result {
    syscall!(nr::SYMLINKAT, target.ptr(), dir, path.ptr())
}

pub fn unlinkat(dir: Fd, path: Str, flags: usize) -> Result {
    syscall!(nr::UNLINKAT, dir, path.ptr(), flags)
}

pub fn renameat(dir: Fd, path: Str, to: Fd, new: Str) -> Result {
    syscall!(nr::RENAMEAT2, dir, path.ptr(), to, new.ptr(), 0)
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Stat {
    head: [u64; 18],
}

pub const AT_SYMLINK_NOFOLLOW: usize = 0x100;

pub const S_IFMT: u32 = 0o170000;
pub const S_IFREG: u32 = 0o100000;
pub const S_IFDIR: u32 = 0o040000;
pub const S_IFCHR: u32 = 0o020000;
pub const S_IFLNK: u32 = 0o120000;
pub const S_IFIFO: u32 = 0o010000;

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
    /// `st_uid`.
    pub fn user(&self) -> u32 {
        if cfg!(target_arch = "x86_64") {
            (self.head[3] >> 32) as u32
        } else {
            self.head[3] as u32
        }
    }
    /// `st_gid`.
    pub fn group(&self) -> u32 {
        if cfg!(target_arch = "x86_64") {
            self.head[4] as u32
        } else {
            (self.head[3] >> 32) as u32
        }
    }
    /// `st_size`.
    pub fn size(&self) -> u64 {
        self.head[6]
    }
    /// `st_nlink`.
    pub fn links(&self) -> u64 {
        if cfg!(target_arch = "x86_64") {
            self.head[2]
        } else {
            self.head[2] >> 32
        }
    }
    /// Bytes that it takes up.
    pub fn allocated(&self) -> u64 {
        self.head[8] * 512
    }
    /// `st_mtim`: seconds and nanoseconds.
    pub fn modified(&self) -> [u64; 2] {
        [self.head[11], self.head[12]]
    }
}

pub fn fstat(fd: Fd) -> Result<Stat> {
    stat_of(fd, s!(""), AT_EMPTY_PATH)
}

/// Of a link itself.
pub fn fstatat(dir: Fd, path: Str) -> Result<Stat> {
    stat_of(dir, path, AT_SYMLINK_NOFOLLOW)
}

fn stat_of(dir: Fd, path: Str, flags: usize) -> Result<Stat> {
    let mut stat = Stat { head: [0; 18] };
    syscall!(nr::NEWFSTATAT, dir, path.ptr(), &raw mut stat, flags)?;
    Ok(stat)
}

/// What an open file or link is, in the kernel's own form: how many bytes of the buffer that is.
pub fn statx(fd: Fd, buffer: &mut [u8]) -> Result {
    const BASIC: usize = 0x7ff;
    const LENGTH: usize = 256;
    let buffer = buffer.get_mut(..LENGTH).ok_or(EINVAL)?;
    let nothing = s!("");
    syscall!(
        nr::STATX,
        fd,
        nothing.ptr(),
        AT_EMPTY_PATH,
        BASIC,
        buffer.as_mut_ptr()
    )?;
    Ok(LENGTH)
}

/// How many bytes the link's target has.
pub fn readlinkat(dir: Fd, path: Str, buffer: &mut [u8]) -> Result {
    syscall!(
        nr::READLINKAT,
        dir,
        path.ptr(),
        buffer.as_mut_ptr(),
        buffer.len()
    )
}

pub fn mkfifoat(dir: Fd, path: Str, mode: u32) -> Result {
    syscall!(nr::MKNODAT, dir, path.ptr(), S_IFIFO | mode, 0)
}

/// How many bytes the attribute has.
pub fn fgetxattr(fd: Fd, name: Str, buffer: &mut [u8]) -> Result {
    syscall!(
        nr::FGETXATTR,
        fd,
        name.ptr(),
        buffer.as_mut_ptr(),
        buffer.len()
    )
}

/// Sets when it was last modified, if that can be done.
pub fn set_time(fd: Fd, time: [u64; 2]) {
    let times = [time, time];
    let _ = syscall!(nr::UTIMENSAT, fd, 0, times.as_ptr(), 0);
}

/// Gives a file the content of another by sharing its blocks.
pub fn share(from: Fd, to: Fd) -> Result {
    const FICLONE: usize = 0x4004_9409;
    syscall!(nr::IOCTL, to, FICLONE, from)
}

/// How much is copied or written before `meanwhile` is called, which takes a few milliseconds.
pub const SLICE: usize = 4 << 20;

/// Copies the whole of one file to another.
pub fn copy_all(from: Fd, to: Fd, meanwhile: &mut dyn FnMut()) -> Result<()> {
    loop {
        match syscall!(nr::SENDFILE, to, from, 0, SLICE) {
            Ok(0) => return Ok(()),
            Ok(_) => meanwhile(),
            Err(EINTR) => {}
            Err(e) => return Err(e),
        }
    }
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

/// Goes to `offset` from the start.
pub fn seek(fd: Fd, offset: u64) -> Result {
    syscall!(nr::LSEEK, fd, offset, 0)
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
