/*
 * A file as a stream of bytes, gunzipped when need be, by zlib. Called from the thread that imports.
 *
 * A gzip bomb harms nobody here: readers ask for the bytes that they expect, and no others are inflated.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/bank/import/import_internal.h"

enum { WINDOW = 128 << 10, MAX_READ = 1 << 30 };

int els_stream_open(struct els_stream *s, const char *path, struct els_error *err)
{
    /* O_NONBLOCK: opening a FIFO that nobody writes to must not hang. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat st;

    if (fd < 0)
        return els_fail(err, errno == ENOENT ? ELS_ENOENT : ELS_EIO, "source", "cannot open %.200s: %s",
                        path, strerror(errno));
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        return els_fail(err, ELS_EIO, "source", "%.200s is not a regular file", path);
    }
    s->path = path;
    s->gz = gzdopen(fd, "rb");
    if (!s->gz) {
        close(fd);
        return els_fail(err, ELS_ENOMEM, NULL, "out of memory");
    }
    gzbuffer(s->gz, WINDOW);
    return 0;
}

int els_stream_read_some(struct els_stream *s, void *to, size_t size, size_t *got, struct els_error *err)
{
    const char *why;
    int n, code;

    for (*got = 0; *got < size; *got += (size_t)n) {
        size_t want = size - *got < MAX_READ ? size - *got : MAX_READ;

        n = gzread(s->gz, (uint8_t *)to + *got, (unsigned)want);
        /* A gzip file that is cut short reads as ended; only the error state tells. */
        why = gzerror(s->gz, &code);
        if (n < 0 || (n == 0 && code != Z_OK && code != Z_STREAM_END))
            return els_fail(err, code == Z_ERRNO ? ELS_EIO : ELS_EFORMAT, "source", "reading %.200s failed: %s",
                            s->path, code == Z_ERRNO ? strerror(errno) : why);
        if (n == 0)
            break;
    }
    return 0;
}

int els_stream_read(struct els_stream *s, void *to, size_t size, struct els_error *err)
{
    size_t got;
    int r = els_stream_read_some(s, to, size, &got, err);

    if (r == 0 && got < size)
        return els_fail(err, ELS_EFORMAT, "source", "%.200s ends too early", s->path);
    return r;
}

int els_stream_expect_end(struct els_stream *s, struct els_error *err)
{
    uint8_t byte;
    size_t got;
    int r = els_stream_read_some(s, &byte, 1, &got, err);

    if (r == 0 && got)
        return els_fail(err, ELS_EFORMAT, "source", "%.200s goes on after what its header promises", s->path);
    return r;
}

void els_stream_close(struct els_stream *s)
{
    if (s->gz)
        gzclose_r(s->gz);
    s->gz = NULL;
}
