#include "supervisor/guard/guard.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "util/fd.h"

static struct held *
held_find(struct guard *g, uint64_t key, uint32_t gen)
{
    for (uint32_t i = 0; i < PL_GUARD_HELD_MAX; i++)
        if (g->held[i].fd >= 0 && g->held[i].key == key && g->held[i].gen == gen)
            return &g->held[i];
    return NULL;
}

int
guard_hold(struct guard *g, uint64_t key, uint32_t gen, int fd)
{
    struct held *place = held_find(g, key, gen);

    for (uint32_t i = 0; i < PL_GUARD_HELD_MAX && place == NULL; i++)
        if (g->held[i].fd < 0)
            place = &g->held[i];
    if (place == NULL) {
        close(fd);
        return -ENOSPC;
    }
    pl_fd_close(place->fd);
    *place = (struct held){.key = key, .gen = gen, .fd = fd};
    guard_heir_keep(g, key, gen, fd);
    return 0;
}

void
guard_release(struct guard *g, uint64_t key, uint32_t gen)
{
    struct held *place = held_find(g, key, gen);

    if (place == NULL)
        return;
    guard_heir_keep(g, key, gen, -1);
    place->fd = pl_fd_close(place->fd);
}

uint32_t
guard_held_count(const struct guard *g)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < PL_GUARD_HELD_MAX; i++)
        if (g->held[i].fd >= 0)
            count++;
    return count;
}

/* Observers open the link; a rename gives them either the old segment or the new one. */
int
guard_publish_state(struct guard *g, int fd)
{
    char target[64];
    int r = 0;

    snprintf(target, sizeof(target), "/proc/%d/fd/%d", (int)g->self, fd);
    (void)unlinkat(g->run_dir_fd, "state.new", 0);
    if (symlinkat(target, g->run_dir_fd, "state.new") < 0 ||
        renameat(g->run_dir_fd, "state.new", g->run_dir_fd, "state") < 0)
        r = -errno;
    if (r < 0) {
        close(fd);
        return r;
    }
    pl_fd_close(g->state_fd);
    g->state_fd = fd;
    return 0;
}
