/*
 * The outside truth: tests/golden holds what the released research code computes when it is run in float64.
 * Tolerances of the project: every x̂0 within max 5e-4 and rms 5e-5, every trajectory's final image within max 1e-3
 * and rms 5e-5. The measured maxima are printed beside them.
 *
 * The SIMD kernels are held to all of it. The C kernel and the plain loop are many times slower, and test_engine.c
 * holds the one to the other, at every machine and P: each of them takes a part of the values (see chosen()).
 */
#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "els/engine.h"
#include "els/mem.h"
#include "els/npy.h"
#include "els/sampler.h"
#include "unit.h"

static const double X0_MAX = 5e-4, X0_RMS = 5e-5, FINAL_MAX = 1e-3, FINAL_RMS = 5e-5;

/* A whole file in memory and the tensor in it. */
struct array {
    void *bytes;
    struct els_tensor tensor;
};

static struct array load(const char *name)
{
    char path[256];
    struct array a = {0};
    long size;
    FILE *f;

    snprintf(path, sizeof(path), "golden/%s", name);
    f = fopen(unit_path(path), "rb");
    ck_assert_msg(f != NULL, "cannot open %s", path);
    fseek(f, 0, SEEK_END);
    size = ftell(f);
    rewind(f);
    a.bytes = els_alloc_array((size_t)size, 1);
    ck_assert_uint_eq(fread(a.bytes, 1, (size_t)size, f), (size_t)size);
    fclose(f);
    ck_assert_int_eq(els_npy_parse(&a.tensor, a.bytes, (size_t)size, NULL), 0);
    return a;
}

static float *load_f32(const char *name, size_t *count)
{
    struct array a = load(name);
    float *out = els_alloc_array(els_tensor_count(&a.tensor), sizeof(*out));

    els_tensor_to_f32(&a.tensor, out);
    *count = els_tensor_count(&a.tensor);
    free(a.bytes);
    return out;
}

static struct els_bank *load_bank(json_t *root)
{
    struct array images = load(json_string_value(json_object_get(root, "images")));
    struct array labels = load(json_string_value(json_object_get(root, "labels")));
    struct els_bank_parts parts = {
        .name = "golden",
        .num_images = images.tensor.dims[0],
        .shape = {(int)images.tensor.dims[1], (int)images.tensor.dims[2],
                  (int)images.tensor.dims[3]},
        .dtype = images.tensor.dtype,
        .images = images.tensor.data,
    };
    _cleanup_(els_freep) int64_t *copy =
        els_alloc_array(els_tensor_count(&labels.tensor), sizeof(*copy));
    struct els_bank *bank = NULL;
    struct els_error err = {0};

    ck_assert_int_eq(images.tensor.ndim, 4);
    ck_assert_int_eq(labels.tensor.dtype, ELS_I64);
    memcpy(copy, labels.tensor.data, els_tensor_bytes(&labels.tensor));
    parts.labels = copy;
    ck_assert_msg(els_bank_new(&bank, &parts, &err) == 0, "%s", err.message);
    free(images.bytes);
    free(labels.bytes);
    return bank;
}

struct gap {
    double max, rms;
};

static struct gap distance(const float *a, const float *b, size_t n)
{
    struct gap gap = {0};

    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)a[i] - (double)b[i]);

        gap.max = fmax(gap.max, d);
        gap.rms += d * d / (double)n;
    }
    gap.rms = sqrt(gap.rms);
    return gap;
}

static enum els_machine machine_of(json_t *entry)
{
    enum els_machine machine;

    ck_assert_int_eq(
        els_machine_parse(json_string_value(json_object_get(entry, "machine")), &machine), 0);
    return machine;
}

static enum els_candidates candidates_of(json_t *entry)
{
    const char *name = json_string_value(json_object_get(entry, "candidates"));
    enum els_candidates candidates = ELS_CANDIDATES_WRAPPED;

    if (name)
        ck_assert_int_eq(els_candidates_parse(name, &candidates), 0);
    return candidates;
}

static int p_of(json_t *entry)
{
    json_t *p = json_object_get(entry, "p");

    return json_is_integer(p) ? (int)json_integer_value(p) : 1;
}

static bool is_c(void)
{
    return strcmp(els_engine_kernel(), "c") == 0;
}

