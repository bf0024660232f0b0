/*
 * Assertions that stay in release builds: a scheduler that goes on with a wrong ledger is worse
 * than one that restarts. They check what we wrote; what a peer wrote is checked by code that
 * returns an outcome.
 */
#ifndef PL_BASE_ASSERT_H
#define PL_BASE_ASSERT_H

/* Prints nothing itself: a host may set a hook that records the text first. Never returns. */
__attribute__((cold)) _Noreturn void pl_assert_fail(const char *expr, const char *file, int line);

/* Called with "file:line: expr" before the process aborts; NULL for none. Hosted processes set it
 * once at start, before any thread. */
typedef void pl_assert_hook(const char *expr, const char *file, int line);
void pl_assert_set_hook(pl_assert_hook *hook);

#define PL_ASSERT(expr)                                                                            \
    (__builtin_expect(!!(expr), 1) ? (void)0 : pl_assert_fail(#expr, __FILE__, __LINE__))

#endif
