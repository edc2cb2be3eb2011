/*
 * Stockade: rootless Linux sandboxes that other programs embed.
 *
 *     stockade_spec *spec = stockade_spec_new();
 *     stockade_outcome *outcome = NULL;
 *     stockade_error *error = NULL;
 *
 *     stockade_spec_add_arg(spec, "echo");
 *     stockade_spec_add_arg(spec, "hello");
 *     stockade_spec_set_memory(spec, 256 << 20);
 *     if (stockade_spec_run(spec, &outcome, &error) != STOCKADE_OK)
 *         fprintf(stderr, "%s\n", stockade_error_message(error));
 *     else
 *         printf("%s: %s", stockade_verdict_name(stockade_outcome_verdict(outcome)),
 *                stockade_outcome_stdout(outcome, NULL));
 *     stockade_outcome_free(outcome);
 *     stockade_error_free(error);
 *     stockade_spec_free(spec);
 *
 * Rules that hold for every function:
 *  - int with a last parameter `error`, or from a setter, is a status: STOCKADE_OK (0) or a STOCKADE_ERROR_ number.
 *    bool is a fact.
 *  - error may be NULL. On failure it receives an object that the caller frees with stockade_error_free; on success
 *    NULL. What it held before is not looked at. The same is true of every other out-parameter: a handle is NULL and a
 *    number 0 after a failure.
 *  - A handle is freed by the function its type names (stockade_X_free), and by nothing else; freeing NULL does
 *    nothing. A const pointer that is returned is owned by the handle it came from and valid until that is freed.
 *    What is passed in stays the caller's and is copied where it is kept.
 *  - NULL for a handle or a text is an error of the call (STOCKADE_ERROR_INVALID_ARGUMENT), never a crash; accessors
 *    of NULL return NULL, 0, false or -1.
 *  - Sizes are bytes and times nanoseconds, as uint64_t. Texts are UTF-8 and end with NUL; byte strings come with
 *    their length.
 *  - Any thread may call anything. A handle may be read, run, waited for and signalled by several threads at once, but
 *    not be changed by a setter or freed while another uses it.
 *  - After a fork, handles made before it belong to the parent: in the child they give STOCKADE_ERROR_STATE and can
 *    only be freed. New ones work.
 */


#ifndef STOCKADE_H
#define STOCKADE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** The version of this header. */
#define STOCKADE_VERSION "0.1.0"


// The version of this header: major number.
#define STOCKADE_VERSION_MAJOR 0

// Minor number.
#define STOCKADE_VERSION_MINOR 1

// Patch number.
#define STOCKADE_VERSION_PATCH 0

// Status: the call succeeded.
#define STOCKADE_OK 0

// The specification or an argument is wrong. Nothing was started.
#define STOCKADE_ERROR_INVALID_ARGUMENT 1

// This host cannot do what was asked. Nothing was started.
#define STOCKADE_ERROR_UNSUPPORTED 2

// Setting up the sandbox failed, or reading or writing the image store; the error's step and errno say where. The
// program did not run.
#define STOCKADE_ERROR_SETUP 3

// The call does not fit the state of the handle: closed, finished, made before a fork.
#define STOCKADE_ERROR_STATE 4

// The supervisor went away while the program ran; nothing of the sandbox is left.
#define STOCKADE_ERROR_SUPERVISOR 5

// The system refused a resource: memory, descriptors, processes.
#define STOCKADE_ERROR_RESOURCE 6

// A bug in stockade; please report it.
#define STOCKADE_ERROR_INTERNAL 7

// An image, or an archive of images, is damaged, is not what its digest says, or tries what an image must not. The
// error's step is the rule that it breaks. Nothing of it was kept.
#define STOCKADE_ERROR_IMAGE 8

// The store has no such image; or a registry has none that it shows to who asks.
#define STOCKADE_ERROR_NOT_FOUND 9

// A registry cannot be reached, refuses, or does not answer as it should; the error's step says which: "connect",
// "tls", "timeout", "proxy", "redirect", "auth", "http". What was downloaded is kept for the next try.
#define STOCKADE_ERROR_REGISTRY 10

// Standard streams: /dev/null.
#define STOCKADE_STDIO_NULL 0

// A pipe whose other end the process hands out.
#define STOCKADE_STDIO_PIPE 1

// Kept, up to the output limit, for the outcome. Not for standard input.
#define STOCKADE_STDIO_CAPTURE 2

// Standard error only: the same as standard output.
#define STOCKADE_STDIO_STDOUT 3

// A network of its own with every interface down: even localhost does not answer. The fastest, and the default.
#define STOCKADE_NETWORK_NONE 0

// A network of its own with loopback up.
#define STOCKADE_NETWORK_LOOPBACK 1

// The host's network. Nothing is isolated there, before Linux 6.12 (Landlock) abstract sockets included.
#define STOCKADE_NETWORK_HOST 2

// Namespaces of its own, and everything else below them: the default.
#define STOCKADE_ISOLATION_NAMESPACES 0

// For hosts that refuse user namespaces: Landlock, a system call filter and supervision only.
#define STOCKADE_ISOLATION_RESTRICT 1

// The first of the other overlay drivers that works on this host.
#define STOCKADE_OVERLAY_AUTO 0

// The kernel's overlayfs, in the sandbox's user namespace: Linux 5.11 and later; on a tmpfs in full since 6.6.
#define STOCKADE_OVERLAY_KERNEL 1

// The program fuse-overlayfs, which must be installed, with a /dev/fuse that the caller may open.
#define STOCKADE_OVERLAY_FUSE 2

// A copy of all that there is, made at every start; it must fit disk and inodes.
#define STOCKADE_OVERLAY_COPY 3

// Flag of stockade_spec_add_volume: the program may write there, with the caller's own rights.
#define STOCKADE_VOLUME_WRITABLE 1

// When the output limit is passed: end the program at once. The default.
#define STOCKADE_OVERFLOW_KILL 0

// Let it go on, discarding what is over.
#define STOCKADE_OVERFLOW_DISCARD 1

// A limit that nothing on this host can enforce at all is an error before the start. The default.
#define STOCKADE_ENFORCE_STRICT 0

// Run without such a limit and say so in the outcome's enforcement.
#define STOCKADE_ENFORCE_BEST_EFFORT 1

// 1 if the program is paused, else 0.
#define STOCKADE_STATS_PAUSED 0

// Since the program's start, nanoseconds.
#define STOCKADE_STATS_WALL_TIME 1

// For how long of that it was paused, nanoseconds.
#define STOCKADE_STATS_PAUSED_TIME 2

// CPU time until now, user and system, nanoseconds.
#define STOCKADE_STATS_CPU_TIME 3

// How long the CPU controller has held it back, nanoseconds.
#define STOCKADE_STATS_THROTTLED_TIME 4

// Memory in use now, bytes; as STOCKADE_USAGE_MEMORY_PEAK counts.
#define STOCKADE_STATS_MEMORY_CURRENT 5

// The most until now, bytes.
#define STOCKADE_STATS_MEMORY_PEAK 6

// Processes and threads now.
#define STOCKADE_STATS_PIDS_CURRENT 7

// The most at one time until now.
#define STOCKADE_STATS_PIDS_PEAK 8

// In place of a limit, in an update: none, as if the specification had none.
#define STOCKADE_UNLIMITED UINT64_MAX

// None came in that time, or the program has ended and all are taken.
#define STOCKADE_NOTIFICATION_NONE 0

// Of CPU time: nanoseconds.
#define STOCKADE_NOTIFICATION_CPU_TIME 1

// Of memory: bytes.
#define STOCKADE_NOTIFICATION_MEMORY 2

// Exited with status 0 within every limit.
#define STOCKADE_VERDICT_OK 0

