/*
 * JSON from outside: what is refused before a tree is made, and that the memory which is foretold is never exceeded.
 */
#include "unit.h"

#include <malloc.h>
#include <string.h>

#include "core/base/json.h"

static const struct els_json_limits wide = {ELS_JSON_MAX_DEPTH, 1 << 22, ELS_JSON_MAX_STRING};

/* What jansson holds now and held at most, as malloc counts it. */
static size_t held, most, calls;

static void *counted_malloc(size_t size)
{
    void *p = malloc(size);

    calls++;
    held += malloc_usable_size(p) + sizeof(size_t);
    most = held > most ? held : most;
    return p;
}

static void counted_free(void *p)
{
    if (p)
        held -= malloc_usable_size(p) + sizeof(size_t);
    free(p);
}

static int parse(const char *text, size_t size, int depth, size_t values, size_t string, struct els_error *err)
{
    const struct els_json_limits limits = {depth, values, string};
    json_t *root = NULL;
    int r = els_json_parse(&root, text, size, &limits, "x", err);

    json_decref(root);
    return r;
}

static int parse_text(const char *text, int depth, size_t values, size_t string)
{
    struct els_error err = {0};
    int r = parse(text, strlen(text), depth, values, string, &err);

    ck_assert(r == 0 || strcmp(err.field, "x") == 0);
    return r;
}

START_TEST(test_limits)
{
    /* Brackets, braces and commas in strings do not count, nor do keys. */
    ck_assert_int_eq(parse_text("[\"[[[[[[\\\"[[[[\", 1]", 1, 3, 20), 0);
    ck_assert_int_eq(parse_text("{\"a,{\":1, \"b\":\"{,\"}", 1, 3, 20), 0);
    ck_assert_int_eq(parse_text("[[1]]", 1, 9, 9), ELS_EFORMAT);
    ck_assert_int_eq(parse_text("[[1]]", 2, 3, 9), 0);
    ck_assert_int_eq(parse_text("[1,2,3]", 1, 3, 9), ELS_ELIMIT);
    ck_assert_int_eq(parse_text("[1,2,3]", 1, 4, 9), 0);
    ck_assert_int_eq(parse_text("[{},{}]", 2, 2, 9), ELS_ELIMIT);
    ck_assert_int_eq(parse_text("[{},{}]", 2, 3, 9), 0);
    ck_assert_int_eq(parse_text("{\"a\":{\"b\":[]}}", 3, 3, 1), 0);
    ck_assert_int_eq(parse_text("{\"a\":{\"b\":[]}}", 3, 2, 1), ELS_ELIMIT);
    ck_assert_int_eq(parse_text("[\"four\"]", 1, 2, 4), 0);
    ck_assert_int_eq(parse_text("[\"fives\"]", 1, 2, 4), ELS_ELIMIT);
    ck_assert_int_eq(parse_text("{\"fives\":1}", 1, 2, 4), ELS_ELIMIT);
    ck_assert_int_eq(parse_text("\"fives", 1, 2, 4), ELS_ELIMIT);
    ck_assert_int_eq(parse_text("1e999", 1, 3, 9), ELS_EFORMAT);
    ck_assert_int_eq(parse_text("", 1, 3, 9), ELS_EFORMAT);
}
END_TEST

START_TEST(test_long_numbers)
{
    char text[1200];

    memset(text, '1', sizeof(text));
    text[ELS_JSON_MAX_NUMBER + 2] = '\0';
    text[0] = '[';
    text[1] = '0';
    text[2] = '.';
    text[ELS_JSON_MAX_NUMBER + 1] = ']';
    ck_assert_int_eq(parse_text(text, 1, 3, 9), 0);
    text[ELS_JSON_MAX_NUMBER + 1] = '1';
    text[ELS_JSON_MAX_NUMBER + 2] = ']';
    text[ELS_JSON_MAX_NUMBER + 3] = '\0';
    ck_assert_int_eq(parse_text(text, 1, 3, 9), ELS_ELIMIT);
}
END_TEST

/* What is too much is refused where it becomes too much, without one allocation. */
START_TEST(test_refused_without_a_tree)
{
    static const struct {
        const char *begin, *part, *say;
    } floods[] = {
        {"{\"a\":[", "{},", "200000 values"}, {"[", "[],", "200000 values"},      {"[", "0,", "200000 values"},
        {"[", "\"\",", "200000 values"},      {"{", "\"a\":{},", "200000 values"}, {"", "0 ", "200000 values"},
        {"[\"", "x", "8388608 bytes"},        {"[\"", "\\\"", "8388608 bytes"},   {"{\"", "x", "8388608 bytes"},
        {"[", "7", "1000 characters"},        {"", "[", "64 levels"},             {"", "{\"a\":", "64 levels"},
    };
    const size_t size = 64 << 20;
    const struct els_json_limits limits = {64, 200000, 8 << 20};
    char *text = malloc(size);

    json_set_alloc_funcs(counted_malloc, counted_free);
    for (size_t i = 0; i < sizeof(floods) / sizeof(*floods); i++) {
        size_t n = strlen(floods[i].begin), part = strlen(floods[i].part);
        struct els_error err = {0};
        json_t *root = NULL;

        memcpy(text, floods[i].begin, n);
        memcpy(text + n, floods[i].part, part);
        for (size_t filled = part, more; n + filled < size; filled += more) { /* twice as many each time */
            more = n + 2 * filled < size ? filled : size - n - filled;
            memcpy(text + n + filled, text + n, more);
        }
        calls = 0;
        ck_assert_int_lt(els_json_parse(&root, text, size, &limits, "x", &err), 0);
        ck_assert_msg(strstr(err.message, floods[i].say) != NULL, "%zu: %s", i, err.message);
        ck_assert_uint_eq(calls, 0);
    }
    json_set_alloc_funcs(malloc, free);
    free(text);
}
END_TEST

