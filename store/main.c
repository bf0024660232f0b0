/*
 * pl-store: started by pl-guard at the supervisor's wish, with the link's descriptors where a
 * worker has its channel's (shm/worker_fds.h).
 *
 * Exit status: 0 everything is durable and the supervisor said that it was all; 65 what is on disk
 * cannot be used; 70 the link cannot; 75 start it again.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/assert.h"
#include "shm/worker_fds.h"
#include "store/backup.h"
#include "store/store.h"
#include "util/clock.h"
#include "util/fd.h"
#include "util/formats.h"
#include "util/log.h"

#define EXIT_LINK 70

static const struct pl_format formats[] = {
    {"storelink", PL_STORELINK_LAYOUT_VERSION},
    {"record", PL_RECORD_VERSION},
    {NULL, 0},
};

/* Return: exit status. */
static int
check_upgrade(const char *running)
{
    struct pl_error err = {.text = ""};
    int rc = pl_formats_check(formats, running, &err);
    return pl_formats_answer("pl-store", PL_VERSION_TEXT, formats, rc == 0 ? NULL : err.text);
}

static void
on_assert(const char *expr, const char *file, int line)
{
    pl_log(PL_LOG_ERROR, "assertion failed: this is a bug", PL_F_STR("expr", expr),
           PL_F_STR("file", file), PL_F_INT("line", line));
}

/* ---- opening ---- */

static int
attach(struct pl_store *store)
{
    int rc = pl_fd_bury(PL_WORKER_FD_LOCK);
    if (rc == 0)
        rc = pl_map_open(PL_WORKER_FD_S2W, false, &store->s2t);
    if (rc == 0)
        rc = pl_map_open(PL_WORKER_FD_W2S, true, &store->t2s);
    if (rc < 0)
        return rc;
    if (pl_storelink_attach_store(store->s2t.base, store->s2t.bytes, store->t2s.base,
                                  store->t2s.bytes, &store->link) != PL_STORELINK_OK)
        return -EPROTO;
    store->attached = true;
    return 0;
}

/* What cannot keep its word is refused (a network), or told (memory). */
static void
judge_file_system(struct pl_store *store)
{
    enum { NFS = 0x6969, SMB = 0x517b, SMB2 = 0xfe534d42, CIFS = 0xff534d42, TMPFS = 0x1021994 };
    struct statfs fs;
    if (fstatfs(store->dir_fd, &fs) < 0)
        return;
    unsigned long type = (unsigned long)fs.f_type & 0xffffffff;
    struct pl_error err = {.text = ""};
    if (type == NFS || type == SMB || type == SMB2 || type == CIFS) {
        pl_error_set(&err,
                     "%s lies on a network file system, where locks and flushes cannot be "
                     "relied on: set state_dir to a local disk",
                     store->dir);
        pl_store_fail(store, PL_STORE_EXIT_DATA, "the store cannot be used", &err);
    }
    if (type == TMPFS)
        pl_log(PL_LOG_WARNING, "the store lies in memory (tmpfs): it does not survive the machine",
               PL_F_STR("folder", store->dir));
}

