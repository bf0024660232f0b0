#include "client/connection.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "util/entropy.h"
#include "util/paths.h"

#define CONNECT_TIMEOUT_MS 5000
#define HELLO_MSG_MAX      (1u << 20) /* until hello tells the limits */

static void
tell(const struct pl_connect_opts *opts, const char *text)
{
    if (opts->error != NULL && opts->error_size > 0)
        snprintf(opts->error, opts->error_size, "%s", text);
}

int
pl_client_resolve(const char *address, const char *instance, char *ret_path, size_t size)
{
    char run_dir[PL_PATH_BYTES], socket_path[PL_SOCKET_PATH_BYTES], name[PL_INSTANCE_BYTES];
    struct pl_error err = {{0}};
    int r = 0, status = PL_E_INVALID;

    if (address == NULL && instance == NULL)
        address = getenv("PL_SOCKET");
    if (address != NULL && address[0] != 0) {
        const char *path = strncmp(address, "unix:", 5) == 0 ? address + 5 : address;
        if (path[0] == 0 || (strstr(address, "://") != NULL && path == address))
            snprintf(err.text, sizeof(err.text), "'%s' is not unix:PATH", address);
        else if (pl_paths_socket_check(path, &err) == 0 && strlen(path) < size) {
            snprintf(ret_path, size, "%s", path);
            return PL_OK;
        }
        snprintf(ret_path, size, "%s", err.text);
        return PL_E_INVALID;
    }
    r = pl_paths_instance(instance, NULL, true, name, &err);
    if (r == 0)
        r = pl_paths_run_dir(name, run_dir, &err);
    if (r == 0)
        r = pl_paths_socket(run_dir, socket_path, &err);
    if (r == 0)
        status = PL_OK;
    snprintf(ret_path, size, "%s", r == 0 ? socket_path : err.text);
    return status;
}

int
pl_socket_path(const char *instance, char *ret_path, size_t size)
{
    char path[PL_PATH_BYTES];
    int status = pl_client_resolve(NULL, instance, path, sizeof(path));

    if (status == PL_OK && strlen(path) >= size)
        status = PL_E_INVALID;
    if (status == PL_OK)
        memcpy(ret_path, path, strlen(path) + 1);
    return status;
}

/* Connecting to a Unix socket waits only while its backlog is full; the send time-out bounds it. */
static int
open_socket(const char *path, int64_t timeout_ms, int *ret_fd)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct timeval limit = {.tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000};
    int r, fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -errno;
    if (strlen(path) >= sizeof(address.sun_path)) {
        close(fd);
        return -ENAMETOOLONG;
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    do {
        r = connect(fd, (const struct sockaddr *)&address, sizeof(address));
    } while (r < 0 && errno == EINTR);
    if (r < 0) {
        r = -errno;
        close(fd);
        return r;
    }
    *ret_fd = fd;
    return 0;
}

static char *
dup_text(struct pl_str text)
{
    return text.data == NULL ? strdup("") : strndup(text.data, text.len);
}

static int
take_hello(struct pl_client *client, struct pl_str raw)
{
    struct pl_rep_hello hello;

    if (pl_rep_hello_decode(raw, &hello, NULL) != 0 || hello.proto != PL_RPC_PROTO_VERSION)
        return pl_client_fail(client, PL_E_VERSION, "the server's hello is of another protocol");
    client->server = dup_text(hello.server);
    client->version = dup_text(hello.version);
    client->instance = dup_text(hello.instance);
    client->tenant = dup_text(hello.tenant);
    if (client->server == NULL || client->version == NULL || client->instance == NULL ||
        client->tenant == NULL)
        return pl_client_fail(client, PL_E_NO_MEMORY, NULL);
    client->epoch = hello.epoch;
    client->uid = hello.uid;
    client->admin = hello.admin;
    if (hello.limits.max_msg != 0)
        client->max_msg = hello.limits.max_msg;
    client->max_payload = hello.limits.max_payload;
    if (hello.limits.max_inflight != 0)
        client->max_inflight = hello.limits.max_inflight;
    return PL_OK;
}

static int
say_hello(struct pl_client *client)
{
    struct pl_req_hello hello;
    struct pl_str raw;
    int status;

    pl_req_hello_init(&hello);
    hello.proto = PL_RPC_PROTO_VERSION;
    hello.client = client->name != NULL ? pl_client_text(client->name) : PL_STR("libparkinglot");
    hello.client_id = client->client_id;
    status = pl_connection_call(client, PL_METHOD_HELLO, &pl_req_hello_schema, &hello,
                                client->connect_timeout_ms, &raw);
    if (status != PL_OK)
        return status;
    status = take_hello(client, raw);
    free((void *)(uintptr_t)raw.data);
    return status;
}

static int
connect_on(int fd, const char *address, const struct pl_connect_opts *opts,
           struct pl_client **ret_client)
{
    struct pl_client *client = calloc(1, sizeof(*client));
    int status;

