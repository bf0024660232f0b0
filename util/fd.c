#include "util/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/assert.h"
#include "util/cleanup.h"

int
pl_fd_close(int fd)
{
    int keep = errno;

    if (fd >= 0)
        close(fd);
    errno = keep;
    return -1;
}

int
pl_fd_bury(int fd)
{
    if (mmap(NULL, 1, PROT_NONE, MAP_PRIVATE, fd, 0) == MAP_FAILED)
        return -errno;
    close(fd);
    return 0;
}

int
pl_fd_bury_for_now(int fd, void **ret_grave)
{
    void *grave = mmap(NULL, 1, PROT_NONE, MAP_PRIVATE, fd, 0);

    if (grave == MAP_FAILED)
        return -errno;
    if (madvise(grave, 1, MADV_DONTFORK) < 0) {
        int r = -errno;

        munmap(grave, 1);
        return r;
    }
    close(fd);
    *ret_grave = grave;
    return 0;
}

void
pl_fd_exhume(void *grave)
{
    if (grave != NULL)
        munmap(grave, 1);
}

int
pl_fd_set_cloexec(int fd, bool on)
{
    int flags = fcntl(fd, F_GETFD);

    if (flags < 0)
        return -errno;
    flags = on ? flags | FD_CLOEXEC : flags & ~FD_CLOEXEC;
    return fcntl(fd, F_SETFD, flags) < 0 ? -errno : 0;
}

int
pl_fd_set_nonblock(int fd, bool on)
{
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0)
        return -errno;
    flags = on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
    return fcntl(fd, F_SETFL, flags) < 0 ? -errno : 0;
}

int
pl_fd_guard_stdio(void)
{
    for (int want = 0; want <= 2; want++) {
        int fd;

        if (fcntl(want, F_GETFD) >= 0)
            continue;
        fd = open("/dev/null", O_RDWR); /* the lowest free number is `want` */
        if (fd < 0)
            return -errno;
    }
    return 0;
}

static int
wait_for(int fd, short events)
{
    struct pollfd wait = {.fd = fd, .events = events};

    if (poll(&wait, 1, -1) < 0 && errno != EINTR)
        return -errno;
    return 0;
}

int
pl_fd_write_all(int fd, const void *data, size_t bytes)
{
    const char *at = data;

    while (bytes > 0) {
        ssize_t n = write(fd, at, bytes);

        if (n >= 0) {
            at += n;
            bytes -= (size_t)n;
        } else if (errno == EAGAIN) {
            int r = wait_for(fd, POLLOUT);

            if (r < 0)
                return r;
        } else if (errno != EINTR) {
            return -errno;
        }
    }
    return 0;
}

int
pl_fd_read_full(int fd, void *ret_data, size_t bytes, size_t *ret_bytes)
{
    char *at = ret_data;
    size_t done = 0;

    while (done < bytes) {
        ssize_t n = read(fd, at + done, bytes - done);

        if (n == 0)
            break;
        if (n > 0) {
            done += (size_t)n;
        } else if (errno == EAGAIN) {
            int r = wait_for(fd, POLLIN);

            if (r < 0)
                return r;
        } else if (errno != EINTR) {
            return -errno;
        }
    }
    *ret_bytes = done;
    return 0;
}

int
pl_fd_read_text(int dir_fd, const char *path, char *ret_text, size_t bytes)
{
    PL_CLEANUP_FD int fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC);
    size_t done;
    int r;

    PL_ASSERT(bytes > 0);
    if (fd < 0)
        return -errno;
    r = pl_fd_read_full(fd, ret_text, bytes, &done);
    if (r < 0)
        return r;
    if (done == bytes) {
        ret_text[0] = '\0';
        return -EFBIG;
    }
    if (done > 0 && ret_text[done - 1] == '\n')
        done--;
    ret_text[done] = '\0';
    return 0;
}

