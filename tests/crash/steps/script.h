/*
 * The client's script: scenarios with boundaries between them, and what is asked on a copy.
 */
#ifndef PL_TEST_STEPS_SCRIPT_H
#define PL_TEST_STEPS_SCRIPT_H

#include <stdbool.h>
#include <stdint.h>

uint32_t script_count(void);
const char *script_name(uint32_t scenario);
void script_write_config(const char *dir, bool durable);

/* Everything, on a house that was just opened. */
void script_run(bool durable);

/* On what a death left: the client comes back, repeats its submits and waits for every job. Fails
 * when something that it had been told is not so any more. @machine: only the disk is left. */
void script_recover(bool machine);

#endif
