/*
 * Routing: which pattern a path has, what is decoded, what is allowed.
 */
#include "unit.h"

#include <string.h>

#include "server/http/router.h"

static const struct srv_route jobs[] = {
    {"GET", "/v1/jobs", NULL, 0},
    {"POST", "/v1/jobs", NULL, 0},
    {"GET", "/v1/jobs/{id}", NULL, 0},
    {"DELETE", "/v1/jobs/{id}", NULL, 0},
    {"GET", "/v1/jobs/{id}/images/{i}/steps/{s}", NULL, 0},
    {0},
};
static const struct srv_route rest[] = {
    {"GET", "/", NULL, 0},
    {"GET", "/js/main.js", NULL, 0},
    {0},
};
static const struct srv_route *const tables[] = {jobs, rest, NULL};

static struct srv_match match;

static const struct srv_route *find(const char *method, const char *path)
{
    srv_router_find(tables, method, path, &match);
    return match.route;
}

START_TEST(test_finds)
{
    ck_assert_ptr_eq(find("GET", "/v1/jobs"), &jobs[0]);
    ck_assert_ptr_eq(find("POST", "/v1/jobs"), &jobs[1]);
    ck_assert_ptr_eq(find("GET", "/v1/jobs/ab12"), &jobs[2]);
    ck_assert_uint_eq(match.num_args, 1);
    ck_assert_str_eq(match.args[0], "ab12");
    ck_assert_ptr_eq(find("GET", "/v1/jobs/a/images/7/steps/19"), &jobs[4]);
    ck_assert_uint_eq(match.num_args, 3);
    ck_assert_str_eq(match.args[1], "7");
    ck_assert_str_eq(match.args[2], "19");
    ck_assert_ptr_eq(find("GET", "/"), &rest[0]);
    ck_assert_ptr_eq(find("GET", "/js/main.js"), &rest[1]);
}
END_TEST

START_TEST(test_head_is_get)
{
    ck_assert_ptr_eq(find("HEAD", "/v1/jobs"), &jobs[0]);
    ck_assert_ptr_eq(find("HEAD", "/v1/jobs/x"), &jobs[2]);
}
END_TEST

START_TEST(test_unknown_paths)
{
    static const char *const unknown[] = {
        "/v1",
        "/v1/",
        "/v1/jobs/",
        "//",
        "/v1/jobs//images/1/steps/2",
        "/v1/jobs/a/b",
        "/v2/jobs",
        "/v1/jobsx",
        "",
        "/v1/jobs/a/images/1/steps/2/",
        "*",
        "/js/main.jsx",
        "/js",
        "v1/jobs",
        "/V1/jobs",
    };

    for (size_t i = 0; i < sizeof(unknown) / sizeof(*unknown); i++) {
        ck_assert_msg(!find("GET", unknown[i]), "%s", unknown[i]);
        ck_assert_ptr_null(match.pattern);
        ck_assert_str_eq(match.allowed, "");
    }
}
END_TEST

START_TEST(test_other_methods)
{
    ck_assert_ptr_null(find("PATCH", "/v1/jobs"));
    ck_assert_str_eq(match.allowed, "GET, HEAD, POST, OPTIONS");
    ck_assert_ptr_null(find("get", "/v1/jobs/x"));
    ck_assert_str_eq(match.allowed, "GET, HEAD, DELETE, OPTIONS");
    ck_assert_ptr_null(find("HEADER", "/"));
    ck_assert_str_eq(match.allowed, "GET, HEAD, OPTIONS");
}
END_TEST

START_TEST(test_arguments_are_decoded)
{
    ck_assert_ptr_nonnull(find("GET", "/v1/jobs/..%2f..%2Fetc"));
    ck_assert_str_eq(match.args[0], "../../etc");
    ck_assert_ptr_nonnull(find("GET", "/v1/jobs/a+b"));
    ck_assert_str_eq(match.args[0], "a+b");
    ck_assert_ptr_null(find("GET", "/v1/jobs/a%00b"));
    ck_assert_ptr_null(find("GET", "/v1/jobs/a%0"));
    ck_assert_ptr_null(find("GET", "/v1/jobs/a%"));
    ck_assert_ptr_null(find("GET", "/v1/jobs/%zz"));
}
END_TEST

START_TEST(test_long_arguments)
{
    char path[400] = "/v1/jobs/";
    size_t n = strlen(path);

    memset(path + n, 'a', SRV_MAX_ARG - 1);
    ck_assert_ptr_nonnull(find("GET", path));
    ck_assert_uint_eq(strlen(match.args[0]), SRV_MAX_ARG - 1);
    path[n + SRV_MAX_ARG - 1] = 'a';
    ck_assert_ptr_null(find("GET", path));
}
END_TEST

START_TEST(test_percent_decoding)
{
    char out[8];

    ck_assert(srv_percent_decode("a%41+", 5, out, sizeof(out), true));
    ck_assert_str_eq(out, "aA ");
    ck_assert(srv_percent_decode("", 0, out, sizeof(out), true));
    ck_assert_str_eq(out, "");
    ck_assert(srv_percent_decode("1234567", 7, out, sizeof(out), false));
    ck_assert(!srv_percent_decode("12345678", 8, out, sizeof(out), false));
    ck_assert(!srv_percent_decode("%4", 2, out, sizeof(out), false));
    ck_assert(!srv_percent_decode("%41", 2, out, sizeof(out), false));
}
END_TEST

UNIT_MAIN("router", test_finds, test_head_is_get, test_unknown_paths, test_other_methods,
          test_arguments_are_decoded, test_long_arguments, test_percent_decoding)
