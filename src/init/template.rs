//! Roots for sandboxes: mount namespaces whose copy, by CLONE_NEWNS, is a sandbox's root.
//!
//! A root is a small read-only tmpfs with read-only binds of the host on it. It is made once per shape and kept as a
//! namespace descriptor, since copying a namespace with few mounts is far cheaper than building and pivoting each time.

use crate::attributes::restrict;
use crate::plan::{Plan, Text, pair, text};
use crate::s;
use crate::supervisor::SANDBOXES_MAX;
use crate::sys::*;
use crate::table::Table;
use crate::wire::*;

mod own;

use own::{own_files, refresh};

/// How many are kept that no sandbox has.
const KEPT: usize = 16;
/// Besides those, as many as sandboxes can have.
const ALL: usize = SANDBOXES_MAX + KEPT;
/// Binds in one root.
const BINDS_MAX: usize = 160;

/// What a sandbox asks for.
#[derive(Clone, Copy, PartialEq)]
struct Key {
    shape: u64,
    user: (u32, u32),
}

/// One bit for each bind.
type Binds = [u64; BINDS_MAX.div_ceil(64)];

#[derive(Clone, Copy)]
struct Template {
    key: Key,
    namespace: Fd,
    last_used: u64,
    /// It is for one sandbox at a time, since locks and watches are about inodes; `leased` while one has it.
    own: bool,
    leased: bool,
    /// Which of its binds with [`BIND_OWN`] have an overlay over them, and how many have not.
    overlaid: Binds,
    shared: Shared,
}

/// The host's view and the roots made from it.
pub struct Templates {
    /// The mount namespace as the host sees it, and its root directory there (the host may be in a chroot).
    host: Fd,
    host_root: Fd,
    made: Table<Template, ALL>,
    /// The one that we are in.
    current: Option<usize>,
    clock: u64,
}

/// Where it went wrong, as in [`Failure`].
pub type Fault = (u32, u32, i32);

fn step(which: u32) -> impl Fn(i32) -> Fault {
    move |errno| (IN_STEP, which, errno)
}

impl Templates {
    pub const fn new() -> Self {
        Templates {
            host: -1,
            host_root: -1,
            made: Table::new(),
            current: None,
            clock: 0,
        }
    }

    /// Remembers the host's view; called before anything is mounted.
    pub fn start(&mut self) -> Result<()> {
        self.host = openat(AT_FDCWD, s!("/proc/self/ns/mnt"), O_RDONLY, 0)?;
        self.host_root = openat(AT_FDCWD, s!("/"), O_PATH | O_DIRECTORY, 0)?;
        Ok(())
    }

    /// Goes to a root for this plan, making it if there is none that is free; gives its place.
    pub fn enter(&mut self, plan: &Plan, map: u32) -> core::result::Result<usize, Fault> {
        let key = Key {
            shape: plan.head.template_key,
            user: (plan.head.user, plan.head.group),
        };
        self.clock += 1;
        let free = |template: &Option<Template>| {
            template.is_some_and(|template| template.key == key && !template.leased)
        };
        if let Some(found) = (0..self.made.high()).find(|place| free(&self.made[*place]))
            && self
                .enter_again(found, plan)
                .map_err(step(STEP_UNSHARE_MOUNTS))?
        {
            return Ok(found);
        }
        self.current = None;
        let mut template = self.build(plan, map)?;
        (template.key, template.last_used) = (key, self.clock);
        let place = self.room();
        self.made[place] = Some(template);
        self.current = Some(place);
        Ok(place)
    }

    /// Goes to the root at `place`; false if it is of no use any more, and gone.
    fn enter_again(&mut self, place: usize, plan: &Plan) -> Result<bool> {
        let Some(template) = self.made[place].as_mut() else {
            return Ok(false);
        };
        template.last_used = self.clock;
        if self.current != Some(place) {
            setns(template.namespace, CLONE_NEWNS)?;
            self.current = Some(place);
        }
        if refresh(plan, &template.overlaid).is_err() {
            self.forget(place);
            return Ok(false);
        }
        Ok(true)
    }

    /// A free place.
    fn room(&mut self) -> usize {
        self.keep(KEPT - 1);
        let high = self.made.high();
        (0..high)
            .find(|place| self.made[*place].is_none())
            .unwrap_or(high)
    }

