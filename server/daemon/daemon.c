/*
 * The daemon's life, run by the main thread: settings, log, port, banks, then waiting for the
 * signal to end, and reading banks, keys and log settings again on SIGHUP (reload.c). The port
 * answers from the first moment (health; 503 for what needs the banks), so that whoever supervises
 * the daemon can watch it load.
 *
 * Signals are blocked in every thread and taken by sigwait here, so no code ever runs inside a
 * handler, but for the last lines of the log when the daemon crashes.
 */
#include "server/base/daemon.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "els/engine.h"
#include "server/api/api_meta.h"
#include "server/api/api_science.h"
#include "server/api/assets.h"
#include "server/banks/bank_loads.h"
#include "server/base/account.h"
#include "server/base/log.h"
#include "server/base/metrics.h"
#include "server/config/apikeys.h"
#include "server/config/config.h"
#include "server/daemon/reload.h"
#include "server/http/router.h"
#include "server/jobs/jobs.h"
#include "server/params/saved_scales.h"

enum { FINISH_MS = 5000 };

static const struct srv_route *const tables[] = {
    srv_meta_routes,
    srv_banks_routes,
    srv_bank_loads_routes,
    srv_jobs_routes,
    srv_scales_routes,
    srv_science_routes,
    srv_assets_routes,
    NULL,
};

static void block_signals(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGHUP);
    pthread_sigmask(SIG_BLOCK, set, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file at its limit is an error of write, as a full disk is */
}

/* The inner loops: the best of this CPU, unless the configuration names others. */
static int use_kernel(const char *name, struct els_error *err)
{
    return strcmp(name, "auto") == 0 ? 0 : els_engine_use_kernel(name, err);
}

/* The file is whole or absent: whoever waits for it never reads half a number. */
static int write_port_file(const char *path, int port, struct els_error *err)
{
    char part[4200];
    FILE *f;
    int r = 0;

    if (!*path)
        return 0;
    snprintf(part, sizeof(part), "%s.tmp", path);
    f = fopen(part, "we");
    if (!f || fprintf(f, "%d\n", port) < 0)
        r = ELS_EIO;
    if (f && fclose(f) != 0)
        r = ELS_EIO;
    if (r == 0 && rename(part, path) < 0)
        r = ELS_EIO;
    if (r < 0)
        return els_fail(err, r, "port_file", "port_file \"%.200s\" cannot be written: %s", path,
                        strerror(errno));
    return 0;
}

int srv_daemon_open_accounts(struct srv_daemon *daemon)
{
    const struct srv_config *config = daemon->config;
    int64_t stored = config->retention_bytes + config->queue_bytes;
    struct srv_account_limits limits = {
        .bytes = {[SRV_MEMORY] = config->memory_limit ? config->memory_limit : srv_accounts_default_memory(),
                  [SRV_DISK] = config->disk_limit ? config->disk_limit : stored + stored / 10},
        .percent_per_key = (int)config->share_per_key,
        .percent_per_address = (int)config->share_per_address,
    };
    int r = srv_accounts_new(&daemon->accounts, &limits);

    if (r == 0)
        daemon->self = srv_payer_new(daemon->accounts, "", "");
    return r == 0 && !daemon->self ? ELS_ENOMEM : r;
}

void srv_daemon_close_accounts(struct srv_daemon *daemon)
{
    daemon->self = srv_payer_unref(daemon->self);
    daemon->accounts = srv_accounts_free(daemon->accounts);
}

/* Before the port is open: nobody is served without the key that is needed. */
static int open_keys(struct srv_daemon *daemon, struct els_error *err)
{
    const char *path = daemon->config->keys_file;
    char number[32];
    int r = *path ? srv_apikeys_open(&daemon->apikeys, path, err) : 0;

    if (r == 0 && daemon->apikeys)
        srv_log(daemon->log, SRV_INFO, "keys_loaded", "count",
                srv_log_number(number, (double)srv_apikeys_count(daemon->apikeys)), NULL);
    return r;
}

static void say_listening(const struct srv_daemon *daemon, int port)
{
    const char *bind_to = daemon->config->bind;
    bool v6 = strchr(bind_to, ':');
    char url[128], number[32];

    snprintf(url, sizeof(url), "http://%s%s%s:%d", v6 ? "[" : "", bind_to, v6 ? "]" : "", port);
    srv_log(daemon->log, SRV_INFO, "listening", "url", url, "pid",
            srv_log_number(number, (double)getpid()), "version", ELS_VERSION, NULL);
}

