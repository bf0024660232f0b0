/* Private to client/: what pl_call() builds and gives. */
#ifndef PL_CLIENT_CALL_H
#define PL_CLIENT_CALL_H

#include "client/connection.h"

struct pl_params {
    struct pl_mp_writer writer;
    struct {
        size_t mark;
        uint32_t count;
        bool is_map;
    } open[PL_MP_DEPTH_MAX];
    unsigned depth; /* 0: the params map itself, which is written last */
    uint32_t count;
    bool broken;
};

struct pl_reply {
    size_t len;
    char data[];
};

#endif
