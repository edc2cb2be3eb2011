/* What one program could leave for another to find. */
#include "guest.h"

const struct command lateral_commands[] = {
    {NULL, NULL, NULL},
};