// Exited with another status.
#define STOCKADE_VERDICT_NONZERO_EXIT 1

// Ended by a signal.
#define STOCKADE_VERDICT_SIGNALED 2

// Used more CPU time than cpu_time.
#define STOCKADE_VERDICT_TIME_LIMIT 3

// Ran longer than wall_time.
#define STOCKADE_VERDICT_WALL_TIME_LIMIT 4

// Used no CPU time for too long.
#define STOCKADE_VERDICT_IDLENESS_LIMIT 5

// Needed more memory than memory.
#define STOCKADE_VERDICT_MEMORY_LIMIT 6

// Wrote more than output to a captured stream.
#define STOCKADE_VERDICT_OUTPUT_LIMIT 7

// Filled the writable file system (disk, inodes) or wrote a larger file than file_size.
#define STOCKADE_VERDICT_DISK_LIMIT 8

// Some process of the run made a system call for which the seccomp profile kills.
#define STOCKADE_VERDICT_VIOLATION 9

// Ended by the caller.
#define STOCKADE_VERDICT_KILLED 10

// The program could not be executed: not found, not executable, too long arguments.
#define STOCKADE_VERDICT_EXEC_FAILED 11

// The sandbox itself failed; says nothing about the program.
#define STOCKADE_VERDICT_SANDBOX_ERROR 12

// CPU time of the whole tree, user and system, nanoseconds.
#define STOCKADE_USAGE_CPU_TIME 0

// The user part, nanoseconds.
#define STOCKADE_USAGE_CPU_USER 1

// The system part, nanoseconds.
#define STOCKADE_USAGE_CPU_SYSTEM 2

// From the program's start to its end, nanoseconds.
#define STOCKADE_USAGE_WALL_TIME 3

// The most memory the sandbox held at one time, bytes.
#define STOCKADE_USAGE_MEMORY_PEAK 4

// The largest resident set of one process, bytes.
#define STOCKADE_USAGE_MAX_RSS 5

// 1 if the kernel's OOM killer ended a process of the sandbox for its memory limit, else 0.
#define STOCKADE_USAGE_OOM_KILLED 6

// The most processes and threads at one time.
#define STOCKADE_USAGE_PIDS_PEAK 7

// Voluntary context switches.
#define STOCKADE_USAGE_CSW_VOLUNTARY 8

// Forced context switches.
#define STOCKADE_USAGE_CSW_FORCED 9

// How long the CPU controller held the sandbox back, nanoseconds.
#define STOCKADE_USAGE_THROTTLED_TIME 10

// Bytes read from block devices.
#define STOCKADE_USAGE_IO_READ 11

// Bytes written to block devices.
#define STOCKADE_USAGE_IO_WRITE 12

// Bytes in the writable file system at the end.
#define STOCKADE_USAGE_DISK_USED 13

// Files and directories there.
#define STOCKADE_USAGE_INODES_USED 14

// The part of the memory that was anonymous when the supervisor saw the most in use, bytes.
#define STOCKADE_USAGE_MEMORY_ANON 15

// The part that was page cache of files on disks, at the same time, bytes.
#define STOCKADE_USAGE_MEMORY_FILE 16

// The part that was shared memory and memory file systems, at the same time, bytes.
#define STOCKADE_USAGE_MEMORY_SHMEM 17

// The part that was the kernel's own for the sandbox, at the same time, bytes.
#define STOCKADE_USAGE_MEMORY_KERNEL 18

// The most swap in use at one time, bytes.
#define STOCKADE_USAGE_SWAP_PEAK 19

// How many processes of the sandbox the kernel's OOM killer ended, for whichever limit or want.
#define STOCKADE_USAGE_OOM_KILLS 20

// How often the memory limit was run into, mostly with page cache given back and no harm done.
#define STOCKADE_USAGE_MEMORY_LIMIT_HITS 21

// How often a fork or a new thread was refused for the pids limit.
#define STOCKADE_USAGE_PIDS_LIMIT_HITS 22

// In how many periods of 100 ms the CPU controller held the sandbox back.
#define STOCKADE_USAGE_THROTTLED_PERIODS 23

// How long some thread of the sandbox was ready to run and had no processor (PSI, here and below), nanoseconds.
#define STOCKADE_USAGE_CPU_PRESSURE_SOME 24

// How long that held for all threads that were not idle, nanoseconds.
#define STOCKADE_USAGE_CPU_PRESSURE_FULL 25

// How long some thread waited for memory, nanoseconds.
#define STOCKADE_USAGE_MEMORY_PRESSURE_SOME 26

// How long all did, nanoseconds.
#define STOCKADE_USAGE_MEMORY_PRESSURE_FULL 27

// How long some thread waited for block devices, nanoseconds.
#define STOCKADE_USAGE_IO_PRESSURE_SOME 28

// How long all did, nanoseconds.
#define STOCKADE_USAGE_IO_PRESSURE_FULL 29

// Operations of reading from block devices.
#define STOCKADE_USAGE_IO_READ_OPS 30

// Operations of writing to block devices.
#define STOCKADE_USAGE_IO_WRITE_OPS 31

// For how long of the wall-clock time it was paused by the caller, nanoseconds; the wall_time limit does not count it.
#define STOCKADE_USAGE_PAUSED_TIME 32

// The kernel holds it exactly.
#define STOCKADE_ENFORCED 0

// It is watched and acted upon, but can be passed for a short time or in part.
#define STOCKADE_APPROXIMATED 1

// Nothing holds it.
#define STOCKADE_NOT_ENFORCED 2

// What differs in a sandbox from the root file system that it was started with: a value that does not change.
typedef struct stockade_changes stockade_changes;

// What stands behind one limit or protection. Owned by its outcome.
typedef struct stockade_enforcement stockade_enforcement;

// Why a call failed. A program that ran and failed is no error: that is an outcome with its verdict.
typedef struct stockade_error stockade_error;

// An image that is being used: as long as this lives, and the process, nothing of it is removed from its store.
typedef struct stockade_image stockade_image;

// How a program ended and what it used. Nothing in it changes: read it from as many threads as you like. What its
// accessors return is owned by it and valid until it is freed.
typedef struct stockade_outcome stockade_outcome;

// A collected file. Owned by its outcome.
typedef struct stockade_output stockade_output;

// A program started in a sandbox. Every call may be made from any thread, also at the same time. Captured output
// moves along only in stockade_process_poll and the waits.
typedef struct stockade_process stockade_process;

// How to pull images from registries. A plain value: it may be used any number of times, by many threads at once, but
// not be changed meanwhile. The return value of its setters need not be looked at: with one that failed nothing is
// pulled, and stockade_store_pull fails with the error of the first such setter.
typedef struct stockade_pull stockade_pull;

// A live sandbox, in which programs run one after another or side by side; what they leave in its writable file
// system stays until it is closed, what they leave running is killed when the last of them ends. Every call may be made from any thread, also at the same time.
typedef struct stockade_sandbox stockade_sandbox;

// What to run, in what, and with which limits. A plain value: it may be run any number of times, by many threads at
// once, but not be changed meanwhile.
//
// The return value of its setters need not be looked at: a spec with a setter that failed cannot be run, started or
// written as JSON; all these then fail with the error of the first such setter, so that no limit is lost unseen.
typedef struct stockade_spec stockade_spec;

// What a program that still runs used at one moment: a value that does not change.
typedef struct stockade_stats stockade_stats;

// A store of images. Any thread, and any process that opens the same directory, may use it at the same time.
//
// An image is meant by a name (latest if it has no tag), the end of one, an id, or the beginning of one. What is told
// about images is JSON: "id", "digest" (of the manifest), "names", "size", "added", "config" (as the OCI image
// specification has it), "layers" (each with its "diff_id", "digest", "size", "compressed_size", "media_type",
// "entries" and "path"), "dropped" and "owners". Free such a text with stockade_string_free.
typedef struct stockade_store stockade_store;

