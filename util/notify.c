#include "util/notify.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/fd.h"

/* A name with '@' first is abstract. Return: 0 or negative errno. */
static int
notify_address(const char *path, struct sockaddr_un *ret_address, socklen_t *ret_len)
{
    size_t len = strlen(path);

    *ret_address = (struct sockaddr_un){.sun_family = AF_UNIX};
    if ((path[0] != '/' && path[0] != '@') || len < 2 || len >= sizeof(ret_address->sun_path))
        return -EINVAL;
    memcpy(ret_address->sun_path, path, len);
    *ret_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
    if (path[0] == '@')
        ret_address->sun_path[0] = '\0';
    else
        (*ret_len)++;
    return 0;
}

int
pl_notify(const char *state, const int *fds, size_t fd_count)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address;
    socklen_t len;
    ssize_t n;
    int r;

    if (path == NULL || path[0] == '\0')
        return 0;
    r = notify_address(path, &address, &len);
    if (r < 0)
        return r;
    PL_CLEANUP_FD int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (connect(fd, (const struct sockaddr *)&address, len) < 0)
        return -errno;
    n = pl_fd_send(fd, state, strlen(state), fds, fd_count);
    return n < 0 ? (int)n : 1;
}
