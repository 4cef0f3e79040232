/*
 * Page-wise memory for bank images. Called from the thread that builds or drops a bank; holds no state.
 */
#include "core/base/region.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PIECE = 8 << 20 }; /* read between two looks at `stop` */

static size_t whole_pages(size_t size)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);

    return (size + page - 1) / page * page;
}

int els_region_new(struct els_region *out, size_t size)
{
    void *p;

    *out = (struct els_region){0};
    if (size == 0)
        return 0;
    if (size > PTRDIFF_MAX)
        return ELS_ENOMEM;
    p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return ELS_ENOMEM;
    *out = (struct els_region){.data = p, .size = size};
    return 0;
}

static int read_exactly(int fd, uint8_t *to, size_t size, const char *path, int (*stop)(void *user), void *user,
                        struct els_error *err)
{
    size_t have = 0;
    ssize_t n;

    while (have < size) {
        if (stop && stop(user))
            return els_fail(err, ELS_ECANCELLED, "file", "reading %.200s was stopped", path);
        n = pread(fd, to + have, size - have < PIECE ? size - have : PIECE, (off_t)have);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return els_fail(err, ELS_EIO, "file", "reading %.200s failed: %s", path, strerror(errno));
        if (n == 0)
            return els_fail(err, ELS_EIO, "file", "%.200s became shorter while it was read", path);
        have += (size_t)n;
    }
    return 0;
}

int els_region_read_fd(struct els_region *out, int fd, size_t size, const char *path, int (*stop)(void *user),
                       void *user, struct els_error *err)
{
    struct els_region region = {0};
    int r = els_region_new(&region, size);

    if (r < 0)
        return els_fail(err, r, "file", "no memory for the %zu bytes of %.200s", size, path);
    r = read_exactly(fd, region.data, size, path, stop, user, err);
    if (r < 0)
        els_region_deinit(&region);
    else
        *out = region;
    return r;
}

int els_region_read_file(struct els_region *out, const char *path, size_t limit, struct els_error *err)
{
    struct stat st;
    /* O_NONBLOCK: opening a FIFO that nobody writes to must not hang. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    int r = 0;

    if (fd < 0)
        return els_fail(err, errno == ENOENT ? ELS_ENOENT : ELS_EIO, "file", "cannot open %.200s: %s",
                        path, strerror(errno));
    if (fstat(fd, &st) < 0)
        r = els_fail(err, ELS_EIO, "file", "cannot stat %.200s: %s", path, strerror(errno));
    else if (!S_ISREG(st.st_mode))
        r = els_fail(err, ELS_EIO, "file", "%.200s is not a regular file", path);
    else if ((uintmax_t)st.st_size > limit)
        r = els_fail(err, ELS_ELIMIT, "file", "%.200s has %lld bytes; at most %zu are read", path,
                     (long long)st.st_size, limit);
    else
        r = els_region_read_fd(out, fd, (size_t)st.st_size, path, NULL, NULL, err);
    close(fd);
    return r;
}

void els_region_shrink(struct els_region *r, size_t size)
{
    size_t keep = whole_pages(size), have = whole_pages(r->size);

    if (size == 0) {
        els_region_deinit(r);
        return;
    }
    if (keep < have)
        munmap(r->data + keep, have - keep);
    r->size = size;
}

void els_region_seal(struct els_region *r)
{
    /* This only guards against our own mistakes: should the kernel refuse, nothing is lost. */
    if (r->data)
        (void)mprotect(r->data, r->size, PROT_READ);
}

void els_region_deinit(struct els_region *r)
{
    if (r->data)
        munmap(r->data, r->size);
    *r = (struct els_region){0};
}
