/*
 * The table of settings: one row declares a key, and everything else (file, environment, flags,
 * help, the example file and its test) is drawn from the rows. Called by the main thread at
 * startup. A value that is in a srv_config has passed its row's check.
 */
#include "server/config/config_keys.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_TEXT = 4095,
    MAX_BANKS = 64,
    MAX_BANK_NAME = 63,
};

#define KIB ((int64_t)1 << 10)
#define MIB ((int64_t)1 << 20)
#define GIB ((int64_t)1 << 30)
#define TIB ((int64_t)1 << 40)
#define DAY ((int64_t)24 * 60 * 60)

#define TEXT(key_section, key, value, words, about)                                                \
    {                                                                                              \
        .section = key_section, .name = #key, .type = SRV_KEY_TEXT,                                \
        .offset = offsetof(struct srv_config, key), .doc = about, .text = value, .choices = words  \
    }
#define LIVE_TEXT(key_section, key, value, words, about)                                           \
    {                                                                                              \
        .section = key_section, .name = #key, .type = SRV_KEY_TEXT,                                \
        .offset = offsetof(struct srv_config, key), .doc = about, .text = value, .choices = words, \
        .live = true                                                                               \
    }
#define NUMBER(key_section, key, from, to, value, about)                                           \
    {                                                                                              \
        .section = key_section, .name = #key, .type = SRV_KEY_INT,                                 \
        .offset = offsetof(struct srv_config, key), .doc = about, .min = from, .max = to,          \
        .number = value                                                                            \
    }
#define FLAG(key_section, key, about)                                                              \
    {                                                                                              \
        .section = key_section, .name = #key, .type = SRV_KEY_BOOL,                                \
        .offset = offsetof(struct srv_config, key), .doc = about                                   \
    }

static const char listening[] = "Listening";
static const char guarding[] = "Limits on clients";
static const char working[] = "Work";
static const char keeping[] = "Keeping results";
static const char loading[] = "Banks over HTTP";
static const char telling[] = "Log";

