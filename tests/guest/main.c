#define _GNU_SOURCE
#include "guest.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

static const struct command *const tables[] = {
    basic_commands, cpu_commands,    memory_commands, task_commands, end_commands,
    file_commands,  report_commands, probe_commands,  net_commands,  sched_commands,
    call_commands,  domain_commands, same_commands,   lateral_commands, flood_commands,
};

int dispatch(int argc, char **argv)
{
    for (size_t t = 0; argc > 0 && t < sizeof tables / sizeof *tables; t++)
        for (const struct command *c = tables[t]; c->name; c++)
            if (strcmp(c->name, argv[0]) == 0)
                return c->run(argc, argv);
    fprintf(stderr, "guest: no command `%s`; there are:\n", argc > 0 ? argv[0] : "");
    for (size_t t = 0; t < sizeof tables / sizeof *tables; t++)
        for (const struct command *c = tables[t]; c->name; c++)
            fprintf(stderr, "  %s %s\n", c->name, c->usage);
    return 2;
}

uint64_t parse_size(const char *text)
{
    char *end;
    uint64_t n = strtoull(text, &end, 10);
    switch (*end) {
    case 'g': n <<= 10; /* fall through */
    case 'm': n <<= 10; /* fall through */
    case 'k': n <<= 10; end++;
    }
    if (*end || end == text) {
        fprintf(stderr, "guest: `%s` is no size\n", text);
        exit(2);
    }
    return n;
}

int64_t parse_seconds(const char *text)
{
    char *end;
    double s = strtod(text, &end);
    if (*end || end == text || s < 0) {
        fprintf(stderr, "guest: `%s` is no number of seconds\n", text);
        exit(2);
    }
    return (int64_t)(s * 1e9);
}

void sleep_ns(int64_t ns)
{
    struct timespec left = {ns / 1000000000, ns % 1000000000};
    while (nanosleep(&left, &left) && errno == EINTR)
        ;
}

void burn_ns(int64_t ns)
{
    struct timespec now;
    int64_t end = -1;
    volatile unsigned sink = 0;
    do {
        for (int i = 0; i < 20000; i++)
            sink += i;
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
        int64_t used = now.tv_sec * 1000000000LL + now.tv_nsec;
        if (end < 0)
            end = used + ns;
        if (used >= end)
            return;
    } while (1);
}

const char *errno_name(int error)
{
    const char *name = error ? strerrorname_np(error) : "OK";
    return name ? name : "E?";
}

void die(const char *what)
{
    fprintf(stderr, "guest: %s: %s\n", what, errno_name(errno));
    exit(3);
}

void write_all(int fd, const void *data, size_t size)
{
    const char *p = data;
    while (size) {
        ssize_t n = write(fd, p, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            die("write");
        p += n;
        size -= n;
    }
}

void only_inside(void)
{
    if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1) {
        fputs("guest: this command is only for the inside of a sandbox\n", stderr);
        exit(2);
    }
}

const char *arg(int argc, char **argv, int place, const char *fallback)
{
    if (place < argc)
        return argv[place];
    if (!fallback) {
        fprintf(stderr, "guest: %s: argument %d is missing\n", argv[0], place);
        exit(2);
    }
    return fallback;
}

int main(int argc, char **argv)
{
    int status = dispatch(argc - 1, argv + 1);
    fflush(NULL);
    return status;
}
