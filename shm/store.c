#include "shm/store.h"

#ifdef PL_CRASH_POINTS

static pl_crash_hook *crash_hook;
static void *crash_data;

void
pl_crash_set_hook(pl_crash_hook *hook, void *data)
{
    crash_data = data;
    crash_hook = hook;
}

void
pl_crash_point(const char *name)
{
    if (crash_hook != 0)
        crash_hook(name, crash_data);
}

#endif
