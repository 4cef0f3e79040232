/*
 * Where settings come from: defaults, then the file, then the environment, then the flags, each
 * overriding what came before. Called by the main thread at startup; what it fills is read-only
 * afterwards. Whatever fails, the config can be freed.
 */
#include "server/config/config.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/utf8.h"
#include "server/config/config_keys.h"
#include "server/config/config_toml.h"

enum { MAX_FILE = 1 << 20, MAX_HELP = 1 << 16, LEAST_MEMORY = 64 << 20 };

/* What the flags said besides the settings. */
struct flags {
    const char *config;
    bool help, version, check, example;
};

/* ---- the file ---- */

static int read_file(struct els_buffer *out, const char *path, struct els_error *err)
{
    FILE *f = fopen(path, "rbe");
    int r = 0;

    if (!f)
        return els_fail(err, ELS_EIO, "config", "%.200s cannot be read: %s", path, strerror(errno));
    while (r == 0 && !feof(f)) {
        char block[4096];
        size_t n = fread(block, 1, sizeof(block), f);

        if (ferror(f))
            r = els_fail(err, ELS_EIO, "config", "%.200s cannot be read: %s", path,
                         strerror(errno));
        else if (els_buffer_append(out, block, n) < 0)
            r = els_fail(err, ELS_ELIMIT, "config", "%.200s is larger than %d bytes", path,
                         MAX_FILE);
    }
    fclose(f);
    return r;
}

/* TOML is UTF-8 without control characters. toml++ 3.3 asserts things that other bytes make false. */
static int check_text(const char *text, size_t size, const char *path, struct els_error *err)
{
    int line = 1;

    for (size_t i = 0, n; i < size; i += n) {
        uint32_t c = 0;

        n = text[i] ? els_utf8_decode(text + i, &c) : 0;
        if (n == 0 || (c < 0x20 && c != '\t' && c != '\n' && c != '\r') || c == 0x7f)
            return els_fail(err, ELS_EFORMAT, "config",
                            "%.200s, line %d: TOML is UTF-8 text; the byte 0x%02x is none", path, line,
                            (unsigned)(unsigned char)text[i]);
        line += c == '\n';
    }
    return 0;
}

static int add_file_banks(struct srv_config *config, const char *path, const json_t *table,
                          struct els_error *err)
{
    size_t i;
    json_t *entry;

    json_array_foreach((json_t *)table, i, entry)
    {
        const char *name = json_string_value(json_object_get(entry, "key"));
        const json_t *file = json_object_get(entry, "value");
        char where[256];
        int r;

        snprintf(where, sizeof(where), "%.160s, line %lld: banks", path,
                 (long long)json_integer_value(json_object_get(entry, "line")));
        if (!json_is_string(file))
            return els_fail(err, ELS_EINVAL, "banks", "%s: \"%.64s\" must be a text in quotes",
                            where, name);
        r = srv_config_add_bank(config, name, strlen(name), json_string_value(file), where, err);
        if (r < 0)
            return r;
    }
    return 0;
}

static int apply_entry(struct srv_config *config, const char *path, const json_t *entry,
                       struct els_error *err)
{
    const char *name = json_string_value(json_object_get(entry, "key"));
    const json_t *value = json_object_get(entry, "value");
    long long line = json_integer_value(json_object_get(entry, "line"));
    const struct srv_key *key = srv_key_find(name, strlen(name));
    char where[320];

    if (strcmp(name, "banks") == 0) {
        if (!json_is_array(value))
            return els_fail(err, ELS_EINVAL, "banks", "%.160s, line %lld: banks must be a table",
                            path, line);
        return add_file_banks(config, path, value, err);
    }
    /* A flag may be spelled with dashes, a key of the file may not. */
    if (!key || strcmp(key->name, name) != 0)
        return els_fail(err, ELS_EINVAL, name,
                        "%.160s, line %lld: there is no setting \"%.64s\" (elsd "
                        "--print-example-config lists them all)",
                        path, line, name);
    snprintf(where, sizeof(where), "%.160s, line %lld: %s", path, line, name);
    return srv_key_set_json(key, config, value, where, err);
}

