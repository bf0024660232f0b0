/*
 * Messages, connection, values of options, ids.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tools/plctl/json.h"
#include "tools/plctl/plctl.h"
#include "util/clock.h"
#include "util/paths.h"
#include "util/text.h"

/* Written before the handler is installed, only read by it. */
static char interrupt_text[160];
static size_t interrupt_len;

int
plctl_fail(int status, const char *format, ...)
{
    va_list list;

    fflush(stdout);
    fputs("plctl: ", stderr);
    va_start(list, format);
    vfprintf(stderr, format, list);
    va_end(list);
    fputc('\n', stderr);
    return status;
}

void
plctl_hint(const char *format, ...)
{
    va_list list;

    fputs("hint: ", stderr);
    va_start(list, format);
    vfprintf(stderr, format, list);
    va_end(list);
    fputc('\n', stderr);
}

void
plctl_note(const struct plctl *ctl, const char *format, ...)
{
    va_list list;

    if (ctl->json)
        return;
    va_start(list, format);
    vfprintf(stderr, format, list);
    va_end(list);
    fputc('\n', stderr);
}

void *
plctl_realloc(void *memory, size_t bytes)
{
    void *bigger = realloc(memory, bytes > 0 ? bytes : 1);

    if (bigger == NULL)
        exit(plctl_fail(1, "out of memory"));
    return bigger;
}

void *
plctl_alloc(size_t bytes)
{
    void *memory = plctl_realloc(NULL, bytes);

    memset(memory, 0, bytes);
    return memory;
}

char *
plctl_strdup(const char *text)
{
    size_t bytes = strlen(text) + 1;
    return memcpy(plctl_alloc(bytes), text, bytes);
}

static void
on_interrupt(int signo)
{
    (void)signo;
    /* Only async-signal-safe calls: the library may be anywhere, so nothing is unwound. The
     * kernel closes the connection, and jobs do not depend on it. */
    if (write(STDERR_FILENO, interrupt_text, interrupt_len) < 0)
        _exit(PLCTL_EXIT_INTERRUPT);
    _exit(PLCTL_EXIT_INTERRUPT);
}

void
plctl_on_interrupt(const char *message, ...)
{
    struct sigaction action = {.sa_handler = on_interrupt};
    va_list list;

    va_start(list, message);
    int n = vsnprintf(interrupt_text, sizeof(interrupt_text), message, list);
    va_end(list);
    interrupt_len = n < 0                                ? 0
                    : (size_t)n < sizeof(interrupt_text) ? (size_t)n
                                                         : sizeof(interrupt_text) - 1;
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
}

int
plctl_outcome_exit(int outcome)
{
    return pl_status_exit(pl_outcome_status(outcome));
}

/* ---- connection ---- */

int
plctl_connect(struct plctl *ctl)
{
    char error[512] = "";
    struct pl_connect_opts opts = PL_INIT(struct pl_connect_opts);

    if (ctl->client != NULL)
        return 0;
    opts.instance = ctl->instance;
    opts.client_name = "plctl";
    opts.error = error;
    opts.error_size = sizeof(error);
    int status = pl_connect(&opts, &ctl->client);
    if (status == PL_OK)
        return 0;
    plctl_fail(0, "%s", error[0] != 0 ? error : pl_status_text(status));
    if (status == PL_E_CONNECT)
        plctl_hint("start one with: plctl start FILE");
    if (ctl->json) {
        struct pl_json json = {.to = stdout};
        pl_json_open(&json, NULL, '{');
        pl_json_bool(&json, "ok", false);
        pl_json_text(&json, "error", pl_status_name(status));
        pl_json_text(&json, "message", error[0] != 0 ? error : pl_status_text(status));
        pl_json_close(&json, '}');
    }
    return pl_status_exit(status);
}

