/*
 * webhook: posts its payload to a configured receiver and succeeds when that says 2xx. Its process
 * is the notifier: jobs of the pool `webhooks`, one lane a receiver, are the outbox.
 *
 * Each receiver has its own set of connections (a curl multi handle), so none waits for another,
 * and none uses a connection that was opened under another's rules. The address is checked where
 * the socket is made: what was looked up is what is connected to. Redirects and proxies are not
 * followed.
 *
 * 2xx: done. 410: the receiver is gone, nothing more is sent to it by this process, and its jobs
 * fail for good. 429, 502, 503, 504 with Retry-After: everything for this receiver waits so long.
 * All else fails, and the lane's policy tries again. The attempt's answer, or why there was none,
 * is the job's error; it never holds what was sent in a header.
 */
#include <curl/curl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "parkinglot/executor.h"
#include "executors/webhook_net.h"
#include "executors/webhook_sign.h"

#define HOOKS_MAX  64
#define CONNECT_MS 5000L
#define REPLY_MAX  1024u  /* of an answer, kept as the result */
#define HOLD_MAX   3600LL /* seconds: a longer Retry-After is cut */
#define HOLDS_MAX  3u     /* of one attempt; then its lane's policy decides */
#define NS_PER_S   1000000000LL
#define NS_PER_MS  1000000LL

static const struct pl_exec_api *api;
static struct pl_exec_host *worker;

struct hook;

struct delivery {
    struct delivery *next;
    struct hook *hook;
    struct pl_exec_job *job;
    CURL *easy;
    struct curl_slist *headers;
    char error[CURL_ERROR_SIZE];
    char reply[REPLY_MAX];
    size_t reply_bytes;
    unsigned holds;
    bool under_way;
    bool refused; /* the address */
};

struct hook {
    char *name, *url, *auth; /* auth: the whole header line */
    struct pl_webhook_key key;
    long timeout_ms, connections;
    bool allow_private;
    bool gone;
    CURLM *multi;
    uint64_t timer;      /* curl's */
    uint64_t hold_timer; /* 0: nothing is held */
    struct delivery *deliveries;
};

static struct hook hooks[HOOKS_MAX];
static size_t hook_count;

/* ---- the end of a delivery ---- */

static void
drop(struct delivery *delivery)
{
    struct hook *hook = delivery->hook;
    struct delivery **at = &hook->deliveries;
    while (*at != delivery)
        at = &(*at)->next;
    *at = delivery->next;
    if (delivery->under_way)
        curl_multi_remove_handle(hook->multi, delivery->easy);
    curl_easy_cleanup(delivery->easy);
    curl_slist_free_all(delivery->headers);
    free(delivery);
}

static void
fail(struct delivery *delivery, enum pl_exec_result code, const char *message)
{
    struct pl_exec_job *job = delivery->job;
    drop(delivery);
    api->fail(job, code, message);
}

static void
succeed(struct delivery *delivery)
{
    struct pl_exec_job *job = delivery->job;
    char reply[REPLY_MAX];
    size_t bytes = delivery->reply_bytes;
    memcpy(reply, delivery->reply, bytes);
    drop(delivery);
    api->complete(job, reply, bytes, NULL);
}

/* ---- sending ---- */

static size_t
on_reply(char *data, size_t size, size_t count, void *user)
{
    struct delivery *delivery = user;
    size_t bytes = size * count, room = REPLY_MAX - delivery->reply_bytes;
    memcpy(delivery->reply + delivery->reply_bytes, data, bytes < room ? bytes : room);
    delivery->reply_bytes += bytes < room ? bytes : room;
    return bytes;
}

