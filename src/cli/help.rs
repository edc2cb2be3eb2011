//! What `stockade help` prints.

use super::help_made::MADE;
use super::{fail, say};
use std::ffi::OsString;
use std::process::ExitCode;

/// `stockade help`.
pub const OVERVIEW: &str = "\
Runs programs that are not trusted, each in a rootless sandbox of its own.

Usage:
  stockade run [FLAGS] [--] PROGRAM [ARGUMENTS]   run a program
  stockade build [FLAGS] [CONTEXT]                build an image from a Stockadefile
  stockade pull | load | import | save | export   images into the store, and out of it
  stockade images | inspect | diff                what is in the store
  stockade tag | commit | rmi                     other names, other configurations, and none
  stockade prune | df | verify                    the store itself
  stockade doctor [--json]                        say what this host can do, and how to mend what it lacks
  stockade help [COMMAND]                         explain a command
  stockade --version
";

/// `stockade help run`.
const RUN: &str = "\
Runs PROGRAM in a sandbox and passes its output on as it comes.

Usage: stockade run [FLAGS] [--] PROGRAM [ARGUMENTS]

By default the program sees the host's /usr read-only, an empty environment, no network, no other process and no
standard input; it may write below /work (its working directory), /tmp and /dev/shm, in memory, 64 MiB in all.

The program:
  -e, --env NAME[=VALUE]      set a variable; without =VALUE, to what it is here
      --env-file FILE         set the variables of a file, one NAME[=VALUE] on a line
  -w, --workdir, --cwd DIR    working directory, inside (default /work)
  -i, --interactive           let the program read standard input
      --file PATH=HOSTFILE    put a copy of a file inside before the start; PATH relative to /work
      --collect PATH=HOSTFILE after the end, copy a file out
      --output-file-size SIZE most bytes of each collected file (default 64m)

