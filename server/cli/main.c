/*
 * els: the command-line tool. Runs the library without a daemon: finds the subcommand, which does
 * the rest, and gives the process its exit status (0, 1 for a failure, 2 for a wrong command line;
 * a signal that came while work ran ends the process here, after everything was cleaned up).
 */
#include <stdio.h>
#include <string.h>

#include "server/cli/commands.h"
#include "server/cli/options.h"
#include "server/cli/progress.h"

struct subcommand {
    const char *group, *name; /* group NULL: `els name`, else `els group name` */
    int (*run)(int argc, char **argv);
    const char *summary;
};

static const struct subcommand subcommands[] = {
    {NULL, "sample", cli_sample, "draw images from a bank with a score machine"},
    {NULL, "denoise", cli_denoise, "one evaluation of a score machine on noisy images"},
    {NULL, "mosaic", cli_mosaic, "where the pixels of a sampled image come from"},
    {NULL, "calibrate", cli_calibrate, "a network's locality scales from its trajectories"},
    {NULL, "compare", cli_compare, "a network's images against the theory's"},
    {NULL, "bench", cli_bench, "what the engine costs on this machine"},
    {"bank", "import", cli_bank_import, "make a bank from a data set"},
    {"bank", "info", cli_bank_info, "what a bank holds"},
    {"bank", "sheet", cli_bank_sheet, "a contact sheet of a bank's images"},
    {"bank", "list", cli_bank_list, "the built-in banks"},
    {"key", "add", cli_key_add, "make an API key for a daemon"},
    {"key", "remove", cli_key_remove, "take one back"},
    {"key", "list", cli_key_list, "their names and rights"},
};

struct group {
    const char *name, *summary, *commands;
};

static const struct group groups[] = {
    {"bank", "banks of training images, the patches' source", "import, info, sheet and list"},
    {"key", "API keys: who may use a daemon", "add, remove and list"},
    {NULL, NULL, NULL},
};

enum { NUM_SUBCOMMANDS = sizeof(subcommands) / sizeof(*subcommands) };

static void print_subcommands(const char *group)
{
    for (int i = 0; i < NUM_SUBCOMMANDS; i++) {
        const struct subcommand *s = &subcommands[i];

        if (!group || (s->group && strcmp(s->group, group) == 0))
            printf("  els %s%s%-*s %s\n", s->group ? s->group : "", s->group ? " " : "",
                   s->group ? 12 - (int)strlen(s->group) : 13, s->name, s->summary);
    }
}

static int print_help(void)
{
    printf("els %s: images from noise by the analytic score machines of Kamb & Ganguli\n"
           "(arXiv 2412.20292), with no trained network\n\n",
           ELS_VERSION);
    print_subcommands(NULL);
    printf("\n  els COMMAND --help   the command's options, with examples\n"
           "  els --version\n\nfor example:\n\n"
           "  els sample --num-images 4 --seed 7 --zoom 4 -o digits.png\n");
    return CLI_OK;
}

static int is_help(const char *word)
{
    return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0;
}

/* argv[0] is the group's name. */
static int run_group(const struct group *group, int argc, char **argv)
{
    if (argc > 1 && is_help(argv[1])) {
        printf("els %s: %s\n\n", group->name, group->summary);
        print_subcommands(group->name);
        return CLI_OK;
    }
    for (int i = 0; i < NUM_SUBCOMMANDS && argc > 1; i++) {
        const struct subcommand *s = &subcommands[i];

        if (s->group && strcmp(s->group, group->name) == 0 && strcmp(s->name, argv[1]) == 0)
            return s->run(argc - 1, argv + 1);
    }
    if (argc < 2)
        return cli_usage(NULL, "%s needs a command; there are %s", group->name, group->commands);
    return cli_usage(NULL, "there is no command \"%s %.60s\"; there are %s", group->name, argv[1],
                     group->commands);
}

static int run(int argc, char **argv)
{
    if (argc < 2)
        return cli_usage(NULL, "a command is missing");
    if (is_help(argv[1]))
        return print_help();
    if (strcmp(argv[1], "--version") == 0) {
        printf("els %s\n", ELS_VERSION);
        return CLI_OK;
    }
    for (const struct group *group = groups; group->name; group++)
        if (strcmp(argv[1], group->name) == 0)
            return run_group(group, argc - 1, argv + 1);
    for (int i = 0; i < NUM_SUBCOMMANDS; i++) {
        if (!subcommands[i].group && strcmp(subcommands[i].name, argv[1]) == 0)
            return subcommands[i].run(argc - 1, argv + 1);
    }
    return cli_usage(NULL, "there is no %s \"%.60s\"", argv[1][0] == '-' ? "option" : "command",
                     argv[1]);
}

int main(int argc, char **argv)
{
    int status = run(argc, argv);

    if (fflush(stdout) != 0 || ferror(stdout))
        status = cli_fail("cannot write to standard output");
    /* A held signal ends the process here, as a shell expects of Ctrl-C. */
    cli_signals_release();
    return status;
}
