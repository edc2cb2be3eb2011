/* The header twice in one file; twice_b.c is the second file of the same program. */
#include "stockade.h"
#include "stockade.h"

int twice_b(void);
int twice_a(void);

int twice_a(void)
{
    return twice_b() + stockade_error_kind(NULL);
}
