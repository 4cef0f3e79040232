/*
 * The sampling body: every field with good values, bad ones and both bounds; all mistakes at once; and resolved
 * parameters, sent again, resolve to themselves.
 */
#include <string.h>

#include "els/npy.h"
#include "server/base/base64.h"
#include "server/params/caption.h"
#include "server/params/params.h"
#include "server/types/sample.h"
#include "unit.h"

static struct srv_banks *banks;
static const struct srv_limits limits = {
    .max_num_images = 8, .max_num_inference_steps = 500, .max_result_bytes = (1 << 20) + (8 << 10),
    .max_excluded = 5000};

static void setup(void)
{
    static char digits[] = "digits", other[] = "other", two_tone[] = "two-tone";
    struct srv_config_bank list[] = {{digits, digits}, {other, two_tone}};
    struct srv_config config = {.banks = list, .num_banks = 2};
    struct els_error err = {0};

    if (!banks && srv_banks_new(&banks, &config, NULL, NULL, NULL, &err) < 0)
        ck_abort_msg("%s", err.message);
}

static struct srv_params *read_source(const char *text, const struct srv_params_source *from, struct srv_faults *faults)
{
    json_error_t error;
    json_t *body = json_loads(text, 0, &error);
    struct srv_params_source source = from ? *from : (struct srv_params_source){.kind = &srv_job_type_sample};
    struct srv_params *params = NULL;

    setup();
    ck_assert_msg(body != NULL, "%s: %s", error.text, text);
    source.banks = banks;
    source.limits = limits;
    source.body = body;
    if (srv_params_new(&params, &source, faults) == 0)
        ck_assert_uint_eq(faults->count, 0);
    else
        ck_assert_uint_gt(faults->count, 0);
    json_decref(body);
    return params;
}

static struct srv_params *good(const char *text)
{
    struct srv_faults faults;
    struct srv_params *params = read_source(text, NULL, &faults);

    ck_assert_msg(params != NULL, "%s: %s %s", text, faults.fault[0].pointer, faults.fault[0].detail);
    return params;
}

/* Exactly one fault, at this pointer. */
static void bad(const char *text, const char *pointer)
{
    struct srv_faults faults;
    struct srv_params *params = read_source(text, NULL, &faults);

    ck_assert_msg(params == NULL, "accepted: %s", text);
    ck_assert_msg(strcmp(faults.fault[0].pointer, pointer) == 0 && faults.count == 1, "%s: %zu faults, at %s: %s", text,
                  faults.count, faults.fault[0].pointer, faults.fault[0].detail);
    ck_assert_int_eq(faults.status, 422);
}

START_TEST(test_defaults)
{
    struct srv_params *p = good("{}");
    char *caption;

    ck_assert_int_eq(p->spec.machine, ELS_MACHINE_BBELS);
    ck_assert_int_eq(p->spec.num_inference_steps, 20);
    ck_assert_int_eq(p->num_steps, 19);
    ck_assert_int_eq(p->spec.num_images, 1);
    ck_assert_int_eq(p->spec.selection.label, -1);
    ck_assert_uint_eq(p->outputs, 1u << SRV_SAMPLE_IMAGES | 1u << SRV_SAMPLE_X0);
    ck_assert_uint_le(p->spec.seed, UINT32_MAX);
    ck_assert_ptr_nonnull(strstr(p->json, "\"bank\":\"digits\""));
    caption = srv_caption("id", p->json, 0);
    ck_assert_uint_ge(p->result_bytes, 4 * 1024 * (1 + 19) + strlen(caption));
    ck_assert_uint_le(p->result_bytes, 4 * 1024 * (1 + 19) + strlen(caption) + 100);
    free(caption);
    srv_params_free(p);
}
END_TEST