static int apply_file(struct srv_config *config, const char *path, struct els_error *err)
{
    _cleanup_(els_buffer_deinit) struct els_buffer text = ELS_BUFFER_INIT(MAX_FILE);
    struct els_error inner = {0};
    json_t *entries = NULL, *entry;
    size_t i;
    int r = read_file(&text, path, err);

    if (r == 0 && els_buffer_append(&text, "", 1) < 0)
        r = els_fail(err, ELS_ELIMIT, "config", "%.200s is larger than %d bytes", path, MAX_FILE);
    if (r == 0)
        r = check_text((const char *)text.data, text.size - 1, path, err);
    if (r < 0)
        return r;
    r = srv_toml_parse(&entries, (const char *)text.data, text.size - 1, &inner);
    if (r < 0)
        return els_fail(err, r, "config", "%.160s: %.280s", path, inner.message);
    json_array_foreach(entries, i, entry)
    {
        r = apply_entry(config, path, entry, err);
        if (r < 0)
            break;
    }
    json_decref(entries);
    return r;
}

/* ---- the environment ---- */

static int add_bank_text(struct srv_config *config, const char *text, const char *where,
                         struct els_error *err)
{
    const char *equals = strchr(text, '=');

    if (!equals)
        return els_fail(err, ELS_EINVAL, "banks", "%s is \"%.64s\"; it must be NAME=FILE", where,
                        text);
    return srv_config_add_bank(config, text, (size_t)(equals - text), equals + 1, where, err);
}

static int apply_env_banks(struct srv_config *config, const char *list, struct els_error *err)
{
    char *copy = strdup(list), *rest = copy, *item;
    int r = copy ? 0 : els_fail(err, ELS_ENOMEM, "banks", "out of memory");

    srv_config_clear_banks(config);
    while (r == 0 && (item = strsep(&rest, ",")))
        if (*item)
            r = add_bank_text(config, item, "ELSD_BANKS", err);
    free(copy);
    return r;
}

static int apply_environment(struct srv_config *config, struct els_error *err)
{
    const char *banks = getenv("ELSD_BANKS");
    int r = 0;

    for (const struct srv_key *key = srv_keys; r == 0 && key->name; key++) {
        char name[64] = "ELSD_";
        const char *value;

        for (size_t i = 0; key->name[i] && i + 6 < sizeof(name); i++)
            name[i + 5] = (char)toupper((unsigned char)key->name[i]);
        value = getenv(name);
        if (value)
            r = srv_key_set_text(key, config, value, name, err);
    }
    if (r == 0 && banks)
        r = apply_env_banks(config, banks, err);
    return r;
}

/* ---- the flags ---- */

/* One flag and its value, taken apart: --name value, --name=value, or a bare --name. */
struct flag {
    const char *name; /* after the dashes */
    size_t length;
    const char *value; /* NULL: none was given with '=' */
    char where[68];    /* "--name" */
};

static bool flag_is(const struct flag *flag, const char *name)
{
    return strlen(name) == flag->length && memcmp(name, flag->name, flag->length) == 0;
}

static int split_flag(struct flag *flag, const char *argument, struct els_error *err)
{
    if (strncmp(argument, "--", 2) != 0 || !argument[2])
        return els_fail(err, ELS_EINVAL, "arguments",
                        "\"%.64s\" is not a flag; elsd --help lists them", argument);
    flag->name = argument + 2;
    flag->length = strcspn(flag->name, "=");
    flag->value = flag->name[flag->length] ? flag->name + flag->length + 1 : NULL;
    snprintf(flag->where, sizeof(flag->where), "--%.*s",
             (int)(flag->length < 64 ? flag->length : 64), flag->name);
    return 0;
}

static bool *bare_flag(struct flags *flags, const struct flag *flag)
{
    return flag_is(flag, "help")                   ? &flags->help
           : flag_is(flag, "version")              ? &flags->version
           : flag_is(flag, "check-config")         ? &flags->check
           : flag_is(flag, "print-example-config") ? &flags->example
                                                   : NULL;
}

/*
 * Walks the flags. With `config` NULL only the flags that are no settings are taken note of (the
 * file is named by a flag, but its settings come before those of the flags); otherwise the settings
 * are applied.
 */
static int walk_flags(struct srv_config *config, struct flags *flags, int argc, char **argv,
                      struct els_error *err)
{
    bool banks_seen = false;
    int r = 0;

