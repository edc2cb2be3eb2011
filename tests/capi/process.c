/* A program in the background: pipes, poll(2), waits, signals, the end. */
#include "check.h"

#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <time.h>

static stockade_process *spawn(stockade_spec *spec)
{
    stockade_process *process = NULL;
    WORKS(stockade_spec_spawn(spec, &process, &failed));
    CHECK(process != NULL);
    stockade_spec_free(spec);
    return process;
}

static stockade_outcome *wait_for(stockade_process *process)
{
    stockade_outcome *outcome = NULL;
    WORKS(stockade_process_wait(process, &outcome, &failed));
    CHECK(outcome != NULL);
    return outcome;
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* The whole of an event loop: feed standard input, read standard output, notice the end. */
static void event_loop(void)
{
    enum { TOTAL = 1 << 20 };
    stockade_spec *spec = shell("cat; echo done >&2");
    stockade_process *process;
    stockade_outcome *outcome = NULL;
    static char block[1 << 14];
    int in, out, sent = 0, received = 0;
    CHECK(stockade_spec_set_stdin(spec, STOCKADE_STDIO_PIPE) == 0);
    CHECK(stockade_spec_set_stdout(spec, STOCKADE_STDIO_PIPE) == 0);
    process = spawn(spec);
    in = stockade_process_take_stdin(process);
    out = stockade_process_take_stdout(process);
    CHECK(in > 2 && out > 2);
    CHECK(stockade_process_take_stdin(process) == -1);
    CHECK(stockade_process_take_stdout(process) == -1);
    CHECK(stockade_process_take_stderr(process) == -1);
    memset(block, 'x', sizeof block);
    while (outcome == NULL || out >= 0) {
        struct pollfd fds[3] = {{0, POLLIN, 0}, {0, POLLIN, 0}, {0, POLLOUT, 0}};
        fds[0].fd = outcome == NULL ? stockade_process_fd(process) : -1;
        fds[1].fd = out;
        fds[2].fd = in;
        CHECK(poll(fds, 3, 60000) > 0);
        if (fds[0].revents)
            WORKS(stockade_process_poll(process, &outcome, &failed));
        if (fds[1].revents) {
            ssize_t n = read(out, block, sizeof block);
            CHECK(n >= 0);
            received += (int)n;
            if (n == 0) {
                close(out);
                out = -1;
            }
        }
        if (fds[2].revents && in >= 0) {
            ssize_t n = write(in, block, 512);
            CHECK(n > 0);
            sent += (int)n;
            if (sent == TOTAL) {
                close(in);
                in = -1;
            }
        }
    }
    CHECK(sent == TOTAL && received == TOTAL);
    CHECK(stockade_outcome_verdict(outcome) == STOCKADE_VERDICT_OK);
    CHECK_TEXT(stockade_outcome_stdout(outcome, NULL), "");
    CHECK_TEXT(stockade_outcome_stderr(outcome, NULL), "done\n");
    stockade_outcome_free(outcome);
    stockade_process_free(process);
}

/* A pipe may be longer than the program: it ends when the program's end is closed. */
static void pipe_of_the_callers(void)
{
    stockade_spec *spec = shell("read line; echo \"got $line\"");
    stockade_process *process;
    stockade_outcome *outcome;
    char line[64] = "";
    int pair[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
    CHECK(stockade_spec_set_stdin_fd(spec, pair[1]) == 0);
    CHECK(stockade_spec_set_stdout_fd(spec, pair[1]) == 0);
    CHECK(stockade_spec_set_stderr_fd(spec, pair[1]) == 0);
    process = spawn(spec);
    close(pair[1]);
    CHECK(write(pair[0], "hello\n", 6) == 6);
    outcome = wait_for(process);
    CHECK(read(pair[0], line, sizeof line - 1) > 0);
    CHECK_TEXT(line, "got hello\n");
    CHECK(read(pair[0], line, sizeof line - 1) == 0);
    close(pair[0]);
    stockade_outcome_free(outcome);
    stockade_process_free(process);
}

static void wait_timeout(void)
{
    stockade_process *process = spawn(shell("echo partial; sleep 0.3; exit 4"));
    stockade_outcome *outcome = (stockade_outcome *)&outcome;
    double start = now();
    WORKS(stockade_process_poll(process, &outcome, &failed));
    CHECK(outcome == NULL);
    WORKS(stockade_process_wait_timeout(process, 0, &outcome, &failed));
    CHECK(outcome == NULL);
    WORKS(stockade_process_wait_timeout(process, SECOND / 20, &outcome, &failed));
    CHECK(outcome == NULL);
    CHECK(now() - start >= 0.05);
    WORKS(stockade_process_wait_timeout(process, UINT64_MAX, &outcome, &failed));
    CHECK(stockade_outcome_returncode(outcome) == 4);
    CHECK_TEXT(stockade_outcome_stdout(outcome, NULL), "partial\n");
    stockade_outcome_free(outcome);
    /* An ended process goes on telling how it ended. */
    outcome = wait_for(process);
    CHECK(stockade_outcome_returncode(outcome) == 4);
    CHECK_TEXT(stockade_outcome_stdout(outcome, NULL), "partial\n");
    stockade_outcome_free(outcome);
    CHECK(!stockade_process_pid(process, NULL));
    WORKS(stockade_process_signal(process, SIGTERM, &failed));
    WORKS(stockade_process_kill(process, &failed));
    stockade_process_free(process);
}

static void signals(void)
{
    stockade_spec *spec = shell("trap 'echo caught; exit 9' TERM; echo ready; while :; do sleep 0.02; done");
    stockade_process *process;
    stockade_outcome *outcome;
    char line[64] = "";
    int out, pid = 0;
    CHECK(stockade_spec_set_stdout(spec, STOCKADE_STDIO_PIPE) == 0);
    process = spawn(spec);
    out = stockade_process_take_stdout(process);
    CHECK(stockade_process_pid(process, &pid) && pid > 1 && kill(pid, 0) == 0);
    CHECK(read(out, line, sizeof line - 1) == 6);
    CHECK_TEXT(line, "ready\n");
    FAILS(stockade_process_signal(process, 0, &failed), STOCKADE_ERROR_INVALID_ARGUMENT, "signal");
    FAILS(stockade_process_signal(process, 65, &failed), STOCKADE_ERROR_INVALID_ARGUMENT, "signal");
    WORKS(stockade_process_signal(process, SIGTERM, &failed));
    outcome = wait_for(process);
    CHECK(stockade_outcome_verdict(outcome) == STOCKADE_VERDICT_NONZERO_EXIT);
    CHECK(stockade_outcome_returncode(outcome) == 9);
    CHECK(read(out, line, sizeof line - 1) == 7);
    close(out);
    stockade_outcome_free(outcome);
    stockade_process_free(process);
}

static void stops(void)
{
    static const char *const scripts[] = {"trap 'exit 7' INT; echo; while :; do sleep 0.02; done",
                                          "trap '' INT; echo; while :; do sleep 0.02; done"};
    for (int deaf = 0; deaf < 2; deaf++) {
        stockade_spec *spec = shell(scripts[deaf]);
        stockade_process *process;
        stockade_outcome *outcome = NULL;
        char line[8];
        int out;
        CHECK(stockade_spec_set_stdout(spec, STOCKADE_STDIO_PIPE) == 0);
        CHECK(stockade_spec_set_stop_signal(spec, SIGINT) == 0);
        process = spawn(spec);
        out = stockade_process_take_stdout(process);
        CHECK(read(out, line, sizeof line) == 1);
        close(out);
        WORKS(stockade_process_stop(process, deaf ? SECOND / 10 : 20 * SECOND, &outcome, &failed));
        CHECK(stockade_outcome_verdict(outcome) == (deaf ? STOCKADE_VERDICT_KILLED : STOCKADE_VERDICT_NONZERO_EXIT));
        CHECK(deaf || stockade_outcome_returncode(outcome) == 7);
        stockade_outcome_free(outcome);
        stockade_process_free(process);
    }
}

static void kills(void)
{
    stockade_process *process = spawn(shell("trap '' TERM INT HUP; sleep 1000 & echo on; sleep 1000"));
    stockade_outcome *outcome;
    double start = now();
    struct timespec pause = {0, 100000000};
    nanosleep(&pause, NULL);
    WORKS(stockade_process_kill(process, &failed));
    outcome = wait_for(process);
    CHECK(now() - start < 20);
    CHECK(stockade_outcome_verdict(outcome) == STOCKADE_VERDICT_KILLED);
    CHECK_TEXT(stockade_outcome_stdout(outcome, NULL), "on\n");
    stockade_outcome_free(outcome);
    stockade_process_free(process);
}

/* Freeing ends the program, whatever it does against it. */
static void freeing_ends_it(void)
{
    stockade_process *process = spawn(shell("trap '' TERM INT HUP; while :; do sleep 1; done"));
    struct timespec pause = {0, 10000000};
    int pid = 0, tries;
    CHECK(stockade_process_pid(process, &pid));
    stockade_process_free(process);
    for (tries = 0; tries < 2000 && kill(pid, 0) == 0; tries++)
        nanosleep(&pause, NULL);
    CHECK(kill(pid, 0) == -1 && errno == ESRCH);
}

static void nothing(void)
{
    stockade_outcome *outcome = NULL;
    CHECK(stockade_process_fd(NULL) == -1 && stockade_process_take_stdin(NULL) == -1);
    CHECK(!stockade_process_pid(NULL, NULL));
    FAILS(stockade_process_wait(NULL, &outcome, &failed), STOCKADE_ERROR_INVALID_ARGUMENT, "`process` is NULL");
    FAILS(stockade_process_poll(NULL, &outcome, &failed), STOCKADE_ERROR_INVALID_ARGUMENT, "`process` is NULL");
    FAILS(stockade_process_kill(NULL, &failed), STOCKADE_ERROR_INVALID_ARGUMENT, "`process` is NULL");
    stockade_process_free(NULL);
}

/* Paused it does nothing, and is not said to have ended; resumed it goes on; paused it can be killed. */
static void pauses(void)
{
    stockade_spec *spec = shell("while :; do echo tick; sleep 0.01; done");
    stockade_process *process;
    stockade_outcome *outcome = NULL;
    stockade_stats *stats = NULL;
    uint64_t paused = 0;
    char block[4096];
    int out;
    CHECK(stockade_spec_set_stdout(spec, STOCKADE_STDIO_PIPE) == 0);
    process = spawn(spec);
    out = stockade_process_take_stdout(process);
    CHECK(read(out, block, sizeof block) > 0);
    WORKS(stockade_process_pause(process, &failed));
    WORKS(stockade_process_stats(process, &stats, &failed));
    CHECK(stockade_stats_figure(stats, STOCKADE_STATS_PAUSED, &paused) && paused == 1);
    CHECK(stockade_stats_figure(stats, STOCKADE_STATS_WALL_TIME, NULL));
    CHECK(!stockade_stats_figure(stats, 1000, NULL));
    stockade_stats_free(stats);
    CHECK(fcntl(out, F_SETFL, O_NONBLOCK) == 0);
    while (read(out, block, sizeof block) > 0)
        ;
    usleep(200 * 1000);
    CHECK(read(out, block, sizeof block) == -1);
    WORKS(stockade_process_wait_timeout(process, 1, &outcome, &failed));
    CHECK(outcome == NULL);
    CHECK(fcntl(out, F_SETFL, 0) == 0);
    WORKS(stockade_process_resume(process, &failed));
    CHECK(read(out, block, sizeof block) > 0);
    WORKS(stockade_process_pause(process, &failed));
    WORKS(stockade_process_kill(process, &failed));
    outcome = wait_for(process);
    CHECK(stockade_outcome_verdict(outcome) == STOCKADE_VERDICT_KILLED);
    CHECK(stockade_outcome_usage(outcome, STOCKADE_USAGE_PAUSED_TIME, &paused));
    CHECK(paused >= 200u * 1000 * 1000);
    WORKS(stockade_process_resume(process, &failed));
    WORKS(stockade_process_stats(process, &stats, &failed));
    CHECK(stats == NULL);
    stockade_outcome_free(outcome);
    stockade_process_free(process);
    close(out);
}

static void change(stockade_process *process, void (*how)(stockade_update *))
{
    stockade_update *update = stockade_update_new();
    how(update);
    WORKS(stockade_process_update(process, update, &failed));
    stockade_update_free(update);
}

static void little_time(stockade_update *update)
{
    CHECK(stockade_update_set_wall_time(update, 300u * 1000 * 1000) == 0);
    CHECK(stockade_update_set_output(update, 1 << 20) == 0);
}

static void no_end(stockade_update *update)
{
    CHECK(stockade_update_set_wall_time(update, STOCKADE_UNLIMITED) == 0);
    CHECK(stockade_update_set_cpu_time(update, STOCKADE_UNLIMITED) == 0);
    CHECK(stockade_update_set_memory(update, STOCKADE_UNLIMITED) == 0);
    CHECK(stockade_update_set_swap(update, STOCKADE_UNLIMITED) == 0);
    CHECK(stockade_update_set_cpus(update, (double)INFINITY) == 0);
    CHECK(stockade_update_set_cpu_weight(update, STOCKADE_UNLIMITED) == 0);
    CHECK(stockade_update_set_cpuset_cpus(update, "0") == 0);
    CHECK(stockade_update_set_cpuset_cpus(update, NULL) == 0);
    CHECK(stockade_update_set_io_weight(update, STOCKADE_UNLIMITED) == 0);
    CHECK(stockade_update_set_output(update, STOCKADE_UNLIMITED) == 0);
}

/* Limits are changed up and down, and lifted; what is refused says why. */
static void updates(void)
{
    stockade_spec *spec = shell("sleep 0.5; echo done");
    stockade_process *process;
    stockade_outcome *outcome;
    stockade_update *update = stockade_update_new();
    CHECK(stockade_spec_set_wall_time(spec, 400u * 1000 * 1000) == 0);
    process = spawn(spec);
    change(process, no_end);
    CHECK(stockade_update_set_memory(update, 1) == 0);
    FAILS(stockade_process_update(process, update, &failed), STOCKADE_ERROR_INVALID_ARGUMENT, "memory: 1 is out of range");
    FAILS(stockade_process_update(process, NULL, &failed), STOCKADE_ERROR_INVALID_ARGUMENT, "`update` is NULL");
    FAILS(stockade_process_update(NULL, update, &failed), STOCKADE_ERROR_INVALID_ARGUMENT, "`process` is NULL");
    CHECK(stockade_update_set_pids(NULL, 1) == STOCKADE_ERROR_INVALID_ARGUMENT);
    outcome = wait_for(process);
    CHECK(stockade_outcome_verdict(outcome) == STOCKADE_VERDICT_OK);
    CHECK_TEXT(stockade_outcome_stdout(outcome, NULL), "done\n");
    WORKS(stockade_process_update(process, update, &failed));
    stockade_outcome_free(outcome);
    stockade_process_free(process);
    stockade_update_free(update);
    stockade_update_free(NULL);

    process = spawn(shell("sleep 60"));
    change(process, little_time);
    outcome = wait_for(process);
    CHECK(stockade_outcome_verdict(outcome) == STOCKADE_VERDICT_WALL_TIME_LIMIT);
    stockade_outcome_free(outcome);
    stockade_process_free(process);
}

/* The caller is told when so much is used, once. */
static void notifications(void)
{
    stockade_process *process = spawn(shell("while :; do :; done"));
    stockade_outcome *outcome;
    uint64_t threshold = 1, used = 1;
    int told = -1;
    FAILS(stockade_process_notify_memory(process, 0, &failed), STOCKADE_ERROR_INVALID_ARGUMENT, "more than 0");
    WORKS(stockade_process_next_notification(process, 0, &told, &threshold, &used, &failed));
    CHECK(told == STOCKADE_NOTIFICATION_NONE && threshold == 0 && used == 0);
    WORKS(stockade_process_notify_cpu_time(process, 100u * 1000 * 1000, &failed));
    WORKS(stockade_process_next_notification(process, UINT64_MAX, &told, &threshold, &used, &failed));
    CHECK(told == STOCKADE_NOTIFICATION_CPU_TIME && threshold == 100u * 1000 * 1000 && used >= threshold);
    WORKS(stockade_process_notify_memory(process, 1, &failed));
    WORKS(stockade_process_next_notification(process, UINT64_MAX, &told, NULL, NULL, &failed));
    CHECK(told == STOCKADE_NOTIFICATION_MEMORY);
    WORKS(stockade_process_notify_memory(process, STOCKADE_UNLIMITED, &failed));
    WORKS(stockade_process_kill(process, &failed));
    outcome = wait_for(process);
    WORKS(stockade_process_next_notification(process, UINT64_MAX, &told, NULL, NULL, &failed));
    CHECK(told == STOCKADE_NOTIFICATION_NONE);
    FAILS(stockade_process_next_notification(NULL, 0, &told, NULL, NULL, &failed), STOCKADE_ERROR_INVALID_ARGUMENT,
          "`process` is NULL");
    stockade_outcome_free(outcome);
    stockade_process_free(process);
}

int main(void)
{
    event_loop();
    notifications();
    updates();
    pauses();
    pipe_of_the_callers();
    wait_timeout();
    signals();
    stops();
    kills();
    freeing_ends_it();
    nothing();
    return 0;
}