/* What resolved parameters say, said again, is the same. */
START_TEST(test_resolved_twice)
{
    static const char *const bodies[] = {
        "{}",
        "{\"machine\":\"els\",\"candidates\":\"valid\",\"label\":\"3\",\"scales\":[3,3,5],\"seed\":7}",
        "{\"machine\":\"is\",\"num_images\":3,\"start_step\":\"full\",\"sampler\":\"ddpm\",\"noise\":\"numpy\"}",
        "{\"bank\":\"other\",\"scales\":{\"t\":[0.1,0.75],\"p\":[3,7]},\"tolerance\":0.01,\"max_samples\":2}",
        "{\"noise_schedule\":{\"alpha_bar\":[1,0.7,0.1]},\"exclude\":{\"images\":[1,2],\"classes\":[\"4\",5]}}",
        "{\"scales\":\"celeba-unet-zeros\",\"outputs\":[\"entropy\",\"xt\"],\"client_ref\":\"a \\\"b\\\" \\u00e9\"}",
    };

    for (size_t i = 0; i < sizeof(bodies) / sizeof(*bodies); i++) {
        struct srv_params *first = good(bodies[i]), *second = good(first->json);

        ck_assert_str_eq(first->json, second->json);
        ck_assert_uint_eq(first->spec.seed, second->spec.seed);
        srv_params_free(first);
        srv_params_free(second);
    }
}
END_TEST

