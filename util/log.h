/*
 * Logging to stderr: text (coloured on a terminal), JSON lines when stderr is no terminal,
 * the journal's native fields when JOURNAL_STREAM says that stderr is the journal, and "<N>"
 * before the text where only the prefix is understood.
 *
 * One line, one write; nothing allocates; a full pipe drops the line and counts it. For processes
 * with one thread: calls from several threads do not corrupt memory but may mix settings. Library
 * code returns errors, main code logs.
 *
 *     pl_log(PL_LOG_WARNING, "worker died", PL_F_STR("worker", name), PL_F_INT("signal", signo));
 */
#ifndef PL_UTIL_LOG_H
#define PL_UTIL_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/types.h"
#include "base/uuid.h"

/* The numbers of syslog, because journal and systemd prefixes use them. */
enum pl_log_level {
    PL_LOG_ERROR = 3,
    PL_LOG_WARNING = 4,
    PL_LOG_NOTICE = 5,
    PL_LOG_INFO = 6,
    PL_LOG_DEBUG = 7,
};

enum pl_log_format {
    PL_LOG_FORMAT_AUTO,    /* decide from stderr and the environment */
    PL_LOG_FORMAT_TEXT,    /* text without colour */
    PL_LOG_FORMAT_COLOUR,  /* text with colour */
    PL_LOG_FORMAT_JSON,    /* one JSON object a line */
    PL_LOG_FORMAT_PREFIX,  /* "<N>" and text, as systemd reads it from a pipe */
    PL_LOG_FORMAT_JOURNAL, /* native datagrams to the journal */
};

enum pl_log_type {
    PL_LOG_T_STR, /* NULL prints as "-" */
    PL_LOG_T_INT,
    PL_LOG_T_UINT,
    PL_LOG_T_BOOL,
    PL_LOG_T_UUID,
    PL_LOG_T_ERRNO, /* positive or negative errno, printed as its text */
    PL_LOG_T_NS,    /* nanoseconds, printed like 1.5s; as a number in JSON */
};

/* Lives for the call only. Keys are lower-case [a-z0-9_]. */
struct pl_log_field {
    const char *key;
    enum pl_log_type type;
    size_t len; /* of str */
    union {
        const char *str;
        int64_t i;
        uint64_t u;
        const struct pl_uuid *uuid;
    } v;
};

#define PL_F_STR(k, s) pl_log_field_str((k), (s))
#define PL_F_STRN(k, s, n)                                                                         \
    ((struct pl_log_field){.key = (k), .type = PL_LOG_T_STR, .len = (n), .v.str = (s)})
#define PL_F_INT(k, n)                                                                             \
    ((struct pl_log_field){.key = (k), .type = PL_LOG_T_INT, .v.i = (int64_t)(n)})
#define PL_F_UINT(k, n)                                                                            \
    ((struct pl_log_field){.key = (k), .type = PL_LOG_T_UINT, .v.u = (uint64_t)(n)})
#define PL_F_BOOL(k, b)                                                                            \
    ((struct pl_log_field){.key = (k), .type = PL_LOG_T_BOOL, .v.u = (b) ? 1u : 0u})
#define PL_F_UUID(k, id) ((struct pl_log_field){.key = (k), .type = PL_LOG_T_UUID, .v.uuid = (id)})
#define PL_F_ERRNO(k, e)                                                                           \
    ((struct pl_log_field){.key = (k), .type = PL_LOG_T_ERRNO, .v.i = (int64_t)(e)})
#define PL_F_NS(k, ns)                                                                             \
    ((struct pl_log_field){.key = (k), .type = PL_LOG_T_NS, .v.i = (int64_t)(ns)})

struct pl_log_field pl_log_field_str(const char *key, const char *text);

/* @program: static text shown in each line ("pl-guard"). Called once at start of main; before it,
 * lines are plain text at level INFO. With JOURNAL it opens one datagram socket, kept until exit.
 */
void pl_log_init(const char *program, enum pl_log_format format, enum pl_log_level level);

bool pl_log_enabled(enum pl_log_level level);

/* "error", "warning" (also "warn"), "notice", "info", "debug". Return: false when unknown. */
bool pl_log_level_parse(const char *text, enum pl_log_level *ret_level);
const char *pl_log_level_name(enum pl_log_level level);

/* A field with an empty key is skipped: the macro needs one to exist. */
void pl_log_write(enum pl_log_level level, const char *text, const struct pl_log_field *fields,
                  size_t field_count);

#define pl_log(level, text, ...)                                                                   \
    do {                                                                                           \
        if (pl_log_enabled(level)) {                                                               \
            const struct pl_log_field pl_log_fields_[] = {{.key = ""}, ##__VA_ARGS__};             \
            pl_log_write((level), (text), pl_log_fields_, PL_ARRAY_LEN(pl_log_fields_));           \
        }                                                                                          \
    } while (0)

/*
 * For a line that could come in a storm: at most @burst lines in each @interval_ns.
 * Zero-initialised by the caller, one for each place.
 */
struct pl_log_limit {
    pl_time window_start;
    uint32_t used;
    uint32_t suppressed;
};

/* Return: true when this line may be written; *ret_suppressed is then the number of lines that were
 * not since the last one that was (log it as a field). False leaves it untouched. */
bool pl_log_limit_allows(struct pl_log_limit *limit, pl_time now, uint32_t burst,
                         pl_time interval_ns, uint32_t *ret_suppressed);

/* Encodes without writing, for tests: one line including its newline, cut to @bytes - 1 and
 * NUL-terminated. @wall_ms: the time shown. Return: length. */
size_t pl_log_encode(enum pl_log_format format, pl_wall wall_ms, enum pl_log_level level,
                     const char *text, const struct pl_log_field *fields, size_t field_count,
                     char *ret_line, size_t bytes);

#endif