    /// If more than `most` are there that no sandbox has, the one of them goes that was not used for longest.
    fn keep(&mut self, most: usize) {
        let idle = |place: &usize| self.made[*place].is_some_and(|template| !template.leased);
        if (0..self.made.high()).filter(idle).count() > most {
            let used = |place: &usize| self.made[*place].map_or(0, |template| template.last_used);
            if let Some(oldest) = (0..self.made.high()).filter(idle).min_by_key(used) {
                self.forget(oldest);
            }
        }
    }

    fn forget(&mut self, place: usize) {
        if let Some(template) = self.made[place].take() {
            close(template.namespace);
        }
        if self.current == Some(place) {
            self.current = None;
        }
        self.made.trim();
    }

    /// A sandbox has the root at `place`: which place to release in the end, until when nobody else gets it. None of a root that
    /// others have too, as by then another's may be in its place.
    pub fn lease(&mut self, place: usize) -> Option<usize> {
        let template = self.made[place].as_mut().filter(|template| template.own)?;
        template.leased = true;
        Some(place)
    }

    /// All processes of the sandbox that had it are dead, and their locks and watches gone.
    pub fn release(&mut self, place: usize) {
        if let Some(template) = self.made[place].as_mut() {
            template.leased = false;
        }
        self.keep(KEPT); // of many at once most are of no more use
    }

    /// What of the root at `place` others have, too.
    pub fn shared(&self, place: usize) -> Shared {
        self.made[place].map_or(Shared::default(), |template| template.shared)
    }

    /// Detached trees of the plan's host directories, in order; leaves us where [`enter`](Self::enter) has put us.
    pub fn open_volumes(
        &mut self,
        plan: &Plan,
        trees: &mut [Fd; VOLUMES_MAX],
    ) -> core::result::Result<usize, Fault> {
        if plan.head.volumes == 0 {
            return Ok(0);
        }
        let current = self.current.take(); // wherever this leaves us, if it fails, is no root
        self.go_to_host().map_err(step(STEP_HOST_MOUNTS))?;
        let mut count = 0;
        let mut result = Ok(0);
        for (at, payload) in plan
            .steps(plan.head.setup)
            .filter(|(at, _)| at.op.code == S_SOURCE)
        {
            let opened = text(payload).and_then(|path| open_bind(path, at.op.flags));
            match opened {
                Ok(Some(tree)) if count < VOLUMES_MAX => {
                    trees[count] = tree;
                    count += 1;
                    result = Ok(count);
                }
                Ok(_) => {}
                Err(errno) => {
                    result = Err((IN_SETUP, at.index, errno));
                    break;
                }
            }
        }
        if let Some(back) = current.and_then(|place| self.made[place]) {
            match setns(back.namespace, CLONE_NEWNS) {
                Ok(_) => self.current = current,
                Err(errno) => result = Err((IN_STEP, STEP_HOST_MOUNTS, errno)),
            }
        }
        if result.is_err() {
            trees[..count].iter().for_each(|fd| close(*fd));
        }
        result
    }

    fn go_to_host(&self) -> Result<()> {
        setns(self.host, CLONE_NEWNS)?;
        fchdir(self.host_root)?;
        chroot(s!("."))?;
        Ok(())
    }

    fn build(&mut self, plan: &Plan, map: u32) -> core::result::Result<Template, Fault> {
        let mut trees = [-1; BINDS_MAX];
        let result = self.build_from(plan, map, &mut trees);
        trees.iter().for_each(|fd| close(*fd));
        result
    }