// Limits to change while a program runs: a plain value. A limit that is not set stays as it is; one that is set
// replaces that of the specification, with the same meaning and range, or takes it away if it is STOCKADE_UNLIMITED.
// The setters fail only if update is NULL; values are looked at by stockade_process_update.
typedef struct stockade_update stockade_update;

// A system call for which the seccomp profile kills. Owned by its outcome.
typedef struct stockade_violation stockade_violation;

// Told how far a call is: what is read or written, bytes of it that are done, and bytes in all, or 0 if that is not
// known. A result other than 0 ends the call with a STOCKADE_ERROR_STATE, and nothing of it is kept. Called by the
// thread that made the call; data is what was passed with it.
typedef int (*stockade_progress)(const char *what, uint64_t done, uint64_t total, void *data);

// Told how far a build is: a step that begins, or is known from before (cached), with its number from 1 and how many there
// are; or, if step is NULL, what the program of a step has written, to standard output and error: length bytes, now and
// then none. A result other than 0 ends the build with a STOCKADE_ERROR_STATE. Called by the thread that made the call;
// data is what was passed with it.
typedef int (*stockade_build_watch)(const char *step,
                                    uint64_t number,
                                    uint64_t total,
                                    bool cached,
                                    const void *output,
                                    size_t length,
                                    void *data);

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The version of the library that runs, "major.minor.patch". Static: never freed.
const char *stockade_version(void);

// Reads a size as people write it, "256m" or "1GiB": digits and one of b, k, m, g, t, all binary, as Docker's are.
int stockade_parse_size(const char *text, uint64_t *bytes, stockade_error **error);

// Reads a duration as people write it, "500ms" or "1.5s": a number and one of ns, us, ms, s, m, h.
int stockade_parse_duration(const char *text, uint64_t *nanoseconds, stockade_error **error);

// Frees a text that stockade handed out as char *.
void stockade_string_free(char *text);

// What this host can do: a JSON array of {"name", "status", "detail", "fix"}, where status is "ok", "degraded" or
// "missing" and fix the exact remedy, or null. Changes nothing; takes some milliseconds. Free the text with
// stockade_string_free.
int stockade_doctor(char **json, stockade_error **error);

// What kind of error it is: a STOCKADE_ERROR_ number, the same as the status of the call that failed.
// STOCKADE_OK if error is NULL.
int stockade_error_kind(const stockade_error *error);

// The errno of the system call that failed, or 0 if none did.
int stockade_error_errno(const stockade_error *error);

// The step of the set-up that failed ("mount proc"), or "". NULL if error is NULL. Owned by the error.
const char *stockade_error_step(const stockade_error *error);

// The error in words: what failed, on what object, why, and what to do about it. NULL if error is NULL. Owned by
// the error.
const char *stockade_error_message(const stockade_error *error);

// Frees an error.
void stockade_error_free(stockade_error *error);

// A specification with every default and no program. Free it with stockade_spec_free.
stockade_spec *stockade_spec_new(void);

// A copy, its refusals included; NULL if spec is NULL. Free it with stockade_spec_free.
stockade_spec *stockade_spec_clone(const stockade_spec *spec);

// Reads a specification from JSON, the same in every language. An unknown key, a wrong type or a bad unit is an error
// that names it. Free it with stockade_spec_free.
int stockade_spec_from_json(const char *json, stockade_spec **spec, stockade_error **error);

// Writes it as JSON. A descriptor of the caller's cannot be written and is an error. Free the text with
// stockade_string_free.
int stockade_spec_to_json(const stockade_spec *spec, char **json, stockade_error **error);

// Runs the program in a sandbox of its own and waits for its end. Free the outcome with stockade_outcome_free.
int stockade_spec_run(const stockade_spec *spec, stockade_outcome **outcome, stockade_error **error);

// Starts the program in a sandbox of its own, without waiting. Free the process with stockade_process_free.
int stockade_spec_spawn(const stockade_spec *spec, stockade_process **process, stockade_error **error);

// Frees a specification. What was started from it goes on.
void stockade_spec_free(stockade_spec *spec);

// Adds one to the program's arguments, the first of which is the program. A name without a slash is looked up,
// inside the sandbox, in the PATH of its environment, or in /usr/local/bin:/usr/bin:/bin if that has none.
int stockade_spec_add_arg(stockade_spec *spec, const char *arg);

// Sets the program and all its arguments: an array that ends with NULL, as execv(3) takes.
int stockade_spec_set_args(stockade_spec *spec, const char *const *args);

// Sets one variable of the program's environment, which is empty at first: nothing is inherited from the host.
int stockade_spec_set_env(stockade_spec *spec, const char *name, const char *value);

// Sets the working directory, inside the sandbox. Default: /work.
int stockade_spec_set_cwd(stockade_spec *spec, const char *path);

// Has everything that the kernel and interpreters otherwise choose anew for each run chosen the same, unless
// deterministic is 0: addresses are not randomised, and PYTHONHASHSEED, PERL_HASH_SEED and PERL_PERTURB_KEYS are 0 where
// the environment does not name them. Random numbers and the time of day stay as they are. Default: 0.
int stockade_spec_set_deterministic(stockade_spec *spec, int deterministic);

// Sets what the program reads from standard input; the bytes are copied. Default: nothing.
int stockade_spec_set_input(stockade_spec *spec, const void *data, size_t length);

// Sets where standard input comes from: STOCKADE_STDIO_NULL or STOCKADE_STDIO_PIPE. Default: the input, if given,
// else STOCKADE_STDIO_NULL.
int stockade_spec_set_stdin(stockade_spec *spec, int stdio);

// Sets where standard output goes: STOCKADE_STDIO_NULL, _PIPE or _CAPTURE. Default: STOCKADE_STDIO_CAPTURE.
int stockade_spec_set_stdout(stockade_spec *spec, int stdio);

// Sets where standard error goes: STOCKADE_STDIO_NULL, _PIPE, _CAPTURE or _STDOUT. Default: STOCKADE_STDIO_CAPTURE.
int stockade_spec_set_stderr(stockade_spec *spec, int stdio);

// Gives the program a pipe or socket of the caller's as standard input; any other kind of descriptor is refused at
// the start. It stays the caller's and must stay open until the program is started.
int stockade_spec_set_stdin_fd(stockade_spec *spec, int fd);

// The same as standard output.
int stockade_spec_set_stdout_fd(stockade_spec *spec, int fd);

// The same as standard error.
int stockade_spec_set_stderr_fd(stockade_spec *spec, int fd);

// Makes a file before the program starts, with these permission bits (0644); the bytes are copied. A relative path is
// below /work; an absolute one must lie in a writable directory of the sandbox. Parent directories are made.
int stockade_spec_add_file(stockade_spec *spec, const char *path, const void *data, size_t length, uint32_t mode);

// Collects a file when the program has ended: regular files only, never through a symbolic link. A relative path is
// below /work.
int stockade_spec_add_output(stockade_spec *spec, const char *path);

// Sets the most bytes to collect of one output file. Default: 64 MiB.
int stockade_spec_set_output_file_size(stockade_spec *spec, uint64_t bytes);

// Sets the image whose layers are the root file system, always with an overlay: a name, "latest" if it has no tag, or an
// id. What its configuration says of the program, environment, directory and user holds where the specification says
// nothing, as with `docker run`; of an image without a user it is 0:0. In a live sandbox programs are run as with
// `docker exec`, without its entry point and command.
int stockade_spec_set_image(stockade_spec *spec, const char *image);

// Sets the program and first arguments in place of the image's entry point, of whose command nothing holds then: an
// array that ends with NULL.
int stockade_spec_set_entrypoint(stockade_spec *spec, const char *const *entrypoint);

