//! Other limits for a running program.

use super::Process;
use crate::cgroup::{Controllers, Kind, Unchanged};
use crate::cores::{self, Lease};
use crate::enforcement;
use crate::error::{Error, ErrorKind};
use crate::limits::{self, kernel_at_least};
use crate::plan::{bytes_of, read_of};
use crate::spec::{Enforce, Spec};
use crate::update::Update;
use crate::wire::{self, GROUP, KILL, Message, REASON_MEMORY, UPDATE};
use std::sync::PoisonError;

const WHAT: &str = "changing the limits";

impl Process {
    /// Changes limits of the running program, up or down; as `docker update` and `runc update` do. The outcome's verdict
    /// and [`enforcement`](crate::Outcome::enforcement) go by those that it has at the end. No error if it has ended.
    ///
    /// A limit below what is used already has its effect at once: `cpu_time` and `wall_time` end the program, `memory`
    /// has the kernel take back what it can and ends the program if that is not enough, `output` ends it unless what is
    /// over is discarded; of `pids` no more can be added. A memory limit that the kernel has to make room for returns
    /// when it has; only the caller waits. That of a paused program counts too; its clocks go on with
    /// [`resume`](Process::resume). Two updates at the same time come one after the other.
    ///
    /// # Errors
    /// As at the start, and nothing is changed: a value that is out of range; a limit that nothing holds
    /// ([`ErrorKind::Unsupported`], unless [`enforce`](crate::Spec::enforce) is `BestEffort`), such as `cpus` for a
    /// program that was started without `cpus` and `cpu_weight`, whose group has no CPU controller; `pids` where no
    /// cgroup holds it. The handle belongs to another process.
    pub fn update(&self, update: &Update) -> Result<(), Error> {
        self.channel.check_owner()?;
        let mut limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        if self.lock().ended.is_some() {
            return Ok(());
        }
        let old = limits.clone();
        let mut new = old.clone();
        update.apply(&mut new);
        limits::check(&new)?;
        self.check_changeable(&old, &new)?;
        enforcement::check(&new, &self.host)?;
        // First, since the verdict may depend on it before the call that brings it about has returned.
        self.judge_by(&old, &new);
        let not = match self.put_in_force(&old, &new) {
            Ok(()) => None,
            Err(Unchanged::MemoryInUse) => {
                self.channel.tell(KILL, REASON_MEMORY)?;
                None
            }
            Err(Unchanged::Ended) => Some(Ok(())),
            Err(Unchanged::Failed(error)) => Some(Err(error)),
        };
        if let Some(result) = not {
            self.judge_by(&new, &old);
            return result;
        }
        if update.output.is_some() {
            self.lock().streams.limit(new.output);
        }
        *limits = new;
        Ok(())
    }

    /// Refuses what could have been had at the start only.
    fn check_changeable(&self, old: &Spec, new: &Spec) -> Result<(), Error> {
        let unsupported = |why: String| Err(Error::new(ErrorKind::Unsupported, why));
        let cgroup = &self.host.cgroup;
        if new.pids != old.pids
            && cgroup.enforcement("pids", new).is_none()
            && kernel_at_least(5, 14)
        {
            let why = cgroup.why_not().unwrap_or("there is no pids controller");
            return unsupported(format!(
                "pids: here RLIMIT_NPROC holds it, which cannot be changed for processes that run: {why}"
            ));
        }
        if new.cpuset_cpus != old.cpuset_cpus {
            if new.cpuset_cpus.as_deref() == Some(cores::EXCLUSIVE) {
                return Err(Error::invalid(
                    "cpuset_cpus: processors of its own can be had at the start only",
                ));
            }
            if cgroup.enforcement("cpuset_cpus", new).is_none() && new.enforce == Enforce::Strict {
                return unsupported(
                    "cpuset_cpus: the program's group has no cpuset controller, and sched_setaffinity(2) cannot be called \
                     for all processes that run: give a list at the start, on a host that has the controller"
                        .to_string(),
                );
            }
        }
        if let Some(controller) = Controllers::of(new).beyond(Controllers::of(old))
            && cgroup.kind() != Kind::None
            && !cgroup.has(controller)
            && new.enforce == Enforce::Strict
        {
            return unsupported(format!(
                "a limit needs the {controller} controller, which the program's group does not have: give a limit of that \
                 kind at the start (cpus, cpu_weight; cpuset_cpus; io_weight); cpu_weight=100 and io_weight=100 change \
                 nothing"
            ));
        }
        Ok(())
    }

    /// From now on the outcome goes by the limits of `new`.
    fn judge_by(&self, old: &Spec, new: &Spec) {
        let mut state = self.lock();
        if state.ended.is_some() {
            return;
        }
        state.judged.update(new);
        let shares = state.lease.as_ref().and_then(Lease::shares);
        let held = enforcement::changeable(new, &self.host, shares);
        for name in enforcement::changeable(old, &self.host, None).keys() {
            state.enforcement.remove(name);
        }
        state.enforcement.extend(held);
    }

    fn put_in_force(&self, old: &Spec, new: &Spec) -> Result<(), Unchanged> {
        let cgroup = &self.host.cgroup;
        let changes = cgroup.changes(old, new);
        let mut group = 0;
        if !changes.is_empty() {
            let question = Message {
                kind: GROUP,
                arg: 0,
            };
            let answer = self.ask(bytes_of(&question), WHAT);
            let answer = answer.map_err(Unchanged::Failed)?;
            let answer = answer.and_then(|bytes| read_of::<wire::Group>(&bytes));
            group = answer.ok_or(Unchanged::Ended)?.name;
            cgroup.change(group, &changes)?;
        }
        let order = wire::Update {
            kind: UPDATE,
            pad: 0,
            clocks: limits::clocks(new, cgroup, &cgroup.layout(new)),
        };
        let done = self.ask(bytes_of(&order), WHAT).inspect_err(|_| {
            cgroup.unchange(group, &changes);
        });
        match done.map_err(Unchanged::Failed)? {
            // What was written was in force at the end, and may have brought it about.
            None if changes.is_empty() => Err(Unchanged::Ended),
            _ => Ok(()),
        }
    }
}
