/*
 * API keys: the file, and the question whether a token is one of them. The question is asked on the
 * HTTP threads for every request: one SHA-256 of a short text, and a comparison with each key that
 * takes the same time whatever is found, so that time tells nothing about the keys.
 *
 * A reload reads into a table of its own and swaps; the lock is held for one walk through at most
 * a thousand digests, or for the swap. The main thread opens and reloads; els adds and removes.
 */
#include "server/config/apikeys.h"

#include <errno.h>
#include <fcntl.h>
#include <nettle/memops.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/sha256.h"
#include "els/mem.h"

enum { MAX_FILE = 1 << 20, MAX_TOKEN = 512, HEX = ELS_SHA256_HEX };

struct entry {
    char name[SRV_APIKEY_NAME];
    char sha256[HEX];
    unsigned rights; /* of enum srv_right */
};

struct table {
    struct entry *entries;
    size_t n;
};

struct srv_apikeys {
    pthread_mutex_t lock;
    struct table table;
    atomic_uint generation; /* one more with each table; written under the lock */
};

static void table_deinit(struct table *table)
{
    free(table->entries);
    *table = (struct table){0};
}

/* ---- rights ---- */

static const struct {
    const char *word;
    enum srv_right right;
} rights_words[] = {
    {"banks", SRV_RIGHT_BANKS},
};

enum { NUM_RIGHTS = sizeof(rights_words) / sizeof(*rights_words) };

static unsigned find_right(const char *word, size_t n)
{
    for (size_t i = 0; i < NUM_RIGHTS; i++)
        if (strlen(rights_words[i].word) == n && memcmp(rights_words[i].word, word, n) == 0)
            return rights_words[i].right;
    return 0;
}

bool srv_rights_parse(const char *text, unsigned *rights, char wrong[SRV_RIGHTS_TEXT])
{
    *rights = 0;
    while (*text) {
        size_t n = strcspn(text, ",");
        unsigned right = find_right(text, n);

        /* "banks," ends in an empty word. */
        if (!right || (text[n] == ',' && !text[n + 1])) {
            snprintf(wrong, SRV_RIGHTS_TEXT, "%.*s", right ? 0 : (int)(n < SRV_RIGHTS_TEXT ? n : SRV_RIGHTS_TEXT - 1),
                     text);
            return false;
        }
        *rights |= right;
        text += n + (text[n] == ',');
    }
    return true;
}

const char *srv_rights_text(unsigned rights, char out[SRV_RIGHTS_TEXT])
{
    size_t used = 0;

    out[0] = '\0';
    for (size_t i = 0; i < NUM_RIGHTS; i++)
        if (rights & rights_words[i].right)
            used += (size_t)snprintf(out + used, SRV_RIGHTS_TEXT - used, "%s%s", used ? "," : "", rights_words[i].word);
    return out;
}

/* ---- the file ---- */

