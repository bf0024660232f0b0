/*
 * Private to proto/: the first byte of a MessagePack value taken apart, shared by the reader and
 * the stream scanner.
 */
#ifndef PL_PROTO_MP_READ_H
#define PL_PROTO_MP_READ_H

#include "proto/msgpack.h"

struct pl_mp_head {
    enum pl_mp_type type;
    uint8_t head_bytes; /* with the length field, and the number of a scalar */
    uint64_t body;      /* STR, BIN, EXT: bytes that follow; ARRAY, MAP: elements or pairs */
};

/* Return: 0, MORE (the head is not complete), MALFORMED (0xc1) or TOO_MANY (keys). */
int pl_mp_read_head(const uint8_t *data, size_t len, struct pl_mp_head *ret_head);

/* Big-endian number of @bytes (1, 2, 4, 8). */
uint64_t pl_mp_read_number(const uint8_t *data, unsigned bytes);

#endif
