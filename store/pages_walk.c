#include <errno.h>
#include <stdlib.h>

#include "store/pages_impl.h"

/* One tree on the way. */
struct walk {
    struct pl_pages *pages;
    const struct pl_pages_visitor *visitor;
    const char *table; /* NULL: main tree or free list */
    struct pages_tree tree;
    struct pages_tree seen; /* what was met: counts */
    bool is_free_list;
    bool is_whole;
    int failed; /* -ENOMEM */
    uint8_t key[KEY_MAX];
    size_t key_bytes;
    bool has_key; /* the key before */
    uint8_t *level[DEPTH_MAX];
};

/* Keys below @low or not below @high do not belong into a subtree; data NULL: no bound. */
struct bounds {
    struct pl_str low;
    struct pl_str high;
};

static void
tell(struct walk *w, uint64_t page, const char *what)
{
    w->is_whole = false;
    w->visitor->bad(w->visitor->user, w->is_free_list ? PL_PAGES_FREE_LIST : w->table, page, what);
}

/* Each page belongs to one place. */
static bool
claim(struct walk *w, uint64_t first, uint64_t count, uint64_t from)
{
    struct pl_pages *pages = w->pages;
    if (first < 2 || first >= pages->head.page_count || count > pages->head.page_count - first) {
        tell(w, from, "leads to a page outside the file");
        return false;
    }
    for (uint64_t i = first; i < first + count; i++) {
        if (pages->use[i] == USED || pages->use[i] == BROKEN) {
            tell(w, i, "is used twice");
            return false;
        }
        if (pages->use[i] == FREE) /* told, and read: the free list is the likelier liar */
            tell(w, i, "is used and yet in the free list");
        pages->use[i] = USED;
    }
    return true;
}

/* Header and offsets of a branch or leaf page. Return: number of nodes, 0 with a complaint. */
static unsigned
check_page(const struct pl_pages *pages, const uint8_t *page, uint64_t number, unsigned kind,
           const char **ret_wrong)
{
    unsigned lower = pages_get16(page + 12), upper = pages_get16(page + 14);
    *ret_wrong = NULL;
    if (pages_get64(page) != number)
        *ret_wrong = "has another page's number";
    else if (pages_get16(page + 10) != kind)
        *ret_wrong = "is of another kind";
    else if (lower < PAGE_HEAD || lower > upper || upper > pages->head.page_bytes || lower % 2)
        *ret_wrong = "has an impossible header";
    else if (lower == PAGE_HEAD)
        *ret_wrong = "is empty";
    return *ret_wrong ? 0 : (lower - PAGE_HEAD) / 2;
}

struct node {
    struct pl_str key;
    const uint8_t *value;
    uint64_t value_bytes;
    uint64_t child;
    unsigned flags;
};

static bool
get_node(const struct pl_pages *pages, const uint8_t *page, unsigned i, bool is_branch,
         struct node *ret)
{
    uint64_t size = pages->head.page_bytes;
    unsigned at = pages_get16(page + PAGE_HEAD + 2 * i);
    if (at < pages_get16(page + 14) || at + NODE_HEAD > size || at % 2)
        return false;
    const uint8_t *p = page + at;
    unsigned key_bytes = pages_get16(p + 6);
    uint64_t behind = (uint64_t)at + NODE_HEAD + key_bytes;
    if (key_bytes > KEY_MAX || behind > size)
        return false;
    ret->key = (struct pl_str){.data = (const char *)p + NODE_HEAD, .len = key_bytes};
    ret->flags = pages_get16(p + 4);
    uint64_t low = (uint64_t)pages_get16(p) | (uint64_t)pages_get16(p + 2) << 16;
    if (is_branch) {
        ret->child = low | (uint64_t)ret->flags << 32;
        return true;
    }
    ret->value = p + NODE_HEAD + key_bytes;
    ret->value_bytes = low;
    bool is_big = (ret->flags & N_BIG) != 0;
    return !(ret->flags & ~(N_BIG | N_TREE)) && behind + (is_big ? 8 : low) <= size &&
           (!is_big || low <= VALUE_MAX);
}

