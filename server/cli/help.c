/*
 * Help, printed from the same tables that parse: names, bounds, words and defaults cannot disagree
 * with what is accepted. Called from main's thread.
 */
#include <stdio.h>
#include <string.h>

#include "els/mem.h"
#include "server/cli/options.h"

enum { COLUMN = 30, WIDTH = 80, MAX_TEXT = 4096 };

/* Prints words wrapped at WIDTH, `at` being the column that the cursor stands in. */
static void print_wrapped(const char *text, size_t size, int at, int indent)
{
    const char *end = text + size;

    while (text < end) {
        const char *space = memchr(text, ' ', (size_t)(end - text));
        int length = (int)((space ? space : end) - text);

        if (at > indent && at + 1 + length > WIDTH) {
            printf("\n%*s", indent, "");
            at = indent;
        } else if (at > indent) {
            putchar(' ');
            at++;
        }
        printf("%.*s", length, text);
        at += length;
        text += length + (space ? 1 : 0);
    }
    putchar('\n');
}

static void add_words(struct els_buffer *b, const struct cli_option *o, const void *value)
{
    int chosen = *(const int *)value;
    const char *word;

    els_buffer_printf(b, ":");
    for (int i = 0; (word = o->word(i)); i++)
        els_buffer_printf(b, "%s %s%s", i ? "," : "", word, i == chosen ? " (default)" : "");
}

/* Bounds, and the default where there is one: "(1 to 16, default 1)". */
static void add_numbers(struct els_buffer *b, const struct cli_option *o, const char *each,
                        const double *fallback)
{
    els_buffer_printf(b, " (%s%.16g to %.16g", each, o->min, o->max);
    if (fallback && *fallback >= o->min)
        els_buffer_printf(b, ", default %g", *fallback);
    els_buffer_printf(b, ")");
}

/* What the table knows beside the prose. */
static void add_facts(struct els_buffer *b, const struct cli_option *o, const void *value)
{
    double fallback;

    switch (o->kind) {
    case CLI_WORD:
        add_words(b, o, value);
        break;
    case CLI_INTEGER:
        fallback = (double)*(const int64_t *)value;
        add_numbers(b, o, "", &fallback);
        break;
    case CLI_REAL:
        add_numbers(b, o, "", value);
        break;
    case CLI_TEXT:
        if (*(const char *const *)value)
            els_buffer_printf(b, " (default %s)", *(const char *const *)value);
        break;
    case CLI_INTEGERS:
    case CLI_REALS:
    case CLI_SIDES:
        add_numbers(b, o, "each ", NULL);
        break;
    case CLI_FLAG:
        break;
    }
}

static void print_option(const struct cli_option *o, const void *defaults)
{
    struct els_buffer text = ELS_BUFFER_INIT(MAX_TEXT);
    char left[64];

    snprintf(left, sizeof(left), "  %c%c%s--%s %s", o->letter ? '-' : ' ',
             o->letter ? o->letter : ' ', o->letter ? ", " : "  ", o->name,
             o->argument ? o->argument : "");
    /* Two spaces at least before the prose. */
    if (strlen(left) > COLUMN - 2)
        printf("%s\n%*s", left, COLUMN, "");
    else
        printf("%-*s", COLUMN, left);
    els_buffer_printf(&text, "%s", o->help);
    add_facts(&text, o, (const char *)defaults + o->offset);
    if (o->required)
        els_buffer_printf(&text, " (required)");
    print_wrapped((const char *)text.data, text.size, COLUMN, COLUMN);
    els_buffer_deinit(&text);
}

void cli_help(const struct cli_command *command, const void *defaults)
{
    printf("els %s: %s\n\nusage: els %s%s%s [options]\n\n", command->name, command->summary,
           command->name, *command->operands ? " " : "", command->operands);
    if (command->details) {
        print_wrapped(command->details, strlen(command->details), 0, 0);
        putchar('\n');
    }
    for (int t = 0; command->tables[t]; t++) {
        for (const struct cli_option *o = command->tables[t]; o->name; o++)
            print_option(o, defaults);
    }
    printf("  -h, --help                  this text\n");
    if (command->examples)
        printf("\nexamples:\n");
    for (const char *const *e = command->examples; e && *e; e += 2)
        printf("\n  # %s\n  %s\n", e[0], e[1]);
}
