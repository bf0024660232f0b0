/*
 * pl-probe FILE.so: loads an executor plugin and prints what it says of itself as one line of JSON.
 * A program of its own: whatever the plugin does while it is loaded ends this process and no other.
 * Nothing is opened or executed.
 */
#include <dlfcn.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "base/types.h"
#include "parkinglot/executor.h"
#include "tools/plctl/json.h"

/* A plugin that hangs while it is loaded. */
#define LOAD_LIMIT_S 10

#define TYPES_MAX 256

static int
complain(const char *path, const char *what)
{
    fprintf(stderr, "plctl: %s: %s\n", path, what);
    return 1;
}

static void
print_plugin(const char *path, const struct pl_exec_plugin *plugin)
{
    static const struct {
        uint32_t flag;
        const char *name;
    } flags[] = {
        {PL_EXEC_CAN_STREAM, "stream"},       {PL_EXEC_CAN_BATCH, "batch"},
        {PL_EXEC_THREAD_SAFE, "thread_safe"}, {PL_EXEC_ASYNC, "async"},
        {PL_EXEC_INLINE, "inline"},           {PL_EXEC_USES_GPU, "gpu"},
        {PL_EXEC_CHECKPOINTS, "checkpoints"},
    };
    struct pl_json json = {.to = stdout};
    char abi[32];

    snprintf(abi, sizeof(abi), "%" PRIu32 ".%" PRIu32, plugin->abi_major, plugin->abi_minor);
    pl_json_open(&json, NULL, '{');
    pl_json_text(&json, "file", path);
    pl_json_text(&json, "name", plugin->name);
    pl_json_text(&json, "version", plugin->version);
    pl_json_text(&json, "description", plugin->description);
    pl_json_text(&json, "abi", abi);
    pl_json_open(&json, "types", '[');
    for (size_t i = 0; plugin->types != NULL && i < TYPES_MAX && plugin->types[i] != NULL; i++)
        pl_json_text(&json, NULL, plugin->types[i]);
    pl_json_close(&json, ']');
    pl_json_open(&json, "can", '[');
    for (size_t i = 0; i < PL_ARRAY_LEN(flags); i++)
        if ((plugin->flags & flags[i].flag) != 0)
            pl_json_text(&json, NULL, flags[i].name);
    pl_json_close(&json, ']');
    pl_json_close(&json, '}');
}

int
main(int argc, char **argv)
{
    const struct pl_exec_plugin *(*entry)(uint32_t, uint32_t, char *);
    char error[256] = "", text[256];

    if (argc != 2) {
        fprintf(stderr, "usage: pl-probe FILE.so\n");
        return 2;
    }
    alarm(LOAD_LIMIT_S);
    void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    if (library == NULL)
        return complain(argv[1], dlerror());
    void *symbol = dlsym(library, "pl_executor_entry");
    if (symbol == NULL)
        return complain(argv[1], "it is no executor: pl_executor_entry() is missing");
    __builtin_memcpy(&entry, &symbol, sizeof(entry));
    const struct pl_exec_plugin *plugin = entry(PL_EXEC_ABI_MAJOR, PL_EXEC_ABI_MINOR, error);
    error[sizeof(error) - 1] = 0;
    if (plugin == NULL) {
        snprintf(text, sizeof(text), "it refuses this host (ABI %u.%u): %.150s", PL_EXEC_ABI_MAJOR,
                 PL_EXEC_ABI_MINOR, error);
        return complain(argv[1], text);
    }
    if (plugin->abi_major != PL_EXEC_ABI_MAJOR) {
        snprintf(text, sizeof(text),
                 "it was built for ABI %" PRIu32 ".%" PRIu32 ", this host has %u.%u",
                 plugin->abi_major, plugin->abi_minor, PL_EXEC_ABI_MAJOR, PL_EXEC_ABI_MINOR);
        return complain(argv[1], text);
    }
    if (!PL_EXEC_HAS(plugin, struct pl_exec_plugin, execute))
        return complain(argv[1], "it offers no execute()");
    print_plugin(argv[1], plugin);
    /* Its destructors are its own affair, and may be wrong: nobody waits for them. */
    fflush(stdout);
    _exit(0);
}
