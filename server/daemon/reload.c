/*
 * SIGHUP: the settings are read again from the same flags, environment and file, and of them the
 * banks, the log's level and format, and the content of keys_file come into use. Called by the main
 * thread, while all others work on.
 *
 * Everything new is made first, beside the old; only then is it swapped in, and that cannot fail.
 * So a broken file changes nothing. A bank's file that is as it was is not read again. Banks that were loaded over HTTP
 * stay, unless the configuration now has a bank of that name. Jobs hold references to their banks: what was accepted runs to
 * its end with the bank that it was accepted for.
 *
 * Whether keys are needed at all is fixed at the start: a slip in a file must not open the daemon
 * to everybody.
 */
#include "server/daemon/reload.h"

#include "server/banks/bank_loads.h"
#include "server/base/log.h"
#include "server/base/metrics.h"
#include "server/config/apikeys.h"
#include "server/config/config.h"

static void name_others(const struct srv_daemon *daemon, const struct srv_config *fresh)
{
    const char *name;

    for (size_t i = 0; (name = srv_config_key(i)); i++)
        if (!srv_config_is_live(i) && !srv_config_is_same(daemon->config, fresh, i))
            srv_log(daemon->log, SRV_WARNING, "setting_needs_restart", "setting", name, NULL);
}

static int reload(struct srv_daemon *daemon, struct srv_config *config, struct els_error *err)
{
    struct srv_banks *banks = NULL;
    int exit_now, r = srv_config_load(config, daemon->argc, daemon->argv, &exit_now, err);

    if (r == 0)
        r = srv_banks_new(&banks, config, daemon->bank_memory, daemon->self, daemon->banks, err);
    if (r == 0 && daemon->apikeys)
        r = srv_apikeys_reload(daemon->apikeys, daemon->config->keys_file, err);
    if (r < 0) {
        srv_banks_free(banks);
        return r;
    }
    srv_banks_replace(daemon->banks, banks, daemon->log);
    srv_bank_loads_reloaded(daemon->bank_loads);
    srv_log_set(daemon->log, config->log_level, config->log_format);
    name_others(daemon, config);
    return 0;
}

void srv_reload(struct srv_daemon *daemon)
{
    struct srv_config config;
    struct els_error err = {0};
    int r = reload(daemon, &config, &err);

    if (r == 0)
        srv_log(daemon->log, SRV_INFO, "reloaded", NULL);
    else
        srv_log(daemon->log, SRV_ERROR, "reload_failed", "reason",
                *err.message ? err.message : els_status_text(r), "note", "all is as it was", NULL);
    srv_metrics_count(daemon->metrics, r == 0 ? SRV_RELOADS_DONE : SRV_RELOADS_FAILED);
    srv_config_deinit(&config);
}
