/*
 * The command line by table: getopt_long splits it, the table says what each argument must be.
 * Called from main's thread before any other is started (getopt keeps globals of its own).
 *
 * What always holds: an option is stored only when its argument is valid; on failure one sentence
 * has been printed and every list that was allocated is freed.
 */
#include "server/cli/options.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "els/mem.h"

enum { MAX_OPTIONS = 48, FIRST_LONG = 256 };

/* The options of all tables side by side, as getopt_long wants them. */
struct index {
    const struct cli_option *option[MAX_OPTIONS];
    int seen[MAX_OPTIONS];
    struct option longs[MAX_OPTIONS + 2];
    char letters[2 * MAX_OPTIONS + 4];
    int count;
};

int cli_fail(const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    fputs("els: ", stderr);
    vfprintf(stderr, format, ap);
    fputc('\n', stderr);
    va_end(ap);
    return CLI_FAILED;
}

int cli_report(int status, const struct els_error *err)
{
    if (status == ELS_ECANCELLED)
        return cli_fail("cancelled; nothing was written");
    return cli_fail("%s", *err->message ? err->message : els_status_text(status));
}

int cli_usage(const struct cli_command *command, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    fputs("els: ", stderr);
    vfprintf(stderr, format, ap);
    fprintf(stderr, "; see els %s%s--help\n", command ? command->name : "", command ? " " : "");
    va_end(ap);
    return CLI_USAGE;
}

static void *target_of(const struct cli_option *o, void *target)
{
    return (char *)target + o->offset;
}

/* ---- one argument ---- */

static int store_word(const struct cli_command *c, const struct cli_option *o, const char *text,
                      int *out)
{
    struct els_buffer words = ELS_BUFFER_INIT(4096);
    const char *word;
    int status;

    for (int i = 0; (word = o->word(i)); i++) {
        if (strcmp(text, word) == 0) {
            els_buffer_deinit(&words);
            *out = i;
            return 0;
        }
        els_buffer_printf(&words, "%s%s", i ? ", " : "", word);
    }
    status = cli_usage(c, "--%s is \"%.60s\"; it must be one of %.*s", o->name, text,
                       (int)words.size, words.data ? (const char *)words.data : "");
    els_buffer_deinit(&words);
    return status;
}

static int store_integer(const struct cli_command *c, const struct cli_option *o, const char *text,
                         int64_t *out)
{
    if (cli_integer(text, out) < 0 || (double)*out < o->min || (double)*out > o->max)
        return cli_usage(c, "--%s is \"%.60s\"; it must be a whole number from %.0f to %.0f",
                         o->name, text, o->min, o->max);
    return 0;
}

static int store_real(const struct cli_command *c, const struct cli_option *o, const char *text,
                      double *out)
{
    if (cli_real(text, out) < 0 || *out < o->min || *out > o->max)
        return cli_usage(c, "--%s is \"%.60s\"; it must be a number from %g to %g", o->name, text,
                         o->min, o->max);
    return 0;
}

/* Cuts `text` (a copy) at the next comma; *text moves past it, or becomes NULL at the end. */
static const char *next_item(char **text)
{
    char *item = *text, *comma = strchr(item, ',');

    *text = comma ? comma + 1 : NULL;
    if (comma)
        *comma = '\0';
    return item;
}

static size_t count_items(const char *text)
{
    size_t n = 1;

    for (; *text; text++)
        n += *text == ',';
    return n;
}

/* A comma-separated list into struct cli_integers or struct cli_reals. */
static int store_list(const struct cli_command *c, const struct cli_option *o, const char *text,
                      void *target)
{
    size_t n = count_items(text);
    _cleanup_(els_freep) char *copy = strdup(text);
    _cleanup_(els_freep) int64_t *integers = NULL;
    _cleanup_(els_freep) double *reals = NULL;
    char *rest = copy;
    int status = 0;

    if (n > CLI_MAX_LIST)
        return cli_usage(c, "--%s has %zu entries; at most %d are allowed", o->name, n,
                         CLI_MAX_LIST);
    integers = els_alloc_array(n, sizeof(*integers));
    reals = els_alloc_array(n, sizeof(*reals));
    if (!copy || !integers || !reals)
        return cli_fail("out of memory for --%s", o->name);
    for (size_t i = 0; i < n && status == 0; i++) {
        const char *item = next_item(&rest);

        status = o->kind == CLI_INTEGERS ? store_integer(c, o, item, &integers[i])
                                         : store_real(c, o, item, &reals[i]);
    }
    if (status != 0)
        return status;
    if (o->kind == CLI_INTEGERS) {
        struct cli_integers *list = target;

        free(list->values);
        *list = (struct cli_integers){integers, n};
        integers = NULL;
    } else {
        struct cli_reals *list = target;

        free(list->values);
        *list = (struct cli_reals){reals, n};
        reals = NULL;
    }
    return 0;
}

static int store_sides(const struct cli_command *c, const struct cli_option *o, const char *text,
                       struct cli_sides *out)
{
    char h[16];
    const char *x = strchr(text, 'x');
    struct cli_sides s;

