/* One sandbox for several programs: what the first leaves, the second finds. */
#include <stdio.h>
#include <stockade.h>

static int run(const stockade_sandbox *sandbox, const stockade_spec *like, const char *script)
{
    const char *args[] = {"sh", "-c", script, NULL};
    stockade_spec *spec = stockade_spec_clone(like);
    stockade_outcome *outcome;
    stockade_error *error;
    int status;

    stockade_spec_set_args(spec, args);
    status = stockade_sandbox_run(sandbox, spec, &outcome, &error);
    if (status == STOCKADE_OK)
        printf("%s", stockade_outcome_stdout(outcome, NULL));
    else
        fprintf(stderr, "%s\n", stockade_error_message(error));
    stockade_outcome_free(outcome);
    stockade_error_free(error);
    stockade_spec_free(spec);
    return status;
}

int main(void)
{
    stockade_spec *spec = stockade_spec_new();
    stockade_sandbox *sandbox;
    stockade_error *error;
    int status;

    stockade_spec_set_wall_time(spec, 10 * 1000000000ull);
    status = stockade_sandbox_start(spec, &sandbox, &error);
    if (status == STOCKADE_OK) {
        status = run(sandbox, spec, "echo one > a; echo two > b");
        if (status == STOCKADE_OK)
            status = run(sandbox, spec, "echo $(ls | wc -l) files: $(cat a b)");
    } else {
        fprintf(stderr, "%s\n", stockade_error_message(error));
        stockade_error_free(error);
    }
    stockade_sandbox_free(sandbox);
    stockade_spec_free(spec);
    return status;
}