/* The address that the name was resolved to, and no other: it is connected to what is checked. */
static curl_socket_t
on_open(void *user, curlsocktype purpose, struct curl_sockaddr *address)
{
    struct delivery *delivery = user;
    if (purpose != CURLSOCKTYPE_IPCXN)
        return CURL_SOCKET_BAD;
    if (!delivery->hook->allow_private && !pl_webhook_address_is_public(&address->addr)) {
        delivery->refused = true;
        return CURL_SOCKET_BAD;
    }
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

static bool
add_header(struct delivery *delivery, const char *text)
{
    struct curl_slist *longer = curl_slist_append(delivery->headers, text);
    if (longer != NULL)
        delivery->headers = longer;
    return longer != NULL;
}

static bool
fill_headers(struct delivery *delivery, const void *body, size_t bytes)
{
    const struct hook *hook = delivery->hook;
    char line[128], stamp[24], signature[PL_WEBHOOK_SIGNATURE_BYTES];
    const char *id = api->job_id(delivery->job);
    curl_slist_free_all(delivery->headers);
    delivery->headers = NULL;
    snprintf(stamp, sizeof(stamp), "%lld", (long long)time(NULL));
    bool ok = add_header(delivery, "Content-Type: application/cloudevents+json; charset=utf-8") &&
              add_header(delivery, "Expect:");
    snprintf(line, sizeof(line), "webhook-id: %s", id);
    ok = ok && add_header(delivery, line);
    snprintf(line, sizeof(line), "Idempotency-Key: %s", id);
    ok = ok && add_header(delivery, line);
    snprintf(line, sizeof(line), "webhook-timestamp: %s", stamp);
    ok = ok && add_header(delivery, line);
    if (hook->auth != NULL)
        ok = ok && add_header(delivery, hook->auth);
    if (hook->key.len > 0) {
        ok = ok && pl_webhook_sign(&hook->key, id, stamp, body, bytes, signature);
        snprintf(line, sizeof(line), "webhook-signature: %s", signature);
        ok = ok && add_header(delivery, line);
    }
    return ok;
}

static bool
prepare(struct delivery *delivery)
{
    const struct hook *hook = delivery->hook;
    size_t bytes;
    const void *body = api->job_payload(delivery->job, &bytes);
    CURL *easy = delivery->easy;
    curl_easy_reset(easy);
    delivery->reply_bytes = 0;
    delivery->refused = false;
    delivery->error[0] = '\0';
    return fill_headers(delivery, body, bytes) &&
           curl_easy_setopt(easy, CURLOPT_URL, hook->url) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR,
                            hook->allow_private ? "https,http" : "https") == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)bytes) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_HTTPHEADER, delivery->headers) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_USERAGENT, "parking-lot") == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_PROXY, "") == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, hook->timeout_ms) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, on_open) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, delivery) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_reply) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_WRITEDATA, delivery) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, delivery->error) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_PRIVATE, delivery) == CURLE_OK;
}

/* Return: false when there is no memory for it. */
static bool
send_it(struct delivery *delivery)
{
    if (!prepare(delivery) ||
        curl_multi_add_handle(delivery->hook->multi, delivery->easy) != CURLM_OK)
        return false;
    delivery->under_way = true;
    return true;
}

/* ---- what came of it ---- */

static void hold(struct hook *hook, long long seconds);

static bool
is_throttling(long status)
{
    return status == 429 || status == 502 || status == 503 || status == 504;
}

static void
hook_is_gone(struct hook *hook)
{
    char text[160];
    int len = snprintf(text, sizeof(text), "webhook %s answered 410 (gone): nothing more is sent",
                       hook->name);
    hook->gone = true;
    api->log(worker, NULL, PL_EXEC_LOG_ERROR, text, (size_t)len);
}