    fn build_from(
        &mut self,
        plan: &Plan,
        map: u32,
        trees: &mut [Fd; BINDS_MAX],
    ) -> core::result::Result<Template, Fault> {
        // Sources are looked up where the host looks things up, each becoming a detached tree.
        self.go_to_host().map_err(step(STEP_HOST_MOUNTS))?;
        let mut count = 0;
        for (at, payload) in plan.steps(plan.head.template) {
            let fault = |errno| (IN_TEMPLATE, at.index, errno);
            if !has_source(at.op.code) {
                continue;
            }
            let (source, _) = pair(payload).map_err(fault)?;
            let opened = match at.op.code {
                T_BIND => open_bind(source, at.op.flags),
                T_DEV => open_device(source, at.op.a),
                _ => open_file(source),
            };
            if count == BINDS_MAX {
                return Err(fault(EINVAL));
            }
            trees[count] = opened.map_err(fault)?.unwrap_or(-1);
            count += 1;
        }
        // The new root is mounted over "/" of a copy of the host's namespace, then everything else goes.
        setns(self.host, CLONE_NEWNS).map_err(step(STEP_HOST_MOUNTS))?;
        unshare(CLONE_NEWNS).map_err(step(STEP_UNSHARE_MOUNTS))?;
        mount(s!("none"), s!("/"), s!(""), MS_REC | MS_PRIVATE, s!(""))
            .map_err(step(STEP_UNSHARE_MOUNTS))?;
        let root = new_tmpfs().map_err(step(STEP_ROOT_TMPFS))?;
        let entered = fchdir(root).and_then(|_| move_mount(root, AT_FDCWD, s!("/")));
        close(root);
        entered.map_err(step(STEP_ROOT_TMPFS))?;
        let mut next = 0;
        for (at, payload) in plan.steps(plan.head.template) {
            let mut tree = -1;
            if has_source(at.op.code) {
                tree = trees[next];
                next += 1;
            }
            make(at.op, payload, tree).map_err(|errno| (IN_TEMPLATE, at.index, errno))?;
        }
        pivot_root(s!("."), s!(".")).map_err(step(STEP_PIVOT))?;
        umount(s!("."), MNT_DETACH).map_err(step(STEP_PIVOT))?;
        chdir(s!("/")).map_err(step(STEP_PIVOT))?;
        let root = openat(AT_FDCWD, s!("/"), O_PATH | O_DIRECTORY, 0).map_err(step(STEP_PIVOT))?;
        let attributes = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
        let sealed = mount_setattr(root, attributes, false);
        close(root);
        match sealed {
            Err(ENOSYS) => seal_by_mounts(plan)?,
            result => result.map(|_| ()).map_err(step(STEP_ROOT_TMPFS))?,
        }
        let mut template = Template {
            key: Key {
                shape: 0,
                user: (0, 0),
            },
            namespace: -1,
            last_used: 0,
            own: false,
            leased: false,
            overlaid: Binds::default(),
            shared: Shared::default(),
        };
        own_files(plan, map, &mut template)?;
        let path = s!("/proc/self/ns/mnt");
        template.namespace =
            openat(AT_FDCWD, path, O_RDONLY, 0).map_err(step(STEP_NAMESPACE_FILES))?;
        Ok(template)
    }
}

const DEVICE_ATTRIBUTES: u64 = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC;

pub fn bind_attributes(flags: u16) -> u64 {
    let mut attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
    if flags & BIND_WRITABLE == 0 {
        attributes |= MOUNT_ATTR_RDONLY;
    }
    if flags & BIND_NOEXEC != 0 {
        attributes |= MOUNT_ATTR_NOEXEC;
    }
    attributes
}

/// Gives everything in a new root, in which we are, the attributes that its detached trees could not be given.
fn seal_by_mounts(plan: &Plan) -> core::result::Result<(), Fault> {
    for (at, payload) in plan.steps(plan.head.template) {
        let (attributes, recursive) = match at.op.code {
            T_BIND => (bind_attributes(at.op.flags), true),
            T_DEV => (DEVICE_ATTRIBUTES, false),
            _ => continue,
        };
        let sealed = pair(payload).and_then(|(_, path)| {
            let path = Text::<4096>::new().add(b"/").add(text(path)?.bytes());
            match restrict(path.bytes(), attributes, recursive) {
                Err(ENOENT) if at.op.flags & BIND_OPTIONAL != 0 => Ok(()), // its source was not there
                result => result,
            }
        });
        sealed.map_err(|errno| (IN_TEMPLATE, at.index, errno))?;
    }
    let attributes = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
    restrict(b"/", attributes, false).map_err(step(STEP_ROOT_TMPFS))
}

fn new_tmpfs() -> Result<Fd> {
    let context = fs_open(s!("tmpfs"))?;
    let made = fs_create(
        context,
        &[(s!("mode"), s!("0755")), (s!("size"), s!("16m"))],
    );
    close(context);
    made
}