START_TEST(test_every_field_bad)
{
    static const char *const cases[][2] = {
        {"{\"bank\":\"mnist\"}", "/bank"},
        {"{\"bank\":null}", "/bank"},
        {"{\"bank\":3}", "/bank"},
        {"{\"machine\":\"ELS\"}", "/machine"},
        {"{\"machine\":null}", "/machine"},
        {"{\"candidates\":\"open\"}", "/candidates"},
        {"{\"label\":10}", "/label"},
        {"{\"label\":-1}", "/label"},
        {"{\"label\":\"wasp\"}", "/label"},
        {"{\"label\":1.5}", "/label"},
        {"{\"label\":true}", "/label"},
        {"{\"num_images\":0}", "/num_images"},
        {"{\"num_images\":9}", "/num_images"},
        {"{\"num_images\":1.5}", "/num_images"},
        {"{\"num_images\":null}", "/num_images"},
        {"{\"num_inference_steps\":1}", "/num_inference_steps"},
        {"{\"num_inference_steps\":501}", "/num_inference_steps"},
        {"{\"num_inference_steps\":\"20\"}", "/num_inference_steps"},
        {"{\"start_step\":\"half\"}", "/start_step"},
        {"{\"sampler\":\"euler\"}", "/sampler"},
        {"{\"noise_schedule\":\"cosinus\"}", "/noise_schedule"},
        {"{\"noise_schedule\":{\"alpha_bar\":[1,0.5]}}", "/noise_schedule/alpha_bar"},
        {"{\"noise_schedule\":{\"alpha_bar\":[1,0.5,0.5]}}", "/noise_schedule/alpha_bar/2"},
        {"{\"noise_schedule\":{\"alpha_bar\":[1.1,0.5,0.2]}}", "/noise_schedule/alpha_bar/0"},
        {"{\"noise_schedule\":{\"alpha_bar\":[1,0.5,0]}}", "/noise_schedule/alpha_bar/2"},
        {"{\"noise_schedule\":{\"alpha_bar\":[1,0.5,0.1]},\"num_inference_steps\":3}", "/noise_schedule/alpha_bar"},
        {"{\"scales\":2}", "/scales"},
        {"{\"scales\":0}", "/scales"},
        {"{\"scales\":2049}", "/scales"},
        {"{\"bank\":\"other\",\"max_samples\":1,\"scales\":\"auto\"}", "/scales"},
        {"{\"scales\":\"mnist\"}", "/scales"},
        {"{\"scales\":[3,4,5]}", "/scales/1"},
        {"{\"scales\":[3,3,5],\"num_inference_steps\":4}", "/scales"},
        {"{\"scales\":{\"t\":[0.5],\"p\":[4]}}", "/scales/p/0"},
        {"{\"scales\":{\"t\":[1.5],\"p\":[3]}}", "/scales/t/0"},
        {"{\"scales\":{\"t\":[0.5,0.6],\"p\":[3]}}", "/scales/t"},
        {"{\"scales\":{\"t\":[0.5],\"p\":[3],\"q\":[1]}}", "/scales/q"},
        {"{\"machine\":\"els\",\"scales\":33}", "/scales"},
        {"{\"seed\":-1}", "/seed"},
        {"{\"seed\":9007199254740992}", "/seed"},
        {"{\"seed\":9007199254740991,\"num_images\":2}", "/seed"},
        {"{\"seed\":0.5}", "/seed"},
        {"{\"exclude\":[]}", "/exclude"},
        {"{\"exclude\":{\"pictures\":[1]}}", "/exclude/pictures"},
        {"{\"exclude\":{\"images\":[-1]}}", "/exclude/images/0"},
        {"{\"exclude\":{\"images\":[0,100000000]}}", "/exclude/images/1"},
        {"{\"exclude\":{\"classes\":[10]}}", "/exclude/classes/0"},
        {"{\"exclude\":{\"classes\":[0,1,2,3,4,5,6,7,8,9]}}", "/exclude"},
        {"{\"noise\":\"jax\"}", "/noise"},
        {"{\"noise\":3}", "/noise"},
        {"{\"noise\":{\"npy_base64\":\"####\"}}", "/noise/npy_base64"},
        {"{\"noise\":{\"npy_base64\":\"AAAA\"}}", "/noise/npy_base64"},
        {"{\"max_samples\":0}", "/max_samples"},
        {"{\"tolerance\":-0.5}", "/tolerance"},
        {"{\"tolerance\":2}", "/tolerance"},
        {"{\"tolerance\":\"0\"}", "/tolerance"},
        {"{\"outputs\":[]}", "/outputs"},
        {"{\"outputs\":[\"image\",\"mosaics\"]}", "/outputs/1"},
        {"{\"mosaic_top\":0}", "/mosaic_top"},
        {"{\"mosaic_top\":65}", "/mosaic_top"},
        {"{\"client_ref\":7}", "/client_ref"},
        {"{\"num_image\":3}", "/num_image"},
        {"{\"a/b~c\":3}", "/a~1b~0c"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
        bad(cases[i][0], cases[i][1]);
}
END_TEST

START_TEST(test_bounds_good)
{
    static const char *const bodies[] = {
        "{\"num_images\":8}",
        "{\"num_images\":2.0}",
        "{\"num_inference_steps\":2}",
        "{\"num_inference_steps\":500,\"outputs\":[\"image\"]}",
        "{\"seed\":0}",
        "{\"seed\":9007199254740991}",
        "{\"seed\":9007199254740990,\"num_images\":2}",
        "{\"tolerance\":1}",
        "{\"label\":9}",
        "{\"label\":null,\"seed\":null,\"max_samples\":null,\"exclude\":null,\"client_ref\":null}",
        "{\"scales\":null}",
        "{\"scales\":\"auto\"}",
        "{\"machine\":\"is\",\"max_samples\":1,\"scales\":\"auto\"}",
        "{\"scales\":2047}",
        "{\"scales\":1}",
        "{\"machine\":\"els\",\"scales\":31}",
    };

    for (size_t i = 0; i < sizeof(bodies) / sizeof(*bodies); i++)
        srv_params_free(good(bodies[i]));
}
END_TEST

START_TEST(test_all_faults_at_once)
{
    struct srv_faults faults;
    struct srv_params *p = read_source("{\"machine\":1,\"seed\":-1,\"mashine\":2,\"scales\":[2],\"tolerance\":9}", NULL,
                                       &faults);

    ck_assert_ptr_null(p);
    ck_assert_uint_eq(faults.count, 5);
    ck_assert_ptr_nonnull(strstr(faults.fault[0].detail, "did you mean \"machine\"?"));
}
END_TEST

START_TEST(test_faults_are_bounded)
{
    struct srv_faults faults;
    json_t *body = json_object();
    char name[8], *text;

    for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof(name), "x%d", i);
        json_object_set_new(body, name, json_true());
    }
    text = json_dumps(body, 0);
    ck_assert_ptr_null(read_source(text, NULL, &faults));
    ck_assert_uint_eq(faults.count, SRV_MAX_FAULTS);
    free(text);
    json_decref(body);
}
END_TEST

/* So many faults that nothing else is read: what would be fault 17 and more, of any list, does not count. */
START_TEST(test_faults_end_the_reading)
{
    static const char *const bodies[] = {
        "{\"exclude\":{\"images\":[%s]}}",
        "{\"noise_schedule\":{%s}}",
        "{\"scales\":{%s}}",
        "{%s}",
    };

    for (size_t i = 0; i < sizeof(bodies) / sizeof(*bodies); i++) {
        char list[1000] = "", text[1100];
        struct srv_faults faults;
        size_t used = 0;

        for (int k = 0; k < 40; k++)
            used += (size_t)snprintf(list + used, sizeof(list) - used, i == 0 ? "%s%d" : "%s\"x%d\":1", k ? "," : "",
                                     i == 0 ? -1 : k);
        snprintf(text, sizeof(text), bodies[i], list);
        ck_assert_ptr_null(read_source(text, NULL, &faults));
        ck_assert_uint_eq(faults.count, SRV_MAX_FAULTS);
        ck_assert(srv_faults_full(&faults));
        ck_assert_int_eq(faults.status, 422);
    }
}
END_TEST

