/*
 * unit: one suite, one file, one program.
 *
 *     START_TEST(test_adds)
 *     {
 *         ck_assert_int_eq(1 + 1, 2);
 *     }
 *     END_TEST
 *
 *     UNIT_MAIN("arithmetic", test_adds)
 *
 * A suite that needs what this machine lacks ends with UNIT_SKIP (77), which Meson counts as skipped.
 */
#ifndef UNIT_H
#define UNIT_H

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    UNIT_SKIP = 77,
    UNIT_HANG = 3600, /* seconds after which a test is taken to hang; no test is that slow */
};

static inline int unit_run(const char *name, const TTest *const *tests, size_t n)
{
    Suite *suite = suite_create(name);
    TCase *tcase = tcase_create(name);
    SRunner *runner;
    int failed;

    tcase_set_timeout(tcase, UNIT_HANG);
    for (size_t i = 0; i < n; i++)
        tcase_add_test(tcase, tests[i]);
    suite_add_tcase(suite, tcase);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

#define UNIT_MAIN(name, ...)                                                                       \
    int main(void)                                                                                 \
    {                                                                                              \
        const TTest *const tests[] = {__VA_ARGS__};                                                \
        return unit_run(name, tests, sizeof(tests) / sizeof(*tests));                              \
    }

/* The same, for suites that run once per kernel: the one that ELS_CPU names, skipped where this CPU lacks it. */
#define UNIT_MAIN_PER_KERNEL(name, ...)                                                            \
    int main(void)                                                                                 \
    {                                                                                              \
        const TTest *const tests[] = {__VA_ARGS__};                                                \
        const char *kernel = getenv("ELS_CPU");                                                    \
        struct els_error err = {0};                                                                \
                                                                                                   \
        if (kernel && els_engine_use_kernel(kernel, &err) < 0) {                                   \
            printf("skipped: %s\n", err.message);                                                  \
            return UNIT_SKIP;                                                                      \
        }                                                                                          \
        return unit_run(name, tests, sizeof(tests) / sizeof(*tests));                              \
    }

/* The file `name` of tests/ as this run sees it (tests/golden/… and so on). */
static inline const char *unit_path(const char *name)
{
    static char path[4096];
    const char *root = getenv("ELS_TESTS_DIR");

    snprintf(path, sizeof(path), "%s/%s", root ? root : "tests", name);
    return path;
}

/* The optional real data set beside the checkout, or NULL when it is absent. */
static inline const char *unit_shared_path(const char *name)
{
    static char path[4096];
    const char *root = getenv("ELS_SHARED_DIR");
    FILE *f;

    snprintf(path, sizeof(path), "%s/%s", root ? root : "../shared", name);
    f = fopen(path, "rb");
    if (!f)
        return NULL;
    fclose(f);
    return path;
}

#endif
