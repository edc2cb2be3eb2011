/* A host that forks with live handles: the child may not use them, has a supervisor of its own, and disturbs nothing. */
#include "check.h"

#include <sys/wait.h>

static void in_the_child(stockade_spec *spec, stockade_sandbox *sandbox, stockade_process *process)
{
    stockade_outcome *outcome = NULL;
    stockade_process *other = NULL;
    FAILS(stockade_process_poll(process, &outcome, &failed), STOCKADE_ERROR_STATE, "fork");
    FAILS(stockade_process_wait(process, &outcome, &failed), STOCKADE_ERROR_STATE, "fork");
    FAILS(stockade_process_wait_timeout(process, SECOND, &outcome, &failed), STOCKADE_ERROR_STATE, "fork");
    FAILS(stockade_process_signal(process, 9, &failed), STOCKADE_ERROR_STATE, "fork");
    FAILS(stockade_process_kill(process, &failed), STOCKADE_ERROR_STATE, "fork");
    FAILS(stockade_sandbox_run(sandbox, spec, &outcome, &failed), STOCKADE_ERROR_STATE, "fork");
    FAILS(stockade_sandbox_spawn(sandbox, spec, &other, &failed), STOCKADE_ERROR_STATE, "fork");
    FAILS(stockade_sandbox_close(sandbox, &failed), STOCKADE_ERROR_STATE, "fork");
    CHECK(!stockade_process_pid(process, NULL));
    /* A specification is a plain value, and new handles are the child's own. */
    WORKS(stockade_spec_run(spec, &outcome, &failed));
    CHECK_TEXT(stockade_outcome_stdout(outcome, NULL), "ran\n");
    stockade_outcome_free(outcome);
    check_says("echo child", "child\n");
    /* Freeing here ends nothing there. */
    stockade_process_free(process);
    stockade_sandbox_free(sandbox);
    stockade_spec_free(spec);
}

int main(void)
{
    stockade_spec *slow = shell("sleep 1; echo undisturbed"), *spec = shell("echo ran");
    stockade_sandbox *sandbox = NULL;
    stockade_process *process = NULL;
    stockade_outcome *outcome = NULL;
    int status, i;
    WORKS(stockade_sandbox_start(spec, &sandbox, &failed));
    WORKS(stockade_spec_spawn(slow, &process, &failed));
    for (i = 0; i < 3; i++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            stockade_spec_free(slow);
            in_the_child(spec, sandbox, process);
            exit(0);
        }
        CHECK(waitpid(child, &status, 0) == child);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    WORKS(stockade_process_wait(process, &outcome, &failed));
    CHECK_TEXT(stockade_outcome_stdout(outcome, NULL), "undisturbed\n");
    CHECK(stockade_outcome_verdict(outcome) == STOCKADE_VERDICT_OK);
    stockade_outcome_free(outcome);
    WORKS(stockade_sandbox_run(sandbox, spec, &outcome, &failed));
    CHECK_TEXT(stockade_outcome_stdout(outcome, NULL), "ran\n");
    stockade_outcome_free(outcome);
    stockade_process_free(process);
    stockade_sandbox_free(sandbox);
    stockade_spec_free(slow);
    stockade_spec_free(spec);
    return 0;
}
