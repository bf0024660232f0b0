/* Where deliveries may go, and how they are signed. */
#include <arpa/inet.h>
#include <check.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "base/types.h"
#include "executors/webhook_net.h"
#include "executors/webhook_sign.h"

static bool
is_public(const char *text)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    if (inet_pton(AF_INET, text, &v4.sin_addr) == 1)
        return pl_webhook_address_is_public((struct sockaddr *)&v4);
    ck_assert_msg(inet_pton(AF_INET6, text, &v6.sin6_addr) == 1, "%s", text);
    return pl_webhook_address_is_public((struct sockaddr *)&v6);
}

START_TEST(private_addresses_are_known)
{
    static const char *const inside[] = {
        "0.0.0.0",
        "10.0.0.1",
        "10.255.255.255",
        "100.64.0.1",
        "100.127.255.255",
        "127.0.0.1",
        "127.255.255.254",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.8",
        "192.168.0.1",
        "198.18.0.1",
        "198.19.255.255",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:10.0.0.1",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "fc00::1",
        "fdff::1",
        "fe80::1",
        "febf::1",
        "fec0::1",
        "ff02::1",
        "2002:7f00:1::",
        "2001::1",
        "2001:db8::1",
        "64:ff9b:1::1",
    };
    static const char *const outside[] = {
        "1.1.1.1",     "9.255.255.255",   "11.0.0.0",       "100.63.255.255",   "100.128.0.0",
        "126.0.0.1",   "128.0.0.1",       "172.15.255.255", "172.32.0.0",       "192.167.255.255",
        "192.169.0.0", "198.17.255.255",  "198.20.0.0",     "223.255.255.255",  "2606:4700::1111",
        "2a00::1",     "2001:4860::8888", "::ffff:8.8.8.8", "64:ff9b::808:808",
    };
    for (size_t i = 0; i < PL_ARRAY_LEN(inside); i++)
        ck_assert_msg(!is_public(inside[i]), "%s", inside[i]);
    for (size_t i = 0; i < PL_ARRAY_LEN(outside); i++)
        ck_assert_msg(is_public(outside[i]), "%s", outside[i]);
    struct sockaddr local = {.sa_family = AF_UNIX};
    ck_assert(!pl_webhook_address_is_public(&local));
}
END_TEST

START_TEST(signature_is_that_of_the_standard)
{
    static const char body[] = "{\"test\": 2432232314}";
    struct pl_webhook_key key;
    char signature[PL_WEBHOOK_SIGNATURE_BYTES];
    ck_assert(pl_webhook_key_parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", &key));
    ck_assert_uint_eq(key.len, 24);
    ck_assert(pl_webhook_sign(&key, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", body,
                              sizeof(body) - 1, signature));
    ck_assert_str_eq(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
}
END_TEST

START_TEST(keys)
{
    struct pl_webhook_key key;
    char text[700];
    ck_assert(pl_webhook_key_parse("any bytes", &key));
    ck_assert_uint_eq(key.len, 9);
    ck_assert(pl_webhook_key_parse("whsec_QQ==", &key));
    ck_assert_uint_eq(key.len, 1);
    ck_assert_int_eq(key.bytes[0], 'A');
    ck_assert(!pl_webhook_key_parse("", &key));
    ck_assert(!pl_webhook_key_parse("whsec_", &key));
    ck_assert(!pl_webhook_key_parse("whsec_abc", &key));
    ck_assert(!pl_webhook_key_parse("whsec_!!!!", &key));
    memset(text, 'x', sizeof(text));
    text[PL_WEBHOOK_KEY_BYTES + 1] = '\0';
    ck_assert(!pl_webhook_key_parse(text, &key));
    text[PL_WEBHOOK_KEY_BYTES] = '\0';
    ck_assert(pl_webhook_key_parse(text, &key));
    memset(text, 'A', sizeof(text));
    memcpy(text, "whsec_", 6);
    text[6 + 684] = '\0';
    ck_assert(!pl_webhook_key_parse(text, &key));
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("webhook");
    TCase *tcase = tcase_create("webhook");
    tcase_add_test(tcase, private_addresses_are_known);
    tcase_add_test(tcase, signature_is_that_of_the_standard);
    tcase_add_test(tcase, keys);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
