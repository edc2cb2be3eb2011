/* Errors of every kind that can be brought about from outside (INTERNAL is for bugs), each naming what failed. */
#include "check.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

static void invalid_argument(void)
{
    stockade_spec *spec = stockade_spec_new();
    stockade_outcome *outcome = NULL;
    FAILS(stockade_spec_run(spec, &outcome, &failed), STOCKADE_ERROR_INVALID_ARGUMENT, "args");
    FAILS(stockade_spec_run(NULL, &outcome, &failed), STOCKADE_ERROR_INVALID_ARGUMENT, "`spec` is NULL");
    FAILS(stockade_spec_run(spec, NULL, &failed), STOCKADE_ERROR_INVALID_ARGUMENT, "`outcome` is NULL");
    CHECK(stockade_spec_run(spec, &outcome, NULL) == STOCKADE_ERROR_INVALID_ARGUMENT);
    stockade_spec_free(spec);

    spec = shell("true");
    CHECK(stockade_spec_add_volume(spec, "/no/such/directory", "/mnt", 0) == 0);
    FAILS(stockade_spec_run(spec, &outcome, &failed), STOCKADE_ERROR_INVALID_ARGUMENT, "/no/such/directory");
    stockade_spec_free(spec);

    /* Only a pipe or a socket may go in: a file could be opened again, for writing, from inside. */
    spec = shell("true");
    {
        int file = open("/dev/null", O_RDWR | O_CLOEXEC);
        CHECK(stockade_spec_set_stdout_fd(spec, file) == 0);
        FAILS(stockade_spec_run(spec, &outcome, &failed), STOCKADE_ERROR_INVALID_ARGUMENT, "stdout");
        close(file);
    }
    stockade_spec_free(spec);
}

static void setup(void)
{
    stockade_spec *spec = shell("true");
    stockade_outcome *outcome = NULL;
    stockade_error *error = NULL;
    CHECK(stockade_spec_add_file(spec, "/usr/not-writable", "x", 1, 0644) == 0);
    CHECK(stockade_spec_run(spec, &outcome, &error) == STOCKADE_ERROR_SETUP);
    CHECK(outcome == NULL);
    CHECK(stockade_error_kind(error) == STOCKADE_ERROR_SETUP);
    CHECK(stockade_error_errno(error) == EROFS);
    CHECK(strlen(stockade_error_step(error)) > 0);
    CHECK(strstr(stockade_error_message(error), "/usr/not-writable") != NULL);
    stockade_error_free(error);
    stockade_spec_free(spec);
}

static void state(void)
{
    stockade_spec *spec = shell("true");
    stockade_sandbox *sandbox = NULL;
    stockade_process *process = NULL;
    WORKS(stockade_sandbox_start(spec, &sandbox, &failed));
    WORKS(stockade_sandbox_close(sandbox, &failed));
    FAILS(stockade_sandbox_spawn(sandbox, spec, &process, &failed), STOCKADE_ERROR_STATE, "closed");
    CHECK(process == NULL);
    stockade_sandbox_free(sandbox);
    stockade_spec_free(spec);
}

/* No descriptor left: nothing is started, and all is well again afterwards. */
static void resource(void)
{
    struct rlimit old, none;
    stockade_spec *spec = shell("true");
    stockade_outcome *outcome = NULL;
    CHECK(getrlimit(RLIMIT_NOFILE, &old) == 0);
    none = old;
    none.rlim_cur = 0;
    CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);
    FAILS(stockade_spec_run(spec, &outcome, &failed), STOCKADE_ERROR_RESOURCE, "");
    CHECK(setrlimit(RLIMIT_NOFILE, &old) == 0);
    stockade_spec_free(spec);
    check_says("echo again", "again\n");
}

/* The supervisor is killed: what ran is told as such, a sandbox is gone, the next run has a new one. */
static void supervisor_gone(void)
{
    stockade_spec *spec = shell("sleep 1000");
    stockade_sandbox *sandbox = NULL;
    stockade_process *process = NULL;
    stockade_outcome *outcome = NULL;
    stockade_error *error = NULL;
    int supervisor = 0;
    WORKS(stockade_sandbox_start(spec, &sandbox, &failed));
    CHECK(supervisors(&supervisor) == 1);
    WORKS(stockade_spec_spawn(spec, &process, &failed));
    CHECK(stockade_process_pid(process, NULL));
    CHECK(kill(supervisor, SIGKILL) == 0);
    WORKS(stockade_process_wait(process, &outcome, &failed));
    CHECK(stockade_outcome_verdict(outcome) == STOCKADE_VERDICT_SANDBOX_ERROR);
    CHECK(strstr(stockade_outcome_message(outcome), "supervisor") != NULL);
    stockade_outcome_free(outcome);
    /* It takes a moment to die, in which it still takes a request; then that is what was lost. */
    while (stockade_sandbox_run(sandbox, spec, &outcome, &error) == STOCKADE_OK) {
        CHECK(stockade_outcome_verdict(outcome) == STOCKADE_VERDICT_SANDBOX_ERROR);
        stockade_outcome_free(outcome);
    }
    CHECK(outcome == NULL && stockade_error_kind(error) == STOCKADE_ERROR_SUPERVISOR);
    stockade_error_free(error);
    stockade_process_free(process);
    stockade_sandbox_free(sandbox);
    stockade_spec_free(spec);
    check_says("echo again", "again\n");
}

/* Writes a file of this process's new user namespace. */
static void put(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
}

/* A host without user namespaces: made by a limit that counts only in a namespace of our own. */
static void unsupported(void)
{
    int status;
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        stockade_spec *spec = shell("true");
        stockade_outcome *outcome = NULL;
        CHECK(unshare(CLONE_NEWUSER) == 0);
        put("/proc/sys/user/max_user_namespaces", "0");
        FAILS(stockade_spec_run(spec, &outcome, &failed), STOCKADE_ERROR_UNSUPPORTED, "user namespace");
        stockade_spec_free(spec);
        exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int main(void)
{
    unsupported();
    invalid_argument();
    setup();
    state();
    resource();
    supervisor_gone();
    CHECK(stockade_error_kind(NULL) == STOCKADE_OK && stockade_error_errno(NULL) == 0);
    CHECK(stockade_error_message(NULL) == NULL && stockade_error_step(NULL) == NULL);
    stockade_error_free(NULL);
    return 0;
}