static void
client_hints(const struct pl_error_info *info)
{
    if (info->fits >= 0)
        plctl_hint("%" PRId64 " would fit", info->fits);
    switch (info->status) {
    case PL_E_TOO_COSTLY:
    case PL_E_NO_POOL:
        plctl_hint("plctl pool ls shows the pools and what they can give");
        break;
    case PL_E_NO_LANE:
        plctl_hint("plctl lane ls shows the lanes");
        break;
    case PL_E_NO_TYPE:
        plctl_hint("plctl workers ls shows the groups; their 'handles' say which types they take");
        break;
    case PL_E_NO_JOB:
        plctl_hint("plctl ps --all shows the jobs");
        break;
    case PL_E_DENIED:
        plctl_hint("this needs the job's owner, or an administrator of the instance");
        break;
    default:
        if (info->retry_after_ms >= 0) {
            char text[32];
            plctl_hint("try again in %s", plctl_format_ms(info->retry_after_ms, text));
        }
        break;
    }
}

int
plctl_fail_client(struct plctl *ctl, int status)
{
    struct pl_error_info info = PL_INIT(struct pl_error_info);

    pl_error_info(ctl->client, &info);
    plctl_fail(0, "%s", pl_errmsg(ctl->client));
    client_hints(&info);
    if (ctl->json) {
        struct pl_json json = {.to = stdout};
        pl_json_open(&json, NULL, '{');
        pl_json_bool(&json, "ok", false);
        pl_json_text(&json, "error", pl_status_name(status));
        pl_json_text(&json, "message", pl_errmsg(ctl->client));
        if (info.limit != NULL && info.limit[0] != 0) {
            pl_json_text(&json, "limit", info.limit);
            pl_json_int(&json, "limit_value", info.limit_value);
            pl_json_int(&json, "limit_max", info.limit_max);
        }
        if (info.fits >= 0)
            pl_json_int(&json, "fits", info.fits);
        if (info.retry_after_ms >= 0)
            pl_json_int(&json, "retry_after_ms", info.retry_after_ms);
        pl_json_close(&json, '}');
    }
    return pl_status_exit(status);
}

int
plctl_call(struct plctl *ctl, const char *method, struct pl_params *params,
           struct pl_reply **ret_reply)
{
    int failed = plctl_connect(ctl);
    if (failed == 0) {
        int status = pl_call(ctl->client, method, params, -1, ret_reply);
        if (status != PL_OK)
            failed = plctl_fail_client(ctl, status);
    }
    pl_params_free(params);
    return failed;
}

int
plctl_call_print(struct plctl *ctl, const char *method, struct pl_params *params,
                 struct pl_reply **ret_reply, bool *ret_done)
{
    struct pl_reply *reply = NULL;
    int failed = plctl_call(ctl, method, params, &reply);

    *ret_done = failed != 0;
    if (failed != 0)
        return failed;
    if (ctl->json) {
        char *text = pl_value_json(pl_reply_value(reply));
        puts(text != NULL ? text : "null");
        pl_free(text);
        pl_reply_free(reply);
        *ret_done = true;
        return 0;
    }
    *ret_reply = reply;
    return 0;
}

/* ---- ids ---- */

bool
plctl_id_prefix_ok(const char *text)
{
    size_t len = strlen(text);

    if (len == 0 || len > 36)
        return false;
    for (size_t i = 0; i < len; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        if (dash ? text[i] != '-' : !isxdigit((unsigned char)text[i]))
            return false;
    }
    return true;
}

size_t
plctl_id_width(char (*ids)[37], size_t count)
{
    size_t width = 13; /* the millisecond of the submit */

    for (size_t i = 0; i < count; i++)
        for (size_t j = i + 1; j < count && count <= 2000; j++) {
            size_t same = 0;
            while (same < 36 && ids[i][same] == ids[j][same])
                same++;
            if (same < 36 && same + 1 > width)
                width = same + 1;
        }
    return count > 2000 ? 36 : width;
}

struct match {
    struct pl_id id;
    unsigned count;
};

/* Looks through all pages of job.list. Return: 0 or an exit status. */
static int
match_prefix(struct plctl *ctl, const char *prefix, struct match *match)
{
    char *cursor = NULL;

    do {
        struct pl_reply *reply = NULL;
        struct pl_params *params = pl_params_new();
        if (cursor != NULL)
            pl_params_text(params, "cursor", cursor);
        pl_free(cursor);
        int failed = plctl_call(ctl, "job.list", params, &reply);
        if (failed != 0)
            return failed;
        struct pl_value root = pl_reply_value(reply), job;
        size_t at = 0;
        while (pl_value_next(pl_value_get(root, "jobs"), &at, NULL, &job)) {
            struct pl_id id;
            char text[37];
            if (!pl_value_id(pl_value_get(job, "id"), &id))
                continue;
            pl_id_format(id, text);
            if (strncasecmp(text, prefix, strlen(prefix)) != 0)
                continue;
            if (match->count == 0 || memcmp(&match->id, &id, sizeof(id)) != 0)
                match->count++;
            match->id = id;
        }
        cursor = pl_value_text(pl_value_get(root, "next"));
        pl_reply_free(reply);
    } while (cursor != NULL && match->count < 2);
    pl_free(cursor);
    return 0;
}

