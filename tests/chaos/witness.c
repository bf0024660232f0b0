/*
 * The program of the campaign's jobs: leaves behind what a scheduler may not deny.
 *
 *     witness FOLDER TAG MILLISECONDS FAILURES EXIT [stubborn]
 *
 * FOLDER/TAG gets a line "S ns" when it starts and "E ns" when it is done (CLOCK_MONOTONIC). While
 * it or the child that it leaves to do the work is there, the file is locked; whoever finds it
 * locked runs beside another run of the same job, and says so in FOLDER/violations. The lock
 * belongs to the open file: it goes with the last process of the tree, however that ends.
 *
 * The first FAILURES runs that come to their end say "F ns" instead and exit with 1, the others
 * write TAG to standard output and exit with EXIT. A stubborn one does not listen to SIGTERM.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define FILE_MAX (1 << 16)

static void
die(const char *what)
{
    fprintf(stderr, "witness: %s: %s\n", what, strerror(errno));
    exit(99);
}

static long long
now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void
say(int fd, const char *word)
{
    char line[64];
    int bytes = snprintf(line, sizeof(line), "%s %lld\n", word, now_ns());
    if (write(fd, line, (size_t)bytes) != bytes)
        die("write");
}

static void
tell_violation(const char *folder, const char *tag)
{
    char path[4096], line[256];
    snprintf(path, sizeof(path), "%s/violations", folder);
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    int bytes = snprintf(line, sizeof(line), "%s runs twice at %lld\n", tag, now_ns());
    if (fd < 0 || write(fd, line, (size_t)bytes) != bytes)
        die("violations");
}

static int
failures_so_far(const char *path)
{
    static char text[FILE_MAX];
    int fd = open(path, O_RDONLY | O_CLOEXEC), count = 0;
    ssize_t bytes = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    if (bytes < 0)
        die("read");
    for (ssize_t i = 0; i < bytes; i++)
        count += text[i] == 'F';
    return count;
}

static void
sleep_ms(long ms)
{
    struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    while (nanosleep(&time, &time) < 0 && errno == EINTR) {
    }
}

int
main(int argc, char **argv)
{
    char path[4096];
    int status;
    if (argc < 6 || argc > 7)
        return 2;
    if (argc == 7)
        signal(SIGTERM, SIG_IGN);
    snprintf(path, sizeof(path), "%s/%s", argv[1], argv[2]);
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (fd < 0)
        die(path);
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        if (errno != EWOULDBLOCK)
            die("flock");
        tell_violation(argv[1], argv[2]);
    }
    say(fd, "S");
    pid_t child = fork();
    if (child == 0) {
        sleep_ms(atol(argv[3]));
        _exit(0);
    }
    if (child < 0 || waitpid(child, &status, 0) < 0)
        die("child");
    if (failures_so_far(path) < atoi(argv[4])) {
        say(fd, "F");
        return 1;
    }
    say(fd, "E");
    printf("%s", argv[2]);
    return atoi(argv[5]);
}