START_TEST(test_lists_of_exclude_are_bounded)
{
    static char text[20100];
    struct srv_params *p;

    for (int n = 5000; n <= 5001; n++) {
        size_t used = (size_t)snprintf(text, sizeof(text), "{\"exclude\":{\"images\":[0");

        for (int i = 1; i < n; i++)
            used += (size_t)snprintf(text + used, sizeof(text) - used, ",0");
        snprintf(text + used, sizeof(text) - used, "]}}");
        if (n == 5001) {
            bad(text, "/exclude/images");
            continue;
        }
        p = good(text);
        ck_assert_uint_eq(p->spec.selection.num_exclude_images, 5000);
        srv_params_free(p);
    }
}
END_TEST

START_TEST(test_too_large)
{
    struct srv_faults faults;

    /* 8 images × 33 and 32 values of 1024 float32: just over 1 MiB, and just that. Captions take less than 8 KiB. */
    ck_assert_ptr_null(read_source("{\"num_images\":8,\"num_inference_steps\":33}", NULL, &faults));
    ck_assert_int_eq(faults.status, 413);
    ck_assert_str_eq(faults.code, "result_too_large");
    srv_params_free(good("{\"num_images\":8,\"num_inference_steps\":32}"));
}
END_TEST

/* The tensor as "x_T" in a container over `bytes`. */
static struct els_safetensors *contain(struct els_buffer *bytes, const struct els_tensor *t)
{
    struct els_named_tensor named = {"x_T", *t};
    struct els_safetensors *container = NULL;

    bytes->size = 0;
    ck_assert_int_eq(els_safetensors_write(bytes, &named, 1, NULL, NULL, 0), 0);
    ck_assert_int_eq(els_safetensors_parse(&container, bytes->data, bytes->size, NULL), 0);
    return container;
}

START_TEST(test_uploaded_noise)
{
    static float x[2 * 1024];
    const int64_t dims[] = {2, 1, 32, 32};
    struct els_tensor t = els_tensor_view(ELS_F32, 4, dims, x);
    struct els_buffer bytes = ELS_BUFFER_INIT(1 << 20), kept = ELS_BUFFER_INIT(1 << 20);
    struct srv_params_source from = {.kind = &srv_job_type_sample};
    struct els_safetensors *container;
    struct srv_faults faults;
    struct srv_params *p;

    x[3] = 0.5f;
    from.tensors = container = contain(&bytes, &t);
    p = read_source("{\"noise\":\"x_T\"}", &from, &faults);
    ck_assert_ptr_nonnull(p);
    ck_assert_int_eq(p->spec.num_images, 2);
    ck_assert_uint_eq(p->num_inputs, 1);
    ck_assert_str_eq(p->inputs[0].name, "x_T");
    ck_assert(p->spec.x_T[3] == 0.5f);
    /* What the store keeps of it is what came. */
    ck_assert_int_eq(srv_params_write_inputs(p, &kept), 0);
    ck_assert_uint_eq(kept.size, bytes.size);
    ck_assert_mem_eq(kept.data, bytes.data, kept.size);
    srv_params_free(p);
    ck_assert_ptr_null(read_source("{\"noise\":\"x_T\",\"num_images\":3}", &from, &faults));
    ck_assert_str_eq(faults.fault[0].pointer, "/noise");
    els_safetensors_free(container);

    x[5] = 1.0f / 0.0f;
    from.tensors = container = contain(&bytes, &t);
    ck_assert_ptr_null(read_source("{\"noise\":\"x_T\"}", &from, &faults));
    ck_assert_str_eq(faults.fault[0].detail, "noise[5], in row-major order, is inf; its values must be finite and between "
                                             "-10000 and 10000.");
    els_safetensors_free(container);
    els_buffer_deinit(&bytes);
    els_buffer_deinit(&kept);
}
END_TEST