int
plctl_job_id(struct plctl *ctl, const char *text, struct pl_id *ret_id)
{
    struct match match = {0};

    if (strlen(text) == 36 && pl_id_parse(text, ret_id) == PL_OK)
        return 0;
    if (!plctl_id_prefix_ok(text))
        return plctl_fail(PLCTL_EXIT_USAGE, "'%s' is no job id", text);
    int failed = match_prefix(ctl, text, &match);
    if (failed != 0)
        return failed;
    if (match.count == 0) {
        plctl_fail(0, "no job whose id begins with %s", text);
        plctl_hint("plctl ps --all shows the jobs");
        return PLCTL_EXIT_NOT_FOUND;
    }
    if (match.count > 1) {
        plctl_fail(0, "several jobs' ids begin with %s", text);
        plctl_hint("give more of the id");
        return PLCTL_EXIT_USAGE;
    }
    *ret_id = match.id;
    return 0;
}

/* ---- values ---- */

int
plctl_parse_duration(const char *option, const char *text, int64_t *ret_ms)
{
    pl_time ns;

    if (pl_text_parse_duration((struct pl_str){.data = text, .len = strlen(text)}, &ns) < 0) {
        plctl_fail(0, "--%s: '%s' is no duration", option, text);
        plctl_hint("write 250ms, 30s, 5m, 2h or 7d");
        return PLCTL_EXIT_USAGE;
    }
    *ret_ms = ns / PL_NS_PER_MS + (ns % PL_NS_PER_MS != 0);
    return 0;
}

int
plctl_parse_count(const char *option, const char *text, int64_t max, int64_t *ret_value)
{
    char *end;

    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno != 0 || end == text || *end != 0 || value < 0 || value > max)
        return plctl_fail(PLCTL_EXIT_USAGE, "--%s: '%s' is no number from 0 to %" PRId64, option,
                          text, max);
    *ret_value = value;
    return 0;
}

int
plctl_parse_priority(const char *text, int *ret_priority)
{
    static const char *const words[] = {"critical", "high", "normal", "low", "background"};

    for (int i = 0; i < (int)PL_ARRAY_LEN(words); i++)
        if (strcmp(text, words[i]) == 0 || (text[0] == '0' + i && text[1] == 0)) {
            *ret_priority = i;
            return 0;
        }
    plctl_fail(0, "--priority: '%s' is no priority", text);
    plctl_hint("critical, high, normal, low or background");
    return PLCTL_EXIT_USAGE;
}

/* ".123Z", as our JSON has it. */
static bool
parse_fraction(const char **at, int64_t *ret_ms)
{
    char *end;
    size_t digits = strspn(*at + 1, "0123456789");
    if (digits != 3 || (*at)[4] != 'Z')
        return false;
    *ret_ms = strtol(*at + 1, &end, 10);
    *at = end + 1;
    return true;
}

