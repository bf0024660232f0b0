#include "supervisor/session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/assert.h"
#include "supervisor/follow.h"
#include "supervisor/request.h"
#include "supervisor/supervisor.h"
#include "util/log.h"

/* One read of whole messages; one of a message that is longer. */
#define READ_BYTES      (256u << 10)
#define READ_LONG_BYTES (1u << 20)

/* What a session's output buffer may keep when it is empty. */
#define KEEP_BYTES (64u << 10)

/* Where reads go; handled, or copied to its session, before the next one. */
static uint8_t shared[READ_BYTES];

/* Reads of one session in one turn, so that a firehose does not starve the others. */
#define READS_PER_TURN 4

pl_session_ref
pl_session_ref_of(const struct pl_session *session)
{
    return (uint64_t)session->generation << 32 | session->index;
}

struct pl_session *
pl_session_find(struct pl_supervisor *sup, pl_session_ref ref)
{
    uint32_t index = (uint32_t)ref;
    if (ref == 0 || index >= sup->session_capacity)
        return NULL;
    struct pl_session *session = sup->sessions[index];
    if (session == NULL || session->fd < 0 || session->generation != (uint32_t)(ref >> 32))
        return NULL;
    return session;
}

size_t
pl_session_backlog(const struct pl_session *session)
{
    return session->out.len - session->out_sent;
}

void
pl_session_touch(struct pl_supervisor *sup, struct pl_session *session)
{
    if (session->dirty)
        return;
    session->dirty = true;
    sup->dirty[(sup->dirty_head + sup->dirty_count) % sup->session_capacity] = session->index;
    sup->dirty_count++;
}

static uint32_t
watch_of(const struct pl_session *session)
{
    return (session->paused ? 0u : PL_WATCH_READ) | (session->want_out ? PL_WATCH_WRITE : 0u);
}

static void
rewatch(struct pl_supervisor *sup, struct pl_session *session, bool paused, bool want_out)
{
    if (session->paused == paused && session->want_out == want_out)
        return;
    session->paused = paused;
    session->want_out = want_out;
    int rc = pl_loop_modify(sup->loop, session->fd, watch_of(session),
                            pl_token(PL_TOKEN_SESSION, session->index));
    if (rc < 0)
        session->dead = true;
}

static void
close_session(struct pl_supervisor *sup, struct pl_session *session)
{
    pl_request_session_gone(sup, session);
    sup->parked -= session->parked;
    (void)pl_loop_remove(sup->loop, session->fd);
    close(session->fd);
    session->fd = -1;
    pl_buf_deinit(&session->in);
    pl_mp_writer_deinit(&session->out);
    sup->session_count--;
    sup->free_sessions[sup->free_session_count++] = session->index;
}

/* Index lists are as long as the table, so that touching and closing never allocate. */
static int
grow_table(struct pl_supervisor *sup)
{
    uint32_t capacity = sup->session_capacity == 0 ? 64 : sup->session_capacity * 2;
    struct pl_session **sessions = reallocarray(sup->sessions, capacity, sizeof(*sessions));
    if (sessions == NULL)
        return -ENOMEM;
    sup->sessions = sessions;
    uint32_t *dirty = calloc(capacity, sizeof(*dirty));
    if (dirty == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < sup->dirty_count; i++)
        dirty[i] = sup->dirty[(sup->dirty_head + i) % sup->session_capacity];
    uint32_t *gated = reallocarray(sup->gated, capacity, sizeof(*gated));
    if (gated == NULL) {
        free(dirty);
        return -ENOMEM;
    }
    sup->gated = gated;
    free(sup->dirty);
    sup->dirty = dirty;
    sup->dirty_head = 0;
    uint32_t *free_list = reallocarray(sup->free_sessions, capacity, sizeof(*free_list));
    if (free_list == NULL)
        return -ENOMEM;
    sup->free_sessions = free_list;
    for (uint32_t i = sup->session_capacity; i < capacity; i++)
        sessions[i] = NULL;
    for (uint32_t i = capacity; i > sup->session_capacity; i--)
        free_list[sup->free_session_count++] = i - 1;
    sup->session_capacity = capacity;
    return 0;
}

static struct pl_session *
new_session(struct pl_supervisor *sup, int fd)
{
    if (sup->free_session_count == 0 && grow_table(sup) < 0)
        return NULL;
    uint32_t index = sup->free_sessions[sup->free_session_count - 1];
    struct pl_session *session = sup->sessions[index];
    if (session == NULL) {
        session = calloc(1, sizeof(*session));
        if (session == NULL)
            return NULL;
        sup->sessions[index] = session;
    }
    uint32_t generation = session->generation + 1;
    bool listed = session->gate.listed;
    memset(session, 0, sizeof(*session));
    session->gate.listed = listed;
    session->index = index;
    session->generation = generation == 0 ? 1 : generation;
    session->fd = fd;
    int rc = pl_loop_add(sup->loop, fd, PL_WATCH_READ, pl_token(PL_TOKEN_SESSION, index));
    if (rc < 0) {
        session->fd = -1;
        return NULL;
    }
    sup->free_session_count--;
    sup->session_count++;
    return session;
}

