/* Eight threads that run at once, share specifications and a sandbox, and wait for one process together. */
#include "check.h"

#include <pthread.h>

enum { THREADS = 8, RUNS = 10 };

static stockade_spec *shared;
static stockade_sandbox *sandbox;
static stockade_process *process;

static void *work(void *argument)
{
    int number = *(int *)argument, run;
    char script[64], expected[64];
    stockade_outcome *outcome = NULL;
    snprintf(script, sizeof script, "echo %d; exit %d", number, number);
    snprintf(expected, sizeof expected, "%d\n", number);
    for (run = 0; run < RUNS; run++) {
        stockade_spec *own = shell(script);
        WORKS(stockade_spec_run(own, &outcome, &failed));
        CHECK_TEXT(stockade_outcome_stdout(outcome, NULL), expected);
        CHECK(stockade_outcome_returncode(outcome) == number);
        stockade_outcome_free(outcome);
        WORKS(stockade_sandbox_run(sandbox, own, &outcome, &failed));
        CHECK_TEXT(stockade_outcome_stdout(outcome, NULL), expected);
        stockade_outcome_free(outcome);
        stockade_spec_free(own);
        WORKS(stockade_spec_run(shared, &outcome, &failed));
        CHECK_TEXT(stockade_outcome_stdout(outcome, NULL), "shared\n");
        stockade_outcome_free(outcome);
    }
    WORKS(stockade_process_wait(process, &outcome, &failed));
    CHECK_TEXT(stockade_outcome_stdout(outcome, NULL), "waited for\n");
    stockade_outcome_free(outcome);
    return NULL;
}

int main(void)
{
    pthread_t threads[THREADS];
    int numbers[THREADS], i;
    stockade_spec *slow = shell("sleep 1; echo waited for");
    shared = shell("echo shared");
    for (i = 0; i < THREADS; i++) {
        numbers[i] = i;
        if (i == 0) {
            WORKS(stockade_sandbox_start(slow, &sandbox, &failed));
            WORKS(stockade_spec_spawn(slow, &process, &failed));
        }
        CHECK(pthread_create(&threads[i], NULL, work, &numbers[i]) == 0);
    }
    for (i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    stockade_process_free(process);
    stockade_sandbox_free(sandbox);
    stockade_spec_free(slow);
    stockade_spec_free(shared);
    return 0;
}