    for (int i = 1; r == 0 && i < argc; i++) {
        const struct srv_key *key;
        struct flag flag;
        bool *bare;

        r = split_flag(&flag, argv[i], err);
        if (r < 0)
            break;
        bare = bare_flag(flags, &flag);
        if (bare) {
            if (flag.value)
                r = els_fail(err, ELS_EINVAL, "arguments", "%s takes no value", flag.where);
            *bare = true;
            continue;
        }
        key = srv_key_find(flag.name, flag.length);
        if (!key && !flag_is(&flag, "config") && !flag_is(&flag, "bank"))
            return els_fail(err, ELS_EINVAL, "arguments",
                            "there is no flag %s; elsd --help lists them", flag.where);
        if (!flag.value && key && key->type == SRV_KEY_BOOL)
            flag.value = "true";
        else if (!flag.value && i + 1 < argc)
            flag.value = argv[++i];
        if (!flag.value)
            return els_fail(err, ELS_EINVAL, "arguments", "%s needs a value", flag.where);
        if (flag_is(&flag, "config")) {
            flags->config = flag.value;
        } else if (config && key) {
            r = srv_key_set_text(key, config, flag.value, flag.where, err);
        } else if (config) {
            if (!banks_seen)
                srv_config_clear_banks(config);
            banks_seen = true;
            r = add_bank_text(config, flag.value, flag.where, err);
        }
    }
    return r;
}

/* ---- all together ---- */

bool srv_config_is_loopback(const char *address)
{
    struct in_addr v4;
    struct in6_addr v6;

    if (inet_pton(AF_INET, address, &v4) == 1)
        return ntohl(v4.s_addr) >> 24 == 127;
    return inet_pton(AF_INET6, address, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

/* What no single row can check. */
static int check_whole(const struct srv_config *config, struct els_error *err)
{
    unsigned char address[sizeof(struct in6_addr)];

    if (inet_pton(AF_INET, config->bind, address) != 1 &&
        inet_pton(AF_INET6, config->bind, address) != 1)
        return els_fail(err, ELS_EINVAL, "bind",
                        "bind is \"%.64s\"; it must be an IP address such as 127.0.0.1 or ::1",
                        config->bind);
    if (config->memory_limit && config->memory_limit < LEAST_MEMORY)
        return els_fail(err, ELS_EINVAL, "memory_limit",
                        "memory_limit is %lld; it must be 0 (a quarter of the machine's memory) or at least %lld",
                        (long long)config->memory_limit, (long long)LEAST_MEMORY);
    if (!srv_config_is_loopback(config->bind) && !*config->keys_file &&
        !config->allow_unauthenticated)
        return els_fail(
            err, ELS_EINVAL, "bind",
            "bind is %.64s, which other machines can reach, and there are no API keys; "
            "name a keys_file, listen on 127.0.0.1 behind a reverse proxy, or set "
            "allow_unauthenticated = true to serve whoever reaches the port",
            config->bind);
    return 0;
}

static int print(int (*write_text)(struct els_buffer *))
{
    _cleanup_(els_buffer_deinit) struct els_buffer text = ELS_BUFFER_INIT(MAX_HELP);
    int r = write_text(&text);

    if (r == 0 && fwrite(text.data, 1, text.size, stdout) != text.size)
        r = ELS_EIO;
    return r;
}

static int load_sources(struct srv_config *out, const struct flags *flags, int argc, char **argv,
                        struct els_error *err)
{
    struct flags again = {0};
    int r = 0;

    for (const struct srv_key *key = srv_keys; r == 0 && key->name; key++)
        r = srv_key_set_default(key, out, err);
    if (r == 0 && flags->config)
        r = apply_file(out, flags->config, err);
    if (r == 0)
        r = apply_environment(out, err);
    if (r == 0)
        r = walk_flags(out, &again, argc, argv, err);
    if (r == 0)
        r = check_whole(out, err);
    return r;
}

int srv_config_load(struct srv_config *out, int argc, char **argv, int *exit_now,
                    struct els_error *err)
{
    struct flags flags = {.config = getenv("ELSD_CONFIG")};
    int r;

    *out = (struct srv_config){0};
    *exit_now = 0;
    r = walk_flags(NULL, &flags, argc, argv, err);
    if (r < 0)
        return r;
    *exit_now = flags.help || flags.version || flags.example || flags.check;
    if (flags.help)
        return print(srv_config_write_help);
    if (flags.example)
        return print(srv_config_write_example);
    if (flags.version) {
        printf("elsd %s\n", ELS_VERSION);
        return 0;
    }
    r = load_sources(out, &flags, argc, argv, err);
    if (r == 0 && flags.check)
        printf("The settings are in order.\n");
    return r;
}

void srv_config_deinit(struct srv_config *config)
{
    for (const struct srv_key *key = srv_keys; key->name; key++)
        srv_key_clear(key, config);
    srv_config_clear_banks(config);
}
