/*
 * Noise against PyTorch's and NumPy's own numbers.
 *
 * Torch: over 13 million numbers (425 seeds up to 2⁵³−1 with six calls each, 5 seeds of 2,000,000)
 * the largest difference from PyTorch 1.13's AVX2 path was 3 ulp, or 4.8e-7; calls for fewer than
 * 16 numbers were equal. NumPy: 12 million numbers, all equal, bit for bit.
 */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/theory/noise_ziggurat.h"
#include "els/error.h"
#include "els/mem.h"
#include "els/noise.h"
#include "noise_cases.h"
#include "unit.h"

enum { MAX_ULP = 4, MAX_COUNT = 12289 };

static float numbers[MAX_COUNT];

/* Neighbouring floats have neighbouring keys; −0 and +0 share one. */
static int64_t float_key(float x)
{
    int32_t bits;

    memcpy(&bits, &x, sizeof(bits));
    return bits < 0 ? -(int64_t)(bits & 0x7fffffff) : bits;
}

static void assert_within(float got, float want, int ulp, const char *what, uint64_t seed, int i)
{
    int64_t distance = llabs(float_key(got) - float_key(want));

    if (distance > ulp)
        ck_abort_msg("%s seed %llu, number %d: %.9g is %lld ulp from %.9g", what,
                     (unsigned long long)seed, i, (double)got, (long long)distance, (double)want);
}

static uint64_t fnv1a(uint64_t hash, const void *data, size_t size)
{
    const uint8_t *bytes = data;

    for (size_t i = 0; i < size; i++)
        hash = (hash ^ bytes[i]) * 0x100000001b3u;
    return hash;
}

START_TEST(test_torch_matches_pytorch)
{
    for (size_t c = 0; c < sizeof(noise_cases) / sizeof(*noise_cases); c++) {
        const struct noise_case *k = &noise_cases[c];
        const float *want = k->torch;
        struct els_noise g;

        els_noise_init(&g, ELS_NOISE_TORCH, k->seed);
        for (const int *n = k->n; *n; n++) {
            int at[] = {0, *n / 2, *n > 12 ? *n - 12 : 0, *n - 1}, previous = -1;

            els_noise_randn(&g, numbers, (size_t)*n);
            if (at[2] < at[1]) {
                int swap = at[1];

                at[1] = at[2];
                at[2] = swap;
            }
            for (int j = 0; j < 4; j++) {
                if (at[j] != previous)
                    assert_within(numbers[at[j]], *want++, *n < 16 ? 0 : MAX_ULP, "torch", k->seed,
                                  at[j]);
                previous = at[j];
            }
        }
    }
}
END_TEST

START_TEST(test_numpy_matches_numpy)
{
    for (size_t c = 0; c < sizeof(noise_cases) / sizeof(*noise_cases); c++) {
        const struct noise_case *k = &noise_cases[c];
        uint64_t hash = 0xcbf29ce484222325u;
        struct els_noise g;

        els_noise_init(&g, ELS_NOISE_NUMPY, k->seed);
        for (const int *n = k->n; *n; n++) {
            els_noise_randn(&g, numbers, (size_t)*n);
            hash = fnv1a(hash, numbers, (size_t)*n * sizeof(*numbers));
        }
        ck_assert_msg(hash == k->numpy_fnv1a, "numpy seed %llu", (unsigned long long)k->seed);
    }
}
END_TEST

/* A number in four thousand comes from beyond the ziggurat's layers, and half of what is tried there is rejected: the
 * cases above have none. The hash is that of numpy.random.default_rng(7).standard_normal(1 << 20, dtype=numpy.float32). */
START_TEST(test_numpy_beyond_the_layers)
{
    size_t n = (size_t)1 << 20, beyond = 0;
    float *x = els_alloc_array(n, sizeof(*x));
    struct els_noise g;

    ck_assert_ptr_nonnull(x);
    els_noise_init(&g, ELS_NOISE_NUMPY, 7);
    els_noise_randn(&g, x, n);
    for (size_t i = 0; i < n; i++)
        beyond += fabsf(x[i]) > 3.6541528853610088f;
    ck_assert_uint_eq(beyond, 289);
    ck_assert_uint_eq(fnv1a(0xcbf29ce484222325u, x, n * sizeof(*x)), 0xa06d54f6098d43a9u);
    free(x);
}
END_TEST

