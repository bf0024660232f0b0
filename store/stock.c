#include "store/stock.h"

#include <errno.h>
#include <string.h>

#include "base/assert.h"

void
pl_stock_init(struct pl_stock *stock, struct pl_disk *disk, int dir, uint64_t segment_bytes,
              unsigned ahead)
{
    *stock = (struct pl_stock){.disk = disk, .dir = dir, .segment_bytes = segment_bytes};
    stock->ahead = ahead < 1 ? 1 : ahead > PL_STOCK_READY_MAX ? PL_STOCK_READY_MAX : ahead;
    int result = pthread_mutex_init(&stock->work, NULL);
    PL_ASSERT(result == 0);
    result = pthread_mutex_init(&stock->lock, NULL);
    PL_ASSERT(result == 0);
}

void
pl_stock_deinit(struct pl_stock *stock)
{
    for (uint32_t i = 0; i < stock->ready_count; i++)
        stock->disk->ops->close(stock->disk, stock->ready[i].file);
    stock->ready_count = 0;
    pl_segment_list_free(&stock->live);
    pl_segment_list_free(&stock->idle);
    pl_segment_list_free(&stock->condemned);
    pthread_mutex_destroy(&stock->lock);
    pthread_mutex_destroy(&stock->work);
}

static void
list_remove(struct pl_segment_list *list, size_t index)
{
    list->count--;
    memmove(list->numbers + index, list->numbers + index + 1,
            (list->count - index) * sizeof(*list->numbers));
}

static int
open_segment(struct pl_stock *stock, uint64_t number, int *ret_file)
{
    char name[PL_SEGMENT_NAME_BYTES];
    return stock->disk->ops->open(stock->disk, stock->dir, pl_segment_name(number, name),
                                  PL_DISK_WRITE, ret_file);
}

static int
remove_segment(struct pl_stock *stock, uint64_t number)
{
    char name[PL_SEGMENT_NAME_BYTES];
    return stock->disk->ops->unlink(stock->disk, stock->dir, pl_segment_name(number, name));
}

static int
adopt_idle(struct pl_stock *stock, uint64_t number)
{
    int file;
    int result = open_segment(stock, number, &file);
    if (result < 0)
        return result;
    uint64_t bytes;
    result = stock->disk->ops->size(stock->disk, file, &bytes);
    stock->disk->ops->close(stock->disk, file);
    if (result < 0)
        return result;
    if (bytes == stock->segment_bytes)
        return pl_segment_list_add(&stock->idle, number);
    stock->removed++;
    return remove_segment(stock, number);
}

int
pl_stock_adopt(struct pl_stock *stock, uint64_t first, uint64_t last, uint64_t *ret_found)
{
    struct pl_segment_list all = {0};
    int result = pl_segment_list_read(stock->disk, stock->dir, 0, UINT64_MAX, &all);
    if (result == 0 && all.half_made)
        result = stock->disk->ops->unlink(stock->disk, stock->dir, PL_SEGMENT_MAKING);
    for (size_t i = 0; result == 0 && i < all.count; i++) {
        uint64_t number = all.numbers[i];
        if (number >= first && number <= last)
            result = pl_segment_list_add(&stock->live, number);
        else
            result = adopt_idle(stock, number);
    }
    if (all.count > 0 && all.numbers[all.count - 1] > stock->number_last)
        stock->number_last = all.numbers[all.count - 1];
    if (last > stock->number_last)
        stock->number_last = last;
    if (result == 0)
        result = stock->disk->ops->sync_dir(stock->disk, stock->dir);
    if (result == 0)
        *ret_found = all.count;
    pl_segment_list_free(&all);
    return result;
}