    if (x && (size_t)(x - text) < sizeof(h)) {
        snprintf(h, sizeof(h), "%.*s", (int)(x - text), text);
        if (cli_integer(h, &s.h) == 0 && cli_integer(x + 1, &s.w) == 0 && (double)s.h >= o->min &&
            (double)s.h <= o->max && (double)s.w >= o->min && (double)s.w <= o->max) {
            *out = s;
            return 0;
        }
    }
    return cli_usage(c,
                     "--%s is \"%.60s\"; it must be HxW, for example 32x32, each from %.0f to %.0f",
                     o->name, text, o->min, o->max);
}

static int store(const struct cli_command *c, const struct cli_option *o, const char *text,
                 void *target)
{
    switch (o->kind) {
    case CLI_FLAG:
        *(int *)target = 1;
        return 0;
    case CLI_TEXT:
        *(const char **)target = text;
        return 0;
    case CLI_WORD:
        return store_word(c, o, text, target);
    case CLI_INTEGER:
        return store_integer(c, o, text, target);
    case CLI_REAL:
        return store_real(c, o, text, target);
    case CLI_INTEGERS:
    case CLI_REALS:
        return store_list(c, o, text, target);
    case CLI_SIDES:
        return store_sides(c, o, text, target);
    }
    return CLI_USAGE;
}

/* ---- the whole line ---- */

static void index_options(struct index *x, const struct cli_command *c)
{
    size_t letters = 0;

    memset(x, 0, sizeof(*x));
    /* A colon first: getopt tells a missing argument from an unknown option. */
    x->letters[letters++] = ':';
    x->letters[letters++] = 'h';
    for (int t = 0; c->tables[t]; t++) {
        for (const struct cli_option *o = c->tables[t]; o->name && x->count < MAX_OPTIONS; o++) {
            int has_argument = o->kind != CLI_FLAG;

            x->option[x->count] = o;
            x->longs[x->count] =
                (struct option){o->name, has_argument, NULL, FIRST_LONG + x->count};
            x->count++;
            if (o->letter)
                x->letters[letters++] = o->letter;
            if (o->letter && has_argument)
                x->letters[letters++] = ':';
        }
    }
    x->longs[x->count] = (struct option){"help", 0, NULL, 'h'};
}

static int find_option(const struct index *x, int code)
{
    if (code >= FIRST_LONG)
        return code - FIRST_LONG;
    for (int i = 0; i < x->count; i++) {
        if (x->option[i]->letter == code)
            return i;
    }
    return -1;
}

/* The last word getopt looked at, for a sentence: "--sed" or "-q". */
static int fail_getopt(const struct cli_command *c, char **argv, int code)
{
    const char *word = argv[optind - 1];

    if (code == ':')
        return cli_usage(c, "%.60s needs an argument", word);
    if (strncmp(word, "--", 2) == 0 && strchr(word, '='))
        return cli_usage(c, "there is no option %.60s, or it takes no argument", word);
    if (strncmp(word, "--", 2) == 0)
        return cli_usage(c, "there is no option %.60s, or it could mean several", word);
    return cli_usage(c, "there is no option -%c", optopt);
}

static int check_complete(const struct cli_command *c, const struct index *x, int operands,
                          char **argv)
{
    for (int i = 0; i < x->count; i++) {
        if (x->option[i]->required && !x->seen[i])
            return cli_usage(c, "--%s %s is missing", x->option[i]->name, x->option[i]->argument);
    }
    if (operands < c->num_operands)
        return cli_usage(c, "%s is missing", c->operands);
    if (operands > c->num_operands)
        return cli_usage(c, "\"%.60s\" is one argument too many", argv[optind + c->num_operands]);
    return 0;
}

static int wants_help(const struct index *x, int argc, char **argv)
{
    int code;

    optind = 0; /* GNU: start anew */
    opterr = 0;
    do {
        code = getopt_long(argc, argv, x->letters, x->longs, NULL);
    } while (code != -1 && code != 'h');
    return code == 'h';
}

int cli_parse(const struct cli_command *command, int argc, char **argv, void *target, int *status)
{
    struct index x;
    int code;

    index_options(&x, command);
    *status = 0;
    /* Before anything is stored: help prints the defaults. */
    if (wants_help(&x, argc, argv)) {
        cli_help(command, target);
        return -1;
    }
    optind = 0;
    while (*status == 0 && (code = getopt_long(argc, argv, x.letters, x.longs, NULL)) != -1) {
        int i;

        if (code == '?' || code == ':') {
            *status = fail_getopt(command, argv, code);
            break;
        }
        i = find_option(&x, code);
        x.seen[i] = 1;
        *status = store(command, x.option[i], optarg, target_of(x.option[i], target));
    }
    if (*status == 0)
        *status = check_complete(command, &x, argc - optind, argv);
    if (*status == 0)
        return optind;
    cli_options_deinit(command, target);
    return -1;
}

void cli_options_deinit(const struct cli_command *command, void *target)
{
    for (int t = 0; command->tables[t]; t++) {
        for (const struct cli_option *o = command->tables[t]; o->name; o++) {
            struct cli_integers *integers = target_of(o, target);
            struct cli_reals *reals = target_of(o, target);

            if (o->kind == CLI_INTEGERS) {
                free(integers->values);
                *integers = (struct cli_integers){0};
            } else if (o->kind == CLI_REALS) {
                free(reals->values);
                *reals = (struct cli_reals){0};
            }
        }
    }
}
