/*
 * Lists through the slots of an array, by number, as the array may move when it grows. A slot has a
 * struct pl_link for each list that it is in; what a free slot's links say is its owner's.
 */
#ifndef PL_SUPERVISOR_LOG_LINKS_H
#define PL_SUPERVISOR_LOG_LINKS_H

#include <stddef.h>
#include <stdint.h>

#define PL_LINK_NONE UINT32_MAX

struct pl_link {
    uint32_t prev, next; /* PL_LINK_NONE: the end */
};

struct pl_ends {
    uint32_t first, last;
};

#define PL_ENDS_NULL ((struct pl_ends){PL_LINK_NONE, PL_LINK_NONE})

/* The links of one list. */
struct pl_links {
    void *first;  /* in slot 0 */
    size_t bytes; /* from slot to slot */
};

static inline struct pl_link *
pl_link_of(struct pl_links links, uint32_t number)
{
    return (void *)((char *)links.first + links.bytes * number);
}

/* @number becomes the last. */
static inline void
pl_link_append(struct pl_links links, struct pl_ends *ends, uint32_t number)
{
    *pl_link_of(links, number) = (struct pl_link){.prev = ends->last, .next = PL_LINK_NONE};
    if (ends->last != PL_LINK_NONE)
        pl_link_of(links, ends->last)->next = number;
    else
        ends->first = number;
    ends->last = number;
}

static inline void
pl_link_remove(struct pl_links links, struct pl_ends *ends, uint32_t number)
{
    struct pl_link link = *pl_link_of(links, number);
    if (link.prev != PL_LINK_NONE)
        pl_link_of(links, link.prev)->next = link.next;
    else
        ends->first = link.next;
    if (link.next != PL_LINK_NONE)
        pl_link_of(links, link.next)->prev = link.prev;
    else
        ends->last = link.prev;
}

#endif