// Sets the directory of the store that the image is in. Default: as of stockade_store_open.
int stockade_spec_set_store(stockade_spec *spec, const char *path);

// Sets the root file system: "host", the default, is the host's /usr and what a dynamic linker and interpreters need
// of /etc; else the absolute path of a directory of the host. Read-only either way, unless an overlay is set.
int stockade_spec_set_rootfs(stockade_spec *spec, const char *rootfs);

// Puts one more directory on top of the root file system, joined as overlayfs does, whiteouts (character devices 0, 0)
// and opaque directories (user.overlay.opaque) included; the first takes the place of "host". At most 128 in all. More
// than one always have an overlay.
int stockade_spec_add_rootfs(stockade_spec *spec, const char *rootfs);

// Makes the root file system writable for the sandbox, over directories that stay as they are: a STOCKADE_OVERLAY_
// number. What is written counts against disk and inodes. Default: not, over one directory; STOCKADE_OVERLAY_AUTO over
// more.
int stockade_spec_set_overlay(stockade_spec *spec, int overlay);

// Sets a directory of the host's, on a disk, in which what the sandbox writes is kept in place of memory: an absolute
// path, writable for the caller. With an overlay only. It is made under a name of its own and removed when the sandbox
// has ended. disk and inodes are counted every 20 ms or more then, so a program may write more before it is ended,
// STOCKADE_VERDICT_DISK_LIMIT; see the specification's `upper_dir` in the Rust documentation. Default: memory.
int stockade_spec_set_upper_dir(stockade_spec *spec, const char *upper_dir);

// Sets whether a root file system with an overlay is read-only all the same; /work, /tmp and /dev/shm stay writable.
// Default: 0.
int stockade_spec_set_read_only(stockade_spec *spec, int read_only);

// Shows a directory or file of the host inside; both paths are absolute. Read-only unless flags has
// STOCKADE_VOLUME_WRITABLE.
int stockade_spec_add_volume(stockade_spec *spec, const char *host, const char *inside, uint64_t flags);

// Adds a writable memory file system at an absolute path inside, beside the built-in /work, /tmp and /dev/shm. Its
// size in bytes and its number of files and directories: 0 means as the limits disk and inodes.
int stockade_spec_add_tmpfs(stockade_spec *spec, const char *path, uint64_t size, uint64_t inodes);

// Sets the network: a STOCKADE_NETWORK_ number. Default: STOCKADE_NETWORK_NONE.
int stockade_spec_set_network(stockade_spec *spec, int network);

// Sets what keeps the program from the host: a STOCKADE_ISOLATION_ number. Default: STOCKADE_ISOLATION_NAMESPACES. With
// STOCKADE_ISOLATION_RESTRICT the program is a process of the caller's among the others, sees the host's paths and process
// ids, and works in a new directory of its own, which takes the place of /work, HOME and TMPDIR; fields that need
// namespaces are refused, and the outcome's enforcement says what is missing. It needs Linux 6.12, and a caller who is not
// root.
int stockade_spec_set_isolation(stockade_spec *spec, int isolation);

// Sets the user inside, "uid[:gid]". Default: 1000:1000. Whatever it is, on the host it is the caller's own id, or
// an unprivileged one if the caller is root. In an image whose files belong to sub-ids only 0 is the caller's own, any
// other the sub-id that stands for it.
int stockade_spec_set_user(stockade_spec *spec, const char *user);

// Sets what CLOCK_MONOTONIC and CLOCK_BOOTTIME say when the sandbox starts, and so its uptime, in nanoseconds
// (time_namespaces(7)). The time of day is always the host's. Default: the host's.
int stockade_spec_set_uptime(stockade_spec *spec, uint64_t nanoseconds);

// Sets the host name inside. Default: stockade.
int stockade_spec_set_hostname(stockade_spec *spec, const char *hostname);

// Sets the seccomp profile, which says what system calls the program may make: "default", "strict" (what interpreters,
// compilers and the programs that they make need), or the text of a profile in Docker's JSON format. Where one
// kills for a call, the whole run is ended as soon as any of its processes makes that, with STOCKADE_VERDICT_VIOLATION.
// Default: "default".
int stockade_spec_set_profile(stockade_spec *spec, const char *profile);

// Sets a cgroup v2 directory, writable for the caller, to make the sandboxes' groups in: an absolute path below
// /sys/fs/cgroup. Default: the caller's own cgroup, where that can be used.
int stockade_spec_set_cgroup_parent(stockade_spec *spec, const char *path);

// Limits the CPU time of the whole process tree, user and system together: nanoseconds. Default: none.
int stockade_spec_set_cpu_time(stockade_spec *spec, uint64_t nanoseconds);

// Limits the wall-clock time from the program's start: nanoseconds. Default: none.
int stockade_spec_set_wall_time(stockade_spec *spec, uint64_t nanoseconds);

// Limits the memory of the whole sandbox (anonymous, page cache, tmpfs, shared): bytes. Default: none.
int stockade_spec_set_memory(stockade_spec *spec, uint64_t bytes);

// Limits what may be swapped out beyond the memory limit, which must be set too: bytes. Default: 0.
int stockade_spec_set_swap(stockade_spec *spec, uint64_t bytes);

// Limits how many processors' time the whole sandbox may use, at least 0.01: 1.5 is 150 ms in every 100 ms. It is held
// back when it has used that. Default: none.
int stockade_spec_set_cpus(stockade_spec *spec, double cpus);

// Sets its share of the processors while others want them too, relative to theirs: 1 to 10,000. What has none has 100.
int stockade_spec_set_cpu_weight(stockade_spec *spec, uint64_t weight);

// Has it run only when nobody else wants a processor (cpu.idle; SCHED_IDLE, sched(7), where no cgroup can), unless
// idle is 0. Excludes a CPU weight. Default: 0.
int stockade_spec_set_cpu_idle(stockade_spec *spec, int idle);

// Sets the processors that it may use: a list such as "0-2,4" (cpuset(7)), or "exclusive": as many as
// stockade_spec_set_cpus says, rounded up (1 without), that no other run of this process which asks for the same has at
// that time, each of a core of its own. Where there are not enough it shares them, and its enforcement says so.
// Default: all.
int stockade_spec_set_cpuset_cpus(stockade_spec *spec, const char *list);

// Sets its nice value (setpriority(2)), 0 to 19: what it yields to the others of its own group and session. Default: the
// caller's.
int stockade_spec_set_nice(stockade_spec *spec, int nice);

// Sets the signal that stockade_process_stop sends, 1 to 64. Default: the image's StopSignal, else SIGTERM.
int stockade_spec_set_stop_signal(stockade_spec *spec, int signal);

// Sets how much sooner than others the kernel ends the sandbox when the whole host is out of memory (oom_score_adj,
// proc(5)): the caller's own value up to 1000. Default: the caller's.
int stockade_spec_set_oom_score_adj(stockade_spec *spec, int score);

// Sets whether the kernel ends the whole run when its memory limit, which must be set too, is used up
// (memory.oom.group), or only the process that it chooses: then a program that survives and ends well is
// STOCKADE_VERDICT_OK. It is the former unless group is 0. Default: 1.
int stockade_spec_set_oom_group(stockade_spec *spec, int group);

// Adds a limit on the bytes read from a block device in a second. The device is its path, or its number as "8:0"; a
// partition stands for its disk. Default: none.
int stockade_spec_add_io_read_bps(stockade_spec *spec, const char *device, uint64_t rate);

// Likewise on the bytes written.
int stockade_spec_add_io_write_bps(stockade_spec *spec, const char *device, uint64_t rate);

// Likewise on the operations of reading.
int stockade_spec_add_io_read_iops(stockade_spec *spec, const char *device, uint64_t rate);

