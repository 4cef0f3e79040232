/*
 * The depth of a TOML text. toml++ recurses once for every level of a table, and a dotted key of n parts is n tables
 * inside each other, so a line of `a.a.a.…` could use up the stack. Called by config_toml.cpp before toml++ is, by the
 * main thread.
 *
 * Two things are counted: brackets and braces that are open, and the dots since the last character that ends a key.
 * With both at most D, no table is deeper than (D + 1)². What stands in strings and comments does not count. The text
 * is read as toml++ reads it up to its first error, and there toml++ stops.
 */
#include "server/config/config_depth.h"

#include <stdbool.h>
#include <string.h>

struct reader {
    const char *at, *end;
    int line;
    int depth; /* brackets and braces that are open */
    int dots;  /* of the key, or number, that is being read */
};

static void skip_comment(struct reader *r)
{
    while (r->at < r->end && *r->at != '\n')
        r->at++;
}

/* Past the closing quotes. A string in one pair of quotes that does not end on its line is no TOML: it ends there. */
static void skip_string(struct reader *r)
{
    char quote = *r->at;
    bool is_long = r->end - r->at >= 3 && r->at[1] == quote && r->at[2] == quote;

    for (r->at += is_long ? 3 : 1; r->at < r->end; r->at++) {
        char c = *r->at;

        if (c == '\n' && !is_long)
            return;
        r->line += c == '\n';
        if (c == '\\' && quote == '"' && r->end - r->at >= 2 && r->at[1] != '\n')
            r->at++;
        else if (c == quote && !is_long)
            break;
        else if (c == quote && r->end - r->at >= 3 && r->at[1] == quote && r->at[2] == quote)
            break;
    }
    if (r->at == r->end)
        return;
    r->at += is_long ? 3 : 1;
    /* """ends with a quote"""": two more quotes may belong to the string. */
    for (int more = 0; is_long && more < 2 && r->at < r->end && *r->at == quote; more++)
        r->at++;
}

static void read_mark(struct reader *r)
{
    char c = *r->at++;

    if (c == '.') {
        r->dots++;
        return;
    }
    if (c == '[' || c == '{')
        r->depth++;
    else if ((c == ']' || c == '}') && r->depth > 0)
        r->depth--;
    else if (c == '\n')
        r->line++;
    if (strchr("=,[]{}\n", c))
        r->dots = 0;
}

int srv_toml_check_depth(const char *text, size_t size, struct els_error *err)
{
    struct reader r = {.at = text, .end = text + size, .line = 1};

    while (r.at < r.end) {
        if (*r.at == '#')
            skip_comment(&r);
        else if (*r.at == '"' || *r.at == '\'')
            skip_string(&r);
        else
            read_mark(&r);
        if (r.depth > SRV_TOML_MAX_DEPTH)
            return els_fail(err, ELS_EFORMAT, "config",
                            "line %d nests too deeply: TOML arrays and tables may be at most %d levels deep here",
                            r.line, SRV_TOML_MAX_DEPTH);
        if (r.dots > SRV_TOML_MAX_DEPTH)
            return els_fail(err, ELS_EFORMAT, "config",
                            "line %d has a key of too many parts: a dotted TOML key may have at most %d dots here",
                            r.line, SRV_TOML_MAX_DEPTH);
    }
    return 0;
}