    if (client == NULL) {
        close(fd);
        tell(opts, pl_rpc_status_text(PL_E_NO_MEMORY));
        return PL_E_NO_MEMORY;
    }
    client->fd = fd;
    client->next_id = 1;
    client->max_msg = HELLO_MSG_MAX;
    client->max_inflight = 1;
    client->address = strdup(address);
    client->name = opts->client_name != NULL ? strdup(opts->client_name) : NULL;
    client->connect_timeout_ms =
        opts->connect_timeout_ms > 0 ? opts->connect_timeout_ms : CONNECT_TIMEOUT_MS;
    pl_entropy_fill(client->client_id.b, sizeof(client->client_id.b));
    if (client->address == NULL || (opts->client_name != NULL && client->name == NULL))
        status = pl_client_fail(client, PL_E_NO_MEMORY, NULL);
    else
        status = say_hello(client);
    if (status != PL_OK) {
        tell(opts, client->error.message);
        pl_close(client);
        return status;
    }
    if (client->max_inflight == 1)
        client->max_inflight = 64;
    *ret_client = client;
    return PL_OK;
}

static void
forget_server(struct pl_client *client)
{
    char **texts[] = {&client->server, &client->version, &client->instance, &client->tenant};

    for (size_t i = 0; i < PL_ARRAY_LEN(texts); i++) {
        free(*texts[i]);
        *texts[i] = NULL;
    }
}

int
pl_client_reopen(struct pl_client *client)
{
    int fd, status;

    if (client->dead != PL_E_CONNECT || client->dispatching || client->address[0] == 0)
        return client->dead;
    if (open_socket(client->address, client->connect_timeout_ms, &fd) != 0)
        return PL_E_CONNECT;
    close(client->fd);
    client->fd = fd;
    client->dead = PL_OK;
    client->in_len = 0;
    client->scanner = (struct pl_rpc_scanner){0};
    pl_mp_writer_reset(&client->out);
    client->out_sent = 0;
    forget_server(client);
    status = say_hello(client);
    if (status != PL_OK)
        pl_connection_lose(client, PL_E_CONNECT);
    return status;
}

int
pl_connect_fd(int fd, const struct pl_connect_opts *user_opts, struct pl_client **ret_client)
{
    struct pl_connect_opts opts;

    pl_client_copy_in(&opts, sizeof(opts), user_opts);
    return connect_on(fd, "", &opts, ret_client);
}

int
pl_connect(const struct pl_connect_opts *user_opts, struct pl_client **ret_client)
{
    struct pl_connect_opts opts;
    char path[PL_PATH_BYTES], text[PL_PATH_BYTES + 128];
    int64_t timeout;
    int r, fd = -1;

    pl_client_copy_in(&opts, sizeof(opts), user_opts);
    timeout = opts.connect_timeout_ms > 0 ? opts.connect_timeout_ms : CONNECT_TIMEOUT_MS;
    r = pl_client_resolve(opts.address, opts.instance, path, sizeof(path));
    if (r != PL_OK) {
        tell(&opts, path);
        return r;
    }
    r = open_socket(path, timeout, &fd);
    if (r != 0) {
        bool absent = r == -ENOENT || r == -ECONNREFUSED;
        snprintf(text, sizeof(text), "cannot connect to %s: %s", path,
                 absent ? "no supervisor runs there" : strerror(-r));
        tell(&opts, text);
        return r == -EACCES || r == -EPERM ? PL_E_DENIED : PL_E_CONNECT;
    }
    return connect_on(fd, path, &opts, ret_client);
}

void
pl_close(struct pl_client *client)
{
    if (client == NULL)
        return;
    pl_connection_lose(client, PL_E_CONNECT);
    close(client->fd);
    pl_mp_writer_deinit(&client->out);
    for (size_t i = 0; i < PL_ARRAY_LEN(client->scratch); i++)
        pl_mp_writer_deinit(&client->scratch[i]);
    free(client->in);
    free(client->pending);
    free(client->address);
    free(client->name);
    forget_server(client);
    free(client);
}

const char *
pl_errmsg(const struct pl_client *client)
{
    return client == NULL ? "" : client->error.message;
}

void
pl_error_info(const struct pl_client *client, struct pl_error_info *ret_info)
{
    struct pl_error_info info = {
        .status = client->error.code,
        .retry_after_ms = client->error.retry_after_ms,
        .eta_ms = client->error.eta_ms,
        .position = client->error.position,
        .limit = client->error.limit,
        .limit_value = client->error.limit_value,
        .limit_max = client->error.limit_max,
        .fits = client->error.fits,
        .field = client->error.field,
    };

    pl_client_copy_out(ret_info, &info, sizeof(info));
}

void
pl_server_info(const struct pl_client *client, struct pl_server_info *ret_info)
{
    struct pl_server_info info = {
        .server = client->server,
        .version = client->version,
        .instance = client->instance,
        .tenant = client->tenant,
        .address = client->address,
        .epoch = client->epoch,
        .max_payload = client->max_payload,
        .max_inflight = client->max_inflight,
        .uid = client->uid,
        .admin = client->admin,
    };

    pl_client_copy_out(ret_info, &info, sizeof(info));
}
