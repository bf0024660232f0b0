#include "store/segment_list.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct collect {
    struct pl_segment_list list;
    uint64_t above, up_to;
};

int
pl_segment_list_add(struct pl_segment_list *list, uint64_t number)
{
    if (list->count == list->room) {
        size_t room = list->room == 0 ? 16 : list->room * 2;
        uint64_t *numbers = reallocarray(list->numbers, room, sizeof(*numbers));
        if (numbers == NULL)
            return -ENOMEM;
        list->numbers = numbers;
        list->room = room;
    }
    size_t at = list->count++;
    for (; at > 0 && list->numbers[at - 1] > number; at--)
        list->numbers[at] = list->numbers[at - 1];
    list->numbers[at] = number;
    return 0;
}

void
pl_segment_list_free(struct pl_segment_list *list)
{
    free(list->numbers);
    *list = (struct pl_segment_list){0};
}

static int
collect_name(void *user, const char *name)
{
    struct collect *collect = user;
    uint64_t number;
    if (strcmp(name, PL_SEGMENT_MAKING) == 0)
        collect->list.half_made = true;
    if (!pl_segment_name_parse(name, &number) || number <= collect->above ||
        number > collect->up_to)
        return 0;
    return pl_segment_list_add(&collect->list, number);
}

int
pl_segment_list_read(struct pl_disk *disk, int dir, uint64_t above, uint64_t up_to,
                     struct pl_segment_list *ret_list)
{
    struct collect collect = {.above = above, .up_to = up_to};
    int result = disk->ops->list(disk, dir, collect_name, &collect);
    if (result < 0) {
        pl_segment_list_free(&collect.list);
        return result;
    }
    *ret_list = collect.list;
    return 0;
}
