#include "tools/plctl/state_view.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "util/clock.h"
#include "util/proc.h"

/* The supervisor beats at least once a second. */
#define SILENT_LIMIT_MS 3000

static void
judge(struct plctl_state *state)
{
    const struct pl_state_identity *identity = &state->reader.identity;
    struct pl_proc_stat stat;
    uint8_t boot_id[16];

    state->other_boot =
        pl_proc_boot_id(boot_id) == 0 && memcmp(boot_id, identity->boot_id, sizeof(boot_id)) != 0;
    state->ended = pl_state_ended(&state->reader);
    if (!state->other_boot && pl_proc_stat_read((pid_t)identity->pid, &stat) == 0 &&
        stat.start_ticks == identity->start_ticks) {
        state->alive = stat.state != 'Z' && stat.state != 'X';
        state->stopped = stat.state == 'T' || stat.state == 't';
    }
    pl_time beat = pl_state_heartbeat(&state->reader);
    state->silent_ms = beat > 0 ? (pl_clock_mono() - beat) / PL_NS_PER_MS : -1;
}

int
plctl_state_open(const struct plctl *ctl, struct plctl_state *ret_state, char why[512])
{
    struct plctl_state state = {0};
    char name[PL_INSTANCE_BYTES], run_dir[PL_PATH_BYTES], path[PL_PATH_BYTES + 8];
    struct pl_error err = {""};

    int r = pl_paths_instance(ctl->instance, NULL, true, name, &err);
    if (r == 0)
        r = pl_paths_run_dir(name, run_dir, &err);
    if (r < 0) {
        snprintf(why, 512, "%.500s", err.text);
        return r;
    }
    snprintf(path, sizeof(path), "%s/state", run_dir);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        r = -errno;
        snprintf(why, 512, "no instance '%s' runs here (%.300s: %s)", name, path, strerror(errno));
        return r;
    }
    r = pl_map_open(fd, false, &state.map);
    close(fd);
    if (r < 0) {
        snprintf(why, 512, "%.300s is no state segment: %s", path, strerror(-r));
        return -EPROTO;
    }
    r = pl_state_attach(state.map.base, state.map.bytes, &state.reader);
    if (r != 0) {
        snprintf(why, 512, "%.300s is %s", path,
                 r == PL_STATE_E_FOREIGN ? "of another version" : "damaged");
        pl_map_close(&state.map);
        return -EPROTO;
    }
    judge(&state);
    *ret_state = state;
    return 0;
}

void
plctl_state_close(struct plctl_state *state)
{
    pl_map_close(&state->map);
    *state = (struct plctl_state){0};
}

void
plctl_state_warn(const struct plctl_state *state)
{
    uint32_t pid = state->reader.identity.pid;
    char text[32];

    if (state->ended)
        fprintf(stderr, "plctl: the supervisor has ended; these are its last numbers\n");
    else if (state->other_boot)
        fprintf(stderr, "plctl: these numbers are from before the machine started again\n");
    else if (!state->alive)
        fprintf(stderr, "plctl: supervisor pid %" PRIu32 " is dead; these are its last numbers\n",
                pid);
    else if (state->stopped)
        fprintf(stderr, "plctl: supervisor pid %" PRIu32 " is stopped, not responding for %s\n",
                pid, plctl_format_ms(state->silent_ms, text));
    else if (state->silent_ms > SILENT_LIMIT_MS)
        fprintf(stderr, "plctl: supervisor pid %" PRIu32 " is not responding for %s\n", pid,
                plctl_format_ms(state->silent_ms, text));
}
