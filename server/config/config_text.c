/*
 * The settings as prose: --help and config.example.toml, both drawn from the table. Called by the
 * main thread and by the test that compares the file with this.
 */
#include "server/config/config_keys.h"

#include <ctype.h>
#include <inttypes.h>
#include <string.h>

enum { WIDTH = 96, HELP_INDENT = 8 };

/* Appends `text` in lines of at most WIDTH characters, each begun with `prefix`. */
static int write_wrapped(struct els_buffer *out, const char *prefix, const char *text)
{
    size_t room = WIDTH - strlen(prefix);
    int r = 0;

    while (r == 0 && *text) {
        size_t n = strlen(text);

        if (n > room) {
            n = room;
            while (n > 0 && text[n] != ' ')
                n--;
            if (n == 0)
                n = strcspn(text, " ");
        }
        r = els_buffer_printf(out, "%s%.*s\n", prefix, (int)n, text);
        text += n;
        text += strspn(text, " ");
    }
    return r;
}

/* "0 to 65535", "true or false", "text, json", or "" for free text. */
static void describe_range(const struct srv_key *key, char *out, size_t size)
{
    out[0] = '\0';
    if (key->type == SRV_KEY_INT)
        snprintf(out, size, "%" PRId64 " to %" PRId64, key->min, key->max);
    else if (key->type == SRV_KEY_BOOL)
        snprintf(out, size, "true or false");
    else if (key->choices)
        snprintf(out, size, "one of: %s", key->choices);
}

static void describe_default(const struct srv_key *key, char *out, size_t size)
{
    if (key->type == SRV_KEY_INT)
        snprintf(out, size, "%" PRId64, key->number);
    else if (key->type == SRV_KEY_BOOL)
        snprintf(out, size, "%s", key->number ? "true" : "false");
    else
        snprintf(out, size, "\"%s\"", key->text);
}

static int write_example_key(struct els_buffer *out, const struct srv_key *key)
{
    char range[128], value[128];
    int r;

    describe_range(key, range, sizeof(range));
    describe_default(key, value, sizeof(value));
    r = els_buffer_printf(out, "\n");
    if (r == 0)
        r = write_wrapped(out, "# ", key->doc);
    if (r == 0 && *range)
        r = els_buffer_printf(out, "# (%s)\n", range);
    if (r == 0)
        r = els_buffer_printf(out, "%s = %s\n", key->name, value);
    return r;
}

int srv_config_write_example(struct els_buffer *out)
{
    const char *section = "";
    int r = els_buffer_printf(
        out,
        "# elsd's settings, each with its default: elsd --config FILE\n"
        "# A flag (--max-body-bytes N) overrides the environment (ELSD_MAX_BODY_BYTES=N), which\n"
        "# overrides this file. Durations are in seconds, sizes in bytes. This file is what\n"
        "# elsd --print-example-config prints.\n");

    for (const struct srv_key *key = srv_keys; r == 0 && key->name; key++) {
        if (key->section != section)
            r = els_buffer_printf(out, "\n\n# ---- %s ----\n", key->section);
        section = key->section;
        if (r == 0)
            r = write_example_key(out, key);
    }
    if (r == 0)
        r = els_buffer_printf(
            out, "\n\n# ---- Banks ----\n\n"
                 "# name = a .safetensors file or a built-in bank's name. The first is the default.\n"
                 "# (--bank NAME=FILE, once for each; ELSD_BANKS=NAME=FILE,NAME=FILE)\n"
                 "[banks]\n"
                 "digits = \"digits\"\n"
                 "shapes = \"shapes\"\n"
                 "two-tone = \"two-tone\"\n"
                 "# mnist = \"/var/lib/elsd/mnist.safetensors\"\n");
    return r;
}

static int write_help_key(struct els_buffer *out, const struct srv_key *key)
{
    char flag[64], range[128], value[128], note[320], indent[HELP_INDENT + 1];
    int r;

    snprintf(flag, sizeof(flag), "%s", key->name);
    for (char *c = flag; *c; c++)
        if (*c == '_')
            *c = '-';
    describe_range(key, range, sizeof(range));
    describe_default(key, value, sizeof(value));
    snprintf(note, sizeof(note), "(%s%sdefault %s)", range, *range ? "; " : "", value);
    memset(indent, ' ', HELP_INDENT);
    indent[HELP_INDENT] = '\0';
    r = els_buffer_printf(out, "  --%s%s\n", flag,
                          key->type == SRV_KEY_INT    ? " N"
                          : key->type == SRV_KEY_TEXT ? " TEXT"
                                                      : "");
    if (r == 0)
        r = write_wrapped(out, indent, key->doc);
    if (r == 0)
        r = write_wrapped(out, indent, note);
    return r;
}

int srv_config_write_help(struct els_buffer *out)
{
    const char *section = "";
    int r = els_buffer_printf(
        out, "elsd: score machines over HTTP\n\n"
             "Usage: elsd [--config FILE] [--bank NAME=FILE …] [--KEY VALUE …]\n\n"
             "  --config FILE\n"
             "        Read settings from a TOML file (or ELSD_CONFIG=FILE).\n"
             "  --bank NAME=FILE\n"
             "        Serve a bank: a .safetensors file or a built-in bank's name. May be repeated;\n"
             "        the first is the default. Without any: digits, shapes, two-tone.\n"
             "  --check-config\n"
             "        Check the settings and exit.\n"
             "  --print-example-config\n"
             "        Print every setting with its meaning, range and default, as a TOML file.\n"
             "  --help, --version\n");

    for (const struct srv_key *key = srv_keys; r == 0 && key->name; key++) {
        if (key->section != section)
            r = els_buffer_printf(out, "\n%s:\n", key->section);
        section = key->section;
        if (r == 0)
            r = write_help_key(out, key);
    }
    if (r == 0)
        r = els_buffer_printf(
            out, "\nEvery setting is also a key of the file (max_body_bytes = N) and a variable of\n"
                 "the environment (ELSD_MAX_BODY_BYTES=N). A flag overrides the environment, which\n"
                 "overrides the file.\n");
    return r;
}
