#include "util/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "util/clock.h"
#include "util/text.h"

#define LINE_BYTES     4096
#define JOURNAL_SOCKET "/run/systemd/journal/socket"

static struct {
    const char *program;
    enum pl_log_format format;
    enum pl_log_level level;
    int journal_fd;
} state = {
    .program = "parking-lot", .format = PL_LOG_FORMAT_TEXT, .level = PL_LOG_INFO, .journal_fd = -1};

static const struct {
    enum pl_log_level level;
    const char *name;
    const char *colour;
} levels[] = {
    {PL_LOG_ERROR, "error", "\033[31m"},  {PL_LOG_WARNING, "warning", "\033[33m"},
    {PL_LOG_NOTICE, "notice", "\033[1m"}, {PL_LOG_INFO, "info", ""},
    {PL_LOG_DEBUG, "debug", "\033[2m"},
};

struct pl_log_field
pl_log_field_str(const char *key, const char *text)
{
    if (text == NULL)
        text = "-";
    return PL_F_STRN(key, text, strlen(text));
}

const char *
pl_log_level_name(enum pl_log_level level)
{
    for (size_t i = 0; i < PL_ARRAY_LEN(levels); i++)
        if (levels[i].level == level)
            return levels[i].name;
    return "info";
}

static const char *
level_colour(enum pl_log_level level)
{
    for (size_t i = 0; i < PL_ARRAY_LEN(levels); i++)
        if (levels[i].level == level)
            return levels[i].colour;
    return "";
}

bool
pl_log_level_parse(const char *text, enum pl_log_level *ret_level)
{
    if (strcmp(text, "warn") == 0)
        text = "warning";
    for (size_t i = 0; i < PL_ARRAY_LEN(levels); i++)
        if (strcmp(levels[i].name, text) == 0) {
            *ret_level = levels[i].level;
            return true;
        }
    return false;
}

bool
pl_log_enabled(enum pl_log_level level)
{
    return level <= state.level;
}

/* A line under construction; never runs over, keeps one byte for the NUL. */
struct line {
    char *text;
    size_t len;
    size_t room;
};

static void
put_bytes(struct line *line, const char *data, size_t len)
{
    if (len > line->room - line->len)
        len = line->room - line->len;
    memcpy(line->text + line->len, data, len);
    line->len += len;
}

static void
put(struct line *line, const char *text)
{
    put_bytes(line, text, strlen(text));
}

__attribute__((format(printf, 2, 3))) static void
putf(struct line *line, const char *fmt, ...)
{
    char text[128];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    put(line, text);
}

/* The inside of a JSON string. Bytes that are no UTF-8 are not our business here except control
 * characters, which would end the line or the string. */
static void
put_escaped(struct line *line, const char *data, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)data[i];

        if (c == '"' || c == '\\')
            putf(line, "\\%c", c);
        else if (c == '\n')
            put(line, "\\n");
        else if (c < 0x20 || c == 0x7f)
            putf(line, "\\u%04x", c);
        else
            put_bytes(line, data + i, 1);
    }
}

static bool
needs_quotes(const char *data, size_t len)
{
    if (len == 0)
        return true;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)data[i];

        if (c <= ' ' || c == '"' || c == '=' || c == '\\' || c == 0x7f)
            return true;
    }
    return false;
}

/* The value as plain text. Return: its bytes, in @scratch or where they are. */
static struct pl_str
field_text(const struct pl_log_field *field, char scratch[64])
{
    struct pl_str text = {.data = scratch};

    switch (field->type) {
    case PL_LOG_T_STR:
        return (struct pl_str){.data = field->v.str, .len = field->len};
    case PL_LOG_T_INT:
        snprintf(scratch, 64, "%lld", (long long)field->v.i);
        break;
    case PL_LOG_T_UINT:
        snprintf(scratch, 64, "%llu", (unsigned long long)field->v.u);
        break;
    case PL_LOG_T_BOOL:
        snprintf(scratch, 64, "%s", field->v.u != 0 ? "true" : "false");
        break;
    case PL_LOG_T_UUID:
        pl_uuid_format(field->v.uuid, scratch);
        break;
    case PL_LOG_T_ERRNO:
        snprintf(scratch, 64, "%s", strerror(abs((int)field->v.i)));
        break;
    case PL_LOG_T_NS:
        pl_text_format_duration(field->v.i, scratch);
        break;
    }
    text.len = strlen(scratch);
    return text;
}