const struct srv_key srv_keys[] = {
    TEXT(listening, bind, "127.0.0.1", NULL, "IP address to listen on."),
    NUMBER(listening, port, 0, 65535, 8080, "TCP port; 0 takes any free one."),
    TEXT(listening, port_file, "", NULL,
         "File that receives the port number once the daemon is ready; empty: none."),
    TEXT(listening, keys_file, "", NULL,
         "File of API keys (els key add makes it, mode 0600); then every request for work or "
         "results needs one. Empty: nobody does. Read again on SIGHUP."),
    FLAG(listening, allow_unauthenticated,
         "Listen beyond this machine although anybody who reaches the port may use it."),
    TEXT(listening, allowed_hosts, "", NULL,
         "Host names that a reverse proxy passes on, comma-separated. localhost and IP addresses "
         "are always served; any other Host is refused, against DNS rebinding."),
    TEXT(listening, cors_origins, "", NULL,
         "Web origins (https://notebook.example) whose pages may use this daemon, "
         "comma-separated; empty: only its own page."),
    NUMBER(listening, http_threads, 2, 64, 2, "Threads that parse and send; they never compute."),

    NUMBER(guarding, max_connections, 8, 65536, 1024,
           "Open connections in all; fewer where the system allows the daemon fewer descriptors."),
    NUMBER(guarding, max_connections_per_address, 0, 65536, 256,
           "Open connections from one address (of IPv6: from one /64); 0: as many as max_connections, as behind a "
           "reverse proxy, from whose address all come. Who has so many can still ask for /healthz."),
    NUMBER(guarding, max_body_bytes, KIB, 4 * GIB, 64 * MIB, "Bytes in the body of one request."),
    NUMBER(guarding, upload_timeout, 1, 86400, 30, "Seconds in which a whole request must arrive."),
    NUMBER(guarding, min_read_rate, 1, 1 << 30, 16000,
           "Bytes per second that a client must read of an answer that waits for it; one that keeps to it is never "
           "closed."),
    NUMBER(guarding, read_grace, 1, 86400, 30, "Seconds that a client may fall behind min_read_rate before it is closed."),
    NUMBER(guarding, max_jobs_per_key, 0, 100000, 0,
           "Unfinished jobs of one API key; 0: as many as the queue takes."),
    NUMBER(guarding, max_jobs_per_address, 0, 100000, 0,
           "Unfinished jobs from one address; 0: as many as the queue takes."),

    NUMBER(guarding, memory_limit, 0, 1024 * TIB, 0,
           "Bytes of memory for everything that clients cause: requests, jobs, results without a state_dir, answers, "
           "banks. At least 64 MiB; 0: a quarter of the machine's memory, or of the container's."),
    NUMBER(guarding, disk_limit, 0, 1024 * TIB, 0,
           "Bytes in state_dir for inputs and results; 0: retention_bytes and queue_bytes, and a tenth more."),
    NUMBER(guarding, share_per_key, 1, 100, 50,
           "Percent of memory_limit and disk_limit that the requests and unfinished jobs of one API key may hold."),
    NUMBER(guarding, share_per_address, 1, 100, 50, "The same for one address."),

    NUMBER(working, threads, 0, 1024, 0, "Threads that compute; 0: one per core."),
    TEXT(working, cpu, "auto", NULL, "Inner loops for a kind of CPU, such as c or avx2; auto: the fastest."),
    NUMBER(working, queue_length, 1, 100000, 64, "Jobs that may wait; a further one gets 429."),
    NUMBER(working, queue_bytes, MIB, TIB, 512 * MIB,
           "Bytes that the parameters and uploaded tensors of unfinished jobs may take; a further job gets 429, one that "
           "takes more by itself 413."),
    NUMBER(working, images_per_pass, 1, 64, 2,
           "Jobs that wait one behind the other and are alike but for seeds, numbers of images, noise and sampler are "
           "computed together, up to so many images and four jobs: every pass over the bank then serves all of them. "
           "More finish in an hour, and the first of them ends when the last does. 1: one job after the other."),
    NUMBER(working, sync_timeout, 0, 3600, 120,
           "Seconds that POST /v1/samples waits before it answers 202."),
    NUMBER(working, max_num_images, 1, 10000, 64, "Images in one job."),
    NUMBER(working, max_num_inference_steps, 2, 10000, 5000, "Steps in one job."),
    NUMBER(working, max_result_bytes, MIB, TIB, 512 * MIB, "Bytes in the results of one job."),
    NUMBER(working, max_job_cost, 1, INT64_MAX, 1000000000000000,
           "Work of one job: images x steps x scales x values of an image x candidates of a pixel, "
           "which come from every image of the bank."),
    NUMBER(working, job_timeout, 0, 3650 * DAY, 7 * DAY,
           "Seconds that one job may compute before it fails; 0: no limit."),

    TEXT(keeping, state_dir, "", NULL,
         "Directory for jobs and results, made if absent (mode 0700); empty: they are kept in "
         "memory and end with the daemon."),
    NUMBER(keeping, retention_seconds, 1, 3650 * DAY, 7 * DAY,
           "Seconds that a finished job is kept."),
    NUMBER(keeping, retention_bytes, MIB, 1024 * TIB, 2 * GIB,
           "Bytes of results that are kept in all, at any time; the oldest go before a new one is stored. One job "
           "may take half."),

    TEXT(loading, bank_dir, "", NULL,
         "Directory whose .safetensors files may be loaded with POST /v1/banks/{name}, by API keys that have the right "
         "(els key add --right banks), or without keys where only this machine reaches the port. Empty: nobody may."),

    LIVE_TEXT(telling, log_level, "info", "debug info warning error",
              "Least important line to log."),
    LIVE_TEXT(telling, log_format, "text", "text json", "Form of the lines on standard error."),
    {0},
};

const char *srv_config_key(size_t i)
{
    size_t n = sizeof(srv_keys) / sizeof(*srv_keys) - 1;

    return i < n ? srv_keys[i].name : NULL;
}

bool srv_config_is_live(size_t i)
{
    return srv_keys[i].live;
}