/// One step of a root, relative to the working directory; `tree` belongs to binds.
fn make(op: Op, payload: &[u8], tree: Fd) -> Result<()> {
    match op.code {
        T_DIR => {
            let path = text(payload)?;
            match mkdirat(AT_FDCWD, path, op.a as u32) {
                Ok(_) | Err(EEXIST) => {}
                Err(e) => return Err(e),
            }
            match owner_ids(op.b) {
                Some((user, group)) => fchownat(AT_FDCWD, path, user, group).map(|_| ()),
                None => Ok(()),
            }
        }
        T_LINK => {
            let (target, path) = pair(payload)?;
            symlinkat(target, AT_FDCWD, text(path)?).map(|_| ())
        }
        T_FILE => {
            let (path, content) = pair(payload)?;
            let fd = openat(
                AT_FDCWD,
                path,
                O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW,
                op.a as u32,
            )?;
            let written = write_all(fd, content);
            close(fd);
            written
        }
        T_BIND | T_DEV => {
            if tree < 0 {
                return Ok(()); // an optional source that is not there
            }
            let (_, path) = pair(payload)?;
            let path = text(path)?;
            if fstat(tree)?.mode() & S_IFMT == S_IFDIR {
                match mkdirat(AT_FDCWD, path, 0o755) {
                    Ok(_) | Err(EEXIST) => {}
                    Err(e) => return Err(e),
                }
            } else {
                close(openat(
                    AT_FDCWD,
                    path,
                    O_WRONLY | O_CREAT | O_NOFOLLOW,
                    0o644,
                )?);
            }
            move_mount(tree, AT_FDCWD, path).map(|_| ())
        }
        T_COPY => {
            if tree < 0 {
                return Ok(());
            }
            let (_, path) = pair(payload)?;
            let to = openat(
                AT_FDCWD,
                text(path)?,
                O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW,
                op.a as u32,
            )?;
            let copied = copy(tree, to);
            close(to);
            copied
        }
        T_PROC => {
            let path = text(payload)?;
            mkdirat(AT_FDCWD, path, 0o555)?;
            mount(
                s!("proc"),
                path,
                s!("proc"),
                MS_NOSUID | MS_NODEV | MS_NOEXEC,
                s!(""),
            )
            .map(|_| ())
        }
        _ => Err(EPROTO),
    }
}

/// Whether a step has a source on the host, opened before the rest is made.
fn has_source(code: u16) -> bool {
    matches!(code, T_BIND | T_DEV | T_COPY)
}

fn copy(from: Fd, to: Fd) -> Result<()> {
    let mut buffer = [0; 4096];
    loop {
        match read(from, &mut buffer)? {
            0 => return Ok(()),
            n => write_all(to, &buffer[..n])?,
        }
    }
}

/// A regular file to copy; `None` if there is none that we may read.
fn open_file(path: Str) -> Result<Option<Fd>> {
    let Ok(fd) = openat(AT_FDCWD, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0) else {
        return Ok(None);
    };
    match fstat(fd) {
        Ok(stat) if stat.mode() & S_IFMT == S_IFREG => Ok(Some(fd)),
        _ => {
            close(fd);
            Ok(None)
        }
    }
}

/// A detached tree of `path` with the mount attributes that `flags` ask for; `None` if it is optional and not there.
fn open_bind(path: Str, flags: u16) -> Result<Option<Fd>> {
    let opened = match flags & BIND_NO_LINK {
        0 => open_tree_clone(AT_FDCWD, path, true),
        _ => open_tree_of_no_link(path),
    };
    let tree = match opened {
        Err(ENOENT) if flags & BIND_OPTIONAL != 0 => return Ok(None),
        other => other?,
    };
    match mount_setattr(tree, bind_attributes(flags), true) {
        Ok(_) | Err(ENOSYS) => Ok(Some(tree)), // before Linux 5.12 it is done where the tree is attached
        Err(e) => {
            close(tree);
            Err(e)
        }
    }
}

fn open_tree_of_no_link(path: Str) -> Result<Fd> {
    let tree = open_tree_at(AT_FDCWD, path, AT_RECURSIVE | AT_SYMLINK_NOFOLLOW)?;
    match fstat(tree) {
        Ok(stat) if stat.mode() & S_IFMT != S_IFLNK => Ok(tree),
        Ok(_) => {
            close(tree);
            Err(ELOOP)
        }
        Err(errno) => {
            close(tree);
            Err(errno)
        }
    }
}

/// The device node `path`, if it is the character device that it should be.
fn open_device(path: Str, rdev: u64) -> Result<Option<Fd>> {
    let tree = open_tree_clone(AT_FDCWD, path, false)?;
    let checked = fstat(tree).and_then(|stat| {
        if stat.mode() & S_IFMT != S_IFCHR || stat.rdev() != rdev {
            return Err(EINVAL);
        }
        mount_setattr(tree, DEVICE_ATTRIBUTES, false)
    });
    match checked {
        Ok(_) | Err(ENOSYS) => Ok(Some(tree)),
        Err(e) => {
            close(tree);
            Err(e)
        }
    }
}