static void
open_folder(struct pl_store *store)
{
    struct pl_error err = {.text = ""};
    if (mkdir(store->dir, 0700) < 0 && errno != EEXIST)
        pl_error_set_errno(&err, errno, "make %s", store->dir);
    else if ((store->dir_fd = open(store->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        pl_error_set_errno(&err, errno, "open %s", store->dir);
    if (store->dir_fd < 0)
        pl_store_fail(store, PL_STORE_EXIT_AGAIN, "the store's folder cannot be opened", &err);
    judge_file_system(store);
    int rc = pl_identity_lock(store->dir_fd, &err, &store->lock_fd);
    if (rc != 0)
        pl_store_fail(store, PL_STORE_EXIT_AGAIN, "the store is in use", &err);
    rc = pl_compact_clean(store->dir_fd);
    if (rc < 0)
        pl_log(PL_LOG_WARNING, "what a broken-off compaction left cannot be removed",
               PL_F_STR("error", strerror(-rc)));
    rc = pl_identity_open(store->dir_fd, pl_clock_wall(), &err, &store->identity);
    if (rc != 0)
        pl_store_fail(store, rc < 0 ? PL_STORE_EXIT_AGAIN : PL_STORE_EXIT_DATA,
                      "the store cannot be used", &err);
}

static void
open_tables(struct pl_store *store)
{
    struct pl_error err = {.text = ""};
    struct pl_db_config config = {0};
    int put = snprintf(store->db_dir, sizeof(store->db_dir), "%s/db", store->dir);
    PL_ASSERT(put > 0 && (size_t)put < sizeof(store->db_dir));
    int rc = pl_db_open(store->db_dir, &store->identity, &config, &err, &store->db);
    if (rc != 0)
        pl_store_fail(store,
                      rc < 0 || rc == PL_DB_E_FULL ? PL_STORE_EXIT_AGAIN : PL_STORE_EXIT_DATA,
                      "the tables cannot be opened", &err);
}

static void
open_log(struct pl_store *store)
{
    struct pl_error err = {.text = ""};
    struct pl_log_position folded;
    struct pl_db_counters counters;
    uint32_t epoch;
    pl_db_get_state(store->db, &folded, &epoch, &counters);
    struct pl_log_config config = {
        .disk = pl_disk_posix(),
        .dir = store->dir,
        .seed = store->identity.seed,
        .segment_bytes = store->segment_bytes,
        .segments_ahead = 1,
        .create = !store->identity.initialised,
        .acked_lsn = pl_storelink_acknowledged(&store->link),
    };
    memcpy(config.store.b, store->identity.uuid, sizeof(config.store.b));
    int rc = pl_log_open(&config, &folded, &err, &store->report, &store->log);
    if (rc != 0)
        pl_store_fail(store, rc < 0 ? PL_STORE_EXIT_AGAIN : PL_STORE_EXIT_DATA,
                      "the log cannot be opened", &err);
    if (store->report.torn != 0)
        pl_log(PL_LOG_INFO, "the log ended in a batch that was being written: it was never "
                            "acknowledged, and is dropped");
    if (!store->identity.initialised) {
        rc = pl_identity_set_initialised(store->dir_fd, &err, &store->identity);
        if (rc != 0)
            pl_store_fail(store, PL_STORE_EXIT_AGAIN, "the store cannot be made", &err);
    }
}

static void
check_folder(struct pl_store *store, int rc, const struct pl_error *err)
{
    if (rc != 0)
        pl_store_fail(store, rc == PL_DB_E_DAMAGED ? PL_STORE_EXIT_DATA : PL_STORE_EXIT_AGAIN,
                      "the log cannot be folded", err);
}

static void
open_all(struct pl_store *store)
{
    struct pl_error err = {.text = ""};
    pl_storelink_set_state(&store->link, PL_STORELINK_OPENING);
    open_folder(store);
    open_tables(store);
    open_log(store);
    check_folder(store, pl_folder_init(store, &err), &err);
    uint8_t secret[16];
    pl_identity_secret(&store->identity, secret);
    pl_storelink_set_secret(&store->link, secret);
    pl_storelink_set_seed(&store->link, store->identity.seed);
    pl_storelink_set_durable_lsn(&store->link, pl_log_durable(store->log).lsn);
    if ((pl_storelink_control(&store->link) & PL_STORELINK_WANT_ALL) != 0) {
        check_folder(store, pl_folder_catch_up(store, &err), &err);
        pl_storelink_set_state(&store->link, PL_STORELINK_ANSWERING);
        pl_store_ring(store);
        int rc = pl_answer_all(store, &err);
        if (rc != 0)
            pl_store_fail(store, rc == PL_DB_E_DAMAGED ? PL_STORE_EXIT_DATA : PL_STORE_EXIT_AGAIN,
                          "the supervisor cannot be answered", &err);
    }
    int rc = pl_reader_start(store);
    if (rc == 0)
        rc = pl_folder_start(store);
    if (rc != 0) {
        pl_error_set_errno(&err, rc, "start a thread");
        pl_store_fail(store, PL_STORE_EXIT_AGAIN, "the store cannot start", &err);
    }
}

int
main(int argc, char **argv)
{
    static struct pl_store store = {.dir_fd = -1, .lock_fd = -1};
    pl_log_init("pl-store", PL_LOG_FORMAT_AUTO, PL_LOG_INFO);
    pl_assert_set_hook(on_assert);
    (void)prctl(PR_SET_NAME, "pl-store"); /* after an exec by descriptor it is a number */
    if (argc == 3 && strcmp(argv[1], "--check-upgrade") == 0)
        return check_upgrade(argv[2]);
    if (argc < 3) {
        fprintf(stderr, "pl-store is started by pl-guard; use plctl start FILE\n");
        return 2;
    }
    store.dir = argv[1];
    uint32_t gen = (uint32_t)strtoul(argv[2], NULL, 10);
    if (argc > 3)
        store.segment_bytes = strtoull(argv[3], NULL, 10);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGTERM, SIG_IGN); /* the supervisor says when it was all */
    signal(SIGINT, SIG_IGN);
    if (attach(&store) < 0) {
        fprintf(stderr, "pl-store is started by pl-guard; use plctl start FILE\n");
        return EXIT_LINK;
    }
    store.link.gen = gen;
    open_all(&store);
    pl_serve(&store);
    pl_reader_stop(&store);
    pl_folder_stop(&store);
    pl_folder_deinit(&store);
    pl_log_close(store.log);
    pl_db_close(store.db);
    pl_storelink_set_state(&store.link, PL_STORELINK_ENDED);
    (void)pl_bell_ring(PL_WORKER_FD_BELL_S);
    return 0;
}
