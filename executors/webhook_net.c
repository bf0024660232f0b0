#include "executors/webhook_net.h"

#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct range {
    uint8_t bits;
    uint8_t prefix[16];
};

/* What IANA's registries of special addresses call not globally reachable. */
static const struct range private_v4[] = {
    {8, {0}},
    {8, {10}},
    {10, {100, 64}},
    {8, {127}},
    {16, {169, 254}},
    {12, {172, 16}},
    {24, {192, 0, 0}},
    {24, {192, 0, 2}},
    {24, {192, 88, 99}},
    {16, {192, 168}},
    {15, {198, 18}},
    {24, {198, 51, 100}},
    {24, {203, 0, 113}},
    {4, {224}},
    {4, {240}},
};
static const struct range private_v6[] = {
    {8, {0x00}}, /* ::, ::1, and the old forms of IPv4 addresses */
    {48, {0, 0x64, 0xff, 0x9b, 0, 1}},
    {64, {0x01}},                   /* discard-only */
    {23, {0x20, 0x01}},             /* Teredo and other protocols' */
    {32, {0x20, 0x01, 0x0d, 0xb8}}, /* documentation */
    {16, {0x20, 0x02}},             /* 6to4 */
    {20, {0x3f, 0xff}},             /* documentation */
    {7, {0xfc}},
    {10, {0xfe, 0x80}},
    {10, {0xfe, 0xc0}},
    {8, {0xff}},
};

static bool
is_in(const struct range *range, const uint8_t *address)
{
    size_t bytes = range->bits / 8;
    unsigned rest = range->bits % 8;
    return memcmp(range->prefix, address, bytes) == 0 &&
           (rest == 0 || ((range->prefix[bytes] ^ address[bytes]) >> (8 - rest)) == 0);
}

static bool
is_in_any(const struct range *ranges, size_t count, const uint8_t *address)
{
    for (size_t i = 0; i < count; i++)
        if (is_in(&ranges[i], address))
            return true;
    return false;
}

static bool
v4_is_public(const uint8_t *address)
{
    return !is_in_any(private_v4, sizeof(private_v4) / sizeof(private_v4[0]), address);
}

static bool
v6_is_public(const uint8_t *address)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    static const uint8_t translated[12] = {0, 0x64, 0xff, 0x9b};
    if (memcmp(address, mapped, sizeof(mapped)) == 0 ||
        memcmp(address, translated, sizeof(translated)) == 0)
        return v4_is_public(address + 12);
    return !is_in_any(private_v6, sizeof(private_v6) / sizeof(private_v6[0]), address);
}

bool
pl_webhook_address_is_public(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET) {
        struct sockaddr_in v4;
        memcpy(&v4, address, sizeof(v4));
        return v4_is_public((const uint8_t *)&v4.sin_addr);
    }
    if (address->sa_family == AF_INET6) {
        struct sockaddr_in6 v6;
        memcpy(&v6, address, sizeof(v6));
        return v6_is_public(v6.sin6_addr.s6_addr);
    }
    return false;
}