static void
judge(struct delivery *delivery, CURLcode code)
{
    struct hook *hook = delivery->hook;
    char text[CURL_ERROR_SIZE + 64];
    long status = 0;
    curl_off_t later = 0;
    curl_easy_getinfo(delivery->easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(delivery->easy, CURLINFO_RETRY_AFTER, &later);
    if (delivery->refused) {
        fail(delivery, PL_EXEC_RETRY,
             "the address is private: refused (allow_private_networks is off)");
    } else if (code != CURLE_OK) {
        snprintf(text, sizeof(text), "no answer: %s",
                 delivery->error[0] != '\0' ? delivery->error : curl_easy_strerror(code));
        fail(delivery, PL_EXEC_RETRY, text);
    } else if (status >= 200 && status < 300) {
        succeed(delivery);
    } else if (status == 410) {
        hook_is_gone(hook);
        fail(delivery, PL_EXEC_INVALID, "it answered 410 (gone): the webhook is disabled");
    } else if (is_throttling(status) && later > 0 && ++delivery->holds <= HOLDS_MAX) {
        hold(hook, later);
    } else {
        snprintf(text, sizeof(text), "it answered %ld%s", status,
                 status >= 300 && status < 400 ? ": redirects are not followed" : "");
        fail(delivery, PL_EXEC_RETRY, text);
    }
}

static void
collect(struct hook *hook)
{
    CURLMsg *message;
    int left;
    while ((message = curl_multi_info_read(hook->multi, &left)) != NULL) {
        struct delivery *delivery = NULL;
        CURLcode code = message->data.result;
        if (message->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&delivery);
        curl_multi_remove_handle(hook->multi, delivery->easy);
        delivery->under_way = false;
        judge(delivery, code);
    }
}

/* ---- throttled ---- */

static void
release(void *user)
{
    struct hook *hook = user;
    struct delivery *delivery = hook->deliveries, *next;
    hook->hold_timer = 0;
    for (; delivery != NULL; delivery = next) {
        next = delivery->next;
        if (!delivery->under_way && !send_it(delivery))
            fail(delivery, PL_EXEC_OOM, "no memory");
    }
}

/* What is under way comes to its end, what is not waits: all of it is this receiver's. */
static void
hold(struct hook *hook, long long seconds)
{
    if (hook->hold_timer != 0)
        return;
    if (seconds > HOLD_MAX)
        seconds = HOLD_MAX;
    char text[160];
    int len = snprintf(text, sizeof(text), "webhook %s asks to be left alone for %lld s",
                       hook->name, seconds);
    api->log(worker, NULL, PL_EXEC_LOG_INFO, text, (size_t)len);
    hook->hold_timer = api->timer(worker, seconds * NS_PER_S, release, hook);
    if (hook->hold_timer == 0)
        release(hook);
}

/* ---- curl on the worker's loop ---- */

static void
act(struct hook *hook, curl_socket_t fd, int what)
{
    int running;
    (void)curl_multi_socket_action(hook->multi, fd, what, &running);
    collect(hook);
}

static void
on_ready(void *user, int fd, uint32_t events)
{
    struct hook *hook = user;
    int what = ((events & PL_EXEC_READABLE) != 0 ? CURL_CSELECT_IN : 0) |
               ((events & PL_EXEC_WRITABLE) != 0 ? CURL_CSELECT_OUT : 0) |
               ((events & PL_EXEC_HANGUP) != 0 ? CURL_CSELECT_IN | CURL_CSELECT_ERR : 0);
    act(hook, fd, what);
}

static int
on_socket(CURL *easy, curl_socket_t fd, int what, void *user, void *socket_user)
{
    uint32_t events = what == CURL_POLL_IN    ? PL_EXEC_READABLE
                      : what == CURL_POLL_OUT ? PL_EXEC_WRITABLE
                                              : PL_EXEC_READABLE | PL_EXEC_WRITABLE;
    (void)easy, (void)socket_user;
    api->unwatch(worker, fd);
    if (what == CURL_POLL_REMOVE)
        return 0;
    return api->watch(worker, fd, events, on_ready, user) == 0 ? 0 : -1;
}

static void
on_due(void *user)
{
    struct hook *hook = user;
    hook->timer = 0;
    act(hook, CURL_SOCKET_TIMEOUT, 0);
}

static int
on_timer(CURLM *multi, long delay_ms, void *user)
{
    struct hook *hook = user;
    (void)multi;
    if (hook->timer != 0)
        api->untimer(worker, hook->timer);
    hook->timer = 0;
    if (delay_ms < 0)
        return 0;
    hook->timer = api->timer(worker, delay_ms * NS_PER_MS, on_due, hook);
    return hook->timer != 0 ? 0 : -1;
}

/* ---- configuration ---- */

static char *
header_of(const char *auth)
{
    char *line = NULL;
    if (auth != NULL && asprintf(&line, "Authorization: %s", auth) < 0)
        return NULL;
    return line;
}

static bool
add_hook(const char *name, json_t *config, char error[256])
{
    struct hook *hook = &hooks[hook_count];
    const char *url = json_string_value(json_object_get(config, "url"));
    const char *auth = json_string_value(json_object_get(config, "auth_header"));
    const char *secret = json_string_value(json_object_get(config, "secret"));
    if (hook_count == HOOKS_MAX || url == NULL) {
        snprintf(error, 256, "webhook %s: no url, or too many webhooks", name);
        return false;
    }
    if (auth != NULL && auth[strcspn(auth, "\r\n")] != '\0') {
        snprintf(error, 256, "webhook %s: auth_header has a line end", name);
        return false;
    }
    if (secret != NULL && !pl_webhook_key_parse(secret, &hook->key)) {
        snprintf(error, 256, "webhook %s: the secret cannot be used: whsec_ and base64 is wanted",
                 name);
        return false;
    }
    hook->name = strdup(name);
    hook->url = strdup(url);
    hook->auth = header_of(auth);
    hook->timeout_ms = (long)json_integer_value(json_object_get(config, "timeout_ms"));
    hook->connections = (long)json_integer_value(json_object_get(config, "connections"));
    hook->allow_private = json_is_true(json_object_get(config, "allow_private"));
    hook->multi = curl_multi_init();
    if (hook->multi == NULL || hook->name == NULL || hook->url == NULL ||
        curl_multi_setopt(hook->multi, CURLMOPT_SOCKETFUNCTION, on_socket) != CURLM_OK ||
        curl_multi_setopt(hook->multi, CURLMOPT_SOCKETDATA, hook) != CURLM_OK ||
        curl_multi_setopt(hook->multi, CURLMOPT_TIMERFUNCTION, on_timer) != CURLM_OK ||
        curl_multi_setopt(hook->multi, CURLMOPT_TIMERDATA, hook) != CURLM_OK ||
        curl_multi_setopt(hook->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, hook->connections) !=
            CURLM_OK) {
        snprintf(error, 256, "webhook %s: no memory", name);
        return false;
    }
    hook_count++;
    return true;
}

static int
open_webhook(struct pl_exec_host *host, const struct pl_exec_api *host_api,
             const struct pl_exec_open *info, void **ret_instance, char error[256])
{
    json_error_t where;
    const char *name;
    json_t *one;
    (void)ret_instance;
    api = host_api;
    worker = host;
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        snprintf(error, 256, "libcurl cannot be used");
        return PL_EXEC_FAIL;
    }
    json_t *config = json_loads(info->config_json, 0, &where);
    if (config == NULL) {
        snprintf(error, 256, "its config is no JSON");
        return PL_EXEC_FAIL;
    }
    bool ok = true;
    json_object_foreach(json_object_get(config, "hooks"), name, one) ok =
        ok && add_hook(name, one, error);
    json_decref(config);
    return ok ? PL_EXEC_OK : PL_EXEC_FAIL;
}

