/* Handles freed in every order, used in the wrong one, and ended twice: nothing of it is a crash, and nothing is left. */
#include "check.h"

#include <signal.h>

enum { SPEC, SANDBOX, FIRST, SECOND_, OUTCOME, ALL };

static stockade_spec *spec;
static stockade_sandbox *sandbox;
static stockade_process *first, *second;
static stockade_outcome *outcome;

static void make(void)
{
    stockade_spec *quick = shell("true");
    spec = shell("sleep 60");
    WORKS(stockade_sandbox_start(spec, &sandbox, &failed));
    WORKS(stockade_sandbox_spawn(sandbox, spec, &first, &failed));
    WORKS(stockade_spec_spawn(spec, &second, &failed));
    WORKS(stockade_sandbox_run(sandbox, quick, &outcome, &failed));
    CHECK(stockade_outcome_verdict(outcome) == STOCKADE_VERDICT_OK);
    stockade_spec_free(quick);
}

static void end(int which)
{
    switch (which) {
    case SPEC: stockade_spec_free(spec); break;
    case SANDBOX: stockade_sandbox_free(sandbox); break;
    case FIRST: stockade_process_free(first); break;
    case SECOND_: stockade_process_free(second); break;
    case OUTCOME: stockade_outcome_free(outcome); break;
    }
}

/* Every order of freeing, and after each step what is left still answers. */
static void every_order(int *order, int known)
{
    if (known < ALL) {
        for (int next = 0; next < ALL; next++) {
            int used = 0;
            for (int i = 0; i < known; i++)
                used |= order[i] == next;
            if (!used) {
                order[known] = next;
                every_order(order, known + 1);
            }
        }
        return;
    }
    make();
    int open[ALL] = {1, 1, 1, 1, 1};
    for (int i = 0; i < ALL; i++) {
        end(order[i]);
        open[order[i]] = 0;
        if (open[OUTCOME])
            CHECK(stockade_outcome_verdict(outcome) == STOCKADE_VERDICT_OK);
        if (open[SECOND_])
            CHECK(stockade_process_pid(second, NULL));
        if (open[SPEC]) {
            char *json = NULL;
            WORKS(stockade_spec_to_json(spec, &json, &failed));
            stockade_string_free(json);
        }
    }
}

/* What comes too late, too early or twice is an error or nothing. */
static void wrong_order(void)
{
    stockade_outcome *again = NULL;
    make();
    WORKS(stockade_process_kill(second, &failed));
    WORKS(stockade_process_kill(second, &failed));
    WORKS(stockade_process_wait(second, &again, &failed));
    CHECK(stockade_outcome_verdict(again) == STOCKADE_VERDICT_KILLED);
    stockade_outcome_free(again);
    WORKS(stockade_process_wait(second, &again, &failed));
    stockade_outcome_free(again);
    WORKS(stockade_process_kill(second, &failed));
    WORKS(stockade_process_signal(second, SIGTERM, &failed));
    CHECK(!stockade_process_pid(second, NULL));
    CHECK(stockade_process_resume(second, NULL) != STOCKADE_ERROR_INTERNAL);
    CHECK(stockade_process_take_stdin(second) == -1);

    WORKS(stockade_sandbox_close(sandbox, &failed));
    WORKS(stockade_sandbox_close(sandbox, &failed));
    FAILS(stockade_sandbox_run(sandbox, spec, &again, &failed), STOCKADE_ERROR_STATE, "closed");
    CHECK(again == NULL);
    WORKS(stockade_process_wait(first, &again, &failed));
    CHECK(stockade_outcome_verdict(again) == STOCKADE_VERDICT_KILLED);
    stockade_outcome_free(again);
    for (int which = 0; which < ALL; which++)
        end(which);
}

int main(void)
{
    int order[ALL];
    wrong_order();
    every_order(order, 0);
    check_says("echo fine", "fine\n");
    return 0;
}