void
pl_session_accept(struct pl_supervisor *sup)
{
    for (int i = 0; i < 256; i++) {
        int fd = accept4(sup->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0)
            return; /* nobody waits, or no descriptors: those in the backlog keep waiting */
        struct ucred peer;
        socklen_t len = sizeof(peer);
        if (sup->session_count >= sup->max_connections ||
            getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0) {
            sup->refused_connections++;
            close(fd);
            continue;
        }
        struct pl_session *session = new_session(sup, fd);
        if (session == NULL) {
            close(fd);
            continue;
        }
        session->uid = peer.uid;
        session->gid = peer.gid;
        session->pid = peer.pid;
        session->admin = pl_users_is_admin(sup->users, peer.uid, peer.gid);
        pl_users_name(sup->users, peer.uid, session->tenant);
    }
}

/* What cannot be understood ends the connection: nothing after it can be trusted to be a message.
 */
static void
refuse_peer(struct pl_supervisor *sup, struct pl_session *session, int outcome)
{
    static struct pl_log_limit limit;
    uint32_t suppressed;
    if (pl_log_limit_allows(&limit, sup->now, 5, 10 * PL_NS_PER_S, &suppressed))
        pl_log(PL_LOG_WARNING, "client does not speak the protocol: cut off",
               PL_F_STR("why", pl_mp_outcome_text(outcome)), PL_F_INT("pid", session->pid),
               PL_F_UINT("uid", session->uid), PL_F_UINT("suppressed", suppressed));
    struct pl_rpc_error error;
    pl_rpc_error_set(&error, PL_E_PROTOCOL, "%s", pl_mp_outcome_text(outcome));
    pl_rpc_put_error(&session->out, 0, &error);
    session->closing = true;
    pl_session_touch(sup, session);
}

static bool
takes_requests(const struct pl_session *session)
{
    /* Beyond the soft limit the rest waits until the client has read. */
    return !session->closing && !session->dead && !session->parked &&
           pl_session_backlog(session) <= PL_SESSION_OUT_SOFT;
}

/* Handles the whole messages at @data. Return: how many bytes they were. */
static size_t
handle_messages(struct pl_supervisor *sup, struct pl_session *session, const uint8_t *data,
                size_t len)
{
    size_t at = 0;
    while (at < len && takes_requests(session)) {
        size_t bytes;
        int outcome = pl_rpc_scan(&session->scanner, data + at, len - at, sup->max_msg, &bytes);
        if (outcome == PL_MP_E_MORE)
            break;
        struct pl_rpc_message message;
        if (outcome == PL_MP_OK)
            outcome = pl_rpc_parts((struct pl_str){(const char *)data + at, bytes}, &message);
        if (outcome != PL_MP_OK) {
            refuse_peer(sup, session, outcome);
            break;
        }
        pl_request_handle(sup, session, &message);
        if (session->parked)
            break; /* it comes again */
        at += bytes;
    }
    return at;
}

/* What is kept with the session. */
static void
handle_kept(struct pl_supervisor *sup, struct pl_session *session)
{
    size_t len = pl_buf_len(&session->in);
    if (len == 0)
        return;
    pl_buf_consume(&session->in, handle_messages(sup, session, pl_buf_at(&session->in), len));
    if (pl_buf_len(&session->in) == 0)
        pl_buf_deinit(&session->in);
}

/* Reads behind what is kept; a long message is read in long pieces. */
static ssize_t
read_kept(struct pl_session *session, size_t *ret_room)
{
    size_t room = pl_rpc_scan_wants(&session->scanner, pl_buf_len(&session->in));
    room = room < READ_BYTES ? READ_BYTES : room > READ_LONG_BYTES ? READ_LONG_BYTES : room;
    uint8_t *at;
    if (pl_buf_reserve(&session->in, room, &at) < 0) {
        errno = ENOMEM;
        return -1;
    }
    ssize_t got = recv(session->fd, at, room, MSG_DONTWAIT);
    if (got > 0)
        pl_buf_commit(&session->in, (size_t)got);
    *ret_room = room;
    return got;
}

