/*
 * The segment files of the log: which are in use, which are ready, which may be used again.
 *
 * Any thread may call these; a mutex guards the lists and is never held during disk work. One piece
 * of preparation goes on at a time: a thread that needs a segment while another makes one waits for
 * that. Numbers only grow, and a number is handed out once.
 */
#ifndef PL_STORE_STOCK_H
#define PL_STORE_STOCK_H

#include <pthread.h>

#include "store/segment_list.h"

#define PL_STOCK_READY_MAX 16u

struct pl_stock_segment {
    int file; /* open for writing */
    uint64_t number;
};

struct pl_stock {
    struct pl_disk *disk;
    int dir; /* the caller's */
    uint64_t segment_bytes;
    uint32_t ahead;
    pthread_mutex_t work;             /* taken first; held while a segment is prepared */
    pthread_mutex_t lock;             /* everything below */
    struct pl_segment_list live;      /* begun, and not wholly folded */
    struct pl_segment_list idle;      /* of no use as they are: a new number makes them ready */
    struct pl_segment_list condemned; /* a write or flush failed there: removed once idle */
    struct pl_stock_segment ready[PL_STOCK_READY_MAX]; /* in the order of their numbers */
    uint32_t ready_count;
    uint64_t number_last; /* highest ever seen */
    uint64_t made, reused, removed, failures;
    int prepare_error;
};

/* @ahead: clipped to 1 … PL_STOCK_READY_MAX. */
void pl_stock_init(struct pl_stock *stock, struct pl_disk *disk, int dir, uint64_t segment_bytes,
                   unsigned ahead);

/* Closes what is ready. Once, after pl_stock_init(). */
void pl_stock_deinit(struct pl_stock *stock);

/* At open: takes over the files there. Those in [@first, @last] are live, others idle, or removed
 * when half made or of another size. Also makes the present names durable. Return: 0 or negative
 * errno. */
int pl_stock_adopt(struct pl_stock *stock, uint64_t first, uint64_t last, uint64_t *ret_found);

/* One piece of work, by the order in pl_log_prepare(). Return: 0 nothing to do; 1 done something;
 * negative errno. */
int pl_stock_prepare(struct pl_stock *stock);

/* A ready segment, live from now on; prepares one when there is none, and says so. Return: 0 or
 * negative errno. The file is the caller's. */
int pl_stock_take(struct pl_stock *stock, bool *ret_waited, struct pl_stock_segment *ret_segment);

/* Segments that can be had without making one; *ret_error of the last preparation, 0 when it
 * worked. */
uint32_t pl_stock_spares(struct pl_stock *stock, int *ret_error);

/* A live segment whose disk failed: when it is released it is removed, not used again. */
void pl_stock_condemn(struct pl_stock *stock, uint64_t number);

/* Live segments with numbers below @number become idle. The newest stays. */
void pl_stock_release(struct pl_stock *stock, uint64_t number);

#endif
