/*
 * Growable byte buffer: bytes are appended at the end and consumed at the front, for sessions and
 * encoders. Zero-initialised is empty. The memory belongs to the buffer; pointers into it live
 * until the next call that appends or reserves.
 */
#ifndef PL_UTIL_BUF_H
#define PL_UTIL_BUF_H

#include <stddef.h>
#include <stdint.h>

struct pl_buf {
    uint8_t *data;
    size_t start; /* consumed so far */
    size_t end;   /* first free byte */
    size_t room;  /* allocated */
};

void pl_buf_deinit(struct pl_buf *buf);

static inline size_t
pl_buf_len(const struct pl_buf *buf)
{
    return buf->end - buf->start;
}

/* Never NULL arithmetic: valid for pl_buf_len() bytes. */
static inline uint8_t *
pl_buf_at(const struct pl_buf *buf)
{
    return buf->data == NULL ? NULL : buf->data + buf->start;
}

/* Room for @bytes at the end. Return: 0 and where to write, or -ENOMEM. Then pl_buf_commit(). */
int pl_buf_reserve(struct pl_buf *buf, size_t bytes, uint8_t **ret_at);

/* @bytes of what was reserved are now content. */
void pl_buf_commit(struct pl_buf *buf, size_t bytes);

int pl_buf_append(struct pl_buf *buf, const void *data, size_t bytes);

/* Drops from the front; asserts that they are there. */
void pl_buf_consume(struct pl_buf *buf, size_t bytes);

/* Drops everything; gives memory back when more than @keep_bytes are allocated. */
void pl_buf_reset(struct pl_buf *buf, size_t keep_bytes);

#endif
