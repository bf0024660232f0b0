/*
 * A guard in a directory of its own, under a supervisor whose socket the test itself speaks on.
 * There is one at a time; teardown() ends whatever a test left. What does not come fails the test.
 */
#ifndef PL_TESTS_PROC_GUARD_HOUSE_H
#define PL_TESTS_PROC_GUARD_HOUSE_H

#include <check.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "supervisor/guard_client.h"

#define ADOPTED_MAX    64
#define TREE_PROCESSES 6 /* worker, stubborn, daemon, chain of three */

/* One guard and what it needs. */
struct house {
    char dir[64];
    char run[96];
    char sock[100];
    int control; /* listening: fake supervisors connect */
    int fake;    /* connection of the present one */
    int ready;   /* our end of --ready-fd */
    pid_t guard;
    pid_t fake_pid;
    struct pl_guard_client *client;
};

extern struct house house;
extern const char *guard_path, *fake_path, *worker_path;
extern bool with_cgroup; /* this run's way of finding trees */

/* How the next guard is started. */
extern int guard_stderr;     /* where it writes its log; -1: where we do */
extern bool ignore_children; /* with SIGCHLD ignored */
extern const char *run_size; /* its run directory is a file system of that size */
extern rlim_t file_limit;    /* this many descriptors; 0: ours */
extern int sidecar_life;     /* it has a child already, which has this open */

/* ---- the guard ---- */

/* cgroup2 at a place of our own, for the guard alone. Return: false where that cannot be had. */
bool enter_cgroup_mount(const char *dir);

/* start_guard() is make_house(), the directory, and open_house(), the guard. */
void start_guard(bool cgroup);
void make_house(void);
void open_house(bool cgroup);
pid_t fork_guard(const char *ready_text, bool cgroup);

/* Return: its exit status. */
int wait_guard(void);

/* Clean end; afterwards nothing is left in the run directory. */
void stop_guard(void);

void teardown(void);

/* Return: a connection to the guard's socket. */
int connect_client(void);

/* ---- its supervisor ---- */

/* The next supervisor of the guard: its socket becomes our client. */
void meet_supervisor(void);

/* Return: the welcome; *ret_listener, and *ret_held (-1 none), the caller's. */
struct pl_guard_welcome read_welcome(int *ret_listener, int *ret_held);

/* Both. */
void enter(void);

/* Kills it and meets the next one. */
void kill_supervisor(void);

void exit_supervisor(unsigned char status);
struct pl_guard_message next_message(void);
struct pl_guard_message expect(enum pl_guard_kind kind);

/* The WORKER_IS messages of the last welcome; their descriptors are closed by teardown. */
extern struct pl_guard_message adopted[ADOPTED_MAX];
extern uint32_t adopted_count;

/* ---- its workers ---- */

/* Spawns a worker in @mode. Return: our end of its descriptor 7. */
int spawn(uint32_t worker, const char *program, const char *mode);

extern struct stat spawned_channel; /* of the last spawn() */
extern const char memo_text[PL_GUARD_MEMO_BYTES];

/* The next one that a worker tells on @sock. */
pid_t next_pid(int sock);

void assert_gone(const pid_t *pids, int count);
void assert_alive(const pid_t *pids, int count);
void await(int fd, short events);

/* ---- tests, by file ---- */

void add_handover_tests(TCase *tests);
void add_leftover_tests(TCase *tests);
void add_surroundings_tests(TCase *tests);

#endif
