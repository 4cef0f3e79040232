/*
 * els key add, list and remove: the file of API keys that elsd reads (keys_file). Runs on main's
 * thread. A key is printed when it is made, on standard output and alone, so that it can go straight
 * into a file or a secret store; afterwards only its fingerprint exists.
 */
#include <stdio.h>

#include "server/cli/commands.h"
#include "server/cli/options.h"
#include "server/config/apikeys.h"

static const struct cli_option *const no_tables[] = {NULL};

struct add_options {
    const char *rights;
};

static const struct cli_option add_table[] = {
    {"right", 0, "RIGHTS", CLI_TEXT, offsetof(struct add_options, rights),
     .help = "what it may do beyond making jobs, separated by commas: banks (load and unload banks)"},
    {0},
};

static const struct cli_command add_command = {
    .name = "key add",
    .operands = "FILE NAME",
    .num_operands = 2,
    .summary = "make an API key",
    .details = "Adds NAME and the SHA-256 of a new key to FILE, which is made with mode 0600 when "
               "it does not exist, and prints the key. It is told this once. A running elsd takes "
               "it from the next SIGHUP on.",
    .tables = (const struct cli_option *const[]){add_table, NULL},
    .examples = (const char *const[]){"a key for alice", "els key add /etc/elsd/keys alice",
                                      "a key that may load and unload banks",
                                      "els key add --right banks /etc/elsd/keys admin", NULL},
};

int cli_key_add(int argc, char **argv)
{
    char key[SRV_APIKEY_TEXT], wrong[SRV_RIGHTS_TEXT], all[SRV_RIGHTS_TEXT];
    struct add_options o = {0};
    struct els_error err = {0};
    unsigned rights = 0;
    int status, first = cli_parse(&add_command, argc, argv, &o, &status);

    if (first < 0)
        return status;
    if (o.rights && !srv_rights_parse(o.rights, &rights, wrong))
        return cli_usage(&add_command, "there is no right \"%s\"; there are: %s", wrong, srv_rights_text(~0u, all));
    status = srv_apikeys_add(argv[first], argv[first + 1], rights, key, &err);
    if (status < 0)
        return cli_report(status, &err);
    printf("%s\n", key);
    return CLI_OK;
}

static const struct cli_command remove_command = {
    .name = "key remove",
    .operands = "FILE NAME",
    .num_operands = 2,
    .summary = "take an API key back",
    .details = "Its jobs stay until they expire. A running elsd refuses it from the next SIGHUP on.",
    .tables = no_tables,
};

int cli_key_remove(int argc, char **argv)
{
    struct els_error err = {0};
    int status, target, first = cli_parse(&remove_command, argc, argv, &target, &status);

    if (first < 0)
        return status;
    status = srv_apikeys_remove(argv[first], argv[first + 1], &err);
    return status < 0 ? cli_report(status, &err) : CLI_OK;
}

static const struct cli_command list_command = {
    .name = "key list",
    .operands = "FILE",
    .num_operands = 1,
    .summary = "the names of the API keys, each with its rights",
    .tables = no_tables,
};

int cli_key_list(int argc, char **argv)
{
    struct srv_apikeys *keys = NULL;
    struct els_error err = {0};
    char rights[SRV_RIGHTS_TEXT];
    const char *name;
    int status, target, first = cli_parse(&list_command, argc, argv, &target, &status);

    if (first < 0)
        return status;
    status = srv_apikeys_open(&keys, argv[first], &err);
    if (status < 0)
        return cli_report(status, &err);
    for (size_t i = 0; (name = srv_apikeys_name(keys, i)); i++)
        printf("%s%s%s\n", name, srv_apikeys_rights(keys, name) ? " " : "",
               srv_rights_text(srv_apikeys_rights(keys, name), rights));
    srv_apikeys_free(keys);
    return CLI_OK;
}
