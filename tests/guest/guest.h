/* The guest: one static program with many small commands, run inside sandboxes by the tests.
 *
 *     gcc -static -O2 -pthread -Wall -Wextra -o guest $(ls tests/guest/[a-z]*.c)
 *
 * It needs nothing of the root file system it runs in. What it prints is meant for the tests: lines of `key=value`.
 * Exit status 2 is a wrong use of the guest, 3 an operation that failed in a way the test did not ask about. */
#ifndef GUEST_H
#define GUEST_H

#include <stddef.h>
#include <stdint.h>

struct command {
    const char *name;
    int (*run)(int argc, char **argv); /* argv[0] is the command's name; the result is the exit status */
    const char *usage;
};

/* Each table ends with a NULL name. */
extern const struct command basic_commands[];
extern const struct command cpu_commands[];
extern const struct command memory_commands[];
extern const struct command task_commands[];
extern const struct command end_commands[];
extern const struct command file_commands[];
extern const struct command report_commands[];
extern const struct command probe_commands[];
extern const struct command net_commands[];
extern const struct command sched_commands[];
extern const struct command call_commands[];
extern const struct command domain_commands[];
extern const struct command same_commands[];
extern const struct command lateral_commands[];
extern const struct command flood_commands[];

/* Runs the command argv[0]; exits with 2 if there is none of that name. */
int dispatch(int argc, char **argv);

/* "64k", "16m": bytes. */
uint64_t parse_size(const char *text);
/* "1.5": seconds, as nanoseconds. */
int64_t parse_seconds(const char *text);
/* Sleeps that long, signals or not. */
void sleep_ns(int64_t ns);
/* Burns that much CPU time in the calling thread. */
void burn_ns(int64_t ns);
/* "EPERM"; "OK" for 0. */
const char *errno_name(int error);
/* Says what failed, with errno, on standard error, and exits with 3. */
void die(const char *what) __attribute__((noreturn));
/* Writes all of it or dies. */
void write_all(int fd, const void *data, size_t size);
/* Refuses, with 2, to go on outside a sandbox: for commands that would hurt the machine of whoever tries them. */
void only_inside(void);
/* The argument at this place, or the default. */
const char *arg(int argc, char **argv, int place, const char *fallback);

#endif
