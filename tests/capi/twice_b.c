#include "stockade.h"

int twice_b(void);

int twice_b(void)
{
    return STOCKADE_VERSION_MAJOR + stockade_outcome_verdict(NULL);
}