static bool is_name(const char *name)
{
    size_t n = strlen(name);

    return n > 0 && n < SRV_APIKEY_NAME &&
           name[strspn(name, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ._-")] ==
               '\0';
}

static const struct entry *find_name(const struct table *table, const char *name)
{
    for (size_t i = 0; i < table->n; i++)
        if (strcmp(table->entries[i].name, name) == 0)
            return &table->entries[i];
    return NULL;
}

static int add_entry(struct table *table, const char *name, const char *sha256, unsigned rights)
{
    struct entry *entries = reallocarray(table->entries, table->n + 1, sizeof(*entries));

    if (!entries)
        return ELS_ENOMEM;
    table->entries = entries;
    snprintf(entries[table->n].name, SRV_APIKEY_NAME, "%s", name);
    snprintf(entries[table->n].sha256, HEX, "%s", sha256);
    entries[table->n].rights = rights;
    table->n++;
    return 0;
}

/* One line, which is changed. */
static int parse_line(struct table *table, char *line, const char *path, int number,
                      struct els_error *err)
{
    static const char blank[] = " \t\r";
    char *rest = line + strspn(line, blank);
    char wrong[SRV_RIGHTS_TEXT], all[SRV_RIGHTS_TEXT];
    const char *name, *sha256, *words = "", *more;
    unsigned rights = 0;

    if (!*rest || *rest == '#')
        return 0;
    name = strsep(&rest, blank);
    if (rest)
        rest += strspn(rest, blank);
    sha256 = strsep(&rest, blank);
    if (rest)
        rest += strspn(rest, blank);
    if (rest && *rest)
        words = strsep(&rest, blank);
    more = rest ? rest + strspn(rest, blank) : "";
    if (!is_name(name) || !sha256 || strlen(sha256) != HEX - 1 ||
        sha256[strspn(sha256, "0123456789abcdef")] || *more)
        return els_fail(err, ELS_EFORMAT, "keys_file",
                        "%.200s, line %d is no key: a line is a name and the 64 lower-case hex "
                        "digits of the key's SHA-256, and its rights, if any, separated by commas",
                        path, number);
    if (!srv_rights_parse(words, &rights, wrong))
        return els_fail(err, ELS_EFORMAT, "keys_file",
                        "%.200s, line %d: \"%s\" is given the right \"%s\"; there is no such right, but: %s", path,
                        number, name, wrong, srv_rights_text(~0u, all));
    if (find_name(table, name))
        return els_fail(err, ELS_EFORMAT, "keys_file", "%.200s, line %d: \"%s\" is there twice",
                        path, number, name);
    if (table->n == SRV_APIKEYS_MOST)
        return els_fail(err, ELS_ELIMIT, "keys_file", "%.200s holds more than %d keys", path,
                        SRV_APIKEYS_MOST);
    if (add_entry(table, name, sha256, rights) < 0)
        return els_fail(err, ELS_ENOMEM, "keys_file", "out of memory");
    return 0;
}

static int parse(struct table *table, char *text, const char *path, struct els_error *err)
{
    char *rest = text, *line;
    int number = 0, r = 0;

    while (r == 0 && (line = strsep(&rest, "\n")))
        r = parse_line(table, line, path, ++number, err);
    return r;
}

/* Nobody but the owner may read it, let alone write. */
static int check_file(int fd, const char *path, struct els_error *err)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return els_fail(err, ELS_EIO, "keys_file", "%.200s cannot be read: %s", path,
                        strerror(errno));
    if (!S_ISREG(st.st_mode))
        return els_fail(err, ELS_EIO, "keys_file", "%.200s is not a plain file", path);
    if (st.st_mode & 077)
        return els_fail(err, ELS_EIO, "keys_file",
                        "%.200s has mode %03o, so others than its owner can open it; chmod 600 "
                        "makes it safe",
                        path, (unsigned)st.st_mode & 0777);
    return 0;
}

static int read_all(int fd, const char *path, struct els_buffer *out, struct els_error *err)
{
    char block[4096];
    ssize_t n;
    int r = 0;

    while (r == 0 && (n = read(fd, block, sizeof(block))) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        r = n < 0 ? ELS_EIO : els_buffer_append(out, block, (size_t)n);
    }
    if (r == 0)
        r = els_buffer_append(out, "", 1);
    if (r == ELS_EIO)
        return els_fail(err, r, "keys_file", "%.200s cannot be read: %s", path, strerror(errno));
    if (r < 0)
        return els_fail(err, r, "keys_file", "%.200s is larger than %d bytes", path, MAX_FILE);
    if (strlen((const char *)out->data) != out->size - 1)
        return els_fail(err, ELS_EFORMAT, "keys_file", "%.200s holds a NUL byte", path);
    return 0;
}

/* With `absent_is_empty`, a file that is not there holds no keys. */
static int load(struct table *table, const char *path, bool absent_is_empty, struct els_error *err)
{
    _cleanup_(els_buffer_deinit) struct els_buffer text = ELS_BUFFER_INIT(MAX_FILE);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), r;

    if (fd < 0 && errno == ENOENT && absent_is_empty)
        return 0;
    if (fd < 0)
        return els_fail(err, ELS_EIO, "keys_file", "%.200s cannot be opened: %s", path,
                        strerror(errno));
    r = check_file(fd, path, err);
    if (r == 0)
        r = read_all(fd, path, &text, err);
    if (r == 0)
        r = parse(table, (char *)text.data, path, err);
    close(fd);
    if (r < 0)
        table_deinit(table);
    return r;
}

