/*
 * options: a subcommand's options as a table that drives parsing, checking and help alike.
 *
 *     struct sheet {
 *         const char *out;
 *         int64_t zoom;
 *     };
 *     #define AT(member) offsetof(struct sheet, member)
 *     static const struct cli_option table[] = {
 *         {"output", 'o', "FILE", CLI_TEXT, AT(out), .required = 1, .help = "the picture"},
 *         {"zoom", 'z', "K", CLI_INTEGER, AT(zoom), 1, 16, .help = "enlarge"},
 *         {0},
 *     };
 *     static const struct cli_option *const tables[] = {table, NULL};
 *     static const struct cli_command command = {.name = "bank sheet", .tables = tables, …};
 *
 *     struct sheet o = {.zoom = 1};                        // the defaults, which help prints
 *     int status, first = cli_parse(&command, argc, argv, &o, &status);
 *     if (first < 0)
 *         return status;                                   // help or a sentence was printed
 *     … argv[first] and on are the operands …
 *     cli_options_deinit(&command, &o);
 *
 * Bounds and words stand in the table only, and help prints them from there. Numbers are strict:
 * the whole argument, in range, or a sentence that names both.
 */
#ifndef CLI_OPTIONS_H
#define CLI_OPTIONS_H

#include <stddef.h>
#include <stdint.h>

#include "els/error.h"

/* Exit statuses. */
enum {
    CLI_OK = 0,
    CLI_FAILED = 1,
    CLI_USAGE = 2, /* the command line itself is wrong */
};

enum { CLI_MAX_LIST = 1000000 };

struct cli_integers {
    int64_t *values; /* owned by the options, freed by cli_options_deinit */
    size_t count;
};

struct cli_reals {
    double *values; /* likewise */
    size_t count;
};

struct cli_sides {
    int64_t h, w; /* 0: not given */
};

/* What an argument is, and what lies at the option's offset. */
enum cli_kind {
    CLI_FLAG,     /* int, set to 1; takes no argument */
    CLI_TEXT,     /* const char *, borrowed from argv */
    CLI_WORD,     /* int, the index of one of the words */
    CLI_INTEGER,  /* int64_t in [min,max] */
    CLI_REAL,     /* double in [min,max] */
    CLI_INTEGERS, /* struct cli_integers: a,b,c, each in [min,max] */
    CLI_REALS,    /* struct cli_reals: a,b,c, each in [min,max] */
    CLI_SIDES,    /* struct cli_sides: HxW, each in [min,max] */
};

struct cli_option {
    const char *name;     /* without dashes; NULL ends a table */
    char letter;          /* 0: none */
    const char *argument; /* as help calls it */
    enum cli_kind kind;
    size_t offset; /* in the command's struct */
    double min, max;
    const char *(*word)(int i); /* of CLI_WORD: the i-th, NULL past the end */
    int required;
    const char *help;
};

struct cli_command {
    const char *name;     /* "sample", "bank import" */
    const char *operands; /* "SOURCE"; "" for none */
    int num_operands;
    const char *summary;                    /* one line */
    const char *details;                    /* a paragraph, or NULL */
    const struct cli_option *const *tables; /* NULL-terminated; all offsets are in one struct */
    const char *const *examples;            /* pairs of comment and command line, NULL-terminated */
};

/*
 * Fills `target`, which holds the defaults. Returns the index of the first operand; or −1: help was
 * asked for, or a sentence was printed, *status is the exit status, and nothing is left to free.
 */
int cli_parse(const struct cli_command *command, int argc, char **argv, void *target, int *status);
/* Frees the lists. */
void cli_options_deinit(const struct cli_command *command, void *target);

/* Prints "els: <sentence>" to stderr; returns CLI_FAILED. */
int cli_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The same for a library call that failed with `status`. */
int cli_report(int status, const struct els_error *err);
/* Prints "els: <sentence>; see els <name> --help"; returns CLI_USAGE. `command` may be NULL. */
int cli_usage(const struct cli_command *command, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* help.c: what --help prints; `defaults` is the command's struct before parsing. */
void cli_help(const struct cli_command *command, const void *defaults);

/* number.c: the whole text, or −1. */
int cli_integer(const char *text, int64_t *out);
int cli_real(const char *text, double *out);

#endif
