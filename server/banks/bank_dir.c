/*
 * The directory of banks. Handlers call this: it opens and looks, which is quick, and never reads a file.
 *
 * A file is looked at before it is opened, since opening a device may already do something, and again afterwards,
 * since it may have been replaced in between.
 */
#include "server/banks/bank_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/json.h"
#include "core/base/utf8.h"
#include "els/mem.h"
#include "server/base/clock.h"

enum { MAX_SEEN = 100000 }; /* entries of the directory that a listing walks through */

static const char ending[] = ".safetensors";

static int open_dir(const char *dir, struct els_error *err)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return els_fail(err, ELS_EIO, "bank_dir", "bank_dir \"%.160s\" cannot be opened: %s", dir, strerror(errno));
    return fd;
}

int srv_bank_dir_check(const char *dir, struct els_error *err)
{
    int fd = open_dir(dir, err);

    if (fd < 0)
        return fd;
    close(fd);
    return 0;
}

static int64_t nanoseconds(struct timespec t)
{
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void fill(struct srv_bank_file *out, const struct stat *st)
{
    out->size = st->st_size;
    out->device = st->st_dev;
    out->inode = st->st_ino;
    out->modified_ns = nanoseconds(st->st_mtim);
    out->changed_ns = nanoseconds(st->st_ctim);
}

bool srv_bank_file_look(int fd, struct srv_bank_file *out)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return false;
    out->fd = fd;
    fill(out, &st);
    return true;
}

static int check_name(const char *name, struct els_error *err)
{
    if (*name && *name != '.' && !strchr(name, '/') && els_utf8_is_line(name, SRV_BANK_FILE_NAME - 1))
        return 0;
    return els_fail(err, ELS_EINVAL, "file",
                    "file is \"%.80s\"; it must be the name of a file in bank_dir: 1 to %d bytes of text, without a "
                    "slash and not beginning with a dot.",
                    name, SRV_BANK_FILE_NAME - 1);
}

static int check_kind(const char *name, const struct stat *st, struct els_error *err)
{
    if (S_ISREG(st->st_mode))
        return 0;
    return els_fail(err, ELS_EINVAL, "file", "\"%.80s\" in bank_dir is a %s; it must be a regular file.", name,
                    S_ISLNK(st->st_mode)   ? "symbolic link"
                    : S_ISDIR(st->st_mode) ? "directory"
                                           : "device, pipe or socket");
}

static int fail_open(const char *name, struct els_error *err)
{
    if (errno == ENOENT)
        return els_fail(err, ELS_ENOENT, "file", "There is no file \"%.80s\" in bank_dir.", name);
    return els_fail(err, ELS_EIO, "file", "\"%.80s\" in bank_dir cannot be opened: %s.", name, strerror(errno));
}

static int open_in(int dir, const char *name, struct srv_bank_file *out, struct els_error *err)
{
    struct stat before, st;
    int r;

    if (fstatat(dir, name, &before, AT_SYMLINK_NOFOLLOW) < 0)
        return fail_open(name, err);
    r = check_kind(name, &before, err);
    if (r < 0)
        return r;
    out->fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (out->fd < 0)
        return fail_open(name, err);
    if (fstat(out->fd, &st) < 0)
        r = fail_open(name, err);
    else
        r = check_kind(name, &st, err);
    if (r < 0) {
        close(out->fd);
        out->fd = -1;
        return r;
    }
    fill(out, &st);
    return 0;
}

int srv_bank_dir_open(const char *dir, const char *name, struct srv_bank_file *out, struct els_error *err)
{
    int fd, r = check_name(name, err);

    if (r < 0)
        return r;
    fd = open_dir(dir, err);
    if (fd < 0)
        return fd;
    r = open_in(fd, name, out, err);
    close(fd);
    return r;
}

bool srv_bank_file_is_same(const struct srv_bank_file *a, const struct srv_bank_file *b)
{
    return a->device == b->device && a->inode == b->inode && a->size == b->size && a->modified_ns == b->modified_ns &&
           a->changed_ns == b->changed_ns;
}

/* ---- listing ---- */

struct names {
    char **list;
    size_t n, space;
};

static void names_deinit(struct names *names)
{
    for (size_t i = 0; i < names->n; i++)
        free(names->list[i]);
    free(names->list);
}

static bool is_wanted(const char *name)
{
    size_t n = strlen(name), m = sizeof(ending) - 1;

    return n > m && strcmp(name + n - m, ending) == 0 && check_name(name, NULL) == 0;
}

static int add_name(struct names *names, const char *name)
{
    if (names->n == names->space) {
        size_t space = names->space ? 2 * names->space : 64;
        char **list = reallocarray(names->list, space, sizeof(*list));

        if (!list)
            return ELS_ENOMEM;
        names->list = list;
        names->space = space;
    }
    names->list[names->n] = strdup(name);
    return names->list[names->n++] ? 0 : ELS_ENOMEM;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int read_names(DIR *folder, struct names *names, bool *more)
{
    struct dirent *entry;
    int seen = 0, r = 0;

    while (r == 0 && (entry = readdir(folder))) {
        if (++seen > MAX_SEEN || names->n > SRV_BANK_DIR_LISTED) {
            *more = true;
            break;
        }
        if (is_wanted(entry->d_name))
            r = add_name(names, entry->d_name);
    }
    if (r == 0 && names->n)
        qsort(names->list, names->n, sizeof(*names->list), compare_names);
    return r;
}

static void add_file(int dir, const char *name, json_t **list)
{
    char modified[SRV_TIME_TEXT];
    struct stat st;

    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
        return;
    srv_time_text(nanoseconds(st.st_mtim) / 1000000, modified);
    els_json_append(list,
                    json_pack("{s:s, s:I, s:s}", "file", name, "bytes", (json_int_t)st.st_size, "modified", modified));
}

int srv_bank_dir_list(const char *dir, json_t **out, bool *more, struct els_error *err)
{
    struct names names = {0};
    json_t *list = json_array();
    int fd = open_dir(dir, err), r = fd < 0 ? fd : 0;
    DIR *folder = r == 0 ? fdopendir(fd) : NULL;

    *more = false;
    if (r == 0 && !folder) {
        close(fd);
        r = els_fail(err, ELS_EIO, "bank_dir", "bank_dir cannot be read: %s", strerror(errno));
    }
    if (r == 0)
        r = read_names(folder, &names, more);
    for (size_t i = 0; r == 0 && i < names.n; i++) {
        if (i == SRV_BANK_DIR_LISTED) {
            *more = true;
            break;
        }
        add_file(fd, names.list[i], &list);
    }
    if (folder)
        closedir(folder);
    names_deinit(&names);
    if (r == 0 && !list)
        r = ELS_ENOMEM;
    if (r == 0)
        *out = list;
    else
        json_decref(list);
    return r;
}
