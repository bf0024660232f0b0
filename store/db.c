#include "store/db.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "store/db_impl.h"
#include "store/pages.h"
#include "util/cleanup.h"

#define MAP_BYTES_DEFAULT (UINT64_C(64) << 30)
#define READERS           64u
#define TABLES_MAX        16u
/* EIO with less free space than this is a full disk: LMDB says EIO for a write that came short. */
#define FULL_BYTES (UINT64_C(1) << 20)

static const char *const table_names[PL_DB_TABLES] = {
    [PL_DB_META] = "meta", [PL_DB_JOB] = "job",   [PL_DB_BLOB] = "blob", [PL_DB_ID] = "id",
    [PL_DB_RES] = "res",   [PL_DB_MBOX] = "mbox", [PL_DB_DEAD] = "dead", [PL_DB_IDEM] = "idem",
};

const char *
pl_db_table_name(unsigned table)
{
    return table > 0 && table < PL_DB_TABLES ? table_names[table] : "?";
}

unsigned
pl_db_table_number(const char *name)
{
    for (unsigned i = 1; i < PL_DB_TABLES; i++)
        if (strcmp(name, table_names[i]) == 0)
            return i;
    return 0;
}

const char *
pl_db_outcome_text(int outcome)
{
    static const char *const text[] = {
        [PL_DB_OK] = "done",
        [PL_DB_E_MISSING] = "there is no such row",
        [PL_DB_E_FULL] = "the disk or the map is full",
        [PL_DB_E_DAMAGED] = "the database is damaged",
        [PL_DB_E_FOREIGN] = "the database belongs to another store",
        [PL_DB_E_NEWER] = "the database is of a newer build",
        [PL_DB_E_EMPTY] = "the database is missing or empty",
        [PL_DB_E_BROKEN] = "a commit failed half way",
        [PL_DB_E_BUSY] = "too many readers",
    };
    if (outcome < 0)
        return strerrordesc_np(-outcome) ? strerrordesc_np(-outcome) : "unknown error";
    return (size_t)outcome < PL_ARRAY_LEN(text) ? text[outcome] : "unknown outcome";
}

/* Errors */

static bool
disk_is_full(const struct pl_db *db)
{
    int fd;
    struct statvfs vfs;
    if (mdb_env_get_fd(db->env, &fd) != 0 || fstatvfs(fd, &vfs) != 0)
        return false;
    return (uint64_t)vfs.f_bavail * vfs.f_frsize < FULL_BYTES;
}

int
pl_db_error(const struct pl_db *db, int rc)
{
    switch (rc) {
    case MDB_SUCCESS:
        return 0;
    case MDB_NOTFOUND:
        return PL_DB_E_MISSING;
    case MDB_MAP_FULL:
    case ENOSPC:
    case EDQUOT:
        return PL_DB_E_FULL;
    case EIO:
        return disk_is_full(db) ? PL_DB_E_FULL : -EIO;
    case MDB_PANIC:
        return PL_DB_E_BROKEN;
    case MDB_VERSION_MISMATCH:
        return PL_DB_E_NEWER;
    case MDB_READERS_FULL:
    case MDB_TLS_FULL:
        return PL_DB_E_BUSY;
    case MDB_TXN_FULL: /* a window over its bounds: no disk can help */
        return -EOVERFLOW;
    default:
        /* What is left of LMDB's own codes says that pages are not what was written. */
        return rc > 0 ? -rc : PL_DB_E_DAMAGED;
    }
}

/* Transactions */

int
pl_db_write_begin(struct pl_db *db, MDB_txn **ret_txn)
{
    return pl_db_error(db, mdb_txn_begin(db->env, NULL, 0, ret_txn));
}