static void
put_text_fields(struct line *line, const struct pl_log_field *fields, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char scratch[64];
        struct pl_str text;

        if (fields[i].key[0] == '\0')
            continue;
        text = field_text(&fields[i], scratch);
        putf(line, " %s=", fields[i].key);
        if (needs_quotes(text.data, text.len)) {
            put(line, "\"");
            put_escaped(line, text.data, text.len);
            put(line, "\"");
        } else {
            put_bytes(line, text.data, text.len);
        }
    }
}

static void
put_json_field(struct line *line, const struct pl_log_field *field)
{
    char scratch[64];
    struct pl_str text = field_text(field, scratch);
    bool bare =
        field->type == PL_LOG_T_INT || field->type == PL_LOG_T_UINT || field->type == PL_LOG_T_BOOL;

    putf(line, ",\"%s\":", field->key);
    if (field->type == PL_LOG_T_NS) {
        putf(line, "%lld", (long long)field->v.i);
    } else if (bare) {
        put_bytes(line, text.data, text.len);
    } else {
        put(line, "\"");
        put_escaped(line, text.data, text.len);
        put(line, "\"");
    }
}

static void
put_time(struct line *line, pl_wall wall_ms, bool with_date)
{
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm parts;
    char text[64];

    gmtime_r(&seconds, &parts);
    text[0] = '\0';
    if (with_date)
        (void)strftime(text, sizeof(text), "%Y-%m-%dT", &parts);
    put(line, text);
    (void)strftime(text, sizeof(text), "%H:%M:%S", &parts);
    putf(line, "%s.%03dZ", text, (int)(wall_ms % 1000));
}

static void
encode_json(struct line *line, pl_wall wall_ms, enum pl_log_level level, const char *text,
            const struct pl_log_field *fields, size_t count)
{
    put(line, "{\"time\":\"");
    put_time(line, wall_ms, true);
    putf(line, "\",\"level\":\"%s\",\"program\":\"%s\",\"pid\":%d,\"message\":\"",
         pl_log_level_name(level), state.program, (int)getpid());
    put_escaped(line, text, strlen(text));
    put(line, "\"");
    for (size_t i = 0; i < count; i++) {
        size_t before = line->len;

        if (fields[i].key[0] == '\0')
            continue;
        put_json_field(line, &fields[i]);
        if (line->len + 2 > line->room) { /* a cut field would break the object */
            line->len = before;
            break;
        }
    }
    put(line, "}");
}

static void
encode_journal(struct line *line, enum pl_log_level level, const char *text,
               const struct pl_log_field *fields, size_t count)
{
    char scratch[64];

    putf(line, "PRIORITY=%d\nSYSLOG_IDENTIFIER=%s\nMESSAGE=", (int)level, state.program);
    for (const char *at = text; *at != '\0'; at++)
        put_bytes(line, *at == '\n' ? " " : at, 1);
    put_text_fields(line, fields, count);
    for (size_t i = 0; i < count; i++) {
        struct pl_str value;

        if (fields[i].key[0] == '\0')
            continue;
        value = field_text(&fields[i], scratch);
        put(line, "\nPL_");
        for (const char *at = fields[i].key; *at != '\0'; at++) {
            char upper = (char)(*at >= 'a' && *at <= 'z' ? *at - 32 : *at);

            put_bytes(line, &upper, 1);
        }
        put(line, "=");
        for (size_t j = 0; j < value.len; j++)
            put_bytes(line, value.data[j] == '\n' ? " " : &value.data[j], 1);
    }
}