/* ---- asking ---- */

static int load_some(struct table *table, const char *path, struct els_error *err)
{
    int r = load(table, path, false, err);

    if (r == 0 && table->n == 0)
        r = els_fail(err, ELS_EFORMAT, "keys_file",
                     "%.200s holds no key; els key add %.200s NAME makes one", path, path);
    return r;
}

int srv_apikeys_open(struct srv_apikeys **out, const char *path, struct els_error *err)
{
    struct srv_apikeys *keys = els_alloc_array(1, sizeof(*keys));
    int r;

    if (!keys)
        return els_fail(err, ELS_ENOMEM, "keys_file", "out of memory");
    pthread_mutex_init(&keys->lock, NULL);
    r = load_some(&keys->table, path, err);
    if (r < 0)
        srv_apikeys_free(keys);
    else
        *out = keys;
    return r;
}

struct srv_apikeys *srv_apikeys_free(struct srv_apikeys *keys)
{
    if (!keys)
        return NULL;
    table_deinit(&keys->table);
    pthread_mutex_destroy(&keys->lock);
    free(keys);
    return NULL;
}

int srv_apikeys_reload(struct srv_apikeys *keys, const char *path, struct els_error *err)
{
    struct table fresh = {0}, old;
    int r = load_some(&fresh, path, err);

    if (r < 0)
        return r;
    pthread_mutex_lock(&keys->lock);
    old = keys->table;
    keys->table = fresh;
    atomic_fetch_add(&keys->generation, 1);
    pthread_mutex_unlock(&keys->lock);
    table_deinit(&old);
    return 0;
}

size_t srv_apikeys_count(struct srv_apikeys *keys)
{
    size_t n;

    pthread_mutex_lock(&keys->lock);
    n = keys->table.n;
    pthread_mutex_unlock(&keys->lock);
    return n;
}

const char *srv_apikeys_name(const struct srv_apikeys *keys, size_t i)
{
    return i < keys->table.n ? keys->table.entries[i].name : NULL;
}

static void digest(const char *token, char out[HEX])
{
    struct els_sha256 hash;

    els_sha256_init(&hash);
    els_sha256_update(&hash, token, strlen(token));
    els_sha256_hex(&hash, out);
}

/* With the lock held: which one it is, or NULL. The walk does not end early. */
static const struct entry *find_digest(const struct srv_apikeys *keys, const char *sha256)
{
    const struct entry *found = NULL;

    for (size_t i = 0; i < keys->table.n; i++)
        if (memeql_sec(keys->table.entries[i].sha256, sha256, HEX))
            found = &keys->table.entries[i];
    return found;
}

bool srv_apikeys_holds(struct srv_apikeys *keys, struct srv_apikey *key)
{
    const struct entry *entry;
    bool found;

    if (atomic_load(&keys->generation) == key->generation)
        return true;
    pthread_mutex_lock(&keys->lock);
    entry = find_digest(keys, key->sha256);
    found = entry && strcmp(entry->name, key->name) == 0;
    if (found)
        key->generation = atomic_load(&keys->generation);
    pthread_mutex_unlock(&keys->lock);
    return found;
}

bool srv_apikeys_find(struct srv_apikeys *keys, const char *token, struct srv_apikey *out)
{
    const struct entry *entry;

    if (strnlen(token, MAX_TOKEN) == MAX_TOKEN)
        return false;
    digest(token, out->sha256);
    pthread_mutex_lock(&keys->lock);
    entry = find_digest(keys, out->sha256);
    snprintf(out->name, sizeof(out->name), "%s", entry ? entry->name : "");
    out->generation = atomic_load(&keys->generation);
    pthread_mutex_unlock(&keys->lock);
    return entry;
}

unsigned srv_apikeys_rights(struct srv_apikeys *keys, const char *name)
{
    const struct entry *entry;
    unsigned rights;

    pthread_mutex_lock(&keys->lock);
    entry = find_name(&keys->table, name);
    rights = entry ? entry->rights : 0;
    pthread_mutex_unlock(&keys->lock);
    return rights;
}

/* ---- els key ---- */

