/*
 * hostile: every cut and thousands of small damages of a sound file, for a reader that must survive them.
 *
 *     static int read_one(const void *bytes, size_t size, void *user) { … returns the reader's code … }
 *
 *     hostile_cut(file, size, read_one, NULL);            // every shorter length must be refused
 *     hostile_damage(file, size, 3000, read_one, NULL);   // must return, whatever it says
 *
 * Each input lies in an allocation of exactly its size, so that the sanitizer sees one byte too far. The
 * damages are the same in every run.
 */
#ifndef HOSTILE_H
#define HOSTILE_H

#include <check.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int (*hostile_reader)(const void *bytes, size_t size, void *user);

static inline int hostile_read(const uint8_t *bytes, size_t size, hostile_reader read, void *user)
{
    uint8_t *exact = malloc(size ? size : 1);
    int r;

    ck_assert_ptr_nonnull(exact);
    if (size)
        memcpy(exact, bytes, size);
    r = read(exact, size, user);
    free(exact);
    return r;
}

static inline void hostile_cut(const void *bytes, size_t size, hostile_reader read, void *user)
{
    ck_assert_int_eq(hostile_read(bytes, size, read, user), 0);
    for (size_t n = 0; n < size; n++)
        ck_assert_msg(hostile_read(bytes, n, read, user) < 0, "cut to %zu of %zu bytes, it was accepted", n,
                      size);
}

static inline uint32_t hostile_next(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

/* One to four damages: a flipped bit, a telling byte, a piece left out, a piece doubled. */
static inline size_t hostile_mutate(uint8_t *b, size_t size, uint64_t *state)
{
    static const char TELLING[] = "\0\xff\x7f\x80\x01\"[]{},:-09\\e";

    for (uint32_t k = hostile_next(state) % 4 + 1; k > 0 && size > 0; k--) {
        size_t at = hostile_next(state) % size, n = hostile_next(state) % 8 + 1;

        n = n > size - at ? size - at : n;
        switch (hostile_next(state) % 4) {
        case 0:
            b[at] ^= (uint8_t)(1u << hostile_next(state) % 8);
            break;
        case 1:
            b[at] = (uint8_t)TELLING[hostile_next(state) % (sizeof(TELLING) - 1)];
            break;
        case 2:
            memmove(b + at, b + at + n, size - at - n);
            size -= n;
            break;
        default:
            memmove(b + at + n, b + at, size - at);
            size += n;
        }
    }
    return size;
}

/* Returns how many of the damaged inputs were refused. */
static inline int hostile_damage(const void *bytes, size_t size, int count, hostile_reader read, void *user)
{
    uint8_t *b = malloc(size + 64);
    uint64_t state = 1;
    int refused = 0;

    ck_assert_ptr_nonnull(b);
    for (int i = 0; i < count; i++) {
        size_t n;

        memcpy(b, bytes, size);
        n = hostile_mutate(b, size, &state);
        refused += hostile_read(b, n, read, user) < 0;
    }
    free(b);
    return refused;
}

/* A whole file in memory; free(). */
static inline uint8_t *hostile_load(const char *path, size_t *size)
{
    FILE *f = fopen(path, "rb");
    uint8_t *bytes;
    long n;

    ck_assert_msg(f != NULL, "cannot open %s", path);
    ck_assert_int_eq(fseek(f, 0, SEEK_END), 0);
    n = ftell(f);
    ck_assert(n >= 0);
    rewind(f);
    bytes = malloc((size_t)n + 1);
    ck_assert_ptr_nonnull(bytes);
    *size = fread(bytes, 1, (size_t)n, f);
    ck_assert_uint_eq(*size, (size_t)n);
    fclose(f);
    return bytes;
}

#endif
