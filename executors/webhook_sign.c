#include "executors/webhook_sign.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdlib.h>
#include <string.h>

static bool
decode(const char *text, struct pl_webhook_key *ret_key)
{
    size_t len = strlen(text);
    if (len == 0 || len % 4 != 0 || len / 4 * 3 > sizeof(ret_key->bytes))
        return false;
    int bytes = EVP_DecodeBlock(ret_key->bytes, (const unsigned char *)text, (int)len);
    if (bytes < 0)
        return false;
    size_t padding = (size_t)(text[len - 1] == '=') + (size_t)(text[len - 2] == '=');
    ret_key->len = (size_t)bytes - padding;
    return ret_key->len > 0;
}

bool
pl_webhook_key_parse(const char *text, struct pl_webhook_key *ret_key)
{
    static const char prefix[] = "whsec_";
    size_t len = strlen(text);
    if (strncmp(text, prefix, sizeof(prefix) - 1) == 0)
        return decode(text + sizeof(prefix) - 1, ret_key);
    if (len == 0 || len > sizeof(ret_key->bytes))
        return false;
    memcpy(ret_key->bytes, text, len);
    ret_key->len = len;
    return true;
}

bool
pl_webhook_sign(const struct pl_webhook_key *key, const char *id, const char *timestamp,
                const void *body, size_t body_bytes, char ret_signature[PL_WEBHOOK_SIGNATURE_BYTES])
{
    unsigned char mac[EVP_MAX_MD_SIZE], text[EVP_MAX_MD_SIZE * 2];
    unsigned mac_bytes = 0;
    size_t id_bytes = strlen(id), timestamp_bytes = strlen(timestamp);
    size_t bytes = id_bytes + timestamp_bytes + 2 + body_bytes;
    char *signed_text = malloc(bytes);
    if (signed_text == NULL)
        return false;
    memcpy(signed_text, id, id_bytes);
    signed_text[id_bytes] = '.';
    memcpy(signed_text + id_bytes + 1, timestamp, timestamp_bytes);
    signed_text[id_bytes + 1 + timestamp_bytes] = '.';
    if (body_bytes > 0)
        memcpy(signed_text + bytes - body_bytes, body, body_bytes);
    bool made = HMAC(EVP_sha256(), key->bytes, (int)key->len, (const unsigned char *)signed_text,
                     bytes, mac, &mac_bytes) != NULL;
    free(signed_text);
    if (!made || mac_bytes != 32)
        return false;
    EVP_EncodeBlock(text, mac, (int)mac_bytes);
    memcpy(ret_signature, "v1,", 3);
    memcpy(ret_signature + 3, text, strlen((char *)text) + 1);
    return true;
}
