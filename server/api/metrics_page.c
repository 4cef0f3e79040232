/*
 * GET /metrics. It runs on an HTTP thread, reads atomics, and takes no lock but the banks' (held for pointer moves), so
 * it answers while every worker computes.
 *
 * `table` declares every metric. A row says name, type, help and the function that writes its
 * samples; nothing is exposed that has no row. Label values are our own words, route patterns,
 * kernel and bank names, none of which can hold a quote or a backslash.
 */
#include "server/api/metrics_page.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "els/cpu.h"
#include "server/banks/bank_loads.h"
#include "server/base/account.h"
#include "server/base/daemon.h"
#include "server/base/log.h"
#include "server/base/metrics.h"
#include "server/jobs/jobs.h"

struct page {
    const struct srv_metrics *metrics;
    struct srv_daemon *daemon;
    bool ready; /* the banks and the jobs may be looked at */
    struct srv_jobs_counts jobs;
    struct srv_account_totals accounts;
    struct els_buffer *out;
};

struct metric {
    const char *name;
    const char *type;
    const char *help;
    int (*write)(const struct page *page, const struct metric *m);
    int which; /* of enum srv_counter, srv_histogram or srv_resource */
};

static int sample(const struct page *page, const struct metric *m, double value)
{
    return els_buffer_printf(page->out, "%s %.15g\n", m->name, value);
}

static int labelled(const struct page *page, const struct metric *m, const char *label,
                    const char *word, uint64_t value)
{
    return els_buffer_printf(page->out, "%s{%s=\"%s\"} %llu\n", m->name, label, word,
                             (unsigned long long)value);
}

static int write_build(const struct page *page, const struct metric *m)
{
    return els_buffer_printf(page->out, "%s{version=\"%s\",kernel=\"%s\"} 1\n", m->name, ELS_VERSION,
                             page->ready ? els_engine_kernel() : "");
}

static int write_ready(const struct page *page, const struct metric *m)
{
    return sample(page, m, page->ready && !atomic_load(&page->daemon->draining));
}

static int write_store(const struct page *page, const struct metric *m)
{
    return sample(page, m, page->ready && srv_jobs_store_works(page->daemon->jobs));
}

static int write_requests(const struct page *page, const struct metric *m)
{
    return srv_metrics_write_requests(page->metrics, m->name, page->out);
}

static int write_counter(const struct page *page, const struct metric *m)
{
    return sample(page, m, (double)srv_metrics_counter(page->metrics, (enum srv_counter)m->which));
}

static int write_histogram(const struct page *page, const struct metric *m)
{
    return srv_metrics_write_histogram(page->metrics, (enum srv_histogram)m->which, m->name, page->out);
}

static int write_depth(const struct page *page, const struct metric *m)
{
    return sample(page, m, page->jobs.queued);
}

static int write_capacity(const struct page *page, const struct metric *m)
{
    return sample(page, m, page->jobs.queue_capacity);
}

static int write_jobs(const struct page *page, const struct metric *m)
{
    int status = labelled(page, m, "status", "queued", (uint64_t)page->jobs.queued);

    return status < 0 ? status
                      : labelled(page, m, "status", "running", (uint64_t)page->jobs.running);
}

/* Consecutive counters under one name, told apart by a label. */
static int write_words(const struct page *page, const struct metric *m, const char *label,
                       const char *const *words, enum srv_counter first)
{
    int status = 0;

    for (int i = 0; words[i] && status == 0; i++)
        status = labelled(page, m, label, words[i], srv_metrics_counter(page->metrics, (enum srv_counter)((int)first + i)));
    return status;
}

static int write_finished(const struct page *page, const struct metric *m)
{
    static const char *const words[] = {"succeeded", "failed", "cancelled", NULL};

    return write_words(page, m, "status", words, SRV_JOBS_SUCCEEDED);
}

static int write_refused(const struct page *page, const struct metric *m)
{
    static const char *const words[] = {"queue", "key", "address", NULL};

    return write_words(page, m, "limit", words, SRV_REFUSED_QUEUE);
}

static int write_reloads(const struct page *page, const struct metric *m)
{
    static const char *const words[] = {"done", "failed", NULL};

    return write_words(page, m, "outcome", words, SRV_RELOADS_DONE);
}

