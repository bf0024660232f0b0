/*
 * Other programs in the place of those that run, while jobs run.
 *
 * The supervisor's own: the guard opens the new program and says RUNNING. Then nothing is read from
 * clients any more, replies leave as they become durable, connections are closed, and the process
 * ends; the guard starts the new program, or, when that is not healthy, the old one again
 * (guard/upgrade.c). The next supervisor finds what it finds after a death, so an upgrade can be
 * cut off anywhere. Jobs whose client wants them cancelled when it goes are not: it comes back.
 *
 * The store's: it ends when what lies in its ring is durable, the new program is started on the
 * same link. One that does not serve in time is ended and the old program is started, by the
 * descriptor through which we have kept it. Replies wait meanwhile, nothing else does.
 *
 * The guard's: it replaces itself (guard/reexec.c) and tells.
 */
#ifndef PL_SUPERVISOR_UPGRADE_H
#define PL_SUPERVISOR_UPGRADE_H

#include "supervisor/request.h"
#include "supervisor/supervisor.h"
#include "util/formats.h"

/* What the guard says: its version; that something was decided. */
void pl_upgrade_guard_is(struct pl_supervisor *sup, const char version[PL_GUARD_VERSION_BYTES]);
void pl_upgrade_told(struct pl_supervisor *sup, const struct pl_guard_upgrade_is *told);

/* Time-outs; whether the hand-over is complete, at the end of each turn. */
void pl_upgrade_due(struct pl_supervisor *sup);
pl_time pl_upgrade_deadline(const struct pl_supervisor *sup);
void pl_upgrade_progress(struct pl_supervisor *sup);

/* Of the store's process. Failed: it will not serve. Return: whether the old program was started
 * instead. */
void pl_upgrade_store_serves(struct pl_supervisor *sup);
bool pl_upgrade_store_failed(struct pl_supervisor *sup);

/* --check-upgrade: whether this program could serve with the configuration and with what an
 * instance of @formats has in memory. Nothing is changed. Return: exit status. */
int pl_upgrade_check(struct pl_supervisor *sup, const char *formats);

/* Layouts that a supervisor shares with other processes, and with the one before it. */
extern const struct pl_format pl_upgrade_formats[];

#endif
