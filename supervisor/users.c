#include "supervisor/users.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct user {
    uid_t uid;
    bool admin;
    char name[PL_USER_NAME_BYTES];
};

struct pl_users {
    uid_t own_uid;
    struct user *user; /* sorted by uid */
    size_t user_count;
    gid_t *admin_gid;
    size_t admin_gid_count;
};

static int
by_uid(const void *a, const void *b)
{
    uid_t x = ((const struct user *)a)->uid, y = ((const struct user *)b)->uid;
    return x < y ? -1 : x > y;
}

static bool
listed(const char *name, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
}

static int
add_user(struct pl_users *users, const struct passwd *entry, bool admin)
{
    if (users->user_count % 64 == 0) {
        struct user *grown = reallocarray(users->user, users->user_count + 64, sizeof(struct user));
        if (grown == NULL)
            return -ENOMEM;
        users->user = grown;
    }
    struct user *user = &users->user[users->user_count++];
    *user = (struct user){.uid = entry->pw_uid, .admin = admin};
    snprintf(user->name, sizeof(user->name), "%s", entry->pw_name);
    return 0;
}

static int
read_passwd(struct pl_users *users, const char *path, const char *const *admins, size_t count)
{
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return errno == ENOENT ? 0 : -errno;
    int rc = 0;
    for (struct passwd *entry; rc == 0 && (entry = fgetpwent(file)) != NULL;)
        rc = add_user(users, entry, listed(entry->pw_name, admins, count));
    fclose(file);
    if (rc == 0 && users->user_count > 0)
        qsort(users->user, users->user_count, sizeof(struct user), by_uid);
    return rc;
}

static void
mark_members(struct pl_users *users, char *const *members)
{
    for (; *members != NULL; members++)
        for (size_t i = 0; i < users->user_count; i++)
            if (strcmp(users->user[i].name, *members) == 0)
                users->user[i].admin = true;
}

static int
read_group(struct pl_users *users, const char *path, const char *const *admins, size_t count)
{
    if (count == 0)
        return 0;
    users->admin_gid = calloc(count, sizeof(gid_t));
    if (users->admin_gid == NULL)
        return -ENOMEM;
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return errno == ENOENT ? 0 : -errno;
    for (struct group *entry; (entry = fgetgrent(file)) != NULL;) {
        if (!listed(entry->gr_name, admins, count) || users->admin_gid_count == count)
            continue;
        users->admin_gid[users->admin_gid_count++] = entry->gr_gid;
        mark_members(users, entry->gr_mem);
    }
    fclose(file);
    return 0;
}

int
pl_users_load(const char *passwd_path, const char *group_path, const char *const *admin_users,
              size_t admin_user_count, const char *const *admin_groups, size_t admin_group_count,
              struct pl_users **ret_users)
{
    struct pl_users *users = calloc(1, sizeof(*users));
    if (users == NULL)
        return -ENOMEM;
    users->own_uid = geteuid();
    int rc = read_passwd(users, passwd_path != NULL ? passwd_path : "/etc/passwd", admin_users,
                         admin_user_count);
    if (rc == 0)
        rc = read_group(users, group_path != NULL ? group_path : "/etc/group", admin_groups,
                        admin_group_count);
    if (rc < 0) {
        pl_users_free(users);
        return rc;
    }
    *ret_users = users;
    return 0;
}

void
pl_users_free(struct pl_users *users)
{
    if (users == NULL)
        return;
    free(users->user);
    free(users->admin_gid);
    free(users);
}

static const struct user *
find(const struct pl_users *users, uid_t uid)
{
    if (users->user_count == 0)
        return NULL;
    struct user key = {.uid = uid};
    return bsearch(&key, users->user, users->user_count, sizeof(struct user), by_uid);
}

const char *
pl_users_name(const struct pl_users *users, uid_t uid, char name[PL_USER_NAME_BYTES])
{
    const struct user *user = find(users, uid);
    if (user != NULL)
        snprintf(name, PL_USER_NAME_BYTES, "%s", user->name);
    else
        snprintf(name, PL_USER_NAME_BYTES, "uid:%lu", (unsigned long)uid);
    return name;
}

bool
pl_users_is_admin(const struct pl_users *users, uid_t uid, gid_t gid)
{
    if (uid == 0 || uid == users->own_uid)
        return true;
    for (size_t i = 0; i < users->admin_gid_count; i++)
        if (users->admin_gid[i] == gid)
            return true;
    const struct user *user = find(users, uid);
    return user != NULL && user->admin;
}