static int write_dropped(const struct page *page, const struct metric *m)
{
    return sample(page, m, (double)srv_log_dropped(page->daemon->log));
}

static int write_workers(const struct page *page, const struct metric *m)
{
    return sample(page, m, page->jobs.workers);
}

static int write_busy(const struct page *page, const struct metric *m)
{
    return sample(page, m, page->jobs.workers_busy);
}

static int write_bank_loads(const struct page *page, const struct metric *m)
{
    static const char *const words[] = {"loaded", "failed", NULL};

    return write_words(page, m, "outcome", words, SRV_BANK_LOADS_DONE);
}

static int write_bank_counts(const struct page *page, const struct metric *m)
{
    struct srv_bank_counts n;
    int status;

    if (!page->ready)
        return 0;
    n = srv_bank_loads_counts(page->daemon);
    status = labelled(page, m, "origin", "configuration", (uint64_t)n.configured);
    if (status == 0)
        status = labelled(page, m, "origin", "loaded", (uint64_t)n.loaded);
    return status < 0 ? status : labelled(page, m, "origin", "unloaded", (uint64_t)n.unloaded);
}

static int write_banks(const struct page *page, const struct metric *m)
{
    struct els_bank *bank;
    char name[64];
    int status = 0;

    for (size_t i = 0; page->ready && status == 0; i++) {
        bank = srv_banks_at(page->daemon->banks, i, name);
        if (!bank)
            break;
        status = labelled(page, m, "bank", name, els_bank_info(bank)->bytes);
        els_bank_unref(bank);
    }
    return status;
}

static int write_account(const struct page *page, const struct metric *m)
{
    int status = 0;

    for (int i = 0; i < SRV_CHARGE_COUNT && status == 0; i++)
        if ((int)srv_charge_resource((enum srv_charge_class)i) == m->which)
            status = labelled(page, m, "class", srv_charge_name((enum srv_charge_class)i),
                              (uint64_t)page->accounts.held[i]);
    return status;
}

static int write_account_most(const struct page *page, const struct metric *m)
{
    return sample(page, m, (double)page->accounts.most[m->which]);
}

static int write_account_limit(const struct page *page, const struct metric *m)
{
    return sample(page, m, (double)srv_accounts_limit(page->daemon->accounts, (enum srv_resource)m->which));
}

static int write_account_refused(const struct page *page, const struct metric *m)
{
    static const char *const words[] = {"total", "key", "address"};
    int status = 0;

    for (int i = 0; i < 3 && status == 0; i++)
        status = labelled(page, m, "limit", words[i], page->accounts.refused[m->which][i]);
    return status;
}

static int write_start_time(const struct page *page, const struct metric *m)
{
    return sample(page, m, srv_metrics_start_time(page->metrics));
}

static int write_cpu(const struct page *page, const struct metric *m)
{
    struct timespec ts = {0};

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    return sample(page, m, (double)ts.tv_sec + (double)ts.tv_nsec / 1e9);
}

/* The kernel makes this file when it is read: no disk is waited for. */
static int write_memory(const struct page *page, const struct metric *m)
{
    FILE *f = fopen("/proc/self/statm", "re");
    unsigned long long pages = 0;
    int found = f ? fscanf(f, "%*u %llu", &pages) : 0;

    if (f)
        fclose(f);
    return found == 1 ? sample(page, m, (double)pages * (double)sysconf(_SC_PAGESIZE)) : 0;
}

