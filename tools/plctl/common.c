/*
 * Messages, connection, replies, programs beside ours.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/plctl/json.h"
#include "tools/plctl/plctl.h"
#include "util/paths.h"

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

char *
plctl_text_of(struct pl_value map, const char *key)
{
    return pl_value_text(pl_value_get(map, key));
}

int64_t
plctl_int_of(struct pl_value map, const char *key)
{
    return pl_value_int(pl_value_get(map, key), 0);
}

/* ---- programs ---- */

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