// Likewise on the operations of writing.
int stockade_spec_add_io_write_iops(stockade_spec *spec, const char *device, uint64_t rate);

// Sets its share of the block devices while others want them too, relative to theirs: 1 to 10,000. What has none has
// 100.
int stockade_spec_set_io_weight(stockade_spec *spec, uint64_t weight);

// Adds a limit on the huge pages of one size, both in bytes (hugetlb.2MB.max). The memory limit does not count them.
// Default: none.
int stockade_spec_add_hugetlb(stockade_spec *spec, uint64_t size, uint64_t limit);

// Limits the processes and threads at one time. Default: none.
int stockade_spec_set_pids(stockade_spec *spec, uint64_t count);

// Limits the captured bytes of each of standard output and standard error. Default: 64 MiB.
int stockade_spec_set_output(stockade_spec *spec, uint64_t bytes);

// Sets what to do when the output limit is passed: STOCKADE_OVERFLOW_KILL (default) or STOCKADE_OVERFLOW_DISCARD. The
// head is kept and the rest counted either way, and the verdict is STOCKADE_VERDICT_OUTPUT_LIMIT.
int stockade_spec_set_output_overflow(stockade_spec *spec, int overflow);

// Limits the largest file the program may write (RLIMIT_FSIZE): bytes. Default: none.
int stockade_spec_set_file_size(stockade_spec *spec, uint64_t bytes);

// Limits the open descriptors of each process (RLIMIT_NOFILE). Default: 1024, or half of this process's own soft limit if
// that is less.
int stockade_spec_set_open_files(stockade_spec *spec, uint64_t count);

// Limits the stack of each process's main thread (RLIMIT_STACK): bytes. Default: 8 MiB.
int stockade_spec_set_stack(stockade_spec *spec, uint64_t bytes);

// Limits the bytes in the sandbox's writable file system (/work, /tmp and /dev/shm together). Default: 64 MiB.
int stockade_spec_set_disk(stockade_spec *spec, uint64_t bytes);

// Limits the files and directories in the same. Default: 65,536.
int stockade_spec_set_inodes(stockade_spec *spec, uint64_t count);

// Sets what to do about a limit that this host cannot enforce: STOCKADE_ENFORCE_STRICT (default) or
// STOCKADE_ENFORCE_BEST_EFFORT.
int stockade_spec_set_enforce(stockade_spec *spec, int enforce);

// Starts a sandbox. The program in spec is not run and may be empty. Free the sandbox with stockade_sandbox_free.
int stockade_sandbox_start(const stockade_spec *spec, stockade_sandbox **sandbox, stockade_error **error);

// Runs a program in the sandbox and waits for its end. The fields of spec that describe the sandbox itself (image,
// store, rootfs, overlay, read_only, upper_dir, volumes, tmpfs, network, user, hostname, uptime, disk, inodes,
// cgroup_parent, enforce) must equal those it was started with: use stockade_spec_clone. Free the outcome with stockade_outcome_free.
int stockade_sandbox_run(const stockade_sandbox *sandbox,
                         const stockade_spec *spec,
                         stockade_outcome **outcome,
                         stockade_error **error);

// Starts a program in the sandbox, as stockade_sandbox_run does, without waiting. Free the process with
// stockade_process_free, before or after the sandbox.
int stockade_sandbox_spawn(const stockade_sandbox *sandbox,
                           const stockade_spec *spec,
                           stockade_process **process,
                           stockade_error **error);

// Ends everything in the sandbox and removes it; the handle stays. Closing again does nothing; running in it again
// is a STOCKADE_ERROR_STATE.
int stockade_sandbox_close(const stockade_sandbox *sandbox, stockade_error **error);

// Closes a sandbox and frees it.
void stockade_sandbox_free(stockade_sandbox *sandbox);

// Takes a sandbox with an overlay back to its start: what runs in it is killed, and its root, /work, /tmp, /dev/shm and
// every tmpfs are as they were then. Takes about as long as a start, however much was written.
int stockade_sandbox_reset(const stockade_sandbox *sandbox, stockade_error **error);

// What differs from the root file system that the sandbox was started with, as docker diff, sorted by path. Free it
// with stockade_changes_free.
int stockade_sandbox_changes(const stockade_sandbox *sandbox, stockade_changes **changes, stockade_error **error);

// The upper layer of the sandbox's root as a descriptor of a directory, open for reading, which the caller closes: what
// was changed, with character devices 0, 0 for names that were removed and the attribute user.overlay.opaque on
// directories that hide what is below. Programs can have put anything there: follow no links in it. fd is -1 after a
// failure.
int stockade_sandbox_upper(const stockade_sandbox *sandbox, int *fd, stockade_error **error);

// How many paths differ.
size_t stockade_changes_count(const stockade_changes *changes);

// The absolute path inside of the one with that index, or NULL if there are not so many. Not always UTF-8. Owned by the
// changes.
const char *stockade_changes_path(const stockade_changes *changes, size_t index);

// What has become of it: 'A' if it was not there before, 'C' if it or something below it may differ, 'D' if it is no
// longer there; 0 if there are not so many.
char stockade_changes_kind(const stockade_changes *changes, size_t index);

// Frees the changes.
void stockade_changes_free(stockade_changes *changes);

// Makes a file in the sandbox, with its parents, or replaces the one that is there; never through a symbolic link. A
// relative path is below /work. mode: permission bits; 0 means 0644.
int stockade_sandbox_put(const stockade_sandbox *sandbox,
                         const char *path,
                         const void *content,
                         size_t length,
                         uint32_t mode,
                         stockade_error **error);

// The content of a regular file in the sandbox, at most 64 MiB, never through a symbolic link: content and length are
// set. Free the content with stockade_bytes_free.
int stockade_sandbox_get(const stockade_sandbox *sandbox,
                         const char *path,
                         void **content,
                         size_t *length,
                         stockade_error **error);

// Frees what stockade_sandbox_get gave.
void stockade_bytes_free(void *content);

// Copies a directory of the host into the sandbox as the directory path, over what is there: directories, regular files
// and symbolic links, with their permission bits. Anything else is left out. Symbolic links in host itself are followed,
// those that are found in it never, so it may be one that programs can write.
int stockade_sandbox_put_tree(const stockade_sandbox *sandbox, const char *path, const char *host, stockade_error **error);

// Copies a directory of the sandbox to host, which must not be there yet: directories, regular files and symbolic links,
// with their permission bits; holes stay holes, and a file with several names has them in the copy, too. Anything else is
// left out. Links are made as they are and can lead anywhere: do not follow them. Programs that run meanwhile can have
// more copied than there is at any one time, without end: pause them, or copy when none runs.
int stockade_sandbox_get_tree(const stockade_sandbox *sandbox, const char *path, const char *host, stockade_error **error);

// The program's process id on the host: true if it runs; false (and pid untouched) if it has ended or could not be
// started. Waits for its start, about a millisecond. pid may be NULL.
bool stockade_process_pid(const stockade_process *process, int32_t *pid);

// A descriptor that poll(2) finds readable (POLLIN) whenever stockade_process_poll has something to do. Owned by
// the process: do not read or close it. -1 if process is NULL, or the caller has no descriptor left (EMFILE, ENFILE).
int stockade_process_fd(const stockade_process *process);

// The writing end of the program's standard input, if that is STOCKADE_STDIO_PIPE and was not taken before; else -1.
// Owned by the caller from now on: close it, or the program sees no end of its input.
int stockade_process_take_stdin(const stockade_process *process);

// The reading end of its standard output, likewise.
int stockade_process_take_stdout(const stockade_process *process);

// The reading end of its standard error, likewise.
int stockade_process_take_stderr(const stockade_process *process);