static int
put_meta(struct pl_db *db, MDB_txn *txn, struct pl_row_meta *meta)
{
    meta->txn = mdb_txn_id(txn);
    uint8_t value[PL_ROW_CRC_BYTES + sizeof(*meta)];
    memcpy(value + PL_ROW_CRC_BYTES, meta, sizeof(*meta));
    MDB_val key = {.mv_size = sizeof(PL_ROW_META_KEY) - 1, .mv_data = (void *)PL_ROW_META_KEY};
    uint32_t crc = pl_row_crc(db->identity.seed, PL_DB_META, key.mv_data, key.mv_size,
                              value + PL_ROW_CRC_BYTES, sizeof(*meta));
    memcpy(value, &crc, sizeof(crc));
    MDB_val data = {.mv_size = sizeof(value), .mv_data = value};
    return mdb_put(txn, db->dbi[PL_DB_META], &key, &data, 0);
}

int
pl_db_write_commit(struct pl_db *db, MDB_txn *txn, struct pl_row_meta *meta)
{
    int rc = put_meta(db, txn, meta);
    if (rc != 0) {
        mdb_txn_abort(txn);
        return pl_db_error(db, rc);
    }
    int r = pl_db_error(db, mdb_txn_commit(txn));
    if (r != 0)
        return r;
    pthread_mutex_lock(&db->meta_lock);
    db->meta = *meta;
    pthread_mutex_unlock(&db->meta_lock);
    return 0;
}

int
pl_db_grow(struct pl_db *db)
{
    if (db->map_bytes >= db->map_bytes_max)
        return PL_DB_E_FULL;
    uint64_t bytes = db->map_bytes > db->map_bytes_max / 2 ? db->map_bytes_max : db->map_bytes * 2;
    pthread_rwlock_wrlock(&db->growth);
    int rc = mdb_env_set_mapsize(db->env, bytes);
    pthread_rwlock_unlock(&db->growth);
    if (rc != 0)
        return pl_db_error(db, rc);
    db->map_bytes = bytes;
    return 0;
}

int
pl_db_read_begin(struct pl_db *db, MDB_txn **txn)
{
    pthread_rwlock_rdlock(&db->growth);
    int rc = *txn ? mdb_txn_renew(*txn) : mdb_txn_begin(db->env, NULL, MDB_RDONLY, txn);
    if (rc != 0)
        pthread_rwlock_unlock(&db->growth);
    return pl_db_error(db, rc);
}

void
pl_db_read_end(struct pl_db *db, MDB_txn *txn)
{
    mdb_txn_reset(txn);
    pthread_rwlock_unlock(&db->growth);
}

int
pl_db_read_meta(const struct pl_db *db, MDB_txn *txn, struct pl_row_meta *ret_meta)
{
    MDB_val key = {.mv_size = sizeof(PL_ROW_META_KEY) - 1, .mv_data = (void *)PL_ROW_META_KEY};
    MDB_val data;
    int rc = mdb_get(txn, db->dbi[PL_DB_META], &key, &data);
    if (rc != 0)
        return pl_db_error(db, rc);
    struct pl_str content;
    /* Whose it is and how new, before the CRC: the other store has another seed. */
    if (data.mv_size >= PL_ROW_CRC_BYTES + 20) {
        const uint8_t *at = (const uint8_t *)data.mv_data + PL_ROW_CRC_BYTES;
        uint32_t format;
        memcpy(&format, at + 16, sizeof(format));
        if (memcmp(at, db->identity.uuid, 16) != 0)
            return PL_DB_E_FOREIGN;
        if (format > PL_STORE_FORMAT)
            return PL_DB_E_NEWER;
    }
    if (pl_row_open(db->identity.seed, PL_DB_META, key.mv_data, key.mv_size, data.mv_data,
                    data.mv_size, &content))
        return PL_DB_E_DAMAGED;
    memset(ret_meta, 0, sizeof(*ret_meta));
    memcpy(ret_meta, content.data, content.len);
    return 0;
}

/* Opening */

int
pl_db_sync_folder(const char *path, bool parent)
{
    PL_CLEANUP_FD int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) != 0)
        return -errno;
    if (!parent)
        return 0;
    PL_CLEANUP_FD int above = openat(fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return above < 0 || fsync(above) != 0 ? -errno : 0;
}

