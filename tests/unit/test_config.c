/*
 * The settings: where they come from, who overrides whom, and what is said when they are wrong.
 */
#include "unit.h"

#include <ctype.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "server/config/config.h"

static struct srv_config config;
static struct els_error err;
static int exit_now;

/* Loads with the given flags (NULL-terminated). */
__attribute__((sentinel)) static int load(const char *first, ...)
{
    char *argv[32] = {(char *)"elsd"};
    int argc = 1;
    va_list ap;

    va_start(ap, first);
    for (const char *flag = first; flag; flag = va_arg(ap, const char *))
        argv[argc++] = (char *)flag;
    va_end(ap);
    err = (struct els_error){0};
    srv_config_deinit(&config);
    return srv_config_load(&config, argc, argv, &exit_now, &err);
}

/* A file with the text; its name is valid until the next call. */
static const char *file_with(const char *text)
{
    static char path[64];
    FILE *f;
    int fd;

    snprintf(path, sizeof(path), "/tmp/test_config.XXXXXX");
    fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    f = fdopen(fd, "w");
    ck_assert_ptr_nonnull(f);
    fputs(text, f);
    fclose(f);
    return path;
}

static int load_text(const char *text)
{
    const char *path = file_with(text);
    int r = load("--config", path, NULL);

    unlink(path);
    return r;
}

static void assert_error(const char *text, const char *a, const char *b)
{
    ck_assert_int_lt(load_text(text), 0);
    ck_assert_msg(strstr(err.message, a) && strstr(err.message, b),
                  "\"%s\" or \"%s\" is missing in: %s", a, b, err.message);
}

START_TEST(test_defaults)
{
    ck_assert_int_eq(load(NULL, NULL), 0);
    ck_assert_str_eq(config.bind, "127.0.0.1");
    ck_assert_int_eq(config.port, 8080);
    ck_assert_int_eq(config.max_body_bytes, 64 << 20);
    ck_assert_int_eq(config.retention_seconds, 7 * 24 * 3600);
    ck_assert_str_eq(config.state_dir, "");
    ck_assert_str_eq(config.log_level, "info");
    ck_assert(!config.allow_unauthenticated);
    ck_assert_uint_eq(config.num_banks, 0);
    srv_config_deinit(&config);
}
END_TEST

START_TEST(test_example_is_what_the_daemon_prints)
{
    struct els_buffer example = ELS_BUFFER_INIT(1 << 16);
    char file[1 << 16];
    FILE *f = fopen(unit_path("../config.example.toml"), "rb");
    size_t n;

    ck_assert_ptr_nonnull(f);
    n = fread(file, 1, sizeof(file), f);
    fclose(f);
    ck_assert_int_eq(srv_config_write_example(&example), 0);
    ck_assert_msg(n == example.size && memcmp(file, example.data, n) == 0,
                  "config.example.toml is not what elsd --print-example-config prints");
    els_buffer_deinit(&example);
}
END_TEST

START_TEST(test_example_and_help_cover_every_key)
{
    struct els_buffer example = ELS_BUFFER_INIT(1 << 16), help = ELS_BUFFER_INIT(1 << 16);
    const char *key;
    size_t n = 0;

    ck_assert_int_eq(srv_config_write_example(&example), 0);
    ck_assert_int_eq(srv_config_write_help(&help), 0);
    ck_assert_int_eq(els_buffer_append(&example, "", 1), 0);
    ck_assert_int_eq(els_buffer_append(&help, "", 1), 0);
    for (; (key = srv_config_key(n)); n++) {
        char line[80], flag[80];

        snprintf(line, sizeof(line), "\n%s = ", key);
        snprintf(flag, sizeof(flag), "\n  --%s", key);
        for (char *c = flag; *c; c++)
            *c = *c == '_' ? '-' : *c;
        ck_assert_msg(strstr((char *)example.data, line), "the example lacks %s", key);
        ck_assert_msg(strstr((char *)help.data, flag), "the help lacks %s", key);
    }
    ck_assert_uint_gt(n, 20);
    els_buffer_deinit(&example);
    els_buffer_deinit(&help);
}
END_TEST

START_TEST(test_example_is_the_defaults)
{
    struct srv_config defaults;
    char *argv[] = {(char *)"elsd", NULL};

    ck_assert_int_eq(srv_config_load(&defaults, 1, argv, &exit_now, &err), 0);
    ck_assert_msg(load("--config", unit_path("../config.example.toml"), NULL) == 0, "%s",
                  err.message);
    ck_assert_int_eq(config.port, defaults.port);
    ck_assert_int_eq(config.max_result_bytes, defaults.max_result_bytes);
    ck_assert_int_eq(config.retention_bytes, defaults.retention_bytes);
    ck_assert_str_eq(config.cpu, defaults.cpu);
    ck_assert_uint_eq(config.num_banks, 3);
    ck_assert_str_eq(config.banks[0].name, "digits");
    srv_config_deinit(&defaults);
    srv_config_deinit(&config);
}
END_TEST