/*
 * Is the i-th of the values compared? For the plain loop one of each machine, at its smallest P. For the C kernel each
 * machine with every P and with a label, at middle noise where P/2 is odd and at the other noise levels where it is even.
 */
static bool chosen(json_t *entry, size_t i, bool plain)
{
    double t = json_number_value(json_object_get(entry, "t"));
    bool first_noise = json_integer_value(json_object_get(entry, "seed")) == 0;

    if (plain)
        return first_noise && i % 5 == 0 && p_of(entry) <= 3;
    return !is_c() || (first_noise && (p_of(entry) / 2 % 2 == 1) == (t > 0.3 && t < 0.8));
}

static struct gap check_x0(struct els_bank *bank, json_t *entry, bool plain)
{
    json_t *label = json_object_get(entry, "label");
    struct els_selection_spec selection = {
        .label = json_is_integer(label) ? json_integer_value(label) : -1};
    int p = p_of(entry);
    double t = json_number_value(json_object_get(entry, "t"));
    size_t n, m;
    _cleanup_(els_freep) float *x = load_f32(json_string_value(json_object_get(entry, "x")), &n);
    _cleanup_(els_freep) float *want =
        load_f32(json_string_value(json_object_get(entry, "file")), &m);
    _cleanup_(els_freep) float *x0 = els_alloc_array(n, sizeof(*x0));
    _cleanup_(els_freep) int64_t *images = NULL;
    struct els_answer answer = {.x0 = x0};
    struct els_evaluation e = {
        .bank = bank,
        .machine = machine_of(entry),
        .candidates = candidates_of(entry),
        .num_p = 1,
        .p = &p,
        .alpha_bar = els_schedule_alpha_bar(ELS_COSINE, t),
        .beta = els_schedule_beta(ELS_COSINE, t),
        .batch = 1,
        .x = x,
    };

    ck_assert_uint_eq(n, m);
    ck_assert_double_eq_tol(e.beta, json_number_value(json_object_get(entry, "beta")), 1e-7);
    ck_assert_int_eq(els_bank_select(bank, &selection, &images, &e.num_images, NULL), 0);
    e.images = images;
    ck_assert_int_eq(plain ? els_evaluate_plain(&e, NULL, &answer, NULL)
                           : els_evaluate(&e, NULL, NULL, &answer, NULL),
                     0);
    return distance(x0, want, n);
}

static void check_all_x0(const char *file, bool plain)
{
    json_t *root = json_load_file(unit_path(file), 0, NULL), *entry;
    struct els_bank *bank;
    struct gap worst = {0};
    bool compared[ELS_MACHINE_COUNT] = {false};
    size_t i;

    ck_assert_ptr_nonnull(root);
    bank = load_bank(root);
    ck_assert_uint_gt(json_array_size(json_object_get(root, "x0")), 20);
    json_array_foreach(json_object_get(root, "x0"), i, entry)
    {
        struct gap gap;

        if (!chosen(entry, i, plain))
            continue;
        compared[machine_of(entry)] = true;
        gap = check_x0(bank, entry, plain);
        ck_assert_msg(gap.max <= X0_MAX && gap.rms <= X0_RMS, "%s: max %.3g rms %.3g",
                      json_string_value(json_object_get(entry, "file")), gap.max, gap.rms);
        worst.max = fmax(worst.max, gap.max);
        worst.rms = fmax(worst.rms, gap.rms);
    }
    /* The research code has no es. */
    for (int m = 0; m < ELS_MACHINE_COUNT; m++)
        ck_assert_msg(compared[m] || m == ELS_MACHINE_ES, "no value of %s", els_machine_name((enum els_machine)m));
    printf("%s, %s: x0 max %.2g (allowed %.0g), rms %.2g (allowed %.0g)\n", file,
           plain ? "plain loop" : els_engine_kernel(), worst.max, X0_MAX, worst.rms, X0_RMS);
    els_bank_unref(bank);
    json_decref(root);
}

START_TEST(test_mnist_x0)
{
    check_all_x0("golden/mnist24.json", false);
}
END_TEST

START_TEST(test_cifar_x0)
{
    check_all_x0("golden/cifar20.json", false);
}
END_TEST

START_TEST(test_plain_loop_x0)
{
    /* The oracle does not depend on the kernel: once is enough. */
    if (is_c())
        check_all_x0("golden/mnist24.json", true);
}
END_TEST