/* The free list is ordered by number, all else by bytes. */
static int
compare_keys(const struct walk *w, struct pl_str a, struct pl_str b)
{
    if (w->is_free_list && a.len == 8 && b.len == 8) {
        uint64_t x = pages_get64(a.data), y = pages_get64(b.data);
        return x < y ? -1 : x > y;
    }
    size_t common = a.len < b.len ? a.len : b.len;
    int r = common ? memcmp(a.data, b.data, common) : 0;
    return r ? r : a.len < b.len ? -1 : a.len > b.len;
}

static bool
key_fits(struct walk *w, struct pl_str key, const struct bounds *bounds)
{
    struct pl_str before = {.data = (const char *)w->key, .len = w->key_bytes};
    bool fits = key.len > 0 && (!w->has_key || compare_keys(w, before, key) < 0) &&
                (!bounds->low.data || compare_keys(w, bounds->low, key) <= 0) &&
                (!bounds->high.data || compare_keys(w, key, bounds->high) < 0);
    memcpy(w->key, key.data, key.len);
    w->key_bytes = key.len;
    w->has_key = true;
    return fits;
}

static bool
value_reserve(struct pl_pages *pages, size_t bytes)
{
    if (bytes <= pages->value_room)
        return true;
    uint8_t *value = realloc(pages->value, bytes);
    if (!value)
        return false;
    pages->value = value;
    pages->value_room = bytes;
    return true;
}

/* A value in overflow pages. Return: NULL or what is wrong; @failed is set when memory is short. */
static const char *
read_big(struct pl_pages *pages, uint64_t first, uint64_t bytes, int *failed)
{
    uint8_t head[PAGE_HEAD];
    uint64_t size = pages->head.page_bytes;
    if (first < 2 || first >= pages->head.page_count ||
        !pages_read_at(pages->fd, first * size, head, 16))
        return "leads to an overflow page that is not there";
    uint64_t count = pages_get32(head + 12), wanted = (bytes + PAGE_HEAD + size - 1) / size;
    if (pages_get64(head) != first || pages_get16(head + 10) != P_OVERFLOW || count != wanted ||
        count > pages->head.page_count - first)
        return "leads to an overflow page that is none";
    if (!value_reserve(pages, (size_t)bytes)) {
        *failed = -ENOMEM;
        return "out of memory";
    }
    return pages_read_at(pages->fd, first * size + PAGE_HEAD, pages->value, (size_t)bytes)
               ? NULL
               : "has an overflow value that cannot be read";
}

static bool
get_value(struct walk *w, const struct node *node, uint64_t number, struct pl_str *ret_value)
{
    if (!(node->flags & N_BIG)) {
        *ret_value =
            (struct pl_str){.data = (const char *)node->value, .len = (size_t)node->value_bytes};
        return true;
    }
    uint64_t first = pages_get64(node->value);
    const char *wrong = read_big(w->pages, first, node->value_bytes, &w->failed);
    if (wrong) {
        tell(w, number, wrong);
        return false;
    }
    uint64_t size = w->pages->head.page_bytes;
    uint64_t count = (node->value_bytes + PAGE_HEAD + size - 1) / size;
    if (!claim(w, first, count, number))
        return false;
    w->seen.overflow_pages += count;
    *ret_value =
        (struct pl_str){.data = (const char *)w->pages->value, .len = (size_t)node->value_bytes};
    return true;
}

static void
take_free(struct walk *w, struct pl_str key, struct pl_str value, uint64_t number)
{
    uint64_t count = value.len >= 8 ? pages_get64(value.data) : 0;
    if (key.len != 8 || pages_get64(key.data) > w->pages->head.txn || value.len < 8 ||
        count > value.len / 8 - 1) {
        tell(w, number, "has a free list that is none");
        return;
    }
    uint64_t before = NO_PAGE;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t page = pages_get64(value.data + 8 * (i + 1));
        if (page < 2 || page >= w->pages->head.page_count || page >= before ||
            w->pages->use[page] != UNKNOWN) {
            tell(w, number, "frees a page that cannot be free");
            continue;
        }
        before = page;
        w->pages->use[page] = FREE;
    }
}

