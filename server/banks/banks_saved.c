/*
 * The file of loaded banks. Written by the loader's thread and by whoever unloads, one at a time (bank_loads.c); read
 * by the main thread at startup.
 *
 * The file holds names and digests, no images: a bank is read again from bank_dir, and counts only if its digest is
 * the same, since a job's result depends on it. A file that cannot be understood is put aside, never overwritten.
 */
#include "server/banks/banks_saved.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/json.h"
#include "els/mem.h"
#include "server/banks/banks.h"
#include "server/base/log.h"
#include "server/config/config.h"

enum { MAX_FILE = 1 << 20, MAX_VALUES = 4096, MAX_PATH = 4200 };

static const char *const built_in_word = "builtin", *const file_word = "file";

/* ---- writing ---- */

struct gathering {
    struct srv_banks *banks;
    json_t *list;
};

static void gather(void *user, const struct srv_bank_held *held)
{
    struct gathering *g = user;
    const struct srv_bank_birth *birth = held->birth;

    if (birth->origin != SRV_BANK_CONFIGURED)
        els_json_append(&g->list,
                        json_pack("{s:s, s:s, s:s, s:s, s:I, s:b}", "name", birth->name,
                                  birth->origin == SRV_BANK_FILE ? file_word : built_in_word, birth->source, "sha256",
                                  held->sha256, "key", birth->key, "loaded_at", (json_int_t)birth->loaded_at, "offered",
                                  srv_banks_offers(g->banks, held->id)));
}

static int write_whole(int fd, const char *text)
{
    size_t size = strlen(text);

    while (size > 0) {
        ssize_t n = write(fd, text, size);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        text += n;
        size -= (size_t)n;
    }
    return fsync(fd);
}

/* Beside it, then in its place, and the rename on disk too. */
static int replace_file(const char *dir, const char *text)
{
    int folder = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), fd = -1, r = -1;

    if (folder >= 0)
        fd = openat(folder, "banks.json.tmp", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd >= 0) {
        r = write_whole(fd, text);
        if (close(fd) < 0)
            r = -1;
    }
    if (r == 0)
        r = renameat(folder, "banks.json.tmp", folder, "banks.json");
    if (r == 0)
        r = fsync(folder);
    if (folder >= 0)
        close(folder);
    return r;
}

int srv_banks_save(struct srv_daemon *daemon, struct els_error *err)
{
    const char *dir = daemon->config->state_dir;
    struct gathering g = {daemon->banks, json_array()};
    _cleanup_(els_freep) char *text = NULL;
    json_t *root;

    if (*dir) {
        srv_bank_memory_walk(daemon->bank_memory, gather, &g);
        root = json_pack("{s:i, s:o}", "version", 1, "banks", g.list);
        text = els_json_text(root, JSON_INDENT(1));
        json_decref(root);
    } else {
        json_decref(g.list);
        return 0;
    }
    if (!text)
        return els_fail(err, ELS_ENOMEM, NULL, "Out of memory.");
    if (replace_file(dir, text) < 0)
        return els_fail(err, ELS_EIO, "state_dir", "%.160s/banks.json cannot be written: %s.", dir, strerror(errno));
    return 0;
}

/* ---- reading ---- */

struct saved {
    struct srv_bank_birth birth;
    char sha256[65];
    bool offered;
};

static bool copy_text(const json_t *entry, const char *name, char *out, size_t size)
{
    const char *text = json_string_value(json_object_get(entry, name));

    return text && snprintf(out, size, "%s", text) < (int)size;
}

/* Is the entry one that srv_banks_save would have written? */
static bool read_entry(const json_t *entry, struct saved *out)
{
    const json_t *loaded_at = json_object_get(entry, "loaded_at"), *offered = json_object_get(entry, "offered");
    bool is_file = json_object_get(entry, file_word) != NULL;

    *out = (struct saved){.birth.file.fd = -1, .offered = json_is_true(offered)};
    out->birth.origin = is_file ? SRV_BANK_FILE : SRV_BANK_BUILT_IN;
    out->birth.loaded_at = json_integer_value(loaded_at);
    return copy_text(entry, "name", out->birth.name, sizeof(out->birth.name)) &&
           srv_config_is_bank_name(out->birth.name, strlen(out->birth.name)) &&
           copy_text(entry, is_file ? file_word : built_in_word, out->birth.source, sizeof(out->birth.source)) &&
           (is_file || !strpbrk(out->birth.source, "/.")) &&
           copy_text(entry, "sha256", out->sha256, sizeof(out->sha256)) &&
           copy_text(entry, "key", out->birth.key, sizeof(out->birth.key)) && json_is_integer(loaded_at) &&
           json_is_boolean(offered);
}

static int open_saved(struct srv_daemon *daemon, struct saved *saved, struct srv_banks_entry *entry,
                      struct els_error *err)
{
    struct srv_bank_birth *birth = &saved->birth;
    struct srv_payer *payer = srv_payer_new(daemon->accounts, birth->key, "");
    struct srv_bank_demand demand = {.birth = birth, .path = birth->source, .fd = -1, .payer = payer};
    struct srv_refusal why;
    int r = payer ? 0 : els_fail(err, ELS_ENOMEM, NULL, "Out of memory.");