static void check_ends(const json_t *want, const float *got, int ulp, const char *what,
                       uint64_t seed)
{
    size_t i;
    json_t *value;

    ck_assert_uint_gt(json_array_size(want), 0);
    json_array_foreach(want, i, value)
        assert_within(got[i], (float)json_number_value(value), ulp, what, seed, (int)i);
}

static void check_golden(const json_t *entry, enum els_noise_kind kind, int ulp)
{
    uint64_t seed = (uint64_t)json_integer_value(json_object_get(entry, "seed"));
    const json_t *last = json_object_get(entry, "last"), *side;
    double sum = 0, want = json_number_value(json_object_get(entry, "sum"));
    struct els_noise g;
    size_t i, n = 1;

    json_array_foreach(json_object_get(entry, "shape"), i, side)
        n *= (size_t)json_integer_value(side);
    ck_assert_uint_le(n, MAX_COUNT);
    els_noise_init(&g, kind, seed);
    els_noise_randn(&g, numbers, n);
    for (i = 0; i < n; i++)
        sum += (double)numbers[i];
    check_ends(json_object_get(entry, "first"), numbers, ulp, els_noise_name(kind), seed);
    check_ends(last, numbers + n - json_array_size(last), ulp, els_noise_name(kind), seed);
    /* Equal numbers have equal sums up to the order of float64 additions; 3 ulp on each of n draws
     * add at most 1e-7·Σ|x|, about n·1e-7. */
    ck_assert_double_eq_tol(sum, want, kind == ELS_NOISE_NUMPY ? 1e-10 : 1e-7 * (double)n);
}

START_TEST(test_golden_noise)
{
    json_t *root = json_load_file(unit_path("golden/noise.json"), 0, NULL), *entry;
    size_t i;

    ck_assert_ptr_nonnull(root);
    ck_assert_uint_eq(json_array_size(json_object_get(root, "torch")), 6);
    ck_assert_uint_eq(json_array_size(json_object_get(root, "numpy")), 6);
    json_array_foreach(json_object_get(root, "torch"), i, entry)
        check_golden(entry, ELS_NOISE_TORCH, MAX_ULP);
    json_array_foreach(json_object_get(root, "numpy"), i, entry)
        check_golden(entry, ELS_NOISE_NUMPY, 0);
    json_decref(root);
}
END_TEST

/* The whole initial noise of the golden trajectories; the data end the file. */
static void check_file(const char *name, uint64_t seed, size_t n)
{
    static float want[MAX_COUNT];
    FILE *f = fopen(unit_path(name), "rb");
    struct els_noise g;

    ck_assert_ptr_nonnull(f);
    ck_assert_int_eq(fseek(f, -(long)(n * sizeof(*want)), SEEK_END), 0);
    ck_assert_uint_eq(fread(want, sizeof(*want), n, f), n);
    fclose(f);
    els_noise_init(&g, ELS_NOISE_TORCH, seed);
    els_noise_randn(&g, numbers, n);
    for (size_t i = 0; i < n; i++)
        assert_within(numbers[i], want[i], MAX_ULP, name, seed, (int)i);
}

START_TEST(test_golden_files)
{
    check_file("golden/mnist24_x_seed0.npy", 0, 1024);
    check_file("golden/mnist24_x_seed7.npy", 7, 1024);
    check_file("golden/cifar20_x_seed0.npy", 0, 3072);
}
END_TEST

/* Torch keeps only 32 bits of the seed; NumPy uses them all. */
START_TEST(test_high_bits_of_the_seed)
{
    float a[20], b[20];

    for (int kind = ELS_NOISE_TORCH; kind <= ELS_NOISE_NUMPY; kind++) {
        struct els_noise g;

        els_noise_init(&g, (enum els_noise_kind)kind, 5);
        els_noise_randn(&g, a, 20);
        els_noise_init(&g, (enum els_noise_kind)kind, (1ull << 32) + 5);
        els_noise_randn(&g, b, 20);
        ck_assert_int_eq(memcmp(a, b, sizeof(a)) == 0, kind == ELS_NOISE_TORCH);
    }
}
END_TEST

