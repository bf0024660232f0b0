#include "base/uuid.h"

struct pl_uuid
pl_uuid_v7(uint64_t unix_ms, const uint8_t random[10])
{
    struct pl_uuid id;
    for (int i = 0; i < 6; i++)
        id.b[i] = (uint8_t)(unix_ms >> (40 - 8 * i));
    for (int i = 0; i < 10; i++)
        id.b[6 + i] = random[i];
    id.b[6] = (uint8_t)(0x70 | (id.b[6] & 0x0f));
    id.b[8] = (uint8_t)(0x80 | (id.b[8] & 0x3f));
    return id;
}

char *
pl_uuid_format(const struct pl_uuid *id, char text[PL_UUID_TEXT_BYTES])
{
    static const char hex[] = "0123456789abcdef";
    char *p = text;
    for (int i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *p++ = '-';
        *p++ = hex[id->b[i] >> 4];
        *p++ = hex[id->b[i] & 15];
    }
    *p = '\0';
    return text;
}

static int
hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

bool
pl_uuid_parse(const char *text, size_t len, struct pl_uuid *ret_id)
{
    struct pl_uuid id;
    size_t at = 0;
    if (len != PL_UUID_TEXT_BYTES - 1)
        return false;
    for (int i = 0; i < 16; i++) {
        if ((i == 4 || i == 6 || i == 8 || i == 10) && text[at++] != '-')
            return false;
        int high = hex_value(text[at]), low = hex_value(text[at + 1]);
        if (high < 0 || low < 0)
            return false;
        id.b[i] = (uint8_t)(high << 4 | low);
        at += 2;
    }
    *ret_id = id;
    return true;
}
