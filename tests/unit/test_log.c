/*
 * The log: its two forms, what is escaped, and that a client cannot forge anything.
 */
#include "unit.h"

#include <jansson.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "log.h"

static char text[1 << 16];
static int saved, file;

static void catch_stderr(void)
{
    char path[] = "/tmp/test_log.XXXXXX";

    file = mkstemp(path);
    ck_assert_int_ge(file, 0);
    unlink(path);
    saved = dup(STDERR_FILENO);
    ck_assert_int_ge(dup2(file, STDERR_FILENO), 0);
}

/* What was logged since catch_stderr. */
static const char *caught(void)
{
    ssize_t n;

    dup2(saved, STDERR_FILENO);
    close(saved);
    n = pread(file, text, sizeof(text) - 1, 0);
    close(file);
    ck_assert_int_ge(n, 0);
    text[n] = '\0';
    return text;
}

static struct srv_log *new_log(const char *level, const char *format)
{
    struct srv_log *log = NULL;

    ck_assert_int_eq(srv_log_new(&log, level, format), 0);
    return log;
}

/* The one line, as a parsed object. */
static json_t *log_json(const char *key, const char *value)
{
    struct srv_log *log = new_log("debug", "json");
    json_t *line;

    catch_stderr();
    srv_log(log, SRV_INFO, "event", key, value, NULL);
    caught();
    srv_log_free(log);
    ck_assert_uint_gt(strlen(text), 0);
    ck_assert_ptr_eq(strchr(text, '\n'), text + strlen(text) - 1);
    line = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    ck_assert_msg(line, "not JSON: %s", text);
    ck_assert_str_eq(json_string_value(json_object_get(line, "level")), "info");
    ck_assert_str_eq(json_string_value(json_object_get(line, "event")), "event");
    return line;
}

START_TEST(test_text)
{
    struct srv_log *log = new_log("info", "text");
    char number[32];
    int year, used = 0;

    catch_stderr();
    srv_log(log, SRV_WARNING, "job_finished", "id", "ab12", "note", "two words", "none", NULL,
            "seconds", srv_log_number(number, 1.25), NULL);
    caught();
    ck_assert_int_eq(sscanf(text, "%4d-%*2d-%*2dT%*2d:%*2d:%*2d.%*3dZ %n", &year, &used), 1);
    ck_assert_int_eq(used, 25);
    ck_assert_str_eq(text + used, "warning job_finished id=ab12 note=\"two words\" seconds=1.25\n");
    srv_log_free(log);
}
END_TEST

START_TEST(test_levels)
{
    struct srv_log *log = new_log("warning", "text");

    catch_stderr();
    srv_log(log, SRV_DEBUG, "a", NULL);
    srv_log(log, SRV_INFO, "b", NULL);
    srv_log(log, SRV_WARNING, "c", NULL);
    srv_log(log, SRV_ERROR, "d", NULL);
    srv_log(NULL, SRV_ERROR, "e", NULL);
    caught();
    ck_assert_ptr_nonnull(strstr(text, "warning c\n"));
    ck_assert_ptr_nonnull(strstr(text, "error d\n"));
    ck_assert_ptr_null(strstr(text, " a\n"));
    ck_assert_ptr_null(strstr(text, " b\n"));
    srv_log_free(log);
    ck_assert_int_lt(srv_log_new(&log, "loud", "text"), 0);
    ck_assert_int_lt(srv_log_new(&log, "info", "xml"), 0);
}
END_TEST

START_TEST(test_nothing_can_be_forged)
{
    static const char *const hostile[] = {
        "a\n2026-01-01T00:00:00.000Z info forged",
        "\r\nx",
        "\"} {\"event\":\"forged\"",
        "a\" b=\"c",
        "\\\" x",
        "\x1b[2J",
        "\x7f",
        "\xc2\x9b",
        "=",
        "",
    };
    struct srv_log *log = new_log("info", "text");

    for (size_t i = 0; i < sizeof(hostile) / sizeof(*hostile); i++) {
        json_t *line = log_json("value", hostile[i]);

        ck_assert_uint_eq(json_object_size(line), 4);

        ck_assert_str_eq(json_string_value(json_object_get(line, "value")), hostile[i]);
        json_decref(line);
        catch_stderr();
        srv_log(log, SRV_INFO, "event", "value", hostile[i], NULL);
        caught();
        ck_assert_ptr_eq(strchr(text, '\n'), text + strlen(text) - 1);
        for (const char *c = text; c < text + strlen(text) - 1; c++)
            ck_assert_int_ge((unsigned char)*c, 0x20);
        ck_assert_ptr_nonnull(strstr(text, " event value=\""));
    }
    srv_log_free(log);
}
END_TEST