/* What can be seen without LMDB. */
static int
look_before(const char *path, struct pl_error *err)
{
    struct pl_pages *pages;
    struct pl_pages_head head;
    int r = pl_pages_open(path, err, &pages);
    if (r == PL_PAGES_E_EMPTY)
        return PL_DB_E_EMPTY;
    if (r != 0)
        return r < 0 ? r : PL_DB_E_DAMAGED;
    pl_pages_get_head(pages, &head);
    pl_pages_close(pages);
    if (pl_pages_head_is_sound(&head))
        return 0;
    pl_error_set(err, "%s/data.mdb: %s", path,
                 !head.is_complete ? "is shorter than it says: cut off"
                                   : "one of its two meta pages is damaged");
    return PL_DB_E_DAMAGED;
}

static int
prepare_fresh(const char *path, struct pl_error *err)
{
    int r = mkdir(path, 0700) != 0 && errno != EEXIST ? -errno : 0;
    PL_CLEANUP_FD int fd = r == 0 ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (r == 0 && fd < 0)
        r = -errno;
    if (r == 0 && unlinkat(fd, "data.mdb", 0) != 0 && errno != ENOENT)
        r = -errno;
    if (r == 0 && unlinkat(fd, "lock.mdb", 0) != 0 && errno != ENOENT)
        r = -errno;
    if (r < 0)
        pl_error_set_errno(err, r, "make %s", path);
    return r;
}

static int
create_tables(struct pl_db *db)
{
    MDB_txn *txn;
    int r = pl_db_write_begin(db, &txn);
    if (r != 0)
        return r;
    int rc = 0;
    for (unsigned i = 1; i < PL_DB_TABLES && rc == 0; i++)
        rc = mdb_dbi_open(txn, table_names[i], MDB_CREATE, &db->dbi[i]);
    if (rc != 0) {
        mdb_txn_abort(txn);
        return pl_db_error(db, rc);
    }
    struct pl_row_meta meta = {.format = PL_STORE_FORMAT};
    memcpy(meta.store_uuid, db->identity.uuid, sizeof(meta.store_uuid));
    meta.counters.rows[PL_DB_META] = 1;
    return pl_db_write_commit(db, txn, &meta);
}

static int
check_counts(struct pl_db *db, MDB_txn *txn, struct pl_error *err)
{
    for (unsigned i = 1; i < PL_DB_TABLES; i++) {
        MDB_stat stat;
        int rc = db->dbi[i] != 0 ? mdb_stat(txn, db->dbi[i], &stat) : 0;
        if (rc != 0)
            return pl_db_error(db, rc);
        if (db->dbi[i] == 0 || stat.ms_entries == *pl_db_rows(&db->meta.counters, i))
            continue;
        pl_error_set(err, "table %s has %zu rows, the counters say %llu", table_names[i],
                     stat.ms_entries, (unsigned long long)*pl_db_rows(&db->meta.counters, i));
        return PL_DB_E_DAMAGED;
    }
    return 0;
}

static int
open_tables(struct pl_db *db, struct pl_error *err)
{
    MDB_txn *txn = NULL;
    int rc = mdb_txn_begin(db->env, NULL, MDB_RDONLY, &txn);
    for (unsigned i = 1; i < PL_DB_FIRST_TABLES && rc == 0; i++)
        rc = mdb_dbi_open(txn, table_names[i], 0, &db->dbi[i]);
    /* A table that is not there: nothing of ours was ever in it. */
    int r = pl_db_error(db, rc);
    if (r == 0)
        r = pl_db_read_meta(db, txn, &db->meta);
    if (r == 0 && db->meta.format > 1) /* else only looked at: 0 says that there is none */
        r = pl_db_error(db, mdb_dbi_open(txn, table_names[PL_DB_IDEM], 0, &db->dbi[PL_DB_IDEM]));
    if (r == PL_DB_E_MISSING)
        r = PL_DB_E_EMPTY;
    if (r == 0)
        r = check_counts(db, txn, err);
    /* A compacted copy begins anew at 1. */
    if (r == 0 && db->meta.txn != mdb_txn_id(txn) && mdb_txn_id(txn) != 1) {
        pl_error_set(err, "the state is of transaction %llu, the last one was %zu",
                     (unsigned long long)db->meta.txn, mdb_txn_id(txn));
        r = PL_DB_E_DAMAGED;
    }
    if (txn && r == 0)
        r = pl_db_error(db, mdb_txn_commit(txn)); /* keeps the table handles */
    else if (txn)
        mdb_txn_abort(txn);
    return r;
}