/* ---- jobs ---- */

static struct hook *
find_hook(const char *name)
{
    for (size_t i = 0; i < hook_count; i++)
        if (name != NULL && strcmp(hooks[i].name, name) == 0)
            return &hooks[i];
    return NULL;
}

static int
execute(void *instance, struct pl_exec_job *job)
{
    struct hook *hook = find_hook(api->job_meta(job, "webhook", NULL));
    (void)instance;
    if (hook == NULL)
        return api->fail(job, PL_EXEC_INVALID, "the webhook is not configured any more");
    if (hook->gone)
        return api->fail(job, PL_EXEC_INVALID,
                         "the webhook answered 410 (gone) earlier: it is disabled");
    struct delivery *delivery = calloc(1, sizeof(*delivery));
    if (delivery == NULL)
        return PL_EXEC_OOM;
    *delivery = (struct delivery){
        .next = hook->deliveries, .hook = hook, .job = job, .easy = curl_easy_init()};
    hook->deliveries = delivery;
    if (delivery->easy == NULL || (hook->hold_timer == 0 && !send_it(delivery))) {
        drop(delivery);
        return PL_EXEC_OOM;
    }
    return PL_EXEC_PENDING;
}

static void
cancel(void *instance, struct pl_exec_job *job, enum pl_exec_stop reason, enum pl_exec_level level)
{
    (void)instance, (void)reason, (void)level;
    for (size_t i = 0; i < hook_count; i++)
        for (struct delivery *at = hooks[i].deliveries; at != NULL; at = at->next)
            if (at->job == job) {
                fail(at, PL_EXEC_CANCELLED, "stopped");
                return;
            }
}

static void
close_webhook(void *instance)
{
    (void)instance;
    for (size_t i = 0; i < hook_count; i++) {
        struct hook *hook = &hooks[i];
        if (hook->hold_timer != 0)
            api->untimer(worker, hook->hold_timer);
        curl_multi_cleanup(hook->multi);
        if (hook->timer != 0)
            api->untimer(worker, hook->timer);
        free(hook->name);
        free(hook->url);
        free(hook->auth);
        explicit_bzero(hook, sizeof(*hook));
    }
    hook_count = 0;
    curl_global_cleanup();
}

PL_EXEC_EXPORT const struct pl_exec_plugin *
pl_executor_entry(uint32_t host_major, uint32_t host_minor, char error[256])
{
    static const char *const types[] = {"webhook", NULL};
    static const struct pl_exec_plugin plugin = {
        .struct_size = sizeof(plugin),
        .abi_major = PL_EXEC_ABI_MAJOR,
        .abi_minor = PL_EXEC_ABI_MINOR,
        .flags = PL_EXEC_ASYNC,
        .name = "webhook",
        .version = "1.0",
        .description = "posts notifications to their receivers",
        .types = types,
        .open = open_webhook,
        .execute = execute,
        .cancel = cancel,
        .close = close_webhook,
    };
    (void)host_major, (void)host_minor, (void)error;
    return &plugin;
}
