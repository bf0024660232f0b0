/*
 * The segment files of a directory, by number, and what was left half made.
 */
#ifndef PL_STORE_SEGMENT_LIST_H
#define PL_STORE_SEGMENT_LIST_H

#include "store/disk.h"
#include "store/segment.h"

/* A segment is made under this name and renamed when it is zeroed and flushed. */
#define PL_SEGMENT_MAKING "making"

struct pl_segment_list {
    uint64_t *numbers; /* ascending */
    size_t count;
    size_t room;
    bool half_made; /* PL_SEGMENT_MAKING is there */
};

/* Only numbers in (@above, @up_to]. Return: 0 or negative errno. *ret_list is the caller's, to be
 * freed with pl_segment_list_free(); untouched on failure. */
int pl_segment_list_read(struct pl_disk *disk, int dir, uint64_t above, uint64_t up_to,
                         struct pl_segment_list *ret_list);

/* Keeps the order. Return: 0 or -ENOMEM. */
int pl_segment_list_add(struct pl_segment_list *list, uint64_t number);

/* May run twice. */
void pl_segment_list_free(struct pl_segment_list *list);

#endif