size_t
pl_log_encode(enum pl_log_format format, pl_wall wall_ms, enum pl_log_level level, const char *text,
              const struct pl_log_field *fields, size_t field_count, char *ret_line, size_t bytes)
{
    struct line line = {.text = ret_line, .room = bytes - 2};

    switch (format) {
    case PL_LOG_FORMAT_JSON:
        encode_json(&line, wall_ms, level, text, fields, field_count);
        break;
    case PL_LOG_FORMAT_JOURNAL:
        encode_journal(&line, level, text, fields, field_count);
        break;
    case PL_LOG_FORMAT_PREFIX:
        putf(&line, "<%d>", (int)level);
        put(&line, text);
        put_text_fields(&line, fields, field_count);
        break;
    case PL_LOG_FORMAT_COLOUR:
    case PL_LOG_FORMAT_TEXT:
    case PL_LOG_FORMAT_AUTO:
        put_time(&line, wall_ms, false);
        putf(&line, " %s ", state.program);
        if (format == PL_LOG_FORMAT_COLOUR)
            put(&line, level_colour(level));
        if (level <= PL_LOG_WARNING)
            putf(&line, "%s: ", pl_log_level_name(level));
        put(&line, text);
        if (format == PL_LOG_FORMAT_COLOUR)
            put(&line, "\033[0m");
        put_text_fields(&line, fields, field_count);
        break;
    }
    ret_line[line.len++] = '\n';
    ret_line[line.len] = '\0';
    return line.len;
}

/* JOURNAL_STREAM is "device:inode" of what stderr was when the service started. */
static bool
stderr_is_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    unsigned long long device, inode;
    struct stat status;

    return stream != NULL && sscanf(stream, "%llu:%llu", &device, &inode) == 2 &&
           fstat(STDERR_FILENO, &status) == 0 && (unsigned long long)status.st_dev == device &&
           (unsigned long long)status.st_ino == inode;
}

static bool
open_journal(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = JOURNAL_SOCKET};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0)
        return false;
    if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0) {
        close(fd);
        return false;
    }
    state.journal_fd = fd;
    return true;
}

static enum pl_log_format
choose_format(void)
{
    if (stderr_is_journal())
        return open_journal() ? PL_LOG_FORMAT_JOURNAL : PL_LOG_FORMAT_PREFIX;
    if (isatty(STDERR_FILENO))
        return getenv("NO_COLOR") != NULL ? PL_LOG_FORMAT_TEXT : PL_LOG_FORMAT_COLOUR;
    return PL_LOG_FORMAT_JSON;
}

void
pl_log_init(const char *program, enum pl_log_format format, enum pl_log_level level)
{
    state.program = program;
    state.level = level;
    if (format == PL_LOG_FORMAT_AUTO)
        format = choose_format();
    else if (format == PL_LOG_FORMAT_JOURNAL && state.journal_fd < 0 && !open_journal())
        format = PL_LOG_FORMAT_PREFIX;
    state.format = format;
}

void
pl_log_write(enum pl_log_level level, const char *text, const struct pl_log_field *fields,
             size_t field_count)
{
    char line[LINE_BYTES];
    int keep = errno;
    size_t len;
    ssize_t n;

    if (!pl_log_enabled(level))
        return;
    len = pl_log_encode(state.format, pl_clock_wall(), level, text, fields, field_count, line,
                        sizeof(line));
    do {
        if (state.format == PL_LOG_FORMAT_JOURNAL)
            n = send(state.journal_fd, line, len, MSG_NOSIGNAL | MSG_DONTWAIT);
        else
            n = write(STDERR_FILENO, line, len);
    } while (n < 0 && errno == EINTR); /* a line that nobody takes now is lost */
    errno = keep;
}

bool
pl_log_limit_allows(struct pl_log_limit *limit, pl_time now, uint32_t burst, pl_time interval_ns,
                    uint32_t *ret_suppressed)
{
    if (limit->used == 0 || now - limit->window_start >= interval_ns) {
        limit->window_start = now;
        limit->used = 0;
    }
    if (limit->used >= burst) {
        limit->suppressed++;
        return false;
    }
    limit->used++;
    *ret_suppressed = limit->suppressed;
    limit->suppressed = 0;
    return true;
}
