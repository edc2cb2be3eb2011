/* Runs one program and prints its verdict and its bill.   cc run.c $(pkg-config --cflags --libs stockade) */
#include <stdio.h>
#include <stockade.h>

int main(void)
{
    const char *args[] = {"sh", "-c", "echo hello from a sandbox; id -u; ls /", NULL};
    stockade_spec *spec = stockade_spec_new();
    stockade_outcome *outcome;
    stockade_error *error;
    uint64_t value;

    stockade_spec_set_args(spec, args);
    stockade_spec_set_memory(spec, 64 << 20);
    stockade_spec_set_pids(spec, 16);
    stockade_spec_set_wall_time(spec, 10 * 1000000000ull);
    if (stockade_spec_run(spec, &outcome, &error) != STOCKADE_OK) {
        fprintf(stderr, "%s\n", stockade_error_message(error));
        stockade_error_free(error);
        stockade_spec_free(spec);
        return 1;
    }
    printf("%s", stockade_outcome_stdout(outcome, NULL));
    printf("%s\n", stockade_verdict_name(stockade_outcome_verdict(outcome)));
    if (stockade_outcome_usage(outcome, STOCKADE_USAGE_CPU_TIME, &value))
        printf("%.3f ms of CPU time\n", (double)value / 1e6);
    if (stockade_outcome_usage(outcome, STOCKADE_USAGE_MEMORY_PEAK, &value))
        printf("%.1f MiB of memory\n", (double)value / (1 << 20));
    stockade_outcome_free(outcome);
    stockade_spec_free(spec);
    return 0;
}
