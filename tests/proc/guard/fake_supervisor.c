/*
 * Stands where pl-supervisor is: hands its socket to the guard over to the test and then does what
 * one byte from the test says: exit with that status.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "util/fd.h"

int
main(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *path = getenv("PL_TEST_CONTROL");
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    int guard = 3;
    pid_t self = getpid();
    unsigned char status;

    if (path == NULL || fd < 0)
        return 99;
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
        return 98;
    if (pl_fd_send(fd, &self, sizeof(self), &guard, 1) < 0)
        return 97;
    return read(fd, &status, 1) == 1 ? status : 0;
}
