#include "supervisor/upgrade.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "supervisor/version.h"
#include "util/cleanup.h"
#include "util/fd.h"
#include "util/log.h"
#include "util/paths.h"
#include "util/program.h"

#define TIMEOUT_MS_DEFAULT 10000
#define TIMEOUT_MS_MAX     3600000

/* Replies that wait for the disk, or for a client to read, wait so long; the rest is as after a
 * death: the client comes back and asks again. */
#define LEAVE_TIME PL_NS_PER_S

static const char *const part_texts[] = {"", "supervisor", "store", "guard"};

/* ---- who asked ---- */

static void
answer(struct pl_supervisor *sup, int code, const char *why)
{
    struct pl_upgrade *upgrade = &sup->upgrade;
    struct pl_session *session = pl_session_find(sup, upgrade->session);
    struct pl_request request = {.session = session, .id = upgrade->request};
    upgrade->session = 0;
    if (session == NULL)
        return;
    if (code == PL_OK)
        pl_reply_ok(sup, &request, 1);
    else
        pl_reply_fail(sup, &request, code, "%s", why);
}

static void
end(struct pl_supervisor *sup, int code, const char *why)
{
    struct pl_upgrade *upgrade = &sup->upgrade;
    if (code != PL_OK)
        pl_log(PL_LOG_ERROR, "the upgrade failed", PL_F_STR("part", part_texts[upgrade->part]),
               PL_F_STR("why", why));
    answer(sup, code, why);
    upgrade->part = PL_UPGRADE_NOTHING;
    upgrade->deadline = 0;
    upgrade->going_back = false;
    upgrade->old_store_fd = pl_fd_close(upgrade->old_store_fd);
}

/* ---- hand-over ---- */

static void
begin_hand_over(struct pl_supervisor *sup)
{
    sup->upgrade.handing_over = true;
    sup->upgrade.deadline = sup->now + LEAVE_TIME;
    pl_log(PL_LOG_INFO, "handing over", PL_F_UINT("clients", sup->session_count));
    (void)pl_loop_remove(sup->loop, sup->listen_fd);
    for (uint32_t i = 0; i < sup->session_capacity; i++) {
        struct pl_session *session = sup->sessions[i];
        if (session == NULL || session->fd < 0)
            continue;
        session->closing = true;
        pl_session_touch(sup, session);
    }
}

void
pl_upgrade_progress(struct pl_supervisor *sup)
{
    if (!sup->upgrade.handing_over || sup->phase != PL_SUP_SERVING ||
        pl_guard_client_wants_write(sup->guard))
        return;
    if (sup->session_count == 0 || sup->upgrade.deadline <= sup->now)
        sup->phase = PL_SUP_STOPPED;
}

/* ---- what the guard tells ---- */

void
pl_upgrade_guard_is(struct pl_supervisor *sup, const char version[PL_GUARD_VERSION_BYTES])
{
    memcpy(sup->upgrade.guard_version, version, PL_GUARD_VERSION_BYTES);
    sup->upgrade.guard_version[PL_GUARD_VERSION_BYTES - 1] = '\0';
}

static void
told_of_supervisor(struct pl_supervisor *sup, const struct pl_guard_upgrade_is *told)
{
    if (sup->upgrade.part != PL_UPGRADE_SUPERVISOR || sup->upgrade.handing_over)
        return; /* of one before us */
    if (told->outcome != PL_GUARD_UPGRADE_RUNNING) {
        end(sup, PL_E_INVALID, told->why);
        return;
    }
    if (sup->phase != PL_SUP_SERVING) { /* the guard has sent a signal meanwhile, and knows */
        end(sup, PL_E_BUSY, "the instance stops");
        return;
    }
    answer(sup, PL_OK, NULL);
    begin_hand_over(sup);
}

void
pl_upgrade_told(struct pl_supervisor *sup, const struct pl_guard_upgrade_is *told)
{
    struct pl_guard_upgrade_is *last = &sup->upgrade.last;
    *last = *told;
    last->why[sizeof(last->why) - 1] = '\0';
    pl_upgrade_guard_is(sup, told->version);
    if (told->serial == sup->upgrade.serial)
        return; /* how the one before went: the guard told it before it read what we asked */
    if (told->part == PL_GUARD_PART_SUPERVISOR)
        told_of_supervisor(sup, last);
    else if (sup->upgrade.part == PL_UPGRADE_GUARD && told->outcome != PL_GUARD_UPGRADE_RUNNING)
        end(sup,
            told->outcome == PL_GUARD_UPGRADE_DONE      ? PL_OK
            : told->outcome == PL_GUARD_UPGRADE_REFUSED ? PL_E_INVALID
                                                        : PL_E_IO,
            last->why);
}

/* ---- the store ---- */