START_TEST(test_flags_over_environment_over_file)
{
    const char *path = file_with("port = 1001\nqueue_length = 1002\nhttp_threads = 3\n");

    setenv("ELSD_PORT", "2001", 1);
    setenv("ELSD_QUEUE_LENGTH", "2002", 1);
    ck_assert_int_eq(load("--config", path, "--port", "3001", NULL), 0);
    ck_assert_int_eq(config.port, 3001);
    ck_assert_int_eq(config.queue_length, 2002);
    ck_assert_int_eq(config.http_threads, 3);
    setenv("ELSD_CONFIG", path, 1);
    ck_assert_int_eq(load("--port=4001", NULL), 0);
    ck_assert_int_eq(config.port, 4001);
    ck_assert_int_eq(config.http_threads, 3);
    unlink(path);
    unsetenv("ELSD_CONFIG");
    setenv("ELSD_PORT", "70000", 1);
    ck_assert_int_lt(load(NULL, NULL), 0);
    ck_assert_ptr_nonnull(strstr(err.message, "ELSD_PORT is 70000"));
    ck_assert_ptr_nonnull(strstr(err.message, "0 to 65535"));
    unsetenv("ELSD_PORT");
    unsetenv("ELSD_QUEUE_LENGTH");
    srv_config_deinit(&config);
}
END_TEST

START_TEST(test_every_key_can_be_set_from_everywhere)
{
    const char *key;

    /* A value that no key takes shows that each place looks at each key. */
    for (size_t i = 0; (key = srv_config_key(i)); i++) {
        char name[80] = "ELSD_", flag[80] = "--", line[8300], value[5000];

        memset(value, 'x', sizeof(value) - 1);
        value[sizeof(value) - 1] = '\0';
        snprintf(name + 5, sizeof(name) - 5, "%s", key);
        snprintf(flag + 2, sizeof(flag) - 2, "%s", key);
        for (char *c = name; *c; c++)
            *c = (char)toupper((unsigned char)*c);
        for (char *c = flag; *c; c++)
            *c = *c == '_' ? '-' : *c;
        snprintf(line, sizeof(line), "\n%s = \"%s\"\n", key, value);
        ck_assert_int_lt(load_text(line), 0);
        ck_assert_str_eq(err.field, key);
        ck_assert_msg(strstr(err.message, "line 2"), "%s", err.message);
        setenv(name, value, 1);
        ck_assert_int_lt(load(NULL, NULL), 0);
        unsetenv(name);
        ck_assert_str_eq(err.field, key);
        ck_assert_ptr_nonnull(strstr(err.message, name));
        if (strcmp(key, "allow_unauthenticated") != 0) {
            ck_assert_int_lt(load(flag, value, NULL), 0);
            ck_assert_str_eq(err.field, key);
        }
    }
    srv_config_deinit(&config);
}
END_TEST

START_TEST(test_banks_keep_the_order_of_the_file)
{
    ck_assert_int_eq(load_text("[banks]\nzebra = \"z.safetensors\"\nant = \"digits\"\n"
                               "\"mid.dle\" = \"m\"\nbee = \"b\"\n"),
                     0);
    ck_assert_uint_eq(config.num_banks, 4);
    ck_assert_str_eq(config.banks[0].name, "zebra");
    ck_assert_str_eq(config.banks[0].file, "z.safetensors");
    ck_assert_str_eq(config.banks[1].name, "ant");
    ck_assert_str_eq(config.banks[2].name, "mid.dle");
    ck_assert_str_eq(config.banks[3].name, "bee");
    srv_config_deinit(&config);
}
END_TEST

START_TEST(test_later_places_replace_all_banks)
{
    const char *path = file_with("[banks]\nfile = \"digits\"\n");

    setenv("ELSD_BANKS", "one=digits,two=/a=b", 1);
    ck_assert_int_eq(load("--config", path, NULL), 0);
    ck_assert_uint_eq(config.num_banks, 2);
    ck_assert_str_eq(config.banks[1].file, "/a=b");
    ck_assert_int_eq(load("--config", path, "--bank", "flag=shapes", "--bank=second=x", NULL), 0);
    ck_assert_uint_eq(config.num_banks, 2);
    ck_assert_str_eq(config.banks[0].name, "flag");
    ck_assert_str_eq(config.banks[1].file, "x");
    unsetenv("ELSD_BANKS");
    unlink(path);
    srv_config_deinit(&config);
}
END_TEST

