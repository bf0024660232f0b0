#include "config/arena.h"

#include "base/arith.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK_BYTES (32u * 1024u)

struct block {
    struct block *next;
    size_t used;
    size_t size;
    _Alignas(max_align_t) unsigned char data[];
};

struct pl_config_arena {
    struct block *blocks;
    bool failed;
};

struct pl_config_arena *
pl_arena_new(void)
{
    return calloc(1, sizeof(struct pl_config_arena));
}

void
pl_arena_free(struct pl_config_arena *arena)
{
    if (!arena)
        return;
    for (struct block *b = arena->blocks; b;) {
        struct block *next = b->next;
        free(b);
        b = next;
    }
    free(arena);
}

bool
pl_arena_failed(const struct pl_config_arena *arena)
{
    return arena->failed;
}

void *
pl_arena_alloc(struct pl_config_arena *arena, size_t bytes)
{
    size_t need = (size_t)pl_align_up_u64(bytes ? bytes : 1, _Alignof(max_align_t));
    struct block *b = arena->blocks;
    if (!b || b->size - b->used < need) {
        size_t size = need > BLOCK_BYTES ? need : BLOCK_BYTES;
        b = calloc(1, sizeof(*b) + size);
        if (!b) {
            arena->failed = true;
            return NULL;
        }
        b->size = size;
        b->next = arena->blocks;
        arena->blocks = b;
    }
    void *at = b->data + b->used;
    b->used += need;
    return at;
}

char *
pl_arena_strndup(struct pl_config_arena *arena, const char *text, size_t len)
{
    char *copy = pl_arena_alloc(arena, len + 1);
    if (copy && len)
        memcpy(copy, text, len);
    return copy;
}

char *
pl_arena_printf(struct pl_config_arena *arena, const char *format, ...)
{
    va_list args;
    char *text = NULL;
    va_start(args, format);
    int len = vasprintf(&text, format, args);
    va_end(args);
    if (len < 0) {
        arena->failed = true;
        return NULL;
    }
    char *copy = pl_arena_strndup(arena, text, (size_t)len);
    free(text);
    return copy;
}

void *
pl_arena_grow(struct pl_config_arena *arena, void *items, size_t count, size_t item_bytes)
{
    if (count && (count & (count - 1)))
        return items;
    size_t room = count ? count * 2 : 1;
    void *grown = pl_arena_alloc(arena, room * item_bytes);
    if (grown && count)
        memcpy(grown, items, count * item_bytes);
    return grown;
}
