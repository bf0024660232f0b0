#include "supervisor/orphans.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "shm/orphan_file.h"
#include "supervisor/act.h"
#include "supervisor/worker.h"
#include "util/cleanup.h"
#include "util/fd.h"
#include "util/log.h"
#include "util/paths.h"

/* As in report.c: the most of a FINISH record beside its result. */
#define FINISH_BESIDE_MAX (64u << 10)
#define FILE_MAX          (1ull << 30)
#define NAME_BYTES        64

struct pl_orphan {
    struct pl_uuid job;
    uint32_t attempt;
    char name[NAME_BYTES];
};

/* A file in memory, checked. */
struct contents {
    void *base;
    size_t bytes;
    struct pl_orphan_head head;
    struct pl_str content_type, message, data;
};

/* ---- the folder ---- */

/* "JOB.ATTEMPT" */
static bool
parse_name(const char *name, struct pl_orphan *ret_orphan)
{
    struct pl_orphan orphan;
    char id[37], *end;
    size_t len = strlen(name);
    if (len < 38 || len >= NAME_BYTES || name[36] != '.' || name[37] < '1' || name[37] > '9')
        return false;
    memcpy(id, name, 36);
    id[36] = '\0';
    unsigned long attempt = strtoul(name + 37, &end, 10);
    if (*end != '\0' || attempt > UINT32_MAX || !pl_uuid_parse(id, 36, &orphan.job))
        return false;
    orphan.attempt = (uint32_t)attempt;
    memcpy(orphan.name, name, len + 1);
    *ret_orphan = orphan;
    return true;
}

/* ".JOB.ATTEMPT.new": of a worker that was killed while it wrote. The guard starts no supervisor
 * while one may still be writing. */
static bool
is_draft(const char *name)
{
    struct pl_orphan orphan;
    char inner[NAME_BYTES];
    size_t len = strlen(name);
    if (len < 5 || len - 5 >= sizeof(inner) || name[0] != '.' ||
        strcmp(name + len - 4, ".new") != 0)
        return false;
    memcpy(inner, name + 1, len - 5);
    inner[len - 5] = '\0';
    return parse_name(inner, &orphan);
}

static int
add(struct pl_orphans *list, const struct pl_orphan *orphan)
{
    struct pl_orphan *grown = reallocarray(list->items, list->count + 1, sizeof(*grown));
    if (grown == NULL)
        return -ENOMEM;
    list->items = grown;
    grown[list->count++] = *orphan;
    return 0;
}

int
pl_orphans_open(struct pl_supervisor *sup)
{
    struct pl_orphans *list = &sup->orphans;
    struct pl_orphan orphan;
    const struct dirent *entry;
    char path[PL_PATH_BYTES];
    int rc = 0;
    snprintf(path, sizeof(path), "%s/" PL_ORPHAN_FOLDER, sup->state_dir);
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    list->folder = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
    DIR *folder = fd < 0 ? NULL : fdopendir(fd);
    if (folder == NULL) {
        rc = errno == ENOENT ? 0 : -errno;
        pl_fd_close(fd);
        return rc;
    }
    while (rc == 0 && (entry = readdir(folder)) != NULL)
        if (parse_name(entry->d_name, &orphan))
            rc = add(list, &orphan);
        else if (is_draft(entry->d_name))
            (void)unlinkat(list->folder, entry->d_name, 0);
    closedir(folder);
    return rc;
}

static const struct pl_orphan *
find(const struct pl_supervisor *sup, const struct pl_uuid *job, uint32_t attempt)
{
    for (size_t i = 0; i < sup->orphans.count; i++)
        if (sup->orphans.items[i].attempt == attempt &&
            pl_uuid_equal(&sup->orphans.items[i].job, job))
            return &sup->orphans.items[i];
    return NULL;
}

