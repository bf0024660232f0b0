/* The durable log on real files, with its threads: one writes, one reads behind it, releases and
 * prepares, as the store does. Run under TSan. */
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/lib/log_model.h"

#define LSN_LAST 3000u

static char dir[64];
static struct log_model *model;

static void
setup(void)
{
    const char *where = getenv("TMPDIR");
    snprintf(dir, sizeof(dir), "%.40s/pl-test-log-XXXXXX", where != NULL ? where : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    model = malloc(sizeof(*model));
    model_init(model, pl_disk_posix(), 3);
    model->config.dir = dir;
}

static void
teardown(void)
{
    model_close(model);
    free(model);
    DIR *stream = opendir(dir);
    ck_assert_ptr_nonnull(stream);
    for (struct dirent *entry; (entry = readdir(stream)) != NULL;) {
        if (entry->d_name[0] != '.')
            ck_assert_int_eq(unlinkat(dirfd(stream), entry->d_name, 0), 0);
    }
    closedir(stream);
    ck_assert_int_eq(rmdir(dir), 0);
}

#define OK(call) ck_assert_msg((call) == 0, "%s: %s", #call, model->why)

START_TEST(real_files)
{
    for (int i = 0; i < 4; i++) {
        OK(model_open(model));
        for (int j = 0; j < 20; j++)
            OK(model_append(model, 20));
        OK(model_fold(model, 15));
        model_close(model);
    }
    OK(model_open(model));
    ck_assert_uint_eq(model->firm, 4 * 400);
    struct stat status;
    char path[128];
    snprintf(path, sizeof(path), "%s/log-%016llx", dir,
             (unsigned long long)pl_log_durable(model->log).segment);
    ck_assert_int_eq(stat(path, &status), 0);
    ck_assert_uint_eq(status.st_mode & 0777, 0600);
    ck_assert_int_eq(status.st_size, PL_SEGMENT_BYTES_MIN);
    ck_assert_int_eq(status.st_blocks * 512 >= PL_SEGMENT_BYTES_MIN, 1); /* no holes */
}
END_TEST

START_TEST(real_disk_refuses_what_is_not_there)
{
    struct pl_disk *disk = pl_disk_posix();
    int handle, file;
    ck_assert_int_eq(disk->ops->open_dir(disk, "/nowhere", &handle), -ENOENT);
    ck_assert_int_eq(disk->ops->open_dir(disk, dir, &handle), 0);
    ck_assert_int_eq(disk->ops->open(disk, handle, "a", PL_DISK_READ, &file), -ENOENT);
    ck_assert_int_eq(disk->ops->open(disk, handle, "a", PL_DISK_CREATE, &file), 0);
    ck_assert_int_eq(disk->ops->pwrite(disk, file, "x", 1, 0), 1);
    disk->ops->close(disk, file);
    ck_assert_int_eq(disk->ops->open(disk, handle, "a", PL_DISK_CREATE, &file), -EEXIST);
    ck_assert_int_eq(disk->ops->open(disk, handle, "a", PL_DISK_READ, &file), 0);
    ck_assert_int_eq(disk->ops->pwrite(disk, file, "x", 1, 0), -EBADF);
    disk->ops->close(disk, file);
    uint64_t bytes = 0;
    ck_assert_int_eq(disk->ops->free_bytes(disk, handle, &bytes), 0);
    ck_assert_uint_gt(bytes, 0);
    ck_assert_int_eq(symlinkat("a", handle, "b"), 0);
    ck_assert_int_eq(disk->ops->open(disk, handle, "b", PL_DISK_READ, &file), -ELOOP);
    disk->ops->close(disk, handle);
    disk->ops->close(disk, -1);
}
END_TEST

/* What the threads share: the durable position and, the other way, nothing but the log's own. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct pl_log_position durable;
    uint32_t made;
} shared = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static struct pl_log_position
wait_beyond(uint64_t lsn)
{
    pthread_mutex_lock(&shared.lock);
    while (shared.durable.lsn <= lsn)
        pthread_cond_wait(&shared.changed, &shared.lock);
    struct pl_log_position durable = shared.durable;
    pthread_mutex_unlock(&shared.lock);
    return durable;
}

static uint64_t
compare(struct pl_log_batch *batch, uint64_t lsn)
{
    uint8_t want[MODEL_RECORD_MAX];
    struct pl_record_view view;
    for (; pl_log_batch_next(batch, model->config.seed, &view) == 0; lsn++) {
        size_t bytes = model_record(model, lsn + 1, 1, want);
        ck_assert_uint_eq(view.head.lsn, lsn + 1);
        ck_assert_uint_eq(view.bytes, bytes);
        ck_assert_int_eq(
            memcmp(want, (const uint8_t *)view.body.data - PL_RECORD_HEAD_BYTES, bytes), 0);
    }
    return lsn;
}

static void *
fold(void *unused)
{
    struct pl_log_read_config config = {
        .disk = model->config.disk,
        .dir = dir,
        .store = model->config.store,
        .seed = model->config.seed,
    };
    struct pl_log_position from = {0};
    struct pl_error error = {0};
    struct pl_log_reader *reader;
    ck_assert_int_eq(pl_log_reader_open(&config, &from, &error, &reader), 0);
    for (uint64_t lsn = 0; lsn < LSN_LAST;) {
        struct pl_log_position limit = wait_beyond(lsn);
        struct pl_log_batch batch;
        int result;
        while ((result = pl_log_reader_next(reader, &limit, &error, &batch)) == 0)
            lsn = compare(&batch, lsn);
        ck_assert_msg(result == PL_LOG_READ_END, "%d: %s", result, error.text);
        ck_assert_uint_eq(lsn, limit.lsn);
        struct pl_log_position folded = pl_log_reader_position(reader);
        pl_log_release(model->log, &folded);
        while (pl_log_prepare(model->log) == 1)
            ;
        ck_assert_int_eq(pl_log_space(model->log).prepare_error, 0);
    }
    pl_log_reader_close(reader);
    return unused;
}

START_TEST(a_fold_follows_in_its_own_thread)
{
    uint8_t record[MODEL_RECORD_MAX];
    struct pl_error error = {0};
    struct pl_log_position start = {0};
    struct pl_uuid channel = {{9}};
    pthread_t folder;
    ck_assert_int_eq(pl_log_open(&model->config, &start, &error, &model->report, &model->log), 0);
    ck_assert_int_eq(pthread_create(&folder, NULL, fold, NULL), 0);
    for (uint64_t lsn = 1; lsn <= LSN_LAST;) {
        uint64_t until = lsn + lsn % 37;
        for (int result = 0; result == 0 && lsn <= until && lsn <= LSN_LAST;) {
            size_t bytes = model_record(model, lsn, 1, record);
            result = pl_log_batch_add(model->log, record, bytes, 1, lsn);
            ck_assert(result == 0 || result == PL_LOG_E_FULL);
            lsn += result == 0;
        }
        ck_assert_int_eq(pl_log_batch_commit(model->log, &channel, lsn, 1), 0);
        pthread_mutex_lock(&shared.lock);
        shared.durable = pl_log_durable(model->log);
        pthread_cond_signal(&shared.changed);
        pthread_mutex_unlock(&shared.lock);
    }
    ck_assert_int_eq(pthread_join(folder, NULL), 0);
    struct pl_log_stats stats = pl_log_stats(model->log);
    ck_assert_uint_gt(stats.segments_begun, 10);
    ck_assert_uint_gt(stats.segments_reused, 0);
}
END_TEST

/* A writer is killed at any moment, again and again; the next finds all that it had said. */
START_TEST(killed_writers)
{
    uint64_t said = 0;
    for (int round = 0; round < 15; round++) {
        int ends[2];
        ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
        pid_t child = fork();
        if (child == 0) {
            int result = model_open(model);
            while (result == 0) {
                result = model_append(model, 1 + (uint32_t)(model->firm % 13));
                if (result == 0 && write(ends[1], &model->firm, 8) != 8)
                    result = -EIO;
            }
            _exit(result == -EBADMSG ? 2 : 1);
        }
        close(ends[1]);
        /* After some acknowledgements, which differ from round to round. */
        for (int i = 0; i < 3 + round * 2 && read(ends[0], &said, 8) == 8; i++)
            ;
        ck_assert_int_eq(kill(child, SIGKILL), 0);
        while (read(ends[0], &said, 8) == 8)
            ;
        int status;
        ck_assert_int_eq(waitpid(child, &status, 0), child);
        ck_assert_msg(WIFSIGNALED(status), "round %d: the writer ended %d", round, status);
        close(ends[0]);
        /* The child's model is gone: what it tried was of incarnation epoch + 1. */
        for (uint64_t lsn = model->firm + 1; lsn < MODEL_LSN_MAX; lsn++)
            model->tries[lsn] = (uint16_t)(model->epoch + 1);
        model->epoch++;
        model->tried = MODEL_LSN_MAX - 1;
        model->firm = said;
        OK(model_open(model));
        ck_assert_uint_ge(model->firm, said);
        model_close(model);
    }
    ck_assert_uint_gt(said, 100);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("log threads");
    TCase *tests = tcase_create("threads");
    tcase_set_timeout(tests, 100);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, real_files);
    tcase_add_test(tests, real_disk_refuses_what_is_not_there);
    tcase_add_test(tests, a_fold_follows_in_its_own_thread);
    tcase_add_test(tests, killed_writers);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
