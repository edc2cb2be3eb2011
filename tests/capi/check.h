/* What the C tests share. A test is a program: status 0 if every check held. */
#ifndef CHECK_H
#define CHECK_H

#include "stockade.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SECOND 1000000000ull

/* Ends the test at once: what follows would rest on it. */
#define CHECK(condition)                                                              \
    do {                                                                              \
        if (!(condition)) {                                                           \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);   \
            exit(1);                                                                  \
        }                                                                             \
    } while (0)

#define CHECK_TEXT(actual, expected)                                                  \
    do {                                                                              \
        const char *text_ = (actual);                                                 \
        if (text_ == NULL || strcmp(text_, (expected)) != 0) {                        \
            fprintf(stderr, "%s:%d: %s is \"%s\", not \"%s\"\n", __FILE__, __LINE__,  \
                    #actual, text_ ? text_ : "(null)", (expected));                   \
            exit(1);                                                                  \
        }                                                                             \
    } while (0)

/* The call succeeds; else its error is shown. The call's own error argument is &failed. */
#define WORKS(call)                                                                   \
    do {                                                                              \
        stockade_error *failed = (stockade_error *)&failed;                           \
        if ((call) != STOCKADE_OK) {                                                  \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #call,             \
                    stockade_error_message(failed));                                  \
            exit(1);                                                                  \
        }                                                                             \
        CHECK(failed == NULL);                                                        \
    } while (0)

/* The call fails with this kind, and its error's text has this in it. The call's own error argument is &failed. */
#define FAILS(call, kind, has)                                                        \
    do {                                                                              \
        stockade_error *failed = NULL;                                                \
        CHECK((call) == (kind));                                                      \
        CHECK(failed != NULL && stockade_error_kind(failed) == (kind));               \
        CHECK(stockade_error_step(failed) != NULL);                                   \
        if (strstr(stockade_error_message(failed), (has)) == NULL) {                  \
            fprintf(stderr, "%s:%d: \"%s\" is not in \"%s\"\n", __FILE__, __LINE__,   \
                    (has), stockade_error_message(failed));                           \
            exit(1);                                                                  \
        }                                                                             \
        stockade_error_free(failed);                                                  \
    } while (0)

/* How many supervisors this process has, by the pidfds it holds, and the pid of the last one found. Programs that run
 * meanwhile have pidfds too. */
static inline int supervisors(int *pid)
{
    DIR *directory = opendir("/proc/self/fdinfo");
    struct dirent *entry;
    int count = 0;
    CHECK(directory != NULL);
    while ((entry = readdir(directory)) != NULL) {
        char path[300], line[256];
        FILE *file;
        snprintf(path, sizeof path, "/proc/self/fdinfo/%s", entry->d_name);
        file = fopen(path, "r");
        while (file != NULL && fgets(line, sizeof line, file) != NULL)
            count += sscanf(line, "Pid: %d", pid) == 1 && *pid > 0;
        if (file != NULL)
            fclose(file);
    }
    closedir(directory);
    return count;
}

/* A specification that runs a shell script, with a wall clock in case it does not end. */
static inline stockade_spec *shell(const char *script)
{
    const char *args[] = {"/bin/sh", "-c", script, NULL};
    stockade_spec *spec = stockade_spec_new();
    CHECK(stockade_spec_set_args(spec, args) == STOCKADE_OK);
    CHECK(stockade_spec_set_wall_time(spec, 60 * SECOND) == STOCKADE_OK);
    return spec;
}

/* Runs a shell script in a sandbox of its own and frees its specification. */
static inline stockade_outcome *run_shell(const char *script)
{
    stockade_spec *spec = shell(script);
    stockade_outcome *outcome = NULL;
    WORKS(stockade_spec_run(spec, &outcome, &failed));
    CHECK(outcome != NULL);
    stockade_spec_free(spec);
    return outcome;
}

/* Runs a script that must end well and write exactly this; shows the whole outcome if not. */
static inline void check_says(const char *script, const char *expected)
{
    stockade_outcome *outcome = run_shell(script);
    if (stockade_outcome_verdict(outcome) != STOCKADE_VERDICT_OK
        || strcmp(stockade_outcome_stdout(outcome, NULL), expected) != 0) {
        char *json = NULL;
        stockade_outcome_to_json(outcome, &json, NULL);
        fprintf(stderr, "`%s` did not just say \"%s\": %s\n", script, expected, json);
        exit(1);
    }
    stockade_outcome_free(outcome);
}

#endif