void
pl_orphans_due(struct pl_supervisor *sup)
{
    struct pl_orphans *list = &sup->orphans;
    if (list->count == 0 || (sup->store.open && sup->store.durable < list->lsn))
        return;
    for (size_t i = 0; i < list->count; i++)
        (void)unlinkat(list->folder, list->items[i].name, 0);
    free(list->items);
    list->items = NULL;
    list->count = 0;
    list->folder = pl_fd_close(list->folder);
}

/* ---- one file ---- */

static bool
is_whole(struct contents *file, const struct pl_orphan *orphan)
{
    const struct pl_orphan_head *head = &file->head;
    const char *at = (const char *)file->base + sizeof(*head);
    uint64_t left = file->bytes - sizeof(*head);
    size_t skip = offsetof(struct pl_orphan_head, job);
    if (head->magic != PL_ORPHAN_MAGIC || head->version != PL_ORPHAN_VERSION ||
        !pl_uuid_equal(&head->job, &orphan->job) || head->attempt != orphan->attempt ||
        head->data_bytes > left ||
        (uint64_t)head->content_type_bytes + head->message_bytes != left - head->data_bytes ||
        pl_crc32c(0, (const char *)file->base + skip, file->bytes - skip) != head->crc)
        return false;
    file->content_type = (struct pl_str){at, head->content_type_bytes};
    file->message = (struct pl_str){at + head->content_type_bytes, head->message_bytes};
    file->data = (struct pl_str){file->message.data + head->message_bytes, head->data_bytes};
    file->head.worker[sizeof(file->head.worker) - 1] = '\0';
    return true;
}