int
plctl_parse_time(const char *option, const char *text, int64_t *ret_unix_ms)
{
    static const char *const formats[] = {"%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S",
                                          "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "@%s"};

    if (text[0] == '+' || text[0] == '-') {
        int64_t ms;
        int failed = plctl_parse_duration(option, text + 1, &ms);
        if (failed == 0)
            *ret_unix_ms = pl_clock_wall() + (text[0] == '+' ? ms : -ms);
        return failed;
    }
    for (size_t i = 0; i < PL_ARRAY_LEN(formats); i++) {
        struct tm parts = {.tm_isdst = -1};
        const char *end = strptime(text, formats[i], &parts);
        int64_t ms = 0;
        bool utc = i == 0;
        if (end != NULL && i == 1 && *end == '.')
            utc = parse_fraction(&end, &ms);
        if (end == NULL || *end != 0)
            continue;
        time_t seconds = utc ? timegm(&parts) : mktime(&parts);
        *ret_unix_ms = (int64_t)seconds * 1000 + ms;
        return 0;
    }
    plctl_fail(0, "--%s: '%s' is no time", option, text);
    plctl_hint("write 2026-01-31T12:00:00Z, '2026-01-31 12:00' (local), @SECONDS, +30s from now, "
               "or -1h ago");
    return PLCTL_EXIT_USAGE;
}

int
plctl_parse_cost(char *text, struct pl_units *ret_units)
{
    struct pl_units units = {.count = 1};
    char *equals = strchr(text, '=');
    char *value = equals != NULL ? equals + 1 : text;
    size_t digits = strspn(value, "0123456789");

    if (equals != NULL) {
        *equals = 0;
        units.kind = text;
        if (text[0] == 0)
            return -EINVAL;
    }
    if (digits > 0 && digits < 6 && value[digits] == 'x') {
        units.count = (uint32_t)strtoul(value, NULL, 10);
        value += digits + 1;
        if (units.count == 0)
            return -EINVAL;
    }
    if (pl_text_parse_size((struct pl_str){.data = value, .len = strlen(value)}, &units.units) < 0)
        return -EINVAL;
    *ret_units = units;
    return 0;
}

bool
plctl_kind_is_bytes(const char *kind)
{
    static const char *const endings[] = {"memory", "vram", "_bytes", "disk"};
    size_t len = strlen(kind);

    for (size_t i = 0; i < PL_ARRAY_LEN(endings); i++) {
        size_t n = strlen(endings[i]);
        if (len >= n && strcmp(kind + len - n, endings[i]) == 0)
            return true;
    }
    return false;
}

char *
plctl_format_units(const char *kind, uint64_t units, char ret_text[32])
{
    if (plctl_kind_is_bytes(kind))
        return pl_text_format_size(units, ret_text);
    snprintf(ret_text, 32, "%" PRIu64, units);
    return ret_text;
}

char *
plctl_format_ms(int64_t ms, char ret_text[32])
{
    if (ms < 0) {
        snprintf(ret_text, 32, "-");
        return ret_text;
    }
    /* A list of ages is read at a glance: nobody needs the milliseconds of a minute. */
    if (ms >= 10000)
        ms -= ms % 1000;
    return pl_text_format_duration(ms * PL_NS_PER_MS, ret_text);
}

int
plctl_read_file(const char *path, char **ret_data, size_t *ret_len)
{
    bool is_stdin = strcmp(path, "-") == 0;
    int fd = is_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    char *data = NULL;
    size_t len = 0, room = 0;

    if (fd < 0)
        return plctl_fail(1, "cannot open %s: %s", path, strerror(errno));
    for (;;) {
        if (len == room) {
            room = room == 0 ? 65536 : room * 2;
            data = plctl_realloc(data, room);
        }
        ssize_t n = read(fd, data + len, room - len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            int error = errno;
            free(data);
            if (!is_stdin)
                close(fd);
            return plctl_fail(1, "cannot read %s: %s", is_stdin ? "stdin" : path, strerror(error));
        }
        if (n == 0)
            break;
        len += (size_t)n;
    }
    if (!is_stdin)
        close(fd);
    *ret_data = data;
    *ret_len = len;
    return 0;
}

int
plctl_find_program(const char *name, char ret_path[PL_PATH_BYTES], struct pl_error *err)
{
    char self[PL_PATH_BYTES], path[2 * PL_PATH_BYTES];

    int r = pl_paths_find_program(name, ret_path, err);
    if (r != -ENOENT)
        return r;
    /* In a build tree they lie in folders beside ours. */
    static const char *const beside[] = {"config", "db"};
    ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);
    if (len <= 0)
        return r;
    self[len] = 0;
    *strrchr(self, '/') = 0;
    for (size_t i = 0; i < PL_ARRAY_LEN(beside); i++) {
        snprintf(path, sizeof(path), "%s/../%s/%s", self, beside[i], name);
        if (strlen(path) >= PL_PATH_BYTES || access(path, X_OK) < 0)
            continue;
        memcpy(ret_path, path, strlen(path) + 1);
        return 0;
    }
    return r;
}
