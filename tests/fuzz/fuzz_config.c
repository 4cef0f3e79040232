/*
 * A configuration file: TOML to settings. What is accepted must lie within every row's bounds.
 */
#include "fuzz.h"
#include "server/config/config_keys.h"

static void check(const struct srv_config *config)
{
    for (const struct srv_key *key = srv_keys; key->name; key++) {
        const void *field = (const char *)config + key->offset;

        if (key->type == SRV_KEY_INT)
            FUZZ_CHECK(*(const int64_t *)field >= key->min && *(const int64_t *)field <= key->max);
        else if (key->type == SRV_KEY_TEXT)
            FUZZ_CHECK(*(char *const *)field);
    }
    for (size_t i = 0; i < config->num_banks; i++)
        FUZZ_CHECK(config->banks[i].name[0] && config->banks[i].file[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char program[] = "elsd", flag[] = "--config", path[32];
    int fd = fuzz_file(data, size, path), exit_now;
    char *argv[] = {program, flag, path, NULL};
    struct srv_config config;
    struct els_error err = {0};

    if (srv_config_load(&config, 3, argv, &exit_now, &err) == 0)
        check(&config);
    else
        FUZZ_CHECK(err.message[0]);
    srv_config_deinit(&config);
    close(fd);
    return 0;
}
