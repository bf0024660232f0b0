/*
 * Signatures as Standard Webhooks 1.0 has them: HMAC-SHA256 over "ID.TIMESTAMP.BODY".
 */
#ifndef PL_EXECUTORS_WEBHOOK_SIGN_H
#define PL_EXECUTORS_WEBHOOK_SIGN_H

#include <stdbool.h>
#include <stddef.h>

#define PL_WEBHOOK_KEY_BYTES       512u
#define PL_WEBHOOK_SIGNATURE_BYTES 64u

struct pl_webhook_key {
    unsigned char bytes[PL_WEBHOOK_KEY_BYTES];
    size_t len; /* 0: nothing is signed */
};

/* "whsec_" and base64, or the key's bytes as they stand. Return: whether it can be used. */
bool pl_webhook_key_parse(const char *text, struct pl_webhook_key *ret_key);

/* "v1,BASE64". Return: whether it could be made. */
bool pl_webhook_sign(const struct pl_webhook_key *key, const char *id, const char *timestamp,
                     const void *body, size_t body_bytes,
                     char ret_signature[PL_WEBHOOK_SIGNATURE_BYTES]);

#endif