/* It is started by its path, more than once: nobody else may put another into its place either. */
static int
check_program(const char *program, struct pl_error *err)
{
    char folder[PL_PATH_BYTES];
    PL_CLEANUP_FD int fd = -1;
    size_t len = (size_t)(strrchr(program, '/') - program);
    memcpy(folder, program, len);
    memcpy(folder + len, "/", 2);
    int rc = pl_program_open(program, &fd, err);
    return rc < 0 ? rc : pl_program_check_folder(folder, err);
}

static int
begin_store(struct pl_supervisor *sup, const char *program, struct pl_error *err)
{
    struct pl_upgrade *upgrade = &sup->upgrade;
    char old[32];
    int rc = check_program(program, err);
    if (rc < 0)
        return rc;
    snprintf(old, sizeof(old), "/proc/%d/exe", (int)sup->store.pid);
    upgrade->old_store_fd = open(old, O_PATH | O_CLOEXEC);
    rc = upgrade->old_store_fd < 0 ? -errno
                                   : pl_store_replace(sup, program, sup->now + upgrade->timeout);
    if (rc < 0)
        pl_error_set_errno(err, rc, "the store that runs cannot be replaced");
    else
        /* to leave, then to come */
        upgrade->deadline = sup->now + 2 * upgrade->timeout;
    return rc;
}

void
pl_upgrade_store_serves(struct pl_supervisor *sup)
{
    if (sup->upgrade.part != PL_UPGRADE_STORE)
        return;
    if (sup->upgrade.going_back)
        sup->store.program[0] = '\0'; /* a later start takes what is installed */
    end(sup, sup->upgrade.going_back ? PL_E_IO : PL_OK, sup->upgrade.why);
}

bool
pl_upgrade_store_failed(struct pl_supervisor *sup)
{
    struct pl_upgrade *upgrade = &sup->upgrade;
    struct pl_store_client *store = &sup->store;
    if (upgrade->part != PL_UPGRADE_STORE)
        return false;
    if (upgrade->going_back) {
        store->program[0] = '\0';
        end(sup, PL_E_INTERNAL, "neither the new store nor the old one serves");
        return false;
    }
    snprintf(upgrade->why, sizeof(upgrade->why),
             "the new store is not healthy, the old one is started again: %.100s", store->error);
    upgrade->going_back = true;
    upgrade->deadline = sup->now + upgrade->timeout;
    snprintf(store->program, sizeof(store->program), "/proc/%d/fd/%d", (int)getpid(),
             upgrade->old_store_fd);
    store->failures = 0;
    pl_log(PL_LOG_ERROR, upgrade->why);
    pl_store_start(sup);
    return true;
}

/* ---- time ---- */

void
pl_upgrade_due(struct pl_supervisor *sup)
{
    struct pl_upgrade *upgrade = &sup->upgrade;
    if (upgrade->deadline == 0 || upgrade->deadline > sup->now || upgrade->handing_over)
        return;
    upgrade->deadline = 0;
    if (upgrade->part == PL_UPGRADE_STORE && sup->store.phase == PL_STORE_STARTS)
        pl_store_give_up(sup, "it did not serve in time");
    else if (upgrade->part != PL_UPGRADE_NOTHING)
        end(sup, PL_E_TIMEOUT, "nothing came of it in time");
}

pl_time
pl_upgrade_deadline(const struct pl_supervisor *sup)
{
    return sup->upgrade.deadline;
}

/* ---- requests ---- */

static enum pl_upgrade_part
part_of(struct pl_str text)
{
    for (int part = PL_UPGRADE_SUPERVISOR; part <= PL_UPGRADE_GUARD; part++)
        if (strlen(part_texts[part]) == text.len &&
            memcmp(part_texts[part], text.data, text.len) == 0)
            return (enum pl_upgrade_part)part;
    return PL_UPGRADE_NOTHING;
}

static bool
copy_path(struct pl_str from, char to[PL_PATH_BYTES])
{
    to[0] = '\0';
    if (from.len == 0)
        return true; /* its data may be NULL */
    if (from.len >= PL_PATH_BYTES || from.data[0] != '/' ||
        memchr(from.data, '\0', from.len) != NULL)
        return false;
    memcpy(to, from.data, from.len);
    to[from.len] = '\0';
    return true;
}

static int
begin(struct pl_supervisor *sup, const char *program, const char *libexec, struct pl_error *err)
{
    struct pl_upgrade *upgrade = &sup->upgrade;
    if (upgrade->part == PL_UPGRADE_STORE)
        return begin_store(sup, program, err);
    enum pl_guard_part part =
        upgrade->part == PL_UPGRADE_GUARD ? PL_GUARD_PART_GUARD : PL_GUARD_PART_SUPERVISOR;
    upgrade->deadline = sup->now + upgrade->timeout;
    upgrade->serial = upgrade->last.serial;
    int rc = pl_guard_client_upgrade(sup->guard, part, (uint32_t)(upgrade->timeout / PL_NS_PER_MS),
                                     program, libexec);
    if (rc < 0)
        pl_error_set_errno(err, rc, "the guard cannot be told");
    return rc;
}