The sandbox:
      --image NAME            an image of the store as root; what it says of the program, variables, directory and user
                              holds where no flag says otherwise, as with docker run
      --pull always|missing|never          pull it from its registry first (default never)
      --entrypoint PROGRAM    in place of the image's
      --store DIR             the store that the image is in
      --diff                  say on standard error what differs in the root in the end: A added, C changed, D deleted
      --commit NAME           make an image of that, if the program ends well
      --commit-always         also if it does not
      --change INSTRUCTION    change its configuration, as in a Dockerfile: 'CMD [\"python3\"]', 'ENV A=b'
      --author TEXT, --message TEXT        for its history
      --rootfs DIR            a directory as root, read-only (default: the host's /usr and what it needs); again:
                              one more on top
      --overlay auto|kernel|fuse|copy      make that writable for the sandbox; the directories stay as they are
      --read-only             a root with an overlay is read-only all the same
      --upper-dir DIR         keep what is written in a directory of the host's, not in memory; with an overlay
  -v, --volume HOST:INSIDE[:ro|rw]         show a directory or file of the host (default ro)
      --tmpfs PATH[:size=64m,nr_inodes=1k] one more writable file system in memory
      --network none|loopback|host         (default none)
      --isolation namespaces|restrict      restrict: for hosts that refuse user namespaces; Landlock and a filter only
  -u, --user UID[:GID]        ids inside (default 1000:1000)
  -h, --hostname NAME         (default stockade)
      --profile default|strict|FILE        system calls that the program may make; a FILE in Docker's JSON format, as
                              with Docker's --security-opt seccomp=FILE
      --deterministic         addresses and the hash seeds of Python and Perl are the same in every run
      --uptime TIME           what CLOCK_MONOTONIC and CLOCK_BOOTTIME say at the start (default: the host's)

Limits (a SIZE is 4096, 64k, 256m, 1g; a TIME is 2, 0.5s, 500ms, 1m):
      --cpu-time TIME         CPU time of the whole tree of processes
      --wall-time, --timeout TIME
  -m, --memory SIZE           memory of the whole sandbox
      --pids, --pids-limit N  processes and threads at one time
      --swap SIZE             what may be swapped out beyond that (default 0)
      --cpus N                processors' time that it may use, such as 1.5
      --cpu-weight N          share of the processors while others want them too, 1 to 10000 (100)
      --cpu-idle              run only when nobody else wants a processor
      --cpuset-cpus LIST      the processors it may use, such as 0-2,4; exclusive: as many as --cpus, of its own
      --nice N                nice value, 0 to 19
      --oom-score-adj N       how much sooner than others it is ended when the host is out of memory
      --stop-timeout TIME     how long the program may go on after Ctrl-C or SIGTERM, which is passed on as
      --stop-signal SIGNAL    (default: at once, and the image's, else SIGTERM)
      --oom-group true|false  end all of it when its memory is used up (default true), or one process
      --io-read-bps, --device-read-bps DEVICE:RATE      bytes in a second, such as /dev/sda:10m
      --io-write-bps, --device-write-bps DEVICE:RATE
      --io-read-iops, --device-read-iops DEVICE:RATE    operations in a second
      --io-write-iops, --device-write-iops DEVICE:RATE
      --io-weight N           share of the block devices while others want them too, 1 to 10000 (100)
      --hugetlb SIZE:LIMIT    huge pages of a size, such as 2m:64m
      --output SIZE           bytes of standard output, and of standard error
      --output-overflow kill|discard       what to do beyond that (default kill)
      --file-size SIZE        largest file; also --ulimit fsize=SIZE
      --open-files N          descriptors of a process; also --ulimit nofile=N
      --stack SIZE            stack of a main thread; also --ulimit stack=SIZE
      --disk SIZE             all that it may write; also --storage-opt size=SIZE
      --inodes N              all files and directories there

How:
      --json                  print the outcome, output included, as one JSON object, with `changes` of --diff and the
                              `image` of --commit
      --spec FILE             read a specification in JSON first (- for standard input); flags change it
      --enforce strict|best-effort         what to do about a limit nothing here can enforce (default strict: refuse)
      --cgroup-parent DIR     make the groups in this directory of cgroup v2
  -q, --quiet                 do not say how a limit is approximated
      --rm, --init, --read-only            accepted: it is always so

Exit status:
  the program's own, or
  124  a limit ended it (one line on standard error says which)
  125  stockade failed or refused; the program did not run, or its end is not known
  126  PROGRAM cannot be executed
  127  PROGRAM was not found
  128+N  it was ended by signal N (130 after Ctrl-C)
";

/// `stockade help doctor`.
const DOCTOR: &str = "\
Says what this host can do: namespaces, proc, seccomp, cgroups, sub-ids and what else sandboxes rest on. Runs one empty
program in a sandbox to know. Changes nothing. Prints the exact command or text that mends each lack.

Usage: stockade doctor [--json]

Exit status: 0 if programs can be run here, 1 if not.
";

/// `stockade help load` and so on.
const IMAGES: [(&str, &str); 11] = [
    ("pull", "\
Pulls an image from a registry into the store. What the store has is not downloaded again, and an interrupted download goes
on where it was. All is compared with its digest.

Usage: stockade pull [FLAGS] [REGISTRY[:PORT]/]NAME[:TAG][@DIGEST]     (docker.io and latest if not said otherwise)

      --platform OS/ARCHITECTURE[/VARIANT]   which image, if there are several (default: this machine's)
  -u, --username USER         with --password-stdin, which reads the password from standard input
      --authfile FILE         the file with credentials, as `podman login` and `docker login` write it (default: theirs;
                              $REGISTRY_AUTH_FILE). Credential helpers are not run
      --ca-file FILE          certificates (PEM) of authorities to trust beside the system's; also $SSL_CERT_FILE
      --tls-verify=false      do not ask a registry who it is, and let it go without TLS
      --mirror HOST[:PORT][/PATH]            ask there before the registry; again: one more
      --retry N               times that a failed request is made again (default 3)
      --timeout TIME          how long to wait for a connection or the next bytes (default 30s)
      --max-concurrent-downloads N           layers at the same time (default 3)

Proxies are those of HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY. Prints the digest of the manifest and the image's id.
"),
    ("load", "\
Reads images into the store, from what `docker save` or `podman save` wrote, or from an OCI layout: a tar file (plain,
gzip or zstd) or a directory.

Usage: stockade load [FLAGS] <ARCHIVE, or: stockade load -i ARCHIVE [FLAGS]

  -i, --input PATH            the archive (default: standard input)
      --platform OS/ARCHITECTURE[/VARIANT]   which image, if there are several (default: this machine's)
      --tag NAME[:TAG]        one more name for the image
"),
    ("import", "\
Makes an image of a root file system, in a tar file (plain, gzip or zstd), a directory, or on standard input.

Usage: stockade import [FLAGS] FILE|DIRECTORY|- [NAME[:TAG]]

  -c, --change INSTRUCTION    change its configuration, as in a Dockerfile: 'CMD [\"/bin/sh\"]', 'ENV A=b'

Prints the image's id.
"),
    ("save", "\
Writes images into one archive, for `docker load`, `podman load`, skopeo or umoci.

Usage: stockade save [FLAGS] IMAGE... >ARCHIVE, or: stockade save -o ARCHIVE [FLAGS] IMAGE...

  -o, --output PATH           the archive (default: standard output)
      --format docker-archive|oci-archive|oci-dir   (default docker-archive)
"),
    ("images", "\
Lists the images in the store.

Usage: stockade images [FLAGS]

      --json                  all that is known, as JSON
  -q, --quiet                 ids only
"),
    ("inspect", "\
Prints all that is known about images, as JSON: configuration, layers and where they are unpacked, and what their
unpacked form lacks.

Usage: stockade inspect [FLAGS] IMAGE...
"),
    ("tag", "\
Gives an image one more name. Another image may have had it.

Usage: stockade tag [FLAGS] IMAGE NAME[:TAG]
"),
    ("rmi", "\
Removes a name; and the image, if that was its last and nobody uses it. An id removes all the names of its image.

Usage: stockade rmi [FLAGS] IMAGE...     (or `rm`: there are no containers that it could mean)
"),
    ("prune", "\
Removes the images without a name, and what no image needs. What is in use stays.

Usage: stockade prune [FLAGS]

  -a, --all                   every image, also with a name
  -f, --force                 accepted: it never asks
"),
    ("df", "\
Says what the store takes on disk.

Usage: stockade df [--json] [--store DIR]
"),
    ("verify", "\
Reads all of the store, compares every digest, and compares every unpacked layer with what it was unpacked from.

Usage: stockade verify [--json] [--store DIR]

Exit status: 0 if the store is intact, 125 if not.
"),
];

const STORE: &str = "
      --store DIR             the store (default: stockade in $XDG_DATA_HOME, else in ~/.local/share)
  -q, --quiet                 where it is allowed: no progress, no notes
";

/// `stockade help [COMMAND]`.
pub fn main(args: Vec<OsString>) -> ExitCode {
    match args.first().map(|arg| arg.to_string_lossy()).as_deref() {
        None => say(OVERVIEW),
        Some(command) => of(command),
    }
}

/// The help of one command.
pub fn of(command: &str) -> ExitCode {
    match command {
        "run" => say(RUN),
        "doctor" => say(DOCTOR),
        "help" => say(OVERVIEW),
        "rm" => of("rmi"),
        _ => match IMAGES
            .iter()
            .chain(&MADE)
            .find(|(name, _)| *name == command)
        {
            Some((_, text)) => say(format_args!("{text}{STORE}")),
            None => fail(format_args!(
                "unknown command `{command}`; see `stockade help`"
            )),
        },
    }
}