bool srv_config_is_same(const struct srv_config *a, const struct srv_config *b, size_t i)
{
    const void *x = (const char *)a + srv_keys[i].offset, *y = (const char *)b + srv_keys[i].offset;

    switch (srv_keys[i].type) {
    case SRV_KEY_TEXT:
        return strcmp(*(char *const *)x, *(char *const *)y) == 0;
    case SRV_KEY_INT:
        return *(const int64_t *)x == *(const int64_t *)y;
    case SRV_KEY_BOOL:
        return *(const bool *)x == *(const bool *)y;
    }
    return false;
}

const struct srv_key *srv_key_find(const char *name, size_t length)
{
    for (const struct srv_key *key = srv_keys; key->name; key++) {
        size_t i = 0;

        while (i < length && (name[i] == '-' ? '_' : name[i]) == key->name[i])
            i++;
        if (i == length && !key->name[i])
            return key;
    }
    return NULL;
}

static void *field_of(const struct srv_key *key, struct srv_config *config)
{
    return (char *)config + key->offset;
}

/* Is `value` one of the words of `choices`? */
static bool is_choice(const char *choices, const char *value)
{
    size_t length = strlen(value);

    for (const char *word = choices; *word;) {
        size_t n = strcspn(word, " ");

        if (n == length && memcmp(word, value, n) == 0)
            return true;
        word += n + strspn(word + n, " ");
    }
    return false;
}

static int set_text(const struct srv_key *key, struct srv_config *config, const char *value,
                    const char *where, struct els_error *err)
{
    char **field = field_of(key, config);
    char *copy;

    if (strlen(value) > MAX_TEXT)
        return els_fail(err, ELS_ELIMIT, key->name, "%s has %zu characters; at most %d are allowed",
                        where, strlen(value), MAX_TEXT);
    if (key->choices && !is_choice(key->choices, value))
        return els_fail(err, ELS_EINVAL, key->name, "%s is \"%.64s\"; it must be one of: %s", where,
                        value, key->choices);
    copy = strdup(value);
    if (!copy)
        return els_fail(err, ELS_ENOMEM, key->name, "out of memory");
    free(*field);
    *field = copy;
    return 0;
}

static int set_number(const struct srv_key *key, struct srv_config *config, int64_t value,
                      const char *where, struct els_error *err)
{
    if (value < key->min || value > key->max)
        return els_fail(err, ELS_EINVAL, key->name,
                        "%s is %" PRId64 "; it must be a whole number from %" PRId64 " to %" PRId64,
                        where, value, key->min, key->max);
    *(int64_t *)field_of(key, config) = value;
    return 0;
}

static int set_bool(const struct srv_key *key, struct srv_config *config, bool value)
{
    *(bool *)field_of(key, config) = value;
    return 0;
}

int srv_key_set_text(const struct srv_key *key, struct srv_config *config, const char *value,
                     const char *where, struct els_error *err)
{
    char *end;
    long long number;

    switch (key->type) {
    case SRV_KEY_TEXT:
        return set_text(key, config, value, where, err);
    case SRV_KEY_INT:
        errno = 0;
        number = strtoll(value, &end, 10);
        if (end == value || *end || errno || isspace((unsigned char)*value))
            return els_fail(err, ELS_EINVAL, key->name,
                            "%s is \"%.64s\"; it must be a whole number from %" PRId64
                            " to %" PRId64,
                            where, value, key->min, key->max);
        return set_number(key, config, number, where, err);
    case SRV_KEY_BOOL:
        if (strcmp(value, "true") != 0 && strcmp(value, "false") != 0)
            return els_fail(err, ELS_EINVAL, key->name, "%s is \"%.64s\"; it must be true or false",
                            where, value);
        return set_bool(key, config, strcmp(value, "true") == 0);
    }
    return ELS_EINVAL;
}