/* A new file, zeroed, flushed, under its number. */
static int
make_segment(struct pl_stock *stock, uint64_t number, int *ret_file, bool *ret_named)
{
    struct pl_disk *disk = stock->disk;
    char name[PL_SEGMENT_NAME_BYTES];
    int file;
    int result = disk->ops->open(disk, stock->dir, PL_SEGMENT_MAKING, PL_DISK_CREATE, &file);
    if (result == -EEXIST) { /* left by an attempt whose removal failed */
        result = disk->ops->unlink(disk, stock->dir, PL_SEGMENT_MAKING);
        if (result == 0)
            result = disk->ops->open(disk, stock->dir, PL_SEGMENT_MAKING, PL_DISK_CREATE, &file);
    }
    if (result < 0)
        return result;
    result = pl_disk_zero_fill(disk, file, stock->segment_bytes);
    if (result == 0)
        result =
            disk->ops->rename(disk, stock->dir, PL_SEGMENT_MAKING, pl_segment_name(number, name));
    *ret_named = result == 0;
    if (result == 0)
        result = disk->ops->sync_dir(disk, stock->dir);
    if (result < 0) {
        disk->ops->close(disk, file);
        if (!*ret_named)
            (void)disk->ops->unlink(disk, stock->dir, PL_SEGMENT_MAKING);
        return result;
    }
    *ret_file = file;
    return 0;
}

/* An idle file under a new number. */
static int
reuse_segment(struct pl_stock *stock, uint64_t old, uint64_t number, int *ret_file, bool *ret_named)
{
    struct pl_disk *disk = stock->disk;
    char from[PL_SEGMENT_NAME_BYTES], to[PL_SEGMENT_NAME_BYTES];
    int file;
    int result = open_segment(stock, old, &file);
    if (result < 0)
        return result;
    result = disk->ops->rename(disk, stock->dir, pl_segment_name(old, from),
                               pl_segment_name(number, to));
    *ret_named = result == 0;
    if (result == 0)
        result = disk->ops->sync_dir(disk, stock->dir);
    if (result < 0) {
        disk->ops->close(disk, file);
        return result;
    }
    *ret_file = file;
    return 0;
}

/* What to do next, under the lock. */
struct task {
    enum { TASK_NONE, TASK_MAKE, TASK_REUSE, TASK_REMOVE } kind;
    uint64_t old;
    uint64_t number;
};

static bool
is_condemned(const struct pl_stock *stock, uint64_t number)
{
    for (size_t i = 0; i < stock->condemned.count; i++) {
        if (stock->condemned.numbers[i] == number)
            return true;
    }
    return false;
}

/* Index of an idle segment that is condemned; idle.count: none is. */
static size_t
find_condemned(const struct pl_stock *stock)
{
    size_t i = 0;
    while (i < stock->idle.count && !is_condemned(stock, stock->idle.numbers[i]))
        i++;
    return i;
}

uint32_t
pl_stock_spares(struct pl_stock *stock, int *ret_error)
{
    pthread_mutex_lock(&stock->lock);
    uint32_t count = stock->ready_count;
    for (size_t i = 0; i < stock->idle.count; i++)
        count += !is_condemned(stock, stock->idle.numbers[i]);
    *ret_error = stock->prepare_error;
    pthread_mutex_unlock(&stock->lock);
    return count;
}

static struct task
choose(struct pl_stock *stock)
{
    struct task task = {.kind = TASK_NONE};
    pthread_mutex_lock(&stock->lock);
    size_t index = find_condemned(stock);
    if (index < stock->idle.count)
        task.kind = TASK_REMOVE;
    else {
        index = 0;
        if (stock->ready_count < stock->ahead)
            task.kind = stock->idle.count > 0 ? TASK_REUSE : TASK_MAKE;
        else if (stock->idle.count > stock->ahead)
            task.kind = TASK_REMOVE;
    }
    if (task.kind == TASK_MAKE || task.kind == TASK_REUSE)
        task.number = ++stock->number_last;
    if (task.kind == TASK_REUSE || task.kind == TASK_REMOVE) {
        task.old = stock->idle.numbers[index];
        list_remove(&stock->idle, index);
    }
    pthread_mutex_unlock(&stock->lock);
    return task;
}

static void
forgive(struct pl_stock *stock, uint64_t number)
{
    for (size_t i = 0; i < stock->condemned.count; i++) {
        if (stock->condemned.numbers[i] == number) {
            list_remove(&stock->condemned, i);
            return;
        }
    }
}