/* n parts between begin and end, as a new string; %d in a part is its number. */
static char *repeated(const char *begin, const char *part, int n, const char *end)
{
    size_t space = strlen(begin) + strlen(end) + (strlen(part) + 16) * (size_t)n + 1;
    char *text = malloc(space);
    size_t used = (size_t)snprintf(text, space, "%s", begin);

    for (int i = 0; i < n; i++) {
        const char *number = strstr(part, "%d");

        used += number ? (size_t)snprintf(text + used, space - used, "%.*s%d%s", (int)(number - part), part, i, number + 2)
                       : (size_t)snprintf(text + used, space - used, "%s", part);
    }
    snprintf(text + used, space - used, "%s", end);
    return text;
}

/* Every shape that is dear, at sizes around those where jansson's tables double. */
START_TEST(test_memory_is_foretold)
{
    static const struct {
        const char *begin, *part, *end;
    } shapes[] = {
        {"[0", ",{}", "]"},
        {"[0", ",[]", "]"},
        {"[0", ",%d", "]"},
        {"[0", ",1.5e%d", ""},
        {"[0", ",\"\"", "]"},
        {"[0", ",\"twenty-four characters..\"", "]"},
        {"{\"a\":0", ",\"%d\":{}", "}"},
        {"{\"a\":0", ",\"%d\":0", "}"},
        {"{\"a\":0", ",\"a key of some length, %d\":{\"b\":{\"c\":[]}}", "}"},
        {"{\"a\":0", ",\"%d\":\"\\u20ac\\u20ac\"", "}"},
        {"[0", ",[[[[{\"a\":[[{}]]}]]]]", "]"},
        {"[0", ",{\"a\":1,\"b\":2,\"c\":3,\"d\":4,\"e\":5,\"f\":6,\"g\":7,\"h\":8,\"i\":9}", "]"},
        {"[\"", "x", "\"]"},
        {"[\"", "\\n", "\"]"},
        {"{\"", "x", "\":\"\"}"},
        {"[", "[0,", "x"},
        {"{\"a\":", "{}", ""},
        {"", "{} ", ""},
        {"", "[}", ""},
    };
    static const int counts[] = {0, 1, 2, 7, 8, 9, 63, 64, 65, 1023, 1024, 1025, 5000};

    json_set_alloc_funcs(counted_malloc, counted_free);
    for (size_t i = 0; i < sizeof(shapes) / sizeof(*shapes); i++) {
        for (size_t k = 0; k < sizeof(counts) / sizeof(*counts); k++) {
            char *text = repeated(shapes[i].begin, shapes[i].part, counts[k], shapes[i].end);
            struct els_json_size size;
            json_t *root = NULL;

            if (els_json_measure(&size, text, strlen(text), &wide, "x", NULL) == 0) {
                held = most = 0;
                els_json_parse(&root, text, strlen(text), &wide, "x", NULL);
                ck_assert_msg(most <= els_json_memory(&size), "shape %zu, %d parts: %zu bytes, not %zu", i, counts[k],
                              most, els_json_memory(&size));
                json_decref(root);
                ck_assert_uint_eq(held, 0);
            }
            free(text);
        }
    }
    json_set_alloc_funcs(malloc, free);
}
END_TEST

START_TEST(test_what_is_counted)
{
    static const char text[] = " {\"a\" : [1, true, \"\\\"]\"], \"long\":{}} ";
    struct els_json_size size;

    ck_assert_int_eq(els_json_measure(&size, text, strlen(text), &wide, "x", NULL), 0);
    ck_assert_uint_eq(size.bytes, strlen(text));
    ck_assert_uint_eq(size.values, 6);
    ck_assert_uint_eq(size.containers, 3);
    ck_assert_uint_eq(size.keys, 2);
    ck_assert_uint_eq(size.longest, 4);
    ck_assert_int_eq(size.depth, 2);
}
END_TEST

UNIT_MAIN("json", test_limits, test_long_numbers, test_refused_without_a_tree, test_memory_is_foretold,
          test_what_is_counted)