static const struct metric table[] = {
    {"els_build_info", "gauge", "Version and inner loops; always 1.", write_build, 0},
    {"els_ready", "gauge", "1 while the daemon takes work.", write_ready, 0},
    {"els_store_up", "gauge", "1 while the job store can be written to.", write_store, 0},
    {"els_http_requests_total", "counter", "Requests that ended, by route and status code.",
     write_requests, 0},
    {"els_queue_depth", "gauge", "Jobs that wait.", write_depth, 0},
    {"els_queue_capacity", "gauge", "Jobs that may wait (queue_length).", write_capacity, 0},
    {"els_jobs", "gauge", "Jobs that are not finished, by status.", write_jobs, 0},
    {"els_jobs_accepted_total", "counter", "Jobs accepted.", write_counter, SRV_JOBS_ACCEPTED},
    {"els_jobs_requeued_total", "counter", "Jobs that an earlier process had accepted, queued again.",
     write_counter, SRV_JOBS_REQUEUED},
    {"els_jobs_finished_total", "counter", "Jobs that ended, by status.", write_finished, 0},
    {"els_jobs_refused_total", "counter", "Jobs refused with 429, by the limit that was reached.",
     write_refused, 0},
    {"els_job_queue_seconds", "histogram", "From a job's acceptance to its first step.",
     write_histogram, SRV_QUEUE_SECONDS},
    {"els_job_run_seconds", "histogram", "Computing time of the jobs that ended.", write_histogram,
     SRV_RUN_SECONDS},
    {"els_step_seconds", "histogram", "One denoising step of a job.", write_histogram,
     SRV_STEP_SECONDS},
    {"els_shared_passes_total", "counter", "Steps that several jobs took in one pass over the bank.", write_counter,
     SRV_SHARED_PASSES},
    {"els_workers", "gauge", "Threads that compute.", write_workers, 0},
    {"els_workers_busy", "gauge", "Threads that are computing now.", write_busy, 0},
    {"els_reloads_total", "counter", "SIGHUPs, by whether what they brought is in use.",
     write_reloads, 0},
    {"els_log_dropped_total", "counter", "Lines of the log that standard error did not take.", write_dropped, 0},
    {"els_banks", "gauge", "Banks in memory, by where they come from; unloaded: no longer offered, still used by jobs.",
     write_bank_counts, 0},
    {"els_bank_loads_total", "counter", "Loads of banks over HTTP, by how they ended.", write_bank_loads, 0},
    {"els_bank_bytes", "gauge", "Memory of a served bank's images.", write_banks, 0},
    {"els_memory_bytes", "gauge", "Memory charged to clients and banks, by what it is for.", write_account, SRV_MEMORY},
    {"els_memory_peak_bytes", "gauge", "The most memory that was charged at once.", write_account_most, SRV_MEMORY},
    {"els_memory_limit_bytes", "gauge", "Memory that may be charged (memory_limit).", write_account_limit,
     SRV_MEMORY},
    {"els_memory_refused_total", "counter", "Charges of memory that were refused, by the limit that was reached.",
     write_account_refused, SRV_MEMORY},
    {"els_disk_bytes", "gauge", "Disk charged for jobs, by what it is for.", write_account, SRV_DISK},
    {"els_disk_peak_bytes", "gauge", "The most disk that was charged at once.", write_account_most, SRV_DISK},
    {"els_disk_limit_bytes", "gauge", "Disk that may be charged (disk_limit).", write_account_limit, SRV_DISK},
    {"els_disk_refused_total", "counter", "Charges of disk that were refused, by the limit that was reached.",
     write_account_refused, SRV_DISK},
    {"process_start_time_seconds", "gauge", "When the process began, in seconds since 1970.",
     write_start_time, 0},
    {"process_cpu_seconds_total", "counter", "Processor time of all threads.", write_cpu, 0},
    {"process_resident_memory_bytes", "gauge", "Memory that the process occupies.", write_memory, 0},
};

int srv_metrics_page(struct srv_daemon *daemon, struct els_buffer *out)
{
    /* `ready` is set after the banks and the jobs, and publishes them. */
    struct page page = {.metrics = daemon->metrics, .daemon = daemon, .out = out,
                        .ready = atomic_load(&daemon->ready)};
    int status = 0;

    srv_accounts_totals(daemon->accounts, &page.accounts);
    if (page.ready)
        page.jobs = srv_jobs_counts(daemon->jobs);
    for (size_t i = 0; i < sizeof(table) / sizeof(*table) && status == 0; i++) {
        const struct metric *m = &table[i];

        status = els_buffer_printf(out, "# HELP %s %s\n# TYPE %s %s\n", m->name, m->help, m->name,
                                   m->type);
        if (status == 0)
            status = m->write(&page, m);
    }
    return status;
}