START_TEST(test_a_copy_goes_on_alone)
{
    float a[40], b[40];

    for (int kind = ELS_NOISE_TORCH; kind <= ELS_NOISE_NUMPY; kind++) {
        struct els_noise g, copy;

        els_noise_init(&g, (enum els_noise_kind)kind, 9);
        els_noise_randn(&g, a, 3); /* leaves half a pair and half a word behind */
        copy = g;
        els_noise_randn(&g, a, 0); /* nothing drawn, nothing changed */
        els_noise_randn(&g, a, 40);
        els_noise_randn(&copy, b, 40);
        ck_assert_mem_eq(a, b, sizeof(a));
    }
}
END_TEST

/* Moments of a million numbers, within 5 standard errors: a check that needs no other library. */
START_TEST(test_moments)
{
    enum { CALLS = 100, N = 10000, TOTAL = CALLS * N };

    for (int kind = ELS_NOISE_TORCH; kind <= ELS_NOISE_NUMPY; kind++) {
        double sum = 0, square = 0, fourth = 0, root = sqrt((double)TOTAL);
        struct els_noise g;

        els_noise_init(&g, (enum els_noise_kind)kind, 1);
        for (int c = 0; c < CALLS; c++) {
            els_noise_randn(&g, numbers, N);
            for (int i = 0; i < N; i++) {
                double s = (double)numbers[i] * (double)numbers[i];

                sum += (double)numbers[i];
                square += s;
                fourth += s * s;
            }
        }
        ck_assert_double_eq_tol(sum / TOTAL, 0, 5 / root);
        ck_assert_double_eq_tol(square / TOTAL, 1, 5 * sqrt(2) / root);
        ck_assert_double_eq_tol(fourth / TOTAL, 3, 5 * sqrt(96) / root);
    }
}
END_TEST

/* The recurrence in noise_ziggurat.h, in long double. */
START_TEST(test_ziggurat_tables)
{
    const long double r = 3.6541528853610088L, m = 0x1p23L;
    long double tail = sqrtl(acosl(-1) / 2) * erfcl(r / sqrtl(2)), v = r * expl(-r * r / 2) + tail;
    long double q = v / expl(-r * r / 2), x = r, below;

    ck_assert_uint_eq(ziggurat_inside[0], (uint32_t)roundl(m * r / q));
    ck_assert_uint_eq(ziggurat_inside[1], 0);
    ck_assert(ziggurat_width[0] == (float)(q / m));
    ck_assert(ziggurat_height[0] == 1);
    for (int i = 255; i > 0; i--) {
        below = sqrtl(-2 * logl(expl(-x * x / 2) + v / x));
        ck_assert_msg(ziggurat_width[i] == (float)(x / m), "width of layer %d", i);
        ck_assert_msg(ziggurat_height[i] == (float)expl(-x * x / 2), "height of layer %d", i);
        if (i > 1)
            ck_assert_msg(ziggurat_inside[i] == (uint32_t)roundl(m * below / x), "layer %d", i);
        x = below;
    }
}
END_TEST

START_TEST(test_names)
{
    enum els_noise_kind kind = ELS_NOISE_TORCH;

    ck_assert_int_eq(els_noise_parse("numpy", &kind), 0);
    ck_assert_int_eq(kind, ELS_NOISE_NUMPY);
    ck_assert_int_eq(els_noise_parse("torch", &kind), 0);
    ck_assert_int_eq(kind, ELS_NOISE_TORCH);
    ck_assert_int_eq(els_noise_parse("Torch", &kind), ELS_ENOENT);
    ck_assert_int_eq(els_noise_parse("", &kind), ELS_ENOENT);
    ck_assert_int_eq(kind, ELS_NOISE_TORCH);
    ck_assert_str_eq(els_noise_name(ELS_NOISE_TORCH), "torch");
    ck_assert_str_eq(els_noise_name(ELS_NOISE_NUMPY), "numpy");
}
END_TEST

UNIT_MAIN("noise", test_torch_matches_pytorch, test_numpy_matches_numpy, test_numpy_beyond_the_layers, test_golden_noise,
          test_golden_files, test_high_bits_of_the_seed, test_a_copy_goes_on_alone, test_moments,
          test_ziggurat_tables, test_names)