void
pl_request_upgrade(struct pl_supervisor *sup, const struct pl_request *request)
{
    static const char *const programs[] = {"", "pl-supervisor", "pl-store", "pl-guard"};
    struct pl_upgrade *upgrade = &sup->upgrade;
    struct pl_req_instance_upgrade req;
    struct pl_rpc_error error;
    struct pl_error err = {.text = ""};
    char program[PL_PATH_BYTES], libexec[PL_PATH_BYTES];
    if (pl_req_instance_upgrade_decode(request->params, &req, &error) != 0) {
        pl_reply_error(sup, request, &error);
        return;
    }
    enum pl_upgrade_part part = part_of(req.part);
    if (part == PL_UPGRADE_NOTHING || !copy_path(req.program, program) ||
        !copy_path(req.libexec, libexec)) {
        pl_reply_fail(sup, request, PL_E_INVALID,
                      "part is one of supervisor, store, guard; paths are absolute");
        return;
    }
    if (upgrade->part != PL_UPGRADE_NOTHING || sup->phase != PL_SUP_SERVING) {
        pl_reply_fail(sup, request, PL_E_BUSY, "%s",
                      sup->phase != PL_SUP_SERVING ? "the instance stops"
                                                   : "an upgrade is under way");
        return;
    }
    if (program[0] == '\0' && pl_paths_find_program(programs[part], program, &err) < 0) {
        pl_reply_fail(sup, request, PL_E_NOT_FOUND, "%s", err.text);
        return;
    }
    int64_t ms = req.timeout_ms < 0 ? TIMEOUT_MS_DEFAULT : req.timeout_ms;
    upgrade->part = part;
    upgrade->timeout = (ms > TIMEOUT_MS_MAX ? TIMEOUT_MS_MAX : ms) * PL_NS_PER_MS;
    upgrade->session = pl_session_ref_of(request->session);
    upgrade->request = request->id;
    upgrade->why[0] = '\0';
    if (begin(sup, program, libexec, &err) < 0)
        end(sup, PL_E_INVALID, err.text);
}

static struct pl_str
outcome_text(uint32_t outcome)
{
    static const char *const texts[] = {"", "running", "done", "refused", "rolled_back"};
    return pl_reply_chars(outcome < PL_ARRAY_LEN(texts) ? texts[outcome] : "");
}

void
pl_request_versions(struct pl_supervisor *sup, const struct pl_request *request)
{
    static const char *const names[] = {"pl-supervisor", "pl-guard", "pl-store", "pl-worker"};
    const struct pl_guard_upgrade_is *last = &sup->upgrade.last;
    char paths[PL_ARRAY_LEN(names)][PL_PATH_BYTES], formats[PL_FORMATS_TEXT_BYTES];
    struct pl_rep_instance_versions reply;
    struct pl_error err;
    for (size_t i = 0; i < PL_ARRAY_LEN(names); i++)
        if (pl_paths_find_program(names[i], paths[i], &err) < 0)
            paths[i][0] = '\0';
    pl_formats_text(pl_upgrade_formats, formats, sizeof(formats));
    pl_rep_instance_versions_init(&reply);
    reply.version = PL_STR(PL_VERSION_TEXT);
    reply.guard_version = pl_reply_chars(sup->upgrade.guard_version);
    reply.formats = pl_reply_chars(formats);
    reply.epoch = sup->epoch;
    reply.pid = (uint32_t)getpid();
    reply.guard_pid = (uint32_t)sup->guard_pid;
    reply.store_pid = sup->store.phase == PL_STORE_OFF ? 0 : (uint32_t)sup->store.pid;
    reply.config = pl_reply_chars(sup->config_path);
    reply.supervisor_program = pl_reply_chars(paths[0]);
    reply.guard_program = pl_reply_chars(paths[1]);
    reply.store_program = pl_reply_chars(paths[2]);
    reply.worker_program = pl_reply_chars(paths[3]);
    reply.upgrade = last->serial;
    reply.upgrade_part = pl_reply_chars(last->part == PL_GUARD_PART_GUARD        ? "guard"
                                        : last->part == PL_GUARD_PART_SUPERVISOR ? "supervisor"
                                                                                 : "");
    reply.upgrade_outcome = outcome_text(last->outcome);
    reply.upgrade_why = pl_reply_chars(last->why);
    pl_rep_instance_versions_encode(pl_reply_begin(sup, request), &reply);
}
