/*
 * Capacities and costs: one number, or a map of kinds.
 */
#include "base/arith.h"
#include "config/loader.h"

#include <stdio.h>
#include <string.h>

bool
pl_config_kind_is_bytes(const char *kind)
{
    static const char *const kinds[] = {"gpu_vram", "vram", "memory", "ram", "disk", "storage"};
    size_t len = strlen(kind);
    for (size_t i = 0; i < PL_ARRAY_LEN(kinds); i++)
        if (strcmp(kind, kinds[i]) == 0)
            return true;
    return len > 6 && strcmp(kind + len - 6, "_bytes") == 0;
}

/* Return: false when it was not an amount of @kind, and said so. */
static bool
parse_amount(struct pl_loader *loader, const struct pl_node *node, const char *kind,
             const char *path, uint64_t *ret_units)
{
    bool bytes = pl_config_kind_is_bytes(kind);
    if (node->type != PL_NODE_SCALAR) {
        pl_parse_expected(loader, node, path, bytes ? "a size such as 24GiB" : "a number", NULL);
        return false;
    }
    char hint[160] = "";
    uint64_t ignored;
    const char *expected =
        bytes ? pl_value_size(node->text, false, ret_units) : pl_value_count(node->text, ret_units);
    if (!expected)
        return true;
    if (bytes && !pl_value_count(node->text, &ignored))
        snprintf(hint, sizeof(hint), "%.30s is counted in bytes: write %.30sGiB or %.30sB", kind,
                 node->text, node->text);
    else if (!bytes && !pl_value_size(node->text, false, &ignored))
        snprintf(
            hint, sizeof(hint),
            "sizes are for gpu_vram, vram, memory, ram, disk, storage and names ending in _bytes");
    pl_parse_expected(loader, node, path, expected, hint);
    return false;
}

static void
append_device(struct pl_loader *loader, const struct pl_node *node, struct pl_config_unit *unit,
              const char *id, uint64_t capacity)
{
    struct pl_config_device *grown =
        pl_arena_grow(loader->arena, unit->devices, unit->device_count, sizeof(*grown));
    if (!grown)
        return;
    unit->devices = grown;
    for (uint32_t i = 0; i < unit->device_count; i++)
        if (strcmp(grown[i].id, id) == 0) {
            pl_source_report(loader->source, PL_DIAG_ERROR, node->pos, NULL, NULL,
                             "device '%.60s' is given twice", id);
            return;
        }
    char *copy = pl_arena_strndup(loader->arena, id, strlen(id));
    if (!copy)
        return;
    unit->devices[unit->device_count++] = (struct pl_config_device){copy, capacity};
    if (!pl_add_u64(unit->units, capacity, &unit->units))
        pl_source_report(loader->source, PL_DIAG_ERROR, node->pos, NULL, NULL,
                         "the devices together are too large");
}

/* {id: "0", capacity: 24GiB} */
static void
parse_device(struct pl_loader *loader, const struct pl_node *node, const char *path,
             struct pl_config_unit *unit)
{
    const struct pl_pair *id = pl_tree_find(node, "id");
    const struct pl_pair *capacity = pl_tree_find(node, "capacity");
    uint64_t units;
    if (!id || !capacity || node->count != 2 || id->value->type != PL_NODE_SCALAR ||
        id->value->len == 0) {
        pl_parse_expected(loader, node, path, "a device {id: \"0\", capacity: …}", NULL);
        return;
    }
    if (parse_amount(loader, capacity->value, unit->kind, path, &units))
        append_device(loader, node, unit, id->value->text, units);
}

static void
parse_devices(struct pl_loader *loader, const struct pl_node *node, const char *path,
              struct pl_config_unit *unit)
{
    if (node->type != PL_NODE_SEQ || node->count == 0) {
        pl_parse_expected(loader, node, path, "a list of devices", NULL);
        return;
    }
    for (uint32_t i = 0; i < node->count; i++) {
        char id[16];
        uint64_t units;
        snprintf(id, sizeof(id), "%u", i);
        if (node->items[i]->type == PL_NODE_MAP)
            parse_device(loader, node->items[i], path, unit);
        else if (parse_amount(loader, node->items[i], unit->kind, path, &units))
            append_device(loader, node->items[i], unit, id, units);
    }
}

static void
parse_kind(struct pl_loader *loader, const struct pl_pair *pair, const char *path, bool capacity,
           struct pl_config_unit *unit)
{
    const struct pl_node *value = pair->value;
    if (capacity && value->type == PL_NODE_SCALAR && strcmp(value->text, "auto") == 0) {
        unit->automatic = true;
    } else if (capacity && value->type == PL_NODE_SEQ) {
        parse_devices(loader, value, path, unit);
    } else if (capacity && value->type == PL_NODE_MAP) {
        const struct pl_pair *devices = pl_tree_find(value, "devices");
        if (!devices || value->count != 1)
            pl_parse_expected(loader, value, path, "a number, or {devices: [{id, capacity}]}",
                              NULL);
        else
            parse_devices(loader, devices->value, path, unit);
    } else {
        parse_amount(loader, value, unit->kind, path, &unit->units);
    }
}

static void
parse_kinds(struct pl_loader *loader, const struct pl_node *node, const char *path, bool capacity,
            struct pl_config_units *units)
{
    for (uint32_t i = 0; i < node->count; i++) {
        const struct pl_pair *pair = &node->pairs[i];
        char below[PL_CONFIG_PATH_BYTES];
        snprintf(below, sizeof(below), "%s.%.64s", path, pair->key->text);
        if (!pl_value_is_name(pair->key->text)) {
            pl_source_report(loader->source, PL_DIAG_ERROR, pair->key->pos, path,
                             "letters, digits, '-' and '_', at most 63",
                             "'%.60s' cannot name a resource", pair->key->text);
            continue;
        }
        struct pl_config_unit *grown =
            pl_arena_grow(loader->arena, units->items, units->count, sizeof(*grown));
        char *kind = pl_arena_strndup(loader->arena, pair->key->text, pair->key->len);
        if (!grown || !kind)
            return;
        units->items = grown;
        struct pl_config_unit *unit = &units->items[units->count++];
        *unit = (struct pl_config_unit){.kind = kind};
        pl_parse_mark(loader, below, pair->key->pos, pair->value);
        parse_kind(loader, pair, below, capacity, unit);
    }
}

void
pl_parse_units(struct pl_loader *loader, const struct pl_node *node, const char *path,
               bool capacity, struct pl_config_units *units)
{
    uint64_t bucket;
    if (node->type == PL_NODE_MAP && node->count > 0) {
        parse_kinds(loader, node, path, capacity, units);
        return;
    }
    if (node->type != PL_NODE_SCALAR || pl_value_count(node->text, &bucket)) {
        pl_parse_expected(loader, node, path, "a number or a map of kinds", "such as {cpu: 2}");
        return;
    }
    struct pl_config_unit *unit = pl_arena_alloc(loader->arena, sizeof(*unit));
    char *kind = pl_arena_printf(loader->arena, "%s", PL_CONFIG_UNITS_KIND);
    if (!unit || !kind)
        return;
    *unit = (struct pl_config_unit){.kind = kind, .units = bucket};
    *units = (struct pl_config_units){.items = unit, .count = 1, .scalar = true};
}