static bool
read_file(const struct pl_supervisor *sup, const struct pl_orphan *orphan, struct contents *file)
{
    struct stat stat;
    size_t got = 0;
    PL_CLEANUP_FD int fd =
        openat(sup->orphans.folder, orphan->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    *file = (struct contents){.base = NULL};
    if (fd < 0 || fstat(fd, &stat) < 0 || !S_ISREG(stat.st_mode) ||
        (uint64_t)stat.st_size < sizeof(file->head) || (uint64_t)stat.st_size > FILE_MAX)
        return false;
    file->bytes = (size_t)stat.st_size;
    file->base = malloc(file->bytes);
    if (file->base == NULL || pl_fd_read_full(fd, file->base, file->bytes, &got) < 0 ||
        got != file->bytes)
        return false;
    memcpy(&file->head, file->base, sizeof(file->head));
    return is_whole(file, orphan);
}

/* It stays for whoever looks, under a name that is not taken in. */
static void
put_aside(struct pl_supervisor *sup, const struct pl_orphan *orphan)
{
    char name[NAME_BYTES + 16];
    snprintf(name, sizeof(name), "%s.damaged", orphan->name);
    (void)renameat(sup->orphans.folder, orphan->name, sup->orphans.folder, name);
    pl_log(PL_LOG_ERROR, "an outcome that a worker left in a file is damaged: the job runs again",
           PL_F_UUID("job", &orphan->job), PL_F_STR("file", name));
}

/* ---- the end of its job ---- */

/* A dead letter that runs again counts its attempts from 1: the file may be of the life before. */
static bool
is_earlier_life(struct pl_supervisor *sup, const struct pl_recovered_job *job,
                const struct pl_orphan *orphan)
{
    struct pl_record_view submit;
    struct contents file;
    if (pl_memlog_read(sup->log, job->submit_location, false, &submit) != PL_MEMLOG_OK ||
        submit.head.attempt == 0)
        return false;
    bool earlier = !read_file(sup, orphan, &file) || file.head.started_ms < submit.head.wall_ms;
    free(file.base);
    return earlier;
}

bool
pl_orphans_have(struct pl_supervisor *sup, const struct pl_recovered_job *job,
                struct pl_recovered_job *ret_job)
{
    uint32_t attempt = job->state == PL_JOB_RUNNING ? job->attempts : job->attempts + 1;
    const struct pl_orphan *orphan = find(sup, &job->id, attempt);
    if (orphan == NULL || job->cancel_outcome != PL_OUTCOME_NONE ||
        is_earlier_life(sup, job, orphan))
        return false;
    struct pl_recovered_job ran = *job;
    ran.attempts = attempt;
    ran.state = PL_JOB_RUNNING;
    *ret_job = ran;
    return true;
}

/* The core ends only what runs on a worker: one that never was a process stands in for it. */
static bool
stand_in(struct pl_supervisor *sup, uint32_t pool, struct pl_ref *ret_worker)
{
    uint32_t group = 0, index = sup->worker_capacity;
    while (group < sup->group_count &&
           (sup->groups[group].config == NULL || sup->groups[group].pool != pool))
        group++;
    while (index > 0 && sup->workers[index - 1].used)
        index--;
    if (group == sup->group_count || index == 0)
        return false;
    *ret_worker = (struct pl_ref){index - 1, ++sup->worker_gen};
    struct pl_event event = {
        .kind = PL_EV_WORKER_READY,
        .worker_ready = {.worker = *ret_worker, .group = sup->groups[group].index, .slots = 1}};
    return pl_step(sup, &event) == PL_CORE_OK;
}

static void
stand_down(struct pl_supervisor *sup, struct pl_ref worker)
{
    struct pl_event event = {.kind = PL_EV_WORKER_GONE,
                             .worker_gone = {.worker = worker, .cause = PL_GONE_KNOWN}};
    (void)pl_step(sup, &event);
}

/* As take_finished() has it of a worker that lives. */
static void
finish(struct pl_supervisor *sup, struct pl_ref job, struct pl_ref worker, uint32_t attempt,
       struct contents *file)
{
    const struct pl_orphan_head *head = &file->head;
    bool large = sup->store.open && file->data.len > pl_store_record_max(sup) - FINISH_BESIDE_MAX;
    uint32_t code = large ? PL_FINISH_INVALID : head->code;
    struct pl_step_facts facts = {
        .job = job,
        .error = large ? PL_STR("the result is larger than what is kept of a durable job")
                 : code == PL_FINISH_OK ? (struct pl_str){NULL, 0}
                                        : file->message,
        .content_type = file->content_type,
        .log_cut = true,
        .data = large ? (struct pl_str){NULL, 0} : file->data,
        .worker = {head->worker, strlen(head->worker)},
        .worker_pid = head->pid,
        .started_ms = head->started_ms,
        .run_ns = head->run_ns > 0 ? head->run_ns : 0,
        .has_exit = (head->flags & PL_FINISHED_HAS_EXIT_CODE) != 0,
        .exit_code = head->exit_code,
        .signal = (head->flags & PL_FINISHED_HAS_SIGNAL) != 0 ? head->exit_signal : 0,
    };
    struct pl_event event = {.kind = PL_EV_FINISHED,
                             .finished = {.job = job,
                                          .worker = worker,
                                          .slot = 0,
                                          .attempt = attempt,
                                          .result = pl_report_result(code)}};
    (void)pl_step_with(sup, &event, &facts);
}

bool
pl_orphans_end(struct pl_supervisor *sup, const struct pl_recovered_job *job,
               struct pl_restore *restore)
{
    const struct pl_orphan *orphan = find(sup, &job->id, job->attempts);
    struct contents file;
    struct pl_ref worker;
    bool good = orphan != NULL && read_file(sup, orphan, &file);
    if (orphan != NULL && !good)
        put_aside(sup, orphan);
    if (!good || !stand_in(sup, restore->spec.pool, &worker)) {
        if (orphan != NULL)
            free(file.base);
        return false;
    }
    restore->run = (struct pl_restore_run){.worker = worker, .slot = 0, .started = sup->now};
    struct pl_event event = {.kind = PL_EV_RESTORE_RUNNING, .restore = restore};
    good = pl_step(sup, &event) == PL_CORE_OK;
    if (good)
        finish(sup, sup->reply.job, worker, job->attempts, &file);
    stand_down(sup, worker);
    free(file.base);
    if (good)
        pl_log(PL_LOG_INFO, "a worker that nobody adopted left an outcome",
               PL_F_UUID("job", &job->id), PL_F_UINT("attempt", job->attempts));
    return good;
}