static int
open_env(struct pl_db *db, const char *path)
{
    int rc = mdb_env_create(&db->env);
    if (rc != 0)
        return rc > 0 ? -rc : -ENOMEM;
    rc = mdb_env_set_mapsize(db->env, db->map_bytes);
    if (rc == 0)
        rc = mdb_env_set_maxdbs(db->env, TABLES_MAX);
    if (rc == 0)
        rc = mdb_env_set_maxreaders(db->env, READERS);
    if (rc == 0)
        rc = mdb_env_open(db->env, path,
                          MDB_NORDAHEAD | MDB_NOTLS | (db->read_only ? MDB_RDONLY : 0), 0600);
    MDB_envinfo info;
    if (rc == 0)
        rc = mdb_env_info(db->env, &info);
    if (rc != 0)
        return rc == MDB_INVALID ? PL_DB_E_DAMAGED : pl_db_error(db, rc);
    /* A file that has outgrown the configured map brings its own size. */
    db->map_bytes = info.me_mapsize;
    return 0;
}

static void
init_locks(struct pl_db *db)
{
    pthread_rwlockattr_t attr;
    pthread_rwlockattr_init(&attr);
    /* Else a stream of readers would keep the map from growing. */
    pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&db->growth, &attr);
    pthread_rwlockattr_destroy(&attr);
    pthread_mutex_init(&db->meta_lock, NULL);
}

/* A database of the first format gets the table that it lacks. What is wrong with it is
 * open_tables()' to say. */
static int
take_over(struct pl_db *db)
{
    MDB_txn *txn;
    struct pl_row_meta meta;
    int r = pl_db_write_begin(db, &txn);
    if (r != 0)
        return r;
    int rc = mdb_dbi_open(txn, table_names[PL_DB_META], 0, &db->dbi[PL_DB_META]);
    bool is_first = rc == 0 && pl_db_read_meta(db, txn, &meta) == 0 && meta.format == 1;
    if (is_first)
        rc = mdb_dbi_open(txn, table_names[PL_DB_IDEM], MDB_CREATE, &db->dbi[PL_DB_IDEM]);
    meta.format = PL_STORE_FORMAT;
    if (is_first && rc == 0)
        return pl_db_write_commit(db, txn, &meta);
    mdb_txn_abort(txn);
    return is_first ? pl_db_error(db, rc) : 0;
}

static int
open_existing(struct pl_db *db, const char *path, struct pl_error *err)
{
    int r = look_before(path, err);
    if (r == 0)
        r = open_env(db, path);
    if (r == 0 && !db->read_only)
        r = take_over(db);
    return r == 0 ? open_tables(db, err) : r;
}

static int
open_fresh(struct pl_db *db, const char *path, struct pl_error *err)
{
    int r = prepare_fresh(path, err);
    if (r == 0)
        r = open_env(db, path);
    if (r == 0)
        r = create_tables(db);
    return r == 0 ? pl_db_sync_folder(path, true) : r;
}