static void read_scales(json_t *entry, struct els_scales *out)
{
    json_t *list = json_object_get(entry, "scales"), *value;
    int p[64];
    size_t i;

    ck_assert_uint_le(json_array_size(list), 64);
    json_array_foreach(list, i, value) p[i] = (int)json_integer_value(value);
    ck_assert_int_eq(els_scales_from_list(out, (int)json_array_size(list), p, NULL), 0);
}

/* Runs a trajectory from its own initial noise; every x̂0 and x_t on the way, and the final image. */
static struct gap check_trajectory(struct els_bank *bank, json_t *entry)
{
    struct els_sample_spec spec;
    struct els_sampler *s = NULL;
    struct els_error err = {0};
    struct gap final = {0};
    size_t n, m, values;
    _cleanup_(els_freep) float *xt = load_f32(json_string_value(json_object_get(entry, "xt")), &n);
    _cleanup_(els_freep) float *x0 = load_f32(json_string_value(json_object_get(entry, "x0")), &m);

    els_sample_spec_init(&spec);
    spec.bank = bank;
    spec.machine = machine_of(entry);
    spec.candidates = candidates_of(entry);
    spec.num_inference_steps =
        (int)json_integer_value(json_object_get(entry, "num_inference_steps"));
    spec.seed = (uint64_t)json_integer_value(json_object_get(entry, "seed"));
    read_scales(entry, &spec.scales);
    ck_assert_msg(els_sampler_new(&s, &spec, &err) == 0, "%s", err.message);
    values = n / ((size_t)els_sampler_num_steps(s) + 1);
    ck_assert_uint_eq(m, values * (size_t)els_sampler_num_steps(s));
    /* PyTorch's noise to within a few units in the last place. */
    ck_assert_double_le(distance(els_sampler_x(s), xt, values).max, 2e-6);
    while (els_sampler_next(s) < els_sampler_num_steps(s)) {
        size_t step = (size_t)els_sampler_next(s);
        struct gap gap;

        ck_assert_int_eq(els_sampler_step(s, NULL, NULL, &err), 0);
        gap = distance(els_sampler_x0(s), x0 + step * values, values);
        ck_assert_msg(gap.max <= FINAL_MAX && gap.rms <= FINAL_RMS,
                      "step %zu: x0 max %.3g rms %.3g", step, gap.max, gap.rms);
    }
    final = distance(els_sampler_x(s), xt + n - values, values);
    els_sampler_free(s);
    els_scales_deinit(&spec.scales);
    return final;
}

/* The C kernel leaves out the machine `slow`: with the other file it runs. */
static void check_trajectories(const char *file, enum els_machine slow)
{
    json_t *root = json_load_file(unit_path(file), 0, NULL), *entry;
    struct els_bank *bank;
    size_t i;

    ck_assert_ptr_nonnull(root);
    bank = load_bank(root);
    ck_assert_uint_ge(json_array_size(json_object_get(root, "trajectories")), 4);
    json_array_foreach(json_object_get(root, "trajectories"), i, entry)
    {
        const char *machine = json_string_value(json_object_get(entry, "machine"));
        struct gap gap;

        if (is_c() && machine_of(entry) == slow)
            continue;
        gap = check_trajectory(bank, entry);
        printf("%s, %s, %s: final image max %.2g (allowed %.0g), rms %.2g (allowed %.0g)\n", file,
               machine, els_engine_kernel(), gap.max, FINAL_MAX, gap.rms, FINAL_RMS);
        ck_assert_msg(gap.max <= FINAL_MAX && gap.rms <= FINAL_RMS, "%s: max %.3g rms %.3g",
                      machine, gap.max, gap.rms);
    }
    els_bank_unref(bank);
    json_decref(root);
}

START_TEST(test_mnist_trajectories)
{
    check_trajectories("golden/mnist24.json", ELS_MACHINE_ELS);
}
END_TEST

START_TEST(test_cifar_trajectories)
{
    check_trajectories("golden/cifar20.json", ELS_MACHINE_BBELS);
}
END_TEST

UNIT_MAIN_PER_KERNEL("golden", test_mnist_x0, test_cifar_x0, test_plain_loop_x0,
                     test_mnist_trajectories, test_cifar_trajectories)
