//! Which limits of a running program are to be others.

use crate::spec::Spec;
use std::time::Duration;

macro_rules! changeable {
    ($($(#[$doc:meta])* $name:ident: $type:ty;)*) => {
        /// Limits to change while a program runs, for [`Process::update`](crate::Process::update): a plain value.
        ///
        /// A limit that is not given stays as it is. One that is given replaces that of the [`Spec`](crate::Spec), with
        /// the same meaning and range; `None` takes it away, as if the specification had none.
        ///
        /// ```
        /// # use stockade::{Error, Spec, Update};
        /// # use std::time::Duration;
        /// # fn main() -> Result<(), Error> {
        /// let process = Spec::new(["sleep", "0.1"]).wall_time(Duration::from_secs(5)).spawn()?;
        /// process.update(&Update::new().wall_time(Some(Duration::from_secs(60))).cpu_time(None))?;
        /// # process.wait()?;
        /// # Ok(())
        /// # }
        /// ```
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct Update {
            $($(#[$doc])* pub $name: Option<Option<$type>>,)*
        }

        impl Update {
            $($(#[$doc])*
            #[must_use]
            pub fn $name(mut self, limit: Option<$type>) -> Self {
                self.$name = Some(limit);
                self
            })*

            /// Puts what is given into `spec`.
            pub(crate) fn apply(&self, spec: &mut Spec) {
                $(if let Some(limit) = &self.$name {
                    spec.$name = limit.clone();
                })*
            }

            /// Takes the field called `name` from `spec`; false if there is none of the name that can be changed.
            #[cfg(feature = "python")]
            pub(crate) fn take(&mut self, name: &str, spec: &Spec) -> bool {
                match name {
                    $(stringify!($name) => self.$name = Some(spec.$name.clone()),)*
                    _ => return false,
                }
                true
            }

            /// Those that can be changed, in words.
            #[cfg(feature = "python")]
            pub(crate) const NAMES: &[&str] = &[$(stringify!($name)),*];
        }

        /// Of `spec` the limits that can be changed, and those that they are checked and held together with.
        pub(crate) fn changeable(spec: &Spec) -> Spec {
            Spec {
                $($name: spec.$name.clone(),)*
                oom_group: spec.oom_group,
                cpu_idle: spec.cpu_idle,
                nice: spec.nice,
                oom_score_adj: spec.oom_score_adj,
                io_read_bps: spec.io_read_bps.clone(),
                io_write_bps: spec.io_write_bps.clone(),
                io_read_iops: spec.io_read_iops.clone(),
                io_write_iops: spec.io_write_iops.clone(),
                hugetlb: spec.hugetlb.clone(),
                stack: spec.stack,
                enforce: spec.enforce,
                ..Spec::default()
            }
        }
    };
}

changeable! {
    /// [`Spec::cpu_time`](crate::Spec::cpu_time). What was used until now counts.
    cpu_time: Duration;
    /// [`Spec::wall_time`](crate::Spec::wall_time). It counts from the program's start, as ever.
    wall_time: Duration;
    /// [`Spec::memory`](crate::Spec::memory). If more is in use, the kernel takes back what it can and, if that is not
    /// enough, the program is ended: `MEMORY_LIMIT`.
    memory: u64;
    /// [`Spec::swap`](crate::Spec::swap). What is swapped out already stays there.
    swap: u64;
    /// [`Spec::pids`](crate::Spec::pids). If there are more, none is ended, and none can be added.
    pids: u64;
    /// [`Spec::cpus`](crate::Spec::cpus).
    cpus: f64;
    /// [`Spec::cpu_weight`](crate::Spec::cpu_weight).
    cpu_weight: u64;
    /// [`Spec::cpuset_cpus`](crate::Spec::cpuset_cpus), a list of processors.
    cpuset_cpus: String;
    /// [`Spec::io_weight`](crate::Spec::io_weight).
    io_weight: u64;
    /// [`Spec::output`](crate::Spec::output); `None` is its default. Output that was discarded already stays so.
    output: u64;
}

impl Update {
    /// Nothing is to change.
    pub fn new() -> Self {
        Update::default()
    }
}