static void walk_table(struct walk *main, struct pl_str name, const uint8_t *tree, uint64_t number);

static void
take_leaf(struct walk *w, const uint8_t *page, uint64_t number, unsigned count,
          const struct bounds *bounds)
{
    bool is_main = !w->table && !w->is_free_list;
    for (unsigned i = 0; i < count && !w->failed; i++) {
        struct node node;
        struct pl_str value;
        if (!get_node(w->pages, page, i, false, &node)) {
            tell(w, number, "has an impossible node");
            continue;
        }
        w->seen.entries++;
        if (!key_fits(w, node.key, bounds))
            tell(w, number, PL_PAGES_OUT_OF_ORDER);
        if (((node.flags & N_TREE) != 0) != is_main) {
            tell(w, number, "has a node of another kind");
            continue;
        }
        if (is_main && node.value_bytes == TREE_BYTES)
            walk_table(w, node.key, node.value, number);
        else if (is_main)
            tell(w, number, "has a node of another kind");
        else if (!get_value(w, &node, number, &value))
            continue;
        else if (w->is_free_list)
            take_free(w, node.key, value, number);
        else
            w->visitor->row(w->visitor->user, w->table, node.key, value, number);
    }
}

static void
walk_page(struct walk *w, uint64_t number, uint64_t from, unsigned depth,
          const struct bounds *bounds)
{
    struct pl_pages *pages = w->pages;
    if (depth == DEPTH_MAX) { /* a tree says how deep it is: below */
        tell(w, number, "lies too deep");
        return;
    }
    if (!claim(w, number, 1, from))
        return;
    if (!w->level[depth])
        w->level[depth] = malloc(pages->head.page_bytes);
    uint8_t *page = w->level[depth];
    if (!page) {
        w->failed = -ENOMEM;
        return;
    }
    if (!pages_read_at(pages->fd, number * pages->head.page_bytes, page, pages->head.page_bytes)) {
        tell(w, number, "cannot be read");
        pages->use[number] = BROKEN;
        return;
    }
    bool is_leaf = depth + 1 == w->tree.depth;
    const char *wrong;
    unsigned count = check_page(pages, page, number, is_leaf ? P_LEAF : P_BRANCH, &wrong);
    if (wrong) {
        tell(w, number, wrong);
        pages->use[number] = BROKEN;
        return;
    }
    if (is_leaf) {
        w->seen.leaf_pages++;
        take_leaf(w, page, number, count, bounds);
        return;
    }
    w->seen.branch_pages++;
    for (unsigned i = 0; i < count && !w->failed; i++) {
        struct node node, next;
        struct bounds inner = *bounds;
        if (!get_node(pages, page, i, true, &node)) {
            tell(w, number, "has an impossible node");
            continue;
        }
        if (i > 0)
            inner.low = node.key;
        if (i + 1 < count && get_node(pages, page, i + 1, true, &next))
            inner.high = next.key;
        walk_page(w, node.child, number, depth + 1, &inner);
    }
}

static void
walk_tree(struct walk *w, uint64_t from)
{
    const struct bounds none = {.low = {.data = NULL}};
    bool is_empty = w->tree.root == NO_PAGE;
    if (is_empty != (w->tree.entries == 0) || w->tree.depth > DEPTH_MAX ||
        is_empty != (w->tree.depth == 0) || (w->tree.flags & N_DUPLICATE) != 0)
        tell(w, from, "describes an impossible tree");
    if (!is_empty)
        walk_page(w, w->tree.root, from, 0, &none);
    if (w->is_whole && !w->failed &&
        (w->seen.entries != w->tree.entries || w->seen.branch_pages != w->tree.branch_pages ||
         w->seen.leaf_pages != w->tree.leaf_pages ||
         w->seen.overflow_pages != w->tree.overflow_pages))
        tell(w, from, "counts other pages or rows than there are");
    for (unsigned i = 0; i < DEPTH_MAX; i++)
        free(w->level[i]);
}

