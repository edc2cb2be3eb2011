/* The driver in C: times whole calls of the library beside plain posix_spawn of the same program.
 * Takes what main.rs takes, and prints what it prints. */
#include <pthread.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#include <stockade.h>

enum { WARM = 20, SLICES = 4, SERIES_MAX = 3, ARGS_MAX = 64, CALLERS_MAX = 64 };
static const double SLICE = 0.5;

/* What is measured: one whole call, from nothing to a verdict. Either spec or args. */
struct series {
    const char *name;
    stockade_spec *spec;
    char *args[ARGS_MAX];
};

static void fail(const char *what) {
    fprintf(stderr, "spawn: %s\n", what);
    exit(1);
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void call(const struct series *series) {
    if (series->spec != NULL) {
        stockade_outcome *outcome;
        stockade_error *error;
        if (stockade_spec_run(series->spec, &outcome, &error) != STOCKADE_OK)
            fail(stockade_error_message(error));
        if (stockade_outcome_verdict(outcome) != STOCKADE_VERDICT_OK)
            fail(stockade_verdict_name(stockade_outcome_verdict(outcome)));
        stockade_outcome_free(outcome);
        return;
    }
    pid_t pid;
    int status;
    char *environment[] = {NULL};
    if (posix_spawn(&pid, series->args[0], NULL, NULL, series->args, environment) != 0)
        fail("posix_spawn");
    if (waitpid(pid, &status, 0) != pid || status != 0)
        fail("waitpid");
}

static void latency(long count, const struct series *series, int n) {
    double *times = calloc((size_t)(count * n), sizeof *times);
    if (times == NULL)
        fail("memory");
    for (long turn = 0; turn < WARM + count; turn++)
        for (int i = 0; i < n; i++) {
            double start = now();
            call(&series[i]);
            double spent = now() - start;
            if (turn >= WARM)
                times[i * count + turn - WARM] = spent;
        }
    for (int i = 0; i < n; i++) {
        printf("%s", series[i].name);
        for (long turn = 0; turn < count; turn++)
            printf(" %.0f", times[i * count + turn] * 1e9);
        printf("\n");
    }
    free(times);
}

struct work {
    const struct series *series;
    double end;
    atomic_long runs;
};

static void *caller(void *argument) {
    struct work *work = argument;
    while (now() < work->end) {
        call(work->series);
        atomic_fetch_add(&work->runs, 1);
    }
    return NULL;
}

static void rate(long callers, const struct series *series, int n) {
    double rates[SERIES_MAX] = {0};
    if (callers < 1 || callers > CALLERS_MAX)
        fail("1 to 64 callers");
    for (int slice = 0; slice < SLICES; slice++)
        for (int i = 0; i < n; i++) {
            pthread_t threads[CALLERS_MAX];
            double start = now();
            struct work work = {.series = &series[i], .end = start + SLICE};
            for (long t = 0; t < callers; t++)
                if (pthread_create(&threads[t], NULL, caller, &work) != 0)
                    fail("pthread_create");
            for (long t = 0; t < callers; t++)
                pthread_join(threads[t], NULL);
            rates[i] += (double)work.runs / (now() - start) / SLICES;
        }
    for (int i = 0; i < n; i++)
        printf("%s %.1f\n", series[i].name, rates[i]);
}

static struct series command(const char *name, char *line) {
    struct series series = {.name = name};
    int count = 0;
    for (char *arg = strtok(line, " "); arg != NULL && count < ARGS_MAX - 1; arg = strtok(NULL, " "))
        series.args[count++] = arg;
    return series;
}

int main(int argc, char **argv) {
    if (argc < 5 || argc > 6)
        fail("usage: spawn latency|rate NUMBER SPEC PLAIN [PEER]");
    stockade_spec *spec;
    stockade_error *error;
    if (stockade_spec_from_json(argv[3], &spec, &error) != STOCKADE_OK)
        fail(stockade_error_message(error));
    struct series series[SERIES_MAX];
    int n = 0;
    series[n++] = command("plain", argv[4]);
    series[n++] = (struct series){.name = "stockade", .spec = spec};
    if (argc == 6)
        series[n++] = command("bubblewrap", argv[5]);
    long number = strtol(argv[2], NULL, 10);
    if (strcmp(argv[1], "rate") == 0)
        rate(number, series, n);
    else
        latency(number, series, n);
    stockade_spec_free(spec);
    return 0;
}