/* Notes how it went. An idle list that was just made shorter has room to take a number back. */
static void
finish(struct pl_stock *stock, const struct task *task, int result, int file, bool named)
{
    pthread_mutex_lock(&stock->lock);
    if (result < 0) {
        stock->failures++;
        stock->prepare_error = result;
        /* A name whose durability is in doubt gets another one; what cannot be noted is found
         * again by the next open. */
        if (named)
            (void)pl_segment_list_add(&stock->idle, task->number);
        else if (task->kind != TASK_MAKE && result != -ENOENT)
            (void)pl_segment_list_add(&stock->idle, task->old);
    } else if (task->kind == TASK_REMOVE) {
        stock->removed++;
        forgive(stock, task->old);
    } else {
        PL_ASSERT(stock->ready_count < PL_STOCK_READY_MAX);
        stock->ready[stock->ready_count++] =
            (struct pl_stock_segment){.file = file, .number = task->number};
        stock->prepare_error = 0;
        if (task->kind == TASK_MAKE)
            stock->made++;
        else
            stock->reused++;
    }
    pthread_mutex_unlock(&stock->lock);
}

static int
prepare_locked(struct pl_stock *stock)
{
    struct task task = choose(stock);
    int result = 0, file = -1;
    bool named = false;
    switch (task.kind) {
    case TASK_NONE:
        return 0;
    case TASK_MAKE:
        result = make_segment(stock, task.number, &file, &named);
        break;
    case TASK_REUSE:
        result = reuse_segment(stock, task.old, task.number, &file, &named);
        break;
    case TASK_REMOVE:
        result = remove_segment(stock, task.old);
        break;
    }
    finish(stock, &task, result, file, named);
    return result < 0 ? result : 1;
}

int
pl_stock_prepare(struct pl_stock *stock)
{
    pthread_mutex_lock(&stock->work);
    int result = prepare_locked(stock);
    pthread_mutex_unlock(&stock->work);
    return result;
}

/* Return: 0; -EAGAIN: none is ready; -ENOMEM. */
static int
take_ready(struct pl_stock *stock, struct pl_stock_segment *ret_segment)
{
    int result = -EAGAIN;
    pthread_mutex_lock(&stock->lock);
    if (stock->ready_count > 0)
        result = pl_segment_list_add(&stock->live, stock->ready[0].number);
    if (result == 0) {
        *ret_segment = stock->ready[0];
        stock->ready_count--;
        memmove(stock->ready, stock->ready + 1, stock->ready_count * sizeof(stock->ready[0]));
    }
    pthread_mutex_unlock(&stock->lock);
    return result;
}

int
pl_stock_take(struct pl_stock *stock, bool *ret_waited, struct pl_stock_segment *ret_segment)
{
    int result = take_ready(stock, ret_segment);
    if (result != -EAGAIN) {
        *ret_waited = false;
        return result;
    }
    *ret_waited = true;
    pthread_mutex_lock(&stock->work);
    result = take_ready(stock, ret_segment); /* another thread may just have made one */
    while (result == -EAGAIN) {
        result = prepare_locked(stock);
        result = result < 0 ? result : take_ready(stock, ret_segment);
    }
    pthread_mutex_unlock(&stock->work);
    return result;
}

void
pl_stock_condemn(struct pl_stock *stock, uint64_t number)
{
    pthread_mutex_lock(&stock->lock);
    (void)pl_segment_list_add(&stock->condemned, number); /* without memory it is used again */
    pthread_mutex_unlock(&stock->lock);
}

void
pl_stock_release(struct pl_stock *stock, uint64_t number)
{
    pthread_mutex_lock(&stock->lock);
    while (stock->live.count > 1 && stock->live.numbers[0] < number) {
        if (pl_segment_list_add(&stock->idle, stock->live.numbers[0]) < 0)
            break; /* no memory: at the next release */
        list_remove(&stock->live, 0);
    }
    pthread_mutex_unlock(&stock->lock);
}