START_TEST(test_wrong_files)
{
    assert_error("\nport = \x01\n", "line 2", "0x01");
    assert_error("# \xff\n", "line 1", "0xff");
    assert_error("# \xc3\xa9 is fine\nport = \"\xe9\"\n", "line 2", "0xe9");
    assert_error("\n\nprot = 1\n", "line 3", "\"prot\"");
    assert_error("log-level = \"info\"\n", "line 1", "log-level");
    assert_error("port = \"x\"\n", "line 1", "whole number from 0 to 65535");
    assert_error("port = 1.5\n", "port", "whole number");
    assert_error("port = 65536\n", "65536", "0 to 65535");
    assert_error("port = 99999999999999999999\n", "line 1", "TOML");
    assert_error("bind = 5\n", "bind", "text");
    assert_error("bind = \"127.0.0.1\\u0000\"\n", "bind", "NUL");
    assert_error("bind = \"somewhere\"\n", "somewhere", "IP address");
    assert_error("log_level = \"loud\"\n", "loud", "debug info warning error");
    assert_error("allow_unauthenticated = 1\n", "allow_unauthenticated", "true or false");
    assert_error("port = \n", "line 1", "TOML");
    assert_error("port = 1\nport = 2\n", "line 2", "TOML");
    assert_error("banks = 3\n", "banks", "table");
    assert_error("[banks]\na = 1\n", "line 2", "\"a\"");
    assert_error("[banks]\n\"a/b\" = \"digits\"\n", "a/b", "letters");
    assert_error("[banks]\n\"\" = \"digits\"\n", "line 2", "name");
    assert_error("[banks.deep]\na = \"x\"\n", "deep", "text");
    assert_error("[section]\nport = 1\n", "line 1", "section");
    assert_error("port = inf\n", "port", "whole number");
    assert_error("port = 1979-05-27\n", "port", "whole number");
    assert_error("port = [1]\n", "port", "whole number");
    assert_error("\xff\xfe", "line 1", "TOML");
    srv_config_deinit(&config);
}
END_TEST