// Moves captured output along and, if the program has ended, hands out its outcome; else outcome is set to NULL,
// which is no error. Never blocks. Free the outcome with stockade_outcome_free.
int stockade_process_poll(const stockade_process *process, stockade_outcome **outcome, stockade_error **error);

// Waits until the program and all it started have ended. Waiting again gives the same outcome. Free each with
// stockade_outcome_free.
int stockade_process_wait(const stockade_process *process, stockade_outcome **outcome, stockade_error **error);

// The same for at most that long; outcome is set to NULL, which is no error, if the program still runs then.
int stockade_process_wait_timeout(const stockade_process *process,
                                  uint64_t nanoseconds,
                                  stockade_outcome **outcome,
                                  stockade_error **error);

// Sends a signal to the program, not to its children. No error if it has ended.
int stockade_process_signal(const stockade_process *process, int signal, stockade_error **error);

// Asks the program to end, by the stop signal of its specification, and ends it and everything it started if it still
// runs after that many nanoseconds (docker stop waits 10 seconds). The outcome, as of stockade_process_wait, is by how it
// ended: STOCKADE_VERDICT_KILLED only if it had to be killed. A paused program goes on.
int stockade_process_stop(const stockade_process *process,
                          uint64_t nanoseconds,
                          stockade_outcome **outcome,
                          stockade_error **error);

// Ends the program and everything it started; the verdict is STOCKADE_VERDICT_KILLED. No error if it has
// ended.
int stockade_process_kill(const stockade_process *process, stockade_error **error);

// Stops the program and everything it started, until stockade_process_resume; returns when none of them runs any more.
// Meanwhile wall_time does not go on, and they can be killed. With cgroup v2 the kernel freezes them (cgroup.freeze),
// which they cannot notice; elsewhere they are stopped by SIGSTOP, in a live sandbox in which other programs run only
// the program's process group. One that has a timer send it SIGCONT goes on; it is stopped again, and that time counts
// for its limits as ever. No error if it has ended or is paused; ETIMEDOUT if a process could not be frozen within two
// seconds, since it waits in the kernel.
int stockade_process_pause(const stockade_process *process, stockade_error **error);

// Lets a paused program go on. No error if it has ended or is not paused.
int stockade_process_resume(const stockade_process *process, stockade_error **error);

// Ends the program, and everything it started, if it still runs, and frees the process.
void stockade_process_free(stockade_process *process);

// What the program and everything it started use now; stats is set to NULL, which is no error, if it has ended: then
// the outcome says what it used. Takes about 50 microseconds with cgroups. Free the stats with stockade_stats_free.
int stockade_process_stats(const stockade_process *process, stockade_stats **stats, stockade_error **error);

// One figure by its STOCKADE_STATS_ number: true and the value if it is known; false (and value untouched) if nothing
// on this host gives it, or if this library does not know the number. value may be NULL.
bool stockade_stats_figure(const stockade_stats *stats, int figure, uint64_t *value);

// Frees the stats.
void stockade_stats_free(stockade_stats *stats);

// An update that changes nothing. Free it with stockade_update_free.
stockade_update *stockade_update_new(void);

// The limit on CPU time: nanoseconds. What was used until now counts; if it is more, the program is ended.
int stockade_update_set_cpu_time(stockade_update *update, uint64_t nanoseconds);

// The limit on wall-clock time: nanoseconds from the program's start, as ever.
int stockade_update_set_wall_time(stockade_update *update, uint64_t nanoseconds);

// The limit on memory: bytes. If more is in use, the kernel takes back what it can and, if that is not enough, the
// program is ended: STOCKADE_VERDICT_MEMORY_LIMIT.
int stockade_update_set_memory(stockade_update *update, uint64_t bytes);

// The limit on swap: bytes. What is swapped out already stays there. STOCKADE_UNLIMITED is the default, 0.
int stockade_update_set_swap(stockade_update *update, uint64_t bytes);

// The limit on processes and threads. If there are more, none is ended, and none can be added.
int stockade_update_set_pids(stockade_update *update, uint64_t count);

// The limit on processors' time. INFINITY: none.
int stockade_update_set_cpus(stockade_update *update, double cpus);

// The share of the processors. STOCKADE_UNLIMITED is the default, 100.
int stockade_update_set_cpu_weight(stockade_update *update, uint64_t weight);

// The processors that it may use: a list such as "0-2,4". NULL is the default, all.
int stockade_update_set_cpuset_cpus(stockade_update *update, const char *list);

// The share of the block devices. STOCKADE_UNLIMITED is the default, 100.
int stockade_update_set_io_weight(stockade_update *update, uint64_t weight);

// The limit on captured output: bytes. STOCKADE_UNLIMITED is the default, 64 MiB.
int stockade_update_set_output(stockade_update *update, uint64_t bytes);

// Changes limits of the running program, up or down. The outcome's verdict and enforcement go by those that it has at
// the end. A limit below what is used already has its effect at once, except of a paused program, whose clocks go on
// with stockade_process_resume. No error if it has ended.
//
// On an error nothing is changed: a value that is out of range; a limit that nothing on this host holds
// (STOCKADE_ERROR_UNSUPPORTED), such as cpus for a program that was started without cpus and cpu_weight, or pids where
// no cgroup holds it.
int stockade_process_update(const stockade_process *process, const stockade_update *update, stockade_error **error);

// Frees the update.
void stockade_update_free(stockade_update *update);

// Has the caller told once when the program and everything it started have used so much CPU time: nanoseconds, more
// than 0, in place of the threshold before; STOCKADE_UNLIMITED to be told no more. A threshold that is passed already
// is told at once. No error if the program has ended.
int stockade_process_notify_cpu_time(const stockade_process *process, uint64_t nanoseconds, stockade_error **error);

// The same when so many bytes of memory are in use. That is looked at every 20 ms at least, so use that is shorter may
// pass unseen.
int stockade_process_notify_memory(const stockade_process *process, uint64_t bytes, stockade_error **error);

// Takes the next notification, in the order in which they came; waits for it at most that long, and without end if
// that is UINT64_MAX. notification receives its STOCKADE_NOTIFICATION_ number; threshold what was asked for and used
// what was used when that was seen, both nanoseconds or bytes, both may be NULL. None is lost if it is taken late. One
// that comes makes the descriptor of stockade_process_fd readable until this or stockade_process_poll has looked.
int stockade_process_next_notification(const stockade_process *process,
                                       uint64_t nanoseconds,
                                       int *notification,
                                       uint64_t *threshold,
                                       uint64_t *used,
                                       stockade_error **error);

// Opens the store in the directory path, which is made if missing; NULL is `stockade` in $XDG_DATA_HOME, which is
// ~/.local/share if unset. Free it with stockade_store_free.
int stockade_store_open(const char *path, stockade_store **store, stockade_error **error);

// Frees a store; the directory stays.
void stockade_store_free(stockade_store *store);

// Reads every image of an archive that `docker save` or `podman save` wrote, or of an OCI layout: a tar file (plain,
// gzip or zstd) or a directory. platform is "os/architecture[/variant]", or NULL for this machine's; name is one more
// name for the image if there is one only, or NULL; progress may be NULL. json receives an array of the images.
int stockade_store_load(const stockade_store *store,
                        const char *path,
                        const char *platform,
                        const char *name,
                        stockade_progress progress,
                        void *data,
                        char **json,
                        stockade_error **error);

// Makes an image of one layer of a root file system: a tar file (plain, gzip or zstd) or a directory. name may be
// NULL; config is the "config" of an OCI image as JSON ({"Cmd": ["/bin/sh"]}), or NULL; progress may be NULL. json
// receives the image.
int stockade_store_import(const stockade_store *store,
                          const char *path,
                          const char *name,
                          const char *config,
                          stockade_progress progress,
                          void *data,
                          char **json,
                          stockade_error **error);

