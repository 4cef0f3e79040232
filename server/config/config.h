/*
 * config: every setting of the daemon. One table in config_keys.c declares each key's name, type,
 * bounds, default and one-line doc, and drives the TOML file, the environment (ELSD_<KEY>), the
 * flags (--key), --help, --check-config, and the test that config.example.toml covers every key.
 *
 *     struct srv_config config;
 *     if (srv_config_load(&config, argc, argv, &exit_now, &err) < 0)
 *         …
 *     srv_config_deinit(&config);
 *
 * Flags override the environment, the environment overrides the file, the file overrides the
 * defaults.
 */
#ifndef SRV_CONFIG_H
#define SRV_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "els/error.h"
#include "els/mem.h"

struct srv_config_bank {
    char *name;
    char *file; /* a .safetensors path or a built-in bank's name */
};

struct srv_config {
    /* listening */
    char *bind;                          /* "127.0.0.1" */
    int64_t port;                        /* 8080; 0: any free one */
    int64_t http_threads;                /* 2 */
    int64_t max_connections;             /* 1024 */
    int64_t max_connections_per_address; /* 256; 0: as max_connections */
    int64_t max_body_bytes;              /* 64 MiB */
    int64_t upload_timeout;              /* seconds for a whole request, 30 */
    int64_t min_read_rate;               /* bytes per second that clients take of an answer, 16000 */
    int64_t read_grace;                  /* seconds that one may fall behind, 30 */
    int64_t max_jobs_per_key;            /* unfinished ones; 0: no limit */
    int64_t max_jobs_per_address;        /* likewise */
    int64_t memory_limit;                /* 0: a quarter of the machine's */
    int64_t disk_limit;                  /* 0: retention_bytes and queue_bytes, and a tenth more */
    int64_t share_per_key;               /* of either limit, in percent, 50 */
    int64_t share_per_address;           /* likewise */
    char *allowed_hosts; /* "": host names that a reverse proxy may pass on, comma-separated */
    char *cors_origins;  /* "": origins that may read answers from a browser, comma-separated */
    char *keys_file;            /* "": nobody needs an API key */
    bool allow_unauthenticated; /* false: a bind beyond loopback without API keys is refused */
    char *port_file;            /* "": where the bound port is written once the daemon is ready */
    /* work */
    int64_t threads;                 /* 0: all cores */
    char *cpu;                       /* "auto", or a kernel's name */
    int64_t queue_length;            /* 64 */
    int64_t queue_bytes;             /* of unfinished jobs' parameters and tensors, 512 MiB */
    int64_t images_per_pass;         /* of alike jobs that are computed together, 2 */
    int64_t sync_timeout;            /* seconds that /v1/samples waits, 120 */
    int64_t max_num_images;          /* per job, 64 */
    int64_t max_num_inference_steps; /* 5000 */
    int64_t max_result_bytes;        /* a job's tensors in all, 512 MiB: 413 beyond it */
    int64_t max_job_cost;            /* in the measure of srv_params.cost, 10^15 */
    int64_t job_timeout;             /* seconds of computing, 7 days; 0: no limit */
    /* keeping */
    char *state_dir;           /* "": results are kept in memory only; created 0700 if absent */
    int64_t retention_seconds; /* finished jobs are kept so long, 7 days */
    int64_t retention_bytes;   /* and so much in all at any time, 2 GiB */
    /* telling */
    char *log_level;  /* debug info warning error */
    char *log_format; /* text json */
    /* banks, in order */
    char *bank_dir; /* "": none are loaded over HTTP */
    struct srv_config_bank *banks;
    size_t num_banks;
};

/* Reads flags, environment and file. 0, or a negative status with a sentence. `argv` may hold
 * --help, --version, --check-config or --print-example-config: then *exit_now is set and what they
 * print has been printed. *out is always left so that srv_config_deinit may be called. */
int srv_config_load(struct srv_config *out, int argc, char **argv, int *exit_now,
                    struct els_error *err);
void srv_config_deinit(struct srv_config *config);

/* Appends config.example.toml: every key with its meaning, range and default. */
int srv_config_write_example(struct els_buffer *out);
/* Appends what --help prints. */
int srv_config_write_help(struct els_buffer *out);
/* The i-th key's name; NULL past the end. */
const char *srv_config_key(size_t i);
/* Is the i-th setting the same in both? */
bool srv_config_is_same(const struct srv_config *a, const struct srv_config *b, size_t i);
/* Does the i-th setting count at once on SIGHUP? Others wait for the next start. (Banks and the
 * content of keys_file are read again too.) */
bool srv_config_is_live(size_t i);
/* May a bank be served by that name? It appears in URLs and in file names of results: 1 to 63 letters, digits, '.',
 * '_' or '-', beginning with a letter or digit. */
bool srv_config_is_bank_name(const char *name, size_t length);
/* Is the address one that only this machine can reach? */
bool srv_config_is_loopback(const char *address);

#endif
