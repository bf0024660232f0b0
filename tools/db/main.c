#include "tools/db/db.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/types.h"
#include "store/db.h"
#include "store/rescue.h"

#define HINT_SALVAGE "save what is whole with: plctl db salvage DIR"

struct verb {
    const char *name;
    int arguments; /* that it must have */
    int arguments_max;
    bool writes; /* the store's own files: LOCK is made where it is missing */
    int (*run)(struct db *db, const char *argument);
};

static const struct verb verbs[] = {
    {"stat", 0, 0, false, db_stat},       {"check", 0, 0, false, db_check},
    {"backup", 1, 1, false, db_backup},   {"compact", 0, 0, true, db_compact},
    {"salvage", 1, 1, false, db_salvage},
};

/* Messages */

int
db_fail(const struct db *db, int status, const char *hint, const char *format, ...)
{
    char text[PL_ERROR_TEXT_BYTES + 512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    fprintf(stderr, "plctl: db %s: %s\n", db->verb, text);
    if (hint)
        fprintf(stderr, "hint: %s\n", hint);
    if (db->json) {
        struct pl_json json = {.to = stdout};
        pl_json_open(&json, NULL, '{');
        pl_json_bool(&json, "ok", false);
        pl_json_text(&json, "message", text);
        pl_json_text(&json, "hint", hint);
        pl_json_close(&json, '}');
    }
    return status;
}

int
db_fail_store(const struct db *db, int rc, const struct pl_error *err)
{
    const char *text = err->text[0] != '\0' ? err->text : pl_db_outcome_text(rc);
    switch (rc) {
    case -EACCES:
    case -EPERM:
        return db_fail(db, DB_DENIED, "run it as the user whose instance it is", "%s", text);
    case -EEXIST:
        return db_fail(db, DB_USAGE, "name a folder that is empty, or not there yet", "%s", text);
    case -ENOSPC:
    case PL_DB_E_FULL:
        return db_fail(db, DB_OTHER, "make room, or name a folder on another disk", "%s", text);
    case PL_DB_E_DAMAGED:
        return db_fail(db, DB_OTHER, HINT_SALVAGE, "%s", text);
    case PL_DB_E_EMPTY:
        return db_fail(db, DB_OTHER,
                       "restore a backup, or: plctl db salvage DIR (the log may have it)", "%s",
                       text);
    case PL_DB_E_NEWER:
        return db_fail(db, DB_OTHER, "use the version that wrote it, or a newer one", "%s", text);
    default:
        return db_fail(db, DB_OTHER, NULL, "%s", text);
    }
}

/* Opening */

static char *
join(const char *folder, const char *name)
{
    char *path = NULL;
    if (asprintf(&path, "%s/%s", folder, name) < 0)
        abort();
    return path;
}

/* The state directory, or the store's own folder, may be named. */
static int
find_folder(struct db *db)
{
    static const char *const signs[] = {"STORE", "db"};
    db->folder = join(db->state_dir, "store");
    for (size_t i = 0; access(db->folder, F_OK) != 0 && i < PL_ARRAY_LEN(signs); i++) {
        char *sign = join(db->state_dir, signs[i]);
        if (access(sign, F_OK) == 0) {
            free(db->folder);
            db->folder = strdup(db->state_dir);
        }
        free(sign);
    }
    db->tables = join(db->folder, "db");
    db->dir_fd = open(db->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (db->dir_fd >= 0)
        return 0;
    if (errno == EACCES)
        return db_fail(db, DB_DENIED, "run it as the user whose instance it is", "%s: %s",
                       db->folder, strerror(errno));
    return db_fail(db, DB_NOT_FOUND,
                   "name the state directory of an instance that has durable pools",
                   "there is no store in %s: %s", db->state_dir, strerror(errno));
}

static int
fail_in_use(const struct db *db)
{
    const char *hint = strcmp(db->verb, "stat") == 0
                           ? "plctl -i INSTANCE db stat asks the instance that runs"
                           : "stop the instance first: plctl stop --drain, or plctl stop";
    return db_fail(db, DB_IN_USE, hint, "the store in %s is in use by a running instance",
                   db->folder);
}

/* What only reads makes no file: a copy has no LOCK. */
static int
lock_store(struct db *db, bool writes)
{
    struct pl_error err = {.text = ""};
    if (writes) {
        int rc = pl_identity_lock(db->dir_fd, &err, &db->lock_fd);
        return rc == PL_IDENTITY_E_LOCKED ? fail_in_use(db)
               : rc != 0                  ? db_fail_store(db, rc, &err)
                                          : 0;
    }
    db->lock_fd = openat(db->dir_fd, "LOCK", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (db->lock_fd < 0 && errno == ENOENT)
        return 0;
    if (db->lock_fd >= 0 && flock(db->lock_fd, LOCK_EX | LOCK_NB) == 0)
        return 0;
    if (db->lock_fd >= 0 && errno == EWOULDBLOCK)
        return fail_in_use(db);
    int error = errno;
    pl_error_set_errno(&err, error, "lock %s/LOCK", db->folder);
    return db_fail_store(db, -error, &err);
}

/* check and salvage go on without STORE, when the log tells. */
static int
read_identity(struct db *db)
{
    struct pl_error err = {.text = ""};
    int rc = pl_identity_read(db->dir_fd, &err, &db->identity);
    if (rc == 0)
        return 0;
    if (rc < 0)
        return db_fail_store(db, rc, &err);
    if (rc == PL_IDENTITY_E_NEWER)
        return db_fail_store(db, PL_DB_E_NEWER, &err);
    bool goes_on = strcmp(db->verb, "check") == 0 || strcmp(db->verb, "salvage") == 0;
    db->identity_error = err;
    if (goes_on && pl_rescue_identity(db->folder, &err, &db->identity) == 0) {
        db->identity_found = true;
        return 0;
    }
    if (goes_on)
        return db_fail(db, DB_OTHER, "restore a backup: without it no row can be told from noise",
                       "%s: %s; and %s", db->folder, db->identity_error.text, err.text);
    return db_fail(db, DB_OTHER, HINT_SALVAGE, "%s: %s", db->folder, err.text);
}

/* Arguments */

static const struct verb *
find_verb(const char *name)
{
    for (size_t i = 0; i < PL_ARRAY_LEN(verbs); i++)
        if (strcmp(verbs[i].name, name) == 0)
            return &verbs[i];
    return NULL;
}

static int
usage(void)
{
    fputs("pl-db is run by plctl: see plctl db --help\n"
          "usage: pl-db stat|check|backup|compact|salvage STATE_DIR [TO] [--json]\n",
          stderr);
    return DB_USAGE;
}

int
main(int argc, char **argv)
{
    static struct db db = {.dir_fd = -1, .lock_fd = -1};
    const char *words[3] = {NULL};
    int count = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0)
            db.json = true;
        else if (count < 3)
            words[count++] = argv[i];
        else
            return usage();
    }
    const struct verb *verb = count >= 2 ? find_verb(words[0]) : NULL;
    if (!verb || count - 2 < verb->arguments || count - 2 > verb->arguments_max)
        return usage();
    signal(SIGPIPE, SIG_IGN);
    db.verb = verb->name;
    db.state_dir = strdup(words[1]);
    int status = find_folder(&db);
    if (status == 0)
        status = lock_store(&db, verb->writes);
    if (status == 0)
        status = read_identity(&db);
    if (status == 0)
        status = verb->run(&db, words[2]);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fprintf(stderr, "plctl: db %s: cannot write: %s\n", db.verb, strerror(errno));
        status = status ? status : DB_OTHER;
    }
    free(db.state_dir);
    free(db.folder);
    free(db.tables);
    return status;
}
