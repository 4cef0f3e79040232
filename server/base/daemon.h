/*
 * daemon: what the rooms of the server share. One per process, made by main.c, passed as a pointer;
 * there are no globals.
 */
#ifndef SRV_DAEMON_H
#define SRV_DAEMON_H

#include <stdatomic.h>

struct els_pool;
struct srv_accounts;
struct srv_apikeys;
struct srv_bank_loads;
struct srv_bank_memory;
struct srv_banks;
struct srv_config;
struct srv_jobs;
struct srv_log;
struct srv_metrics;
struct srv_payer;

struct srv_daemon {
    const struct srv_config *config; /* config.h */
    struct srv_log *log;             /* log.h; any thread */
    struct srv_accounts *accounts;   /* account.h; any thread */
    struct srv_payer *self;          /* pays for what the daemon itself needs: banks, what it finds at start */
    struct srv_apikeys *apikeys;     /* apikeys.h; any thread. NULL: nobody needs a key */
    struct srv_bank_memory *bank_memory; /* bank_memory.h; any thread */
    struct srv_banks *banks;         /* banks.h; any thread */
    struct srv_bank_loads *bank_loads; /* bank_loads.h; any thread */
    struct srv_jobs *jobs;           /* jobs.h; any thread */
    struct srv_metrics *metrics;     /* metrics.h; any thread */
    int argc; /* the command line, for reading the settings again */
    char **argv;
    atomic_bool ready;               /* banks loaded, store open */
    atomic_bool draining;            /* SIGTERM came: no new jobs */
};

/* Makes daemon->accounts and ->self from the limits in daemon->config: before anything is charged. 0, or ELS_ENOMEM. */
int srv_daemon_open_accounts(struct srv_daemon *daemon);
/* Once every charge and payer has been given back. */
void srv_daemon_close_accounts(struct srv_daemon *daemon);

/* elsd's main: runs until a signal ends it. Returns the exit status. */
int srv_daemon_main(int argc, char **argv);

#endif
