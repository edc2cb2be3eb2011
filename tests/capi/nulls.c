/* The frame of tests/capi/nulls.rs, which puts the calls into it. */
#include "check.h"

int main(void)
{
    stockade_spec *spec = shell("sleep 60");
    stockade_sandbox *sandbox = NULL;
    stockade_process *process = NULL;
    stockade_update *update = stockade_update_new();
    stockade_pull *pull = stockade_pull_new();
    stockade_outcome *outcome = run_shell("echo x");
    stockade_error *error = NULL;
    stockade_store *store = NULL;
    const stockade_enforcement *enforcement = stockade_outcome_enforcement_at(outcome, 0);
    const stockade_violation *violation = stockade_outcome_violation(outcome);
    const stockade_output *output = NULL;
    char place[] = "/tmp/stockade-nulls.XXXXXX", removal[64];
    CHECK(mkdtemp(place) != NULL);
    WORKS(stockade_store_open(place, &store, &failed));
    WORKS(stockade_sandbox_start(spec, &sandbox, &failed));
    WORKS(stockade_sandbox_spawn(sandbox, spec, &process, &failed));
    CHECK(stockade_spec_run(NULL, NULL, &error) == STOCKADE_ERROR_INVALID_ARGUMENT);
    (void)output, (void)enforcement;
    /* the calls */
    snprintf(removal, sizeof removal, "rm -rf %s", place);
    return system(removal);
}
