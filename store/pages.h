/*
 * The pages of an LMDB 0.9 data file (64-bit, little-endian), read by pread() and believed nothing.
 *
 * LMDB itself cannot be used to look at a damaged file: a broken page header makes it abort, a
 * short file ends in SIGBUS, and a wrong page number in an endless loop. Here every number is
 * checked against the page or the file before it is followed, each page is visited once, and what
 * is wrong is told to a callback instead. The walk needs memory for one byte a page.
 *
 * The file must not change meanwhile. One thread. Internal to store/.
 */
#ifndef PL_STORE_PAGES_H
#define PL_STORE_PAGES_H

#include "base/types.h"
#include "util/error.h"

struct pl_pages;

#define PL_PAGES_FREE_LIST    "free list"
#define PL_PAGES_OUT_OF_ORDER "has a key out of order"

enum pl_pages_outcome {
    PL_PAGES_OK = 0,
    PL_PAGES_E_EMPTY = 1,   /* no file, or 0 bytes */
    PL_PAGES_E_FOREIGN = 2, /* not an LMDB file, or of another layout */
};

/* What the two meta pages say. */
struct pl_pages_head {
    uint64_t page_bytes;
    uint64_t page_count; /* of the newer meta page: in use or free; the file may be longer */
    uint64_t file_bytes;
    uint64_t txn; /* of the newer meta page */
    uint64_t other_txn;
    bool is_whole[2]; /* meta page 0, 1 */
    bool is_complete; /* the file holds all pages that are not free */
};

struct pl_pages_visitor {
    void *user;
    /* A row of a table (its name in the main tree; NULL: found loose). Views. */
    void (*row)(void *user, const char *table, struct pl_str key, struct pl_str value,
                uint64_t page);
    /* What is not as it should be. @table NULL: main tree. */
    void (*bad)(void *user, const char *table, uint64_t page, const char *what);
};

/* @path: folder of data.mdb. Return: 0, enum pl_pages_outcome or negative errno; @err tells. */
int pl_pages_open(const char *path, struct pl_error *err, struct pl_pages **ret_pages);
/* The same without a meta page to go by: no trees, all pages loose. For salvage. */
int pl_pages_open_blind(const char *path, struct pl_error *err, struct pl_pages **ret_pages);
void pl_pages_close(struct pl_pages *pages); /* NULL is allowed */
void pl_pages_get_head(const struct pl_pages *pages, struct pl_pages_head *ret_head);

/* True when both meta pages are whole and follow one another, and the file holds all pages. */
bool pl_pages_head_is_sound(const struct pl_pages_head *head);

/* The free list, then every tree. Return: 0 or -ENOMEM. */
int pl_pages_walk(struct pl_pages *pages, const struct pl_pages_visitor *visitor);

/* After the walk: rows on leaf pages that no tree led to, or that lie where another should, and
 * that are not free. Return: 0, -ENOMEM. */
int pl_pages_walk_loose(struct pl_pages *pages, const struct pl_pages_visitor *visitor);

/* After the walk. */
uint64_t pl_pages_loose_count(const struct pl_pages *pages); /* neither used nor free */
bool pl_pages_free_is_whole(const struct pl_pages *pages);   /* all of the free list was read */

#endif