START_TEST(test_noise_inside)
{
    static float x[2 * 1024];
    const int64_t dims[] = {2, 1, 32, 32};
    struct els_tensor t = els_tensor_view(ELS_F32, 4, dims, x);
    struct els_buffer npy = ELS_BUFFER_INIT(1 << 20), text = ELS_BUFFER_INIT(1 << 20), kept = ELS_BUFFER_INIT(1 << 20);
    struct srv_params *p;

    x[3] = 0.5f;
    ck_assert_int_eq(els_npy_write(&npy, &t), 0);
    ck_assert_int_eq(els_buffer_append(&text, "{\"noise\":{\"npy_base64\":\"", 24), 0);
    ck_assert_int_eq(srv_base64_encode(&text, npy.data, npy.size), 0);
    ck_assert_int_eq(els_buffer_append(&text, "\"}}", 4), 0);
    p = good((const char *)text.data);
    ck_assert(p->spec.x_T[3] == 0.5f);
    ck_assert_str_eq(p->inputs[0].name, "");
    ck_assert_int_eq(srv_params_write_inputs(p, &kept), 0);
    ck_assert_uint_eq(kept.size, 0);
    srv_params_free(good(p->json));
    srv_params_free(p);
    els_buffer_deinit(&npy);
    els_buffer_deinit(&text);
}
END_TEST

/* ---- what a job costs ---- */

static double cost(const char *text)
{
    struct srv_params *p = good(text);
    double cost = p->cost;

    srv_params_free(p);
    return cost;
}

/* Of a kind that comes with tensors, all of them [n,…,1,32,32] of zeros. */
static struct srv_params *with_tensors(const struct srv_job_type *kind, const char *text, const char *const *names, int n,
                                       int times)
{
    static float zeros[3 * 4 * 1024], t[4] = {0.2f, 0.4f, 0.6f, 0.8f};
    const int64_t images[] = {n, 1, 32, 32}, trajectories[] = {n, times, 1, 32, 32}, list[] = {times};
    struct els_named_tensor named[4];
    struct els_buffer bytes = ELS_BUFFER_INIT(1 << 20);
    struct srv_params_source from = {.kind = kind};
    struct els_safetensors *container = NULL;
    struct srv_faults faults;
    struct srv_params *p;
    size_t count = 0;

    for (; names[count]; count++)
        named[count] = (struct els_named_tensor){names[count],
                                                 strcmp(names[count], "t") == 0 ? els_tensor_view(ELS_F32, 1, list, t)
                                                 : times > 0 ? els_tensor_view(ELS_F32, 5, trajectories, zeros)
                                                             : els_tensor_view(ELS_F32, 4, images, zeros)};
    ck_assert_int_eq(els_safetensors_write(&bytes, named, count, NULL, NULL, 0), 0);
    ck_assert_int_eq(els_safetensors_parse(&container, bytes.data, bytes.size, NULL), 0);
    from.tensors = container;
    p = read_source(text, &from, &faults);
    ck_assert_msg(p != NULL, "%s: %s %s", text, faults.fault[0].pointer, faults.fault[0].detail);
    els_safetensors_free(container);
    els_buffer_deinit(&bytes);
    return p;
}

static double cost_with(const struct srv_job_type *kind, const char *text, const char *const *names, int n, int times)
{
    struct srv_params *p = with_tensors(kind, text, names, n, times);
    double cost = p->cost;

    srv_params_free(p);
    return cost;
}

#define SAME(a, b) ck_assert_double_eq_tol((a) / (b), 1, 1e-12)

