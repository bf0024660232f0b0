/*
 * Memory that is given back all at once. A failed allocation is remembered, so that a long parse
 * may go on and be refused at its end.
 */
#ifndef PL_CONFIG_ARENA_H
#define PL_CONFIG_ARENA_H

#include <stdbool.h>
#include <stddef.h>

struct pl_config_arena;

/* Return: NULL when there is no memory. Pair: pl_arena_free(), which accepts NULL. */
struct pl_config_arena *pl_arena_new(void);
void pl_arena_free(struct pl_config_arena *arena);

bool pl_arena_failed(const struct pl_config_arena *arena);

/* Zeroed, aligned for any object. Return: NULL when there is no memory. */
void *pl_arena_alloc(struct pl_config_arena *arena, size_t bytes);

/* NUL is added. Return: NULL when there is no memory. */
char *pl_arena_strndup(struct pl_config_arena *arena, const char *text, size_t len);
char *pl_arena_printf(struct pl_config_arena *arena, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/*
 * Room for one more element behind the @count that @items already holds: grows by doubling when
 * @count is a power of two. Return: the array, perhaps moved; NULL when there is no memory.
 */
void *pl_arena_grow(struct pl_config_arena *arena, void *items, size_t count, size_t item_bytes);

#endif