int
pl_fd_write_text(int dir_fd, const char *path, const char *text, mode_t mode)
{
    char temporary[256];
    int r;

    r = snprintf(temporary, sizeof(temporary), "%s.tmp%d", path, (int)getpid());
    if (r < 0 || (size_t)r >= sizeof(temporary))
        return -ENAMETOOLONG;
    unlinkat(dir_fd, temporary, 0); /* ours: the name has our pid */
    PL_CLEANUP_FD int fd =
        openat(dir_fd, temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
    if (fd < 0)
        return -errno;
    r = pl_fd_write_all(fd, text, strlen(text));
    if (r == 0 && renameat(dir_fd, temporary, dir_fd, path) < 0)
        r = -errno;
    if (r < 0)
        unlinkat(dir_fd, temporary, 0);
    return r;
}

int
pl_bell_new(int *ret_fd)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    if (fd < 0)
        return -errno;
    *ret_fd = fd;
    return 0;
}

int
pl_bell_ring(int fd)
{
    uint64_t one = 1;

    while (write(fd, &one, sizeof(one)) < 0) {
        if (errno == EAGAIN)
            return 0;
        if (errno != EINTR)
            return -errno;
    }
    return 0;
}

int
pl_bell_clear(int fd)
{
    uint64_t count;

    while (read(fd, &count, sizeof(count)) < 0) {
        if (errno == EAGAIN)
            return 0;
        if (errno != EINTR)
            return -errno;
    }
    return 1;
}

/* One control buffer for sending and receiving, aligned for its header. */
union control {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(int) * PL_FDS_MAX)];
};

ssize_t
pl_fd_send(int socket, const void *data, size_t bytes, const int *fds, size_t fd_count)
{
    union control control;
    struct iovec part = {.iov_base = (void *)(uintptr_t)data, .iov_len = bytes};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    ssize_t n;

    PL_ASSERT(bytes > 0 && fd_count <= PL_FDS_MAX);
    if (fd_count > 0) {
        struct cmsghdr *header;

        memset(&control, 0, sizeof(control));
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
        header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
        memcpy(CMSG_DATA(header), fds, sizeof(int) * fd_count);
    }
    do {
        n = sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

/* Takes every descriptor of @message; those without room are closed. Return: how many came. */
static size_t
take_descriptors(struct msghdr *message, int *ret_fds, size_t fd_room)
{
    size_t came = 0;

    for (struct cmsghdr *h = CMSG_FIRSTHDR(message); h != NULL; h = CMSG_NXTHDR(message, h)) {
        size_t count;

        if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
            continue;
        count = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;

            memcpy(&fd, CMSG_DATA(h) + i * sizeof(int), sizeof(int));
            if (came < fd_room)
                ret_fds[came] = fd;
            else
                close(fd);
            came++;
        }
    }
    return came;
}

static ssize_t
receive(int socket, void *ret_data, size_t bytes, int *ret_fds, size_t fd_room,
        size_t *ret_fd_count, int flags)
{
    union control control;
    struct iovec part = {.iov_base = ret_data, .iov_len = bytes};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof(control.bytes)};
    size_t came;
    ssize_t n;

    do {
        n = recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT | flags);
    } while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    came = take_descriptors(&message, ret_fds, fd_room);
    if (came > fd_room || (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) {
        for (size_t i = 0; i < came && i < fd_room; i++)
            close(ret_fds[i]);
        return -EMSGSIZE;
    }
    *ret_fd_count = came;
    return n;
}

ssize_t
pl_fd_receive(int socket, void *ret_data, size_t bytes, int *ret_fds, size_t fd_room,
              size_t *ret_fd_count)
{
    return receive(socket, ret_data, bytes, ret_fds, fd_room, ret_fd_count, 0);
}

ssize_t
pl_fd_peek(int socket, void *ret_data, size_t bytes, int *ret_fds, size_t fd_room,
           size_t *ret_fd_count)
{
    return receive(socket, ret_data, bytes, ret_fds, fd_room, ret_fd_count, MSG_PEEK);
}