START_TEST(test_cost_of_a_sample)
{
    double one = cost("{\"scales\":3,\"max_samples\":100}");

    SAME(cost("{\"scales\":3,\"max_samples\":100,\"num_images\":4}"), 4 * one);
    SAME(cost("{\"scales\":3,\"max_samples\":50}"), one / 2);
    SAME(cost("{\"scales\":3,\"max_samples\":100,\"num_inference_steps\":39}"), 2 * one);
    /* Interior pixels have interior candidates: 30² of each for P = 3, 18² for P = 15; edges have their own. */
    SAME(cost("{\"scales\":15,\"max_samples\":100}"),
         one * (18 * 18 + 14) * (18 * 18 + 14) / ((30 * 30 + 2) * (30 * 30 + 2)));
    SAME(cost("{\"scales\":{\"t\":[0.3,0.9],\"p\":[3,15]},\"max_samples\":100,\"num_inference_steps\":4,"
              "\"start_step\":\"full\"}"),
         2 * (one + cost("{\"scales\":15,\"max_samples\":100}")) / 19);
    SAME(cost("{\"scales\":3,\"max_samples\":100,\"machine\":\"els\"}"), 19 * 100 * 1024.0 * 1024);
    SAME(cost("{\"scales\":3,\"max_samples\":100,\"machine\":\"ls\"}"), 19 * 100 * 1024.0);
    SAME(cost("{\"max_samples\":100,\"machine\":\"is\"}"), 19 * 100 * 1024.0);
    ck_assert(cost("{\"scales\":3,\"max_samples\":100,\"outputs\":[\"final_mosaic\"]}") > one * 1.5);
    ck_assert(cost("{\"scales\":3,\"max_samples\":100,\"num_inference_steps\":5,\"outputs\":[\"mosaic\"]}") >
              10 * cost("{\"scales\":3,\"max_samples\":100,\"num_inference_steps\":5}"));
    ck_assert(cost("{\"scales\":\"auto\",\"max_samples\":100}") > one);
}
END_TEST

START_TEST(test_cost_of_a_denoising_has_its_scales_and_images)
{
    static const char *const x[] = {"x", NULL};
    const struct srv_job_type *k = &srv_job_type_denoise;
    double three = cost_with(k, "{\"t\":0.5,\"max_samples\":100,\"p\":3}", x, 1, 0);
    double nine = cost_with(k, "{\"t\":0.5,\"max_samples\":100,\"p\":9}", x, 1, 0);

    SAME(cost_with(k, "{\"t\":0.5,\"max_samples\":100,\"p\":[3,9]}", x, 1, 0), three + nine);
    SAME(cost_with(k, "{\"t\":0.5,\"max_samples\":100,\"p\":[3,9]}", x, 3, 0), 3 * (three + nine));
    SAME(cost_with(k, "{\"t\":0.5,\"max_samples\":100,\"machine\":\"is\"}", x, 2, 0), 2 * 100 * 1024.0);
    ck_assert(nine < three);
}
END_TEST

START_TEST(test_cost_of_a_calibration_has_its_scales_seeds_and_times)
{
    static const char *const t[] = {"xt", "x0", "t", NULL};
    const struct srv_job_type *k = &srv_job_type_calibration;
    double three = cost_with(k, "{\"max_samples\":100,\"p\":3}", t, 1, 1);
    double nine = cost_with(k, "{\"max_samples\":100,\"p\":9}", t, 1, 1);

    SAME(cost_with(k, "{\"max_samples\":100,\"p\":[3,9]}", t, 1, 1), three + nine);
    SAME(cost_with(k, "{\"max_samples\":100,\"p\":[3,9]}", t, 2, 4), 8 * (three + nine));
}
END_TEST

START_TEST(test_cost_of_a_comparison_has_both_machines)
{
    static const char *const x[] = {"images", "noise", NULL};
    double both = cost_with(&srv_job_type_comparison, "{\"max_samples\":100,\"scales\":3,\"noise\":\"noise\"}", x, 2, 0);

    SAME(both, 2 * (cost("{\"max_samples\":100,\"scales\":3}") + cost("{\"max_samples\":100,\"machine\":\"is\"}")));
}
END_TEST

/* The memory that a job takes while it runs is known, and one that takes more than there can be is refused. */
START_TEST(test_memory_of_a_run)
{
    struct srv_params *one = good("{\"scales\":3,\"max_samples\":100}"),
                      *eight = good("{\"scales\":3,\"max_samples\":100,\"num_images\":8}");
    struct srv_params_source source = {.kind = &srv_job_type_sample, .banks = banks, .limits = limits};
    struct srv_params *p = NULL;
    struct srv_faults faults;
    json_t *body = json_loads(eight->json, 0, NULL);

    ck_assert_uint_gt(one->run_bytes, one->result_bytes + 2 * 1024 * sizeof(float));
    ck_assert_uint_gt(eight->run_bytes, eight->result_bytes + 7 * 2 * 1024 * sizeof(float) + one->run_bytes / 2);
    source.body = body;
    source.limits.max_run_bytes = (int64_t)eight->run_bytes;
    ck_assert_int_eq(srv_params_new(&p, &source, &faults), 0);
    srv_params_free(p);
    source.limits.max_run_bytes--;
    ck_assert_int_eq(srv_params_new(&p, &source, &faults), ELS_ELIMIT);
    ck_assert_int_eq(faults.status, 413);
    ck_assert_str_eq(faults.code, "run_too_large");
    json_decref(body);
    srv_params_free(one);
    srv_params_free(eight);
}
END_TEST