int srv_key_set_json(const struct srv_key *key, struct srv_config *config, const json_t *value,
                     const char *where, struct els_error *err)
{
    switch (key->type) {
    case SRV_KEY_TEXT:
        if (!json_is_string(value))
            return els_fail(err, ELS_EINVAL, key->name, "%s must be a text in quotes", where);
        if (strlen(json_string_value(value)) != json_string_length(value))
            return els_fail(err, ELS_EINVAL, key->name, "%s must not contain a NUL character",
                            where);
        return set_text(key, config, json_string_value(value), where, err);
    case SRV_KEY_INT:
        if (!json_is_integer(value))
            return els_fail(err, ELS_EINVAL, key->name,
                            "%s must be a whole number from %" PRId64 " to %" PRId64, where,
                            key->min, key->max);
        return set_number(key, config, json_integer_value(value), where, err);
    case SRV_KEY_BOOL:
        if (!json_is_boolean(value))
            return els_fail(err, ELS_EINVAL, key->name, "%s must be true or false", where);
        return set_bool(key, config, json_is_true(value));
    }
    return ELS_EINVAL;
}

int srv_key_set_default(const struct srv_key *key, struct srv_config *config, struct els_error *err)
{
    switch (key->type) {
    case SRV_KEY_TEXT:
        return set_text(key, config, key->text, key->name, err);
    case SRV_KEY_INT:
        return set_number(key, config, key->number, key->name, err);
    case SRV_KEY_BOOL:
        return set_bool(key, config, key->number);
    }
    return ELS_EINVAL;
}

void srv_key_clear(const struct srv_key *key, struct srv_config *config)
{
    if (key->type == SRV_KEY_TEXT) {
        char **field = field_of(key, config);

        free(*field);
        *field = NULL;
    }
}

bool srv_config_is_bank_name(const char *name, size_t n)
{
    if (n < 1 || n > MAX_BANK_NAME || !isalnum((unsigned char)name[0]))
        return false;
    for (size_t i = 0; i < n; i++)
        if (!isalnum((unsigned char)name[i]) && !strchr("._-", name[i]))
            return false;
    return true;
}

int srv_config_add_bank(struct srv_config *config, const char *name, size_t name_length,
                        const char *file, const char *where, struct els_error *err)
{
    struct srv_config_bank *banks, bank;

    if (!srv_config_is_bank_name(name, name_length))
        return els_fail(err, ELS_EINVAL, "banks",
                        "%s names a bank \"%.*s\"; a name has 1 to %d letters, digits, '.', '_' or "
                        "'-' and begins with a letter or digit",
                        where, (int)(name_length < 64 ? name_length : 64), name, MAX_BANK_NAME);
    if (!*file || strlen(file) > MAX_TEXT)
        return els_fail(err, ELS_EINVAL, "banks",
                        "%s needs a .safetensors file or a built-in bank's name, of at most %d "
                        "characters",
                        where, MAX_TEXT);
    if (config->num_banks >= MAX_BANKS)
        return els_fail(err, ELS_ELIMIT, "banks", "%s: at most %d banks can be served", where,
                        MAX_BANKS);
    for (size_t i = 0; i < config->num_banks; i++)
        if (strlen(config->banks[i].name) == name_length &&
            memcmp(config->banks[i].name, name, name_length) == 0)
            return els_fail(err, ELS_EINVAL, "banks", "%s names the bank \"%s\" a second time",
                            where, config->banks[i].name);
    banks = reallocarray(config->banks, config->num_banks + 1, sizeof(*banks));
    if (!banks)
        return els_fail(err, ELS_ENOMEM, "banks", "out of memory");
    config->banks = banks;
    bank = (struct srv_config_bank){.name = strndup(name, name_length), .file = strdup(file)};
    if (!bank.name || !bank.file) {
        free(bank.name);
        free(bank.file);
        return els_fail(err, ELS_ENOMEM, "banks", "out of memory");
    }
    config->banks[config->num_banks++] = bank;
    return 0;
}

void srv_config_clear_banks(struct srv_config *config)
{
    for (size_t i = 0; i < config->num_banks; i++) {
        free(config->banks[i].name);
        free(config->banks[i].file);
    }
    free(config->banks);
    config->banks = NULL;
    config->num_banks = 0;
}