START_TEST(test_a_deep_file_is_refused)
{
    char text[5001];

    memset(text, '[', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    memcpy(text, "x = ", 4);
    assert_error(text, "line 1", "TOML");
    srv_config_deinit(&config);
}
END_TEST

/* `begin`, n times `part`, `end` in the third line. Its text is valid until the next call. */
static const char *repeated(const char *begin, const char *part, int n, const char *end)
{
    static char text[1 << 20];
    size_t used = (size_t)snprintf(text, sizeof(text), "# a\n\n%s", begin), length = strlen(part);

    for (int i = 0; i < n; i++, used += length)
        memcpy(text + used, part, length);
    snprintf(text + used, sizeof(text) - used, "%s\n", end);
    return text;
}

/* Each of them used up the stack of the parser, or of what walks its tables. */
START_TEST(test_depth_is_bounded_in_every_form)
{
    static const struct {
        const char *begin, *part, *end, *line;
    } deep[] = {
        {"", "a.", "a = 1", "line 3"},
        {"[", "a.", "a]", "line 3"},
        {"[[", "a.", "a]]", "line 3"},
        {"x = {", "a.", "a = 1}", "line 3"},
        {"", "\"a\".", "a = 1", "line 3"},
        {"", "'a' . ", "a = 1", "line 3"},
        {"x = ", "[", "", "line 3"},
        {"x = ", "[\n", "", "line 19"},
        {"x = ", "{a=", "", "line 3"},
        {"x = ", "[{a=", "", "line 3"},
        {"x = [\"]\", ", "[", "", "line 3"},
        {"x = {a='}', b=", "{a=", "", "line 3"},
        {"x = '''\"''' \n\n", "b.", "b = 1", "line 5"},
    };
    static const int times[] = {17, 50000};

    for (size_t i = 0; i < sizeof(deep) / sizeof(*deep); i++)
        for (size_t n = 0; n < 2; n++)
            assert_error(repeated(deep[i].begin, deep[i].part, times[n], deep[i].end), deep[i].line, "at most 16");
    srv_config_deinit(&config);
}
END_TEST

/* What stands in strings and comments has no depth; what is allowed is left to the settings to judge. */
START_TEST(test_depth_does_not_count_text)
{
    static const struct {
        const char *begin, *part, *end;
    } flat[] = {
        {"# ", "a.[{", ""},
        {"[banks]\nx = \"", "a.[{", "\""},
        {"[banks]\nx = '", "a.[{", "'"},
        {"[banks]\nx = \"\"\"\n\"", "a.[{", "\\\"\"\"\"\""},
        {"[banks]\nx = '''\n", "\"a.[{", "'''"},
        {"[banks]\nx = \"\\\"", "a.[{", "\""},
    };

    for (size_t i = 0; i < sizeof(flat) / sizeof(*flat); i++)
        ck_assert_msg(load_text(repeated(flat[i].begin, flat[i].part, 40, flat[i].end)) == 0, "%zu: %s", i,
                      err.message);
    assert_error(repeated("", "a.", 16, "a = 1"), "line 3", "\"a\"");
    assert_error(repeated("port = ", "[", 16, "]]]]]]]]]]]]]]]]"), "port", "whole number");
    assert_error(repeated("[banks]\na = [", "1.5,", 5000, "]"), "banks", "text");
    srv_config_deinit(&config);
}
END_TEST

START_TEST(test_a_large_file_is_refused)
{
    static char text[(1 << 20) + 2];

    memset(text, '#', sizeof(text) - 1);
    assert_error(text, "larger", "1048576");
    text[(1 << 20) - 1] = '\0';
    ck_assert_msg(load_text(text) == 0, "%s", err.message);
    srv_config_deinit(&config);
}
END_TEST

START_TEST(test_wrong_flags)
{
    static const struct {
        const char *flag, *value, *say;
    } wrong[] = {
        {"--prot", "1", "--prot"},
        {"stray", NULL, "stray"},
        {"--", NULL, "--"},
        {"--port", NULL, "needs a value"},
        {"--port", "http", "http"},
        {"--port", "", "whole number"},
        {"--port", " 1", "whole number"},
        {"--port", "1x", "1x"},
        {"--port", "-1", "-1"},
        {"--bank", "tiny", "NAME=FILE"},
        {"--bank", "tiny=", "file"},
        {"--bank", "=x", "name"},
        {"--help=x", NULL, "no value"},
        {"--allow-unauthenticated=maybe", NULL, "maybe"},
        {"--config", "/nothing/here.toml", "/nothing/here.toml"},
    };

    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
        ck_assert_int_lt(load(wrong[i].flag, wrong[i].value, NULL), 0);
        ck_assert_msg(strstr(err.message, wrong[i].say), "%s: %s", wrong[i].flag, err.message);
    }
    ck_assert_int_lt(load("--bank", "a=x", "--bank", "a=y", NULL), 0);
    ck_assert_ptr_nonnull(strstr(err.message, "second time"));
    srv_config_deinit(&config);
}
END_TEST

START_TEST(test_other_machines_need_a_word)
{
    static const char *const open[] = {"0.0.0.0", "192.168.1.4", "::", "fe80::1"};
    static const char *const closed[] = {"127.0.0.1", "127.1.2.3", "::1"};

    for (size_t i = 0; i < sizeof(open) / sizeof(*open); i++) {
        ck_assert(!srv_config_is_loopback(open[i]));
        ck_assert_int_lt(load("--bind", open[i], NULL), 0);
        ck_assert_ptr_nonnull(strstr(err.message, open[i]));
        ck_assert_ptr_nonnull(strstr(err.message, "API keys"));
        ck_assert_int_eq(load("--allow-unauthenticated", "--bind", open[i], NULL), 0);
    }
    for (size_t i = 0; i < sizeof(closed) / sizeof(*closed); i++)
        ck_assert_int_eq(load("--bind", closed[i], NULL), 0);
    srv_config_deinit(&config);
}
END_TEST

START_TEST(test_checking_does_not_start)
{
    ck_assert_int_eq(load("--check-config", NULL), 0);
    ck_assert_int_eq(exit_now, 1);
    ck_assert_int_lt(load("--check-config", "--port", "x", NULL), 0);
    ck_assert_int_eq(load("--help", NULL), 0);
    ck_assert_int_eq(exit_now, 1);
    ck_assert_int_eq(load(NULL, NULL), 0);
    ck_assert_int_eq(exit_now, 0);
    srv_config_deinit(&config);
}
END_TEST

UNIT_MAIN("config", test_defaults, test_example_is_what_the_daemon_prints,
          test_example_and_help_cover_every_key, test_example_is_the_defaults,
          test_flags_over_environment_over_file, test_every_key_can_be_set_from_everywhere,
          test_banks_keep_the_order_of_the_file, test_later_places_replace_all_banks,
          test_wrong_files, test_a_deep_file_is_refused,
          test_depth_is_bounded_in_every_form, test_depth_does_not_count_text,
          test_a_large_file_is_refused, test_wrong_flags,
          test_other_machines_need_a_word, test_checking_does_not_start)