START_TEST(test_caption)
{
    struct srv_params *p = good("{\"seed\":5,\"num_images\":3,\"client_ref\":\"secret\"}");
    struct srv_params *alone = good("{\"seed\":7,\"client_ref\":\"other\"}");
    char *third = srv_caption("id", p->json, 2), *same = srv_caption("other", alone->json, 0);
    char *all = srv_caption("id", p->json, -1), *again = srv_caption_of_image(all, 2);

    ck_assert_str_eq(third, same);
    ck_assert_str_eq(third, again);
    ck_assert_ptr_null(strstr(third, "secret"));
    ck_assert_ptr_nonnull(strstr(all, "\"num_images\":3"));
    free(third);
    free(same);
    free(all);
    free(again);
    srv_params_free(p);
    srv_params_free(alone);
}
END_TEST

/* Parameters of `n` excluded images, as JSON. */
static char *long_params(int n)
{
    json_t *json = json_pack("{s:i, s:i, s:{s:o}}", "seed", 5, "num_images", 8, "exclude", "images", json_array());
    json_t *list = json_object_get(json_object_get(json, "exclude"), "images");
    char *text;

    for (int i = 0; i < n; i++)
        json_array_append_new(list, json_integer(1000 + i % 1000));
    text = json_dumps(json, JSON_COMPACT);
    json_decref(json);
    return text;
}

/* What is long is named, and what the captions take is never more than was counted. */
START_TEST(test_a_long_caption_names_the_job)
{
    for (int n = 1; n < 60000; n = n < 6400 ? n + 800 : n * 3) {
        char *text = long_params(n), *all = srv_caption("ab12", text, -1), *third = srv_caption("ab12", text, 2);
        json_t *resolved = json_loads(text, 0, NULL), *json = json_loads(third, 0, NULL);
        bool is_long = strlen(text) > SRV_CAPTION_BYTES;

        ck_assert_uint_le(strlen(third), SRV_CAPTION_BYTES);
        ck_assert_uint_le(strlen(third) * 8, srv_caption_bytes(resolved, 8));
        ck_assert_uint_le(strlen(all), srv_caption_bytes(resolved, -1));
        ck_assert_uint_le(srv_caption_bytes(resolved, 8), 8 * SRV_CAPTION_BYTES);
        if (strlen(text) < SRV_CAPTION_BYTES - 100 || is_long)
            ck_assert_int_eq(json_object_get(json, "exclude") == NULL, is_long);
        if (is_long) {
            ck_assert_str_eq(json_string_value(json_object_get(json, "job")), "ab12");
            ck_assert_str_eq(json_string_value(json_object_get(json, "params")), "/v1/jobs/ab12");
            ck_assert_uint_eq(json_string_length(json_object_get(json, "params_sha256")), 64);
            ck_assert_int_eq(json_integer_value(json_object_get(json, "index")), 2);
            ck_assert_ptr_null(strstr(all, "index"));
        }
        json_decref(json);
        json_decref(resolved);
        free(text);
        free(all);
        free(third);
    }
    ck_assert_ptr_null(srv_caption("ab12", "{", -1));
}
END_TEST

/* 8 images' captions of 15 KB count, beside 8 images' tensors. */
START_TEST(test_captions_count)
{
    char text[16000];
    struct srv_params *p = good("{\"num_images\":8,\"num_inference_steps\":32}");
    struct srv_faults faults;
    size_t used;

    ck_assert_uint_gt(p->result_bytes, 8 * 32 * 4096);
    ck_assert_uint_lt(p->result_bytes, 8 * 32 * 4096 + 8 * 1000);
    srv_params_free(p);
    used = (size_t)snprintf(text, sizeof(text), "{\"num_images\":8,\"num_inference_steps\":32,\"exclude\":{\"images\":[0");
    while (used < sizeof(text) - 10)
        used += (size_t)snprintf(text + used, sizeof(text) - used, ",1000");
    snprintf(text + used, sizeof(text) - used, "]}}");
    ck_assert_ptr_null(read_source(text, NULL, &faults));
    ck_assert_int_eq(faults.status, 413);
    ck_assert_str_eq(faults.code, "result_too_large");
}
END_TEST