    if (r == 0 && birth->origin == SRV_BANK_FILE) {
        if (!*daemon->config->bank_dir)
            r = els_fail(err, ELS_EINVAL, "bank_dir", "bank_dir is not set any more.");
        if (r == 0)
            r = srv_bank_dir_open(daemon->config->bank_dir, birth->source, &birth->file, err);
        demand.fd = r == 0 ? birth->file.fd : -1;
    }
    if (r == 0)
        r = srv_bank_memory_open(daemon->bank_memory, &demand, &entry->bank, &entry->id, &why, err);
    if (demand.fd >= 0)
        close(demand.fd);
    srv_payer_unref(payer);
    if (r == 0 && strcmp(els_bank_info(entry->bank)->sha256, saved->sha256) != 0) {
        els_bank_unref(entry->bank);
        r = els_fail(err, ELS_EINVAL, "sha256", "It has changed since it was loaded.");
    }
    entry->birth = *birth;
    return r;
}

/* Is the bank there already, offered or not? */
static bool is_there(struct srv_daemon *daemon, const struct saved *saved)
{
    struct els_bank *bank = srv_banks_get_exact(daemon->banks, saved->birth.name, saved->sha256);
    bool same = bank && strcmp(els_bank_info(bank)->sha256, saved->sha256) == 0;

    els_bank_unref(bank);
    return same;
}

static void restore_entry(struct srv_daemon *daemon, struct saved *saved)
{
    struct srv_banks_entry entry = {0};
    struct els_error err = {0};
    int r;

    if (is_there(daemon, saved))
        return;
    r = open_saved(daemon, saved, &entry, &err);
    if (r < 0) {
        srv_log(daemon->log, SRV_ERROR, "bank_not_restored", "bank", saved->birth.name, "from", saved->birth.source,
                "reason", *err.message ? err.message : els_status_text(r), NULL);
        return;
    }
    /* Where the configuration has taken the name, it waits for its jobs of before, as one that was unloaded. */
    if (!saved->offered || srv_banks_put(daemon->banks, &entry, false, NULL) != SRV_BANKS_NEW)
        srv_banks_hide(daemon->banks, &entry);
    else
        srv_log(daemon->log, SRV_INFO, "bank_restored", "bank", entry.birth.name, "from", entry.birth.source, NULL);
    els_bank_unref(entry.bank);
}

/* ELS_ENOENT: there is none. */
static int read_file(const char *path, struct els_buffer *out, struct els_error *err)
{
    FILE *f = fopen(path, "rbe");
    char block[4096];
    int r = 0;

    if (!f)
        return els_fail(err, errno == ENOENT ? ELS_ENOENT : ELS_EIO, NULL, "%s", strerror(errno));
    while (r == 0 && !feof(f)) {
        size_t n = fread(block, 1, sizeof(block), f);

        r = ferror(f) ? els_fail(err, ELS_EIO, NULL, "%s", strerror(errno)) : els_buffer_append(out, block, n);
    }
    fclose(f);
    return r;
}

/* The entries, every one of them sound; or NULL and a sentence. */
static struct saved *parse(const struct els_buffer *text, size_t *n, struct els_error *err)
{
    const struct els_json_limits limits = {.depth = 4, .values = MAX_VALUES, .string = 4096};
    json_t *root = NULL, *list;
    struct saved *all = NULL;

    if (els_json_parse(&root, (const char *)text->data, text->size, &limits, "banks.json", err) < 0)
        return NULL;
    list = json_object_get(root, "banks");
    *n = json_array_size(list);
    if (json_integer_value(json_object_get(root, "version")) != 1 || !json_is_array(list) ||
        *n > 2 * SRV_BANKS_LOADED) {
        els_fail(err, ELS_EFORMAT, NULL, "it is no list of banks of this version");
    } else {
        all = els_alloc_array(*n + 1, sizeof(*all));
        for (size_t i = 0; all && i < *n; i++)
            if (!read_entry(json_array_get(list, i), &all[i])) {
                els_fail(err, ELS_EFORMAT, NULL, "its entry %zu is damaged", i);
                free(all);
                all = NULL;
            }
    }
    json_decref(root);
    return all;
}

void srv_banks_restore(struct srv_daemon *daemon)
{
    _cleanup_(els_buffer_deinit) struct els_buffer text = ELS_BUFFER_INIT(MAX_FILE);
    _cleanup_(els_freep) struct saved *all = NULL;
    char path[MAX_PATH], aside[MAX_PATH + 16];
    struct els_error err = {0};
    size_t n = 0;
    int r;

    if (!*daemon->config->state_dir)
        return;
    snprintf(path, sizeof(path), "%s/banks.json", daemon->config->state_dir);
    r = read_file(path, &text, &err);
    if (r == ELS_ENOENT)
        return;
    if (r == 0)
        all = parse(&text, &n, &err);
    if (!all) {
        snprintf(aside, sizeof(aside), "%s.damaged", path);
        if (rename(path, aside) < 0)
            snprintf(aside, sizeof(aside), "%s", path);
        srv_log(daemon->log, SRV_ERROR, "banks_not_restored", "file", aside, "reason",
                *err.message ? err.message : els_status_text(r < 0 ? r : ELS_ENOMEM), NULL);
        return;
    }
    /* Those that are offered first: others are only needed where no offered one is the same. */
    for (int pass = 0; pass < 2; pass++)
        for (size_t i = 0; i < n; i++)
            if (all[i].offered == (pass == 0))
                restore_entry(daemon, &all[i]);
}