START_TEST(test_bad_utf8_is_replaced)
{
    static const char *const bad[] = {"\xff",         "a\xc3",        "\xc0\x80",
                                      "\xed\xa0\x80", "\xe2\x82",     "\xf5\x80\x80\x80",
                                      "\x80",         "\xe0\x80\x80", "\xf0\x80\x80\x80"};

    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        json_t *line = log_json("value", bad[i]);

        ck_assert_ptr_nonnull(
            strstr(json_string_value(json_object_get(line, "value")), "\xef\xbf\xbd"));
        json_decref(line);
    }
}
END_TEST

START_TEST(test_good_utf8_stays)
{
    json_t *line = log_json("value", "h\xc3\xa9 \xe2\x82\xac \xf0\x9f\x99\x82");

    ck_assert_str_eq(json_string_value(json_object_get(line, "value")),
                     "h\xc3\xa9 \xe2\x82\xac \xf0\x9f\x99\x82");
    json_decref(line);
}
END_TEST

START_TEST(test_numbers)
{
    static const struct {
        double value;
        const char *text;
    } numbers[] = {
        {0, "0"},         {8080, "8080"},    {-3, "-3"},
        {0.125, "0.125"}, {1e300, "1e+300"}, {1e14, "100000000000000"},
    };
    static const char *const forged[] = {"\001",   "\001,\"event\":1", "\0011-2", "\00101",
                                         "\001.5", "\0011.",           "\0011e",  "\001+1",
                                         "\001-",  "\001nan"};
    char out[32];
    json_t *line;

    for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++) {
        ck_assert_str_eq(srv_log_number(out, numbers[i].value) + 1, numbers[i].text);
        line = log_json("value", out);
        ck_assert(json_is_number(json_object_get(line, "value")));
        ck_assert_double_eq(json_number_value(json_object_get(line, "value")), numbers[i].value);
        json_decref(line);
    }
    line = log_json("value", srv_log_number(out, NAN));
    ck_assert(json_is_null(json_object_get(line, "value")));
    json_decref(line);
    /* A client's digits are text; and its copy of our mark does no harm. */
    line = log_json("value", "17");
    ck_assert(json_is_string(json_object_get(line, "value")));
    json_decref(line);
    for (size_t i = 0; i < sizeof(forged) / sizeof(*forged); i++) {
        line = log_json("value", forged[i]);
        ck_assert(json_is_string(json_object_get(line, "value")));
        json_decref(line);
    }
}
END_TEST

START_TEST(test_long_values_are_cut_not_split)
{
    char value[20000];
    json_t *line;

    for (size_t n = 4000; n < 4200; n++) {
        memset(value, n % 2 ? 'x' : '"', n);
        value[n] = '\0';
        line = log_json("value", value);
        json_decref(line);
    }
    for (size_t n = 3900; n < 4100; n++) {
        struct srv_log *log = new_log("info", "json");
        char number[32];

        memset(value, 'x', n);
        value[n] = '\0';
        catch_stderr();
        srv_log(log, SRV_INFO, "event", "a", value, "b", "text", "c",
                srv_log_number(number, 123456), NULL);
        caught();
        line = json_loads(text, 0, NULL);
        ck_assert_ptr_nonnull(line);
        json_decref(line);
        srv_log_free(log);
    }
    memset(value, '\\', sizeof(value) - 1);
    value[sizeof(value) - 1] = '\0';
    line = log_json("value", value);
    ck_assert_uint_le(strlen(text), 4096);
    ck_assert_uint_gt(json_string_length(json_object_get(line, "value")), 1500);
    json_decref(line);
}
END_TEST

UNIT_MAIN("log", test_text, test_levels, test_nothing_can_be_forged, test_bad_utf8_is_replaced,
          test_good_utf8_stays, test_numbers, test_long_values_are_cut_not_split)