/* Jobs may share passes when all that the bank is asked is the same. */
START_TEST(test_alike)
{
    static const char *const same[] = {
        "{}", "{\"seed\": 5}", "{\"num_images\": 3}", "{\"sampler\": \"ddpm\"}", "{\"noise\": \"numpy\"}",
        "{\"client_ref\": \"me\"}", "{\"machine\": \"bbels\", \"num_inference_steps\": 20}",
    };
    static const char *const other[] = {
        "{\"bank\": \"other\"}", "{\"machine\": \"ls\"}", "{\"machine\": \"es\"}", "{\"label\": 1}",
        "{\"num_inference_steps\": 10}", "{\"start_step\": \"full\"}", "{\"noise_schedule\": \"linear\"}",
        "{\"scales\": 3}", "{\"exclude\": {\"images\": [1]}}", "{\"max_samples\": 7}", "{\"tolerance\": 0.1}",
        "{\"outputs\": [\"image\", \"entropy\"]}", "{\"candidates\": \"valid\"}",
    };
    static const char *const alone[] = {
        "{\"scales\": \"auto\", \"max_samples\": 20}", "{\"outputs\": [\"mosaic\"], \"num_inference_steps\": 4}"};
    struct srv_params *p = good("{}");

    for (size_t i = 0; i < sizeof(same) / sizeof(*same); i++) {
        struct srv_params *q = good(same[i]);

        ck_assert_msg(srv_params_alike(p, q) && srv_params_alike(q, p), "%s", same[i]);
        srv_params_free(q);
    }
    for (size_t i = 0; i < sizeof(other) / sizeof(*other); i++) {
        struct srv_params *q = good(other[i]), *r = good(other[i]);

        ck_assert_msg(!srv_params_alike(p, q) && !srv_params_alike(q, p), "%s", other[i]);
        ck_assert_msg(srv_params_alike(q, r), "%s", other[i]);
        srv_params_free(q);
        srv_params_free(r);
    }
    for (size_t i = 0; i < sizeof(alone) / sizeof(*alone); i++) {
        struct srv_params *q = good(alone[i]);

        ck_assert_msg(!srv_params_alike(q, q), "%s", alone[i]);
        srv_params_free(q);
    }
    srv_params_free(p);
}
END_TEST

START_TEST(test_base64)
{
    static const char *const texts[] = {"", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"}; /* RFC 4648, 10 */
    static const char *const wrong[] = {"Z", "Zg=", "Zh==", "Zm9=", "Z===", "=Zg=", "Zm 9", "Zg==Zg=="};
    struct els_buffer b = ELS_BUFFER_INIT(64);

    for (size_t n = 0; n < sizeof(texts) / sizeof(*texts); n++) {
        ck_assert_int_eq(srv_base64_encode(&b, "foobar", n), 0);
        ck_assert_mem_eq(b.data ? (char *)b.data : "", texts[n], strlen(texts[n]));
        ck_assert_uint_eq(b.size, strlen(texts[n]));
        els_buffer_deinit(&b);
        ck_assert_int_eq(srv_base64_decode(&b, texts[n], strlen(texts[n])), 0);
        ck_assert_uint_eq(b.size, n);
        ck_assert_mem_eq(b.data ? (char *)b.data : "", "foobar", n);
        els_buffer_deinit(&b);
    }
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
        ck_assert_int_eq(srv_base64_decode(&b, wrong[i], strlen(wrong[i])), ELS_EFORMAT);
        els_buffer_deinit(&b);
    }
}
END_TEST

UNIT_MAIN("params", test_defaults, test_resolved_twice, test_every_field_bad, test_bounds_good,
          test_all_faults_at_once, test_faults_are_bounded, test_too_large, test_uploaded_noise, test_noise_inside,
          test_cost_of_a_sample, test_cost_of_a_denoising_has_its_scales_and_images,
          test_cost_of_a_calibration_has_its_scales_seeds_and_times, test_cost_of_a_comparison_has_both_machines,
          test_memory_of_a_run, test_caption, test_a_long_caption_names_the_job, test_captions_count,
          test_faults_end_the_reading, test_lists_of_exclude_are_bounded, test_alike, test_base64)
