/*
 * Looking at a database without trusting it: check and salvage.
 *
 * Both read data.mdb by pread() through store/pages.h, page by page with every length and number
 * checked, never through LMDB: no file can crash, hang or mislead them into reading elsewhere. They
 * need the store to be stopped (its LOCK held by the caller) or a backup.
 *
 * Check proves: both meta pages hold; every page of the file is used exactly once, by a table, by
 * the free list or by nothing; keys ascend; every row has its CRC and its form; rows refer to each
 * other both ways (id, job, res, mbox, dead, blob); the counters are what the rows add up to.
 */
#ifndef PL_STORE_CHECK_H
#define PL_STORE_CHECK_H

#include "store/db.h"

#define PL_CHECK_FINDINGS 16u
#define PL_CHECK_TEXT     160u

/* What is wrong, for a person: "res 0x1f: CRC", "page 17: …". */
struct pl_check_finding {
    unsigned table; /* enum pl_db_table; 0: none in particular */
    uint8_t key[20];
    uint8_t key_bytes;
    char text[PL_CHECK_TEXT];
};

struct pl_check_report {
    uint64_t rows[PL_DB_TABLES]; /* whole ones */
    uint64_t findings;           /* how many; 0: all is well */
    struct pl_check_finding first[PL_CHECK_FINDINGS];
    uint64_t pages;       /* of the file, in use or free */
    uint64_t loose_pages; /* neither in use nor free: lost to use, which harms nothing */
    uint64_t bad_pages;   /* not readable, or not what they should be */
    uint64_t bad_rows;    /* rows whose CRC or form is wrong */
    uint64_t bad_links;   /* rows that refer to nothing, or that nothing refers to */
    uint64_t bad_counts;  /* counters that are not what the rows add up to */
    struct pl_log_position position;
    struct pl_db_counters counters; /* as stored; valid when rows[PL_DB_META] is 1 */
};

/**
 * pl_check() - is everything in the database of @path whole?
 * @path:     the folder with data.mdb
 * @identity: of the store, for the CRCs
 *
 * Return: 0 (all is well), PL_DB_E_DAMAGED (@ret_report tells), PL_DB_E_EMPTY, _FOREIGN (nothing of
 * this store in it), _NEWER, or negative errno; @ret_report is set for 0 and _DAMAGED.
 */
int pl_check(const char *path, const struct pl_identity *identity, struct pl_error *err,
             struct pl_check_report *ret_report);

struct pl_salvage_report {
    uint64_t rows[PL_DB_TABLES]; /* written */
    uint64_t jobs;               /* that live, with their whole body */
    uint64_t results;
    uint64_t dead;
    uint64_t cut;       /* jobs, outcomes or dead letters left out: a part of their body is lost */
    uint64_t bad_rows;  /* rows seen and not whole */
    uint64_t bad_pages; /* pages that could not be read */
    uint64_t found_loose; /* rows found on pages that no table leads to any more */
    bool may_be_older;    /* a meta page is lost: this may be the state of the commit before last */
    bool has_position;    /* the folded position was found: the log may be folded on from there */
    /* The free list was lost, or pages are old versions of themselves: some rows may be of jobs
     * that have gone on or ended since (they then run once more). */
    bool may_be_stale;
};

/**
 * pl_salvage() - every whole job, outcome and dead letter into a new database
 * @from: the folder with the damaged data.mdb; not written to
 * @to:   a folder that is empty or missing
 *
 * Idempotency keys are copied too. Bodies are copied with their rows; `id`, `mbox` and the counters
 * of rows are made anew. Without the folded position the new one begins behind the highest lsn
 * found: the caller decides whether the log is folded from its oldest segment (idempotent only
 * above that lsn).
 *
 * Return: 0 (also when nothing was found: look at the report), PL_DB_E_EMPTY (no file),
 * PL_DB_E_FULL, -EEXIST (@to is not empty) or another negative errno; @err tells.
 */
int pl_salvage(const char *from, const struct pl_identity *identity, const char *to,
               struct pl_error *err, struct pl_salvage_report *ret_report);

/**
 * pl_salvage_join() - the same from two sound databases of one store, at one position
 * @from:  salvaged tables: rows may be missing, or be of jobs that have ended since
 * @log:   folded from the log behind lsn @since alone: it is right about every job that was
 *         submitted there, and knows a part of what became of older ones
 *
 * Of jobs from behind @since the rows of @log are taken and no others; of older ones those of
 * @from, and those of @log that @from lacks.
 */
int pl_salvage_join(const char *from, const char *log, uint64_t since,
                    const struct pl_identity *identity, const char *to, struct pl_error *err,
                    struct pl_salvage_report *ret_report);

#endif
