/*
 * A client's JSON: what is refused as no JSON (400), as no object (422), and what is taken.
 */
#include "unit.h"

#include <string.h>

#include "server/base/json_body.h"

static struct srv_json_error error;

static int status_of(const char *text, size_t size)
{
    json_t *json = srv_json_parse(text, size, NULL, &error);

    if (!json)
        return error.status;
    json_decref(json);
    return 200;
}

START_TEST(test_taken)
{
    static const char *const good[] = {"",
                                       " \r\n\t",
                                       "{}",
                                       "{\"a\":[1,2.5e3,null,true,\"x\"]}",
                                       " {\"a\":{\"b\":{}}} ",
                                       "{\"a\":\"[[[[{{{{\\\"\"}"};

    for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++)
        ck_assert_msg(status_of(good[i], strlen(good[i])) == 200, "%s: %s", good[i], error.detail);
    ck_assert_int_eq(status_of(NULL, 0), 200);
}
END_TEST

START_TEST(test_not_json)
{
    static const char *const bad[] = {
        "{",
        "}",
        "nope",
        "{\"a\":}",
        "{\"a\":1,}",
        "{'a':1}",
        "{\"a\":01}",
        "{\"a\":NaN}",
        "{\"a\":1} x",
        "{\"a\":\"\xff\"}",
        "{\"a\":\"\\ud800\"}",
        "{\"a\":1,\"a\":2}",
        "{\"a\":{\"b\":1,\"b\":1}}",
        "{\"a\":1e999}",
        "{\"a\":-1e999}",
        "{\"a\":99999999999999999999}",

        "\"open",
        "{\"a\":\"\n\"}",
        "\xef\xbb\xbf{}",
    };

    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        ck_assert_msg(status_of(bad[i], strlen(bad[i])) == 400, "%s", bad[i]);
    ck_assert_int_eq(status_of("{}\0{}", 5), 400);
    ck_assert_int_eq(status_of("\0", 1), 400);
}
END_TEST

START_TEST(test_no_object)
{
    static const char *const other[] = {"[]", "null", "3", "\"text\"", "true", "[{}]"};

    for (size_t i = 0; i < sizeof(other) / sizeof(*other); i++)
        ck_assert_msg(status_of(other[i], strlen(other[i])) == 422, "%s", other[i]);
}
END_TEST

START_TEST(test_no_text_is_cut_short)
{
    static const struct {
        const char *text, *pointer;
    } cases[] = {
        {"{\"a\":\"\\u0000\"}", "/a"},
        {"{\"a\":\"x\",\"b~/\":[1,{\"c\":\"y\\u0000z\"}]}", "/b~0~1/1/c"},
        {"{\"a\\u0000\":1}", ""},
    };
    char text[600];

    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        ck_assert_int_eq(status_of(cases[i].text, strlen(cases[i].text)), 422);
        ck_assert_str_eq(error.pointer, cases[i].pointer);
    }
    /* A name that is too long for the pointer. */
    snprintf(text, sizeof(text), "{\"a\":{\"%0500d\":\"\\u0000\"}}", 0);
    ck_assert_int_eq(status_of(text, strlen(text)), 422);
    ck_assert_str_eq(error.pointer, "/a");
}
END_TEST

START_TEST(test_depth)
{
    static char text[400000];
    size_t n = 0;

    for (int depth = SRV_JSON_MAX_DEPTH; depth <= SRV_JSON_MAX_DEPTH + 1; depth++) {
        n = 0;
        for (int i = 0; i < depth - 1; i++, n += 5)
            memcpy(text + n, "{\"a\":", 5);
        memcpy(text + n, "[]", 2);
        n += 2;
        memset(text + n, '}', (size_t)depth - 1);
        n += (size_t)depth - 1;
        ck_assert_int_eq(status_of(text, n), depth == SRV_JSON_MAX_DEPTH ? 200 : 400);
    }
    ck_assert_str_eq(error.code, "json_too_deep");
    memset(text, '[', sizeof(text));
    ck_assert_int_eq(status_of(text, sizeof(text)), 400);
    memset(text, ']', sizeof(text));
    ck_assert_int_eq(status_of(text, sizeof(text)), 400);
    text[0] = '"';
    text[sizeof(text) - 1] = '\\';
    ck_assert_int_eq(status_of(text, sizeof(text)), 400);
}
END_TEST

/* Which part of a body is too much; test_json.c has what the walk itself refuses. */
START_TEST(test_too_large)
{
    static const struct {
        const char *begin, *part, *end, *say;
        size_t times;
    } cases[] = {
        {"{\"a\":[0", ",{}", "]}", "more than 200000 values", SRV_JSON_MAX_VALUES},
        {"{\"a\":[0", ",1", "]}", "more than 200000 values", SRV_JSON_MAX_VALUES},
        {"{\"a\":\"", "x", "\"}", "more than 8388608 bytes", SRV_JSON_MAX_STRING + 1},
        {"{\"", "x", "\":1}", "more than 8388608 bytes", SRV_JSON_MAX_STRING + 1},
        {"{\"a\":", "1", "}", "more than 1000 characters", 1001},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        size_t part = strlen(cases[i].part), n = strlen(cases[i].begin);
        char *text = malloc(cases[i].times * part + 100);

        memcpy(text, cases[i].begin, n);
        for (size_t k = 0; k < cases[i].times; k++, n += part)
            memcpy(text + n, cases[i].part, part);
        memcpy(text + n, cases[i].end, strlen(cases[i].end));
        n += strlen(cases[i].end);
        ck_assert_int_eq(status_of(text, n), 413);
        ck_assert_str_eq(error.code, "json_too_large");
        ck_assert_msg(strstr(error.detail, cases[i].say) != NULL, "%s", error.detail);
        free(text);
    }
}
END_TEST

/* The largest body that means something: see json_body.h. */
START_TEST(test_the_largest_body_is_read)
{
    static const struct {
        const char *name;
        int n;
    } lists[] = {{"images", 65536}, {"classes", 65536}, {"alpha_bar", 10001}, {"t", 10000}, {"p", 10000}, {"seeds", 10000}};
    size_t space = 4 << 20, n = 1;
    char *text = malloc(space + (5 << 20));

    text[0] = '{';
    for (size_t i = 0; i < sizeof(lists) / sizeof(*lists); i++) {
        n += (size_t)snprintf(text + n, space - n, "\"%s\":[0", lists[i].name);
        for (int k = 1; k < lists[i].n; k++)
            n += (size_t)snprintf(text + n, space - n, ",%d", k);
        n += (size_t)snprintf(text + n, space - n, "],");
    }
    n += (size_t)snprintf(text + n, space - n, "\"noise\":{\"npy_base64\":\"");
    memset(text + n, 'A', 4 << 20);
    n += 4 << 20;
    memcpy(text + n, "\"}}", 3);
    ck_assert_int_eq(status_of(text, n + 3), 200);
    free(text);
}
END_TEST

START_TEST(test_stored)
{
    json_t *json = srv_json_stored("{\"a\":[1]}");

    ck_assert(json_is_object(json));
    json_decref(json);
    json = srv_json_stored("\"text\"");
    ck_assert(json_is_string(json));
    json_decref(json);
    ck_assert_ptr_null(srv_json_stored(NULL));
    ck_assert_ptr_null(srv_json_stored("{"));
    ck_assert_ptr_null(srv_json_stored("{\"a\":1,\"a\":1}"));
}
END_TEST

UNIT_MAIN("json_body", test_taken, test_not_json, test_no_object, test_no_text_is_cut_short,
          test_depth, test_too_large, test_the_largest_body_is_read, test_stored)