/* Return: whether there may be more. */
static bool
read_once(struct pl_supervisor *sup, struct pl_session *session)
{
    size_t room = sizeof(shared);
    bool kept = pl_buf_len(&session->in) > 0;
    ssize_t got =
        kept ? read_kept(session, &room) : recv(session->fd, shared, sizeof(shared), MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (got <= 0) {
        session->dead = true; /* gone: nobody will read a reply */
        return false;
    }
    if (kept) {
        handle_kept(sup, session);
    } else {
        size_t handled = handle_messages(sup, session, shared, (size_t)got);
        if (pl_buf_append(&session->in, shared + handled, (size_t)got - handled) < 0)
            session->dead = true;
    }
    return (size_t)got == room && takes_requests(session);
}

static void
read_session(struct pl_supervisor *sup, struct pl_session *session)
{
    for (int i = 0; i < READS_PER_TURN && read_once(sup, session); i++)
        ;
}

void
pl_session_ready(struct pl_supervisor *sup, struct pl_session *session, unsigned flags)
{
    if ((flags & (PL_READY_READ | PL_READY_HANGUP)) != 0 && !session->paused && !session->closing)
        read_session(sup, session);
    else if ((flags & PL_READY_HANGUP) != 0)
        session->dead = true;
    pl_session_touch(sup, session);
}

static void
send_output(struct pl_supervisor *sup, struct pl_session *session)
{
    size_t end = pl_gate_open_bytes(sup, session);
    while (session->out_sent < end) {
        ssize_t sent = send(session->fd, session->out.data + session->out_sent,
                            end - session->out_sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0 && errno == EAGAIN)
            return;
        if (sent < 0) {
            session->dead = true;
            return;
        }
        session->out_sent += (size_t)sent;
    }
    if (session->out_sent < session->out.len)
        return;
    session->out_sent = 0;
    pl_gate_rewind(session);
    if (session->out.capacity > KEEP_BYTES)
        pl_mp_writer_deinit(&session->out);
    else
        pl_mp_writer_reset(&session->out);
}

static void
flush_session(struct pl_supervisor *sup, struct pl_session *session)
{
    if (session->out.failed)
        session->dead = true;
    if (!session->dead)
        send_output(sup, session);
    size_t backlog = pl_session_backlog(session);
    if (backlog > PL_SESSION_OUT_HARD)
        session->dead = true;
    if (session->dead || (session->closing && backlog == 0)) {
        close_session(sup, session);
        return;
    }
    if (session->starved && backlog < PL_SESSION_OUT_SOFT / 2) {
        pl_follow_resume(sup, session);
        backlog = pl_session_backlog(session);
    }
    bool was_paused = session->paused;
    rewatch(sup, session, session->closing || session->parked || backlog > PL_SESSION_OUT_SOFT,
            session->out_sent < pl_gate_open_bytes(sup, session));
    if (was_paused && !session->paused) {
        /* Requests that lay in the buffer while the client did not read. */
        handle_kept(sup, session);
    }
}

void
pl_session_park(struct pl_supervisor *sup, struct pl_session *session)
{
    PL_ASSERT(!session->parked);
    session->parked = true;
    sup->parked++;
    pl_session_touch(sup, session);
}

void
pl_session_unpark(struct pl_supervisor *sup)
{
    for (uint32_t i = 0; sup->parked > 0 && i < sup->session_capacity; i++) {
        struct pl_session *session = sup->sessions[i];
        if (session == NULL || session->fd < 0 || !session->parked)
            continue;
        session->parked = false;
        sup->parked--;
        pl_session_touch(sup, session);
    }
}

void
pl_session_flush_all(struct pl_supervisor *sup)
{
    /* A queue in a circle, each session in it once at most: flushing may touch sessions again (a
     * request handled, a waiter told), and ends because the input that is there is finite. */
    while (sup->dirty_count > 0) {
        struct pl_session *session = sup->sessions[sup->dirty[sup->dirty_head]];
        sup->dirty_head = (sup->dirty_head + 1) % sup->session_capacity;
        sup->dirty_count--;
        session->dirty = false;
        if (session->fd >= 0)
            flush_session(sup, session);
    }
}

void
pl_session_close_all(struct pl_supervisor *sup)
{
    for (uint32_t i = 0; i < sup->session_capacity; i++) {
        struct pl_session *session = sup->sessions[i];
        if (session == NULL)
            continue;
        if (session->fd >= 0)
            close_session(sup, session);
        free(session);
    }
    free(sup->sessions);
    free(sup->dirty);
    free(sup->free_sessions);
    free(sup->gated);
    sup->sessions = NULL;
    sup->dirty = sup->free_sessions = sup->gated = NULL;
    sup->session_capacity = sup->dirty_count = sup->free_session_count = 0;
}
