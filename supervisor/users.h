/*
 * Who a peer is: user names and administrators.
 *
 * The loop may not block in a name service, so the local files are read once, at start and at
 * reload. A uid that they do not name is the tenant "uid:N".
 */
#ifndef PL_SUPERVISOR_USERS_H
#define PL_SUPERVISOR_USERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PL_USER_NAME_BYTES 64

struct pl_users;

/**
 * pl_users_load() - read the passwd and group files
 * @passwd_path, @group_path: NULL for the system's own
 * @admin_users, @admin_groups: names that are administrators; a name nobody has is skipped
 *
 * The superuser and the uid that runs the supervisor are administrators always.
 *
 * Return: 0 or negative errno (a missing file is an empty one).
 */
int pl_users_load(const char *passwd_path, const char *group_path, const char *const *admin_users,
                  size_t admin_user_count, const char *const *admin_groups,
                  size_t admin_group_count, struct pl_users **ret_users);
void pl_users_free(struct pl_users *users);

/* The tenant of @uid. Return: @name. */
const char *pl_users_name(const struct pl_users *users, uid_t uid, char name[PL_USER_NAME_BYTES]);

/* By uid, by primary group, or as a listed member of an administrators' group. */
bool pl_users_is_admin(const struct pl_users *users, uid_t uid, gid_t gid);

#endif
