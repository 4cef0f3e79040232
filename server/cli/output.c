/*
 * Files in and out of the command line. Called from main's thread only.
 *
 * What always holds: the path itself is touched by one rename, of a complete and synced file.
 * Whatever fails or is cancelled before leaves it as it was.
 */
#include "server/cli/output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int fail(struct els_error *err, const char *verb, const char *path)
{
    return els_fail(err, ELS_EIO, "output", "cannot %s %.300s: %s", verb, path, strerror(errno));
}

int cli_output_open(struct cli_output *out, const char *path, struct els_error *err)
{
    struct stat st;
    int n;

    /* Renaming over a device or a folder is not what anybody means. */
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode))
        return els_fail(err, ELS_EIO, "output", "cannot write %.300s: it is not a regular file",
                        path);
    out->path = path;
    n = snprintf(out->temporary, sizeof(out->temporary), "%s.%ld.tmp", path, (long)getpid());
    if (n < 0 || (size_t)n >= sizeof(out->temporary)) {
        out->temporary[0] = '\0';
        return els_fail(err, ELS_EIO, "output", "the output's path is longer than %d bytes",
                        PATH_MAX - 20);
    }
    out->fd = open(out->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (out->fd < 0) {
        n = fail(err, "write", path);
        out->temporary[0] = '\0';
        return n;
    }
    return 0;
}

int cli_output_write_at(struct cli_output *out, uint64_t offset, const void *data, size_t size,
                        struct els_error *err)
{
    const char *from = data;

    while (size > 0) {
        ssize_t n = pwrite(out->fd, from, size, (off_t)offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return fail(err, "write", out->path);
        from += n;
        offset += (uint64_t)n;
        size -= (size_t)n;
    }
    return 0;
}

int cli_output_write(struct cli_output *out, const void *data, size_t size, struct els_error *err)
{
    int r = cli_output_write_at(out, out->end, data, size, err);

    if (r == 0)
        out->end += size;
    return r;
}

int cli_output_commit(struct cli_output *out, struct els_error *err)
{
    int fd = out->fd, failed = fsync(fd) < 0;

    out->fd = -1;
    failed |= close(fd) < 0;
    if (failed || rename(out->temporary, out->path) < 0)
        return fail(err, "write", out->path);
    out->temporary[0] = '\0';
    return 0;
}

void cli_output_deinit(struct cli_output *out)
{
    if (out->fd >= 0)
        close(out->fd);
    if (out->temporary[0])
        unlink(out->temporary);
    *out = CLI_OUTPUT_INIT;
}

int cli_check_ending(const char *path, const char *ending, struct els_error *err)
{
    const char *dot = strrchr(path, '.');

    if (dot && strcmp(dot, ending) == 0)
        return 0;
    return els_fail(err, ELS_EINVAL, "output", "the output \"%.200s\" must end in %s", path,
                    ending);
}

static int read_all(struct els_buffer *out, int fd, size_t size)
{
    size_t done = 0;
    void *to;
    int r = els_buffer_extend(out, size, &to);

    while (r == 0 && done < size) {
        ssize_t n = read(fd, (char *)to + done, size - done);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return ELS_EIO;
        done += (size_t)n;
    }
    return r;
}

int cli_read_file(struct els_buffer *out, const char *path, struct els_error *err)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC), r;

    if (fd < 0)
        return els_fail(err, ELS_EIO, "", "cannot read %.300s: %s", path, strerror(errno));
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        r = els_fail(err, ELS_EIO, "", "cannot read %.300s: it is not a regular file", path);
        goto out;
    }
    r = read_all(out, fd, (size_t)st.st_size);
    if (r == ELS_ELIMIT)
        els_fail(err, r, "", "%.300s has %lld bytes; at most %zu are read", path,
                 (long long)st.st_size, out->maximum);
    else if (r < 0)
        els_fail(err, r, "", "cannot read %.300s: %s", path, els_status_text(r));
out:
    close(fd);
    return r;
}