static void
walk_table(struct walk *main, struct pl_str name, const uint8_t *tree, uint64_t number)
{
    char table[KEY_MAX + 1];
    memcpy(table, name.data, name.len);
    table[name.len] = '\0';
    struct walk w = {.pages = main->pages,
                     .visitor = main->visitor,
                     .table = table,
                     .tree = pages_get_tree(tree),
                     .is_whole = true};
    walk_tree(&w, number);
    main->failed = w.failed;
}

static int
walk_free_list(struct pl_pages *pages, const struct pl_pages_visitor *visitor)
{
    free(pages->use);
    pages->use = calloc((size_t)pages->head.page_count + 2, 1);
    if (!pages->use)
        return -ENOMEM;
    struct walk w = {.pages = pages,
                     .visitor = visitor,
                     .tree = pages->free,
                     .is_free_list = true,
                     .is_whole = true};
    walk_tree(&w, 0);
    pages->free_is_whole = w.is_whole;
    return w.failed;
}

static void
ignore_bad(void *user, const char *table, uint64_t page, const char *what)
{
    (void)user, (void)table, (void)page, (void)what;
}

/* A page that was taken and given back in one transaction is never written: so the file may end
 * before the last page, when all behind its end is free. */
int
pages_look_at_tail(struct pl_pages *pages)
{
    const struct pl_pages_visitor quiet = {.bad = ignore_bad};
    int r = walk_free_list(pages, &quiet);
    uint64_t page = pages->head.file_bytes / pages->head.page_bytes;
    while (r == 0 && page < pages->head.page_count && pages->use[page] == FREE)
        page++;
    pages->head.is_complete = page >= pages->head.page_count;
    return r;
}

int
pl_pages_walk(struct pl_pages *pages, const struct pl_pages_visitor *visitor)
{
    int r = walk_free_list(pages, visitor);
    if (r != 0)
        return r;
    struct walk w = {.pages = pages, .visitor = visitor, .tree = pages->main, .is_whole = true};
    walk_tree(&w, 0);
    return w.failed;
}

/* Loose pages */

static void
loose_page(struct pl_pages *pages, const struct pl_pages_visitor *visitor, const uint8_t *page,
           uint64_t number, int *failed)
{
    const char *wrong;
    /* It may have come from another place: its rows tell for themselves whether they are whole. */
    unsigned count = check_page(pages, page, pages_get64(page), P_LEAF, &wrong);
    for (unsigned i = 0; i < count && !*failed; i++) {
        struct node node;
        if (!get_node(pages, page, i, false, &node) || node.flags & N_TREE)
            continue;
        struct pl_str value = {.data = (const char *)node.value, .len = (size_t)node.value_bytes};
        if (node.flags & N_BIG) {
            if (read_big(pages, pages_get64(node.value), node.value_bytes, failed))
                continue;
            value.data = (const char *)pages->value;
        }
        visitor->row(visitor->user, NULL, node.key, value, number);
    }
}

/* A page in another's place is judged by where it came from: what was free there is old. */
static bool
is_missed(const struct pl_pages *pages, uint64_t number)
{
    return number < pages->head.page_count &&
           (pages->use[number] == UNKNOWN || pages->use[number] == BROKEN);
}

int
pl_pages_walk_loose(struct pl_pages *pages, const struct pl_pages_visitor *visitor)
{
    uint8_t *page = malloc(pages->head.page_bytes);
    if (!page)
        return -ENOMEM;
    int failed = 0;
    for (uint64_t i = 2; i < pages->head.page_count && !failed; i++) {
        uint64_t at = i * pages->head.page_bytes;
        if (pages->use[i] == USED || !pages_read_at(pages->fd, at, page, pages->head.page_bytes))
            continue;
        if (is_missed(pages, pages_get64(page)))
            loose_page(pages, visitor, page, i, &failed);
    }
    free(page);
    return failed;
}
