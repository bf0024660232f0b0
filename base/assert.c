#include "base/assert.h"

static pl_assert_hook *assert_hook;

void
pl_assert_set_hook(pl_assert_hook *hook)
{
    assert_hook = hook;
}

_Noreturn void
pl_assert_fail(const char *expr, const char *file, int line)
{
    if (assert_hook != 0)
        assert_hook(expr, file, line);
    __builtin_trap();
}