static int write_table(int fd, const struct table *table)
{
    _cleanup_(els_buffer_deinit) struct els_buffer text = ELS_BUFFER_INIT(MAX_FILE);
    size_t done = 0;
    char rights[SRV_RIGHTS_TEXT];
    int r = els_buffer_printf(&text, "# API keys of elsd: a name, the SHA-256 of the key, and its rights, if any.\n");

    for (size_t i = 0; r == 0 && i < table->n; i++) {
        srv_rights_text(table->entries[i].rights, rights);
        r = els_buffer_printf(&text, "%s %s%s%s\n", table->entries[i].name, table->entries[i].sha256,
                              *rights ? " " : "", rights);
    }
    while (r == 0 && done < text.size) {
        ssize_t n = write(fd, text.data + done, text.size - done);

        if (n < 0)
            return ELS_EIO;
        done += (size_t)n;
    }
    return r == 0 && fsync(fd) < 0 ? ELS_EIO : r;
}

/* Beside it, then in its place: a daemon that reads it meanwhile sees the old file or the new. */
static int save(const struct table *table, const char *path, struct els_error *err)
{
    char part[4096];
    int fd, r;

    if (snprintf(part, sizeof(part), "%s.XXXXXX", path) >= (int)sizeof(part))
        return els_fail(err, ELS_EINVAL, "keys_file", "the file's name is too long");
    fd = mkostemp(part, O_CLOEXEC); /* mode 0600 */
    if (fd < 0)
        return els_fail(err, ELS_EIO, "keys_file", "%.200s cannot be written: %s", path,
                        strerror(errno));
    r = write_table(fd, table);
    if (close(fd) < 0 && r == 0)
        r = ELS_EIO;
    if (r == 0 && rename(part, path) < 0)
        r = ELS_EIO;
    if (r < 0) {
        els_fail(err, r, "keys_file", "%.200s cannot be written: %s", path,
                 r == ELS_EIO ? strerror(errno) : els_status_text(r));
        unlink(part);
    }
    return r;
}

static int make_key(char key[SRV_APIKEY_TEXT])
{
    unsigned char random[32];

    if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
        return ELS_EIO;
    snprintf(key, SRV_APIKEY_TEXT, "els_");
    for (size_t i = 0; i < sizeof(random); i++)
        snprintf(key + 4 + 2 * i, 3, "%02x", random[i]);
    return 0;
}

int srv_apikeys_add(const char *path, const char *name, unsigned rights, char key[SRV_APIKEY_TEXT],
                    struct els_error *err)
{
    struct table table = {0};
    char sha256[HEX];
    int r;

    if (!is_name(name))
        return els_fail(err, ELS_EINVAL, "name",
                        "\"%.80s\" is no name: it must be 1 to %d letters, digits, '.', '_' or '-'",
                        name, SRV_APIKEY_NAME - 1);
    r = load(&table, path, true, err);
    if (r == 0 && find_name(&table, name))
        r = els_fail(err, ELS_EINVAL, "name", "%.200s has a key \"%s\" already", path, name);
    if (r == 0 && table.n == SRV_APIKEYS_MOST)
        r = els_fail(err, ELS_ELIMIT, "keys_file", "%.200s holds %d keys, which is the most", path,
                     SRV_APIKEYS_MOST);
    if (r == 0 && make_key(key) < 0)
        r = els_fail(err, ELS_EIO, NULL, "the system gives no random numbers");
    if (r == 0) {
        digest(key, sha256);
        r = add_entry(&table, name, sha256, rights);
    }
    if (r == 0)
        r = save(&table, path, err);
    table_deinit(&table);
    return r;
}

int srv_apikeys_remove(const char *path, const char *name, struct els_error *err)
{
    struct table table = {0};
    const struct entry *entry;
    int r = load(&table, path, false, err);

    if (r < 0)
        return r;
    entry = find_name(&table, name);
    if (entry) {
        size_t i = (size_t)(entry - table.entries);

        memmove(table.entries + i, table.entries + i + 1,
                (--table.n - i) * sizeof(*table.entries));
        r = save(&table, path, err);
    } else {
        r = els_fail(err, ELS_ENOENT, "name", "%.200s has no key \"%.80s\"", path, name);
    }
    table_deinit(&table);
    return r;
}
