/*
 * Who a store is: the file STORE beside its data, and the lock of the process that has it open.
 *
 * STORE exists before anything else and is on disk, with its directory, before the first record is
 * acknowledged. `initialised` is set once log and database exist: from then on an empty, missing or
 * foreign database is damage, never a fresh start. A folder that holds data but no STORE is
 * refused.
 *
 * The struct is a copy for the caller; nothing is kept open but the lock. Any thread, but only one
 * process at a time: the one that holds the lock.
 */
#ifndef PL_STORE_IDENTITY_H
#define PL_STORE_IDENTITY_H

#include "base/types.h"
#include "util/error.h"

#define PL_STORE_FORMAT 2u /* 1: without the table of idempotency keys; taken over at open */

struct pl_identity {
    uint8_t uuid[16];
    uint32_t seed;   /* of every CRC in this store: log and tables */
    uint32_t format; /* PL_STORE_FORMAT of the build that made it */
    pl_wall created_ms;
    bool initialised;
};

enum pl_identity_outcome {
    PL_IDENTITY_OK = 0,
    PL_IDENTITY_E_LOCKED = 1,  /* another process has the store open */
    PL_IDENTITY_E_DAMAGED = 2, /* STORE is there and is not whole */
    PL_IDENTITY_E_NEWER = 3,   /* of a newer build */
    PL_IDENTITY_E_LOST = 4,    /* data without STORE: refused, it may be somebody's */
    PL_IDENTITY_E_NONE = 5,    /* read: no STORE */
};

/**
 * pl_identity_lock() - be the one process that has this store open
 * @dir_fd: of STATE_DIR/store
 *
 * The lock lasts until @ret_fd is closed or the process ends. It is not inherited through exec.
 *
 * Return: 0, PL_IDENTITY_E_LOCKED, or negative errno; @err tells.
 */
int pl_identity_lock(int dir_fd, struct pl_error *err, int *ret_fd);

/* Return: 0, PL_IDENTITY_E_NONE, _DAMAGED, _NEWER or negative errno. Writes nothing. */
int pl_identity_read(int dir_fd, struct pl_error *err, struct pl_identity *ret_identity);

/**
 * pl_identity_open() - read STORE, or make it in an empty folder
 *
 * A new one is on disk, folder included, when this returns; its `initialised` is false.
 *
 * Return: 0, PL_IDENTITY_E_DAMAGED, _NEWER, _LOST, or negative errno; @err tells.
 */
int pl_identity_open(int dir_fd, pl_wall now_ms, struct pl_error *err,
                     struct pl_identity *ret_identity);

/* Writes @identity (by rename, synced) with `initialised` set. Return: 0 or negative errno. */
int pl_identity_set_initialised(int dir_fd, struct pl_error *err, struct pl_identity *identity);

/* 16 bytes that follow from uuid and seed, and that nobody knows who cannot read the store. */
void pl_identity_secret(const struct pl_identity *identity, uint8_t ret_secret[16]);

/* Writes STORE as it is given: for salvage. Return: 0 or negative errno. */
int pl_identity_write(int dir_fd, struct pl_error *err, const struct pl_identity *identity);

#endif
