//! The keyword arguments of `stockade.run` and its like, by name, as fields of a specification.

use crate::bytes::Bytes;
use crate::error::Error;
use crate::python::convert::Field;
use crate::python::spec::Spec;
use crate::rates::DeviceRate;
use crate::spec;
use crate::update::Update;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

impl Spec {
    /// This with other `args`, if given, and with `options`.
    pub(super) fn with(
        mut self,
        args: Option<Bound<'_, PyAny>>,
        options: Option<Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        if let Some(args) = &args {
            let field = Field {
                name: "args",
                value: args,
            };
            self.0.args = field.sequence("[\"ls\", \"-l\"] (there is no shell)", |f| {
                Ok(Bytes(f.os_bytes()?))
            })?;
        }
        let Some(options) = options else {
            return Ok(self);
        };
        for (name, value) in options.iter() {
            let name: String = name.extract()?;
            self.set(Field {
                name: &name,
                value: &value,
            })?;
        }
        if options.contains("wall_time")? && options.contains("timeout")? {
            return Err(
                Error::invalid("timeout: the same as wall_time, which is given too").into(),
            );
        }
        // Last, so that it adds to `volumes` and fits `rootfs` whatever the order of the options.
        if let Some(value) = options.get_item("python")? {
            self.python(Field {
                name: "python",
                value: &value,
            })?;
        }
        Ok(self)
    }

    /// Sets the field that `field` names.
    fn set(&mut self, field: Field<'_, '_>) -> PyResult<()> {
        let spec = &mut self.0;
        let given = (!field.value.is_none()).then_some(field);
        match field.name {
            "env" => {
                let bytes = |f: Field<'_, '_>| Ok(Bytes(f.os_bytes()?));
                spec.env = given
                    .map(|f| f.mapping(bytes, bytes))
                    .transpose()?
                    .unwrap_or_default();
            }
            "cwd" => spec.cwd = given.map(Field::text).transpose()?,
            "input" => spec.input = given.map(Field::content).transpose()?,
            "stdin" => spec.stdin = given.map(Field::stdio).transpose()?,
            "stdout" => spec.stdout = given.map(Field::stdio).transpose()?,
            "stderr" => spec.stderr = given.map(Field::stdio).transpose()?,
            "files" => {
                let files = given.map(|f| f.mapping(|path| path.text(), |file| file.file()));
                spec.files = files.transpose()?.unwrap_or_default();
            }
            "outputs" => {
                let outputs = given.map(|f| f.sequence("[\"out.txt\"]", |path| path.text()));
                spec.outputs = outputs.transpose()?.unwrap_or_default();
            }
            "output_file_size" => spec.output_file_size = given.map(Field::size).transpose()?,
            "rootfs" => {
                spec.rootfs = given.map(rootfs).transpose()?.unwrap_or_default();
            }
            "image" => spec.image = given.map(Field::text).transpose()?,
            "entrypoint" => {
                let bytes = |f: Field<'_, '_>| Ok(Bytes(f.os_bytes()?));
                spec.entrypoint = given
                    .map(|f| f.sequence("[\"python3\"]", bytes))
                    .transpose()?;
            }
            "store" => spec.store = given.map(Field::text).transpose()?,
            "overlay" => {
                let words = "\"auto\", \"kernel\", \"fuse\" or \"copy\"";
                spec.overlay = given.map(|f| f.word(words)).transpose()?;
            }
            "read_only" => {
                spec.read_only = given.map(Field::boolean).transpose()?.unwrap_or_default();
            }
            "upper_dir" => spec.upper_dir = given.map(Field::text).transpose()?,
            "volumes" => {
                let volumes =
                    given.map(|f| f.sequence("[\"/data:/data:ro\"]", |volume| volume.parse()));
                spec.volumes = volumes.transpose()?.unwrap_or_default();
            }
            "tmpfs" => {
                let tmpfs =
                    given.map(|f| f.sequence("[\"/scratch:size=64m\"]", |tmpfs| tmpfs.parse()));
                spec.tmpfs = tmpfs.transpose()?.unwrap_or_default();
            }
            "network" => {
                let network = given.map(|f| f.word("\"none\", \"loopback\" or \"host\""));
                spec.network = network.transpose()?.unwrap_or_default();
            }
            "isolation" => {
                let isolation = given.map(|f| f.word("\"namespaces\" or \"restrict\""));
                spec.isolation = isolation.transpose()?.unwrap_or_default();
            }
            "user" => spec.user = given.map(user).transpose()?,
            "profile" => {
                spec.profile = given.map(profile).transpose()?.unwrap_or_default();
            }
            "hostname" => spec.hostname = given.map(Field::text).transpose()?,
            "cpu_time" => spec.cpu_time = given.map(Field::duration).transpose()?,
            "deterministic" => {
                spec.deterministic = given.map(Field::boolean).transpose()?.unwrap_or_default()
            }
            "uptime" => spec.uptime = given.map(Field::duration).transpose()?,
            "wall_time" | "timeout" => spec.wall_time = given.map(Field::duration).transpose()?,
            "memory" => spec.memory = given.map(Field::size).transpose()?,
            "swap" => spec.swap = given.map(Field::size).transpose()?,
            "cpus" => spec.cpus = given.map(Field::number).transpose()?,
            "cpu_weight" => spec.cpu_weight = given.map(Field::count).transpose()?,
            "cpu_idle" => {
                spec.cpu_idle = given.map(Field::boolean).transpose()?.unwrap_or_default()
            }
            "cpuset_cpus" => spec.cpuset_cpus = given.map(Field::text).transpose()?,
            "nice" => spec.nice = given.map(Field::integer).transpose()?,
            "oom_score_adj" => spec.oom_score_adj = given.map(Field::integer).transpose()?,
            "stop_signal" => spec.stop_signal = given.map(Field::integer).transpose()?,
            "oom_group" => spec.oom_group = given.map(Field::boolean).transpose()?,
            "io_read_bps" => spec.io_read_bps = rates(given)?,
            "io_write_bps" => spec.io_write_bps = rates(given)?,
            "io_read_iops" => spec.io_read_iops = rates(given)?,
            "io_write_iops" => spec.io_write_iops = rates(given)?,
            "io_weight" => spec.io_weight = given.map(Field::count).transpose()?,
            "hugetlb" => {
                let huge = given.map(|f| f.sequence("[\"2m:64m\"]", |huge| huge.parse()));
                spec.hugetlb = huge.transpose()?.unwrap_or_default();
            }
            "pids" => spec.pids = given.map(Field::count).transpose()?,
            "output" => spec.output = given.map(Field::size).transpose()?,
            "file_size" => spec.file_size = given.map(Field::size).transpose()?,
            "open_files" => spec.open_files = given.map(Field::count).transpose()?,
            "stack" => spec.stack = given.map(Field::size).transpose()?,
            "disk" => spec.disk = given.map(Field::size).transpose()?,
            "inodes" => spec.inodes = given.map(Field::count).transpose()?,
            "output_overflow" => {
                let overflow = given.map(|f| f.word("\"kill\" or \"discard\""));
                spec.output_overflow = overflow.transpose()?.unwrap_or_default();
            }
            "enforce" => {
                let enforce = given.map(|f| f.word("\"strict\" or \"best-effort\""));
                spec.enforce = enforce.transpose()?.unwrap_or_default();
            }
            "cgroup_parent" => spec.cgroup_parent = given.map(Field::text).transpose()?,
            "python" => {}
            name => return Err(PyTypeError::new_err(format!("there is no option `{name}`"))),
        }
        Ok(())
    }

