/*
 * The file of API keys: what a line may say, the rights of a key, and that els key add writes what is read again.
 */
#include <string.h>
#include <sys/stat.h>

#include "scratch.h"
#include "server/config/apikeys.h"
#include "unit.h"

#define ZEROS "0000000000000000000000000000000000000000000000000000000000000000"
#define ONES "1111111111111111111111111111111111111111111111111111111111111111"

static int open_text(struct srv_apikeys **out, const char *text, struct els_error *err)
{
    const char *path = spill("keys", text, strlen(text));

    ck_assert_int_eq(chmod(path, 0600), 0);
    return srv_apikeys_open(out, path, err);
}

START_TEST(test_lines_with_and_without_rights)
{
    struct srv_apikeys *keys = NULL;
    struct els_error err = {0};

    scratch_make();
    ck_assert_int_eq(open_text(&keys, "alice " ZEROS "\n  admin\t" ONES "  banks \r\n", &err), 0);
    ck_assert_uint_eq(srv_apikeys_count(keys), 2);
    ck_assert_uint_eq(srv_apikeys_rights(keys, "alice"), 0);
    ck_assert_uint_eq(srv_apikeys_rights(keys, "admin"), SRV_RIGHT_BANKS);
    ck_assert_uint_eq(srv_apikeys_rights(keys, "nobody"), 0);
    ck_assert_uint_eq(srv_apikeys_rights(keys, ""), 0);
    srv_apikeys_free(keys);
    scratch_remove();
}
END_TEST

START_TEST(test_damaged_rights_name_their_line)
{
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"alice " ZEROS "\nbob " ONES " bank\n", "line 2: \"bob\" is given the right \"bank\""},
        {"alice " ZEROS " banks,root\n", "line 1: \"alice\" is given the right \"root\""},
        {"alice " ZEROS " banks,\n", "line 1: \"alice\" is given the right \"\""},
        {"alice " ZEROS " ,banks\n", "line 1: \"alice\" is given the right \"\""},
        {"alice " ZEROS " BANKS\n", "there is no such right, but: banks"},
        {"alice " ZEROS " banksbanksbanksbanksbanksbanksbanksbanksbanksbanksbanksbanksbanksbanks\n", "no such right"},
        {"alice " ZEROS " banks more\n", "line 1 is no key"},
    };

    scratch_make();
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct srv_apikeys *keys = NULL;
        struct els_error err = {0};

        ck_assert_int_eq(open_text(&keys, cases[i].text, &err), ELS_EFORMAT);
        ck_assert_msg(strstr(err.message, cases[i].says) != NULL, "%s", err.message);
    }
    scratch_remove();
}
END_TEST

START_TEST(test_a_broken_reload_keeps_the_rights)
{
    struct srv_apikeys *keys = NULL;
    struct els_error err = {0};

    scratch_make();
    ck_assert_int_eq(open_text(&keys, "admin " ONES " banks\n", &err), 0);
    chmod(spill("other", "admin " ONES " nothing\n", 73 + 7), 0600);
    ck_assert_int_lt(srv_apikeys_reload(keys, at("other"), &err), 0);
    ck_assert_uint_eq(srv_apikeys_rights(keys, "admin"), SRV_RIGHT_BANKS);
    chmod(spill("other", "admin " ONES "\n", 71), 0600);
    ck_assert_int_eq(srv_apikeys_reload(keys, at("other"), &err), 0);
    ck_assert_uint_eq(srv_apikeys_rights(keys, "admin"), 0);
    srv_apikeys_free(keys);
    scratch_remove();
}
END_TEST

START_TEST(test_what_is_added_is_read_again)
{
    char key[SRV_APIKEY_TEXT];
    struct srv_apikey found;
    struct srv_apikeys *keys = NULL;
    struct els_error err = {0};

    scratch_make();
    ck_assert_int_eq(srv_apikeys_add(at("keys"), "bob", 0, key, &err), 0);
    ck_assert_int_eq(srv_apikeys_add(at("keys"), "admin", SRV_RIGHT_BANKS, key, &err), 0);
    /* Taking one away writes the file anew, with the rights of the others. */
    ck_assert_int_eq(srv_apikeys_remove(at("keys"), "bob", &err), 0);
    ck_assert_int_eq(srv_apikeys_open(&keys, at("keys"), &err), 0);
    ck_assert(srv_apikeys_find(keys, key, &found));
    ck_assert_str_eq(found.name, "admin");
    ck_assert_uint_eq(srv_apikeys_rights(keys, found.name), SRV_RIGHT_BANKS);
    srv_apikeys_free(keys);
    scratch_remove();
}
END_TEST

START_TEST(test_rights_as_text)
{
    char text[SRV_RIGHTS_TEXT], wrong[SRV_RIGHTS_TEXT];
    unsigned rights = 7;

    ck_assert_str_eq(srv_rights_text(0, text), "");
    ck_assert_str_eq(srv_rights_text(SRV_RIGHT_BANKS, text), "banks");
    ck_assert(srv_rights_parse("", &rights, wrong) && rights == 0);
    ck_assert(srv_rights_parse("banks,banks", &rights, wrong) && rights == SRV_RIGHT_BANKS);
    ck_assert(!srv_rights_parse("banks,x", &rights, wrong));
    ck_assert_str_eq(wrong, "x");
}
END_TEST

UNIT_MAIN("apikeys", test_lines_with_and_without_rights, test_damaged_rights_name_their_line,
          test_a_broken_reload_keeps_the_rights, test_what_is_added_is_read_again, test_rights_as_text)
