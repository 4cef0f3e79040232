/*
 * failing: allocations that fail on demand: those of our code (the program is linked with --wrap for
 * malloc and its relatives), of jansson and of SQLite.
 *
 *     failing_init();                       // first of all: SQLite and jansson take their functions once
 *     failing_spared = true;                // in the thread that runs the test
 *     failing_arm(7);                       // the seventh allocation from now on fails, in whatever other thread
 *     …
 *     if (!failing_disarm())                // false: there were fewer than seven
 *         …
 */
#ifndef FAILING_H
#define FAILING_H

#include <jansson.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>

static atomic_long failing_countdown; /* 0: nothing fails */
static atomic_bool failing_failed;
static _Thread_local bool failing_spared; /* nothing fails in this thread: it is the test's, and Check's */

/* Is it this one's turn? */
static inline bool failing_now(void)
{
    if (failing_spared || atomic_load(&failing_countdown) <= 0 || atomic_fetch_sub(&failing_countdown, 1) != 1)
        return false;
    atomic_store(&failing_failed, true);
    return true;
}

static inline void failing_arm(long nth)
{
    atomic_store(&failing_failed, false);
    atomic_store(&failing_countdown, nth);
}

static inline bool failing_disarm(void)
{
    atomic_store(&failing_countdown, 0);
    return atomic_load(&failing_failed);
}

#define FAILING(type, name, parameters, arguments)                                                 \
    type __real_##name parameters;                                                                 \
    type __wrap_##name parameters;                                                                 \
    type __wrap_##name parameters                                                                  \
    {                                                                                              \
        return failing_now() ? NULL : __real_##name arguments;                                     \
    }

FAILING(void *, malloc, (size_t size), (size))
FAILING(void *, calloc, (size_t count, size_t size), (count, size))
FAILING(void *, realloc, (void *p, size_t size), (p, size))
FAILING(void *, reallocarray, (void *p, size_t count, size_t size), (p, count, size))
FAILING(void *, aligned_alloc, (size_t alignment, size_t size), (alignment, size))
FAILING(char *, strdup, (const char *text), (text))
FAILING(char *, strndup, (const char *text, size_t size), (text, size))

/*
 * jansson 2.14 does not look whether its scanner's buffer could grow: when it could not, a character
 * is lost from the text, and without its closing quote a string is copied past the end of its block.
 * No caller can help that, so nothing fails inside its parser.
 */
static _Thread_local bool failing_parsing;

static inline void *failing_jansson_malloc(size_t size)
{
    return !failing_parsing && failing_now() ? NULL : __real_malloc(size);
}

#define PARSING(name, parameters, arguments)                                                       \
    json_t *__real_##name parameters;                                                              \
    json_t *__wrap_##name parameters;                                                              \
    json_t *__wrap_##name parameters                                                               \
    {                                                                                              \
        json_t *json;                                                                              \
                                                                                                   \
        failing_parsing = true;                                                                    \
        json = __real_##name arguments;                                                            \
        failing_parsing = false;                                                                   \
        return json;                                                                               \
    }

PARSING(json_loads, (const char *text, size_t flags, json_error_t *error), (text, flags, error))
PARSING(json_loadb, (const char *text, size_t size, size_t flags, json_error_t *error),
        (text, size, flags, error))

static sqlite3_mem_methods failing_sqlite;

static inline void *failing_sqlite_malloc(int size)
{
    return failing_now() ? NULL : failing_sqlite.xMalloc(size);
}

static inline void *failing_sqlite_realloc(void *p, int size)
{
    return failing_now() ? NULL : failing_sqlite.xRealloc(p, size);
}

static inline void failing_init(void)
{
    sqlite3_mem_methods methods;

    json_set_alloc_funcs(failing_jansson_malloc, free);
    sqlite3_config(SQLITE_CONFIG_GETMALLOC, &failing_sqlite);
    methods = failing_sqlite;
    methods.xMalloc = failing_sqlite_malloc;
    methods.xRealloc = failing_sqlite_realloc;
    sqlite3_config(SQLITE_CONFIG_MALLOC, &methods);
    /* No private pools in front of the functions above. */
    sqlite3_config(SQLITE_CONFIG_LOOKASIDE, 0, 0);
}

#endif
