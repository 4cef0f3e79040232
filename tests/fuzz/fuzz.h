/*
 * fuzz: what the targets share. A target is one file with one function that must survive any bytes:
 *
 *     int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
 *     {
 *         …
 *         FUZZ_CHECK(what always holds);
 *         return 0;
 *     }
 *
 * The ordinary build links it with replay.c, which feeds it the corpus; -Dfuzz=true (clang) with
 * libFuzzer, which looks for more. See tests/fuzz/run.sh.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* As assert, but also in builds with NDEBUG. */
#define FUZZ_CHECK(condition)                                                                      \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                        \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* The bytes as a file in memory; its path is in `path`. Close the descriptor. */
static inline int fuzz_file(const void *data, size_t size, char path[32])
{
    int fd = memfd_create("fuzz", MFD_CLOEXEC);

    FUZZ_CHECK(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    snprintf(path, 32, "/proc/self/fd/%d", fd);
    return fd;
}

#endif
