/*
 * What the supervisor of a house has in its books: looked at from inside, when nothing runs.
 */
#ifndef PL_TEST_STEPS_BOOKS_H
#define PL_TEST_STEPS_BOOKS_H

#include <stdbool.h>

/* Each of the client's numbers is one job in the log, and nothing in it is damaged. */
void books_check_log(void);
/* The core's invariants hold, every unit is free, the capacity is that of the configuration. */
void books_check_units(void);
/* Whether the log has released a chunk since it was opened. */
bool books_compacted(void);

#endif