int
pl_db_open(const char *path, const struct pl_identity *identity, const struct pl_db_config *config,
           struct pl_error *err, struct pl_db **ret_db)
{
    struct pl_db *db = calloc(1, sizeof(*db));
    if (!db)
        return -ENOMEM;
    init_locks(db);
    db->identity = *identity;
    db->read_only = config->read_only;
    db->map_bytes = config->map_bytes ? config->map_bytes : MAP_BYTES_DEFAULT;
    db->map_bytes_max = config->map_bytes_max ? config->map_bytes_max : db->map_bytes * 16;
    struct pl_error why = {.text = ""};
    bool is_fresh = !identity->initialised && !config->read_only;
    int r = is_fresh ? open_fresh(db, path, &why) : open_existing(db, path, &why);
    if (r != 0) {
        if (why.text[0] == '\0')
            pl_error_set(&why, "%s", pl_db_outcome_text(r));
        pl_error_set(err, "database %s: %s", path, why.text);
        pl_db_close(db);
        return r;
    }
    *ret_db = db;
    return 0;
}

void
pl_db_close(struct pl_db *db)
{
    if (!db)
        return;
    if (db->env)
        mdb_env_close(db->env);
    pthread_rwlock_destroy(&db->growth);
    pthread_mutex_destroy(&db->meta_lock);
    free(db);
}

/* State and space */

void
pl_db_get_state(struct pl_db *db, struct pl_log_position *ret_position, uint32_t *ret_epoch,
                struct pl_db_counters *ret_counters)
{
    pthread_mutex_lock(&db->meta_lock);
    *ret_position = (struct pl_log_position){.lsn = db->meta.lsn,
                                             .segment = db->meta.segment,
                                             .offset = db->meta.offset,
                                             .batch_crc = db->meta.batch_crc};
    *ret_epoch = db->meta.epoch;
    *ret_counters = db->meta.counters;
    pthread_mutex_unlock(&db->meta_lock);
}

static uint64_t
used_bytes(const struct pl_db *db)
{
    MDB_envinfo info;
    MDB_stat stat;
    if (mdb_env_info(db->env, &info) != 0 || mdb_env_stat(db->env, &stat) != 0)
        return 0;
    return ((uint64_t)info.me_last_pgno + 1) * stat.ms_psize;
}

int
pl_db_get_space(struct pl_db *db, struct pl_db_space *ret_space)
{
    int fd;
    struct statvfs vfs;
    MDB_envinfo info;
    int rc = mdb_env_get_fd(db->env, &fd);
    if (rc == 0 && fstatvfs(fd, &vfs) != 0)
        rc = errno;
    if (rc == 0)
        rc = mdb_env_info(db->env, &info);
    if (rc != 0)
        return pl_db_error(db, rc);
    *ret_space = (struct pl_db_space){.used_bytes = used_bytes(db),
                                      .map_bytes = info.me_mapsize,
                                      .disk_free_bytes = (uint64_t)vfs.f_bavail * vfs.f_frsize};
    return 0;
}

int
pl_db_reserve(struct pl_db *db, uint64_t bytes)
{
    int fd;
    int rc = mdb_env_get_fd(db->env, &fd);
    if (rc != 0)
        return pl_db_error(db, rc);
    uint64_t used = used_bytes(db);
    if (used + bytes > db->map_bytes)
        bytes = used < db->map_bytes ? db->map_bytes - used : 0;
    return bytes ? pl_db_error(db, posix_fallocate(fd, (off_t)used, (off_t)bytes)) : 0;
}

int
pl_db_backup(struct pl_db *db, const char *path)
{
    pthread_rwlock_rdlock(&db->growth);
    int rc = mdb_env_copy2(db->env, path, MDB_CP_COMPACT);
    pthread_rwlock_unlock(&db->growth);
    if (rc != 0)
        return pl_db_error(db, rc);
    char name[4096];
    if ((size_t)snprintf(name, sizeof(name), "%s/data.mdb", path) >= sizeof(name))
        return -ENAMETOOLONG;
    PL_CLEANUP_FD int fd = open(name, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) != 0)
        return -errno;
    return pl_db_sync_folder(path, true);
}