/* A directory that is not there is a slip in the settings. */
static int check_bank_dir(const struct srv_config *config, struct els_error *err)
{
    return *config->bank_dir ? srv_bank_dir_check(config->bank_dir, err) : 0;
}

/* Loads what the port needs to be ready, then waits for the signal. */
static int serve(struct srv_daemon *daemon, struct srv_http *http, const sigset_t *signals,
                 struct els_error *err)
{
    int port = srv_http_port(http), number = 0, r;

    r = use_kernel(daemon->config->cpu, err);
    if (r == 0)
        r = check_bank_dir(daemon->config, err);
    if (r == 0)
        r = srv_bank_memory_new(&daemon->bank_memory);
    if (r == 0)
        r = srv_banks_new(&daemon->banks, daemon->config, daemon->bank_memory, daemon->self, NULL, err);
    if (r == 0)
        r = srv_bank_loads_new(&daemon->bank_loads, daemon);
    if (r == 0)
        r = srv_jobs_new(&daemon->jobs, daemon, err);
    if (r == 0)
        srv_banks_settle(daemon->banks);
    if (r == 0)
        r = srv_jobs_start(daemon->jobs);
    if (r < 0)
        return r;
    atomic_store(&daemon->ready, true);
    say_listening(daemon, port);
    r = write_port_file(daemon->config->port_file, port, err);
    if (r < 0)
        return r;
    while (sigwait(signals, &number) == 0 && number == SIGHUP) {
        srv_reload(daemon);
        srv_http_keys_changed(http);
    }
    srv_log(daemon->log, SRV_INFO, "draining", "signal", strsignal(number), NULL);
    return 0;
}

static int run(struct srv_daemon *daemon, struct els_error *err)
{
    struct srv_http *http = NULL;
    sigset_t signals;
    int r;

    block_signals(&signals);
    r = srv_daemon_open_accounts(daemon);
    if (r == 0)
        r = open_keys(daemon, err);
    if (r < 0)
        return r;
    r = srv_http_start(&http, daemon, tables);
    if (r < 0)
        return els_fail(err, r, "port", "cannot listen on %.64s port %lld", daemon->config->bind,
                        (long long)daemon->config->port);
    r = serve(daemon, http, &signals, err);
    atomic_store(&daemon->draining, true);
    if (daemon->jobs)
        srv_jobs_drain(daemon->jobs);
    if (daemon->bank_loads)
        srv_bank_loads_drain(daemon->bank_loads);
    http = srv_http_stop(http, FINISH_MS);
    daemon->jobs = srv_jobs_free(daemon->jobs);
    daemon->bank_loads = srv_bank_loads_free(daemon->bank_loads);
    daemon->banks = srv_banks_free(daemon->banks);
    daemon->bank_memory = srv_bank_memory_free(daemon->bank_memory);
    if (r == 0)
        srv_log(daemon->log, SRV_INFO, "stopped", NULL);
    return r;
}

int srv_daemon_main(int argc, char **argv)
{
    struct srv_daemon daemon = {.argc = argc, .argv = argv};
    struct srv_config config;
    struct els_error err = {0};
    int exit_now = 0, r;

    r = srv_config_load(&config, argc, argv, &exit_now, &err);
    if (r == 0 && !exit_now)
        r = srv_log_new(&daemon.log, config.log_level, config.log_format);
    if (r == 0 && !exit_now) {
        daemon.config = &config;
        srv_log_rescue_on_crash(daemon.log);
        atomic_init(&daemon.ready, false);
        atomic_init(&daemon.draining, false);
        r = srv_metrics_new(&daemon.metrics);
        if (r == 0)
            r = srv_routes_add_to_metrics(tables, daemon.metrics);
        if (r == 0)
            r = run(&daemon, &err);
    }
    if (r < 0 && daemon.log)
        srv_log(daemon.log, SRV_ERROR, "failed", "reason",
                *err.message ? err.message : els_status_text(r), NULL);
    else if (r < 0)
        fprintf(stderr, "elsd: %s\n", *err.message ? err.message : els_status_text(r));
    srv_apikeys_free(daemon.apikeys);
    srv_daemon_close_accounts(&daemon);
    srv_metrics_free(daemon.metrics);
    srv_log_free(daemon.log);
    srv_config_deinit(&config);
    return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