    /// Adds the volumes that the calling interpreter needs.
    fn python(&mut self, field: Field<'_, '_>) -> PyResult<()> {
        if !field.value.is_truthy()? {
            return Ok(());
        }
        if self.0.rootfs != spec::Rootfs::Host {
            return Err(field.refuse("the interpreter needs the libraries of rootfs=\"host\""));
        }
        let module = field.value.py().import("stockade._interpreter")?;
        for path in module.call_method0("directories")?.try_iter()? {
            let path = Field {
                name: field.name,
                value: &path?,
            }
            .text()?;
            let volume = spec::Volume {
                host: path.clone(),
                inside: path,
                writable: false,
            };
            if !self.0.volumes.contains(&volume) {
                self.0.volumes.push(volume);
            }
        }
        Ok(())
    }
}

fn rates(given: Option<Field<'_, '_>>) -> PyResult<Vec<DeviceRate>> {
    let rates = given.map(|f| f.sequence("[\"/dev/sda:10m\"]", |rate| rate.parse()));
    Ok(rates.transpose()?.unwrap_or_default())
}

/// A path or `host`, or several paths.
fn rootfs(field: Field<'_, '_>) -> PyResult<spec::Rootfs> {
    match field.text() {
        Ok(path) => Ok(path.into()),
        Err(_) => Ok(spec::Rootfs::Layers(field.sequence(
            "\"/srv/root\" or [\"/srv/base\", \"/srv/more\"]",
            |path| path.text(),
        )?)),
    }
}

/// The keyword arguments of `Process.update`.
pub(super) fn update(limits: Option<Bound<'_, PyDict>>) -> PyResult<Update> {
    let mut update = Update::new();
    let Some(limits) = limits else {
        return Ok(update);
    };
    let spec = Spec(spec::Spec::default())
        .with(None, Some(limits.clone()))?
        .0;
    for name in limits.keys() {
        let name: String = name.extract()?;
        let field = if name == "timeout" {
            "wall_time"
        } else {
            &name
        };
        if !update.take(field, &spec) {
            return Err(Error::invalid(format!(
                "{name}: it cannot be changed while the program runs; what can is {}",
                Update::NAMES.join(", ")
            ))
            .into());
        }
    }
    Ok(update)
}

/// A profile's name, or Docker's document as text or as what `json` makes of it.
fn profile(field: Field<'_, '_>) -> PyResult<spec::Profile> {
    let py = field.value.py();
    let mapping = field.value.cast::<pyo3::types::PyMapping>().is_ok();
    let text = match mapping {
        true => {
            let dict = py.get_type::<PyDict>().call1((field.value,))?;
            py.import("json")?.call_method1("dumps", (dict,))?
        }
        false => field.value.clone(),
    };
    Field {
        name: field.name,
        value: &text,
    }
    .parse()
}

/// `uid[:gid]`, or a uid as an int.
fn user(field: Field<'_, '_>) -> PyResult<String> {
    match field.count() {
        Ok(uid) => Ok(uid.to_string()),
        Err(_) => field.text(),
    }
}
