/* The library as part of a plug-in: loaded, used, unloaded, loaded again. Its path is the argument. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

#include "stockade.h"

#define NEED(condition)                                                         \
    do {                                                                        \
        if (!(condition)) {                                                     \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
            exit(1);                                                            \
        }                                                                       \
    } while (0)

/* ISO C has no cast from an object pointer to a function pointer; POSIX says they have one representation. */
#define LOOK_UP(library, name)                                      \
    do {                                                            \
        *(void **)&name = dlsym(library, "stockade_" #name);        \
        NEED(name != NULL);                                         \
    } while (0)

int main(int argc, char **argv)
{
    int round;
    NEED(argc == 2);
    for (round = 0; round < 3; round++) {
        stockade_spec *(*spec_new)(void);
        int (*spec_add_arg)(stockade_spec *, const char *);
        int (*spec_run)(const stockade_spec *, stockade_outcome **, stockade_error **);
        int (*outcome_verdict)(const stockade_outcome *);
        void (*spec_free)(stockade_spec *);
        void (*outcome_free)(stockade_outcome *);
        stockade_outcome *outcome = NULL;
        stockade_spec *spec;
        void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
        NEED(library != NULL);
        LOOK_UP(library, spec_new);
        LOOK_UP(library, spec_add_arg);
        LOOK_UP(library, spec_run);
        LOOK_UP(library, outcome_verdict);
        LOOK_UP(library, spec_free);
        LOOK_UP(library, outcome_free);
        spec = spec_new();
        NEED(spec_add_arg(spec, "true") == STOCKADE_OK);
        NEED(spec_run(spec, &outcome, NULL) == STOCKADE_OK);
        NEED(outcome_verdict(outcome) == STOCKADE_VERDICT_OK);
        outcome_free(outcome);
        spec_free(spec);
        NEED(dlclose(library) == 0);
    }
    return 0;
}