// Writes an image into an archive for docker, podman, skopeo or umoci. format is "docker-archive", "oci-archive" or
// "oci-dir"; path is a file, which appears when it is whole, or for "oci-dir" a directory that is missing or empty. An
// image that is given by its id has no name there. progress may be NULL.
int stockade_store_save(const stockade_store *store,
                        const char *image,
                        const char *format,
                        const char *path,
                        stockade_progress progress,
                        void *data,
                        stockade_error **error);

// Every image as a JSON array, those with names first.
int stockade_store_list(const stockade_store *store, char **json, stockade_error **error);

// What is known about an image, as JSON. STOCKADE_ERROR_NOT_FOUND if there is none.
int stockade_store_inspect(const stockade_store *store, const char *image, char **json, stockade_error **error);

// Gives an image one more name, which another may have had.
int stockade_store_tag(const stockade_store *store, const char *image, const char *name, stockade_error **error);

// Removes a name; and the image, if that was its last and nobody uses it. An id removes all the names of its image.
// json receives {"names", "images", "bytes"}: what was removed, and how many bytes on disk that freed.
int stockade_store_remove(const stockade_store *store, const char *image, char **json, stockade_error **error);

// Removes the images without a name and, with all, every image; but none in use. Whatever no image needs goes too.
// json receives the same as from stockade_store_remove.
int stockade_store_prune(const stockade_store *store, bool all, char **json, stockade_error **error);

// Reads all of the store, compares every digest, and every unpacked layer with what it was unpacked from. json
// receives {"blobs", "layers", "problems"}: how many were read, and what is wrong, one sentence each.
int stockade_store_verify(const stockade_store *store, char **json, stockade_error **error);

// What the store takes on disk, in bytes. json receives {"images" (how many), "blobs", "layers", "temporary",
// "reclaimable"}.
int stockade_store_disk_use(const stockade_store *store, char **json, stockade_error **error);

// Makes an image of the sandbox's own and a layer of what has been changed in it, as docker commit, in the same store.
// /work, /tmp, /dev/shm, volumes and every tmpfs are no part of it. name may be NULL. options is a JSON object or NULL:
// "changes" (instructions of a Dockerfile, ["CMD [\"/bin/sh\"]", "ENV A=b"]), "author", "message" (texts), and "pause"
// (default true: no program of the sandbox runs meanwhile). json receives the image, as from stockade_store_inspect.
// STOCKADE_ERROR_STATE if the sandbox is of no image.
int stockade_sandbox_commit(const stockade_sandbox *sandbox,
                            const char *name,
                            const char *options,
                            char **json,
                            stockade_error **error);

// The same as an image without a name, from which other sandboxes can be started by its id. It stays in the store until
// it is freed with stockade_image_free and no sandbox of it is left; then stockade_store_prune removes it.
int stockade_sandbox_snapshot(const stockade_sandbox *sandbox, stockade_image **image, stockade_error **error);

// Keeps the image called reference in the store until it is freed with stockade_image_free.
int stockade_store_resolve(const stockade_store *store, const char *reference, stockade_image **image, stockade_error **error);

// The id of the image, as stockade_spec_set_image takes it. Owned by the image.
const char *stockade_image_id(const stockade_image *image);

// Frees the image, which stays in the store if it has a name or is used elsewhere.
void stockade_image_free(stockade_image *image);

// Writes path in the sandbox and all below it to fd as a tar stream, as docker cp CONTAINER:PATH -: named from its last
// component on, of "/" from what is in it; with the modes, times and owners that are seen inside, without extended
// attributes. What is mounted below it, such as /proc and /work in "/", is an empty directory. fd stays open; of a
// pipe that nobody reads it is an error, and no SIGPIPE. Relative paths are below /work.
int stockade_sandbox_export(const stockade_sandbox *sandbox, const char *path, int fd, stockade_error **error);

// Writes the whole root file system of an image to fd as one tar stream, as docker export, with every owner and device
// node that came with its layers. fd stays open. progress may be NULL.
int stockade_store_export(const stockade_store *store,
                          const char *image,
                          int fd,
                          stockade_progress progress,
                          void *data,
                          stockade_error **error);

// What image changes of the image base, as docker diff, sorted by path; if base is NULL, what its topmost layer changes
// of those below. Free it with stockade_changes_free.
int stockade_store_diff(const stockade_store *store,
                        const char *image,
                        const char *base,
                        stockade_changes **changes,
                        stockade_error **error);

// Builds an image. request is a JSON object: either "from" (an image, or "scratch") and "steps", or "file", the text of a
// Dockerfile with one stage, and "file_name", what errors call it. A step is a line of a Dockerfile ("RUN make", "ENV
// A=b"; also COPY, LABEL, WORKDIR, USER, CMD, ENTRYPOINT, EXPOSE, VOLUME, STOPSIGNAL, ARG) or an object: {"run": ["make"]},
// {"copy": {"sources": ["a"], "to": "/srv/", "chown": "web", "chmod": "755"}}, {"files": {"/etc/motd": "hello"}}, {"env":
// {"A": "b"}} and so on. Further: "context" (the directory that is copied from), "names" (of the image), "args" (values of
// ARG), "no_cache" (do every step anew), and "spec" (a specification, as of stockade_spec_to_json: the limits, network and
// volumes of what is run; by default no network, 1 GiB of disk and 262144 files). What a step comes to is kept in the
// store, and not done again while all that it is made of is the same. watch may be NULL. json receives the image.
// STOCKADE_ERROR_IMAGE with the step "run" if a program fails.
int stockade_store_build(const stockade_store *store,
                         const char *request,
                         stockade_build_watch watch,
                         void *data,
                         char **json,
                         stockade_error **error);

// Every default. Free it with stockade_pull_free.
stockade_pull *stockade_pull_new(void);

// Frees it.
void stockade_pull_free(stockade_pull *pull);

// The platform to choose where there are several: "os/architecture[/variant]" (default: this machine's).
int stockade_pull_set_platform(stockade_pull *pull, const char *platform);

// A user of the registry and the password, which may be a token that takes its place. They are sent to the registry,
// or to the server of tokens that it names, and not to mirrors, nor where a request is redirected to. Without them,
// those hold that `podman login` or `docker login` has left in a file: $REGISTRY_AUTH_FILE alone if that is set, else
// $XDG_RUNTIME_DIR/containers/auth.json, ~/.config/containers/auth.json and ~/.docker/config.json. Credential helpers
// are not run.
int stockade_pull_set_credentials(stockade_pull *pull, const char *user, const char *password);

// An identity token (OAuth 2's refresh token) in place of a user and a password.
int stockade_pull_set_identity_token(stockade_pull *pull, const char *token);

// The file with credentials, in place of those that are looked for. It must be there; /dev/null is one without any.
int stockade_pull_set_auth_file(stockade_pull *pull, const char *path);

// A file of certificates (PEM) of authorities to trust, beside the system's (or those that SSL_CERT_FILE names).
int stockade_pull_set_ca_file(stockade_pull *pull, const char *path);

// Whether a registry must prove who it is (default: true). If not, its certificate may be anybody's, and it may go
// without TLS. To this machine (localhost, 127.0.0.0/8) it may go without TLS anyway.
int stockade_pull_set_tls_verify(stockade_pull *pull, bool verify);

// One more mirror of the registry, "host[:port][/path]", to be asked before it. What is had by its digest is the same
// from everywhere; which digest a tag has is the word of the first that knows the tag.
int stockade_pull_add_mirror(stockade_pull *pull, const char *location);

// Layers that are downloaded at the same time (default 3, at least 1, at most 16).
int stockade_pull_set_max_concurrent_downloads(stockade_pull *pull, uint64_t count);

