/*
 * The one table of every option. It drives parsing and messages (parse.c), printing (print.c), the
 * JSON Schema (schema.c), the reference page (reference.c) and the fuzz dictionary.
 *
 * A path names a place in the file: `pools.*.lanes.*.timeout`, where `*` is a name of the user's
 * and `[]` an element of a list. Up to the last `*` or `[]` it is the *container*: the struct that
 * `offset` counts in. Rows of one container follow their section's row.
 */
#ifndef PL_CONFIG_TABLE_H
#define PL_CONFIG_TABLE_H

#include "config/value.h"

#include <stddef.h>
#include <stdint.h>

enum pl_option_type {
    PL_OPT_SECTION,  /* a map with fixed keys, stored in the same struct */
    PL_OPT_MAP,      /* NAME: {…}: array of structs whose first member is `char *name` */
    PL_OPT_LIST,     /* [{…}]: array of structs */
    PL_OPT_BOOL,     /* bool */
    PL_OPT_COUNT,    /* uint32_t */
    PL_OPT_INT,      /* int32_t */
    PL_OPT_SIZE,     /* uint64_t */
    PL_OPT_DURATION, /* pl_time */
    PL_OPT_SHARE,    /* uint32_t, thousandths */
    PL_OPT_RATE,     /* struct pl_config_rate */
    PL_OPT_MODE,     /* uint32_t, octal in quotes */
    PL_OPT_STRING,   /* char * */
    PL_OPT_NAME,     /* char *, pl_value_is_name() */
    PL_OPT_PATH,     /* char *, made absolute */
    PL_OPT_PLUGIN,   /* char *, made absolute when it has a slash */
    PL_OPT_ENUM,     /* int */
    PL_OPT_FLAGS,    /* uint32_t, a list of words */
    PL_OPT_STRINGS,  /* struct pl_config_strings */
    PL_OPT_PATHS,    /* struct pl_config_strings, absolute */
    PL_OPT_ENV,      /* struct pl_config_strings, "NAME=value" */
    PL_OPT_COST,     /* struct pl_config_units */
    PL_OPT_CAPACITY, /* struct pl_config_units with devices */
    PL_OPT_JSON,     /* char *, JSON text of whatever stands there */
    PL_OPT_LANES,    /* PL_OPT_MAP that also takes the word `default` and the key `base` */
    PL_OPT_ALIAS,    /* an older name of `target`, a path in the same container */
};

#define PL_OPT_REQUIRED 1u  /* must be given where its map is given */
#define PL_OPT_LATER    2u  /* valid, but not built yet: refused when it differs from the default */
#define PL_OPT_TUNING   4u  /* with LATER: only a warning, for nothing is promised by it */
#define PL_OPT_SECRET   8u  /* masked when printed */
#define PL_OPT_SECONDS  16u /* a bare number means seconds */
#define PL_OPT_BYTES    32u /* a bare number means bytes */
#define PL_OPT_ONE      64u /* a list with one element is taken for the element */
#define PL_OPT_IGNORED  128u /* accepted and of no effect: a warning says so */

/* Values that are valid and stored nowhere, because what they belong to is not built yet. */
#define PL_NOWHERE UINT32_MAX

struct pl_option {
    const char *path;
    enum pl_option_type type;
    unsigned flags;
    uint32_t offset;
    uint32_t count_offset; /* MAP, LIST, LANES */
    uint32_t item_bytes;
    uint64_t min, max; /* of numbers; max 0: no bound */
    const struct pl_word *words;
    const char *def;    /* as it would be written; NULL: none */
    const char *scalar; /* a section given as one word: the key that this word sets */
    const char *target; /* ALIAS */
    const char *doc;    /* one sentence */
    const char *since;
};

extern const struct pl_option pl_options[];
extern const size_t pl_option_count;

/* Return: NULL when the table has no such path. */
const struct pl_option *pl_option_find(const char *path, size_t len);

/* Does @option stand directly in the map at @prefix ("" for the root)? Then *ret_key is its key. */
bool pl_option_is_child(const struct pl_option *option, const char *prefix, const char **ret_key);

/* Length of the container part of @path: up to and with the last `.*` or `[]`; 0: the root. */
size_t pl_option_container(const char *path);

const char *pl_option_type_text(const struct pl_option *option);

#endif
