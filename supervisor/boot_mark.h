/*
 * From which record on the store's log is of this boot of the machine.
 *
 * CLOCK_BOOTTIME means something within one boot alone, so what is due later is taken from the wall
 * clock after a reboot; when only guard and supervisor began anew, that clock may have jumped and
 * the other has not. Records do not name their boot: the state directory has a file `boot` with its
 * id, the log's seed and the number of its first record.
 *
 * It needs no flush: after a power cut it is another boot's anyway. Without it, or with one that is
 * not understood, nothing is of this boot, and the wall clock decides.
 */
#ifndef PL_SUPERVISOR_BOOT_MARK_H
#define PL_SUPERVISOR_BOOT_MARK_H

#include "base/types.h"

struct pl_supervisor;

/* At a start from the store: @next_lsn is what its next record will have. Return: the lsn from
 * which on records are of this boot; @next_lsn when none is yet. */
uint64_t pl_boot_mark(const struct pl_supervisor *sup, uint64_t next_lsn);

#endif