// How often a request that failed is made again (default 3): after a connection was lost or a server was in trouble or
// busy, and anew for each MiB that was gained.
int stockade_pull_set_retry(stockade_pull *pull, uint64_t times);

// How long to wait for a connection, for an answer and for the next bytes of one, before the request counts as failed:
// nanoseconds (default 30 s, at least 1 ms, at most an hour). Less than 1 KiB a second over that time is a failure
// too.
int stockade_pull_set_timeout(stockade_pull *pull, uint64_t nanoseconds);

// Pulls an image from its registry. name is "[registry[:port]/]repository[:tag][@digest]", of docker.io and latest if
// not said otherwise; the store keeps the image by its whole name. pull may be NULL for every default; progress may be
// NULL. json receives the image. What the store has is not downloaded, and what an interrupted call has left is gone
// on with. The call starts threads of its own, with all signals blocked, which end before it does. progress is called
// by the thread that made the call, some times a second also while nothing comes.
//
// STOCKADE_ERROR_REGISTRY if the registry cannot be reached or refuses, STOCKADE_ERROR_NOT_FOUND if it has no such
// image, STOCKADE_ERROR_IMAGE if what it sends is damaged or hostile.
int stockade_store_pull(const stockade_store *store,
                        const char *name,
                        const stockade_pull *pull,
                        stockade_progress progress,
                        void *data,
                        char **json,
                        stockade_error **error);

// The name of a verdict, the same in every language: "TIME_LIMIT". NULL if there is no such verdict. Static.
const char *stockade_verdict_name(int verdict);

// What judges write for a verdict: OK, RTE, TLE, ILE, MLE, OLE or SE. NULL if there is no such verdict. Static.
const char *stockade_verdict_short(int verdict);

// The one primary verdict, a STOCKADE_VERDICT_ number. -1 if outcome is NULL.
int stockade_outcome_verdict(const stockade_outcome *outcome);

// The exit status, or the negated number of the signal that ended the program; 127 (not found) or 126 with
// STOCKADE_VERDICT_EXEC_FAILED.
int stockade_outcome_returncode(const stockade_outcome *outcome);

// Whether the program exited, and with which status. status may be NULL.
bool stockade_outcome_exit_code(const stockade_outcome *outcome, int *status);

// Whether a signal ended the program, and which. signal may be NULL.
bool stockade_outcome_signal(const stockade_outcome *outcome, int *signal);

// The name of the limit that decided the verdict ("memory"), or NULL if none did.
const char *stockade_outcome_limit(const stockade_outcome *outcome);

// What else there is to say in words: why the program could not be started, what of the sandbox failed. NULL if
// there is nothing.
const char *stockade_outcome_message(const stockade_outcome *outcome);

// What the program wrote to standard output, if captured: the first bytes, up to the output limit. Their number goes
// to length, which may be NULL; behind them stands a NUL.
const char *stockade_outcome_stdout(const stockade_outcome *outcome, size_t *length);

// The same for standard error.
const char *stockade_outcome_stderr(const stockade_outcome *outcome, size_t *length);

// How many bytes came through standard output, kept or not.
uint64_t stockade_outcome_stdout_bytes(const stockade_outcome *outcome);

// The same for standard error.
uint64_t stockade_outcome_stderr_bytes(const stockade_outcome *outcome);

// Whether more came through standard output than was kept.
bool stockade_outcome_stdout_truncated(const stockade_outcome *outcome);

// The same for standard error.
bool stockade_outcome_stderr_truncated(const stockade_outcome *outcome);

// The whole outcome as JSON, as in every language. Free the text with stockade_string_free.
int stockade_outcome_to_json(const stockade_outcome *outcome, char **json, stockade_error **error);

// Frees an outcome, and with it all that its accessors returned.
void stockade_outcome_free(stockade_outcome *outcome);

// How many collected files there are: one for each path of the spec's outputs.
size_t stockade_outcome_output_count(const stockade_outcome *outcome);

// The collected file with that index, in the order of the paths, or NULL if there are not so many. Owned by the
// outcome, as is all that the stockade_output_ accessors return.
const stockade_output *stockade_outcome_output_at(const stockade_outcome *outcome, size_t index);

// The collected file with that path, written as in stockade_spec_add_output, or NULL if it was not asked for.
const stockade_output *stockade_outcome_output(const stockade_outcome *outcome, const char *path);

// Its path.
const char *stockade_output_path(const stockade_output *output);

// Its content. The number of bytes goes to length, which may be NULL; behind them stands a NUL. Empty if there is
// an error.
const char *stockade_output_content(const stockade_output *output, size_t *length);

// Its whole size in bytes; more than the length of the content if it was cut at output_file_size.
uint64_t stockade_output_size(const stockade_output *output);

// Whether the content was cut.
bool stockade_output_truncated(const stockade_output *output);

// Why it was not collected (missing, not a regular file, a symbolic link on the way), or NULL if it was.
const char *stockade_output_error(const stockade_output *output);

// One figure of what the run used, by its STOCKADE_USAGE_ number: true and the value if it is known; false (and value
// untouched) if nothing on this host gives it, or if this library does not know the number. value may be NULL.
bool stockade_outcome_usage(const stockade_outcome *outcome, int usage, uint64_t *value);

// Where a figure comes from ("cgroup v2 cpu.stat"), or NULL if it does not say.
const char *stockade_outcome_usage_source(const stockade_outcome *outcome, int usage);

// How many limits and protections there is something to say about.
size_t stockade_outcome_enforcement_count(const stockade_outcome *outcome);

// The one with that index, in the order of their names, or NULL if there are not so many. Owned by the outcome, as is
// all that the stockade_enforcement_ accessors return.
const stockade_enforcement *stockade_outcome_enforcement_at(const stockade_outcome *outcome, size_t index);

// The one with that name ("memory", "seccomp"), or NULL if there is none.
const stockade_enforcement *stockade_outcome_enforcement(const stockade_outcome *outcome, const char *name);

// Its name.
const char *stockade_enforcement_name(const stockade_enforcement *enforcement);

// Whether it holds: STOCKADE_ENFORCED, STOCKADE_APPROXIMATED or STOCKADE_NOT_ENFORCED, which is also what NULL gives.
int stockade_enforcement_status(const stockade_enforcement *enforcement);

// By what it is enforced ("cgroup v2 memory.max"), or why it is not.
const char *stockade_enforcement_by(const stockade_enforcement *enforcement);

// The system call that the run was ended for, with STOCKADE_VERDICT_VIOLATION. NULL if there was none, or if the kernel
// killed the program itself (see the enforcement "violation"). Owned by the outcome, as is all that the
// stockade_violation_ accessors return.
const stockade_violation *stockade_outcome_violation(const stockade_outcome *outcome);

// Its name ("ptrace"), or NULL if it has none here, as those of 32-bit ABIs and of the future.
const char *stockade_violation_syscall(const stockade_violation *violation);

// Its number in that ABI.
uint32_t stockade_violation_number(const stockade_violation *violation);

// By which ABI of the machine it was made: "x86_64", "x32", "i386", "aarch64" or "arm".
const char *stockade_violation_arch(const stockade_violation *violation);

// The argument with that index, from 0 to 5, whether it takes so many or not. 0 for others.
uint64_t stockade_violation_arg(const stockade_violation *violation, unsigned int index);

// Where it was made.
uint64_t stockade_violation_instruction_pointer(const stockade_violation *violation);

// The process that made it, by its number inside the sandbox.
uint32_t stockade_violation_pid(const stockade_violation *violation);

// Whether that is the program itself, not one that it started.
bool stockade_violation_main(const stockade_violation *violation);

// The name of the thread (/proc/PID/comm), which the program can choose. NULL if it is not known.
const char *stockade_violation_command(const stockade_violation *violation);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* STOCKADE_H */
